//! What clients send once they are connected: each event waits in its socket's queue, is handled after those before it,
//! and is answered: with its ack, or, when it was sent without one and is refused, with an `error` event. Sends that wait
//! together are handled together. Joining is in `join.rs`, sending in `send.rs`.

use std::{sync::Arc, time::Instant};

use mesh::{
    error::{Reason, Refusal},
    telemetry,
};
use serde_json::value::RawValue;
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

use super::{
    hub::Hub,
    join,
    meter::{self, Closed},
    packet::{self, Frame, Packet, Text},
    payload,
    send::{self, Outgoing},
    session::{Session, Turn, Work},
};
use crate::{error::ErrorObject, limit::Class};

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

    /// Answers; what came of it, as a label.
    pub(super) fn send(&self, session: &Session, result: Result<String, Refusal>) -> &'static str {
        let (frame, outcome) = match result {
            Ok(json) => (self.frame(&json), "ok"),
            Err(refusal) => {
                mark(&refusal);
                (Some(self.refused(&error_object(&refusal))), refusal.reason.as_str())
            }
        };
        if let Some(frame) = frame {
            session.tell(frame);
        }
        outcome
    }
}

/// Says in the event's span why it failed.
fn mark(refusal: &Refusal) {
    let span = Span::current();
    span.record("error.type", refusal.reason.as_str());
    if refusal.reason.http() >= 500 {
        span.record("otel.status_code", "ERROR");
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
    while let Some(turn) = session.next(is_send, hub.config().sends_max) {
        match turn {
            Turn::Together(packets) => sends(&hub, &session, &packets).await,
            Turn::One(Work::Event(packet)) => handle(&hub, &session, &packet).await,
            Turn::One(Work::Resume(rooms)) => Box::pin(join::resume(&hub, &session, rooms)).await,
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

/// Handles one event to its end.
async fn handle(hub: &Arc<Hub>, session: &Arc<Session>, packet: &str) {
    let Some((kind, payload, reply)) = read(session, packet) else { return };
    let (span, begun) = (span(kind, 1), Instant::now());
    if let Some(outcome) = Box::pin(dispatch(hub, session, kind, payload, &reply)).instrument(span).await {
        meter::event(kind.as_str(), outcome);
        meter::took(kind.as_str(), begun);
    }
}

/// Handles sends that wait together: all of them are on their way before the first is answered, and each is answered
/// when it is known what became of it.
async fn sends(hub: &Arc<Hub>, session: &Arc<Session>, packets: &[Text]) {
    let mut sends = Vec::with_capacity(packets.len());
    for (kind, payload, reply) in packets.iter().filter_map(|packet| read(session, packet)) {
        let allowed = hub.edge.limiter.check(Class::Event, session.address, Some(session.user_id()));
        match allowed.and_then(|()| payload::send(payload)) {
            Ok(send) => sends.push(Outgoing::new(send, reply)),
            Err(refusal) => meter::event(kind.as_str(), reply.send(session, Err(refusal))),
        }
    }
    if !sends.is_empty() {
        let span = span(Kind::Send, sends.len());
        Box::pin(send::all(hub, session, sends)).instrument(span).await;
    }
}

/// The span of events that are handled together; each begins a trace.
fn span(kind: Kind, events: usize) -> Span {
    let name = kind.as_str();
    tracing::info_span!("socket event", otel.name = name, otel.kind = "server", otel.status_code = Empty,
        messaging.system = "socket.io", messaging.operation.name = name, messaging.operation.type = "process",
        messaging.batch.message_count = (events > 1).then(|| telemetry::number(events)), "error.type" = Empty)
}

/// Whether a packet is a send, as far as a look at how clients write one tells. One that is written otherwise is handled
/// alone, which is as right.
fn is_send(packet: &str) -> bool {
    let Some(rest) = packet.strip_prefix('2') else { return false };
    rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).starts_with(r#"["send_message","#)
}

/// What an event is; one that is none is answered here.
fn read<'a>(session: &Session, packet: &'a str) -> Option<(Kind, Option<&'a RawValue>, Reply)> {
    let (ack, data) = match Packet::read(packet) {
        Ok(Packet::Event { ack, data }) => (ack, data),
        Ok(Packet::Binary { ack }) => {
            let refusal = Refusal::field("payload", "must not have binary attachments");
            meter::event("any", Reply::Ack(ack).send(session, Err(refusal)));
            return None;
        }
        _ => return None,
    };
    let reply = Reply::Ack(ack);
    let (name, payload) = match payload::event(data) {
        Ok(event) => event,
        Err(refusal) => {
            meter::event("any", reply.send(session, Err(refusal)));
            return None;
        }
    };
    let Some(kind) = Kind::of(&name) else {
        let shown: String = name.chars().take(64).collect();
        let refusal = Refusal::new(Reason::NotFound, format!("There is no event \"{shown}\""));
        meter::event("unknown", reply.send(session, Err(refusal)));
        return None;
    };
    Some((kind, payload, reply))
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

/// Does what an event asks for and answers it; what came of it, when it is not counted yet.
async fn dispatch(
    hub: &Arc<Hub>,
    session: &Arc<Session>,
    kind: Kind,
    payload: Option<&RawValue>,
    reply: &Reply,
) -> Option<&'static str> {
    let result = match hub.edge.limiter.check(Class::Event, session.address, Some(session.user_id())) {
        Err(refusal) => Err(refusal),
        Ok(()) => match kind {
            Kind::Join => match payload::join(payload) {
                // It answers by itself, in the turn in which the socket becomes live.
                Ok(join) => match join::join(hub, session, join.room_id, join.cursor, reply).await {
                    Ok(()) => return Some("ok"),
                    Err(refusal) => Err(refusal),
                },
                Err(refusal) => Err(refusal),
            },
            Kind::Leave => leave(hub, session, payload).await,
            Kind::Send => match payload::send(payload) {
                // It answers by itself, as those that are sent together do.
                Ok(send) => {
                    send::all(hub, session, vec![Outgoing::new(send, reply.clone())]).await;
                    return None;
                }
                Err(refusal) => Err(refusal),
            },
            Kind::TypingStart => typing(hub, session, payload, true).await,
            Kind::TypingStop => typing(hub, session, payload, false).await,
        },
    };
    Some(reply.send(session, result))
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
    fn sends_are_known_by_their_look() {
        for packet in [r#"2["send_message",{}]"#, r#"2123["send_message",{}]"#] {
            assert!(is_send(packet), "{packet}");
        }
        for packet in [
            "",
            "2",
            r#"2["send_message"]"#,
            r#"2["join_room",{}]"#,
            r#"51-["send_message",{}]"#,
            r#"2[ "send_message",{}]"#,
        ] {
            assert!(!is_send(packet), "{packet}");
        }
    }

    #[test]
    fn an_error_object_has_an_id_and_no_cause() {
        let text = error_object(&Refusal::internal("postgres://user:secret@host"));
        let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((object["success"].as_bool(), object["code"].as_str()), (Some(false), Some("INTERNAL")));
        assert!(object["requestId"].is_string() && !text.contains("secret"));
    }
}
