//! Rooms, members, messages and the two kinds of pagination as clients see them.

use mesh::{proto::message::v1 as pb, time::Millis};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Object, object, time};

/// Who may see and enter a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoomType {
    /// Everybody sees it and may join.
    Public,
    /// Its members alone see it.
    Private,
    /// Two users, for ever.
    Direct,
}

impl From<pb::RoomType> for RoomType {
    fn from(room_type: pb::RoomType) -> Self {
        match room_type {
            pb::RoomType::Public => Self::Public,
            // A type that this build does not know is shown as the one that promises least.
            pb::RoomType::Private | pb::RoomType::Unspecified => Self::Private,
            pb::RoomType::Direct => Self::Direct,
        }
    }
}

/// A room.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Room {
    /// Opaque.
    id: String,
    /// 1–100 characters; empty for a direct room. Need not be unique.
    name: String,
    /// At most 1,000 characters.
    description: String,
    /// Who may see and enter it.
    room_type: RoomType,
    /// The id of the user who made it; `system` for `general`.
    created_by: String,
    /// The first 100 members' ids, the longest-standing first.
    members: Vec<String>,
    /// How many members there are.
    member_count: i64,
    /// The `seq` of the last entry of its log; 0 for none.
    last_seq: i64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    /// When its name or description was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Millis,
}

impl From<pb::Room> for Room {
    fn from(room: pb::Room) -> Self {
        let room_type = room.room_type().into();
        Self {
            id: room.id,
            name: room.name,
            description: room.description,
            room_type,
            created_by: room.created_by,
            members: room.member_ids,
            member_count: room.member_count,
            last_seq: room.last_seq,
            created_at: time(room.create_time),
            updated_at: time(room.update_time),
        }
    }
}

/// A member of a room.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    /// Who.
    user_id: String,
    /// Their username; empty while it cannot be found out.
    username: String,
    /// `owner` or `member`.
    role: Role,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    joined_at: Millis,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// Reads, sends, and adds to a private room.
    Member,
    /// Also changes and closes the room and removes members.
    Owner,
}

impl From<pb::Member> for Member {
    fn from(member: pb::Member) -> Self {
        let role = match member.role() {
            pb::MemberRole::Owner => Role::Owner,
            pb::MemberRole::Member | pb::MemberRole::Unspecified => Role::Member,
        };
        Self { user_id: member.user_id, username: member.username, role, joined_at: time(member.join_time) }
    }
}

/// A message.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    /// Opaque.
    id: String,
    /// Its place in the room's log.
    seq: i64,
    /// The room.
    room_id: String,
    /// The sender.
    user_id: String,
    /// The sender's username when it was sent.
    username: String,
    /// 1–8,000 characters.
    content: String,
    /// `text` or a name of the application's own.
    message_type: String,
    /// The application's own: at most 8 KiB as JSON.
    #[schema(value_type = Object)]
    metadata: Object,
    /// As the client chose it, or as it was made for them.
    client_message_id: String,
    /// When it was sent.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    /// When it was last changed; the time of sending until then.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Millis,
}

impl From<pb::Message> for Message {
    fn from(message: pb::Message) -> Self {
        Self {
            id: message.id,
            seq: message.seq,
            room_id: message.room_id,
            user_id: message.user_id,
            username: message.username,
            content: message.content,
            message_type: message.message_type,
            metadata: object(message.metadata.as_ref()),
            client_message_id: message.client_message_id,
            created_at: time(message.create_time),
            updated_at: time(message.update_time),
        }
    }
}

/// Where a numbered page of messages stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pagination {
    /// From 1, the newest page.
    pub(crate) current_page: i64,
    /// 0 in a room without messages.
    pub(crate) total_pages: i64,
    /// How many messages the room has.
    pub(crate) total_items: i64,
    /// How many a page has at most.
    pub(crate) items_per_page: i64,
    /// Whether there is a page after this one, with older messages.
    pub(crate) has_next: bool,
    /// Whether there is a page before this one, with newer messages.
    pub(crate) has_previous: bool,
}

impl Pagination {
    /// The pages of so many messages.
    pub(crate) fn new(page: i64, items_per_page: i64, total: i64) -> Self {
        let total_pages = total / items_per_page + i64::from(total % items_per_page != 0);
        Self {
            current_page: page,
            total_pages,
            total_items: total,
            items_per_page,
            has_next: page < total_pages,
            has_previous: page > 1 && total_pages > 0,
        }
    }
}

/// Where a window of messages by `seq` stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeqPagination {
    /// For `before`, to go to older messages; null when there are none.
    pub(crate) next_before: Option<i64>,
    /// For `after`, to go to newer messages; null when there are none.
    pub(crate) next_after: Option<i64>,
    /// How many a window has at most.
    pub(crate) items_per_page: i64,
    /// Whether there is more in the direction asked for: older with `before`, newer with `after`.
    pub(crate) has_next: bool,
    /// Whether there is more in the other direction.
    pub(crate) has_previous: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_and_a_message_have_the_shape_of_the_contract() {
        let room =
            pb::Room { room_type: pb::RoomType::Direct.into(), member_ids: vec!["u".into()], ..pb::Room::default() };
        assert_eq!(
            serde_json::to_value(Room::from(room)).expect("JSON"),
            serde_json::json!({
                "id": "", "name": "", "description": "", "roomType": "direct", "createdBy": "", "members": ["u"],
                "memberCount": 0, "lastSeq": 0, "createdAt": "1970-01-01T00:00:00.000Z",
                "updatedAt": "1970-01-01T00:00:00.000Z",
            })
        );
        let message = pb::Message { seq: 7, message_type: "text".into(), ..pb::Message::default() };
        assert_eq!(
            serde_json::to_value(Message::from(message)).expect("JSON"),
            serde_json::json!({
                "id": "", "seq": 7, "roomId": "", "userId": "", "username": "", "content": "", "messageType": "text",
                "metadata": {}, "clientMessageId": "", "createdAt": "1970-01-01T00:00:00.000Z",
                "updatedAt": "1970-01-01T00:00:00.000Z",
            })
        );
    }

    #[test]
    fn pages_are_counted_to_the_last_incomplete_one() {
        let pages = |page, total| {
            let p = Pagination::new(page, 50, total);
            (p.total_pages, p.has_next, p.has_previous)
        };
        assert_eq!(pages(1, 0), (0, false, false));
        assert_eq!(pages(1, 50), (1, false, false));
        assert_eq!(pages(1, 51), (2, true, false));
        assert_eq!(pages(2, 51), (2, false, true));
        assert_eq!(pages(9, 51), (2, false, true));
    }
}
