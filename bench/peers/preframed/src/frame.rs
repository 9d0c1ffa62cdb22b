//! WebSocket frames: encoding a text once for every socket, and taking what a client sent out of a buffer.

use std::io::{self, Cursor};

use bytes::{Buf as _, Bytes, BytesMut};
use tungstenite::protocol::frame::{
    Frame, FrameHeader,
    coding::{Control, Data, OpCode},
};

/// As the product's: larger than any event of the contract.
const PAYLOAD_BYTES_MAX: u64 = 64 * 1024;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Text(BytesMut),
    Ping(Bytes),
    Close,
    /// A pong: nothing to do.
    Other,
}

/// A text in its frame, as it goes out on the wire.
pub(crate) fn text(text: String) -> Bytes {
    encode(Frame::message(text, OpCode::Data(Data::Text), true))
}

/// The answer to a ping.
pub(crate) fn pong(payload: Bytes) -> Bytes {
    encode(Frame::pong(payload))
}

fn encode(frame: Frame) -> Bytes {
    let mut wire = Vec::with_capacity(frame.len());
    frame.format(&mut wire).expect("a vector takes every write");
    wire.into()
}

/// Takes the first frame out of what was received; none when it is not whole yet.
///
/// # Errors
/// When it is no frame that a Socket.IO client sends.
pub(crate) fn take(received: &mut BytesMut) -> io::Result<Option<Received>> {
    let mut cursor = Cursor::new(&received[..]);
    let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let (Some(mask), true) = (header.mask, header.is_final) else {
        return Err(io::Error::other("frames must be masked and whole"));
    };
    if length > PAYLOAD_BYTES_MAX {
        return Err(io::Error::other("the frame is too long"));
    }
    let (head, length) = (header.len(length), usize::try_from(length).map_err(io::Error::other)?);
    if received.len() < head + length {
        return Ok(None);
    }
    received.advance(head);
    let mut payload = received.split_to(length);
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Some(match header.opcode {
        OpCode::Data(Data::Text) => Received::Text(payload),
        OpCode::Control(Control::Close) => Received::Close,
        OpCode::Control(Control::Ping) => Received::Ping(payload.freeze()),
        OpCode::Control(Control::Pong | Control::Reserved(_)) | OpCode::Data(_) => Received::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let header = FrameHeader { opcode: OpCode::Data(Data::Text), mask: Some(mask), ..FrameHeader::default() };
        let mut wire = Vec::new();
        Frame::from_payload(header, Bytes::from(text.to_owned())).format(&mut wire).expect("written");
        wire
    }

    #[test]
    fn frames_are_taken_one_by_one_and_only_when_whole() {
        let long = "x".repeat(300);
        let wire = [masked("42[\"a\"]"), masked(&long)].concat();
        let mut received = BytesMut::new();
        let mut texts = Vec::new();
        for byte in wire {
            received.extend_from_slice(&[byte]);
            if let Some(frame) = take(&mut received).expect("frames") {
                let Received::Text(text) = frame else { panic!("not a text: {frame:?}") };
                texts.push(String::from_utf8(text.to_vec()).expect("text"));
            }
        }
        assert_eq!(texts, ["42[\"a\"]", &long]);
        assert!(received.is_empty());
    }

    #[test]
    fn frames_without_a_mask_or_past_the_limit_are_refused() {
        take(&mut BytesMut::from(&text("2".to_owned())[..])).expect_err("not masked");
        let mut long = BytesMut::from(&masked(&"x".repeat(64 * 1024 + 1))[..]);
        take(&mut long).expect_err("too long");
    }
}
