//! The JSON forms of the contract, made from the proto's messages: camelCase, RFC 3339 times, opaque ids. Answers of
//! REST and payloads of Socket.IO use the same ones. They hold no rule; what is missing in a proto message is left
//! empty. `json/account.rs` has people and sessions, `json/security.rs` what happened to them,
//! `json/room.rs` rooms, members and messages.

mod account;
mod room;
mod security;

pub(crate) use account::{Account, Profile, RememberedDevice, Session, User};
use mesh::time::Millis;
pub(crate) use room::{Member, Message, Pagination, Room, SeqPagination};
pub(crate) use security::{ApiKey, AuditEvent, Invitation, LoginRecord, ServiceAccount};
use serde_json::{Map, Value};

/// A JSON object that an application keeps with us.
pub(crate) type Object = Map<String, Value>;

/// Deeper than anything that a service lets in (16 levels), and a bound all the same.
const DEPTH_MAX: usize = 64;

/// A proto's `Struct` as a JSON object; empty for none. Services checked it before they stored it.
pub(crate) fn object(value: Option<&prost_types::Struct>) -> Object {
    value.and_then(|value| mesh::text::json("", value, usize::MAX, DEPTH_MAX).ok()).unwrap_or_default()
}

/// A time of the proto; the epoch for none.
pub(crate) fn time(at: Option<prost_types::Timestamp>) -> Millis {
    at.map(Millis::from).unwrap_or_default()
}
