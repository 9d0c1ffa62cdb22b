//! Bad input over Socket.IO: payloads, frames and names that are none. Each is answered or ends the one connection that
//! sent it, nothing changes, and the process serves on.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::{
    mesh::Mesh,
    rest::{Person, check_field, check_refusal},
    socketio::{Socket, open},
};

const EVENTS: [&str; 5] = ["join_room", "leave_room", "send_message", "typing_start", "typing_stop"];

#[tokio::test]
async fn an_event_with_no_payload_or_the_wrong_one_is_refused_by_field() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut socket = ada.socket().await;
    for name in EVENTS {
        for payload in
            [json!(null), json!("text"), json!(7), json!([1]), json!({}), json!({"roomId": 7}), json!({"roomId": "x"})]
        {
            let shown = format!("{name} {payload}");
            let ack = socket.call(name, payload).await;
            assert_eq!(ack["statusCode"], 400, "{shown}: {ack}");
            check_refusal(&ack, 400, "VALIDATION_FAILED");
        }
        // No payload at all, and no ack asked for.
        socket.raw(format!("42[\"{name}\"]"));
        let error = socket.event("error").await.data;
        check_refusal(&error, 400, "VALIDATION_FAILED");
        // A room that is not there has been left already.
        if name != "leave_room" {
            socket.refused(name, json!({"roomId": Uuid::new_v4(), "content": "x"}), 404, "ROOM_NOT_FOUND").await;
        }
    }
    for (field, value, says) in [
        ("content", json!(null), ""),
        ("content", json!(7), ""),
        ("content", json!("  "), "8000"),
        ("content", json!("x".repeat(8_001)), "8000"),
        ("content", json!("a\0b"), ""),
        ("messageType", json!("a b"), ""),
        ("metadata", json!({"x": "y".repeat(8 << 10)}), "8192"),
        ("metadata", json!("text"), ""),
        ("clientMessageId", json!("x".repeat(65)), "64"),
    ] {
        let mut payload = json!({"roomId": room, "content": "x"});
        payload[field] = value;
        let ack = socket.refused("send_message", payload, 400, "VALIDATION_FAILED").await;
        check_field(&ack, field, says);
    }
    let ack = socket.refused("join_room", json!({"roomId": room, "cursor": 7}), 400, "VALIDATION_FAILED").await;
    check_field(&ack, "cursor", "");
    assert_eq!(ada.get(&format!("/rooms/{room}")).await.ok(200)["room"]["lastSeq"], 0);
    socket.ok("send_message", json!({"roomId": room, "content": "served on"})).await;
}

#[tokio::test]
async fn an_unknown_event_is_refused_and_the_socket_lives_on() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut socket = ada.socket().await;
    for name in ["no_such_event", "", "constructor", "💥", &"x".repeat(1_000)] {
        let ack = socket.call(name, json!({"roomId": room})).await;
        let (status, code) = (ack["statusCode"].as_u64().unwrap(), ack["code"].as_str().unwrap().to_owned());
        check_refusal(&ack, u16::try_from(status).unwrap(), &code);
        assert!((400..500).contains(&status), "{ack}");
        socket.emit(name, &json!({}));
        socket.event("error").await;
    }
    socket.ok("join_room", json!({"roomId": room})).await;
}

#[tokio::test]
async fn a_megabyte_is_refused_and_more_ends_the_connection_that_sent_it_and_no_other() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let (neighbour, mut socket) = (ada.socket().await, ada.socket().await);
    let large = |bytes: usize| json!({"roomId": room, "content": "x".repeat(bytes)});
    for event in ["send_message", "join_room", "no_such_event"] {
        let ack = socket.refused(event, large(1 << 20), 413, "PAYLOAD_TOO_LARGE").await;
        assert!(ack["message"].as_str().unwrap().contains("65536"), "the limit is not named: {ack}");
    }
    socket.emit("send_message", &large(1 << 20));
    check_refusal(&socket.event("error").await.data, 413, "PAYLOAD_TOO_LARGE");
    socket.emit("send_message", &large(4 << 20));
    socket.ended().await;
    let mut socket = ada.socket().await;
    socket.raw_binary(vec![0; 4 << 20]);
    socket.ended().await;
    neighbour.ok("send_message", json!({"roomId": room, "content": "still here"})).await;
    assert_eq!(ada.history(&room).await.len(), 1);
}

#[tokio::test]
async fn frames_that_are_no_packets_hurt_nobody() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let neighbour = ada.socket().await;
    let deep = format!("42[\"join_room\",{}", "[".repeat(20_000));
    let counted = format!("42{}[\"join_room\",{{}}]", "9".repeat(40));
    for frame in [
        "",
        "4",
        "42",
        "42[",
        "42[]",
        "42{}",
        "42[7]",
        "42[null,null]",
        "42\"x\"",
        "42[\"join_room\"",
        "43[]",
        "439[]",
        "44{}",
        "45[]",
        "46-[\"x\"]",
        "451-[\"x\",{\"_placeholder\":true,\"num\":0}]",
        "9",
        "x",
        "2probe",
        "5",
        "6",
        "40",
        "41",
        "42/other,[\"join_room\"]",
        "42[\"join_room\",{\"roomId\":\"\\ud800\"}]",
        &deep,
        &counted,
    ] {
        let mut socket = ada.socket().await;
        socket.raw(frame);
        // Whether it is ignored, refused or ends this connection is the protocol's business: what comes after it is
        // either served or the connection has ended.
        match socket.try_call("leave_room", json!({"roomId": room}), std::time::Duration::from_secs(2)).await {
            Ok(ack) => assert_eq!(ack["success"], true, "{frame:.40}: {ack}"),
            Err(_) => drop(socket.arrived()),
        }
    }
    let mut socket = ada.socket().await;
    socket.raw_binary(vec![0xff; 64]);
    drop(socket.try_call("leave_room", json!({"roomId": room}), std::time::Duration::from_secs(2)).await);
    drop(socket.arrived());
    neighbour.ok("send_message", json!({"roomId": room, "content": "still here"})).await;
}

#[tokio::test]
async fn auth_that_is_none_is_refused_with_the_error_object() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    for (auth, status) in [
        (json!({}), 401),
        (json!({"token": null}), 401),
        (json!({"token": ""}), 401),
        (json!({"token": 7}), 401),
        (json!([]), 400),
        (json!("text"), 400),
    ] {
        let refused = Socket::connect(&mesh.url(), auth.clone()).await.expect_err("no token").0;
        assert_eq!((&refused["statusCode"], &refused["success"]), (&status.into(), &false.into()), "{auth}: {refused}");
        assert!(refused["requestId"].is_string(), "{auth}: {refused}");
    }
    let rooms: serde_json::Map<String, Value> =
        (0..101).map(|_| (Uuid::new_v4().to_string(), Value::from(""))).collect();
    for rooms in [json!(rooms), json!("text"), json!([1])] {
        let refused = ada.socket_with(json!({"rooms": rooms})).await.expect_err("bad rooms");
        check_field(&refused.0, "rooms", if rooms.is_object() { "100" } else { "" });
    }
    // A refused connection may be asked for again on the same WebSocket, and one that never greets harms nobody.
    let mut stream = open(&mesh.url(), None, None).await.expect("an open WebSocket");
    stream.send(Message::text("40{broken")).await.unwrap();
    drop(tokio::time::timeout(std::time::Duration::from_millis(300), stream.next()).await);
    drop(open(&mesh.url(), None, None).await);
    ada.socket().await;
}
