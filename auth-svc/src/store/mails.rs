//! What is kept of mails: the part of [`Store`](super::Store) that is about those that wait, and about the tokens of those
//! that have gone out.

use async_trait::async_trait;
use mesh::time::Millis;
use uuid::Uuid;

use super::{PasswordChanged, Stored};
use crate::{
    account::UserId,
    audit::Entry,
    mail::{Kind, Mail, MailTokenHash, NewMail, RecipientHash},
};

/// A mail that is about to go out.
#[derive(Clone, Debug)]
pub struct MailIssue {
    /// Its id.
    pub mail: Uuid,
    /// What it is about, which is what its token is good for.
    pub kind: Kind,
    /// Whose account it is about.
    pub user_id: UserId,
    /// The key of the address that it goes to, which must still be the account's.
    pub address: String,
    /// What stands for that address.
    pub recipient: RecipientHash,
    /// Its token. A mail with one is one that was asked for: it counts, and is limited.
    pub token: Option<NewMailToken>,
    /// The time now.
    pub now: Millis,
    /// Mails since then count.
    pub counted_since: Millis,
    /// How many the account may have had, this one included.
    pub account_max: u32,
    /// How many the address may have had.
    pub address_max: u32,
    /// Until when it is remembered that it went out.
    pub recorded_until: Millis,
    /// Written when it is issued for the first time.
    pub audit: Vec<Entry>,
}

/// A token on its way out.
#[derive(Clone, Copy, Debug)]
pub struct NewMailToken {
    /// Its hash.
    pub hash: MailTokenHash,
    /// Until when it is good.
    pub expires_at: Millis,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailIssued {
    /// It may go out.
    Issued,
    /// The account or the address has had as many as it may; nothing changed.
    Limited,
    /// The account has another address, or its token was used already; nothing changed.
    Over,
}

/// A new password by the token of a mail.
#[derive(Clone, Debug)]
pub struct PasswordReset {
    /// The token.
    pub token: MailTokenHash,
    /// Whose it is.
    pub user_id: UserId,
    /// The new password's hash.
    pub new_hash: String,
    /// The time now.
    pub now: Millis,
    /// Until when the revocations are kept, at least.
    pub revoked_until: Millis,
    /// Written when it is set.
    pub audit: Vec<Entry>,
    /// What tells of it.
    pub mails: Vec<NewMail>,
}

/// An address that is shown to be its account's by the token of a mail.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The token.
    pub token: MailTokenHash,
    /// Whose it is.
    pub user_id: UserId,
    /// The time now.
    pub now: Millis,
    /// Written when it is noted.
    pub audit: Vec<Entry>,
}

/// Mails. Those that tell of a write are queued by that write.
#[async_trait]
pub trait MailStore {
    /// Has a mail wait, from now on; false, and nothing happens, when as many wait as may. It is as good as done when one with
    /// the same slot waits.
    async fn queue_mail(&self, mail: &NewMail, waiting_max: u32) -> Stored<bool>;

    /// Mails that are due, at most `limit`, the oldest first; they are due again at `until`, so that nobody else takes them
    /// meanwhile. Those of kinds that this version does not know are left to one that does.
    async fn claim_mails(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<Mail>>;

    /// Records that a mail goes out, and makes its token good. For one that was issued before, the token is good for longer
    /// if it has not been used.
    async fn issue_mail(&self, issue: &MailIssue) -> Stored<MailIssued>;

    /// Forgets a mail that waits no longer. It may be gone already.
    async fn forget_mail(&self, id: Uuid) -> Stored<()>;

    /// Counts a failed try and makes the mail due at `until`. It may be gone already.
    async fn postpone_mail(&self, id: Uuid, until: Millis) -> Stored<()>;

    /// Whose a token is, if it is good for this now.
    async fn mail_token(&self, token: &MailTokenHash, kind: Kind, now: Millis) -> Stored<Option<UserId>>;

    /// Uses a token up and sets a new password with it: all live sessions end, no device is trusted any more, the account's
    /// other tokens of the kind are good no more, and its address counts as verified. [`PasswordChanged::Stale`], and nothing
    /// happens, when the token is not good, or the account is disabled or has another address by now.
    async fn reset_password(&self, reset: &PasswordReset) -> Stored<PasswordChanged>;

    /// Uses a token up and notes that the account's address is verified; false, and nothing happens, when the token is not
    /// good, or the account is disabled or has another address by now.
    async fn verify_email(&self, verification: &Verification) -> Stored<bool>;
}
