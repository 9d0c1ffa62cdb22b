//! The store on PostgreSQL. Writes go through the committer (`postgres/committer.rs`), which has connections of its own
//! and writes the batches of all rooms that wait in one statement (`postgres/append.rs`); reads have a pool
//! (`postgres/log.rs` the entries, `postgres/rooms.rs` the rest). What every service does alike on this server is in the
//! crate `mesh-postgres`. The tables are in `migrations/postgres`, in a schema of the service's own.
//!
//! Statements name their columns: a newer version may have added some while this one still runs.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mesh::{
    config::{Secret, StoreLimits},
    migration::Migrations,
};
use mesh_postgres::{CallError, Calls, Server, Service, run};
use sqlx::postgres::PgRow;

use self::committer::Committer;
use crate::{
    config::PostgresConfig,
    entry::{Entry, Seq},
    id::{RoomId, UserId},
    member::{Member, Standing},
    message::ClientMessageId,
    room::{NewRoom, View, state::RoomState},
    store::{Batch, Created, Head, JoinedBefore, NamedAfter, OpenError, Outcome, Store, StoreError},
};

mod append;
mod committer;
mod log;
mod projection;
mod rooms;

/// The schema of the service, so that one database may hold several.
pub(super) const SCHEMA: &str = "messages";

/// What each connection is set to. Every query here goes through an index, a few rows at a time; a plan that was made
/// while a table was small, or before the server had looked at it, must not read all of it once it is large.
const SETTINGS: &[(&str, &str)] = &[
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_material", "off"),
    ("jit", "off"),
];

/// Roles as numbers.
const MEMBER: i16 = 1;
/// See [`MEMBER`].
const OWNER: i16 = 2;

/// Rooms on a PostgreSQL server.
pub(super) struct PostgresStore {
    committer: Committer,
    calls: Calls,
}

impl PostgresStore {
    /// Connects, waits for a server that is not there yet, and sees to the tables.
    pub(super) async fn open(url: &Secret, config: &PostgresConfig, migrations: Migrations) -> Result<Self, OpenError> {
        Ok(Self::on(&server(url, SCHEMA, config, migrations).await?, config))
    }

    fn on(server: &Server, config: &PostgresConfig) -> Self {
        let calls = Calls::new(server.pool(config.readers_max), Duration::from_millis(config.call_ms));
        Self { committer: Committer::start(server.pool(config.writers_max), config), calls }
    }
}

/// The server, with the tables seen to.
pub(super) async fn server(
    url: &Secret,
    schema: &str,
    config: &PostgresConfig,
    migrations: Migrations,
) -> Result<Server, OpenError> {
    let limits = StoreLimits {
        connections_max: config.readers_max,
        connect_ms: config.connect_ms,
        call_ms: config.call_ms,
        start_secs: config.start_secs,
    };
    Ok(Server::open(url, schema, service(), &limits, migrations).await?)
}

fn service() -> Service {
    Service {
        name: "message-svc",
        store: "message store",
        setting: "message.store_url",
        variable: "MESSAGE_STORE_URL",
        migrations_table: "_message_migrations",
        migrator: sqlx::migrate!("./migrations/postgres"),
        settings: SETTINGS,
    }
}

#[async_trait]
impl Store for PostgresStore {
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
        let rows = run!(self.calls, statement, db => rooms::load(db, room))?;
        rows.first().map(rooms::state_of).transpose()
    }

    async fn view(&self, room: RoomId, user: Option<UserId>) -> Result<Option<View>, StoreError> {
        let rows = run!(self.calls, statement, db => rooms::view(db, room, user))?;
        rows.first().map(rooms::view_of).transpose()
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
        let rows = run!(self.calls, statement, db => log::entries_after(db, room, after, entries_max, bytes_max))?;
        log::entries_of(&rows)
    }

    async fn sent(&self, room: RoomId, keys: &[(UserId, ClientMessageId)]) -> Result<Vec<Arc<Entry>>, StoreError> {
        let rows = run!(self.calls, statement, db => log::sent(db, room, keys))?;
        log::entries_of(&rows)
    }

    async fn messages(&self, room: RoomId, first: i64, last: i64) -> Result<Vec<Arc<Entry>>, StoreError> {
        let rows = run!(self.calls, statement, db => log::messages(db, room, first, last))?;
        log::entries_of(&rows)
    }

    async fn messages_through(&self, room: RoomId, seq: Seq) -> Result<i64, StoreError> {
        let count: Option<i64> = run!(self.calls, statement, db => log::messages_through(db, room, seq))?;
        Ok(count.unwrap_or(0))
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Head>, StoreError> {
        let rows = run!(self.calls, statement, db => log::heads(db, rooms))?;
        rows.iter().map(log::head_of).collect()
    }

    async fn rooms_after(&self, after: Option<RoomId>, rooms_max: usize) -> Result<Vec<RoomId>, StoreError> {
        Ok(run!(self.calls, statement, db => rooms::rooms_after(db, after, rooms_max))?)
    }

    async fn shown_members(&self, rooms: &[RoomId]) -> Result<Vec<Vec<UserId>>, StoreError> {
        let rows = run!(self.calls, statement, db => rooms::shown_members(db, rooms))?;
        rooms::shown_of(&rows, rooms.len())
    }

    async fn rooms_of(
        &self,
        user: UserId,
        after: Option<JoinedBefore>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        let rows = run!(self.calls, statement, db => rooms::rooms_of(db, user, after, rooms_max))?;
        rows.iter().map(rooms::view_of).collect()
    }

    async fn public_rooms(
        &self,
        user: UserId,
        search: &str,
        after: Option<NamedAfter>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        let after = after.as_ref();
        let rows = run!(self.calls, statement, db => rooms::public_rooms(db, user, search, after, rooms_max))?;
        rows.iter().map(rooms::view_of).collect()
    }

    async fn members(
        &self,
        room: RoomId,
        after: Option<Standing>,
        members_max: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let rows = run!(self.calls, statement, db => rooms::members(db, room, after, members_max))?;
        rows.iter().map(rooms::listed_of).collect()
    }

    async fn rooms_known_to(
        &self,
        user: UserId,
        after: Option<RoomId>,
        rooms_max: usize,
    ) -> Result<Vec<RoomId>, StoreError> {
        Ok(run!(self.calls, statement, db => rooms::rooms_known_to(db, user, after, rooms_max))?)
    }

    async fn sent_by(
        &self,
        room: RoomId,
        sender: UserId,
        after: Option<&ClientMessageId>,
        messages_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        let rows = run!(self.calls, statement, db => log::sent_by(db, room, sender, after, messages_max))?;
        log::entries_of(&rows)
    }

    async fn rewrite(&self, messages: &[Arc<Entry>]) -> Result<(), StoreError> {
        // Among the reads, since nobody waits for it: the committer is for those who do.
        run!(self.calls, transaction, db => log::rewrite(db, messages)).map_err(StoreError::unknown)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.committer.check()?;
        let writable: bool = run!(self.calls, statement, db => rooms::is_writable(db))?;
        if writable { Ok(()) } else { Err(StoreError::unavailable("the server only reads now")) }
    }

    async fn close(&self) {
        self.committer.close().await;
        self.calls.close().await;
    }
}

/// What a read answers.
type Rows = Result<Vec<PgRow>, sqlx::Error>;

impl From<CallError> for StoreError {
    /// Of a read.
    fn from(error: CallError) -> Self {
        match error {
            CallError::Broken(error) => read_error(error),
            CallError::Away(_) | CallError::Late { .. } => Self::unavailable(error),
        }
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

/// A LIMIT.
fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
