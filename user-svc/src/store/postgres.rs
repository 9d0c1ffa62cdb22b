//! The store on PostgreSQL: a person is one row, and every write is one statement. What every service does alike on this
//! server (opening it, ending a call in time, judging errors) is in the crate `mesh-postgres`; the statements are in
//! `postgres/people.rs`, the table in `migrations/postgres`, in a schema of the service's own.

use async_trait::async_trait;
use mesh::{
    config::{Secret, StoreLimits},
    migration::Migrations,
    time::Millis,
};
use mesh_postgres::{CallError, Calls, Server, Service, run};

use super::{OpenError, Store, StoreError, Stored};
use crate::profile::{Change, NewProfile, OwnProfile, Profile, Rename, UserId};

mod people;

/// The schema of the service, so that one database may hold several.
pub(super) const SCHEMA: &str = "users";

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
        name: "user-svc",
        store: "profile store",
        setting: "user.store_url",
        variable: "USER_STORE_URL",
        migrations_table: "_user_migrations",
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
    async fn create(&self, new: &NewProfile, now: Millis) -> Stored<Profile> {
        Ok(run!(self.calls, statement, db => people::create(db, new, now))?)
    }

    async fn rename(&self, rename: &Rename, now: Millis) -> Stored<()> {
        Ok(run!(self.calls, statement, db => people::rename(db, rename, now))?)
    }

    async fn profiles(&self, ids: &[UserId]) -> Stored<Vec<Profile>> {
        Ok(run!(self.calls, statement, db => people::profiles(db, ids))?)
    }

    async fn own(&self, id: UserId) -> Stored<Option<OwnProfile>> {
        Ok(run!(self.calls, statement, db => people::own(db, id))?)
    }

    async fn update(&self, id: UserId, change: &Change, now: Millis) -> Stored<Option<OwnProfile>> {
        let preferences = change.preferences.as_ref().map(super::preferences_json).transpose()?;
        let preferences = preferences.as_deref();
        // A transaction, so that a change whose answer was lost is not made again over somebody else's later one.
        Ok(run!(self.calls, transaction, db => people::update(db, id, change, preferences, now))?)
    }

    async fn erase(&self, id: UserId, now: Millis) -> Stored<()> {
        Ok(run!(self.calls, statement, db => people::erase(db, id, now))?)
    }

    async fn check(&self) -> Stored<()> {
        Ok(run!(self.calls, statement, db => people::check(db))?)
    }

    async fn close(&self) {
        self.calls.close().await;
    }
}

#[cfg(test)]
mod tests;
