//! What the realtime edge counts. Every label comes from a closed set, so that no client can make new series.

use std::time::Instant;

use metrics::{counter, gauge, histogram};

/// Why a socket was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// By its client, or with its network.
    Client,
    /// It did not read what it was sent.
    Slow,
    /// Its session has ended.
    Session,
    /// A room's log could not be followed without a gap.
    Gap,
    /// It sent what no client sends.
    Protocol,
    /// The gateway stops.
    Shutdown,
    /// A fault of ours.
    Fault,
}

impl Closed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Slow => "slow",
            Self::Session => "session",
            Self::Gap => "gap",
            Self::Protocol => "protocol",
            Self::Shutdown => "shutdown",
            Self::Fault => "fault",
        }
    }
}

/// A socket was closed.
pub(super) fn closed(why: Closed) {
    counter!("switchboard_sockets_closed_total", "reason" => why.as_str()).increment(1);
}

/// So many sockets are connected.
pub(super) fn sockets(connected: usize) {
    gauge!("switchboard_sockets_connected").set(as_f64(connected));
}

/// A CONNECT was answered: `accepted`, or a code.
pub(super) fn handshake(outcome: &'static str) {
    counter!("switchboard_sockets_handshakes_total", "outcome" => outcome).increment(1);
}

/// An event of a client was answered; `outcome` is `ok` or a code.
pub(super) fn event(event: &'static str, outcome: &'static str) {
    counter!("switchboard_sockets_events_total", "event" => event, "outcome" => outcome).increment(1);
}

/// An event that began then has been answered.
pub(super) fn took(event: &'static str, begun: Instant) {
    histogram!("switchboard_sockets_event_duration_seconds", "event" => event).record(begun.elapsed().as_secs_f64());
}

/// So many sends are on their way to message-svc, as long as this lives.
pub(super) struct UnderWay(f64);

impl UnderWay {
    pub(super) fn new(sends: usize) -> Self {
        let sends = as_f64(sends);
        gauge!("switchboard_sends_under_way").increment(sends);
        Self(sends)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        gauge!("switchboard_sends_under_way").decrement(self.0);
    }
}

/// A join was answered: `recovered`, `newest`, `more`.
pub(super) fn join(outcome: &'static str) {
    counter!("switchboard_sockets_joins_total", "outcome" => outcome).increment(1);
}

/// An event was queued for so many sockets.
pub(super) fn delivered(sockets: u64) {
    counter!("switchboard_sockets_delivered_total").increment(sockets);
}

/// So many rooms are followed.
pub(super) fn rooms(followed: usize) {
    gauge!("switchboard_rooms_followed").set(as_f64(followed));
}

/// A room had to be subscribed to again: `hole`, `dropped`.
pub(super) fn resubscribed(why: &'static str) {
    counter!("switchboard_rooms_resubscribed_total", "reason" => why).increment(1);
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
