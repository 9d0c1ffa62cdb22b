//! Statements that end sessions, each with its revocation in the same transaction, and the revocations themselves.

use mesh::time::Millis;
use sqlx::{SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{
    Write, audit, factors, mails,
    rows::{self, SessionRow},
};
use crate::{
    account::UserId,
    audit::Entry,
    mail::Kind,
    revocation::{Revocation, RevocationPage},
    session::{Session, SessionId},
    store::{
        Credentials, End, EndedSessions, PasswordChange, PasswordChanged, RoleChange, RolesSet, Stored, revoked_for,
    },
};

/// Ends one live session; the number of its revocation.
pub(super) async fn end(
    write: &mut SqliteConnection,
    session: &Session,
    now: Millis,
    revoked_until: Millis,
) -> Stored<i64> {
    sqlx::query("UPDATE sessions SET ended_at = ? WHERE id = ?")
        .bind(now.0)
        .bind(session.id.0)
        .execute(&mut *write)
        .await?;
    revoke(write, session.id.0, revoked_for(session, revoked_until)).await
}

/// Writes the revocation of a session or an API key under the next number, which it gives.
pub(super) async fn revoke(write: &mut SqliteConnection, id: Uuid, expires_at: Millis) -> Stored<i64> {
    let number = sqlx::query_scalar("UPDATE revocation_head SET number = number + 1 RETURNING number")
        .fetch_one(&mut *write)
        .await?;
    sqlx::query("INSERT INTO revocations (number, session_id, expires_at) VALUES (?, ?, ?)")
        .bind(number)
        .bind(id)
        .bind(expires_at.0)
        .execute(write)
        .await?;
    Ok(number)
}

pub(super) async fn end_all(
    write: &mut SqliteConnection,
    sessions: &[SessionRow],
    now: Millis,
    revoked_until: Millis,
) -> Stored<EndedSessions> {
    let mut ended = EndedSessions::default();
    for row in sessions {
        ended.head = Some(end(write, &row.session, now, revoked_until).await?);
        ended.count += 1;
    }
    Ok(ended)
}

pub(super) async fn one(
    mut write: Write,
    user: UserId,
    session: SessionId,
    now: Millis,
    revoked_until: Millis,
    entries: &[Entry],
) -> Stored<End> {
    let row: Option<SessionRow> = sqlx::query_as("SELECT * FROM sessions WHERE id = ? AND user_id = ?")
        .bind(session.0)
        .bind(user.0)
        .fetch_optional(&mut *write)
        .await?;
    let Some(SessionRow { session, .. }) = row else { return Ok(End::Missing) };
    if session.ended_at.is_some() || session.expires_at <= now {
        return Ok(End::Over);
    }
    let number = end(&mut write, &session, now, revoked_until).await?;
    audit::insert(&mut write, entries).await?;
    write.commit().await?;
    Ok(End::Ended(number))
}

pub(super) async fn end_but(
    write: &mut SqliteConnection,
    user: UserId,
    keep: SessionId,
    now: Millis,
    revoked_until: Millis,
) -> Stored<EndedSessions> {
    let rows: Vec<SessionRow> =
        sqlx::query_as("SELECT * FROM sessions WHERE user_id = ? AND id <> ? AND ended_at IS NULL AND expires_at > ?")
            .bind(user.0)
            .bind(keep.0)
            .bind(now.0)
            .fetch_all(&mut *write)
            .await?;
    end_all(write, &rows, now, revoked_until).await
}

pub(super) async fn others(
    mut write: Write,
    user: UserId,
    keep: SessionId,
    now: Millis,
    revoked_until: Millis,
    entries: &[Entry],
) -> Stored<EndedSessions> {
    let ended = end_but(&mut write, user, keep, now, revoked_until).await?;
    if ended.count > 0 {
        audit::insert(&mut write, entries).await?;
    }
    write.commit().await?;
    Ok(ended)
}

pub(super) async fn set_roles(mut write: Write, change: &RoleChange) -> Stored<RolesSet> {
    let there: Option<Credentials> = sqlx::query_as("SELECT * FROM accounts WHERE id = ?")
        .bind(change.user_id.0)
        .fetch_optional(&mut *write)
        .await?;
    let Some(Credentials { mut account, .. }) = there else { return Ok(RolesSet::Missing) };
    if account.roles == change.roles {
        return Ok(RolesSet::Set { account, ended: EndedSessions::default() });
    }
    sqlx::query("UPDATE accounts SET roles = ?, updated_at = ? WHERE id = ?")
        .bind(rows::roles_json(&change.roles)?)
        .bind(change.now.0)
        .bind(change.user_id.0)
        .execute(&mut *write)
        .await?;
    let mut ended = EndedSessions::default();
    if account.roles.iter().any(|role| !change.roles.contains(role)) {
        // No session has the nil id, so none is kept.
        let none = SessionId(Uuid::nil());
        ended = end_but(&mut write, change.user_id, none, change.now, change.revoked_until).await?;
    }
    audit::insert(&mut write, &change.audit).await?;
    write.commit().await?;
    account.roles.clone_from(&change.roles);
    account.updated_at = change.now;
    Ok(RolesSet::Set { account, ended })
}

pub(super) async fn change_password(mut write: Write, change: &PasswordChange) -> Stored<PasswordChanged> {
    let changed =
        sqlx::query("UPDATE accounts SET password_hash = ?, updated_at = ? WHERE id = ? AND password_hash = ?")
            .bind(&change.new_hash)
            .bind(change.now.0)
            .bind(change.user_id.0)
            .bind(&change.verified_hash)
            .execute(&mut *write)
            .await?;
    if changed.rows_affected() == 0 {
        return Ok(PasswordChanged::Stale);
    }
    let ended = end_but(&mut write, change.user_id, change.keep, change.now, change.revoked_until).await?;
    factors::trust_none(&mut write, change.user_id).await?;
    mails::forget_tokens(&mut write, change.user_id, Kind::PasswordReset).await?;
    mails::queue(&mut write, &change.mails).await?;
    audit::insert(&mut write, &change.audit).await?;
    write.commit().await?;
    Ok(PasswordChanged::Changed(ended))
}

pub(super) async fn revocations(readers: &SqlitePool, after: i64, now: Millis, limit: u32) -> Stored<RevocationPage> {
    // The head is read first: everything up to it is visible to the statement after it.
    let head: i64 = sqlx::query_scalar("SELECT number FROM revocation_head").fetch_one(readers).await?;
    if head <= after {
        return Ok(RevocationPage { revocations: Vec::new(), head });
    }
    let revocations: Vec<Revocation> =
        sqlx::query_as("SELECT * FROM revocations WHERE number > ? AND expires_at > ? ORDER BY number LIMIT ? + 0")
            .bind(after)
            .bind(now.0)
            .bind(limit)
            .fetch_all(readers)
            .await?;
    let full = revocations.len() >= limit as usize;
    let head = match revocations.last() {
        Some(last) if full => last.number,
        Some(last) => head.max(last.number),
        None => head,
    };
    Ok(RevocationPage { revocations, head })
}
