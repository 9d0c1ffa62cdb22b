//! What auth-svc keeps, as a trait whose docs are the contract; `store/contract.rs` holds every backend to it. What is about
//! one noun alone is a trait of its own that this one includes (`store/invitations.rs`, `store/signing_keys.rs`,
//! `store/api_keys.rs`, `store/mails.rs`, `store/person.rs`).
//! Every call that writes is one atomic step: all of it is on disk when it answers, or nothing of it happened. Callers
//! give the time, so that a test can choose it. Only the files under `store/` name a database.

use async_trait::async_trait;
use mesh::time::Millis;

use crate::{
    account::{Account, Email, Login, UserId, Username},
    audit::{Entry, Filter},
    factor::RecoveryHash,
    invitation::InvitationHash,
    mail::NewMail,
    outbox::Delivery,
    proof::Method,
    refresh::RefreshHash,
    revocation::RevocationPage,
    session::{Session, SessionId},
};

mod api_keys;
mod backend;
#[cfg(test)]
pub(crate) mod contract;
mod factors;
mod invitations;
mod mails;
mod moving;
mod person;
pub mod postgres;
mod signing_keys;
pub mod sqlite;

pub use api_keys::{ApiKeyStore, KeyMade, NewApiKey, NewServiceAccount};
pub use backend::{file, house, migrate, open, sqlite_file};
pub use factors::{Factors, TotpAttempt, TotpConfirmation, TrustedDevice};
pub use invitations::{InvitationStore, NewInvitation};
pub use mails::{MailIssue, MailIssued, MailStore, NewMailToken, PasswordReset, Verification};
pub use person::{
    AccessChange, AccessSet, Deletion, DeletionPlan, DeletionPlanned, Erased, KnownDevice, PersonStore, Side,
};
pub use signing_keys::{KEYS_MAX, KeyRecord, KeyRotated, KeyRotation, KeyStore};

/// Why the store did not do what was asked. What is refused for a reason of the domain is an outcome, not an error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is busy, full, closed or away; the same call may succeed later.
    #[error("the store cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is damaged, or answered what cannot be.
    #[error("the store is broken")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// What is behind it, for a log line that is not a call's.
    #[must_use]
    pub fn cause(&self) -> String {
        let (Self::Unavailable(cause) | Self::Broken(cause)) = self;
        format!("{self}: {cause}")
    }
}

/// Why the store cannot be opened: one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

impl From<mesh_sqlite::OpenError> for OpenError {
    fn from(error: mesh_sqlite::OpenError) -> Self {
        Self(error.sentence)
    }
}

impl From<mesh_postgres::OpenError> for OpenError {
    fn from(error: mesh_postgres::OpenError) -> Self {
        Self(error.0)
    }
}

/// What a call to the store gives.
pub type Stored<T> = Result<T, StoreError>;

/// An account that is to be made.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its id, which nobody else may have.
    pub id: UserId,
    /// The name to log in with.
    pub username: Username,
    /// The address to log in with.
    pub email: Email,
    /// The password's hash in PHC form.
    pub password_hash: String,
    /// The roles that its access tokens carry.
    pub roles: Vec<String>,
    /// For the profile; may be empty.
    pub first_name: String,
    /// For the profile; may be empty.
    pub last_name: String,
    /// When it is made.
    pub created_at: Millis,
    /// Before this time no worker picks up the profile's delivery: who registers delivers it.
    pub delivery_due_at: Millis,
    /// The invitation that it is made with, if one is needed.
    pub invitation: Option<InvitationHash>,
    /// What goes out by mail with it.
    pub mails: Vec<NewMail>,
}

/// What came of making an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there, with its session and its delivery.
    Made,
    /// An account of this id is there already; nothing changed.
    IdTaken,
    /// The username or the email is taken; nothing changed.
    NameTaken,
    /// The invitation is not good: it is none, was used, revoked, or has expired; nothing changed.
    NotInvited,
}

/// An account with what proves its owner.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The account.
    pub account: Account,
    /// The password's hash in PHC form.
    pub password_hash: String,
}

/// A session that is to be opened.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// What the client calls itself; may be empty.
    pub device: String,
    /// The client's address; may be empty.
    pub ip_address: String,
    /// Roughly where that is; may be empty.
    pub place: String,
    /// How its user has proved who they are, when it is opened.
    pub amr: Vec<Method>,
    /// The hash of its first refresh token.
    pub refresh_hash: RefreshHash,
    /// When it is opened.
    pub created_at: Millis,
    /// When it ends unless it is refreshed before.
    pub expires_at: Millis,
    /// When it ends at the latest, however often it is refreshed.
    pub ends_at: Millis,
    /// When its first access token expires.
    pub access_expires_at: Millis,
}

/// A login whose password has been verified.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The session to open.
    pub session: NewSession,
    /// The hash that the password was verified against.
    pub verified_hash: String,
    /// What replaces that hash, when the parameters have changed since.
    pub rehash: Option<String>,
    /// How many live sessions the account may have, this one included.
    pub sessions_max: u32,
    /// Until when the revocations of the sessions that have to go are kept, at least.
    pub revoked_until: Millis,
    /// Written when the session is opened.
    pub audit: Vec<Entry>,
    /// Written when sessions have to go.
    pub over_limit: Entry,
    /// Written when the account was to be deleted and stays by this.
    pub kept: Entry,
    /// What tells of it by mail, unless the account has, or had lately, a session of this device and address.
    pub mails: Vec<NewMail>,
}

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The session is open; `head` is the highest revocation number when sessions had to go.
    Open {
        /// The highest number among the revocations written.
        head: Option<i64>,
        /// Whether the account was to be deleted, and stays by this.
        kept: bool,
    },
    /// The password was changed after it was verified, or the account was disabled or erased; nothing changed.
    PasswordChanged,
}

/// A refresh token on its way to its successor.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The session that the token names.
    pub session_id: SessionId,
    /// The token's hash.
    pub presented: RefreshHash,
    /// The hash of its successor.
    pub successor: RefreshHash,
    /// Whether the token proves that we issued it to this session once.
    pub genuine: bool,
    /// The time now.
    pub now: Millis,
    /// When the session ends from now on unless it is refreshed, but never after its `ends_at`.
    pub expires_at: Millis,
    /// When the access token issued along with it expires, but never after the session's `ends_at`.
    pub access_expires_at: Millis,
    /// Until when a revocation is kept, at least.
    pub revoked_until: Millis,
    /// Written when the token has been used before and its session ends; its subject is the session's user.
    pub reuse: Entry,
}

/// What came of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The successor counts from now on, or counted already and has not been used.
    Fresh {
        /// The session after it.
        session: Session,
        /// The account's roles now.
        roles: Vec<String>,
    },
    /// A token whose successor has been used: the session has been ended by this call.
    Reused {
        /// Whose session it was.
        user_id: UserId,
        /// The number of the revocation.
        head: i64,
    },
    /// The session was ended before.
    Ended,
    /// The session's time is over, or it is so long over that it has been forgotten.
    Expired,
    /// The token was never issued; nothing changed.
    Unknown,
}

/// A new password whose predecessor has been verified.
#[derive(Clone, Debug)]
pub struct PasswordChange {
    /// Whose.
    pub user_id: UserId,
    /// The hash that the current password was verified against.
    pub verified_hash: String,
    /// The new password's hash.
    pub new_hash: String,
    /// The session that stays; all others end.
    pub keep: SessionId,
    /// The time now.
    pub now: Millis,
    /// Until when the revocations are kept, at least.
    pub revoked_until: Millis,
    /// Written when it is changed.
    pub audit: Vec<Entry>,
    /// What tells of it by mail.
    pub mails: Vec<NewMail>,
}

/// What came of a new password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordChanged {
    /// It counts, and the others have ended.
    Changed(EndedSessions),
    /// The password was changed after it was verified; nothing changed.
    Stale,
}

/// A change of an account's roles.
#[derive(Clone, Debug)]
pub struct RoleChange {
    /// Whose.
    pub user_id: UserId,
    /// All that it has from now on.
    pub roles: Vec<String>,
    /// The time now.
    pub now: Millis,
    /// Until when the revocations are kept, at least.
    pub revoked_until: Millis,
    /// Written when they change.
    pub audit: Vec<Entry>,
}

/// What came of a change of roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolesSet {
    /// The account has them.
    Set {
        /// The account after it.
        account: Account,
        /// The sessions that have ended, because a role was taken.
        ended: EndedSessions,
    },
    /// There is no such account.
    Missing,
}

/// Sessions that a call has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedSessions {
    /// How many.
    pub count: u32,
    /// The highest number among their revocations.
    pub head: Option<i64>,
}

/// What came of ending one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended now, with the revocation of this number.
    Ended(i64),
    /// It had ended or expired before.
    Over,
    /// The user has no such session.
    Missing,
}

/// What came of a rename.
#[derive(Clone, Debug)]
pub enum Renamed {
    /// The account after it. Its delivery is due, unless the name was the same to the letter.
    Renamed(Account),
    /// Another account has the name.
    Taken,
    /// There is no such account.
    Missing,
}

/// A WebSocket token on its way to being spent.
#[derive(Clone, Debug)]
pub struct WsSpend {
    /// The token's id.
    pub jti: uuid::Uuid,
    /// The session it was issued to.
    pub session_id: SessionId,
    /// The user it was issued to.
    pub user_id: UserId,
    /// The time now.
    pub now: Millis,
    /// When the token expires; until then its id is remembered.
    pub expires_at: Millis,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WsSpent {
    /// It was good.
    Spent {
        /// The user's roles now.
        roles: Vec<String>,
        /// When the session ends unless it is refreshed before.
        session_expires_at: Millis,
    },
    /// It was spent before.
    Again,
    /// The session has ended or expired, or is not the user's.
    SessionOver,
}

/// A place in a list of sessions: what follows was used earlier, or at the same time with a lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCursor {
    /// When the last one seen was used.
    pub last_used_at: Millis,
    /// Its id.
    pub id: SessionId,
}

/// Accounts, sessions, second factors, revocations, spent WebSocket tokens and the outbox.
///
/// A session is *live* while it has not been ended and its `expires_at` is in the future. Ending a session always
/// writes a [`Revocation`](crate::revocation::Revocation) in the same step, whose expiry is the later of the session's last access token (with a
/// margin for clocks, [`crate::session::CLOCK_LEEWAY`]) and the `revoked_until` of the call.
///
/// Revocation numbers are dense from 1 and become visible in their order: who reads *n* can read all before it. A
/// backend with concurrent writers must therefore take the number from one row that it locks until it commits, never
/// from a sequence.
///
/// A call that takes audit entries or mails writes them with what they tell of, and not at all when nothing was changed.
#[async_trait]
pub trait Store:
    ApiKeyStore + InvitationStore + KeyStore + MailStore + PersonStore + Send + Sync + std::fmt::Debug + 'static
{
    /// Makes an account with its first session and the delivery of its profile (version 1 of its username), and uses its
    /// invitation up. Ids, usernames, emails and invitations are good once; of two calls at the same time for one of them,
    /// one wins.
    async fn create_account(&self, account: &NewAccount, session: &NewSession, audit: &[Entry]) -> Stored<Created>;

    /// The account of this id.
    async fn account(&self, id: UserId) -> Stored<Option<Account>>;

    /// The account that logs in with this, and its password's hash.
    async fn credentials(&self, login: &Login) -> Stored<Option<Credentials>>;

    /// The account of this id and its password's hash.
    async fn credentials_by_id(&self, id: UserId) -> Stored<Option<Credentials>>;

    /// Whether an account has this username or this email.
    async fn taken(&self, username: &Username, email: &Email) -> Stored<bool>;

    /// Gives an account another username, raises its version by one and makes the delivery of it due at `due_at`, for
    /// the workers. A name that is the same to the letter changes nothing.
    async fn rename(
        &self,
        id: UserId,
        username: &Username,
        now: Millis,
        due_at: Millis,
        audit: &[Entry],
    ) -> Stored<Renamed>;

    /// Opens a session, if the password is still the one that was verified and the account is not disabled, and replaces
    /// its hash if asked. A deletion that is planned is taken back. Live sessions over the account's limit end, those first
    /// that were not used for longest.
    async fn open_session(&self, opening: &Opening) -> Stored<Opened>;

    /// Sets a new password, if the current one is still the one that was verified, ends all live sessions but one and
    /// trusts no device any more. Links for a new password that were mailed before are good no more.
    async fn change_password(&self, change: &PasswordChange) -> Stored<PasswordChanged>;

    /// Gives an account other roles; when it loses one, all of its live sessions end. The same roles change nothing.
    async fn set_roles(&self, change: &RoleChange) -> Stored<RolesSet>;

    /// The session of this id, also when it has ended or expired and is not forgotten yet.
    async fn session(&self, id: SessionId) -> Stored<Option<Session>>;

    /// A user's live sessions, the last used first, after a place in that order.
    async fn sessions(
        &self,
        user: UserId,
        now: Millis,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Stored<Vec<Session>>;

    /// Exchanges a refresh token for its successor. Judged in this order:
    /// the session is unknown: `Expired` if the token is genuine, else `Unknown`; it has expired: `Expired` if the
    /// token is the current one or genuine; it has ended: `Ended` likewise; the token is the current one: the
    /// successor takes its place and the session lives longer; its successor is the current one: the same answer
    /// again; the token is genuine: it is an older one, the session ends; anything else is `Unknown` and changes
    /// nothing. The session's `last_used_at` moves at most once a minute.
    async fn rotate(&self, rotation: &Rotation) -> Stored<Rotated>;

    /// Ends one session of a user.
    async fn end_session(
        &self,
        user: UserId,
        session: SessionId,
        now: Millis,
        revoked_until: Millis,
        audit: &[Entry],
    ) -> Stored<End>;

    /// Notes that a live session of a user has proved now, in these ways, whose it is; false when there is none.
    async fn prove_session(
        &self,
        user: UserId,
        session: SessionId,
        methods: &[Method],
        now: Millis,
        audit: &[Entry],
    ) -> Stored<bool>;

    /// Ends all live sessions of a user but one.
    async fn end_other_sessions(
        &self,
        user: UserId,
        keep: SessionId,
        now: Millis,
        revoked_until: Millis,
        audit: &[Entry],
    ) -> Stored<EndedSessions>;

    /// The revocations after a number that have not expired, in order, at most `limit`, and the number up to which
    /// the answer is whole.
    async fn revocations(&self, after: i64, now: Millis, limit: u32) -> Stored<RevocationPage>;

    /// Spends a WebSocket token's id, if its session is live and the user's. The session counts as used.
    async fn spend_ws(&self, spend: &WsSpend) -> Stored<WsSpent>;

    /// Users with a delivery that is due, at most `limit`; their first deliveries are due again at `until`, so that no
    /// other worker takes them meanwhile.
    async fn claim_deliveries(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<UserId>>;

    /// A user's first delivery: the one with the lowest version, due or not.
    async fn next_delivery(&self, user: UserId) -> Stored<Option<Delivery>>;

    /// Forgets a delivery that has arrived. It may be gone already.
    async fn delivered(&self, user: UserId, version: i64) -> Stored<()>;

    /// Counts a failed attempt and makes the delivery due at `until`. It may be gone already.
    async fn postpone_delivery(&self, user: UserId, version: i64, until: Millis) -> Stored<()>;

    /// Forgets expired sessions, revocations, spent ids, trusted devices, invitations, API keys, and tokens and records of
    /// mails, at most `limit` of each; how many went.
    async fn prune(&self, now: Millis, limit: u32) -> Stored<u64>;

    /// The second factors of an account; of one that is not there, none.
    async fn factors(&self, user: UserId, now: Millis) -> Stored<Factors>;

    /// Keeps the secret of an authenticator that is to be confirmed, in place of one that was not; false when the account
    /// has one that counts, which stays.
    async fn plan_totp(&self, user: UserId, sealed_secret: &[u8], now: Millis) -> Stored<bool>;

    /// The sealed secret that is to be confirmed.
    async fn planned_totp(&self, user: UserId) -> Stored<Option<Vec<u8>>>;

    /// Makes the planned secret count and replaces the recovery codes; false, and nothing happens, when another secret is
    /// planned by now, or none.
    async fn confirm_totp(&self, confirmation: &TotpConfirmation) -> Stored<bool>;

    /// Counts a try to give a code, before it is judged: it is a failure until [`Store::use_totp`] says otherwise, and
    /// after some no more are taken for a while ([`crate::factor::hold`]). One that is not taken is not counted.
    async fn attempt_totp(&self, user: UserId, now: Millis) -> Stored<TotpAttempt>;

    /// Uses up the code of a time step and forgets the failures; false, and nothing happens, when the code of this step
    /// or a later one was used before.
    async fn use_totp(&self, user: UserId, step: i64) -> Stored<bool>;

    /// Uses up a recovery code and forgets the failures; false, and nothing happens, when the account has no such code.
    async fn use_recovery_code(&self, user: UserId, hash: &RecoveryHash, audit: &[Entry]) -> Stored<bool>;

    /// Replaces all recovery codes; false, and nothing happens, when the account has no authenticator that counts.
    async fn replace_recovery_codes(
        &self,
        user: UserId,
        hashes: &[RecoveryHash],
        audit: &[Entry],
        mails: &[NewMail],
    ) -> Stored<bool>;

    /// Removes the authenticator, recovery codes and trusted devices; false, and nothing happens, when the account has
    /// none that counts.
    async fn remove_totp(&self, user: UserId, audit: &[Entry], mails: &[NewMail]) -> Stored<bool>;

    /// Trusts a device, or trusts it for longer. Devices over the account's limit are forgotten, the oldest first.
    async fn trust_device(&self, device: &TrustedDevice) -> Stored<()>;

    /// Whether a device of an account is trusted now.
    async fn device_is_trusted(&self, user: UserId, device: uuid::Uuid, now: Millis) -> Stored<bool>;

    /// Forgets all trusted devices of an account; how many.
    async fn forget_devices(&self, user: UserId, audit: &[Entry]) -> Stored<u32>;

    /// Writes audit entries that tell of no other write.
    async fn append_audit(&self, entries: &[Entry]) -> Stored<()>;

    /// The audit entries that a filter lets through, the newest first, from after a place in that order, at most
    /// `limit`.
    async fn audit(&self, filter: &Filter, after: Option<uuid::Uuid>, limit: u32) -> Stored<Vec<Entry>>;

    /// Forgets the oldest audit entries from before a time, at most `limit`; how many went.
    async fn prune_audit(&self, before: Millis, limit: u32) -> Stored<u64>;

    /// Whether the store answers.
    async fn check(&self) -> Stored<()>;

    /// Finishes what is being written and closes. Calls after it fail.
    async fn close(&self);
}

/// Until when the revocation of a session that ends now is kept.
#[must_use]
pub(crate) fn revoked_for(session: &Session, revoked_until: Millis) -> Millis {
    session.access_expires_at.plus(crate::session::CLOCK_LEEWAY).max(revoked_until)
}
