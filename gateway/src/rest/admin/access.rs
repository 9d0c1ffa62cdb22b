//! What admins do about people's access: disabling accounts, deleting them, ending sessions. All of it wants a fresh proof of
//! who calls, which auth-svc judges.

use std::sync::Arc;

use axum::{Json, extract::State};
use mesh::proto::auth::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::FoundAccount;
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, UserPath, Visitor},
    json::time,
    rest::{Answer, Shared, Yes, account::Deleted, given},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(delete))
        .routes(routes!(end_sessions))
        .routes(routes!(end_all_sessions))
}

/// Keeps everybody out of an account.
///
/// Its sessions end, and whoever logs in with the right password is told `ACCOUNT_DISABLED`.
#[utoipa::path(post, path = "/admin/users/{id}/disable", tag = "Admin", operation_id = "disableUser",
    security(("bearer" = [])), params(("id" = String, Path, description = "The account")),
    responses(
        (status = 200, description = "The account after it", body = FoundAccount),
        (status = 400, description = "VALIDATION_FAILED for one's own account or a service account", body = ErrorObject),
        (status = 403, description = "FORBIDDEN without the role `admin`, or REAUTHENTICATION_REQUIRED", body = ErrorObject),
        (status = 404, description = "USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn disable(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    UserPath(user_id): UserPath,
) -> Answer<Json<FoundAccount>> {
    let message = pb::DisableUserRequest { user_id };
    let call = async |request| edge.clients.admin().disable_user(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(FoundAccount::new(given(answer.account)?, None)))
}

/// Lets people into an account again, and takes its deletion back if it is not erased yet.
#[utoipa::path(post, path = "/admin/users/{id}/enable", tag = "Admin", operation_id = "enableUser",
    security(("bearer" = [])), params(("id" = String, Path, description = "The account")),
    responses(
        (status = 200, description = "The account after it", body = FoundAccount),
        (status = 403, description = "FORBIDDEN without the role `admin`, or REAUTHENTICATION_REQUIRED", body = ErrorObject),
        (status = 404, description = "USER_NOT_FOUND, also when it is erased", body = ErrorObject),
    ))]
async fn enable(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    UserPath(user_id): UserPath,
) -> Answer<Json<FoundAccount>> {
    let message = pb::EnableUserRequest { user_id };
    let call = async |request| edge.clients.admin().enable_user(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(FoundAccount::new(given(answer.account)?, None)))
}

/// Deletes an account.
///
/// It is disabled at once and erased in every service when the grace is over; until then, enabling it takes that back. Of a
/// service account the keys are revoked.
#[utoipa::path(delete, path = "/admin/users/{id}", tag = "Admin", operation_id = "deleteUser",
    security(("bearer" = [])), params(("id" = String, Path, description = "The account")),
    responses(
        (status = 200, description = "It will be erased", body = Deleted),
        (status = 400, description = "VALIDATION_FAILED for one's own account", body = ErrorObject),
        (status = 403, description = "FORBIDDEN without the role `admin`, or REAUTHENTICATION_REQUIRED", body = ErrorObject),
        (status = 404, description = "USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn delete(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    UserPath(user_id): UserPath,
) -> Answer<Json<Deleted>> {
    let message = pb::DeleteUserRequest { user_id };
    let call = async |request| edge.clients.admin().delete_user(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(Deleted::at(time(answer.erase_time))))
}

/// Sessions that have ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndedSessions {
    success: Yes,
    /// How many.
    ended_sessions: i32,
}

/// Ends every session of an account.
#[utoipa::path(delete, path = "/admin/users/{id}/sessions", tag = "Admin", operation_id = "endUserSessions",
    security(("bearer" = [])), params(("id" = String, Path, description = "The account")),
    responses(
        (status = 200, description = "They have ended", body = EndedSessions),
        (status = 403, description = "FORBIDDEN without the role `admin`, or REAUTHENTICATION_REQUIRED", body = ErrorObject),
        (status = 404, description = "USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn end_sessions(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    UserPath(user_id): UserPath,
) -> Answer<Json<EndedSessions>> {
    let message = pb::EndUserSessionsRequest { user_id };
    let call = async |request| edge.clients.admin().end_user_sessions(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(EndedSessions { success: Yes, ended_sessions: answer.ended_sessions }))
}

/// Ends every session of everybody, the caller's own included: all log in again. API keys stay.
#[utoipa::path(delete, path = "/admin/sessions", tag = "Admin", operation_id = "endAllSessions",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "They have ended", body = EndedSessions),
        (status = 403, description = "FORBIDDEN without the role `admin`, or REAUTHENTICATION_REQUIRED", body = ErrorObject),
    ))]
async fn end_all_sessions(State(edge): Shared, bearer: Bearer, Visitor(visit): Visitor) -> Answer<Json<EndedSessions>> {
    // Not again: the first try may have ended the session that asks.
    let call = async |request| edge.clients.admin().end_all_sessions(request).await;
    let answer = edge.auth_once(&visit, Some(&bearer.user), pb::EndAllSessionsRequest {}, call).await?;
    edge.ended_here(&bearer.user);
    Ok(Json(EndedSessions { success: Yes, ended_sessions: answer.ended_sessions }))
}
