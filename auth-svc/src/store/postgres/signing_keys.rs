//! Statements about the keys that sign access tokens. There are a handful of rows, so they are read as they lie.

use async_trait::async_trait;
use mesh::time::Millis;
use mesh_postgres::run;
use sqlx::{Error, FromRow, PgConnection, Row as _, postgres::PgRow};

use super::{PostgresStore, audit};
use crate::store::{KEYS_MAX, KeyRecord, KeyRotated, KeyRotation, KeyStore, Stored};

impl FromRow<'_, PgRow> for KeyRecord {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        Ok(Self {
            number: row.try_get("number")?,
            public: row.try_get("public")?,
            sealed: row.try_get("sealed")?,
            created_at: row.try_get("created_at").map(Millis)?,
            signs_from: row.try_get("signs_from").map(Millis)?,
            leaves_at: row.try_get::<Option<i64>, _>("leaves_at")?.map(Millis),
            token_secs: row.try_get("token_secs")?,
        })
    }
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn signing_keys(&self) -> Stored<Vec<KeyRecord>> {
        Ok(run!(self.calls, statement, db => all(db))?)
    }

    async fn rotate_key(&self, rotation: &KeyRotation) -> Stored<KeyRotated> {
        Ok(run!(self.calls, transaction, db => rotate(db, rotation))?)
    }

    async fn note_token_life(&self, secs: i64) -> Stored<()> {
        Ok(run!(self.calls, statement, db => note_token_life(db, secs))?)
    }

    async fn forget_keys(&self, now: Millis) -> Stored<()> {
        Ok(run!(self.calls, statement, db => forget(db, now))?)
    }
}

async fn all(read: &mut PgConnection) -> Result<Vec<KeyRecord>, Error> {
    sqlx::query_as(
        "SELECT number, public, sealed, created_at, signs_from, leaves_at, token_secs FROM signing_keys ORDER BY number",
    )
    .fetch_all(read)
    .await
}

async fn rotate(write: &mut PgConnection, rotation: &KeyRotation) -> Result<KeyRotated, Error> {
    let key = &rotation.key;
    let (last, count): (i64, i64) =
        sqlx::query_as("SELECT coalesce(max(number), 0), count(*) FROM signing_keys").fetch_one(&mut *write).await?;
    if last + 1 != key.number {
        return Ok(KeyRotated::Overtaken);
    }
    if !rotation.at_once && count >= KEYS_MAX {
        return Ok(KeyRotated::Full);
    }
    // Of two who add a key of one number, the second waits here for the first one's commit, and adds none.
    let made = sqlx::query(
        "INSERT INTO signing_keys (number, public, sealed, created_at, signs_from, token_secs)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(key.number)
    .bind(&key.public)
    .bind(&key.sealed)
    .bind(key.created_at.0)
    .bind(key.signs_from.0)
    .bind(key.token_secs)
    .execute(&mut *write)
    .await?;
    if made.rows_affected() == 0 {
        return Ok(KeyRotated::Overtaken);
    }
    // A token's life is noted in seconds, times in milliseconds.
    let (life, leeway) = if rotation.at_once { (0, 0) } else { (1_000, Millis(0).plus(rotation.leeway).0) };
    sqlx::query(
        "UPDATE signing_keys SET leaves_at = $2 + token_secs * $3 + $4
         WHERE number < $1 AND (leaves_at IS NULL OR leaves_at > $2 + token_secs * $3 + $4)",
    )
    .bind(key.number)
    .bind(key.signs_from.0)
    .bind(life)
    .bind(leeway)
    .execute(&mut *write)
    .await?;
    audit::insert(write, &rotation.audit).await?;
    Ok(KeyRotated::Rotated)
}

async fn note_token_life(write: &mut PgConnection, secs: i64) -> Result<(), Error> {
    sqlx::query("UPDATE signing_keys SET token_secs = $1 WHERE leaves_at IS NULL AND token_secs < $1")
        .bind(secs)
        .execute(write)
        .await?;
    Ok(())
}

async fn forget(write: &mut PgConnection, now: Millis) -> Result<(), Error> {
    sqlx::query("DELETE FROM signing_keys WHERE leaves_at <= $1").bind(now.0).execute(write).await?;
    Ok(())
}
