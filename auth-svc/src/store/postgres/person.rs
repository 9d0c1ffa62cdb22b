//! Statements about people as a whole: access, deletion, and what is given out about them. Rows are locked in the order
//! that `ends.rs` says: the account, its sessions, its deletion, the revocation head.

use async_trait::async_trait;
use mesh::time::Millis;
use mesh_postgres::run;
use sqlx::{Error, FromRow, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, audit, ends, factors};
use crate::{
    account::UserId,
    audit::Entry,
    session::SessionId,
    store::{
        AccessChange, AccessSet, Credentials, Deletion, DeletionPlan, DeletionPlanned, EndedSessions, Erased,
        KnownDevice, PersonStore, Side, Stored,
    },
};

/// What an account has beside itself, in the order in which it can go.
const ERASE: [&str; 11] = [
    "DELETE FROM sessions WHERE user_id = $1",
    "DELETE FROM outbox WHERE user_id = $1",
    "DELETE FROM totp_factors WHERE user_id = $1",
    "DELETE FROM recovery_codes WHERE user_id = $1",
    "DELETE FROM trusted_devices WHERE user_id = $1",
    "DELETE FROM api_keys WHERE user_id = $1",
    "DELETE FROM mails WHERE user_id = $1",
    "DELETE FROM mail_tokens WHERE user_id = $1",
    "DELETE FROM mail_records WHERE user_id = $1",
    "DELETE FROM service_accounts WHERE id = $1",
    "DELETE FROM accounts WHERE id = $1",
];

impl FromRow<'_, PgRow> for Deletion {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        let attempts: i64 = row.try_get("attempts")?;
        Ok(Self {
            user_id: row.try_get("user_id").map(UserId)?,
            erase_at: row.try_get("erase_at").map(Millis)?,
            erased: row.try_get::<Option<i64>, _>("erased_at")?.is_some(),
            told: row.try_get("told")?,
            place: row.try_get("place")?,
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        })
    }
}

impl FromRow<'_, PgRow> for KnownDevice {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.try_get("device_id")?,
            created_at: row.try_get("created_at").map(Millis)?,
            expires_at: row.try_get("expires_at").map(Millis)?,
        })
    }
}

#[async_trait]
impl PersonStore for PostgresStore {
    async fn set_access(&self, change: &AccessChange) -> Stored<AccessSet> {
        Ok(run!(self.calls, transaction, db => set_access(db, change))?)
    }

    async fn trusted_devices(&self, user: UserId, now: Millis) -> Stored<Vec<KnownDevice>> {
        Ok(run!(self.calls, statement, db => devices(db, user, now))?)
    }

    async fn end_sessions_after(
        &self,
        after: SessionId,
        now: Millis,
        revoked_until: Millis,
        limit: u32,
    ) -> Stored<(EndedSessions, Option<SessionId>)> {
        Ok(run!(self.calls, transaction, db => end_after(db, after, now, revoked_until, limit))?)
    }

    async fn plan_deletion(&self, plan: &DeletionPlan) -> Stored<DeletionPlanned> {
        Ok(run!(self.calls, transaction, db => plan_deletion(db, plan))?)
    }

    async fn deletion(&self, user: UserId) -> Stored<Option<Deletion>> {
        Ok(run!(self.calls, statement, db => deletion(db, user))?)
    }

    async fn claim_deletions(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<UserId>> {
        Ok(run!(self.calls, statement, db => claim(db, now, until, limit))?)
    }

    async fn erase_account(
        &self,
        user: UserId,
        now: Millis,
        revoked_until: Millis,
        entries: &[Entry],
    ) -> Stored<Erased> {
        Ok(run!(self.calls, transaction, db => erase(db, user, now, revoked_until, entries))?)
    }

    async fn scrub_audit(&self, user: UserId, side: Side, after: Option<Uuid>, limit: u32) -> Stored<Option<Uuid>> {
        Ok(run!(self.calls, statement, db => scrub(db, user, side, after, limit))?)
    }

    async fn note_deletion(&self, user: UserId, told: bool, place: &str, due_at: Millis) -> Stored<()> {
        Ok(run!(self.calls, statement, db => note(db, user, told, place, due_at))?)
    }

    async fn postpone_deletion(&self, user: UserId, until: Millis) -> Stored<()> {
        Ok(run!(self.calls, statement, db => postpone(db, user, until))?)
    }

    async fn finish_deletion(&self, user: UserId) -> Stored<()> {
        Ok(run!(self.calls, statement, db => finish(db, user))?)
    }
}

/// Takes back the deletion of an account that is still there; whether there was one.
pub(super) async fn keep(write: &mut PgConnection, user: UserId) -> Result<bool, Error> {
    let kept = sqlx::query("DELETE FROM deletions WHERE user_id = $1 AND erased_at IS NULL").bind(user.0);
    Ok(kept.execute(write).await?.rows_affected() > 0)
}

/// The account, whose row is locked.
async fn account(write: &mut PgConnection, user: UserId) -> Result<Option<Credentials>, Error> {
    sqlx::query_as(
        "SELECT id, username, email, password_hash, roles, created_at, updated_at, disabled_at,
                email_verified_at FROM accounts
         WHERE id = $1 FOR UPDATE",
    )
    .bind(user.0)
    .fetch_optional(write)
    .await
}

async fn disable(write: &mut PgConnection, user: UserId, at: Option<Millis>, now: Millis) -> Result<(), Error> {
    sqlx::query("UPDATE accounts SET disabled_at = $2, updated_at = $3 WHERE id = $1")
        .bind(user.0)
        .bind(at.map(|at| at.0))
        .bind(now.0)
        .execute(write)
        .await?;
    Ok(())
}

/// Ends all sessions and keys of an account.
async fn end_all(
    write: &mut PgConnection,
    user: UserId,
    now: Millis,
    revoked_until: Millis,
) -> Result<EndedSessions, Error> {
    let keys: Vec<Uuid> = sqlx::query_scalar("DELETE FROM api_keys WHERE user_id = $1 RETURNING id")
        .bind(user.0)
        .fetch_all(&mut *write)
        .await?;
    // No session has the nil id, so none is kept.
    let mut ended = ends::end_but(write, user, SessionId(Uuid::nil()), now, revoked_until).await?;
    if !keys.is_empty() {
        let keys: Vec<_> = keys.into_iter().map(|key| (key, revoked_until)).collect();
        ended.head = Some(ends::revoke_all(write, &keys).await?);
    }
    Ok(ended)
}

async fn set_access(write: &mut PgConnection, change: &AccessChange) -> Result<AccessSet, Error> {
    let user = change.user_id;
    let Some(Credentials { mut account, .. }) = account(write, user).await? else { return Ok(AccessSet::Missing) };
    if !change.disabled && keep(write, user).await? {
        audit::insert(write, std::slice::from_ref(&change.kept)).await?;
    }
    let mut ended = EndedSessions::default();
    if account.disabled_at.is_some() != change.disabled {
        account.disabled_at = change.disabled.then_some(change.now);
        account.updated_at = change.now;
        disable(write, user, account.disabled_at, change.now).await?;
        audit::insert(write, &change.audit).await?;
        if change.disabled {
            factors::trust_none(write, user).await?;
            let none = SessionId(Uuid::nil());
            ended = ends::end_but(write, user, none, change.now, change.revoked_until).await?;
        }
    }
    Ok(AccessSet::Set { account, ended })
}

async fn devices(read: &mut PgConnection, user: UserId, now: Millis) -> Result<Vec<KnownDevice>, Error> {
    sqlx::query_as(
        "SELECT device_id, created_at, expires_at FROM trusted_devices
         WHERE user_id = $1 AND expires_at > $2 ORDER BY device_id",
    )
    .bind(user.0)
    .bind(now.0)
    .fetch_all(read)
    .await
}

async fn end_after(
    write: &mut PgConnection,
    after: SessionId,
    now: Millis,
    revoked_until: Millis,
    limit: u32,
) -> Result<(EndedSessions, Option<SessionId>), Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM sessions WHERE id > $1 AND ended_at IS NULL AND expires_at > $2 ORDER BY id LIMIT $3",
    )
    .bind(after.0)
    .bind(now.0)
    .bind(i64::from(limit))
    .fetch_all(&mut *write)
    .await?;
    let ended = ends::these(write, &ids, now, revoked_until).await?;
    Ok((ended, ids.last().copied().map(SessionId)))
}

async fn plan_deletion(write: &mut PgConnection, plan: &DeletionPlan) -> Result<DeletionPlanned, Error> {
    let user = plan.user_id;
    let Some(Credentials { account, .. }) = account(write, user).await? else { return Ok(DeletionPlanned::Missing) };
    if plan.disabled && account.disabled_at.is_none() {
        disable(write, user, Some(plan.now), plan.now).await?;
    }
    factors::trust_none(write, user).await?;
    sqlx::query(
        "INSERT INTO deletions (user_id, asked_at, erase_at, told, place, attempts, due_at)
         VALUES ($1, $2, $3, false, '', 0, $3) ON CONFLICT (user_id) DO NOTHING",
    )
    .bind(user.0)
    .bind(plan.now.0)
    .bind(plan.erase_at.0)
    .execute(&mut *write)
    .await?;
    let erase_at = sqlx::query_scalar("SELECT erase_at FROM deletions WHERE user_id = $1")
        .bind(user.0)
        .fetch_one(&mut *write)
        .await?;
    audit::insert(write, &plan.audit).await?;
    let ended = end_all(write, user, plan.now, plan.revoked_until).await?;
    Ok(DeletionPlanned::Planned { erase_at: Millis(erase_at), head: ended.head })
}

async fn deletion(read: &mut PgConnection, user: UserId) -> Result<Option<Deletion>, Error> {
    sqlx::query_as("SELECT user_id, erase_at, erased_at, told, place, attempts FROM deletions WHERE user_id = $1")
        .bind(user.0)
        .fetch_optional(read)
        .await
}

async fn claim(write: &mut PgConnection, now: Millis, until: Millis, limit: u32) -> Result<Vec<UserId>, Error> {
    let users: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE deletions SET due_at = $2 WHERE user_id = ANY (ARRAY (
             SELECT user_id FROM deletions WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED))
         RETURNING user_id",
    )
    .bind(now.0)
    .bind(until.0)
    .bind(i64::from(limit))
    .fetch_all(write)
    .await?;
    Ok(users.into_iter().map(UserId).collect())
}

async fn erase(
    write: &mut PgConnection,
    user: UserId,
    now: Millis,
    revoked_until: Millis,
    entries: &[Entry],
) -> Result<Erased, Error> {
    // A login that came first has taken the deletion back; one that comes later finds no account.
    account(write, user).await?;
    let begun =
        sqlx::query("UPDATE deletions SET erased_at = $2 WHERE user_id = $1 AND erased_at IS NULL AND erase_at <= $2")
            .bind(user.0)
            .bind(now.0)
            .execute(&mut *write)
            .await?;
    if begun.rows_affected() == 0 {
        return Ok(Erased::NotDue);
    }
    audit::insert(write, entries).await?;
    // A key that was made since is no exception.
    let ended = end_all(write, user, now, revoked_until).await?;
    for statement in ERASE {
        sqlx::query(statement).bind(user.0).execute(&mut *write).await?;
    }
    Ok(Erased::Gone { head: ended.head })
}

async fn scrub(
    write: &mut PgConnection,
    user: UserId,
    side: Side,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Option<Uuid>, Error> {
    let after = after.unwrap_or(Uuid::nil());
    let (ids, scrub) = match side {
        Side::Subject => (
            sqlx::query_scalar("SELECT id FROM audit WHERE subject_id = $1 AND id > $2 ORDER BY id LIMIT $3")
                .bind(user.0),
            sqlx::query(
                "UPDATE audit SET detail = '',
                     ip_address = CASE actor_kind WHEN 'nobody' THEN '' ELSE ip_address END,
                     place = CASE actor_kind WHEN 'nobody' THEN '' ELSE place END,
                     device = CASE actor_kind WHEN 'nobody' THEN '' ELSE device END
                 WHERE subject_id = $1 AND id > $2 AND id <= $3",
            )
            .bind(user.0),
        ),
        Side::Actor => (
            sqlx::query_scalar("SELECT id FROM audit WHERE actor = $1 AND id > $2 ORDER BY id LIMIT $3")
                .bind(user.0.to_string()),
            sqlx::query(
                "UPDATE audit SET ip_address = '', place = '', device = '' WHERE actor = $1 AND id > $2 AND id <= $3",
            )
            .bind(user.0.to_string()),
        ),
    };
    let page: Vec<Uuid> = ids.bind(after).bind(i64::from(limit)).fetch_all(&mut *write).await?;
    let Some(last) = page.last().copied() else { return Ok(None) };
    scrub.bind(after).bind(last).execute(write).await?;
    Ok(Some(last))
}

async fn note(write: &mut PgConnection, user: UserId, told: bool, place: &str, due_at: Millis) -> Result<(), Error> {
    sqlx::query("UPDATE deletions SET told = $2, place = $3, attempts = 0, due_at = $4 WHERE user_id = $1")
        .bind(user.0)
        .bind(told)
        .bind(place)
        .bind(due_at.0)
        .execute(write)
        .await?;
    Ok(())
}

async fn postpone(write: &mut PgConnection, user: UserId, until: Millis) -> Result<(), Error> {
    sqlx::query("UPDATE deletions SET attempts = attempts + 1, due_at = $2 WHERE user_id = $1")
        .bind(user.0)
        .bind(until.0)
        .execute(write)
        .await?;
    Ok(())
}

async fn finish(write: &mut PgConnection, user: UserId) -> Result<(), Error> {
    sqlx::query("DELETE FROM deletions WHERE user_id = $1 AND erased_at IS NOT NULL")
        .bind(user.0)
        .execute(write)
        .await?;
    Ok(())
}
