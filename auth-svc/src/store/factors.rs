//! What the store is asked and answers about second factors.

use mesh::time::Millis;

use crate::{account::UserId, audit::Entry, factor::RecoveryHash, mail::NewMail};

/// The second factors of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Factors {
    /// When its authenticator was confirmed; none when it has none that counts.
    pub totp_confirmed_at: Option<Millis>,
    /// Recovery codes that are left.
    pub recovery_codes: u32,
    /// Devices that are trusted now.
    pub trusted_devices: u32,
}

/// A secret of an authenticator that a code has confirmed.
#[derive(Clone, Debug)]
pub struct TotpConfirmation {
    /// Whose.
    pub user_id: UserId,
    /// The planned secret that the code was of.
    pub sealed_secret: Vec<u8>,
    /// The time step of the code, which is used by it.
    pub step: i64,
    /// The recovery codes that come with it.
    pub recovery_hashes: Vec<RecoveryHash>,
    /// The time now.
    pub now: Millis,
    /// Written when it counts.
    pub audit: Vec<Entry>,
    /// What tells of it by mail.
    pub mails: Vec<NewMail>,
}

/// What came of a try to give a code.
#[derive(Clone, PartialEq, Eq)]
pub enum TotpAttempt {
    /// It counts as failed until the code is used; this is the sealed secret to judge it by.
    Sealed(Vec<u8>),
    /// There were too many; none is taken before this time.
    Held(Millis),
    /// The account has no authenticator that counts.
    Missing,
}

/// A sealed secret does not belong into a log either.
impl std::fmt::Debug for TotpAttempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sealed(_) => f.write_str("Sealed(…)"),
            Self::Held(until) => f.debug_tuple("Held").field(until).finish(),
            Self::Missing => f.write_str("Missing"),
        }
    }
}

/// A device that need not give a code for a while.
#[derive(Clone, Debug)]
pub struct TrustedDevice {
    /// Whose account it logs in to.
    pub user_id: UserId,
    /// Its id.
    pub device_id: uuid::Uuid,
    /// The time now.
    pub now: Millis,
    /// Until when it is trusted.
    pub expires_at: Millis,
    /// How many the account may have, this one included.
    pub devices_max: u32,
    /// Written with it.
    pub audit: Vec<Entry>,
}
