//! Statements about accounts: making, finding, renaming.

use mesh::time::Millis;
use sqlx::{SqliteConnection, SqlitePool};

use super::{Write, audit, mails, outbox, rows, sessions};
use crate::{
    account::{Login, UserId, Username},
    audit::Entry,
    outbox::{Delivery, News},
    store::{Created, Credentials, NewAccount, NewSession, Renamed, Stored},
};

pub(super) async fn create(
    mut write: Write,
    account: &NewAccount,
    session: &NewSession,
    entries: &[Entry],
) -> Stored<Created> {
    let created = insert(&mut write, account).await?;
    if created != Created::Made {
        return Ok(created);
    }
    sessions::insert(&mut write, session).await?;
    audit::insert(&mut write, entries).await?;
    write.commit().await?;
    Ok(created)
}

/// Adds an account with the delivery of its profile, and uses its invitation up.
pub(super) async fn insert(write: &mut SqliteConnection, account: &NewAccount) -> Stored<Created> {
    // No other write comes between the look and the insert; the unique indexes would refuse one that did.
    let there: Option<bool> = sqlx::query_scalar(
        "SELECT max(id = ?) FROM accounts WHERE id = ? OR username_key = ? OR email_key = ? HAVING count(*) > 0",
    )
    .bind(account.id.0)
    .bind(account.id.0)
    .bind(account.username.key())
    .bind(account.email.key())
    .fetch_optional(&mut *write)
    .await?;
    match there {
        Some(true) => return Ok(Created::IdTaken),
        Some(false) => return Ok(Created::NameTaken),
        None => {}
    }
    if let Some(invitation) = &account.invitation {
        let used = sqlx::query(
            "UPDATE invitations SET used_at = ?1, used_by = ?2 WHERE hash = ?3 AND used_at IS NULL AND expires_at > ?1",
        )
        .bind(account.created_at.0)
        .bind(account.id.0)
        .bind(invitation.0.as_slice())
        .execute(&mut *write)
        .await?;
        if used.rows_affected() == 0 {
            return Ok(Created::NotInvited);
        }
    }
    sqlx::query(
        "INSERT INTO accounts (id, username, username_key, username_version, email, email_key, password_hash, roles,
                               created_at, updated_at)
         VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?)",
    )
    .bind(account.id.0)
    .bind(account.username.as_str())
    .bind(account.username.key())
    .bind(account.email.as_str())
    .bind(account.email.key())
    .bind(&account.password_hash)
    .bind(rows::roles_json(&account.roles)?)
    .bind(account.created_at.0)
    .bind(account.created_at.0)
    .execute(&mut *write)
    .await?;
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

pub(super) async fn by_id(readers: &SqlitePool, id: UserId) -> Stored<Option<Credentials>> {
    Ok(sqlx::query_as("SELECT * FROM accounts WHERE id = ?").bind(id.0).fetch_optional(readers).await?)
}

pub(super) async fn by_login(readers: &SqlitePool, login: &Login) -> Stored<Option<Credentials>> {
    let (query, key) = match login {
        Login::Username(key) => (sqlx::query_as("SELECT * FROM accounts WHERE username_key = ?"), key),
        Login::Email(key) => (sqlx::query_as("SELECT * FROM accounts WHERE email_key = ?"), key),
    };
    Ok(query.bind(key).fetch_optional(readers).await?)
}

pub(super) async fn taken(readers: &SqlitePool, username_key: &str, email_key: &str) -> Stored<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM accounts WHERE username_key = ? OR email_key = ?)")
        .bind(username_key)
        .bind(email_key)
        .fetch_one(readers)
        .await?)
}

pub(super) async fn rename(
    mut write: Write,
    id: UserId,
    username: &Username,
    now: Millis,
    due_at: Millis,
    entries: &[Entry],
) -> Stored<Renamed> {
    let there: Option<Credentials> =
        sqlx::query_as("SELECT * FROM accounts WHERE id = ?").bind(id.0).fetch_optional(&mut *write).await?;
    let Some(Credentials { mut account, .. }) = there else { return Ok(Renamed::Missing) };
    if account.username == *username {
        return Ok(Renamed::Renamed(account));
    }
    let taken: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM accounts WHERE username_key = ? AND id <> ?)")
        .bind(username.key())
        .bind(id.0)
        .fetch_one(&mut *write)
        .await?;
    if taken {
        return Ok(Renamed::Taken);
    }
    let version: i64 = sqlx::query_scalar(
        "UPDATE accounts SET username = ?, username_key = ?, username_version = username_version + 1, updated_at = ?
         WHERE id = ? RETURNING username_version",
    )
    .bind(username.as_str())
    .bind(username.key())
    .bind(now.0)
    .bind(id.0)
    .fetch_one(&mut *write)
    .await?;
    let name = username.as_str().to_owned();
    let delivery = Delivery { user_id: id, version, username: name, news: News::Renamed, attempts: 0 };
    outbox::insert(&mut write, &delivery, due_at).await?;
    audit::insert(&mut write, entries).await?;
    write.commit().await?;
    account.username = username.clone();
    account.updated_at = now;
    Ok(Renamed::Renamed(account))
}
