//! A peer that stops reading: its connection is ended, its neighbours do not feel it, and it resumes by cursor with every
//! entry once.

use std::time::Instant;

use futures::StreamExt as _;
use serde_json::json;

use crate::{
    live::entries,
    mesh::Mesh,
    rest::{Api, Person},
    resume::catch_up,
    socketio::Socket,
    wait,
};

/// Big messages fill the buffers on the way soon.
const CONTENT_CHARS: usize = 8_000;

#[tokio::test]
async fn a_socket_that_stops_reading_is_closed_and_resumes_with_each_entry_once() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let room = ada.room("private").await;
    ada.post(&format!("/rooms/{room}/members"), json!({"userId": bob.id})).await.ok(200);
    let mut neighbour = ada.socket().await;
    neighbour.join(&room, None).await;
    let mut slow = Socket::connect_narrow(&mesh.url(), json!({"token": bob.ws_token().await})).await.unwrap();
    let ack = slow.join(&room, None).await;
    let start = ack["room"]["lastSeq"].as_i64().unwrap();
    slow.reading(false);
    let begun = Instant::now();
    let rpc = ada.rpc(&mesh);
    let content = "x".repeat(CONTENT_CHARS);
    let count: usize = 1_200;
    let sent = futures::stream::iter(0..count)
        .map(|index| {
            let (rpc, room, content) = (rpc.clone(), room.clone(), content.clone());
            async move { rpc.send(&room, &content, &format!("s{index}")).await.expect("sent") }
        })
        .buffer_unordered(16)
        .count()
        .await;
    assert_eq!(sent, count);
    entries(&mut neighbour, &room, start, count).await;
    wait::say(&format!(
        "{count} messages of {CONTENT_CHARS} characters reached the neighbour in {:?}",
        begun.elapsed()
    ));

    // Reading again shows what was on its way, and then the end of the connection.
    slow.reading(true);
    let events = slow.ended().await;
    wait::say(&format!("the socket that stopped reading was closed within {:?}", begun.elapsed()));
    let got: Vec<_> = events.iter().filter(|event| event.name == "new_message").collect();
    assert!(got.len() < count, "nothing was dropped on purpose: the buffers held it all");
    let seqs: Vec<_> = got.iter().map(|event| event.data["seq"].as_i64().unwrap()).collect();
    assert!(seqs.iter().copied().eq(start + 1..=start + i64::try_from(got.len()).unwrap()), "{seqs:?}");
    let cursor = got.last().map_or(&ack["cursor"], |event| &event.data["cursor"]).as_str().unwrap();
    let last = start + i64::try_from(got.len()).unwrap();

    let mut socket = bob.socket().await;
    let (missed, pages, _) = catch_up(&socket, &room, cursor).await;
    wait::say(&format!("it had {} entries and caught up {} in {pages} pages", got.len(), missed.len()));
    assert!(missed.iter().copied().eq(last + 1..=start + i64::try_from(count).unwrap()), "{missed:?}");
    ada.send(&room, "live").await;
    entries(&mut socket, &room, start + i64::try_from(count).unwrap(), 1).await;
}
