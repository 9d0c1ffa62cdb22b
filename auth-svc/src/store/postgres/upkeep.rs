//! Forgetting what has expired, a little at a time. What another replica is forgetting, or somebody is using, is left.

use mesh::time::Millis;
use sqlx::{Error, PgConnection};

const FORGET: [&str; 8] = [
    "DELETE FROM sessions WHERE id = ANY (ARRAY (
         SELECT id FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM revocations WHERE number = ANY (ARRAY (
         SELECT number FROM revocations WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM spent_ws_tokens WHERE jti = ANY (ARRAY (
         SELECT jti FROM spent_ws_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    // Locked rows stay where they are, so the place of each will do.
    "DELETE FROM trusted_devices WHERE ctid = ANY (ARRAY (
         SELECT ctid FROM trusted_devices WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM invitations WHERE id = ANY (ARRAY (
         SELECT id FROM invitations WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM api_keys WHERE id = ANY (ARRAY (
         SELECT id FROM api_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM mail_tokens WHERE hash = ANY (ARRAY (
         SELECT hash FROM mail_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM mail_records WHERE id = ANY (ARRAY (
         SELECT id FROM mail_records WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
];

pub(super) async fn prune(write: &mut PgConnection, now: Millis, limit: u32) -> Result<u64, Error> {
    let mut gone = 0;
    for statement in FORGET {
        gone += sqlx::query(statement).bind(now.0).bind(i64::from(limit)).execute(&mut *write).await?.rows_affected();
    }
    Ok(gone)
}

pub(super) async fn check(read: &mut PgConnection) -> Result<(), Error> {
    // A table is read, not only a constant, so that a database without our tables is noticed.
    sqlx::query_scalar::<_, i64>("SELECT number FROM revocation_head").fetch_one(read).await?;
    Ok(())
}
