//! Opening a SQLite file: its folder and mode, its pragmas, whether it is whole, and its tables. Everything that can be
//! wrong becomes one sentence that names the file and says what to do.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::store::OpenError;

/// How long a write waits for another process that has the file open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait between two tries to turn a new file to WAL.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long a call waits for a connection before it is refused as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Files up to this size are read through at start: a fraction of a second. Larger ones show damage when it is read.
const CHECKED_BYTES_MAX: u64 = 64 << 20;

/// The tables' own name among migrations, should the file ever hold another service's tables too.
const MIGRATIONS_TABLE: &str = "_auth_migrations";

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator
}

/// Brings the tables up to date in one transaction: all steps or none, and of replicas that start together on a new
/// file one makes the tables while the others wait.
async fn migrate(writer: &SqlitePool) -> Result<(), MigrateError> {
    let mut write = writer.begin_with("BEGIN IMMEDIATE").await?;
    migrator().run_direct(None, &mut *write, false).await?;
    Ok(write.commit().await?)
}

/// The writer's pool, of one connection, and the readers'.
pub(super) async fn open(path: &Path, readers: u32) -> Result<(SqlitePool, SqlitePool), OpenError> {
    make(path).map_err(|error| {
        let path = path.display();
        OpenError(format!(
            "The account store {path} cannot be made or opened: {error}. Make its folder writable for this user, or set AUTH_STORE_URL or SWITCHBOARD_DATA"
        ))
    })?;
    let writer = first(path).await.map_err(|error| judge(path, &error))?;
    let checked = async {
        check(path, &writer).await.map_err(|error| judge(path, &error))?;
        migrate(&writer).await.map_err(|error| judge_migration(path, &error))?;
        connect(path, readers.max(1), true).await.map_err(|error| judge(path, &error))
    };
    match checked.await {
        Ok(readers) => Ok((writer, readers)),
        Err(error) => {
            writer.close().await;
            Err(error)
        }
    }
}

/// The file holds password hashes, so nobody else may read it; SQLite gives its log the same mode. A file that is there
/// is not touched: closing it would end the locks of a store of this process that has it open (POSIX wants it so).
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The writer. SQLite does not wait by itself while another process turns a new file to WAL, so we do.
async fn first(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let begun = Instant::now();
    loop {
        match connect(path, 1, false).await {
            Err(error) if matches!(code(&error), Some(5 | 6)) && begun.elapsed() < BUSY_TIMEOUT => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            result => return result,
        }
    }
}

async fn connect(path: &Path, connections: u32, reads_only: bool) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("query_only", if reads_only { "ON" } else { "OFF" });
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // A local file does not go away like a connection to a server.
        .test_before_acquire(false)
        .connect_with(options)
        .await
}

async fn check(path: &Path, writer: &SqlitePool) -> Result<(), sqlx::Error> {
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if bytes > CHECKED_BYTES_MAX {
        return Ok(());
    }
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(writer).await?;
    if found == "ok" { Ok(()) } else { Err(sqlx::Error::Protocol(found)) }
}

/// SQLite's own code: 5, 6 locked; 8 read-only; 11 corrupt; 13 disk full; 14 cannot open; 26 not a database.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

fn judge(path: &Path, error: &sqlx::Error) -> OpenError {
    let path = path.display();
    OpenError(match code(error) {
        Some(5 | 6) => format!("The account store {path} is locked by another program: stop that one first"),
        Some(8 | 14) => {
            format!("The account store {path} cannot be written: make the file and its folder writable for this user")
        }
        Some(13) => format!("The disk of the account store {path} is full: make room"),
        Some(11 | 26) => damaged(&path),
        None if matches!(error, sqlx::Error::Protocol(_)) => damaged(&path),
        _ => format!("The account store {path} cannot be opened: {error}"),
    })
}

fn damaged(path: &std::path::Display<'_>) -> String {
    format!(
        "The account store {path} is damaged or is no SQLite database: restore it from a backup, or move it away to start empty"
    )
}

fn judge_migration(path: &Path, error: &MigrateError) -> OpenError {
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        return judge(path, error);
    }
    let path = path.display();
    OpenError(if let MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) = error {
        format!(
            "The account store {path} was written by a newer version of auth-svc: run that version, or restore an older backup"
        )
    } else if let MigrateError::VersionMismatch(step) = error {
        format!(
            "The account store {path} has other tables than this version of auth-svc made in step {step}: run the version that wrote it"
        )
    } else {
        format!("The tables of the account store {path} cannot be brought up to date: {error}")
    })
}
