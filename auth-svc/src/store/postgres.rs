//! The store on PostgreSQL: every write is one transaction (or one statement), and conflicts are settled by row locks and
//! unique constraints. What every service does alike on this server (opening it, ending a call in time, judging errors) is
//! in the crate `mesh-postgres`; the statements are by noun in `postgres/`, the tables in `migrations/postgres`, in a
//! schema of the service's own.
//!
//! Statements name their columns: a newer version may have added some while this one still runs.

use async_trait::async_trait;
use mesh::{
    config::{Secret, StoreLimits},
    migration::Migrations,
    time::Millis,
};
use mesh_postgres::{CallError, Calls, Server, Service, run};

use super::{
    Created, Credentials, End, EndedSessions, Factors, NewAccount, NewSession, OpenError, Opened, Opening,
    PasswordChange, PasswordChanged, Renamed, RoleChange, RolesSet, Rotated, Rotation, SessionCursor, Store,
    StoreError, Stored, TotpAttempt, TotpConfirmation, TrustedDevice, WsSpend, WsSpent,
};
use crate::{
    account::{Account, Email, Login, UserId, Username},
    audit::{Entry, Filter},
    factor::RecoveryHash,
    mail::NewMail,
    outbox::Delivery,
    proof::Method,
    revocation::RevocationPage,
    session::{Session, SessionId},
};

mod accounts;
mod api_keys;
mod audit;
mod ends;
mod factors;
mod invitations;
mod mails;
mod outbox;
mod person;
mod rows;
mod sessions;
mod signing_keys;
mod upkeep;

/// The schema of the service, so that one database may hold several.
pub(super) const SCHEMA: &str = "auth";

/// The store.
#[derive(Debug)]
pub struct PostgresStore {
    calls: Calls,
}

impl PostgresStore {
    /// Connects, waits for a server that is not there yet, and sees to the tables.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do, without the password.
    pub async fn open(url: &Secret, limits: &StoreLimits, migrations: Migrations) -> Result<Self, OpenError> {
        Ok(Self::on(&server(url, SCHEMA, limits, migrations).await?, limits))
    }

    fn on(server: &Server, limits: &StoreLimits) -> Self {
        Self { calls: Calls::new(server.pool(limits.connections_max), limits.call()) }
    }
}

/// The server, with the tables seen to.
pub(super) async fn server(
    url: &Secret,
    schema: &str,
    limits: &StoreLimits,
    migrations: Migrations,
) -> Result<Server, OpenError> {
    Ok(Server::open(url, schema, service(), limits, migrations).await?)
}

fn service() -> Service {
    Service {
        name: "auth-svc",
        store: "account store",
        setting: "auth.store_url",
        variable: "AUTH_STORE_URL",
        migrations_table: "_auth_migrations",
        migrator: sqlx::migrate!("migrations/postgres"),
        settings: &[],
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Broken(_) => Self::Broken(error.into()),
            CallError::Away(_) | CallError::Late { .. } => Self::Unavailable(error.into()),
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn create_account(&self, account: &NewAccount, session: &NewSession, audit: &[Entry]) -> Stored<Created> {
        Ok(run!(self.calls, transaction, db => accounts::create(db, account, session, audit))?)
    }

    async fn account(&self, id: UserId) -> Stored<Option<Account>> {
        let found = run!(self.calls, statement, db => accounts::by_id(db, id))?;
        Ok(found.map(|credentials| credentials.account))
    }

    async fn credentials(&self, login: &Login) -> Stored<Option<Credentials>> {
        Ok(run!(self.calls, statement, db => accounts::by_login(db, login))?)
    }

    async fn credentials_by_id(&self, id: UserId) -> Stored<Option<Credentials>> {
        Ok(run!(self.calls, statement, db => accounts::by_id(db, id))?)
    }

    async fn taken(&self, username: &Username, email: &Email) -> Stored<bool> {
        Ok(run!(self.calls, statement, db => accounts::taken(db, &username.key(), email.key()))?)
    }

    async fn rename(
        &self,
        id: UserId,
        username: &Username,
        now: Millis,
        due_at: Millis,
        audit: &[Entry],
    ) -> Stored<Renamed> {
        Ok(run!(self.calls, transaction, db => accounts::rename(db, id, username, now, due_at, audit))?)
    }

    async fn open_session(&self, opening: &Opening) -> Stored<Opened> {
        Ok(run!(self.calls, transaction, db => sessions::open(db, opening))?)
    }

    async fn change_password(&self, change: &PasswordChange) -> Stored<PasswordChanged> {
        Ok(run!(self.calls, transaction, db => ends::change_password(db, change))?)
    }

    async fn set_roles(&self, change: &RoleChange) -> Stored<RolesSet> {
        Ok(run!(self.calls, transaction, db => ends::set_roles(db, change))?)
    }

    async fn session(&self, id: SessionId) -> Stored<Option<Session>> {
        Ok(run!(self.calls, statement, db => sessions::by_id(db, id))?)
    }

    async fn sessions(
        &self,
        user: UserId,
        now: Millis,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Stored<Vec<Session>> {
        Ok(run!(self.calls, statement, db => sessions::of_user(db, user, now, after, limit))?)
    }

    async fn rotate(&self, rotation: &Rotation) -> Stored<Rotated> {
        Ok(run!(self.calls, transaction, db => sessions::rotate(db, rotation))?)
    }

    async fn end_session(
        &self,
        user: UserId,
        session: SessionId,
        now: Millis,
        revoked_until: Millis,
        audit: &[Entry],
    ) -> Stored<End> {
        Ok(run!(self.calls, transaction, db => ends::one(db, user, session, now, revoked_until, audit))?)
    }

    async fn end_other_sessions(
        &self,
        user: UserId,
        keep: SessionId,
        now: Millis,
        revoked_until: Millis,
        audit: &[Entry],
    ) -> Stored<EndedSessions> {
        Ok(run!(self.calls, transaction, db => ends::others(db, user, keep, now, revoked_until, audit))?)
    }

    async fn revocations(&self, after: i64, now: Millis, limit: u32) -> Stored<RevocationPage> {
        Ok(run!(self.calls, statement, db => ends::revocations(db, after, now, limit))?)
    }

    async fn spend_ws(&self, spend: &WsSpend) -> Stored<WsSpent> {
        Ok(run!(self.calls, transaction, db => sessions::spend_ws(db, spend))?)
    }

    async fn claim_deliveries(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<UserId>> {
        // Run twice, it claims other deliveries; those of the first run are due again when their lease is over.
        Ok(run!(self.calls, statement, db => outbox::claim(db, now, until, limit))?)
    }

    async fn next_delivery(&self, user: UserId) -> Stored<Option<Delivery>> {
        Ok(run!(self.calls, statement, db => outbox::next(db, user))?)
    }

    async fn delivered(&self, user: UserId, version: i64) -> Stored<()> {
        Ok(run!(self.calls, statement, db => outbox::delivered(db, user, version))?)
    }

    async fn postpone_delivery(&self, user: UserId, version: i64, until: Millis) -> Stored<()> {
        // Run twice, it counts one attempt more, which makes a wait longer and nothing else.
        Ok(run!(self.calls, statement, db => outbox::postpone(db, user, version, until))?)
    }

    async fn prune(&self, now: Millis, limit: u32) -> Stored<u64> {
        Ok(run!(self.calls, transaction, db => upkeep::prune(db, now, limit))?)
    }

    async fn prove_session(
        &self,
        user: UserId,
        session: SessionId,
        methods: &[Method],
        now: Millis,
        audit: &[Entry],
    ) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => sessions::prove(db, user, session, methods, now, audit))?)
    }

    async fn factors(&self, user: UserId, now: Millis) -> Stored<Factors> {
        Ok(run!(self.calls, statement, db => factors::of(db, user, now))?)
    }

    async fn plan_totp(&self, user: UserId, sealed_secret: &[u8], now: Millis) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => factors::plan(db, user, sealed_secret, now))?)
    }

    async fn planned_totp(&self, user: UserId) -> Stored<Option<Vec<u8>>> {
        Ok(run!(self.calls, statement, db => factors::planned(db, user))?)
    }

    async fn confirm_totp(&self, confirmation: &TotpConfirmation) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => factors::confirm(db, confirmation))?)
    }

    async fn attempt_totp(&self, user: UserId, now: Millis) -> Stored<TotpAttempt> {
        Ok(run!(self.calls, transaction, db => factors::attempt(db, user, now))?)
    }

    async fn use_totp(&self, user: UserId, step: i64) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => factors::use_totp(db, user, step))?)
    }

    async fn use_recovery_code(&self, user: UserId, hash: &RecoveryHash, audit: &[Entry]) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => factors::use_recovery_code(db, user, hash, audit))?)
    }

    async fn replace_recovery_codes(
        &self,
        user: UserId,
        hashes: &[RecoveryHash],
        audit: &[Entry],
        mails: &[NewMail],
    ) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => factors::replace_recovery_codes(db, user, hashes, audit, mails))?)
    }

    async fn remove_totp(&self, user: UserId, audit: &[Entry], mails: &[NewMail]) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => factors::remove(db, user, audit, mails))?)
    }

    async fn trust_device(&self, device: &TrustedDevice) -> Stored<()> {
        Ok(run!(self.calls, transaction, db => factors::trust(db, device))?)
    }

    async fn device_is_trusted(&self, user: UserId, device: uuid::Uuid, now: Millis) -> Stored<bool> {
        Ok(run!(self.calls, statement, db => factors::is_trusted(db, user, device, now))?)
    }

    async fn forget_devices(&self, user: UserId, audit: &[Entry]) -> Stored<u32> {
        Ok(run!(self.calls, transaction, db => factors::forget_devices(db, user, audit))?)
    }

    async fn append_audit(&self, entries: &[Entry]) -> Stored<()> {
        Ok(run!(self.calls, transaction, db => audit::insert(db, entries))?)
    }

    async fn audit(&self, filter: &Filter, after: Option<uuid::Uuid>, limit: u32) -> Stored<Vec<Entry>> {
        Ok(run!(self.calls, statement, db => audit::list(db, filter, after, limit))?)
    }

    async fn prune_audit(&self, before: Millis, limit: u32) -> Stored<u64> {
        Ok(run!(self.calls, transaction, db => audit::prune(db, before, limit))?)
    }

    async fn check(&self) -> Stored<()> {
        Ok(run!(self.calls, statement, db => upkeep::check(db))?)
    }

    async fn close(&self) {
        self.calls.close().await;
    }
}

#[cfg(test)]
mod tests;
