//! Statements about invitations.

use async_trait::async_trait;
use mesh::time::Millis;
use mesh_postgres::run;
use sqlx::{Error, FromRow, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, audit, rows};
use crate::{
    account::UserId,
    audit::{Actor, Entry},
    invitation::{Invitation, InvitationHash},
    store::{InvitationStore, NewInvitation, Stored},
};

impl FromRow<'_, PgRow> for Invitation {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        let (kind, name): (&str, &str) = (row.try_get("made_by_kind")?, row.try_get("made_by")?);
        Ok(Self {
            id: row.try_get("id")?,
            note: row.try_get("note")?,
            made_by: Actor::kept(kind, name).ok_or_else(|| rows::bad("made_by", "no actor"))?,
            created_at: row.try_get("created_at").map(Millis)?,
            expires_at: row.try_get("expires_at").map(Millis)?,
            used_at: row.try_get::<Option<i64>, _>("used_at")?.map(Millis),
            used_by: row.try_get::<Option<Uuid>, _>("used_by")?.map(UserId),
        })
    }
}

#[async_trait]
impl InvitationStore for PostgresStore {
    async fn invite(&self, new: &NewInvitation) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => invite(db, new))?)
    }

    async fn good_invitation(&self, hash: &InvitationHash, now: Millis) -> Stored<Option<Uuid>> {
        Ok(run!(self.calls, statement, db => good(db, hash, now))?)
    }

    async fn invitations(&self, now: Millis, after: Option<Uuid>, limit: u32) -> Stored<Vec<Invitation>> {
        Ok(run!(self.calls, statement, db => list(db, now, after, limit))?)
    }

    async fn revoke_invitation(&self, id: Uuid, audit: &[Entry]) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => revoke(db, id, audit))?)
    }
}

async fn invite(write: &mut PgConnection, new: &NewInvitation) -> Result<bool, Error> {
    let invitation = &new.invitation;
    // Held until the end, so that of several each is counted before the next one is. Reading goes on.
    sqlx::raw_sql("LOCK TABLE invitations IN SHARE ROW EXCLUSIVE MODE").execute(&mut *write).await?;
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM invitations WHERE expires_at > $1")
        .bind(invitation.created_at.0)
        .fetch_one(&mut *write)
        .await?;
    if open >= i64::from(new.open_max) {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO invitations (id, hash, note, made_by_kind, made_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
    )
    .bind(invitation.id)
    .bind(new.hash.0.as_slice())
    .bind(&invitation.note)
    .bind(invitation.made_by.kind())
    .bind(invitation.made_by.name())
    .bind(invitation.created_at.0)
    .bind(invitation.expires_at.0)
    .execute(&mut *write)
    .await?;
    audit::insert(write, &new.audit).await?;
    Ok(true)
}

async fn good(read: &mut PgConnection, hash: &InvitationHash, now: Millis) -> Result<Option<Uuid>, Error> {
    sqlx::query_scalar("SELECT id FROM invitations WHERE hash = $1 AND used_at IS NULL AND expires_at > $2")
        .bind(hash.0.as_slice())
        .bind(now.0)
        .fetch_optional(read)
        .await
}

/// Holds a good invitation until the end of the transaction, so that of two who use it the second finds it used.
pub(super) async fn hold(write: &mut PgConnection, hash: &InvitationHash, now: Millis) -> Result<Option<Uuid>, Error> {
    sqlx::query_scalar("SELECT id FROM invitations WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 FOR UPDATE")
        .bind(hash.0.as_slice())
        .bind(now.0)
        .fetch_optional(write)
        .await
}

pub(super) async fn use_up(write: &mut PgConnection, id: Uuid, by: UserId, now: Millis) -> Result<(), Error> {
    sqlx::query("UPDATE invitations SET used_at = $2, used_by = $3 WHERE id = $1")
        .bind(id)
        .bind(now.0)
        .bind(by.0)
        .execute(write)
        .await?;
    Ok(())
}

async fn list(read: &mut PgConnection, now: Millis, after: Option<Uuid>, limit: u32) -> Result<Vec<Invitation>, Error> {
    sqlx::query_as(
        "SELECT id, note, made_by_kind, made_by, created_at, expires_at, used_at, used_by FROM invitations
         WHERE id < $1 AND expires_at > $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(after.unwrap_or(Uuid::max()))
    .bind(now.0)
    .bind(i64::from(limit))
    .fetch_all(read)
    .await
}

async fn revoke(write: &mut PgConnection, id: Uuid, entries: &[Entry]) -> Result<bool, Error> {
    let gone =
        sqlx::query("DELETE FROM invitations WHERE id = $1 AND used_at IS NULL").bind(id).execute(&mut *write).await?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    audit::insert(write, entries).await?;
    Ok(true)
}
