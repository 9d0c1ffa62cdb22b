//! Rooms: list, make, look at, change, close; the public ones; the direct one of two users; joining and leaving.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use mesh::proto::message::v1 as pb;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Answer, Done, Shared, Yes, given};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, Fields, FromFields, FromParams, Params, Query, RoomPath},
    json::Room,
};

/// The most rooms in a page, here and in message-svc.
const PAGE_MAX: i32 = 100;

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(list_public))
        .routes(routes!(open_direct))
        .routes(routes!(get, update, delete))
        .routes(routes!(join))
        .routes(routes!(leave))
}

/// A page of a list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct Page {
    /// `nextPageToken` of the answer before.
    pub(super) page_token: Option<String>,
    /// 1–100.
    #[param(minimum = 1, maximum = 100)]
    pub(super) page_size: Option<i32>,
}

impl FromParams for Page {
    fn read(params: &mut Params) -> Self {
        let page_size = params.number("pageSize", 1, PAGE_MAX.into()).and_then(|size| size.try_into().ok());
        Self { page_token: params.text("pageToken"), page_size }
    }
}

/// A room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OneRoom {
    success: Yes,
    room: Room,
}

impl OneRoom {
    pub(super) fn new(room: Option<pb::Room>) -> Answer<Self> {
        Ok(Self { success: Yes, room: given(room)?.into() })
    }
}

/// The caller's rooms.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rooms {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    /// The last joined first.
    rooms: Vec<Room>,
    /// For `pageToken`; empty at the end.
    next_page_token: String,
}

/// All of the caller's rooms.
///
/// The answer has up to 1,000 rooms (a setting of the gateway); `nextPageToken` leads to what is beyond. With
/// `pageSize` it is one page of that many.
#[utoipa::path(get, path = "/rooms", tag = "Rooms", operation_id = "listRooms", security(("bearer" = [])),
    params(Page), responses((status = 200, description = "The rooms", body = Rooms)))]
async fn list(State(edge): Shared, bearer: Bearer, Query(page): Query<Page>) -> Answer<Json<Rooms>> {
    let first = page.page_token.is_none();
    let (page_size, rooms_max) = match page.page_size {
        Some(size) => (size, 1),
        None => (PAGE_MAX, edge.config.rooms_listed_max),
    };
    let mut page_token = page.page_token.unwrap_or_default();
    let mut rooms = Vec::new();
    loop {
        let message = pb::ListRoomsRequest { page_size, page_token };
        let answer = edge
            .again(&bearer.token, message, async |request| edge.clients.message().list_rooms(request).await)
            .await?;
        rooms.extend(answer.rooms.into_iter().map(Room::from));
        page_token = answer.next_page_token;
        if page_token.is_empty() || rooms.len() >= rooms_max {
            break;
        }
    }
    let none = first && rooms.is_empty() && page_token.is_empty();
    let message = if none { "No rooms joined yet." } else { "Rooms retrieved successfully" };
    Ok(Json(Rooms { success: Yes, message, rooms, next_page_token: page_token }))
}

/// A new room.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct NewRoom {
    /// 1–100 characters after trimming. Need not be unique.
    #[schema(example = "Engines")]
    name: String,
    /// At most 1,000 characters.
    description: Option<String>,
    /// `public`: everybody sees it and may join. `private`: its members alone see it and add others.
    room_type: NewRoomType,
}

/// Who may see and enter a new room.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
enum NewRoomType {
    /// Everybody sees it and may join.
    Public,
    /// Its members alone see it and add others.
    Private,
}

impl FromFields for NewRoom {
    fn read(fields: &mut Fields) -> Self {
        let words = [("public", NewRoomType::Public), ("private", NewRoomType::Private)];
        let room_type = fields.required_one_of("roomType", &words).unwrap_or(NewRoomType::Private);
        Self { name: fields.required("name"), description: fields.text("description"), room_type }
    }
}

/// A new room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedRoom {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    room: Room,
}

/// Makes a room; the caller is its owner and first member.
#[utoipa::path(post, path = "/rooms", tag = "Rooms", operation_id = "createRoom", security(("bearer" = [])),
    request_body = NewRoom, responses((status = 201, description = "The room", body = CreatedRoom)))]
async fn create(
    State(edge): Shared,
    bearer: Bearer,
    Body(new): Body<NewRoom>,
) -> Answer<(StatusCode, Json<CreatedRoom>)> {
    let room_type = match new.room_type {
        NewRoomType::Public => pb::RoomType::Public,
        NewRoomType::Private => pb::RoomType::Private,
    };
    let message = pb::CreateRoomRequest {
        name: new.name,
        description: new.description.unwrap_or_default(),
        room_type: room_type.into(),
        // Chosen here, so that a call whose answer is lost can be made again without making a second room.
        room_id: Uuid::new_v4().to_string(),
    };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).create_room(request).await
        })
        .await?;
    let room = given(answer.room)?.into();
    Ok((StatusCode::CREATED, Json(CreatedRoom { success: Yes, message: "Room created successfully", room })))
}

/// Which public rooms.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct PublicPage {
    /// Part of the name, without regard to case; at most 100 characters.
    search: Option<String>,
    /// `nextPageToken` of the answer before.
    page_token: Option<String>,
    /// 1–100; 50 by default.
    #[param(minimum = 1, maximum = 100)]
    page_size: Option<i32>,
}

impl FromParams for PublicPage {
    fn read(params: &mut Params) -> Self {
        let search = params.text("search");
        let Page { page_token, page_size } = Page::read(params);
        Self { search, page_token, page_size }
    }
}

/// A page of rooms that anyone may join.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublicRooms {
    success: Yes,
    /// By name.
    rooms: Vec<Room>,
    /// For `pageToken`; empty at the end.
    next_page_token: String,
}

/// The rooms that anyone may join.
#[utoipa::path(get, path = "/rooms/public", tag = "Rooms", operation_id = "listPublicRooms",
    security(("bearer" = [])), params(PublicPage),
    responses((status = 200, description = "A page of rooms", body = PublicRooms)))]
async fn list_public(State(edge): Shared, bearer: Bearer, Query(page): Query<PublicPage>) -> Answer<Json<PublicRooms>> {
    let message = pb::ListPublicRoomsRequest {
        search: page.search.unwrap_or_default(),
        page_size: page.page_size.unwrap_or_default(),
        page_token: page.page_token.unwrap_or_default(),
    };
    let answer = edge
        .again(&bearer.token, message, async |request| edge.clients.message().list_public_rooms(request).await)
        .await?;
    let rooms = answer.rooms.into_iter().map(Room::from).collect();
    Ok(Json(PublicRooms { success: Yes, rooms, next_page_token: answer.next_page_token }))
}

/// Another user.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct WithUser {
    /// Their id.
    pub(super) user_id: String,
}

impl FromFields for WithUser {
    fn read(fields: &mut Fields) -> Self {
        Self { user_id: fields.required("userId") }
    }
}

/// The one direct room with another user, made when it is missing.
#[utoipa::path(post, path = "/rooms/direct", tag = "Rooms", operation_id = "openDirectRoom",
    security(("bearer" = [])), request_body = WithUser,
    responses(
        (status = 200, description = "The room that was there", body = OneRoom),
        (status = 201, description = "The room, made", body = OneRoom),
        (status = 404, description = "USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn open_direct(
    State(edge): Shared,
    bearer: Bearer,
    Body(other): Body<WithUser>,
) -> Answer<(StatusCode, Json<OneRoom>)> {
    let message = pb::OpenDirectRoomRequest { user_id: other.user_id };
    let answer = edge
        .again(&bearer.token, message, async |request| edge.clients.message().open_direct_room(request).await)
        .await?;
    let status = if answer.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(OneRoom::new(answer.room)?)))
}

/// One room. A private or direct one that the caller is not in does not exist for them.
#[utoipa::path(get, path = "/rooms/{id}", tag = "Rooms", operation_id = "getRoom", security(("bearer" = [])),
    params(("id" = String, Path, description = "The room")),
    responses(
        (status = 200, description = "The room", body = OneRoom),
        (status = 404, description = "ROOM_NOT_FOUND", body = ErrorObject),
    ))]
async fn get(State(edge): Shared, bearer: Bearer, RoomPath(room_id): RoomPath) -> Answer<Json<OneRoom>> {
    let message = pb::GetRoomRequest { room_id };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).get_room(request).await
        })
        .await?;
    Ok(Json(OneRoom::new(answer.room)?))
}

/// A change of a room: what is absent stays.
#[derive(Debug, ToSchema)]
pub(crate) struct RoomChange {
    /// 1–100 characters after trimming.
    #[schema(nullable = false)]
    name: Option<String>,
    /// At most 1,000 characters; null empties it.
    description: Option<String>,
}

impl FromFields for RoomChange {
    fn read(fields: &mut Fields) -> Self {
        let (name, description) = (fields.changed_text("name"), fields.changed_text("description"));
        if !fields.has("name") && !fields.has("description") {
            fields.refuse::<()>("body", "must have name or description");
        }
        Self { name, description }
    }
}

/// Changes a room's name or description. The owner only.
#[utoipa::path(patch, path = "/rooms/{id}", tag = "Rooms", operation_id = "updateRoom", security(("bearer" = [])),
    params(("id" = String, Path, description = "The room")), request_body = RoomChange,
    responses(
        (status = 200, description = "The room after the change", body = OneRoom),
        (status = 403, description = "FORBIDDEN: not the owner", body = ErrorObject),
        (status = 404, description = "ROOM_NOT_FOUND", body = ErrorObject),
    ))]
async fn update(
    State(edge): Shared,
    bearer: Bearer,
    RoomPath(id): RoomPath,
    Body(change): Body<RoomChange>,
) -> Answer<Json<OneRoom>> {
    let paths = [("name", change.name.is_some()), ("description", change.description.is_some())];
    let paths = paths.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
    let (name, description) = (change.name.unwrap_or_default(), change.description.unwrap_or_default());
    let room_id = id.clone();
    let message = pb::UpdateRoomRequest {
        room: Some(pb::Room { id, name, description, ..pb::Room::default() }),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let answer = edge
        .again(&bearer.token, message, async |request| edge.room_service(&room_id).update_room(request).await)
        .await?;
    Ok(Json(OneRoom::new(answer.room)?))
}

/// Closes a room for everybody. The owner only.
#[utoipa::path(delete, path = "/rooms/{id}", tag = "Rooms", operation_id = "deleteRoom", security(("bearer" = [])),
    params(("id" = String, Path, description = "The room")),
    responses(
        (status = 200, description = "Closed", body = Done),
        (status = 403, description = "FORBIDDEN: not the owner, a direct room, or general", body = ErrorObject),
        (status = 404, description = "ROOM_NOT_FOUND", body = ErrorObject),
    ))]
async fn delete(State(edge): Shared, bearer: Bearer, RoomPath(room_id): RoomPath) -> Answer<Json<Done>> {
    let message = pb::DeleteRoomRequest { room_id };
    // Not again: a second try would find no room.
    edge.once(&bearer.token, message, async |request| {
        edge.room_service(&request.get_ref().room_id).delete_room(request).await
    })
    .await?;
    Ok(Json(Done::new("Room deleted successfully")))
}

/// Makes the caller a member of a public room; no error when they are in.
#[utoipa::path(post, path = "/rooms/{id}/join", tag = "Rooms", operation_id = "joinRoom", security(("bearer" = [])),
    params(("id" = String, Path, description = "The room")),
    responses(
        (status = 200, description = "The room, with the caller in it", body = OneRoom),
        (status = 404, description = "ROOM_NOT_FOUND", body = ErrorObject),
    ))]
async fn join(State(edge): Shared, bearer: Bearer, RoomPath(room_id): RoomPath) -> Answer<Json<OneRoom>> {
    let message = pb::JoinRoomRequest { room_id };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).join_room(request).await
        })
        .await?;
    Ok(Json(OneRoom::new(answer.room)?))
}

/// Ends the caller's membership; no error when they are out.
///
/// When an owner leaves, the longest-standing member becomes owner; a private room that nobody is left in is closed.
#[utoipa::path(post, path = "/rooms/{id}/leave", tag = "Rooms", operation_id = "leaveRoom", security(("bearer" = [])),
    params(("id" = String, Path, description = "The room")),
    responses(
        (status = 200, description = "The room, without the caller", body = OneRoom),
        (status = 403, description = "FORBIDDEN: a direct room", body = ErrorObject),
        (status = 404, description = "ROOM_NOT_FOUND", body = ErrorObject),
    ))]
async fn leave(State(edge): Shared, bearer: Bearer, RoomPath(room_id): RoomPath) -> Answer<Json<OneRoom>> {
    let message = pb::LeaveRoomRequest { room_id };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).leave_room(request).await
        })
        .await?;
    Ok(Json(OneRoom::new(answer.room)?))
}
