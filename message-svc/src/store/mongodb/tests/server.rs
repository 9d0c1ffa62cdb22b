//! The server that the tests use: a database each, which goes with the test.

use std::sync::Arc;

use mesh::config::Secret;
use mesh::migration::Migrations;
use mongodb::{
    Client, Database,
    event::{EventHandler, command::CommandEvent},
};
use uuid::Uuid;

use crate::{
    config::MongodbConfig,
    store::{OpenError, Store, mongodb::MongodbStore},
};

/// The URL of the server, or a loud word that the test is skipped.
#[expect(clippy::print_stderr, reason = "who runs the tests must see what they did not run")]
pub(super) fn url() -> Option<String> {
    let url = std::env::var("MONGODB_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(
            std::env::var("SWITCHBOARD_TEST_REQUIRE").as_deref() != Ok("all"),
            "MONGODB_URL is not set; `eval \"$(tests/stores start)\"` starts a server"
        );
        eprintln!("SKIPPED: MONGODB_URL is not set; `eval \"$(tests/stores start)\"` starts a server");
    }
    url
}

/// What a test is patient with.
pub(super) fn patient() -> MongodbConfig {
    MongodbConfig { connections_max: 16, connect_ms: 20_000, select_ms: 20_000, call_ms: 20_000, start_secs: 0 }
}

/// A database of the test's own.
pub(super) struct Scratch {
    pub(super) url: String,
    pub(super) name: String,
}

impl Scratch {
    pub(super) fn new() -> Option<Self> {
        Some(Self::on(&url()?))
    }

    pub(super) fn on(server: &str) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        Self { url: with_database(server, &name), name }
    }

    /// The store in this database, as one process opens it.
    pub(super) async fn open(&self) -> Arc<dyn Store> {
        self.open_with(&self.url, &patient()).await.expect("opened")
    }

    pub(super) async fn open_with(&self, url: &str, config: &MongodbConfig) -> Result<Arc<dyn Store>, OpenError> {
        Ok(Arc::new(MongodbStore::open(&Secret::from(url), config, Migrations::Run).await?))
    }

    /// The database itself, beside the store.
    pub(super) async fn database(&self) -> Database {
        Client::with_uri_str(&self.url).await.expect("connected").database(&self.name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (url, name) = (self.url.clone(), self.name.clone());
        // A runtime of its own: this one may be the test's last moment.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let client = Client::with_uri_str(&url).await.expect("connected");
                client.database(&name).drop().await.expect("dropped");
            });
        });
        // A test that fails already must not fail twice.
        drop(dropped.join());
    }
}

/// The store, and every event of its driver.
pub(super) async fn watched(
    url: &str,
    config: &MongodbConfig,
    handler: impl Fn(CommandEvent) + Send + Sync + 'static,
) -> Arc<dyn Store> {
    let handler = EventHandler::callback(handler);
    let store = MongodbStore::open_with(&Secret::from(url), config, Migrations::Run, |options| {
        options.command_event_handler = Some(handler);
    })
    .await;
    Arc::new(store.expect("opened"))
}

/// The URL with this database.
pub(super) fn with_database(url: &str, name: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let hosts = before.split('/').next().unwrap_or(before);
    format!("{scheme}://{hosts}/{name}?{query}")
}

/// The URL with another parameter.
pub(super) fn with(url: &str, parameter: &str) -> String {
    let separator = if url.ends_with('?') { "" } else { "&" };
    format!("{url}{separator}{parameter}")
}
