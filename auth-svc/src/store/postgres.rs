//! The store on PostgreSQL: one bounded pool, every write one transaction (or one statement), conflicts settled by row
//! locks and unique constraints. How a call ends in time is in `postgres/calls.rs`, opening in `postgres/open.rs`, what an
//! error means in `postgres/errors.rs`; the statements are by noun beside them.
//!
//! Statements name their columns: a newer version may have added some while this one still runs.

use async_trait::async_trait;
use mesh::{
    config::{Secret, StoreLimits},
    time::Millis,
};

use self::calls::{Calls, run};
use super::{
    Created, Credentials, End, EndedSessions, NewAccount, NewSession, OpenError, Opened, Opening, PasswordChange,
    PasswordChanged, Renamed, Rotated, Rotation, SessionCursor, Store, Stored, WsSpend, WsSpent,
};
use crate::{
    account::{Account, Email, Login, UserId, Username},
    outbox::Delivery,
    revocation::RevocationPage,
    session::{Session, SessionId},
};

mod accounts;
mod calls;
mod ends;
mod errors;
mod open;
mod outbox;
mod rows;
mod sessions;
mod upkeep;

/// The schema of the service, so that one database may hold several.
const SCHEMA: &str = "auth";

/// The store.
#[derive(Debug)]
pub struct PostgresStore {
    calls: Calls,
}

impl PostgresStore {
    /// Connects, waits for a server that is not there yet, and brings the tables up to date.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do, without the password.
    pub async fn open(url: &Secret, limits: &StoreLimits) -> Result<Self, OpenError> {
        Self::open_schema(url, SCHEMA, limits).await
    }

    async fn open_schema(url: &Secret, schema: &str, limits: &StoreLimits) -> Result<Self, OpenError> {
        let pool = open::open(url, schema, limits).await?;
        Ok(Self { calls: Calls::new(pool, limits.call()) })
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn create_account(&self, account: &NewAccount, session: &NewSession) -> Stored<Created> {
        run!(self.calls.transaction(), db => accounts::create(db, account, session))
    }

    async fn account(&self, id: UserId) -> Stored<Option<Account>> {
        let found = run!(self.calls.statement(), db => accounts::by_id(db, id))?;
        Ok(found.map(|credentials| credentials.account))
    }

    async fn credentials(&self, login: &Login) -> Stored<Option<Credentials>> {
        run!(self.calls.statement(), db => accounts::by_login(db, login))
    }

    async fn credentials_by_id(&self, id: UserId) -> Stored<Option<Credentials>> {
        run!(self.calls.statement(), db => accounts::by_id(db, id))
    }

    async fn taken(&self, username: &Username, email: &Email) -> Stored<bool> {
        run!(self.calls.statement(), db => accounts::taken(db, &username.key(), email.key()))
    }

    async fn rename(&self, id: UserId, username: &Username, now: Millis, due_at: Millis) -> Stored<Renamed> {
        run!(self.calls.transaction(), db => accounts::rename(db, id, username, now, due_at))
    }

    async fn open_session(&self, opening: &Opening) -> Stored<Opened> {
        run!(self.calls.transaction(), db => sessions::open(db, opening))
    }

    async fn change_password(&self, change: &PasswordChange) -> Stored<PasswordChanged> {
        run!(self.calls.transaction(), db => ends::change_password(db, change))
    }

    async fn session(&self, id: SessionId) -> Stored<Option<Session>> {
        run!(self.calls.statement(), db => sessions::by_id(db, id))
    }

    async fn sessions(
        &self,
        user: UserId,
        now: Millis,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Stored<Vec<Session>> {
        run!(self.calls.statement(), db => sessions::of_user(db, user, now, after, limit))
    }

    async fn rotate(&self, rotation: &Rotation) -> Stored<Rotated> {
        run!(self.calls.transaction(), db => sessions::rotate(db, rotation))
    }

    async fn end_session(&self, user: UserId, session: SessionId, now: Millis, revoked_until: Millis) -> Stored<End> {
        run!(self.calls.transaction(), db => ends::one(db, user, session, now, revoked_until))
    }

    async fn end_other_sessions(
        &self,
        user: UserId,
        keep: SessionId,
        now: Millis,
        revoked_until: Millis,
    ) -> Stored<EndedSessions> {
        run!(self.calls.transaction(), db => ends::others(db, user, keep, now, revoked_until))
    }

    async fn revocations(&self, after: i64, now: Millis, limit: u32) -> Stored<RevocationPage> {
        run!(self.calls.statement(), db => ends::revocations(db, after, now, limit))
    }

    async fn spend_ws(&self, spend: &WsSpend) -> Stored<WsSpent> {
        run!(self.calls.transaction(), db => sessions::spend_ws(db, spend))
    }

    async fn claim_deliveries(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<UserId>> {
        // Run twice, it claims other deliveries; those of the first run are due again when their lease is over.
        run!(self.calls.statement(), db => outbox::claim(db, now, until, limit))
    }

    async fn next_delivery(&self, user: UserId) -> Stored<Option<Delivery>> {
        run!(self.calls.statement(), db => outbox::next(db, user))
    }

    async fn delivered(&self, user: UserId, version: i64) -> Stored<()> {
        run!(self.calls.statement(), db => outbox::delivered(db, user, version))
    }

    async fn postpone_delivery(&self, user: UserId, version: i64, until: Millis) -> Stored<()> {
        // Run twice, it counts one attempt more, which makes a wait longer and nothing else.
        run!(self.calls.statement(), db => outbox::postpone(db, user, version, until))
    }

    async fn prune(&self, now: Millis, limit: u32) -> Stored<u64> {
        run!(self.calls.transaction(), db => upkeep::prune(db, now, limit))
    }

    async fn check(&self) -> Stored<()> {
        run!(self.calls.statement(), db => upkeep::check(db))
    }

    async fn close(&self) {
        self.calls.close().await;
    }
}

#[cfg(test)]
mod tests;
