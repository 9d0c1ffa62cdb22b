//! Just enough of the text of Engine.IO v4 and Socket.IO v5 packets, on the one namespace `/`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The first digit is Engine.IO's, the second Socket.IO's.
pub(crate) const PING: &str = "2";

/// What a client sent.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    Connect,
    Event {
        ack: Option<u64>,
        name: Cow<'a, str>,
        data: &'a RawValue,
    },
    Disconnect,
    /// A pong, or an answer to an event: nothing to do.
    Other,
}

#[derive(Deserialize)]
struct Event<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] &'a RawValue);

/// Reads a packet; none when it is none.
pub(crate) fn read(text: &str) -> Option<Packet<'_>> {
    let mut digits = text.bytes();
    match (digits.next()?, digits.next()) {
        (b'4', Some(b'0')) => Some(Packet::Connect),
        (b'1', None) | (b'4', Some(b'1')) => Some(Packet::Disconnect),
        (b'4', Some(b'2')) => {
            let (ack, data) = text[2..].split_at(text.find('[')?.checked_sub(2)?);
            let Event(name, data) = serde_json::from_str(data).ok()?;
            let ack = if ack.is_empty() { None } else { Some(ack.parse().ok()?) };
            Some(Packet::Event { ack, name, data })
        }
        (b'3', _) | (b'4', Some(b'3')) => Some(Packet::Other),
        _ => None,
    }
}

/// The first packet of a connection.
pub(crate) fn open(sid: &str, ping_interval_ms: u128) -> String {
    format!(
        r#"0{{"sid":"{sid}","upgrades":[],"pingInterval":{ping_interval_ms},"pingTimeout":20000,"maxPayload":65536}}"#
    )
}

/// The socket has entered.
pub(crate) fn connected(sid: &str) -> String {
    format!(r#"40{{"sid":"{sid}"}}"#)
}

/// An event whose data is JSON already.
pub(crate) fn event(name: &str, data: &str) -> String {
    format!(r#"42["{name}",{data}]"#)
}

/// The answer to an event of a client.
pub(crate) fn ack(id: u64, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).expect("answers are JSON");
    format!("43{id}[{data}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stock_clients_send_is_read() {
        assert!(matches!(read(r#"40{"token":"x"}"#), Some(Packet::Connect)));
        assert!(matches!(read("3"), Some(Packet::Other)));
        assert!(matches!(read("1"), Some(Packet::Disconnect)));
        let Some(Packet::Event { ack: Some(12), name, data }) = read(r#"4212["join_room",{"roomId":"r"}]"#) else {
            panic!("not an event");
        };
        assert_eq!((&*name, data.get()), ("join_room", r#"{"roomId":"r"}"#));
        assert!(matches!(read(r#"42["a",1]"#), Some(Packet::Event { ack: None, .. })));
    }

    #[test]
    fn what_is_no_packet_is_refused_without_a_panic() {
        for text in ["", "é", "4", "4é", "42", "42x[\"a\",1]", "42[1]", "[42", "7"] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
