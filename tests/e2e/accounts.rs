//! Accounts, profiles and sessions over REST: every route, every shape that the contract gives, under both prefixes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    mesh::Mesh,
    rest::{Answer, Api, PASSWORD, Person, unique},
};

/// The keys of a user as they themself see it.
const OWN_KEYS: [&str; 12] = [
    "id",
    "username",
    "email",
    "firstName",
    "lastName",
    "name",
    "bio",
    "avatarUrl",
    "preferences",
    "roles",
    "createdAt",
    "updatedAt",
];

#[track_caller]
fn check_own_user(user: &Value) {
    for key in OWN_KEYS {
        assert!(user.get(key).is_some(), "no {key} in {user}");
    }
    for key in ["createdAt", "updatedAt"] {
        check_time(&user[key]);
    }
    let id = user["id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7, "{id}");
}

/// RFC 3339 in UTC with milliseconds.
#[track_caller]
pub(crate) fn check_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[19] == b'.', "{text}");
    assert!(chrono::DateTime::parse_from_rfc3339(text).is_ok(), "{text}");
}

#[track_caller]
fn check_tokens(body: &Value) {
    assert_eq!(body["accessToken"].as_str().unwrap().split('.').count(), 3, "{body}");
    assert!(body["refreshToken"].as_str().unwrap().len() >= 20, "{body}");
    assert!(body["expiresIn"].as_i64().unwrap() > 0, "{body}");
}

fn unauthorized(answer: Answer, code: &str) {
    assert_eq!(answer.refused(401, code)["message"], "Unauthorized");
}

#[tokio::test]
async fn register_and_login_answer_as_the_contract_says_under_both_prefixes() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let username = unique("Ada");
        let email = format!("{username}@example.com");
        let account = json!({
            "username": username, "email": email, "password": PASSWORD, "firstName": "Ada", "lastName": "Lovelace",
            "somethingUnknown": [1, 2, 3],
        });
        let body = api.post("/auth/register", account.clone()).await.ok(201);
        assert_eq!(body["message"], "User created successfully");
        check_tokens(&body);
        let user = &body["user"];
        check_own_user(user);
        assert_eq!((&user["username"], &user["email"]), (&account["username"], &account["email"]));
        assert_eq!(user["name"], "Ada Lovelace");
        assert!(user["roles"].as_array().unwrap().contains(&"user".into()), "{user}");

        let again = api.post("/auth/register", account).await.refused(400, "ACCOUNT_EXISTS");
        assert_eq!(again["message"], "User with this email or username already exists");
        let folded = json!({"username": username.to_uppercase(), "email": "x@example.com", "password": PASSWORD});
        api.post("/auth/register", folded).await.refused(400, "ACCOUNT_EXISTS");
        let folded = json!({"username": unique("eve"), "email": email.to_uppercase(), "password": PASSWORD});
        api.post("/auth/register", folded).await.refused(400, "ACCOUNT_EXISTS");

        for login in [json!({"username": username}), json!({"email": email}), json!({"email": email.to_uppercase()})] {
            let mut login = login;
            login["password"] = PASSWORD.into();
            let body = api.post("/auth/login", login).await.ok(200);
            assert_eq!(body["message"], "Login successful");
            assert_eq!(body["user"]["username"], username);
            check_own_user(&body["user"]);
            check_tokens(&body);
        }
        for wrong in [
            json!({"username": username, "password": "not the password"}),
            json!({"username": unique("nobody"), "password": PASSWORD}),
        ] {
            let body = api.post("/auth/login", wrong).await.refused(401, "INVALID_CREDENTIALS");
            assert_eq!(body["message"], "Invalid credentials");
        }
    }
}

#[tokio::test]
async fn a_profile_is_read_and_changed_field_by_field_under_both_prefixes() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let body = ada.get("/auth/profile").await.ok(200);
        assert_eq!(body["message"], "User profile retrieved successfully");
        check_own_user(&body["user"]);
        assert_eq!(body["user"]["name"], ada.username);

        let change = json!({"firstName": "Ada", "preferences": {"theme": "dark", "nested": {"n": [1, 2.5, null]}}});
        let body = ada.put("/auth/profile", change.clone()).await.ok(200);
        assert_eq!(body["message"], "User profile updated successfully");
        assert_eq!(body["user"]["preferences"], change["preferences"]);
        let avatar = "https://example.com/a.png";
        let change = json!({"bio": "Engines. <b>&\u{1F680}", "avatarUrl": avatar});
        ada.put("/auth/profile", change.clone()).await.ok(200);
        let name = unique("countess");
        ada.put("/auth/profile", json!({"username": name})).await.ok(200);

        let user = ada.get("/auth/profile").await.ok(200)["user"].take();
        assert_eq!(
            (&user["firstName"], &user["bio"], &user["avatarUrl"]),
            (&"Ada".into(), &change["bio"], &avatar.into())
        );
        assert_eq!(user["preferences"]["theme"], "dark");
        assert_eq!((&user["username"], &user["name"]), (&name.clone().into(), &"Ada".into()));
        api.post("/auth/login", json!({"username": name, "password": PASSWORD})).await.ok(200);

        let other = Person::register(&api, "other").await;
        let refusal = other.put("/auth/profile", json!({"username": name.to_uppercase(), "bio": "lost"})).await;
        refusal.refused(400, "ACCOUNT_EXISTS");
        assert_eq!(other.get("/auth/profile").await.ok(200)["user"]["username"], other.username);
        let refusal = other.put("/auth/profile", json!({"bio": "x".repeat(1001)})).await.invalid("bio", "1000");
        assert_eq!(refusal["message"], "Failed to update user profile");
    }
}

#[tokio::test]
async fn people_see_of_each_other_neither_email_nor_preferences() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
        ada.put("/auth/profile", json!({"preferences": {"secret": "p"}, "bio": "b"})).await.ok(200);
        let body = bob.get(&format!("/users/{}", ada.id)).await.ok(200);
        assert_eq!((&body["user"]["username"], &body["user"]["bio"]), (&ada.username.clone().into(), &"b".into()));
        let answer = bob.get(&format!("/users?ids={},{}", ada.id, bob.id)).await;
        for text in [body.to_string(), answer.text.clone()] {
            assert!(!text.contains(&ada.email) && !text.contains("secret"), "{text}");
        }
        let body = answer.ok(200);
        let ids: Vec<_> = body["users"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [&ada.id, &bob.id]);

        let nobody = uuid::Uuid::now_v7();
        bob.get(&format!("/users/{nobody}")).await.refused(404, "USER_NOT_FOUND");
        let body = bob.get(&format!("/users?ids={},{nobody}", ada.id)).await.ok(200);
        assert_eq!(body["users"].as_array().unwrap().len(), 1);
        let many = vec![ada.id.as_str(); 101].join(",");
        bob.get(&format!("/users?ids={many}")).await.invalid("ids", "100");
        unauthorized(api.get(&format!("/users/{}", ada.id)).await, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_refresh_token_is_rotated_and_its_late_reuse_ends_the_session() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let refresh = async |token: &str| api.post("/auth/refresh", json!({"refreshToken": token})).await;
        let first = refresh(&ada.refresh).await.ok(200);
        check_tokens(&first);
        let repeated = refresh(&ada.refresh).await.ok(200);
        assert_eq!(first["refreshToken"], repeated["refreshToken"], "a lost answer is no theft");
        let next = first["refreshToken"].as_str().unwrap();
        assert_ne!(next, ada.refresh);
        let second = refresh(next).await.ok(200);
        refresh(&ada.refresh).await.refused(401, "TOKEN_REVOKED");
        refresh(second["refreshToken"].as_str().unwrap()).await.refused(401, "TOKEN_REVOKED");
        refresh("nonsense").await.refused(401, "TOKEN_INVALID");
    }
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one_or_all_others() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let (phone, tablet) = (ada.login().await, ada.login().await);
        let body = ada.get("/auth/sessions").await.ok(200);
        let sessions = body["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 3, "{body}");
        for session in sessions {
            for key in ["id", "device", "ipAddress", "current"] {
                assert!(session.get(key).is_some(), "no {key} in {session}");
            }
            ["createdAt", "lastUsedAt", "expiresAt"].iter().for_each(|key| check_time(&session[*key]));
        }
        assert_eq!(sessions.iter().filter(|session| session["current"] == true).count(), 1);
        let own = |body: &Value| {
            let sessions = body["sessions"].as_array().unwrap();
            let current = sessions.iter().find(|session| session["current"] == true).unwrap();
            current["id"].as_str().unwrap().to_owned()
        };
        let id = own(&phone.get("/auth/sessions").await.ok(200));
        ada.delete(&format!("/auth/sessions/{id}")).await.ok(200);
        until_refused(&phone).await;
        ada.delete("/auth/sessions").await.ok(200);
        until_refused(&tablet).await;
        let body = ada.get("/auth/sessions").await.ok(200);
        assert_eq!(body["sessions"].as_array().unwrap().len(), 1, "{body}");
        ada.delete(&format!("/auth/sessions/{}", uuid::Uuid::now_v7())).await.refused(404, "SESSION_NOT_FOUND");
        let eve = Person::register(&api, "eve").await;
        let id = own(&ada.get("/auth/sessions").await.ok(200));
        eve.delete(&format!("/auth/sessions/{id}")).await.refused(404, "SESSION_NOT_FOUND");
        ada.get("/auth/profile").await.ok(200);
    }
}

/// Waits until a revocation has been felt.
async fn until_refused(person: &Person) {
    let answer = crate::wait::until("the revocation", async || {
        let answer = person.get("/auth/profile").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    unauthorized(answer, "TOKEN_REVOKED");
}

#[tokio::test]
async fn a_new_password_ends_every_other_session_and_no_more() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let phone = ada.login().await;
        let change = |current: &str, new: &str| json!({"currentPassword": current, "newPassword": new});
        ada.put("/auth/password", change("not the password", "another good one"))
            .await
            .refused(401, "INVALID_CREDENTIALS");
        ada.put("/auth/password", change(PASSWORD, "short")).await.invalid("newPassword", "8");
        phone.get("/auth/profile").await.ok(200);
        ada.put("/auth/password", change(PASSWORD, "another good one")).await.ok(200);
        until_refused(&phone).await;
        ada.get("/auth/profile").await.ok(200);
        let login = |password: &str| json!({"email": ada.email, "password": password});
        api.post("/auth/login", login(PASSWORD)).await.refused(401, "INVALID_CREDENTIALS");
        api.post("/auth/login", login("another good one")).await.ok(200);
    }
}

#[tokio::test]
async fn what_needs_a_bearer_refuses_a_call_without_one() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let id = uuid::Uuid::new_v4();
        for (method, path) in [
            (Method::POST, "/auth/logout".to_owned()),
            (Method::GET, "/auth/ws-token".into()),
            (Method::GET, "/auth/profile".into()),
            (Method::PUT, "/auth/profile".into()),
            (Method::PUT, "/auth/password".into()),
            (Method::GET, "/auth/sessions".into()),
            (Method::DELETE, "/auth/sessions".into()),
            (Method::DELETE, format!("/auth/sessions/{id}")),
            (Method::GET, format!("/users?ids={id}")),
            (Method::GET, "/rooms".into()),
            (Method::POST, "/rooms".into()),
            (Method::GET, "/rooms/public".into()),
            (Method::POST, "/rooms/direct".into()),
            (Method::GET, format!("/rooms/{id}")),
            (Method::PATCH, format!("/rooms/{id}")),
            (Method::DELETE, format!("/rooms/{id}")),
            (Method::POST, format!("/rooms/{id}/join")),
            (Method::POST, format!("/rooms/{id}/leave")),
            (Method::GET, format!("/rooms/{id}/members")),
            (Method::POST, format!("/rooms/{id}/members")),
            (Method::DELETE, format!("/rooms/{id}/members/{id}")),
            (Method::GET, format!("/rooms/{id}/messages")),
            (Method::POST, format!("/rooms/{id}/messages")),
        ] {
            let body = (method != Method::GET).then(|| json!({}));
            let answer = api.call(method.clone(), &path, None, body).await;
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
            unauthorized(answer, "UNAUTHORIZED");
        }
    }
}

#[tokio::test]
async fn the_public_keys_verify_an_access_token_that_says_whose_it_is() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let answer = Answer::read(ada.api.outside(Method::GET, "/.well-known/jwks.json")).await.unwrap();
    assert_eq!(answer.status, 200);
    let header = jsonwebtoken::decode_header(&ada.access).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let keys = answer.body["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"].as_str() == header.kid.as_deref()).expect("the token's key");
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&"OKP".into(), &"Ed25519".into(), &"EdDSA".into()));
    assert!(key.get("d").is_none(), "the private part is published");
    let key = jsonwebtoken::DecodingKey::from_ed_components(key["x"].as_str().unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    rules.set_audience(&["switchboard"]);
    let claims = jsonwebtoken::decode::<Value>(&ada.access, &key, &rules).unwrap().claims;
    assert_eq!(claims["sub"], ada.id);
    for claim in ["iss", "aud", "sid", "roles", "iat", "nbf", "exp", "jti"] {
        assert!(claims.get(claim).is_some(), "no {claim} in {claims}");
    }
}
