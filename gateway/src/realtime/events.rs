//! What clients send once they are connected: each event waits in its socket's queue, is handled after those before it,
//! and is answered: with its ack, or, when it was sent without one and is refused, with an `error` event. Joining is in
//! `join.rs`.

use std::sync::Arc;

use mesh::{
    client,
    error::{Reason, Refusal},
    proto::message::v1::{SendMessageRequest, SendMessageResponse},
};
use serde::Serialize;
use serde_json::value::RawValue;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    hub::Hub,
    join,
    meter::{self, Closed},
    packet::{self, Frame, Packet, Text},
    payload,
    session::{Session, Work},
};
use crate::{error::ErrorObject, json, limit::Class};

/// How an event is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// By its ack, if the client asked for one.
    Ack(Option<u64>),
    /// By `room_joined`, for a room that came with the token.
    RoomJoined(String),
}

impl Reply {
    /// The packet of a good answer, whose JSON is an object; none when nobody asked.
    pub(super) fn frame(&self, json: &str) -> Option<Frame> {
        match self {
            Self::Ack(id) => id.map(|id| packet::ack_of(id, json)),
            Self::RoomJoined(room_id) => {
                let room_id = serde_json::Value::from(room_id.as_str());
                let data = format!(r#"{{"roomId":{room_id},{}"#, json.strip_prefix('{').unwrap_or(json));
                Some(packet::event("room_joined", &data))
            }
        }
    }

    /// The packet of a refusal.
    fn refused(&self, error: &str) -> Frame {
        self.frame(error).unwrap_or_else(|| packet::event("error", error))
    }

    /// Answers.
    fn send(&self, session: &Session, result: Result<String, Refusal>) -> &'static str {
        let (frame, outcome) = match result {
            Ok(json) => (self.frame(&json), "ok"),
            Err(refusal) => (Some(self.refused(&error_object(&refusal))), refusal.reason.as_str()),
        };
        if let Some(frame) = frame {
            session.tell(frame);
        }
        outcome
    }
}

/// The error object of a refusal, with an id of its own under which its cause is logged.
pub(super) fn error_object(refusal: &Refusal) -> String {
    let id = Uuid::now_v7().to_string();
    let (code, cause) = (refusal.reason.as_str(), std::error::Error::source(refusal));
    if refusal.reason.http() >= 500 {
        tracing::warn!(error.code = code, error.cause = cause, request.id = id, "A socket's event failed");
    } else {
        tracing::debug!(error.code = code, request.id = id, "A socket's event was refused");
    }
    let object = ErrorObject::from(refusal.clone()).with_request_id(id);
    serde_json::to_string(&object).expect("invariant: text and numbers become JSON")
}

/// Takes an event in. It is called in the order of arrival and never waits.
pub(super) fn receive(hub: &Arc<Hub>, session: &Arc<Session>, packet: Text) {
    let config = hub.config();
    let refusal = if packet.len() > config.event_bytes_max {
        let message = format!("An event may have at most {} bytes", config.event_bytes_max);
        (packet, Refusal::new(Reason::PayloadTooLarge, message))
    } else {
        match session.push(Work::Event(packet), config.incoming_max, config.incoming_bytes_max) {
            Ok(start) => {
                if start {
                    hub.tasks.spawn(work(Arc::clone(hub), Arc::clone(session)));
                }
                return;
            }
            Err(Work::Event(packet)) => {
                let message = format!("More than {} events of this socket wait", config.incoming_max);
                (packet, Refusal::new(Reason::RateLimited, message))
            }
            Err(Work::Resume(_)) => return,
        }
    };
    let (packet, refusal) = refusal;
    let ack = match Packet::read(&packet) {
        Ok(Packet::Event { ack, .. } | Packet::Binary { ack }) => ack,
        _ => None,
    };
    meter::event("any", Reply::Ack(ack).send(session, Err(refusal)));
}

/// Joins the rooms that came with the token, before anything that the socket sends.
pub(super) fn resume(hub: &Arc<Hub>, session: &Arc<Session>, rooms: Vec<(String, Option<String>)>) {
    if rooms.is_empty() {
        return;
    }
    let config = hub.config();
    if session.push(Work::Resume(rooms), config.incoming_max, config.incoming_bytes_max) == Ok(true) {
        hub.tasks.spawn(work(Arc::clone(hub), Arc::clone(session)));
    }
}

/// Works a socket's queue off, one after the other, and ends with it.
async fn work(hub: Arc<Hub>, session: Arc<Session>) {
    let guard = Panicked(&session);
    while let Some(work) = session.next() {
        match work {
            Work::Event(packet) => handle(&hub, &session, &packet).await,
            Work::Resume(rooms) => Box::pin(join::resume(&hub, &session, rooms)).await,
        }
    }
    std::mem::forget(guard);
}

/// A task that panics would leave its socket deaf: it is closed instead, and its client connects again.
struct Panicked<'a>(&'a Session);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        self.0.kill(Closed::Fault);
    }
}

async fn handle(hub: &Arc<Hub>, session: &Arc<Session>, packet: &str) {
    let (ack, data) = match Packet::read(packet) {
        Ok(Packet::Event { ack, data }) => (ack, data),
        Ok(Packet::Binary { ack }) => {
            let refusal = Refusal::field("payload", "must not have binary attachments");
            meter::event("any", Reply::Ack(ack).send(session, Err(refusal)));
            return;
        }
        _ => return,
    };
    let reply = Reply::Ack(ack);
    let (name, payload) = match payload::event(data) {
        Ok(event) => event,
        Err(refusal) => {
            meter::event("any", reply.send(session, Err(refusal)));
            return;
        }
    };
    let Some(kind) = Kind::of(&name) else {
        let shown: String = name.chars().take(64).collect();
        let refusal = Refusal::new(Reason::NotFound, format!("There is no event \"{shown}\""));
        meter::event("unknown", reply.send(session, Err(refusal)));
        return;
    };
    let span = tracing::info_span!("socket event", messaging.operation.name = kind.as_str());
    let outcome = Box::pin(dispatch(hub, session, kind, payload, &reply)).instrument(span).await;
    meter::event(kind.as_str(), outcome);
}

/// The events that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Join,
    Leave,
    Send,
    TypingStart,
    TypingStop,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Join, Self::Leave, Self::Send, Self::TypingStart, Self::TypingStop];

    fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join_room",
            Self::Leave => "leave_room",
            Self::Send => "send_message",
            Self::TypingStart => "typing_start",
            Self::TypingStop => "typing_stop",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

async fn dispatch(
    hub: &Arc<Hub>,
    session: &Arc<Session>,
    kind: Kind,
    payload: Option<&RawValue>,
    reply: &Reply,
) -> &'static str {
    let result = match hub.edge.limiter.check(Class::Event, session.address, Some(session.user_id())) {
        Err(refusal) => Err(refusal),
        Ok(()) => match kind {
            Kind::Join => match payload::join(payload) {
                // It answers by itself, in the turn in which the socket becomes live.
                Ok(join) => match join::join(hub, session, join.room_id, join.cursor, reply).await {
                    Ok(()) => return "ok",
                    Err(refusal) => Err(refusal),
                },
                Err(refusal) => Err(refusal),
            },
            Kind::Leave => leave(hub, session, payload).await,
            Kind::Send => send(hub, session, payload).await,
            Kind::TypingStart => typing(hub, session, payload, true).await,
            Kind::TypingStop => typing(hub, session, payload, false).await,
        },
    };
    reply.send(session, result)
}

const SUCCESS: &str = r#"{"success":true}"#;

/// Stops this socket's delivery; membership stays.
async fn leave(hub: &Hub, session: &Session, payload: Option<&RawValue>) -> Result<String, Refusal> {
    let room_id = payload::room(payload)?;
    if let Some(room) = session.room(room_id) {
        room.remove(session);
    }
    if session.note_typing(room_id, false, 0) {
        // What is not passed on ends by itself in a few seconds.
        drop(hub.set_typing(session, room_id, false).await);
    }
    Ok(SUCCESS.to_owned())
}

/// Answered once the message is on disk.
async fn send(hub: &Hub, session: &Session, payload: Option<&RawValue>) -> Result<String, Refusal> {
    #[derive(Serialize)]
    struct Sent {
        success: bool,
        message: json::Message,
    }
    let send = payload::send(payload)?;
    let message = SendMessageRequest {
        room_id: send.room_id.to_string(),
        content: send.content,
        message_type: send.message_type,
        metadata: send.metadata,
        // With an id the call can be tried again without a second message.
        client_message_id: send.client_message_id.unwrap_or_else(|| Uuid::new_v4().to_string()),
    };
    let bearer = hub.bearer(session);
    let call = || {
        let (mut client, message) = (hub.edge.clients.message_of(send.room_id), message.clone());
        let request = client::request(message, &bearer, hub.deadline());
        async move { client.send_message(request).await }
    };
    let SendMessageResponse { message, .. } = hub.call(call).await?;
    let sent = Sent { success: true, message: message.unwrap_or_default().into() };
    serde_json::to_string(&sent).map_err(Refusal::internal)
}

async fn typing(hub: &Hub, session: &Session, payload: Option<&RawValue>, typing: bool) -> Result<String, Refusal> {
    let room_id = payload::room(payload)?;
    hub.set_typing(session, room_id, typing).await?;
    session.note_typing(room_id, typing, hub.config().rooms_per_socket_max);
    Ok(SUCCESS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_where_it_was_asked_for() {
        assert_eq!(Reply::Ack(Some(3)).frame("{}"), Some(r"33[{}]".into()));
        assert_eq!(Reply::Ack(None).frame("{}"), None);
        assert_eq!(Reply::Ack(None).refused("{}"), r#"2["error",{}]"#);
        let joined = Reply::RoomJoined("a\"b".into());
        assert_eq!(joined.frame(SUCCESS), Some(r#"2["room_joined",{"roomId":"a\"b","success":true}]"#.into()));
    }

    #[test]
    fn an_error_object_has_an_id_and_no_cause() {
        let text = error_object(&Refusal::internal("postgres://user:secret@host"));
        let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((object["success"].as_bool(), object["code"].as_str()), (Some(false), Some("INTERNAL")));
        assert!(object["requestId"].is_string() && !text.contains("secret"));
    }
}
