//! The statements and their rows. They name their columns: a newer version may have added some while this one still runs.
//! A row that cannot be what the table promises is a broken store, never a panic.

use mesh::time::Millis;
use sqlx::{Error, FromRow, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::profile::{Change, NewProfile, OwnProfile, Profile, Rename, UserId};

impl FromRow<'_, PgRow> for Profile {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        // NULL is a name that nobody has said yet.
        let name = |column| row.try_get::<Option<String>, _>(column).map(Option::unwrap_or_default);
        Ok(Self {
            id: UserId(row.try_get("id")?),
            username: row.try_get("username")?,
            first_name: name("first_name")?,
            last_name: name("last_name")?,
            bio: row.try_get("bio")?,
            avatar_url: row.try_get("avatar_url")?,
            created_at: Millis(row.try_get("created_at")?),
            updated_at: Millis(row.try_get("updated_at")?),
        })
    }
}

impl FromRow<'_, PgRow> for OwnProfile {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        let json: &str = row.try_get("preferences")?;
        let preferences = serde_json::from_str(json)
            .map_err(|error| Error::ColumnDecode { index: "preferences".to_owned(), source: error.into() })?;
        Ok(Self { profile: Profile::from_row(row)?, preferences })
    }
}

pub(super) async fn create(db: &mut PgConnection, new: &NewProfile, now: Millis) -> Result<Profile, Error> {
    let made: Option<Profile> = sqlx::query_as(
        "INSERT INTO people (id, username, username_version, first_name, last_name, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6)
         ON CONFLICT (id) DO UPDATE
         SET first_name = coalesce(people.first_name, excluded.first_name),
             last_name = coalesce(people.last_name, excluded.last_name),
             updated_at = greatest(people.updated_at, excluded.updated_at)
         WHERE people.first_name IS NULL OR people.last_name IS NULL
         RETURNING id, username, first_name, last_name, bio, avatar_url, created_at, updated_at",
    )
    .bind(new.id.0)
    .bind(&new.username)
    .bind(new.username_version)
    .bind(&new.first_name)
    .bind(&new.last_name)
    .bind(now.0)
    .fetch_optional(&mut *db)
    .await?;
    if let Some(profile) = made {
        return Ok(profile);
    }
    // It was there and whole. Rows are never taken away, so it still is.
    sqlx::query_as(
        "SELECT id, username, first_name, last_name, bio, avatar_url, created_at, updated_at FROM people WHERE id = $1",
    )
    .bind(new.id.0)
    .fetch_one(db)
    .await
}

pub(super) async fn rename(db: &mut PgConnection, rename: &Rename, now: Millis) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO people (id, username, username_version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (id) DO UPDATE
         SET username = excluded.username,
             username_version = excluded.username_version,
             updated_at = greatest(people.updated_at, excluded.updated_at)
         WHERE people.username_version < excluded.username_version AND people.erased_at IS NULL",
    )
    .bind(rename.id.0)
    .bind(&rename.username)
    .bind(rename.username_version)
    .bind(now.0)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn profiles(db: &mut PgConnection, ids: &[UserId]) -> Result<Vec<Profile>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as(
        "SELECT id, username, first_name, last_name, bio, avatar_url, created_at, updated_at
         FROM people WHERE id = ANY($1) AND erased_at IS NULL",
    )
    .bind(ids)
    .fetch_all(db)
    .await
}

pub(super) async fn own(db: &mut PgConnection, id: UserId) -> Result<Option<OwnProfile>, Error> {
    sqlx::query_as(
        "SELECT id, username, first_name, last_name, bio, avatar_url, preferences, created_at, updated_at
         FROM people WHERE id = $1 AND erased_at IS NULL",
    )
    .bind(id.0)
    .fetch_optional(db)
    .await
}

pub(super) async fn update(
    db: &mut PgConnection,
    id: UserId,
    change: &Change,
    preferences: Option<&str>,
    now: Millis,
) -> Result<Option<OwnProfile>, Error> {
    // What is NULL keeps the column as it is at the moment of the write; no field has NULL for a value to set.
    sqlx::query_as(
        "UPDATE people
         SET first_name = coalesce($2, first_name),
             last_name = coalesce($3, last_name),
             bio = coalesce($4, bio),
             avatar_url = coalesce($5, avatar_url),
             preferences = coalesce($6, preferences),
             updated_at = greatest(updated_at, $7)
         WHERE id = $1 AND erased_at IS NULL
         RETURNING id, username, first_name, last_name, bio, avatar_url, preferences, created_at, updated_at",
    )
    .bind(id.0)
    .bind(&change.first_name)
    .bind(&change.last_name)
    .bind(&change.bio)
    .bind(&change.avatar_url)
    .bind(preferences)
    .bind(now.0)
    .fetch_optional(db)
    .await
}

pub(super) async fn erase(db: &mut PgConnection, id: UserId, now: Millis) -> Result<(), Error> {
    // No version is higher, so no rename that comes late counts.
    sqlx::query(
        "INSERT INTO people (id, username, username_version, first_name, last_name, created_at, updated_at, erased_at)
         VALUES ($1, '', $2, '', '', $3, $3, $3)
         ON CONFLICT (id) DO UPDATE
         SET username = '', username_version = excluded.username_version, first_name = '', last_name = '', bio = '',
             avatar_url = '', preferences = '{}', created_at = excluded.created_at, updated_at = excluded.updated_at,
             erased_at = excluded.erased_at
         WHERE people.erased_at IS NULL",
    )
    .bind(id.0)
    .bind(i64::MAX)
    .bind(now.0)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn check(db: &mut PgConnection) -> Result<(), Error> {
    // The table is read, not only a constant, so that a database without it is noticed.
    sqlx::query("SELECT 1 FROM people LIMIT 1").fetch_optional(db).await?;
    Ok(())
}
