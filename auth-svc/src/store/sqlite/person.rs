//! Statements about people as a whole: access, deletion, and what is given out about them.

use async_trait::async_trait;
use mesh::time::Millis;
use sqlx::{FromRow, Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, audit, ends, factors, rows::SessionRow};
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
    "DELETE FROM sessions WHERE user_id = ?",
    "DELETE FROM outbox WHERE user_id = ?",
    "DELETE FROM totp_factors WHERE user_id = ?",
    "DELETE FROM recovery_codes WHERE user_id = ?",
    "DELETE FROM trusted_devices WHERE user_id = ?",
    "DELETE FROM api_keys WHERE user_id = ?",
    "DELETE FROM mails WHERE user_id = ?",
    "DELETE FROM mail_tokens WHERE user_id = ?",
    "DELETE FROM mail_records WHERE user_id = ?",
    "DELETE FROM service_accounts WHERE id = ?",
    "DELETE FROM accounts WHERE id = ?",
];

impl FromRow<'_, SqliteRow> for Deletion {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            user_id: row.try_get("user_id").map(UserId)?,
            erase_at: row.try_get("erase_at").map(Millis)?,
            erased: row.try_get::<Option<i64>, _>("erased_at")?.is_some(),
            told: row.try_get("told")?,
            place: row.try_get("place")?,
            attempts: row.try_get("attempts")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for KnownDevice {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("device_id")?,
            created_at: row.try_get("created_at").map(Millis)?,
            expires_at: row.try_get("expires_at").map(Millis)?,
        })
    }
}

/// Takes back the deletion of an account that is still there; whether there was one.
pub(super) async fn keep(write: &mut SqliteConnection, user: UserId) -> Stored<bool> {
    let kept = sqlx::query("DELETE FROM deletions WHERE user_id = ? AND erased_at IS NULL").bind(user.0);
    Ok(kept.execute(write).await?.rows_affected() > 0)
}

async fn account(write: &mut SqliteConnection, user: UserId) -> Stored<Option<Credentials>> {
    Ok(sqlx::query_as("SELECT * FROM accounts WHERE id = ?").bind(user.0).fetch_optional(write).await?)
}

async fn disable(write: &mut SqliteConnection, user: UserId, at: Option<Millis>, now: Millis) -> Stored<()> {
    sqlx::query("UPDATE accounts SET disabled_at = ?, updated_at = ? WHERE id = ?")
        .bind(at.map(|at| at.0))
        .bind(now.0)
        .bind(user.0)
        .execute(write)
        .await?;
    Ok(())
}

/// Ends all sessions and keys of an account.
async fn end_all(
    write: &mut SqliteConnection,
    user: UserId,
    now: Millis,
    revoked_until: Millis,
) -> Stored<EndedSessions> {
    // No session has the nil id, so none is kept.
    let mut ended = ends::end_but(write, user, SessionId(Uuid::nil()), now, revoked_until).await?;
    let keys: Vec<Uuid> = sqlx::query_scalar("DELETE FROM api_keys WHERE user_id = ? RETURNING id")
        .bind(user.0)
        .fetch_all(&mut *write)
        .await?;
    for key in keys {
        ended.head = Some(ends::revoke(write, key, revoked_until).await?);
    }
    Ok(ended)
}

#[async_trait]
impl PersonStore for SqliteStore {
    async fn set_access(&self, change: &AccessChange) -> Stored<AccessSet> {
        let mut write = self.write().await?;
        let user = change.user_id;
        let Some(Credentials { mut account, .. }) = account(&mut write, user).await? else {
            return Ok(AccessSet::Missing);
        };
        let mut ended = EndedSessions::default();
        if account.disabled_at.is_some() != change.disabled {
            account.disabled_at = change.disabled.then_some(change.now);
            account.updated_at = change.now;
            disable(&mut write, user, account.disabled_at, change.now).await?;
            if change.disabled {
                let none = SessionId(Uuid::nil());
                ended = ends::end_but(&mut write, user, none, change.now, change.revoked_until).await?;
                factors::trust_none(&mut write, user).await?;
            }
            audit::insert(&mut write, &change.audit).await?;
        }
        if !change.disabled && keep(&mut write, user).await? {
            audit::insert(&mut write, std::slice::from_ref(&change.kept)).await?;
        }
        write.commit().await?;
        Ok(AccessSet::Set { account, ended })
    }

    async fn trusted_devices(&self, user: UserId, now: Millis) -> Stored<Vec<KnownDevice>> {
        Ok(sqlx::query_as("SELECT * FROM trusted_devices WHERE user_id = ? AND expires_at > ? ORDER BY device_id")
            .bind(user.0)
            .bind(now.0)
            .fetch_all(&self.readers)
            .await?)
    }

    async fn end_sessions_after(
        &self,
        after: SessionId,
        now: Millis,
        revoked_until: Millis,
        limit: u32,
    ) -> Stored<(EndedSessions, Option<SessionId>)> {
        let mut write = self.write().await?;
        let live: Vec<SessionRow> = sqlx::query_as(
            "SELECT * FROM sessions WHERE id > ? AND ended_at IS NULL AND +expires_at > ? ORDER BY id LIMIT ? + 0",
        )
        .bind(after.0)
        .bind(now.0)
        .bind(limit)
        .fetch_all(&mut *write)
        .await?;
        let ended = ends::end_all(&mut write, &live, now, revoked_until).await?;
        write.commit().await?;
        Ok((ended, live.last().map(|row| row.session.id)))
    }

    async fn plan_deletion(&self, plan: &DeletionPlan) -> Stored<DeletionPlanned> {
        let mut write = self.write().await?;
        let user = plan.user_id;
        let Some(Credentials { account, .. }) = account(&mut write, user).await? else {
            return Ok(DeletionPlanned::Missing);
        };
        if plan.disabled && account.disabled_at.is_none() {
            disable(&mut write, user, Some(plan.now), plan.now).await?;
        }
        let ended = end_all(&mut write, user, plan.now, plan.revoked_until).await?;
        factors::trust_none(&mut write, user).await?;
        sqlx::query(
            "INSERT INTO deletions (user_id, asked_at, erase_at, told, place, attempts, due_at)
             VALUES (?1, ?2, ?3, 0, '', 0, ?3) ON CONFLICT (user_id) DO NOTHING",
        )
        .bind(user.0)
        .bind(plan.now.0)
        .bind(plan.erase_at.0)
        .execute(&mut *write)
        .await?;
        let erase_at = sqlx::query_scalar("SELECT erase_at FROM deletions WHERE user_id = ?")
            .bind(user.0)
            .fetch_one(&mut *write)
            .await?;
        audit::insert(&mut write, &plan.audit).await?;
        write.commit().await?;
        Ok(DeletionPlanned::Planned { erase_at: Millis(erase_at), head: ended.head })
    }

    async fn deletion(&self, user: UserId) -> Stored<Option<Deletion>> {
        let found = sqlx::query_as("SELECT * FROM deletions WHERE user_id = ?").bind(user.0);
        Ok(found.fetch_optional(&self.readers).await?)
    }

    async fn claim_deletions(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<UserId>> {
        // A look through a reader first: most of the time nothing is due, and the writer is left alone.
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM deletions WHERE due_at <= ?)")
            .bind(now.0)
            .fetch_one(&self.readers)
            .await?;
        if !any {
            return Ok(Vec::new());
        }
        let mut write = self.write().await?;
        let users: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE deletions SET due_at = ? WHERE user_id IN (
                 SELECT user_id FROM deletions WHERE due_at <= ? ORDER BY due_at LIMIT ? + 0)
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

    async fn erase_account(
        &self,
        user: UserId,
        now: Millis,
        revoked_until: Millis,
        entries: &[Entry],
    ) -> Stored<Erased> {
        let mut write = self.write().await?;
        let begun = sqlx::query(
            "UPDATE deletions SET erased_at = ?2 WHERE user_id = ?1 AND erased_at IS NULL AND erase_at <= ?2",
        )
        .bind(user.0)
        .bind(now.0)
        .execute(&mut *write)
        .await?;
        if begun.rows_affected() == 0 {
            return Ok(Erased::NotDue);
        }
        // A key that was made since is no exception.
        let ended = end_all(&mut write, user, now, revoked_until).await?;
        for statement in ERASE {
            sqlx::query(statement).bind(user.0).execute(&mut *write).await?;
        }
        audit::insert(&mut write, entries).await?;
        write.commit().await?;
        Ok(Erased::Gone { head: ended.head })
    }

    async fn scrub_audit(&self, user: UserId, side: Side, after: Option<Uuid>, limit: u32) -> Stored<Option<Uuid>> {
        let (ids, scrub) = match side {
            Side::Subject => (
                sqlx::query_scalar("SELECT id FROM audit WHERE subject_id = ? AND id > ? ORDER BY id LIMIT ? + 0")
                    .bind(user.0),
                sqlx::query(
                    "UPDATE audit SET detail = '',
                         ip_address = iif(actor_kind = 'nobody', '', ip_address),
                         place = iif(actor_kind = 'nobody', '', place), device = iif(actor_kind = 'nobody', '', device)
                     WHERE subject_id = ? AND id > ? AND id <= ?",
                )
                .bind(user.0),
            ),
            Side::Actor => (
                sqlx::query_scalar("SELECT id FROM audit WHERE actor = ? AND id > ? ORDER BY id LIMIT ? + 0")
                    .bind(user.0.to_string()),
                sqlx::query(
                    "UPDATE audit SET ip_address = '', place = '', device = '' WHERE actor = ? AND id > ? AND id <= ?",
                )
                .bind(user.0.to_string()),
            ),
        };
        let after = after.unwrap_or(Uuid::nil());
        let page: Vec<Uuid> = ids.bind(after).bind(limit).fetch_all(&self.readers).await?;
        let Some(last) = page.last().copied() else { return Ok(None) };
        scrub.bind(after).bind(last).execute(&self.writer).await?;
        Ok(Some(last))
    }

    async fn note_deletion(&self, user: UserId, told: bool, place: &str, due_at: Millis) -> Stored<()> {
        sqlx::query("UPDATE deletions SET told = ?, place = ?, attempts = 0, due_at = ? WHERE user_id = ?")
            .bind(told)
            .bind(place)
            .bind(due_at.0)
            .bind(user.0)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn postpone_deletion(&self, user: UserId, until: Millis) -> Stored<()> {
        sqlx::query("UPDATE deletions SET attempts = attempts + 1, due_at = ? WHERE user_id = ?")
            .bind(until.0)
            .bind(user.0)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn finish_deletion(&self, user: UserId) -> Stored<()> {
        sqlx::query("DELETE FROM deletions WHERE user_id = ? AND erased_at IS NOT NULL")
            .bind(user.0)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
