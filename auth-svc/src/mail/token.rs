//! The tokens in links: 256 bits that nobody guesses, of which the store knows the SHA-256. A token is made of its mail's id
//! with a secret of the data folder, so that a mail that has to be sent twice carries the same one, and none is kept
//! anywhere. What a token is good for is in the store.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mesh::{error::FieldViolation, text};
use uuid::Uuid;

use super::Kind;
use crate::seal::Purpose;

/// What every token begins with, so that scanners for leaked secrets can find one.
const PREFIX: &str = "sbl_";
/// The longest text that is looked up; tokens have 47 characters.
const TOKEN_CHARS_MAX: usize = 128;

/// A token. Whoever has it may do once what it is good for.
pub(super) struct MailToken(String);

/// Tokens do not belong into a log.
impl fmt::Debug for MailToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailToken(…)")
    }
}

impl MailToken {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn hash(&self) -> MailTokenHash {
        MailTokenHash::of(&self.0)
    }
}

/// What the store knows of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MailTokenHash(pub [u8; 32]);

impl fmt::Debug for MailTokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailTokenHash(…)")
    }
}

impl MailTokenHash {
    fn of(text: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        Self(hash.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes"))
    }

    /// Reads what somebody gives as a token. What is none is the hash of none.
    ///
    /// # Errors
    /// A violation when it is empty, or longer than any token.
    pub fn parse(field: &str, given: &str) -> Result<Self, FieldViolation> {
        match text::text(field, given.trim(), TOKEN_CHARS_MAX)? {
            "" => Err(FieldViolation::new(field, "must not be empty")),
            token => Ok(Self::of(token)),
        }
    }
}

/// What stands for the address of a mail that has gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecipientHash(pub [u8; 32]);

/// Makes tokens.
pub struct MailTokens {
    tokens: hmac::Key,
    recipients: hmac::Key,
}

impl fmt::Debug for MailTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailTokens(…)")
    }
}

impl MailTokens {
    /// With the secret of the data folder.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let key = |purpose: Purpose| hmac::Key::new(hmac::HMAC_SHA256, &purpose.key(secret));
        Self { tokens: key(Purpose::MailToken), recipients: key(Purpose::MailRecipient) }
    }

    /// The token of a mail: the same each time.
    pub(super) fn of(&self, mail: Uuid, kind: Kind) -> MailToken {
        let mut context = hmac::Context::with_key(&self.tokens);
        context.update(mail.as_bytes());
        context.update(kind.as_str().as_bytes());
        MailToken(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(context.sign())))
    }

    /// What stands for an address by its key: who reads the store learns of no address that was deleted.
    pub(super) fn recipient(&self, address_key: &str) -> RecipientHash {
        let tag = hmac::sign(&self.recipients, address_key.as_bytes());
        RecipientHash(tag.as_ref().try_into().expect("invariant: HMAC-SHA256 has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_has_one_token_which_is_no_others_and_nothing_to_guess() {
        let tokens = MailTokens::new(&[7; 32]);
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let token = tokens.of(one, Kind::PasswordReset);
        assert!(token.expose().starts_with(PREFIX) && token.expose().len() == 47, "{}", token.expose());
        assert_eq!(tokens.of(one, Kind::PasswordReset).expose(), token.expose());
        for other in [
            tokens.of(two, Kind::PasswordReset),
            tokens.of(one, Kind::EmailVerification),
            MailTokens::new(&[8; 32]).of(one, Kind::PasswordReset),
        ] {
            assert_ne!(other.expose(), token.expose());
        }
        assert!(!format!("{token:?}{:?}", token.hash()).contains(&token.expose()[4..]));
    }

    #[test]
    fn a_token_is_found_by_its_hash_and_what_is_cut_is_another() {
        let token = MailTokens::new(&[7; 32]).of(Uuid::now_v7(), Kind::PasswordReset);
        let parsed = |text: &str| MailTokenHash::parse("token", text).expect("looked up");
        assert_eq!(parsed(&format!(" {}\n", token.expose())), token.hash());
        assert_ne!(parsed(&token.expose()[..46]), token.hash());
        for bad in ["", "  ", "a\0b", &"x".repeat(129)] {
            assert_eq!(MailTokenHash::parse("token", bad).expect_err("refused").field, "token");
        }
    }
}
