//! What is kept of somebody as a whole: the part of [`Store`](super::Store) that disables accounts, gives out what is held
//! about them, and deletes them.

use async_trait::async_trait;
use mesh::time::Millis;
use uuid::Uuid;

use super::{EndedSessions, Stored};
use crate::{
    account::{Account, UserId},
    audit::Entry,
    session::SessionId,
};

/// An account that is to be disabled or enabled.
#[derive(Clone, Debug)]
pub struct AccessChange {
    /// Which one.
    pub user_id: UserId,
    /// Whether nobody may log in to it from now on.
    pub disabled: bool,
    /// The time now.
    pub now: Millis,
    /// Until when the revocations are kept, at least.
    pub revoked_until: Millis,
    /// Written when it changes.
    pub audit: Vec<Entry>,
    /// Written when a deletion is taken back by it.
    pub kept: Entry,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessSet {
    /// It is so.
    Set {
        /// The account after it.
        account: Account,
        /// The sessions that have ended by it.
        ended: EndedSessions,
    },
    /// There is no such account.
    Missing,
}

/// An account that is to be deleted.
#[derive(Clone, Debug)]
pub struct DeletionPlan {
    /// Which one.
    pub user_id: UserId,
    /// Whether it is disabled until then, so that no login takes it back.
    pub disabled: bool,
    /// The time now.
    pub now: Millis,
    /// When it is to be erased.
    pub erase_at: Millis,
    /// Until when the revocations are kept, at least.
    pub revoked_until: Millis,
    /// Written with it.
    pub audit: Vec<Entry>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionPlanned {
    /// It will be erased.
    Planned {
        /// From when on: a deletion that was planned already keeps its time.
        erase_at: Millis,
        /// The highest number among the revocations of its sessions and keys.
        head: Option<i64>,
    },
    /// There is no such account.
    Missing,
}

/// A deletion on its way through the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Whose.
    pub user_id: UserId,
    /// From when on it is erased.
    pub erase_at: Millis,
    /// Whether the account itself is erased.
    pub erased: bool,
    /// Whether its profile and what the audit log tells of the person are erased.
    pub told: bool,
    /// Where message-svc goes on; empty at the beginning.
    pub place: String,
    /// Failures since the last step.
    pub attempts: u32,
}

/// What came of erasing an account's own rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// They are gone.
    Gone {
        /// The highest number among the revocations that were written.
        head: Option<i64>,
    },
    /// The deletion was taken back, or its time has not come; nothing changed.
    NotDue,
}

/// Where somebody stands in an entry of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It happened to them.
    Subject,
    /// They did it.
    Actor,
}

/// A device that need not give a code, as its owner is shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownDevice {
    /// Its id.
    pub id: Uuid,
    /// When it was remembered.
    pub created_at: Millis,
    /// Until when it is.
    pub expires_at: Millis,
}

/// People as a whole.
#[async_trait]
pub trait PersonStore {
    /// Lets nobody log in to an account any more and ends its sessions, or lets them in again and takes its deletion back.
    async fn set_access(&self, change: &AccessChange) -> Stored<AccessSet>;

    /// The devices of an account that are trusted now; there are few.
    async fn trusted_devices(&self, user: UserId, now: Millis) -> Stored<Vec<KnownDevice>>;

    /// Ends live sessions of anybody with ids above this one, in their order, at most `limit`; the last that ended, none
    /// when there was none.
    async fn end_sessions_after(
        &self,
        after: SessionId,
        now: Millis,
        revoked_until: Millis,
        limit: u32,
    ) -> Stored<(EndedSessions, Option<SessionId>)>;

    /// Ends an account's sessions, forgets its API keys, each with its revocation, trusts no device any more, and has the
    /// account erased later. Until then [`Store::open_session`](super::Store::open_session) takes it back.
    async fn plan_deletion(&self, plan: &DeletionPlan) -> Stored<DeletionPlanned>;

    /// The deletion of an account, also after the account is gone, until all is erased.
    async fn deletion(&self, user: UserId) -> Stored<Option<Deletion>>;

    /// Deletions with a step that is due, at most `limit`; they are due again at `until`, so that no other worker takes
    /// them meanwhile.
    async fn claim_deletions(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<UserId>>;

    /// Erases an account whose time has come: its names, password, sessions, keys, factors, devices and what waits in the
    /// outbox. Its names are free from then on.
    async fn erase_account(&self, user: UserId, now: Millis, revoked_until: Millis, audit: &[Entry]) -> Stored<Erased>;

    /// Takes out of audit entries what tells who somebody was: addresses, places and devices where they or nobody known
    /// acted, and the details of what happened to them. At most `limit` entries after this one; the last of them, none at
    /// the end.
    async fn scrub_audit(&self, user: UserId, side: Side, after: Option<Uuid>, limit: u32) -> Stored<Option<Uuid>>;

    /// Notes how far a deletion has come; its next step is due at `due_at`, its failures are forgotten.
    async fn note_deletion(&self, user: UserId, told: bool, place: &str, due_at: Millis) -> Stored<()>;

    /// Counts a failed step and makes it due at `until`.
    async fn postpone_deletion(&self, user: UserId, until: Millis) -> Stored<()>;

    /// Forgets a deletion that has come through.
    async fn finish_deletion(&self, user: UserId) -> Stored<()>;
}
