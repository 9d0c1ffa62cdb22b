//! Statements about the outbox.

use mesh::time::Millis;
use sqlx::{Error, PgConnection};
use uuid::Uuid;

use crate::{
    account::UserId,
    outbox::{Delivery, News},
};

pub(super) async fn insert(write: &mut PgConnection, delivery: &Delivery, due_at: Millis) -> Result<(), Error> {
    let (created, first_name, last_name) = match &delivery.news {
        News::Created { first_name, last_name } => (true, first_name.as_str(), last_name.as_str()),
        News::Renamed => (false, "", ""),
    };
    sqlx::query(
        "INSERT INTO outbox (user_id, username_version, username, created, first_name, last_name, attempts, due_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(delivery.user_id.0)
    .bind(delivery.version)
    .bind(&delivery.username)
    .bind(created)
    .bind(first_name)
    .bind(last_name)
    .bind(i64::from(delivery.attempts))
    .bind(due_at.0)
    .execute(write)
    .await?;
    Ok(())
}

pub(super) async fn claim(
    write: &mut PgConnection,
    now: Millis,
    until: Millis,
    limit: u32,
) -> Result<Vec<UserId>, Error> {
    // The array is made once, before the update; what another worker is claiming right now is passed over. Rows that
    // this statement has locked keep their `ctid`.
    let users: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE outbox SET due_at = $2 WHERE ctid = ANY (ARRAY (
             SELECT one.ctid FROM outbox AS one
             WHERE one.due_at <= $1 AND NOT EXISTS (
                 SELECT 1 FROM outbox AS earlier
                 WHERE earlier.user_id = one.user_id AND earlier.username_version < one.username_version)
             ORDER BY one.due_at LIMIT $3 FOR UPDATE OF one SKIP LOCKED))
         RETURNING user_id",
    )
    .bind(now.0)
    .bind(until.0)
    .bind(i64::from(limit))
    .fetch_all(write)
    .await?;
    Ok(users.into_iter().map(UserId).collect())
}

pub(super) async fn next(read: &mut PgConnection, user: UserId) -> Result<Option<Delivery>, Error> {
    sqlx::query_as(
        "SELECT user_id, username_version, username, created, first_name, last_name, attempts
         FROM outbox WHERE user_id = $1 ORDER BY username_version LIMIT 1",
    )
    .bind(user.0)
    .fetch_optional(read)
    .await
}

pub(super) async fn delivered(write: &mut PgConnection, user: UserId, version: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM outbox WHERE user_id = $1 AND username_version = $2")
        .bind(user.0)
        .bind(version)
        .execute(write)
        .await?;
    Ok(())
}

pub(super) async fn postpone(write: &mut PgConnection, user: UserId, version: i64, until: Millis) -> Result<(), Error> {
    sqlx::query("UPDATE outbox SET attempts = attempts + 1, due_at = $3 WHERE user_id = $1 AND username_version = $2")
        .bind(user.0)
        .bind(version)
        .bind(until.0)
        .execute(write)
        .await?;
    Ok(())
}
