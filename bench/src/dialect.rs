//! How the systems under measurement speak over their WebSockets: one trait, and an adapter for each protocol in
//! `dialect/`. An adapter only writes and reads text; the connection itself is `worker/socket.rs`. What is read on the
//! hot path is found in the text, never parsed as a whole.

use serde::{Deserialize, Serialize};

mod nakama;
mod socketio;
mod tinode;

/// The protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// Socket.IO v5 over Engine.IO v4, with the events of our contract.
    SocketIo,
    /// Nakama's realtime protocol as JSON.
    Nakama,
    /// Tinode's protocol.
    Tinode,
}

impl Protocol {
    /// Its adapter.
    pub(crate) fn dialect(self) -> Box<dyn Dialect> {
        match self {
            Self::SocketIo => Box::new(socketio::SocketIo::default()),
            Self::Nakama => Box::new(nakama::Nakama::default()),
            Self::Tinode => Box::new(tinode::Tinode::default()),
        }
    }
}

/// What a text from the server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing that matters here.
    Nothing,
    /// Sent back as it is.
    Answer(&'static str),
    /// Asks for the next step of the greeting: [`Dialect::step`].
    Step(u32),
    /// The socket is authenticated.
    Ready,
    /// The answer to what was asked with this id.
    Ack {
        /// Of the request.
        id: u64,
        /// Whether it was done.
        ok: bool,
    },
    /// The answer of a room that was asked for while connecting.
    Resumed {
        /// Whether the socket is in it.
        ok: bool,
    },
    /// A message, or another entry of a room that carries a `seq`.
    Event,
    /// The server does not let the socket in, or puts it out.
    Refused,
}

/// What a socket is greeted with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Greeting<'a> {
    /// Who it is, as the system wants it.
    pub(crate) token: &'a str,
    /// A room to go on in, and where.
    pub(crate) resume: Option<(&'a str, &'a str)>,
}

/// One protocol.
pub(crate) trait Dialect {
    /// The path, with its query, that the WebSocket is opened at.
    fn path(&self, path: &str, token: &str) -> String;

    /// What the open WebSocket means before the server says anything.
    fn opened(&self) -> Heard {
        Heard::Nothing
    }

    /// Writes one step of the greeting.
    fn step(&self, step: u32, greeting: Greeting<'_>, out: &mut Vec<u8>);

    /// Writes the request to enter a room, at a cursor when there is one.
    fn join(&self, id: u64, room: &str, cursor: &str, out: &mut Vec<u8>);

    /// What sends name the room by, when the answer to joining says it.
    fn address<'a>(&self, _joined: &'a [u8]) -> Option<&'a str> {
        None
    }

    /// Writes a message into a room; `content` is written by the closure and needs no escape.
    fn send(&self, id: u64, room: &str, client_id: &str, content: &mut dyn FnMut(&mut Vec<u8>), out: &mut Vec<u8>);

    /// Reads a text.
    fn read(&self, text: &[u8]) -> Heard;

    /// The `seq` of an event, where the protocol numbers a room's events without a gap.
    fn seq(&self, _event: &[u8]) -> Option<u64> {
        None
    }
}

/// The number after a key such as `"seq":`, also when it stands in quotes.
fn number_after(text: &[u8], key: &memchr::memmem::Finder<'_>) -> Option<u64> {
    let at = key.find(text)? + key.needle().len();
    let text = &text[at..];
    let text = &text[text.iter().take_while(|byte| matches!(byte, b' ' | b'"' | b':')).count()..];
    digits(text).map(|(number, _)| number)
}

/// The number at the beginning of a text, and the text after it.
fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 || len > 18 {
        return None;
    }
    let number = text[..len].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some((number, &text[len..]))
}

/// The text value after a key such as `"id":`, when it needs no unescaping.
pub(crate) fn text_after<'a>(text: &'a [u8], key: &str) -> Option<&'a str> {
    let at = memchr::memmem::find(text, key.as_bytes())? + key.len();
    let text = &text[at..];
    let text = &text[text.iter().take_while(|byte| matches!(byte, b' ' | b':')).count()..];
    let text = text.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', text)?;
    if text[end] == b'\\' { None } else { std::str::from_utf8(&text[..end]).ok() }
}

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
