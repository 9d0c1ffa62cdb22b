//! Losing a room while using it: a member who is removed, and a room that is closed, under load. The last entry that they
//! see says so, and nothing of theirs is accepted after it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    mesh::Mesh,
    rest::{Api, Person},
    socketio::{Event, Socket},
    wait,
};

/// Sends one message after the other until told to stop; gives the seqs of those accepted and the codes of the others.
fn keep_sending(socket: Socket, room: &str, stop: &Arc<AtomicBool>) -> JoinHandle<(Vec<i64>, Vec<String>)> {
    let (room, stop) = (room.to_owned(), stop.clone());
    tokio::spawn(async move {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let ack = socket.call("send_message", json!({"roomId": room, "content": "on and on"})).await;
            match ack["message"]["seq"].as_i64() {
                Some(seq) => accepted.push(seq),
                None => refused.push(ack["code"].as_str().expect("a code").to_owned()),
            }
        }
        (accepted, refused)
    })
}

/// Collects a room's events until one of this name has come and then for as long as others still hear of the room.
async fn until_last(socket: &mut Socket, room: &str, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = socket.next().await.expect("the connection lasts");
        if event.data["roomId"] != room || event.data["seq"].is_null() {
            continue;
        }
        let last = is_last(&event);
        events.push(event);
        if last {
            return events;
        }
    }
}

fn seqs(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.data["seq"].as_i64().unwrap()).collect()
}

fn check_dense(seqs: &[i64]) {
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
}

#[tokio::test]
async fn a_member_removed_while_watching_and_sending_hears_of_it_last_and_sends_no_more() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let room = ada.room("private").await;
    let members = format!("/rooms/{room}/members");
    ada.post(&members, json!({"userId": bob.id})).await.ok(200);
    let (mut watcher, mut owner) = (bob.socket().await, ada.socket().await);
    watcher.join(&room, None).await;
    owner.join(&room, None).await;
    let mut stream = bob.rpc(&mesh).watch(&room, "").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = keep_sending(bob.socket().await, &room, &stop);
    let others = keep_sending(ada.socket().await, &room, &stop);
    until_last(&mut watcher, &room, |event| event.data["seq"].as_i64() >= Some(50)).await;
    ada.delete(&format!("{members}/{}", bob.id)).await.ok(200);
    let removed = |event: &Event| event.data["removed"] == json!([bob.id]);
    let seen = until_last(&mut watcher, &room, removed).await;
    check_dense(&seqs(&seen));
    let removal = *seqs(&seen).last().unwrap();
    let mut streamed = Vec::new();
    while let Some(Ok(answer)) = wait::within("the stream", stream.next()).await {
        streamed.push(answer.entry.unwrap().seq);
    }
    check_dense(&streamed);
    assert_eq!(streamed.last(), Some(&removal), "the stream ends with the entry that says so");

    until_last(&mut owner, &room, |event| event.data["seq"].as_i64() > Some(removal + 50)).await;
    stop.store(true, Ordering::Relaxed);
    let (accepted, refused) = theirs.await.unwrap();
    assert!(
        accepted.iter().all(|seq| *seq < removal),
        "a send was accepted after the removal at {removal}: {accepted:?}"
    );
    assert!(refused.iter().all(|code| code == "ROOM_NOT_FOUND") && !refused.is_empty(), "{refused:?}");
    others.await.unwrap();
    let late: Vec<_> = watcher.arrived().into_iter().filter(|event| event.data["roomId"] == room).collect();
    assert!(late.is_empty(), "heard after the removal: {late:?}");
    watcher.refused("join_room", json!({"roomId": room}), 404, "ROOM_NOT_FOUND").await;
    let by_bob = |message: &&Value| message["userId"] == bob.id;
    assert_eq!(ada.history(&room).await.iter().filter(by_bob).count(), accepted.len());
}

#[tokio::test]
async fn a_room_closed_under_load_ends_with_the_entry_that_says_so() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let room = ada.room("public").await;
    bob.join(&room).await;
    let (mut one, mut two) = (ada.socket().await, bob.socket().await);
    one.join(&room, None).await;
    two.join(&room, None).await;
    let mut stream = ada.rpc(&mesh).watch(&room, "").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let senders = [&ada, &bob].map(|person| person.socket());
    let mut sending = Vec::new();
    for socket in senders {
        sending.push(keep_sending(socket.await, &room, &stop));
    }
    until_last(&mut two, &room, |event| event.data["seq"].as_i64() >= Some(50)).await;
    ada.delete(&format!("/rooms/{room}")).await.ok(200);
    let mut last = 0;
    for socket in [&mut one, &mut two] {
        let seen = until_last(socket, &room, |event| event.name == "room_closed").await;
        check_dense(&seqs(&seen));
        last = *seqs(&seen).last().unwrap();
    }
    let mut streamed = Vec::new();
    while let Some(Ok(answer)) = wait::within("the stream", stream.next()).await {
        streamed.push(answer.entry.unwrap().seq);
    }
    check_dense(&streamed);
    assert_eq!(streamed.last(), Some(&last));
    two.refused("send_message", json!({"roomId": room, "content": "x"}), 404, "ROOM_NOT_FOUND").await;
    stop.store(true, Ordering::Relaxed);
    for task in sending {
        let (accepted, refused) = task.await.unwrap();
        assert!(accepted.iter().all(|seq| *seq < last), "accepted after the close at {last}: {accepted:?}");
        assert!(refused.iter().all(|code| code == "ROOM_NOT_FOUND"), "{refused:?}");
    }
    one.refused("join_room", json!({"roomId": room}), 404, "ROOM_NOT_FOUND").await;
    let late: Vec<_> = one.arrived().into_iter().filter(|event| event.data["roomId"] == room).collect();
    assert!(late.is_empty(), "heard after the close: {late:?}");
}
