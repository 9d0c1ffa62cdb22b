//! A small Socket.IO v5 client over WebSocket, for what the stock client does not let a test do: frames as they are, and
//! a peer that stops reading. The stock clients are tried in `clients.rs`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{rest, wait};

type Stream = WebSocketStream<TcpStream>;

/// An event from the server.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
    pub(crate) at: Instant,
}

/// Why there is no connection: the error object, or nothing when the network failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("refused: {0}")]
pub(crate) struct Refused(pub(crate) Value);

/// The connection has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection has ended")]
pub(crate) struct Closed;

enum Command {
    Send(String),
    Binary(Vec<u8>),
    Call(String, Value, oneshot::Sender<Value>),
    Reading(bool),
}

/// A connected socket. Its connection ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    held: Vec<Event>,
}

impl Socket {
    /// Connects with this `auth`.
    pub(crate) async fn connect(url: &str, auth: Value) -> Result<Self, Refused> {
        let mut stream = open(url, None, None).await.ok_or(Refused(Value::Null))?;
        Self::handshake(&mut stream, &auth).await?;
        Ok(Self::run(stream))
    }

    /// Connects as a proxy would for a client at this address.
    pub(crate) async fn connect_from(url: &str, auth: Value, address: &str) -> Result<Self, Refused> {
        let mut stream = open(url, None, Some(address)).await.ok_or(Refused(Value::Null))?;
        Self::handshake(&mut stream, &auth).await?;
        Ok(Self::run(stream))
    }

    /// Connects with a small receive buffer in the kernel, so that a stop of reading is felt soon.
    pub(crate) async fn connect_narrow(url: &str, auth: Value) -> Result<Self, Refused> {
        let mut stream = open(url, Some(8 * 1024), None).await.ok_or(Refused(Value::Null))?;
        Self::handshake(&mut stream, &auth).await?;
        Ok(Self::run(stream))
    }

    /// Engine.IO's greeting, then Socket.IO's.
    async fn handshake(stream: &mut Stream, auth: &Value) -> Result<(), Refused> {
        let sent = |result: Result<(), _>| result.ok().ok_or(Refused(Value::Null));
        loop {
            let text = next_text(stream).await.ok_or(Refused(Value::Null))?;
            match text.split_at_checked(1) {
                Some(("0", _)) => sent(stream.send(Message::text(format!("40{auth}"))).await)?,
                Some(("2", _)) => sent(stream.send(Message::text("3")).await)?,
                Some(("4", rest)) if rest.starts_with('0') => return Ok(()),
                Some(("4", rest)) if rest.starts_with('4') => {
                    let refusal: Value = serde_json::from_str(&rest[1..]).expect("JSON in a connect error");
                    return Err(Refused(refusal["data"].clone()));
                }
                _ => panic!("unexpected packet {text:?}"),
            }
        }
    }

    fn run(stream: Stream) -> Self {
        let (commands, orders) = mpsc::unbounded_channel();
        let (told, events) = mpsc::unbounded_channel();
        let actor = Actor { stream, told, acks: HashMap::new(), next_ack: 0, reading: true };
        tokio::spawn(actor.run(orders));
        Self { commands, events, held: Vec::new() }
    }

    /// Emits an event without asking for an ack.
    pub(crate) fn emit(&self, name: &str, payload: &Value) {
        self.raw(format!("42{}", json!([name, payload])));
    }

    /// Sends a text frame as it is.
    pub(crate) fn raw(&self, text: impl Into<String>) {
        // A closed connection shows when its events end.
        drop(self.commands.send(Command::Send(text.into())));
    }

    /// Sends a binary frame as it is.
    pub(crate) fn raw_binary(&self, bytes: Vec<u8>) {
        drop(self.commands.send(Command::Binary(bytes)));
    }

    /// Emits an event and waits for its ack, for a limited time.
    pub(crate) async fn try_call(&self, name: &str, payload: Value, limit: Duration) -> Result<Value, Closed> {
        let (give, ack) = oneshot::channel();
        self.commands.send(Command::Call(name.to_owned(), payload, give)).ok().ok_or(Closed)?;
        match tokio::time::timeout(limit, ack).await {
            Ok(Ok(ack)) => Ok(ack),
            Ok(Err(_)) | Err(_) => Err(Closed),
        }
    }

    /// Emits an event and gives its ack.
    pub(crate) async fn call(&self, name: &str, payload: Value) -> Value {
        match self.try_call(name, payload, wait::LIMIT).await {
            Ok(ack) => ack,
            Err(Closed) => panic!("no ack of {name}"),
        }
    }

    /// Emits an event whose ack must be good.
    pub(crate) async fn ok(&self, name: &str, payload: Value) -> Value {
        let ack = self.call(name, payload).await;
        assert_eq!(ack["success"], true, "{name}: {ack}");
        ack
    }

    /// Emits an event that must be refused with this code.
    pub(crate) async fn refused(&self, name: &str, payload: Value, status: u16, code: &str) -> Value {
        let ack = self.call(name, payload).await;
        rest::check_refusal(&ack, status, code);
        ack
    }

    /// Enters a room and gives the ack.
    pub(crate) async fn join(&self, room: &str, cursor: Option<&str>) -> Value {
        let mut payload = json!({"roomId": room});
        if let Some(cursor) = cursor {
            payload["cursor"] = cursor.into();
        }
        self.ok("join_room", payload).await
    }

    /// Stops or goes on reading from the connection.
    pub(crate) fn reading(&self, on: bool) {
        drop(self.commands.send(Command::Reading(on)));
    }

    /// The next event, or nothing once the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if !self.held.is_empty() {
            return Some(self.held.remove(0));
        }
        wait::within("an event", self.events.recv()).await
    }

    /// The next event of this name. Others that come before it are kept for later.
    pub(crate) async fn event(&mut self, name: &str) -> Event {
        if let Some(place) = self.held.iter().position(|event| event.name == name) {
            return self.held.remove(place);
        }
        loop {
            let event = wait::within(name, self.events.recv()).await;
            let event = event.unwrap_or_else(|| panic!("the connection ended before {name}"));
            if event.name == name {
                return event;
            }
            self.held.push(event);
        }
    }

    /// The events that have come by now.
    pub(crate) fn arrived(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.held);
        while let Ok(event) = self.events.try_recv() {
            events.push(event);
        }
        events
    }

    /// Waits until the server has ended the connection; gives the events that came before.
    pub(crate) async fn ended(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.held);
        while let Some(event) = wait::within("the end of the connection", self.events.recv()).await {
            events.push(event);
        }
        events
    }
}

/// A WebSocket connection with Engine.IO's parameters; nothing when nobody takes it.
pub(crate) async fn open(url: &str, receive_bytes: Option<u32>, from: Option<&str>) -> Option<Stream> {
    let host = url.strip_prefix("http://").expect("an http URL");
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes).expect("a buffer size");
    }
    let tcp = socket.connect(host.parse().expect("an address")).await.ok()?;
    tcp.set_nodelay(true).ok()?;
    let mut request =
        format!("ws://{host}/socket/?EIO=4&transport=websocket").into_client_request().expect("a request");
    if let Some(from) = from {
        request.headers_mut().insert("x-forwarded-for", from.parse().expect("an address"));
    }
    let opened = tokio::time::timeout(wait::LIMIT, client_async(request, tcp)).await.ok()?;
    Some(opened.ok()?.0)
}

/// The next text frame; nothing at the end.
pub(crate) async fn next_text(stream: &mut Stream) -> Option<String> {
    loop {
        match tokio::time::timeout(wait::LIMIT, stream.next()).await.ok()?? {
            Ok(Message::Text(text)) => return Some(text.to_string()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Owns the connection.
struct Actor {
    stream: Stream,
    told: mpsc::UnboundedSender<Event>,
    acks: HashMap<u64, oneshot::Sender<Value>>,
    next_ack: u64,
    reading: bool,
}

impl Actor {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        loop {
            let going = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => None,
                },
                frame = self.stream.next(), if self.reading => match frame {
                    Some(Ok(Message::Text(text))) => self.receive(&text).await,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => None,
                    Some(Ok(_)) => Some(()),
                },
            };
            if going.is_none() {
                return;
            }
        }
    }

    async fn obey(&mut self, order: Command) -> Option<()> {
        match order {
            Command::Send(text) => self.stream.send(Message::text(text)).await.ok(),
            Command::Binary(bytes) => self.stream.send(Message::binary(bytes)).await.ok(),
            Command::Call(name, payload, give) => {
                let id = self.next_ack;
                self.next_ack += 1;
                self.acks.insert(id, give);
                self.stream.send(Message::text(format!("42{id}{}", json!([name, payload])))).await.ok()
            }
            Command::Reading(on) => {
                self.reading = on;
                Some(())
            }
        }
    }

    async fn receive(&mut self, text: &str) -> Option<()> {
        match text.as_bytes() {
            [b'2', ..] => self.stream.send(Message::text("3")).await.ok(),
            [b'4', b'2', ..] => {
                let packet: Value = serde_json::from_str(&text[2..]).expect("JSON in an event");
                let name = packet[0].as_str().expect("an event's name").to_owned();
                let event = Event { name, data: packet[1].clone(), at: Instant::now() };
                // Nobody listens any more when the socket has been dropped.
                self.told.send(event).ok()
            }
            [b'4', b'3', ..] => {
                let rest = &text[2..];
                let digits = rest.find(|c: char| !c.is_ascii_digit()).expect("an ack's payload");
                let id: u64 = rest[..digits].parse().expect("an ack's id");
                let mut packet: Value = serde_json::from_str(&rest[digits..]).expect("JSON in an ack");
                if let Some(give) = self.acks.remove(&id) {
                    // Who asked may have given up.
                    drop(give.send(packet[0].take()));
                }
                Some(())
            }
            // Disconnected by the server, from the namespace or altogether.
            [b'4', b'1', ..] | [b'1', ..] => None,
            _ => Some(()),
        }
    }
}
