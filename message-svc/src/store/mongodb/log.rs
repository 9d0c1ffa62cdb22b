//! Writing and reading the logs. A batch is one ordered insert for one room, so what the server has of it is always its
//! beginning. Every query is a range or a point of one of the indexes of `entries` that begin with the room, so its cost
//! does not depend on how long a log is.

use std::sync::Arc;

use mongodb::{
    Cursor,
    bson::{RawDocumentBuf, doc},
    error::{Error, ErrorKind, InsertManyError},
};
use serde::Deserialize;

use super::{
    Collections,
    calls::{Cause, DUPLICATE_KEY, Failure, Fault, surely_not_sent},
    documents::{EntryForm, decode, encode, id, uuid},
    schema::ENTRIES,
};
use crate::{
    entry::{Entry, Seq},
    id::{RoomId, UserId},
    message::ClientMessageId,
    store::{Batch, Head, Outcome, StoreError, payload},
};

/// Bytes that an entry is taken for when it is decided how many the server sends at once: pages have many small entries
/// or few large ones, and a batch of large ones that nobody wants costs memory on both sides.
const ENTRY_BYTES: usize = 4 << 10;
/// What the driver sends in one command; a larger batch would be several.
const COMMAND_BYTES_MAX: usize = 40 << 20;
/// Clauses of one query for messages by their senders' ids.
const SENDERS_MAX: usize = 100;
/// The kind of an entry that is a message, as the partial indexes have it.
const MESSAGE: i32 = 1;

/// Inserts the batch, in order.
pub(super) async fn insert(store: Arc<Collections>, documents: Vec<RawDocumentBuf>) -> Result<(), Fault> {
    store.entries.insert_many(documents).ordered(true).await?;
    Ok(())
}

/// The documents of a batch.
pub(super) fn documents(batch: &Batch) -> Vec<RawDocumentBuf> {
    batch.iter().map(|entry| encode(&EntryForm::of(entry))).collect()
}

/// Whether the driver sends all of it in one command.
pub(super) fn is_one_command(documents: &[RawDocumentBuf]) -> bool {
    documents.iter().map(|document| document.as_bytes().len()).sum::<usize>() < COMMAND_BYTES_MAX
}

/// What came of an insert that failed. Only what surely was not written is called unavailable; when the answer was lost,
/// or when it was written but not confirmed by most of the replica set, only the log can tell.
pub(super) fn judge(failure: Failure, one_command: bool) -> Result<Outcome, StoreError> {
    match failure {
        Failure::NotBegun(cause) => Err(StoreError::unavailable(cause)),
        Failure::NoAnswer(cause) | Failure::Fault(Fault::Refused(cause)) => Err(StoreError::unknown(cause)),
        Failure::Fault(Fault::Damaged(what)) => Err(StoreError::unknown(Cause::new(what))),
        Failure::Fault(Fault::Driver(error)) => {
            if let ErrorKind::InsertMany(refused) = &*error.kind {
                judge_refused(refused, &error)
            } else if one_command && surely_not_sent(&error) {
                Err(StoreError::unavailable(Cause::of(&error)))
            } else {
                Err(StoreError::unknown(Cause::of(&error)))
            }
        }
    }
}

fn judge_refused(refused: &InsertManyError, error: &Error) -> Result<Outcome, StoreError> {
    let first = refused.write_errors.as_ref().and_then(|errors| errors.first());
    match first {
        // Without the confirmation not even what holds the key can be counted on to stay, or to be seen yet.
        _ if refused.write_concern_error.is_some() => Err(StoreError::unknown(Cause::of(error))),
        Some(first) if first.code == DUPLICATE_KEY => {
            tracing::debug!(db.index = index_of(&first.message), "a batch was displaced");
            Ok(Outcome::Displaced)
        }
        Some(first) if first.index == 0 => Err(StoreError::unavailable(Cause::of(error))),
        _ => Err(StoreError::unknown(Cause::of(error))),
    }
}

/// The name of the index in the server's text, which has the key too, and that is not for the log.
fn index_of(message: &str) -> &str {
    let name = message.split_once("index: ").map_or("", |(_, rest)| rest);
    name.split(' ').next().unwrap_or_default()
}

pub(super) async fn entries_after(
    store: Arc<Collections>,
    room: RoomId,
    after: Seq,
    entries_max: usize,
    bytes_max: usize,
) -> Result<Vec<Arc<Entry>>, Fault> {
    if entries_max == 0 {
        // No limit to the server.
        return Ok(Vec::new());
    }
    let at_once = (bytes_max / ENTRY_BYTES).clamp(1, entries_max);
    let filter = doc! { "room": id(room.0), "seq": { "$gt": after } };
    let find = store.entries.find(filter).sort(doc! { "seq": 1 }).limit(count(entries_max)).max_time(store.call);
    let mut cursor = find.batch_size(u32::try_from(at_once).unwrap_or(u32::MAX)).await?;
    let mut entries = Vec::new();
    let mut bytes = 0;
    while cursor.advance().await? {
        let entry = decode::<EntryForm<'_>>(cursor.current())?.entry()?;
        bytes += entry.weight();
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

pub(super) async fn sent(
    store: Arc<Collections>,
    room: RoomId,
    mut keys: Vec<(UserId, ClientMessageId)>,
) -> Result<Vec<Arc<Entry>>, Fault> {
    keys.sort_unstable();
    let by_sender: Vec<_> = keys.chunk_by(|one, other| one.0 == other.0).collect();
    let mut found = Vec::new();
    for senders in by_sender.chunks(SENDERS_MAX) {
        // Each clause is whole, so that each is a few points of the index and of one shard.
        let clauses: Vec<_> = senders
            .iter()
            .map(|keys| {
                let ids: Vec<_> = keys.iter().map(|(_, client_id)| client_id.as_str()).collect();
                let sender = keys.first().map(|(sender, _)| id(sender.0));
                doc! { "room": id(room.0), "kind": MESSAGE, "sender": sender, "client_id": { "$in": ids } }
            })
            .collect();
        let filter = if let [clause] = &clauses[..] {
            clause.clone()
        } else {
            doc! { "$or": clauses }
        };
        found.extend(all(store.entries.find(filter).max_time(store.call).await?).await?);
    }
    Ok(found)
}

pub(super) async fn sent_by(
    store: Arc<Collections>,
    room: RoomId,
    sender: UserId,
    after: Option<ClientMessageId>,
    messages_max: usize,
) -> Result<Vec<Arc<Entry>>, Fault> {
    // No client id is empty, so all are above it.
    let after = after.as_ref().map_or("", ClientMessageId::as_str);
    let filter = doc! { "room": id(room.0), "kind": MESSAGE, "sender": id(sender.0), "client_id": { "$gt": after } };
    let find = store.entries.find(filter).sort(doc! { "client_id": 1 }).limit(count(messages_max));
    all(find.max_time(store.call).await?).await
}

/// Changes what messages say. Each is found by its room and seq, and by its sender, that no other's is met.
pub(super) async fn rewrite(store: Arc<Collections>, messages: Vec<Arc<Entry>>) -> Result<(), Fault> {
    for entry in messages {
        let Some(message) = entry.message() else { continue };
        let filter =
            doc! { "room": id(entry.room.0), "seq": entry.seq, "kind": MESSAGE, "sender": id(message.sender.0) };
        let change = doc! { "$set": { "payload": payload::encode(&entry.event) } };
        store.entries.update_one(filter, change).await?;
    }
    Ok(())
}

pub(super) async fn messages(
    store: Arc<Collections>,
    room: RoomId,
    first: i64,
    last: i64,
) -> Result<Vec<Arc<Entry>>, Fault> {
    let filter = doc! { "room": id(room.0), "kind": MESSAGE, "messages": { "$gte": first, "$lte": last } };
    all(store.entries.find(filter).sort(doc! { "messages": 1 }).max_time(store.call).await?).await
}

pub(super) async fn messages_through(store: Arc<Collections>, room: RoomId, seq: Seq) -> Result<i64, Fault> {
    let filter = doc! { "room": id(room.0), "seq": { "$lte": seq } };
    Ok(last(&store, filter).await?.map_or(0, |tail| tail.messages))
}

/// The end of a log.
#[derive(Debug, Deserialize)]
pub(super) struct Tail {
    pub(super) seq: Seq,
    pub(super) messages: i64,
}

/// The end of a room's log.
pub(super) async fn tail(store: &Collections, room: RoomId) -> Result<Option<Tail>, Fault> {
    last(store, doc! { "room": id(room.0) }).await
}

async fn last(store: &Collections, filter: mongodb::bson::Document) -> Result<Option<Tail>, Fault> {
    let find = store.entries.find_one(filter).sort(doc! { "seq": -1 }).max_time(store.call);
    let document = find.projection(doc! { "_id": 0, "seq": 1, "messages": 1 }).await?;
    document.as_deref().map(decode).transpose()
}

/// The stage that adds the end of each room's log; `room` is the field with the room's id.
pub(super) fn tail_stage(room: &str) -> mongodb::bson::Document {
    doc! { "$lookup": {
        "from": ENTRIES,
        "localField": room,
        "foreignField": "room",
        "pipeline": [{ "$sort": { "seq": -1 } }, { "$limit": 1 }, { "$project": { "_id": 0, "seq": 1, "messages": 1 } }],
        "as": "tail",
    } }
}

#[derive(Deserialize)]
struct HeadForm {
    _id: mongodb::bson::Uuid,
    tail: Vec<Tail>,
}

pub(super) async fn heads(store: Arc<Collections>, rooms: Vec<RoomId>) -> Result<Vec<Head>, Fault> {
    let ids: Vec<_> = rooms.iter().map(|room| id(room.0)).collect();
    let pipeline = [doc! { "$match": { "_id": { "$in": ids } } }, doc! { "$project": { "_id": 1 } }, tail_stage("_id")];
    let mut cursor = store.rooms.aggregate(pipeline).max_time(store.call).await?;
    let mut heads = Vec::with_capacity(rooms.len());
    while cursor.advance().await? {
        let head: HeadForm = decode(cursor.current())?;
        let last_seq = head.tail.first().map_or(0, |tail| tail.seq);
        heads.push(Head { room: RoomId(uuid(head._id)), last_seq });
    }
    Ok(heads)
}

async fn all(mut cursor: Cursor<RawDocumentBuf>) -> Result<Vec<Arc<Entry>>, Fault> {
    let mut entries = Vec::new();
    while cursor.advance().await? {
        entries.push(decode::<EntryForm<'_>>(cursor.current())?.entry()?);
    }
    Ok(entries)
}

fn count(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_named_without_the_key() {
        let text = "E11000 duplicate key error collection: a.entries index: room_seq dup key: { room: 1, seq: 2 }";
        assert_eq!(index_of(text), "room_seq");
        assert_eq!(index_of("something else"), "");
    }
}
