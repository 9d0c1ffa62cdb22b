//! The payloads of clients' events, read into types field by field, so that a refusal names every bad field. Limits on
//! content are message-svc's; here is what makes a field one of its type at all.

use mesh::{
    error::Refusal,
    text::{self, Violations},
};
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

#[cfg(test)]
mod fuzz;

/// What a Struct may be nested before it is sent on: message-svc allows 16 levels, and decoding protobuf stops far above.
const DEPTH_MAX: usize = 16;

/// An event's name and the first of its arguments. Further ones are ignored.
///
/// # Errors
/// `VALIDATION_FAILED` for what is no event.
pub(super) fn event(data: &str) -> Result<(String, Option<&RawValue>), Refusal> {
    let items: Vec<&RawValue> = serde_json::from_str(data)
        .map_err(|error| Refusal::field("event", "must be an array of a name and a payload").with_source(error))?;
    let name = items.first().and_then(|name| serde_json::from_str(name.get()).ok());
    let name = name.ok_or_else(|| Refusal::field("event", "must have a name"))?;
    Ok((name, items.get(1).copied()))
}

/// The fields of a payload.
pub(super) struct Fields {
    object: Map<String, Value>,
    violations: Violations,
}

impl Fields {
    /// # Errors
    /// `VALIDATION_FAILED` when the payload is missing or is no object.
    pub(super) fn read(payload: Option<&RawValue>) -> Result<Self, Refusal> {
        let payload = payload.ok_or_else(|| Refusal::field("payload", "is required and must be an object"))?;
        let object = serde_json::from_str(payload.get())
            .map_err(|error| Refusal::field("payload", "must be an object").with_source(error))?;
        Ok(Self { object, violations: Violations::default() })
    }

    fn text(&mut self, field: &str) -> Option<String> {
        match self.object.remove(field) {
            Some(Value::String(text)) => Some(text),
            None | Some(Value::Null) => None,
            Some(_) => {
                self.violations.push(field, "must be text");
                None
            }
        }
    }

    fn required(&mut self, field: &str) -> String {
        let missing = matches!(self.object.get(field), None | Some(Value::Null));
        if missing {
            self.violations.push(field, "is required");
        }
        self.text(field).unwrap_or_default()
    }

    fn room_id(&mut self) -> Uuid {
        let asked = self.object.get("roomId").is_some_and(Value::is_string);
        let id = self.required("roomId");
        let id = asked.then(|| self.violations.check(text::uuid("roomId", &id))).flatten();
        id.unwrap_or_default()
    }

    fn cursor(&mut self) -> Option<String> {
        self.text("cursor").filter(|cursor| !cursor.is_empty())
    }

    fn object(&mut self, field: &str) -> Option<prost_types::Struct> {
        match self.object.remove(field) {
            Some(Value::Object(object)) => {
                let object = text::struct_from_json(&object);
                // Only the depth is judged: deeper than this it could not be decoded on the other side.
                self.violations.check(text::json(field, &object, usize::MAX, DEPTH_MAX)).map(|_| object)
            }
            None | Some(Value::Null) => None,
            Some(_) => {
                self.violations.push(field, "must be an object");
                None
            }
        }
    }
}

/// `leave_room`, `typing_start`, `typing_stop`.
pub(super) fn room(payload: Option<&RawValue>) -> Result<Uuid, Refusal> {
    let mut fields = Fields::read(payload)?;
    let room_id = fields.room_id();
    fields.violations.into_result().map(|()| room_id)
}

/// `join_room`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Join {
    pub(super) room_id: Uuid,
    pub(super) cursor: Option<String>,
}

/// `join_room`.
pub(super) fn join(payload: Option<&RawValue>) -> Result<Join, Refusal> {
    let mut fields = Fields::read(payload)?;
    let join = Join { room_id: fields.room_id(), cursor: fields.cursor() };
    fields.violations.into_result().map(|()| join)
}

/// `send_message`.
#[derive(Debug, PartialEq)]
pub(super) struct Send {
    pub(super) room_id: Uuid,
    pub(super) content: String,
    pub(super) message_type: String,
    pub(super) metadata: Option<prost_types::Struct>,
    /// None when the client chose none.
    pub(super) client_message_id: Option<String>,
}

/// `send_message`.
pub(super) fn send(payload: Option<&RawValue>) -> Result<Send, Refusal> {
    let mut fields = Fields::read(payload)?;
    let send = Send {
        room_id: fields.room_id(),
        content: fields.required("content"),
        message_type: fields.text("messageType").unwrap_or_default(),
        metadata: fields.object("metadata"),
        client_message_id: fields.text("clientMessageId"),
    };
    if send.client_message_id.as_deref() == Some("") {
        fields.violations.push("clientMessageId", "must have 1–64 characters of printable ASCII");
    }
    fields.violations.into_result().map(|()| send)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: &str = "0198c0de-0000-4000-8000-000000000001";

    fn raw(text: &str) -> Option<Box<RawValue>> {
        (!text.is_empty()).then(|| RawValue::from_string(text.to_owned()).expect("JSON"))
    }

    fn refused<T>(read: fn(Option<&RawValue>) -> Result<T, Refusal>, text: &str) -> Vec<String> {
        let refusal = read(raw(text).as_deref()).err().expect("refused");
        refusal.violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn events_are_a_name_and_a_payload() {
        let (name, payload) = event(r#"["join_room",{"a":1},2]"#).expect("event");
        assert_eq!((name.as_str(), payload.map(RawValue::get)), ("join_room", Some(r#"{"a":1}"#)));
        assert_eq!(event(r#"["x"]"#).expect("event").1.map(RawValue::get), None);
        for bad in ["", "{}", "[]", "[5]", "[null,{}]", r#"["a""#] {
            event(bad).expect_err(bad);
        }
    }

    #[test]
    fn good_payloads_are_read_and_unknown_fields_ignored() {
        let text = format!(r#"{{"roomId":"{ROOM}","cursor":"c","x":1}}"#);
        let room_id = ROOM.parse().expect("UUID");
        assert_eq!(join(raw(&text).as_deref()).expect("good"), Join { room_id, cursor: Some("c".into()) });
        for absent in ["null", "\"\""] {
            let text = format!(r#"{{"roomId":"{ROOM}","cursor":{absent}}}"#);
            assert_eq!(join(raw(&text).as_deref()).expect("good").cursor, None);
        }
        let text = format!(r#"{{"roomId":"{ROOM}","content":"hi","metadata":{{"a":[1]}}}}"#);
        let sent = send(raw(&text).as_deref()).expect("good");
        assert_eq!((sent.content.as_str(), sent.message_type.as_str(), sent.client_message_id), ("hi", "", None));
        assert!(sent.metadata.expect("metadata").fields.contains_key("a"));
    }

    #[test]
    fn every_bad_field_is_named() {
        for text in ["", "null", "5", "\"x\"", "[]"] {
            assert_eq!(refused(room, text), ["payload"], "{text}");
        }
        assert_eq!(refused(room, "{}"), ["roomId"]);
        assert_eq!(refused(room, r#"{"roomId":5}"#), ["roomId"]);
        assert_eq!(refused(room, r#"{"roomId":"x"}"#), ["roomId"]);
        assert_eq!(refused(join, &format!(r#"{{"roomId":"{ROOM}","cursor":5}}"#)), ["cursor"]);
        let text = r#"{"roomId":null,"content":5,"messageType":[],"metadata":"x","clientMessageId":""}"#;
        assert_eq!(refused(send, text), ["roomId", "content", "messageType", "metadata", "clientMessageId"]);
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused_before_it_is_sent_on() {
        let deep = |levels: usize| {
            let nested = format!("{}{}", r#"{"a":"#.repeat(levels - 1), "{}") + &"}".repeat(levels - 1);
            format!(r#"{{"roomId":"{ROOM}","content":"x","metadata":{nested}}}"#)
        };
        send(raw(&deep(16)).as_deref()).expect("good");
        assert_eq!(refused(send, &deep(17)), ["metadata"]);
        assert_eq!(refused(send, &deep(200)), ["payload"], "serde_json's own limit");
    }
}
