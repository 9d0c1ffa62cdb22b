//! What auth-svc may refuse, and why. What an error displays is safe to show; its cause stays in `source` for the log.
//! The map to the catalogue of codes is here, exhaustive and once; `grpc.rs` only passes it on.

use std::time::Duration;

use mesh::error::{FieldViolation, Reason, Refusal};

use crate::store::StoreError;

/// How long a caller waits when the password pool is full: its queue empties within a second or two.
const PASSWORD_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The same when as many mails wait as may: the server that they go to is away.
const MAILS_RETRY_AFTER: Duration = Duration::from_mins(1);

/// A refusal of the domain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields that are missing, malformed or past their limits.
    #[error("Validation failed")]
    Invalid(Vec<FieldViolation>),
    /// The username or the email belongs to another account.
    #[error("User with this email or username already exists")]
    AccountExists,
    /// Nobody may register here.
    #[error("Registration is closed")]
    RegistrationClosed,
    /// Whoever registers here needs an invitation, and none was given.
    #[error("An invitation is required to register")]
    InvitationRequired,
    /// The invitation is none, or was used, revoked, or has expired; nobody learns which.
    #[error("The invitation is not good: it is wrong, was used, was revoked, or has expired")]
    InvitationInvalid,
    /// No invitation that was not used has the id.
    #[error("There is no such invitation, or it was used")]
    InvitationNotFound,
    /// There are as many invitations as may be.
    #[error(
        "There are as many invitations as there may be (auth.invitations_max); revoke some, or wait until they expire"
    )]
    InvitationsFull,
    /// There are as many signing keys as may be.
    #[error(
        "There are 16 signing keys whose tokens may still be good: wait until those of the oldest have expired, or withdraw them all at once"
    )]
    KeysFull,
    /// No API key has the id.
    #[error("There is no such API key")]
    ApiKeyNotFound,
    /// The service account has as many keys as it may.
    #[error("The service account has as many keys as it may (auth.api_keys_per_account_max); revoke one first")]
    ApiKeysFull,
    /// An admin lets nobody log in to the account.
    #[error("This account is disabled; ask whoever runs this installation")]
    AccountDisabled,
    /// Nobody has shown yet that the address is the account's.
    #[error("Verify your email address first: a mail with a link was sent to it")]
    EmailUnverified,
    /// The token of a mail is none, was used, or has expired; nobody learns which.
    #[error("The link is not good: it is wrong, was used, or has expired")]
    EmailTokenInvalid,
    /// This installation sends no mail.
    #[error("This installation sends no mail; ask whoever runs it")]
    EmailDisabled,
    /// As many mails wait as may.
    #[error("Too many mails wait to be sent; try again later")]
    MailsBusy,
    /// An admin would delete their own account.
    #[error("An admin's account cannot be deleted by themself: have another admin take the role first")]
    AdminStays,
    /// Unknown account or wrong password; nobody learns which.
    #[error("Invalid credentials")]
    InvalidCredentials,
    /// The call needs a caller with a session, or its account is gone.
    #[error("Unauthorized")]
    Unauthorized,
    /// The session has not proved lately enough whose it is.
    #[error("Prove again who you are: this needs a login or a password of the last minutes")]
    ReauthenticationRequired,
    /// The account has a second factor, and no code of it was given.
    #[error("A code of the second factor is required")]
    MfaRequired,
    /// The code is wrong, was used, or is of another time.
    #[error("The code is not good: it is wrong, was used, or is of another time")]
    MfaCodeInvalid,
    /// Too many wrong codes in a row; the app is asked again after this time.
    #[error("Too many wrong codes; try again later, or use a recovery code")]
    MfaHeld(Duration),
    /// The account has an authenticator already.
    #[error("The account has an authenticator already; remove it first")]
    FactorExists,
    /// The account has no authenticator, or none was started.
    #[error("There is no authenticator to do this with")]
    FactorMissing,
    /// The token is none of ours.
    #[error("Unauthorized")]
    TokenInvalid,
    /// The token was good once.
    #[error("Unauthorized")]
    TokenExpired,
    /// The token's session has ended.
    #[error("Unauthorized")]
    TokenRevoked,
    /// The WebSocket token was used before.
    #[error("Unauthorized")]
    TokenSpent,
    /// No account has the id.
    #[error("User not found")]
    UserNotFound,
    /// The caller has no such session.
    #[error("Session not found")]
    SessionNotFound,
    /// More passwords wait to be hashed than the pool's queue takes.
    #[error("Too many logins at once; try again in a moment")]
    PasswordsBusy,
    /// More streams follow the revocations than the limit allows.
    #[error("Too many followers; try again later")]
    FollowersBusy,
    /// A stream fell behind what the feed remembers; it may come back and read from the store.
    #[error("The stream was read too slowly; follow again from the last number")]
    FollowerSlow,
    /// The process is about to end.
    #[error("The service is stopping; connect again")]
    Stopping,
    /// The store cannot be used now, or is broken.
    #[error("The account store cannot be used")]
    Store(#[from] StoreError),
    /// A fault of ours.
    #[error("Internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// One bad field.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation::new(field, message)])
    }

    /// A fault of ours, with its cause for the log.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let reason = match error {
            Error::Invalid(violations) => return Self::invalid(violations),
            Error::AccountExists => Reason::AccountExists,
            Error::InvalidCredentials => Reason::InvalidCredentials,
            Error::AccountDisabled => Reason::AccountDisabled,
            Error::EmailUnverified => Reason::EmailUnverified,
            Error::EmailTokenInvalid => Reason::EmailTokenInvalid,
            Error::EmailDisabled => Reason::EmailDisabled,
            Error::MailsBusy => return Self::new(Reason::RateLimited, message).with_retry_after(MAILS_RETRY_AFTER),
            Error::RegistrationClosed => Reason::RegistrationClosed,
            Error::InvitationRequired => Reason::InvitationRequired,
            Error::InvitationInvalid => Reason::InvitationInvalid,
            Error::InvitationsFull | Error::KeysFull | Error::ApiKeysFull | Error::AdminStays => Reason::Conflict,
            Error::Unauthorized => Reason::Unauthorized,
            Error::ReauthenticationRequired => Reason::ReauthenticationRequired,
            Error::MfaRequired => Reason::MfaRequired,
            Error::MfaCodeInvalid => Reason::MfaCodeInvalid,
            Error::MfaHeld(wait) => return Self::new(Reason::RateLimited, message).with_retry_after(wait),
            Error::FactorExists => Reason::Conflict,
            Error::FactorMissing | Error::InvitationNotFound | Error::ApiKeyNotFound => Reason::NotFound,
            Error::TokenInvalid => Reason::TokenInvalid,
            Error::TokenExpired => Reason::TokenExpired,
            Error::TokenRevoked => Reason::TokenRevoked,
            Error::TokenSpent => Reason::TokenSpent,
            Error::UserNotFound => Reason::UserNotFound,
            Error::SessionNotFound => Reason::SessionNotFound,
            Error::PasswordsBusy => {
                return Self::new(Reason::RateLimited, message).with_retry_after(PASSWORD_RETRY_AFTER);
            }
            Error::FollowersBusy => Reason::RateLimited,
            Error::FollowerSlow => Reason::SlowConsumer,
            Error::Stopping => Reason::Unavailable,
            Error::Store(StoreError::Unavailable(source)) => {
                return Self::unavailable("The account store").with_source(source);
            }
            Error::Store(source @ StoreError::Broken(_)) => return Self::internal(source),
            Error::Internal(source) => return Self::internal(source),
        };
        Self::new(reason, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_a_token_reads_the_same_and_differs_in_its_code() {
        let errors = [Error::TokenInvalid, Error::TokenExpired, Error::TokenRevoked, Error::TokenSpent];
        let refusals = errors.map(Refusal::from);
        assert!(refusals.iter().all(|refusal| refusal.message == "Unauthorized"));
        assert_eq!(
            refusals.map(|refusal| refusal.reason),
            [Reason::TokenInvalid, Reason::TokenExpired, Reason::TokenRevoked, Reason::TokenSpent]
        );
    }

    #[test]
    fn the_cause_of_a_broken_store_is_kept_for_the_log_and_not_shown() {
        let refusal = Refusal::from(Error::Store(StoreError::Broken("row 7 of /data/auth.db".into())));
        assert_eq!(refusal.reason, Reason::Internal);
        assert!(!refusal.message.contains("auth.db"));
        assert!(std::error::Error::source(&refusal).is_some());
    }

    #[test]
    fn a_full_password_pool_tells_when_to_come_back() {
        let refusal = Refusal::from(Error::PasswordsBusy);
        assert_eq!(refusal.reason, Reason::RateLimited);
        assert!(refusal.retry_after.is_some());
    }
}
