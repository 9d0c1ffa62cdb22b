//! One socket: who it belongs to, how to reach it, the events that wait for their turn, and the rooms that it follows.
//! Memory counts here, so an idle one has no task and no allocation of its queues. Who may connect is `connect.rs`; what
//! the events do is `events.rs`.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use mesh::{identity::UserCaller, time::Millis};
use uuid::Uuid;

use super::{
    feed::Room,
    meter::{self, Closed},
    packet::{self, Frame, Text},
};

/// Why a packet could not be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// Too many wait to be written already.
    Full,
    /// The connection has ended.
    Gone,
}

/// The way to one client, whatever the transport. Nothing here waits.
pub(super) trait Link: Send + Sync {
    /// Queues packets that follow one another, all of them or none.
    ///
    /// # Errors
    /// When they are not queued.
    fn send_all(&self, frames: &[Frame]) -> Result<(), Unsent>;
    /// Queues a packet.
    ///
    /// # Errors
    /// When it is not queued.
    fn send(&self, frame: Frame) -> Result<(), Unsent> {
        self.send_all(&[frame])
    }
    /// Ends the connection at once; what is queued is dropped.
    fn kill(&self);
    /// Ends the connection once what is queued has been written, within a second.
    fn finish(&self);
}

/// What waits for its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The rooms that came with the token, each with its cursor.
    Resume(Vec<(String, Option<String>)>),
    /// A packet that is an event.
    Event(Text),
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Resume(_) => 0,
            Self::Event(packet) => packet.len(),
        }
    }
}

/// Whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    One(Work),
    /// Packets of events that are handled together, in their order.
    Together(Vec<Text>),
}

#[derive(Default)]
struct Inbox {
    queue: VecDeque<Work>,
    bytes: usize,
    /// Whether a task is working the queue off.
    running: bool,
}

/// The rooms that a socket follows, and where its user types.
#[derive(Default)]
struct Places {
    rooms: HashMap<Uuid, Arc<Room>>,
    typing: HashMap<Uuid, Instant>,
}

/// What a socket leaves behind.
pub(super) struct Left {
    /// The rooms that it followed.
    pub(super) rooms: Vec<Arc<Room>>,
    /// The rooms in which its user was typing.
    pub(super) typing: Vec<Uuid>,
}

/// One connected socket.
pub(super) struct Session {
    /// No other socket of this process has it.
    pub(super) id: u64,
    /// The id that the client knows.
    pub(super) socket_id: Box<str>,
    pub(super) caller: UserCaller,
    /// The session that it lives with.
    pub(super) session_id: Uuid,
    pub(super) address: IpAddr,
    /// When its session ends by age, in Unix milliseconds, as far as is known here.
    ends_at: AtomicI64,
    link: Arc<dyn Link>,
    closed: AtomicBool,
    inbox: Mutex<Inbox>,
    places: Mutex<Places>,
}

/// Bytes of events that are handled together: an eighth of what a gRPC message may have, because what is short as JSON
/// can be longer on its way.
const TOGETHER_BYTES_MAX: usize = 512 * 1024;

/// A typing that has not been said again for so long has ended by itself.
const TYPING: Duration = Duration::from_secs(5);

impl Session {
    pub(super) fn new(
        id: u64,
        socket_id: &str,
        caller: UserCaller,
        session_id: Uuid,
        address: IpAddr,
        link: Arc<dyn Link>,
    ) -> Self {
        Self {
            id,
            socket_id: socket_id.into(),
            caller,
            session_id,
            address,
            ends_at: AtomicI64::new(i64::MAX),
            link,
            closed: AtomicBool::new(false),
            inbox: Mutex::default(),
            places: Mutex::default(),
        }
    }

    /// When its session ends by age, unless it is used before.
    pub(super) fn ends_at(&self) -> Millis {
        Millis(self.ends_at.load(Ordering::Relaxed))
    }

    pub(super) fn set_ends_at(&self, at: Millis) {
        self.ends_at.store(at.0, Ordering::Relaxed);
    }

    pub(super) fn user_id(&self) -> Uuid {
        self.caller.user_id
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Queues a packet; a socket that has no place for it is closed at once, never left with a hole.
    ///
    /// # Errors
    /// When it is not queued: the socket is gone.
    pub(super) fn send(&self, frame: Frame) -> Result<(), Unsent> {
        self.send_all(&[frame])
    }

    /// Queues packets that follow one another, in one turn; see [`Session::send`].
    ///
    /// # Errors
    /// When they are not queued: the socket is gone.
    pub(super) fn send_all(&self, frames: &[Frame]) -> Result<(), Unsent> {
        if self.is_closed() {
            return Err(Unsent::Gone);
        }
        let sent = self.link.send_all(frames);
        if sent == Err(Unsent::Full) {
            self.kill(Closed::Slow);
        }
        sent
    }

    /// Queues a packet for a socket that may be gone: its end is dealt with where it was noticed.
    pub(super) fn tell(&self, frame: Frame) {
        if let Err(unsent) = self.send(frame) {
            tracing::trace!(socket.id = self.id, ?unsent, "A packet found no socket");
        }
    }

    /// Queues an event; see [`Session::tell`].
    pub(super) fn emit(&self, event: &str, data: &str) {
        self.tell(packet::event(event, data));
    }

    /// Ends the socket at once.
    pub(super) fn kill(&self, why: Closed) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            meter::closed(why);
        }
        self.link.kill();
    }

    /// Ends the socket after a last word.
    pub(super) fn finish(&self, why: Closed, last: &[Frame]) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        meter::closed(why);
        if last.iter().all(|frame| self.link.send(frame.clone()).is_ok()) {
            self.link.finish();
        } else {
            self.link.kill();
        }
    }

    /// The connection has ended, from whichever side: takes what has to be cleaned up.
    pub(super) fn leave(&self, why: Closed) -> Left {
        if !self.closed.swap(true, Ordering::AcqRel) {
            meter::closed(why);
        }
        {
            let mut inbox = self.inbox();
            inbox.queue = VecDeque::new();
            inbox.bytes = 0;
        }
        let Places { rooms, typing } = std::mem::take(&mut *self.places());
        let typing = typing.into_iter().filter(|(_, since)| since.elapsed() < TYPING).map(|(room, _)| room).collect();
        Left { rooms: rooms.into_values().collect(), typing }
    }

    /// Puts work at the end of the queue. True when a task has to be started for it.
    ///
    /// # Errors
    /// The work, when the queue is full.
    pub(super) fn push(&self, work: Work, items_max: usize, bytes_max: usize) -> Result<bool, Work> {
        let mut inbox = self.inbox();
        if self.is_closed() {
            return Ok(false);
        }
        let bytes = inbox.bytes + work.bytes();
        if inbox.queue.len() >= items_max || bytes > bytes_max {
            return Err(work);
        }
        inbox.bytes = bytes;
        inbox.queue.push_back(work);
        Ok(!std::mem::replace(&mut inbox.running, true))
    }

    /// The next work for the one task that works the queue off; with none left the task has ended. Events that `together`
    /// takes come with those that wait right behind them, up to the limit.
    pub(super) fn next(&self, together: impl Fn(&str) -> bool, events_max: usize) -> Option<Turn> {
        let mut inbox = self.inbox();
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < events_max
            && let Some(Work::Event(packet)) = inbox.queue.front()
            && (events.is_empty() || bytes + packet.len() <= TOGETHER_BYTES_MAX)
            && together(packet)
        {
            bytes += packet.len();
            inbox.bytes -= packet.len();
            if let Some(Work::Event(packet)) = inbox.queue.pop_front() {
                events.push(packet);
            }
        }
        if !events.is_empty() {
            return Some(Turn::Together(events));
        }
        let work = inbox.queue.pop_front();
        match &work {
            Some(work) => inbox.bytes -= work.bytes(),
            // An idle socket keeps no queue.
            None => *inbox = Inbox::default(),
        }
        work.map(Turn::One)
    }

    /// The socket follows a room from here on. Called under the room's lock.
    ///
    /// # Errors
    /// When the socket is closed, or follows too many.
    pub(super) fn enter(&self, room: &Arc<Room>) -> Result<(), Unsent> {
        let mut places = self.places();
        // Looked at under the lock that `leave` takes after closing: either it finds this room, or this is seen here.
        if self.is_closed() {
            return Err(Unsent::Gone);
        }
        places.rooms.insert(room.id, Arc::clone(room));
        Ok(())
    }

    /// The socket follows a room no more. Called under the room's lock.
    pub(super) fn exit(&self, room: Uuid) {
        self.places().rooms.remove(&room);
    }

    /// The room, when the socket follows it.
    pub(super) fn room(&self, room: Uuid) -> Option<Arc<Room>> {
        self.places().rooms.get(&room).cloned()
    }

    pub(super) fn rooms_len(&self) -> usize {
        self.places().rooms.len()
    }

    /// Notes that the user types in a room on this socket, or has stopped. True when they did until now.
    pub(super) fn note_typing(&self, room: Uuid, typing: bool, rooms_max: usize) -> bool {
        let mut places = self.places();
        if !typing {
            return places.typing.remove(&room).is_some_and(|since| since.elapsed() < TYPING);
        }
        if places.typing.len() >= rooms_max {
            places.typing.retain(|_, since| since.elapsed() < TYPING);
        }
        if places.typing.len() < rooms_max && !self.is_closed() {
            places.typing.insert(room, Instant::now());
        }
        true
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing that could panic half-way runs under this lock.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Nothing that could panic half-way runs under this lock.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::fake::{FakeLink, session};

    fn event(text: &'static str) -> Work {
        Work::Event(text.into())
    }

    /// One after the other.
    fn next(session: &Session) -> Option<Work> {
        session.next(|_| false, 8).map(|turn| match turn {
            Turn::One(work) => work,
            Turn::Together(_) => unreachable!("nothing is taken together"),
        })
    }

    #[test]
    fn work_comes_out_in_order_and_one_task_does_it() {
        let (session, _link) = session(FakeLink::new(8));
        assert_eq!(session.push(event("a"), 3, 100), Ok(true));
        assert_eq!(session.push(event("b"), 3, 100), Ok(false));
        assert_eq!(next(&session), Some(event("a")));
        assert_eq!(session.push(event("c"), 3, 100), Ok(false), "the task is still at it");
        assert_eq!((next(&session), next(&session), next(&session)), (Some(event("b")), Some(event("c")), None));
        assert_eq!(session.push(event("d"), 3, 100), Ok(true), "the task had ended");
    }

    #[test]
    fn what_belongs_together_comes_together_up_to_the_limit_and_overtakes_nothing() {
        let (session, _link) = session(FakeLink::new(8));
        for text in ["s1", "s2", "s3", "other", "s4"] {
            session.push(event(text), 8, 100).expect("room for it");
        }
        let next = || session.next(|packet| packet.starts_with('s'), 2);
        let together = |texts: &[&'static str]| Some(Turn::Together(texts.iter().map(|text| (*text).into()).collect()));
        assert_eq!((next(), next()), (together(&["s1", "s2"]), together(&["s3"])));
        assert_eq!((next(), next()), (Some(Turn::One(event("other"))), together(&["s4"])));
        assert_eq!(next(), None);
        assert_eq!(session.push(event("later"), 8, 5), Ok(true), "all bytes are given back");
    }

    #[test]
    fn the_queue_is_bounded_in_events_and_in_bytes() {
        let (session, _link) = session(FakeLink::new(8));
        session.push(event("aaaa"), 2, 10).expect("room for it");
        assert_eq!(session.push(event("aaaaaaa"), 2, 10), Err(event("aaaaaaa")));
        session.push(event("aaaaaa"), 2, 10).expect("exactly full");
        assert_eq!(session.push(event(""), 2, 10), Err(event("")));
        next(&session);
        session.push(event("aaaa"), 2, 10).expect("bytes are given back");
    }

    #[test]
    fn a_packet_too_many_ends_the_socket_at_once() {
        let (session, link) = session(FakeLink::new(1));
        assert_eq!(session.send("a".into()), Ok(()));
        assert_eq!(session.send("b".into()), Err(Unsent::Full));
        assert!(link.is_killed() && session.is_closed());
        assert_eq!(link.take(), ["a"]);
        assert_eq!(session.send("c".into()), Err(Unsent::Gone), "what follows a lost packet must not be sent");
        assert!(link.take().is_empty());
    }

    #[test]
    fn a_closed_socket_takes_no_work_and_enters_nothing() {
        let (session, _link) = session(FakeLink::new(8));
        session.note_typing(Uuid::from_u128(1), true, 10);
        assert_eq!(session.leave(Closed::Client).typing, [Uuid::from_u128(1)]);
        assert_eq!(session.push(Work::Event("a".into()), 3, 100), Ok(false));
        assert_eq!(next(&session), None);
        session.note_typing(Uuid::from_u128(1), true, 10);
        assert!(session.leave(Closed::Client).typing.is_empty());
    }
}
