//! Page tokens: where a list goes on, as opaque text. They name the last thing of the page before, not a number of
//! things to skip, so pages neither repeat nor leave out what was there all along, and deep ones cost what the first one
//! costs.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mesh::{error::FieldViolation, time::Millis};
use uuid::Uuid;

use crate::{
    id::RoomId,
    member::Standing,
    message::ClientMessageId,
    sent::SentAfter,
    store::{JoinedBefore, NamedAfter},
};

/// The longest token: a folded name of 100 characters and its room, in base64.
const CHARS_MAX: usize = 1_024;

/// Where a list goes on.
pub trait PageToken: Sized {
    /// The token's first byte: which list it belongs to.
    const LIST: u8;

    /// The token's other bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// From the token's other bytes.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;

    /// As clients see it.
    fn encode(&self) -> String {
        let mut bytes = vec![Self::LIST];
        bytes.extend(self.to_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a client gave back; none for the first page.
    ///
    /// # Errors
    /// A violation for anything that this list did not give.
    fn decode(field: &str, text: &str) -> Result<Option<Self>, FieldViolation> {
        if text.is_empty() {
            return Ok(None);
        }
        let bytes = (text.len() <= CHARS_MAX).then(|| BASE64_URL_SAFE_NO_PAD.decode(text).ok()).flatten();
        let token = bytes.as_deref().and_then(|bytes| match bytes.split_first() {
            Some((list, rest)) if *list == Self::LIST => Self::from_bytes(rest),
            _ => None,
        });
        token.map(Some).ok_or_else(|| FieldViolation::new(field, "is no page token of this list"))
    }
}

impl PageToken for JoinedBefore {
    const LIST: u8 = 1;

    fn to_bytes(&self) -> Vec<u8> {
        [&self.joined_at.0.to_be_bytes()[..], self.room.0.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (at, room) = bytes.split_first_chunk()?;
        Some(Self { joined_at: Millis(i64::from_be_bytes(*at)), room: RoomId(Uuid::from_slice(room).ok()?) })
    }
}

impl PageToken for NamedAfter {
    const LIST: u8 = 2;

    fn to_bytes(&self) -> Vec<u8> {
        [self.room.0.as_bytes(), self.name.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (room, name) = bytes.split_first_chunk()?;
        let name = std::str::from_utf8(name).ok().filter(|name| !name.contains('\0'))?;
        Some(Self { name: name.to_owned(), room: RoomId(Uuid::from_bytes(*room)) })
    }
}

impl PageToken for SentAfter {
    const LIST: u8 = 4;

    fn to_bytes(&self) -> Vec<u8> {
        let client_id = self.client_id.as_ref().map_or("", ClientMessageId::as_str);
        [self.room.0.as_bytes(), client_id.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (room, client_id) = bytes.split_first_chunk()?;
        let client_id = std::str::from_utf8(client_id)
            .ok()
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '))?;
        let client_id = (!client_id.is_empty()).then(|| ClientMessageId::stored(client_id));
        Some(Self { room: RoomId(Uuid::from_bytes(*room)), client_id })
    }
}

impl PageToken for Standing {
    const LIST: u8 = 3;

    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(i64::from_be_bytes(bytes.try_into().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was_and_fits_no_other_list() {
        let room = RoomId::random();
        let joined = JoinedBefore { joined_at: Millis(-5), room };
        let named = NamedAfter { name: "Ünï 😀".into(), room };
        let standing = Standing(1 << 40);
        assert_eq!(JoinedBefore::decode("t", &joined.encode()), Ok(Some(joined)));
        assert_eq!(NamedAfter::decode("t", &named.encode()), Ok(Some(named.clone())));
        assert_eq!(Standing::decode("t", &standing.encode()), Ok(Some(standing)));
        for client_id in [None, Some(ClientMessageId::stored("a ~1"))] {
            let sent = SentAfter { room, client_id };
            assert_eq!(SentAfter::decode("t", &sent.encode()), Ok(Some(sent)));
        }
        assert_eq!(Standing::decode("t", ""), Ok(None));
        let long = "A".repeat(CHARS_MAX + 4);
        for bad in ["x", "not a token", &named.encode(), &joined.encode(), &long, &standing.encode()[1..]] {
            assert!(Standing::decode("t", bad).is_err(), "{bad}");
        }
    }
}
