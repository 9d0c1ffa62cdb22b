//! The rooms that this gateway follows: one subscription a room however many sockets are in it, at the message-svc replica
//! that the room belongs to. A room is followed from its first join until a little after its last socket has left.
//! `feed/ring.rs` keeps a link to each replica, `feed/link.rs` says what a link should follow, `feed/stream.rs` is the
//! stream of one link, `feed/room.rs` is one room, `feed/entry.rs` what its sockets get.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use mesh::{
    client::Clients,
    error::{Reason, Refusal},
    identity::Identity,
};
use uuid::Uuid;

mod entry;
mod link;
mod recent;
mod ring;
mod room;
mod stream;
#[cfg(test)]
mod tests;

pub(super) use entry::{Encoded, Position};
use link::Link;
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
    /// One for each replica of message-svc that is known, or that still has rooms to give away.
    links: Mutex<Vec<Arc<Link>>>,
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
            links: Mutex::default(),
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

    /// The room's subscription has to be looked at, at every replica: it may have to begin at one and end at another.
    fn mark(&self, id: Uuid) {
        self.links().iter().for_each(|link| link.mark(id));
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Room>>> {
        // Nothing that could panic half-way runs under this lock.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        // Nothing that could panic half-way runs under this lock.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
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
