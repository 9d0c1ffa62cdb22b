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
    time::Millis,
};

use crate::profile::{Change, NewProfile, OwnProfile, Preferences, Profile, Rename, UserId};

#[cfg(test)]
mod contract;
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

/// What a call to the store gives.
pub type Stored<T> = Result<T, StoreError>;

/// Where people are kept. Each is one row, so no call needs a transaction over several of them. `updated_at` never goes
/// back, also when the clock does.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Makes a profile. One of this id that is there stays as it is and is answered, with one exception: first and last
    /// name are filled in where a rename made the profile and nobody has said them since.
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

    /// Whether the store answers.
    async fn check(&self) -> Stored<()>;

    /// Finishes what is being written and closes. Calls after it fail.
    async fn close(&self);
}

/// Opens the store that the URL names; an empty one is SQLite in the data folder. The one place that knows which
/// backends there are.
///
/// # Errors
/// One sentence that says what is wrong with it and what to do.
pub async fn open(url: &Secret, data: &Path, readers: u32, limits: &StoreLimits) -> Result<Arc<dyn Store>, OpenError> {
    let path = match url.expose().split_once(':') {
        None if url.is_empty() => data.join("users.db"),
        Some(("sqlite", rest)) => sqlite_path(rest)?,
        Some(("postgres" | "postgresql", _)) => return Ok(Arc::new(postgres::PostgresStore::open(url, limits).await?)),
        _ => {
            let message = "user.store_url must be empty or begin with sqlite:, postgres: or postgresql:";
            return Err(OpenError(message.to_owned()));
        }
    };
    Ok(Arc::new(sqlite::SqliteStore::open(&path, readers).await?))
}

/// Preferences as the stores keep them.
fn preferences_json(preferences: &Preferences) -> Result<String, StoreError> {
    serde_json::to_string(preferences).map_err(|error| StoreError::Broken(error.into()))
}

fn sqlite_path(rest: &str) -> Result<PathBuf, OpenError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.starts_with(':') || path.contains('?') {
        let message = "user.store_url must name a file, as in sqlite:/var/lib/switchboard/users.db";
        return Err(OpenError(message.to_owned()));
    }
    Ok(path.into())
}
