//! Bodies of any bytes under any content type: each is an object, or refused with the code of its fault; and of an object
//! every field is its type or named.

use http::HeaderValue;
use test_input::{Edits, bytes, check_violations};

use super::*;

const TYPES: [&str; 4] = ["application/json", "application/merge-patch+json; charset=utf-8", "text/plain", ""];
const BODIES: [&str; 3] = [
    r#"{"name":"a room","description":null,"roomType":"public","metadata":{"a":[1,2.5,{"b":"c"}]}}"#,
    r#"{"username":"ada","email":"ada@example.com","password":"correct horse"}"#,
    "",
];

#[test]
fn a_body_of_any_bytes_is_an_object_or_refused_with_its_code() {
    bolero::check!().with_type::<(Edits, Edits)>().for_each(|(kind, body)| {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&bytes(&TYPES, kind)) {
            headers.insert(header::CONTENT_TYPE, value);
        }
        let body = Bytes::from(bytes(&BODIES, body));
        let object = match parse(&headers, &body) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return,
            Err(refusal) => {
                assert!(matches!(refusal.reason, Reason::MalformedBody | Reason::UnsupportedMediaType), "{refusal:?}");
                return;
            }
        };
        let mut fields = Fields::new(object.clone());
        for name in ["name", "username", "nothing"] {
            let read = fields.required(name);
            assert!(read.is_empty() || object.get(name).and_then(Value::as_str) == Some(&read));
            assert!(!read.contains('\0'));
        }
        drop((fields.changed_text("description"), fields.one_of("roomType", &[("public", 1), ("private", 2)])));
        if let Some(metadata) = fields.object("metadata") {
            let text = serde_json::to_string(&metadata).expect("JSON");
            assert!(!text.contains("\\u0000"));
        }
        if let Err(refusal) = fields.finish() {
            check_violations(refusal.violations.iter().map(|violation| (&*violation.field, &*violation.message)));
        }
    });
}
