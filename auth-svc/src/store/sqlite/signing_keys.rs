//! Statements about the keys that sign access tokens. There are a handful of rows, so they are read as they lie.

use async_trait::async_trait;
use mesh::time::Millis;
use sqlx::{FromRow, Row as _, sqlite::SqliteRow};

use super::{SqliteStore, audit};
use crate::store::{KEYS_MAX, KeyRecord, KeyRotated, KeyRotation, KeyStore, Stored};

impl FromRow<'_, SqliteRow> for KeyRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
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
impl KeyStore for SqliteStore {
    async fn signing_keys(&self) -> Stored<Vec<KeyRecord>> {
        Ok(sqlx::query_as("SELECT * FROM signing_keys ORDER BY number").fetch_all(&self.readers).await?)
    }

    async fn rotate_key(&self, rotation: &KeyRotation) -> Stored<KeyRotated> {
        let mut write = self.write().await?;
        let key = &rotation.key;
        let (last, count): (i64, i64) = sqlx::query_as("SELECT coalesce(max(number), 0), count(*) FROM signing_keys")
            .fetch_one(&mut *write)
            .await?;
        if last + 1 != key.number {
            return Ok(KeyRotated::Overtaken);
        }
        if !rotation.at_once && count >= KEYS_MAX {
            return Ok(KeyRotated::Full);
        }
        // A token's life is noted in seconds, times in milliseconds.
        let (life, leeway) = if rotation.at_once { (0, 0) } else { (1_000, Millis(0).plus(rotation.leeway).0) };
        sqlx::query(
            "UPDATE signing_keys SET leaves_at = ?1 + token_secs * ?2 + ?3
             WHERE leaves_at IS NULL OR leaves_at > ?1 + token_secs * ?2 + ?3",
        )
        .bind(key.signs_from.0)
        .bind(life)
        .bind(leeway)
        .execute(&mut *write)
        .await?;
        sqlx::query(
            "INSERT INTO signing_keys (number, public, sealed, created_at, signs_from, token_secs)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(key.number)
        .bind(&key.public)
        .bind(&key.sealed)
        .bind(key.created_at.0)
        .bind(key.signs_from.0)
        .bind(key.token_secs)
        .execute(&mut *write)
        .await?;
        audit::insert(&mut write, &rotation.audit).await?;
        write.commit().await?;
        Ok(KeyRotated::Rotated)
    }

    async fn note_token_life(&self, secs: i64) -> Stored<()> {
        sqlx::query("UPDATE signing_keys SET token_secs = ?1 WHERE leaves_at IS NULL AND token_secs < ?1")
            .bind(secs)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn forget_keys(&self, now: Millis) -> Stored<()> {
        sqlx::query("DELETE FROM signing_keys WHERE leaves_at <= ?").bind(now.0).execute(&self.writer).await?;
        Ok(())
    }
}
