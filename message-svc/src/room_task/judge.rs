//! Judging: what each waiting order comes to, given what the task remembers of the room, and which entries that makes.
//! It changes the remembered room as if the entries were written; when they turn out not to be, the caller undoes it
//! and judges again. Every rule of who may do what to a room is here; nothing here waits or writes.

use std::{collections::HashMap, sync::Arc};

use mesh::time::Millis;

use crate::{
    cursor::Cursor,
    entry::{Entry, Event, MembersChanged, PEOPLE_MAX, RoomClosed, RoomUpdated},
    error::Error,
    id::{EntryId, UserId},
    message::{ClientMessageId, Message},
    order::{Change, Changed, Order, Pending},
    room::{
        RoomType,
        state::{RoomState, Undo},
    },
    store::Batch,
};

/// What one order comes to.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The message is the batch's entry of this place; not the first to want it when `replayed`.
    Sent { place: usize, replayed: bool },
    /// The message was there already.
    Replayed(Arc<Entry>),
    /// The room is as wanted, with or without an entry.
    Changed(Box<Changed>),
    /// They may type.
    MayType,
    /// No.
    Refused(Error),
}

/// What the waiting orders come to.
#[derive(Debug)]
pub(super) struct Judgement {
    /// The entries to write; may be none.
    pub(super) batch: Batch,
    /// One for each order, in their order.
    pub(super) verdicts: Vec<Verdict>,
    undo: Vec<Undo>,
}

impl Judgement {
    /// Puts the remembered room back to before it was judged.
    pub(super) fn roll_back(self, state: &mut RoomState) {
        self.undo.into_iter().rev().for_each(|undo| state.undo(undo));
    }

    /// Whether any verdict rests on what is remembered alone: a refusal or "it is so already". A batch that is written
    /// proves the memory right; without one the log must be looked at. Who types is not worth a look.
    pub(super) fn needs_proof(&self) -> bool {
        self.batch.is_empty() && !self.verdicts.iter().all(|verdict| matches!(verdict, Verdict::MayType))
    }
}

/// Judges the orders in their order.
pub(super) fn judge(state: &mut RoomState, orders: &[Pending], members_max: usize, at: Millis) -> Judgement {
    let mut judge = Judge {
        state,
        members_max,
        at,
        entries: Vec::with_capacity(orders.len()),
        undo: Vec::with_capacity(orders.len()),
        sends: HashMap::new(),
        joins: None,
    };
    judge.close_if_deserted(None);
    let verdicts = orders.iter().map(|pending| judge.order(pending)).collect();
    Judgement { batch: judge.entries.into_iter().map(Arc::new).collect(), verdicts, undo: judge.undo }
}

struct Judge<'a> {
    state: &'a mut RoomState,
    members_max: usize,
    at: Millis,
    entries: Vec<Entry>,
    undo: Vec<Undo>,
    /// The messages of this batch, by who sent them under which id.
    sends: HashMap<(UserId, &'a ClientMessageId), usize>,
    /// The entry that further joins may share: the last one about members, when it only lets people in.
    joins: Option<usize>,
}

impl<'a> Judge<'a> {
    fn order(&mut self, pending: &'a Pending) -> Verdict {
        let verdict = match &pending.order {
            Order::Send(message) => self.send(pending, message),
            Order::Change(change) => self.change(pending.id, change).map(|()| self.changed()),
            Order::Typing(user) => self.require_member(*user).map(|()| Verdict::MayType),
        };
        verdict.unwrap_or_else(Verdict::Refused)
    }

    /// A message that is there already is answered as long as its sender may still see the room, whether or not they
    /// are still a member: it was acknowledged, or would have been.
    fn send(&mut self, pending: &'a Pending, message: &'a Arc<Message>) -> Result<Verdict, Error> {
        self.require_visible(message.sender)?;
        if let Some(entry) = &pending.known {
            return Ok(Verdict::Replayed(Arc::clone(entry)));
        }
        let key = (message.sender, &message.client_id);
        if let Some(place) = self.sends.get(&key) {
            return Ok(Verdict::Sent { place: *place, replayed: true });
        }
        self.require_member(message.sender)?;
        let place = self.push(pending.id, Event::Message(Arc::clone(message)));
        self.sends.insert(key, place);
        Ok(Verdict::Sent { place, replayed: false })
    }

    fn change(&mut self, id: EntryId, change: &Change) -> Result<(), Error> {
        match change {
            Change::Join(user) => self.join(id, *user),
            Change::Leave(user) => self.leave(id, *user),
            Change::Add { by, user } => self.add(id, *by, *user),
            Change::Remove { by, user } => self.remove(id, *by, *user),
            Change::Update { by, name, description } => self.update(id, *by, name.as_deref(), description.as_deref()),
            Change::Close(by) => self.close(id, *by),
            Change::Depart(user) => {
                self.depart(id, *user);
                Ok(())
            }
        }
    }

    fn join(&mut self, id: EntryId, user: UserId) -> Result<(), Error> {
        self.require_visible(user)?;
        if self.state.members.contains(user) { Ok(()) } else { self.let_in(id, user) }
    }

    fn leave(&mut self, id: EntryId, user: UserId) -> Result<(), Error> {
        self.require_visible(user)?;
        if !self.state.members.contains(user) {
            return Ok(());
        }
        if self.state.meta.room_type == RoomType::Direct {
            return Err(Error::Forbidden("A direct room cannot be left"));
        }
        self.depart(id, user);
        Ok(())
    }

    /// Ends a membership, if there is one.
    fn depart(&mut self, id: EntryId, user: UserId) {
        if self.state.closed || !self.state.members.contains(user) {
            return;
        }
        let owned = self.state.members.owner() == Some(user);
        let new_owner = if owned { self.state.members.heir_of(user) } else { None };
        let change = MembersChanged { left: vec![user], new_owner, ..MembersChanged::default() };
        self.push_members(id, change, -1);
        self.close_if_deserted(Some(user));
    }

    fn add(&mut self, id: EntryId, by: UserId, user: UserId) -> Result<(), Error> {
        self.require_member(by)?;
        match self.state.meta.room_type {
            RoomType::Direct => return Err(Error::Forbidden("Nobody can be added to a direct room")),
            RoomType::Public if self.state.members.owner() != Some(by) => {
                return Err(Error::Forbidden("Only its owner adds others to a public room"));
            }
            RoomType::Public | RoomType::Private => {}
        }
        if self.state.members.contains(user) { Ok(()) } else { self.let_in(id, user) }
    }

    fn remove(&mut self, id: EntryId, by: UserId, user: UserId) -> Result<(), Error> {
        self.require_owner(by, "Only the room's owner removes members")?;
        if user == by {
            return Err(Error::Forbidden("An owner cannot remove themself; leave the room instead"));
        }
        if self.state.members.contains(user) {
            self.push_members(id, MembersChanged { removed: vec![user], ..MembersChanged::default() }, -1);
        }
        Ok(())
    }

    fn update(&mut self, id: EntryId, by: UserId, name: Option<&str>, description: Option<&str>) -> Result<(), Error> {
        self.require_owner(by, "Only the room's owner changes it")?;
        let meta = &self.state.meta;
        let (name, description) = (name.unwrap_or(&meta.name), description.unwrap_or(&meta.description));
        if name == meta.name && description == meta.description {
            return Ok(());
        }
        let updated = RoomUpdated {
            room_type: meta.room_type,
            name: name.to_owned(),
            description: description.to_owned(),
            created_by: meta.created_by,
            created_at: meta.created_at,
            member_count: self.state.member_count(),
        };
        self.push(id, Event::Updated(updated));
        Ok(())
    }

    fn close(&mut self, id: EntryId, by: UserId) -> Result<(), Error> {
        self.require_owner(by, "Only the room's owner closes it")?;
        self.push(id, Event::Closed(RoomClosed { by: Some(by) }));
        Ok(())
    }

    /// Lets somebody in, through the entry of those who came just before where that is possible. A public room that its
    /// people made and all have left belongs to the next who comes; `general` belongs to nobody.
    fn let_in(&mut self, id: EntryId, user: UserId) -> Result<(), Error> {
        if self.state.members.len() >= self.members_max {
            return Err(Error::Forbidden("The room is full"));
        }
        if let Some(place) = self.joins
            && self.extend(place, user)
        {
            return Ok(());
        }
        let deserted = self.state.members.is_empty() && self.state.meta.created_by.is_some();
        let new_owner = deserted.then_some(user);
        let change = MembersChanged { joined: vec![user], new_owner, ..MembersChanged::default() };
        self.joins = Some(self.push_members(id, change, 1));
        Ok(())
    }

    /// Adds somebody to an entry of this batch; answers whether it had room.
    fn extend(&mut self, place: usize, user: UserId) -> bool {
        let entry = &mut self.entries[place];
        let Event::Members(change) = &mut entry.event else { return false };
        if change.joined.len() >= PEOPLE_MAX {
            return false;
        }
        let undo = self.state.apply_joiner(entry.seq, change.joined.len(), user, entry.at);
        change.joined.push(user);
        change.member_count += 1;
        self.undo.push(undo);
        true
    }

    /// A private or direct room that nobody is in is closed, also when that was left undone by whoever emptied it.
    fn close_if_deserted(&mut self, by: Option<UserId>) {
        if self.state.is_deserted() {
            self.push(EntryId::now(), Event::Closed(RoomClosed { by }));
        }
    }

    fn push_members(&mut self, id: EntryId, mut change: MembersChanged, more: i64) -> usize {
        change.member_count = self.state.member_count() + more;
        self.push(id, Event::Members(change))
    }

    fn push(&mut self, id: EntryId, event: Event) -> usize {
        let is_message = matches!(event, Event::Message(_));
        if !is_message {
            // Later joins must not be told before this.
            self.joins = None;
        }
        let entry = Entry {
            id,
            room: self.state.meta.id,
            seq: self.state.last_seq + 1,
            messages: self.state.messages + i64::from(is_message),
            at: self.at,
            event,
        };
        self.undo.push(self.state.apply(&entry).expect("invariant: its seq is the next"));
        self.entries.push(entry);
        self.entries.len() - 1
    }

    fn changed(&mut self) -> Verdict {
        let cursor = Cursor { log: self.state.meta.log, seq: self.state.last_seq };
        Verdict::Changed(Box::new(Changed { room: self.state.summary(), cursor }))
    }

    /// A closed room exists for nobody, a private or direct one for its members.
    fn require_visible(&self, user: UserId) -> Result<(), Error> {
        let public = self.state.meta.room_type == RoomType::Public;
        let visible = !self.state.closed && (public || self.state.members.contains(user));
        if visible { Ok(()) } else { Err(Error::RoomNotFound) }
    }

    fn require_member(&self, user: UserId) -> Result<(), Error> {
        self.require_visible(user)?;
        if self.state.members.contains(user) { Ok(()) } else { Err(Error::NotAMember) }
    }

    fn require_owner(&self, user: UserId, otherwise: &'static str) -> Result<(), Error> {
        self.require_visible(user)?;
        if self.state.members.owner() == Some(user) { Ok(()) } else { Err(Error::Forbidden(otherwise)) }
    }
}
