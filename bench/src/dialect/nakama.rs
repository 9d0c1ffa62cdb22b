//! Nakama's realtime protocol as JSON over a WebSocket (`rtapi/realtime.proto` of nakama-common): chat rooms, persisted.
//! Its encoder puts spaces where it likes, so nothing here counts on where fields stand.

use std::io::Write as _;

use memchr::memmem::Finder;

use super::{Dialect, Greeting, Heard, number_after, quoted, text_after};

/// The adapter.
pub(super) struct Nakama {
    id: Finder<'static>,
    error: Finder<'static>,
    message: Finder<'static>,
}

impl Default for Nakama {
    fn default() -> Self {
        Self {
            id: Finder::new("\"cid\""),
            error: Finder::new("\"error\""),
            message: Finder::new("\"channel_message\""),
        }
    }
}

impl Dialect for Nakama {
    fn path(&self, path: &str, token: &str) -> String {
        format!("{path}?format=json&status=false&token={token}")
    }

    fn opened(&self) -> Heard {
        // The token was in the path: an open WebSocket is an authenticated one.
        Heard::Ready
    }

    fn step(&self, _step: u32, _greeting: Greeting<'_>, _out: &mut Vec<u8>) {}

    fn join(&self, id: u64, room: &str, _cursor: &str, out: &mut Vec<u8>) {
        let room = quoted(room);
        // Type 1 is a room; persistence is what makes its messages stored.
        let text =
            format!(r#"{{"cid":"{id}","channel_join":{{"target":{room},"type":1,"persistence":true,"hidden":true}}}}"#);
        out.extend_from_slice(text.as_bytes());
    }

    fn address<'a>(&self, joined: &'a [u8]) -> Option<&'a str> {
        // {"cid":"1","channel":{"id":"2...room"}}
        text_after(joined, "\"id\"")
    }

    fn send(&self, id: u64, room: &str, _client_id: &str, content: &mut dyn FnMut(&mut Vec<u8>), out: &mut Vec<u8>) {
        // The content must be a JSON object, as text. Writing into memory does not fail.
        drop(write!(out, r#"{{"cid":"{id}","channel_message_send":{{"channel_id":"{room}","content":"{{\"m\":\""#));
        content(out);
        out.extend_from_slice(br#"\"}"}}"#);
    }

    fn read(&self, text: &[u8]) -> Heard {
        // A request's id stands at the beginning, so a message is not searched for it as a whole.
        if let Some(id) = number_after(&text[..text.len().min(24)], &self.id) {
            return Heard::Ack { id, ok: self.error.find(&text[..text.len().min(64)]).is_none() };
        }
        if self.message.find(&text[..text.len().min(40)]).is_some() { Heard::Event } else { Heard::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_understood_with_and_without_spaces() {
        let nakama = Nakama::default();
        let read = |text: &'static str| nakama.read(text.as_bytes());
        assert_eq!(
            read(r#"{"cid":"12","channel_message_ack":{"channel_id":"2...r"}}"#),
            Heard::Ack { id: 12, ok: true }
        );
        assert_eq!(read(r#"{"cid": "12", "error": {"code":3}}"#), Heard::Ack { id: 12, ok: false });
        assert_eq!(read(r#"{"channel_message": {"channel_id":"2...r","content":"{\"m\":\"x\"}"}}"#), Heard::Event);
        assert_eq!(read(r#"{"channel_presence_event":{}}"#), Heard::Nothing);
        assert_eq!(nakama.address(br#"{"cid":"1", "channel": {"id": "2...r", "presences":[]}}"#), Some("2...r"));
    }

    #[test]
    fn what_is_sent_is_json() {
        let mut out = Vec::new();
        Nakama::default().send(5, "2...r", "c", &mut |out| out.extend_from_slice(b"hello"), &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["channel_message_send"]["content"], r#"{"m":"hello"}"#);
    }
}
