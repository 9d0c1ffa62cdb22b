//! The hub: hints from the rooms' tasks to whoever follows a room in this process. A hint is never the truth: a watcher
//! that lags or misses one reads the store ([`crate::watch`]). Rooms that nobody follows cost nothing here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{
    entry::Seq,
    id::{RoomId, UserId},
    store::{Batch, Store},
};

/// Rooms that are asked about in one query.
const POLL_ROOMS_MAX: usize = 1_000;

/// What a watcher may want to know.
#[derive(Clone, Debug)]
pub enum Hint {
    /// These entries were written.
    Entries(Batch),
    /// The log has been seen to reach this seq.
    Head(Seq),
    /// Somebody types, or has stopped.
    Typing(Typing),
}

/// Somebody types, or has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typing {
    /// Who.
    pub user: UserId,
    /// Their username.
    pub username: Arc<str>,
    /// Whether they type now.
    pub typing: bool,
}

/// Hints by room.
#[derive(Debug)]
pub struct Hub {
    rooms: Mutex<HashMap<RoomId, Channel>>,
    hints_max: usize,
}

#[derive(Debug)]
struct Channel {
    hints: broadcast::Sender<Hint>,
    /// The last seq that was hinted.
    head: Seq,
}

/// One watcher's hints of one room.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    room: RoomId,
    hints: broadcast::Receiver<Hint>,
}

impl Hub {
    /// A hub in which a watcher may lag this many hints behind.
    #[must_use]
    pub fn new(hints_max: usize) -> Arc<Self> {
        Arc::new(Self { rooms: Mutex::default(), hints_max })
    }

    /// Follows a room's hints from now on.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, room: RoomId) -> Subscription {
        let mut rooms = self.lock();
        let channel =
            rooms.entry(room).or_insert_with(|| Channel { hints: broadcast::Sender::new(self.hints_max), head: 0 });
        Subscription { hub: Arc::clone(self), room, hints: channel.hints.subscribe() }
    }

    /// Tells the watchers of entries that are durable. Never waits.
    pub fn publish(&self, room: RoomId, batch: Batch) {
        if let Some(channel) = self.lock().get_mut(&room) {
            channel.head = batch.last().map_or(channel.head, |entry| entry.seq.max(channel.head));
            channel.hint(Hint::Entries(batch));
        }
    }

    /// Tells the watchers who types. Never waits.
    pub fn publish_typing(&self, room: RoomId, typing: Typing) {
        if let Some(channel) = self.lock().get(&room) {
            channel.hint(Hint::Typing(typing));
        }
    }

    /// How many rooms are followed.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.lock().len()
    }

    /// Looks at the ends of all followed rooms' logs in the store every so often, and wakes the watchers of those that
    /// another process has written to. Runs until it is cancelled.
    pub async fn poll(self: Arc<Self>, store: Arc<dyn Store>, period: Duration, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let result = self.poll_once(&*store).await;
            if let Err(error) = &result
                && !failing
            {
                tracing::warn!(error = error as &dyn std::error::Error, "the watched rooms cannot be looked at");
            }
            failing = result.is_err();
        }
    }

    async fn poll_once(&self, store: &dyn Store) -> Result<(), crate::store::StoreError> {
        let rooms: Vec<_> = self.lock().keys().copied().collect();
        for rooms in rooms.chunks(POLL_ROOMS_MAX) {
            for head in store.heads(rooms).await? {
                if let Some(channel) = self.lock().get_mut(&head.room)
                    && head.last_seq > channel.head
                {
                    channel.head = head.last_seq;
                    channel.hint(Hint::Head(head.last_seq));
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Channel>> {
        // Nothing is left half done under this lock, so a panic elsewhere does not spoil the map.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn hint(&self, hint: Hint) {
        // It fails when the last watcher is just leaving, and then nobody wants it.
        drop(self.hints.send(hint));
    }
}

impl Subscription {
    /// The next hint; none when some were missed.
    pub async fn next(&mut self) -> Option<Hint> {
        self.hints.recv().await.ok()
    }

    /// The hint that is there already, if any: `Some(None)` when some were missed.
    pub fn try_next(&mut self) -> Option<Option<Hint>> {
        match self.hints.try_recv() {
            Ok(hint) => Some(Some(hint)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(None),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut rooms = self.hub.lock();
        // This one is still counted; the last to leave takes the channel along.
        if rooms.get(&self.room).is_some_and(|channel| channel.hints.receiver_count() <= 1) {
            rooms.remove(&self.room);
        }
    }
}
