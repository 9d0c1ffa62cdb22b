//! Forgetting what has expired, a little at a time, so that no write waits long for it.

use mesh::time::Millis;
use sqlx::SqlitePool;

use super::Write;
use crate::store::Stored;

const FORGET: [&str; 8] = [
    "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= ? LIMIT ? + 0)",
    "DELETE FROM revocations WHERE number IN (SELECT number FROM revocations WHERE expires_at <= ? LIMIT ? + 0)",
    "DELETE FROM spent_ws_tokens WHERE jti IN (SELECT jti FROM spent_ws_tokens WHERE expires_at <= ? LIMIT ? + 0)",
    "DELETE FROM trusted_devices WHERE (user_id, device_id) IN (
         SELECT user_id, device_id FROM trusted_devices WHERE expires_at <= ? LIMIT ? + 0)",
    "DELETE FROM invitations WHERE id IN (SELECT id FROM invitations WHERE expires_at <= ? LIMIT ? + 0)",
    "DELETE FROM api_keys WHERE id IN (SELECT id FROM api_keys WHERE expires_at <= ? LIMIT ? + 0)",
    "DELETE FROM mail_tokens WHERE hash IN (SELECT hash FROM mail_tokens WHERE expires_at <= ? LIMIT ? + 0)",
    "DELETE FROM mail_records WHERE id IN (SELECT id FROM mail_records WHERE expires_at <= ? LIMIT ? + 0)",
];

pub(super) async fn any_expired(readers: &SqlitePool, now: Millis) -> Stored<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sessions WHERE expires_at <= ?1)
             OR EXISTS (SELECT 1 FROM revocations WHERE expires_at <= ?1)
             OR EXISTS (SELECT 1 FROM spent_ws_tokens WHERE expires_at <= ?1)
             OR EXISTS (SELECT 1 FROM trusted_devices WHERE expires_at <= ?1)
             OR EXISTS (SELECT 1 FROM invitations WHERE expires_at <= ?1)
             OR EXISTS (SELECT 1 FROM api_keys WHERE expires_at <= ?1)
             OR EXISTS (SELECT 1 FROM mail_tokens WHERE expires_at <= ?1)
             OR EXISTS (SELECT 1 FROM mail_records WHERE expires_at <= ?1)",
    )
    .bind(now.0)
    .fetch_one(readers)
    .await?)
}

pub(super) async fn prune(mut write: Write, now: Millis, limit: u32) -> Stored<u64> {
    let mut gone = 0;
    for statement in FORGET {
        gone += sqlx::query(statement).bind(now.0).bind(limit).execute(&mut *write).await?.rows_affected();
    }
    write.commit().await?;
    Ok(gone)
}

pub(super) async fn check(readers: &SqlitePool) -> Stored<()> {
    // A table is read, not only a constant, so that a file that has gone bad is noticed.
    sqlx::query_scalar::<_, i64>("SELECT number FROM revocation_head").fetch_one(readers).await?;
    Ok(())
}
