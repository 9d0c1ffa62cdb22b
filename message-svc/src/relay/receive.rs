//! What comes from Redis, judged. A hint for a room counts only when it is sealed with the life of the log that this
//! process' watchers follow (`frame.rs`); then an entry in it may be delivered as the entry itself, and only when its
//! seq comes next ([`crate::watch`]). Everything else is ignored and counted. Nothing here waits: it runs where the
//! connection is read, so there is no queue that could grow.

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Channels,
    frame::{self, Frame},
    peers::Peers,
};
use crate::{
    hub::{Hint, Hub},
    id::RoomId,
    look::Looker,
    typing::Typists,
};

/// Who hears what other replicas say.
pub(super) struct Receiver {
    pub(super) replica: Uuid,
    pub(super) channels: Channels,
    pub(super) hub: Arc<Hub>,
    pub(super) looker: Arc<Looker>,
    pub(super) typists: Typists,
    pub(super) peers: Arc<Peers>,
}

/// Why something is ignored. These are all the labels of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// It comes from this process.
    Own,
    /// Nobody here follows the room any more, or nobody knows its log yet and will read it first.
    Unfollowed,
    /// It is not sealed with the life of the log that is followed here: another installation, a log that was restored,
    /// a forgery, or damage.
    Foreign,
    /// It is none of the known forms.
    Garbage,
    /// There was no space for it.
    Full,
}

impl Ignored {
    fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Unfollowed => "unfollowed",
            Self::Foreign => "foreign",
            Self::Garbage => "garbage",
            Self::Full => "full",
        }
    }
}

impl Receiver {
    /// Takes what was published on a channel.
    pub(super) fn take(&self, channel: &[u8], payload: &[u8]) {
        match self.judge(channel, payload) {
            Ok(kind) => metrics::counter!("switchboard_relay_received_total", "kind" => kind).increment(1),
            Err(why) => metrics::counter!("switchboard_relay_ignored_total", "reason" => why.as_str()).increment(1),
        }
    }

    /// Uses it, or says why not.
    pub(super) fn judge(&self, channel: &[u8], payload: &[u8]) -> Result<&'static str, Ignored> {
        let message = frame::open(payload).ok_or(Ignored::Garbage)?;
        if message.replica == self.replica {
            return Err(Ignored::Own);
        }
        match self.channels.parse(channel).ok_or(Ignored::Garbage)? {
            Some(room) => self.hint(room, &message),
            None => self.sign(&message),
        }
    }

    fn hint(&self, room: RoomId, message: &frame::Message<'_>) -> Result<&'static str, Ignored> {
        let log = self.hub.log(room).ok_or(Ignored::Unfollowed)?;
        if !message.is_sealed_with(log) {
            return Err(Ignored::Foreign);
        }
        let frame = message.frame(room).ok_or(Ignored::Garbage)?;
        let kind = frame.kind();
        match frame {
            Frame::Entries(batch) => self.hub.deliver(room, Hint::Entries(batch, None)),
            Frame::Head(seq) => self.hub.deliver(room, Hint::Head(seq)),
            Frame::Typing(typing) => {
                if !self.typists.set_elsewhere(room, typing) {
                    return Err(Ignored::Full);
                }
            }
            Frame::Beat | Frame::Look | Frame::Bye => return Err(Ignored::Garbage),
        }
        Ok(kind)
    }

    /// A sign of life. It is not sealed: whoever forges one makes this process look at the store, at a bounded pace.
    fn sign(&self, message: &frame::Message<'_>) -> Result<&'static str, Ignored> {
        let frame = message.sign().ok_or(Ignored::Garbage)?;
        match frame {
            Frame::Beat => self.peers.heard(message.replica, Instant::now()),
            Frame::Look => {
                self.peers.heard(message.replica, Instant::now());
                self.looker.all();
            }
            Frame::Bye => self.peers.left(message.replica),
            Frame::Entries(_) | Frame::Head(_) | Frame::Typing(_) => return Err(Ignored::Garbage),
        }
        Ok(frame.kind())
    }
}
