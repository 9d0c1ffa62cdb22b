//! A packet on its way to clients: the bytes of a complete WebSocket text frame, Engine.IO's packet type included, made
//! once and shared by every socket that gets it. Polling clients get the same text without the WebSocket header. What
//! the text says is `packet.rs`.

use std::{fmt, sync::Arc};

/// Engine.IO's type of a message, which every Socket.IO packet is.
const MESSAGE: u8 = b'4';

/// A frame, ready for any socket; a clone shares it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Frame(Arc<[u8]>);

impl Frame {
    /// A Socket.IO packet.
    pub(super) fn message(text: &str) -> Self {
        Self::text(&[MESSAGE], text)
    }

    /// An Engine.IO packet that is no message: `2` for a ping, `3probe`.
    pub(super) fn control(packet: &str) -> Self {
        Self::text(&[], packet)
    }

    fn text(kind: &[u8], text: &str) -> Self {
        // The opcode of text, final, unmasked as everything that a server sends.
        Self::new(0x81, &[kind, text.as_bytes()])
    }

    /// A frame of WebSocket's own: opcode 8 for a close, 10 for a pong. At most 125 bytes, as these have.
    pub(super) fn websocket(opcode: u8, payload: &[u8]) -> Self {
        debug_assert!(payload.len() <= 125, "the reader takes no longer ones");
        Self::new(0x80 | opcode, &[payload])
    }

    fn new(first: u8, parts: &[&[u8]]) -> Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(length + 10);
        bytes.push(first);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..=125), _) => bytes.push(length),
            (_, Ok(length)) => {
                bytes.push(126);
                bytes.extend(length.to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Self(bytes.into())
    }

    /// What is written to a WebSocket.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The Engine.IO packet, as polling clients get it; none for a frame of WebSocket's own.
    pub(super) fn packet(&self) -> Option<&str> {
        let head = match self.0.get(1)? {
            ..=125 => 2,
            126 => 4,
            _ => 10,
        };
        let text = self.0.first() == Some(&0x81);
        self.0.get(head..).filter(|_| text).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The Socket.IO packet; empty for what is none.
    pub(super) fn as_str(&self) -> &str {
        self.packet().and_then(|packet| packet.strip_prefix('4')).unwrap_or_default()
    }

    /// About how much memory it takes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self::message(&text)
    }
}

impl From<&str> for Frame {
    fn from(text: &str) -> Self {
        Self::message(text)
    }
}

/// So that tests can compare with text.
impl PartialEq<&str> for Frame {
    fn eq(&self, text: &&str) -> bool {
        self.as_str() == *text
    }
}

/// Without its content, which is not for logs.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("bytes", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

    use super::*;

    /// Read by the library whose clients must understand it.
    fn header(frame: &Frame) -> (FrameHeader, u64) {
        FrameHeader::parse(&mut Cursor::new(frame.bytes())).expect("good").expect("whole")
    }

    #[test]
    fn every_length_is_framed_as_clients_read_it() {
        for length in [0, 1, 124, 125, 126, 65_534, 65_535, 65_536, 100_000] {
            let text = "x".repeat(length);
            let frame = Frame::message(&text);
            let (header, payload) = header(&frame);
            assert!(header.is_final && header.mask.is_none(), "{length}");
            assert_eq!((u8::from(header.opcode), payload), (1, length as u64 + 1));
            assert_eq!(frame.bytes().len(), header.len(payload) + length + 1);
            assert_eq!((frame.as_str(), frame.packet()), (&*text, Some(&*format!("4{text}"))));
        }
    }

    #[test]
    fn controls_are_packets_and_no_messages() {
        assert_eq!((Frame::control("2").packet(), Frame::control("2").as_str()), (Some("2"), ""));
        let close = Frame::websocket(8, &1000_u16.to_be_bytes());
        assert_eq!((close.packet(), close.bytes()), (None, &[0x88, 2, 0x03, 0xe8][..]));
        assert_eq!(header(&close).0.opcode, OpCode::from(8));
        assert!(!format!("{:?}", Frame::message("secret")).contains("secret"));
    }
}
