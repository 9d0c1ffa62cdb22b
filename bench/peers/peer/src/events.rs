//! The payloads of the events, named as in the product's contract, so that one client drives product and peers alike.

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The payload of `join_room` and `leave_room`; what else a client gives is left alone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomRef {
    /// The room: any text; it exists from the first join on.
    pub room_id: String,
}

/// The payload of `send_message`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// The room.
    pub room_id: String,
    /// The text.
    pub content: String,
    /// `text` when not given.
    pub message_type: Option<String>,
    /// Whatever the client put there.
    pub metadata: Option<Value>,
    /// The client's own id of the message. A peer in memory does not look for repetitions.
    pub client_message_id: Option<String>,
}

/// A message, as `new_message` and the ack of `send_message` carry it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    id: Uuid,
    seq: u64,
    room_id: String,
    user_id: String,
    username: String,
    content: String,
    message_type: String,
    metadata: Option<Value>,
    client_message_id: Option<String>,
    created_at: String,
    updated_at: String,
}

impl Message {
    /// The message that a send becomes: number `seq` of its room, from `user`.
    #[must_use]
    pub fn new(send: Send, seq: u64, user: &str) -> Self {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        Self {
            id: Uuid::new_v4(),
            seq,
            room_id: send.room_id,
            user_id: user.to_owned(),
            username: user.to_owned(),
            content: send.content,
            message_type: send.message_type.unwrap_or_else(|| "text".to_owned()),
            metadata: send.metadata,
            client_message_id: send.client_message_id,
            created_at: now.clone(),
            updated_at: now,
        }
    }
}

/// A room, as the ack of `join_room` carries it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Its id.
    pub id: String,
    /// The number of its last message.
    pub last_seq: u64,
}

/// The ack of what has nothing else to say.
#[derive(Debug, Serialize)]
pub struct Ack {
    success: bool,
}

/// The ack of `join_room`.
#[derive(Debug, Serialize)]
pub struct Join {
    success: bool,
    room: Room,
}

/// The ack of `send_message`.
#[derive(Debug, Serialize)]
pub struct Sent<M> {
    success: bool,
    message: M,
}

/// The ack of what was refused.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    success: bool,
    status_code: u16,
    code: &'static str,
    message: &'static str,
}

impl Default for Ack {
    fn default() -> Self {
        Self { success: true }
    }
}

impl Join {
    /// The room was entered.
    #[must_use]
    pub const fn new(room: Room) -> Self {
        Self { success: true, room }
    }
}

impl<M> Sent<M> {
    /// The message was broadcast.
    pub const fn new(message: M) -> Self {
        Self { success: true, message }
    }
}

impl Refusal {
    /// The sender has not joined the room.
    pub const NOT_A_MEMBER: Self =
        Self { success: false, status_code: 403, code: "NOT_A_MEMBER", message: "Join the room first" };
    /// The payload is not what the event takes.
    pub const INVALID: Self = Self {
        success: false,
        status_code: 400,
        code: "VALIDATION_FAILED",
        message: "The payload is not this event's",
    };
}
