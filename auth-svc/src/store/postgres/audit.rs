//! Statements about the audit log.

use mesh::time::Millis;
use sqlx::{Error, PgConnection};
use uuid::Uuid;

use crate::audit::{Entry, Events, Filter, id_at};

pub(super) async fn insert(write: &mut PgConnection, entries: &[Entry]) -> Result<(), Error> {
    for entry in entries {
        // A statement that is run twice (its first answer was lost) writes one row: the id was made before.
        sqlx::query(
            "INSERT INTO audit (id, at, event, succeeded, actor_kind, actor, subject_id, session_id, ip_address, place,
                                device, request_id, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
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
pub(super) async fn list(
    read: &mut PgConnection,
    filter: &Filter,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Entry>, Error> {
    let (low, high) = filter.ids(after);
    let (first, last) = filter.events.range();
    let query = match (&filter.subject, &filter.actor, &filter.events) {
        (Some(subject), ..) => sqlx::query_as(
            "SELECT id, at, event, succeeded, actor_kind, actor, subject_id, session_id, ip_address, place, device,
                    request_id, detail
             FROM audit WHERE subject_id = $1 AND id > $2 AND id < $3 AND event >= $4 AND event <= $5
             AND ($6::boolean IS NULL OR succeeded = $6) AND ($7::text IS NULL OR actor = $7)
             ORDER BY id DESC LIMIT $8",
        )
        .bind(subject.0),
        (None, Some(actor), _) => sqlx::query_as(
            "SELECT id, at, event, succeeded, actor_kind, actor, subject_id, session_id, ip_address, place, device,
                    request_id, detail
             FROM audit WHERE actor = $1 AND id > $2 AND id < $3 AND event >= $4 AND event <= $5
             AND ($6::boolean IS NULL OR succeeded = $6) AND ($7::text IS NULL OR actor = $7)
             ORDER BY id DESC LIMIT $8",
        )
        .bind(actor),
        (None, None, Events::One(event)) => sqlx::query_as(
            "SELECT id, at, event, succeeded, actor_kind, actor, subject_id, session_id, ip_address, place, device,
                    request_id, detail
             FROM audit WHERE event = $1 AND id > $2 AND id < $3 AND event >= $4 AND event <= $5
             AND ($6::boolean IS NULL OR succeeded = $6) AND ($7::text IS NULL OR actor = $7)
             ORDER BY id DESC LIMIT $8",
        )
        .bind(event.as_str()),
        (None, None, Events::All | Events::Group(_)) => sqlx::query_as(
            "SELECT id, at, event, succeeded, actor_kind, actor, subject_id, session_id, ip_address, place, device,
                    request_id, detail
             FROM audit WHERE $1::text IS NULL AND id > $2 AND id < $3 AND event >= $4 AND event <= $5
             AND ($6::boolean IS NULL OR succeeded = $6) AND ($7::text IS NULL OR actor = $7)
             ORDER BY id DESC LIMIT $8",
        )
        .bind(None::<String>),
    };
    let query = query.bind(low).bind(high).bind(first).bind(last).bind(filter.succeeded).bind(&filter.actor);
    query.bind(i64::from(limit)).fetch_all(read).await
}

pub(super) async fn prune(write: &mut PgConnection, before: Millis, limit: u32) -> Result<u64, Error> {
    let gone = sqlx::query(
        "DELETE FROM audit WHERE id = ANY (ARRAY (
             SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind(id_at(before, [0; 10]))
    .bind(i64::from(limit))
    .execute(write)
    .await?;
    Ok(gone.rows_affected())
}
