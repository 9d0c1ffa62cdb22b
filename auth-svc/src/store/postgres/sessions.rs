//! Statements about sessions that are alive: opening, finding, refreshing, and spending a WebSocket token.

use mesh::time::Millis;
use sqlx::{Error, PgConnection, Row as _};
use uuid::Uuid;

use super::{audit, ends, mails, person, rows::SessionRow};
use crate::{
    account::UserId,
    audit::Entry,
    proof::Method,
    session::{Session, SessionId},
    store::{NewSession, Opened, Opening, Rotated, Rotation, SessionCursor, WsSpend, WsSpent},
};

/// `last_used_at` moves at most so often: it is for people to read.
const USE_RESOLUTION_MS: i64 = 60_000;

pub(super) async fn insert(write: &mut PgConnection, session: &NewSession) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO sessions (id, user_id, device, ip_address, refresh_hash, created_at, last_used_at, expires_at,
                               ends_at, access_expires_at, place, authenticated_at, amr)
         VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $6, $11)",
    )
    .bind(session.id.0)
    .bind(session.user_id.0)
    .bind(&session.device)
    .bind(&session.ip_address)
    .bind(session.refresh_hash.0.as_slice())
    .bind(session.created_at.0)
    .bind(session.expires_at.0)
    .bind(session.ends_at.0)
    .bind(session.access_expires_at.0)
    .bind(&session.place)
    .bind(Method::join(&session.amr))
    .execute(write)
    .await?;
    Ok(())
}

/// Whether somebody has logged in by this device and address before, as far as sessions are remembered.
async fn is_known(read: &mut PgConnection, session: &NewSession) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sessions WHERE user_id = $1 AND device = $2 AND ip_address = $3)")
        .bind(session.user_id.0)
        .bind(&session.device)
        .bind(&session.ip_address)
        .fetch_one(read)
        .await
}

pub(super) async fn open(write: &mut PgConnection, opening: &Opening) -> Result<Opened, Error> {
    let session = &opening.session;
    // The account's row is what logins of one account wait for, so that together they keep to its limit.
    let verified: Option<Uuid> = sqlx::query_scalar(
        "SELECT id FROM accounts WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL FOR NO KEY UPDATE",
    )
    .bind(session.user_id.0)
    .bind(&opening.verified_hash)
    .fetch_optional(&mut *write)
    .await?;
    if verified.is_none() {
        return Ok(Opened::PasswordChanged);
    }
    if let Some(rehash) = &opening.rehash {
        sqlx::query("UPDATE accounts SET password_hash = $2 WHERE id = $1")
            .bind(session.user_id.0)
            .bind(rehash)
            .execute(&mut *write)
            .await?;
    }
    let surplus: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2
         ORDER BY last_used_at DESC, id DESC OFFSET $3",
    )
    .bind(session.user_id.0)
    .bind(session.created_at.0)
    .bind(i64::from(opening.sessions_max.saturating_sub(1)))
    .fetch_all(&mut *write)
    .await?;
    let ended = ends::these(write, &surplus, session.created_at, opening.revoked_until).await?;
    if !opening.mails.is_empty() && !is_known(write, session).await? {
        mails::queue(write, &opening.mails).await?;
    }
    insert(write, session).await?;
    audit::insert(write, &opening.audit).await?;
    let kept = person::keep(write, session.user_id).await?;
    if kept {
        audit::insert(write, std::slice::from_ref(&opening.kept)).await?;
    }
    if ended.count > 0 {
        audit::insert(write, std::slice::from_ref(&opening.over_limit)).await?;
    }
    Ok(Opened::Open { head: ended.head, kept })
}

pub(super) async fn by_id(read: &mut PgConnection, id: SessionId) -> Result<Option<Session>, Error> {
    let row: Option<SessionRow> = sqlx::query_as(
        "SELECT id, user_id, device, ip_address, refresh_hash, created_at, last_used_at, expires_at, ends_at,
                access_expires_at, ended_at, place, authenticated_at, amr
         FROM sessions WHERE id = $1",
    )
    .bind(id.0)
    .fetch_optional(read)
    .await?;
    Ok(row.map(|row| row.session))
}

pub(super) async fn of_user(
    read: &mut PgConnection,
    user: UserId,
    now: Millis,
    after: Option<SessionCursor>,
    limit: u32,
) -> Result<Vec<Session>, Error> {
    // Without a cursor everything follows; no time and no id is higher than these.
    let (used, id) = after.map_or((i64::MAX, Uuid::max()), |after| (after.last_used_at.0, after.id.0));
    let rows: Vec<SessionRow> = sqlx::query_as(
        "SELECT id, user_id, device, ip_address, refresh_hash, created_at, last_used_at, expires_at, ends_at,
                access_expires_at, ended_at, place, authenticated_at, amr
         FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 AND (last_used_at, id) < ($3, $4)
         ORDER BY last_used_at DESC, id DESC LIMIT $5",
    )
    .bind(user.0)
    .bind(now.0)
    .bind(used)
    .bind(id)
    .bind(i64::from(limit))
    .fetch_all(read)
    .await?;
    Ok(rows.into_iter().map(|row| row.session).collect())
}

pub(super) async fn rotate(write: &mut PgConnection, rotation: &Rotation) -> Result<Rotated, Error> {
    let row: Option<SessionRow> = sqlx::query_as(
        "SELECT id, user_id, device, ip_address, refresh_hash, created_at, last_used_at, expires_at, ends_at,
                access_expires_at, ended_at, place, authenticated_at, amr
         FROM sessions WHERE id = $1 FOR UPDATE",
    )
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
        return refresh(write, session, rotation).await;
    }
    let user_id = session.user_id;
    let head = ends::end(write, &session, rotation.now, rotation.revoked_until).await?;
    audit::insert(write, &[rotation.reuse.clone().on(user_id)]).await?;
    Ok(Rotated::Reused { user_id, head })
}

async fn refresh(write: &mut PgConnection, mut session: Session, rotation: &Rotation) -> Result<Rotated, Error> {
    session.last_used_at = used(session.last_used_at, rotation.now);
    session.expires_at = rotation.expires_at.min(session.ends_at).max(session.expires_at);
    let access = rotation.access_expires_at.min(session.ends_at);
    session.access_expires_at = access.max(session.access_expires_at);
    let roles = sqlx::query_scalar(
        "UPDATE sessions SET refresh_hash = $2, last_used_at = $3, expires_at = $4, access_expires_at = $5
         FROM accounts WHERE sessions.id = $1 AND accounts.id = sessions.user_id RETURNING accounts.roles",
    )
    .bind(session.id.0)
    .bind(rotation.successor.0.as_slice())
    .bind(session.last_used_at.0)
    .bind(session.expires_at.0)
    .bind(session.access_expires_at.0)
    .fetch_one(write)
    .await?;
    Ok(Rotated::Fresh { session, roles })
}

fn used(last: Millis, now: Millis) -> Millis {
    if now.0.saturating_sub(last.0) >= USE_RESOLUTION_MS { now } else { last }
}

pub(super) async fn spend_ws(write: &mut PgConnection, spend: &WsSpend) -> Result<WsSpent, Error> {
    // Locked, so that the session cannot end between this look and the commit.
    let row = sqlx::query(
        "SELECT sessions.last_used_at, sessions.expires_at, accounts.roles FROM sessions JOIN accounts ON accounts.id = sessions.user_id
         WHERE sessions.id = $1 AND sessions.user_id = $2 AND sessions.ended_at IS NULL AND sessions.expires_at > $3
         FOR UPDATE OF sessions",
    )
    .bind(spend.session_id.0)
    .bind(spend.user_id.0)
    .bind(spend.now.0)
    .fetch_optional(&mut *write)
    .await?;
    let Some(row) = row else { return Ok(WsSpent::SessionOver) };
    let (last_used_at, roles) = (Millis(row.try_get("last_used_at")?), row.try_get("roles")?);
    let session_expires_at = Millis(row.try_get("expires_at")?);
    let spent = sqlx::query("INSERT INTO spent_ws_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(spend.jti)
        .bind(spend.expires_at.0)
        .execute(&mut *write)
        .await?;
    if spent.rows_affected() == 0 {
        return Ok(WsSpent::Again);
    }
    let now_used_at = used(last_used_at, spend.now);
    if now_used_at != last_used_at {
        sqlx::query("UPDATE sessions SET last_used_at = $2 WHERE id = $1")
            .bind(spend.session_id.0)
            .bind(now_used_at.0)
            .execute(write)
            .await?;
    }
    Ok(WsSpent::Spent { roles, session_expires_at })
}

pub(super) async fn prove(
    write: &mut PgConnection,
    user: UserId,
    session: SessionId,
    methods: &[Method],
    now: Millis,
    entries: &[Entry],
) -> Result<bool, Error> {
    let proved = sqlx::query(
        "UPDATE sessions SET authenticated_at = $1, amr = $2
         WHERE id = $3 AND user_id = $4 AND ended_at IS NULL AND expires_at > $1",
    )
    .bind(now.0)
    .bind(Method::join(methods))
    .bind(session.0)
    .bind(user.0)
    .execute(&mut *write)
    .await?;
    if proved.rows_affected() == 0 {
        return Ok(false);
    }
    audit::insert(write, entries).await?;
    Ok(true)
}
