//! What only admins may do. Whether the caller is one is auth-svc's to judge; here are the routes and their words.

use std::sync::Arc;

use axum::{
    Json,
    body::Body as AxumBody,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use http::header;
use mesh::{client, identity::ServiceName, proto::auth::v1 as pb, time::Millis};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Shared, Yes, given};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, Fields, FromFields, FromParams, Params, Query, UserPath, Visitor},
    json::{Account, AuditEvent},
};

mod access;

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .merge(access::routes())
        .routes(routes!(audit))
        .routes(routes!(export))
        .routes(routes!(find_account))
        .routes(routes!(set_role))
}

/// An account, as an admin sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundAccount {
    success: Yes,
    user: Account,
    /// When it is erased; absent unless it is to be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    erase_at: Option<Millis>,
}

impl FoundAccount {
    fn new(account: pb::Account, erase_at: Option<Millis>) -> Self {
        Self { success: Yes, user: account.into(), erase_at }
    }
}

/// Which account.
pub(crate) struct AccountName(String);

impl FromParams for AccountName {
    fn read(params: &mut Params) -> Self {
        let name = params.text("name");
        Self(name.or_else(|| params.refuse("name", "is required")).unwrap_or_default())
    }
}

/// An account by its id, username or email.
#[utoipa::path(get, path = "/admin/users", tag = "Admin", operation_id = "findAccount", security(("bearer" = [])),
    params(("name" = String, Query, description = "An id, a username or an email")),
    responses(
        (status = 200, description = "The account", body = FoundAccount),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
        (status = 404, description = "USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn find_account(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    Query(AccountName(name)): Query<AccountName>,
) -> Answer<Json<FoundAccount>> {
    let message = pb::FindAccountRequest { name };
    let call = async |request| edge.clients.admin().find_account(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    let erase_at = answer.erase_time.map(Millis::from);
    Ok(Json(FoundAccount::new(given(answer.account)?, erase_at)))
}

/// A change of role.
#[derive(Debug, ToSchema)]
pub(crate) struct SetRole {
    /// `user`, `moderator` (which includes `user`) or `admin` (which includes both).
    role: String,
}

impl FromFields for SetRole {
    fn read(fields: &mut Fields) -> Self {
        Self { role: fields.required("role") }
    }
}

/// Gives an account a role.
///
/// Tokens carry it from the next refresh on; an account that loses a role loses its sessions too.
#[utoipa::path(put, path = "/admin/users/{id}/role", tag = "Admin", operation_id = "setRole",
    security(("bearer" = [])), params(("id" = String, Path, description = "The account")), request_body = SetRole,
    responses(
        (status = 200, description = "The account after it", body = FoundAccount),
        (status = 403, description = "FORBIDDEN without the role `admin`, or REAUTHENTICATION_REQUIRED", body = ErrorObject),
        (status = 404, description = "USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn set_role(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    UserPath(user_id): UserPath,
    Body(change): Body<SetRole>,
) -> Answer<Json<FoundAccount>> {
    let message = pb::SetRoleRequest { user_id, role: change.role };
    let call = async |request| edge.clients.admin().set_role(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(FoundAccount::new(given(answer.account)?, None)))
}

/// A page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditPage {
    success: Yes,
    /// The newest first.
    events: Vec<AuditEvent>,
    /// For the next page; empty at the end.
    next_page_token: String,
}

/// Which entries, and which page of them.
pub(crate) struct AuditParams {
    filter: pb::AuditFilter,
    page: PageParams,
}

/// A page of a list.
pub(crate) struct PageParams {
    pub(super) size: i32,
    pub(super) token: String,
}

impl FromParams for PageParams {
    fn read(params: &mut Params) -> Self {
        let size = params.number("pageSize", 1, 100).and_then(|size| i32::try_from(size).ok());
        Self { size: size.unwrap_or_default(), token: params.text("pageToken").unwrap_or_default() }
    }
}

impl FromParams for AuditParams {
    fn read(params: &mut Params) -> Self {
        let mut text = |name| params.text(name).unwrap_or_default();
        let (subject_id, actor, event) = (text("subjectId"), text("actor"), text("event"));
        let succeeded = match params.text("result").as_deref() {
            None => None,
            Some("success") => Some(true),
            Some("failure") => Some(false),
            Some(_) => params.refuse("result", "must be success or failure"),
        };
        let since_time = time(params, "since");
        let until_time = time(params, "until");
        let filter = pb::AuditFilter { subject_id, actor, event, succeeded, since_time, until_time };
        Self { filter, page: PageParams::read(params) }
    }
}

fn time(params: &mut Params, name: &str) -> Option<prost_types::Timestamp> {
    let text = params.text(name)?;
    match DateTime::parse_from_rfc3339(&text) {
        Ok(time) => Some(Millis(time.with_timezone(&Utc).timestamp_millis()).into()),
        Err(_) => params.refuse(name, "must be a time, as in 2026-11-23T10:00:00Z"),
    }
}

/// The audit log, the newest entry first.
#[utoipa::path(get, path = "/admin/audit", tag = "Admin", operation_id = "listAudit", security(("bearer" = [])),
    params(
        ("subjectId" = Option<String>, Query, description = "On whom: the id of a user"),
        ("actor" = Option<String>, Query, description = "By whom: the id of a user or a key, or an operator's name"),
        ("event" = Option<String>, Query, description = "An event (`login.password`) or a group (`login`)"),
        ("result" = Option<String>, Query, description = "`success` or `failure`"),
        ("since" = Option<String>, Query, description = "Not before this time (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Before this time (RFC 3339)"),
        ("pageSize" = Option<i64>, Query, description = "1 to 100; 50 by default"),
        ("pageToken" = Option<String>, Query, description = "From the last answer"),
    ),
    responses(
        (status = 200, description = "A page", body = AuditPage),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
    ))]
async fn audit(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    Query(asked): Query<AuditParams>,
) -> Answer<Json<AuditPage>> {
    let AuditParams { filter, page } = asked;
    let message = pb::ListAuditEventsRequest { filter: Some(filter), page_size: page.size, page_token: page.token };
    let call = async |request| edge.clients.admin().list_audit_events(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    let events = answer.events.into_iter().map(AuditEvent::from).collect();
    Ok(Json(AuditPage { success: Yes, events, next_page_token: answer.next_page_token }))
}

/// The audit log as JSON Lines, from beginning to end, the newest entry first.
#[utoipa::path(get, path = "/admin/audit/export", tag = "Admin", operation_id = "exportAudit",
    security(("bearer" = [])),
    params(
        ("subjectId" = Option<String>, Query, description = "On whom: the id of a user"),
        ("actor" = Option<String>, Query, description = "By whom: the id of a user or a key, or an operator's name"),
        ("event" = Option<String>, Query, description = "An event (`login.password`) or a group (`login`)"),
        ("result" = Option<String>, Query, description = "`success` or `failure`"),
        ("since" = Option<String>, Query, description = "Not before this time (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Before this time (RFC 3339)"),
    ),
    responses(
        (status = 200, description = "An entry a line", content_type = "application/x-ndjson", body = AuditEvent),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
    ))]
async fn export(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    Query(asked): Query<AuditParams>,
) -> Answer<Response> {
    let assertion = edge.identity.assertion(ServiceName::Auth, Some(&bearer.user));
    let message = pb::ExportAuditEventsRequest { filter: Some(asked.filter) };
    let mut request = client::stream_request(message, &assertion);
    visit.stamp(&mut request);
    let events = edge.clients.admin().export_audit_events(request).await?.into_inner();
    // A stream that breaks cuts the answer off, so that nobody takes a part for the whole.
    let lines = events.map(|step| {
        let event = step.map_err(std::io::Error::other)?.event.unwrap_or_default();
        let mut line = serde_json::to_vec(&AuditEvent::from(event)).map_err(std::io::Error::other)?;
        line.push(b'\n');
        Ok::<_, std::io::Error>(Bytes::from(line))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], AxumBody::from_stream(lines)).into_response())
}
