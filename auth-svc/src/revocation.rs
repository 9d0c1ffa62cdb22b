//! The feed of ended sessions: one task reads new revocations from the store, in the order of their numbers, and tells
//! this process and every follower. It is a reader alone: whoever ends a session writes the revocation in the same
//! step (`store.rs`). What is written by other replicas comes in by the same poll.
//!
//! A follower pulls: it holds a place in the numbers and no queue of its own, so a slow one costs nothing until it falls
//! out of the feed's memory, and then its stream ends. A heartbeat is sent only after the store has been read, so that
//! followers notice a store that is away as silence.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh::time::Millis;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    session::SessionId,
    store::{Store, StoreError},
};

/// Revocations read from the store at a time: some 40 kB.
const PAGE: u32 = 1000;
/// How long a call that ended a session waits for the feed. The end is stored either way; the poll takes over.
const PUBLISH_WAIT_MAX: Duration = Duration::from_secs(1);

/// A session that has ended while tokens or sockets of it may still be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its place, dense from 1, in commit order.
    pub number: i64,
    /// The session.
    pub session_id: SessionId,
    /// When it may be forgotten.
    pub expires_at: Millis,
}

/// Revocations in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationPage {
    /// Those that have not expired.
    pub revocations: Vec<Revocation>,
    /// The number up to which nothing is missing.
    pub head: i64,
}

/// The part of this process that checks tokens: it hears before any follower.
pub trait Listener: Send + Sync + std::fmt::Debug + 'static {
    /// A session has ended.
    fn revoked(&self, revocation: &Revocation);
    /// All revocations up to this number have been told, as of now.
    fn current(&self, head: i64);
}

/// One step of what a follower hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A session has ended.
    Revoked(Revocation),
    /// All until this number has been said.
    Heartbeat(i64),
}

/// How the feed reads, and for how many.
#[derive(Clone, Copy, Debug)]
pub struct FeedLimits {
    /// How long after a read the next one comes, when nobody asks earlier.
    pub poll: Duration,
    /// How often a follower hears that all is well.
    pub heartbeat: Duration,
    /// Revocations that are remembered for live followers.
    pub memory_max: usize,
    /// How many may follow at a time.
    pub followers_max: u32,
}

/// What the feed has read so far.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    head: i64,
    /// When the store was last read to its end.
    read_at: Option<Instant>,
}

/// The newest revocations: all with a number over `start` that counted when they were read.
#[derive(Debug, Default)]
struct Memory {
    start: i64,
    entries: VecDeque<Revocation>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    listener: Arc<dyn Listener>,
    limits: FeedLimits,
    memory: Mutex<Memory>,
    progress: watch::Sender<Progress>,
    wake: Notify,
    followers: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The feed; clones are the same one.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

impl Feed {
    /// A feed that has read nothing yet: [`Feed::load`] it, then let [`Feed::run`] go on. Followers end on `stop`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        listener: Arc<dyn Listener>,
        limits: FeedLimits,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            listener,
            limits,
            memory: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            wake: Notify::new(),
            followers: Arc::new(Semaphore::new(limits.followers_max as usize)),
            stop,
        }))
    }

    /// Reads all that is new and tells it to this process and to the followers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn load(&self) -> Result<(), StoreError> {
        loop {
            let after = self.head();
            let page = self.0.store.revocations(after, Millis::now(), PAGE).await?;
            let whole = page.revocations.len() < PAGE as usize;
            for revocation in &page.revocations {
                self.0.listener.revoked(revocation);
            }
            self.remember(&page);
            if whole {
                self.0.listener.current(page.head);
                self.0.progress.send_replace(Progress { head: page.head, read_at: Some(Instant::now()) });
                return Ok(());
            }
            self.0.progress.send_modify(|progress| progress.head = page.head);
        }
    }

    /// Reads on until the process stops. A store that is away is tried again; followers notice by the silence.
    pub async fn run(&self) {
        let mut failing = false;
        while !self.0.stop.is_cancelled() {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(self.0.limits.poll) => {}
            }
            match self.load().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(error.message = error.cause(), "revocations cannot be read");
                }
                Err(_) => {}
            }
        }
    }

    /// Waits until the revocation of this number is felt here; not longer than a second, since it is stored anyway.
    pub async fn published(&self, number: i64) {
        self.0.wake.notify_one();
        let mut progress = self.0.progress.subscribe();
        // Late or never: the poll goes on, and the caller's session has ended in the store.
        drop(timeout(PUBLISH_WAIT_MAX, progress.wait_for(|progress| progress.head >= number)).await);
    }

    /// Follows the feed from after a number; 0 for all that counts. A number that has not been handed out (the store
    /// was restored from an older copy) also means all.
    ///
    /// # Errors
    /// [`Error::FollowersBusy`] when too many follow.
    pub fn follow(&self, after: i64) -> Result<Follower, Error> {
        let Ok(permit) = self.0.followers.clone().try_acquire_owned() else { return Err(Error::FollowersBusy) };
        let at = if after > self.head() { 0 } else { after.max(0) };
        Ok(Follower {
            feed: self.clone(),
            at,
            ready: VecDeque::new(),
            live: false,
            beat_at: Instant::now(),
            progress: self.0.progress.subscribe(),
            _permit: permit,
        })
    }

    fn head(&self) -> i64 {
        self.0.progress.borrow().head
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each change under the lock is whole, so what a panicking holder leaves can be used.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, page: &RevocationPage) {
        let mut memory = self.memory();
        for revocation in &page.revocations {
            memory.entries.push_back(*revocation);
        }
        while memory.entries.len() > self.0.limits.memory_max {
            if let Some(oldest) = memory.entries.pop_front() {
                memory.start = oldest.number;
            }
        }
    }

    /// What came after a number, if the memory reaches back to it.
    fn since(&self, number: i64) -> Option<Vec<Revocation>> {
        let memory = self.memory();
        if number < memory.start {
            return None;
        }
        let first = memory.entries.partition_point(|revocation| revocation.number <= number);
        Some(memory.entries.range(first..).take(PAGE as usize).copied().collect())
    }
}

/// One who follows. It is pulled, by the stream that sends it.
#[derive(Debug)]
pub struct Follower {
    feed: Feed,
    /// All up to this number has been put into `ready`.
    at: i64,
    ready: VecDeque<Step>,
    /// Whether the snapshot is through.
    live: bool,
    beat_at: Instant,
    progress: watch::Receiver<Progress>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next step. Given up before it is there, it loses nothing.
    ///
    /// # Errors
    /// [`Error::FollowerSlow`] when the follower fell behind what the feed remembers, [`Error::Stopping`] at the end
    /// of the process, [`Error::Store`] when the snapshot cannot be read. The stream is over after any of them.
    pub async fn next(&mut self) -> Result<Step, Error> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(step);
            }
            if self.feed.0.stop.is_cancelled() {
                return Err(Error::Stopping);
            }
            if self.live { self.read_on().await? } else { self.read_snapshot().await? }
        }
    }

    async fn read_snapshot(&mut self) -> Result<(), Error> {
        let page = self.feed.0.store.revocations(self.at, Millis::now(), PAGE).await?;
        self.live = page.revocations.len() < PAGE as usize;
        self.at = page.head;
        self.ready.extend(page.revocations.into_iter().map(Step::Revoked));
        if self.live {
            self.beat();
        }
        Ok(())
    }

    async fn read_on(&mut self) -> Result<(), Error> {
        let progress = *self.progress.borrow_and_update();
        let news = self.feed.since(self.at).ok_or(Error::FollowerSlow)?;
        if let Some(last) = news.last() {
            self.at = last.number;
            self.ready.extend(news.into_iter().map(Step::Revoked));
            return Ok(());
        }
        // Numbers that had expired when they were read are in no memory; they are passed over here.
        self.at = self.at.max(progress.head);
        let due = self.beat_at + self.feed.0.limits.heartbeat;
        if progress.read_at.is_some_and(|read_at| read_at >= due) {
            self.beat();
            return Ok(());
        }
        tokio::select! {
            // The sender lives in the feed that this follower holds.
            _ = self.progress.changed() => {}
            () = self.feed.0.stop.cancelled() => {}
        }
        Ok(())
    }

    fn beat(&mut self) {
        self.beat_at = Instant::now();
        self.ready.push_back(Step::Heartbeat(self.at));
    }
}

#[cfg(test)]
mod tests;
