//! What clients put into their events and into CONNECT, edited: each is read as what it says or refused by field.

use test_input::{Edits, check_violations, text};

use super::*;
use crate::realtime::connect::Auth;

const EXAMPLES: [&str; 6] = [
    r#"["join_room",{"roomId":"3f1c0de0-0000-4000-8000-000000000001","cursor":"AbCd"}]"#,
    r#"["send_message",{"roomId":"3f1c0de0-0000-4000-8000-000000000001","content":"hi","metadata":{"a":[1,{"b":null}]},"clientMessageId":"c-1"}]"#,
    r#"["send_message",{"roomId":"3f1c0de0-0000-4000-8000-000000000001","content":"\u00fc\ud83d\ude00","messageType":"app.x"}]"#,
    r#"["typing_start",{"roomId":"3f1c0de0-0000-4000-8000-000000000001"},{"x":[]}]"#,
    r#"["leave_room"]"#,
    r#"["x",null]"#,
];

fn check(refusal: &Refusal) {
    check_violations(refusal.violations.iter().map(|violation| (&*violation.field, &*violation.message)));
}

#[test]
fn an_event_of_any_text_is_read_or_refused_by_field() {
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let data = text(&EXAMPLES, edits);
        let (_, payload) = match event(&data) {
            Ok(event) => event,
            Err(refusal) => return check(&refusal),
        };
        let given = || serde_json::from_str::<Value>(payload.map_or("null", RawValue::get)).unwrap_or_default();
        match room(payload) {
            Ok(id) => assert_eq!(id.to_string(), given()["roomId"].as_str().unwrap_or_default().to_ascii_lowercase()),
            Err(refusal) => check(&refusal),
        }
        match join(payload) {
            Ok(join) => assert_eq!(join.cursor.unwrap_or_default(), given()["cursor"].as_str().unwrap_or_default()),
            Err(refusal) => check(&refusal),
        }
        match send(payload) {
            Ok(send) => {
                assert_eq!(Some(&*send.content), given()["content"].as_str());
                // What the other side decodes, it decodes whole.
                let request =
                    mesh::proto::message::v1::SendMessageRequest { metadata: send.metadata, ..Default::default() };
                let bytes = prost::Message::encode_to_vec(&request);
                let again: mesh::proto::message::v1::SendMessageRequest =
                    prost::Message::decode(&*bytes).expect("what we wrote");
                assert_eq!(again, request);
            }
            Err(refusal) => check(&refusal),
        }
    });
}

#[test]
fn an_auth_of_any_text_is_read_or_refused() {
    let examples = [
        r#"{"token":"a.b.c","rooms":{"3f1c0de0-0000-4000-8000-000000000001":"AbCd","x":null}}"#,
        r#"{"token":null}"#,
        "",
    ];
    bolero::check!().with_type::<Edits>().for_each(|edits| match Auth::read(&text(&examples, edits)) {
        Ok(auth) => assert!(auth.rooms.len() <= 100),
        Err(refusal) => assert!(matches!(refusal.reason.http(), 400 | 401), "{refusal:?}"),
    });
}
