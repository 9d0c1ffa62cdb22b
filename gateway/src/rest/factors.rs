//! The caller's second factor: an authenticator app, recovery codes, remembered devices. The calls that take or give
//! something secret are limited like those that take a password.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use mesh::{proto::auth::v1 as pb, time::Millis};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Done, Shared, Yes};
use crate::{
    address::Origin,
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, Fields, FromFields, Visitor},
    json,
    limit::Class,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(get))
        .routes(routes!(start_totp, remove_totp))
        .routes(routes!(confirm_totp))
        .routes(routes!(make_codes))
        .routes(routes!(forget_devices))
}

/// The caller's second factor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Factors {
    success: Yes,
    totp: Totp,
    /// Recovery codes that are left, at most 10.
    recovery_codes_left: i32,
    /// Devices that need not give a code.
    remembered_devices: i32,
}

/// The caller's authenticator app.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Totp {
    /// Whether there is one, so that a login wants a code of it.
    enabled: bool,
    /// Since when; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    enabled_at: Option<Millis>,
}

/// What the caller's account has beside its password.
#[utoipa::path(get, path = "/auth/factors", tag = "Second factor", operation_id = "getFactors",
    security(("bearer" = [])), responses((status = 200, description = "The factors", body = Factors)))]
async fn get(State(edge): Shared, bearer: Bearer, Visitor(visit): Visitor) -> Answer<Json<Factors>> {
    let message = pb::GetFactorsRequest {};
    let call = async |request| edge.clients.factor().get_factors(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    let enabled_at = answer.totp_confirm_time.map(|time| json::time(Some(time)));
    Ok(Json(Factors {
        success: Yes,
        totp: Totp { enabled: enabled_at.is_some(), enabled_at },
        recovery_codes_left: answer.recovery_codes,
        remembered_devices: answer.remembered_devices,
    }))
}

/// A secret for an authenticator app; it is shown this once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartedTotp {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    /// In base32, to type in.
    secret: String,
    /// The same with the names of issuer and account.
    otpauth_uri: String,
    /// The URI as a QR code: an SVG document.
    qr_svg: String,
}

/// Makes a secret for an authenticator app. It counts once a code of it has been given to `…/confirm`.
#[utoipa::path(post, path = "/auth/factors/totp", tag = "Second factor", operation_id = "startTotp",
    security(("bearer" = [])),
    responses(
        (status = 201, description = "The secret", body = StartedTotp),
        (status = 403, description = "REAUTHENTICATION_REQUIRED: prove first who you are", body = ErrorObject),
        (status = 409, description = "CONFLICT: there is an authenticator already", body = ErrorObject),
    ))]
async fn start_totp(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
) -> Answer<(http::StatusCode, Json<StartedTotp>)> {
    let message = pb::StartTotpRequest {};
    let call = async |request| edge.clients.factor().start_totp(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    let started = StartedTotp {
        success: Yes,
        message: "Confirm the authenticator by a code of it",
        secret: answer.secret,
        otpauth_uri: answer.otpauth_uri,
        qr_svg: answer.qr_svg,
    };
    Ok((http::StatusCode::CREATED, Json(started)))
}

/// A code of the new secret.
#[derive(Debug, ToSchema)]
pub(crate) struct ConfirmTotp {
    /// The six digits that the app shows.
    code: String,
}

impl FromFields for ConfirmTotp {
    fn read(fields: &mut Fields) -> Self {
        Self { code: fields.required("code") }
    }
}

/// Codes for the day on which the app is lost; they are shown this once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecoveryCodes {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    /// Ten; each is good once.
    recovery_codes: Vec<String>,
}

/// Confirms the secret: from here on a login wants a code.
#[utoipa::path(post, path = "/auth/factors/totp/confirm", tag = "Second factor", operation_id = "confirmTotp",
    security(("bearer" = [])), request_body = ConfirmTotp,
    responses(
        (status = 200, description = "It counts; the recovery codes", body = RecoveryCodes),
        (status = 401, description = "MFA_CODE_INVALID", body = ErrorObject),
        (status = 403, description = "REAUTHENTICATION_REQUIRED: prove first who you are", body = ErrorObject),
        (status = 404, description = "NOT_FOUND: nothing was started", body = ErrorObject),
    ))]
async fn confirm_totp(
    State(edge): Shared,
    bearer: Bearer,
    Extension(origin): Extension<Origin>,
    Visitor(visit): Visitor,
    Body(given): Body<ConfirmTotp>,
) -> Answer<Json<RecoveryCodes>> {
    bearer.limit(&edge, Class::Auth, origin)?;
    // Not again: a second try would find the secret confirmed, and its recovery codes lost.
    let message = pb::ConfirmTotpRequest { code: given.code };
    let call = async |request| edge.clients.factor().confirm_totp(request).await;
    let answer = edge.auth_once(&visit, Some(&bearer.user), message, call).await?;
    let message = "The authenticator is added; keep the recovery codes";
    Ok(Json(RecoveryCodes { success: Yes, message, recovery_codes: answer.recovery_codes }))
}

/// Removes the authenticator, its recovery codes and the remembered devices.
#[utoipa::path(delete, path = "/auth/factors/totp", tag = "Second factor", operation_id = "removeTotp",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "Removed", body = Done),
        (status = 403, description = "REAUTHENTICATION_REQUIRED: prove first who you are", body = ErrorObject),
        (status = 404, description = "NOT_FOUND: there is none", body = ErrorObject),
    ))]
async fn remove_totp(State(edge): Shared, bearer: Bearer, Visitor(visit): Visitor) -> Answer<Json<Done>> {
    let message = pb::RemoveTotpRequest {};
    let call = async |request| edge.clients.factor().remove_totp(request).await;
    edge.auth_once(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(Done::new("The authenticator is removed")))
}

/// Makes ten new recovery codes; the old ones are good no more.
#[utoipa::path(post, path = "/auth/factors/recovery-codes", tag = "Second factor", operation_id = "makeRecoveryCodes",
    security(("bearer" = [])),
    responses(
        (status = 201, description = "The new codes", body = RecoveryCodes),
        (status = 403, description = "REAUTHENTICATION_REQUIRED: prove first who you are", body = ErrorObject),
        (status = 404, description = "NOT_FOUND: there is no authenticator", body = ErrorObject),
    ))]
async fn make_codes(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
) -> Answer<(http::StatusCode, Json<RecoveryCodes>)> {
    let message = pb::MakeRecoveryCodesRequest {};
    let call = async |request| edge.clients.factor().make_recovery_codes(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    let message = "The old recovery codes are good no more; keep these";
    let made = RecoveryCodes { success: Yes, message, recovery_codes: answer.recovery_codes };
    Ok((http::StatusCode::CREATED, Json(made)))
}

/// Forgets every device that need not give a code.
#[utoipa::path(delete, path = "/auth/factors/devices", tag = "Second factor", operation_id = "forgetDevices",
    security(("bearer" = [])), responses((status = 200, description = "Forgotten", body = Done)))]
async fn forget_devices(State(edge): Shared, bearer: Bearer, Visitor(visit): Visitor) -> Answer<Json<Done>> {
    let message = pb::ForgetDevicesRequest {};
    let call = async |request| edge.clients.factor().forget_devices(request).await;
    edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(Done::new("All remembered devices are forgotten")))
}
