//! What an error of SQLite means: for a call, whether it may succeed later; for a person who starts a service, one
//! sentence that names the file and says what to do.

use std::path::Path;

use sqlx::migrate::MigrateError;

use crate::open::{OpenError, Service};

/// SQLite's own code (<https://www.sqlite.org/rescode.html>), without what is more precise than anybody needs: 5, 6
/// locked; 8 read-only; 11 corrupt; 13 disk full; 14 cannot open; 26 not a database.
#[must_use]
pub fn code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

/// Whether another connection holds a lock, for longer than was waited.
#[must_use]
pub fn is_locked(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(5 | 6))
}

/// Whether the same call may succeed later: the file is locked by another process, the disk is full until somebody makes
/// room, or the connections are gone.
#[must_use]
pub fn is_away(error: &sqlx::Error) -> bool {
    use sqlx::Error::{Io, PoolClosed, PoolTimedOut, WorkerCrashed};
    is_locked(error) || code(error) == Some(13) || matches!(error, PoolTimedOut | PoolClosed | WorkerCrashed | Io(_))
}

/// Why a file cannot be opened.
pub(crate) fn judge(path: &Path, service: &Service, error: sqlx::Error) -> OpenError {
    let (store, shown) = (service.store, path.display());
    let sentence = match code(&error) {
        Some(5 | 6) => format!("The {store} {shown} is locked by another program: stop that one first"),
        Some(8 | 14) => {
            format!("The {store} {shown} cannot be written: make the file and its folder writable for this user")
        }
        Some(13) => format!("The disk of the {store} {shown} is full: make room"),
        Some(11 | 26) => return damaged(path, service),
        None if matches!(error, sqlx::Error::Protocol(_)) => return damaged(path, service),
        _ => format!("The {store} {shown} cannot be opened: {error}"),
    };
    OpenError { sentence, source: Some(Box::new(error)) }
}

fn damaged(path: &Path, service: &Service) -> OpenError {
    OpenError::new(format!(
        "The {} {} is damaged or is no SQLite database: restore it from a backup, or move it away to start empty",
        service.store,
        path.display()
    ))
}

/// Why the tables cannot be brought up to date.
pub(crate) fn judge_migration(path: &Path, service: &Service, error: MigrateError) -> OpenError {
    let (name, store, shown) = (service.name, service.store, path.display());
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
    OpenError::new(match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => return judge(path, service, error),
        MigrateError::VersionMissing(step) => format!(
            "The {store} {shown} was written by a newer version of {name} (it has step {step} of its tables): run that version, or restore an older backup"
        ),
        MigrateError::VersionMismatch(step) => format!(
            "The {store} {shown} has other tables than this version of {name} made in step {step}: run the version that wrote it"
        ),
        other => format!("The tables of the {store} {shown} cannot be brought up to date: {other}"),
    })
}
