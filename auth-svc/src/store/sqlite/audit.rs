//! Statements about the audit log.

use mesh::time::Millis;
use sqlx::{SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::Write;
use crate::{
    audit::{Entry, Events, Filter, id_at},
    store::Stored,
};

pub(super) async fn insert(write: &mut SqliteConnection, entries: &[Entry]) -> Stored<()> {
    for entry in entries {
        sqlx::query(
            "INSERT INTO audit (id, at, event, succeeded, actor_kind, actor, subject_id, session_id, ip_address, place,
                                device, request_id, detail)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(entry.id)
        .bind(entry.at.0)
        .bind(entry.event.as_str())
        .bind(entry.succeeded)
        .bind(entry.actor.kind())
        .bind(entry.actor.name())
        .bind(entry.subject.map(|user| user.0))
        .bind(entry.session.map(|session| session.0))
        .bind(&entry.client.ip_address)
        .bind(&entry.client.place)
        .bind(&entry.client.device)
        .bind(&entry.client.request_id)
        .bind(&entry.detail)
        .execute(&mut *write)
        .await?;
    }
    Ok(())
}

/// The narrowest index that the filter allows finds the rows; what is left of the filter is looked at in each.
pub(super) async fn list(readers: &SqlitePool, filter: &Filter, after: Option<Uuid>, limit: u32) -> Stored<Vec<Entry>> {
    let (low, high) = filter.ids(after);
    let (first, last) = filter.events.range();
    let query = match (&filter.subject, &filter.actor, &filter.events) {
        (Some(subject), ..) => sqlx::query_as(
            "SELECT * FROM audit WHERE subject_id = ?1 AND id > ?2 AND id < ?3 AND event >= ?4 AND event <= ?5
             AND (?6 IS NULL OR succeeded = ?6) AND (?7 IS NULL OR actor = ?7) ORDER BY id DESC LIMIT ?8 + 0",
        )
        .bind(subject.0),
        (None, Some(actor), _) => sqlx::query_as(
            "SELECT * FROM audit WHERE actor = ?1 AND id > ?2 AND id < ?3 AND event >= ?4 AND event <= ?5
             AND (?6 IS NULL OR succeeded = ?6) AND (?7 IS NULL OR actor = ?7) ORDER BY id DESC LIMIT ?8 + 0",
        )
        .bind(actor),
        (None, None, Events::One(event)) => sqlx::query_as(
            "SELECT * FROM audit WHERE event = ?1 AND id > ?2 AND id < ?3 AND event >= ?4 AND event <= ?5
             AND (?6 IS NULL OR succeeded = ?6) AND (?7 IS NULL OR actor = ?7) ORDER BY id DESC LIMIT ?8 + 0",
        )
        .bind(event.as_str()),
        (None, None, Events::All | Events::Group(_)) => sqlx::query_as(
            "SELECT * FROM audit WHERE ?1 IS NULL AND id > ?2 AND id < ?3 AND event >= ?4 AND event <= ?5
             AND (?6 IS NULL OR succeeded = ?6) AND (?7 IS NULL OR actor = ?7) ORDER BY id DESC LIMIT ?8 + 0",
        )
        .bind(None::<String>),
    };
    let query = query.bind(low).bind(high).bind(first).bind(last).bind(filter.succeeded).bind(&filter.actor);
    Ok(query.bind(limit).fetch_all(readers).await?)
}

pub(super) async fn any_before(readers: &SqlitePool, before: Millis) -> Stored<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM audit WHERE id < ?)")
        .bind(id_at(before, [0; 10]))
        .fetch_one(readers)
        .await?)
}

pub(super) async fn prune(mut write: Write, before: Millis, limit: u32) -> Stored<u64> {
    let gone = sqlx::query("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ? ORDER BY id LIMIT ? + 0)")
        .bind(id_at(before, [0; 10]))
        .bind(limit)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(gone.rows_affected())
}
