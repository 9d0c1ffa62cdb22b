//! What user-svc keeps, as a trait whose docs are the contract; `store/contract.rs` holds every backend to it.
//! Every call that writes is one atomic step: all of it is on disk when it answers, or nothing of it happened. Callers
//! give the time, so that a test can choose it. Only the files under `store/` name a database.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use mesh::{
    config::{Secret, StoreLimits},
    migration::{Migrated, Migrations},
    moving::House,
    time::Millis,
};

use crate::profile::{Change, NewProfile, OwnProfile, Preferences, Profile, Rename, UserId};

#[cfg(test)]
mod contract;
mod moving;
pub mod postgres;
pub mod sqlite;

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

/// Where people are kept. Each is one row, so no call needs a transaction over several of them. `updated_at` never goes
/// back, also when the clock does.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Makes a profile. One of this id that is there stays as it is and is answered, with one exception: first and last
    /// name are filled in where a rename made the profile and nobody has said them since. Of somebody who was erased an
    /// empty one is answered, without a username.
    async fn create(&self, new: &NewProfile, now: Millis) -> Stored<Profile>;

    /// Sets the username and its version, if the version is higher than the one there. Makes the profile when it is
    /// missing; its names are then still to be said by [`Store::create`].
    async fn rename(&self, rename: &Rename, now: Millis) -> Stored<()>;

    /// The people of these ids, which differ from one another, in any order; those that do not exist are left out.
    async fn profiles(&self, ids: &[UserId]) -> Stored<Vec<Profile>>;

    /// One person with the preferences.
    async fn own(&self, id: UserId) -> Stored<Option<OwnProfile>>;

    /// Changes the fields that the change names, and no others: of two changes of different fields at the same time,
    /// both stay. Answers the profile after it; none when it does not exist.
    async fn update(&self, id: UserId, change: &Change, now: Millis) -> Stored<Option<OwnProfile>>;

    /// Erases a person: from now on nobody of this id is found or can be made, whatever news comes late. Done again, also of
    /// somebody who was never there, it changes nothing more.
    async fn erase(&self, id: UserId, now: Millis) -> Stored<()>;

    /// Whether the store answers.
    async fn check(&self) -> Stored<()>;

    /// Finishes what is being written and closes. Calls after it fail.
    async fn close(&self);
}

/// Opens the store that the URL names, and sees to its tables.
///
/// # Errors
/// One sentence that says what is wrong with it and what to do.
pub async fn open(
    url: &Secret,
    data: &Path,
    readers: u32,
    limits: &StoreLimits,
    migrations: Migrations,
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match Backend::of(url, data)? {
        Backend::Sqlite(path) => Arc::new(sqlite::SqliteStore::open(&path, readers, migrations).await?),
        Backend::Postgres => Arc::new(postgres::PostgresStore::open(url, limits, migrations).await?),
    })
}

/// The file of a store in SQLite, whether it is there or not.
#[must_use]
pub fn sqlite_file(url: &Secret, data: &Path) -> Option<PathBuf> {
    if let Ok(Backend::Sqlite(path)) = Backend::of(url, data) { Some(path) } else { None }
}

/// Brings the tables of the store that the URL names up to date, apart from any service.
///
/// # Errors
/// As [`open`].
pub async fn migrate(url: &Secret, data: &Path, limits: &StoreLimits) -> Result<Migrated, OpenError> {
    match Backend::of(url, data)? {
        Backend::Sqlite(path) => {
            let options = mesh_sqlite::Options::new(1, "migrate");
            let file = mesh_sqlite::File::open(&path, sqlite::service(), &options, Migrations::Run).await?;
            file.close().await.map_err(|error| OpenError(error.to_string()))
        }
        Backend::Postgres => {
            Ok(postgres::server(url, postgres::SCHEMA, limits, Migrations::Run).await?.migrated().clone())
        }
    }
}

/// The store that the URL names as records, for moving house.
///
/// # Errors
/// As [`open`].
pub async fn house(
    url: &Secret,
    data: &Path,
    limits: &StoreLimits,
    migrations: Migrations,
) -> Result<Box<dyn House>, OpenError> {
    Ok(match Backend::of(url, data)? {
        Backend::Sqlite(path) => {
            let options = mesh_sqlite::Options::new(1, "moving");
            let file = mesh_sqlite::File::open(&path, sqlite::service(), &options, migrations).await?;
            let (writer, readers) = file.pools(&options).await?;
            Box::new(mesh_sqlite::moving::Tables::new(moving::KINDS, writer, readers))
        }
        Backend::Postgres => {
            let server = postgres::server(url, postgres::SCHEMA, limits, migrations).await?;
            Box::new(mesh_postgres::moving::Tables::new(moving::KINDS, server))
        }
    })
}

/// The file that the URL names, for a backup.
///
/// # Errors
/// When it names a server, or when there is no such file.
pub fn file(url: &Secret, data: &Path) -> Result<PathBuf, OpenError> {
    match Backend::of(url, data)? {
        Backend::Sqlite(path) if path.is_file() => Ok(path),
        Backend::Sqlite(path) => Err(OpenError(format!("{} is no file: there is nothing to back up", path.display()))),
        Backend::Postgres => {
            let message = "user.store_url names a server: back it up with its own tools, or use `switchboard export`";
            Err(OpenError(message.to_owned()))
        }
    }
}

/// What a URL names. The one place that knows which backends there are.
#[derive(Debug)]
enum Backend {
    Sqlite(PathBuf),
    Postgres,
}

impl Backend {
    /// An empty URL is SQLite in the data folder.
    fn of(url: &Secret, data: &Path) -> Result<Self, OpenError> {
        match url.expose().split_once(':') {
            None if url.is_empty() => Ok(Self::Sqlite(data.join("users.db"))),
            Some(("sqlite", rest)) => Ok(Self::Sqlite(sqlite_path(rest)?)),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            _ => {
                let message = "user.store_url must be empty or begin with sqlite:, postgres: or postgresql:";
                Err(OpenError(message.to_owned()))
            }
        }
    }
}

/// Preferences as the stores keep them.
fn preferences_json(preferences: &Preferences) -> Result<String, StoreError> {
    serde_json::to_string(preferences).map_err(|error| StoreError::Broken(error.into()))
}

fn sqlite_path(rest: &str) -> Result<PathBuf, OpenError> {
    mesh_sqlite::file_of(rest).ok_or_else(|| {
        OpenError("user.store_url must name a file, as in sqlite:/var/lib/switchboard/users.db".to_owned())
    })
}
