//! Statements about invitations.

use async_trait::async_trait;
use mesh::time::Millis;
use sqlx::{FromRow, Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, audit, rows};
use crate::{
    account::UserId,
    audit::{Actor, Entry},
    invitation::{Invitation, InvitationHash},
    store::{InvitationStore, NewInvitation, Stored},
};

impl FromRow<'_, SqliteRow> for Invitation {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
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
impl InvitationStore for SqliteStore {
    async fn invite(&self, new: &NewInvitation) -> Stored<bool> {
        let mut write = self.write().await?;
        let invitation = &new.invitation;
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM invitations WHERE expires_at > ?")
            .bind(invitation.created_at.0)
            .fetch_one(&mut *write)
            .await?;
        if open >= i64::from(new.open_max) {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO invitations (id, hash, note, made_by_kind, made_by, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
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
        audit::insert(&mut write, &new.audit).await?;
        write.commit().await?;
        Ok(true)
    }

    async fn good_invitation(&self, hash: &InvitationHash, now: Millis) -> Stored<Option<Uuid>> {
        Ok(sqlx::query_scalar("SELECT id FROM invitations WHERE hash = ? AND used_at IS NULL AND expires_at > ?")
            .bind(hash.0.as_slice())
            .bind(now.0)
            .fetch_optional(&self.readers)
            .await?)
    }

    async fn invitations(&self, now: Millis, after: Option<Uuid>, limit: u32) -> Stored<Vec<Invitation>> {
        Ok(sqlx::query_as("SELECT * FROM invitations WHERE id < ? AND expires_at > ? ORDER BY id DESC LIMIT ? + 0")
            .bind(after.unwrap_or(Uuid::max()))
            .bind(now.0)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?)
    }

    async fn revoke_invitation(&self, id: Uuid, entries: &[Entry]) -> Stored<bool> {
        let mut write = self.write().await?;
        let gone = sqlx::query("DELETE FROM invitations WHERE id = ? AND used_at IS NULL")
            .bind(id)
            .execute(&mut *write)
            .await?;
        if gone.rows_affected() == 0 {
            return Ok(false);
        }
        audit::insert(&mut write, entries).await?;
        write.commit().await?;
        Ok(true)
    }
}
