//! The forms of what goes through Redis: a version, a kind, the replica that says it, a seal, a body. What concerns a
//! room is sealed: a keyed hash with the id of this life of the room's log as the key. Only who can read the room, its
//! members and this service, knows that id, and it is not sent; so neither another installation on the same Redis, nor a
//! log from before a restore, nor somebody who may only talk to Redis can make a hint that is taken for an entry.

use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use mesh::time::Millis;
use uuid::Uuid;

use crate::{
    entry::{Entry, Event, Seq},
    hub::Typing,
    id::{EntryId, LogId, RoomId, UserId},
    store::{Batch, payload},
};

#[cfg(test)]
mod fuzz;

/// The first byte of everything. A replica ignores versions that it does not know, and reads the store.
const VERSION: u8 = 1;
/// Half of the hash: nobody has more than the moment of one seq to guess it.
const SEAL_BYTES: usize = 16;
const ID_BYTES: usize = 16;
/// Version and kind, replica, seal.
const HEAD_BYTES: usize = 2 + ID_BYTES + SEAL_BYTES;

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    /// These entries were written.
    Entries(Batch),
    /// The log has reached this seq.
    Head(Seq),
    /// Somebody types, or has stopped.
    Typing(Typing),
    /// The replica is there.
    Beat,
    /// The replica is there, and has not told everything.
    Look,
    /// The replica stops.
    Bye,
}

/// Something that came and looks like a message; its seal has not been checked.
pub(super) struct Message<'a> {
    pub(super) replica: Uuid,
    kind: u8,
    seal: &'a [u8],
    /// All that the seal is about, in two parts.
    opening: &'a [u8],
    body: &'a [u8],
}

impl Frame {
    /// Its name in metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Entries(_) => "entries",
            Self::Head(_) => "head",
            Self::Typing(_) => "typing",
            Self::Beat => "beat",
            Self::Look => "look",
            Self::Bye => "bye",
        }
    }

    fn number(&self) -> u8 {
        match self {
            Self::Entries(_) => 1,
            Self::Head(_) => 2,
            Self::Typing(_) => 3,
            Self::Beat => 4,
            Self::Look => 5,
            Self::Bye => 6,
        }
    }
}

/// A message for a room's channel.
pub(super) fn seal(frame: &Frame, replica: Uuid, log: LogId) -> Vec<u8> {
    let mut out = begin(frame, replica);
    match frame {
        Frame::Entries(batch) => put_entries(&mut out, batch),
        Frame::Head(seq) => out.extend(seq.to_be_bytes()),
        Frame::Typing(typing) => {
            out.extend(typing.user.0.as_bytes());
            out.push(typing.typing.into());
            out.extend(typing.username.as_bytes());
        }
        Frame::Beat | Frame::Look | Frame::Bye => {}
    }
    let seal = hash(log, &out[..2 + ID_BYTES], &out[HEAD_BYTES..]);
    out[2 + ID_BYTES..HEAD_BYTES].copy_from_slice(&seal);
    out
}

/// A message for the common channel.
pub(super) fn common(frame: &Frame, replica: Uuid) -> Vec<u8> {
    begin(frame, replica)
}

/// Version, kind, replica, and space for the seal.
fn begin(frame: &Frame, replica: Uuid) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + 512);
    out.extend([VERSION, frame.number()]);
    out.extend(replica.as_bytes());
    out.resize(HEAD_BYTES, 0);
    out
}

fn hash(log: LogId, opening: &[u8], body: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hash = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, log.0.as_bytes()));
    hash.update(opening);
    hash.update(body);
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&hash.sign().as_ref()[..SEAL_BYTES]);
    seal
}

/// Reads what every message has; none when it cannot be one.
pub(super) fn open(bytes: &[u8]) -> Option<Message<'_>> {
    let mut rest = Bytes(bytes);
    let [version, kind] = rest.array()?;
    let (replica, seal) = (rest.uuid()?, rest.take(SEAL_BYTES)?);
    let opening = bytes.get(..2 + ID_BYTES)?;
    (version == VERSION).then_some(Message { replica, kind, seal, opening, body: rest.0 })
}

impl Message<'_> {
    /// Whether it was made by somebody who knows this life of the log, and is whole.
    pub(super) fn is_sealed_with(&self, log: LogId) -> bool {
        constant_time::verify_slices_are_equal(self.seal, &hash(log, self.opening, self.body)).is_ok()
    }

    /// What it says of the room.
    pub(super) fn frame(&self, room: RoomId) -> Option<Frame> {
        let mut body = Bytes(self.body);
        Some(match self.kind {
            1 => Frame::Entries(entries(&mut body, room)?),
            2 => Frame::Head(body.last_i64()?),
            3 => {
                let (user, [typing]) = (UserId(body.uuid()?), body.array()?);
                let username = std::str::from_utf8(body.0).ok()?.into();
                Frame::Typing(Typing { user, username, typing: typing != 0 })
            }
            _ => return None,
        })
    }

    /// What it says of the replica.
    pub(super) fn sign(&self) -> Option<Frame> {
        match self.kind {
            4 => Some(Frame::Beat),
            5 => Some(Frame::Look),
            6 => Some(Frame::Bye),
            _ => None,
        }
    }
}

/// The first seq, then each entry: id, messages, time, kind, for a message its sender and client id, and the stored form
/// of what happened. The seqs have no hole, so they need not be told.
fn put_entries(out: &mut Vec<u8>, batch: &[Arc<Entry>]) {
    let first = batch.first().map_or(1, |entry| entry.seq);
    out.extend(first.to_be_bytes());
    for entry in batch {
        out.extend(entry.id.0.as_bytes());
        out.extend(entry.messages.to_be_bytes());
        out.extend(entry.at.0.to_be_bytes());
        out.push(payload::Kind::of(&entry.event) as u8);
        if let Event::Message(message) = &entry.event {
            out.extend(message.sender.0.as_bytes());
            put_text(out, message.client_id.as_str());
        }
        put_text(out, &payload::encode(&entry.event));
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("invariant: a hint is small");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

fn entries(body: &mut Bytes<'_>, room: RoomId) -> Option<Batch> {
    const MESSAGE: u8 = payload::Kind::Message as u8;
    let mut seq: Seq = body.i64()?;
    if seq < 1 {
        return None;
    }
    let mut batch = Vec::new();
    while !body.0.is_empty() {
        let id = EntryId(body.uuid()?);
        let (messages, at, [kind]) = (body.i64()?, Millis(body.i64()?), body.array()?);
        let sent = if kind == MESSAGE { Some((UserId(body.uuid()?), body.text()?)) } else { None };
        let event = payload::decode(kind.into(), body.text()?, sent).ok()?;
        batch.push(Arc::new(Entry { id, room, seq, messages, at, event }));
        seq = seq.checked_add(1)?;
    }
    (!batch.is_empty()).then(|| batch.into())
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn uuid(&mut self) -> Option<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn last_i64(&mut self) -> Option<i64> {
        self.i64().filter(|_| self.0.is_empty())
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u32::from_be_bytes(self.array()?);
        std::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        entry::{MembersChanged, RoomClosed},
        testing::{entry, message, message_entry, user},
    };

    fn all(room: RoomId) -> Vec<Frame> {
        let who = user();
        let change = MembersChanged { joined: vec![who], member_count: 2, ..MembersChanged::default() };
        let batch = [
            message_entry(room, 7, 3, message(who, "c-1", "an ünïcode text 😀")),
            entry(room, 8, 3, Event::Members(change)),
            message_entry(room, 9, 4, message(who, "c-2", &"long ".repeat(1_000))),
            entry(room, 10, 4, Event::Closed(RoomClosed { by: None })),
        ];
        vec![
            Frame::Entries(batch.into()),
            Frame::Head(i64::MAX),
            Frame::Typing(Typing { user: who, username: "ädä".into(), typing: true }),
        ]
    }

    #[test]
    fn a_hint_comes_back_as_it_was_for_those_who_know_the_log() {
        let (room, log, replica) = (RoomId::random(), LogId::random(), Uuid::new_v4());
        for frame in all(room) {
            let bytes = seal(&frame, replica, log);
            let message = open(&bytes).expect("opens");
            assert_eq!(message.replica, replica);
            assert!(message.is_sealed_with(log) && !message.is_sealed_with(LogId::random()));
            assert_eq!(message.frame(room), Some(frame));
            assert_eq!(message.sign(), None);
            assert!(!bytes.windows(16).any(|part| part == log.0.as_bytes()), "the log's id is not sent");
        }
        for frame in [Frame::Beat, Frame::Look, Frame::Bye] {
            let bytes = common(&frame, replica);
            let message = open(&bytes).expect("opens");
            assert_eq!((message.sign(), message.frame(room), message.replica), (Some(frame), None, replica));
            assert!(!message.is_sealed_with(log), "a sign is no hint");
        }
    }

    #[test]
    fn a_short_message_makes_a_short_hint() {
        let (room, log) = (RoomId::random(), LogId::random());
        let batch = [message_entry(room, 1, 1, message(user(), &Uuid::new_v4().to_string(), "hello"))];
        assert!(seal(&Frame::Entries(batch.into()), Uuid::new_v4(), log).len() < 220);
    }

    #[test]
    fn every_changed_or_missing_byte_breaks_the_seal() {
        let (room, log) = (RoomId::random(), LogId::random());
        let batch = [message_entry(room, 1, 1, message(user(), "c", "x"))];
        let bytes = seal(&Frame::Entries(batch.into()), Uuid::new_v4(), log);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(open(&changed).is_none_or(|message| !message.is_sealed_with(log)), "byte {place}");
            assert!(open(&bytes[..place]).is_none_or(|message| !message.is_sealed_with(log)), "cut at {place}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(kind in 0u8..8, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [&[VERSION, kind][..], &rest].concat();
            if let Some(message) = open(&bytes) {
                // Also what is sealed by somebody who is mistaken.
                let _ = (message.frame(RoomId::random()), message.sign(), message.is_sealed_with(LogId::random()));
            }
        }
    }
}
