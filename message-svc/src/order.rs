//! Orders: what callers want of a room's task, and what they are told. An order is complete when it is made (names are
//! known, fields are checked), so that the task asks nobody but the store.

use std::sync::Arc;

use mesh::telemetry::Origin;
use tokio::sync::oneshot;

use crate::{
    cursor::Cursor,
    entry::Entry,
    error::Error,
    id::{EntryId, LogId, UserId},
    message::Message,
    room::Summary,
};

/// What a caller wants.
#[derive(Clone, Debug)]
pub enum Order {
    /// Send a message.
    Send(Arc<Message>),
    /// Change the room or its members.
    Change(Change),
    /// Only ask whether this user may show that they type.
    Typing(UserId),
}

/// A change of a room or its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The user makes themself a member of a public room.
    Join(UserId),
    /// The user ends their membership.
    Leave(UserId),
    /// Somebody makes another user a member.
    Add {
        /// Who does it.
        by: UserId,
        /// Whom.
        user: UserId,
    },
    /// The owner ends another's membership.
    Remove {
        /// Who does it.
        by: UserId,
        /// Whom.
        user: UserId,
    },
    /// The owner changes what is given.
    Update {
        /// Who does it.
        by: UserId,
        /// The new name.
        name: Option<String>,
        /// The new description.
        description: Option<String>,
    },
    /// The owner closes the room.
    Close(UserId),
    /// The user's account is deleted: they leave, whatever room it is.
    Depart(UserId),
}

/// What a caller is told when it is done.
#[derive(Clone, Debug)]
pub enum Done {
    /// The message is durable.
    Sent(Sent),
    /// The room is as wanted.
    Changed(Changed),
    /// They may, in this life of the room's log.
    MayType(LogId),
}

/// A message that is durable.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its entry.
    pub entry: Arc<Entry>,
    /// Whether it had been sent before, with the same client id.
    pub replayed: bool,
    /// Just after it.
    pub cursor: Cursor,
}

/// A room that is as wanted.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The room just after the change.
    pub room: Summary,
    /// Just after the change, or where the log stood when nothing had to be changed.
    pub cursor: Cursor,
}

/// An order that waits in a room's queue.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The id of the entry that it makes, whatever becomes of the tries to write it.
    pub(crate) id: EntryId,
    pub(crate) order: Order,
    pub(crate) reply: oneshot::Sender<Result<Done, Error>>,
    /// The message that the store has under the client id.
    pub(crate) known: Option<Arc<Entry>>,
    /// Whether the store has been asked for it.
    pub(crate) looked_up: bool,
    /// The span that wants it, when its trace is sampled.
    pub(crate) origin: Option<Origin>,
}

impl Pending {
    /// The order, and where its answer comes.
    pub(crate) fn new(order: Order) -> (Self, oneshot::Receiver<Result<Done, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Self { id: EntryId::now(), order, reply, known: None, looked_up: false, origin: Origin::current() }, answer)
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Tells the caller, who may be gone.
    pub(crate) fn answer(self, result: Result<Done, Error>) {
        drop(self.reply.send(result));
    }

    /// The message, when it is one.
    pub(crate) fn message(&self) -> Option<&Arc<Message>> {
        match &self.order {
            Order::Send(message) => Some(message),
            Order::Change(_) | Order::Typing(_) => None,
        }
    }

    /// About how many bytes it adds to a batch.
    pub(crate) fn weight(&self) -> usize {
        self.message().map_or(0, |message| message.weight())
    }
}
