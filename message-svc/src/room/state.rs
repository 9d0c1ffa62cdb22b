//! What a room's task remembers of its room: true as of `last_seq`. Entries are the only thing that changes it, its own
//! and others' alike, and each change can be undone, because a batch that was judged may turn out to be displaced.

use std::sync::Arc;

use mesh::time::Millis;

use crate::{
    entry::{Entry, Event, MembersChanged, Seq},
    id::UserId,
    member::{Member, Members, Role, Standing},
    room::{RoomMeta, RoomType, Summary},
};

/// A room as of its last entry.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomState {
    /// The room.
    pub meta: Arc<RoomMeta>,
    /// Its members.
    pub members: Members,
    /// Whether it takes no more entries.
    pub closed: bool,
    /// The last entry; 0 for none.
    pub last_seq: Seq,
    /// How many messages there are.
    pub messages: i64,
}

/// An entry that does not come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} cannot follow entry {last_seq}")]
pub struct OutOfOrder {
    /// The entry's place.
    pub seq: Seq,
    /// The last entry's place.
    pub last_seq: Seq,
}

/// How to get back to before a change.
#[derive(Debug)]
pub struct Undo {
    meta: Option<Arc<RoomMeta>>,
    /// What each person was, in the order in which they were changed.
    people: Vec<(UserId, Option<Member>)>,
    closed: bool,
    last_seq: Seq,
    messages: i64,
}

impl RoomState {
    /// Takes in the next entry.
    ///
    /// # Errors
    /// [`OutOfOrder`] when it is not the next one; nothing has changed then.
    pub fn apply(&mut self, entry: &Entry) -> Result<Undo, OutOfOrder> {
        if entry.seq != self.last_seq + 1 {
            return Err(OutOfOrder { seq: entry.seq, last_seq: self.last_seq });
        }
        let mut undo = self.mark();
        self.last_seq = entry.seq;
        self.messages = entry.messages;
        match &entry.event {
            Event::Message(_) => {}
            Event::Members(change) => self.change_members(entry.seq, entry.at, change, &mut undo),
            Event::Updated(room) => {
                let meta = RoomMeta {
                    name: room.name.clone(),
                    description: room.description.clone(),
                    updated_at: entry.at,
                    ..(*self.meta).clone()
                };
                undo.meta = Some(std::mem::replace(&mut self.meta, Arc::new(meta)));
            }
            Event::Closed(_) => self.closed = true,
        }
        Ok(undo)
    }

    /// Takes in one more person of an entry that has been applied but not written yet.
    pub fn apply_joiner(&mut self, seq: Seq, place: usize, user: UserId, at: Millis) -> Undo {
        let mut undo = self.mark();
        let member = Member { user, role: Role::Member, standing: Standing::new(seq, place), joined_at: at };
        undo.people.push((user, self.members.put(member)));
        undo
    }

    /// Goes back over changes; give the last one first.
    pub fn undo(&mut self, undo: Undo) {
        for (user, before) in undo.people.into_iter().rev() {
            match before {
                Some(member) => self.members.put(member),
                None => self.members.take(user),
            };
        }
        if let Some(meta) = undo.meta {
            self.meta = meta;
        }
        self.closed = undo.closed;
        self.last_seq = undo.last_seq;
        self.messages = undo.messages;
    }

    /// The room as its answers show it.
    pub fn summary(&mut self) -> Summary {
        Summary {
            meta: Arc::clone(&self.meta),
            member_count: self.member_count(),
            shown: self.members.shown(),
            last_seq: self.last_seq,
        }
    }

    /// Whether it is a private or direct room that nobody is in: one that must be closed.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        self.meta.room_type != RoomType::Public && !self.closed && self.members.is_empty()
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> i64 {
        i64::try_from(self.members.len()).expect("invariant: members fit in memory")
    }

    fn mark(&self) -> Undo {
        Undo { meta: None, people: Vec::new(), closed: self.closed, last_seq: self.last_seq, messages: self.messages }
    }

    fn change_members(&mut self, seq: Seq, at: Millis, change: &MembersChanged, undo: &mut Undo) {
        for user in change.left.iter().chain(&change.removed) {
            undo.people.push((*user, self.members.take(*user)));
        }
        for (place, user) in change.joined.iter().enumerate() {
            let member = Member { user: *user, role: Role::Member, standing: Standing::new(seq, place), joined_at: at };
            undo.people.push((*user, self.members.put(member)));
        }
        let heir = change.new_owner.and_then(|user| self.members.get(user).copied());
        if let Some(heir) = heir {
            undo.people.push((heir.user, self.members.put(Member { role: Role::Owner, ..heir })));
        }
    }
}
