//! The keys that sign access tokens, and how one follows another. They are in the store, sealed, so all replicas have the
//! same ones; the key file of the data folder is the first of them.
//!
//! A new key is known to everybody who verifies for a while before it signs, and the one before it for as long as a token
//! of it may live, so nobody meets a token whose key they do not know. Each replica reads the store once a second and
//! looks at the clock in between, so all change keys in the same moment. What a token says is in `token.rs`.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use jsonwebtoken::{DecodingKey, EncodingKey};
use mesh::{
    keys::{self, SigningKey},
    time::Millis,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Actor, Entry, Event},
    error::Error,
    seal::{Purpose, Seal},
    session::{CLOCK_LEEWAY, Client},
    store::{KeyRecord, KeyRotated, KeyRotation, Store},
};

/// How often each replica looks for keys that another one, or an operator, has made.
const POLL: Duration = Duration::from_secs(1);
/// How long before a key signs at once everybody must have heard of it: a few polls.
const AT_ONCE_LEAD: Duration = Duration::from_secs(3);
/// How often a rotation that somebody else has overtaken is tried again.
const RACES_MAX: u32 = 3;

/// When keys follow one another.
#[derive(Clone, Copy, Debug)]
pub struct KeyLimits {
    /// How old a key may be before the next one is made; none for never.
    pub every: Option<Duration>,
    /// How long everybody knows a key before it signs.
    pub lead: Duration,
    /// How long a token lives.
    pub token_life: Duration,
}

/// The keys as they count at a time.
pub struct Keys {
    kid: String,
    signing: EncodingKey,
    verifying: HashMap<String, DecodingKey>,
    jwks: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Keys {
    /// One key that signs, and no other.
    #[must_use]
    pub fn alone(key: &SigningKey) -> Self {
        Self::of(key, &[key.public()])
    }

    fn of(signing: &SigningKey, public: &[&[u8]]) -> Self {
        let verifying = public.iter().map(|public| (keys::kid(public), DecodingKey::from_ed_der(public)));
        let jwks = public.iter().map(|public| keys::jwk(public)).collect::<Vec<_>>();
        Self {
            kid: signing.kid(),
            signing: signing.encoding_key(),
            verifying: verifying.collect(),
            jwks: serde_json::json!({ "keys": jwks }).to_string(),
        }
    }

    /// The id of the key that signs.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key that signs.
    #[must_use]
    pub fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    /// The public key of this id, if tokens of it are good.
    #[must_use]
    pub fn verifying(&self, kid: &str) -> Option<&DecodingKey> {
        self.verifying.get(kid)
    }

    /// All public keys as a JSON Web Key Set: those that have signed, the one that does, and the one that will.
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }
}

/// Seals private keys for the store, and opens them. Each is bound to its public key.
#[derive(Debug)]
pub struct Safe(Seal);

impl Safe {
    /// With the secret of the data folder.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(Seal::new(secret, Purpose::SigningKey))
    }

    fn lock(&self, key: &SigningKey) -> Vec<u8> {
        self.0.seal(key.pkcs8(), key.public())
    }

    /// None for a key that was sealed with another secret.
    fn open(&self, record: &KeyRecord) -> Option<SigningKey> {
        let key = SigningKey::from_pkcs8(&self.0.open(&record.sealed, &record.public)?)?;
        (key.public() == record.public).then_some(key)
    }

    /// The keys as they count at this time; none when none of them may sign that opens.
    fn keys_at(&self, records: &[KeyRecord], now: Millis) -> Option<Keys> {
        let here: Vec<_> = records.iter().filter(|record| record.leaves_at.is_none_or(|at| at > now)).collect();
        let signing =
            here.iter().rev().filter(|record| record.signs_from <= now).find_map(|record| self.open(record))?;
        let public: Vec<_> = here.iter().map(|record| record.public.as_slice()).collect();
        Some(Keys::of(&signing, &public))
    }
}

/// When the keys are others than now without anybody doing anything.
fn next_change(records: &[KeyRecord], now: Millis) -> Option<Millis> {
    let times = records.iter().flat_map(|record| [Some(record.signs_from), record.leaves_at]);
    times.flatten().filter(|at| *at > now).min()
}

/// Who makes a new key, and how soon it signs.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Who.
    pub by: Actor,
    /// Whether the keys before it, which somebody else may have, are good no more.
    pub at_once: bool,
}

/// A key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Its id.
    pub kid: String,
    /// From when on it signs.
    pub signs_from: Millis,
    /// When the last of those before it leaves.
    pub others_leave_at: Millis,
}

/// Makes a new key. Every replica has it within a second, by the store.
///
/// # Errors
/// [`Error::KeysFull`]; [`Error::Store`].
pub async fn rotate(store: &dyn Store, safe: &Safe, limits: KeyLimits, rotation: &Rotation) -> Result<Rotated, Error> {
    for _ in 0..RACES_MAX {
        let (records, now) = (store.signing_keys().await?, Millis::now());
        let signs_from = now.plus(if rotation.at_once { AT_ONCE_LEAD } else { limits.lead });
        if let Some(made) = add(store, safe, limits, &records, (now, signs_from), rotation).await? {
            return Ok(made);
        }
    }
    Err(Error::internal("others rotate the keys all the time"))
}

/// Adds a key after those that are there; none when somebody else has added one meanwhile.
async fn add(
    store: &dyn Store,
    safe: &Safe,
    limits: KeyLimits,
    records: &[KeyRecord],
    (now, signs_from): (Millis, Millis),
    rotation: &Rotation,
) -> Result<Option<Rotated>, Error> {
    let key = SigningKey::generate();
    let kid = key.kid();
    let how = if rotation.at_once { ", and those before it are good no more" } else { "" };
    let entry = Entry::new(Event::KeyRotated, &Client::default(), now).by(rotation.by.clone());
    let entry = entry.detail(&format!("the key {kid} signs from {signs_from}{how}"));
    let record = record(safe, &key, records, limits, (now, signs_from));
    let (leeway, at_once) = (CLOCK_LEEWAY, rotation.at_once);
    let rotation = KeyRotation { key: record, leeway, at_once, audit: vec![entry] };
    let rotated = store.rotate_key(&rotation).await?;
    let life = |record: &KeyRecord| Duration::from_secs(record.token_secs.unsigned_abs()) + leeway;
    let stay = records.iter().map(life).max().filter(|_| !at_once).unwrap_or_default();
    match rotated {
        KeyRotated::Rotated => Ok(Some(Rotated { kid, signs_from, others_leave_at: signs_from.plus(stay) })),
        KeyRotated::Overtaken => Ok(None),
        KeyRotated::Full => Err(Error::KeysFull),
    }
}

fn record(
    safe: &Safe,
    key: &SigningKey,
    before: &[KeyRecord],
    limits: KeyLimits,
    (created_at, signs_from): (Millis, Millis),
) -> KeyRecord {
    KeyRecord {
        number: before.last().map_or(1, |last| last.number + 1),
        public: key.public().to_vec(),
        sealed: safe.lock(key),
        created_at,
        signs_from,
        leaves_at: None,
        token_secs: token_secs(limits),
    }
}

fn token_secs(limits: KeyLimits) -> i64 {
    i64::try_from(limits.token_life.as_secs()).unwrap_or(i64::MAX)
}

/// Sees to it that the store has a key: the first is that of the key file.
///
/// # Errors
/// [`Error::Store`].
pub async fn adopt(store: &dyn Store, safe: &Safe, limits: KeyLimits, file: &SigningKey) -> Result<(), Error> {
    if store.signing_keys().await?.is_empty() {
        let now = Millis::now();
        let key = record(safe, file, &[], limits, (now, now));
        let first = KeyRotation { key, leeway: CLOCK_LEEWAY, at_once: false, audit: Vec::new() };
        // Another replica may have been first, with the same key.
        store.rotate_key(&first).await?;
    }
    Ok(())
}

/// The keys of a running auth-svc.
#[derive(Debug)]
pub struct KeyRing {
    store: Arc<dyn Store>,
    safe: Safe,
    limits: KeyLimits,
    current: watch::Sender<Arc<Keys>>,
}

impl KeyRing {
    /// Reads the keys. When none of the store's opens, as after it was moved without the secrets of its data folder, a new
    /// one is made that signs at once.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn open(
        store: Arc<dyn Store>,
        secret: &[u8; 32],
        limits: KeyLimits,
        file: &SigningKey,
    ) -> Result<Self, Error> {
        let safe = Safe::new(secret);
        adopt(store.as_ref(), &safe, limits, file).await?;
        for _ in 0..=RACES_MAX {
            let (records, now) = (store.signing_keys().await?, Millis::now());
            if let Some(keys) = safe.keys_at(&records, now) {
                let current = watch::Sender::new(Arc::new(keys));
                return Ok(Self { store, safe, limits, current });
            }
            tracing::warn!("no signing key in the account store opens with the secret auth-seal: making a new one");
            let by = Rotation { by: Actor::Service("auth-svc".to_owned()), at_once: false };
            add(store.as_ref(), &safe, limits, &records, (now, now), &by).await?;
        }
        Err(Error::internal("the signing keys of the account store are replaced all the time"))
    }

    /// The keys now and from now on.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<Keys>> {
        self.current.subscribe()
    }

    /// Reads what others have made and makes the next key when it is time, until the process stops.
    pub async fn run(&self, stop: CancellationToken) {
        let mut failing = false;
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = POLL;
            match self.look().await {
                Ok(next) => {
                    failing = false;
                    wait = next.map_or(POLL, |next| Millis::now().until(next).min(POLL));
                }
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(error.message = %error, "the signing keys cannot be read; those known stay");
                }
                Err(_) => {}
            }
        }
    }

    /// Takes in what has changed; when the keys change next.
    async fn look(&self) -> Result<Option<Millis>, Error> {
        let (records, now) = (self.store.signing_keys().await?, Millis::now());
        if let Some(last) = records.last()
            && self.limits.every.is_some_and(|every| last.created_at.plus(every) <= now && last.signs_from <= now)
        {
            let by = Rotation { by: Actor::Service("auth-svc".to_owned()), at_once: false };
            let times = (now, now.plus(self.limits.lead));
            // Overtaken or not, the next look finds it.
            add(self.store.as_ref(), &self.safe, self.limits, &records, times, &by).await?;
            return Ok(Some(now));
        }
        let life = token_secs(self.limits);
        if records.iter().any(|record| record.leaves_at.is_none() && record.token_secs < life) {
            self.store.note_token_life(life).await?;
        }
        if records.iter().any(|record| record.leaves_at.is_some_and(|at| at <= now)) {
            self.store.forget_keys(now).await?;
        }
        if let Some(keys) = self.safe.keys_at(&records, now) {
            self.current.send_if_modified(|current| {
                let changed = (current.kid(), current.jwks()) != (keys.kid(), keys.jwks());
                if changed {
                    tracing::info!(key.id = keys.kid(), keys = keys.verifying.len(), "the signing keys have changed");
                    *current = Arc::new(keys);
                }
                changed
            });
        }
        Ok(next_change(&records, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn after(secs: u64) -> Millis {
        NOW.plus(Duration::from_secs(secs))
    }

    fn kept(safe: &Safe, key: &SigningKey, number: i64, signs_from: Millis, leaves_at: Option<Millis>) -> KeyRecord {
        let limits = KeyLimits { every: None, lead: Duration::ZERO, token_life: Duration::from_secs(900) };
        let record = record(safe, key, &[], limits, (NOW, signs_from));
        KeyRecord { number, leaves_at, ..record }
    }

    #[test]
    fn a_key_is_known_before_it_signs_and_after_as_long_as_its_tokens_may_live() {
        let safe = Safe::new(&[7; 32]);
        let (old, new) = (SigningKey::generate(), SigningKey::generate());
        let records = [kept(&safe, &old, 1, NOW, Some(after(1_500))), kept(&safe, &new, 2, after(600), None)];
        let at = |secs| {
            let keys = safe.keys_at(&records, after(secs)).expect("one that signs");
            let known = |key: &SigningKey| keys.verifying(&key.kid()).is_some() && keys.jwks().contains(&key.kid());
            (keys.kid() == new.kid(), known(&old), known(&new))
        };
        assert_eq!(at(0), (false, true, true), "the new one is known and does not sign");
        assert_eq!(at(600), (true, true, true), "it signs, and tokens of the old one are good");
        assert_eq!(at(1_500), (true, false, true), "the last of those has expired");
        let changes: Vec<_> = [0, 600, 1_500].map(|secs| next_change(&records, after(secs))).to_vec();
        assert_eq!(changes, [Some(after(600)), Some(after(1_500)), None]);
    }

    #[test]
    fn a_key_that_was_sealed_with_another_secret_or_for_another_key_signs_nothing() {
        let (safe, other) = (Safe::new(&[7; 32]), Safe::new(&[8; 32]));
        let (one, two) = (SigningKey::generate(), SigningKey::generate());
        let ours = kept(&safe, &one, 1, NOW, None);
        assert!(other.keys_at(std::slice::from_ref(&ours), NOW).is_none());
        let swapped = KeyRecord { public: two.public().to_vec(), ..ours.clone() };
        assert!(safe.keys_at(&[swapped], NOW).is_none());
        let theirs = kept(&other, &two, 2, NOW, None);
        let keys = safe.keys_at(&[ours, theirs], NOW).expect("ours signs");
        assert_eq!(keys.kid(), one.kid());
        assert!(keys.verifying(&two.kid()).is_some(), "what another replica signs is good");
        assert!(safe.keys_at(&[], NOW).is_none());
    }
}
