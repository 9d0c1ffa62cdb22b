//! One step of a room's log, as the domain sees it. Entries are made by the room's task (`room_task.rs`), kept by the
//! store and delivered by [`crate::watch`]; once made they never change and are shared by reference.

use std::sync::Arc;

use mesh::time::Millis;

use crate::{
    id::{EntryId, RoomId, UserId},
    message::Message,
    room::RoomType,
};

/// A place in a room's log: 1, 2, 3 … without a hole. 0 is "before the first".
pub type Seq = i64;

/// The most people that one entry names, so that an entry stays small however large the room.
pub const PEOPLE_MAX: usize = 100;

/// One step of a room's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Fixed before the first try to write it, so that a write with an unknown outcome can be recognised.
    pub id: EntryId,
    /// The room.
    pub room: RoomId,
    /// Its place in the log.
    pub seq: Seq,
    /// How many messages the log has up to and with this entry. For a message it is its `message_no`.
    pub messages: i64,
    /// When it was written.
    pub at: Millis,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message was sent.
    Message(Arc<Message>),
    /// Members came or went.
    Members(MembersChanged),
    /// The room's name or description changed.
    Updated(RoomUpdated),
    /// The room was closed; nothing comes after it.
    Closed(RoomClosed),
}

/// Members came or went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembersChanged {
    /// Who joined or was added, in this order; at most [`PEOPLE_MAX`].
    pub joined: Vec<UserId>,
    /// Who left by themselves.
    pub left: Vec<UserId>,
    /// Who was removed by the owner.
    pub removed: Vec<UserId>,
    /// How many members there are after it.
    pub member_count: i64,
    /// Who became owner by this.
    pub new_owner: Option<UserId>,
}

/// The room as it is from this entry on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomUpdated {
    /// Who may see and enter it.
    pub room_type: RoomType,
    /// The name from here on.
    pub name: String,
    /// The description from here on.
    pub description: String,
    /// Who made the room; none is the system.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: Millis,
    /// How many members there are.
    pub member_count: i64,
}

/// The room was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomClosed {
    /// By whom; none is the system.
    pub by: Option<UserId>,
}

impl Entry {
    /// The message, when it is one.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match &self.event {
            Event::Message(message) => Some(message),
            Event::Members(_) | Event::Updated(_) | Event::Closed(_) => None,
        }
    }

    /// Whether this entry ends the user's membership.
    #[must_use]
    pub fn expels(&self, user: UserId) -> bool {
        match &self.event {
            Event::Members(change) => change.left.contains(&user) || change.removed.contains(&user),
            Event::Message(_) | Event::Updated(_) | Event::Closed(_) => false,
        }
    }

    /// Whether this entry closes the room.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self.event, Event::Closed(_))
    }

    /// About how many bytes it takes, for the limits of pages and batches.
    #[must_use]
    pub fn weight(&self) -> usize {
        // Ids as text, times, names of fields.
        const FIXED: usize = 256;
        FIXED
            + match &self.event {
                Event::Message(message) => message.weight(),
                Event::Members(change) => 16 * (change.joined.len() + change.left.len() + change.removed.len()),
                Event::Updated(room) => room.name.len() + room.description.len(),
                Event::Closed(_) => 0,
            }
    }
}
