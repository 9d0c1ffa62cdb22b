//! The documents as they are stored, and what they mean to the domain. Ids are UUIDs (binary, subtype 4), times are dates,
//! seqs are 64-bit integers; what happened in an entry is the JSON text that every backend has (`store/payload.rs`).

use std::{borrow::Cow, sync::Arc};

use mesh::time::Millis;
use mongodb::bson::{self, DateTime, RawDocument, RawDocumentBuf, oid::ObjectId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::calls::Fault;
use crate::{
    entry::{Entry, Seq},
    id::{EntryId, LogId, RoomId, UserId},
    member::{Member, Role, Standing},
    room::{NewRoom, RoomMeta},
    store::{
        StoreError, fold,
        payload::{self, Kind},
    },
};

#[cfg(test)]
mod fuzz;

/// The role of a member as a number.
const MEMBER: i32 = 1;
/// See [`MEMBER`].
const OWNER: i32 = 2;

/// An entry of a room's log, in `entries`.
#[derive(Serialize, Deserialize)]
pub(super) struct EntryForm<'a> {
    _id: bson::Uuid,
    room: bson::Uuid,
    seq: Seq,
    kind: i32,
    /// Messages of the room up to and with this entry: a message's number.
    messages: i64,
    at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<bson::Uuid>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    client_id: Option<Cow<'a, str>>,
    /// The seq once more, of entries from which something follows for the room or its members: few among the messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change: Option<Seq>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

/// A room, in `rooms`: what it was made as, and what follows from its entries up to `projected`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RoomForm {
    _id: bson::Uuid,
    log: bson::Uuid,
    room_type: i32,
    pub(super) name: String,
    pub(super) description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_by: Option<bson::Uuid>,
    pub(super) created_at: DateTime,
    pub(super) updated_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) closed_at: Option<DateTime>,
    pub(super) member_count: i64,
    /// Its first members: here, so that a room and its owner are one write.
    founders: Vec<FounderForm>,
    /// The entry that gave it its name; 0 is its making.
    pub(super) named: Seq,
    /// The last entry whose consequences are in `rooms` and `members`; [`UNPROJECTED`] while not even the founders are.
    pub(super) projected: Seq,
}

/// Before the founders are members.
pub(super) const UNPROJECTED: Seq = -1;

#[derive(Debug, Serialize, Deserialize)]
struct FounderForm {
    user: bson::Uuid,
    role: i32,
}

/// What is known of one person in one room, in `members`. Of somebody who is gone only the seq of their going stays: it
/// keeps whoever is late from letting them in again.
#[derive(Debug, Deserialize)]
pub(super) struct MemberForm {
    user: bson::Uuid,
    /// The last entry that changed something for them.
    seq: Seq,
    #[serde(default)]
    role: Option<i32>,
    #[serde(default)]
    standing: Option<i64>,
    #[serde(default)]
    joined_at: Option<DateTime>,
}

/// What is known of one person in one room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Person {
    /// The last entry that changed something for them.
    pub(super) seq: Seq,
    /// None when they are gone.
    pub(super) member: Option<Member>,
}

/// "This user may be in this room since then", in `memberships`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MembershipForm {
    pub(super) _id: ObjectId,
    pub(super) user: bson::Uuid,
    pub(super) joined_at: DateTime,
    pub(super) room: bson::Uuid,
    pub(super) standing: i64,
}

/// "This public room may have this name since that entry", in `directory`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NameForm {
    pub(super) _id: ObjectId,
    /// The name folded.
    pub(super) key: String,
    pub(super) room: bson::Uuid,
    pub(super) seq: Seq,
}

/// An id as it is stored.
pub(super) fn id(id: Uuid) -> bson::Uuid {
    bson::Uuid::from_bytes(id.into_bytes())
}

/// An id from its stored form.
pub(super) fn uuid(id: bson::Uuid) -> Uuid {
    Uuid::from_bytes(id.bytes())
}

/// A time as it is stored.
pub(super) fn date(at: Millis) -> DateTime {
    DateTime::from_millis(at.0)
}

fn millis(at: DateTime) -> Millis {
    Millis(at.timestamp_millis())
}

/// A document, ready to be sent.
pub(super) fn encode(form: &impl Serialize) -> RawDocumentBuf {
    bson::serialize_to_raw_document_buf(form).expect("invariant: these forms have text keys only")
}

/// A form from a document.
pub(super) fn decode<'a, T: Deserialize<'a>>(document: &'a RawDocument) -> Result<T, Fault> {
    // The error names a field and a type, never what is in it.
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Fault::Damaged(format!("a document: {error}")))
}

impl<'a> EntryForm<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        let (message, kind) = (entry.message(), Kind::of(&entry.event));
        Self {
            _id: id(entry.id.0),
            room: id(entry.room.0),
            seq: entry.seq,
            kind: kind as i32,
            messages: entry.messages,
            at: date(entry.at),
            sender: message.map(|message| id(message.sender.0)),
            client_id: message.map(|message| Cow::Borrowed(message.client_id.as_str())),
            change: message.is_none().then_some(entry.seq),
            payload: payload::encode(&entry.event).into(),
        }
    }

    pub(super) fn entry(&self) -> Result<Arc<Entry>, StoreError> {
        let sender = self.sender.map(|sender| UserId(uuid(sender)));
        Ok(Arc::new(Entry {
            id: EntryId(uuid(self._id)),
            room: RoomId(uuid(self.room)),
            seq: self.seq,
            messages: self.messages,
            at: millis(self.at),
            event: payload::decode(self.kind.into(), &self.payload, sender.zip(self.client_id.as_deref()))?,
        }))
    }
}

impl RoomForm {
    pub(super) fn of(room: &NewRoom) -> Self {
        let meta = &room.meta;
        let founder = |(user, role): &(UserId, Role)| FounderForm { user: id(user.0), role: role_number(*role) };
        Self {
            _id: id(meta.id.0),
            log: id(meta.log.0),
            room_type: i32::try_from(payload::type_number(meta.room_type)).expect("invariant: a small number"),
            name: meta.name.clone(),
            description: meta.description.clone(),
            created_by: meta.created_by.map(|user| id(user.0)),
            created_at: date(meta.created_at),
            updated_at: date(meta.updated_at),
            closed_at: None,
            member_count: i64::try_from(room.founders.len()).expect("invariant: one or two"),
            founders: room.founders.iter().map(founder).collect(),
            named: 0,
            projected: UNPROJECTED,
        }
    }

    pub(super) fn meta(&self) -> Result<RoomMeta, StoreError> {
        Ok(RoomMeta {
            id: RoomId(uuid(self._id)),
            log: LogId(uuid(self.log)),
            room_type: payload::room_type(self.room_type.into())?,
            name: self.name.clone(),
            description: self.description.clone(),
            created_by: self.created_by.map(|user| UserId(uuid(user))),
            created_at: millis(self.created_at),
            updated_at: millis(self.updated_at),
        })
    }

    /// The first members, as the making of the room let them in.
    pub(super) fn founders(&self) -> impl Iterator<Item = Member> {
        self.founders.iter().enumerate().map(|(place, founder)| Member {
            user: UserId(uuid(founder.user)),
            role: role(founder.role),
            standing: Standing::new(0, place),
            joined_at: millis(self.created_at),
        })
    }
}

impl MemberForm {
    pub(super) fn person(&self) -> (UserId, Person) {
        let user = UserId(uuid(self.user));
        let member = match (self.role, self.standing, self.joined_at) {
            (Some(number), Some(standing), Some(at)) => {
                Some(Member { user, role: role(number), standing: Standing(standing), joined_at: millis(at) })
            }
            _ => None,
        };
        (user, Person { seq: self.seq, member })
    }
}

impl MembershipForm {
    pub(super) fn of(room: RoomId, member: &Member) -> Self {
        Self {
            _id: ObjectId::new(),
            user: id(member.user.0),
            joined_at: date(member.joined_at),
            room: id(room.0),
            standing: member.standing.0,
        }
    }

    /// Whether it is this membership.
    pub(super) fn is(&self, member: &Member) -> bool {
        self.standing == member.standing.0 && self.joined_at == date(member.joined_at)
    }
}

impl NameForm {
    pub(super) fn of(room: RoomId, name: &str, seq: Seq) -> Self {
        Self { _id: ObjectId::new(), key: fold(name), room: id(room.0), seq }
    }
}

/// A role as a number.
pub(super) fn role_number(role: Role) -> i32 {
    match role {
        Role::Member => MEMBER,
        Role::Owner => OWNER,
    }
}

fn role(number: i32) -> Role {
    if number == OWNER { Role::Owner } else { Role::Member }
}
