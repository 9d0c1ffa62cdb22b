//! Members of a room: list, add, remove.

use std::sync::Arc;

use axum::{Json, extract::State};
use mesh::proto::message::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Answer, Shared, Yes,
    rooms::{OneRoom, Page, WithUser},
};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, MemberPath, Query, RoomPath},
    json::Member,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, add)).routes(routes!(remove))
}

/// A page of members.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Members {
    success: Yes,
    /// The longest-standing first.
    members: Vec<Member>,
    /// For `pageToken`; empty at the end.
    next_page_token: String,
}

/// A page of a room's members; 50 by default.
#[utoipa::path(get, path = "/rooms/{id}/members", tag = "Rooms", operation_id = "listMembers",
    security(("bearer" = [])), params(("id" = String, Path, description = "The room"), Page),
    responses(
        (status = 200, description = "The members", body = Members),
        (status = 403, description = "NOT_A_MEMBER", body = ErrorObject),
        (status = 404, description = "ROOM_NOT_FOUND", body = ErrorObject),
    ))]
async fn list(
    State(edge): Shared,
    bearer: Bearer,
    RoomPath(room_id): RoomPath,
    Query(page): Query<Page>,
) -> Answer<Json<Members>> {
    let (page_size, page_token) = (page.page_size.unwrap_or_default(), page.page_token.unwrap_or_default());
    let message = pb::ListMembersRequest { room_id, page_size, page_token };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).list_members(request).await
        })
        .await?;
    let members = answer.members.into_iter().map(Member::from).collect();
    Ok(Json(Members { success: Yes, members, next_page_token: answer.next_page_token }))
}

/// Makes another user a member; no error when they are in. For members of a private room and the owner of a public one.
#[utoipa::path(post, path = "/rooms/{id}/members", tag = "Rooms", operation_id = "addMember",
    security(("bearer" = [])), params(("id" = String, Path, description = "The room")), request_body = WithUser,
    responses(
        (status = 200, description = "The room, with the new member", body = OneRoom),
        (status = 403, description = "NOT_A_MEMBER or FORBIDDEN", body = ErrorObject),
        (status = 404, description = "ROOM_NOT_FOUND or USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn add(
    State(edge): Shared,
    bearer: Bearer,
    RoomPath(room_id): RoomPath,
    Body(other): Body<WithUser>,
) -> Answer<Json<OneRoom>> {
    let message = pb::AddMemberRequest { room_id, user_id: other.user_id };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).add_member(request).await
        })
        .await?;
    Ok(Json(OneRoom::new(answer.room)?))
}

/// Removes a member; no error when they are out. The owner only, who leaves instead of removing themself.
#[utoipa::path(delete, path = "/rooms/{id}/members/{userId}", tag = "Rooms", operation_id = "removeMember",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "The room"), ("userId" = String, Path, description = "The member")),
    responses(
        (status = 200, description = "The room, without the member", body = OneRoom),
        (status = 403, description = "FORBIDDEN", body = ErrorObject),
        (status = 404, description = "ROOM_NOT_FOUND or USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn remove(State(edge): Shared, bearer: Bearer, MemberPath { room, user }: MemberPath) -> Answer<Json<OneRoom>> {
    let message = pb::RemoveMemberRequest { room_id: room, user_id: user };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).remove_member(request).await
        })
        .await?;
    Ok(Json(OneRoom::new(answer.room)?))
}
