//! Accounts, sessions, profiles.

use serde_json::{Value, json};

use crate::fixture::{Answer, Mesh, PASSWORD, Person, answer, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn registering_logging_in_and_out_answer_as_the_contract_says() {
    let mesh = Mesh::start().await;
    mesh.person("first").await;
    let new = json!({"username": "Ada", "email": "ada@example.com", "password": PASSWORD, "firstName": "Ada",
        "lastName": "Lovelace", "unknown": 1});
    let registered = mesh.call("POST", "/api/auth/register", &new).await;
    registered.good(201).says("User created successfully");
    let user = &registered.body["user"];
    assert_eq!(
        (&user["username"], &user["email"], &user["name"]),
        (&json!("Ada"), &json!("ada@example.com"), &json!("Ada Lovelace"))
    );
    assert_eq!(
        (&user["bio"], &user["avatarUrl"], &user["preferences"], &user["roles"]),
        (&json!(""), &json!(""), &json!({}), &json!(["user"]))
    );
    let keys = |value: &Value| value.as_object().expect("object").keys().cloned().collect::<Vec<_>>();
    let mut expected = [
        "id",
        "username",
        "email",
        "emailVerified",
        "firstName",
        "lastName",
        "name",
        "bio",
        "avatarUrl",
        "preferences",
        "roles",
        "createdAt",
        "updatedAt",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut found = keys(user);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(registered.headers["cache-control"], "no-store");

    let again = json!({"username": "ADA", "email": "other@example.com", "password": PASSWORD});
    let taken = mesh.call("POST", "/api/v1/auth/register", &again).await;
    taken.refused(400, "ACCOUNT_EXISTS").says("User with this email or username already exists");

    for login in
        [json!({"email": "ADA@example.com", "password": PASSWORD}), json!({"username": "ada", "password": PASSWORD})]
    {
        let answer = mesh.call("POST", "/api/auth/login", &login).await;
        answer.good(200).says("Login successful");
        assert_eq!(answer.body["user"]["id"], user["id"]);
        assert!(answer.body["expiresIn"].as_i64().is_some_and(|secs| secs > 0));
    }
    for login in [
        json!({"email": "ada@example.com", "password": "wrong horse"}),
        json!({"username": "nobody", "password": PASSWORD}),
    ] {
        mesh.call("POST", "/api/auth/login", &login)
            .await
            .refused(401, "INVALID_CREDENTIALS")
            .says("Invalid credentials");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_logging_out_the_token_is_refused_at_once() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let out = mesh.by(&ada, "POST", "/api/auth/logout", &Value::Null).await;
    out.good(200).says("Logged out successfully");
    mesh.get(&ada, "/api/auth/profile").await.refused(401, "TOKEN_REVOKED").says("Unauthorized");
    mesh.by(&ada, "POST", "/api/auth/logout", &Value::Null).await.refused(401, "TOKEN_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_that_is_missing_or_garbage_is_unauthorized() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let profile = || mesh.request("GET", "/api/auth/profile");
    let missing = answer(profile()).await;
    missing.refused(401, "UNAUTHORIZED").says("Unauthorized");
    assert_eq!(missing.headers["www-authenticate"], "Bearer");
    let payload = ada.token.split('.').nth(1).expect("payload");
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{payload}.");
    for bad in
        ["Bearer x", "Bearer ", "Basic YTpi", "garbage", &format!("Bearer {none}"), &format!("Bearer {}x", ada.token)]
    {
        let answer = answer(profile().header("authorization", bad)).await;
        answer.refused(401, "TOKEN_INVALID").says("Unauthorized");
    }
    let odd = answer(profile().header("authorization", &b"Bearer \xff\xfe"[..])).await;
    odd.refused(401, "TOKEN_INVALID");
    // The scheme's name has no case.
    assert_eq!(answer(profile().header("authorization", format!("bearer {}", ada.token))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_gives_the_same_successor_until_that_is_used() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let refresh = async |token: &str| mesh.call("POST", "/api/auth/refresh", &json!({"refreshToken": token})).await;
    let first = refresh(&ada.refresh_token).await;
    first.good(200);
    let again = refresh(&ada.refresh_token).await;
    assert_eq!(first.body["refreshToken"], again.body["refreshToken"]);
    let ada = Person { token: first.body["accessToken"].as_str().expect("token").into(), ..ada };
    assert_eq!(mesh.get(&ada, "/api/auth/profile").await.status, 200);
    refresh("garbage").await.refused(401, "TOKEN_INVALID").says("Unauthorized");
    assert_eq!(
        mesh.call("POST", "/api/auth/refresh", &json!({})).await.refused(400, "VALIDATION_FAILED").fields(),
        ["refreshToken"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_changed_in_the_fields_that_are_given() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let put = async |body: Value| mesh.by(&ada, "PUT", "/api/auth/profile", &body).await;
    let all = json!({"username": "countess", "firstName": "Ada", "lastName": "Lovelace", "bio": "Notes",
        "avatarUrl": "https://example.com/a.png", "preferences": {"theme": {"dark": true}, "n": 1}});
    let changed = put(all.clone()).await;
    changed.good(200).says("User profile updated successfully");
    for (field, value) in all.as_object().expect("object") {
        assert_eq!(&changed.body["user"][field], value, "{field}");
    }
    let changed = put(json!({"bio": null, "lastName": "King"})).await;
    assert_eq!((&changed.body["user"]["bio"], &changed.body["user"]["name"]), (&json!(""), &json!("Ada King")));
    let profile = mesh.get(&ada, "/api/auth/profile").await;
    profile.good(200).says("User profile retrieved successfully");
    assert_eq!(profile.body["user"], changed.body["user"]);
    put(json!({})).await.good(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_field_of_a_profile_changes_nothing() {
    let mesh = Mesh::start().await;
    let (ada, _eve) = (mesh.person("ada").await, mesh.person("eve").await);
    let before = mesh.get(&ada, "/api/auth/profile").await.body["user"].clone();
    let put = async |body: Value| mesh.by(&ada, "PUT", "/api/auth/profile", &body).await;
    let long = "x".repeat(1_001);
    for (body, code, fields) in [
        (json!({"username": "x", "bio": long, "firstName": "New"}), "VALIDATION_FAILED", &["username", "bio"][..]),
        (json!({"username": "good", "bio": long}), "VALIDATION_FAILED", &["bio"]),
        (json!({"username": "!!", "bio": "good"}), "VALIDATION_FAILED", &["username"]),
        (json!({"username": "EVE", "bio": "good"}), "ACCOUNT_EXISTS", &["username"]),
        (json!({"username": "EVE"}), "ACCOUNT_EXISTS", &["username"]),
        (json!({"username": null, "avatarUrl": "javascript:1"}), "VALIDATION_FAILED", &["username", "avatarUrl"]),
        (
            json!({"bio": 1, "preferences": [], "firstName": "a\u{0}b"}),
            "VALIDATION_FAILED",
            &["firstName", "bio", "preferences"],
        ),
    ] {
        let answer = put(body.clone()).await;
        answer.refused(400, code).says("Failed to update user profile");
        assert_eq!(answer.fields(), fields, "{body}");
    }
    assert_eq!(mesh.get(&ada, "/api/auth/profile").await.body["user"], before);
    answer(mesh.request("PUT", "/api/auth/profile").json(&json!({}))).await.refused(401, "UNAUTHORIZED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_every_other_session() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let login = json!({"username": "ada", "password": PASSWORD});
    let other = mesh.call("POST", "/api/auth/login", &login).await;
    let other = Person { token: other.body["accessToken"].as_str().expect("token").into(), ..ada.clone() };
    let put = async |body: Value| mesh.by(&ada, "PUT", "/api/auth/password", &body).await;
    put(json!({"currentPassword": "wrong horse", "newPassword": "battery staple"}))
        .await
        .refused(401, "INVALID_CREDENTIALS");
    let short = put(json!({"currentPassword": PASSWORD, "newPassword": "short"})).await;
    assert_eq!(short.refused(400, "VALIDATION_FAILED").fields(), ["newPassword"]);
    assert_eq!(mesh.get(&other, "/api/auth/profile").await.status, 200);
    put(json!({"currentPassword": PASSWORD, "newPassword": "battery staple"})).await.good(200);
    assert_eq!(mesh.get(&ada, "/api/auth/profile").await.status, 200);
    eventually(async || (mesh.get(&other, "/api/auth/profile").await.status == 401).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_ended() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let login = mesh.request("POST", "/api/auth/login").header("user-agent", "a telephone");
    answer(login.json(&json!({"username": "ada", "password": PASSWORD}))).await.good(200);
    let list = mesh.get(&ada, "/api/auth/sessions").await;
    let sessions = list.good(200).body["sessions"].as_array().expect("list").clone();
    assert_eq!(sessions.len(), 2);
    let other = sessions.iter().find(|session| session["current"] == false).expect("the other");
    assert_eq!((&other["device"], &other["ipAddress"]), (&json!("a telephone"), &json!("127.0.0.1")));
    let path = format!("/api/auth/sessions/{}", other["id"].as_str().expect("id"));
    let end = async |path: &str| mesh.by(&ada, "DELETE", path, &Value::Null).await;
    end(&path).await.good(200);
    assert_eq!(mesh.get(&ada, "/api/auth/sessions").await.body["sessions"].as_array().map(Vec::len), Some(1));
    for missing in ["/api/auth/sessions/x", "/api/auth/sessions/00000000-0000-7000-8000-000000000000"] {
        end(missing).await.refused(404, "SESSION_NOT_FOUND");
    }
    end("/api/auth/sessions").await.good(200);
    assert_eq!(mesh.get(&ada, "/api/auth/profile").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_seen_without_email_and_preferences() {
    let mesh = Mesh::start().await;
    let (ada, eve) = (mesh.person("ada").await, mesh.person("eve").await);
    let seen = mesh.get(&eve, &format!("/api/users/{}", ada.id)).await;
    let user = &seen.good(200).body["user"];
    assert_eq!(user["username"], "ada");
    assert!(user.get("email").is_none() && user.get("preferences").is_none());
    for missing in ["x", "00000000-0000-7000-8000-000000000000", "%00", "%ff"] {
        let answer = mesh.get(&eve, &format!("/api/users/{missing}")).await;
        assert_eq!(answer.status, 404, "{missing} {answer:?}");
    }
    let ids = format!("/api/users?ids={},nobody,{}", eve.id, ada.id);
    let names = |answer: &Answer| {
        let users = answer.body["users"].as_array().expect("list").clone();
        users.iter().map(|user| user["username"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(mesh.get(&eve, &ids).await.good(200)), ["eve", "ada"]);
    assert_eq!(names(mesh.get(&eve, "/api/users?ids=nobody").await.good(200)), [""; 0]);
    assert_eq!(mesh.get(&eve, "/api/users").await.refused(400, "VALIDATION_FAILED").fields(), ["ids"]);
    let many = format!("/api/users?ids={}", vec!["x"; 101].join(","));
    let many = mesh.get(&eve, &many).await;
    assert_eq!(many.refused(400, "VALIDATION_FAILED").fields(), ["ids"]);
    assert!(many.body["errors"][0]["message"].as_str().is_some_and(|text| text.contains("100")));
}
