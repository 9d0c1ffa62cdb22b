//! Two replicas of message-svc over one store: each room at one of them, the rooms of one that is killed at the other, and
//! what becomes of a room when two gateways do not agree whose it is.

use std::collections::{BTreeMap, HashSet};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    live::entries,
    mesh::{Mesh, Part, Replica},
    rest::{Api, Person},
    socketio::Socket,
    wait,
};

const ROOMS: usize = 16;
/// Sends to each room in each part of a test.
const SENDS: usize = 24;

fn active(mesh: &Mesh, replica: Replica) -> f64 {
    mesh.metric(replica, "switchboard_message_rooms_active")
}

/// Sends until it is acknowledged; gives the message.
async fn send(socket: &Socket, room: &str, id: &str) -> Value {
    let payload = json!({"roomId": room, "content": id, "clientMessageId": id});
    let answered = wait::until("the send to be acknowledged", async || {
        let answer = socket.call("send_message", payload.clone()).await;
        if answer["success"] == true {
            return Some(answer);
        }
        assert!(["UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&answer["code"].as_str().unwrap()), "{answer}");
        None
    });
    answered.await["message"].take()
}

/// Sends to every room, one after the other in each and to all rooms at once.
async fn send_all(senders: &[Socket], rooms: &[String], part: &str) {
    let rooms = senders.iter().zip(rooms);
    join_all(rooms.map(async |(socket, room)| {
        for number in 0..SENDS {
            send(socket, room, &format!("{part}-{number}")).await;
        }
    }))
    .await;
}

/// The seq of the last of these events.
fn last(heard: &[(String, Value)]) -> i64 {
    heard.last().map_or(0, |(_, data)| data["seq"].as_i64().unwrap())
}

/// A name for each send of these parts, in order.
fn names<'a>(parts: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    parts.iter().flat_map(|part| (0..SENDS).map(move |number| format!("{part}-{number}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_move_when_their_replica_is_killed_and_nothing_is_lost_or_told_twice() {
    // A machine that is busy with tests is slow, not dead; a killed process is noticed without waiting. Rooms stay with
    // the process that wrote them, so that it can be counted where they were written.
    let plan = Mesh::plan().replicas(1, 2).set("mesh.replicas.silence_ms_max", 60_000);
    let mesh = plan.set("message.rooms.idle_secs", 3_600).start();
    let (gateway, one, two) =
        (mesh.replica(Part::Gateway, 0), mesh.replica(Part::Message, 0), mesh.replica(Part::Message, 1));
    // Two of each of the three services.
    let healthy = async || (mesh.metric(gateway, "switchboard_replicas_healthy") >= 6.0).then_some(());
    wait::until("all replicas to be used", healthy).await;

    let ada = Person::new(&mesh, "ada").await;
    let (mut rooms, mut watchers, mut senders) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROOMS {
        let (room, watcher) = (ada.room("public").await, ada.socket().await);
        watcher.join(&room, None).await;
        rooms.push(room);
        watchers.push(watcher);
        senders.push(ada.socket().await);
    }
    send_all(&senders, &rooms, "calm").await;
    let (at_one, at_two) = (active(&mesh, one), active(&mesh, two));
    assert!(at_one > 0.0 && at_two > 0.0, "{at_one} rooms at one replica and {at_two} at the other");
    assert_eq!((at_one + at_two).to_string(), ROOMS.to_string(), "each room is written by one replica");

    let mut heard = Vec::new();
    for (room, watcher) in rooms.iter().zip(&mut watchers) {
        heard.push(entries(watcher, room, 0, SENDS).await);
    }
    let killing = async {
        // In the middle of the sends: some of each room have come, and most have not.
        for (number, watcher) in watchers.iter_mut().enumerate() {
            let next = entries(watcher, &rooms[number], last(&heard[number]), 1).await;
            heard[number].extend(next);
        }
        mesh.kill(one);
    };
    futures::join!(send_all(&senders, &rooms, "killed"), killing);
    assert_eq!(active(&mesh, two).to_string(), ROOMS.to_string(), "the other one has all rooms");
    mesh.start(one);
    wait::until("it to be used again", healthy).await;
    send_all(&senders, &rooms, "back").await;
    assert_eq!(active(&mesh, one).to_string(), at_one.to_string(), "its rooms have come back, and no others");

    let expected: Vec<_> = names(&["calm", "killed", "back"]).collect();
    for ((room, watcher), mut heard) in rooms.iter().zip(&mut watchers).zip(heard) {
        let rest = entries(watcher, room, last(&heard), expected.len() - heard.len()).await;
        heard.extend(rest);
        let heard: Vec<_> = heard.iter().map(|(_, data)| data["clientMessageId"].as_str().unwrap()).collect();
        assert_eq!(heard, expected);
        assert_eq!(ada.history(room).await.len(), expected.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_disagree_whose_a_room_is_keep_its_order_and_send_once() {
    let mesh = Mesh::plan().replicas(2, 2).one_sided(0, 0).one_sided(1, 1).start();
    let here = Person::new(&mesh, "ada").await;
    let there = Person { api: Api::new(&mesh).at(&mesh.urls()[1]), ..here.clone() };
    let room = here.room("public").await;
    let mut watchers = [here.socket().await, there.socket().await];
    for watcher in &watchers {
        watcher.join(&room, None).await;
    }
    let senders = [here.socket().await, there.socket().await];
    // Both send the same ids at the same time, and others of their own.
    let sent = join_all(senders.iter().enumerate().map(async |(side, socket)| {
        let mut seqs = Vec::new();
        for number in 0..SENDS {
            seqs.push(send(socket, &room, &format!("both-{number}")).await["seq"].as_i64().unwrap());
            send(socket, &room, &format!("{side}-{number}")).await;
        }
        seqs
    }))
    .await;
    assert_eq!(sent[0], sent[1], "one id is one message, whoever was asked");
    for number in [0, 1] {
        let written = active(&mesh, mesh.replica(Part::Message, number));
        assert!(written > 0.0, "replica {number} wrote no room, so nobody disagreed");
    }
    let stored: BTreeMap<_, _> = here
        .history(&room)
        .await
        .iter()
        .map(|message| (message["seq"].as_i64().unwrap(), message["clientMessageId"].to_string()))
        .collect();
    assert_eq!(stored.values().collect::<HashSet<_>>().len(), 3 * SENDS, "each send is there once");
    for watcher in &mut watchers {
        let heard = entries(watcher, &room, 0, 3 * SENDS).await;
        let heard: BTreeMap<_, _> = heard
            .iter()
            .map(|(_, data)| (data["seq"].as_i64().unwrap(), data["clientMessageId"].to_string()))
            .collect();
        assert_eq!(heard, stored, "both watchers heard what is stored");
    }
}
