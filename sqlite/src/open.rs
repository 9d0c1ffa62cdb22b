//! Opening a SQLite file: its folder and mode, its pragmas, whether it is whole, and its tables. Everything that can be
//! wrong becomes one sentence that names the file and says what to do.

use std::{
    error::Error as StdError,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mesh::migration::{Migrated, Migrations, Step};
use sqlx::{
    ConnectOptions as _, Connection as _, Error, SqliteConnection, SqlitePool,
    migrate::{Migrate as _, MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    backup::COPY,
    errors::{self, judge, judge_migration},
};

/// The wait between two tries to turn a new file to WAL.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Files up to this size are read through at start: a fraction of a second. Larger ones show damage when it is read.
const CHECKED_BYTES_MAX: u64 = 64 << 20;

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

impl OpenError {
    pub(crate) fn new(sentence: String) -> Self {
        Self { sentence, source: None }
    }
}

/// Whose store it is, and how its owner speaks of it.
#[derive(Debug)]
pub struct Service {
    /// The service's name as sentences have it: `auth-svc`.
    pub name: &'static str,
    /// What sentences call the store: `account store`.
    pub store: &'static str,
    /// The setting that holds the URL, as an operator knows it from the environment: `AUTH_STORE_URL`.
    pub variable: &'static str,
    /// The service's own name among migrations, should the file ever hold another service's tables too.
    pub migrations_table: &'static str,
    /// The migrations, as `sqlx::migrate!` has them.
    pub migrator: Migrator,
    /// What is done to a copy when it becomes a store, before anybody reads it.
    pub restored: Option<&'static str>,
}

/// How a file is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections that read, at least one.
    pub readers: u32,
    /// How long a write waits for another process that has the file open, and a call for a connection before it is
    /// refused.
    pub busy: Duration,
    /// What else the writing connection is set to, by name.
    pub writing: Vec<(&'static str, String)>,
    /// What the driver's threads are called.
    pub threads: &'static str,
}

impl Options {
    /// So many readers, and patience of five seconds.
    #[must_use]
    pub fn new(readers: u32, threads: &'static str) -> Self {
        Self { readers, busy: Duration::from_secs(5), writing: Vec::new(), threads }
    }
}

/// The file that a `sqlite:` URL names by what follows its scheme; none where it names none, as `:memory:` does, or has
/// parameters, which would have no effect.
#[must_use]
pub fn file_of(rest: &str) -> Option<PathBuf> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    (!path.is_empty() && !path.starts_with(':') && !path.contains('?')).then(|| path.into())
}

/// An open file. Of its connections one writes; the others cannot.
#[derive(Debug)]
pub struct File {
    /// The connection that writes.
    pub connection: SqliteConnection,
    /// How to have it again, should it be lost.
    pub writing: SqliteConnectOptions,
    /// The connections that read.
    pub readers: SqlitePool,
    /// What opening did to the tables.
    pub migrated: Migrated,
}

impl File {
    /// Opens the file, makes it and its folder when they are missing, and sees to its tables.
    ///
    /// # Errors
    /// One sentence that names the file, what is wrong with it and what to do.
    pub async fn open(
        path: &Path,
        mut service: Service,
        options: &Options,
        migrations: Migrations,
    ) -> Result<Self, OpenError> {
        service.migrator.dangerous_set_table_name(service.migrations_table);
        if migrations == Migrations::Run {
            make(path).map_err(|error| unmade(path, &service, error))?;
        } else if !path.exists() {
            return Err(missing(path, &service));
        }
        let (writing, reading) = connect_options(path, options);
        let bad = |error| judge(path, &service, error);
        let mut connection = first(&writing, options.busy).await.map_err(bad)?;
        let prepared = async {
            check(path, &mut connection).await.map_err(bad)?;
            let migrated = migrate(path, &mut connection, &service, migrations).await?;
            restore(&mut connection, &service).await.map_err(bad)?;
            let readers = pool(options, options.readers.max(1), reading).await.map_err(bad)?;
            Ok((migrated, readers))
        };
        match prepared.await {
            Ok((migrated, readers)) => Ok(Self { connection, writing, readers, migrated }),
            Err(error) => {
                // What is wrong has been found; the end of the connection adds nothing to it.
                drop(connection.close().await);
                Err(error)
            }
        }
    }

    /// The writer as a pool of one connection, so that writes come one after the other, and the readers.
    ///
    /// # Errors
    /// When the file cannot be opened once more.
    pub async fn pools(self, options: &Options) -> Result<(SqlitePool, SqlitePool), OpenError> {
        let failed = |error: Error| OpenError { sentence: error.to_string(), source: Some(Box::new(error)) };
        let writer = pool(options, 1, self.writing).await.map_err(failed)?;
        self.connection.close().await.map_err(failed)?;
        Ok((writer, self.readers))
    }

    /// Closes all connections; the last one to close writes the log back into the file.
    ///
    /// # Errors
    /// SQLite's.
    pub async fn close(self) -> Result<Migrated, Error> {
        self.readers.close().await;
        self.connection.close().await?;
        Ok(self.migrated)
    }
}

fn unmade(path: &Path, service: &Service, error: io::Error) -> OpenError {
    let Service { store, variable, .. } = service;
    let path = path.display();
    OpenError {
        sentence: format!(
            "The {store} {path} cannot be made or opened: {error}. Make its folder writable for this user, or set {variable} or SWITCHBOARD_DATA"
        ),
        source: Some(Box::new(error)),
    }
}

fn missing(path: &Path, service: &Service) -> OpenError {
    let Service { store, variable, .. } = service;
    let path = path.display();
    OpenError {
        sentence: format!(
            "There is no {store} {path}: run `switchboard migrate` to make it, or set {variable} or SWITCHBOARD_DATA to \
             where it is"
        ),
        source: None,
    }
}

/// The file holds what nobody else may read; SQLite gives its log the same mode. A file that is there is not touched:
/// closing it would end the locks of a store of this process that has it open (POSIX wants it so).
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// For the writer and for the readers.
fn connect_options(path: &Path, options: &Options) -> (SqliteConnectOptions, SqliteConnectOptions) {
    let threads = options.threads;
    let both = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(options.busy)
        .disable_statement_logging();
    let writing = both.clone().thread_name(move |_| format!("{threads}-write"));
    let writing = options.writing.iter().fold(writing, |writing, (name, value)| writing.pragma(*name, value.clone()));
    let reading = both.pragma("query_only", "ON").thread_name(move |number| format!("{threads}-read-{number}"));
    (writing, reading)
}

/// The writer. SQLite does not wait by itself while another process turns a new file to WAL, so we do.
async fn first(writing: &SqliteConnectOptions, busy: Duration) -> Result<SqliteConnection, Error> {
    let begun = Instant::now();
    loop {
        match writing.connect().await {
            Err(error) if errors::is_locked(&error) && begun.elapsed() < busy => tokio::time::sleep(BUSY_PAUSE).await,
            result => return result,
        }
    }
}

async fn pool(options: &Options, connections: u32, connect: SqliteConnectOptions) -> Result<SqlitePool, Error> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(options.busy)
        .idle_timeout(None)
        .max_lifetime(None)
        // A local file does not go away like a connection to a server.
        .test_before_acquire(false)
        .connect_with(connect)
        .await
}

/// Whether the file is whole, where that is known in a fraction of a second.
async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    if fs::metadata(path).map_or(0, |metadata| metadata.len()) > CHECKED_BYTES_MAX {
        return Ok(());
    }
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await?;
    if found == "ok" { Ok(()) } else { Err(Error::Protocol(found)) }
}

async fn migrate(
    path: &Path,
    connection: &mut SqliteConnection,
    service: &Service,
    migrations: Migrations,
) -> Result<Migrated, OpenError> {
    let bad = |error| judge_migration(path, service, error);
    if migrations == Migrations::Run {
        return run(connection, service).await.map_err(bad);
    }
    let (applied, missing) = state(connection, service).await.map_err(bad)?;
    if let Some(step) = missing.first() {
        return Err(OpenError::new(format!(
            "The {} {} lacks step {} of its tables, and mesh.migrate_at_start is false: run `switchboard migrate`",
            service.store,
            path.display(),
            step.version
        )));
    }
    Ok(Migrated { backend: "sqlite", version: applied, applied: Vec::new() })
}

/// Makes a copy a store, once: whoever comes second finds it done.
async fn restore(connection: &mut SqliteConnection, service: &Service) -> Result<(), Error> {
    let is_copy = "PRAGMA user_version";
    let found: i64 = sqlx::query_scalar(is_copy).fetch_one(&mut *connection).await?;
    if found != COPY {
        return Ok(());
    }
    let mut write = connection.begin_with("BEGIN IMMEDIATE").await?;
    let found: i64 = sqlx::query_scalar(is_copy).fetch_one(&mut *write).await?;
    if found == COPY {
        if let Some(sql) = service.restored {
            sqlx::query(sql).execute(&mut *write).await?;
        }
        sqlx::query("PRAGMA user_version = 0").execute(&mut *write).await?;
    }
    write.commit().await
}

/// All steps in one transaction that holds the write lock: all or none, and of two processes that start together the
/// second finds the tables made.
async fn run(connection: &mut SqliteConnection, service: &Service) -> Result<Migrated, MigrateError> {
    let mut write = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (_, missing) = state(&mut write, service).await?;
    // `run` takes the same way, but its bounds keep the future from moving between threads.
    service.migrator.run_direct(None, &mut *write, false).await?;
    write.commit().await?;
    let version = service.migrator.iter().map(|step| step.version).max().unwrap_or(0);
    Ok(Migrated { backend: "sqlite", version, applied: missing })
}

/// The last step that has been made, and those that have not. Steps that this program does not know, or knows otherwise,
/// are refused.
async fn state(connection: &mut SqliteConnection, service: &Service) -> Result<(i64, Vec<Step>), MigrateError> {
    let there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?)")
            .bind(service.migrations_table)
            .fetch_one(&mut *connection)
            .await?;
    let applied = if there { connection.list_applied_migrations(service.migrations_table).await? } else { Vec::new() };
    for step in &applied {
        match service.migrator.iter().find(|known| known.version == step.version) {
            None => return Err(MigrateError::VersionMissing(step.version)),
            Some(known) if known.checksum != step.checksum => return Err(MigrateError::VersionMismatch(step.version)),
            Some(_) => {}
        }
    }
    let is_missing = |version| !applied.iter().any(|step| step.version == version);
    let missing = service.migrator.iter().filter(|step| is_missing(step.version));
    let missing = missing.map(|step| Step { version: step.version, description: step.description.to_string() });
    Ok((applied.iter().map(|step| step.version).max().unwrap_or(0), missing.collect()))
}
