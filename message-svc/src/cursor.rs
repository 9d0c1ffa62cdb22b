//! A cursor: the position in a room's log that a client holds and gives back. It names the log's life and a seq, so a
//! position in a log that has been restored since, or one from the future, is recognised. Clients must not look inside.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::{entry::Seq, id::LogId};

/// The first byte of every cursor, so that the form can change.
const VERSION: u8 = 1;
/// Version, log id, seq.
const BYTES: usize = 1 + 16 + 8;
/// The text of any cursor, of this version or a later one, is no longer.
pub const CHARS_MAX: usize = 128;

/// A position in one life of a room's log: just after the entry `seq`; 0 is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which life of which log.
    pub log: LogId,
    /// The last entry that has been seen.
    pub seq: Seq,
}

/// A text that is no cursor at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no cursor that this server gave")]
pub struct NoCursor;

impl Cursor {
    /// As clients see it: 34 characters of base64url.
    #[must_use]
    pub fn encode(self) -> String {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(self.log.0.as_bytes());
        bytes[17..].copy_from_slice(&self.seq.to_be_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a client gave back.
    ///
    /// # Errors
    /// [`NoCursor`] for anything that [`Cursor::encode`] cannot have made.
    pub fn decode(text: &str) -> Result<Self, NoCursor> {
        if text.len() > CHARS_MAX {
            return Err(NoCursor);
        }
        let mut bytes = [0; BYTES];
        // The decoder wants room for what padding would add.
        let mut room = [0; CHARS_MAX];
        match BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut room) {
            Ok(BYTES) if room[0] == VERSION => bytes.copy_from_slice(&room[..BYTES]),
            Ok(_) | Err(_) => return Err(NoCursor),
        }
        let (log, seq) = (&bytes[1..17], &bytes[17..]);
        let log = Uuid::from_slice(log).expect("invariant: 16 bytes");
        let seq = Seq::from_be_bytes(seq.try_into().expect("invariant: 8 bytes"));
        if seq < 0 { Err(NoCursor) } else { Ok(Self { log: LogId(log), seq }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(log in any::<u128>(), seq in 0..i64::MAX) {
            let cursor = Cursor { log: LogId(Uuid::from_u128(log)), seq };
            let text = cursor.encode();
            prop_assert!(text.len() <= CHARS_MAX);
            prop_assert_eq!(Cursor::decode(&text), Ok(cursor));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            if let Ok(cursor) = Cursor::decode(&text) {
                prop_assert_eq!(cursor.encode(), text);
            }
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let good = Cursor { log: LogId::random(), seq: 7 }.encode();
        let negative = Cursor { log: LogId::random(), seq: -1 }.encode();
        let long = "A".repeat(CHARS_MAX + 1);
        for bad in ["", "7", "not a cursor", &good[1..], &format!("{good}AA"), &negative, &long] {
            assert_eq!(Cursor::decode(bad), Err(NoCursor), "{bad}");
        }
    }
}
