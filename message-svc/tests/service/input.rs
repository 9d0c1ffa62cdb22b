//! Bad input: each gets a refusal that names the field, and changes nothing.

use mesh::{
    error::Reason,
    proto::message::v1::{list_messages_request::Position, *},
};
use tonic::Code;

use crate::world::{World, answer, fields, reason};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_caller_nothing_is_answered() {
    let world = World::start().await;
    let status = world.stranger().get_room(GetRoomRequest::default()).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
    let (mut client, request) = world.gateway(GetRoomRequest::default());
    assert_eq!(reason(answer(client.get_room(request).await)), Reason::Unauthorized, "a service is no user");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_of_a_message_is_named_at_once() {
    let world = World::start().await;
    let ada = world.person("ada");
    let room = ada.create("Room", RoomType::Public).await;
    let deep = (0..20).fold(prost_types::Value::default(), |inner, _| prost_types::Value {
        kind: Some(prost_types::value::Kind::ListValue(prost_types::ListValue { values: vec![inner] })),
    });
    let bad = SendMessageRequest {
        room_id: "7".into(),
        content: " \n ".into(),
        message_type: "a b".into(),
        metadata: Some(prost_types::Struct { fields: [("deep".to_owned(), deep)].into() }),
        client_message_id: "ä".into(),
    };
    let named = fields(answer(ada.client().send_message(ada.request(bad)).await));
    assert_eq!(named, ["room_id", "content", "message_type", "metadata", "client_message_id"]);
    for content in ["", "\0", &"x".repeat(8_001), "a\0b"] {
        assert_eq!(fields(ada.send(&room, content).await), ["content"]);
    }
    ada.send(&room, &"😀".repeat(8_000)).await.expect("8,000 characters are good");
    assert_eq!(ada.get(&room).await.expect("is there").last_seq, 1, "nothing else was written");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_pages_tokens_and_cursors_are_named() {
    let world = World::start().await;
    let ada = world.person("ada");
    for (name, room_type, room_id, expected) in [
        ("", RoomType::Public, "", &["name"][..]),
        ("   ", RoomType::Public, "", &["name"]),
        ("a\u{7}b", RoomType::Public, "", &["name"]),
        (&"😀".repeat(1_000), RoomType::Public, "", &["name"]),
        ("x", RoomType::Direct, "", &["room_type"]),
        ("x", RoomType::Unspecified, "nonsense", &["room_type", "room_id"]),
        ("x", RoomType::Public, "0198c0de-0000-7000-8000-000000000001", &["room_id"]),
    ] {
        let message = CreateRoomRequest {
            name: name.to_owned(),
            room_type: room_type.into(),
            room_id: room_id.into(),
            description: String::new(),
        };
        assert_eq!(fields(answer(ada.client().create_room(ada.request(message)).await)), expected);
    }
    let room = ada.create("Room", RoomType::Public).await;
    for size in [-1, 101, 10_000] {
        assert_eq!(fields(ada.history(&room, None, size).await), ["page_size"]);
    }
    assert_eq!(fields(ada.history(&room, Some(Position::Page(0)), 0).await), ["page"]);
    assert_eq!(fields(ada.history(&room, Some(Position::Before(-1)), 0).await), ["before"]);
    assert_eq!(fields(ada.history("general", None, 0).await), ["room_id"]);
    let list = ListRoomsRequest { page_size: 0, page_token: "garbage".into() };
    assert_eq!(fields(answer(ada.client().list_rooms(ada.request(list)).await)), ["page_token"]);
    let entries = async |room: &str, cursor: &str| {
        let message = ListEntriesRequest { room_id: room.into(), cursor: cursor.into(), page_size: 0 };
        answer(ada.client().list_entries(ada.request(message)).await)
    };
    for garbage in ["garbage", "AAAA", &"A".repeat(200)] {
        assert_eq!(fields(entries(&room, garbage).await), ["cursor"]);
    }
    let other = ada.create("Other", RoomType::Public).await;
    ada.send(&other, "x").await.expect("sent");
    let foreign = entries(&other, "").await.expect("the present").cursor;
    assert_eq!(reason(entries(&room, &foreign).await), Reason::CursorLost, "from another room");
    let mask = UpdateRoomRequest {
        room: Some(Room { id: room.clone(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["created_by".into()] }),
    };
    assert_eq!(fields(answer(ada.client().update_room(ada.request(mask)).await)), ["update_mask"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_comes_by_page_and_by_window() {
    let world = World::start().await;
    let ada = world.person("ada");
    let room = ada.create("Room", RoomType::Private).await;
    for n in 0..10 {
        if n == 4 {
            ada.add(&room, &world.person("bob").id).await.expect("added");
        }
        ada.send(&room, &n.to_string()).await.expect("sent");
    }
    let page = async |position, size| {
        let page = ada.history(&room, position, size).await.expect("read");
        assert_eq!(page.total, 10);
        let said: String = page.messages.iter().map(|message| &*message.content).collect();
        (said, page.has_older, page.has_newer)
    };
    let at = |said: &str, older, newer| (said.to_owned(), older, newer);
    assert_eq!(page(None, 0).await, at("0123456789", false, false));
    assert_eq!(page(None, 4).await, at("6789", true, false));
    assert_eq!(page(Some(Position::Page(2)), 4).await, at("2345", true, true));
    assert_eq!(page(Some(Position::Page(3)), 4).await, at("01", false, true));
    assert_eq!(page(Some(Position::Page(4)), 4).await, at("", false, true));
    assert_eq!(page(Some(Position::Page(i32::MAX)), 100).await, at("", false, true));
    // The fifth entry is a join: message 4 has the seq 6.
    assert_eq!(page(Some(Position::Before(6)), 2).await, at("23", true, true));
    assert_eq!(page(Some(Position::Before(1)), 2).await, at("", false, true));
    assert_eq!(page(Some(Position::Before(i64::MAX)), 2).await, at("89", true, false));
    assert_eq!(page(Some(Position::After(4)), 2).await, at("45", true, true));
    assert_eq!(page(Some(Position::After(0)), 2).await, at("01", false, true));
    assert_eq!(page(Some(Position::After(i64::MAX)), 2).await, at("", true, false));
    world.stop().await;
}
