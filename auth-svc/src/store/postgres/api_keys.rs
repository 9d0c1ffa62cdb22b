//! Statements about service accounts and their API keys.

use async_trait::async_trait;
use mesh::{identity::Scope, time::Millis};
use mesh_postgres::run;
use sqlx::{Error, FromRow, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, accounts, audit, ends, rows};
use crate::{
    account::{UserId, Username},
    api_key::{ApiKey, ApiKeyHash, LAST_USE_STEP, ServiceAccount},
    audit::{Actor, Entry},
    store::{ApiKeyStore, Created, KeyMade, NewApiKey, NewServiceAccount, Stored},
};

fn made_by(row: &PgRow) -> Result<Actor, Error> {
    let (kind, name): (&str, &str) = (row.try_get("made_by_kind")?, row.try_get("made_by")?);
    Actor::kept(kind, name).ok_or_else(|| rows::bad("made_by", "no actor"))
}

impl FromRow<'_, PgRow> for ServiceAccount {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.try_get("id").map(UserId)?,
            name: Username::kept(row.try_get("username")?),
            made_by: made_by(row)?,
            created_at: row.try_get("created_at").map(Millis)?,
        })
    }
}

impl FromRow<'_, PgRow> for ApiKey {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
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
impl ApiKeyStore for PostgresStore {
    async fn create_service_account(&self, new: &NewServiceAccount) -> Stored<Created> {
        Ok(run!(self.calls, transaction, db => create_account(db, new))?)
    }

    async fn service_accounts(&self, after: Option<Uuid>, limit: u32) -> Stored<Vec<ServiceAccount>> {
        Ok(run!(self.calls, statement, db => service_accounts(db, after, limit))?)
    }

    async fn create_api_key(&self, new: &NewApiKey) -> Stored<KeyMade> {
        Ok(run!(self.calls, transaction, db => create_key(db, new))?)
    }

    async fn use_api_key(&self, hash: &ApiKeyHash, now: Millis) -> Stored<Option<(ApiKey, Vec<String>)>> {
        Ok(run!(self.calls, statement, db => use_key(db, hash, now))?)
    }

    async fn api_key(&self, id: Uuid) -> Stored<Option<ApiKey>> {
        Ok(run!(self.calls, statement, db => by_id(db, id))?)
    }

    async fn api_keys(&self, account: UserId, after: Option<Uuid>, limit: u32) -> Stored<Vec<ApiKey>> {
        Ok(run!(self.calls, statement, db => of_account(db, account, after, limit))?)
    }

    async fn revoke_api_key(&self, id: Uuid, revoked_until: Millis, audit: &[Entry]) -> Stored<Option<i64>> {
        Ok(run!(self.calls, transaction, db => revoke(db, id, revoked_until, audit))?)
    }
}

async fn create_account(write: &mut PgConnection, new: &NewServiceAccount) -> Result<Created, Error> {
    let created = accounts::insert(write, &new.account).await?;
    if created != Created::Made {
        return Ok(created);
    }
    sqlx::query("INSERT INTO service_accounts (id, made_by_kind, made_by, created_at) VALUES ($1, $2, $3, $4)")
        .bind(new.account.id.0)
        .bind(new.made_by.kind())
        .bind(new.made_by.name())
        .bind(new.account.created_at.0)
        .execute(&mut *write)
        .await?;
    audit::insert(write, &new.audit).await?;
    Ok(created)
}

async fn service_accounts(
    read: &mut PgConnection,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<ServiceAccount>, Error> {
    // Each name is looked up by itself: a join might read all accounts for the few that are services.
    sqlx::query_as(
        "SELECT s.id, s.made_by_kind, s.made_by, s.created_at,
                (SELECT a.username FROM accounts AS a WHERE a.id = s.id) AS username
         FROM service_accounts AS s WHERE s.id < $1 ORDER BY s.id DESC LIMIT $2",
    )
    .bind(after.unwrap_or(Uuid::max()))
    .bind(i64::from(limit))
    .fetch_all(read)
    .await
}

async fn create_key(write: &mut PgConnection, new: &NewApiKey) -> Result<KeyMade, Error> {
    let key = &new.key;
    // Held until the end, so that of several keys each is counted before the next one is.
    let account: Option<Uuid> = sqlx::query_scalar("SELECT id FROM service_accounts WHERE id = $1 FOR UPDATE")
        .bind(key.account.0)
        .fetch_optional(&mut *write)
        .await?;
    if account.is_none() {
        return Ok(KeyMade::Missing);
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE user_id = $1 AND expires_at > $2")
        .bind(key.account.0)
        .bind(key.created_at.0)
        .fetch_one(&mut *write)
        .await?;
    if count >= i64::from(new.keys_max) {
        return Ok(KeyMade::Full);
    }
    sqlx::query(
        "INSERT INTO api_keys (id, user_id, hash, prefix, name, scopes, made_by_kind, made_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
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
    audit::insert(write, &new.audit).await?;
    Ok(KeyMade::Made)
}

async fn use_key(
    write: &mut PgConnection,
    hash: &ApiKeyHash,
    now: Millis,
) -> Result<Option<(ApiKey, Vec<String>)>, Error> {
    let row: Option<PgRow> = sqlx::query(
        "SELECT k.id, k.user_id, k.prefix, k.name, k.scopes, k.made_by_kind, k.made_by, k.created_at, k.expires_at,
                k.last_used_at, a.roles
         FROM api_keys AS k JOIN accounts AS a ON a.id = k.user_id WHERE k.hash = $1",
    )
    .bind(hash.0.as_slice())
    .fetch_optional(&mut *write)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (key, roles) = (ApiKey::from_row(&row)?, row.try_get("roles")?);
    let stale = now.minus(LAST_USE_STEP);
    if key.expires_at > now && key.last_used_at.is_none_or(|at| at <= stale) {
        sqlx::query("UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND coalesce(last_used_at, 0) <= $3")
            .bind(key.id)
            .bind(now.0)
            .bind(stale.0)
            .execute(write)
            .await?;
    }
    Ok(Some((key, roles)))
}

async fn by_id(read: &mut PgConnection, id: Uuid) -> Result<Option<ApiKey>, Error> {
    sqlx::query_as(
        "SELECT id, user_id, prefix, name, scopes, made_by_kind, made_by, created_at, expires_at, last_used_at
         FROM api_keys WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(read)
    .await
}

async fn of_account(
    read: &mut PgConnection,
    account: UserId,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<ApiKey>, Error> {
    sqlx::query_as(
        "SELECT id, user_id, prefix, name, scopes, made_by_kind, made_by, created_at, expires_at, last_used_at
         FROM api_keys WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(account.0)
    .bind(after.unwrap_or(Uuid::max()))
    .bind(i64::from(limit))
    .fetch_all(read)
    .await
}

async fn revoke(
    write: &mut PgConnection,
    id: Uuid,
    revoked_until: Millis,
    entries: &[Entry],
) -> Result<Option<i64>, Error> {
    let gone = sqlx::query("DELETE FROM api_keys WHERE id = $1").bind(id).execute(&mut *write).await?;
    if gone.rows_affected() == 0 {
        return Ok(None);
    }
    audit::insert(write, entries).await?;
    // The head is taken last: all who end a session anywhere wait for it until the commit.
    ends::revoke_one(write, id, revoked_until).await.map(Some)
}
