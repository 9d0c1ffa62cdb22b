//! What clients do wrong: every fault is named, and the process serves on.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{Mesh, Person, answer};

/// A text of so many characters of two bytes.
fn text(count: usize) -> String {
    "é".repeat(count)
}

/// Sends each body and looks at which fields are refused.
async fn refuses(mesh: &Mesh, who: &Person, method: &str, path: &str, table: &[(Value, &[&str])]) {
    for (body, fields) in table {
        let answer = mesh.by(who, method, path, body).await;
        let mut found = answer.refused(400, "VALIDATION_FAILED").fields();
        found.sort_unstable();
        assert_eq!(&found, fields, "{method} {path} {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_of_an_account_is_named() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let email = "a@b.example";
    let register = [
        (json!({}), &["email", "password", "username"][..]),
        (
            json!({"username": 1, "email": [], "password": {}, "firstName": true}),
            &["email", "firstName", "password", "username"],
        ),
        (json!({"username": "x", "email": "x", "password": "x"}), &["email", "password", "username"]),
        (json!({"username": "a\u{0}b", "email": email, "password": "long enough"}), &["username"]),
        (json!({"username": "   ", "email": email, "password": "long enough"}), &["username"]),
        (
            json!({"username": "good", "email": email, "password": text(129), "firstName": text(101)}),
            &["firstName", "password"],
        ),
    ];
    refuses(&mesh, &ada, "POST", "/api/auth/register", &register).await;
    let login = [
        (json!({}), &["email", "password"][..]),
        (json!({"email": null, "password": "x"}), &["email"]),
        (json!({"username": 1, "password": "x"}), &["username"]),
    ];
    refuses(&mesh, &ada, "POST", "/api/auth/login", &login).await;
    refuses(&mesh, &ada, "POST", "/api/auth/refresh", &[(json!({"refreshToken": 1}), &["refreshToken"])]).await;
    let password = [(json!({"currentPassword": null}), &["currentPassword", "newPassword"][..])];
    refuses(&mesh, &ada, "PUT", "/api/auth/password", &password).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_of_a_room_is_named_and_no_room_is_made() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let room = format!("/api/rooms/{}", mesh.room(&ada, "private").await);
    let create = [
        (json!({}), &["name", "roomType"][..]),
        (json!({"name": "  ", "roomType": "public"}), &["name"]),
        (json!({"name": "a\nb", "roomType": "public"}), &["name"]),
        (
            json!({"name": "😀".repeat(1_000), "roomType": "public", "description": text(1_001)}),
            &["description", "name"],
        ),
        (json!({"name": "x", "roomType": "direct"}), &["roomType"]),
        (json!({"name": "x", "roomType": 1, "description": 1}), &["description", "roomType"]),
    ];
    refuses(&mesh, &ada, "POST", "/api/rooms", &create).await;
    refuses(&mesh, &ada, "POST", "/api/rooms/direct", &[(json!({}), &["userId"])]).await;
    let change =
        [(json!({}), &["body"][..]), (json!({"name": null}), &["name"]), (json!({"name": text(101)}), &["name"])];
    refuses(&mesh, &ada, "PATCH", &room, &change).await;
    assert_eq!(mesh.get(&ada, "/api/rooms").await.body["rooms"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_of_a_message_is_named_and_nothing_is_sent() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let messages = format!("/api/rooms/{}/messages", mesh.room(&ada, "private").await);
    let deep = (0..20).fold(json!(1), |inner, _| json!({"a": inner}));
    let send = [
        (json!({}), &["content"][..]),
        (json!({"content": " \n "}), &["content"]),
        (json!({"content": text(8_001)}), &["content"]),
        (
            json!({"content": "x", "messageType": "no blanks", "clientMessageId": text(2), "metadata": deep}),
            &["clientMessageId", "messageType", "metadata"],
        ),
        (json!({"content": "x", "clientMessageId": ""}), &["clientMessageId"]),
        (json!({"content": "x", "metadata": {"a": "b".repeat(9_000)}}), &["metadata"]),
        (json!({"content": "x", "metadata": {"a": ["\u{0}"]}}), &["metadata"]),
        (
            json!({"content": ["x"], "metadata": "x", "messageType": 1, "clientMessageId": 1}),
            &["clientMessageId", "content", "messageType", "metadata"],
        ),
        (json!([1]), &["body"]),
        (json!("text"), &["body"]),
    ];
    refuses(&mesh, &ada, "POST", &messages, &send).await;
    assert_eq!(mesh.get(&ada, &messages).await.body["pagination"]["totalItems"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_parameter_is_named_with_its_limit() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let room = format!("/api/rooms/{}", mesh.room(&ada, "private").await);
    for bad in ["-1", "0", "10000", "x", "", "1.5", "%00"] {
        for (path, field, limit) in [
            (format!("{room}/messages?limit={bad}"), "limit", "100"),
            (format!("{room}/members?pageSize={bad}"), "pageSize", "100"),
            (format!("/api/rooms?pageSize={bad}"), "pageSize", "100"),
            (format!("/api/rooms/public?pageSize={bad}"), "pageSize", "100"),
        ] {
            let answer = mesh.get(&ada, &path).await;
            assert_eq!(answer.refused(400, "VALIDATION_FAILED").fields(), [field], "{path}");
            let message = answer.body["errors"][0]["message"].as_str().expect("text");
            assert!(message.contains(limit) || bad == "%00", "{path}: {message}");
        }
    }
    for (query, fields) in [
        ("page=-1", &["page"][..]),
        ("page=0", &["page"]),
        ("page=99999999999", &["page"]),
        ("page=x&limit=y", &["page", "limit"]),
        ("before=0", &["before"]),
        ("after=-1", &["after"]),
        ("before=5&after=2", &["after"]),
        ("page=1&before=5", &["before"]),
        ("limit=5&limit=6", &["limit"]),
    ] {
        let answer = mesh.get(&ada, &format!("{room}/messages?{query}")).await;
        assert_eq!(answer.refused(400, "VALIDATION_FAILED").fields(), fields, "{query}");
    }
    let search = mesh.get(&ada, &format!("/api/rooms/public?search={}", "x".repeat(101))).await;
    assert_eq!(search.refused(400, "VALIDATION_FAILED").fields(), ["search"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_is_told_from_one_of_another_type() {
    let mesh = Mesh::start().await;
    mesh.person("ada").await;
    let post = |content_type: Option<&str>, body: Vec<u8>| {
        let request = mesh.request("POST", "/api/auth/login").body(body);
        answer(match content_type {
            Some(content_type) => request.header("content-type", content_type),
            None => request,
        })
    };
    let json = Some("application/json");
    for broken in ["", "{", "{\"email\":}", "nul", "{\"a\":1}x", "[1,]", "{'a':1}", "{\"a\":1e999}"] {
        post(json, broken.into()).await.refused(400, "MALFORMED_BODY");
    }
    post(json, b"{\"email\":\"\xff\"}".to_vec()).await.refused(400, "MALFORMED_BODY");
    post(json, "[".repeat(10_000).into()).await.refused(400, "MALFORMED_BODY");
    for other in
        [Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data"), Some("x"), None]
    {
        post(other, "{}".into()).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let nothing = post(None, Vec::new()).await;
    assert_eq!(nothing.refused(400, "VALIDATION_FAILED").fields(), ["email", "password"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_past_its_limit_is_refused_whatever_its_framing() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let path = format!("/api/rooms/{}/messages", mesh.room(&ada, "private").await);
    let body = |size: usize| {
        let frame = r#"{"content":"hi","unknown":""}"#;
        format!(r#"{{"content":"hi","unknown":"{}"}}"#, "x".repeat(size - frame.len())).into_bytes()
    };
    let send = |body: reqwest::Body| {
        let request = mesh.request("POST", &path).bearer_auth(&ada.token).header("content-type", "application/json");
        answer(request.body(body))
    };
    assert_eq!(send(body(256 * 1024).into()).await.status, StatusCode::CREATED);
    for size in [256 * 1024 + 1, 1024 * 1024, 3 * 1024 * 1024] {
        let answer = send(body(size).into()).await;
        answer.refused(413, "PAYLOAD_TOO_LARGE");
        assert!(answer.body["message"].as_str().is_some_and(|text| text.contains("262144")));
    }
    mesh.get(&ada, "/api/rooms").await.good(200);
}
