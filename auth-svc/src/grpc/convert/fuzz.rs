//! Requests as they come off the wire, edited: each is what it says, within its limits, or refused by field.

use prost::Message as _;
use test_input::{Edits, bytes, check_violations};

use super::*;

const ID: &str = "0198c0de-0000-7000-8000-000000000001";

fn check(refusal: &Refusal) {
    check_violations(refusal.violations.iter().map(|violation| (&*violation.field, &*violation.message)));
}

#[test]
fn a_request_of_any_bytes_is_read_or_refused_by_field() {
    let user = UserId(ID.parse().expect("UUID"));
    let account = pb::Account { id: ID.into(), username: "ada".into(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["username".into()] });
    let token = BASE64_URL_SAFE_NO_PAD.encode([7; 24]);
    let examples = [
        pb::UpdateAccountRequest { account: Some(account), update_mask, ..Default::default() }.encode_to_vec(),
        pb::ListSessionsRequest { page_size: 10, page_token: token }.encode_to_vec(),
        pb::SpendWsTokenRequest {
            jti: ID.into(),
            user_id: ID.into(),
            session_id: ID.into(),
            expire_time: Some(Millis(5).into()),
        }
        .encode_to_vec(),
    ];
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let bytes = bytes(&examples, edits);
        if let Ok(request) = pb::UpdateAccountRequest::decode(&*bytes) {
            match new_username(user, &request) {
                Ok(name) => assert_eq!(Some(name.as_str()), request.account.as_ref().map(|account| &*account.username)),
                Err(refusal) => check(&refusal),
            }
        }
        if let Ok(request) = pb::ListSessionsRequest::decode(&*bytes) {
            match session_page(&request) {
                Ok(page) => {
                    assert!((1..=PAGE_MAX).contains(&page.size));
                    assert_eq!(page.after.is_none(), request.page_token.is_empty());
                }
                Err(refusal) => check(&refusal),
            }
        }
        if let Ok(request) = pb::SpendWsTokenRequest::decode(&*bytes) {
            match ws_spend(&request) {
                Ok(token) => assert_eq!(token.jti.to_string(), request.jti.to_ascii_lowercase()),
                Err(refusal) => check(&refusal),
            }
        }
    });
}
