//! Tinode's protocol as JSON over a WebSocket (`docs/API.md` of its repository): group topics. A socket says hi, logs in
//! with a token, and subscribes; a message is acknowledged with code 202 after it is stored.

use std::io::Write as _;

use memchr::memmem::Finder;

use super::{Dialect, Greeting, Heard, number_after, quoted, text_after};

/// The ids of the greeting's steps; requests count from 0 and carry digits alone.
const HI: &str = "hi";
const LOGIN: &str = "login";

/// The adapter.
pub(super) struct Tinode {
    id: Finder<'static>,
    code: Finder<'static>,
    seq: Finder<'static>,
}

impl Default for Tinode {
    fn default() -> Self {
        Self { id: Finder::new("\"id\""), code: Finder::new("\"code\""), seq: Finder::new("\"seq\"") }
    }
}

impl Dialect for Tinode {
    fn path(&self, path: &str, _token: &str) -> String {
        path.to_owned()
    }

    fn opened(&self) -> Heard {
        Heard::Step(0)
    }

    fn step(&self, step: u32, greeting: Greeting<'_>, out: &mut Vec<u8>) {
        let text = match step {
            0 => format!(r#"{{"hi":{{"id":"{HI}","ver":"0.22","ua":"switchboard-bench"}}}}"#),
            _ => format!(r#"{{"login":{{"id":"{LOGIN}","scheme":"token","secret":{}}}}}"#, quoted(greeting.token)),
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn join(&self, id: u64, room: &str, _cursor: &str, out: &mut Vec<u8>) {
        let text = format!(r#"{{"sub":{{"id":"{id}","topic":{}}}}}"#, quoted(room));
        out.extend_from_slice(text.as_bytes());
    }

    fn send(&self, id: u64, room: &str, _client_id: &str, content: &mut dyn FnMut(&mut Vec<u8>), out: &mut Vec<u8>) {
        // Writing into memory does not fail.
        drop(write!(out, r#"{{"pub":{{"id":"{id}","topic":"{room}","content":""#));
        content(out);
        out.extend_from_slice(br#""}}"#);
    }

    fn read(&self, text: &[u8]) -> Heard {
        if text.starts_with(br#"{"data":"#) {
            return Heard::Event;
        }
        if !text.starts_with(br#"{"ctrl":"#) {
            return Heard::Nothing;
        }
        let ok = number_after(text, &self.code).is_some_and(|code| (200..400).contains(&code));
        if let Some(id) = number_after(text, &self.id) {
            return Heard::Ack { id, ok };
        }
        match (text_after(text, "\"id\""), ok) {
            (Some(HI), true) => Heard::Step(1),
            (Some(LOGIN), true) => Heard::Ready,
            (Some(HI | LOGIN), false) => Heard::Refused,
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
        let tinode = Tinode::default();
        let read = |text: &'static str| tinode.read(text.as_bytes());
        assert_eq!(read(r#"{"ctrl":{"id":"hi","params":{"ver":"0.25"},"code":201,"text":"created"}}"#), Heard::Step(1));
        assert_eq!(read(r#"{"ctrl":{"id":"login","code":200,"text":"ok"}}"#), Heard::Ready);
        assert_eq!(read(r#"{"ctrl":{"id":"login","code":401,"text":"authentication failed"}}"#), Heard::Refused);
        assert_eq!(
            read(r#"{"ctrl":{"id":"17","topic":"grpX","params":{"seq":3},"code":202,"text":"accepted"}}"#),
            Heard::Ack { id: 17, ok: true }
        );
        assert_eq!(read(r#"{"ctrl":{"id":"17","code":503,"text":"overload"}}"#), Heard::Ack { id: 17, ok: false });
        let data = r#"{"data":{"topic":"grpX","from":"usrA","seq":9,"content":"x"}}"#;
        assert_eq!(read(data), Heard::Event);
        assert_eq!(tinode.seq(data.as_bytes()), Some(9));
        assert_eq!(read(r#"{"pres":{"topic":"me"}}"#), Heard::Nothing);
    }

    #[test]
    fn what_is_sent_is_json() {
        let mut out = Vec::new();
        Tinode::default().send(5, "grpX", "c", &mut |out| out.extend_from_slice(b"hello"), &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["pub"]["content"], "hello");
    }
}
