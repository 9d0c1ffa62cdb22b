//! What is kept of the keys that sign access tokens: the part of [`Store`](super::Store) that is about them.

use std::time::Duration;

use async_trait::async_trait;
use mesh::time::Millis;

use super::Stored;
use crate::audit::Entry;

/// Keys that may be there at a time, the one that signs and those whose tokens may still be good: what everyone who
/// verifies keeps in memory, and more than rotations on purpose ever make.
pub const KEYS_MAX: i64 = 16;

/// A signing key as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its place among them, dense from 1.
    pub number: i64,
    /// The raw public key.
    pub public: Vec<u8>,
    /// The private key, sealed.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Millis,
    /// From when on it signs.
    pub signs_from: Millis,
    /// From when on its tokens are good no more; none until there is a next key.
    pub leaves_at: Option<Millis>,
    /// The longest that a token of it lives, in seconds.
    pub token_secs: i64,
}

/// A private key does not belong into a log, also when it is sealed.
impl std::fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRecord").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A key that is to follow those that are there.
#[derive(Clone, Debug)]
pub struct KeyRotation {
    /// The key. Its number is one more than the highest that the caller has seen; its `leaves_at` is none.
    pub key: KeyRecord,
    /// How much longer than a token's life the keys before it stay: what clocks may be apart.
    pub leeway: Duration,
    /// Whether they go in the moment in which it signs, and all tokens of theirs with them.
    pub at_once: bool,
    /// Written with it.
    pub audit: Vec<Entry>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRotated {
    /// The key is there, and those before it leave when their last token has expired, or at once.
    Rotated,
    /// Somebody else was first; nothing changed.
    Overtaken,
    /// There are as many as may be; nothing changed.
    Full,
}

/// The keys that sign access tokens.
#[async_trait]
pub trait KeyStore {
    /// All keys that have not been forgotten, in the order of their numbers.
    async fn signing_keys(&self) -> Stored<Vec<KeyRecord>>;

    /// Adds a key. Each one before it that has no end yet, or a later one, leaves at the time from which the new one signs:
    /// at once, or a token's life and the leeway later. Of several calls at the same time with one number, one wins.
    async fn rotate_key(&self, rotation: &KeyRotation) -> Stored<KeyRotated>;

    /// Notes that tokens of the keys without an end live for so long, where a shorter time is noted.
    async fn note_token_life(&self, secs: i64) -> Stored<()>;

    /// Forgets keys that have left.
    async fn forget_keys(&self, now: Millis) -> Stored<()>;
}
