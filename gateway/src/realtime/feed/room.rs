//! One room as this gateway follows it: where the feed stands, the last entries, and the sockets that get the next one.
//! Everything that must happen in one turn happens under its one lock, and nothing waits there. How the feed comes in is
//! `stream.rs`; how a socket gets here is `realtime/join.rs`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mesh::{
    error::{Reason, Refusal},
    proto::message::v1 as pb,
    telemetry::{self, Origin},
};
use serde::Serialize;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tracing::Span;
use uuid::Uuid;

use super::{
    entry::{Encoded, Position},
    recent::{Bounds, Recent},
};
use crate::realtime::{
    meter::{self, Closed},
    packet::{self, Frame},
    session::Session,
};

/// Which link a feed comes by. No two of one gateway ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkId(pub(super) u64);

/// Whether entries come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not yet, or not at the moment.
    Waiting,
    /// Yes, by this link. Another one may repeat what it says, while the room moves from one to the other.
    Live(LinkId),
    /// Never again.
    Ended(Reason),
}

/// A socket that is live in the room.
#[derive(Debug)]
pub(in crate::realtime) struct Watcher {
    session: Arc<Session>,
    /// The entry that it gets next.
    next: i64,
    /// Its user was a member as of this entry, so an older entry that removes them is history.
    member_as_of: i64,
}

/// What a socket is let in with.
pub(in crate::realtime) struct Offer<'a> {
    /// What the ack holds ends here.
    pub(in crate::realtime) from: &'a Position,
    /// The user was a member as of this entry.
    pub(in crate::realtime) member_as_of: i64,
    /// At most so many entries are added to what the ack holds, or sent after it.
    pub(in crate::realtime) bridge_max: usize,
    /// Whether the entries between `from` and the feed become part of the ack, or follow it as live events.
    pub(in crate::realtime) merge: bool,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::realtime) enum Admitted {
    /// The ack is queued and the socket is live.
    Live,
    /// The feed is too far ahead: read the log again, from `from` on.
    Behind,
    /// The socket has ended.
    Gone,
}

/// What the feed has to do after the room has heard something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// The feed comes by another link than before; that one is to be told.
    Moved,
    /// Subscribe again, after a while.
    Again(Duration),
    /// Forget the room.
    Ended,
}

struct State {
    standing: Standing,
    /// Which subscription is wanted; what an earlier one still sends is sorted out by its `seq`.
    generation: u64,
    position: Option<Position>,
    recent: Recent,
    watchers: HashMap<u64, Watcher>,
    /// Joins in progress, which keep the room from being forgotten.
    holds: usize,
    idle_since: Instant,
    /// Subscriptions in a row that led nowhere, and when the last of them did.
    failures: u32,
    failed_at: Instant,
    retry_at: Option<Instant>,
}

/// A room that is followed.
pub(in crate::realtime) struct Room {
    pub(in crate::realtime) id: Uuid,
    /// The id as clients have it.
    pub(in crate::realtime) name: Box<str>,
    bounds: Bounds,
    generations: Arc<AtomicU64>,
    state: Mutex<State>,
    /// The feed has moved, in whichever way.
    moved: Notify,
}

/// Subscriptions in a row that led to a hole before the room is taken for unfollowable from where it stood.
const HOLES_MAX: u32 = 4;

/// A failure so long ago says nothing about the next one.
const FAILURE_FORGOTTEN: Duration = Duration::from_secs(60);

impl Room {
    pub(super) fn new(id: Uuid, bounds: Bounds, generations: &Arc<AtomicU64>) -> Self {
        let state = State {
            standing: Standing::Waiting,
            generation: generations.fetch_add(1, Ordering::Relaxed),
            position: None,
            recent: Recent::default(),
            watchers: HashMap::new(),
            holds: 0,
            idle_since: Instant::now(),
            failures: 0,
            failed_at: Instant::now(),
            retry_at: None,
        };
        let name = id.to_string().into();
        Self { id, name, bounds, generations: Arc::clone(generations), state: Mutex::new(state), moved: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Sockets are told one by one; a panic in between leaves each either told or at its old place.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what the feed says -------------------------------------------------------------------------------------

    /// The subscription that is wanted of a link now: its number, and the cursor to go on from; empty for the newest
    /// position. The link that `owns` the room should carry it, and the one that does carry it goes on until then.
    pub(super) fn wanted(&self, link: LinkId, owns: bool) -> Option<(u64, String)> {
        let state = self.state();
        let later = state.retry_at.is_some_and(|at| at > Instant::now());
        let wanted = match state.standing {
            Standing::Ended(_) => false,
            Standing::Live(at) => owns || at == link,
            Standing::Waiting => owns && !later,
        };
        let cursor = || state.position.as_ref().map(|at| at.cursor.to_string()).unwrap_or_default();
        wanted.then(|| (state.generation, cursor()))
    }

    /// Whether the feed comes by this link.
    pub(super) fn is_live_at(&self, link: LinkId) -> bool {
        self.state().standing == Standing::Live(link)
    }

    /// The stream of a link is gone.
    pub(super) fn cut(&self, link: LinkId) {
        let mut state = self.state();
        match state.standing {
            Standing::Live(at) if at == link => state.standing = Standing::Waiting,
            Standing::Waiting => {}
            Standing::Live(_) | Standing::Ended(_) => return,
        }
        state.generation = self.generations.fetch_add(1, Ordering::Relaxed);
        state.retry_at = None;
    }

    /// The feed begins after this position, by this link.
    pub(super) fn subscribed(&self, link: LinkId, position: Position) -> Verdict {
        let mut state = self.state();
        if matches!(state.standing, Standing::Ended(_)) {
            return Verdict::Fine;
        }
        match &state.position {
            // Further ahead than asked for: whatever is between would be missing.
            Some(at) if position.seq > at.seq && !state.watchers.is_empty() => {
                if state.failures < HOLES_MAX {
                    return self.again(&mut state, "hole");
                }
                Self::give_up(&mut state, &self.name);
                state.position = Some(position);
            }
            // Where it stood, or before: what is repeated is passed over.
            Some(at) if position.seq <= at.seq => {}
            Some(_) | None => {
                state.recent.clear();
                state.position = Some(position);
            }
        }
        let before = std::mem::replace(&mut state.standing, Standing::Live(link));
        drop(state);
        self.moved.notify_waiters();
        match before {
            Standing::Live(at) if at != link => Verdict::Moved,
            Standing::Live(_) | Standing::Waiting | Standing::Ended(_) => Verdict::Fine,
        }
    }

    /// The next entries, or some that are not. Each socket gets all of them in one turn.
    pub(super) fn entries(&self, link: LinkId, entries: Vec<pb::watch_rooms_response::LoggedEntry>) -> Verdict {
        let mut state = self.state();
        let (Standing::Live(by), Some(at)) = (state.standing, &state.position) else { return Verdict::Fine };
        let (mut next, mut hole, mut fresh) = (at.seq + 1, false, Vec::with_capacity(entries.len()));
        let mut spans = Vec::new();
        for logged in entries {
            let Some(entry) = logged.entry.filter(|entry| entry.seq >= next) else { continue };
            if entry.seq > next {
                hole = true;
                break;
            }
            next += 1;
            spans.extend(Origin::parse(&logged.traceparent).map(|origin| delivery(&origin, state.watchers.len())));
            fresh.push(Encoded::new(&self.name, entry, logged.cursor));
            if fresh.last().is_some_and(|entry| entry.closes) {
                break;
            }
        }
        let closes = fresh.last().is_some_and(|entry| entry.closes);
        if let Some(last) = fresh.last() {
            state.failures = 0;
            state.position = Some(last.position.clone());
            state.deliver_all(self.id, &fresh);
            drop(spans);
            fresh.into_iter().for_each(|entry| state.recent.push(entry, self.bounds));
        }
        if closes {
            state.end(self.id, Reason::RoomNotFound);
        }
        // A link that is being left may be behind its own past; only the one that carries the feed is judged.
        let verdict = if hole && by == link { self.again(&mut state, "hole") } else { Verdict::Fine };
        drop(state);
        self.moved.notify_waiters();
        if closes { Verdict::Ended } else { verdict }
    }

    /// The feed has ended, for this reason.
    pub(super) fn dropped(&self, reason: Reason) -> Verdict {
        let mut state = self.state();
        let for_good = [Reason::RoomNotFound, Reason::Forbidden, Reason::ValidationFailed].contains(&reason);
        let verdict = if reason == Reason::CursorLost {
            Self::give_up(&mut state, &self.name);
            state.position = None;
            self.again(&mut state, "dropped")
        } else if for_good {
            // A closed room says so by an entry; who is still here has not got it.
            Self::give_up(&mut state, &self.name);
            state.end(self.id, reason);
            Verdict::Ended
        } else {
            self.again(&mut state, "dropped")
        };
        drop(state);
        self.moved.notify_waiters();
        verdict
    }

    fn again(&self, state: &mut State, why: &'static str) -> Verdict {
        meter::resubscribed(why);
        if state.failed_at.elapsed() > FAILURE_FORGOTTEN {
            state.failures = 0;
        }
        state.failed_at = Instant::now();
        // The first time at once; then slower and slower, so that a store in trouble is not asked in a circle.
        let wait = Duration::from_millis(50 << state.failures.min(7)).saturating_sub(Duration::from_millis(50));
        state.failures += 1;
        state.standing = Standing::Waiting;
        state.generation = self.generations.fetch_add(1, Ordering::Relaxed);
        state.retry_at = (!wait.is_zero()).then(|| Instant::now() + wait);
        Verdict::Again(wait)
    }

    /// Nothing proves that these sockets have missed nothing: they are closed, come back with their cursors, and are
    /// told the truth then.
    fn give_up(state: &mut State, name: &str) {
        if !state.watchers.is_empty() {
            let sockets = state.watchers.len();
            tracing::warn!(
                room.id = name,
                sockets,
                "A room's log cannot be followed from where it stood; closing its sockets"
            );
        }
        for watcher in std::mem::take(&mut state.watchers).into_values() {
            watcher.session.kill(Closed::Gap);
        }
        state.recent.clear();
        state.idle_since = Instant::now();
    }

    /// Somebody types, or has stopped.
    pub(super) fn typing(&self, typing: &pb::watch_rooms_response::Typing) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Payload<'a> {
            room_id: &'a str,
            user_id: &'a str,
            username: &'a str,
        }
        let (room_id, user_id, username) = (&*self.name, typing.user_id.as_str(), typing.username.as_str());
        let data = serde_json::to_string(&Payload { room_id, user_id, username }).unwrap_or_default();
        let frame = packet::event(if typing.typing { "typing_start" } else { "typing_stop" }, &data);
        let user = Uuid::try_parse(user_id).ok();
        for watcher in self.state().watchers.values() {
            if Some(watcher.session.user_id()) != user {
                // Who has no place for it is closed by this; its own end takes it out of the room.
                watcher.session.tell(frame.clone());
            }
        }
    }

    // ---- what joins ask -----------------------------------------------------------------------------------------

    /// Waits until the feed is live and stands at `seq` or later.
    ///
    /// # Errors
    /// When the room has ended.
    pub(in crate::realtime) async fn live(&self, seq: i64) -> Result<Position, Refusal> {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let state = self.state();
                match (state.standing, &state.position) {
                    (Standing::Ended(reason), _) => return Err(refusal(reason)),
                    (Standing::Live(_), Some(at)) if at.seq >= seq => return Ok(at.clone()),
                    _ => {}
                }
            }
            moved.await;
        }
    }

    /// Lets a socket in: bridges from what its ack holds to the feed, queues the ack, and adds the socket, in one turn.
    /// `ack` makes the answer from the entries that become part of it and the position from which the socket is live;
    /// it makes none for a client that asked for none.
    ///
    /// # Errors
    /// When the room has ended, or the user is not in it any more.
    pub(in crate::realtime) fn admit(
        self: &Arc<Self>,
        session: &Arc<Session>,
        offer: &Offer<'_>,
        ack: impl FnOnce(&[&Encoded], &Position) -> Option<Frame>,
    ) -> Result<Admitted, Refusal> {
        let mut state = self.state();
        let at = match (state.standing, &state.position) {
            (Standing::Ended(reason), _) => return Err(refusal(reason)),
            (_, Some(at)) => at.seq,
            (_, None) => return Err(Refusal::unavailable("message-svc")),
        };
        let bridge = if offer.from.seq >= at { Some(Vec::new()) } else { state.recent.after(offer.from.seq) };
        let Some(bridge) = bridge.filter(|bridge| bridge.len() <= offer.bridge_max) else {
            return Ok(Admitted::Behind);
        };
        let later = bridge.iter().filter(|entry| entry.position.seq > offer.member_as_of);
        if later.filter_map(|entry| entry.membership(session.user_id())).next_back() == Some(false) {
            return Err(Refusal::new(Reason::NotAMember, "You are not in this room any more"));
        }
        let (merged, followed) = if offer.merge { (&*bridge, &[][..]) } else { (&[][..], &*bridge) };
        let end = merged.last().map_or(offer.from, |entry| &entry.position);
        let first = ack(merged, end);
        let frames = first.into_iter().chain(followed.iter().map(|entry| entry.frame.clone()));
        if session.enter(self).is_err() {
            return Ok(Admitted::Gone);
        }
        if !frames.map(|frame| session.send(frame)).all(|sent| sent.is_ok()) {
            session.exit(self.id);
            return Ok(Admitted::Gone);
        }
        let next = offer.from.seq.max(at) + 1;
        let watcher = Watcher { session: Arc::clone(session), next, member_as_of: offer.member_as_of };
        state.watchers.insert(session.id, watcher);
        Ok(Admitted::Live)
    }

    /// Takes a socket out for as long as it joins anew, so that nothing comes before the ack.
    pub(in crate::realtime) fn suspend(&self, session: &Session) -> Option<Watcher> {
        let mut state = self.state();
        let watcher = state.watchers.remove(&session.id)?;
        session.exit(self.id);
        state.idle_since = Instant::now();
        Some(watcher)
    }

    /// Puts a socket back whose joining anew was refused: it gets what came meanwhile, or is closed if that cannot be
    /// told any more.
    pub(in crate::realtime) fn restore(self: &Arc<Self>, mut watcher: Watcher) {
        let mut state = self.state();
        let session = Arc::clone(&watcher.session);
        if session.enter(self).is_err() {
            return;
        }
        let at = state.position.as_ref().map_or(0, |at| at.seq);
        let missed: Option<Vec<_>> = match watcher.next > at {
            true => Some(Vec::new()),
            false => state.recent.after(watcher.next - 1).map(|entries| entries.into_iter().cloned().collect()),
        };
        let ended = matches!(state.standing, Standing::Ended(_));
        let Some(missed) = missed else {
            session.exit(self.id);
            if !ended {
                session.kill(Closed::Gap);
            }
            return;
        };
        for entry in missed {
            if session.send(entry.frame.clone()).is_err() {
                session.exit(self.id);
                return;
            }
            watcher.next = entry.position.seq + 1;
            if entry.position.seq > watcher.member_as_of && entry.membership(session.user_id()) == Some(false) {
                session.exit(self.id);
                return;
            }
        }
        if ended {
            session.exit(self.id);
        } else {
            state.watchers.insert(session.id, watcher);
        }
    }

    /// Takes a socket out.
    pub(in crate::realtime) fn remove(&self, session: &Session) {
        drop(self.suspend(session));
    }

    /// A join begins.
    pub(super) fn hold(&self) {
        self.state().holds += 1;
    }

    /// A join has ended.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.holds -= 1;
        state.idle_since = Instant::now();
    }

    /// Whether nobody has wanted the room for this long. Old entries are forgotten on the way.
    pub(super) fn idle(&self, linger: Duration) -> bool {
        let mut state = self.state();
        state.recent.prune(self.bounds);
        state.holds == 0 && state.watchers.is_empty() && state.idle_since.elapsed() >= linger
    }
}

impl State {
    /// Queues entries, which follow one another, for every socket. Whoever leaves by one of them gets none after it.
    fn deliver_all(&mut self, room: Uuid, entries: &[Encoded]) {
        let parts =
            entries.split_inclusive(|entry| entry.change.as_deref().is_some_and(|change| !change.gone.is_empty()));
        let mut delivered = 0;
        for part in parts {
            delivered += self.deliver(part);
            part.iter().for_each(|entry| self.drop_gone(room, entry));
        }
        meter::delivered(delivered);
    }

    /// Queues entries for every socket that has not had them; how many packets that were.
    fn deliver(&mut self, entries: &[Encoded]) -> u64 {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return 0 };
        let (first, after) = (first.position.seq, last.position.seq + 1);
        let frames: SmallVec<[Frame; 8]> = entries.iter().map(|entry| entry.frame.clone()).collect();
        let mut delivered = 0;
        self.watchers.retain(|_, watcher| {
            // Its ack held those before already.
            let held = usize::try_from(watcher.next - first).unwrap_or(0).min(frames.len());
            let frames = &frames[held..];
            if frames.is_empty() {
                return true;
            }
            watcher.next = watcher.next.max(after);
            let sent = watcher.session.send_all(frames).is_ok();
            delivered += if sent { frames.len() as u64 } else { 0 };
            // A socket that could not take them is closed by this, and its own end forgets the room.
            sent
        });
        delivered
    }

    /// Takes out the sockets of those who left or were removed by the entry, which they have just got.
    fn drop_gone(&mut self, room: Uuid, entry: &Encoded) {
        let Some(change) = entry.change.as_deref().filter(|change| !change.gone.is_empty()) else { return };
        let seq = entry.position.seq;
        self.watchers.retain(|_, watcher| {
            let stays = seq <= watcher.member_as_of || !change.gone.contains(&watcher.session.user_id());
            if !stays {
                watcher.session.exit(room);
            }
            stays
        });
    }

    fn end(&mut self, room: Uuid, reason: Reason) {
        self.standing = Standing::Ended(reason);
        for watcher in std::mem::take(&mut self.watchers).into_values() {
            watcher.session.exit(room);
        }
    }
}

/// The span of the delivery of one message, which goes on with the trace of its send.
fn delivery(origin: &Origin, sockets: usize) -> Span {
    let sockets = telemetry::number(sockets);
    telemetry::continued([origin], || {
        tracing::info_span!("deliver", otel.kind = "producer", messaging.system = "socket.io",
            messaging.operation.name = "deliver", messaging.operation.type = "send", switchboard.sockets = sockets)
    })
}

/// Why a room that has ended lets nobody in.
fn refusal(reason: Reason) -> Refusal {
    if reason == Reason::RoomNotFound {
        Refusal::new(reason, "Room not found")
    } else {
        Refusal::unavailable("message-svc")
    }
}
