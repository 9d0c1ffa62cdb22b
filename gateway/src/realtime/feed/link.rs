//! The link to one replica of message-svc: what is subscribed to there, and which rooms have to be looked at again. The
//! stream itself is `stream.rs`; which replicas there are is `ring.rs`.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh::{
    client::Replica,
    proto::message::v1::watch_rooms_request::{Action, Subscribe, Unsubscribe},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Feeds, room::LinkId};

/// A subscription that is not to be believed any more: no room ever wants this number.
const STALE: u64 = u64::MAX;

/// One replica, as the feeds see it.
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) replica: Arc<Replica>,
    /// Cancelled when the replica is not known any more: its rooms move, and then it ends.
    pub(super) leaving: CancellationToken,
    /// What the stream follows, each with the number of the subscription that was wanted.
    subscribed: Mutex<HashMap<Uuid, u64>>,
    /// Rooms whose subscription may not be what it should be. Bounded by the rooms: each is in it once.
    dirty: Mutex<Dirty>,
    wake: Notify,
}

#[derive(Default)]
struct Dirty {
    queue: VecDeque<Uuid>,
    known: HashSet<Uuid>,
}

impl Link {
    pub(super) fn new(id: LinkId, replica: Arc<Replica>) -> Self {
        Self {
            id,
            replica,
            leaving: CancellationToken::new(),
            subscribed: Mutex::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// The room has to be looked at.
    pub(super) fn mark(&self, id: Uuid) {
        let mut dirty = self.dirty();
        if dirty.known.insert(id) {
            dirty.queue.push_back(id);
        }
        drop(dirty);
        self.wake.notify_one();
    }

    pub(super) fn next_dirty(&self) -> Option<Uuid> {
        let mut dirty = self.dirty();
        let id = dirty.queue.pop_front()?;
        dirty.known.remove(&id);
        Some(id)
    }

    /// Waits until there is something to look at.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// It leaves, and no room needs it.
    pub(super) fn is_over(&self) -> bool {
        self.leaving.is_cancelled() && self.subscribed().is_empty()
    }

    /// Its replica is not known any more.
    pub(super) fn leave(&self) {
        self.leaving.cancel();
        self.wake.notify_one();
    }

    /// Its stream is gone, and with it all that was followed by it.
    pub(super) fn clear(&self) {
        *self.subscribed() = HashMap::new();
    }

    /// What this room's subscription here says came too late, or never held: it is made anew if it is still wanted.
    pub(super) fn doubt(&self, id: Uuid) {
        if let Some(generation) = self.subscribed().get_mut(&id) {
            *generation = STALE;
        }
        self.mark(id);
    }

    fn subscribed(&self) -> MutexGuard<'_, HashMap<Uuid, u64>> {
        // Nothing that could panic half-way runs under this lock.
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        // Nothing that could panic half-way runs under this lock.
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeds {
    /// Whether the room belongs to this link's replica now.
    pub(super) fn owns(&self, link: &Link, id: Uuid) -> bool {
        let owner = self.clients.message_replicas().now().owner(id);
        owner.is_some_and(|owner| Arc::ptr_eq(&owner, &link.replica))
    }

    /// What has to be said to the link's replica so that it follows the room, or not, as is wanted. At the owner it is
    /// wanted; at another replica until the owner has taken over, so that nothing is missed in between. What both of
    /// them tell is told twice, and the room passes over the second.
    pub(super) fn reconcile(&self, link: &Link, id: Uuid) -> Vec<Action> {
        let owns = self.owns(link, id);
        let wanted = self.get(id).and_then(|room| room.wanted(link.id, owns));
        let mut subscribed = link.subscribed();
        let mut actions = Vec::new();
        if subscribed.get(&id).copied() == wanted.as_ref().map(|(generation, _)| *generation) {
            return actions;
        }
        let room_id = id.to_string();
        // A room that is being followed is followed from elsewhere only after it was left.
        if subscribed.remove(&id).is_some() {
            actions.push(Action::Unsubscribe(Unsubscribe { room_id: room_id.clone() }));
        }
        if let Some((generation, cursor)) = wanted {
            subscribed.insert(id, generation);
            actions.push(Action::Subscribe(Subscribe { room_id, cursor }));
        }
        actions
    }
}
