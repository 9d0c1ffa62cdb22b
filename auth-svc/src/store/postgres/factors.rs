//! Statements about second factors: authenticators, recovery codes, trusted devices.

use mesh::time::Millis;
use sqlx::{Error, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{audit, mails, rows::bad};
use crate::{
    account::UserId,
    audit::Entry,
    factor::{RecoveryHash, hold},
    mail::NewMail,
    store::{Factors, TotpAttempt, TotpConfirmation, TrustedDevice},
};

pub(super) async fn of(read: &mut PgConnection, user: UserId, now: Millis) -> Result<Factors, Error> {
    let row = sqlx::query(
        "SELECT (SELECT confirmed_at FROM totp_factors WHERE user_id = $1) AS confirmed_at,
                (SELECT count(*) FROM recovery_codes WHERE user_id = $1) AS codes,
                (SELECT count(*) FROM trusted_devices WHERE user_id = $1 AND expires_at > $2) AS devices",
    )
    .bind(user.0)
    .bind(now.0)
    .fetch_one(read)
    .await?;
    Ok(Factors {
        totp_confirmed_at: row.try_get::<Option<i64>, _>("confirmed_at")?.map(Millis),
        recovery_codes: count(&row, "codes")?,
        trusted_devices: count(&row, "devices")?,
    })
}

fn count(row: &PgRow, column: &str) -> Result<u32, Error> {
    row.try_get::<i64, _>(column)?.try_into().map_err(|error| bad(column, error))
}

pub(super) async fn plan(write: &mut PgConnection, user: UserId, sealed: &[u8], now: Millis) -> Result<bool, Error> {
    let planned = sqlx::query(
        "INSERT INTO totp_factors (user_id, sealed_secret, created_at, confirmed_at, last_step, failures, held_until)
         VALUES ($1, $2, $3, NULL, 0, 0, 0)
         ON CONFLICT (user_id) DO UPDATE SET sealed_secret = excluded.sealed_secret, created_at = excluded.created_at
         WHERE totp_factors.confirmed_at IS NULL",
    )
    .bind(user.0)
    .bind(sealed)
    .bind(now.0)
    .execute(write)
    .await?;
    Ok(planned.rows_affected() > 0)
}

pub(super) async fn planned(read: &mut PgConnection, user: UserId) -> Result<Option<Vec<u8>>, Error> {
    sqlx::query_scalar("SELECT sealed_secret FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NULL")
        .bind(user.0)
        .fetch_optional(read)
        .await
}

pub(super) async fn confirm(write: &mut PgConnection, confirmation: &TotpConfirmation) -> Result<bool, Error> {
    let confirmed = sqlx::query(
        "UPDATE totp_factors SET confirmed_at = $1, last_step = $2
         WHERE user_id = $3 AND sealed_secret = $4 AND confirmed_at IS NULL",
    )
    .bind(confirmation.now.0)
    .bind(confirmation.step)
    .bind(confirmation.user_id.0)
    .bind(confirmation.sealed_secret.as_slice())
    .execute(&mut *write)
    .await?;
    if confirmed.rows_affected() == 0 {
        return Ok(false);
    }
    replace_codes(write, confirmation.user_id, &confirmation.recovery_hashes).await?;
    mails::queue(write, &confirmation.mails).await?;
    audit::insert(write, &confirmation.audit).await?;
    Ok(true)
}

pub(super) async fn attempt(write: &mut PgConnection, user: UserId, now: Millis) -> Result<TotpAttempt, Error> {
    let row = sqlx::query(
        "SELECT sealed_secret, failures, held_until FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL
         FOR UPDATE",
    )
    .bind(user.0)
    .fetch_optional(&mut *write)
    .await?;
    let Some(row) = row else { return Ok(TotpAttempt::Missing) };
    let held_until = Millis(row.try_get("held_until")?);
    if held_until > now {
        return Ok(TotpAttempt::Held(held_until));
    }
    let failures = count(&row, "failures")?.saturating_add(1);
    sqlx::query("UPDATE totp_factors SET failures = $1, held_until = $2 WHERE user_id = $3")
        .bind(i64::from(failures))
        .bind(now.plus(hold(failures)).0)
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    Ok(TotpAttempt::Sealed(row.try_get("sealed_secret")?))
}

pub(super) async fn use_totp(write: &mut PgConnection, user: UserId, step: i64) -> Result<bool, Error> {
    let used = sqlx::query(
        "UPDATE totp_factors SET last_step = $1, failures = 0, held_until = 0
         WHERE user_id = $2 AND confirmed_at IS NOT NULL AND last_step < $3",
    )
    .bind(step)
    .bind(user.0)
    .bind(step)
    .execute(write)
    .await?;
    Ok(used.rows_affected() > 0)
}

pub(super) async fn use_recovery_code(
    write: &mut PgConnection,
    user: UserId,
    hash: &RecoveryHash,
    entries: &[Entry],
) -> Result<bool, Error> {
    let used = sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1 AND hash = $2")
        .bind(user.0)
        .bind(hash.0.as_slice())
        .execute(&mut *write)
        .await?;
    if used.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("UPDATE totp_factors SET failures = 0, held_until = 0 WHERE user_id = $1")
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    audit::insert(write, entries).await?;
    Ok(true)
}

pub(super) async fn replace_recovery_codes(
    write: &mut PgConnection,
    user: UserId,
    hashes: &[RecoveryHash],
    entries: &[Entry],
    mails: &[NewMail],
) -> Result<bool, Error> {
    let counts: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL)",
    )
    .bind(user.0)
    .fetch_one(&mut *write)
    .await?;
    if !counts {
        return Ok(false);
    }
    replace_codes(write, user, hashes).await?;
    mails::queue(write, mails).await?;
    audit::insert(write, entries).await?;
    Ok(true)
}

async fn replace_codes(write: &mut PgConnection, user: UserId, hashes: &[RecoveryHash]) -> Result<(), Error> {
    forget_codes(write, user).await?;
    for hash in hashes {
        sqlx::query("INSERT INTO recovery_codes (user_id, hash) VALUES ($1, $2)")
            .bind(user.0)
            .bind(hash.0.as_slice())
            .execute(&mut *write)
            .await?;
    }
    Ok(())
}

async fn forget_codes(write: &mut PgConnection, user: UserId) -> Result<(), Error> {
    sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1").bind(user.0).execute(write).await?;
    Ok(())
}

pub(super) async fn remove(
    write: &mut PgConnection,
    user: UserId,
    entries: &[Entry],
    mails: &[NewMail],
) -> Result<bool, Error> {
    let removed = sqlx::query("DELETE FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL")
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    if removed.rows_affected() == 0 {
        return Ok(false);
    }
    forget_codes(write, user).await?;
    trust_none(write, user).await?;
    mails::queue(write, mails).await?;
    audit::insert(write, entries).await?;
    Ok(true)
}

pub(super) async fn trust(write: &mut PgConnection, device: &TrustedDevice) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO trusted_devices (user_id, device_id, created_at, expires_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (user_id, device_id) DO UPDATE SET created_at = excluded.created_at,
                                                        expires_at = excluded.expires_at",
    )
    .bind(device.user_id.0)
    .bind(device.device_id)
    .bind(device.now.0)
    .bind(device.expires_at.0)
    .execute(&mut *write)
    .await?;
    sqlx::query(
        "DELETE FROM trusted_devices WHERE user_id = $1 AND device_id IN (
             SELECT device_id FROM trusted_devices WHERE user_id = $1
             ORDER BY created_at DESC, device_id OFFSET $2)",
    )
    .bind(device.user_id.0)
    .bind(i64::from(device.devices_max))
    .execute(&mut *write)
    .await?;
    audit::insert(write, &device.audit).await?;
    Ok(())
}

pub(super) async fn is_trusted(
    read: &mut PgConnection,
    user: UserId,
    device: Uuid,
    now: Millis,
) -> Result<bool, Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM trusted_devices WHERE user_id = $1 AND device_id = $2 AND expires_at > $3)",
    )
    .bind(user.0)
    .bind(device)
    .bind(now.0)
    .fetch_one(read)
    .await
}

/// Trusts no device of an account any more; how many there were.
pub(super) async fn trust_none(write: &mut PgConnection, user: UserId) -> Result<u64, Error> {
    let gone = sqlx::query("DELETE FROM trusted_devices WHERE user_id = $1").bind(user.0).execute(write).await?;
    Ok(gone.rows_affected())
}

pub(super) async fn forget_devices(write: &mut PgConnection, user: UserId, entries: &[Entry]) -> Result<u32, Error> {
    let gone = trust_none(write, user).await?;
    if gone > 0 {
        audit::insert(write, entries).await?;
    }
    Ok(u32::try_from(gone).unwrap_or(u32::MAX))
}
