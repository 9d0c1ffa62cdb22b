//! Statements about the outbox.

use mesh::time::Millis;
use sqlx::{SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::Write;
use crate::{
    account::UserId,
    outbox::{Delivery, News},
    store::Stored,
};

pub(super) async fn insert(write: &mut SqliteConnection, delivery: &Delivery, due_at: Millis) -> Stored<()> {
    let (created, first_name, last_name) = match &delivery.news {
        News::Created { first_name, last_name } => (true, first_name.as_str(), last_name.as_str()),
        News::Renamed => (false, "", ""),
    };
    sqlx::query(
        "INSERT INTO outbox (user_id, username_version, username, created, first_name, last_name, attempts, due_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(delivery.user_id.0)
    .bind(delivery.version)
    .bind(&delivery.username)
    .bind(created)
    .bind(first_name)
    .bind(last_name)
    .bind(delivery.attempts)
    .bind(due_at.0)
    .execute(write)
    .await?;
    Ok(())
}

pub(super) async fn any_due(readers: &SqlitePool, now: Millis) -> Stored<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM outbox WHERE due_at <= ?)")
        .bind(now.0)
        .fetch_one(readers)
        .await?)
}

pub(super) async fn claim(mut write: Write, now: Millis, until: Millis, limit: u32) -> Stored<Vec<UserId>> {
    let users: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE outbox SET due_at = ? WHERE (user_id, username_version) IN (
             SELECT user_id, username_version FROM outbox AS one
             WHERE due_at <= ? AND NOT EXISTS (
                 SELECT 1 FROM outbox AS earlier
                 WHERE earlier.user_id = one.user_id AND earlier.username_version < one.username_version)
             ORDER BY due_at LIMIT ? + 0)
         RETURNING user_id",
    )
    .bind(until.0)
    .bind(now.0)
    .bind(limit)
    .fetch_all(&mut *write)
    .await?;
    write.commit().await?;
    Ok(users.into_iter().map(UserId).collect())
}

pub(super) async fn next(readers: &SqlitePool, user: UserId) -> Stored<Option<Delivery>> {
    Ok(sqlx::query_as("SELECT * FROM outbox WHERE user_id = ? ORDER BY username_version LIMIT 1")
        .bind(user.0)
        .fetch_optional(readers)
        .await?)
}

pub(super) async fn delivered(writer: &SqlitePool, user: UserId, version: i64) -> Stored<()> {
    sqlx::query("DELETE FROM outbox WHERE user_id = ? AND username_version = ?")
        .bind(user.0)
        .bind(version)
        .execute(writer)
        .await?;
    Ok(())
}

pub(super) async fn postpone(writer: &SqlitePool, user: UserId, version: i64, until: Millis) -> Stored<()> {
    sqlx::query("UPDATE outbox SET attempts = attempts + 1, due_at = ? WHERE user_id = ? AND username_version = ?")
        .bind(until.0)
        .bind(user.0)
        .bind(version)
        .execute(writer)
        .await?;
    Ok(())
}
