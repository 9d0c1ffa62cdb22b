//! The error object: the one shape in which clients see a refusal, as a REST body and as a Socket.IO ack. It is made from
//! a [`Refusal`] here and nowhere else; the fields' names become those that the client sent. What the codes mean is in
//! `mesh::error`. Over REST the body is written by the `request_id` middleware, the only one that knows the id.

use std::{sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use mesh::{
    error::{Reason, Refusal},
    telemetry::Failure,
};
use serde::Serialize;
use utoipa::ToSchema;

/// One field that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field as the client sent it: `firstName`.
    pub(crate) field: String,
    /// What is wrong with it, with the limit.
    pub(crate) message: String,
}

/// What a login that wants a second factor gives beside `MFA_REQUIRED`.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecondFactor {
    /// For `POST /api/auth/login/mfa`, from the same address and user agent.
    pub(crate) ticket: String,
    /// Seconds until it expires.
    pub(crate) expires_in: i64,
    /// What may be given as `code`: `totp`, `recovery_code`.
    pub(crate) methods: Vec<String>,
}

/// A ticket does not belong into a log.
impl std::fmt::Debug for SecondFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecondFactor(…)")
    }
}

/// What a client gets when something is refused.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorObject {
    /// Always false.
    #[schema(example = false)]
    success: bool,
    /// The HTTP status, also over Socket.IO.
    pub(crate) status_code: u16,
    /// What to branch on; the codes are in the catalogue of errors.
    #[schema(value_type = String, example = "VALIDATION_FAILED")]
    #[serde(serialize_with = "code")]
    pub(crate) code: Reason,
    /// A sentence for people. Never branch on it.
    pub(crate) message: String,
    /// The fields that were refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
    /// The id under which the request is logged; also in the header `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// With `MFA_REQUIRED` at a login: how to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mfa: Option<Box<SecondFactor>>,
    /// Seconds to wait before the next try, where that is known; over REST also in the header `retry-after`.
    #[schema(value_type = Option<u64>)]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "secs")]
    retry_after: Option<Duration>,
    /// For the log alone.
    #[serde(skip)]
    cause: Option<Arc<Refusal>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn code<S: serde::Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.as_str())
}

fn secs<S: serde::Serializer>(wait: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    wait.map(whole_secs).serialize(serializer)
}

/// Rounded up, so that nobody comes back too early.
fn whole_secs(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX).max(1)
}

impl ErrorObject {
    /// The same with the id of the request that it answers.
    #[must_use]
    pub(crate) fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// The same with the way to go on to the second step of a login.
    #[must_use]
    pub(crate) fn with_second_factor(mut self, mfa: SecondFactor) -> Self {
        self.mfa = Some(Box::new(mfa));
        self
    }

    /// The same in other words, which the contract has for some routes.
    #[must_use]
    pub(crate) fn with_message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }

    /// The same with a field called as this route calls it.
    #[must_use]
    pub(crate) fn with_field(mut self, from: &str, to: &str) -> Self {
        self.errors.iter_mut().filter(|error| error.field == from).for_each(|error| to.clone_into(&mut error.field));
        self
    }

    /// The same with one more field.
    #[must_use]
    pub(crate) fn with_error(mut self, field: &str, message: &str) -> Self {
        self.errors.push(FieldError { field: field.to_owned(), message: message.to_owned() });
        self
    }

    /// Two refusals of one request as one: the first one's words when both are about fields, else the graver one.
    #[must_use]
    pub(crate) fn joined(mut self, other: Self) -> Self {
        if self.code != other.code {
            return if other.status_code > self.status_code { other } else { self };
        }
        self.errors.extend(other.errors);
        self
    }
}

impl From<Refusal> for ErrorObject {
    fn from(refusal: Refusal) -> Self {
        let (code, retry_after) = (refusal.reason, refusal.retry_after);
        let message = message(code).map_or_else(|| refusal.message.clone(), str::to_owned);
        let violations = refusal.violations.iter();
        let errors = violations
            .map(|violation| FieldError { field: client_field(&violation.field), message: violation.message.clone() })
            .collect();
        // A service's own fault is in its log with its cause; here it is one line that leads there.
        let cause = (code.http() >= 500).then(|| Arc::new(refusal));
        let (status_code, request_id, mfa) = (code.http(), None, None);
        Self { success: false, status_code, code, message, errors, request_id, mfa, retry_after, cause }
    }
}

impl From<tonic::Status> for ErrorObject {
    fn from(status: tonic::Status) -> Self {
        Refusal::from_status(&status).into()
    }
}

impl From<mesh::identity::TokenError> for ErrorObject {
    fn from(error: mesh::identity::TokenError) -> Self {
        Refusal::from(error).into()
    }
}

/// The words that the contract fixes for a code; the others are the refusal's own.
fn message(reason: Reason) -> Option<&'static str> {
    if reason == Reason::InvalidCredentials {
        Some("Invalid credentials")
    } else if matches!(reason, Reason::MfaRequired | Reason::MfaCodeInvalid) {
        None
    } else if reason.http() == 401 {
        Some("Unauthorized")
    } else if reason == Reason::RoomNotFound {
        Some("Room not found")
    } else if reason == Reason::AccountExists {
        Some("User with this email or username already exists")
    } else if reason == Reason::Internal {
        Some("Internal error")
    } else {
        None
    }
}

/// The messages that a request's fields may stand in; a client sends the fields alone.
const WRAPPERS: [&str; 4] = ["account", "client", "room", "user"];

/// A field as the client sent it: `room.name` is `name`, `client_message_id` is `clientMessageId`.
fn client_field(path: &str) -> String {
    let path = match path.split_once('.') {
        Some((head, rest)) if WRAPPERS.contains(&head) => rest,
        _ => path,
    };
    let mut name = String::with_capacity(path.len());
    let mut upper = false;
    for c in path.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                name.extend(c.to_uppercase());
                upper = false;
            }
            c => name.push(c),
        }
    }
    name
}

impl IntoResponse for ErrorObject {
    /// The head alone, with the object beside it: the middleware `request_id` writes the body, because it knows the id.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status_code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        // It bears the id of one request; and what is missing today may be there tomorrow.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(secs) = self.retry_after.map(whole_secs) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.status_code == 401 {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let source = self.cause.clone().map(|cause| cause as Arc<dyn std::error::Error + Send + Sync>);
        response.extensions_mut().insert(Failure { code: self.code.as_str(), source });
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use mesh::error::FieldViolation;

    use super::*;

    #[test]
    fn fields_are_named_as_the_client_sent_them() {
        for (proto, json) in [
            ("room.name", "name"),
            ("client_message_id", "clientMessageId"),
            ("user.first_name", "firstName"),
            ("user_ids[3]", "userIds[3]"),
            ("member_ids", "memberIds"),
            ("metadata", "metadata"),
        ] {
            assert_eq!(client_field(proto), json);
        }
    }

    #[test]
    fn the_object_has_the_shape_of_the_contract() {
        let refusal = Refusal::invalid(vec![FieldViolation::new("room.name", "must have 1–100 characters")]);
        let object = ErrorObject::from(refusal).with_request_id("abc");
        assert_eq!(
            serde_json::to_value(object).expect("JSON"),
            serde_json::json!({
                "success": false, "statusCode": 400, "code": "VALIDATION_FAILED", "message": "Validation failed",
                "errors": [{"field": "name", "message": "must have 1–100 characters"}], "requestId": "abc",
            })
        );
    }

    #[test]
    fn every_code_becomes_an_object_with_its_status() {
        for &reason in Reason::ALL {
            let json = serde_json::to_value(ErrorObject::from(Refusal::new(reason, "words"))).expect("JSON");
            let found = (json["code"].as_str(), json["statusCode"].as_u64());
            assert_eq!(found, (Some(reason.as_str()), Some(reason.http().into())));
            assert!(json.get("errors").is_none() && json.get("requestId").is_none());
        }
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        let wait = |millis| {
            let refusal = Refusal::new(Reason::RateLimited, "").with_retry_after(Duration::from_millis(millis));
            ErrorObject::from(refusal).into_response().headers()[header::RETRY_AFTER].clone()
        };
        let refusal = Refusal::new(Reason::RateLimited, "").with_retry_after(Duration::from_millis(1_001));
        assert_eq!(serde_json::to_value(ErrorObject::from(refusal)).expect("JSON")["retryAfter"], 2);
        assert_eq!(
            (wait(1), wait(1000), wait(1001)),
            ("1".parse().expect("1"), "1".parse().expect("1"), "2".parse().expect("2"))
        );
    }
}
