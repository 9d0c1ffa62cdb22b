//! Recovery codes: ten of 140 random bits each, for the day on which the app is lost. The store has keyed hashes: who
//! reads it learns nothing, and a code that is typed is found by one look.

use std::fmt;

use aws_lc_rs::{hmac, rand};

use crate::{account::UserId, seal::Purpose};

/// How many an account gets.
const COUNT: usize = 10;
/// Characters of a code, five bits each: more than the 128 bits that a hash without salt and work wants.
const CHARS: usize = 28;
/// Those of codes that were made before; they are good until they are replaced.
const CHARS_BEFORE: usize = 16;
/// Between groups of so many stands a dash, for the eye.
const GROUP: usize = 4;
/// Crockford's: no I, L, O, U, which are read as others.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What the store knows of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryHash(pub [u8; 32]);

/// Makes codes and hashes them.
pub struct RecoveryCodes(hmac::Key);

impl fmt::Debug for RecoveryCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCodes(…)")
    }
}

impl RecoveryCodes {
    /// With the secret of the data folder.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &Purpose::RecoveryCode.key(secret)))
    }

    /// Ten new codes, as they are shown, and their hashes.
    #[must_use]
    pub fn make(&self, user: UserId) -> (Vec<String>, Vec<RecoveryHash>) {
        (0..COUNT)
            .map(|_| {
                let code = random_code();
                let hash = self.hash(user, &code);
                (grouped(&code), hash)
            })
            .unzip()
    }

    /// The hash of a normalized code of this user.
    #[must_use]
    pub fn hash(&self, user: UserId, code: &str) -> RecoveryHash {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(user.0.as_bytes());
        context.update(code.as_bytes());
        RecoveryHash(context.sign().as_ref().try_into().expect("invariant: HMAC-SHA256 has 32 bytes"))
    }
}

fn random_code() -> String {
    let mut bytes = [0; CHARS];
    rand::fill(&mut bytes).expect("invariant: the system has a random source");
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

fn grouped(code: &str) -> String {
    let groups: Vec<_> = (0..code.len()).step_by(GROUP).map(|at| &code[at..at + GROUP]).collect();
    groups.join("-")
}

/// A code as it was made, however it was typed: without dashes and blanks, in capitals, with letters that look like
/// others read as those. `None` for what cannot be one.
#[must_use]
pub(super) fn normalized(typed: &str) -> Option<String> {
    // Twice the length leaves room for any dashes.
    if typed.len() > 2 * CHARS {
        return None;
    }
    let plain = typed.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    });
    let code: String = plain.collect();
    let good = [CHARS, CHARS_BEFORE].contains(&code.len()) && code.bytes().all(|byte| ALPHABET.contains(&byte));
    good.then_some(code)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_code_is_found_again_however_it_is_typed_and_for_its_owner_alone() {
        let codes = RecoveryCodes::new(&[7; 32]);
        let (ada, bob) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        let (shown, hashes) = codes.make(ada);
        assert_eq!((shown.len(), hashes.len()), (10, 10));
        for (code, hash) in shown.iter().zip(hashes) {
            assert_eq!(code.len(), 34);
            for typed in [code.clone(), code.to_lowercase(), code.replace('-', ""), code.replace('-', " ")] {
                let typed = typed.replace('0', "o").replace('1', "l");
                let plain = normalized(&typed).expect("a code");
                assert_eq!(codes.hash(ada, &plain), hash);
                assert_ne!(codes.hash(bob, &plain), hash);
                assert_ne!(RecoveryCodes::new(&[8; 32]).hash(ada, &plain), hash);
            }
        }
    }

    #[test]
    fn a_code_that_was_made_before_codes_were_longer_is_still_one() {
        assert_eq!(normalized("abcd-efgh-jkmn-pqrs").as_deref(), Some("ABCDEFGHJKMNPQRS"));
    }

    #[test]
    fn what_is_no_code_is_none() {
        for bad in
            ["", "123456", "ABCD-EFGH-JKMN-PQR", "ABCD-EFGH-JKMN-PQRU", "ÄBCD-EFGH-JKMN-PQRS", &"A".repeat(10_000)]
        {
            assert_eq!(normalized(bad), None, "{bad:.40}");
        }
    }
}
