//! The embedded store: SQLite with a write-ahead log and `synchronous=FULL`, so what is answered survives a power cut.
//! One committer (`sqlite/committer.rs`) owns the only writing connection; reads have a small pool of their own
//! (`sqlite/log.rs` the entries, `sqlite/rooms.rs` the rest). The tables are in `migrations/sqlite`.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    error::DatabaseError,
    migrate::{MigrateError, Migrator},
    pool::PoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

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

/// The migrations' own table: one file may hold the tables of other services.
const MIGRATIONS_TABLE: &str = "message_migrations";

/// Files up to this size are read through at start. Larger ones show damage when it is read.
const CHECKED_BYTES_MAX: u64 = 64 << 20;

/// The result code of a lock that another connection holds.
const BUSY: i32 = 5;
/// The wait between two tries to turn a new file to WAL.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Rooms in an SQLite file.
pub(super) struct SqliteStore {
    committer: Committer,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, making it and its folder when they are missing, and brings its tables up to date.
    pub(super) async fn open(path: &Path, config: &SqliteConfig) -> Result<Self, OpenError> {
        make(path).map_err(|error| OpenError {
            sentence: format!(
                "the database {} cannot be made or opened: {error}; make its folder writable for this user, or set \
                 MESSAGE_STORE_URL or SWITCHBOARD_DATA",
                path.display()
            ),
            source: Some(Box::new(error)),
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_millis(config.busy_ms))
            .disable_statement_logging();
        let writing = options
            .clone()
            .pragma("wal_autocheckpoint", config.checkpoint_pages.to_string())
            // Negative: in KiB, not in pages.
            .pragma("cache_size", format!("-{}", config.cache_kib))
            .thread_name(|_| "messages-write".into());
        let wait = Duration::from_millis(config.busy_ms);
        let mut connection = first(&writing, wait).await.map_err(|error| open_error(path, error))?;
        check(path, &mut connection).await?;
        migrate(&mut connection).await.map_err(|error| migrate_error(path, error))?;
        let readers = PoolOptions::new()
            .max_connections(config.readers_max)
            .acquire_timeout(Duration::from_millis(config.busy_ms))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options.pragma("query_only", "on").thread_name(|n| format!("messages-read-{n}")))
            .await
            .map_err(|error| open_error(path, error))?;
        Ok(Self { committer: Committer::start(connection, writing, config), readers })
    }
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

    async fn check(&self) -> Result<(), StoreError> {
        self.committer.check()?;
        sqlx::query("SELECT 1").execute(&self.readers).await.map_err(StoreError::unavailable)?;
        Ok(())
    }

    async fn close(&self) {
        self.committer.close().await;
        self.readers.close().await;
    }
}

/// The file holds what people wrote to each other, so nobody else may read it; SQLite gives its log the same mode.
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map(drop)
}

/// Whether the file is whole, where that is known in a fraction of a second.
async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    if fs::metadata(path).map_or(0, |metadata| metadata.len()) > CHECKED_BYTES_MAX {
        return Ok(());
    }
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .map_err(|error| open_error(path, error))?;
    if found == "ok" { Ok(()) } else { Err(OpenError { sentence: damaged(path), source: None }) }
}

fn damaged(path: &Path) -> String {
    let path = path.display();
    format!("the database {path} is damaged; restore it from a backup, or move it away to start with none")
}

/// The writer. SQLite does not wait by itself while another process turns a new file to WAL, so we do.
async fn first(writing: &SqliteConnectOptions, wait: Duration) -> Result<SqliteConnection, sqlx::Error> {
    let begun = Instant::now();
    loop {
        match writing.connect().await {
            Err(error) if code(&error) == Some(BUSY) && begun.elapsed() < wait => tokio::time::sleep(BUSY_PAUSE).await,
            result => return result,
        }
    }
}

/// All steps in one transaction that holds the write lock: of two processes that start together, the second finds the
/// tables made.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let mut write = connection.begin_with("BEGIN IMMEDIATE").await?;
    // `run` makes a future that may not move between threads; sqlx has this one, undocumented, for that reason.
    migrator().run_direct(None, &mut *write, false).await?;
    Ok(write.commit().await?)
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations/sqlite");
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator
}

/// SQLite's primary result code.
fn code(error: &sqlx::Error) -> Option<i32> {
    const PRIMARY: i32 = 0xff;
    let code: i32 = error.as_database_error().and_then(DatabaseError::code)?.parse().ok()?;
    Some(code & PRIMARY)
}

fn open_error(path: &Path, error: sqlx::Error) -> OpenError {
    // https://www.sqlite.org/rescode.html
    const READONLY: i32 = 8;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const CANTOPEN: i32 = 14;
    const NOTADB: i32 = 26;
    let shown = path.display();
    let sentence = match code(&error) {
        Some(CORRUPT | NOTADB) => damaged(path),
        Some(CANTOPEN | READONLY) => {
            format!(
                "the database {shown} cannot be written; give this user the right to, or choose another data folder"
            )
        }
        Some(FULL) => format!("the disk of the database {shown} is full; make room on it"),
        Some(BUSY) => format!("the database {shown} is locked by another program; end that program"),
        _ => format!("the database {shown} cannot be opened: {error}"),
    };
    OpenError { sentence, source: Some(Box::new(error)) }
}

fn migrate_error(path: &Path, error: MigrateError) -> OpenError {
    let path_shown = path.display();
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
    let sentence = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => return open_error(path, error),
        MigrateError::VersionMissing(version) => format!(
            "the database {path_shown} was written by a newer version of this program (its schema is {version}); run that version"
        ),
        MigrateError::VersionMismatch(version) => format!(
            "the database {path_shown} has a schema {version} that this program does not know; run the version that made it"
        ),
        ref other => format!("the database {path_shown} cannot be brought up to date: {other}"),
    };
    OpenError { sentence, source: Some(Box::new(error)) }
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
