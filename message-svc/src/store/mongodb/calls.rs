//! Calling MongoDB within bounds: so many calls at once, each for so long. The driver knows no timeout of an answer and
//! its futures must not be dropped half-way, so a call runs in a task of its own, which is left behind when it takes too
//! long. What a failure means for a write is decided here and in `log.rs`; what of it may be shown, in [`Cause`].

use std::{fmt, sync::Arc, time::Duration};

use mongodb::error::{Error, ErrorKind, WriteFailure};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tracing::Instrument as _;

use crate::store::StoreError;

/// The server's code for a key that is taken.
pub(super) const DUPLICATE_KEY: i32 = 11000;
/// The server's code for something that its user may not do.
pub(super) const UNAUTHORIZED: i32 = 13;

/// What of a driver's error may be logged. The driver's own text has the server's whole answer in it, and that may have
/// what people wrote.
#[derive(Clone, Debug)]
pub(super) struct Cause(String);

/// Why a call that reached its own code failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The driver says so.
    Driver(Box<Error>),
    /// What is stored cannot be understood.
    Damaged(String),
    /// The server says so in an answer that the driver takes for a good one.
    Refused(Cause),
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not begun.
    NotBegun(Cause),
    /// It did not end in time; whatever it wrote may be written or not, or later.
    NoAnswer(Cause),
    /// It was begun and failed.
    Fault(Fault),
}

/// The bounds of all calls of one store.
pub(super) struct Calls {
    permits: Arc<Semaphore>,
    permits_max: u32,
    limit: Duration,
}

impl Calls {
    /// At most so many at once, each for at most so long, waiting included.
    pub(super) fn new(permits_max: u32, limit: Duration) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits_max as usize)), permits_max, limit }
    }

    /// Runs a call to its end, or leaves it behind.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + self.limit;
        let permit = match timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Failure::NotBegun(Cause::new("the store is closed"))),
            Err(_) => return Err(Failure::NotBegun(Cause::new("too many calls wait for MongoDB"))),
        };
        let task = async move {
            let result = call.await;
            // A call that was left behind goes on holding its connection, and so its permit.
            drop(permit);
            result
        };
        match timeout_at(deadline, tokio::spawn(task.in_current_span())).await {
            Ok(Ok(result)) => result.map_err(Failure::Fault),
            Ok(Err(_)) => Err(Failure::NoAnswer(Cause::new("the call's task panicked"))),
            Err(_) => Err(Failure::NoAnswer(Cause::new("MongoDB did not answer in time"))),
        }
    }

    /// Runs a call that has no effect that anybody would miss.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(call).await.map_err(|failure| match failure {
            Failure::NotBegun(cause) | Failure::NoAnswer(cause) => StoreError::unavailable(cause),
            Failure::Fault(fault) => fault.of_read(),
        })
    }

    /// Waits for the calls that run, as long as one may take, and lets no other begin.
    pub(super) async fn close(&self) {
        let all = Arc::clone(&self.permits).acquire_many_owned(self.permits_max);
        if tokio::time::timeout(self.limit, all).await.is_err() {
            tracing::warn!("calls to MongoDB are left behind unanswered");
        }
        self.permits.close();
    }
}

impl Failure {
    /// What of it may be logged.
    pub(super) fn cause(self) -> Cause {
        match self {
            Self::NotBegun(cause) | Self::NoAnswer(cause) | Self::Fault(Fault::Refused(cause)) => cause,
            Self::Fault(Fault::Driver(error)) => Cause::of(&error),
            Self::Fault(Fault::Damaged(what)) => Cause::new(what),
        }
    }
}

impl Fault {
    /// What it means for a read.
    pub(super) fn of_read(self) -> StoreError {
        match self {
            Self::Driver(error) => StoreError::unavailable(Cause::of(&error)),
            Self::Damaged(what) => StoreError::Damaged(what),
            Self::Refused(cause) => StoreError::unavailable(cause),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Driver(Box::new(error))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(what) => Self::Damaged(what),
            StoreError::Unavailable(_) | StoreError::Unknown(_) => Self::Refused(Cause::new(error.to_string())),
        }
    }
}

/// The server's code, whatever kind of answer it came in.
pub(super) fn code(error: &Error) -> Option<i32> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}

/// Whether the driver is sure that nothing was sent to a server.
pub(super) fn surely_not_sent(error: &Error) -> bool {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum: what is not known may be sent")]
    match &*error.kind {
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::Shutdown => true,
        ErrorKind::Command(command) => command.code == UNAUTHORIZED,
        _ => false,
    }
}

impl Cause {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What may be said of a driver's error: its kind, its codes, and text that has no document in it.
    pub(super) fn of(error: &Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
        let text = match &*error.kind {
            ErrorKind::Command(command) => {
                format!("MongoDB answered {} {}: {}", command.code, command.code_name, command.message)
            }
            ErrorKind::Write(WriteFailure::WriteError(write)) => {
                format!("a write was refused with code {}", write.code)
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
                concern_text(concern.code, &concern.code_name)
            }
            ErrorKind::InsertMany(insert) => match (&insert.write_concern_error, &insert.write_errors) {
                (Some(concern), _) => concern_text(concern.code, &concern.code_name),
                (None, Some(errors)) => {
                    let codes: Vec<_> = errors.iter().map(|error| error.code).collect();
                    format!("an insert was refused with codes {codes:?}")
                }
                (None, None) => "an insert was refused".to_owned(),
            },
            ErrorKind::Io(error) => format!("the connection failed: {error}"),
            ErrorKind::ServerSelection { message, .. }
            | ErrorKind::DnsResolve { message, .. }
            | ErrorKind::InvalidTlsConfig { message, .. }
            | ErrorKind::IncompatibleServer { message, .. } => message.clone(),
            ErrorKind::Authentication { .. } => "MongoDB refused the user name or the password".to_owned(),
            ErrorKind::ConnectionPoolCleared { .. } => "the connection was given up because another failed".to_owned(),
            ErrorKind::Shutdown => "the store is closed".to_owned(),
            ErrorKind::InvalidResponse { .. } | ErrorKind::Bson(_) => "an answer cannot be understood".to_owned(),
            _ => "the MongoDB driver failed".to_owned(),
        };
        Self(text)
    }
}

fn concern_text(code: i32, name: &str) -> String {
    format!("a write was not confirmed by most of the replica set: code {code} {name}")
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}
