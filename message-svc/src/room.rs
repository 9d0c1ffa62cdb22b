//! A room: what it is, what others see of it, and ([`state`]) what its task remembers of it. Who may see and do what is
//! decided in `room_task/judge.rs` for changes and in [`View`] for reading.

use std::sync::Arc;

use mesh::time::Millis;

use crate::{
    cursor::Cursor,
    entry::Seq,
    error::Error,
    id::{LogId, RoomId, UserId},
    member::{Member, Role},
};

pub mod create;
pub mod state;

/// Who may see and enter a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomType {
    /// Everybody sees it and may join.
    Public,
    /// Its members alone see it; members add others.
    Private,
    /// Two users, as long as their accounts are there.
    Direct,
}

/// A room without its members and its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomMeta {
    /// Which room.
    pub id: RoomId,
    /// This life of its log.
    pub log: LogId,
    /// Who may see and enter it.
    pub room_type: RoomType,
    /// Its name; empty for a direct room.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Who made it; none is the system.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: Millis,
    /// When its name or description was last changed.
    pub updated_at: Millis,
}

/// A room that is to be made, with its first members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRoom {
    /// The room.
    pub meta: RoomMeta,
    /// Its first members, in the order of their standing: the owner; the two of a direct room; nobody for `general`.
    pub founders: Vec<(UserId, Role)>,
}

/// A room as one caller may look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The room.
    pub meta: Arc<RoomMeta>,
    /// How many members there are.
    pub member_count: i64,
    /// The last entry; 0 for none.
    pub last_seq: Seq,
    /// How many messages there are.
    pub messages: i64,
    /// Whether it takes no more entries.
    pub closed: bool,
    /// The caller's membership, if they are a member.
    pub member: Option<Member>,
}

/// A room with what its answer shows of its members.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The room.
    pub meta: Arc<RoomMeta>,
    /// How many members there are.
    pub member_count: i64,
    /// The first of them, the longest-standing first.
    pub shown: Arc<[UserId]>,
    /// The last entry; 0 for none.
    pub last_seq: Seq,
}

impl NewRoom {
    /// A room that somebody makes: they own it and are its first member.
    #[must_use]
    pub fn owned(id: RoomId, room_type: RoomType, name: String, description: String, owner: UserId) -> Self {
        let meta = RoomMeta { name, description, created_by: Some(owner), ..Self::meta(id, room_type) };
        Self { meta, founders: vec![(owner, Role::Owner)] }
    }

    /// The direct room of two users. Neither owns it, so nobody can change or close it.
    #[must_use]
    pub fn direct(by: UserId, with: UserId) -> Self {
        let meta = RoomMeta { created_by: Some(by), ..Self::meta(RoomId::direct(by, with), RoomType::Direct) };
        Self { meta, founders: vec![(by, Role::Member), (with, Role::Member)] }
    }

    /// The room "general": nobody is in it and nobody owns it.
    #[must_use]
    pub fn general() -> Self {
        let meta = RoomMeta { name: "general".into(), ..Self::meta(RoomId::GENERAL, RoomType::Public) };
        Self { meta, founders: Vec::new() }
    }

    fn meta(id: RoomId, room_type: RoomType) -> RoomMeta {
        let now = Millis::now();
        RoomMeta {
            id,
            log: LogId::random(),
            room_type,
            name: String::new(),
            description: String::new(),
            created_by: None,
            created_at: now,
            updated_at: now,
        }
    }
}

impl View {
    /// Whether the room exists for the caller: closed rooms exist for nobody, private and direct ones for members.
    #[must_use]
    pub fn visible(&self) -> bool {
        !self.closed && (self.member.is_some() || self.meta.room_type == RoomType::Public)
    }

    /// The caller's membership.
    ///
    /// # Errors
    /// [`Error::RoomNotFound`] when the room does not exist for them, [`Error::NotAMember`] when they only see it.
    pub fn membership(&self) -> Result<Member, Error> {
        match self.member {
            _ if !self.visible() => Err(Error::RoomNotFound),
            None => Err(Error::NotAMember),
            Some(member) => Ok(member),
        }
    }

    /// The position at the end of the log.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { log: self.meta.log, seq: self.last_seq }
    }

    /// Whether nothing can be missing after this cursor.
    ///
    /// # Errors
    /// [`Error::CursorLost`] for another life of the log and for a position in the future.
    pub fn holds(&self, cursor: Cursor) -> Result<(), Error> {
        if cursor.log == self.meta.log && cursor.seq <= self.last_seq { Ok(()) } else { Err(Error::CursorLost) }
    }
}
