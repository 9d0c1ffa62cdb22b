//! The history of the caller's logins.

use std::sync::Arc;

use axum::{Json, extract::State};
use mesh::proto::auth::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Shared, Yes, admin::PageParams};
use crate::{
    edge::Edge,
    extract::{Bearer, Query},
    json::LoginRecord,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list))
}

/// A page of logins.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Logins {
    success: Yes,
    /// The newest first.
    logins: Vec<LoginRecord>,
    /// For the next page; empty at the end.
    next_page_token: String,
}

/// The caller's logins, also those that failed, as far back as the audit log is kept.
#[utoipa::path(get, path = "/auth/history", tag = "Sessions", operation_id = "listLogins", security(("bearer" = [])),
    params(
        ("pageSize" = Option<i64>, Query, description = "1 to 100; 50 by default"),
        ("pageToken" = Option<String>, Query, description = "From the last answer"),
    ),
    responses((status = 200, description = "A page", body = Logins)))]
async fn list(State(edge): Shared, bearer: Bearer, Query(page): Query<PageParams>) -> Answer<Json<Logins>> {
    let message = pb::ListLoginsRequest { page_size: page.size, page_token: page.token };
    let answer =
        edge.again(&bearer.token, message, async |request| edge.clients.auth().list_logins(request).await).await?;
    let logins = answer.logins.into_iter().map(LoginRecord::from).collect();
    Ok(Json(Logins { success: Yes, logins, next_page_token: answer.next_page_token }))
}
