//! Invitations to register, which admins make, look through and take back. Whether the caller is an admin is auth-svc's to
//! judge.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use mesh::proto::auth::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Done, Shared, Yes, admin::PageParams, given};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, Fields, FromFields, IdPath, Query, Visitor},
    json::Invitation,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, create)).routes(routes!(revoke))
}

/// An invitation that is to be made.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Invite {
    /// For whom it is, at most 200 characters; for admins alone.
    note: Option<String>,
    /// Seconds that it is good, from 60 to 7,776,000 (90 days); 7 days by default.
    expires_in: Option<i64>,
}

impl FromFields for Invite {
    fn read(fields: &mut Fields) -> Self {
        Self { note: fields.text("note"), expires_in: fields.number("expiresIn", 60, 7_776_000) }
    }
}

/// An invitation with its code.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Invited {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    invitation: Invitation,
    /// Whoever gives it as `invitation` to `POST /api/auth/register` may register, once. It is shown here and never again.
    code: String,
}

/// Makes an invitation to register, for an installation where one is needed (`auth.registration`).
#[utoipa::path(post, path = "/admin/invitations", tag = "Admin", operation_id = "createInvitation",
    security(("bearer" = [])), request_body = Invite,
    responses(
        (status = 201, description = "The invitation and its code", body = Invited),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
        (status = 409, description = "CONFLICT: there are as many as there may be", body = ErrorObject),
    ))]
async fn create(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    Body(order): Body<Invite>,
) -> Answer<(StatusCode, Json<Invited>)> {
    let (note, expires_in_secs) = (order.note.unwrap_or_default(), order.expires_in.unwrap_or_default());
    let message = pb::CreateInvitationRequest { note, expires_in_secs };
    // Not again: a second try would leave one behind that nobody knows.
    let call = async |request| edge.clients.admin().create_invitation(request).await;
    let answer = edge.auth_once(&visit, Some(&bearer.user), message, call).await?;
    let invitation = given(answer.invitation)?.into();
    let made = Invited { success: Yes, message: "Invitation created successfully", invitation, code: answer.code };
    Ok((StatusCode::CREATED, Json(made)))
}

/// A page of invitations.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Invitations {
    success: Yes,
    /// The newest first.
    invitations: Vec<Invitation>,
    /// For the next page; empty at the end.
    next_page_token: String,
}

/// The invitations that have not expired, used or not.
#[utoipa::path(get, path = "/admin/invitations", tag = "Admin", operation_id = "listInvitations",
    security(("bearer" = [])),
    params(
        ("pageSize" = Option<i64>, Query, description = "1 to 100; 50 by default"),
        ("pageToken" = Option<String>, Query, description = "From the last answer"),
    ),
    responses(
        (status = 200, description = "A page", body = Invitations),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
    ))]
async fn list(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    Query(page): Query<PageParams>,
) -> Answer<Json<Invitations>> {
    let message = pb::ListInvitationsRequest { page_size: page.size, page_token: page.token };
    let call = async |request| edge.clients.admin().list_invitations(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    let invitations = answer.invitations.into_iter().map(Invitation::from).collect();
    Ok(Json(Invitations { success: Yes, invitations, next_page_token: answer.next_page_token }))
}

/// Takes an invitation back that was not used yet.
#[utoipa::path(delete, path = "/admin/invitations/{id}", tag = "Admin", operation_id = "revokeInvitation",
    security(("bearer" = [])), params(("id" = String, Path, description = "The invitation")),
    responses(
        (status = 200, description = "It is good no more", body = Done),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
        (status = 404, description = "NOT_FOUND: there is none of this id, or it was used", body = ErrorObject),
    ))]
async fn revoke(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    IdPath(invitation_id): IdPath,
) -> Answer<Json<Done>> {
    let message = pb::RevokeInvitationRequest { invitation_id };
    // Not again: a second try would find it gone.
    let call = async |request| edge.clients.admin().revoke_invitation(request).await;
    edge.auth_once(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(Done::new("Invitation revoked successfully")))
}
