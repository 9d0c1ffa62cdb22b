//! The caller's sessions: list, end one, end all others.

use std::sync::Arc;

use axum::{Json, extract::State};
use mesh::proto::auth::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Done, Shared, Yes};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, SessionPath, Visitor},
    json::Session,
};

/// Pages of 100 that are gathered; nobody looks through more sessions than that.
const PAGES_MAX: usize = 10;

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, end_others)).routes(routes!(end))
}

/// The live sessions, the last used first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sessions {
    success: Yes,
    /// At most 1,000.
    sessions: Vec<Session>,
}

/// The caller's live sessions.
#[utoipa::path(get, path = "/auth/sessions", tag = "Sessions", operation_id = "listSessions",
    security(("bearer" = [])), responses((status = 200, description = "The sessions", body = Sessions)))]
async fn list(State(edge): Shared, bearer: Bearer) -> Answer<Json<Sessions>> {
    let mut sessions = Vec::new();
    let mut page_token = String::new();
    for _ in 0..PAGES_MAX {
        let message = pb::ListSessionsRequest { page_size: 100, page_token };
        let page = edge
            .again(&bearer.token, message, async |request| edge.clients.auth().list_sessions(request).await)
            .await?;
        sessions.extend(page.sessions.into_iter().map(Session::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(Json(Sessions { success: Yes, sessions }))
}

/// Ends one session; its own ends the caller's.
#[utoipa::path(delete, path = "/auth/sessions/{id}", tag = "Sessions", operation_id = "endSession",
    security(("bearer" = [])), params(("id" = String, Path, description = "The session")),
    responses(
        (status = 200, description = "Ended", body = Done),
        (status = 404, description = "SESSION_NOT_FOUND", body = ErrorObject),
    ))]
async fn end(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    SessionPath(session_id): SessionPath,
) -> Answer<Json<Done>> {
    let own = bearer.user.session_id.is_some_and(|id| id.to_string() == session_id);
    let message = pb::RevokeSessionRequest { session_id };
    let call = async |request| edge.clients.auth().revoke_session(request).await;
    edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    if own {
        edge.ended_here(&bearer.user);
    }
    Ok(Json(Done::new("Session ended successfully")))
}

/// Ends every session but the caller's.
#[utoipa::path(delete, path = "/auth/sessions", tag = "Sessions", operation_id = "endOtherSessions",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "Ended", body = Done),
        (status = 403, description = "REAUTHENTICATION_REQUIRED: prove first who you are", body = ErrorObject),
    ))]
async fn end_others(State(edge): Shared, bearer: Bearer, Visitor(visit): Visitor) -> Answer<Json<Done>> {
    let message = pb::RevokeOtherSessionsRequest {};
    let call = async |request| edge.clients.auth().revoke_other_sessions(request).await;
    edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(Done::new("All other sessions ended successfully")))
}
