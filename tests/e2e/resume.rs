//! Coming back: what was missed is given by cursor, in pages, once and whole, or the client is told that it cannot be.

use std::collections::HashMap;

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    live::entries,
    mesh::Mesh,
    rest::{Api, Person, check_field},
    rpc,
    socketio::Socket,
    stores, wait,
};

/// Joins with a cursor, and again while there is more; gives the seqs missed and the last ack.
pub(crate) async fn catch_up(socket: &Socket, room: &str, cursor: &str) -> (Vec<i64>, usize, Value) {
    let (mut seqs, mut cursor, mut pages) = (Vec::new(), cursor.to_owned(), 0);
    loop {
        let ack = socket.join(room, Some(&cursor)).await;
        assert_eq!(ack["recovered"], true, "{ack}");
        let missed = ack["missed"].as_array().unwrap();
        assert!(missed.len() <= 500, "{} missed entries on one page", missed.len());
        seqs.extend(missed.iter().map(|event| event["data"]["seq"].as_i64().unwrap()));
        cursor = ack["cursor"].as_str().unwrap().to_owned();
        pages += 1;
        if ack["more"] == false {
            return (seqs, pages, ack);
        }
    }
}

#[tokio::test]
async fn a_client_that_was_away_gets_what_it_missed_as_the_events_it_would_have_had() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let room = ada.room("public").await;
    let mut socket = ada.socket().await;
    socket.join(&room, None).await;
    ada.send(&room, "seen").await;
    let cursor = entries(&mut socket, &room, 0, 1).await[0].1["cursor"].as_str().unwrap().to_owned();
    drop(socket);
    let mut witness = ada.socket().await;
    witness.join(&room, None).await;
    bob.join(&room).await;
    bob.send(&room, "missed").await;
    ada.patch(&format!("/rooms/{room}"), json!({"name": "renamed"})).await.ok(200);
    let lived: Vec<Value> = entries(&mut witness, &room, 1, 3)
        .await
        .into_iter()
        .map(|(event, data)| json!({"event": event, "data": data}))
        .collect();

    let mut socket = ada.socket().await;
    let ack = socket.join(&room, Some(&cursor)).await;
    assert_eq!((&ack["recovered"], &ack["more"], &ack["messages"]), (&true.into(), &false.into(), &json!([])), "{ack}");
    assert_eq!(ack["missed"], Value::Array(lived));
    ada.send(&room, "live again").await;
    entries(&mut socket, &room, 4, 1).await;
    // The cursor of the ack is as good as that of an event: nothing after it is missing or given twice.
    let again = ada.socket().await.join(&room, ack["cursor"].as_str()).await;
    assert_eq!(again["missed"][0]["data"]["seq"], 5, "{again}");
}

#[tokio::test]
async fn five_thousand_missed_entries_are_caught_up_in_pages_each_once() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let socket = ada.socket().await;
    let ack = socket.join(&room, None).await;
    let cursor = ack["cursor"].as_str().unwrap().to_owned();
    drop(socket);
    let rpc = ada.rpc(&mesh);
    let sent = futures::stream::iter(0..5_000)
        .map(|index| {
            let (rpc, room) = (rpc.clone(), room.clone());
            async move { rpc.send(&room, "missed", &format!("m{index}")).await.expect("sent") }
        })
        .buffer_unordered(64)
        .count()
        .await;
    assert_eq!(sent, 5_000);
    let mut socket = ada.socket().await;
    let begun = std::time::Instant::now();
    let (seqs, pages, _) = catch_up(&socket, &room, &cursor).await;
    wait::say(&format!("5,000 missed entries were caught up in {pages} pages and {:?}", begun.elapsed()));
    assert_eq!(seqs, (1..=5_000).collect::<Vec<_>>());
    ada.send(&room, "live").await;
    entries(&mut socket, &room, 5_000, 1).await;

    let (mut seqs, mut cursor) = (Vec::new(), cursor);
    loop {
        let page = rpc.entries(&room, &cursor).await.unwrap();
        seqs.extend(page.entries.iter().map(|entry| entry.seq));
        cursor = page.cursor;
        if !page.more {
            break;
        }
    }
    assert_eq!(seqs, (1..=5_001).collect::<Vec<_>>(), "over gRPC");
}

#[tokio::test]
async fn a_join_under_load_is_followed_by_exactly_the_entries_after_its_cursor() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let rpc = ada.rpc(&mesh);
    let start = ada.socket().await.join(&room, None).await;
    let sender = tokio::spawn({
        let room = room.clone();
        async move {
            for index in 0..600 {
                rpc.send(&room, "load", &format!("l{index}")).await.expect("sent");
            }
        }
    });
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let socket = ada.socket().await;
        let (seqs, _, ack) = catch_up(&socket, &room, start["cursor"].as_str().unwrap()).await;
        assert_eq!(seqs, (1..=i64::try_from(seqs.len()).unwrap()).collect::<Vec<_>>(), "{ack}");
        sockets.push((socket, i64::try_from(seqs.len()).unwrap()));
    }
    wait::within("the sender", sender).await.unwrap();
    for (mut socket, last) in sockets {
        entries(&mut socket, &room, last, usize::try_from(600 - last).unwrap()).await;
    }
}

#[tokio::test]
async fn a_cursor_that_proves_nothing_is_answered_with_the_newest_page() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let (room, other) = (ada.room("private").await, ada.room("private").await);
    for index in 0..60 {
        ada.send(&room, &index.to_string()).await;
    }
    let mut socket = ada.socket().await;
    let foreign = socket.join(&other, None).await["cursor"].take();
    let ack = socket.join(&room, foreign.as_str()).await;
    assert_eq!((&ack["recovered"], &ack["missed"], &ack["more"]), (&false.into(), &json!([]), &false.into()));
    let seqs: Vec<_> =
        ack["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (11..=60).collect::<Vec<_>>(), "the newest page");
    ada.send(&room, "live").await;
    entries(&mut socket, &room, 60, 1).await;
    for garbage in ["nonsense", "AAAA", "💥"] {
        let refusal =
            socket.refused("join_room", json!({"roomId": room, "cursor": garbage}), 400, "VALIDATION_FAILED").await;
        check_field(&refusal, "cursor", "cursor");
    }
    let long = "A".repeat(129);
    let refusal = socket.refused("join_room", json!({"roomId": room, "cursor": long}), 400, "VALIDATION_FAILED").await;
    check_field(&refusal, "cursor", "cursor");
}

#[tokio::test]
async fn a_cursor_from_a_future_that_was_lost_is_not_believed() {
    if !stores::sqlite_only("a database that is put back from a copy of its file") {
        return;
    }
    let mesh = Mesh::plan().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    ada.send(&room, "kept").await;
    assert!(mesh.stop(mesh.parts()[0]).success());
    let store = mesh.data().join("messages.db");
    let backup = std::fs::read(&store).unwrap();
    mesh.start_all();
    ada.send(&room, "lost").await;
    let cursor = ada.socket().await.join(&room, None).await["cursor"].take();
    assert!(mesh.stop(mesh.parts()[0]).success());
    for suffix in ["-wal", "-shm"] {
        drop(std::fs::remove_file(mesh.data().join(format!("messages.db{suffix}"))));
    }
    std::fs::write(&store, backup).unwrap();
    mesh.start_all();
    let ack = ada.socket().await.join(&room, cursor.as_str()).await;
    assert_eq!(ack["recovered"], false, "{ack}");
    assert_eq!(ack["messages"].as_array().unwrap().len(), 1, "{ack}");
    rpc::refused(ada.rpc(&mesh).entries(&room, cursor.as_str().unwrap()).await, "CURSOR_LOST");
    let mut stream = match ada.rpc(&mesh).watch(&room, cursor.as_str().unwrap()).await {
        Ok(stream) => stream,
        Err(status) => return drop(rpc::refused(Err::<(), _>(status), "CURSOR_LOST")),
    };
    rpc::refused(stream.message().await, "CURSOR_LOST");
}

#[tokio::test]
async fn rooms_named_in_auth_are_joined_at_once_and_answered_one_by_one() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, eve) = (Person::register(&api, "ada").await, Person::register(&api, "eve").await);
    let (room, hidden) = (ada.room("private").await, eve.room("private").await);
    let cursor = ada.socket().await.join(&room, None).await["cursor"].take();
    ada.send(&room, "missed").await;
    let rooms = json!({"rooms": {&room: cursor, &hidden: cursor, "no-room": ""}});
    let mut socket = ada.socket_with(rooms).await.unwrap();
    let mut answers = HashMap::new();
    for _ in 0..3 {
        let data = socket.event("room_joined").await.data;
        answers.insert(data["roomId"].as_str().unwrap().to_owned(), data);
    }
    let joined = &answers[&room];
    assert_eq!((&joined["success"], &joined["recovered"]), (&true.into(), &true.into()), "{joined}");
    assert_eq!(joined["missed"][0]["data"]["content"], "missed", "{joined}");
    assert_eq!((&answers[&hidden]["success"], &answers[&hidden]["code"]), (&false.into(), &"ROOM_NOT_FOUND".into()));
    assert_eq!(answers["no-room"]["success"], false, "{answers:?}");
    ada.send(&room, "live").await;
    entries(&mut socket, &room, 1, 1).await;
}
