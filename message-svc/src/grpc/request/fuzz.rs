//! Requests as they come off the wire: whatever bytes decode becomes a value that holds every limit, or a refusal that
//! names its fields.

use mesh::error::Reason;
use prost_types::FieldMask;
use test_input::{Edits, bytes, check_violations};

use super::*;
use crate::{
    member::Standing,
    store::{JoinedBefore, NamedAfter},
};

const ROOM: &str = "3f1c0de0-0000-4000-8000-000000000001";

fn check(refusal: &Refusal) {
    assert_eq!(refusal.reason, Reason::ValidationFailed);
    check_violations(refusal.violations.iter().map(|violation| (&*violation.field, &*violation.message)));
}

/// What an edited example decodes to, if it does.
fn decoded<T: prost::Message + Default>(examples: &[T], edits: &Edits) -> Option<T> {
    let examples: Vec<_> = examples.iter().map(prost::Message::encode_to_vec).collect();
    T::decode(&*bytes(&examples, edits)).ok()
}

fn cursor() -> String {
    Cursor { log: crate::id::LogId::random(), seq: 7 }.encode()
}

#[test]
fn a_send_is_within_its_limits_or_refused_by_field() {
    let limits = Limits::default();
    let metadata = text::struct_from_json(&test_input::object(b"\x05\x08\x01a\x07\x01b\x06\x03\x08\x02cd"));
    let send = pb::SendMessageRequest {
        room_id: ROOM.into(),
        content: "hello 😀".into(),
        message_type: "app.image".into(),
        metadata: Some(metadata),
        client_message_id: "c-1".into(),
    };
    let examples = [pb::SendMessageRequest { room_id: ROOM.into(), content: "x".into(), ..Default::default() }, send];
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let Some(request) = decoded(&examples, edits) else { return };
        let given = request.clone();
        match draft(request, &limits) {
            Ok((room, draft)) => {
                assert_eq!(room.0.to_string(), given.room_id.to_ascii_lowercase());
                assert_eq!(draft.content, given.content);
                assert!(draft.content.chars().count() <= limits.content_chars_max && !draft.content.contains('\0'));
                assert!((1..=limits.client_message_id_chars_max).contains(&draft.client_id.as_str().len()));
                let metadata = serde_json::to_string(&draft.metadata).expect("JSON");
                assert!(metadata.len() <= limits.metadata_bytes_max && !metadata.contains("\\u0000"));
            }
            Err(refusal) => check(&refusal),
        }
    });
}

#[test]
fn a_room_that_is_made_or_changed_is_within_its_limits_or_refused_by_field() {
    let limits = Limits::default();
    let by = UserId(uuid::Uuid::nil());
    let create = pb::CreateRoomRequest {
        room_id: ROOM.into(),
        name: "a room".into(),
        description: "of ours".into(),
        room_type: pb::RoomType::Private.into(),
    };
    let paths = vec!["name".into(), "description".into()];
    let room = pb::Room { id: ROOM.into(), name: "another".into(), description: "x".into(), ..Default::default() };
    let change = pb::UpdateRoomRequest { room: Some(room), update_mask: Some(FieldMask { paths }) };
    let good = |name: &str| name.trim() == name && (1..=limits.room_name_chars_max).contains(&name.chars().count());
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        if let Some(request) = decoded(std::slice::from_ref(&create), edits) {
            match new_room(&request, by, &limits) {
                Ok(room) => {
                    assert!(good(&room.meta.name) && room.meta.id.0.get_version_num() == ROOM_ID_VERSION);
                    assert!(room.meta.description.chars().count() <= limits.description_chars_max);
                }
                Err(refusal) => check(&refusal),
            }
        }
        if let Some(request) = decoded(std::slice::from_ref(&change), edits) {
            match update(request, by, &limits) {
                Ok((_, Change::Update { name, description, .. })) => {
                    assert!(name.is_some() || description.is_some(), "a change of nothing");
                    assert!(name.as_deref().is_none_or(good));
                }
                Ok((_, other)) => panic!("no update: {other:?}"),
                Err(refusal) => check(&refusal),
            }
        }
    });
}

#[test]
fn a_page_of_anything_is_within_its_limits_or_refused_by_field() {
    let limits = Limits::default();
    let room_id = ROOM.to_owned();
    let before = Some(pb::list_messages_request::Position::Before(7));
    let messages = pb::ListMessagesRequest { room_id: room_id.clone(), page_size: 10, position: before };
    let log = pb::ListEntriesRequest { room_id: room_id.clone(), cursor: cursor(), page_size: 10 };
    let members = pb::ListMembersRequest { room_id, page_size: 3, page_token: Standing(1 << 40).encode() };
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        if let Some(request) = decoded(std::slice::from_ref(&messages), edits) {
            match history(&request, &limits) {
                Ok((_, position, size)) => {
                    assert!((1..=limits.page_max).contains(&size));
                    let (Position::Page(number) | Position::Before(number) | Position::After(number)) = position;
                    assert!(number >= 0);
                }
                Err(refusal) => check(&refusal),
            }
        }
        if let Some(request) = decoded(std::slice::from_ref(&log), edits) {
            match entries(&request, &limits) {
                Ok((_, cursor, size)) => {
                    assert!((1..=limits.entries_page_max).contains(&size));
                    assert_eq!(cursor.map(Cursor::encode).unwrap_or_default(), request.cursor);
                }
                Err(refusal) => check(&refusal),
            }
        }
        if let Some(request) = decoded(std::slice::from_ref(&members), edits) {
            match page::<Standing>(request.page_size, &request.page_token, &limits, Violations::default()) {
                Ok((size, after)) => {
                    assert!((1..=limits.page_max).contains(&size));
                    assert_eq!(after.map(|after| after.encode()).unwrap_or_default(), request.page_token);
                }
                Err(refusal) => check(&refusal),
            }
        }
    });
}

#[test]
fn a_page_token_or_cursor_of_any_text_is_none_or_the_one_that_was_given() {
    let joined = JoinedBefore { joined_at: mesh::time::Millis(5), room: RoomId::random() }.encode();
    let named = NamedAfter { name: "a name 😀".into(), room: RoomId::random() }.encode();
    let examples = [joined, named, Standing(-1).encode(), cursor()];
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let given = test_input::text(&examples, edits);
        if let Ok(Some(token)) = JoinedBefore::decode("t", &given) {
            assert_eq!(token.encode(), given);
        }
        if let Ok(Some(token)) = NamedAfter::decode("t", &given) {
            assert!(!token.name.contains('\0'));
            assert_eq!(token.encode(), given);
        }
        if let Ok(Some(token)) = Standing::decode("t", &given) {
            assert_eq!(token.encode(), given);
        }
        if let Ok(cursor) = Cursor::decode(&given) {
            assert!(cursor.seq >= 0);
            assert_eq!(cursor.encode(), given);
        }
    });
}
