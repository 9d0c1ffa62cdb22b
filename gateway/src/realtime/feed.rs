//! The rooms that this gateway follows: one subscription a room however many sockets are in it, all on one stream to
//! message-svc. A room is followed from its first join until a little after its last socket has left. `feed/stream.rs`
//! keeps the stream, `feed/room.rs` is one room, `feed/entry.rs` what its sockets get.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use mesh::{
    client::Clients,
    error::{Reason, Refusal},
    identity::Identity,
};
use tokio::sync::Notify;
use uuid::Uuid;

mod entry;
mod recent;
mod room;
mod stream;
#[cfg(test)]
mod tests;

pub(super) use entry::{Encoded, Position};
use recent::Bounds;
pub(super) use room::{Admitted, Offer, Room};

use super::{RealtimeConfig, meter};

/// All rooms that are followed.
pub(super) struct Feeds {
    identity: Arc<Identity>,
    clients: Clients,
    bounds: Bounds,
    rooms_max: usize,
    linger: Duration,
    generations: Arc<AtomicU64>,
    rooms: Mutex<HashMap<Uuid, Arc<Room>>>,
    /// Rooms whose subscription may not be what it should be. Bounded by the rooms: each is in it once.
    dirty: Mutex<Dirty>,
    wake: Notify,
}

#[derive(Default)]
struct Dirty {
    queue: VecDeque<Uuid>,
    known: HashSet<Uuid>,
}

impl Feeds {
    pub(super) fn new(config: &RealtimeConfig, identity: Arc<Identity>, clients: Clients) -> Arc<Self> {
        Arc::new(Self {
            identity,
            clients,
            bounds: Bounds::new(config),
            rooms_max: config.rooms_max,
            linger: config.linger(),
            generations: Arc::default(),
            rooms: Mutex::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// A room, followed from now on for as long as it is held and a little longer.
    ///
    /// # Errors
    /// `UNAVAILABLE` when this gateway follows as many as it may.
    pub(super) fn hold(&self, id: Uuid) -> Result<Hold, Refusal> {
        let mut rooms = self.rooms();
        if let Some(room) = rooms.get(&id) {
            return Ok(Hold::new(room));
        }
        if rooms.len() >= self.rooms_max {
            return Err(Refusal::new(Reason::Unavailable, "This gateway follows as many rooms as it may; try again"));
        }
        let room = Arc::new(Room::new(id, self.bounds, &self.generations));
        let hold = Hold::new(&room);
        rooms.insert(id, room);
        meter::rooms(rooms.len());
        drop(rooms);
        self.mark(id);
        Ok(hold)
    }

    fn get(&self, id: Uuid) -> Option<Arc<Room>> {
        self.rooms().get(&id).cloned()
    }

    fn all(&self) -> Vec<Arc<Room>> {
        self.rooms().values().cloned().collect()
    }

    /// The room has ended; the next join makes it anew.
    fn forget(&self, room: &Arc<Room>) {
        let mut rooms = self.rooms();
        if rooms.get(&room.id).is_some_and(|there| Arc::ptr_eq(there, room)) {
            rooms.remove(&room.id);
            meter::rooms(rooms.len());
        }
        drop(rooms);
        self.mark(room.id);
    }

    /// Forgets the rooms that nobody has wanted for a while.
    fn sweep(&self) {
        let mut rooms = self.rooms();
        // A join takes its hold under the map's lock, so a room cannot become wanted between the look and the removal.
        let idle: Vec<_> = rooms.values().filter(|room| room.idle(self.linger)).map(|room| room.id).collect();
        for id in &idle {
            rooms.remove(id);
        }
        if rooms.capacity() > 4 * rooms.len() + 64 {
            rooms.shrink_to_fit();
        }
        meter::rooms(rooms.len());
        drop(rooms);
        idle.into_iter().for_each(|id| self.mark(id));
    }

    /// The room's subscription has to be looked at.
    fn mark(&self, id: Uuid) {
        let mut dirty = self.dirty();
        if dirty.known.insert(id) {
            dirty.queue.push_back(id);
        }
        drop(dirty);
        self.wake.notify_one();
    }

    fn next_dirty(&self) -> Option<Uuid> {
        let mut dirty = self.dirty();
        let id = dirty.queue.pop_front()?;
        dirty.known.remove(&id);
        Some(id)
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Room>>> {
        // Nothing that could panic half-way runs under this lock.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        // Nothing that could panic half-way runs under this lock.
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A room that is followed for as long as this lives.
pub(super) struct Hold(Arc<Room>);

impl Hold {
    fn new(room: &Arc<Room>) -> Self {
        room.hold();
        Self(Arc::clone(room))
    }
}

impl Deref for Hold {
    type Target = Arc<Room>;

    fn deref(&self) -> &Arc<Room> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release();
    }
}
