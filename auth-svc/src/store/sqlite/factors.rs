//! Statements about second factors: authenticators, recovery codes, trusted devices.

use mesh::time::Millis;
use sqlx::{Row as _, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{Write, audit, mails};
use crate::{
    account::UserId,
    audit::Entry,
    factor::{RecoveryHash, hold},
    mail::NewMail,
    store::{Factors, Stored, TotpAttempt, TotpConfirmation, TrustedDevice},
};

pub(super) async fn of(readers: &SqlitePool, user: UserId, now: Millis) -> Stored<Factors> {
    let row = sqlx::query(
        "SELECT (SELECT confirmed_at FROM totp_factors WHERE user_id = ?1) AS confirmed_at,
                (SELECT count(*) FROM recovery_codes WHERE user_id = ?1) AS codes,
                (SELECT count(*) FROM trusted_devices WHERE user_id = ?1 AND expires_at > ?2) AS devices",
    )
    .bind(user.0)
    .bind(now.0)
    .fetch_one(readers)
    .await?;
    Ok(Factors {
        totp_confirmed_at: row.try_get::<Option<i64>, _>("confirmed_at")?.map(Millis),
        recovery_codes: row.try_get("codes")?,
        trusted_devices: row.try_get("devices")?,
    })
}

pub(super) async fn plan(writer: &SqlitePool, user: UserId, sealed: &[u8], now: Millis) -> Stored<bool> {
    let planned = sqlx::query(
        "INSERT INTO totp_factors (user_id, sealed_secret, created_at, confirmed_at, last_step, failures, held_until)
         VALUES (?, ?, ?, NULL, 0, 0, 0)
         ON CONFLICT (user_id) DO UPDATE SET sealed_secret = excluded.sealed_secret, created_at = excluded.created_at
         WHERE totp_factors.confirmed_at IS NULL",
    )
    .bind(user.0)
    .bind(sealed)
    .bind(now.0)
    .execute(writer)
    .await?;
    Ok(planned.rows_affected() > 0)
}

pub(super) async fn planned(readers: &SqlitePool, user: UserId) -> Stored<Option<Vec<u8>>> {
    Ok(sqlx::query_scalar("SELECT sealed_secret FROM totp_factors WHERE user_id = ? AND confirmed_at IS NULL")
        .bind(user.0)
        .fetch_optional(readers)
        .await?)
}

pub(super) async fn confirm(mut write: Write, confirmation: &TotpConfirmation) -> Stored<bool> {
    let confirmed = sqlx::query(
        "UPDATE totp_factors SET confirmed_at = ?, last_step = ?
         WHERE user_id = ? AND sealed_secret = ? AND confirmed_at IS NULL",
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
    replace_codes(&mut write, confirmation.user_id, &confirmation.recovery_hashes).await?;
    mails::queue(&mut write, &confirmation.mails).await?;
    audit::insert(&mut write, &confirmation.audit).await?;
    write.commit().await?;
    Ok(true)
}

pub(super) async fn attempt(mut write: Write, user: UserId, now: Millis) -> Stored<TotpAttempt> {
    let row = sqlx::query(
        "SELECT sealed_secret, failures, held_until FROM totp_factors WHERE user_id = ? AND confirmed_at IS NOT NULL",
    )
    .bind(user.0)
    .fetch_optional(&mut *write)
    .await?;
    let Some(row) = row else { return Ok(TotpAttempt::Missing) };
    let held_until = Millis(row.try_get("held_until")?);
    if held_until > now {
        return Ok(TotpAttempt::Held(held_until));
    }
    let failures: u32 = row.try_get::<u32, _>("failures")?.saturating_add(1);
    sqlx::query("UPDATE totp_factors SET failures = ?, held_until = ? WHERE user_id = ?")
        .bind(failures)
        .bind(now.plus(hold(failures)).0)
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(TotpAttempt::Sealed(row.try_get("sealed_secret")?))
}

pub(super) async fn use_totp(writer: &SqlitePool, user: UserId, step: i64) -> Stored<bool> {
    let used = sqlx::query(
        "UPDATE totp_factors SET last_step = ?, failures = 0, held_until = 0
         WHERE user_id = ? AND confirmed_at IS NOT NULL AND last_step < ?",
    )
    .bind(step)
    .bind(user.0)
    .bind(step)
    .execute(writer)
    .await?;
    Ok(used.rows_affected() > 0)
}

pub(super) async fn use_recovery_code(
    mut write: Write,
    user: UserId,
    hash: &RecoveryHash,
    entries: &[Entry],
) -> Stored<bool> {
    let used = sqlx::query("DELETE FROM recovery_codes WHERE user_id = ? AND hash = ?")
        .bind(user.0)
        .bind(hash.0.as_slice())
        .execute(&mut *write)
        .await?;
    if used.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("UPDATE totp_factors SET failures = 0, held_until = 0 WHERE user_id = ?")
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    audit::insert(&mut write, entries).await?;
    write.commit().await?;
    Ok(true)
}

pub(super) async fn replace_recovery_codes(
    mut write: Write,
    user: UserId,
    hashes: &[RecoveryHash],
    entries: &[Entry],
    mails: &[NewMail],
) -> Stored<bool> {
    let counts: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM totp_factors WHERE user_id = ? AND confirmed_at IS NOT NULL)")
            .bind(user.0)
            .fetch_one(&mut *write)
            .await?;
    if !counts {
        return Ok(false);
    }
    replace_codes(&mut write, user, hashes).await?;
    mails::queue(&mut write, mails).await?;
    audit::insert(&mut write, entries).await?;
    write.commit().await?;
    Ok(true)
}

async fn replace_codes(write: &mut SqliteConnection, user: UserId, hashes: &[RecoveryHash]) -> Stored<()> {
    forget_codes(write, user).await?;
    for hash in hashes {
        sqlx::query("INSERT INTO recovery_codes (user_id, hash) VALUES (?, ?)")
            .bind(user.0)
            .bind(hash.0.as_slice())
            .execute(&mut *write)
            .await?;
    }
    Ok(())
}

async fn forget_codes(write: &mut SqliteConnection, user: UserId) -> Stored<()> {
    sqlx::query("DELETE FROM recovery_codes WHERE user_id = ?").bind(user.0).execute(write).await?;
    Ok(())
}

pub(super) async fn remove(mut write: Write, user: UserId, entries: &[Entry], mails: &[NewMail]) -> Stored<bool> {
    let removed = sqlx::query("DELETE FROM totp_factors WHERE user_id = ? AND confirmed_at IS NOT NULL")
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    if removed.rows_affected() == 0 {
        return Ok(false);
    }
    forget_codes(&mut write, user).await?;
    trust_none(&mut write, user).await?;
    mails::queue(&mut write, mails).await?;
    audit::insert(&mut write, entries).await?;
    write.commit().await?;
    Ok(true)
}

pub(super) async fn trust(mut write: Write, device: &TrustedDevice) -> Stored<()> {
    sqlx::query(
        "INSERT INTO trusted_devices (user_id, device_id, created_at, expires_at) VALUES (?, ?, ?, ?)
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
        "DELETE FROM trusted_devices WHERE user_id = ?1 AND device_id IN (
             SELECT device_id FROM trusted_devices WHERE user_id = ?1
             ORDER BY created_at DESC, device_id LIMIT -1 OFFSET ?2)",
    )
    .bind(device.user_id.0)
    .bind(device.devices_max)
    .execute(&mut *write)
    .await?;
    audit::insert(&mut write, &device.audit).await?;
    write.commit().await?;
    Ok(())
}

pub(super) async fn is_trusted(readers: &SqlitePool, user: UserId, device: Uuid, now: Millis) -> Stored<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM trusted_devices WHERE user_id = ? AND device_id = ? AND expires_at > ?)",
    )
    .bind(user.0)
    .bind(device)
    .bind(now.0)
    .fetch_one(readers)
    .await?)
}

/// Trusts no device of an account any more; how many there were.
pub(super) async fn trust_none(write: &mut SqliteConnection, user: UserId) -> Stored<u64> {
    let gone = sqlx::query("DELETE FROM trusted_devices WHERE user_id = ?").bind(user.0).execute(write).await?;
    Ok(gone.rows_affected())
}

pub(super) async fn forget_devices(mut write: Write, user: UserId, entries: &[Entry]) -> Stored<u32> {
    let gone = trust_none(&mut write, user).await?;
    if gone > 0 {
        audit::insert(&mut write, entries).await?;
    }
    write.commit().await?;
    Ok(u32::try_from(gone).unwrap_or(u32::MAX))
}
