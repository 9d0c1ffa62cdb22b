//! Statements about sessions that are alive: opening, finding, refreshing, and spending a WebSocket token.

use mesh::time::Millis;
use sqlx::{SqliteConnection, SqlitePool};

use super::{
    Write, audit, ends, mails, person,
    rows::{self, SessionRow},
};
use crate::{
    account::UserId,
    audit::Entry,
    proof::Method,
    session::{Session, SessionId},
    store::{NewSession, Opened, Opening, Rotated, Rotation, SessionCursor, Stored, WsSpend, WsSpent},
};

/// `last_used_at` moves at most so often: it is for people to read.
const USE_RESOLUTION_MS: i64 = 60_000;

pub(super) async fn insert(write: &mut SqliteConnection, session: &NewSession) -> Stored<()> {
    sqlx::query(
        "INSERT INTO sessions (id, user_id, device, ip_address, refresh_hash, created_at, last_used_at, expires_at,
                               ends_at, access_expires_at, place, authenticated_at, amr)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(session.id.0)
    .bind(session.user_id.0)
    .bind(&session.device)
    .bind(&session.ip_address)
    .bind(session.refresh_hash.0.as_slice())
    .bind(session.created_at.0)
    .bind(session.created_at.0)
    .bind(session.expires_at.0)
    .bind(session.ends_at.0)
    .bind(session.access_expires_at.0)
    .bind(&session.place)
    .bind(session.created_at.0)
    .bind(Method::join(&session.amr))
    .execute(write)
    .await?;
    Ok(())
}

/// Whether somebody has logged in by this device and address before, as far as sessions are remembered.
async fn is_known(write: &mut SqliteConnection, session: &NewSession) -> Stored<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sessions WHERE user_id = ? AND device = ? AND ip_address = ?)")
        .bind(session.user_id.0)
        .bind(&session.device)
        .bind(&session.ip_address)
        .fetch_one(write)
        .await?)
}

pub(super) async fn open(mut write: Write, opening: &Opening) -> Stored<Opened> {
    let session = &opening.session;
    let changed =
        sqlx::query("UPDATE accounts SET password_hash = ? WHERE id = ? AND password_hash = ? AND disabled_at IS NULL")
            .bind(opening.rehash.as_ref().unwrap_or(&opening.verified_hash))
            .bind(session.user_id.0)
            .bind(&opening.verified_hash)
            .execute(&mut *write)
            .await?;
    if changed.rows_affected() == 0 {
        return Ok(Opened::PasswordChanged);
    }
    let others = opening.sessions_max.saturating_sub(1);
    let surplus: Vec<SessionRow> = sqlx::query_as(
        "SELECT * FROM sessions WHERE user_id = ? AND ended_at IS NULL AND expires_at > ?
         ORDER BY last_used_at DESC, id DESC LIMIT -1 OFFSET ?",
    )
    .bind(session.user_id.0)
    .bind(session.created_at.0)
    .bind(others)
    .fetch_all(&mut *write)
    .await?;
    let ended = ends::end_all(&mut write, &surplus, session.created_at, opening.revoked_until).await?;
    if !opening.mails.is_empty() && !is_known(&mut write, session).await? {
        mails::queue(&mut write, &opening.mails).await?;
    }
    insert(&mut write, session).await?;
    audit::insert(&mut write, &opening.audit).await?;
    let kept = person::keep(&mut write, session.user_id).await?;
    if kept {
        audit::insert(&mut write, std::slice::from_ref(&opening.kept)).await?;
    }
    if ended.count > 0 {
        audit::insert(&mut write, std::slice::from_ref(&opening.over_limit)).await?;
    }
    write.commit().await?;
    Ok(Opened::Open { head: ended.head, kept })
}

pub(super) async fn by_id(readers: &SqlitePool, id: SessionId) -> Stored<Option<Session>> {
    let row: Option<SessionRow> =
        sqlx::query_as("SELECT * FROM sessions WHERE id = ?").bind(id.0).fetch_optional(readers).await?;
    Ok(row.map(|row| row.session))
}

pub(super) async fn of_user(
    readers: &SqlitePool,
    user: UserId,
    now: Millis,
    after: Option<SessionCursor>,
    limit: u32,
) -> Stored<Vec<Session>> {
    // Without a cursor everything follows; no time and no id is higher than these.
    let (used, id) = after.map_or((i64::MAX, uuid::Uuid::max()), |after| (after.last_used_at.0, after.id.0));
    let rows: Vec<SessionRow> = sqlx::query_as(
        "SELECT * FROM sessions WHERE user_id = ? AND ended_at IS NULL AND expires_at > ?
         AND (last_used_at, id) < (?, ?) ORDER BY last_used_at DESC, id DESC LIMIT ? + 0",
    )
    .bind(user.0)
    .bind(now.0)
    .bind(used)
    .bind(id)
    .bind(limit)
    .fetch_all(readers)
    .await?;
    Ok(rows.into_iter().map(|row| row.session).collect())
}

pub(super) async fn rotate(mut write: Write, rotation: &Rotation) -> Stored<Rotated> {
    let row: Option<SessionRow> = sqlx::query_as("SELECT * FROM sessions WHERE id = ?")
        .bind(rotation.session_id.0)
        .fetch_optional(&mut *write)
        .await?;
    let Some(SessionRow { session, refresh_hash }) = row else {
        return Ok(if rotation.genuine { Rotated::Expired } else { Rotated::Unknown });
    };
    let current = refresh_hash == rotation.presented;
    let previous = refresh_hash == rotation.successor;
    if !current && !previous && !rotation.genuine {
        return Ok(Rotated::Unknown);
    }
    if session.expires_at <= rotation.now {
        return Ok(Rotated::Expired);
    }
    if session.ended_at.is_some() {
        return Ok(Rotated::Ended);
    }
    if current || previous {
        let session = refresh(&mut write, session, rotation).await?;
        let roles: String = sqlx::query_scalar("SELECT roles FROM accounts WHERE id = ?")
            .bind(session.user_id.0)
            .fetch_one(&mut *write)
            .await?;
        let roles = rows::roles(&roles)?;
        write.commit().await?;
        return Ok(Rotated::Fresh { session, roles });
    }
    let user_id = session.user_id;
    let head = ends::end(&mut write, &session, rotation.now, rotation.revoked_until).await?;
    audit::insert(&mut write, &[rotation.reuse.clone().on(user_id)]).await?;
    write.commit().await?;
    Ok(Rotated::Reused { user_id, head })
}

async fn refresh(write: &mut SqliteConnection, mut session: Session, rotation: &Rotation) -> Stored<Session> {
    session.last_used_at = used(&session, rotation.now);
    session.expires_at = rotation.expires_at.min(session.ends_at).max(session.expires_at);
    let access = rotation.access_expires_at.min(session.ends_at);
    session.access_expires_at = access.max(session.access_expires_at);
    sqlx::query(
        "UPDATE sessions SET refresh_hash = ?, last_used_at = ?, expires_at = ?, access_expires_at = ? WHERE id = ?",
    )
    .bind(rotation.successor.0.as_slice())
    .bind(session.last_used_at.0)
    .bind(session.expires_at.0)
    .bind(session.access_expires_at.0)
    .bind(session.id.0)
    .execute(write)
    .await?;
    Ok(session)
}

fn used(session: &Session, now: Millis) -> Millis {
    if now.0 - session.last_used_at.0 >= USE_RESOLUTION_MS { now } else { session.last_used_at }
}

pub(super) async fn spend_ws(mut write: Write, spend: &WsSpend) -> Stored<WsSpent> {
    let row: Option<SessionRow> =
        sqlx::query_as("SELECT * FROM sessions WHERE id = ? AND user_id = ? AND ended_at IS NULL AND expires_at > ?")
            .bind(spend.session_id.0)
            .bind(spend.user_id.0)
            .bind(spend.now.0)
            .fetch_optional(&mut *write)
            .await?;
    let Some(SessionRow { session, .. }) = row else { return Ok(WsSpent::SessionOver) };
    let spent = sqlx::query("INSERT INTO spent_ws_tokens (jti, expires_at) VALUES (?, ?) ON CONFLICT (jti) DO NOTHING")
        .bind(spend.jti)
        .bind(spend.expires_at.0)
        .execute(&mut *write)
        .await?;
    if spent.rows_affected() == 0 {
        return Ok(WsSpent::Again);
    }
    let last_used_at = used(&session, spend.now);
    if last_used_at != session.last_used_at {
        sqlx::query("UPDATE sessions SET last_used_at = ? WHERE id = ?")
            .bind(last_used_at.0)
            .bind(session.id.0)
            .execute(&mut *write)
            .await?;
    }
    let roles: String = sqlx::query_scalar("SELECT roles FROM accounts WHERE id = ?")
        .bind(spend.user_id.0)
        .fetch_one(&mut *write)
        .await?;
    let roles = rows::roles(&roles)?;
    write.commit().await?;
    Ok(WsSpent::Spent { roles, session_expires_at: session.expires_at })
}

pub(super) async fn prove(
    mut write: Write,
    user: UserId,
    session: SessionId,
    methods: &[Method],
    now: Millis,
    entries: &[Entry],
) -> Stored<bool> {
    let proved = sqlx::query(
        "UPDATE sessions SET authenticated_at = ?, amr = ?
         WHERE id = ? AND user_id = ? AND ended_at IS NULL AND expires_at > ?",
    )
    .bind(now.0)
    .bind(Method::join(methods))
    .bind(session.0)
    .bind(user.0)
    .bind(now.0)
    .execute(&mut *write)
    .await?;
    if proved.rows_affected() == 0 {
        return Ok(false);
    }
    audit::insert(&mut write, entries).await?;
    write.commit().await?;
    Ok(true)
}
