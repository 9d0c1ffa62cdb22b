//! The stored form of what happened in an entry: JSON, the same in every backend and between replicas, readable with any
//! tool. Fields may be added with a default; names and meanings never change, because logs are for ever.

use std::{borrow::Cow, sync::Arc};

use mesh::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    entry::{Event, MembersChanged, RoomClosed, RoomUpdated},
    id::UserId,
    message::{self, ClientMessageId, Message},
    room::RoomType,
    store::StoreError,
};

#[cfg(test)]
mod fuzz;

/// What an entry is, as a number in its own column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Message = 1,
    Members = 2,
    Updated = 3,
    Closed = 4,
}

impl Kind {
    pub(crate) fn of(event: &Event) -> Self {
        match event {
            Event::Message(_) => Self::Message,
            Event::Members(_) => Self::Members,
            Event::Updated(_) => Self::Updated,
            Event::Closed(_) => Self::Closed,
        }
    }
}

/// A message; its sender and its client id have columns of their own.
#[derive(Serialize, Deserialize)]
struct MessageForm<'a> {
    #[serde(borrow)]
    username: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
    /// Left out for `text`, which most are.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    message_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    metadata: Cow<'a, Map<String, Value>>,
}

fn is_empty(metadata: &Map<String, Value>) -> bool {
    metadata.is_empty()
}

#[derive(Serialize, Deserialize)]
struct MembersForm {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    joined: Vec<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<Uuid>,
    member_count: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    new_owner: Option<Uuid>,
}

#[derive(Serialize, Deserialize)]
struct UpdatedForm<'a> {
    room_type: i64,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    description: Cow<'a, str>,
    created_by: Option<Uuid>,
    created_at: i64,
    member_count: i64,
}

#[derive(Serialize, Deserialize)]
struct ClosedForm {
    by: Option<Uuid>,
}

/// The stored form of what happened.
pub(crate) fn encode(event: &Event) -> String {
    let text = match event {
        Event::Message(message) => serde_json::to_string(&MessageForm {
            username: Cow::Borrowed(&message.username),
            content: Cow::Borrowed(&message.content),
            message_type: (message.message_type != message::TEXT).then_some(Cow::Borrowed(&*message.message_type)),
            metadata: Cow::Borrowed(&message.metadata),
        }),
        Event::Members(change) => serde_json::to_string(&MembersForm {
            joined: change.joined.iter().map(|user| user.0).collect(),
            left: change.left.iter().map(|user| user.0).collect(),
            removed: change.removed.iter().map(|user| user.0).collect(),
            member_count: change.member_count,
            new_owner: change.new_owner.map(|user| user.0),
        }),
        Event::Updated(room) => serde_json::to_string(&UpdatedForm {
            room_type: type_number(room.room_type),
            name: Cow::Borrowed(&room.name),
            description: Cow::Borrowed(&room.description),
            created_by: room.created_by.map(|user| user.0),
            created_at: room.created_at.0,
            member_count: room.member_count,
        }),
        Event::Closed(closed) => serde_json::to_string(&ClosedForm { by: closed.by.map(|user| user.0) }),
    };
    text.expect("invariant: these forms have text keys only")
}

/// What happened, from its stored form. `sent` is the sender and the client id, for a message.
pub(crate) fn decode(kind: i64, payload: &str, sent: Option<(UserId, &str)>) -> Result<Event, StoreError> {
    const MESSAGE: i64 = Kind::Message as i64;
    const MEMBERS: i64 = Kind::Members as i64;
    const UPDATED: i64 = Kind::Updated as i64;
    const CLOSED: i64 = Kind::Closed as i64;
    Ok(match kind {
        MESSAGE => {
            let (sender, client_id) = sent.ok_or_else(|| StoreError::Damaged("a message without sender".into()))?;
            let form: MessageForm<'_> = parse(payload)?;
            Event::Message(Arc::new(Message {
                sender,
                username: Arc::from(&*form.username),
                content: form.content.into_owned(),
                message_type: form.message_type.map_or_else(|| message::TEXT.to_owned(), Cow::into_owned),
                metadata: form.metadata.into_owned(),
                client_id: ClientMessageId::stored(client_id),
            }))
        }
        MEMBERS => {
            let form: MembersForm = parse(payload)?;
            Event::Members(MembersChanged {
                joined: form.joined.into_iter().map(UserId).collect(),
                left: form.left.into_iter().map(UserId).collect(),
                removed: form.removed.into_iter().map(UserId).collect(),
                member_count: form.member_count,
                new_owner: form.new_owner.map(UserId),
            })
        }
        UPDATED => {
            let form: UpdatedForm<'_> = parse(payload)?;
            Event::Updated(RoomUpdated {
                room_type: room_type(form.room_type)?,
                name: form.name.into_owned(),
                description: form.description.into_owned(),
                created_by: form.created_by.map(UserId),
                created_at: Millis(form.created_at),
                member_count: form.member_count,
            })
        }
        CLOSED => {
            let form: ClosedForm = parse(payload)?;
            Event::Closed(RoomClosed { by: form.by.map(UserId) })
        }
        other => return Err(StoreError::Damaged(format!("an entry of the unknown kind {other}"))),
    })
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, StoreError> {
    // The error of serde_json names a position, never the content.
    serde_json::from_str(payload).map_err(|error| StoreError::Damaged(format!("an entry's payload: {error}")))
}

/// A room's type as a number.
pub(crate) fn type_number(room_type: RoomType) -> i64 {
    match room_type {
        RoomType::Public => 1,
        RoomType::Private => 2,
        RoomType::Direct => 3,
    }
}

/// A room's type from its number.
pub(crate) fn room_type(number: i64) -> Result<RoomType, StoreError> {
    match number {
        1 => Ok(RoomType::Public),
        2 => Ok(RoomType::Private),
        3 => Ok(RoomType::Direct),
        other => Err(StoreError::Damaged(format!("a room of the unknown type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_comes_back_as_it_was() {
        let user = UserId(Uuid::now_v7());
        let metadata = serde_json::json!({"a": [1, 2.5, 98.37282740013183, 5e-324, null, {"ü": "😀"}], "b": "\u{1}\""});
        let message = Message {
            sender: user,
            username: "ada".into(),
            content: "line\n\"quoted\" \u{2028} 😀".into(),
            message_type: "text".into(),
            metadata: metadata.as_object().cloned().unwrap_or_default(),
            client_id: ClientMessageId::stored("c-1"),
        };
        let change =
            MembersChanged { joined: vec![user], member_count: 1, new_owner: Some(user), ..Default::default() };
        let updated = RoomUpdated {
            room_type: RoomType::Private,
            name: "n".into(),
            description: String::new(),
            created_by: None,
            created_at: Millis(5),
            member_count: 3,
        };
        for event in [
            Event::Message(Arc::new(message.clone())),
            Event::Message(Arc::new(Message { message_type: "app.x".into(), metadata: Map::new(), ..message })),
            Event::Members(change),
            Event::Updated(updated),
            Event::Closed(RoomClosed { by: Some(user) }),
        ] {
            let sent = Some((user, "c-1"));
            let back = decode(Kind::of(&event) as i64, &encode(&event), sent).expect("decodes");
            assert_eq!(back, event);
        }
        assert!(decode(9, "{}", None).is_err());
        assert!(decode(1, "{}", None).is_err());
    }
}
