//! An entry of a room's log as clients get it: encoded once, shared by all sockets of the room and by the acks that
//! carry it as missed. It decides nothing about who gets it.

use mesh::proto::message::v1::{self as pb, entry::Event};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    json,
    realtime::packet::{self, Frame},
};

/// A position in a room's log: just after the entry `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::realtime) struct Position {
    pub(in crate::realtime) seq: i64,
    /// What clients come back with. Opaque here as well.
    pub(in crate::realtime) cursor: Box<str>,
}

/// Who came and went by an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::realtime) struct Change {
    pub(in crate::realtime) joined: Vec<Uuid>,
    pub(in crate::realtime) gone: Vec<Uuid>,
}

/// An entry in its only encoding.
#[derive(Clone, Debug)]
pub(in crate::realtime) struct Encoded {
    /// Just after it.
    pub(in crate::realtime) position: Position,
    /// The event, ready to be sent.
    pub(in crate::realtime) frame: Frame,
    /// The event's name.
    pub(in crate::realtime) event: &'static str,
    /// Who came and went, if anybody.
    pub(in crate::realtime) change: Option<Box<Change>>,
    /// Whether nothing comes after it.
    pub(in crate::realtime) closes: bool,
}

impl Encoded {
    /// Encodes an entry of a room; `cursor` is just after it.
    pub(in crate::realtime) fn new(room_id: &str, entry: pb::Entry, cursor: String) -> Self {
        let place = Place { room_id, seq: entry.seq, cursor: &cursor };
        let mut change = None;
        let closes = matches!(entry.event, Some(Event::RoomClosed(_)));
        let (event, data) = match entry.event {
            Some(Event::Message(message)) => {
                ("new_message", to_json(&NewMessage { message: message.into(), cursor: &cursor }))
            }
            Some(Event::Members(members)) => {
                change = Some(Box::new(Change::from(&members)));
                ("members_changed", to_json(&MembersChanged::new(place, &members)))
            }
            Some(Event::RoomUpdated(updated)) => ("room_updated", room_updated(place, updated)),
            Some(Event::RoomClosed(_)) => ("room_closed", to_json(&place)),
            // Newer than this gateway: the client still sees that `seq` has no hole.
            None => ("entry", to_json(&place)),
        };
        let position = Position { seq: entry.seq, cursor: cursor.into() };
        Self { position, frame: packet::event(event, &data), event, change, closes }
    }

    /// The event's payload as JSON.
    pub(in crate::realtime) fn data(&self) -> &str {
        let frame = self.frame.as_str();
        &frame[packet::event_head(self.event).len()..frame.len() - 1]
    }

    /// About how much memory it takes.
    pub(in crate::realtime) fn bytes(&self) -> usize {
        self.frame.len() + self.position.cursor.len() + size_of::<Self>()
    }

    /// What it says of one user: in, out, or nothing.
    pub(in crate::realtime) fn membership(&self, user: Uuid) -> Option<bool> {
        let change = self.change.as_deref()?;
        if change.gone.contains(&user) {
            return Some(false);
        }
        change.joined.contains(&user).then_some(true)
    }
}

impl From<&pb::MembersChanged> for Change {
    fn from(members: &pb::MembersChanged) -> Self {
        let ids = |ids: &[String]| ids.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect::<Vec<_>>();
        let mut gone = ids(&members.left);
        gone.extend(ids(&members.removed));
        Self { joined: ids(&members.joined), gone }
    }
}

/// Where an event belongs.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place<'a> {
    room_id: &'a str,
    seq: i64,
    cursor: &'a str,
}

#[derive(Serialize)]
struct NewMessage<'a> {
    #[serde(flatten)]
    message: json::Message,
    cursor: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MembersChanged<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    joined: &'a [String],
    left: &'a [String],
    removed: &'a [String],
    member_count: i64,
    /// Who became owner by this; absent when nobody did.
    #[serde(skip_serializing_if = "str::is_empty")]
    new_owner: &'a str,
}

impl<'a> MembersChanged<'a> {
    fn new(place: Place<'a>, members: &'a pb::MembersChanged) -> Self {
        Self {
            place,
            joined: &members.joined,
            left: &members.left,
            removed: &members.removed,
            member_count: members.member_count,
            new_owner: &members.new_owner,
        }
    }
}

/// The entry's room comes without its members; an empty list would say that there are none, so the key is left out.
fn room_updated(place: Place<'_>, updated: pb::RoomUpdated) -> String {
    #[derive(Serialize)]
    struct RoomUpdated<'a> {
        #[serde(flatten)]
        place: Place<'a>,
        room: serde_json::Value,
    }
    let mut room = serde_json::to_value(json::Room::from(updated.room.unwrap_or_default())).unwrap_or_default();
    if let Some(room) = room.as_object_mut() {
        room.remove("members");
    }
    to_json(&RoomUpdated { place, room })
}

fn to_json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("invariant: the contract's forms have text keys and nothing that can fail")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn encode(event: Option<Event>) -> Encoded {
        Encoded::new("r", pb::Entry { seq: 7, create_time: None, event }, "c".into())
    }

    fn data(encoded: &Encoded) -> Value {
        serde_json::from_str(encoded.data()).expect("JSON")
    }

    #[test]
    fn a_message_has_its_own_fields_and_its_cursor() {
        let message = pb::Message { seq: 7, content: "\"é\u{1e}".into(), ..pb::Message::default() };
        let encoded = encode(Some(Event::Message(message.clone())));
        let mut expected = serde_json::to_value(json::Message::from(message)).expect("JSON");
        expected["cursor"] = "c".into();
        assert_eq!(data(&encoded), expected);
        assert_eq!(encoded.frame.as_str(), format!(r#"2["new_message",{}]"#, encoded.data()));
        // Polling separates packets by this character.
        assert!(!encoded.frame.as_str().contains('\u{1e}'));
    }

    #[test]
    fn who_came_and_went_is_told_and_known() {
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        let members = pb::MembersChanged {
            joined: vec![a.to_string()],
            left: vec![b.to_string()],
            removed: vec![c.to_string()],
            member_count: 4,
            new_owner: String::new(),
        };
        let encoded = encode(Some(Event::Members(members)));
        assert_eq!(
            data(&encoded),
            json!({"roomId": "r", "seq": 7, "cursor": "c", "joined": [a], "left": [b], "removed": [c], "memberCount": 4})
        );
        let of = |user| encoded.membership(user);
        assert_eq!((of(a), of(b), of(c), of(Uuid::nil())), (Some(true), Some(false), Some(false), None));
    }

    #[test]
    fn a_changed_room_comes_without_members_and_a_closed_one_alone() {
        let room = pb::Room { name: "n".into(), ..pb::Room::default() };
        let updated = encode(Some(Event::RoomUpdated(pb::RoomUpdated { room: Some(room) })));
        let shown = data(&updated);
        assert_eq!((shown["room"]["name"].as_str(), shown["room"].get("members")), (Some("n"), None));
        let closed = encode(Some(Event::RoomClosed(pb::RoomClosed::default())));
        assert_eq!((closed.event, data(&closed)), ("room_closed", json!({"roomId": "r", "seq": 7, "cursor": "c"})));
        assert!(closed.closes && !updated.closes);
    }

    #[test]
    fn an_entry_that_this_build_does_not_know_leaves_no_hole() {
        assert_eq!(encode(None).frame, r#"2["entry",{"roomId":"r","seq":7,"cursor":"c"}]"#);
    }
}
