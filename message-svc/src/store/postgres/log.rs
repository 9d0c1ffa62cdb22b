//! Reading the logs. Every query here is a range or a point of one of the three indexes of `entries`, so its cost does
//! not depend on how long a log is.

use std::sync::Arc;

use mesh::time::Millis;
use sqlx::{Error, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Rows, limit, read_error};
use crate::{
    entry::{Entry, Seq},
    id::{EntryId, RoomId, UserId},
    message::ClientMessageId,
    store::{Head, StoreError, payload},
};

/// The page is cut on the server: `bytes` is what an entry and those before it on the page weigh, about as
/// [`Entry::weight`] has it.
pub(super) const ENTRIES_AFTER: &str = "SELECT room_id, seq, entry_id, kind, messages, at, sender, client_id, payload
     FROM (SELECT *, sum(128 + octet_length(payload)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS bytes
           FROM (SELECT room_id, seq, entry_id, kind, messages, at, sender, client_id, payload FROM entries
                 WHERE room_id = $1 AND seq > $2 ORDER BY seq LIMIT $3) AS page) AS weighed
     WHERE bytes <= $4 OR bytes = 128 + octet_length(payload) ORDER BY seq";

/// A subquery with a limit is run for each key, so the planner cannot begin at the other end, with the table.
pub(super) const SENT: &str = "SELECT e.* FROM unnest($2::uuid[], $3::text[]) AS key (sender, client_id)
     CROSS JOIN LATERAL (
         SELECT room_id, seq, entry_id, kind, messages, at, sender, client_id, payload FROM entries
         WHERE room_id = $1 AND sender = key.sender AND client_id = key.client_id AND kind = 1 LIMIT 1) AS e";

pub(super) const SENT_BY: &str =
    "SELECT room_id, seq, entry_id, kind, messages, at, sender, client_id, payload FROM entries
     WHERE room_id = $1 AND sender = $2 AND client_id > $3 AND kind = 1 ORDER BY client_id LIMIT $4";

/// What a message says from now on.
pub(super) const REWRITE: &str =
    "UPDATE entries SET payload = $4 WHERE room_id = $1 AND seq = $2 AND kind = 1 AND sender = $3";

pub(super) const MESSAGES: &str =
    "SELECT room_id, seq, entry_id, kind, messages, at, sender, client_id, payload FROM entries
     WHERE room_id = $1 AND kind = 1 AND messages BETWEEN $2 AND $3 ORDER BY messages";

pub(super) const MESSAGES_THROUGH: &str =
    "SELECT messages FROM entries WHERE room_id = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 1";

pub(super) const HEADS: &str =
    "SELECT r.id, coalesce((SELECT e.seq FROM entries AS e WHERE e.room_id = r.id ORDER BY e.seq DESC LIMIT 1), 0)
     FROM rooms AS r WHERE r.id = ANY ($1)";

pub(super) async fn entries_after(
    db: &mut PgConnection,
    room: RoomId,
    after: Seq,
    entries_max: usize,
    bytes_max: usize,
) -> Rows {
    sqlx::query(ENTRIES_AFTER)
        .bind(room.0)
        .bind(after)
        .bind(limit(entries_max))
        .bind(limit(bytes_max))
        .fetch_all(db)
        .await
}

pub(super) async fn sent(db: &mut PgConnection, room: RoomId, keys: &[(UserId, ClientMessageId)]) -> Rows {
    let (senders, ids): (Vec<Uuid>, Vec<&str>) = keys.iter().map(|(user, id)| (user.0, id.as_str())).unzip();
    sqlx::query(SENT).bind(room.0).bind(senders).bind(ids).fetch_all(db).await
}

pub(super) async fn sent_by(
    db: &mut PgConnection,
    room: RoomId,
    sender: UserId,
    after: Option<&ClientMessageId>,
    messages_max: usize,
) -> Rows {
    sqlx::query(SENT_BY)
        .bind(room.0)
        .bind(sender.0)
        // No client id is empty, so all are above it.
        .bind(after.map_or("", ClientMessageId::as_str))
        .bind(limit(messages_max))
        .fetch_all(db)
        .await
}

/// One after the other: there are few at a time, and nobody waits for them.
pub(super) async fn rewrite(db: &mut PgConnection, messages: &[Arc<Entry>]) -> Result<(), Error> {
    for entry in messages {
        let Some(message) = entry.message() else { continue };
        sqlx::query(REWRITE)
            .bind(entry.room.0)
            .bind(entry.seq)
            .bind(message.sender.0)
            .bind(payload::encode(&entry.event))
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

pub(super) async fn messages(db: &mut PgConnection, room: RoomId, first: i64, last: i64) -> Rows {
    sqlx::query(MESSAGES).bind(room.0).bind(first).bind(last).fetch_all(db).await
}

pub(super) async fn messages_through(db: &mut PgConnection, room: RoomId, seq: Seq) -> Result<Option<i64>, Error> {
    sqlx::query_scalar(MESSAGES_THROUGH).bind(room.0).bind(seq).fetch_optional(db).await
}

pub(super) async fn heads(db: &mut PgConnection, rooms: &[RoomId]) -> Rows {
    let rooms: Vec<Uuid> = rooms.iter().map(|room| room.0).collect();
    sqlx::query(HEADS).bind(rooms).fetch_all(db).await
}

pub(super) fn head_of(row: &PgRow) -> Result<Head, StoreError> {
    let room = RoomId(row.try_get(0).map_err(read_error)?);
    Ok(Head { room, last_seq: row.try_get(1).map_err(read_error)? })
}

pub(super) fn entries_of(rows: &[PgRow]) -> Result<Vec<Arc<Entry>>, StoreError> {
    rows.iter().map(|row| entry_of(row).map(Arc::new)).collect()
}

fn entry_of(row: &PgRow) -> Result<Entry, StoreError> {
    let kind: i16 = row.try_get(3).map_err(read_error)?;
    let sender: Option<Uuid> = row.try_get(6).map_err(read_error)?;
    let client_id: Option<&str> = row.try_get(7).map_err(read_error)?;
    let sent = sender.map(UserId).zip(client_id);
    Ok(Entry {
        room: RoomId(row.try_get(0).map_err(read_error)?),
        seq: row.try_get(1).map_err(read_error)?,
        id: EntryId(row.try_get(2).map_err(read_error)?),
        messages: row.try_get(4).map_err(read_error)?,
        at: Millis(row.try_get(5).map_err(read_error)?),
        event: payload::decode(kind.into(), row.try_get(8).map_err(read_error)?, sent)?,
    })
}
