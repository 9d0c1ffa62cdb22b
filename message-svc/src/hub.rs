//! The hub: hints from the rooms' tasks to whoever follows a room in this process, and through the [relay](crate::relay)
//! in others. A hint is never the truth: a watcher that lags or misses one reads the store ([`crate::watch`]), and what
//! nobody hinted at is found by looking ([`crate::look`]). Rooms that nobody follows cost nothing here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh::telemetry::Origin;
use tokio::sync::broadcast;

use crate::{
    entry::Seq,
    id::{LogId, RoomId, UserId},
    relay::Outlet,
    store::{Batch, Head},
};

/// What a watcher may want to know.
#[derive(Clone, Debug)]
pub enum Hint {
    /// These entries were written, for these.
    Entries(Batch, Origins),
    /// The log has been seen to reach this seq.
    Head(Seq),
    /// Somebody types, or has stopped.
    Typing(Typing),
}

/// The spans that sent entries, by seq, of those whose trace is sampled; none when there are none. Only hints have them:
/// whoever reads an entry from the store has no part in its sending.
pub type Origins = Option<Arc<[(Seq, Origin)]>>;

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
    relay: Option<Outlet>,
}

#[derive(Debug)]
struct Channel {
    hints: broadcast::Sender<Hint>,
    /// The last seq that was hinted.
    head: Seq,
    /// The life of the log that the watchers follow, as the store told them; none until one of them knows it.
    log: Option<LogId>,
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
        Self::relayed(hints_max, None)
    }

    /// A hub that tells other processes too.
    #[must_use]
    pub fn relayed(hints_max: usize, relay: Option<Outlet>) -> Arc<Self> {
        Arc::new(Self { rooms: Mutex::default(), hints_max, relay })
    }

    /// Follows a room's hints from now on.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, room: RoomId) -> Subscription {
        let mut rooms = self.lock();
        let channel = rooms.entry(room).or_insert_with(|| {
            self.touched(room);
            Channel { hints: broadcast::Sender::new(self.hints_max), head: 0, log: None }
        });
        Subscription { hub: Arc::clone(self), room, hints: channel.hints.subscribe() }
    }

    /// Tells the watchers of entries of this life of the log that are durable, here and in other processes. Never waits.
    pub fn publish(&self, room: RoomId, log: LogId, batch: Batch, origins: Origins) {
        if let Some(relay) = &self.relay {
            relay.written(room, log, &batch);
        }
        self.deliver(room, Hint::Entries(batch, origins));
    }

    /// Tells the watchers who types, here and in other processes. Never waits.
    pub fn publish_typing(&self, room: RoomId, log: LogId, typing: Typing) {
        if let Some(relay) = &self.relay {
            relay.typing(room, log, &typing);
        }
        self.deliver(room, Hint::Typing(typing));
    }

    /// Gives the watchers in this process a hint. Never waits.
    pub(crate) fn deliver(&self, room: RoomId, hint: Hint) {
        if let Some(channel) = self.lock().get_mut(&room) {
            channel.head = channel.head.max(hint.last_seq());
            channel.hint(hint);
        }
    }

    /// The end of a room's log as the store has it: wakes the watchers when no hint told of it.
    pub(crate) fn seen(&self, head: Head) {
        if let Some(channel) = self.lock().get_mut(&head.room)
            && head.last_seq > channel.head
        {
            if channel.head > 0 {
                metrics::counter!("switchboard_message_unhinted_total").increment(1);
            }
            channel.head = head.last_seq;
            channel.hint(Hint::Head(head.last_seq));
        }
    }

    /// The followed rooms.
    #[must_use]
    pub fn rooms(&self) -> Vec<RoomId> {
        self.lock().keys().copied().collect()
    }

    /// How many rooms are followed.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.lock().len()
    }

    /// Whether the room is followed.
    pub(crate) fn watches(&self, room: RoomId) -> bool {
        self.lock().contains_key(&room)
    }

    /// The life of the log that the room's watchers follow, when there are any and they know it.
    pub(crate) fn log(&self, room: RoomId) -> Option<LogId> {
        self.lock().get(&room)?.log
    }

    /// Somebody began to follow the room, or the last one ceased to.
    fn touched(&self, room: RoomId) {
        if let Some(relay) = &self.relay {
            relay.touched(room);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Channel>> {
        // Nothing is left half done under this lock, so a panic elsewhere does not spoil the map.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hint {
    /// The seq up to which the watchers know of the log by this.
    fn last_seq(&self) -> Seq {
        match self {
            Self::Entries(batch, _) => batch.last().map_or(0, |entry| entry.seq),
            Self::Head(seq) => *seq,
            Self::Typing(_) => 0,
        }
    }
}

impl Channel {
    fn hint(&self, hint: Hint) {
        // It fails when the last watcher is just leaving, and then nobody wants it.
        drop(self.hints.send(hint));
    }
}

impl Subscription {
    /// Says which life of the log is followed, as the store told. Hints of another one are not for this watcher.
    pub fn follows(&self, log: LogId) {
        if let Some(channel) = self.hub.lock().get_mut(&self.room) {
            channel.log = Some(log);
        }
    }

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
            self.hub.touched(self.room);
        }
    }
}
