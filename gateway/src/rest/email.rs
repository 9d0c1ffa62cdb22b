//! What goes by mail: a forgotten password, and whose an address is. Who asks gets the same answer whether there is an
//! account or not; the links in mails lead to a page, which gives their token back here.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use http::StatusCode;
use mesh::proto::auth::v1 as pb;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Done, Shared};
use crate::{
    address::Origin,
    edge::Edge,
    error::ErrorObject,
    extract::{Body, Fields, FromFields, Visitor},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(forgot_password))
        .routes(routes!(reset_password))
        .routes(routes!(verify))
        .routes(routes!(resend_verification))
}

/// An address that a mail is asked for.
#[derive(Debug, ToSchema)]
pub(crate) struct AddressGiven {
    /// The address of the account, without regard to case.
    #[schema(example = "ada@example.com")]
    email: String,
}

impl FromFields for AddressGiven {
    fn read(fields: &mut Fields) -> Self {
        Self { email: fields.required("email") }
    }
}

/// Mails a link for a new password to the account that has this address.
///
/// The answer is the same, in the same time, when there is none.
#[utoipa::path(post, path = "/auth/password/forgot", tag = "Email", operation_id = "forgotPassword",
    request_body = AddressGiven,
    responses(
        (status = 202, description = "It will be seen to", body = Done),
        (status = 403, description = "EMAIL_DISABLED: this installation sends no mail", body = ErrorObject),
    ))]
async fn forgot_password(
    State(edge): Shared,
    Extension(origin): Extension<Origin>,
    Visitor(visit): Visitor,
    Body(given): Body<AddressGiven>,
) -> Answer<(StatusCode, Json<Done>)> {
    let attempt = edge.limiter.guesses.mail(origin.address, &given.email)?;
    let message = pb::RequestPasswordResetRequest { email: given.email };
    let call = async |request| edge.clients.email().request_password_reset(request).await;
    let answer = edge.auth_again(&visit, None, message, call).await;
    attempt.asked(&answer);
    answer?;
    let message = "If an account has this address, a mail with a link is on its way";
    Ok((StatusCode::ACCEPTED, Json(Done::new(message))))
}

/// A new password with the token of a mail.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ResetPassword {
    /// The token of the link.
    token: String,
    /// 8–128 characters.
    #[schema(format = Password)]
    new_password: String,
}

impl FromFields for ResetPassword {
    fn read(fields: &mut Fields) -> Self {
        Self { token: fields.required("token"), new_password: fields.required("newPassword") }
    }
}

/// Sets a new password by the token of a mail.
///
/// Every session of the account ends. Log in with the new password; where there is a second factor, it is asked for as ever.
#[utoipa::path(post, path = "/auth/password/reset", tag = "Email", operation_id = "resetPassword",
    request_body = ResetPassword,
    responses(
        (status = 200, description = "It counts", body = Done),
        (status = 403, description = "EMAIL_TOKEN_INVALID: ask for another mail", body = ErrorObject),
    ))]
async fn reset_password(
    State(edge): Shared,
    Extension(origin): Extension<Origin>,
    Visitor(visit): Visitor,
    Body(given): Body<ResetPassword>,
) -> Answer<Json<Done>> {
    let attempt = edge.limiter.guesses.link(origin.address)?;
    let message = pb::ResetPasswordRequest { token: given.token, new_password: given.new_password };
    // Not again: a second try would find the token used.
    let call = async |request| edge.clients.email().reset_password(request).await;
    let answer = edge.auth_once(&visit, None, message, call).await;
    attempt.settled(&answer);
    answer?;
    Ok(Json(Done::new("Password changed successfully; log in with it")))
}

/// The token of a mail.
#[derive(Debug, ToSchema)]
pub(crate) struct TokenGiven {
    /// The token of the link.
    token: String,
}

impl FromFields for TokenGiven {
    fn read(fields: &mut Fields) -> Self {
        Self { token: fields.required("token") }
    }
}

/// Shows by the token of a mail that an address is its account's.
#[utoipa::path(post, path = "/auth/email/verify", tag = "Email", operation_id = "verifyEmail",
    request_body = TokenGiven,
    responses(
        (status = 200, description = "It is noted", body = Done),
        (status = 403, description = "EMAIL_TOKEN_INVALID: ask for another mail", body = ErrorObject),
    ))]
async fn verify(
    State(edge): Shared,
    Extension(origin): Extension<Origin>,
    Visitor(visit): Visitor,
    Body(given): Body<TokenGiven>,
) -> Answer<Json<Done>> {
    let attempt = edge.limiter.guesses.link(origin.address)?;
    let message = pb::VerifyEmailRequest { token: given.token };
    let call = async |request| edge.clients.email().verify_email(request).await;
    let answer = edge.auth_once(&visit, None, message, call).await;
    attempt.settled(&answer);
    answer?;
    Ok(Json(Done::new("Email address verified")))
}

/// Mails a link that shows whose an address is to the account that has it, unless that is known.
///
/// The answer is the same, in the same time, when there is none.
#[utoipa::path(post, path = "/auth/email/verify/resend", tag = "Email", operation_id = "resendVerification",
    request_body = AddressGiven,
    responses(
        (status = 202, description = "It will be seen to", body = Done),
        (status = 403, description = "EMAIL_DISABLED: this installation sends no mail", body = ErrorObject),
    ))]
async fn resend_verification(
    State(edge): Shared,
    Extension(origin): Extension<Origin>,
    Visitor(visit): Visitor,
    Body(given): Body<AddressGiven>,
) -> Answer<(StatusCode, Json<Done>)> {
    let attempt = edge.limiter.guesses.mail(origin.address, &given.email)?;
    let message = pb::RequestEmailVerificationRequest { email: given.email };
    let call = async |request| edge.clients.email().request_email_verification(request).await;
    let answer = edge.auth_again(&visit, None, message, call).await;
    attempt.asked(&answer);
    answer?;
    let message = "If an account with this address is not verified, a mail with a link is on its way";
    Ok((StatusCode::ACCEPTED, Json(Done::new(message))))
}
