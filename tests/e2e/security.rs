//! What a security team asks for: who did what to whom and from where, who may read it, and that sensitive calls want a
//! proof that is fresh.

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{
    mesh::{Mesh, Ports},
    process,
    rest::{Answer, Api, PASSWORD, Person},
    wait,
};

/// What a command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Gives somebody a role at the command line, and the session after it.
async fn promoted(mesh: &Mesh, person: &Person, role: &str) -> Person {
    let environment = [("SWITCHBOARD_DATA".to_owned(), mesh.data().display().to_string())];
    let environment = Ports::free().environment().into_iter().chain(environment).chain(mesh.stores.environment());
    let mut command = process::command("switchboard", environment);
    command.args(["users", "promote", &person.username, role]);
    let (code, told) = tokio::task::spawn_blocking(|| process::run_to_end(command, LIMIT)).await.unwrap();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&person.username) && told.contains(role), "{told}");
    let body = person.api.post("/auth/refresh", json!({"refreshToken": person.refresh})).await.ok(200);
    let access = body["accessToken"].as_str().unwrap().to_owned();
    let refresh = body["refreshToken"].as_str().unwrap().to_owned();
    Person { access, refresh, ..person.clone() }
}

fn events(body: &Value, list: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = body[list].as_array().unwrap_or_else(|| panic!("no {list}: {body}"));
    list.iter().map(|entry| (text(&entry["event"]), text(&entry["result"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(event, result)| ((*event).to_owned(), (*result).to_owned())).collect()
}

#[tokio::test]
async fn people_see_their_logins_and_those_that_failed_and_nobody_elses() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    let bob = Person::register(&api, "bob").await;
    let wrong = json!({"username": ada.username, "password": "not the password"});
    api.post("/auth/login", wrong).await.refused(401, "INVALID_CREDENTIALS");
    let login = json!({"username": ada.username, "password": PASSWORD, "deviceName": "Ada's phone"});
    let request = api.request(Method::POST, "/auth/login", None).header(header::USER_AGENT, "Browser/1.0");
    let phone = Person::from_answer(&api, &Answer::read(request.json(&login)).await.unwrap().ok(200));
    let body = ada.get("/auth/history").await.ok(200);
    let expected =
        pairs(&[("login.password", "success"), ("login.password", "failure"), ("login.registered", "success")]);
    assert_eq!(events(&body, "logins"), expected);
    let newest = &body["logins"][0];
    assert_eq!((&newest["device"], &newest["ipAddress"]), (&json!("Ada's phone"), &json!("127.0.0.1")));
    crate::accounts::check_time(&newest["time"]);
    assert_eq!(body["logins"][1]["sessionId"], "", "{body}");
    let sessions = phone.get("/auth/sessions").await.ok(200);
    let current = sessions["sessions"].as_array().unwrap().iter().find(|one| one["current"] == true).unwrap().clone();
    assert_eq!((&current["id"], &current["device"]), (&newest["sessionId"], &json!("Ada's phone")));
    let first = ada.get("/auth/history?pageSize=2").await.ok(200);
    let token = first["nextPageToken"].as_str().unwrap();
    let rest = ada.get(&format!("/auth/history?pageSize=2&pageToken={token}")).await.ok(200);
    assert_eq!(events(&rest, "logins"), pairs(&[("login.registered", "success")]));
    assert_eq!(rest["nextPageToken"], "");
    assert_eq!(events(&bob.get("/auth/history").await.ok(200), "logins").len(), 1);
    ada.get("/auth/history?pageSize=101").await.invalid("pageSize", "100");
    ada.get("/auth/history?pageToken=x").await.refused(400, "VALIDATION_FAILED");
    api.get("/auth/history").await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_from_where_and_is_for_admins_alone() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    for path in ["/admin/audit", "/admin/audit/export", "/admin/users?name=ada"] {
        ada.get(path).await.refused(403, "FORBIDDEN");
        api.get(path).await.refused(401, "UNAUTHORIZED");
    }
    let admin = promoted(&mesh, &Person::register(&api, "root").await, "admin").await;
    let request = api.request(Method::PUT, "/auth/password", Some(&ada.access)).header("x-request-id", "audit-test-1");
    let change = json!({"currentPassword": PASSWORD, "newPassword": "another good password"});
    Answer::read(request.json(&change)).await.unwrap().ok(200);
    ada.put("/auth/profile", json!({"username": crate::rest::unique("countess")})).await.ok(200);
    ada.call(Method::POST, "/auth/logout", None).await.ok(200);

    let body = admin.get(&format!("/admin/audit?subjectId={}", ada.id)).await.ok(200);
    let expected = [
        ("session.logout", "success"),
        ("account.renamed", "success"),
        ("password.changed", "success"),
        ("login.registered", "success"),
        ("account.registered", "success"),
    ];
    let mut told = events(&body, "events");
    // The two of a registration are of the same moment.
    told[3..].sort_by(|a, b| b.cmp(a));
    assert_eq!(told, pairs(&expected));
    let changed = &body["events"][2];
    assert_eq!((&changed["actorKind"], &changed["actor"]), (&json!("user"), &json!(ada.id)));
    assert_eq!((&changed["requestId"], &changed["ipAddress"]), (&json!("audit-test-1"), &json!("127.0.0.1")));

    let filter = |filter: &str| format!("/admin/audit?subjectId={}&{filter}", ada.id);
    assert_eq!(events(&admin.get(&filter("event=login")).await.ok(200), "events").len(), 1);
    assert_eq!(events(&admin.get(&filter("result=failure")).await.ok(200), "events").len(), 0);
    assert_eq!(events(&admin.get(&filter("until=2020-01-01T00:00:00Z")).await.ok(200), "events").len(), 0);
    let page = admin.get(&filter("pageSize=2")).await.ok(200);
    let next = filter(&format!("pageToken={}", page["nextPageToken"].as_str().unwrap()));
    assert_eq!(events(&admin.get(&next).await.ok(200), "events").len(), 3);
    for (bad, field) in [("event=nothing", "event"), ("result=maybe", "result"), ("since=yesterday", "since")] {
        let body = admin.get(&filter(bad)).await.refused(400, "VALIDATION_FAILED");
        assert!(body["errors"][0]["field"].as_str().unwrap().contains(field), "{body}");
    }

    let export = format!("/admin/audit/export?subjectId={}", ada.id);
    let answer = admin.get(&export).await;
    assert_eq!((answer.status, &answer.headers["content-type"]), (200, &"application/x-ndjson".parse().unwrap()));
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), expected.len(), "{}", answer.text);
    assert_eq!(lines[2], body["events"][2]);
    let own = admin.get(&format!("/admin/audit?actor={}&event=audit", admin.id)).await.ok(200);
    assert_eq!(events(&own, "events"), pairs(&[("audit.exported", "success")]), "reading it is written too");
    let promotion = admin.get(&format!("/admin/audit?subjectId={}&event=role", admin.id)).await.ok(200);
    assert_eq!(promotion["events"][0]["actorKind"], "operator", "{promotion}");
}

#[tokio::test]
async fn an_admin_gives_roles_and_who_loses_one_loses_their_sessions() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let admin = promoted(&mesh, &Person::register(&api, "root").await, "admin").await;
    let ada = Person::register(&api, "ada").await;
    let found = admin.get(&format!("/admin/users?name={}", ada.email)).await.ok(200);
    assert_eq!((&found["user"]["id"], &found["user"]["roles"]), (&json!(ada.id), &json!(["user"])));
    admin.get("/admin/users?name=nobody-at-all").await.refused(404, "USER_NOT_FOUND");
    let path = format!("/admin/users/{}/role", ada.id);
    ada.put(&path, json!({"role": "admin"})).await.refused(403, "FORBIDDEN");
    admin.put(&path, json!({"role": "emperor"})).await.invalid("role", "moderator");
    let body = admin.put(&path, json!({"role": "moderator"})).await.ok(200);
    assert_eq!(body["user"]["roles"], json!(["user", "moderator"]));
    let refreshed = api.post("/auth/refresh", json!({"refreshToken": ada.refresh})).await.ok(200);
    let access = refreshed["accessToken"].as_str().unwrap();
    let claims = access.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["roles"], json!(["user", "moderator"]), "a higher role comes with the next refresh");
    admin.put(&path, json!({"role": "user"})).await.ok(200);
    wait::until("the lowered one is logged out", async || {
        (api.call(Method::GET, "/rooms", Some(access), None).await.status == 401).then_some(())
    })
    .await;
    let own = format!("/admin/users/{}/role", admin.id);
    admin.put(&own, json!({"role": "user"})).await.invalid("role", "another admin");
}

#[tokio::test]
async fn a_sensitive_call_wants_a_proof_that_is_fresh() {
    let mesh = Mesh::plan().set("auth.fresh_secs", 2).start();
    let ada = Person::new(&mesh, "ada").await;
    let refused = wait::until("the login is no fresh proof any more", async || {
        let answer = ada.delete("/auth/sessions").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused.refused(403, "REAUTHENTICATION_REQUIRED");
    let wrong = ada.post("/auth/reauthenticate", json!({"password": "not the password"})).await;
    wrong.refused(401, "INVALID_CREDENTIALS");
    ada.delete("/auth/sessions").await.refused(403, "REAUTHENTICATION_REQUIRED");
    wait::until("a password given again is a fresh proof", async || {
        ada.post("/auth/reauthenticate", json!({"password": PASSWORD})).await.ok(200);
        (ada.delete("/auth/sessions").await.status == 200).then_some(())
    })
    .await;
    let history = ada.get("/auth/history").await.ok(200);
    assert_eq!(events(&history, "logins").len(), 1, "a proof opens no session: {history}");
}

#[tokio::test]
async fn who_guesses_at_a_password_waits_and_a_known_device_is_let_in() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    let login = async |name: &str, password: &str, device: Option<&str>| {
        api.post("/auth/login", json!({"username": name, "password": password, "deviceToken": device})).await
    };
    let known = login(&ada.username, PASSWORD, None).await.ok(200);
    let known = known["deviceToken"].as_str().unwrap();
    wait::until("guesses to be held for long enough to look", async || {
        let answer = login(&ada.username, "not the password", None).await;
        if answer.status == 401 {
            return None;
        }
        let wait: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        answer.refused(429, "RATE_LIMITED");
        (wait >= 7).then_some(())
    })
    .await;
    login(&ada.username.to_uppercase(), PASSWORD, None).await.refused(429, "RATE_LIMITED");
    let bob = Person::register(&api, "bob").await;
    let other = login(&bob.username, PASSWORD, None).await.ok(200);
    login(&ada.username, PASSWORD, other["deviceToken"].as_str()).await.refused(429, "RATE_LIMITED");
    login(&ada.username, PASSWORD, Some(known)).await.ok(200);
    login(&ada.email, PASSWORD, Some(known)).await.ok(200);
}

#[tokio::test]
async fn a_new_password_that_is_easy_to_guess_is_refused_with_a_reason() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    let name = crate::rest::unique("eve");
    for weak in ["password1", "qwertyuiop", name.as_str()] {
        let body = json!({"username": name, "email": format!("{name}@example.com"), "password": weak});
        api.post("/auth/register", body).await.invalid("password", "too easy to guess");
        let change =
            json!({"currentPassword": PASSWORD, "newPassword": if weak == name { &ada.username } else { weak }});
        ada.put("/auth/password", change).await.invalid("newPassword", "too easy to guess");
    }
    ada.login().await.get("/auth/profile").await.ok(200);
}
