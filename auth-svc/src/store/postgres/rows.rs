//! Rows to types: times are Unix milliseconds. A row that cannot be what the tables promise is a broken store, never a
//! panic.

use mesh::time::Millis;
use sqlx::{FromRow, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::{
    account::{Account, Email, UserId, Username},
    audit::{Actor, Entry, Event},
    outbox::{Delivery, News},
    proof::Method,
    refresh::RefreshHash,
    revocation::Revocation,
    session::{Client, Session, SessionId},
    store::Credentials,
};

/// A session with what its owner never sees.
pub(super) struct SessionRow {
    pub(super) session: Session,
    pub(super) refresh_hash: RefreshHash,
}

pub(super) fn bad(column: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() }
}

fn millis(row: &PgRow, column: &str) -> Result<Millis, sqlx::Error> {
    row.try_get(column).map(Millis)
}

impl FromRow<'_, PgRow> for Credentials {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let (username, email): (&str, &str) = (row.try_get("username")?, row.try_get("email")?);
        let account = Account {
            id: UserId(row.try_get("id")?),
            username: Username::parse("username", username).map_err(|error| bad("username", error.message))?,
            email: Email::parse("email", email).map_err(|error| bad("email", error.message))?,
            roles: row.try_get("roles")?,
            created_at: millis(row, "created_at")?,
            updated_at: millis(row, "updated_at")?,
            disabled_at: row.try_get::<Option<i64>, _>("disabled_at")?.map(Millis),
            email_verified_at: row.try_get::<Option<i64>, _>("email_verified_at")?.map(Millis),
        };
        Ok(Self { account, password_hash: row.try_get("password_hash")? })
    }
}

impl FromRow<'_, PgRow> for SessionRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let hash: &[u8] = row.try_get("refresh_hash")?;
        let session = Session {
            id: SessionId(row.try_get("id")?),
            user_id: UserId(row.try_get("user_id")?),
            device: row.try_get("device")?,
            ip_address: row.try_get("ip_address")?,
            place: row.try_get("place")?,
            authenticated_at: millis(row, "authenticated_at")?,
            amr: Method::split(row.try_get("amr")?),
            created_at: millis(row, "created_at")?,
            last_used_at: millis(row, "last_used_at")?,
            expires_at: millis(row, "expires_at")?,
            ends_at: millis(row, "ends_at")?,
            access_expires_at: millis(row, "access_expires_at")?,
            ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Millis),
        };
        let refresh_hash = RefreshHash(hash.try_into().map_err(|error| bad("refresh_hash", error))?);
        Ok(Self { session, refresh_hash })
    }
}

impl FromRow<'_, PgRow> for Revocation {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            number: row.try_get("number")?,
            session_id: SessionId(row.try_get("session_id")?),
            expires_at: millis(row, "expires_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for Delivery {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let news = if row.try_get("created")? {
            News::Created { first_name: row.try_get("first_name")?, last_name: row.try_get("last_name")? }
        } else {
            News::Renamed
        };
        let attempts: i64 = row.try_get("attempts")?;
        Ok(Self {
            user_id: UserId(row.try_get("user_id")?),
            version: row.try_get("username_version")?,
            username: row.try_get("username")?,
            news,
            attempts: attempts.try_into().map_err(|error| bad("attempts", error))?,
        })
    }
}

impl FromRow<'_, PgRow> for Entry {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let (kind, actor, event): (&str, &str, &str) =
            (row.try_get("actor_kind")?, row.try_get("actor")?, row.try_get("event")?);
        Ok(Self {
            id: row.try_get("id")?,
            at: millis(row, "at")?,
            event: Event::kept(event),
            succeeded: row.try_get("succeeded")?,
            actor: Actor::kept(kind, actor).ok_or_else(|| bad("actor", "no actor"))?,
            subject: row.try_get::<Option<Uuid>, _>("subject_id")?.map(UserId),
            session: row.try_get::<Option<Uuid>, _>("session_id")?.map(SessionId),
            client: Client {
                device: row.try_get("device")?,
                ip_address: row.try_get("ip_address")?,
                place: row.try_get("place")?,
                request_id: row.try_get("request_id")?,
            },
            detail: row.try_get("detail")?,
        })
    }
}
