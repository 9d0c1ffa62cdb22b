//! What this service refuses, and why. `Display` is safe to show to anybody; a cause stays in `source`, for the log.
//! `grpc/refusal.rs` maps it to the catalogue's codes, once.

use mesh::error::FieldViolation;

use crate::store::StoreError;

/// Why a call was refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Fields that are missing or past their limits.
    #[error("Validation failed")]
    Invalid(Vec<FieldViolation>),
    /// No such room for this caller: it is not there, closed, or hidden from them.
    #[error("Room not found")]
    RoomNotFound,
    /// The room shows itself, but this is for its members.
    #[error("You are not a member of this room")]
    NotAMember,
    /// No such user.
    #[error("User not found")]
    UserNotFound,
    /// The caller may not do this; says what.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The id is another's room.
    #[error("A room with this id exists already")]
    RoomExists,
    /// The cursor cannot be proven whole.
    #[error("This cursor cannot be resumed from; start from the present")]
    CursorLost,
    /// The room has more waiting than it may.
    #[error("This room is busy; try again")]
    Busy,
    /// The process is stopping, or holds as many rooms as it may.
    #[error("This server takes no more now; try again")]
    NoRoom,
    /// The store cannot be asked now, or its answer was lost.
    #[error("The message store cannot be reached now; try again")]
    Store(#[source] StoreError),
    /// user-svc cannot be asked and the name is not known.
    #[error("The user directory cannot be reached now; try again")]
    Directory(#[source] crate::names::DirectoryError),
    /// A fault of ours.
    #[error("Internal error")]
    Internal(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A fault of ours, with its cause.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(std::sync::Arc::from(source.into()))
    }

    /// One field that was refused.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation::new(field, message)])
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Unknown(_) => Self::Store(error),
            StoreError::Damaged(_) => Self::internal(error),
        }
    }
}
