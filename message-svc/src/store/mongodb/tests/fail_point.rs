//! The fail point of the server's test commands: it refuses, cuts or delays commands of one client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mongodb::{
    Client,
    bson::{Bson, Document, doc},
    event::command::CommandEvent,
};
use tokio::sync::{Mutex, MutexGuard};

use super::server::{Scratch, watched, with};
use crate::{config::MongodbConfig, store::Store};

/// A server has one fail point for commands, so one test at a time may use it.
static FAIL_POINT: Mutex<()> = Mutex::const_new(());

/// The fail point of the server, aimed at one client by its name.
pub(super) struct FailPoint {
    client: Client,
    app: String,
    _alone: MutexGuard<'static, ()>,
}

impl FailPoint {
    /// None when the server has no fail points; then it says so loudly.
    #[expect(clippy::print_stderr, reason = "who runs the tests must see what they did not run")]
    pub(super) async fn new(scratch: &Scratch) -> Option<Self> {
        let alone = FAIL_POINT.lock().await;
        let client = Client::with_uri_str(&scratch.url).await.expect("connected");
        let point = Self { client, app: format!("app-{}", scratch.name), _alone: alone };
        if let Err(error) = point.try_set("off".into(), Document::new()).await {
            assert!(
                std::env::var("SWITCHBOARD_TEST_REQUIRE").as_deref() != Ok("all"),
                "the server has no fail points; start it with its test commands: {error}"
            );
            eprintln!("SKIPPED: the server of MONGODB_URL has no fail points; start it with its test commands");
            return None;
        }
        Some(point)
    }

    async fn set(&self, mode: Bson, data: Document) {
        self.try_set(mode, data).await.expect("configured");
    }

    async fn try_set(&self, mode: Bson, mut data: Document) -> Result<(), mongodb::error::Error> {
        data.insert("appName", &self.app);
        let command = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        self.client.database("admin").run_command(command).await.map(|_| ())
    }

    /// The next such command but so many meets this.
    pub(super) async fn once(&self, command: &str, skip: usize, fault: &Document) {
        let mut data = fault.clone();
        data.insert("failCommands", vec![command]);
        let skip = i32::try_from(skip).expect("small");
        self.set(doc! { "skip": skip, "times": 1 }.into(), data).await;
    }

    /// All such commands meet this until [`FailPoint::off`].
    pub(super) async fn always(&self, commands: &[&str], fault: &Document) {
        let mut data = fault.clone();
        data.insert("failCommands", commands.to_vec());
        self.set("alwaysOn".into(), data).await;
    }

    pub(super) async fn off(&self) {
        self.set("off".into(), Document::new()).await;
    }

    /// The store as a process has it whom the fail point is aimed at. It polls the server's state: a fail point does not
    /// change the state, which a driver that is told of changes would wait for.
    pub(super) async fn victim(&self, scratch: &Scratch, config: &MongodbConfig) -> Victim {
        let url = with(&scratch.url, &format!("appName={}&serverMonitoringMode=poll", self.app));
        let troubles = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&troubles);
        let store = watched(&url, config, move |event| {
            #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
            let trouble = match event {
                CommandEvent::Failed(_) => true,
                CommandEvent::Succeeded(done) => {
                    done.reply.contains_key("writeConcernError") || done.duration >= LATE_BY - Duration::from_millis(1)
                }
                _ => false,
            };
            seen.fetch_add(usize::from(trouble), Ordering::SeqCst);
        });
        Victim { store: store.await, troubles }
    }
}

/// A store that the fail point is aimed at.
pub(super) struct Victim {
    pub(super) store: Arc<dyn Store>,
    /// The commands that have met it.
    pub(super) troubles: Arc<AtomicUsize>,
}

/// The connection ends before the server does anything.
pub(super) fn cut() -> Document {
    doc! { "closeConnection": true }
}

/// The server does it, and says that most of the replica set have not.
pub(super) fn unconfirmed() -> Document {
    doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } }
}

/// How much later a late answer comes.
const LATE_BY: Duration = Duration::from_millis(400);

/// The server does it, after whoever asked has given up.
pub(super) fn late() -> Document {
    doc! { "blockConnection": true, "blockTimeMS": i32::try_from(LATE_BY.as_millis()).expect("small") }
}

/// The server is no primary any more.
pub(super) fn stepped_down() -> Document {
    doc! { "errorCode": 10107 }
}
