//! Refusals on their way out: the one map from this service's errors to the catalogue's codes.

use std::time::Duration;

use mesh::error::{Reason, Refusal};
use tonic::Status;

use crate::{error::Error, store::StoreError};

/// When to come back to a room or a store that could not keep up: about the time in which a full queue is served.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => Self::invalid(violations),
            Error::RoomNotFound => Self::new(Reason::RoomNotFound, message),
            Error::NotAMember => Self::new(Reason::NotAMember, message),
            Error::UserNotFound => Self::new(Reason::UserNotFound, message),
            Error::Forbidden(_) => Self::new(Reason::Forbidden, message),
            Error::RoomExists => Self::new(Reason::Conflict, message),
            Error::CursorLost => Self::new(Reason::CursorLost, message),
            Error::Busy | Error::NoRoom => Self::new(Reason::Unavailable, message).with_retry_after(RETRY_AFTER),
            Error::Store(_) | Error::Directory(_) => {
                Self::new(Reason::Unavailable, message).with_retry_after(RETRY_AFTER).with_source(error)
            }
            Error::Internal(_) => Self::internal(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_kept_for_the_log_and_never_shown() {
        let error = Error::from(StoreError::unavailable("/var/lib/secret.db is locked"));
        let refusal = Refusal::from(error);
        assert_eq!(refusal.reason, Reason::Unavailable);
        assert!(!refusal.to_string().contains("secret"));
        assert!(std::error::Error::source(&refusal).is_some());
    }
}
