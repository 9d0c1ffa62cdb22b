//! Logging in: the password, and the code of a second factor when one is asked. Every login gives a device token, by
//! which the device is known at the next one.

use axum::{Extension, Json, extract::State};
use mesh::{
    error::{Reason, Refusal},
    proto::auth::v1 as pb,
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Answer, Authenticated, Shared, authenticated, client};
use crate::{
    address::Origin,
    error::{ErrorObject, SecondFactor},
    extract::{Body, Fields, FromFields, Visitor},
};

/// Who logs in.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Login {
    /// The email, or else the username. One of the two is required.
    email: Option<String>,
    /// The username, when there is no email.
    username: Option<String>,
    /// The password.
    #[schema(format = Password)]
    password: String,
    /// What to call this device in the list of sessions; longer than 200 characters is cut. By default the user agent.
    device_name: Option<String>,
    /// What the last login on this device gave; one that is no good is as none.
    device_token: Option<String>,
}

impl FromFields for Login {
    fn read(fields: &mut Fields) -> Self {
        let (email, username) = (fields.text("email"), fields.text("username"));
        if !fields.has("email") && !fields.has("username") {
            fields.refuse::<()>("email", "is required, or username");
        }
        let (password, device_name) = (fields.required("password"), fields.text("deviceName"));
        Self { email, username, password, device_name, device_token: fields.text("deviceToken") }
    }
}

impl Login {
    /// What the client calls it, and what it is.
    fn name(self) -> Option<(&'static str, String, String)> {
        let given = self.email.map(|email| ("email", email)).or_else(|| self.username.map(|name| ("username", name)));
        given.map(|(field, login)| (field, login, self.password))
    }
}

/// Opens a session.
///
/// An account with a second factor answers `MFA_REQUIRED` instead, with a ticket in `mfa` for `POST /auth/login/mfa`;
/// unless the device is remembered, which `deviceToken` tells.
#[utoipa::path(post, path = "/auth/login", tag = "Accounts", operation_id = "login", request_body = Login,
    responses(
        (status = 200, description = "Logged in", body = Authenticated),
        (status = 401, description = "INVALID_CREDENTIALS, or MFA_REQUIRED with `mfa`", body = ErrorObject),
        (status = 403, description = "ACCOUNT_DISABLED or EMAIL_UNVERIFIED, when the password is right", body = ErrorObject),
    ))]
pub(super) async fn login(
    State(edge): Shared,
    Extension(origin): Extension<Origin>,
    Visitor(visit): Visitor,
    Body(mut given): Body<Login>,
) -> Answer<Json<Authenticated>> {
    let client = client(&visit, given.device_name.take());
    let device = given.device_token.take().and_then(|token| edge.device_tokens.read(&token));
    // Null for both: present, and still nothing.
    let (field, login, password) = given.name().ok_or_else(|| Refusal::field("email", "is required, or username"))?;
    let known = device.as_ref().filter(|device| device.knows(&login)).map(|device| device.id);
    let attempt = edge.limiter.guesses.login(origin.address, &login, known)?;
    let device_id = device.as_ref().map(|device| device.id.to_string()).unwrap_or_default();
    let message = pb::LoginRequest { login, password, client: Some(client), device_id, known_device: known.is_some() };
    let call = async |request| edge.clients.auth().login(request).await;
    let answer = edge.auth_once(&visit, None, message, call).await;
    attempt.settled(&answer);
    let answer = answer.map_err(|error| error.with_field("login", field))?;
    if let Some(mfa) = answer.mfa {
        return Err(challenged(mfa));
    }
    let device = device.map_or_else(Uuid::new_v4, |device| device.id);
    let authenticated = authenticated(&edge, "Login successful", answer.account, answer.tokens, device).await?;
    Ok(Json(Authenticated { deletion_cancelled: answer.deletion_cancelled, ..authenticated }))
}

fn challenged(mfa: pb::MfaChallenge) -> ErrorObject {
    let refusal = Refusal::new(Reason::MfaRequired, "A code of the second factor is required");
    let expires_in = mfa.expires_in_secs;
    ErrorObject::from(refusal).with_second_factor(SecondFactor { ticket: mfa.ticket, expires_in, methods: mfa.methods })
}

/// A code for a ticket.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct CompleteLogin {
    /// What the login gave in `mfa`. It is good from the same address and user agent alone.
    ticket: String,
    /// The six digits that the authenticator app shows, or a recovery code. Each is good once.
    code: String,
    /// Whether this device need not give a code for the next 30 days. Keep the `deviceToken` of the answer for it.
    remember_device: Option<bool>,
    /// What the last login on this device gave.
    device_token: Option<String>,
}

impl FromFields for CompleteLogin {
    fn read(fields: &mut Fields) -> Self {
        Self {
            ticket: fields.required("ticket"),
            code: fields.required("code"),
            remember_device: fields.flag("rememberDevice"),
            device_token: fields.text("deviceToken"),
        }
    }
}

/// Opens the session of a login that was asked for a second factor.
#[utoipa::path(post, path = "/auth/login/mfa", tag = "Accounts", operation_id = "completeLogin",
    request_body = CompleteLogin,
    responses(
        (status = 200, description = "Logged in", body = Authenticated),
        (status = 401, description = "MFA_CODE_INVALID; TOKEN_INVALID or TOKEN_EXPIRED for the ticket: log in again",
         body = ErrorObject),
    ))]
pub(super) async fn complete(
    State(edge): Shared,
    Visitor(visit): Visitor,
    Body(given): Body<CompleteLogin>,
) -> Answer<Json<Authenticated>> {
    let device = given.device_token.and_then(|token| edge.device_tokens.read(&token));
    let device = device.map_or_else(Uuid::new_v4, |device| device.id);
    let message = pb::CompleteLoginRequest {
        ticket: given.ticket,
        code: given.code,
        remember_device: given.remember_device.unwrap_or_default(),
        device_id: device.to_string(),
    };
    // Not again: a second try would find the code used.
    let call = async |request| edge.clients.auth().complete_login(request).await;
    let answer = edge.auth_once(&visit, None, message, call).await?;
    let authenticated = authenticated(&edge, "Login successful", answer.account, answer.tokens, device).await?;
    Ok(Json(Authenticated { deletion_cancelled: answer.deletion_cancelled, ..authenticated }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_a_refusal_with_its_ticket() {
        let mfa = pb::MfaChallenge { ticket: "sbm_x".into(), expires_in_secs: 300, methods: vec!["totp".into()] };
        let json = serde_json::to_value(challenged(mfa)).expect("JSON");
        assert_eq!((&json["statusCode"], &json["code"]), (&401.into(), &"MFA_REQUIRED".into()));
        assert_eq!(json["mfa"], serde_json::json!({"ticket": "sbm_x", "expiresIn": 300, "methods": ["totp"]}));
    }
}
