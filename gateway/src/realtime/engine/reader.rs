//! From the bytes of a WebSocket to messages, by the rules of RFC 6455. tungstenite parses the headers; the payloads are
//! put together here, because its own reader keeps the buffer of the largest frame for as long as the connection lives,
//! and an idle socket must keep none. It writes nothing and knows no socket.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;
/// The longest payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;

/// What has come in whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Pong,
    /// The peer closes, with what has to be answered.
    Close(Vec<u8>),
}

/// Against the rules; the number is the close code that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Protocol,
    NotUtf8,
    TooLarge,
}

impl Broken {
    /// The close code.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
        }
    }
}

/// A frame whose payload is not all there.
#[derive(Debug)]
struct Begun {
    header: FrameHeader,
    bytes: usize,
    payload: Vec<u8>,
}

/// A message in several frames.
#[derive(Debug)]
struct Fragments {
    text: bool,
    payload: Vec<u8>,
}

/// What has been read and is not whole yet. Between messages it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Reader {
    head: Vec<u8>,
    begun: Option<Box<Begun>>,
    fragments: Option<Box<Fragments>>,
}

impl Reader {
    /// Takes bytes from the front of `input`: until something is whole, or until all are taken.
    ///
    /// # Errors
    /// When the peer breaks a rule, or a message is larger than `bytes_max`. Nothing that follows can be read then.
    pub(super) fn read(&mut self, input: &mut &[u8], bytes_max: usize) -> Result<Option<Incoming>, Broken> {
        loop {
            let mut begun = match self.begun.take() {
                Some(begun) => begun,
                None => match self.header(input, bytes_max)? {
                    Some(begun) => begun,
                    None => return Ok(None),
                },
            };
            let missing = begun.bytes - begun.payload.len();
            let (taken, rest) = input.split_at(missing.min(input.len()));
            begun.payload.extend_from_slice(taken);
            *input = rest;
            if begun.payload.len() < begun.bytes {
                self.begun = Some(begun);
                return Ok(None);
            }
            if let Some(incoming) = self.whole(*begun, bytes_max)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// The next header, as soon as it is there.
    fn header(&mut self, input: &mut &[u8], bytes_max: usize) -> Result<Option<Box<Begun>>, Broken> {
        if self.head.is_empty() && !input.is_empty() {
            // Nearly always all of it is here.
            let mut cursor = Cursor::new(*input);
            if let Some((header, length)) = parse(&mut cursor)? {
                *input = &input[position(&cursor)..];
                return self.begin(header, length, bytes_max).map(Some);
            }
        }
        let kept = self.head.len();
        let more = input.len().min(HEADER_BYTES_MAX - kept);
        self.head.extend_from_slice(&input[..more]);
        let mut cursor = Cursor::new(self.head.as_slice());
        let parsed = parse(&mut cursor)?;
        let used = parsed.as_ref().map_or(more, |_| position(&cursor) - kept);
        *input = &input[used..];
        let Some((header, length)) = parsed else { return Ok(None) };
        self.head = Vec::new();
        self.begin(header, length, bytes_max).map(Some)
    }

    fn begin(&self, header: FrameHeader, length: u64, bytes_max: usize) -> Result<Box<Begun>, Broken> {
        let control = matches!(header.opcode, OpCode::Control(_));
        let follows = self.fragments.is_some();
        let ordered = match header.opcode {
            OpCode::Control(_) => header.is_final && length <= CONTROL_BYTES_MAX as u64,
            OpCode::Data(Data::Continue) => follows,
            OpCode::Data(_) => !follows,
        };
        // No extension was agreed on, and what a client sends is masked.
        if header.rsv1 || header.rsv2 || header.rsv3 || header.mask.is_none() || !ordered {
            return Err(Broken::Protocol);
        }
        let before = if control { 0 } else { self.fragments.as_ref().map_or(0, |fragments| fragments.payload.len()) };
        let bytes = usize::try_from(length).ok().filter(|bytes| bytes.saturating_add(before) <= bytes_max);
        let bytes = bytes.ok_or(Broken::TooLarge)?;
        // What is announced is not yet sent: memory for it comes as it does.
        Ok(Box::new(Begun { header, bytes, payload: Vec::with_capacity(bytes.min(4096)) }))
    }

    fn whole(&mut self, begun: Begun, bytes_max: usize) -> Result<Option<Incoming>, Broken> {
        let Begun { header, mut payload, .. } = begun;
        unmask(&mut payload, header.mask.unwrap_or_default());
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Incoming::Ping(payload))),
            OpCode::Control(Control::Pong) => Ok(Some(Incoming::Pong)),
            OpCode::Control(Control::Close) => close(&payload).map(|answer| Some(Incoming::Close(answer))),
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => Err(Broken::Protocol),
            OpCode::Data(kind) => {
                let message = match self.fragments.take() {
                    Some(mut message) => {
                        message.payload.extend_from_slice(&payload);
                        message
                    }
                    None => Box::new(Fragments { text: kind == Data::Text, payload }),
                };
                debug_assert!(message.payload.len() <= bytes_max, "judged by the header");
                if !header.is_final {
                    self.fragments = Some(message);
                    return Ok(None);
                }
                if !message.text {
                    return Ok(Some(Incoming::Binary));
                }
                let text = String::from_utf8(message.payload).ok().ok_or(Broken::NotUtf8)?;
                Ok(Some(Incoming::Text(text)))
            }
        }
    }
}

fn parse(cursor: &mut Cursor<&[u8]>) -> Result<Option<(FrameHeader, u64)>, Broken> {
    FrameHeader::parse(cursor).ok().ok_or(Broken::Protocol)
}

fn position(cursor: &Cursor<&[u8]>) -> usize {
    usize::try_from(cursor.position()).expect("invariant: a position in memory")
}

/// Eight bytes at a time, which the compiler makes wider where the machine can.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

/// What a close is answered with: its own code.
fn close(payload: &[u8]) -> Result<Vec<u8>, Broken> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(Vec::new()) } else { Err(Broken::Protocol) };
    };
    if !CloseCode::from(u16::from_be_bytes(*code)).is_allowed() {
        return Err(Broken::Protocol);
    }
    std::str::from_utf8(reason).ok().ok_or(Broken::NotUtf8)?;
    Ok(code.to_vec())
}

#[cfg(test)]
mod tests;
