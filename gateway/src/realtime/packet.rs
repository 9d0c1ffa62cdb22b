//! The text of Socket.IO v5 packets (<https://socket.io/docs/v4/socket-io-protocol/>): reading what clients send and
//! writing what they get, on the one namespace `/`. It knows no transport and no event. Binary attachments are read far
//! enough to be refused.

pub(super) use super::frame::Frame;

/// The text of a packet that came in, kept until its turn.
pub(super) type Text = Box<str>;

/// What a client sent. The JSON within is not looked at yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// Wants to enter a namespace; `auth` may be empty.
    Connect { namespace: &'a str, auth: &'a str },
    /// Leaves the namespace.
    Disconnect,
    /// An event: the JSON array of its name and arguments.
    Event { ack: Option<u64>, data: &'a str },
    /// An event with binary attachments, which nothing here takes.
    Binary { ack: Option<u64> },
    /// The answer to an event of ours; we ask for none.
    Ack,
}

/// Text that no client of this protocol sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no Socket.IO packet")]
pub(super) struct Malformed;

impl<'a> Packet<'a> {
    /// Reads a packet of the namespace `/`, or a CONNECT to any.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn read(text: &'a str) -> Result<Self, Malformed> {
        let kind = text.bytes().next().ok_or(Malformed)?;
        // A first byte that is no digit may be half a character.
        let rest = text.get(1..).ok_or(Malformed)?;
        match kind {
            b'0' => {
                let (namespace, auth) = namespace(rest)?;
                Ok(Self::Connect { namespace, auth })
            }
            b'1' => ours(rest).map(|_| Self::Disconnect),
            b'2' => {
                let (ack, data) = ack(ours(rest)?)?;
                Ok(Self::Event { ack, data })
            }
            b'3' | b'6' => Ok(Self::Ack),
            b'5' => {
                let (_, rest) = rest.split_once('-').ok_or(Malformed)?;
                Ok(Self::Binary { ack: ack(ours(rest)?)?.0 })
            }
            _ => Err(Malformed),
        }
    }
}

/// The namespace, `/` when none is named, and what follows it.
fn namespace(text: &str) -> Result<(&str, &str), Malformed> {
    if !text.starts_with('/') {
        return Ok(("/", text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    // A namespace may carry a query, as in `/?a=b`.
    let namespace = namespace.split('?').next().unwrap_or(namespace);
    if namespace.len() > 256 { Err(Malformed) } else { Ok((namespace, rest)) }
}

fn ours(text: &str) -> Result<&str, Malformed> {
    match namespace(text)? {
        ("/", rest) => Ok(rest),
        _ => Err(Malformed),
    }
}

fn ack(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (id, rest) = text.split_at(digits);
    match id {
        "" => Ok((None, rest)),
        id => Ok((Some(id.parse().ok().ok_or(Malformed)?), rest)),
    }
}

/// The socket has entered.
pub(super) fn connect(socket_id: &str) -> Frame {
    format!(r#"0{{"sid":"{socket_id}"}}"#).into()
}

/// The socket may not enter; `error` is the error object, which becomes `data` of the client's `connect_error`.
pub(super) fn connect_error(namespace: &str, message: &str, error: &str) -> Frame {
    let message = serde_json::Value::from(message);
    let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
    format!(r#"4{namespace}{{"message":{message},"data":{error}}}"#).into()
}

/// The socket is put out for good: a stock client does not come back by itself.
pub(super) fn disconnect() -> Frame {
    Frame::from("1")
}

/// What stands before the data of an event, so that the data can be found again in its frame.
pub(super) fn event_head(event: &str) -> String {
    format!(r#"2["{event}","#)
}

/// An event; its name is one of ours and needs no escapes.
pub(super) fn event(event: &str, data: &str) -> Frame {
    format!(r#"2["{event}",{data}]"#).into()
}

/// The answer to an event of a client.
pub(super) fn ack_of(id: u64, data: &str) -> Frame {
    format!("3{id}[{data}]").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stock_clients_send_is_read() {
        for (text, packet) in [
            ("0", Packet::Connect { namespace: "/", auth: "" }),
            (r#"0{"token":"a,b"}"#, Packet::Connect { namespace: "/", auth: r#"{"token":"a,b"}"# }),
            ("0/admin,{}", Packet::Connect { namespace: "/admin", auth: "{}" }),
            ("0/admin", Packet::Connect { namespace: "/admin", auth: "" }),
            ("0/?a=b,{}", Packet::Connect { namespace: "/", auth: "{}" }),
            ("1", Packet::Disconnect),
            (r#"2["a"]"#, Packet::Event { ack: None, data: r#"["a"]"# }),
            (r#"212["a",{}]"#, Packet::Event { ack: Some(12), data: r#"["a",{}]"# }),
            (r#"2/,7["a"]"#, Packet::Event { ack: Some(7), data: r#"["a"]"# }),
            (r#"51-3["a",{"_placeholder":true,"num":0}]"#, Packet::Binary { ack: Some(3) }),
            ("30[]", Packet::Ack),
        ] {
            assert_eq!(Packet::read(text), Ok(packet), "{text}");
        }
    }

    #[test]
    fn what_is_no_packet_is_refused_without_a_panic() {
        let long = format!("0/{}", "a".repeat(300));
        for text in ["", "é", "x", "7", "4{}", "1/admin,", "2/admin,[]", "299999999999999999999999[]", "5[]", &long] {
            assert_eq!(Packet::read(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn packets_are_written_as_the_protocol_has_them() {
        assert_eq!(connect("abc"), r#"0{"sid":"abc"}"#);
        assert_eq!(connect_error("/", "a \"b\"", "{}"), r#"4{"message":"a \"b\"","data":{}}"#);
        assert_eq!(connect_error("/x", "no", "{}"), r#"4/x,{"message":"no","data":{}}"#);
        assert_eq!(event("typing_start", "{}"), r#"2["typing_start",{}]"#);
        assert!(event("typing_start", "{}").as_str().starts_with(&event_head("typing_start")));
        assert_eq!(ack_of(12, "{}"), "312[{}]");
    }
}
