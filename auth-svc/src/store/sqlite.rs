//! The store on SQLite: one writer connection, so that writes come one after the other, and a bounded pool of readers.
//! WAL with `synchronous=FULL`: what is acknowledged is on disk. Opening is `mesh-sqlite`'s, rows are in
//! `sqlite/rows.rs`; the statements are by noun in `sqlite/`.
//!
//! Every write begins with `BEGIN IMMEDIATE`, so what it reads is what it changes, also when another process has the
//! file open. That is why revocation numbers come from one row without further care.

use std::path::Path;

use async_trait::async_trait;
use mesh::{migration::Migrations, time::Millis};
use mesh_sqlite::{File, Options, Service};
use sqlx::{Sqlite, SqlitePool, Transaction};

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

/// A write in progress; dropped without a commit, nothing of it happened.
type Write = Transaction<'static, Sqlite>;

/// What the threads are called.
const NAME: &str = "accounts";

/// The store.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it when it is missing, and sees to its tables.
    ///
    /// # Errors
    /// One sentence that names the file, what is wrong with it and what to do.
    pub async fn open(path: &Path, readers: u32, migrations: Migrations) -> Result<Self, OpenError> {
        let options = Options::new(readers, NAME);
        let (writer, readers) = File::open(path, service(), &options, migrations).await?.pools(&options).await?;
        Ok(Self { writer, readers })
    }

    async fn write(&self) -> Stored<Write> {
        let begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        if let Err(sqlx::Error::InvalidSavePointStatement) = begun {
            // When the disk is full SQLite ends a transaction by itself. The driver does not notice, and would take the
            // next one for a part of it for ever; a new connection knows better.
            self.writer.acquire().await?.close().await?;
            return Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?);
        }
        Ok(begun?)
    }
}

pub(super) fn service() -> Service {
    Service {
        name: "auth-svc",
        store: "account store",
        variable: "AUTH_STORE_URL",
        migrations_table: "_auth_migrations",
        migrator: sqlx::migrate!("migrations/sqlite"),
        restored: None,
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if mesh_sqlite::errors::is_away(&error) { Self::Unavailable(error.into()) } else { Self::Broken(error.into()) }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn create_account(&self, account: &NewAccount, session: &NewSession, audit: &[Entry]) -> Stored<Created> {
        accounts::create(self.write().await?, account, session, audit).await
    }

    async fn account(&self, id: UserId) -> Stored<Option<Account>> {
        Ok(accounts::by_id(&self.readers, id).await?.map(|credentials| credentials.account))
    }

    async fn credentials(&self, login: &Login) -> Stored<Option<Credentials>> {
        accounts::by_login(&self.readers, login).await
    }

    async fn credentials_by_id(&self, id: UserId) -> Stored<Option<Credentials>> {
        accounts::by_id(&self.readers, id).await
    }

    async fn taken(&self, username: &Username, email: &Email) -> Stored<bool> {
        accounts::taken(&self.readers, &username.key(), email.key()).await
    }

    async fn rename(
        &self,
        id: UserId,
        username: &Username,
        now: Millis,
        due_at: Millis,
        audit: &[Entry],
    ) -> Stored<Renamed> {
        accounts::rename(self.write().await?, id, username, now, due_at, audit).await
    }

    async fn open_session(&self, opening: &Opening) -> Stored<Opened> {
        sessions::open(self.write().await?, opening).await
    }

    async fn change_password(&self, change: &PasswordChange) -> Stored<PasswordChanged> {
        ends::change_password(self.write().await?, change).await
    }

    async fn set_roles(&self, change: &RoleChange) -> Stored<RolesSet> {
        ends::set_roles(self.write().await?, change).await
    }

    async fn session(&self, id: SessionId) -> Stored<Option<Session>> {
        sessions::by_id(&self.readers, id).await
    }

    async fn sessions(
        &self,
        user: UserId,
        now: Millis,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Stored<Vec<Session>> {
        sessions::of_user(&self.readers, user, now, after, limit).await
    }

    async fn rotate(&self, rotation: &Rotation) -> Stored<Rotated> {
        sessions::rotate(self.write().await?, rotation).await
    }

    async fn end_session(
        &self,
        user: UserId,
        session: SessionId,
        now: Millis,
        revoked_until: Millis,
        audit: &[Entry],
    ) -> Stored<End> {
        ends::one(self.write().await?, user, session, now, revoked_until, audit).await
    }

    async fn end_other_sessions(
        &self,
        user: UserId,
        keep: SessionId,
        now: Millis,
        revoked_until: Millis,
        audit: &[Entry],
    ) -> Stored<EndedSessions> {
        ends::others(self.write().await?, user, keep, now, revoked_until, audit).await
    }

    async fn revocations(&self, after: i64, now: Millis, limit: u32) -> Stored<RevocationPage> {
        ends::revocations(&self.readers, after, now, limit).await
    }

    async fn spend_ws(&self, spend: &WsSpend) -> Stored<WsSpent> {
        sessions::spend_ws(self.write().await?, spend).await
    }

    async fn claim_deliveries(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<UserId>> {
        // A look through a reader first: most of the time nothing is due, and the writer is left alone.
        if !outbox::any_due(&self.readers, now).await? {
            return Ok(Vec::new());
        }
        outbox::claim(self.write().await?, now, until, limit).await
    }

    async fn next_delivery(&self, user: UserId) -> Stored<Option<Delivery>> {
        outbox::next(&self.readers, user).await
    }

    async fn delivered(&self, user: UserId, version: i64) -> Stored<()> {
        outbox::delivered(&self.writer, user, version).await
    }

    async fn postpone_delivery(&self, user: UserId, version: i64, until: Millis) -> Stored<()> {
        outbox::postpone(&self.writer, user, version, until).await
    }

    async fn prune(&self, now: Millis, limit: u32) -> Stored<u64> {
        if !upkeep::any_expired(&self.readers, now).await? {
            return Ok(0);
        }
        upkeep::prune(self.write().await?, now, limit).await
    }

    async fn prove_session(
        &self,
        user: UserId,
        session: SessionId,
        methods: &[Method],
        now: Millis,
        audit: &[Entry],
    ) -> Stored<bool> {
        sessions::prove(self.write().await?, user, session, methods, now, audit).await
    }

    async fn factors(&self, user: UserId, now: Millis) -> Stored<Factors> {
        factors::of(&self.readers, user, now).await
    }

    async fn plan_totp(&self, user: UserId, sealed_secret: &[u8], now: Millis) -> Stored<bool> {
        factors::plan(&self.writer, user, sealed_secret, now).await
    }

    async fn planned_totp(&self, user: UserId) -> Stored<Option<Vec<u8>>> {
        factors::planned(&self.readers, user).await
    }

    async fn confirm_totp(&self, confirmation: &TotpConfirmation) -> Stored<bool> {
        factors::confirm(self.write().await?, confirmation).await
    }

    async fn attempt_totp(&self, user: UserId, now: Millis) -> Stored<TotpAttempt> {
        factors::attempt(self.write().await?, user, now).await
    }

    async fn use_totp(&self, user: UserId, step: i64) -> Stored<bool> {
        factors::use_totp(&self.writer, user, step).await
    }

    async fn use_recovery_code(&self, user: UserId, hash: &RecoveryHash, audit: &[Entry]) -> Stored<bool> {
        factors::use_recovery_code(self.write().await?, user, hash, audit).await
    }

    async fn replace_recovery_codes(
        &self,
        user: UserId,
        hashes: &[RecoveryHash],
        audit: &[Entry],
        mails: &[NewMail],
    ) -> Stored<bool> {
        factors::replace_recovery_codes(self.write().await?, user, hashes, audit, mails).await
    }

    async fn remove_totp(&self, user: UserId, audit: &[Entry], mails: &[NewMail]) -> Stored<bool> {
        factors::remove(self.write().await?, user, audit, mails).await
    }

    async fn trust_device(&self, device: &TrustedDevice) -> Stored<()> {
        factors::trust(self.write().await?, device).await
    }

    async fn device_is_trusted(&self, user: UserId, device: uuid::Uuid, now: Millis) -> Stored<bool> {
        factors::is_trusted(&self.readers, user, device, now).await
    }

    async fn forget_devices(&self, user: UserId, audit: &[Entry]) -> Stored<u32> {
        factors::forget_devices(self.write().await?, user, audit).await
    }

    async fn append_audit(&self, entries: &[Entry]) -> Stored<()> {
        let mut write = self.write().await?;
        audit::insert(&mut write, entries).await?;
        Ok(write.commit().await?)
    }

    async fn audit(&self, filter: &Filter, after: Option<uuid::Uuid>, limit: u32) -> Stored<Vec<Entry>> {
        audit::list(&self.readers, filter, after, limit).await
    }

    async fn prune_audit(&self, before: Millis, limit: u32) -> Stored<u64> {
        if !audit::any_before(&self.readers, before).await? {
            return Ok(0);
        }
        audit::prune(self.write().await?, before, limit).await
    }

    async fn check(&self) -> Stored<()> {
        upkeep::check(&self.readers).await
    }

    async fn close(&self) {
        self.readers.close().await;
        // The last one to close writes the log back into the file.
        self.writer.close().await;
    }
}

#[cfg(test)]
mod plans;
#[cfg(test)]
mod tests;
