//! The embedded store: SQLite with a write-ahead log and `synchronous=FULL`, so what is answered survives a power cut.
//! One committer (`sqlite/committer.rs`) owns the only writing connection; reads have a small pool of their own
//! (`sqlite/log.rs` the entries, `sqlite/rooms.rs` the rest). The tables are in `migrations/sqlite`.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use mesh::migration::Migrations;
use mesh_sqlite::{Checkpointer, File, Options, Service};
use sqlx::SqlitePool;

use self::committer::Committer;
use crate::{
    config::SqliteConfig,
    entry::{Entry, Seq},
    id::{RoomId, UserId},
    member::{Member, Standing},
    message::ClientMessageId,
    room::{NewRoom, View, state::RoomState},
    store::{Batch, Created, Head, JoinedBefore, NamedAfter, OpenError, Outcome, Store, StoreError},
};

mod committer;
mod log;
mod projection;
mod rooms;

/// Rooms in an SQLite file.
pub(super) struct SqliteStore {
    committer: Committer,
    checkpointer: Checkpointer,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it and its folder when they are missing, and sees to its tables.
    pub(super) async fn open(path: &Path, config: &SqliteConfig, migrations: Migrations) -> Result<Self, OpenError> {
        let options = options(config);
        let File { connection, writing, readers, .. } = File::open(path, service(), &options, migrations).await?;
        let checkpointer = Checkpointer::start(writing.clone(), config.checkpoint_pages);
        Ok(Self { committer: Committer::start(connection, writing, config), checkpointer, readers })
    }
}

/// No cursor of before fits a log afterwards.
pub(super) const RENEW_LOGS: &str = "UPDATE rooms SET log_id = randomblob(16)";

pub(super) fn service() -> Service {
    Service {
        name: "message-svc",
        store: "message store",
        variable: "MESSAGE_STORE_URL",
        migrations_table: "message_migrations",
        migrator: sqlx::migrate!("./migrations/sqlite"),
        // No cursor from after the copy was made may be taken for one of this log.
        restored: Some(RENEW_LOGS),
    }
}

pub(super) fn options(config: &SqliteConfig) -> Options {
    let writing = vec![
        ("wal_autocheckpoint", config.checkpoint_pages.to_string()),
        // Negative: in KiB, not in pages.
        ("cache_size", format!("-{}", config.cache_kib)),
    ];
    let busy = Duration::from_millis(config.busy_ms);
    Options { busy, writing, ..Options::new(config.readers_max, "messages") }
}

#[async_trait]
impl Store for SqliteStore {
    async fn create_room(&self, room: &NewRoom) -> Result<Created, StoreError> {
        if self.committer.create(room.clone()).await? {
            return Ok(Created::New);
        }
        let by = room.founders.first().map(|(user, _)| *user);
        match self.view(room.meta.id, by).await? {
            Some(view) => Ok(Created::Exists(view)),
            None => Err(StoreError::Damaged("a room that exists cannot be read".into())),
        }
    }

    async fn load(&self, room: RoomId) -> Result<Option<RoomState>, StoreError> {
        rooms::load(&self.readers, room).await
    }

    async fn view(&self, room: RoomId, user: Option<UserId>) -> Result<Option<View>, StoreError> {
        rooms::view(&self.readers, room, user).await
    }

    async fn append(&self, batch: Batch) -> Result<Outcome, StoreError> {
        self.committer.append(batch).await
    }

    async fn entries_after(
        &self,
        room: RoomId,
        after: Seq,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        log::entries_after(&self.readers, room, after, entries_max, bytes_max).await
    }

    async fn sent(&self, room: RoomId, keys: &[(UserId, ClientMessageId)]) -> Result<Vec<Arc<Entry>>, StoreError> {
        log::sent(&self.readers, room, keys).await
    }

    async fn messages(&self, room: RoomId, first: i64, last: i64) -> Result<Vec<Arc<Entry>>, StoreError> {
        log::messages(&self.readers, room, first, last).await
    }

    async fn messages_through(&self, room: RoomId, seq: Seq) -> Result<i64, StoreError> {
        log::messages_through(&self.readers, room, seq).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Head>, StoreError> {
        log::heads(&self.readers, rooms).await
    }

    async fn rooms_after(&self, after: Option<RoomId>, rooms_max: usize) -> Result<Vec<RoomId>, StoreError> {
        rooms::rooms_after(&self.readers, after, rooms_max).await
    }

    async fn shown_members(&self, rooms: &[RoomId]) -> Result<Vec<Vec<UserId>>, StoreError> {
        rooms::shown_members(&self.readers, rooms).await
    }

    async fn rooms_of(
        &self,
        user: UserId,
        after: Option<JoinedBefore>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        rooms::rooms_of(&self.readers, user, after, rooms_max).await
    }

    async fn public_rooms(
        &self,
        user: UserId,
        search: &str,
        after: Option<NamedAfter>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        rooms::public_rooms(&self.readers, user, search, after, rooms_max).await
    }

    async fn members(
        &self,
        room: RoomId,
        after: Option<Standing>,
        members_max: usize,
    ) -> Result<Vec<Member>, StoreError> {
        rooms::members(&self.readers, room, after, members_max).await
    }

    async fn rooms_known_to(
        &self,
        user: UserId,
        after: Option<RoomId>,
        rooms_max: usize,
    ) -> Result<Vec<RoomId>, StoreError> {
        rooms::rooms_known_to(&self.readers, user, after, rooms_max).await
    }

    async fn sent_by(
        &self,
        room: RoomId,
        sender: UserId,
        after: Option<&ClientMessageId>,
        messages_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        log::sent_by(&self.readers, room, sender, after, messages_max).await
    }

    async fn rewrite(&self, messages: &[Arc<Entry>]) -> Result<(), StoreError> {
        self.committer.rewrite(messages).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.committer.check()?;
        sqlx::query("SELECT 1").execute(&self.readers).await.map_err(StoreError::unavailable)?;
        Ok(())
    }

    async fn close(&self) {
        self.checkpointer.close().await;
        self.committer.close().await;
        self.readers.close().await;
    }
}

/// A failed read.
fn read_error(error: sqlx::Error) -> StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Damaged(error.to_string()),
        other => StoreError::unavailable(other),
    }
}

#[cfg(test)]
mod tests;
