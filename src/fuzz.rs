//! What every process reads that others wrote, with no better place: JSON that applications keep, times, and refusals of
//! other services. `client/place.rs`, `config/fuzz.rs`, `identity/fuzz.rs` and `grpc.rs` have the rest of this crate.

use std::time::Duration;

use serde_json::Value;
use test_input::{Edits, bytes, object};
use tonic::{Code, Status};

use crate::{
    error::{FieldViolation, Reason, Refusal},
    text as checks,
    time::Millis,
};

#[test]
fn any_json_goes_to_proto_and_to_text_and_comes_back_as_it_was() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
        let given = checks::struct_from_json(&object(bytes));
        match checks::json("metadata", &given, usize::MAX, 16) {
            Ok(kept) => {
                let text = serde_json::to_string(&kept).expect("JSON");
                // A backslash of the text itself is written as two.
                assert!(!text.replace(r"\\", "").contains(r"\u0000"), "{text}");
                assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), Value::Object(kept.clone()), "{text}");
                let again = checks::json("metadata", &checks::struct_from_json(&kept), usize::MAX, 16);
                assert_eq!(again.expect("what was good"), kept);
            }
            Err(violation) => assert!(violation.message.contains("U+0000"), "{violation:?}"),
        }
    });
}

#[test]
fn any_time_is_written_and_every_timestamp_read() {
    bolero::check!().with_type::<(i64, i64, i32)>().for_each(|(millis, seconds, nanos)| {
        let at = Millis(*millis);
        assert_eq!(Millis::from(prost_types::Timestamp::from(at)), at);
        assert!(at.to_rfc3339().ends_with('Z'));
        let read = Millis::from(prost_types::Timestamp { seconds: *seconds, nanos: *nanos });
        assert_eq!(Millis::from(prost_types::Timestamp::from(read)), read);
    });
}

#[test]
fn a_refusal_of_anybody_is_one_of_the_catalogue_and_ours_come_back_as_they_were() {
    let ours = Refusal::field("room.name", "must have 1–100 characters").with_retry_after(Duration::from_secs(2));
    let good =
        [Status::from(ours.clone()).details().to_vec(), Status::from(Refusal::unauthorized()).details().to_vec()];
    bolero::check!().with_type::<(i32, Edits)>().for_each(|(code, edits)| {
        let details = bytes(&good, edits);
        let untouched = details == good[0];
        let status = Status::with_details(Code::from_i32(code % 17), "10.0.0.7:5432", details.into());
        let refusal = Refusal::from_status(&status);
        assert!(Reason::ALL.contains(&refusal.reason));
        if untouched {
            assert_eq!(refusal.violations, [FieldViolation::new("room.name", "must have 1–100 characters")]);
            assert_eq!(refusal.retry_after, ours.retry_after);
        }
    });
}
