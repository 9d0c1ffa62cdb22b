//! Who may register: everybody, whoever has an invitation, or nobody. An invitation is a random code that an admin hands
//! on; it is good once and for a time, and the store knows its hash alone. Registering itself is in `account.rs`.

use std::{fmt, time::Duration};

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mesh::{text, text::Violations, time::Millis};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    account::{Accounts, UserId},
    audit::{Actor, Entry, Event},
    error::Error,
    session::Client,
    store::{NewInvitation, Store},
};

/// What every code begins with, so that scanners for leaked secrets can find one.
const PREFIX: &str = "sbi_";
/// The longest text that is looked up; codes have 47 characters.
const CODE_CHARS_MAX: usize = 128;
/// The longest note.
const NOTE_CHARS_MAX: usize = 200;
/// How long an invitation may be good, whatever is asked for.
const LIFE_MIN: Duration = Duration::from_mins(1);
const LIFE_MAX: Duration = Duration::from_hours(90 * 24);

/// Who may register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationMode {
    /// Everybody.
    #[default]
    Open,
    /// Whoever has an invitation.
    Invitation,
    /// Nobody.
    Closed,
}

/// How many invitations, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct InvitationLimits {
    /// How long one is good unless its maker says otherwise.
    pub life: Duration,
    /// How many that have not expired there may be.
    pub open_max: u32,
}

/// An invitation as admins see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its id, a UUID of version 7. It lets nobody in.
    pub id: Uuid,
    /// What its maker wrote beside it: for whom it is.
    pub note: String,
    /// Who made it.
    pub made_by: Actor,
    /// When.
    pub created_at: Millis,
    /// Until when it is good.
    pub expires_at: Millis,
    /// When it was used.
    pub used_at: Option<Millis>,
    /// The account that was made with it.
    pub used_by: Option<UserId>,
}

/// What an invitation is known by. Whoever has it may register once.
pub struct InvitationCode(String);

/// Codes do not belong into a log.
impl fmt::Debug for InvitationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationCode(…)")
    }
}

impl InvitationCode {
    /// A new one, of 256 random bits.
    ///
    /// # Panics
    /// Never while the system has a random source.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("invariant: the system has a random source");
        Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// For whoever it is given to.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store knows it by.
    #[must_use]
    pub fn hash(&self) -> InvitationHash {
        InvitationHash::of(&self.0)
    }
}

/// The SHA-256 of a code. A code is as random as a key, so nothing slower is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InvitationHash(pub [u8; 32]);

impl fmt::Debug for InvitationHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationHash(…)")
    }
}

impl InvitationHash {
    fn of(code: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, code.as_bytes());
        Self(hash.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes"))
    }

    /// Reads what somebody registers with; none when they gave nothing. What is no code is the hash of no invitation.
    ///
    /// # Errors
    /// A violation when it is longer than any code.
    pub fn parse(field: &str, given: &str) -> Result<Option<Self>, mesh::error::FieldViolation> {
        let code = text::text(field, given.trim(), CODE_CHARS_MAX)?;
        Ok((!code.is_empty()).then(|| Self::of(code)))
    }
}

/// An invitation as it is ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    note: String,
    life: Option<Duration>,
}

impl Order {
    /// Checks the fields; no life is the configured one.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the limits.
    pub fn parse(note: &str, life: Option<Duration>) -> Result<Self, Error> {
        let mut violations = Violations::default();
        let note = violations.check(text::name("note", note, 0, NOTE_CHARS_MAX)).unwrap_or_default();
        if life.is_some_and(|life| !(LIFE_MIN..=LIFE_MAX).contains(&life)) {
            let (min, max) = (LIFE_MIN.as_secs(), LIFE_MAX.as_secs());
            violations.push("expires_in_secs", format!("must be between {min} and {max}"));
        }
        violations.into_result().map_err(|refusal| Error::Invalid(refusal.violations))?;
        Ok(Self { note, life })
    }
}

/// Makes an invitation.
///
/// # Errors
/// [`Error::InvitationsFull`].
pub async fn invite(
    store: &dyn Store,
    limits: InvitationLimits,
    order: Order,
    by: Actor,
    client: &Client,
) -> Result<(Invitation, InvitationCode), Error> {
    let (now, code) = (Millis::now(), InvitationCode::generate());
    let invitation = Invitation {
        id: Uuid::now_v7(),
        note: order.note,
        made_by: by.clone(),
        created_at: now,
        expires_at: now.plus(order.life.unwrap_or(limits.life)),
        used_at: None,
        used_by: None,
    };
    let entry = Entry::new(Event::InvitationMade, client, now).by(by).detail(&invitation.id.to_string());
    let new = NewInvitation { invitation, hash: code.hash(), open_max: limits.open_max, audit: vec![entry] };
    match store.invite(&new).await? {
        true => Ok((new.invitation, code)),
        false => Err(Error::InvitationsFull),
    }
}

impl Accounts {
    /// Whether somebody may register with this; the invitation that lets them in, where one is needed.
    ///
    /// # Errors
    /// [`Error::RegistrationClosed`], [`Error::InvitationRequired`], [`Error::InvitationInvalid`].
    pub(crate) async fn admit(
        &self,
        given: Option<InvitationHash>,
        client: &Client,
    ) -> Result<Option<(Uuid, InvitationHash)>, Error> {
        match self.registration {
            RegistrationMode::Open => Ok(None),
            RegistrationMode::Closed => Err(Error::RegistrationClosed),
            RegistrationMode::Invitation => {
                let hash = given.ok_or(Error::InvitationRequired)?;
                let now = Millis::now();
                if let Some(id) = self.store.good_invitation(&hash, now).await? {
                    return Ok(Some((id, hash)));
                }
                let entry = Entry::new(Event::AccountRegistered, client, now).failed("the invitation is not good");
                self.failures.record(self.store.as_ref(), entry).await?;
                Err(Error::InvitationInvalid)
            }
        }
    }

    /// Takes an invitation back that was not used yet.
    ///
    /// # Errors
    /// [`Error::InvitationNotFound`].
    pub async fn revoke_invitation(&self, id: Uuid, by: Actor, client: &Client) -> Result<(), Error> {
        let entry = Entry::new(Event::InvitationRevoked, client, Millis::now()).by(by).detail(&id.to_string());
        match self.store.revoke_invitation(id, &[entry]).await? {
            true => Ok(()),
            false => Err(Error::InvitationNotFound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_by_its_hash_and_no_two_are_the_same() {
        let (one, two) = (InvitationCode::generate(), InvitationCode::generate());
        assert!(one.expose().starts_with(PREFIX) && one.expose().len() == 47, "{}", one.expose());
        assert_ne!(one.hash(), two.hash());
        let parsed = |text: &str| InvitationHash::parse("invitation", text).expect("looked up");
        assert_eq!(parsed(&format!(" {}\n", one.expose())), Some(one.hash()));
        assert_eq!(parsed("  "), None);
        assert_ne!(parsed("sbi_"), Some(one.hash()));
        for bad in ["x".repeat(129), "a\0b".to_owned()] {
            assert_eq!(InvitationHash::parse("invitation", &bad).expect_err("refused").field, "invitation");
        }
        assert!(!format!("{one:?}{:?}", one.hash()).contains(one.expose()));
    }

    #[test]
    fn an_order_names_what_is_wrong_with_it_and_the_limits() {
        assert!(Order::parse("for Ada", None).is_ok());
        assert!(Order::parse("", Some(LIFE_MIN)).is_ok() && Order::parse("", Some(LIFE_MAX)).is_ok());
        let Err(Error::Invalid(violations)) = Order::parse(&"x".repeat(201), Some(Duration::from_secs(59))) else {
            panic!("taken");
        };
        let named: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, ["note", "expires_in_secs"]);
        assert!(violations[0].message.contains("200") && violations[1].message.contains("7776000"), "{violations:?}");
    }
}
