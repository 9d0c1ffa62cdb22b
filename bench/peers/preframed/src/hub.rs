//! The rooms and who is in them, and the pings that keep clients connected.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use peer::{Message, Send};

use crate::{frame, outbox::Outbox, packet};

/// Socket.IO's default.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(25);

/// Sockets are pinged in as many groups, one after the other, so that thousands of writes never come at once.
const PING_GROUPS: usize = 250;

type Sockets = HashMap<u64, Arc<Outbox>>;

/// All rooms and sockets of the process.
#[derive(Debug)]
pub(crate) struct Hub {
    rooms: Mutex<HashMap<String, Arc<Room>>>,
    sockets: Vec<Mutex<Sockets>>,
    last_id: AtomicU64,
}

/// A room: under its lock a message gets its number and its place in every queue, so all see one order.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<RoomState>);

#[derive(Debug, Default)]
struct RoomState {
    last_seq: u64,
    members: Sockets,
}

impl Default for Hub {
    fn default() -> Self {
        let sockets = (0..PING_GROUPS).map(|_| Mutex::default()).collect();
        Self { rooms: Mutex::default(), sockets, last_id: AtomicU64::default() }
    }
}

impl Hub {
    /// Takes a socket in and gives it its number.
    pub(crate) fn enter(&self, outbox: &Arc<Outbox>) -> u64 {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        lock(self.group(id)).insert(id, Arc::clone(outbox));
        id
    }

    /// Forgets a socket.
    pub(crate) fn leave(&self, id: u64) {
        lock(self.group(id)).remove(&id);
    }

    /// The room of that name.
    pub(crate) fn room(&self, name: String) -> Arc<Room> {
        Arc::clone(lock(&self.rooms).entry(name).or_default())
    }

    fn group(&self, id: u64) -> &Mutex<Sockets> {
        let groups = PING_GROUPS as u64;
        &self.sockets[usize::try_from(id % groups).expect("a number below the number of groups")]
    }

    /// Pings every socket once in each interval.
    pub(crate) async fn ping(&self) {
        let ping = frame::text(packet::PING.to_owned());
        let mut turns = tokio::time::interval(PING_INTERVAL / u32::try_from(PING_GROUPS).expect("a small number"));
        loop {
            for group in &self.sockets {
                turns.tick().await;
                for outbox in lock(group).values() {
                    outbox.push(ping.clone());
                }
            }
        }
    }
}

impl Room {
    /// Lets a socket in, and says the number of the last message before.
    pub(crate) fn join(&self, id: u64, outbox: &Arc<Outbox>) -> u64 {
        let mut room = lock(&self.0);
        room.members.insert(id, Arc::clone(outbox));
        room.last_seq
    }

    /// Lets a socket go.
    pub(crate) fn leave(&self, id: u64) {
        lock(&self.0).members.remove(&id);
    }

    /// Numbers a message, encodes and frames it once, and queues it for every member.
    pub(crate) fn broadcast(&self, send: Send, user: &str) -> String {
        let mut room = lock(&self.0);
        room.last_seq += 1;
        let message = Message::new(send, room.last_seq, user);
        let json = serde_json::to_string(&message).expect("messages are JSON");
        let frame = frame::text(packet::event("new_message", &json));
        for outbox in room.members.values() {
            outbox.push(frame.clone());
        }
        json
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics with the lock")
}
