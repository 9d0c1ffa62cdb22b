//! What the conductor of a measurement and its workers say to one another: a plan, then orders, each a line of JSON on the
//! worker's standard input, each answered by a line on its standard output. Workers are processes of the same binary.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{dialect::Protocol, series::Counts};

/// What one worker is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// How the system speaks.
    pub(crate) protocol: Protocol,
    /// Where it listens; sockets are spread over several.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The path of its WebSockets.
    pub(crate) path: String,
    /// Where a socket fetches a token for itself first, by REST with its bearer; empty for none.
    pub(crate) token_path: String,
    /// What the system calls its rooms.
    pub(crate) rooms: Vec<String>,
    /// The sockets.
    pub(crate) sockets: Vec<SocketPlan>,
    /// Bytes of a message's content.
    pub(crate) content_bytes: usize,
    /// Whether each socket keeps the cursor of the last event, to resume by.
    pub(crate) cursors: bool,
}

/// One socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SocketPlan {
    /// Who it is: a bearer token, or whatever the protocol takes.
    pub(crate) token: String,
    /// Its room, by index.
    pub(crate) room: usize,
    /// Its number among the senders of the whole load, if it sends.
    pub(crate) sender: Option<u32>,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// Each sender keeps this many unacknowledged: a closed loop.
    Acks(u32),
    /// So many messages are under way to the sockets of their rooms: a closed loop over deliveries.
    Deliveries(u32),
    /// Messages a second of this worker, evenly, whatever the system does: an open loop.
    Rate(f64),
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Opens all sockets that are not, so many handshakes at a time, resuming by cursor if asked.
    Open {
        /// At once; 0 for all.
        window: usize,
        /// With the room and the cursor that each has.
        resume: bool,
    },
    /// Enters each socket's room, so many at a time.
    Join {
        /// At once.
        window: usize,
    },
    /// Sends from `begin` to `end`; what happens from `start` on is measured.
    Load {
        /// How.
        pace: Pace,
        /// On `clock.rs`.
        begin: u64,
        /// After the warm-up.
        start: u64,
        /// Then answers are awaited, and the report is given.
        end: u64,
    },
    /// Stops to read from so many sockets that send nothing.
    Stall {
        /// How many.
        sockets: usize,
    },
    /// Cuts the connections of all clients that send nothing, at once.
    Cut,
    /// Ends.
    Quit,
}

/// What a worker answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// All that could be opened or joined is.
    Settled(Settled),
    /// The load is over.
    Loaded(Box<Loaded>),
    /// Done.
    Done,
    /// It cannot go on.
    Failed(String),
}

/// The outcome of opening, joining or resuming.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// Sockets that are where they should be.
    pub(crate) good: u64,
    /// Sockets that are not.
    pub(crate) failed: u64,
    /// What the first of those was told.
    pub(crate) first_failure: String,
    /// Nanoseconds for all.
    pub(crate) took: u64,
    /// Microseconds for each.
    pub(crate) micros: Counts,
    /// Messages that came with an answer because the socket had missed them.
    pub(crate) missed: u64,
}

/// What a worker saw of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Loaded {
    /// Messages acknowledged within the measured time.
    pub(crate) acks: u64,
    /// Messages delivered within it.
    pub(crate) deliveries: u64,
    /// Bytes of their frames' payloads.
    pub(crate) delivery_bytes: u64,
    /// Microseconds from when a message was meant to be sent to its acknowledgement.
    pub(crate) ack_micros: Counts,
    /// Microseconds from when a message was meant to be sent to its delivery, each delivery counted.
    pub(crate) delivery_micros: Counts,
    /// Messages that were refused, in all.
    pub(crate) refused: u64,
    /// What the first of those was told.
    pub(crate) first_refusal: String,
    /// Sockets that the server closed.
    pub(crate) closed: u64,
    /// Nanoseconds of CPU that this worker took in the measured time.
    pub(crate) cpu: u64,
    /// Nanoseconds after `end` until everything was answered; none when it never was.
    pub(crate) drained: Option<u64>,
    /// Each sender's part.
    pub(crate) senders: Vec<Sent>,
    /// What the sockets of each room saw.
    pub(crate) rooms: Vec<Seen>,
}

/// What one sender sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Its number.
    pub(crate) sender: u32,
    /// Its room, by index.
    pub(crate) room: usize,
    /// Messages sent: numbers below this one.
    pub(crate) sent: u32,
    /// Those that were not acknowledged.
    pub(crate) unacknowledged: Vec<u32>,
}

/// What sockets of one room saw alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The room, by index.
    pub(crate) room: usize,
    /// How many messages, and a hash of their order.
    pub(crate) order: (u64, u64),
    /// Events whose `seq` did not follow the one before.
    pub(crate) gaps: u64,
    /// How many sockets saw this.
    pub(crate) sockets: u64,
}
