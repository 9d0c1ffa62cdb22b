//! Messages of a room: history by page or by window of `seq`, and sending once.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use mesh::{
    proto::message::v1::{self as pb, list_messages_request::Position},
    text,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Answer, Shared, Yes, given};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, Fields, FromFields, FromParams, Params, Query, RoomPath},
    json::{Message, Object, Pagination, SeqPagination},
};

/// Messages in a page when the client does not say.
const LIMIT_DEFAULT: i64 = 50;
/// The most messages in a page.
const LIMIT_MAX: i64 = 100;

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, send))
}

/// Which messages: a numbered page, or those before or after a `seq`.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// The page's number, the newest first; 1 by default.
    #[param(minimum = 1)]
    page: Option<i32>,
    /// The messages just before this `seq`.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// The messages just after this `seq`; 0 for the first ones.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// 1–100; 50 by default.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 100)]
    limit: i64,
}

impl FromParams for Which {
    fn read(params: &mut Params) -> Self {
        let page = params.number("page", 1, i32::MAX.into()).and_then(|page| page.try_into().ok());
        let before = params.number("before", 1, i64::MAX);
        let after = params.number("after", 0, i64::MAX);
        let limit = params.number("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
        let mut given = ["page", "before", "after"].into_iter().filter(|name| params.all(name).next().is_some());
        if let (Some(_), Some(second)) = (given.next(), given.next()) {
            params.refuse::<()>(second, "cannot be combined: give one of page, before, after");
        }
        Self { page, before, after, limit }
    }
}

impl Which {
    fn position(&self) -> Position {
        match (self.before, self.after) {
            (Some(before), _) => Position::Before(before),
            (None, Some(after)) => Position::After(after),
            (None, None) => Position::Page(self.page.unwrap_or(1)),
        }
    }
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    /// In the order of `seq`.
    messages: Vec<Message>,
    pagination: Place,
}

/// Where a page or a window stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Place {
    /// For `page`.
    Page(Pagination),
    /// For `before` and `after`.
    Window(SeqPagination),
}

impl Place {
    fn new(position: &Position, limit: i64, answer: &pb::ListMessagesResponse) -> Self {
        let (older, newer) = (answer.has_older, answer.has_newer);
        let (first, last) = (answer.messages.first().map(|m| m.seq), answer.messages.last().map(|m| m.seq));
        let window = |next_before, next_after, has_next, has_previous| {
            let next_before = older.then_some(next_before);
            let next_after = newer.then_some(next_after);
            Self::Window(SeqPagination { next_before, next_after, items_per_page: limit, has_next, has_previous })
        };
        match *position {
            Position::Page(page) => Self::Page(Pagination::new(page.into(), limit, answer.total)),
            // An empty window still has a place: all that is not before lies after.
            Position::Before(seq) => window(first.unwrap_or(seq), last.unwrap_or(seq - 1), older, newer),
            Position::After(seq) => window(first.unwrap_or(seq.saturating_add(1)), last.unwrap_or(seq), newer, older),
        }
    }
}

/// A room's messages, by page or by window. For its members.
///
/// Pages go from the newest to the oldest; within a page messages are in the order of `seq`. In a window's
/// `pagination`, `hasNext` is about the direction asked for: older messages with `before`, newer ones with `after`.
#[utoipa::path(get, path = "/rooms/{id}/messages", tag = "Messages", operation_id = "listMessages",
    security(("bearer" = [])), params(("id" = String, Path, description = "The room"), Which),
    responses(
        (status = 200, description = "The messages", body = History),
        (status = 403, description = "NOT_A_MEMBER", body = ErrorObject),
        (status = 404, description = "ROOM_NOT_FOUND", body = ErrorObject),
    ))]
async fn list(
    State(edge): Shared,
    bearer: Bearer,
    RoomPath(room_id): RoomPath,
    Query(which): Query<Which>,
) -> Answer<Json<History>> {
    let position = which.position();
    let page_size = i32::try_from(which.limit).unwrap_or_default();
    let message = pb::ListMessagesRequest { room_id, page_size, position: Some(position) };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).list_messages(request).await
        })
        .await?;
    let pagination = Place::new(&position, which.limit, &answer);
    let messages = answer.messages.into_iter().map(Message::from).collect();
    Ok(Json(History { success: Yes, message: "Message history retrieved successfully", messages, pagination }))
}

/// A message to send.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct NewMessage {
    /// 1–8,000 characters and at most 32 KiB, not blank.
    #[schema(example = "Hello!")]
    content: String,
    /// `text` by default; else 1–32 letters, digits, `_`, `.`, `-`.
    message_type: Option<String>,
    /// The application's own: at most 8 KiB as JSON, 16 levels.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Object>,
    /// 1–64 characters of printable ASCII. A message that is sent again with the same one answers the first one; one
    /// is made when it is absent.
    client_message_id: Option<String>,
}

impl FromFields for NewMessage {
    fn read(fields: &mut Fields) -> Self {
        let client_message_id = fields.text("clientMessageId");
        if client_message_id.as_deref() == Some("") {
            // To message-svc an empty one means none; a client that sends it believes that it may send again.
            fields.refuse::<()>("clientMessageId", "must have 1–64 characters");
        }
        Self {
            content: fields.required("content"),
            message_type: fields.text("messageType"),
            metadata: fields.object("metadata"),
            client_message_id,
        }
    }
}

/// The message as it is on disk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sent {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    data: Message,
}

/// Sends a message; answered once it is on disk. For the room's members.
#[utoipa::path(post, path = "/rooms/{id}/messages", tag = "Messages", operation_id = "sendMessage",
    security(("bearer" = [])), params(("id" = String, Path, description = "The room")), request_body = NewMessage,
    responses(
        (status = 200, description = "It was sent before, with the same clientMessageId: the first one", body = Sent),
        (status = 201, description = "Sent", body = Sent),
        (status = 403, description = "NOT_A_MEMBER", body = ErrorObject),
        (status = 404, description = "ROOM_NOT_FOUND", body = ErrorObject),
    ))]
async fn send(
    State(edge): Shared,
    bearer: Bearer,
    RoomPath(room_id): RoomPath,
    Body(new): Body<NewMessage>,
) -> Answer<(StatusCode, Json<Sent>)> {
    // One made here lets this gateway try again; a replay of its own first try is no replay to the client.
    let (client_message_id, chosen) = match new.client_message_id {
        Some(id) => (id, true),
        None => (Uuid::now_v7().to_string(), false),
    };
    let message = pb::SendMessageRequest {
        room_id,
        content: new.content,
        message_type: new.message_type.unwrap_or_default(),
        metadata: new.metadata.as_ref().map(text::struct_from_json),
        client_message_id,
    };
    let answer = edge
        .again(&bearer.token, message, async |request| {
            edge.room_service(&request.get_ref().room_id).send_message(request).await
        })
        .await?;
    let status = if answer.replayed && chosen { StatusCode::OK } else { StatusCode::CREATED };
    let data = given(answer.message)?.into();
    Ok((status, Json(Sent { success: Yes, message: "Message sent", data })))
}
