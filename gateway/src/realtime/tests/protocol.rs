//! The cases of the official suites of Engine.IO v4 and Socket.IO v5, spoken to our edge. `docs/socketio.md` lists them
//! all, with the ones that do not apply to this product and why.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{
    until,
    wire::{Client, Gateway},
};
use crate::config::GatewayConfig;

/// The suites' own heartbeat.
fn quick(config: &mut GatewayConfig) {
    (config.realtime.ping_interval_ms, config.realtime.ping_timeout_ms) = (300, 200);
}

/// A session by polling.
struct Poller {
    http: reqwest::Client,
    url: String,
    sid: String,
}

impl Poller {
    async fn open(gateway: &Gateway) -> Self {
        let http = reqwest::Client::new();
        let (status, text) = read(http.get(gateway.url("http", "polling"))).await;
        assert_eq!(status, 200);
        let open = greeting(&text);
        assert_eq!(open["upgrades"], json!(["websocket"]));
        let sid = open["sid"].as_str().expect("a sid").to_owned();
        Self { http, url: gateway.url("http", &format!("polling&sid={sid}")), sid }
    }

    async fn poll(&self) -> (u16, String) {
        read(self.http.get(&self.url)).await
    }

    async fn post(&self, text: &str) -> (u16, String) {
        read(self.http.post(&self.url).body(text.to_owned())).await
    }

    /// Enters the namespace and fetches what is said about it.
    async fn connect(&self, gateway: &Gateway) {
        let token = gateway.token(&Gateway::user());
        assert_eq!(self.post(&format!("40{}", json!({"token": token}))).await, (200, "ok".to_owned()));
        let mut heard = String::new();
        while !heard.contains("42[\"connected\"") {
            heard.push_str(&self.poll().await.1);
        }
        assert!(heard.starts_with("40{\"sid\":"), "{heard}");
    }

    async fn websocket(&self, gateway: &Gateway) -> Result<Client, u16> {
        Client::try_open(&gateway.url("ws", &format!("websocket&sid={}", self.sid))).await
    }

    /// A WebSocket that has been probed.
    async fn probed(&self, gateway: &Gateway) -> Client {
        let mut socket = self.websocket(gateway).await.expect("a WebSocket");
        socket.send("2probe").await;
        assert_eq!(socket.raw().await.as_deref(), Some("3probe"));
        socket
    }
}

async fn read(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

fn greeting(packet: &str) -> Value {
    let open: Value = serde_json::from_str(packet.strip_prefix('0').expect("OPEN")).expect("JSON");
    let keys: Vec<_> = open.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert!(open["sid"].is_string());
    open
}

fn error(code: u8, message: &str) -> (u16, String) {
    (400, format!(r#"{{"code":{code},"message":"{message}"}}"#))
}

#[tokio::test]
async fn polling_opens_a_session_with_the_parameters_of_the_server() {
    let gateway = Gateway::start_with(quick).await;
    let response = reqwest::get(gateway.url("http", "polling")).await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/plain; charset=UTF-8");
    let open = greeting(&response.text().await.expect("text"));
    assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&300.into(), &200.into()));
    assert_eq!(open["maxPayload"], gateway.mesh.edge.config.realtime.frame_bytes_max);
}

#[tokio::test]
async fn a_websocket_opens_a_session_that_cannot_be_upgraded() {
    let gateway = Gateway::start_with(quick).await;
    let mut socket = Client::try_open(&gateway.url("ws", "websocket")).await.expect("a WebSocket");
    let open = greeting(&socket.raw().await.expect("OPEN"));
    assert_eq!((&open["upgrades"], &open["pingInterval"]), (&json!([]), &300.into()));
}

#[tokio::test]
async fn a_bad_handshake_is_refused_with_its_code() {
    let gateway = Gateway::start().await;
    let base = |scheme| format!("{scheme}://{}/socket/", gateway.address);
    let http = reqwest::Client::new();
    let unsupported = error(5, "Unsupported protocol version");
    let unknown = error(0, "Transport unknown");
    for (query, expected) in [
        ("?transport=polling", &unsupported),
        ("?EIO=abc&transport=polling", &unsupported),
        ("?EIO=4", &unknown),
        ("?EIO=4&transport=abc", &unknown),
    ] {
        assert_eq!(read(http.get(base("http") + query)).await, *expected, "{query}");
    }
    for method in [reqwest::Method::POST, reqwest::Method::PUT] {
        let request = http.request(method, gateway.url("http", "polling"));
        assert_eq!(read(request).await, error(2, "Bad handshake method"));
    }
    for query in ["?transport=websocket", "?EIO=abc&transport=websocket", "?EIO=4", "?EIO=4&transport=abc"] {
        assert_eq!(Client::try_open(&(base("ws") + query)).await.err(), Some(400), "{query}");
    }
    // What the suites do not ask: a WebSocket without a handshake, and sessions that are none.
    assert_eq!(read(http.get(gateway.url("http", "websocket"))).await, error(3, "Bad request"));
    for sid in ["nope", "AAAAAAAAAAAAAAAAAAAAAA"] {
        let url = gateway.url("http", &format!("polling&sid={sid}"));
        assert_eq!(read(http.get(&url)).await, error(1, "Session ID unknown"));
        assert_eq!(read(http.post(&url).body("4x")).await, error(1, "Session ID unknown"));
        assert_eq!(Client::try_open(&gateway.url("ws", &format!("websocket&sid={sid}"))).await.err(), Some(400));
    }
}

#[tokio::test]
async fn one_packet_and_several_go_both_ways_by_polling() {
    let gateway = Gateway::start().await;
    let poller = Poller::open(&gateway).await;
    poller.connect(&gateway).await;
    assert_eq!(poller.post("421[\"nope\"]").await, (200, "ok".to_owned()));
    let (status, text) = poller.poll().await;
    assert!(status == 200 && text.starts_with("431[{"), "{text}");
    assert_eq!(poller.post("422[\"a\"]\u{1e}423[\"b\"]\u{1e}424[\"c\"]").await, (200, "ok".to_owned()));
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.extend(poller.poll().await.1.split('\u{1e}').map(str::to_owned));
    }
    let acks: Vec<_> = heard.iter().map(|packet| &packet[..3]).collect();
    assert_eq!(acks, ["432", "433", "434"]);
}

#[tokio::test]
async fn a_packet_that_is_none_ends_a_session_by_polling() {
    let gateway = Gateway::start().await;
    for text in ["abc", "", "4", "4x", "2", "\u{1e}", "42[\"too early\"]"] {
        let poller = Poller::open(&gateway).await;
        assert_eq!(poller.post(text).await.0, 400, "{text}");
        assert_eq!(poller.poll().await, error(1, "Session ID unknown"), "{text}");
    }
    let poller = Poller::open(&gateway).await;
    let bytes = poller.http.post(&poller.url).header("content-type", "application/octet-stream").body(vec![4, 1]);
    assert_eq!(read(bytes).await.0, 400);
    let poller = Poller::open(&gateway).await;
    assert_eq!(read(poller.http.post(&poller.url).body(vec![b'4', 0xff])).await.0, 400, "no UTF-8");
    // Too much is refused, and the session goes on.
    let poller = Poller::open(&gateway).await;
    let large = "x".repeat(gateway.mesh.edge.config.realtime.frame_bytes_max + 1);
    assert_eq!(poller.post(&large).await.0, 413);
    poller.connect(&gateway).await;
}

#[tokio::test]
async fn a_second_poll_beside_the_first_ends_the_session() {
    let gateway = Gateway::start().await;
    let poller = Poller::open(&gateway).await;
    let (one, two) = tokio::join!(poller.poll(), poller.poll());
    let (first, second) = if one.0 == 200 { (one, two) } else { (two, one) };
    assert_eq!(first, (200, "1".to_owned()));
    assert_eq!(second.0, 400);
    assert_eq!(poller.poll().await, error(1, "Session ID unknown"));
}

#[tokio::test]
async fn a_poll_that_is_given_up_ends_the_session() {
    let gateway = Gateway::start().await;
    let poller = Poller::open(&gateway).await;
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(100), poller.poll()).await;
    assert!(given_up.is_err(), "there was nothing to fetch");
    until_unknown(&poller).await;
}

/// Polls until the session is known no more. Polls that come while it is ended are the second ones beside another.
async fn until_unknown(poller: &Poller) {
    for _ in 0..1_000 {
        if poller.post("3").await == error(1, "Session ID unknown") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the session lives on");
}

#[tokio::test]
async fn text_goes_both_ways_by_websocket_and_what_is_no_packet_ends_it() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.connect(&Gateway::user()).await;
    socket.send("421[\"nope\"]").await;
    assert!(socket.packet().await.starts_with("31[{"));
    for text in ["abc", "", "2", "4abc", "4"] {
        let mut socket = gateway.connect(&Gateway::user()).await;
        socket.send(text).await;
        assert_eq!(socket.raw().await, None, "{text}");
    }
}

#[tokio::test]
async fn pings_come_after_the_interval_and_not_before_by_polling() {
    let gateway = Gateway::start_with(quick).await;
    let begun = std::time::Instant::now();
    let poller = Poller::open(&gateway).await;
    for round in 1..=3 {
        assert_eq!(poller.poll().await, (200, "2".to_owned()));
        assert!(begun.elapsed().as_millis() >= 300 * round, "ping {round} came after {:?}", begun.elapsed());
        assert_eq!(poller.post("3").await, (200, "ok".to_owned()));
    }
}

#[tokio::test]
async fn pings_come_after_the_interval_and_not_before_by_websocket() {
    let gateway = Gateway::start_with(quick).await;
    let begun = std::time::Instant::now();
    let mut socket = gateway.open().await;
    for round in 1..=3 {
        assert_eq!(socket.plain().await, Some(Message::text("2")));
        assert!(begun.elapsed().as_millis() >= 300 * round, "ping {round} came after {:?}", begun.elapsed());
        socket.send("3").await;
    }
}

#[tokio::test]
async fn a_ping_without_an_answer_ends_the_session() {
    let gateway = Gateway::start_with(quick).await;
    let mut socket = gateway.open().await;
    assert_eq!(socket.plain().await, Some(Message::text("2")));
    assert_eq!(socket.plain().await, None);
    let poller = Poller::open(&gateway).await;
    for _ in 0..1_000 {
        // Asked by a request that is no answer and takes nothing.
        let bad = read(poller.http.put(&poller.url)).await;
        assert_eq!(bad, error(3, "Bad request"));
        if gateway.realtime.engine_is_empty() {
            assert_eq!(poller.poll().await, error(1, "Session ID unknown"));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the session lives on");
}

#[tokio::test]
async fn a_client_closes_by_polling_and_by_websocket() {
    let gateway = Gateway::start().await;
    let poller = Poller::open(&gateway).await;
    let poll = poller.poll();
    tokio::pin!(poll);
    // The poll is on its way before the close.
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), &mut poll).await;
    assert!(early.is_err(), "there was nothing to fetch");
    assert_eq!(poller.post("1").await, (200, "ok".to_owned()));
    assert_eq!(poll.await, (200, "6".to_owned()));
    assert_eq!(poller.poll().await, error(1, "Session ID unknown"));

    let mut socket = gateway.open().await;
    socket.send("1").await;
    assert_eq!(socket.raw().await, None);
    // The closing handshake of WebSocket itself is answered with its own code.
    let mut socket = gateway.open().await;
    socket.0.close(None).await.expect("closed");
    assert_eq!(socket.raw().await, None);
    until("both are gone", || gateway.realtime.engine_is_empty()).await;
}

#[tokio::test]
async fn polling_is_upgraded_to_websocket_and_nothing_is_lost_or_overtaken() {
    let gateway = Gateway::start().await;
    let poller = Poller::open(&gateway).await;
    poller.connect(&gateway).await;
    let mut socket = poller.probed(&gateway).await;
    // A poll ends at once now, with what waits or with nothing.
    assert_eq!(poller.poll().await, (200, "6".to_owned()));
    // These are answered while no poll waits: by WebSocket, in order, once it carries the session.
    poller.post("421[\"a\"]\u{1e}422[\"b\"]").await;
    socket.send("5").await;
    socket.send("423[\"c\"]").await;
    for ack in ["31[", "32[", "33["] {
        let packet = socket.packet().await;
        assert!(packet.starts_with(ack), "{packet} and not {ack}");
    }
}

#[tokio::test]
async fn after_the_upgrade_polling_and_a_second_websocket_are_refused() {
    let gateway = Gateway::start().await;
    let poller = Poller::open(&gateway).await;
    poller.connect(&gateway).await;
    let mut socket = poller.probed(&gateway).await;
    assert_eq!(poller.websocket(&gateway).await.err(), Some(400), "one is on its way already");
    socket.send("5").await;
    socket.send("421[\"a\"]").await;
    assert!(socket.packet().await.starts_with("31["));
    assert_eq!(poller.poll().await, error(3, "Bad request"));
    assert_eq!(poller.post("4x").await, error(3, "Bad request"));
    assert_eq!(poller.websocket(&gateway).await.err(), Some(400));
    socket.send("422[\"b\"]").await;
    assert!(socket.packet().await.starts_with("32["));
}

#[tokio::test]
async fn a_probe_that_fails_leaves_the_session_where_it_is() {
    let gateway = Gateway::start_with(|config| config.realtime.upgrade_timeout_ms = 300).await;
    let poller = Poller::open(&gateway).await;
    poller.connect(&gateway).await;
    for bad in [Some("5"), Some("4x"), None] {
        let mut socket = poller.websocket(&gateway).await.expect("a WebSocket");
        if let Some(bad) = bad {
            socket.send(bad).await;
        }
        assert_eq!(socket.raw().await, None, "{bad:?}");
        poller.post("421[\"a\"]").await;
        assert!(poller.poll().await.1.starts_with("431["));
    }
    let mut socket = poller.probed(&gateway).await;
    socket.send("5").await;
    socket.send("422[\"b\"]").await;
    assert!(socket.packet().await.starts_with("32["), "a later one succeeds");
}

#[tokio::test]
async fn frames_of_websocket_keep_its_rules() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.open().await;
    futures::SinkExt::send(&mut socket.0, Message::Ping(b"p".to_vec().into())).await.expect("sent");
    assert_eq!(socket.plain().await, Some(Message::Pong(b"p".to_vec().into())));
    let large = "x".repeat(gateway.mesh.edge.config.realtime.frame_bytes_max + 1);
    socket.send(&large).await;
    assert_eq!(socket.close_code().await, Some(CloseCode::Size));
    let mut socket = gateway.open().await;
    socket.send("x").await;
    assert_eq!(socket.close_code().await, Some(CloseCode::Protocol));
}

#[tokio::test]
async fn leaving_the_namespace_keeps_the_connection_and_one_may_enter_again() {
    let gateway = Gateway::start_with(quick).await;
    let user = Gateway::user();
    let mut socket = gateway.connect(&user).await;
    socket.send("41").await;
    until("the socket is forgotten", || gateway.realtime.hub.sockets().is_empty()).await;
    assert_eq!(socket.plain().await, Some(Message::text("2")), "the connection lives");
    socket.send("3").await;
    socket.send(&format!("40{}", json!({"token": gateway.token(&user)}))).await;
    assert!(socket.packet().await.starts_with("0{"));
    assert_eq!(socket.event("connected").await["userId"], user.user_id.to_string());
}

#[tokio::test]
async fn who_leaves_the_namespace_and_does_not_come_again_is_closed() {
    let gateway = Gateway::start_with(|config| config.realtime.connect_timeout_ms = 200).await;
    let mut socket = gateway.connect(&Gateway::user()).await;
    socket.send("41").await;
    // Long before the first ping, which comes after 25 seconds.
    assert_eq!(socket.plain().await, None);
}
