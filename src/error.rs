//! The one catalogue of errors: every code that a client may see, with its gRPC and its HTTP status, and how a refusal
//! travels as a `tonic::Status`. It knows no domain: each service maps its own enum to a [`Refusal`], once, in its
//! `grpc.rs`. `docs/errors.md` lists the codes; the gateway turns a [`Refusal`] into the REST error object.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every `google.rpc.ErrorInfo` that Switchboard sends.
pub const DOMAIN: &str = "switchboard";

/// What a handler answers.
pub type Answer<T> = Result<tonic::Response<T>, Status>;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $grpc:ident, $http:literal;)*) => {
        /// Why a call was refused: the codes that clients branch on. Codes may be added, never changed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as clients see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The gRPC status code that carries it.
            #[must_use]
            pub fn grpc(self) -> Code {
                match self { $(Self::$name => Code::$grpc,)* }
            }

            /// The HTTP status that carries it.
            #[must_use]
            pub fn http(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }
        }
    };
}

reasons! {
    /// A field is missing, of the wrong type, or past its limit; the violations name each.
    ValidationFailed = "VALIDATION_FAILED", InvalidArgument, 400;
    /// The body is not what its content type says.
    MalformedBody = "MALFORMED_BODY", InvalidArgument, 400;
    /// The username or the email is taken.
    AccountExists = "ACCOUNT_EXISTS", AlreadyExists, 400;
    /// Nobody may register here.
    RegistrationClosed = "REGISTRATION_CLOSED", PermissionDenied, 403;
    /// Whoever registers here needs an invitation.
    InvitationRequired = "INVITATION_REQUIRED", PermissionDenied, 403;
    /// The invitation is none, or was used, revoked, or has expired.
    InvitationInvalid = "INVITATION_INVALID", PermissionDenied, 403;
    /// Unknown account or wrong password.
    InvalidCredentials = "INVALID_CREDENTIALS", Unauthenticated, 401;
    /// The password was right, and an admin has disabled the account.
    AccountDisabled = "ACCOUNT_DISABLED", PermissionDenied, 403;
    /// The password was right, and nobody has shown yet that the address is the account's.
    EmailUnverified = "EMAIL_UNVERIFIED", PermissionDenied, 403;
    /// The token of a mail is none, was used, or has expired.
    EmailTokenInvalid = "EMAIL_TOKEN_INVALID", PermissionDenied, 403;
    /// This installation sends no mail.
    EmailDisabled = "EMAIL_DISABLED", PermissionDenied, 403;
    /// The password was right, and a second factor is asked.
    MfaRequired = "MFA_REQUIRED", Unauthenticated, 401;
    /// The second factor's code is wrong, or was used.
    MfaCodeInvalid = "MFA_CODE_INVALID", Unauthenticated, 401;
    /// The call needs a caller and has none.
    Unauthorized = "UNAUTHORIZED", Unauthenticated, 401;
    /// The token was good once.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated, 401;
    /// The token is none of ours, or not for this use.
    TokenInvalid = "TOKEN_INVALID", Unauthenticated, 401;
    /// The token's session has ended.
    TokenRevoked = "TOKEN_REVOKED", Unauthenticated, 401;
    /// The single-use token has been used.
    TokenSpent = "TOKEN_SPENT", Unauthenticated, 401;
    /// The caller may not do this.
    Forbidden = "FORBIDDEN", PermissionDenied, 403;
    /// The session must prove again whose it is.
    ReauthenticationRequired = "REAUTHENTICATION_REQUIRED", PermissionDenied, 403;
    /// Only for members of the room.
    NotAMember = "NOT_A_MEMBER", PermissionDenied, 403;
    /// No such room for this caller.
    RoomNotFound = "ROOM_NOT_FOUND", NotFound, 404;
    /// No such user.
    UserNotFound = "USER_NOT_FOUND", NotFound, 404;
    /// The caller has no such session.
    SessionNotFound = "SESSION_NOT_FOUND", NotFound, 404;
    /// No such route.
    NotFound = "NOT_FOUND", NotFound, 404;
    /// The route has other methods.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", Unimplemented, 405;
    /// It clashes with what is there.
    Conflict = "CONFLICT", AlreadyExists, 409;
    /// The body is past its limit.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", OutOfRange, 413;
    /// The body has another content type than the route takes.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", InvalidArgument, 415;
    /// Too many calls: try again after the time given.
    RateLimited = "RATE_LIMITED", ResourceExhausted, 429;
    /// A fault of ours; the log has its cause under the request id.
    Internal = "INTERNAL", Internal, 500;
    /// Something that is needed is away: try again.
    Unavailable = "UNAVAILABLE", Unavailable, 503;
    /// The answer did not come in time.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, 504;
    /// The cursor cannot be proven whole: start from the present.
    CursorLost = "CURSOR_LOST", OutOfRange, 400;
    /// The reader of a stream did not keep up: resume by cursor.
    SlowConsumer = "SLOW_CONSUMER", ResourceExhausted, 429;
}

impl Reason {
    /// The reason with this code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == code)
    }

    /// What a status without `ErrorInfo` means: one that a transport, a proxy or a foreign server made.
    #[must_use]
    fn from_grpc(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => Self::ValidationFailed,
            Code::Unauthenticated => Self::Unauthorized,
            Code::PermissionDenied => Self::Forbidden,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists | Code::Aborted => Self::Conflict,
            Code::ResourceExhausted => Self::RateLimited,
            Code::Unavailable | Code::Cancelled => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Self::Internal,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One field that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's path as the proto names it: `room.name`.
    pub field: String,
    /// What is wrong with it, with the limit.
    pub message: String,
}

impl FieldViolation {
    /// A violation of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A refusal on its way to a client. What it displays is safe to show; its cause is for the log alone.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// The fields that were refused, if any.
    pub violations: Vec<FieldViolation>,
    /// How long to wait before trying again, where that is known.
    pub retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Refusal {
    /// A refusal with a code and a sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), violations: Vec::new(), retry_after: None, source: None }
    }

    /// `VALIDATION_FAILED` with one violation a field.
    #[must_use]
    pub fn invalid(violations: Vec<FieldViolation>) -> Self {
        Self { violations, ..Self::new(Reason::ValidationFailed, "Validation failed") }
    }

    /// `VALIDATION_FAILED` for one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldViolation::new(field, message)])
    }

    /// `UNAUTHORIZED`, in the words that every such answer has.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// `UNAVAILABLE`: the caller may try again.
    #[must_use]
    pub fn unavailable(what: &str) -> Self {
        Self::new(Reason::Unavailable, format!("{what} cannot be reached now; try again"))
    }

    /// `INTERNAL`, with its cause for the log.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Reason::Internal, "Internal error").with_source(source)
    }

    /// The same with its cause, which is logged and never sent.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same with a time to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What a status means: the inverse of `Status::from`. A status with no `ErrorInfo` of ours is judged by its code,
    /// and its text, which may name addresses, is not kept as message.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let ours =
            details.error_info().filter(|info| info.domain == DOMAIN).and_then(|info| Reason::from_code(&info.reason));
        let Some(reason) = ours else {
            let reason = if timed_out(status) {
                Reason::DeadlineExceeded
            } else if cut_off(status) {
                Reason::Unavailable
            } else {
                Reason::from_grpc(status.code())
            };
            let words = [
                (Reason::Unavailable, "A service cannot be reached now; try again"),
                (Reason::DeadlineExceeded, "The answer did not come in time"),
                (Reason::Unauthorized, "Unauthorized"),
                (Reason::Internal, "Internal error"),
            ];
            let message = words.iter().find(|(known, _)| *known == reason).map_or("Refused", |(_, text)| text);
            return Self::new(reason, message).with_source(status.clone());
        };
        let violations = details.bad_request().map(|bad| {
            bad.field_violations
                .iter()
                .map(|violation| FieldViolation::new(&violation.field, &violation.description))
                .collect()
        });
        Self {
            reason,
            message: status.message().to_owned(),
            violations: violations.unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            source: None,
        }
    }
}

/// Whether our own side of a call gave up waiting: tonic tells it as `CANCELLED`.
fn timed_out(status: &Status) -> bool {
    sources(status).any(|error| error.is::<tonic::TimeoutExpired>())
}

/// Whether the connection ended under a call: the other process was killed, which tonic tells as `UNKNOWN`; it stopped in
/// good order just then (`INTERNAL`); or it ended a connection on which too much went wrong at once, which is no word
/// about this call (`RESOURCE_EXHAUSTED`). What became of the call nobody knows. A status that the other process itself
/// gave has no source.
pub(crate) fn cut_off(status: &Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::Internal | Code::ResourceExhausted)
        && sources(status).any(|error| error.is::<tonic::transport::Error>() || error.is::<hyper::Error>())
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |error: &&(dyn Error + 'static)| (*error).source())
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(refusal.reason.as_str(), DOMAIN, std::collections::HashMap::new());
        for violation in &refusal.violations {
            details.add_bad_request_violation(&violation.field, &violation.message);
        }
        if let Some(wait) = refusal.retry_after {
            details.set_retry_info(Some(wait));
        }
        let mut status = Self::with_error_details(refusal.reason.grpc(), refusal.message, details);
        if let Some(source) = refusal.source {
            status.set_source(source);
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire_without_its_cause() {
        let refusal = Refusal::field("room.name", "must have 1–100 characters")
            .with_retry_after(Duration::from_secs(2))
            .with_source("postgres://user:secret@host");
        let mut headers = http::HeaderMap::new();
        Status::from(refusal).add_header(&mut headers).expect("headers");
        let status = Status::from_header_map(&headers).expect("status");
        let back = Refusal::from_status(&status);
        assert_eq!(back.reason, Reason::ValidationFailed);
        assert_eq!(back.violations, [FieldViolation::new("room.name", "must have 1–100 characters")]);
        assert_eq!(back.retry_after, Some(Duration::from_secs(2)));
        assert!(back.source().is_none());
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn a_foreign_status_is_judged_by_its_code_and_its_text_is_not_shown() {
        let refusal = Refusal::from_status(&Status::unavailable("tcp connect error: 10.0.0.7:5432"));
        assert_eq!(refusal.reason, Reason::Unavailable);
        assert!(!refusal.message.contains("10.0.0.7"));
    }

    #[test]
    fn a_call_that_was_given_up_has_run_out_of_time_and_its_service_is_not_away() {
        let status = Status::from_error(Box::new(tonic::TimeoutExpired(())));
        assert_eq!(status.code(), Code::Cancelled);
        assert_eq!(Refusal::from_status(&status).reason, Reason::DeadlineExceeded);
    }

    #[test]
    fn every_code_is_found_by_its_name() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.as_str()), Some(*reason));
        }
    }

    /// Each code has a row: the code, the HTTP status, the gRPC status, when it comes, what to do.
    #[test]
    fn the_page_of_errors_lists_every_code_with_its_statuses_and_no_other() {
        let page = include_str!("../docs/errors.md");
        let mut rows: Vec<Vec<&str>> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
            .collect();
        for reason in Reason::ALL {
            let code = format!("`{reason}`");
            let place = rows.iter().position(|row| row[0] == code).unwrap_or_else(|| panic!("{reason} is missing"));
            let row = rows.remove(place);
            assert_eq!(row.len(), 5, "{reason}");
            assert_eq!(row[1], reason.http().to_string(), "the HTTP status of {reason}");
            assert_eq!(row[2], format!("`{}`", canonical(reason.grpc())), "the gRPC status of {reason}");
            assert!(row[3..].iter().all(|text| !text.is_empty()), "{reason}");
        }
        assert!(rows.is_empty(), "the page has rows too many: {rows:?}");
    }

    /// A code's name as gRPC's documentation writes it: `InvalidArgument` is `INVALID_ARGUMENT`.
    fn canonical(code: Code) -> String {
        let mut name = String::new();
        for letter in format!("{code:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }
}
