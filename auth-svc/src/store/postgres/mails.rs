//! Statements about mails and their tokens. Rows are locked in the order that `ends.rs` says: the account, what hangs on it,
//! its sessions, the revocation head.

use async_trait::async_trait;
use mesh::time::Millis;
use mesh_postgres::run;
use sqlx::{Error, FromRow, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, audit, ends, factors};
use crate::{
    account::UserId,
    mail::{Kind, Mail, MailTokenHash, NewMail, Recipient},
    session::SessionId,
    store::{MailIssue, MailIssued, MailStore, PasswordChanged, PasswordReset, Stored, Verification},
};

/// A row; none of a kind that a newer version wrote.
struct Kept(Option<Mail>);

impl FromRow<'_, PgRow> for Kept {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        let Some(kind) = Kind::kept(row.try_get("kind")?) else { return Ok(Self(None)) };
        let to = match row.try_get::<Option<Uuid>, _>("user_id")? {
            Some(user) => Recipient::Account(UserId(user)),
            None => Recipient::Address(row.try_get("address")?),
        };
        let attempts: i64 = row.try_get("attempts")?;
        Ok(Self(Some(Mail {
            id: row.try_get("id")?,
            kind,
            to,
            // What cannot be read tells less in the mail, and holds nothing up.
            details: serde_json::from_str(row.try_get("details")?).unwrap_or_default(),
            created_at: row.try_get("created_at").map(Millis)?,
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            expires_at: row.try_get("expires_at").map(Millis)?,
        })))
    }
}

#[async_trait]
impl MailStore for PostgresStore {
    async fn queue_mail(&self, mail: &NewMail, waiting_max: u32) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => queue_one(db, mail, waiting_max))?)
    }

    async fn claim_mails(&self, now: Millis, until: Millis, limit: u32) -> Stored<Vec<Mail>> {
        // Run twice, it claims other mails; those of the first run are due again when their lease is over.
        Ok(run!(self.calls, statement, db => claim(db, now, until, limit))?)
    }

    async fn issue_mail(&self, issue: &MailIssue) -> Stored<MailIssued> {
        Ok(run!(self.calls, transaction, db => issue_one(db, issue))?)
    }

    async fn forget_mail(&self, id: Uuid) -> Stored<()> {
        Ok(run!(self.calls, statement, db => forget(db, id))?)
    }

    async fn postpone_mail(&self, id: Uuid, until: Millis) -> Stored<()> {
        // Run twice, it counts one try more, which makes a wait longer and nothing else.
        Ok(run!(self.calls, statement, db => postpone(db, id, until))?)
    }

    async fn mail_token(&self, token: &MailTokenHash, kind: Kind, now: Millis) -> Stored<Option<UserId>> {
        Ok(run!(self.calls, statement, db => owner(db, token, kind, now))?)
    }

    async fn reset_password(&self, reset: &PasswordReset) -> Stored<PasswordChanged> {
        Ok(run!(self.calls, transaction, db => reset_by(db, reset))?)
    }

    async fn verify_email(&self, verification: &Verification) -> Stored<bool> {
        Ok(run!(self.calls, transaction, db => verify(db, verification))?)
    }
}

/// Has mails wait that tell of a write in progress, or that were asked for.
pub(super) async fn queue(write: &mut PgConnection, mails: &[NewMail]) -> Result<(), Error> {
    for NewMail { mail, slot } in mails {
        let (user, address) = match &mail.to {
            Recipient::Account(user) => (Some(user.0), ""),
            Recipient::Address(key) => (None, key.as_str()),
        };
        let details = serde_json::to_string(&mail.details).map_err(|error| Error::Encode(error.into()))?;
        // The id too: this may run a second time after an answer that was lost.
        sqlx::query(
            "INSERT INTO mails (id, kind, user_id, address, details, slot, created_at, attempts, due_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $9) ON CONFLICT DO NOTHING",
        )
        .bind(mail.id)
        .bind(mail.kind.as_str())
        .bind(user)
        .bind(address)
        .bind(details)
        .bind(slot)
        .bind(mail.created_at.0)
        .bind(i64::from(mail.attempts))
        .bind(mail.expires_at.0)
        .execute(&mut *write)
        .await?;
    }
    Ok(())
}

async fn queue_one(write: &mut PgConnection, mail: &NewMail, waiting_max: u32) -> Result<bool, Error> {
    // Several at once may count the same: some more wait than may, and no more than there are callers.
    let full: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mails WHERE due_at > $1 ORDER BY due_at LIMIT 1 OFFSET $2)")
            .bind(i64::MIN)
            .bind(i64::from(waiting_max) - 1)
            .fetch_one(&mut *write)
            .await?;
    if full {
        return Ok(false);
    }
    queue(write, std::slice::from_ref(mail)).await?;
    Ok(true)
}

async fn claim(write: &mut PgConnection, now: Millis, until: Millis, limit: u32) -> Result<Vec<Mail>, Error> {
    let rows: Vec<Kept> = sqlx::query_as(
        "UPDATE mails SET due_at = $2 WHERE id = ANY (ARRAY (
             SELECT id FROM mails WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED))
         RETURNING id, kind, user_id, address, details, created_at, attempts, expires_at",
    )
    .bind(now.0)
    .bind(until.0)
    .bind(i64::from(limit))
    .fetch_all(write)
    .await?;
    let mut mails: Vec<_> = rows.into_iter().filter_map(|row| row.0).collect();
    mails.sort_unstable_by_key(|mail| (mail.created_at, mail.id));
    Ok(mails)
}

async fn issue_one(write: &mut PgConnection, issue: &MailIssue) -> Result<MailIssued, Error> {
    // Held until the end, so that of several mails of an account each is counted before the next one is.
    let address: Option<String> = sqlx::query_scalar("SELECT email_key FROM accounts WHERE id = $1 FOR UPDATE")
        .bind(issue.user_id.0)
        .fetch_optional(&mut *write)
        .await?;
    if address.as_ref() != Some(&issue.address) {
        return Ok(MailIssued::Over);
    }
    let again: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mail_records WHERE id = $1)")
        .bind(issue.mail)
        .fetch_one(&mut *write)
        .await?;
    if again {
        let Some(token) = &issue.token else { return Ok(MailIssued::Issued) };
        let good = sqlx::query("UPDATE mail_tokens SET expires_at = $2 WHERE hash = $1")
            .bind(token.hash.0.as_slice())
            .bind(token.expires_at.0)
            .execute(write)
            .await?;
        return Ok(if good.rows_affected() > 0 { MailIssued::Issued } else { MailIssued::Over });
    }
    if issue.token.is_some() && is_limited(write, issue).await? {
        return Ok(MailIssued::Limited);
    }
    record(write, issue).await?;
    Ok(MailIssued::Issued)
}

/// Whether the account or the address has had as many as it may.
async fn is_limited(read: &mut PgConnection, issue: &MailIssue) -> Result<bool, Error> {
    let of_account: i64 =
        sqlx::query_scalar("SELECT count(*) FROM mail_records WHERE user_id = $1 AND at > $2 AND asked")
            .bind(issue.user_id.0)
            .bind(issue.counted_since.0)
            .fetch_one(&mut *read)
            .await?;
    let of_address: i64 =
        sqlx::query_scalar("SELECT count(*) FROM mail_records WHERE recipient = $1 AND at > $2 AND asked")
            .bind(issue.recipient.0.as_slice())
            .bind(issue.counted_since.0)
            .fetch_one(read)
            .await?;
    Ok(of_account >= i64::from(issue.account_max) || of_address >= i64::from(issue.address_max))
}

/// Records a mail that goes out for the first time.
async fn record(write: &mut PgConnection, issue: &MailIssue) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO mail_records (id, user_id, recipient, asked, at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(issue.mail)
    .bind(issue.user_id.0)
    .bind(issue.recipient.0.as_slice())
    .bind(issue.token.is_some())
    .bind(issue.now.0)
    .bind(issue.recorded_until.0)
    .execute(&mut *write)
    .await?;
    if let Some(token) = &issue.token {
        sqlx::query(
            "INSERT INTO mail_tokens (hash, purpose, user_id, address, expires_at) VALUES ($1, $2, $3, $4, $5)",
        )
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

async fn forget(write: &mut PgConnection, id: Uuid) -> Result<(), Error> {
    sqlx::query("DELETE FROM mails WHERE id = $1").bind(id).execute(write).await?;
    Ok(())
}

async fn postpone(write: &mut PgConnection, id: Uuid, until: Millis) -> Result<(), Error> {
    sqlx::query("UPDATE mails SET attempts = attempts + 1, due_at = $2 WHERE id = $1")
        .bind(id)
        .bind(until.0)
        .execute(write)
        .await?;
    Ok(())
}

async fn owner(
    read: &mut PgConnection,
    token: &MailTokenHash,
    kind: Kind,
    now: Millis,
) -> Result<Option<UserId>, Error> {
    let user: Option<Uuid> =
        sqlx::query_scalar("SELECT user_id FROM mail_tokens WHERE hash = $1 AND purpose = $2 AND expires_at > $3")
            .bind(token.0.as_slice())
            .bind(kind.as_str())
            .bind(now.0)
            .fetch_optional(read)
            .await?;
    Ok(user.map(UserId))
}

/// Makes tokens of a kind that an account has good no more.
pub(super) async fn forget_tokens(write: &mut PgConnection, user: UserId, kind: Kind) -> Result<(), Error> {
    sqlx::query("DELETE FROM mail_tokens WHERE user_id = $1 AND purpose = $2")
        .bind(user.0)
        .bind(kind.as_str())
        .execute(write)
        .await?;
    Ok(())
}

/// Whether the account has the address that a good token went to. Its row is locked by it, which is before the token's.
async fn holds(
    write: &mut PgConnection,
    token: &MailTokenHash,
    user: UserId,
    kind: Kind,
    now: Millis,
) -> Result<bool, Error> {
    let address: Option<String> =
        sqlx::query_scalar("SELECT email_key FROM accounts WHERE id = $1 AND disabled_at IS NULL FOR UPDATE")
            .bind(user.0)
            .fetch_optional(&mut *write)
            .await?;
    // Of two who use one token, the second waited for the account and finds the token gone.
    let went_to: Option<String> = sqlx::query_scalar(
        "DELETE FROM mail_tokens WHERE hash = $1 AND user_id = $2 AND purpose = $3 AND expires_at > $4 AND address = $5
         RETURNING address",
    )
    .bind(token.0.as_slice())
    .bind(user.0)
    .bind(kind.as_str())
    .bind(now.0)
    .bind(address.as_deref().unwrap_or_default())
    .fetch_optional(write)
    .await?;
    Ok(went_to.is_some())
}

async fn reset_by(write: &mut PgConnection, reset: &PasswordReset) -> Result<PasswordChanged, Error> {
    let (user, now) = (reset.user_id, reset.now);
    if !holds(write, &reset.token, user, Kind::PasswordReset, now).await? {
        return Ok(PasswordChanged::Stale);
    }
    sqlx::query(
        "UPDATE accounts SET password_hash = $2, updated_at = $3, email_verified_at = coalesce(email_verified_at, $3)
         WHERE id = $1",
    )
    .bind(user.0)
    .bind(&reset.new_hash)
    .bind(now.0)
    .execute(&mut *write)
    .await?;
    forget_tokens(write, user, Kind::PasswordReset).await?;
    factors::trust_none(write, user).await?;
    queue(write, &reset.mails).await?;
    audit::insert(write, &reset.audit).await?;
    // No session has the nil id, so none is kept.
    let ended = ends::end_but(write, user, SessionId(Uuid::nil()), now, reset.revoked_until).await?;
    Ok(PasswordChanged::Changed(ended))
}

async fn verify(write: &mut PgConnection, verification: &Verification) -> Result<bool, Error> {
    let (user, now) = (verification.user_id, verification.now);
    if !holds(write, &verification.token, user, Kind::EmailVerification, now).await? {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE accounts SET updated_at = $2, email_verified_at = coalesce(email_verified_at, $2) WHERE id = $1",
    )
    .bind(user.0)
    .bind(now.0)
    .execute(&mut *write)
    .await?;
    forget_tokens(write, user, Kind::EmailVerification).await?;
    audit::insert(write, &verification.audit).await?;
    Ok(true)
}
