//! The outbox over a real store and a user-svc that can fail: order, waiting, coming back.

use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::store::{
    contract::{NOW, member, username},
    sqlite::SqliteStore,
};
use mesh::migration::Migrations;

/// A user-svc that takes, refuses, or never answers.
#[derive(Debug, Default)]
struct Users {
    took: Mutex<Vec<(i64, String)>>,
    away: AtomicBool,
    hangs: AtomicBool,
}

#[async_trait]
impl Profiles for Users {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        if self.hangs.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        if self.away.load(Ordering::Relaxed) {
            return Err(DeliveryError("UNAVAILABLE".to_owned()));
        }
        self.took.lock().expect("no panic").push((delivery.version, delivery.username.clone()));
        Ok(())
    }
}

const LIMITS: OutboxLimits = OutboxLimits {
    patience: Duration::from_millis(50),
    poll: Duration::from_millis(10),
    retry_max: Duration::from_millis(20),
};

async fn outbox() -> (Arc<dyn Store>, Arc<Users>, Arc<Outbox>, TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let store = SqliteStore::open(&folder.path().join("auth.db"), 2, Migrations::Run).await.expect("opened");
    let store: Arc<dyn Store> = Arc::new(store);
    let users = Arc::new(Users::default());
    let outbox = Arc::new(Outbox::new(store.clone(), users.clone(), LIMITS));
    (store, users, outbox, folder)
}

fn took(users: &Users) -> Vec<(i64, String)> {
    users.took.lock().expect("no panic").clone()
}

#[tokio::test]
async fn news_goes_out_at_once_and_in_order() {
    let (store, users, outbox, _folder) = outbox().await;
    let (account, _) = member(&store, "ada").await;
    store.rename(account.id, &username("countess"), NOW, NOW, &[]).await.expect("renamed");
    outbox.deliver_now(account.id).await;
    assert_eq!(took(&users), [(1, "ada".to_owned()), (2, "countess".to_owned())]);
    assert_eq!(store.next_delivery(account.id).await.expect("read"), None);
    outbox.deliver_now(account.id).await;
    assert_eq!(took(&users).len(), 2, "what has arrived does not go out again");
}

#[tokio::test]
async fn a_failure_keeps_the_news_and_what_comes_after_it() {
    let (store, users, outbox, _folder) = outbox().await;
    let (account, _) = member(&store, "ada").await;
    store.rename(account.id, &username("countess"), NOW, NOW, &[]).await.expect("renamed");
    users.away.store(true, Ordering::Relaxed);
    outbox.deliver_now(account.id).await;
    let next = store.next_delivery(account.id).await.expect("read").expect("kept");
    assert_eq!((next.version, next.attempts), (1, 1));
    assert!(took(&users).is_empty());
}

#[tokio::test]
async fn a_user_svc_that_never_answers_costs_no_more_than_the_patience() {
    let (store, users, outbox, _folder) = outbox().await;
    let (account, _) = member(&store, "ada").await;
    users.hangs.store(true, Ordering::Relaxed);
    let call = tokio::time::timeout(Duration::from_secs(30), outbox.deliver_now(account.id));
    call.await.expect("it gave up by itself");
    assert_eq!(store.next_delivery(account.id).await.expect("read").expect("kept").version, 1);
}

#[tokio::test]
async fn the_worker_delivers_when_user_svc_is_back() {
    let (store, users, outbox, _folder) = outbox().await;
    users.away.store(true, Ordering::Relaxed);
    let mut accounts = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        let (account, _) = member(&store, name).await;
        // The contract's accounts are due in its own time; this makes them due now.
        store.postpone_delivery(account.id, 1, Millis(0)).await.expect("noted");
        accounts.push(account.id);
    }
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let (outbox, stop) = (outbox.clone(), stop.clone());
        async move { outbox.run(stop).await }
    });
    let tried = async {
        while store.next_delivery(accounts[2]).await.expect("read").expect("kept").attempts < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), tried).await.expect("it was tried again");
    assert!(took(&users).is_empty());
    users.away.store(false, Ordering::Relaxed);
    let arrived = async {
        for account in &accounts {
            while store.next_delivery(*account).await.expect("read").is_some() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrived).await.expect("it arrived");
    let mut names: Vec<_> = took(&users).into_iter().map(|(_, name)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["ada", "bob", "cyd"]);
    stop.cancel();
    worker.await.expect("no panic");
}

#[tokio::test]
async fn waits_grow_to_their_limit_and_are_spread() {
    let (_, _, outbox, _folder) = outbox().await;
    for attempts in [0, 1, 5, 40, u32::MAX] {
        let wait = outbox.wait(attempts);
        assert!(wait <= LIMITS.retry_max && wait >= LIMITS.retry_max / 2, "{attempts}: {wait:?}");
    }
}
