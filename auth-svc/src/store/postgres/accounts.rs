//! Statements about accounts: making, finding, renaming.

use mesh::time::Millis;
use mesh_postgres::errors;
use sqlx::{Error, PgConnection};

use super::{audit, invitations, mails, outbox, sessions};
use crate::{
    account::{Login, UserId, Username},
    audit::Entry,
    outbox::{Delivery, News},
    store::{Created, Credentials, NewAccount, NewSession, Renamed},
};

/// The constraint that keeps usernames apart.
const USERNAME_KEY: &str = "accounts_username_key";

pub(super) async fn create(
    write: &mut PgConnection,
    account: &NewAccount,
    session: &NewSession,
    entries: &[Entry],
) -> Result<Created, Error> {
    let created = insert(write, account).await?;
    if created == Created::Made {
        sessions::insert(write, session).await?;
        audit::insert(write, entries).await?;
    }
    Ok(created)
}

/// Adds an account with the delivery of its profile, and uses its invitation up.
pub(super) async fn insert(write: &mut PgConnection, account: &NewAccount) -> Result<Created, Error> {
    let mut invitation = None;
    if let Some(hash) = &account.invitation {
        invitation = invitations::hold(write, hash, account.created_at).await?;
        if invitation.is_none() {
            // The same registration may have used it, if its answer was lost.
            return Ok(if is_there(write, account.id).await? { Created::IdTaken } else { Created::NotInvited });
        }
    }
    // Of two that race for anything unique, the second waits here for the first one's commit.
    let made = sqlx::query(
        "INSERT INTO accounts (id, username, username_key, username_version, email, email_key, password_hash, roles,
                               created_at, updated_at)
         VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $8) ON CONFLICT DO NOTHING",
    )
    .bind(account.id.0)
    .bind(account.username.as_str())
    .bind(account.username.key())
    .bind(account.email.as_str())
    .bind(account.email.key())
    .bind(&account.password_hash)
    .bind(&account.roles)
    .bind(account.created_at.0)
    .execute(&mut *write)
    .await?;
    if made.rows_affected() == 0 {
        return Ok(if is_there(write, account.id).await? { Created::IdTaken } else { Created::NameTaken });
    }
    if let Some(invitation) = invitation {
        invitations::use_up(write, invitation, account.id, account.created_at).await?;
    }
    let delivery = Delivery {
        user_id: account.id,
        version: 1,
        username: account.username.as_str().to_owned(),
        news: News::Created { first_name: account.first_name.clone(), last_name: account.last_name.clone() },
        attempts: 0,
    };
    outbox::insert(write, &delivery, account.delivery_due_at).await?;
    mails::queue(write, &account.mails).await?;
    Ok(Created::Made)
}

async fn is_there(read: &mut PgConnection, id: UserId) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM accounts WHERE id = $1)").bind(id.0).fetch_one(read).await
}

pub(super) async fn by_id(read: &mut PgConnection, id: UserId) -> Result<Option<Credentials>, Error> {
    sqlx::query_as(
        "SELECT id, username, email, password_hash, roles, created_at, updated_at, disabled_at,
                email_verified_at FROM accounts WHERE id = $1",
    )
    .bind(id.0)
    .fetch_optional(read)
    .await
}

pub(super) async fn by_login(read: &mut PgConnection, login: &Login) -> Result<Option<Credentials>, Error> {
    let (query, key) = match login {
        Login::Username(key) => (
            "SELECT id, username, email, password_hash, roles, created_at, updated_at, disabled_at,
                email_verified_at FROM accounts
             WHERE username_key = $1",
            key,
        ),
        Login::Email(key) => (
            "SELECT id, username, email, password_hash, roles, created_at, updated_at, disabled_at,
                email_verified_at FROM accounts
             WHERE email_key = $1",
            key,
        ),
    };
    sqlx::query_as(query).bind(key).fetch_optional(read).await
}

pub(super) async fn taken(read: &mut PgConnection, username_key: &str, email_key: &str) -> Result<bool, Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM accounts WHERE username_key = $1)
             OR EXISTS (SELECT 1 FROM accounts WHERE email_key = $2)",
    )
    .bind(username_key)
    .bind(email_key)
    .fetch_one(read)
    .await
}

pub(super) async fn rename(
    write: &mut PgConnection,
    id: UserId,
    username: &Username,
    now: Millis,
    due_at: Millis,
    entries: &[Entry],
) -> Result<Renamed, Error> {
    let there: Option<Credentials> = sqlx::query_as(
        "SELECT id, username, email, password_hash, roles, created_at, updated_at, disabled_at,
                email_verified_at FROM accounts
         WHERE id = $1 FOR UPDATE",
    )
    .bind(id.0)
    .fetch_optional(&mut *write)
    .await?;
    let Some(Credentials { mut account, .. }) = there else { return Ok(Renamed::Missing) };
    if account.username == *username {
        return Ok(Renamed::Renamed(account));
    }
    let renamed: Result<i64, Error> = sqlx::query_scalar(
        "UPDATE accounts SET username = $2, username_key = $3, username_version = username_version + 1, updated_at = $4
         WHERE id = $1 RETURNING username_version",
    )
    .bind(id.0)
    .bind(username.as_str())
    .bind(username.key())
    .bind(now.0)
    .fetch_one(&mut *write)
    .await;
    let version = match renamed {
        Ok(version) => version,
        Err(error) if errors::breaks(&error, USERNAME_KEY) => return Ok(Renamed::Taken),
        Err(error) => return Err(error),
    };
    let name = username.as_str().to_owned();
    let delivery = Delivery { user_id: id, version, username: name, news: News::Renamed, attempts: 0 };
    outbox::insert(write, &delivery, due_at).await?;
    audit::insert(write, entries).await?;
    account.username = username.clone();
    account.updated_at = now;
    Ok(Renamed::Renamed(account))
}
