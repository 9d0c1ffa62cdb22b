//! A copy of a SQLite file that others go on writing to: SQLite makes it from one moment's reading (`VACUUM INTO`), so no
//! write waits for it and none is half in it. The copy is checked, and on disk when this returns.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, Error, sqlite::SqliteConnectOptions};

/// How long a copy waits for a lock: only a process that is just making the file holds one.
const BUSY: Duration = Duration::from_secs(5);
/// The number (`PRAGMA user_version`) that says of a file that it is a copy which nobody has opened as a store yet.
pub(crate) const COPY: i64 = 0x5B_C0;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The copy's file cannot be made.
    #[error("{0} cannot be made: {1}")]
    Make(String, #[source] io::Error),
    /// SQLite's.
    #[error("{0} cannot be copied: {1}")]
    Sqlite(String, #[source] Error),
    /// The copy is not what it should be.
    #[error("the copy of {0} is damaged: {1}. Look for what is wrong with the original")]
    Damaged(String, String),
}

/// Copies the file `from`, which is there, to `to`, which is not.
///
/// # Errors
/// [`BackupError`]; then what there is of the copy is of no use.
pub async fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let shown = from.display().to_string();
    let unmade = |error| BackupError::Make(to.display().to_string(), error);
    // SQLite writes into an empty file, and leaves its mode as it is: it is the owner's alone.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(unmade)?;
    let failed = |error| BackupError::Sqlite(shown.clone(), error);
    let options = SqliteConnectOptions::new().busy_timeout(BUSY).disable_statement_logging();
    let mut original = options.clone().filename(from).create_if_missing(false).connect().await.map_err(failed)?;
    let into = to.to_str().ok_or_else(|| unmade(io::Error::from(io::ErrorKind::InvalidFilename)))?;
    sqlx::query("VACUUM INTO ?").bind(into).execute(&mut original).await.map_err(failed)?;
    original.close().await.map_err(failed)?;

    let mut copy = options.filename(to).create_if_missing(false).connect().await.map_err(failed)?;
    let found: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut copy).await.map_err(failed)?;
    if found != "ok" {
        return Err(BackupError::Damaged(shown, found));
    }
    sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {COPY}")))
        .execute(&mut copy)
        .await
        .map_err(failed)?;
    copy.close().await.map_err(failed)?;
    File::open(to).and_then(|file| file.sync_all()).map_err(unmade)
}
