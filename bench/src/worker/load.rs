//! When a worker's clients send: closed loops over acknowledgements or deliveries, or an open loop whose schedule does
//! not wait for anybody, so that a slow system cannot hide its delays (coordinated omission).

use rustix::fd::OwnedFd;

use super::{
    socket::{Shared, Socket, Stage},
    tally::{self, Span},
};
use crate::{
    clock::{self, SECOND},
    orders::{Loaded, Pace, Sent},
};

/// After the end, nothing more comes once nothing came for so long.
const QUIET: u64 = SECOND / 2;
/// After the end, what is not answered by then never will be.
const DRAIN_MAX: u64 = 20 * SECOND;

pub(super) struct Load {
    pace: Pace,
    begin: u64,
    start: u64,
    end: u64,
    begun: bool,
    senders: Vec<usize>,
    /// Whose turn it is.
    turn: usize,
    /// Messages sent in all, each as often as its room has sockets: what `delivered` will be.
    expected: u64,
    /// `delivered` when the load began.
    base: u64,
    /// Sockets of each room that are in it.
    members: Vec<u64>,
    /// Messages sent into each room.
    sent: Vec<u64>,
    /// Messages sent by the schedule.
    scheduled: u64,
    cpu: Option<u64>,
    cpu_end: Option<u64>,
}

impl Load {
    pub(super) fn new(
        pace: Pace,
        begin: u64,
        start: u64,
        end: u64,
        sockets: &mut [Socket],
        shared: &mut Shared,
    ) -> Self {
        shared.tally.begin(Span { start, end });
        let mut members = vec![0; shared.plan.rooms.len()];
        for socket in sockets.iter_mut() {
            socket.base = socket.watched.order.count;
            if socket.stage == Stage::Live && !socket.stalled {
                members[socket.room] += 1;
            }
        }
        let senders = (0..sockets.len()).filter(|index| sockets[*index].sender.is_some()).collect();
        let sent = vec![0; members.len()];
        Self {
            pace,
            begin,
            start,
            end,
            begun: false,
            senders,
            turn: 0,
            expected: 0,
            base: shared.tally.delivered,
            members,
            sent,
            scheduled: 0,
            cpu: None,
            cpu_end: None,
        }
    }

    /// Sends what is due.
    pub(super) fn go_on(
        &mut self,
        now: u64,
        sockets: &mut [Socket],
        shared: &mut Shared,
        timer: &OwnedFd,
    ) -> anyhow::Result<()> {
        if now >= self.start && self.cpu.is_none() {
            self.cpu = Some(clock::cpu());
        }
        if now >= self.end && self.cpu_end.is_none() {
            self.cpu_end = Some(clock::cpu());
        }
        if now < self.begin || now >= self.end {
            return Ok(());
        }
        let first = !std::mem::replace(&mut self.begun, true);
        match self.pace {
            Pace::Acks(in_flight) if first => {
                for place in 0..self.senders.len() {
                    let index = self.senders[place];
                    self.send(index, in_flight, now, sockets, shared);
                }
            }
            Pace::Acks(_) => {}
            Pace::Deliveries(window) => self.fill(window, sockets, shared),
            Pace::Rate(per_sec) => self.keep_schedule(per_sec, now, sockets, shared, timer)?,
        }
        Ok(())
    }

    /// Sends so many messages of one client at once.
    fn send(&mut self, index: usize, count: u32, meant: u64, sockets: &mut [Socket], shared: &mut Shared) {
        let socket = &mut sockets[index];
        if socket.stage != Stage::Live {
            return;
        }
        for _ in 0..count {
            socket.send(meant, shared);
        }
        self.expected += self.members[socket.room] * u64::from(count);
        self.sent[socket.room] += u64::from(count);
        socket.flush(shared);
    }

    /// Keeps as many messages under way as the closed loop over deliveries allows.
    fn fill(&mut self, window: u32, sockets: &mut [Socket], shared: &mut Shared) {
        for _ in 0..u32::MAX {
            let Some(&index) = self.senders.get(self.turn % self.senders.len().max(1)) else { return };
            let members = self.members[sockets[index].room];
            let under_way = self.expected.saturating_sub(shared.tally.delivered - self.base);
            if members == 0 || sockets[index].stage != Stage::Live || under_way > members * u64::from(window - 1) {
                return;
            }
            self.turn += 1;
            self.send(index, 1, clock::now(), sockets, shared);
        }
    }

    fn keep_schedule(
        &mut self,
        per_sec: f64,
        now: u64,
        sockets: &mut [Socket],
        shared: &mut Shared,
        timer: &OwnedFd,
    ) -> anyhow::Result<()> {
        loop {
            let due = clock::scheduled(self.begin, self.scheduled, per_sec);
            if due >= self.end || self.senders.is_empty() {
                return Ok(());
            }
            if due > now {
                return clock::set_timer(timer, due);
            }
            self.scheduled += 1;
            let index = self.senders[self.turn % self.senders.len()];
            self.turn += 1;
            self.send(index, 1, due, sockets, shared);
        }
    }

    /// The timer has fired: what is due is sent by [`Load::go_on`], which follows every round of the poll.
    #[expect(clippy::unused_self, reason = "only a load has a use for the timer")]
    pub(super) fn timer_fired(&mut self, timer: &OwnedFd) {
        // An unread timer would wake the poll at once and for ever; nothing to read is as good.
        rustix::io::read(timer, &mut [0; 8]).ok();
    }

    /// Some of a client's messages were answered.
    pub(super) fn answered(&mut self, index: usize, count: u32, sockets: &mut [Socket], shared: &mut Shared) {
        if let Pace::Acks(_) = self.pace {
            let now = clock::now();
            if now < self.end {
                self.send(index, count, now, sockets, shared);
            }
        }
    }

    /// The server has closed a socket: nothing more is expected of it.
    pub(super) fn closed(&mut self, socket: &Socket) {
        if socket.stalled {
            return;
        }
        let room = socket.room;
        self.members[room] = self.members[room].saturating_sub(1);
        let missing = self.sent[room].saturating_sub(socket.watched.order.count - socket.base);
        self.expected = self.expected.saturating_sub(missing);
    }

    fn all_answered(sockets: &[Socket]) -> bool {
        sockets
            .iter()
            .filter(|socket| socket.stage == Stage::Live)
            .all(|socket| socket.sender.as_ref().is_none_or(|sender| sender.is_quiet()))
    }

    pub(super) fn is_over(&self, now: u64, sockets: &[Socket], shared: &Shared) -> bool {
        if now < self.end {
            return false;
        }
        let quiet = now.saturating_sub(shared.tally.last.max(self.end)) > QUIET && Self::all_answered(sockets);
        quiet || now > self.end + DRAIN_MAX
    }

    pub(super) fn report(&self, now: u64, sockets: &[Socket], shared: &Shared) -> Loaded {
        let senders = sockets.iter().filter_map(|socket| {
            let sender = socket.sender.as_ref()?;
            let unacknowledged = sender.unacknowledged();
            Some(Sent { sender: sender.id, room: socket.room, sent: sender.next, unacknowledged })
        });
        let whole = |socket: &&Socket| socket.stage == Stage::Live && !socket.stalled;
        let watched = sockets.iter().filter(whole).map(|socket| (socket.room, socket.watched));
        let used = self.cpu.zip(self.cpu_end).map_or(0, |(from, to)| to.saturating_sub(from));
        let drained = Self::all_answered(sockets) && now <= self.end + DRAIN_MAX;
        Loaded {
            cpu: used,
            drained: drained.then(|| shared.tally.last.saturating_sub(self.end)),
            senders: senders.collect(),
            rooms: tally::seen(watched),
            ..shared.tally.report()
        }
    }
}
