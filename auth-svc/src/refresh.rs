//! Refresh tokens: opaque to clients, each one's successor derived from it with a keyed hash. So everyone who refreshes
//! with one token gets the same successor, and no answer needs to be kept. The store has the SHA-256 of the one token
//! that counts; `store.rs` says what a refresh with any other one means.
//!
//! A token names its session and bears a tag that only we can make. The tag proves a spent token to be ours, which is
//! how its reuse is recognised without keeping the hashes of all that came before: 90 days of a session that refreshes
//! every 15 minutes would be 8,640 of them. Garbage has no good tag and ends nothing.

use std::fmt;

use aws_lc_rs::{digest, hmac, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::session::SessionId;

/// What every token begins with, so that scanners for leaked secrets can find one.
const PREFIX: &str = "sbr_";
/// The layout after the prefix: version, session, chain, tag.
const VERSION: u8 = 1;
const SESSION_BYTES: usize = 16;
const CHAIN_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const TOKEN_BYTES: usize = 1 + SESSION_BYTES + CHAIN_BYTES + TAG_BYTES;

/// SHA-256 of a token: what the store knows of it. A token has 256 random bits, so no slower hash is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshHash(pub [u8; 32]);

/// A token of ours, or one that looks like it.
#[derive(Clone)]
pub struct RefreshToken {
    session_id: SessionId,
    chain: [u8; CHAIN_BYTES],
    text: SecretString,
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

impl RefreshToken {
    /// The session that it names.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// What the client gets.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// What the store keeps.
    #[must_use]
    pub fn hash(&self) -> RefreshHash {
        let digest = digest::digest(&digest::SHA256, self.expose().as_bytes());
        RefreshHash(digest.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes"))
    }
}

/// A token that a client presents.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The token.
    pub token: RefreshToken,
    /// Whether its tag is ours.
    pub genuine: bool,
}

/// Makes tokens and reads them. Every replica has the same secret.
pub struct RefreshTokens {
    key: hmac::Key,
}

impl fmt::Debug for RefreshTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshTokens(…)")
    }
}

impl RefreshTokens {
    /// From the secret of the data folder.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The first token of a session.
    ///
    /// # Panics
    /// Never while the system has a random source.
    #[must_use]
    pub fn first(&self, session_id: SessionId) -> RefreshToken {
        let mut chain = [0; CHAIN_BYTES];
        rand::fill(&mut chain).expect("invariant: the system has a random source");
        self.token(session_id, chain)
    }

    /// The token after this one: always the same.
    #[must_use]
    pub fn successor(&self, token: &RefreshToken) -> RefreshToken {
        self.token(token.session_id, self.mac(b"next", token.session_id, &token.chain))
    }

    /// Reads a token; `None` for what is not even shaped like one.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<Presented> {
        // The length is judged first, so that megabytes of garbage cost nothing.
        let encoded = text.strip_prefix(PREFIX).filter(|rest| rest.len() <= TOKEN_BYTES * 2)?;
        let bytes: [u8; TOKEN_BYTES] = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (session, rest) = rest.split_first_chunk::<SESSION_BYTES>()?;
        let (chain, tag) = rest.split_first_chunk::<CHAIN_BYTES>()?;
        if *version != VERSION {
            return None;
        }
        let session_id = SessionId(Uuid::from_bytes(*session));
        let ours = self.mac(b"tag", session_id, chain);
        let genuine = aws_lc_rs::constant_time::verify_slices_are_equal(&ours[..TAG_BYTES], tag).is_ok();
        let token = RefreshToken { session_id, chain: *chain, text: text.to_owned().into() };
        Some(Presented { token, genuine })
    }

    fn token(&self, session_id: SessionId, chain: [u8; CHAIN_BYTES]) -> RefreshToken {
        let tag = self.mac(b"tag", session_id, &chain);
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(session_id.0.as_bytes());
        bytes.extend_from_slice(&chain);
        bytes.extend_from_slice(&tag[..TAG_BYTES]);
        let text = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(&bytes));
        RefreshToken { session_id, chain, text: text.into() }
    }

    /// The label keeps what is shown (the tag) apart from what must not be guessed (the next token).
    fn mac(&self, label: &[u8], session_id: SessionId, chain: &[u8; CHAIN_BYTES]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(label);
        context.update(&[0]);
        context.update(session_id.0.as_bytes());
        context.update(chain);
        context.sign().as_ref().try_into().expect("invariant: HMAC-SHA256 has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionId {
        SessionId(Uuid::now_v7())
    }

    #[test]
    fn a_token_reads_back_as_it_was_made() {
        let tokens = RefreshTokens::new(&[7; 32]);
        let id = session();
        let first = tokens.first(id);
        let read = tokens.parse(first.expose()).expect("a token");
        assert!(read.genuine);
        assert_eq!(read.token.session_id(), id);
        assert_eq!(read.token.hash(), first.hash());
    }

    #[test]
    fn every_use_of_a_token_derives_the_same_successor_on_every_replica() {
        let first = RefreshTokens::new(&[7; 32]).first(session());
        let successors: Vec<_> =
            (0..10).map(|_| RefreshTokens::new(&[7; 32]).successor(&first).expose().to_owned()).collect();
        assert!(successors.iter().all(|text| *text == successors[0] && text != first.expose()));
        assert_ne!(RefreshTokens::new(&[8; 32]).successor(&first).expose(), successors[0]);
    }

    #[test]
    fn a_token_with_one_bit_changed_is_not_genuine() {
        let tokens = RefreshTokens::new(&[7; 32]);
        let first = tokens.first(session());
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&first.expose()[PREFIX.len()..]).expect("base64");
        for index in 1..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let text = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(changed));
            assert!(!tokens.parse(&text).expect("the shape of a token").genuine, "byte {index}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_apart_without_effort() {
        let tokens = RefreshTokens::new(&[7; 32]);
        let good = tokens.first(session());
        let cut = &good.expose()[..good.expose().len() - 2];
        for bad in ["", "x", "sbr_", "sbr_AAAA", cut, &good.expose()[4..], &"sbr_A".repeat(100_000)] {
            assert!(tokens.parse(bad).is_none());
        }
    }

    #[test]
    fn debug_output_has_no_token() {
        let first = RefreshTokens::new(&[7; 32]).first(session());
        assert!(!format!("{first:?}").contains(&first.expose()[..20]));
    }
}
