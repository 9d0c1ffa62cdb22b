//! Socket.IO v5 over Engine.IO v4 on a WebSocket, with the events of our contract; our own edge and the peers built on
//! Socket.IO speak it.

use std::io::Write as _;

use memchr::memmem::Finder;

use super::{Dialect, Greeting, Heard, digits, number_after, quoted};

/// The adapter.
pub(super) struct SocketIo {
    seq: Finder<'static>,
    refused: Finder<'static>,
}

impl Default for SocketIo {
    fn default() -> Self {
        Self { seq: Finder::new("\"seq\""), refused: Finder::new("\"success\":false") }
    }
}

impl Dialect for SocketIo {
    fn path(&self, path: &str, _token: &str) -> String {
        format!("{path}?EIO=4&transport=websocket")
    }

    fn step(&self, _step: u32, greeting: Greeting<'_>, out: &mut Vec<u8>) {
        let token = quoted(greeting.token);
        let rooms =
            greeting.resume.map(|(room, cursor)| format!(r#","rooms":{{{}:{}}}"#, quoted(room), quoted(cursor)));
        let auth = format!(r#"40{{"token":{token}{}}}"#, rooms.unwrap_or_default());
        out.extend_from_slice(auth.as_bytes());
    }

    fn join(&self, id: u64, room: &str, cursor: &str, out: &mut Vec<u8>) {
        let cursor = if cursor.is_empty() { String::new() } else { format!(r#","cursor":{}"#, quoted(cursor)) };
        let text = format!(r#"42{id}["join_room",{{"roomId":{}{cursor}}}]"#, quoted(room));
        out.extend_from_slice(text.as_bytes());
    }

    fn send(&self, id: u64, room: &str, client_id: &str, content: &mut dyn FnMut(&mut Vec<u8>), out: &mut Vec<u8>) {
        // Writing into memory does not fail.
        drop(write!(out, r#"42{id}["send_message",{{"roomId":"{room}","clientMessageId":"{client_id}","content":""#));
        content(out);
        out.extend_from_slice(b"\"}]");
    }

    fn read(&self, text: &[u8]) -> Heard {
        match text {
            [b'4', b'2', b'[', rest @ ..] => match rest {
                rest if rest.starts_with(b"\"room_joined\"") => {
                    Heard::Resumed { ok: self.refused.find(rest).is_none() }
                }
                rest if rest.starts_with(b"\"session_ended\"") => Heard::Refused,
                _ => Heard::Event,
            },
            [b'4', b'3', rest @ ..] => match digits(rest) {
                // Only the beginning is looked at: a page of messages may follow.
                Some((id, body)) => Heard::Ack { id, ok: !body.starts_with(b"[{\"success\":false") },
                None => Heard::Nothing,
            },
            [b'2', ..] => Heard::Answer("3"),
            [b'0', ..] => Heard::Step(0),
            [b'4', b'0', ..] => Heard::Ready,
            [b'4', b'4' | b'1', ..] | [b'1', ..] => Heard::Refused,
            _ => Heard::Nothing,
        }
    }

    fn seq(&self, event: &[u8]) -> Option<u64> {
        number_after(event, &self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_understood() {
        let read = |text: &'static str| SocketIo::default().read(text.as_bytes());
        assert_eq!(read(r#"0{"sid":"a"}"#), Heard::Step(0));
        assert_eq!(read("2"), Heard::Answer("3"));
        assert_eq!(read(r#"40{"sid":"a"}"#), Heard::Ready);
        assert_eq!(read(r#"44{"message":"Unauthorized"}"#), Heard::Refused);
        assert_eq!(read(r#"4312[{"success":true}]"#), Heard::Ack { id: 12, ok: true });
        assert_eq!(read(r#"437[{"success":false,"code":"RATE_LIMITED"}]"#), Heard::Ack { id: 7, ok: false });
        assert_eq!(read(r#"42["room_joined",{"roomId":"r","success":true}]"#), Heard::Resumed { ok: true });
        let event = r#"42["new_message",{"id":"m","seq":42,"content":"x"}]"#;
        assert_eq!(read(event), Heard::Event);
        assert_eq!(SocketIo::default().seq(event.as_bytes()), Some(42));
    }

    #[test]
    fn what_is_sent_is_what_the_contract_says() {
        let mut out = Vec::new();
        SocketIo::default().send(5, "r", "c", &mut |out| out.extend_from_slice(b"hello"), &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            r#"425["send_message",{"roomId":"r","clientMessageId":"c","content":"hello"}]"#
        );
        out.clear();
        SocketIo::default().step(0, Greeting { token: "t", resume: Some(("r", "c")) }, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), r#"40{"token":"t","rooms":{"r":"c"}}"#);
        out.clear();
        SocketIo::default().join(1, "r", "c", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), r#"421["join_room",{"roomId":"r","cursor":"c"}]"#);
    }
}
