//! What the tests of this crate share: people, messages, a store in a folder of its own, and waiting by polling.

use std::{sync::Arc, time::Duration};

use mesh::{migration::Migrations, time::Millis};
use serde_json::Map;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    config::{Limits, MessageSection, RoomsConfig},
    entry::{Entry, Event, Seq},
    hub::Hub,
    id::{EntryId, RoomId, UserId},
    message::{ClientMessageId, Message},
    room::{NewRoom, RoomType},
    rooms::Rooms,
    store::{self, Store},
};

/// Long enough for the slowest machine; a test that waits longer is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn user() -> UserId {
    UserId(Uuid::now_v7())
}

pub(crate) fn message(sender: UserId, client_id: &str, content: &str) -> Message {
    Message {
        sender,
        username: "somebody".into(),
        content: content.to_owned(),
        message_type: "text".into(),
        metadata: Map::new(),
        client_id: ClientMessageId::stored(client_id),
    }
}

/// An entry with this message as the room's `messages`-th.
pub(crate) fn message_entry(room: RoomId, seq: Seq, messages: i64, message: Message) -> Arc<Entry> {
    let event = Event::Message(Arc::new(message));
    Arc::new(Entry { id: EntryId::now(), room, seq, messages, at: Millis::now(), event })
}

pub(crate) fn entry(room: RoomId, seq: Seq, messages: i64, event: Event) -> Arc<Entry> {
    Arc::new(Entry { id: EntryId::now(), room, seq, messages, at: Millis::now(), event })
}

pub(crate) fn new_room(room_type: RoomType, name: &str, owner: UserId) -> NewRoom {
    NewRoom::owned(RoomId::random(), room_type, name.to_owned(), String::new(), owner)
}

/// A fresh SQLite store; it is gone with the folder.
pub(crate) async fn sqlite() -> (Arc<dyn Store>, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (sqlite_in(&folder).await, folder)
}

/// The SQLite store of a folder, opened once more.
pub(crate) async fn sqlite_in(folder: &TempDir) -> Arc<dyn Store> {
    store::open(&MessageSection::default(), folder.path(), Migrations::Run).await.expect("opens")
}

/// The active rooms of one process over a store.
pub(crate) fn rooms(store: &Arc<dyn Store>) -> Arc<Rooms> {
    rooms_with(store, &Hub::new(16), &RoomsConfig::default())
}

pub(crate) fn rooms_with(store: &Arc<dyn Store>, hub: &Arc<Hub>, config: &RoomsConfig) -> Arc<Rooms> {
    Rooms::new(Arc::clone(store), Arc::clone(hub), config, &Limits::default())
}

/// The whole log of a room, checked to be dense in seq and in message numbers, with each client id once.
pub(crate) async fn whole_log(store: &dyn Store, room: RoomId) -> Vec<Arc<Entry>> {
    let mut log: Vec<Arc<Entry>> = Vec::new();
    loop {
        let after = log.last().map_or(0, |entry| entry.seq);
        let page = store.entries_after(room, after, 500, 1 << 20).await.expect("reads");
        if page.is_empty() {
            break;
        }
        log.extend(page);
    }
    let mut messages = 0;
    let mut sent = std::collections::HashSet::new();
    for (entry, seq) in log.iter().zip(1..) {
        assert_eq!(entry.seq, seq, "the log has a hole");
        if let Some(message) = entry.message() {
            messages += 1;
            assert!(sent.insert((message.sender, message.client_id.clone())), "a message is there twice");
        }
        assert_eq!(entry.messages, messages, "message numbers have a hole");
    }
    log
}

/// Polls until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
