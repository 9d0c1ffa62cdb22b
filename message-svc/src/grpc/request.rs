//! Requests on their way in: each becomes a value of the domain that holds every limit, or a refusal that names every
//! bad field at once.

use mesh::{
    error::{FieldViolation, Refusal},
    proto::message::v1 as pb,
    text::{self, Violations},
};
use serde_json::Map;

use crate::{
    config::Limits,
    cursor::Cursor,
    history::Position,
    id::{RoomId, UserId},
    message::{self, ClientMessageId, Draft},
    order::Change,
    page::PageToken,
    room::{NewRoom, RoomType},
    sent::{Erased, SentAfter},
};

#[cfg(test)]
mod fuzz;

/// Ids that clients may choose for rooms: random ones, so that nobody can take an id that is derived.
const ROOM_ID_VERSION: usize = 4;
/// Characters of a search.
const SEARCH_CHARS_MAX: usize = 100;

pub(super) fn room_id(value: &str) -> Result<RoomId, Refusal> {
    parse_room_id(value).map_err(refused)
}

pub(super) fn user_id(value: &str) -> Result<UserId, Refusal> {
    parse_user_id(value).map_err(refused)
}

pub(super) fn room_and_user(room: &str, user: &str) -> Result<(RoomId, UserId), Refusal> {
    let mut violations = Violations::default();
    let room = violations.check(parse_room_id(room));
    let user = violations.check(parse_user_id(user));
    violations.into_result()?;
    Ok((whole(room), whole(user)))
}

pub(super) fn new_room(request: &pb::CreateRoomRequest, by: UserId, limits: &Limits) -> Result<NewRoom, Refusal> {
    let mut violations = Violations::default();
    let name = violations.check(room_name("name", &request.name, limits));
    let description = violations.check(text::text("description", &request.description, limits.description_chars_max));
    let room_type = violations.check(match request.room_type() {
        pb::RoomType::Public => Ok(RoomType::Public),
        pb::RoomType::Private => Ok(RoomType::Private),
        pb::RoomType::Unspecified | pb::RoomType::Direct => {
            Err(FieldViolation::new("room_type", "must be public or private"))
        }
    });
    let id = violations.check(new_room_id(&request.room_id));
    violations.into_result()?;
    Ok(NewRoom::owned(whole(id), whole(room_type), whole(name), whole(description).to_owned(), by))
}

pub(super) fn update(request: pb::UpdateRoomRequest, by: UserId, limits: &Limits) -> Result<(RoomId, Change), Refusal> {
    let (room, mask) = (request.room.unwrap_or_default(), request.update_mask.unwrap_or_default());
    let mut violations = Violations::default();
    let id = violations.check(text::uuid("room.id", &room.id).map(RoomId));
    if mask.paths.is_empty() {
        violations.push("update_mask", "must name at least one of name, description");
    }
    let (mut name, mut description) = (None, None);
    for path in &mask.paths {
        match path.as_str() {
            "name" => name = violations.check(room_name("room.name", &room.name, limits)),
            "description" => {
                let max = limits.description_chars_max;
                let value = violations.check(text::text("room.description", &room.description, max));
                description = value.map(str::to_owned);
            }
            _ => violations.push("update_mask", "may name name, description and nothing else"),
        }
    }
    violations.into_result()?;
    Ok((whole(id), Change::Update { by, name, description }))
}

pub(super) fn draft(request: pb::SendMessageRequest, limits: &Limits) -> Result<(RoomId, Draft), Refusal> {
    let mut violations = Violations::default();
    let room = violations.check(parse_room_id(&request.room_id));
    violations.check(message::content("content", &request.content, limits));
    let message_type = violations.check(message::message_type("message_type", &request.message_type));
    let metadata = violations.check(match &request.metadata {
        Some(metadata) => text::json("metadata", metadata, limits.metadata_bytes_max, limits.metadata_depth_max),
        None => Ok(Map::new()),
    });
    let client_id = violations.check(if request.client_message_id.is_empty() {
        Ok(ClientMessageId::made())
    } else {
        ClientMessageId::parse("client_message_id", &request.client_message_id, limits)
    });
    violations.into_result()?;
    let message_type = whole(message_type).to_owned();
    let draft =
        Draft { content: request.content, message_type, metadata: whole(metadata), client_id: whole(client_id) };
    Ok((whole(room), draft))
}

pub(super) fn history(request: &pb::ListMessagesRequest, limits: &Limits) -> Result<(RoomId, Position, u32), Refusal> {
    let mut violations = Violations::default();
    let room = violations.check(parse_room_id(&request.room_id));
    let size = violations.check(page_size(request.page_size, limits));
    let at_least = |field: &str, value: i64, least: i64, position: fn(i64) -> Position| {
        if value < least {
            Err(FieldViolation::new(field, format!("must be at least {least}")))
        } else {
            Ok(position(value))
        }
    };
    let position = violations.check(match request.position {
        None => Ok(Position::Page(1)),
        Some(pb::list_messages_request::Position::Page(page)) => at_least("page", page.into(), 1, Position::Page),
        Some(pb::list_messages_request::Position::Before(seq)) => at_least("before", seq, 0, Position::Before),
        Some(pb::list_messages_request::Position::After(seq)) => at_least("after", seq, 0, Position::After),
    });
    violations.into_result()?;
    Ok((whole(room), whole(position), whole(size)))
}

pub(super) fn entries(
    request: &pb::ListEntriesRequest,
    limits: &Limits,
) -> Result<(RoomId, Option<Cursor>, u32), Refusal> {
    let mut violations = Violations::default();
    let room = violations.check(parse_room_id(&request.room_id));
    let cursor = violations.check(parse_cursor(&request.cursor));
    let size = violations.check(text::page_size(
        "page_size",
        request.page_size,
        limits.entries_page_default,
        limits.entries_page_max,
    ));
    violations.into_result()?;
    Ok((whole(room), whole(cursor), whole(size)))
}

pub(super) fn position(room: &str, cursor: &str) -> Result<(RoomId, Option<Cursor>), Refusal> {
    let mut violations = Violations::default();
    let room = violations.check(parse_room_id(room));
    let cursor = violations.check(parse_cursor(cursor));
    violations.into_result()?;
    Ok((whole(room), whole(cursor)))
}

pub(super) fn erasure(request: &pb::EraseUserRequest) -> Result<(UserId, Erased, Option<SentAfter>), Refusal> {
    let mut violations = Violations::default();
    let user = violations.check(parse_user_id(&request.user_id));
    let what = violations.check(match request.messages() {
        pb::ErasedMessages::Keep => Ok(Erased::Keep),
        pb::ErasedMessages::Blank => Ok(Erased::Blank),
        pb::ErasedMessages::Unspecified => Err(FieldViolation::new("messages", "must be keep or blank")),
    });
    let after = violations.check(SentAfter::decode("page_token", &request.page_token));
    violations.into_result()?;
    Ok((whole(user), whole(what), whole(after)))
}

pub(super) fn search(value: &str) -> Result<&str, FieldViolation> {
    text::text("search", value, SEARCH_CHARS_MAX).map(str::trim)
}

/// A page's size and where it starts, with whatever else was found wrong with its request.
pub(super) fn page<T: PageToken>(
    size: i32,
    token: &str,
    limits: &Limits,
    mut violations: Violations,
) -> Result<(u32, Option<T>), Refusal> {
    let size = violations.check(page_size(size, limits));
    let after = violations.check(T::decode("page_token", token));
    violations.into_result()?;
    Ok((whole(size), whole(after)))
}

pub(super) fn parse_room_id(value: &str) -> Result<RoomId, FieldViolation> {
    text::uuid("room_id", value).map(RoomId)
}

fn parse_user_id(value: &str) -> Result<UserId, FieldViolation> {
    text::uuid("user_id", value).map(UserId)
}

fn parse_cursor(value: &str) -> Result<Option<Cursor>, FieldViolation> {
    if value.is_empty() {
        return Ok(None);
    }
    Cursor::decode(value).map(Some).map_err(|error| FieldViolation::new("cursor", error.to_string()))
}

fn page_size(value: i32, limits: &Limits) -> Result<u32, FieldViolation> {
    text::page_size("page_size", value, limits.page_default, limits.page_max)
}

fn room_name(field: &str, value: &str, limits: &Limits) -> Result<String, FieldViolation> {
    text::name(field, value, 1, limits.room_name_chars_max)
}

fn new_room_id(value: &str) -> Result<RoomId, FieldViolation> {
    if value.is_empty() {
        return Ok(RoomId::random());
    }
    let id = text::uuid("room_id", value)?;
    if id.get_version_num() == ROOM_ID_VERSION {
        Ok(RoomId(id))
    } else {
        Err(FieldViolation::new("room_id", "must be a random UUID (version 4)"))
    }
}

fn refused(violation: FieldViolation) -> Refusal {
    Refusal::invalid(vec![violation])
}

/// A part that was checked: without it there was a violation.
fn whole<T>(part: Option<T>) -> T {
    part.expect("invariant: what is missing was reported")
}
