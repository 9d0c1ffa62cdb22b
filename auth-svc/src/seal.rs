//! Sealing what must be read again but by nobody else: AES-256-GCM with keys derived from one secret of the data folder,
//! one a purpose, so that what was sealed for one use opens for no other. Each text is bound to whom it is for.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac,
};

/// What is sealed or hashed with a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Secrets of authenticator apps, in the store.
    TotpSecret,
    /// Hashes of recovery codes, in the store.
    RecoveryCode,
    /// Private keys that sign access tokens, in the store.
    SigningKey,
    /// Tickets between the two steps of a login, at the client.
    LoginTicket,
    /// Tokens of links in mails, which are made of the mail's id.
    MailToken,
    /// Hashes of the addresses that mails went to lately, in the store.
    MailRecipient,
}

impl Purpose {
    /// Never changed: what was sealed under a label opens under that alone.
    fn label(self) -> &'static [u8] {
        match self {
            Self::TotpSecret => b"totp-secret",
            Self::RecoveryCode => b"recovery-code",
            Self::SigningKey => b"signing-key",
            Self::LoginTicket => b"login-ticket",
            Self::MailToken => b"mail-token",
            Self::MailRecipient => b"mail-recipient",
        }
    }

    /// The key for this purpose.
    #[must_use]
    pub fn key(self, secret: &[u8; 32]) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), self.label());
        tag.as_ref().try_into().expect("invariant: HMAC-SHA256 has 32 bytes")
    }
}

/// Seals and opens for one purpose.
pub struct Seal(RandomizedNonceKey);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// With the key that is derived from the secret of the data folder.
    ///
    /// # Panics
    /// Never: the key has the length of the algorithm's.
    #[must_use]
    pub fn new(secret: &[u8; 32], purpose: Purpose) -> Self {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &purpose.key(secret));
        Self(key.expect("invariant: the key has 32 bytes"))
    }

    /// Seals a text for whom it is bound to. The layout is nonce, text, tag.
    ///
    /// # Panics
    /// Never while the system has a random source.
    #[must_use]
    pub fn seal(&self, text: &[u8], bound_to: &[u8]) -> Vec<u8> {
        let mut sealed = text.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(bound_to), &mut sealed);
        let nonce = nonce.expect("invariant: the system has a random source, and texts are short");
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut sealed);
        out
    }

    /// Opens what was sealed with this key for whom it is bound to; `None` for everything else.
    #[must_use]
    pub fn open(&self, sealed: &[u8], bound_to: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = rest.to_vec();
        let opened = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound_to), &mut text).ok()?;
        let length = opened.len();
        text.truncate(length);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_whom_it_is_bound_to_and_nobody_else() {
        let seal = Seal::new(&[7; 32], Purpose::TotpSecret);
        let sealed = seal.seal(b"a secret", b"ada");
        assert_eq!(seal.open(&sealed, b"ada").as_deref(), Some(&b"a secret"[..]));
        assert_eq!(seal.open(&sealed, b"bob"), None);
        assert_eq!(Seal::new(&[7; 32], Purpose::LoginTicket).open(&sealed, b"ada"), None, "another purpose");
        assert_eq!(Seal::new(&[8; 32], Purpose::TotpSecret).open(&sealed, b"ada"), None, "another key");
        assert_ne!(sealed, seal.seal(b"a secret", b"ada"), "no two are the same");
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
    }

    #[test]
    fn what_was_changed_or_cut_does_not_open() {
        let seal = Seal::new(&[7; 32], Purpose::LoginTicket);
        let sealed = seal.seal(b"a ticket", b"");
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(seal.open(&changed, b""), None, "byte {index}");
            assert_eq!(seal.open(&sealed[..index], b""), None, "cut at {index}");
        }
    }
}
