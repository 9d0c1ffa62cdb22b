//! What is held about a person, and the end of it: the document of an account, disabling, deleting and taking it back, and an
//! account that is erased in every service although one of them was away.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    mesh::{Mesh, Part},
    rest::{Api, PASSWORD, Person},
    security::{operator, promoted},
    wait,
};

/// Waits until an access token is good no more.
async fn logged_out(person: &Person) {
    wait::until("the session has ended", async || (person.get("/rooms").await.status == 401).then_some(())).await;
}

#[tokio::test]
async fn what_is_held_about_somebody_is_given_to_them_as_one_document_without_a_secret() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    let bob = Person::register(&api, "bob").await;
    ada.put("/auth/profile", json!({"bio": "Notes", "preferences": {"theme": "dark"}})).await.ok(200);
    let (stayed, left) = (ada.room("private").await, bob.room("public").await);
    ada.join(&left).await;
    // More than a page of them.
    for n in 0..105 {
        ada.send(&left, &format!("message {n}")).await;
    }
    bob.send(&left, "another's").await;
    ada.send(&stayed, "to myself").await;
    ada.call(Method::POST, &format!("/rooms/{left}/leave"), None).await.ok(200);
    let phone = ada.login().await;

    let answer = phone.get("/auth/account/export").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let document: Value = serde_json::from_str(&answer.text).expect("JSON");
    assert_eq!(document["format"], "switchboard-account-1");
    assert_eq!((&document["account"]["id"], &document["account"]["email"]), (&json!(ada.id), &json!(ada.email)));
    assert_eq!(
        (&document["profile"]["bio"], &document["profile"]["preferences"]["theme"]),
        (&json!("Notes"), &json!("dark"))
    );
    assert_eq!(document["factors"]["authenticatorSince"], Value::Null);
    let list = |name: &str| document[name].as_array().unwrap_or_else(|| panic!("no {name}")).clone();
    assert_eq!(list("sessions").len(), 2);
    assert_eq!(list("sessions").iter().filter(|session| session["current"] == true).count(), 1);
    let events: Vec<_> = list("events").iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    for event in ["account.registered", "login.registered", "login.password", "account.exported"] {
        assert!(events.iter().any(|it| it == event), "{event} is not among {events:?}");
    }
    assert_eq!(list("rooms").iter().map(|room| room["id"].clone()).collect::<Vec<_>>(), [json!(stayed)]);
    let mut said: Vec<_> = list("messages").iter().map(|it| it["content"].as_str().unwrap().to_owned()).collect();
    said.sort();
    let mut expected: Vec<_> = (0..105).map(|n| format!("message {n}")).chain(["to myself".to_owned()]).collect();
    expected.sort();
    assert_eq!(said, expected, "also in a room that was left");
    assert_eq!(list("rememberedDevices").len(), 0);
    for secret in [PASSWORD, "argon2", &ada.access, &ada.refresh, &phone.access, &phone.refresh, "hash", "Token"] {
        assert!(!answer.text.contains(secret), "the document has {secret}");
    }
    api.get("/auth/account/export").await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_login_within_the_grace_takes_a_deletion_back_and_says_so() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    let phone = ada.login().await;
    let mut socket = phone.socket().await;
    let body = ada.delete("/auth/account").await.ok(200);
    crate::accounts::check_time(&body["eraseAt"]);
    let ended = socket.ended().await;
    assert!(ended.iter().any(|event| event.name == "session_ended"), "its sockets are closed");
    logged_out(&ada).await;
    logged_out(&phone).await;
    api.post("/auth/refresh", json!({"refreshToken": phone.refresh})).await.refused(401, "TOKEN_REVOKED");
    let taken = json!({"username": ada.username, "email": "other@example.com", "password": PASSWORD});
    api.post("/auth/register", taken).await.refused(400, "ACCOUNT_EXISTS");
    let wrong = json!({"username": ada.username, "password": "not the password"});
    api.post("/auth/login", wrong).await.refused(401, "INVALID_CREDENTIALS");
    let login = json!({"username": ada.username, "password": PASSWORD});
    let body = api.post("/auth/login", login.clone()).await.ok(200);
    assert_eq!(body["deletionCancelled"], true, "{body}");
    let ada = Person::from_answer(&api, &body);
    assert_eq!(api.post("/auth/login", login).await.ok(200).get("deletionCancelled"), None, "once");
    ada.get("/rooms").await.ok(200);
}

#[tokio::test]
async fn an_admin_disables_deletes_and_enables_accounts_and_ends_their_sessions() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let admin = promoted(&mesh, &Person::register(&api, "root").await, "admin").await;
    let ada = Person::register(&api, "ada").await;
    let path = |rest: &str| format!("/admin/users/{}{rest}", ada.id);
    for (method, rest) in
        [(Method::POST, "/disable"), (Method::POST, "/enable"), (Method::DELETE, ""), (Method::DELETE, "/sessions")]
    {
        ada.call(method.clone(), &path(rest), None).await.refused(403, "FORBIDDEN");
        let nobody = format!("/admin/users/{}{rest}", uuid::Uuid::now_v7());
        admin.call(method, &nobody, None).await.refused(404, "USER_NOT_FOUND");
    }
    ada.delete("/admin/sessions").await.refused(403, "FORBIDDEN");
    let login = json!({"username": ada.username, "password": PASSWORD});

    assert_eq!(admin.delete(&path("/sessions")).await.ok(200)["endedSessions"], 1);
    logged_out(&ada).await;
    let again = ada.login().await;

    let body = admin.call(Method::POST, &path("/disable"), None).await.ok(200);
    crate::accounts::check_time(&body["user"]["disabledAt"]);
    logged_out(&again).await;
    api.post("/auth/refresh", json!({"refreshToken": again.refresh})).await.refused(401, "TOKEN_REVOKED");
    api.post("/auth/login", login.clone()).await.refused(403, "ACCOUNT_DISABLED");
    let wrong = json!({"username": ada.username, "password": "not the password"});
    api.post("/auth/login", wrong).await.refused(401, "INVALID_CREDENTIALS");
    let body = admin.call(Method::POST, &path("/enable"), None).await.ok(200);
    assert_eq!(body["user"].get("disabledAt"), None, "{body}");
    let again = ada.login().await;

    let body = admin.delete(&path("")).await.ok(200);
    logged_out(&again).await;
    api.post("/auth/login", login.clone()).await.refused(403, "ACCOUNT_DISABLED");
    let found = admin.get(&format!("/admin/users?name={}", ada.id)).await.ok(200);
    assert_eq!(found["eraseAt"], body["eraseAt"]);
    admin.call(Method::POST, &path("/enable"), None).await.ok(200);
    ada.login().await;
    let found = admin.get(&format!("/admin/users?name={}", ada.id)).await.ok(200);
    assert_eq!(found.get("eraseAt"), None, "{found}");

    // Not themselves: there might be no admin left.
    let own = format!("/admin/users/{}", admin.id);
    admin.delete(&own).await.invalid("userId", "own");
    admin.call(Method::POST, &format!("{own}/disable"), None).await.invalid("userId", "own");
    admin.delete("/auth/account").await.refused(409, "CONFLICT");

    let told = operator(&mesh, &["users", "delete", &ada.username]).await;
    assert!(told.contains("erased"), "{told}");
    api.post("/auth/login", login).await.refused(403, "ACCOUNT_DISABLED");
}

#[tokio::test]
async fn an_account_is_erased_in_every_service_also_when_one_was_away_and_others_started_again() {
    let mesh =
        Mesh::plan().separate().set("auth.deletion_grace_days", 0).set("auth.deletion_messages", "blank").start();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let admin = promoted(&mesh, &Person::register(&api, "root").await, "admin").await;
    let (open, left) = (ada.room("public").await, bob.room("public").await);
    bob.join(&open).await;
    ada.join(&left).await;
    let direct =
        ada.post("/rooms/direct", json!({"userId": bob.id})).await.ok(201)["room"]["id"].as_str().unwrap().to_owned();
    for room in [&open, &left, &direct] {
        ada.send(room, "a word of ada's").await;
        bob.send(room, "a word of bob's").await;
    }
    ada.call(Method::POST, &format!("/rooms/{left}/leave"), None).await.ok(200);
    let before = bob.history(&left).await;

    mesh.stop(Part::Message);
    ada.delete("/auth/account").await.ok(200);
    wait::until("the profile is gone", async || {
        (bob.get(&format!("/users/{}", ada.id)).await.status == 404).then_some(())
    })
    .await;
    // In the middle of it, and not in order.
    mesh.kill(Part::Auth);
    mesh.start(Part::Auth);
    mesh.start(Part::Message);
    let history = wait::until("the messages are blank", async || {
        let history = bob.history(&left).await;
        let theirs = history.iter().find(|message| message["userId"] == json!(ada.id))?;
        (theirs["content"] == "").then_some(history)
    })
    .await;
    let place = |message: &Value| [&message["id"], &message["seq"], &message["createdAt"]].map(Clone::clone);
    assert!(before.iter().map(place).eq(history.iter().map(place)), "ids, places and times stay");
    for room in [&open, &left, &direct] {
        let history = wait::until("the messages are blank in every room", async || {
            let history = bob.history(room).await;
            history.iter().all(|message| message["content"] != "a word of ada's").then_some(history)
        })
        .await;
        let said: Vec<_> =
            history.iter().map(|it| (it["username"].as_str().unwrap(), it["content"].as_str().unwrap())).collect();
        assert_eq!(said, [("deleted user", ""), (bob.username.as_str(), "a word of bob's")]);
    }
    let members = bob.get(&format!("/rooms/{open}/members")).await.ok(200);
    let members = members["members"].as_array().unwrap();
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!((&members[0]["userId"], &members[0]["role"]), (&json!(bob.id), &json!("owner")));
    assert_eq!(bob.get(&format!("/rooms/{direct}")).await.ok(200)["room"]["memberCount"], 1);

    // What the audit log has of them tells who they were no more.
    let log = admin.get(&format!("/admin/audit?subjectId={}&pageSize=100", ada.id)).await;
    let events = log.body["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["event"] == "account.erased"), "{events:?}");
    for event in events {
        for field in ["ipAddress", "device", "place", "detail"] {
            assert_eq!(event[field], "", "{event}");
        }
    }
    assert!(!log.text.contains(&ada.username) && !log.text.contains(&ada.email));
    // Their names are free, and whoever has them now is somebody else.
    let body = json!({"username": ada.username, "email": ada.email, "password": PASSWORD});
    let other = Person::from_answer(&api, &api.post("/auth/register", body).await.ok(201));
    assert_ne!(other.id, ada.id);
    assert_eq!(bob.history(&left).await, history);
    admin.get(&format!("/admin/users?name={}", ada.id)).await.refused(404, "USER_NOT_FOUND");
}
