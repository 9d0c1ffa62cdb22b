//! Statements about mails and their tokens.

use async_trait::async_trait;
use mesh::time::Millis;
use sqlx::{FromRow, Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, audit, ends, factors};
use crate::{
    account::UserId,
    mail::{Kind, Mail, MailTokenHash, NewMail, Recipient},
    session::SessionId,
    store::{MailIssue, MailIssued, MailStore, PasswordChanged, PasswordReset, StoreError, Stored, Verification},
};

/// A row; none of a kind that a newer version wrote.
struct Kept(Option<Mail>);

impl FromRow<'_, SqliteRow> for Kept {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let Some(kind) = Kind::kept(row.try_get("kind")?) else { return Ok(Self(None)) };
        let to = match row.try_get::<Option<Uuid>, _>("user_id")? {
            Some(user) => Recipient::Account(UserId(user)),
            None => Recipient::Address(row.try_get("address")?),
        };
        Ok(Self(Some(Mail {
            id: row.try_get("id")?,
            kind,
            to,
            // What cannot be read tells less in the mail, and holds nothing up.
            details: serde_json::from_str(row.try_get("details")?).unwrap_or_default(),
            created_at: row.try_get("created_at").map(Millis)?,
            attempts: row.try_get("attempts")?,
            expires_at: row.try_get("expires_at").map(Millis)?,
        })))
    }
}

/// Has mails wait that tell of a write in progress, or that were asked for.
pub(super) async fn queue(write: &mut SqliteConnection, mails: &[NewMail]) -> Stored<()> {
    for NewMail { mail, slot } in mails {
        let (user, address) = match &mail.to {
            Recipient::Account(user) => (Some(user.0), ""),
            Recipient::Address(key) => (None, key.as_str()),
        };
        let details = serde_json::to_string(&mail.details).map_err(|error| StoreError::Broken(error.into()))?;
        sqlx::query(
            "INSERT INTO mails (id, kind, user_id, address, details, slot, created_at, attempts, due_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7, ?9) ON CONFLICT (slot) DO NOTHING",
        )
        .bind(mail.id)
        .bind(mail.kind.as_str())
        .bind(user)
        .bind(address)
        .bind(details)
        .bind(slot)
        .bind(mail.created_at.0)
        .bind(mail.attempts)
        .bind(mail.expires_at.0)
        .execute(&mut *write)
        .await?;
    }
    Ok(())
}

/// Makes tokens of a kind that an account has good no more.
pub(super) async fn forget_tokens(write: &mut SqliteConnection, user: UserId, kind: Kind) -> Stored<()> {
    sqlx::query("DELETE FROM mail_tokens WHERE user_id = ? AND purpose = ?")
        .bind(user.0)
        .bind(kind.as_str())
        .execute(write)
        .await?;
    Ok(())
}

/// Uses a token up; the address that it went to, if it was good.
async fn spend(
    write: &mut SqliteConnection,
    token: &MailTokenHash,
    user: UserId,
    kind: Kind,
    now: Millis,
) -> Stored<Option<String>> {
    Ok(sqlx::query_scalar(
        "DELETE FROM mail_tokens WHERE hash = ? AND user_id = ? AND purpose = ? AND expires_at > ? RETURNING address",
    )
    .bind(token.0.as_slice())
    .bind(user.0)
    .bind(kind.as_str())
    .bind(now.0)
    .fetch_optional(write)
    .await?)
}

/// Whether the account or the address has had as many as it may.
async fn is_limited(write: &mut SqliteConnection, issue: &MailIssue) -> Stored<bool> {
    let of_account: i64 =
        sqlx::query_scalar("SELECT count(*) FROM mail_records WHERE user_id = ? AND at > ? AND asked")
            .bind(issue.user_id.0)
            .bind(issue.counted_since.0)
            .fetch_one(&mut *write)
            .await?;
    let of_address: i64 =
        sqlx::query_scalar("SELECT count(*) FROM mail_records WHERE recipient = ? AND at > ? AND asked")
            .bind(issue.recipient.0.as_slice())
            .bind(issue.counted_since.0)
            .fetch_one(write)
            .await?;
    Ok(of_account >= i64::from(issue.account_max) || of_address >= i64::from(issue.address_max))
}

/// Records a mail that goes out for the first time.
async fn record(write: &mut SqliteConnection, issue: &MailIssue) -> Stored<()> {
    sqlx::query("INSERT INTO mail_records (id, user_id, recipient, asked, at, expires_at) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(issue.mail)
        .bind(issue.user_id.0)
        .bind(issue.recipient.0.as_slice())
        .bind(issue.token.is_some())
        .bind(issue.now.0)
        .bind(issue.recorded_until.0)
        .execute(&mut *write)
        .await?;
    if let Some(token) = &issue.token {
        sqlx::query("INSERT INTO mail_tokens (hash, purpose, user_id, address, expires_at) VALUES (?, ?, ?, ?, ?)")
            .bind(token.hash.0.as_slice())
            .bind(issue.kind.as_str())
            .bind(issue.user_id.0)
            .bind(&issue.address)
            .bind(token.expires_at.0)
            .execute(&mut *write)
            .await?;
    }
    audit::insert(write, &issue.audit).await
}

#[async_trait]
impl MailStore for SqliteStore {
    async fn queue_mail(&self, mail: &NewMail, waiting_max: u32) -> Stored<bool> {
        let mut write = self.write().await?;
        // The one up to which there are as many as may be.
        let full: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM mails WHERE due_at > ? ORDER BY due_at LIMIT 1 OFFSET ? + 0)",
        )
        .bind(i64::MIN)
        .bind(waiting_max.saturating_sub(1))
        .fetch_one(&mut *write)
        .await?;
        if full {
            return Ok(false);
        }
        queue(&mut write, std::slice::from_ref(mail)).await?;
        write.commit().await?;
        Ok(true)
    }

    async fn claim_mails(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<Mail>> {
        // A look through a reader first: most of the time nothing is due, and the writer is left alone.
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mails WHERE due_at <= ?)")
            .bind(now.0)
            .fetch_one(&self.readers)
            .await?;
        if !any {
            return Ok(Vec::new());
        }
        let mut write = self.write().await?;
        let rows: Vec<Kept> = sqlx::query_as(
            "UPDATE mails SET due_at = ? WHERE id IN (
                 SELECT id FROM mails WHERE due_at <= ? ORDER BY due_at LIMIT ? + 0)
             RETURNING *",
        )
        .bind(until.0)
        .bind(now.0)
        .bind(limit)
        .fetch_all(&mut *write)
        .await?;
        write.commit().await?;
        let mut mails: Vec<_> = rows.into_iter().filter_map(|row| row.0).collect();
        mails.sort_unstable_by_key(|mail| (mail.created_at, mail.id));
        Ok(mails)
    }

    async fn issue_mail(&self, issue: &MailIssue) -> Stored<MailIssued> {
        let mut write = self.write().await?;
        let address: Option<String> = sqlx::query_scalar("SELECT email_key FROM accounts WHERE id = ?")
            .bind(issue.user_id.0)
            .fetch_optional(&mut *write)
            .await?;
        if address.as_ref() != Some(&issue.address) {
            return Ok(MailIssued::Over);
        }
        let again: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mail_records WHERE id = ?)")
            .bind(issue.mail)
            .fetch_one(&mut *write)
            .await?;
        if again {
            let Some(token) = &issue.token else { return Ok(MailIssued::Issued) };
            let good = sqlx::query("UPDATE mail_tokens SET expires_at = ? WHERE hash = ?")
                .bind(token.expires_at.0)
                .bind(token.hash.0.as_slice())
                .execute(&mut *write)
                .await?;
            write.commit().await?;
            return Ok(if good.rows_affected() > 0 { MailIssued::Issued } else { MailIssued::Over });
        }
        if issue.token.is_some() && is_limited(&mut write, issue).await? {
            return Ok(MailIssued::Limited);
        }
        record(&mut write, issue).await?;
        write.commit().await?;
        Ok(MailIssued::Issued)
    }

    async fn forget_mail(&self, id: Uuid) -> Stored<()> {
        sqlx::query("DELETE FROM mails WHERE id = ?").bind(id).execute(&self.writer).await?;
        Ok(())
    }

    async fn postpone_mail(&self, id: Uuid, until: Millis) -> Stored<()> {
        sqlx::query("UPDATE mails SET attempts = attempts + 1, due_at = ? WHERE id = ?")
            .bind(until.0)
            .bind(id)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn mail_token(&self, token: &MailTokenHash, kind: Kind, now: Millis) -> Stored<Option<UserId>> {
        let user: Option<Uuid> =
            sqlx::query_scalar("SELECT user_id FROM mail_tokens WHERE hash = ? AND purpose = ? AND expires_at > ?")
                .bind(token.0.as_slice())
                .bind(kind.as_str())
                .bind(now.0)
                .fetch_optional(&self.readers)
                .await?;
        Ok(user.map(UserId))
    }

    async fn reset_password(&self, reset: &PasswordReset) -> Stored<PasswordChanged> {
        let mut write = self.write().await?;
        let (user, now) = (reset.user_id, reset.now);
        let spent = spend(&mut write, &reset.token, user, Kind::PasswordReset, now).await?;
        let Some(address) = spent else { return Ok(PasswordChanged::Stale) };
        let changed = sqlx::query(
            "UPDATE accounts SET password_hash = ?1, updated_at = ?2,
                 email_verified_at = coalesce(email_verified_at, ?2)
             WHERE id = ?3 AND email_key = ?4 AND disabled_at IS NULL",
        )
        .bind(&reset.new_hash)
        .bind(now.0)
        .bind(user.0)
        .bind(address)
        .execute(&mut *write)
        .await?;
        if changed.rows_affected() == 0 {
            return Ok(PasswordChanged::Stale);
        }
        forget_tokens(&mut write, user, Kind::PasswordReset).await?;
        // No session has the nil id, so none is kept.
        let ended = ends::end_but(&mut write, user, SessionId(Uuid::nil()), now, reset.revoked_until).await?;
        factors::trust_none(&mut write, user).await?;
        queue(&mut write, &reset.mails).await?;
        audit::insert(&mut write, &reset.audit).await?;
        write.commit().await?;
        Ok(PasswordChanged::Changed(ended))
    }

    async fn verify_email(&self, verification: &Verification) -> Stored<bool> {
        let mut write = self.write().await?;
        let (user, now) = (verification.user_id, verification.now);
        let spent = spend(&mut write, &verification.token, user, Kind::EmailVerification, now).await?;
        let Some(address) = spent else { return Ok(false) };
        let noted = sqlx::query(
            "UPDATE accounts SET updated_at = ?1, email_verified_at = coalesce(email_verified_at, ?1)
             WHERE id = ?2 AND email_key = ?3 AND disabled_at IS NULL",
        )
        .bind(now.0)
        .bind(user.0)
        .bind(address)
        .execute(&mut *write)
        .await?;
        if noted.rows_affected() == 0 {
            return Ok(false);
        }
        forget_tokens(&mut write, user, Kind::EmailVerification).await?;
        audit::insert(&mut write, &verification.audit).await?;
        write.commit().await?;
        Ok(true)
    }
}
