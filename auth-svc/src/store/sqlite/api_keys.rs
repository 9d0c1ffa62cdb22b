//! Statements about service accounts and their API keys.

use async_trait::async_trait;
use mesh::{identity::Scope, time::Millis};
use sqlx::{FromRow, Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, accounts, audit, ends, rows};
use crate::{
    account::{UserId, Username},
    api_key::{ApiKey, ApiKeyHash, LAST_USE_STEP, ServiceAccount},
    audit::{Actor, Entry},
    store::{ApiKeyStore, Created, KeyMade, NewApiKey, NewServiceAccount, Stored},
};

fn made_by(row: &SqliteRow) -> Result<Actor, sqlx::Error> {
    let (kind, name): (&str, &str) = (row.try_get("made_by_kind")?, row.try_get("made_by")?);
    Actor::kept(kind, name).ok_or_else(|| rows::bad("made_by", "no actor"))
}

impl FromRow<'_, SqliteRow> for ServiceAccount {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id").map(UserId)?,
            name: Username::kept(row.try_get("username")?),
            made_by: made_by(row)?,
            created_at: row.try_get("created_at").map(Millis)?,
        })
    }
}

impl FromRow<'_, SqliteRow> for ApiKey {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            account: row.try_get("user_id").map(UserId)?,
            prefix: row.try_get("prefix")?,
            name: row.try_get("name")?,
            scopes: Scope::split(row.try_get("scopes")?),
            made_by: made_by(row)?,
            created_at: row.try_get("created_at").map(Millis)?,
            expires_at: row.try_get("expires_at").map(Millis)?,
            last_used_at: row.try_get::<Option<i64>, _>("last_used_at")?.map(Millis),
        })
    }
}

#[async_trait]
impl ApiKeyStore for SqliteStore {
    async fn create_service_account(&self, new: &NewServiceAccount) -> Stored<Created> {
        let mut write = self.write().await?;
        let created = accounts::insert(&mut write, &new.account).await?;
        if created != Created::Made {
            return Ok(created);
        }
        sqlx::query("INSERT INTO service_accounts (id, made_by_kind, made_by, created_at) VALUES (?, ?, ?, ?)")
            .bind(new.account.id.0)
            .bind(new.made_by.kind())
            .bind(new.made_by.name())
            .bind(new.account.created_at.0)
            .execute(&mut *write)
            .await?;
        audit::insert(&mut write, &new.audit).await?;
        write.commit().await?;
        Ok(created)
    }

    async fn service_accounts(&self, after: Option<Uuid>, limit: u32) -> Stored<Vec<ServiceAccount>> {
        Ok(sqlx::query_as(
            "SELECT s.*, a.username FROM service_accounts AS s JOIN accounts AS a ON a.id = s.id
             WHERE s.id < ? ORDER BY s.id DESC LIMIT ? + 0",
        )
        .bind(after.unwrap_or(Uuid::max()))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?)
    }

    async fn create_api_key(&self, new: &NewApiKey) -> Stored<KeyMade> {
        let (mut write, key) = (self.write().await?, &new.key);
        let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM service_accounts WHERE id = ?)")
            .bind(key.account.0)
            .fetch_one(&mut *write)
            .await?;
        if !there {
            return Ok(KeyMade::Missing);
        }
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE user_id = ? AND expires_at > ?")
            .bind(key.account.0)
            .bind(key.created_at.0)
            .fetch_one(&mut *write)
            .await?;
        if count >= i64::from(new.keys_max) {
            return Ok(KeyMade::Full);
        }
        sqlx::query(
            "INSERT INTO api_keys (id, user_id, hash, prefix, name, scopes, made_by_kind, made_by, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(key.id)
        .bind(key.account.0)
        .bind(new.hash.0.as_slice())
        .bind(&key.prefix)
        .bind(&key.name)
        .bind(Scope::join(&key.scopes))
        .bind(key.made_by.kind())
        .bind(key.made_by.name())
        .bind(key.created_at.0)
        .bind(key.expires_at.0)
        .execute(&mut *write)
        .await?;
        audit::insert(&mut write, &new.audit).await?;
        write.commit().await?;
        Ok(KeyMade::Made)
    }

    async fn use_api_key(&self, hash: &ApiKeyHash, now: Millis) -> Stored<Option<(ApiKey, Vec<String>)>> {
        let row: Option<SqliteRow> = sqlx::query(
            "SELECT k.*, a.roles FROM api_keys AS k JOIN accounts AS a ON a.id = k.user_id WHERE k.hash = ?",
        )
        .bind(hash.0.as_slice())
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (key, roles) = (ApiKey::from_row(&row)?, rows::roles(row.try_get("roles")?)?);
        // A look at what was read first: most of the time the writer is left alone.
        let stale = now.minus(LAST_USE_STEP);
        if key.expires_at > now && key.last_used_at.is_none_or(|at| at <= stale) {
            sqlx::query("UPDATE api_keys SET last_used_at = ? WHERE id = ? AND coalesce(last_used_at, 0) <= ?")
                .bind(now.0)
                .bind(key.id)
                .bind(stale.0)
                .execute(&self.writer)
                .await?;
        }
        Ok(Some((key, roles)))
    }

    async fn api_key(&self, id: Uuid) -> Stored<Option<ApiKey>> {
        Ok(sqlx::query_as("SELECT * FROM api_keys WHERE id = ?").bind(id).fetch_optional(&self.readers).await?)
    }

    async fn api_keys(&self, account: UserId, after: Option<Uuid>, limit: u32) -> Stored<Vec<ApiKey>> {
        Ok(sqlx::query_as("SELECT * FROM api_keys WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ? + 0")
            .bind(account.0)
            .bind(after.unwrap_or(Uuid::max()))
            .bind(limit)
            .fetch_all(&self.readers)
            .await?)
    }

    async fn revoke_api_key(&self, id: Uuid, revoked_until: Millis, entries: &[Entry]) -> Stored<Option<i64>> {
        let mut write = self.write().await?;
        let gone = sqlx::query("DELETE FROM api_keys WHERE id = ?").bind(id).execute(&mut *write).await?;
        if gone.rows_affected() == 0 {
            return Ok(None);
        }
        let number = ends::revoke(&mut write, id, revoked_until).await?;
        audit::insert(&mut write, entries).await?;
        write.commit().await?;
        Ok(Some(number))
    }
}
