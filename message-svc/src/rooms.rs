//! The active rooms: finds a room's task or starts it, and puts orders into its queue. Starting, queueing and retiring
//! all happen under one lock per shard of the map, so an order never lands in the queue of a task that is leaving.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tokio_util::task::TaskTracker;

use crate::{
    config::{Limits, RoomsConfig},
    error::Error,
    hub::Hub,
    id::{LogId, RoomId, UserId},
    message::Message,
    order::{Change, Changed, Done, Order, Pending, Sent},
    room_task::{Context, RoomTask},
    store::Store,
};

/// Locks that share the map, so that the cores do not wait for one another.
const SHARDS: usize = 16;

type Shard = HashMap<RoomId, mpsc::Sender<Pending>>;

/// A message that is in line. Dropped before it is written, it is not sent.
pub(crate) struct Submitted(oneshot::Receiver<Result<Done, Error>>);

impl Submitted {
    /// Answers when the message is durable.
    ///
    /// # Errors
    /// What [`Rooms::send`] says.
    pub(crate) async fn done(self) -> Result<Sent, Error> {
        match answered(self.0.await)? {
            Done::Sent(sent) => Ok(sent),
            Done::Changed(_) | Done::MayType(_) => Err(Error::internal("a send was answered as something else")),
        }
    }
}

/// What a room's task answered. One that panicked has dropped the reply; nothing is known of the order then.
fn answered(answer: Result<Result<Done, Error>, oneshot::error::RecvError>) -> Result<Done, Error> {
    answer.unwrap_or_else(|_| Err(Error::internal("the room's task ended")))
}

/// The rooms that have a task.
pub struct Rooms {
    context: Arc<Context>,
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    active: AtomicUsize,
    active_max: usize,
    queue_max: usize,
    stopping: AtomicBool,
    tasks: TaskTracker,
}

impl Rooms {
    /// No room is active yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, hub: Arc<Hub>, config: &RoomsConfig, limits: &Limits) -> Arc<Self> {
        let context = Context {
            store,
            hub,
            members_max: limits.room_members_max,
            orders_max: config.batch_orders_max,
            bytes_max: config.batch_bytes_max,
            idle: Duration::from_secs(config.idle_secs),
            settle: Duration::from_millis(config.settle_ms),
        };
        Arc::new(Self {
            context: Arc::new(context),
            shards: Default::default(),
            hasher: RandomState::new(),
            active: AtomicUsize::new(0),
            active_max: config.active_max,
            queue_max: config.queue_max,
            stopping: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        })
    }

    /// Sends a message; answers when it is durable.
    ///
    /// # Errors
    /// [`Error::RoomNotFound`], [`Error::NotAMember`], and whatever keeps it from being known.
    pub async fn send(self: &Arc<Self>, room: RoomId, message: Message) -> Result<Sent, Error> {
        self.submit(room, message)?.done().await
    }

    /// Puts a message in line, without waiting: those of one caller get into the room in the order of these calls.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::NoRoom`].
    pub(crate) fn submit(self: &Arc<Self>, room: RoomId, message: Message) -> Result<Submitted, Error> {
        let (pending, answer) = Pending::new(Order::Send(Arc::new(message)));
        self.queue(room, pending)?;
        Ok(Submitted(answer))
    }

    /// Changes the room or its members; answers when it is durable, or was so already.
    ///
    /// # Errors
    /// [`Error::RoomNotFound`], [`Error::NotAMember`], [`Error::Forbidden`], and whatever keeps it from being known.
    pub async fn change(self: &Arc<Self>, room: RoomId, change: Change) -> Result<Changed, Error> {
        match self.order(room, Order::Change(change)).await? {
            Done::Changed(changed) => Ok(changed),
            Done::Sent(_) | Done::MayType(_) => Err(Error::internal("a change was answered as something else")),
        }
    }

    /// Asks whether the user may show that they type; answers the life of the log in which they do.
    ///
    /// # Errors
    /// [`Error::RoomNotFound`], [`Error::NotAMember`].
    pub async fn may_type(self: &Arc<Self>, room: RoomId, user: UserId) -> Result<LogId, Error> {
        match self.order(room, Order::Typing(user)).await? {
            Done::MayType(log) => Ok(log),
            Done::Sent(_) | Done::Changed(_) => Err(Error::internal("a question was answered as something else")),
        }
    }

    /// How many rooms have a task.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Takes no more orders, and waits until those that wait are done.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for shard in &self.shards {
            // Without its sender a task serves what is queued and ends.
            let left = std::mem::take(&mut *lock(shard));
            self.count(-isize::try_from(left.len()).expect("invariant: a map fits in memory"));
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn order(self: &Arc<Self>, room: RoomId, order: Order) -> Result<Done, Error> {
        let (pending, answer) = Pending::new(order);
        self.queue(room, pending)?;
        answered(answer.await)
    }

    fn queue(self: &Arc<Self>, room: RoomId, pending: Pending) -> Result<(), Error> {
        let mut shard = lock(self.shard(room));
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Error::NoRoom);
        }
        let pending = match shard.get(&room) {
            None => pending,
            Some(queue) => match queue.try_send(pending) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => return Err(Error::Busy),
                // A task that panicked: a new one takes its place.
                Err(TrySendError::Closed(pending)) => {
                    shard.remove(&room);
                    self.count(-1);
                    pending
                }
            },
        };
        self.start(&mut shard, room, pending)
    }

    fn start(self: &Arc<Self>, shard: &mut Shard, room: RoomId, first: Pending) -> Result<(), Error> {
        if self.active.load(Ordering::Relaxed) >= self.active_max {
            return Err(Error::NoRoom);
        }
        let (queue, orders) = mpsc::channel(self.queue_max);
        queue.try_send(first).map_err(Error::internal)?;
        shard.insert(room, queue);
        self.count(1);
        let task = RoomTask::new(room, Arc::clone(&self.context), orders);
        let rooms = Arc::clone(self);
        self.tasks.spawn(task.run(move |queue| rooms.retire(room, queue)));
        Ok(())
    }

    /// Takes a room's task out of the map, unless something waits in its queue. A task that is not in the map any more
    /// must not leave either: its queue's end tells it when.
    fn retire(&self, room: RoomId, queue: &mpsc::Receiver<Pending>) -> bool {
        let mut shard = lock(self.shard(room));
        if !queue.is_empty() || self.stopping.load(Ordering::SeqCst) {
            return false;
        }
        shard.remove(&room);
        self.count(-1);
        true
    }

    fn count(&self, more: isize) {
        // Wrapping on purpose: adding a negative number is subtracting.
        let before = self.active.fetch_add(more.cast_unsigned(), Ordering::Relaxed);
        let now = u32::try_from(before.wrapping_add_signed(more)).unwrap_or(u32::MAX);
        metrics::gauge!("switchboard_message_rooms_active").set(f64::from(now));
    }

    fn shard(&self, room: RoomId) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(room) % SHARDS as u64).expect("invariant: below 16");
        &self.shards[hash]
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing is left half done under this lock, so a panic elsewhere does not spoil the map.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
