//! Statements that end sessions, each with its revocation in the same transaction, and the revocations themselves.
//!
//! Rows are locked in this order, so that no two transactions wait for one another: the account, its sessions by id, the
//! revocation head. The head is taken last, since all who end a session anywhere wait for it until the commit.

use mesh::time::Millis;
use sqlx::{Error, FromRow as _, PgConnection, Row as _};
use uuid::Uuid;

use super::{audit, factors, mails, rows::SessionRow};
use crate::{
    account::UserId,
    audit::Entry,
    mail::Kind,
    revocation::{Revocation, RevocationPage},
    session::{Session, SessionId},
    store::{Credentials, End, EndedSessions, PasswordChange, PasswordChanged, RoleChange, RolesSet, revoked_for},
};

/// Ends one live session, whose row is locked; the number of its revocation.
pub(super) async fn end(
    write: &mut PgConnection,
    session: &Session,
    now: Millis,
    revoked_until: Millis,
) -> Result<i64, Error> {
    sqlx::query("UPDATE sessions SET ended_at = $2 WHERE id = $1")
        .bind(session.id.0)
        .bind(now.0)
        .execute(&mut *write)
        .await?;
    revoke(write, std::slice::from_ref(session), revoked_until).await
}

/// Writes the revocations of ended sessions under the next numbers; the last of them.
async fn revoke(write: &mut PgConnection, sessions: &[Session], revoked_until: Millis) -> Result<i64, Error> {
    let ended: Vec<_> = sessions.iter().map(|session| (session.id.0, revoked_for(session, revoked_until))).collect();
    revoke_all(write, &ended).await
}

/// Writes the revocation of an API key under the next number, which it gives.
pub(super) async fn revoke_one(write: &mut PgConnection, id: Uuid, expires_at: Millis) -> Result<i64, Error> {
    revoke_all(write, &[(id, expires_at)]).await
}

/// Writes revocations by the ids of what they end and the times until which they are kept; the last number.
pub(super) async fn revoke_all(write: &mut PgConnection, ended: &[(Uuid, Millis)]) -> Result<i64, Error> {
    let count = i64::try_from(ended.len()).map_err(|error| Error::Encode(error.into()))?;
    let head: i64 = sqlx::query_scalar("UPDATE revocation_head SET number = number + $1 RETURNING number")
        .bind(count)
        .fetch_one(&mut *write)
        .await?;
    sqlx::query(
        "INSERT INTO revocations (number, session_id, expires_at)
         SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[])",
    )
    .bind((head - count + 1..=head).collect::<Vec<_>>())
    .bind(ended.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(ended.iter().map(|(_, expires_at)| expires_at.0).collect::<Vec<_>>())
    .execute(write)
    .await?;
    Ok(head)
}

/// Ends those of these sessions that are live.
pub(super) async fn these(
    write: &mut PgConnection,
    ids: &[Uuid],
    now: Millis,
    revoked_until: Millis,
) -> Result<EndedSessions, Error> {
    if ids.is_empty() {
        return Ok(EndedSessions::default());
    }
    let rows: Vec<SessionRow> = sqlx::query_as(
        "SELECT id, user_id, device, ip_address, refresh_hash, created_at, last_used_at, expires_at, ends_at,
                access_expires_at, ended_at, place, authenticated_at, amr
         FROM sessions WHERE id = ANY($1) AND ended_at IS NULL AND expires_at > $2 ORDER BY id FOR UPDATE",
    )
    .bind(ids)
    .bind(now.0)
    .fetch_all(&mut *write)
    .await?;
    let sessions: Vec<_> = rows.into_iter().map(|row| row.session).collect();
    if sessions.is_empty() {
        return Ok(EndedSessions::default());
    }
    sqlx::query("UPDATE sessions SET ended_at = $2 WHERE id = ANY($1)")
        .bind(sessions.iter().map(|session| session.id.0).collect::<Vec<_>>())
        .bind(now.0)
        .execute(&mut *write)
        .await?;
    let head = revoke(write, &sessions, revoked_until).await?;
    let count = u32::try_from(sessions.len()).map_err(|error| Error::Decode(error.into()))?;
    Ok(EndedSessions { count, head: Some(head) })
}

pub(super) async fn one(
    write: &mut PgConnection,
    user: UserId,
    session: SessionId,
    now: Millis,
    revoked_until: Millis,
    entries: &[Entry],
) -> Result<End, Error> {
    let row: Option<SessionRow> = sqlx::query_as(
        "SELECT id, user_id, device, ip_address, refresh_hash, created_at, last_used_at, expires_at, ends_at,
                access_expires_at, ended_at, place, authenticated_at, amr
         FROM sessions WHERE id = $1 AND user_id = $2 FOR UPDATE",
    )
    .bind(session.0)
    .bind(user.0)
    .fetch_optional(&mut *write)
    .await?;
    let Some(SessionRow { session, .. }) = row else { return Ok(End::Missing) };
    if session.ended_at.is_some() || session.expires_at <= now {
        return Ok(End::Over);
    }
    let number = end(write, &session, now, revoked_until).await?;
    audit::insert(write, entries).await?;
    Ok(End::Ended(number))
}

pub(super) async fn others(
    write: &mut PgConnection,
    user: UserId,
    keep: SessionId,
    now: Millis,
    revoked_until: Millis,
    entries: &[Entry],
) -> Result<EndedSessions, Error> {
    let ended = end_but(write, user, keep, now, revoked_until).await?;
    if ended.count > 0 {
        audit::insert(write, entries).await?;
    }
    Ok(ended)
}

pub(super) async fn end_but(
    write: &mut PgConnection,
    user: UserId,
    keep: SessionId,
    now: Millis,
    revoked_until: Millis,
) -> Result<EndedSessions, Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM sessions WHERE user_id = $1 AND id <> $2 AND ended_at IS NULL AND expires_at > $3",
    )
    .bind(user.0)
    .bind(keep.0)
    .bind(now.0)
    .fetch_all(&mut *write)
    .await?;
    these(write, &ids, now, revoked_until).await
}

pub(super) async fn set_roles(write: &mut PgConnection, change: &RoleChange) -> Result<RolesSet, Error> {
    let there: Option<Credentials> = sqlx::query_as(
        "SELECT id, username, email, password_hash, roles, created_at, updated_at, disabled_at,
                email_verified_at FROM accounts
         WHERE id = $1 FOR UPDATE",
    )
    .bind(change.user_id.0)
    .fetch_optional(&mut *write)
    .await?;
    let Some(Credentials { mut account, .. }) = there else { return Ok(RolesSet::Missing) };
    if account.roles == change.roles {
        return Ok(RolesSet::Set { account, ended: EndedSessions::default() });
    }
    sqlx::query("UPDATE accounts SET roles = $2, updated_at = $3 WHERE id = $1")
        .bind(change.user_id.0)
        .bind(&change.roles)
        .bind(change.now.0)
        .execute(&mut *write)
        .await?;
    let mut ended = EndedSessions::default();
    if account.roles.iter().any(|role| !change.roles.contains(role)) {
        // No session has the nil id, so none is kept.
        ended = end_but(write, change.user_id, SessionId(Uuid::nil()), change.now, change.revoked_until).await?;
    }
    audit::insert(write, &change.audit).await?;
    account.roles.clone_from(&change.roles);
    account.updated_at = change.now;
    Ok(RolesSet::Set { account, ended })
}

pub(super) async fn change_password(
    write: &mut PgConnection,
    change: &PasswordChange,
) -> Result<PasswordChanged, Error> {
    // A login that has verified the old password either committed before this, and its session is seen below, or it
    // waits for this row and then finds that the password has changed.
    let changed =
        sqlx::query("UPDATE accounts SET password_hash = $3, updated_at = $4 WHERE id = $1 AND password_hash = $2")
            .bind(change.user_id.0)
            .bind(&change.verified_hash)
            .bind(&change.new_hash)
            .bind(change.now.0)
            .execute(&mut *write)
            .await?;
    if changed.rows_affected() == 0 {
        return Ok(PasswordChanged::Stale);
    }
    mails::forget_tokens(write, change.user_id, Kind::PasswordReset).await?;
    mails::queue(write, &change.mails).await?;
    let ended = end_but(write, change.user_id, change.keep, change.now, change.revoked_until).await?;
    factors::trust_none(write, change.user_id).await?;
    audit::insert(write, &change.audit).await?;
    Ok(PasswordChanged::Changed(ended))
}

pub(super) async fn revocations(
    read: &mut PgConnection,
    after: i64,
    now: Millis,
    limit: u32,
) -> Result<RevocationPage, Error> {
    // One statement, so one snapshot: the head, and what it stands for.
    let rows = sqlx::query(
        "SELECT head.number AS head, page.number, page.session_id, page.expires_at
         FROM revocation_head AS head LEFT JOIN LATERAL (
             SELECT number, session_id, expires_at FROM revocations
             WHERE number > $1 AND expires_at > $2 ORDER BY number LIMIT $3) AS page ON true",
    )
    .bind(after)
    .bind(now.0)
    .bind(i64::from(limit))
    .fetch_all(read)
    .await?;
    let head = rows.first().ok_or(Error::RowNotFound)?.try_get("head")?;
    let mut revocations = Vec::with_capacity(rows.len());
    for row in &rows {
        // Without any there is still the one row of the head.
        if row.try_get::<Option<i64>, _>("number")?.is_some() {
            revocations.push(Revocation::from_row(row)?);
        }
    }
    let head = match revocations.last() {
        Some(last) if revocations.len() >= limit as usize => last.number,
        _ => head,
    };
    Ok(RevocationPage { revocations, head })
}
