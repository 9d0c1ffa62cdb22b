//! What an error of the server means: whether the connection is good for more, whether the same call may succeed when it
//! is made again, and whose fault it is. Judged by SQLSTATE and by constraint, never by text.

use sqlx::{
    Error,
    postgres::{PgDatabaseError, PgSeverity},
};

fn of_server(error: &Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Whether the connection is of no more use. Nothing that was not committed on it happened.
#[must_use]
pub fn is_lost(error: &Error) -> bool {
    match of_server(error) {
        // 25006: the server became a standby that only reads; a new connection finds the one that writes now.
        Some(error) => matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic) || error.code() == "25006",
        None => matches!(error, Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed),
    }
}

/// Whether the transaction only lost against another one: it may be run again at once. 40001 is a serialization
/// failure, 40P01 a deadlock.
#[must_use]
pub fn is_conflict(error: &Error) -> bool {
    of_server(error).is_some_and(|error| matches!(error.code(), "40001" | "40P01"))
}

/// Whether the server itself refused the statement and goes on: nothing of it happened.
#[must_use]
pub fn is_refusal(error: &Error) -> bool {
    of_server(error).is_some_and(|error| !matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Whether the store is away, busy, full or on its way up or down, so that the same call may succeed later.
#[must_use]
pub fn is_away(error: &Error) -> bool {
    if is_lost(error) || is_conflict(error) || matches!(error, Error::PoolTimedOut | Error::PoolClosed) {
        return true;
    }
    // 53: no memory, no disk, no connection left; 57: cancelled, also for taking too long; 55P03: locked for too long.
    of_server(error).is_some_and(|error| matches!(error.code().get(..2), Some("53" | "57")) || error.code() == "55P03")
}

/// Whether waiting for a server that starts may help: not when it says who may not connect (28), or that it has no such
/// database (3D).
pub(crate) fn is_on_its_way(error: &Error) -> bool {
    let refused = of_server(error).is_some_and(|error| matches!(error.code().get(..2), Some("28" | "3D")));
    is_away(error) && !refused && !matches!(error, Error::Tls(_))
}

/// Whether a server that takes no connection will within moments: nobody listens yet, it is on its way up (57P03), or the
/// connections of somebody who has gone are still counted (53300).
pub(crate) fn is_starting(error: &Error) -> bool {
    if let Error::Io(error) = error {
        return error.kind() == std::io::ErrorKind::ConnectionRefused;
    }
    of_server(error).is_some_and(|error| matches!(error.code(), "57P03" | "53300"))
}

/// Whether a row broke this constraint.
#[must_use]
pub fn breaks(error: &Error, constraint: &str) -> bool {
    of_server(error).is_some_and(|error| error.constraint() == Some(constraint))
}
