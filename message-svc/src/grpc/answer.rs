//! Answers on their way out: the domain's rooms, members and entries as the contract has them.

use mesh::{
    proto::message::v1::{self as pb, entry::Event as PbEvent},
    text,
};

use crate::{
    cursor::Cursor,
    entry::{Entry, Event, MembersChanged, RoomUpdated},
    history::EntryPage,
    id::UserId,
    member::{Member, Role},
    message::Message,
    order::Sent,
    room::{RoomType, Summary},
};

/// Who made what nobody made.
const SYSTEM: &str = "system";

pub(super) fn room(room: &Summary) -> pb::Room {
    let meta = &room.meta;
    pb::Room {
        id: meta.id.to_string(),
        name: meta.name.clone(),
        description: meta.description.clone(),
        room_type: room_type(meta.room_type).into(),
        created_by: by(meta.created_by),
        member_ids: ids(&room.shown),
        member_count: room.member_count,
        last_seq: room.last_seq,
        create_time: Some(meta.created_at.into()),
        update_time: Some(meta.updated_at.into()),
    }
}

pub(super) fn member(member: &Member, username: Option<&str>) -> pb::Member {
    let role = match member.role {
        Role::Member => pb::MemberRole::Member,
        Role::Owner => pb::MemberRole::Owner,
    };
    pb::Member {
        user_id: member.user.to_string(),
        username: username.unwrap_or_default().to_owned(),
        role: role.into(),
        join_time: Some(member.joined_at.into()),
    }
}

pub(super) fn entry(entry: &Entry) -> pb::Entry {
    let event = match &entry.event {
        Event::Message(message) => PbEvent::Message(message_of(entry, message)),
        Event::Members(change) => PbEvent::Members(members(change)),
        Event::Updated(room) => PbEvent::RoomUpdated(pb::RoomUpdated { room: Some(updated(entry, room)) }),
        Event::Closed(closed) => PbEvent::RoomClosed(pb::RoomClosed { closed_by: by(closed.by) }),
    };
    pb::Entry { seq: entry.seq, create_time: Some(entry.at.into()), event: Some(event) }
}

pub(super) fn entries(page: &EntryPage) -> pb::ListEntriesResponse {
    let log = page.cursor.log;
    pb::ListEntriesResponse {
        entries: page.entries.iter().map(|one| entry(one)).collect(),
        cursor: page.cursor.encode(),
        more: page.more,
        seq: page.cursor.seq,
        cursors: page.entries.iter().map(|one| Cursor { log, seq: one.seq }.encode()).collect(),
    }
}

pub(super) fn sent(sent: &Sent) -> pb::SendMessageResponse {
    let (message, cursor) = (message(&sent.entry), sent.cursor.encode());
    pb::SendMessageResponse { message, replayed: sent.replayed, cursor }
}

/// The message of an entry; none when it is another kind of entry.
pub(super) fn message(entry: &Entry) -> Option<pb::Message> {
    entry.message().map(|message| message_of(entry, message))
}

fn message_of(entry: &Entry, message: &Message) -> pb::Message {
    let metadata = (!message.metadata.is_empty()).then(|| text::struct_from_json(&message.metadata));
    pb::Message {
        id: entry.id.to_string(),
        seq: entry.seq,
        room_id: entry.room.to_string(),
        user_id: message.sender.to_string(),
        username: message.username.to_string(),
        content: message.content.clone(),
        message_type: message.message_type.clone(),
        metadata,
        client_message_id: message.client_id.as_str().to_owned(),
        create_time: Some(entry.at.into()),
        update_time: Some(entry.at.into()),
    }
}

fn members(change: &MembersChanged) -> pb::MembersChanged {
    pb::MembersChanged {
        joined: ids(&change.joined),
        left: ids(&change.left),
        removed: ids(&change.removed),
        member_count: change.member_count,
        new_owner: change.new_owner.map(|user| user.to_string()).unwrap_or_default(),
    }
}

fn updated(entry: &Entry, room: &RoomUpdated) -> pb::Room {
    pb::Room {
        id: entry.room.to_string(),
        name: room.name.clone(),
        description: room.description.clone(),
        room_type: room_type(room.room_type).into(),
        created_by: by(room.created_by),
        member_ids: Vec::new(),
        member_count: room.member_count,
        last_seq: entry.seq,
        create_time: Some(room.created_at.into()),
        update_time: Some(entry.at.into()),
    }
}

fn room_type(room_type: RoomType) -> pb::RoomType {
    match room_type {
        RoomType::Public => pb::RoomType::Public,
        RoomType::Private => pb::RoomType::Private,
        RoomType::Direct => pb::RoomType::Direct,
    }
}

fn ids(users: &[UserId]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}

fn by(user: Option<UserId>) -> String {
    user.map_or_else(|| SYSTEM.to_owned(), |user| user.to_string())
}
