//! Reading the logs. Every query here is a range or a point of one of the three indexes of `entries`, so its cost does
//! not depend on how long a log is.

use std::sync::Arc;

use futures::TryStreamExt as _;
use mesh::time::Millis;
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};

use super::{projection::hex_list, read_error};
use crate::{
    entry::{Entry, Seq},
    id::{EntryId, RoomId, UserId},
    message::ClientMessageId,
    store::{Head, StoreError, payload},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT e.room_id, e.seq, e.entry_id, e.kind, e.messages, e.at, e.sender, e.client_id, e.payload ",
            $rest
        )
    };
}

/// The statements, each with the index that bounds its cost (`sqlite/tests.rs` asks SQLite whether it is used).
pub(super) const ENTRIES_AFTER: &str =
    select!("FROM entries e WHERE e.room_id = ? AND e.seq > ? ORDER BY e.seq LIMIT ? + 0");
/// By `entries_by_client_id`. A cross join keeps the order: from the list into the index, never along the room's log.
pub(super) const SENT: &str = select!(
    "FROM json_each(?2) AS j CROSS JOIN entries e INDEXED BY entries_by_client_id
     ON e.room_id = ?1 AND e.sender = unhex(j.value ->> 0) AND e.client_id = j.value ->> 1 AND e.kind = 1"
);
/// By `entries_by_client_id`.
pub(super) const SENT_BY: &str = select!(
    "FROM entries e INDEXED BY entries_by_client_id
     WHERE e.room_id = ? AND e.sender = ? AND e.client_id > ? AND e.kind = 1 ORDER BY e.client_id LIMIT ? + 0"
);
/// By `entries_by_number`.
pub(super) const MESSAGES: &str = select!(
    "FROM entries e INDEXED BY entries_by_number
     WHERE e.room_id = ? AND e.kind = 1 AND e.messages BETWEEN ? AND ? ORDER BY e.messages"
);
/// By the primary key.
pub(super) const MESSAGES_THROUGH: &str =
    "SELECT messages FROM entries WHERE room_id = ? AND seq <= ? ORDER BY seq DESC LIMIT 1";
/// By the primary key of each room.
pub(super) const HEADS: &str = "SELECT r.id, coalesce((SELECT max(e.seq) FROM entries e WHERE e.room_id = r.id), 0)
     FROM json_each(?) AS j CROSS JOIN rooms r ON r.id = unhex(j.value)";

pub(super) async fn entries_after(
    readers: &SqlitePool,
    room: RoomId,
    after: Seq,
    entries_max: usize,
    bytes_max: usize,
) -> Result<Vec<Arc<Entry>>, StoreError> {
    let mut rows = sqlx::query(ENTRIES_AFTER).bind(room.0).bind(after).bind(limit(entries_max)).fetch(readers);
    let mut entries = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await.map_err(read_error)? {
        let entry = decode(&row)?;
        bytes += entry.weight();
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        entries.push(Arc::new(entry));
    }
    Ok(entries)
}

pub(super) async fn sent(
    readers: &SqlitePool,
    room: RoomId,
    keys: &[(UserId, ClientMessageId)],
) -> Result<Vec<Arc<Entry>>, StoreError> {
    let list: Vec<_> = keys.iter().map(|(user, id)| (user.0.simple().to_string(), id.as_str())).collect();
    let list = serde_json::to_string(&list).expect("invariant: text is JSON");
    let rows = sqlx::query(SENT).bind(room.0).bind(list).fetch_all(readers).await.map_err(read_error)?;
    decode_all(&rows)
}

pub(super) async fn sent_by(
    readers: &SqlitePool,
    room: RoomId,
    sender: UserId,
    after: Option<&ClientMessageId>,
    messages_max: usize,
) -> Result<Vec<Arc<Entry>>, StoreError> {
    let rows = sqlx::query(SENT_BY)
        .bind(room.0)
        .bind(sender.0)
        // No client id is empty, so all are above it.
        .bind(after.map_or("", ClientMessageId::as_str))
        .bind(limit(messages_max))
        .fetch_all(readers)
        .await
        .map_err(read_error)?;
    decode_all(&rows)
}

pub(super) async fn messages(
    readers: &SqlitePool,
    room: RoomId,
    first: i64,
    last: i64,
) -> Result<Vec<Arc<Entry>>, StoreError> {
    let rows =
        sqlx::query(MESSAGES).bind(room.0).bind(first).bind(last).fetch_all(readers).await.map_err(read_error)?;
    decode_all(&rows)
}

pub(super) async fn messages_through(readers: &SqlitePool, room: RoomId, seq: Seq) -> Result<i64, StoreError> {
    let count: Option<i64> = sqlx::query_scalar(MESSAGES_THROUGH)
        .bind(room.0)
        .bind(seq)
        .fetch_optional(readers)
        .await
        .map_err(read_error)?;
    Ok(count.unwrap_or(0))
}

pub(super) async fn heads(readers: &SqlitePool, rooms: &[RoomId]) -> Result<Vec<Head>, StoreError> {
    let rows = sqlx::query(HEADS)
        .bind(hex_list(rooms.iter().map(|room| room.0)))
        .fetch_all(readers)
        .await
        .map_err(read_error)?;
    rows.iter()
        .map(|row| {
            let room = RoomId(row.try_get(0).map_err(read_error)?);
            Ok(Head { room, last_seq: row.try_get(1).map_err(read_error)? })
        })
        .collect()
}

fn decode_all(rows: &[SqliteRow]) -> Result<Vec<Arc<Entry>>, StoreError> {
    rows.iter().map(|row| decode(row).map(Arc::new)).collect()
}

fn decode(row: &SqliteRow) -> Result<Entry, StoreError> {
    let sender: Option<uuid::Uuid> = row.try_get(6).map_err(read_error)?;
    let client_id: Option<&str> = row.try_get(7).map_err(read_error)?;
    let sent = sender.map(UserId).zip(client_id);
    Ok(Entry {
        room: RoomId(row.try_get(0).map_err(read_error)?),
        seq: row.try_get(1).map_err(read_error)?,
        id: EntryId(row.try_get(2).map_err(read_error)?),
        messages: row.try_get(4).map_err(read_error)?,
        at: Millis(row.try_get(5).map_err(read_error)?),
        event: payload::decode(row.try_get(3).map_err(read_error)?, row.try_get(8).map_err(read_error)?, sent)?,
    })
}

/// A LIMIT.
pub(super) fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
