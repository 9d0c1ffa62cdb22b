//! Bad input over REST: every field that is missing, of the wrong type or past its limit is named with what is wrong,
//! nothing changes, and the process serves on.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use reqwest::{Method, header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    mesh::Mesh,
    rest::{Answer, Api, PASSWORD, Person, check_field, unique},
};

/// A body that is good but for one field.
fn with(good: &Value, field: &str, value: Value) -> Value {
    let mut body = good.clone();
    body[field] = value;
    body
}

/// What nearly every text field refuses.
fn wrong_types() -> [Value; 4] {
    [json!(7), json!(true), json!(["x"]), json!({"x": 1})]
}

#[tokio::test]
async fn a_registration_names_each_bad_field_with_its_limit() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let good =
        json!({"username": unique("never"), "email": format!("{}@example.com", unique("e")), "password": PASSWORD});
    let body = api.post("/auth/register", json!({})).await.refused(400, "VALIDATION_FAILED");
    for field in ["username", "email", "password"] {
        check_field(&body, field, "");
        for value in wrong_types().into_iter().chain([Value::Null]) {
            api.post("/auth/register", with(&good, field, value)).await.invalid(field, "");
        }
    }
    let long = "x".repeat(101);
    let body = json!({"username": "a b", "email": "none", "password": "short", "firstName": long, "lastName": 7});
    let typed = with(&body, "lastName", json!("ok"));
    api.post("/auth/register", body).await.invalid("lastName", "");
    let refusal = api.post("/auth/register", typed).await.refused(400, "VALIDATION_FAILED");
    ["username", "email", "password", "firstName"].iter().for_each(|field| check_field(&refusal, field, ""));
    for (field, value, says) in [
        ("username", "ab".to_owned(), "3"),
        ("username", "x".repeat(33), "32"),
        ("username", "   ".into(), ""),
        ("username", "a\u{7}bcd".into(), ""),
        ("username", "\u{1F600}".repeat(1_000), "32"),
        ("username", "ab\0cd".into(), ""),
        ("email", format!("{}@example.com", "x".repeat(254)), "254"),
        ("email", "two@at@example.com".into(), ""),
        ("email", "a\0b@example.com".into(), ""),
        ("password", "x".repeat(7), "8"),
        ("password", "x".repeat(129), "128"),
        ("password", format!("{PASSWORD}\0"), ""),
        ("firstName", "x".repeat(101), "100"),
        ("firstName", "\u{1F600}".repeat(1_000), "100"),
        ("firstName", "a\u{1}b".into(), ""),
        ("lastName", "a\0b".into(), ""),
    ] {
        api.post("/auth/register", with(&good, field, value.into())).await.invalid(field, says);
    }
    // Nothing of all that took the name.
    api.post("/auth/register", good).await.ok(201);
}

#[tokio::test]
async fn a_login_names_what_is_missing_or_of_the_wrong_type() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let body = api.post("/auth/login", json!({})).await.refused(400, "VALIDATION_FAILED");
    check_field(&body, "password", "");
    api.post("/auth/login", json!({"username": 7, "password": PASSWORD})).await.invalid("username", "");
    api.post("/auth/login", json!({"email": [], "password": PASSWORD})).await.invalid("email", "");
    api.post("/auth/login", json!({"username": "ada", "password": {}})).await.invalid("password", "");
    api.post("/auth/login", json!({"username": "a\0a", "password": PASSWORD})).await.refused(400, "VALIDATION_FAILED");
    api.post("/auth/refresh", json!({})).await.invalid("refreshToken", "");
    api.post("/auth/refresh", json!({"refreshToken": 7})).await.invalid("refreshToken", "");
    api.post("/auth/login", json!([])).await.refused(400, "VALIDATION_FAILED");
}

#[tokio::test]
async fn a_profile_change_names_each_bad_field_and_changes_nothing() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let before = ada.get("/auth/profile").await.ok(200);
    let deep = (0..17).fold(json!(1), |inner, _| json!({"x": inner}));
    for (field, value, says) in [
        ("username", json!("ab"), "3"),
        ("firstName", json!("x".repeat(101)), "100"),
        ("firstName", json!(7), ""),
        ("lastName", json!("\u{1F600}".repeat(1_000)), "100"),
        ("lastName", json!("a\0b"), ""),
        ("bio", json!("x".repeat(1_001)), "1000"),
        ("bio", json!("a\0b"), ""),
        ("avatarUrl", json!("javascript:alert(1)"), "http"),
        ("avatarUrl", json!(format!("https://example.com/{}", "x".repeat(2_048))), "2048"),
        ("preferences", json!({"x": "y".repeat(16 << 10)}), "16384"),
        ("preferences", deep, "16"),
        ("preferences", json!({"a\0": 1}), ""),
        ("preferences", json!({"a": "b\0"}), ""),
        ("preferences", json!([1]), ""),
        ("preferences", json!("text"), ""),
    ] {
        let body = json!({"bio": "changed", field: value});
        let refusal = ada.put("/auth/profile", body).await.invalid(field, says);
        assert_eq!(refusal["message"], "Failed to update user profile");
    }
    assert_eq!(ada.get("/auth/profile").await.ok(200)["user"], before["user"]);
    ada.put("/auth/password", json!({})).await.refused(400, "VALIDATION_FAILED");
    ada.put("/auth/password", json!({"currentPassword": PASSWORD})).await.invalid("newPassword", "");
    ada.get("/users/not-an-id").await.refused(404, "USER_NOT_FOUND");
    ada.get("/users").await.invalid("ids", "");
    assert_eq!(ada.get("/users?ids=not-an-id").await.ok(200)["users"], json!([]));
    ada.delete("/auth/sessions/not-an-id").await.refused(404, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn a_room_names_each_bad_field_and_is_not_made() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let good = json!({"name": "a room", "roomType": "public"});
    for (field, value, says) in [
        ("name", Value::Null, ""),
        ("name", json!(7), ""),
        ("name", json!("   \u{2003}  "), "1"),
        ("name", json!(""), "1"),
        ("name", json!("x".repeat(101)), "100"),
        ("name", json!("\u{1F600}".repeat(1_000)), "100"),
        ("name", json!("a\u{1b}[31mb"), "control"),
        ("name", json!("a\0b"), ""),
        ("description", json!("x".repeat(1_001)), "1000"),
        ("description", json!("a\0b"), ""),
        ("description", json!([]), ""),
        ("roomType", json!("secret"), "private"),
        ("roomType", json!("direct"), ""),
        ("roomType", json!(1), ""),
        ("roomType", Value::Null, ""),
    ] {
        ada.post("/rooms", with(&good, field, value)).await.invalid(field, says);
    }
    assert_eq!(ada.get("/rooms").await.ok(200)["rooms"], json!([]));
    let room = ada.room("private").await;
    let before = ada.get(&format!("/rooms/{room}")).await.ok(200);
    for (field, value) in [("name", json!(" ")), ("name", json!(7)), ("description", json!("x".repeat(1_001)))] {
        ada.patch(&format!("/rooms/{room}"), json!({field: value})).await.invalid(field, "");
    }
    ada.patch(&format!("/rooms/{room}"), json!({})).await.refused(400, "VALIDATION_FAILED");
    assert_eq!(ada.get(&format!("/rooms/{room}")).await.ok(200)["room"], before["room"]);
    ada.post("/rooms/direct", json!({})).await.invalid("userId", "");
    ada.post("/rooms/direct", json!({"userId": "nobody"})).await.invalid("userId", "UUID");
    ada.post(&format!("/rooms/{room}/members"), json!({"userId": 7})).await.invalid("userId", "");
    for path in ["/rooms/not-an-id", "/rooms/not-an-id/messages", "/rooms/%00/messages"] {
        let answer = ada.get(path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.text);
    }
    ada.get(&format!("/rooms/{}", Uuid::new_v4())).await.refused(404, "ROOM_NOT_FOUND");
}

#[tokio::test]
async fn a_message_names_each_bad_field_and_is_not_stored() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let path = format!("/rooms/{room}/messages");
    let good = json!({"content": "hello"});
    let deep = (0..17).fold(json!(1), |inner, _| json!({"x": inner}));
    for (field, value, says) in [
        ("content", Value::Null, ""),
        ("content", json!(7), ""),
        ("content", json!({"x": 1}), ""),
        ("content", json!(""), "8000"),
        ("content", json!(" \n\t "), "8000"),
        ("content", json!("x".repeat(8_001)), "8000"),
        ("content", json!("a\0b"), ""),
        ("messageType", json!("x".repeat(33)), "32"),
        ("messageType", json!("a b"), ""),
        ("messageType", json!(7), ""),
        ("metadata", json!({"x": "y".repeat(8 << 10)}), "8192"),
        ("metadata", deep, "16"),
        ("metadata", json!({"a": ["\0"]}), ""),
        ("metadata", json!([]), ""),
        ("clientMessageId", json!("x".repeat(65)), "64"),
        ("clientMessageId", json!("é"), "ASCII"),
        ("clientMessageId", json!("a\nb"), "ASCII"),
        ("clientMessageId", json!(7), ""),
    ] {
        ada.post(&path, with(&good, field, value)).await.invalid(field, says);
    }
    let both = json!({"content": "", "clientMessageId": "\u{7}"});
    let refusal = ada.post(&path, both).await.refused(400, "VALIDATION_FAILED");
    ["content", "clientMessageId"].iter().for_each(|field| check_field(&refusal, field, ""));
    assert_eq!(ada.get(&format!("/rooms/{room}")).await.ok(200)["room"]["lastSeq"], 0);
}

#[tokio::test]
async fn a_page_that_makes_no_sense_is_refused_with_its_limit() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    ada.send(&room, "one").await;
    for size in ["-1", "0", "10000", "many", "9999999999999999999999"] {
        ada.get(&format!("/rooms/{room}/messages?limit={size}")).await.invalid("limit", "");
        ada.get(&format!("/rooms/public?pageSize={size}")).await.invalid("pageSize", "");
        ada.get(&format!("/rooms/{room}/members?pageSize={size}")).await.invalid("pageSize", "");
    }
    ada.get(&format!("/rooms/{room}/messages?limit=101")).await.invalid("limit", "100");
    for page in ["-1", "0", "x"] {
        ada.get(&format!("/rooms/{room}/messages?page={page}")).await.invalid("page", "");
    }
    assert_eq!(ada.get(&format!("/rooms/{room}/messages?page=10000")).await.ok(200)["messages"], json!([]));
    for window in ["before", "after"] {
        for seq in ["-1", "x", "9999999999999999999999"] {
            ada.get(&format!("/rooms/{room}/messages?{window}={seq}")).await.invalid(window, "");
        }
    }
    ada.get(&format!("/rooms/{room}/messages?before=2&after=1")).await.refused(400, "VALIDATION_FAILED");
    for token in ["nonsense", "%00", "AAAA"] {
        ada.get(&format!("/rooms/public?pageToken={token}")).await.invalid("pageToken", "");
        ada.get(&format!("/rooms/{room}/members?pageToken={token}")).await.invalid("pageToken", "");
    }
    ada.get(&format!("/rooms/public?search={}", "x".repeat(101))).await.invalid("search", "100");
    ada.get("/rooms/public?search=%00").await.invalid("search", "");
}

async fn raw(person: &Person, path: &str, content_type: Option<&str>, body: Vec<u8>) -> Answer {
    let mut request = person.api.request(Method::POST, path, Some(&person.access)).body(body);
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    Answer::read(request).await.unwrap()
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_as_what_it_is() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let json = Some("application/json");
    for broken in ["", "{", "{\"name\": }", "nonsense", "{\"name\":\"a\"} trailing", "\u{feff}{}", "[[[["] {
        raw(&ada, "/rooms", json, broken.into()).await.refused(400, "MALFORMED_BODY");
    }
    raw(&ada, "/rooms", json, b"{\"name\":\"\xff\xfe\"}".to_vec()).await.refused(400, "MALFORMED_BODY");
    raw(&ada, "/rooms", json, "[".repeat(100_000).into_bytes()).await.refused(400, "MALFORMED_BODY");
    raw(&ada, "/rooms", json, "{\"a\":".repeat(40_000).into_bytes()).await.refused(400, "MALFORMED_BODY");
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("nonsense")] {
        raw(&ada, "/rooms", content_type, b"{\"name\":\"x\"}".to_vec()).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let large = json!({"name": "x", "roomType": "public", "unknown": "y".repeat(256 << 10)}).to_string().into_bytes();
    let refusal = raw(&ada, "/rooms", json, large).await.refused(413, "PAYLOAD_TOO_LARGE");
    assert!(
        refusal["message"].as_str().unwrap().contains("256") || refusal.to_string().contains("262144"),
        "{refusal}"
    );
    // Without a length, in pieces: the limit is on what comes and not on what is announced.
    let piece = || Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![b' '; 8 << 10])));
    let pieces = StreamBody::new(futures::stream::iter((0..64).map(move |_| piece())));
    let request =
        ada.api.request(Method::POST, "/rooms", Some(&ada.access)).header(header::CONTENT_TYPE, "application/json");
    let answer = Answer::read(request.body(reqwest::Body::wrap(pieces))).await.unwrap();
    answer.refused(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(ada.get("/rooms").await.ok(200)["rooms"], json!([]));
}

#[tokio::test]
async fn a_route_or_method_that_is_none_is_told_in_the_same_shape() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    for path in ["/nothing", "/rooms/x/y/z", "/auth", "/auth/register/x"] {
        ada.get(path).await.refused(404, "NOT_FOUND");
    }
    let answer = ada.call(Method::DELETE, "/auth/login", None).await;
    assert!(answer.headers.contains_key(header::ALLOW), "405 without Allow");
    answer.refused(405, "METHOD_NOT_ALLOWED");
    let long = format!("/users?ids={}", "x".repeat(20_000));
    let answer = ada.get(&long).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    let request = ada.api.request(Method::GET, "/rooms", Some(&ada.access)).header("x-large", "y".repeat(100_000));
    // The connection may be ended before all of it is read.
    if let Ok(answer) = Answer::read(request).await {
        assert!((400..500).contains(&answer.status), "{}", answer.status);
    }
    let sane = ada.api.request(Method::GET, "/rooms", Some(&ada.access)).header("x-request-id", "my-own-id-1");
    assert_eq!(Answer::read(sane).await.unwrap().headers["x-request-id"], "my-own-id-1");
    let insane = ada.api.request(Method::GET, "/rooms", Some(&ada.access)).header("x-request-id", "x".repeat(4_000));
    let answer = Answer::read(insane).await.unwrap();
    assert!(answer.headers["x-request-id"].len() < 200, "an insane request id came back");
    ada.get("/rooms").await.ok(200);
}

#[tokio::test]
async fn anothers_room_is_not_theirs_to_change() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, eve) = (Person::register(&api, "ada").await, Person::register(&api, "eve").await);
    let (hidden, open) = (ada.room("private").await, ada.room("public").await);
    eve.join(&open).await;
    for (room, status, code) in [(&hidden, 404, "ROOM_NOT_FOUND"), (&open, 403, "FORBIDDEN")] {
        eve.patch(&format!("/rooms/{room}"), json!({"name": "eve's"})).await.refused(status, code);
        eve.delete(&format!("/rooms/{room}")).await.refused(status, code);
        eve.delete(&format!("/rooms/{room}/members/{}", ada.id)).await.refused(status, code);
        let kept = ada.get(&format!("/rooms/{room}")).await.ok(200);
        assert_ne!(kept["room"]["name"], "eve's");
    }
    ada.send(&open, "still served").await;
}
