//! The feed over a real store: order, snapshots, heartbeats, and what a slow follower meets.

use std::sync::Mutex;

use futures::FutureExt as _;
use tempfile::TempDir;

use super::*;
use crate::store::{
    contract::{login, member},
    sqlite::SqliteStore,
};
use mesh::migration::Migrations;

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Step>>);

impl Listener for Heard {
    fn revoked(&self, revocation: &Revocation) {
        self.0.lock().expect("no panic").push(Step::Revoked(*revocation));
    }

    fn current(&self, head: i64) {
        self.0.lock().expect("no panic").push(Step::Heartbeat(head));
    }
}

/// A heartbeat at every read, so that no test waits for a clock.
const LIMITS: FeedLimits =
    FeedLimits { poll: Duration::from_mins(1), heartbeat: Duration::ZERO, memory_max: 10, followers_max: 2 };

struct Mesh {
    store: Arc<dyn Store>,
    heard: Arc<Heard>,
    feed: Feed,
    stop: CancellationToken,
    account: crate::store::NewAccount,
    _folder: TempDir,
}

async fn mesh() -> Mesh {
    let folder = tempfile::tempdir().expect("folder");
    let store = SqliteStore::open(&folder.path().join("auth.db"), 2, Migrations::Run).await.expect("opened");
    let store: Arc<dyn Store> = Arc::new(store);
    let (account, _) = member(&store, "ada").await;
    let (heard, stop) = (Arc::new(Heard::default()), CancellationToken::new());
    let feed = Feed::new(store.clone(), heard.clone(), LIMITS, stop.clone());
    Mesh { store, heard, feed, stop, account, _folder: folder }
}

impl Mesh {
    /// Ends a session, with a revocation that counts for an hour from now.
    async fn end_one(&self) -> SessionId {
        let now = Millis::now();
        let session = login(&self.store, &self.account, now).await;
        let until = now.plus(Duration::from_hours(1));
        self.store
            .end_session(self.account.id, session.id, crate::store::contract::NOW, until, &[])
            .await
            .expect("ended");
        session.id
    }
}

fn numbers(steps: &[Step]) -> Vec<i64> {
    steps
        .iter()
        .map(|step| match step {
            Step::Revoked(revocation) => revocation.number,
            Step::Heartbeat(head) => -head,
        })
        .collect()
}

async fn hear(follower: &mut Follower, count: usize) -> Vec<i64> {
    let mut steps = Vec::new();
    for _ in 0..count {
        steps.push(follower.next().await.expect("a step"));
    }
    numbers(&steps)
}

#[tokio::test]
async fn this_process_hears_all_in_order_and_then_that_it_was_all() {
    let mesh = mesh().await;
    let ids = [mesh.end_one().await, mesh.end_one().await];
    mesh.feed.load().await.expect("loaded");
    mesh.end_one().await;
    mesh.feed.load().await.expect("loaded");
    let heard = mesh.heard.0.lock().expect("no panic").clone();
    assert_eq!(numbers(&heard), [1, 2, -2, 3, -3]);
    assert!(matches!(heard[0], Step::Revoked(first) if first.session_id == ids[0]));
}

#[tokio::test]
async fn a_follower_hears_a_snapshot_a_heartbeat_and_then_what_is_new() {
    let mesh = mesh().await;
    mesh.end_one().await;
    mesh.end_one().await;
    mesh.feed.load().await.expect("loaded");
    let mut follower = mesh.feed.follow(0).expect("a place");
    assert_eq!(hear(&mut follower, 3).await, [1, 2, -2]);
    mesh.end_one().await;
    mesh.feed.load().await.expect("loaded");
    assert_eq!(hear(&mut follower, 2).await, [3, -3]);
    let mut late = mesh.feed.follow(2).expect("a place");
    assert_eq!(hear(&mut late, 2).await, [3, -3]);
}

#[tokio::test]
async fn a_number_from_the_future_means_all() {
    let mesh = mesh().await;
    mesh.end_one().await;
    mesh.feed.load().await.expect("loaded");
    for strange in [-7, 99] {
        assert_eq!(hear(&mut mesh.feed.follow(strange).expect("a place"), 2).await, [1, -1]);
    }
}

#[tokio::test]
async fn a_follower_that_reads_too_slowly_is_ended_and_finds_all_when_it_comes_back() {
    let mesh = mesh().await;
    mesh.feed.load().await.expect("loaded");
    let mut slow = mesh.feed.follow(0).expect("a place");
    assert_eq!(hear(&mut slow, 1).await, [0]);
    for _ in 0..LIMITS.memory_max + 1 {
        mesh.end_one().await;
    }
    mesh.feed.load().await.expect("loaded");
    assert!(matches!(slow.next().await, Err(Error::FollowerSlow)));
    let mut again = mesh.feed.follow(0).expect("a place");
    assert_eq!(hear(&mut again, 12).await, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -11]);
}

#[tokio::test]
async fn a_store_that_is_away_is_heard_as_silence() {
    let mesh = mesh().await;
    mesh.feed.load().await.expect("loaded");
    let mut follower = mesh.feed.follow(0).expect("a place");
    assert_eq!(hear(&mut follower, 1).await, [0]);
    mesh.feed.load().await.expect("loaded");
    assert_eq!(hear(&mut follower, 1).await, [0], "a good read is a heartbeat");
    mesh.store.close().await;
    // What was read before may still be said once.
    drop(follower.next().now_or_never());
    mesh.feed.load().await.expect_err("the store is closed");
    assert!(follower.next().now_or_never().is_none(), "a failed read was a heartbeat");
}

#[tokio::test]
async fn followers_have_a_limit_and_end_with_the_process() {
    let mesh = mesh().await;
    mesh.feed.load().await.expect("loaded");
    let mut first = mesh.feed.follow(0).expect("a place");
    let second = mesh.feed.follow(0).expect("a place");
    assert!(matches!(mesh.feed.follow(0), Err(Error::FollowersBusy)));
    drop(second);
    assert!(mesh.feed.follow(0).is_ok(), "a place is free again");
    mesh.stop.cancel();
    assert!(matches!(first.next().await, Err(Error::Stopping)));
}

#[tokio::test]
async fn who_ends_a_session_waits_until_it_is_felt() {
    let mesh = mesh().await;
    mesh.feed.load().await.expect("loaded");
    let feed = mesh.feed.clone();
    let run = tokio::spawn(async move { feed.run().await });
    mesh.end_one().await;
    mesh.feed.published(1).await;
    assert_eq!(numbers(&mesh.heard.0.lock().expect("no panic")), [0, 1, -1]);
    mesh.stop.cancel();
    run.await.expect("no panic");
}
