//! Requests as they come off the wire, edited: each is what it says, within its limits, or refused by field.

use prost::Message as _;
use test_input::{Edits, bytes, check_violations};

use super::*;

const ID: &str = "0198c0de-0000-7000-8000-000000000001";

fn check(error: Error) {
    let Error::Invalid(violations) = error else { panic!("refused for another reason: {error:?}") };
    check_violations(violations.iter().map(|violation| (&*violation.field, &*violation.message)));
}

#[test]
fn a_request_of_any_bytes_is_read_or_refused_by_field() {
    let limits = Limits::default();
    let preferences = text::struct_from_json(&test_input::object(b"\x05\x08\x01a\x07\x01b\x06\x03\x08\x02cd"));
    let user = User {
        id: ID.into(),
        first_name: "Ada".into(),
        last_name: "L".into(),
        bio: "x".into(),
        avatar_url: "https://a.example/b?c".into(),
        preferences: Some(preferences),
        ..Default::default()
    };
    let paths = ["first_name", "last_name", "bio", "avatar_url", "preferences"].map(str::to_owned).to_vec();
    let update_mask = Some(prost_types::FieldMask { paths });
    let create = CreateUserRequest {
        user_id: ID.into(),
        username: "ada".into(),
        username_version: 1,
        first_name: "Ada".into(),
        last_name: "L".into(),
    };
    let examples = [
        UpdateUserRequest { user: Some(user), update_mask, ..Default::default() }.encode_to_vec(),
        create.encode_to_vec(),
        SetUsernameRequest { user_id: ID.into(), username: "ada".into(), username_version: 2 }.encode_to_vec(),
    ];
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let bytes = bytes(&examples, edits);
        if let Ok(request) = UpdateUserRequest::decode(&*bytes) {
            match update(request, &limits) {
                Ok(update) => {
                    let change = update.change;
                    let names = [&change.first_name, &change.last_name].into_iter().flatten();
                    assert!(names.into_iter().all(|name| name.chars().count() <= limits.name_chars_max));
                    let url = change.avatar_url.unwrap_or_default();
                    assert!(url.is_empty() || url.to_ascii_lowercase().starts_with("http"), "{url}");
                    let json = serde_json::to_string(&change.preferences.unwrap_or_default()).expect("JSON");
                    assert!(json.len() <= limits.preferences_bytes_max && !json.contains("\\u0000"));
                }
                Err(error) => check(error),
            }
        }
        if let Ok(request) = CreateUserRequest::decode(&*bytes) {
            match new_profile(&request, &limits) {
                Ok(profile) => assert!(profile.username_version >= 1 && !profile.username.contains('\0')),
                Err(error) => check(error),
            }
        }
        if let Ok(request) = SetUsernameRequest::decode(&*bytes) {
            match rename(&request, &limits) {
                Ok(rename) => assert!((1..=limits.username_chars_max).contains(&rename.username.chars().count())),
                Err(error) => check(error),
            }
        }
    });
}
