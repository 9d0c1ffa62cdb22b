//! The eraser over a real store and services that can be away, hang, or do a part at a time.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use mesh::migration::Migrations;
use tempfile::TempDir;

use super::*;
use crate::{
    audit::Filter,
    revocation::{FeedLimits, Listener, Revocation},
    store::{
        DeletionPlan,
        contract::{member, opening, session},
        sqlite::SqliteStore,
    },
};

/// How many calls it takes to erase all messages.
const PAGES: usize = 3;

/// user-svc and message-svc.
#[derive(Debug, Default)]
struct Services {
    did: Mutex<Vec<String>>,
    users_away: AtomicBool,
    messages_away: AtomicBool,
    hangs: AtomicBool,
    refused: AtomicUsize,
}

impl Services {
    fn did(&self) -> Vec<String> {
        self.did.lock().expect("no panic").clone()
    }

    async fn take(&self, away: &AtomicBool, what: String) -> Result<(), DeliveryError> {
        if self.hangs.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        if away.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(DeliveryError("UNAVAILABLE".to_owned()));
        }
        self.did.lock().expect("no panic").push(what);
        Ok(())
    }
}

#[async_trait]
impl Holders for Services {
    async fn erase_profile(&self, _: UserId) -> Result<(), DeliveryError> {
        self.take(&self.users_away, "profile".to_owned()).await
    }

    async fn erase_messages(&self, _: UserId, what: ErasedMessages, place: &str) -> Result<String, DeliveryError> {
        self.take(&self.messages_away, format!("{what:?} from {place:?}")).await?;
        let page = place.parse().unwrap_or(0) + 1;
        Ok(if page < PAGES { page.to_string() } else { String::new() })
    }
}

#[derive(Debug)]
struct Nobody;

impl Listener for Nobody {
    fn revoked(&self, _: &Revocation) {}

    fn current(&self, _: i64) {}
}

const LIMITS: EraserLimits = EraserLimits {
    patience: Duration::from_millis(200),
    poll: Duration::from_millis(5),
    retry_max: Duration::from_millis(10),
    revocation_keep: Duration::from_secs(60),
    messages: ErasedMessages::Blank,
};

struct World {
    store: Arc<dyn Store>,
    services: Arc<Services>,
    stop: CancellationToken,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let store = SqliteStore::open(&folder.path().join("auth.db"), 2, Migrations::Run).await.expect("opened");
        let (store, services) = (Arc::new(store), Arc::new(Services::default()));
        Self { store, services, stop: CancellationToken::new(), _folder: folder }
    }

    /// An eraser that runs, as one of several.
    fn run(&self) -> tokio::task::JoinHandle<()> {
        let limits = FeedLimits {
            poll: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            memory_max: 16,
            followers_max: 1,
        };
        let feed = Feed::new(self.store.clone(), Arc::new(Nobody), limits, self.stop.clone());
        let eraser = Eraser { store: self.store.clone(), feed, holders: self.services.clone(), limits: LIMITS };
        let stop = self.stop.clone();
        tokio::spawn(async move { eraser.run(stop).await })
    }

    async fn delete(&self, name: &str) -> UserId {
        let (account, _) = member(&self.store, name).await;
        let now = Millis::now();
        let audit = vec![Entry::own(Event::AccountDeleted, account.id, &Client::cut("a phone", "::1"), now)];
        let plan = DeletionPlan { user_id: account.id, disabled: false, now, erase_at: now, revoked_until: now, audit };
        self.store.plan_deletion(&plan).await.expect("planned");
        account.id
    }

    async fn finished(&self, user: UserId) {
        let gone = async {
            while self.store.deletion(user).await.expect("read").is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(30), gone).await.expect("it comes to its end");
    }

    async fn stopped(self, workers: Vec<tokio::task::JoinHandle<()>>) {
        self.stop.cancel();
        for worker in workers {
            worker.await.expect("no panic");
        }
    }
}

fn all_pages() -> Vec<String> {
    let pages = ["", "1", "2"].map(|place| format!("Blank from {place:?}"));
    ["profile".to_owned()].into_iter().chain(pages).collect()
}

#[tokio::test]
async fn an_account_is_erased_here_at_first_and_then_in_every_service_page_by_page() {
    let world = World::new().await;
    let ada = world.delete("ada").await;
    let worker = world.run();
    world.finished(ada).await;
    assert_eq!(world.services.did(), all_pages());
    assert!(world.store.account(ada).await.expect("read").is_none());
    let entries = world.store.audit(&Filter { subject: Some(ada), ..Filter::default() }, None, 10).await.expect("read");
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry.client.ip_address.is_empty() && entry.client.device.is_empty()));
    world.stopped(vec![worker]).await;
}

#[tokio::test]
async fn a_service_that_is_away_or_hangs_is_asked_again_and_nothing_is_done_over() {
    let world = World::new().await;
    let services = world.services.clone();
    services.users_away.store(true, Ordering::Relaxed);
    let ada = world.delete("ada").await;
    let worker = world.run();
    let refused = async |more: usize| {
        let before = services.refused.load(Ordering::Relaxed);
        let tried = async {
            while services.refused.load(Ordering::Relaxed) < before + more {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(30), tried).await.expect("it is tried again");
    };
    refused(3).await;
    assert!(world.store.account(ada).await.expect("read").is_none(), "the account itself waits for nobody");
    assert!(services.did().is_empty());
    services.messages_away.store(true, Ordering::Relaxed);
    services.users_away.store(false, Ordering::Relaxed);
    refused(3).await;
    assert_eq!(services.did(), ["profile"]);
    assert!(world.store.deletion(ada).await.expect("read").expect("waits").told);
    services.hangs.store(true, Ordering::Relaxed);
    services.messages_away.store(false, Ordering::Relaxed);
    let late = async {
        while world.store.deletion(ada).await.expect("read").expect("waits").attempts < 5 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(30), late).await.expect("a service that hangs is given up");
    services.hangs.store(false, Ordering::Relaxed);
    world.finished(ada).await;
    assert_eq!(services.did(), all_pages());
    world.stopped(vec![worker]).await;
}

#[tokio::test]
async fn erasers_that_run_at_once_do_each_deletion_once() {
    let world = World::new().await;
    let mut users = Vec::new();
    for name in ["ada", "bob", "cyd", "dan", "eve"] {
        users.push(world.delete(name).await);
    }
    let workers = vec![world.run(), world.run(), world.run()];
    for user in &users {
        world.finished(*user).await;
    }
    assert_eq!(world.services.did().len(), users.len() * all_pages().len());
    world.stopped(workers).await;
}

#[tokio::test]
async fn who_comes_back_in_time_keeps_everything() {
    let world = World::new().await;
    let (account, _) = member(&world.store, "ada").await;
    let now = Millis::now();
    let erase_at = now.plus(Duration::from_secs(3600));
    let plan =
        DeletionPlan { user_id: account.id, disabled: false, now, erase_at, revoked_until: now, audit: Vec::new() };
    world.store.plan_deletion(&plan).await.expect("planned");
    world.store.open_session(&opening(&account, &session(account.id))).await.expect("opened");
    // Nothing is left that would be due.
    assert!(world.store.claim_deletions(Millis(i64::MAX), Millis(i64::MAX), 10).await.expect("read").is_empty());
    let worker = world.run();
    let other = world.delete("bob").await;
    world.finished(other).await;
    assert!(world.store.account(account.id).await.expect("read").is_some());
    world.stopped(vec![worker]).await;
}
