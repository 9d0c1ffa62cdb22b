//! Where rooms and their logs are kept. The documentation of [`Store`] is the contract that every backend keeps, and
//! `store/contract.rs` is the suite that holds each of them to it. Backends are in `store/<backend>.rs`; nothing outside
//! of them knows what they are made of.

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use mesh::{
    config::Secret,
    migration::{Migrated, Migrations},
    moving::{House, Marks},
    telemetry::{self, Origin},
    time::Millis,
};
use tracing::Span;

use self::watched::Watched;
use crate::{
    config::MessageSection,
    entry::{Entry, Seq},
    id::{RoomId, UserId},
    member::{Member, Standing},
    message::ClientMessageId,
    moving::Rooms,
    room::{NewRoom, View, state::RoomState},
};

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod faulty;
mod mongodb;
pub(crate) mod payload;
mod postgres;
mod sqlite;
mod watched;

/// What went wrong in a store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store could not be asked. A write surely did not happen.
    #[error("the store is unavailable")]
    Unavailable(#[source] Arc<dyn StdError + Send + Sync>),
    /// A write may have happened or not: its answer was lost. Reading tells.
    #[error("the outcome of a write is unknown")]
    Unknown(#[source] Arc<dyn StdError + Send + Sync>),
    /// What is stored cannot be understood.
    #[error("stored data cannot be understood: {0}")]
    Damaged(String),
}

impl StoreError {
    /// The store could not be asked.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// A write may have happened or not.
    pub fn unknown(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unknown(Arc::from(source.into()))
    }
}

/// A store that cannot be opened, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct OpenError {
    /// The sentence.
    pub sentence: String,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl From<mesh_sqlite::OpenError> for OpenError {
    fn from(mesh_sqlite::OpenError { sentence, source }: mesh_sqlite::OpenError) -> Self {
        Self { sentence, source }
    }
}

impl From<mesh_postgres::OpenError> for OpenError {
    fn from(error: mesh_postgres::OpenError) -> Self {
        Self { sentence: error.0, source: None }
    }
}

/// What came of making a room.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It is made.
    New,
    /// The id is in use: that room, as the first founder sees it.
    Exists(View),
}

/// Entries for one room, in order and without a hole: `entries[n].seq` is `entries[0].seq + n`. Never empty.
pub type Batch = Arc<[Arc<Entry>]>;

/// What came of writing a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is durable.
    Done,
    /// Something else holds a seq or a (sender, client id) of it. Entries before that one may have been written, later
    /// ones are not. Reading tells which it was.
    Displaced,
}

/// The end of a room's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which room.
    pub room: RoomId,
    /// Its last entry; 0 for none.
    pub last_seq: Seq,
}

/// Where a page of [`Store::rooms_of`] goes on: the last room of the page before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinedBefore {
    /// When the user joined it.
    pub joined_at: Millis,
    /// Which it was.
    pub room: RoomId,
}

/// Where a page of [`Store::public_rooms`] goes on: the last room of the page before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAfter {
    /// Its name.
    pub name: String,
    /// Which it was.
    pub room: RoomId,
}

/// Rooms, their members and their logs.
///
/// *Order.* A log is dense: entry n+1 is written only when entry n is there. *Once.* (room, seq) is unique, and
/// (room, sender, client id) is unique for ever. *Projections.* Members, names and counts follow from the entries; what
/// a method answers is never older than the entries that were durable when it was called, by whichever process.
/// *Missing ids.* A room that is not there has no view, no state, no head, and empty pages. Rooms are never taken away;
/// a closed one stays. *Errors.* Reads fail with [`StoreError::Unavailable`] or [`StoreError::Damaged`]; only writes
/// with [`StoreError::Unknown`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes a room with its founders, as one write. Repeated with the same id it changes nothing and answers the room
    /// that is there. A retry after [`StoreError::Unknown`] tells whether the first try did it: by the log id.
    async fn create_room(&self, room: &NewRoom) -> Result<Created, StoreError>;

    /// All that a room's task remembers, true as of one moment.
    async fn load(&self, room: RoomId) -> Result<Option<RoomState>, StoreError>;

    /// The room as the user may look at it, closed ones included, true as of one moment.
    async fn view(&self, room: RoomId, user: Option<UserId>) -> Result<Option<View>, StoreError>;

    /// Writes the batch for one room in order, and what follows from it. The room exists: its state was loaded. `Done`
    /// is answered only when it is durable.
    ///
    /// An entry of this batch that is there already, by its id at its seq, is somebody else's for this purpose: it
    /// displaces.
    async fn append(&self, batch: Batch) -> Result<Outcome, StoreError>;

    /// Entries with a seq above `after`, in order, at most `entries_max` and about `bytes_max` by
    /// [`Entry::weight`]; at least one when there is one. Fewer than `entries_max` does not mean that it was the end.
    async fn entries_after(
        &self,
        room: RoomId,
        after: Seq,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError>;

    /// The messages of the room with these senders and client ids, in any order; those that are not there are left out.
    async fn sent(&self, room: RoomId, keys: &[(UserId, ClientMessageId)]) -> Result<Vec<Arc<Entry>>, StoreError>;

    /// The messages whose number is from `first` to `last`, in order; numbers that are not there are left out. The cost
    /// does not depend on how many messages the room has.
    async fn messages(&self, room: RoomId, first: i64, last: i64) -> Result<Vec<Arc<Entry>>, StoreError>;

    /// How many messages have a seq of at most this; all of them for one from the future, 0 for a room that is not
    /// there.
    async fn messages_through(&self, room: RoomId, seq: Seq) -> Result<i64, StoreError>;

    /// The ends of these rooms' logs in one query, in any order; rooms that are not there are left out.
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Head>, StoreError>;

    /// The rooms with an id above this one, by rising id, closed ones included.
    async fn rooms_after(&self, after: Option<RoomId>, rooms_max: usize) -> Result<Vec<RoomId>, StoreError>;

    /// The first members of each room, in the order asked, the longest-standing first, at most
    /// [`crate::member::SHOWN_MAX`] a room.
    async fn shown_members(&self, rooms: &[RoomId]) -> Result<Vec<Vec<UserId>>, StoreError>;

    /// The open rooms that the user is a member of, the last joined first and by falling id where they were joined in
    /// the same millisecond.
    async fn rooms_of(
        &self,
        user: UserId,
        after: Option<JoinedBefore>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError>;

    /// The open public rooms whose name has `search` in it without regard to case (as [`fold`] has it), by folded name
    /// and then by id, with the user's membership.
    async fn public_rooms(
        &self,
        user: UserId,
        search: &str,
        after: Option<NamedAfter>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError>;

    /// The members of the room with a standing after this, the longest-standing first.
    async fn members(
        &self,
        room: RoomId,
        after: Option<Standing>,
        members_max: usize,
    ) -> Result<Vec<Member>, StoreError>;

    /// The rooms with an id above this one that the user is or has ever been a member of, by rising id, closed ones
    /// included. One that they have just come into may be missing as long as they are a member.
    async fn rooms_known_to(
        &self,
        user: UserId,
        after: Option<RoomId>,
        rooms_max: usize,
    ) -> Result<Vec<RoomId>, StoreError>;

    /// The messages of this sender in the room whose client id is above this one, by rising client id (compared by
    /// bytes). The cost does not depend on what others have sent.
    async fn sent_by(
        &self,
        room: RoomId,
        sender: UserId,
        after: Option<&ClientMessageId>,
        messages_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError>;

    /// Puts what these messages say in place of what the messages say that are there under their rooms and seqs, by the
    /// same senders; nothing else of an entry changes, and one that is not there is passed over. It is durable when it
    /// answers; when it fails, a part of it may have been done, and doing it again does no harm.
    async fn rewrite(&self, messages: &[Arc<Entry>]) -> Result<(), StoreError>;

    /// Whether the store answers, for the readiness probe.
    async fn check(&self) -> Result<(), StoreError>;

    /// Finishes what was begun and lets go of everything. Calls after it fail.
    async fn close(&self);
}

/// The span of a statement that writes entries, for all who wait for it; none when the traces of none are sampled.
fn commit_span<'a>(system: &'static str, origins: impl IntoIterator<Item = &'a Origin>, entries: usize) -> Span {
    telemetry::continued(origins, || {
        tracing::info_span!(
            "commit",
            otel.name = "INSERT entries",
            otel.kind = "client",
            db.system.name = system,
            db.operation.name = "INSERT",
            db.collection.name = "entries",
            db.operation.batch.size = (entries > 1).then(|| telemetry::number(entries))
        )
    })
}

/// A name as it is compared: without regard to case, by Unicode's simple lower case. Accents and width count.
#[must_use]
pub fn fold(name: &str) -> String {
    name.to_lowercase()
}

/// Opens the store that the settings name, and sees to its tables.
///
/// # Errors
/// One sentence that says what is wrong and what to do.
pub async fn open(config: &MessageSection, data: &Path, migrations: Migrations) -> Result<Arc<dyn Store>, OpenError> {
    let url = &config.store_url;
    Ok(match Backend::of(url, data)? {
        Backend::Sqlite(path) => {
            Watched::over("sqlite", sqlite::SqliteStore::open(&path, &config.sqlite, migrations).await?)
        }
        Backend::Postgres => {
            Watched::over("postgresql", postgres::PostgresStore::open(url, &config.postgres, migrations).await?)
        }
        Backend::Mongodb => {
            Watched::over("mongodb", mongodb::MongodbStore::open(url, &config.mongodb, migrations).await?)
        }
    })
}

/// The file of a store in SQLite, whether it is there or not.
#[must_use]
pub fn sqlite_file(url: &Secret, data: &Path) -> Option<PathBuf> {
    if let Ok(Backend::Sqlite(path)) = Backend::of(url, data) { Some(path) } else { None }
}

/// Brings the tables, or collections, of the store that the settings name up to date, apart from any service.
///
/// # Errors
/// As [`open`].
pub async fn migrate(config: &MessageSection, data: &Path) -> Result<Migrated, OpenError> {
    let url = &config.store_url;
    match Backend::of(url, data)? {
        Backend::Sqlite(path) => {
            let options = sqlite::options(&config.sqlite);
            let file = mesh_sqlite::File::open(&path, sqlite::service(), &options, Migrations::Run).await?;
            file.close().await.map_err(|error| OpenError { sentence: error.to_string(), source: Some(error.into()) })
        }
        Backend::Postgres => {
            let server = postgres::server(url, postgres::SCHEMA, &config.postgres, Migrations::Run).await?;
            Ok(server.migrated().clone())
        }
        Backend::Mongodb => mongodb::migrate(url, &config.mongodb).await,
    }
}

/// The store that the settings name as records, for moving house.
///
/// # Errors
/// As [`open`].
pub async fn house(config: &MessageSection, data: &Path, migrations: Migrations) -> Result<Box<dyn House>, OpenError> {
    let url = &config.store_url;
    let store = open(config, data, migrations).await?;
    let marks: Box<dyn Marks> = match Backend::of(url, data)? {
        Backend::Sqlite(path) => {
            let options = mesh_sqlite::Options::new(1, "marks");
            let file = mesh_sqlite::File::open(&path, sqlite::service(), &options, migrations).await?;
            Box::new(mesh_sqlite::moving::Marks { writer: file.pools(&options).await?.0 })
        }
        Backend::Postgres => {
            let server = postgres::server(url, postgres::SCHEMA, &config.postgres, migrations).await?;
            Box::new(mesh_postgres::moving::Marks::new(server))
        }
        Backend::Mongodb => Box::new(mongodb::marks(url, &config.mongodb).await?),
    };
    Ok(Box::new(Rooms::new(store, marks)))
}

/// The file that the settings name, for a backup.
///
/// # Errors
/// When they name a server, or when there is no such file.
pub fn file(url: &Secret, data: &Path) -> Result<PathBuf, OpenError> {
    let refused = |sentence: String| OpenError { sentence, source: None };
    match Backend::of(url, data)? {
        Backend::Sqlite(path) if path.is_file() => Ok(path),
        Backend::Sqlite(path) => Err(refused(format!("{} is no file: there is nothing to back up", path.display()))),
        Backend::Postgres | Backend::Mongodb => Err(refused(
            "message.store_url names a server: back it up with its own tools, or use `switchboard export`".into(),
        )),
    }
}

/// What an operator asks of the message store while no service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Everything that follows from the logs is made from them anew. In SQL it is written with them and never apart.
    Rebuild,
    /// Every log gets a new id, since it was restored: no cursor of before may be taken for one of it.
    RenewLogs,
}

/// Does it; to how many rooms, or none where there is never anything to do.
///
/// # Errors
/// One sentence; what was cut may be run again.
pub async fn upkeep(config: &MessageSection, data: &Path, what: Upkeep) -> Result<Option<u64>, OpenError> {
    let url = &config.store_url;
    let failed = |error: sqlx::Error| OpenError { sentence: error.to_string(), source: Some(error.into()) };
    match (Backend::of(url, data)?, what) {
        (Backend::Sqlite(_) | Backend::Postgres, Upkeep::Rebuild) => Ok(None),
        (Backend::Sqlite(path), Upkeep::RenewLogs) => {
            let options = sqlite::options(&config.sqlite);
            let mut file = mesh_sqlite::File::open(&path, sqlite::service(), &options, Migrations::Check).await?;
            let done = sqlx::query(sqlite::RENEW_LOGS).execute(&mut file.connection).await.map_err(failed)?;
            file.close().await.map_err(failed)?;
            Ok(Some(done.rows_affected()))
        }
        (Backend::Postgres, Upkeep::RenewLogs) => {
            let server = postgres::server(url, postgres::SCHEMA, &config.postgres, Migrations::Check).await?;
            let mut connection = server.connect().await.map_err(failed)?;
            sqlx::query("SET statement_timeout = 0").execute(&mut connection).await.map_err(failed)?;
            let renew = sqlx::query("UPDATE rooms SET log_id = gen_random_uuid()");
            Ok(Some(renew.execute(&mut connection).await.map_err(failed)?.rows_affected()))
        }
        (Backend::Mongodb, what) => mongodb::upkeep(url, &config.mongodb, what).await.map(Some),
    }
}

/// What a URL names. The one place that knows which backends there are.
#[derive(Debug)]
enum Backend {
    Sqlite(PathBuf),
    Postgres,
    Mongodb,
}

impl Backend {
    /// No URL means SQLite in the data folder.
    fn of(url: &Secret, data: &Path) -> Result<Self, OpenError> {
        let url = url.expose();
        let refused = |sentence: &str| OpenError { sentence: sentence.into(), source: None };
        match url.split_once(':') {
            None if url.is_empty() => Ok(Self::Sqlite(data.join("messages.db"))),
            Some(("sqlite", rest)) => mesh_sqlite::file_of(rest).map(Self::Sqlite).ok_or_else(|| {
                refused("message.store_url must name a file, as in sqlite:/var/lib/switchboard/messages.db")
            }),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            Some(("mongodb" | "mongodb+srv", _)) => Ok(Self::Mongodb),
            _ => Err(refused(
                "message.store_url must be empty or begin with sqlite:, postgres:, postgresql:, mongodb: or mongodb+srv:",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_as_people_write_it_names_its_backend_and_a_strange_one_is_refused_without_being_shown() {
        let backend = |url: &str| Backend::of(&url.into(), Path::new("data")).map_err(|error| error.to_string());
        let file = |url: &str| match backend(url) {
            Ok(Backend::Sqlite(path)) => path,
            other => panic!("{url}: {other:?}"),
        };
        assert_eq!(file(""), Path::new("data/messages.db"));
        assert_eq!(file("sqlite:rooms.db"), Path::new("rooms.db"));
        assert_eq!(file("sqlite://rooms.db"), Path::new("rooms.db"));
        assert_eq!(file("sqlite:/srv/rooms.db"), Path::new("/srv/rooms.db"));
        assert_eq!(file("sqlite:///srv/rooms.db"), Path::new("/srv/rooms.db"));
        for url in ["postgres://app:secret@db/app?sslmode=require", "postgresql:///app?host=/run/postgresql"] {
            assert!(matches!(backend(url), Ok(Backend::Postgres)), "{url}");
        }
        for url in [
            "mongodb://app:secret@one:27017,two:27017/app?replicaSet=rs0&authSource=admin",
            "mongodb+srv://app:secret@cluster0.ab1cd.mongodb.net/?retryWrites=true&w=majority&appName=Cluster0",
        ] {
            assert!(matches!(backend(url), Ok(Backend::Mongodb)), "{url}");
        }
        for url in ["sqlite:", "sqlite::memory:", "sqlite:a.db?mode=ro", "mysql://app:secret@db/app", "secret.db"] {
            let error = backend(url).expect_err(url);
            assert!(error.contains("message.store_url") && !error.contains("secret"), "{url}: {error}");
        }
    }
}
