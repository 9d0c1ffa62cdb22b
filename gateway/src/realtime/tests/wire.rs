//! Real connections, spoken to in the protocol's own text: what a stock client would see, and what it would never send.
//! The stock client itself is in the end-to-end tests.

#![expect(clippy::print_stdout, reason = "times are printed and never asserted")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use futures::{SinkExt as _, StreamExt as _};
use mesh::{
    identity::UserCaller,
    serve::{ServeLimits, serve},
    time::Millis,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message, protocol::frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::until;
use crate::{
    config::GatewayConfig,
    layers,
    realtime::{self, Realtime, fake::FakeMesh},
};

/// A gateway on a port, with fakes behind it.
pub(super) struct Gateway {
    pub(super) mesh: FakeMesh,
    pub(super) realtime: Realtime,
    pub(super) address: SocketAddr,
    _end: tokio_util::sync::DropGuard,
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let (mesh, end) = (FakeMesh::start_with(change).await, CancellationToken::new());
        let (layer, realtime) = realtime::build(Arc::clone(&mesh.edge), end.clone());
        let router = Router::new().fallback(async || "not a socket").layer(layer);
        let router = layers::around_all(router, &mesh.edge);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        // The connection's own limits must not do what is the sockets' to do.
        let limits = ServeLimits { send_buffer_bytes: 8 * 1024, write_timeout_ms: 600_000, ..ServeLimits::default() };
        let token = end.clone();
        tokio::spawn(async move { serve(listener, router, &limits, token).await });
        Self { mesh, realtime, address, _end: end.drop_guard() }
    }

    pub(super) fn user() -> UserCaller {
        let session_id = Some(Uuid::now_v7());
        UserCaller { user_id: Uuid::now_v7(), session_id, roles: Vec::new(), expires: None, via: None, scopes: None }
    }

    pub(super) fn token(&self, user: &UserCaller) -> String {
        self.mesh.edge.ws_tokens.issue(user).0
    }

    pub(super) fn url(&self, scheme: &str, rest: &str) -> String {
        format!("{scheme}://{}/socket/?EIO=4&transport={rest}", self.address)
    }

    /// A WebSocket that has only been opened.
    pub(super) async fn open(&self) -> Client {
        let (socket, _) = tokio_tungstenite::connect_async(self.url("ws", "websocket")).await.expect("a WebSocket");
        let mut client = Client(socket);
        assert!(client.raw().await.expect("open").starts_with('0'));
        client
    }

    /// A connected socket of a user.
    pub(super) async fn connect(&self, user: &UserCaller) -> Client {
        let mut client = self.open().await;
        client.send(&format!("40{}", json!({"token": self.token(user)}))).await;
        assert!(client.packet().await.starts_with("0{\"sid\":"));
        let connected = client.event("connected").await;
        assert_eq!(connected["userId"], user.user_id.to_string());
        client
    }
}

pub(super) struct Client(pub(super) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// A WebSocket, or the status of the refusal.
    pub(super) async fn try_open(url: &str) -> Result<Self, u16> {
        match tokio_tungstenite::connect_async(url).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// The next message as it is, a ping of Engine.IO included; none when the connection has ended.
    pub(super) async fn plain(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(Duration::from_secs(30), self.0.next()).await.expect("something in time");
        next.and_then(Result::ok).filter(|message| !message.is_close())
    }

    /// The code that the server closes with.
    pub(super) async fn close_code(&mut self) -> Option<CloseCode> {
        let next = tokio::time::timeout(Duration::from_secs(30), self.0.next()).await.expect("something in time");
        match next? {
            Ok(Message::Close(frame)) => frame.map(|frame| frame.code),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("sent");
    }

    /// The next Engine.IO packet; none when the connection has ended.
    pub(super) async fn raw(&mut self) -> Option<String> {
        tokio::time::timeout(Duration::from_secs(30), self.raw_in_time()).await.expect("something in time")
    }

    async fn raw_in_time(&mut self) -> Option<String> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => self.send("3").await,
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_)) | None | Some(Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_))) => {
                    return None;
                }
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// The next Socket.IO packet.
    pub(super) async fn packet(&mut self) -> String {
        let raw = self.raw().await.expect("the connection lives");
        raw.strip_prefix('4').unwrap_or_else(|| panic!("no message: {raw}")).to_owned()
    }

    pub(super) async fn event(&mut self, name: &str) -> Value {
        let packet = self.packet().await;
        let event: Value = serde_json::from_str(packet.strip_prefix('2').expect("an event")).expect("JSON");
        assert_eq!(event[0], name, "{event}");
        event[1].clone()
    }

    async fn ack(&mut self, id: u64) -> Value {
        let packet = self.packet().await;
        let ack = packet.strip_prefix(&format!("3{id}")).unwrap_or_else(|| panic!("no ack {id}: {packet}"));
        serde_json::from_str::<Value>(ack).expect("JSON")[0].take()
    }

    async fn ask(&mut self, id: u64, event: &str, payload: &Value) -> Value {
        self.send(&format!("42{id}{}", json!([event, payload]))).await;
        self.ack(id).await
    }
}

fn fields(error: &Value) -> Vec<&str> {
    error["errors"].as_array().into_iter().flatten().map(|error| error["field"].as_str().expect("a field")).collect()
}

#[tokio::test]
async fn a_refused_connection_gets_the_error_object() {
    let gateway = Gateway::start().await;
    let user = Gateway::user();
    let spent = gateway.token(&user);
    gateway.open().await.send(&format!("40{}", json!({"token": spent}))).await;
    let revoked = Gateway::user();
    gateway.mesh.edge.identity.revoke(revoked.session_id.expect("a session"), 1, Millis(i64::MAX));
    let revoked = gateway.token(&revoked);
    // Given a moment to be spent.
    let mut first = gateway.open().await;
    first.send(&format!("40{}", json!({"token": gateway.token(&user)}))).await;
    first.packet().await;
    for (auth, code) in [
        (json!({}), "UNAUTHORIZED"),
        (json!({"token": "garbage"}), "TOKEN_INVALID"),
        (json!({"token": spent}), "TOKEN_SPENT"),
        (json!({"token": revoked}), "TOKEN_REVOKED"),
        (json!({"token": gateway.token(&user), "rooms": 5}), "VALIDATION_FAILED"),
    ] {
        let mut client = gateway.open().await;
        client.send(&format!("40{auth}")).await;
        let packet = client.packet().await;
        let error: Value = serde_json::from_str(packet.strip_prefix('4').expect("CONNECT_ERROR")).expect("JSON");
        assert_eq!((&error["data"]["code"], &error["data"]["success"]), (&code.into(), &false.into()));
        assert_eq!(error["message"], error["data"]["message"]);
    }
}

#[tokio::test]
async fn who_never_says_who_they_are_or_speaks_first_is_closed() {
    let gateway = Gateway::start_with(|config| config.realtime.connect_timeout_ms = 200).await;
    let mut silent = gateway.open().await;
    assert_eq!(silent.raw().await.filter(|raw| raw != "1"), None);
    for first in ["42[\"join_room\",{}]", "4x", "4", "9"] {
        let mut rude = gateway.open().await;
        rude.send(first).await;
        assert_eq!(rude.raw().await.filter(|raw| raw != "1"), None, "{first}");
    }
}

#[tokio::test]
async fn another_namespace_is_refused_and_the_right_one_still_works() {
    let gateway = Gateway::start().await;
    let user = Gateway::user();
    let mut client = gateway.open().await;
    client.send("40/admin,{}").await;
    assert!(client.packet().await.starts_with("4/admin,{\"message\":\"Invalid namespace\""));
    client.send(&format!("40{}", json!({"token": gateway.token(&user)}))).await;
    assert!(client.packet().await.starts_with("0{"));
}

#[tokio::test]
async fn bad_events_are_answered_by_name_and_the_socket_lives_on() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect(&Gateway::user()).await;
    for (id, text, code, bad) in [
        (1, r#"["join_room"]"#, "VALIDATION_FAILED", &["payload"][..]),
        (2, r#"["join_room",5]"#, "VALIDATION_FAILED", &["payload"]),
        (3, r#"["join_room",{}]"#, "VALIDATION_FAILED", &["roomId"]),
        (4, r#"["send_message",{"roomId":"x"}]"#, "VALIDATION_FAILED", &["roomId", "content"]),
        (5, r#"["no_such_event",{}]"#, "NOT_FOUND", &[]),
        (6, "[5]", "VALIDATION_FAILED", &["event"]),
        (7, "{", "VALIDATION_FAILED", &["event"]),
    ] {
        client.send(&format!("42{id}{text}")).await;
        let error = client.ack(id).await;
        assert_eq!((error["code"].as_str(), fields(&error)), (Some(code), bad.to_vec()), "{text}");
        // The same without an ack.
        client.send(&format!("42{text}")).await;
        assert_eq!(client.event("error").await["code"], code);
    }
    let large = json!(["send_message", {"roomId": Uuid::new_v4(), "content": "x".repeat(1_000_000)}]);
    client.send(&format!("429{large}")).await;
    let error = client.ack(9).await;
    assert_eq!(error["code"], "PAYLOAD_TOO_LARGE");
    assert!(error["message"].as_str().expect("text").contains("65536"), "{error}");
    client.send("451-10[\"send_message\",{\"_placeholder\":true,\"num\":0}]").await;
    client.0.send(Message::binary(vec![1, 2, 3])).await.expect("sent");
    assert_eq!(client.ack(10).await["code"], "VALIDATION_FAILED");
    let left = client.ask(11, "leave_room", &json!({"roomId": Uuid::new_v4()})).await;
    assert_eq!(left, json!({"success": true}));
    assert!(gateway.mesh.messages.sent().is_empty(), "nothing was changed by any of it");
}

#[tokio::test]
async fn a_message_is_acknowledged_and_heard_by_all_sockets_of_the_room() {
    let gateway = Gateway::start().await;
    let (room, user) = (Uuid::new_v4(), Gateway::user());
    let (mut one, mut two) = (gateway.connect(&user).await, gateway.connect(&user).await);
    for client in [&mut one, &mut two] {
        assert_eq!(client.ask(0, "join_room", &json!({"roomId": room})).await["success"], true);
    }
    two.send(&format!("421{}", json!(["send_message", {"roomId": room, "content": "hi", "clientMessageId": "c1"}])))
        .await;
    let message = one.event("new_message").await;
    assert_eq!((&message["content"], &message["clientMessageId"]), (&"hi".into(), &"c1".into()));
    assert!(message["cursor"].is_string());
    let (first, second) = (two.packet().await, two.packet().await);
    let (ack, event) = if first.starts_with("31") { (first, second) } else { (second, first) };
    let ack: Value = serde_json::from_str(&ack[2..]).expect("JSON");
    assert_eq!((&ack[0]["success"], &ack[0]["message"]["id"]), (&true.into(), &message["id"]));
    assert!(ack[0]["message"].get("cursor").is_none());
    assert!(event.starts_with("2[\"new_message\""));
    gateway.mesh.messages.say_typing(room, user.user_id, true);
    gateway.mesh.messages.say_typing(room, Uuid::nil(), true);
    assert_eq!(one.event("typing_start").await["userId"], Uuid::nil().to_string());
}

#[tokio::test]
async fn rooms_that_come_with_the_token_are_joined_at_once() {
    let gateway = Gateway::start().await;
    let (user, known, new) = (Gateway::user(), Uuid::new_v4(), Uuid::new_v4());
    gateway.mesh.messages.write(known, "missed");
    let mut client = gateway.open().await;
    let rooms = json!({known.to_string(): "0:0", new.to_string(): null, "no-room": null});
    client.send(&format!("40{}", json!({"token": gateway.token(&user), "rooms": rooms}))).await;
    client.packet().await;
    client.event("connected").await;
    let mut joined = std::collections::HashMap::new();
    while joined.len() < 3 {
        let packet = client.packet().await;
        let event: Value = serde_json::from_str(&packet[1..]).expect("JSON");
        if event[0] == "room_joined" {
            joined.insert(event[1]["roomId"].as_str().expect("roomId").to_owned(), event[1].clone());
        }
    }
    assert_eq!(joined[&known.to_string()]["missed"][0]["data"]["content"], "missed");
    assert_eq!(joined[&new.to_string()]["recovered"], false);
    assert_eq!((&joined["no-room"]["code"], fields(&joined["no-room"])), (&"VALIDATION_FAILED".into(), vec!["roomId"]));
}

#[tokio::test]
async fn a_revoked_session_is_told_and_its_socket_closed_within_a_second() {
    let gateway = Gateway::start().await;
    let user = Gateway::user();
    let mut client = gateway.connect(&user).await;
    let begun = std::time::Instant::now();
    gateway.mesh.edge.identity.revoke(user.session_id.expect("a session"), 1, Millis(i64::MAX));
    assert_eq!(client.event("session_ended").await["code"], "TOKEN_REVOKED");
    assert_eq!(client.packet().await, "1");
    while client.raw().await.is_some() {}
    println!("revocation to the end of the connection: {:?}", begun.elapsed());
    until("it is forgotten", || gateway.realtime.hub.sockets().is_empty()).await;
}

#[tokio::test]
async fn a_socket_that_stops_reading_is_closed_while_its_neighbour_hears_everything() {
    let gateway = Gateway::start().await;
    let room = Uuid::new_v4();
    let (slow_user, user) = (Gateway::user(), Gateway::user());
    let mut slow = gateway.connect(&slow_user).await;
    let mut quick = gateway.connect(&user).await;
    for client in [&mut slow, &mut quick] {
        assert_eq!(client.ask(0, "join_room", &json!({"roomId": room})).await["success"], true);
    }
    let hub = Arc::clone(&gateway.realtime.hub);
    let text = "x".repeat(8_000);
    let mut heard = 0;
    for written in 1..=5_000 {
        let seq = gateway.mesh.messages.write(room, &text);
        while heard < seq {
            let packet = quick.packet().await;
            let event: Value = serde_json::from_str(&packet[1..]).expect("JSON");
            heard = event[1]["seq"].as_i64().expect("a seq");
        }
        if hub.sockets().len() == 1 {
            println!("closed after {written} messages of {} bytes", text.len());
            assert_eq!(hub.sockets()[0].user_id(), user.user_id);
            // What it did get has no hole, and its cursor brings the rest.
            let (mut last, mut cursor) = (None, String::new());
            while let Some(raw) = slow.raw().await {
                let Some(event) = raw.strip_prefix("42") else { continue };
                let event: Value = serde_json::from_str(event).expect("JSON");
                let seq = event[1]["seq"].as_i64().expect("a seq");
                assert!(last.is_none_or(|last: i64| seq == last + 1));
                last = Some(seq);
                cursor = event[1]["cursor"].as_str().expect("a cursor").to_owned();
            }
            let mut again = gateway.connect(&slow_user).await;
            let mut last = last.unwrap_or(2);
            let mut more = true;
            let mut cursor = if cursor.is_empty() { "0:2".to_owned() } else { cursor };
            while more {
                let ack = again.ask(1, "join_room", &json!({"roomId": room, "cursor": cursor})).await;
                for missed in ack["missed"].as_array().expect("missed") {
                    assert_eq!(missed["data"]["seq"], last + 1);
                    last += 1;
                }
                cursor = ack["cursor"].as_str().expect("a cursor").to_owned();
                more = ack["more"] == true;
            }
            assert_eq!(last, gateway.mesh.messages.last_seq(room));
            return;
        }
    }
    panic!("it was never closed");
}

#[tokio::test]
async fn polling_works_as_well_and_a_full_buffer_ends_it() {
    let gateway = Gateway::start_with(|config| config.realtime.outgoing_max = 16).await;
    let (user, room) = (Gateway::user(), Uuid::new_v4());
    let http = reqwest::Client::new();
    let open = http.get(gateway.url("http", "polling")).send().await.expect("sent").text().await.expect("text");
    let open: Value = serde_json::from_str(open.strip_prefix('0').expect("OPEN")).expect("JSON");
    assert_eq!(open["upgrades"], json!(["websocket"]));
    let url = gateway.url("http", &format!("polling&sid={}", open["sid"].as_str().expect("a sid")));
    let poll = async || http.get(&url).send().await.expect("sent");
    let post = async |text: String| http.post(&url).body(text).send().await.expect("sent").status();
    assert!(post(format!("40{}", json!({"token": gateway.token(&user)}))).await.is_success());
    let mut heard = String::new();
    while !heard.contains("connected") {
        heard.push_str(&poll().await.text().await.expect("text"));
    }
    let join = json!(["join_room", {"roomId": room}]);
    assert!(post(format!("420{join}")).await.is_success());
    while !heard.contains("430[{\"success\":true") {
        heard.push_str(&poll().await.text().await.expect("text"));
        if heard.ends_with('2') {
            post("3".to_owned()).await;
        }
    }
    gateway.mesh.messages.write_all(room, 0..40);
    until("it is closed", || gateway.realtime.hub.sockets().is_empty()).await;
    assert_eq!(poll().await.status().as_u16(), 400, "the session is unknown now");
}

#[tokio::test]
async fn stopping_closes_every_socket_and_lets_nobody_in() {
    let gateway = Gateway::start().await;
    let mut connected = gateway.connect(&Gateway::user()).await;
    let mut silent = gateway.open().await;
    gateway.realtime.stop(Duration::from_secs(20)).await;
    for client in [&mut connected, &mut silent] {
        while client.raw().await.is_some() {}
    }
    let refused = reqwest::get(gateway.url("http", "polling")).await.expect("sent");
    assert_eq!(refused.status().as_u16(), 503);
    let error: Value = refused.json().await.expect("JSON");
    assert_eq!(error["code"], "UNAVAILABLE");
}

#[tokio::test]
async fn sockets_are_closed_some_at_a_time_when_the_gateway_stops() {
    // A spread that is longer than the test may take, but for what half of the limit lets it be.
    let gateway = Gateway::start_with(|config| config.realtime.stop_spread_ms = 600_000).await;
    let mut clients = Vec::new();
    for _ in 0..24 {
        clients.push(gateway.connect(&Gateway::user()).await);
    }
    let realtime = std::sync::Arc::clone(&gateway.realtime.hub);
    let begun = tokio::time::Instant::now();
    let stopping = gateway.realtime.stop(Duration::from_secs(20));
    let watching = async {
        until("one is gone and another is not", || (1..24).contains(&realtime.sockets().len())).await;
    };
    tokio::join!(stopping, watching);
    // Of 24 sockets each has a turn of its own, the first at once.
    assert!(begun.elapsed() >= Duration::from_millis(1_150), "{:?}", begun.elapsed());
    for client in &mut clients {
        while client.raw().await.is_some() {}
    }
}

#[tokio::test]
async fn connections_are_bounded_and_other_paths_are_not_ours() {
    let gateway = Gateway::start_with(|config| config.realtime.sockets_max = 1).await;
    let one = gateway.open().await;
    assert_eq!(reqwest::get(gateway.url("http", "polling")).await.expect("sent").status().as_u16(), 503);
    drop(one);
    let url = gateway.url("http", "polling");
    let mut status = 503;
    for _ in 0..3_000 {
        status = reqwest::get(&url).await.expect("sent").status().as_u16();
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(status, 200, "the place was given back");
    for path in ["/socketx", "/socket/x", "/sockets", "/"] {
        let answer = reqwest::get(format!("http://{}{path}", gateway.address)).await.expect("sent");
        assert_eq!(answer.text().await.expect("text"), "not a socket", "{path}");
    }
}
