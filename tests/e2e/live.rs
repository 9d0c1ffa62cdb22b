//! Live delivery over Socket.IO: what each event looks like, who gets it, in which order, and that no entry of a room's
//! log is left out.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    accounts::check_time,
    mesh::Mesh,
    rest::{Api, Person},
    socketio::Socket,
};

/// The next events of a room's log, checked to follow `last` without a hole.
pub(crate) async fn entries(socket: &mut Socket, room: &str, last: i64, count: usize) -> Vec<(String, Value)> {
    let mut seen = Vec::new();
    let mut next = last + 1;
    while seen.len() < count {
        let event = socket.next().await.expect("the connection lasts");
        if event.data["roomId"] != room || event.data["seq"].is_null() {
            continue;
        }
        assert_eq!(event.data["seq"], next, "{event:?}");
        assert!(event.data["cursor"].as_str().is_some_and(|cursor| !cursor.is_empty()), "{event:?}");
        next += 1;
        seen.push((event.name, event.data));
    }
    seen
}

#[tokio::test]
async fn a_connection_is_greeted_and_its_first_events_are_heard() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let mut socket = ada.socket().await;
    let hello = socket.event("connected").await.data;
    assert_eq!(hello["userId"], ada.id);
    assert!(hello["socketId"].is_string() && hello["sessionId"].is_string(), "{hello}");
    check_time(&hello["serverTime"]);
}

#[tokio::test]
async fn a_message_reaches_every_socket_of_the_room_whatever_it_was_sent_by() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let room = ada.room("public").await;
    let (mut one, mut two, mut three) = (ada.socket().await, ada.socket().await, bob.socket().await);
    one.join(&room, None).await;
    two.join(&room, None).await;
    let ack = three.join(&room, None).await;
    assert_eq!((&ack["recovered"], &ack["missed"], &ack["more"]), (&false.into(), &json!([]), &false.into()), "{ack}");
    assert_eq!((&ack["room"]["id"], &ack["room"]["memberCount"]), (&room.clone().into(), &2.into()), "{ack}");
    assert!(ack["cursor"].is_string() && ack["messages"] == json!([]), "{ack}");

    let sent = json!({"roomId": room, "content": "by socket", "metadata": {"a": 1}, "clientMessageId": "c1"});
    let first = one.ok("send_message", sent).await["message"].take();
    let second = bob.send(&room, "by REST").await;
    let third = ada.rpc(&mesh).send(&room, "by gRPC", "c3").await.unwrap().message.unwrap();
    for (socket, last) in [(&mut one, 0), (&mut two, 0), (&mut three, 1)] {
        let seen = entries(socket, &room, last, usize::try_from(4 - last).unwrap()).await;
        let messages: Vec<_> =
            seen.into_iter().filter(|(name, _)| name == "new_message").map(|(_, data)| data).collect();
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[2]["id"], third.id);
        for (event, message) in messages.iter().zip([&first, &second]) {
            let mut event = event.clone();
            assert!(event.as_object_mut().unwrap().remove("cursor").is_some(), "{event}");
            assert_eq!(&event, message, "the message's own fields and one more");
        }
    }
}

#[tokio::test]
async fn every_entry_of_the_log_is_an_event_in_order() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let eve = Person::register(&api, "eve").await;
    let room = ada.room("public").await;
    let path = format!("/rooms/{room}");
    let mut socket = ada.socket().await;
    socket.join(&room, None).await;
    bob.join(&room).await;
    ada.send(&room, "hello").await;
    bob.call(Method::POST, &format!("{path}/leave"), None).await.ok(200);
    ada.post(&format!("{path}/members"), json!({"userId": eve.id})).await.ok(200);
    ada.delete(&format!("{path}/members/{}", eve.id)).await.ok(200);
    ada.patch(&path, json!({"name": "renamed"})).await.ok(200);
    ada.delete(&path).await.ok(200);
    let seen = entries(&mut socket, &room, 0, 7).await;
    let names: Vec<_> = seen.iter().map(|(name, _)| name.as_str()).collect();
    let changed = "members_changed";
    assert_eq!(names, [changed, "new_message", changed, changed, changed, "room_updated", "room_closed"]);
    let members = |index: usize| {
        let data = &seen[index].1;
        (data["joined"].clone(), data["left"].clone(), data["removed"].clone(), data["memberCount"].clone())
    };
    assert_eq!(members(0), (json!([bob.id]), json!([]), json!([]), 2.into()));
    assert_eq!(members(2), (json!([]), json!([bob.id]), json!([]), 1.into()));
    assert_eq!(members(3), (json!([eve.id]), json!([]), json!([]), 2.into()));
    assert_eq!(members(4), (json!([]), json!([]), json!([eve.id]), 1.into()));
    assert_eq!(seen[5].1["room"]["name"], "renamed");
}

#[tokio::test]
async fn typing_is_seen_by_the_others_and_ends_by_itself() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let room = ada.room("public").await;
    let (mut one, mut two) = (ada.socket().await, bob.socket().await);
    one.join(&room, None).await;
    two.join(&room, None).await;
    let expected = json!({"roomId": room, "userId": bob.id, "username": bob.username});
    two.ok("typing_start", json!({"roomId": room})).await;
    assert_eq!(one.event("typing_start").await.data, expected);
    two.ok("typing_stop", json!({"roomId": room})).await;
    assert_eq!(one.event("typing_stop").await.data, expected);
    two.ok("typing_start", json!({"roomId": room})).await;
    let start = one.event("typing_start").await;
    let stop = one.event("typing_stop").await;
    crate::wait::say(&format!("a start of typing ended by itself after {:?}", stop.at - start.at));
    let own: Vec<_> = two.arrived().into_iter().filter(|event| event.name.starts_with("typing")).collect();
    assert!(own.is_empty(), "one's own typing came back: {own:?}");
    let eve = Person::register(&api, "eve").await.socket().await;
    eve.refused("typing_start", json!({"roomId": room}), 403, "NOT_A_MEMBER").await;
}

#[tokio::test]
async fn leaving_a_room_on_a_socket_stops_its_delivery_and_nothing_else() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let (room, other) = (ada.room("private").await, ada.room("private").await);
    let (mut one, mut two) = (ada.socket().await, ada.socket().await);
    for socket in [&one, &two] {
        socket.join(&room, None).await;
        socket.join(&other, None).await;
    }
    one.ok("leave_room", json!({"roomId": room})).await;
    one.ok("leave_room", json!({"roomId": room})).await;
    one.ok("send_message", json!({"roomId": room, "content": "still a member"})).await;
    ada.send(&other, "the last").await;
    entries(&mut two, &room, 0, 1).await;
    let event = one.event("new_message").await;
    assert_eq!(event.data["roomId"], other, "delivery went on: {event:?}");
    ada.get(&format!("/rooms/{room}")).await.ok(200);
}

#[tokio::test]
async fn events_of_one_socket_are_handled_in_the_order_sent() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut socket = ada.socket().await;
    socket.join(&room, None).await;
    for index in 0..300 {
        socket.emit("send_message", &json!({"roomId": room, "content": index.to_string()}));
    }
    let seen = entries(&mut socket, &room, 0, 300).await;
    let contents: Vec<_> =
        seen.iter().map(|(_, data)| data["content"].as_str().unwrap().parse::<i32>().unwrap()).collect();
    assert_eq!(contents, (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn all_in_one_and_four_processes_do_the_same_for_a_browser() {
    let mesh = Mesh::plan().separate().start();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let room = ada.room("private").await;
    ada.post(&format!("/rooms/{room}/members"), json!({"userId": bob.id})).await.ok(200);
    let (mut one, two) = (ada.socket().await, bob.socket().await);
    let ack = one.join(&room, None).await;
    two.join(&room, None).await;
    two.ok("send_message", json!({"roomId": room, "content": "over four processes"})).await;
    let (_, event) = entries(&mut one, &room, ack["room"]["lastSeq"].as_i64().unwrap(), 1).await.remove(0);
    assert_eq!((&event["content"], &event["username"]), (&"over four processes".into(), &bob.username.clone().into()));
    assert_eq!(ada.history(&room).await.len(), 1);
}
