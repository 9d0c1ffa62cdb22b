//! The server that the tests use, and what they need around it: a schema each, which goes with the test, and a proxy in
//! front of the server that freezes and cuts.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use mesh::config::{Secret, StoreLimits};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinHandle,
};
use uuid::Uuid;

use crate::store::{OpenError, postgres::PostgresStore};

/// How long a test waits for what must happen.
pub(super) const LONG: Duration = Duration::from_secs(30);

/// The URL of the server, or a loud word that the test is skipped.
#[expect(clippy::print_stderr, reason = "who runs the tests must see what they did not run")]
pub(super) fn url() -> Option<String> {
    let url = std::env::var("POSTGRES_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(
            std::env::var("SWITCHBOARD_TEST_REQUIRE").as_deref() != Ok("all"),
            "POSTGRES_URL is not set; `eval \"$(tests/stores start)\"` starts a server"
        );
        eprintln!("SKIPPED: POSTGRES_URL is not set; `eval \"$(tests/stores start)\"` starts a server");
    }
    url
}

/// A schema of the test's own.
pub(super) struct Schema {
    pub(super) url: String,
    pub(super) name: String,
}

impl Schema {
    pub(super) fn new() -> Option<Self> {
        Some(Self { url: url()?, name: format!("test_{}", Uuid::new_v4().simple()) })
    }

    /// The store in this schema.
    pub(super) async fn open(&self) -> PostgresStore {
        self.open_with(&self.url, &LIMITS).await.expect("opened")
    }

    pub(super) async fn open_with(&self, url: &str, limits: &StoreLimits) -> Result<PostgresStore, OpenError> {
        PostgresStore::open_schema(&Secret::from(url), &self.name, limits).await
    }

    /// A connection beside the store, in the same schema.
    pub(super) async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.expect("connected");
        connection.execute(AssertSqlSafe(format!("SET search_path = {}", self.name))).await.expect("set");
        connection
    }
}

/// What a test is patient with: calls end soon when they must, and never by chance.
pub(super) const LIMITS: StoreLimits =
    StoreLimits { connections_max: 8, connect_ms: 20_000, call_ms: 20_000, start_secs: 0 };

impl Drop for Schema {
    fn drop(&mut self) {
        let (url, statement) = (self.url.clone(), format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name));
        // A runtime of its own: this one may be the test's last moment.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await.expect("connected");
                connection.execute(AssertSqlSafe(statement)).await.expect("dropped");
            });
        });
        // A test that fails already must not fail twice.
        drop(dropped.join());
    }
}

/// What the proxy does with what passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It lets it pass.
    Open,
    /// It takes connections and says nothing, like a server that is stopped.
    Frozen,
    /// It ends all connections.
    Cut,
    /// It ends a connection instead of sending its COMMIT on.
    CutBeforeCommit,
    /// It ends a connection instead of bringing the answer to its COMMIT back.
    CutAfterCommit,
}

/// A proxy in front of the server.
pub(super) struct Proxy {
    pub(super) url: String,
    mood: Arc<watch::Sender<Mood>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(super) async fn new(url: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), url)
    }

    pub(super) fn on(listener: TcpListener, url: &str) -> Self {
        let server = PgConnectOptions::from_str(url).expect("a URL").ssl_mode(PgSslMode::Disable);
        let (host, port) = (server.get_host().to_owned(), server.get_port());
        let here = listener.local_addr().expect("an address").port();
        let mood = Arc::new(watch::Sender::new(Mood::Open));
        let moods = Arc::clone(&mood);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((host.as_str(), port)).await.expect("the server is there");
                tokio::spawn(relay(client, server, Arc::clone(&moods)));
            }
        });
        Self { url: server.host("127.0.0.1").port(here).to_url_lossy().to_string(), mood, task }
    }

    pub(super) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn relay(client: TcpStream, server: TcpStream, mood: Arc<watch::Sender<Mood>>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut cut = mood.subscribe();
    tokio::select! {
        () = copy(from_client, to_server, mood.subscribe(), Mood::CutBeforeCommit) => {}
        () = copy(from_server, to_client, mood.subscribe(), Mood::CutAfterCommit) => {}
        _ = cut.wait_for(|mood| *mood == Mood::Cut) => {}
    }
}

/// What the client sends has COMMIT in it; what the server answers has it too, as the command's tag.
async fn copy(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, mut mood: watch::Receiver<Mood>, cut: Mood) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let Ok(mood) = mood.wait_for(|mood| *mood != Mood::Frozen).await.map(|mood| *mood) else { return };
        let commit = buffer[..read].windows(6).any(|word| word == b"COMMIT");
        if (mood == cut && commit) || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
