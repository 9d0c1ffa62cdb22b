//! The store on SQLite: one writer connection, so that writes come one after the other, and a bounded pool of readers.
//! WAL with `synchronous=FULL`: what is acknowledged is on disk. Opening is `mesh-sqlite`'s, rows are in
//! `sqlite/rows.rs`.
//!
//! A write is one statement, so it is atomic without a transaction around it, also when another process has the file
//! open.

use std::path::Path;

use async_trait::async_trait;
use mesh::{migration::Migrations, time::Millis};
use mesh_sqlite::{File, Options, Service};
use sqlx::SqlitePool;

use super::{OpenError, Store, StoreError, Stored};
use crate::profile::{Change, NewProfile, OwnProfile, Profile, Rename, UserId};

mod rows;

/// What the threads are called.
const NAME: &str = "people";

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
}

pub(super) fn service() -> Service {
    Service {
        name: "user-svc",
        store: "profile store",
        variable: "USER_STORE_URL",
        migrations_table: "_user_migrations",
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
    async fn create(&self, new: &NewProfile, now: Millis) -> Stored<Profile> {
        let made: Option<Profile> = sqlx::query_as(
            "INSERT INTO people (id, username, username_version, first_name, last_name, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
             ON CONFLICT (id) DO UPDATE
             SET first_name = coalesce(people.first_name, excluded.first_name),
                 last_name = coalesce(people.last_name, excluded.last_name),
                 updated_at = max(people.updated_at, excluded.updated_at)
             WHERE people.first_name IS NULL OR people.last_name IS NULL
             RETURNING *",
        )
        .bind(new.id.0)
        .bind(&new.username)
        .bind(new.username_version)
        .bind(&new.first_name)
        .bind(&new.last_name)
        .bind(now.0)
        .fetch_optional(&self.writer)
        .await?;
        if let Some(profile) = made {
            return Ok(profile);
        }
        // It was there and whole. Rows are never taken away, so it still is.
        Ok(sqlx::query_as("SELECT * FROM people WHERE id = ?").bind(new.id.0).fetch_one(&self.readers).await?)
    }

    async fn rename(&self, rename: &Rename, now: Millis) -> Stored<()> {
        sqlx::query(
            "INSERT INTO people (id, username, username_version, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?4)
             ON CONFLICT (id) DO UPDATE
             SET username = excluded.username,
                 username_version = excluded.username_version,
                 updated_at = max(people.updated_at, excluded.updated_at)
             WHERE people.username_version < excluded.username_version AND people.erased_at IS NULL",
        )
        .bind(rename.id.0)
        .bind(&rename.username)
        .bind(rename.username_version)
        .bind(now.0)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    async fn profiles(&self, ids: &[UserId]) -> Stored<Vec<Profile>> {
        // One statement for any number of ids: they go in as a JSON array of hexadecimal text.
        let ids: Vec<_> = ids.iter().map(|id| id.0.simple().to_string()).collect();
        let ids = serde_json::Value::from(ids).to_string();
        Ok(sqlx::query_as(
            "SELECT id, username, first_name, last_name, bio, avatar_url, created_at, updated_at
             FROM people WHERE id IN (SELECT unhex(value) FROM json_each(?)) AND erased_at IS NULL",
        )
        .bind(ids)
        .fetch_all(&self.readers)
        .await?)
    }

    async fn own(&self, id: UserId) -> Stored<Option<OwnProfile>> {
        let found = sqlx::query_as("SELECT * FROM people WHERE id = ? AND erased_at IS NULL").bind(id.0);
        Ok(found.fetch_optional(&self.readers).await?)
    }

    async fn update(&self, id: UserId, change: &Change, now: Millis) -> Stored<Option<OwnProfile>> {
        // What is NULL keeps the column as it is at the moment of the write; no field has NULL for a value to set.
        Ok(sqlx::query_as(
            "UPDATE people
             SET first_name = coalesce(?2, first_name),
                 last_name = coalesce(?3, last_name),
                 bio = coalesce(?4, bio),
                 avatar_url = coalesce(?5, avatar_url),
                 preferences = coalesce(?6, preferences),
                 updated_at = max(updated_at, ?7)
             WHERE id = ?1 AND erased_at IS NULL
             RETURNING *",
        )
        .bind(id.0)
        .bind(&change.first_name)
        .bind(&change.last_name)
        .bind(&change.bio)
        .bind(&change.avatar_url)
        .bind(change.preferences.as_ref().map(super::preferences_json).transpose()?)
        .bind(now.0)
        .fetch_optional(&self.writer)
        .await?)
    }

    async fn erase(&self, id: UserId, now: Millis) -> Stored<()> {
        // No version is higher, so no rename that comes late counts.
        sqlx::query(
            "INSERT INTO people (id, username, username_version, first_name, last_name, created_at, updated_at, erased_at)
             VALUES (?1, '', ?2, '', '', ?3, ?3, ?3)
             ON CONFLICT (id) DO UPDATE
             SET username = '', username_version = excluded.username_version, first_name = '', last_name = '', bio = '',
                 avatar_url = '', preferences = '{}', created_at = excluded.created_at,
                 updated_at = excluded.updated_at, erased_at = excluded.erased_at
             WHERE people.erased_at IS NULL",
        )
        .bind(id.0)
        .bind(i64::MAX)
        .bind(now.0)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    async fn check(&self) -> Stored<()> {
        sqlx::query("SELECT 1 FROM people LIMIT 1").fetch_optional(&self.readers).await?;
        Ok(())
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
