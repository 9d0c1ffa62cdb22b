//! What user-svc may refuse, and why. What an error displays is safe to show; its cause stays in `source` for the log.
//! The map to the catalogue of codes is here, exhaustive and once; `grpc.rs` only passes it on.

use mesh::error::{FieldViolation, Reason, Refusal};

use crate::store::StoreError;

/// A refusal of the domain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields that are missing, malformed or past their limits.
    #[error("Validation failed")]
    Invalid(Vec<FieldViolation>),
    /// No such person.
    #[error("User not found")]
    UserNotFound,
    /// The profile is somebody else's.
    #[error("You may change your own profile only")]
    NotYours,
    /// The store cannot be used now, or is broken.
    #[error("The profile store cannot be used")]
    Store(#[from] StoreError),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let reason = match error {
            Error::Invalid(violations) => return Self::invalid(violations),
            Error::UserNotFound => Reason::UserNotFound,
            Error::NotYours => Reason::Forbidden,
            Error::Store(StoreError::Unavailable(source)) => {
                return Self::unavailable("The profile store").with_source(source);
            }
            Error::Store(source @ StoreError::Broken(_)) => return Self::internal(source),
        };
        Self::new(reason, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_failed_store_is_kept_for_the_log_and_not_shown() {
        let cause = "row 7 of /data/users.db";
        let errors = [
            (StoreError::Broken(cause.into()), Reason::Internal),
            (StoreError::Unavailable(cause.into()), Reason::Unavailable),
        ];
        for (error, reason) in errors {
            let refusal = Refusal::from(Error::from(error));
            assert_eq!(refusal.reason, reason);
            assert!(!refusal.message.contains("users.db"));
            assert!(std::error::Error::source(&refusal).is_some());
        }
    }
}
