//! What a worker saw: counts and times within the measured span, and the order of each socket's messages. It judges
//! nothing; `check.rs` does.

use std::collections::BTreeMap;

use crate::{
    marker::{Marker, Order},
    orders::{Loaded, Seen},
    series::Series,
};

/// The measured span, on `clock.rs`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    fn has(self, at: u64) -> bool {
        at >= self.start && at < self.end
    }
}

/// All counts of one load.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) span: Span,
    pub(super) acks: u64,
    /// Of all time: the pace is kept by them.
    pub(super) delivered: u64,
    pub(super) deliveries: u64,
    pub(super) delivery_bytes: u64,
    pub(super) ack_times: Series,
    pub(super) delivery_times: Series,
    pub(super) refused: u64,
    pub(super) first_refusal: String,
    pub(super) closed: u64,
    /// Messages that came within answers to joining.
    pub(super) missed: u64,
    /// When something last came.
    pub(super) last: u64,
}

impl Tally {
    /// Begins a new load; what the sockets saw stays with them.
    pub(super) fn begin(&mut self, span: Span) {
        self.span = span;
        (self.acks, self.deliveries, self.delivery_bytes) = (0, 0, 0);
        self.ack_times.clear();
        self.delivery_times.clear();
        (self.refused, self.closed) = (0, 0);
        self.first_refusal.clear();
    }

    pub(super) fn ack(&mut self, meant: u64, now: u64) {
        self.last = now;
        if self.span.has(now) {
            self.acks += 1;
        }
        if self.span.has(meant) {
            self.ack_times.record(now.saturating_sub(meant));
        }
    }

    pub(super) fn delivery(&mut self, marker: Marker, bytes: usize, now: u64) {
        self.last = now;
        self.delivered += 1;
        if self.span.has(now) {
            self.deliveries += 1;
            self.delivery_bytes += u64::try_from(bytes).unwrap_or(0);
        }
        if self.span.has(marker.at) {
            self.delivery_times.record(now.saturating_sub(marker.at));
        }
    }

    pub(super) fn refusal(&mut self, text: &[u8]) {
        self.refused += 1;
        if self.first_refusal.is_empty() {
            self.first_refusal = String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
        }
    }

    /// The counts as a report; senders and rooms are added by who knows them.
    pub(super) fn report(&self) -> Loaded {
        Loaded {
            acks: self.acks,
            deliveries: self.deliveries,
            delivery_bytes: self.delivery_bytes,
            ack_micros: self.ack_times.counts(),
            delivery_micros: self.delivery_times.counts(),
            refused: self.refused,
            first_refusal: self.first_refusal.clone(),
            closed: self.closed,
            ..Loaded::default()
        }
    }
}

/// What one socket saw of its room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    pub(super) order: Order,
    pub(super) gaps: u64,
    last_seq: u64,
}

impl Watched {
    pub(super) fn message(&mut self, marker: Marker) {
        self.order.add(marker);
    }

    /// An event's place in the room's log; the first one says where the socket came in.
    pub(super) fn seq(&mut self, seq: u64) {
        if self.last_seq != 0 && seq != self.last_seq + 1 {
            self.gaps += 1;
        }
        self.last_seq = seq;
    }
}

impl Watched {
    /// What was missed came without its places in the log.
    pub(super) fn forget_seq(&mut self) {
        self.last_seq = 0;
    }
}

/// Sums up what the sockets saw, alike ones together.
pub(super) fn seen(sockets: impl Iterator<Item = (usize, Watched)>) -> Vec<Seen> {
    let mut alike: BTreeMap<(usize, (u64, u64), u64), u64> = BTreeMap::new();
    for (room, watched) in sockets {
        *alike.entry((room, watched.order.parts(), watched.gaps)).or_default() += 1;
    }
    alike.into_iter().map(|((room, order, gaps), sockets)| Seen { room, order, gaps, sockets }).collect()
}
