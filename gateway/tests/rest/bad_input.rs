//! What clients do wrong: every fault is named, and the process serves on.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{Mesh, answer};

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let room = format!("/api/rooms/{}", mesh.room(&ada, "private").await);
    let messages = format!("{room}/messages");
    let text = |count: usize| "é".repeat(count);
    let deep = (0..20).fold(json!(1), |inner, _| json!({"a": inner}));
    let table: Vec<(&str, &str, Value, &[&str])> = vec![
        ("POST", "/api/auth/register", json!({}), &["username", "email", "password"]),
        (
            "POST",
            "/api/auth/register",
            json!({"username": 1, "email": [], "password": {}, "firstName": true}),
            &["username", "email", "password", "firstName"],
        ),
        (
            "POST",
            "/api/auth/register",
            json!({"username": "x", "email": "x", "password": "x"}),
            &["username", "email", "password"],
        ),
        (
            "POST",
            "/api/auth/register",
            json!({"username": "a\u{0}b", "email": "a@b.example", "password": "long enough"}),
            &["username"],
        ),
        (
            "POST",
            "/api/auth/register",
            json!({"username": "   ", "email": "a@b.example", "password": "long enough"}),
            &["username"],
        ),
        (
            "POST",
            "/api/auth/register",
            json!({"username": "good", "email": "a@b.example", "password": text(129), "firstName": text(101)}),
            &["password", "first_name"],
        ),
        ("POST", "/api/auth/login", json!({}), &["email", "password"]),
        ("POST", "/api/auth/login", json!({"email": null, "password": "x"}), &["email"]),
        ("POST", "/api/auth/login", json!({"username": 1, "password": "x"}), &["username"]),
        ("POST", "/api/auth/refresh", json!({"refreshToken": 1}), &["refreshToken"]),
        ("PUT", "/api/auth/password", json!({"currentPassword": null}), &["currentPassword", "newPassword"]),
        ("POST", "/api/rooms", json!({}), &["roomType", "name"]),
        ("POST", "/api/rooms", json!({"name": "  ", "roomType": "public"}), &["name"]),
        ("POST", "/api/rooms", json!({"name": "a\nb", "roomType": "public"}), &["name"]),
        (
            "POST",
            "/api/rooms",
            json!({"name": "😀".repeat(1_000), "roomType": "public", "description": text(1_001)}),
            &["name", "description"],
        ),
        ("POST", "/api/rooms", json!({"name": "x", "roomType": "direct"}), &["roomType"]),
        ("POST", "/api/rooms", json!({"name": "x", "roomType": 1, "description": 1}), &["roomType", "description"]),
        ("POST", "/api/rooms/direct", json!({}), &["userId"]),
        ("PATCH", &room, json!({}), &["body"]),
        ("PATCH", &room, json!({"name": null}), &["name"]),
        ("PATCH", &room, json!({"name": text(101)}), &["name"]),
        ("POST", &messages, json!({}), &["content"]),
        ("POST", &messages, json!({"content": " \n "}), &["content"]),
        ("POST", &messages, json!({"content": text(8_001)}), &["content"]),
        (
            "POST",
            &messages,
            json!({"content": "x", "messageType": "no blanks", "clientMessageId": text(2), "metadata": deep}),
            &["messageType", "metadata", "clientMessageId"],
        ),
        ("POST", &messages, json!({"content": "x", "clientMessageId": ""}), &["clientMessageId"]),
        ("POST", &messages, json!({"content": "x", "metadata": {"a": "b".repeat(9_000)}}), &["metadata"]),
        ("POST", &messages, json!({"content": "x", "metadata": {"a": ["\u{0}"]}}), &["metadata"]),
        (
            "POST",
            &messages,
            json!({"content": ["x"], "metadata": "x", "messageType": 1, "clientMessageId": 1}),
            &["clientMessageId", "content", "messageType", "metadata"],
        ),
        ("POST", &messages, json!([1]), &["body"]),
        ("POST", &messages, json!("text"), &["body"]),
    ];
    for (method, path, body, fields) in table {
        let answer = mesh.by(&ada, method, path, &body).await;
        let mut found = answer.refused(400, "VALIDATION_FAILED").fields();
        let mut fields: Vec<_> =
            fields.iter().map(|field| if *field == "first_name" { "firstName" } else { field }).collect();
        (found.sort_unstable(), fields.sort_unstable());
        assert_eq!(found, fields, "{method} {path} {body:.200} {answer:?}");
    }
    assert_eq!(mesh.get(&ada, &messages).await.body["pagination"]["totalItems"], 0);
    assert_eq!(mesh.get(&ada, "/api/rooms").await.body["rooms"].as_array().map(Vec::len), Some(1));
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
