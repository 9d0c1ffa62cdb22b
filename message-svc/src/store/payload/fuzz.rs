//! What a store gives back, damaged or made by hand: it is read into the event that it says, or named as damaged; and
//! what is written is read back as it was, whatever it holds.

use test_input::{Edits, object, text};

use super::*;

const EXAMPLES: [&str; 5] = [
    r#"{"username":"ada","content":"hi","message_type":"app.x","metadata":{"a":[1,2.5,null,{"b":"\u00fc"}]}}"#,
    r#"{"username":"ada","content":"hi"}"#,
    r#"{"joined":["0198c0de-0000-7000-8000-000000000001"],"member_count":1,"new_owner":null}"#,
    r#"{"room_type":2,"name":"n","description":"","created_by":null,"created_at":5,"member_count":3}"#,
    r#"{"by":"0198c0de-0000-7000-8000-000000000001"}"#,
];

#[test]
fn what_is_read_is_written_and_read_again_as_it_was() {
    let sender = UserId(Uuid::nil());
    bolero::check!().with_type::<(u8, Edits)>().for_each(|(kind, edits)| {
        let payload = text(&EXAMPLES, edits);
        let sent = (kind / 8 % 8 > 0).then_some((sender, "c-1"));
        if let Ok(event) = decode(i64::from(kind % 8), &payload, sent) {
            let again = decode(Kind::of(&event) as i64, &encode(&event), Some((sender, "c-1")));
            assert_eq!(again.expect("what we wrote"), event);
        }
    });
}

#[test]
fn any_metadata_comes_back_as_it_was() {
    let sender = UserId(Uuid::nil());
    bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
        let message = Message {
            sender,
            username: "ada".into(),
            content: String::from_utf8_lossy(bytes).into_owned(),
            message_type: message::TEXT.to_owned(),
            metadata: object(bytes),
            client_id: ClientMessageId::stored("c-1"),
        };
        let event = Event::Message(Arc::new(message));
        let again = decode(Kind::Message as i64, &encode(&event), Some((sender, "c-1")));
        assert_eq!(again.expect("what we wrote"), event);
    });
}
