//! Sessions of Socket.IO as no client would have them: packets, events and acks of any text in any order, cuts in the
//! middle, polling, and upgrades to WebSocket. Nothing may be answered with a fault of the server's, every session ends or
//! goes on, and the server serves on with no more memory than before.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use rand::{RngExt as _, rngs::StdRng};
use reqwest::Client;
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use super::{chances, check_well, edits, factor};
use crate::{
    mesh::{Mesh, Part},
    rest::{Api, Person},
    socketio::{next_text, open},
    wait,
};

/// Sessions of each kind.
const SESSIONS: u64 = 60;
/// Packets of one session, at most.
const PACKETS_MAX: usize = 25;
/// How long what comes back is read at the end of a session.
const LISTEN: Duration = Duration::from_millis(30);
/// What a process may grow by: more than the rooms and people of this test, and less than one leak a session.
const GROWTH_KIB_MAX: u64 = 128 << 10;

/// The packets that a session is made of.
struct Packets {
    examples: Vec<String>,
}

impl Packets {
    fn new(room: &str, token: &str) -> Self {
        let events = [
            json!(["join_room", {"roomId": room}]),
            json!(["join_room", {"roomId": room, "cursor": "AbCd"}]),
            json!(["send_message", {"roomId": room, "content": "hello 😀", "metadata": {"a": [1, {"b": null}]}}]),
            json!(["typing_start", {"roomId": room}]),
            json!(["leave_room", {"roomId": room}]),
            json!(["no_such_event"]),
        ];
        let mut examples: Vec<_> = events.iter().map(|event| format!("42{event}")).collect();
        examples.extend(events.iter().zip(1..).map(|(event, id)| format!("42{id}{event}")));
        let others = [
            "2",
            "2probe",
            "3",
            "5",
            "6",
            "1",
            "40",
            "40/admin,",
            "41",
            "43[]",
            "4361[{}]",
            "451-[{\"_placeholder\":true}]",
        ];
        examples.extend(others.map(str::to_owned));
        examples.push(format!("40{}", json!({"token": token, "rooms": {room: null}})));
        Self { examples }
    }

    /// One as it is, or edited.
    fn one(&self, chances: &mut StdRng) -> String {
        // What ends a connection is rarer than what goes on.
        let good = self.examples[chances.random_range(0..self.examples.len())].clone();
        match chances.random_range(0..8) {
            0 => test_input::text(&self.examples, &edits(chances)),
            1 => format!("42{}", test_input::json(&chances.random::<[u8; 32]>())),
            _ if matches!(good.as_str(), "1" | "41") && chances.random_bool(0.8) => "3".to_owned(),
            _ => good,
        }
    }
}

/// Whatever the server says, it does not say that something of its own is broken.
fn check_said(said: &str) {
    assert!(!said.contains("\"INTERNAL\"") && !said.contains("\"statusCode\":500"), "{said}");
}

/// Over WebSocket.
async fn websocket(chances: &mut StdRng, url: &str, packets: &Packets, token: &str) {
    let Some(mut stream) = open(url, None, None).await else { return };
    let hello = next_text(&mut stream).await.expect("the greeting");
    assert!(hello.starts_with('0'), "{hello}");
    if chances.random_bool(0.8) {
        drop(stream.send(Message::text(format!("40{}", json!({"token": token})))).await);
    }
    for _ in 0..chances.random_range(1..PACKETS_MAX) {
        let message = match chances.random_range(0..20) {
            0 => Message::binary(chances.random::<[u8; 24]>().to_vec()),
            1 => Message::Ping(vec![1].into()),
            _ => Message::text(packets.one(chances)),
        };
        if stream.send(message).await.is_err() {
            break;
        }
    }
    if chances.random_bool(0.3) {
        // Cut, with all that is on its way.
        return;
    }
    while let Ok(Some(Ok(message))) = tokio::time::timeout(LISTEN, stream.next()).await {
        check_said(&message.into_text().map(|text| text.to_string()).unwrap_or_default());
    }
}

/// Over polling, and to WebSocket when it comes to that.
async fn polling(chances: &mut StdRng, client: &Client, url: &str, packets: &Packets, token: &str) {
    let at = format!("{url}/socket/?EIO=4&transport=polling");
    let greeting = client.get(&at).send().await.expect("an answer").text().await.expect("text");
    let hello: Value = serde_json::from_str(greeting.get(1..).unwrap_or_default()).expect("the greeting");
    let sid = hello["sid"].as_str().expect("an id").to_owned();
    let at = format!("{at}&sid={sid}");
    let hello = format!("40{}", json!({"token": token}));
    for round in 0..chances.random_range(1..8) {
        let body = if round == 0 && chances.random_bool(0.8) {
            hello.clone()
        } else {
            let several: Vec<_> = (0..chances.random_range(1..5)).map(|_| packets.one(chances)).collect();
            several.join(if chances.random_bool(0.9) { "\u{1e}" } else { "\n" })
        };
        let post = client.post(&at).body(body).send();
        let answer = tokio::time::timeout(wait::LIMIT, post).await.expect("it does not hang").expect("an answer");
        let status = answer.status();
        assert!(status.as_u16() < 500 || status.as_u16() == 503, "{status}");
        check_said(&answer.text().await.unwrap_or_default());
        // A poll waits until there is something to say, so not all of them are waited for.
        if let Ok(Ok(answer)) = tokio::time::timeout(LISTEN, client.get(&at).send()).await {
            assert!(answer.status().as_u16() < 500, "{}", answer.status());
            check_said(&answer.text().await.unwrap_or_default());
        }
        if chances.random_bool(0.2) {
            upgrade(chances, url, &sid, packets).await;
        }
    }
}

/// Goes on as a WebSocket, properly or not.
async fn upgrade(chances: &mut StdRng, url: &str, sid: &str, packets: &Packets) {
    let at = format!("{}/socket/?EIO=4&transport=websocket&sid={sid}", url.replacen("http", "ws", 1));
    let Ok(Ok((mut stream, _))) = tokio::time::timeout(wait::LIMIT, connect_async(at)).await else { return };
    let proper = [String::from("2probe"), String::from("5"), packets.one(chances)];
    for text in proper {
        let text = if chances.random_bool(0.8) { text } else { packets.one(chances) };
        if stream.send(Message::text(text)).await.is_err() {
            return;
        }
    }
    while let Ok(Some(Ok(message))) = tokio::time::timeout(LISTEN, stream.next()).await {
        check_said(&message.into_text().map(|text| text.to_string()).unwrap_or_default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_any_packets_in_any_order_break_and_keep_nothing() {
    let mesh = Mesh::plan().set("gateway.rates.enabled", false).start();
    let ada = Person::register(&Api::new(&mesh), "ada").await;
    let room = ada.room("public").await;
    let client = Client::builder().no_proxy().timeout(wait::LIMIT).build().expect("a client");
    let mut chances = chances("Socket.IO");
    let before = mesh.memory_kib(Part::All);
    for _ in 0..SESSIONS * factor() {
        let (token, spare) = (ada.ws_token().await, ada.ws_token().await);
        let packets = Packets::new(&room, &spare);
        websocket(&mut chances, &mesh.url(), &packets, &token).await;
        let token = ada.ws_token().await;
        polling(&mut chances, &client, &mesh.url(), &packets, &token).await;
    }
    check_well(&mesh).await;
    let after = mesh.memory_kib(Part::All);
    wait::say(&format!("Socket.IO: memory {before} → {after} KiB"));
    assert!(after < before + GROWTH_KIB_MAX, "{before} → {after} KiB");
}
