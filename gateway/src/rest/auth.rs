//! Accounts: register, refresh, log out, password, proving again who one is, and the token for a Socket.IO connection.
//! Logging in is in `auth/login.rs`, the profile in `auth/profile.rs`. Calls without a user are made with this gateway's
//! own assertion, so that auth-svc believes where they come from.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use http::StatusCode;
use mesh::{
    error::{Reason, Refusal},
    proto::auth::v1 as pb,
    time::Millis,
    visit::Visit,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Answer, Done, Shared, Yes, given};
use crate::{
    address::Origin,
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, Fields, FromFields, Visitor},
    json::{self, User},
    limit::Class,
};

mod login;
mod profile;

/// The calls that take a password or a refresh token; they have tighter limits.
pub(super) fn password_routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(register))
        .routes(routes!(login::login))
        .routes(routes!(login::complete))
        .routes(routes!(refresh))
        .routes(routes!(change_password))
        .routes(routes!(reauthenticate))
}

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(logout)).routes(routes!(ws_token))
}

pub(super) fn profile_routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(profile::get_profile, profile::update_profile))
}

/// A user with the tokens of a new session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authenticated {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    user: User,
    /// A JWT for `authorization: Bearer …`.
    access_token: String,
    /// Opaque; good for one refresh.
    refresh_token: String,
    /// Seconds until the access token expires.
    expires_in: i64,
    /// By which this device is known at its next login: keep it, also after logging out. It opens nothing by itself.
    device_token: String,
    /// True when the account was to be deleted and stays because of this login; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deletion_cancelled: bool,
}

/// Fresh tokens of a session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refreshed {
    success: Yes,
    /// A JWT for `authorization: Bearer …`.
    access_token: String,
    /// Opaque; good for one refresh.
    refresh_token: String,
    /// Seconds until the access token expires.
    expires_in: i64,
}

/// A token that opens one Socket.IO connection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WsToken {
    success: Yes,
    /// Give it as `auth.token`. It is good once.
    token: String,
    /// Seconds until it expires.
    expires_in: i64,
}

/// A new account.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Register {
    /// 3–32 letters, digits, `_`, `.`, `-`; unique without regard to case.
    #[schema(example = "ada")]
    username: String,
    /// At most 254 characters; unique without regard to case.
    #[schema(example = "ada@example.com")]
    email: String,
    /// 8–128 characters.
    #[schema(format = Password)]
    password: String,
    /// At most 100 characters.
    first_name: Option<String>,
    /// At most 100 characters.
    last_name: Option<String>,
    /// What to call this device in the list of sessions; longer than 200 characters is cut. By default the user agent.
    device_name: Option<String>,
    /// The code of an invitation, where one is needed to register.
    invitation: Option<String>,
}

impl FromFields for Register {
    fn read(fields: &mut Fields) -> Self {
        Self {
            username: fields.required("username"),
            email: fields.required("email"),
            password: fields.required("password"),
            first_name: fields.text("firstName"),
            last_name: fields.text("lastName"),
            device_name: fields.text("deviceName"),
            invitation: fields.text("invitation"),
        }
    }
}

/// Makes an account and its first session.
#[utoipa::path(post, path = "/auth/register", tag = "Accounts", operation_id = "register", request_body = Register,
    responses(
        (status = 201, description = "The account, logged in", body = Authenticated),
        (status = 403, body = ErrorObject,
         description = "REGISTRATION_CLOSED, INVITATION_REQUIRED or INVITATION_INVALID, by what the operator has set; EMAIL_UNVERIFIED \
                        when the account is made and its address must be verified before anybody logs in"),
    ))]
async fn register(
    State(edge): Shared,
    Visitor(visit): Visitor,
    Body(new): Body<Register>,
) -> Answer<(StatusCode, Json<Authenticated>)> {
    let message = pb::RegisterRequest {
        username: new.username,
        email: new.email,
        password: new.password,
        first_name: new.first_name.unwrap_or_default(),
        last_name: new.last_name.unwrap_or_default(),
        client: Some(client(&visit, new.device_name)),
        // Chosen here, so that a call whose answer is lost can be made again without finding its own account taken.
        user_id: Uuid::now_v7().to_string(),
        invitation: new.invitation.unwrap_or_default(),
    };
    let call = async |request| edge.clients.auth().register(request).await;
    let answer = edge.auth_again(&visit, None, message, call).await?;
    let user = authenticated(&edge, "User created successfully", answer.account, answer.tokens, Uuid::new_v4()).await?;
    Ok((StatusCode::CREATED, Json(user)))
}

/// A refresh token.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Refresh {
    /// The last one of the session.
    refresh_token: String,
}

impl FromFields for Refresh {
    fn read(fields: &mut Fields) -> Self {
        Self { refresh_token: fields.required("refreshToken") }
    }
}

/// Exchanges a refresh token for fresh tokens.
///
/// Repeated with the same token it gives the same successor, until that has been used.
#[utoipa::path(post, path = "/auth/refresh", tag = "Accounts", operation_id = "refresh", request_body = Refresh,
    responses(
        (status = 200, description = "Fresh tokens", body = Refreshed),
        (status = 401, description = "TOKEN_INVALID, TOKEN_EXPIRED or TOKEN_REVOKED", body = ErrorObject),
    ))]
async fn refresh(State(edge): Shared, Visitor(visit): Visitor, Body(given): Body<Refresh>) -> Answer<Json<Refreshed>> {
    let message = pb::RefreshRequest { refresh_token: given.refresh_token };
    let call = async |request| edge.clients.auth().refresh(request).await;
    let answer = edge.auth_again(&visit, None, message, call).await?;
    let pb::Tokens { access_token, refresh_token, expires_in_secs } = self::given(answer.tokens)?;
    Ok(Json(Refreshed { success: Yes, access_token, refresh_token, expires_in: expires_in_secs }))
}

/// A change of password.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ChangePassword {
    /// The password until now.
    #[schema(format = Password)]
    current_password: String,
    /// 8–128 characters.
    #[schema(format = Password)]
    new_password: String,
}

impl FromFields for ChangePassword {
    fn read(fields: &mut Fields) -> Self {
        Self { current_password: fields.required("currentPassword"), new_password: fields.required("newPassword") }
    }
}

/// Sets a new password and ends every other session.
#[utoipa::path(put, path = "/auth/password", tag = "Accounts", operation_id = "changePassword",
    request_body = ChangePassword, security(("bearer" = [])),
    responses(
        (status = 200, description = "Changed", body = Done),
        (status = 401, description = "INVALID_CREDENTIALS for a wrong current password", body = ErrorObject),
        (status = 403, description = "REAUTHENTICATION_REQUIRED for an account with a second factor", body = ErrorObject),
    ))]
async fn change_password(
    State(edge): Shared,
    bearer: Bearer,
    Extension(origin): Extension<Origin>,
    Visitor(visit): Visitor,
    Body(given): Body<ChangePassword>,
) -> Answer<Json<Done>> {
    bearer.limit(&edge, Class::Auth, origin)?;
    let message =
        pb::ChangePasswordRequest { current_password: given.current_password, new_password: given.new_password };
    // Not again: a second try would find the current password changed.
    let call = async |request| edge.clients.auth().change_password(request).await;
    let attempt = edge.limiter.guesses.proof(bearer.user.session_id.unwrap_or(bearer.user.user_id))?;
    let answer = edge.auth_once(&visit, Some(&bearer.user), message, call).await;
    attempt.settled(&answer);
    answer?;
    Ok(Json(Done::new("Password changed successfully")))
}

/// Who proves again who they are.
#[derive(Debug, ToSchema)]
pub(crate) struct Reauthenticate {
    /// The password. Needed unless the account has a second factor; judged whenever it is given.
    #[schema(format = Password)]
    password: Option<String>,
    /// The six digits that the authenticator app shows, or a recovery code; needed when the account has a second factor.
    code: Option<String>,
}

impl FromFields for Reauthenticate {
    fn read(fields: &mut Fields) -> Self {
        if !fields.has("password") && !fields.has("code") {
            fields.refuse::<()>("password", "is required, or code for an account with a second factor");
        }
        Self { password: fields.text("password"), code: fields.text("code") }
    }
}

/// The session has proved whose it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reauthenticated {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    /// Until when sensitive calls are content with this proof.
    #[schema(value_type = String, format = DateTime)]
    fresh_until: Millis,
}

/// Proves by the password, or by a code of the second factor, whose the session is, so that a call that answered
/// `REAUTHENTICATION_REQUIRED` can be repeated.
#[utoipa::path(post, path = "/auth/reauthenticate", tag = "Accounts", operation_id = "reauthenticate",
    request_body = Reauthenticate, security(("bearer" = [])),
    responses(
        (status = 200, description = "Proved", body = Reauthenticated),
        (status = 401, body = ErrorObject,
         description = "INVALID_CREDENTIALS for a wrong password; MFA_REQUIRED without a code, MFA_CODE_INVALID for a wrong one"),
    ))]
async fn reauthenticate(
    State(edge): Shared,
    bearer: Bearer,
    Extension(origin): Extension<Origin>,
    Visitor(visit): Visitor,
    Body(given): Body<Reauthenticate>,
) -> Answer<Json<Reauthenticated>> {
    bearer.limit(&edge, Class::Auth, origin)?;
    let (password, code) = (given.password.unwrap_or_default(), given.code.unwrap_or_default());
    let message = pb::ReauthenticateRequest { password, code };
    // Not again: a second try would find the code used.
    let call = async |request| edge.clients.auth().reauthenticate(request).await;
    let attempt = edge.limiter.guesses.proof(bearer.user.session_id.unwrap_or(bearer.user.user_id))?;
    let answer = edge.auth_once(&visit, Some(&bearer.user), message, call).await;
    attempt.settled(&answer);
    let fresh_until = json::time(answer?.fresh_until_time);
    Ok(Json(Reauthenticated { success: Yes, message: "Reauthenticated successfully", fresh_until }))
}

/// Ends the session: its access token is refused and its sockets are closed.
#[utoipa::path(post, path = "/auth/logout", tag = "Accounts", operation_id = "logout", security(("bearer" = [])),
    responses((status = 200, description = "Logged out", body = Done)))]
async fn logout(State(edge): Shared, bearer: Bearer, Visitor(visit): Visitor) -> Answer<Json<Done>> {
    let message = pb::LogoutRequest {};
    let call = async |request| edge.clients.auth().logout(request).await;
    edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    edge.ended_here(&bearer.user);
    Ok(Json(Done::new("Logged out successfully")))
}

/// A token that opens one Socket.IO connection, within a minute.
#[utoipa::path(get, path = "/auth/ws-token", tag = "Accounts", operation_id = "wsToken", security(("bearer" = [])),
    responses(
        (status = 200, description = "The token", body = WsToken),
        (status = 403, description = "FORBIDDEN with an API key: sockets are for people", body = ErrorObject),
    ))]
async fn ws_token(State(edge): Shared, bearer: Bearer) -> Answer<Json<WsToken>> {
    if bearer.user.scopes.is_some() {
        return Err(Refusal::new(Reason::Forbidden, "No API key can do this; it is for people").into());
    }
    let (token, expires_in) = edge.ws_tokens.issue(&bearer.user);
    Ok(Json(WsToken { success: Yes, token, expires_in }))
}

/// Where a login comes from, for the list of sessions: under the name that was given, or else the user agent.
fn client(visit: &Visit, name: Option<String>) -> pb::ClientInfo {
    let device = name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| visit.device.clone());
    pb::ClientInfo { device, ip_address: visit.address.clone() }
}

async fn authenticated(
    edge: &Edge,
    message: &'static str,
    account: Option<pb::Account>,
    tokens: Option<pb::Tokens>,
    device: Uuid,
) -> Answer<Authenticated> {
    let (account, tokens) = (given(account)?, given(tokens)?);
    let user_id = Uuid::try_parse(&account.id).map_err(Refusal::internal)?;
    let device_token = edge.device_tokens.issue(user_id, device, [&account.username, &account.email]);
    // The session is open already: a profile that cannot be had now must not keep anybody out.
    let profile = profile::profile(edge, &tokens.access_token, &account.id).await.unwrap_or_default();
    Ok(Authenticated {
        success: Yes,
        message,
        user: User::new(account, profile),
        access_token: tokens.access_token,
        refresh_token: tokens.refresh_token,
        expires_in: tokens.expires_in_secs,
        device_token,
        deletion_cancelled: false,
    })
}
