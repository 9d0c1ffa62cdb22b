//! Where the hub leaves what other replicas shall hear, and which rooms are followed. It never waits: what does not fit
//! is dropped and counted, and the [relay](super) tells the others to look for themselves.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use mesh::config::RedisConfig;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::frame::{self, Frame};
use crate::{
    hub::Typing,
    id::{LogId, RoomId},
    store::Batch,
};

/// Rooms that are remembered as touched one by one; when there are more, all are compared.
const TOUCHED_MAX: usize = 10_000;

/// The hub's end.
#[derive(Clone, Debug)]
pub struct Outlet(Arc<Shared>);

/// The relay's end.
#[derive(Debug)]
pub struct Inbox {
    pub(super) outlet: Outlet,
    pub(super) queue: mpsc::Receiver<Outgoing>,
}

#[derive(Debug)]
struct Shared {
    open: AtomicBool,
    /// Whether something was dropped since it was last asked.
    dropped: AtomicBool,
    queue: mpsc::Sender<Outgoing>,
    hint_bytes_max: usize,
    touched: Mutex<Touched>,
    touches: Notify,
}

#[derive(Debug, Default)]
struct Touched {
    all: bool,
    rooms: HashSet<RoomId>,
}

/// A hint on its way to other replicas.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) room: RoomId,
    log: LogId,
    frame: Frame,
}

impl Outlet {
    /// Both ends. Until the relay is connected, whatever is left here is dropped.
    #[must_use]
    pub fn new(config: &RedisConfig) -> (Self, Inbox) {
        let (sender, queue) = mpsc::channel(config.queue_max);
        let outlet = Self(Arc::new(Shared {
            open: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            queue: sender,
            hint_bytes_max: config.hint_bytes_max,
            touched: Mutex::default(),
            touches: Notify::new(),
        }));
        (outlet.clone(), Inbox { outlet, queue })
    }

    /// These entries of this life of the room's log are durable.
    pub(crate) fn written(&self, room: RoomId, log: LogId, batch: &Batch) {
        let Some(last) = batch.last() else { return };
        let weight: usize = batch.iter().map(|entry| entry.weight()).sum();
        // The queue holds on to no large entries.
        let small = weight <= self.0.hint_bytes_max;
        let frame = if small { Frame::Entries(Arc::clone(batch)) } else { Frame::Head(last.seq) };
        self.push(Outgoing { room, log, frame });
    }

    /// Somebody types, or has stopped.
    pub(crate) fn typing(&self, room: RoomId, log: LogId, typing: &Typing) {
        self.push(Outgoing { room, log, frame: Frame::Typing(typing.clone()) });
    }

    fn push(&self, hint: Outgoing) {
        if !self.0.open.load(Ordering::Acquire) {
            return hint.dropped("down");
        }
        if let Err(error) = self.0.queue.try_send(hint) {
            self.0.dropped.store(true, Ordering::Relaxed);
            error.into_inner().dropped("full");
        }
    }

    /// Somebody began to follow the room, or the last one ceased to.
    pub(crate) fn touched(&self, room: RoomId) {
        let mut touched = self.lock();
        if touched.rooms.len() < TOUCHED_MAX {
            touched.rooms.insert(room);
        } else {
            touched.all = true;
        }
        drop(touched);
        self.0.touches.notify_one();
    }

    /// All rooms shall be compared with what the connection has been told.
    pub(super) fn touch_all(&self) {
        self.lock().all = true;
    }

    /// The rooms that were touched since the last time; none when it may be any.
    pub(super) fn take_touched(&self) -> Option<HashSet<RoomId>> {
        let Touched { all, rooms } = mem::take(&mut *self.lock());
        (!all).then_some(rooms)
    }

    /// Waits until a room was touched.
    pub(super) async fn touches(&self) {
        self.0.touches.notified().await;
    }

    /// Whether hints are taken.
    pub(super) fn set_open(&self, open: bool) {
        self.0.open.store(open, Ordering::Release);
    }

    /// Whether hints were dropped since the last time because the queue was full.
    pub(super) fn take_dropped(&self) -> bool {
        self.0.dropped.swap(false, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Touched> {
        // Nothing is left half done under this lock.
        self.0.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    pub(super) fn kind(&self) -> &'static str {
        self.frame.kind()
    }

    pub(super) fn encode(&self, replica: Uuid) -> Vec<u8> {
        frame::seal(&self.frame, replica, self.log)
    }

    /// It is not told, for this reason.
    #[expect(clippy::unused_self, reason = "the hint ends here, and whoever calls this must give it up")]
    pub(super) fn dropped(self, reason: &'static str) {
        metrics::counter!("switchboard_relay_dropped_total", "reason" => reason).increment(1);
    }
}
