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

/// Runs an operator's command on the stores of a mesh; what it tells.
pub(crate) async fn operator(mesh: &Mesh, arguments: &[&str]) -> String {
    let environment = [("SWITCHBOARD_DATA".to_owned(), mesh.data().display().to_string())];
    let environment = Ports::free().environment().into_iter().chain(environment).chain(mesh.stores.environment());
    let mut command = process::command("switchboard", environment);
    command.args(arguments);
    let (code, told) = tokio::task::spawn_blocking(|| process::run_to_end(command, LIMIT)).await.unwrap();
    assert_eq!(code, Some(0), "{told}");
    told
}

/// Gives somebody a role at the command line, and the session after it.
pub(crate) async fn promoted(mesh: &Mesh, person: &Person, role: &str) -> Person {
    let told = operator(mesh, &["users", "promote", &person.username, role]).await;
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

#[tokio::test]
async fn where_an_invitation_is_needed_each_lets_one_person_in() {
    let mesh = Mesh::plan().set("auth.registration", "invitation").start();
    let api = Api::new(&mesh);
    let body = |name: &str, invitation: Option<&str>| json!({"username": name, "email": format!("{name}@example.com"), "password": PASSWORD, "invitation": invitation});
    let register = async |name: &str, code: Option<&str>| api.post("/auth/register", body(name, code)).await;
    register("ada", None).await.refused(403, "INVITATION_REQUIRED");
    register("ada", Some("")).await.refused(403, "INVITATION_REQUIRED");
    for bad in ["none", "sbi_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "' OR 1 = 1 --", "\u{1f600}"] {
        register("ada", Some(bad)).await.refused(403, "INVITATION_INVALID");
    }
    register("ada", Some(&"x".repeat(129))).await.invalid("invitation", "128");
    api.post("/auth/register", json!({"username": "ada", "invitation": 7})).await.invalid("invitation", "text");

    let told = operator(&mesh, &["users", "invite", "--note", "the first one", "--days", "1"]).await;
    let code = told.lines().find(|line| line.starts_with("sbi_")).unwrap_or_else(|| panic!("{told}"));
    let root = Person::from_answer(&api, &register("root", Some(code)).await.ok(201));
    register("ada", Some(code)).await.refused(403, "INVITATION_INVALID");
    register("root", None).await.refused(403, "INVITATION_REQUIRED");
    let (root, ada) = (promoted(&mesh, &root, "admin").await, root);
    for refused in [ada.get("/admin/invitations").await, ada.post("/admin/invitations", json!({})).await] {
        refused.refused(403, "FORBIDDEN");
    }
    api.get("/admin/invitations").await.refused(401, "UNAUTHORIZED");

    let made = root.post("/admin/invitations", json!({"note": "for Ada", "expiresIn": 3600})).await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.ok(201);
    let (id, code) = (made["invitation"]["id"].as_str().unwrap(), made["code"].as_str().unwrap());
    let path = format!("/admin/invitations/{id}");
    ada.delete(&path).await.refused(403, "FORBIDDEN");
    let weak = json!({"username": "ada", "email": "a@example.com", "password": "password1", "invitation": code});
    api.post("/auth/register", weak).await.invalid("password", "guess");
    let listed = root.get("/admin/invitations").await.ok(200);
    let notes: Vec<_> = listed["invitations"].as_array().unwrap().iter().map(|one| one["note"].clone()).collect();
    assert_eq!(notes, ["for Ada", "the first one"]);
    assert!(!listed.to_string().contains(code), "the code is shown once");
    assert_eq!(listed["invitations"][0]["usedAt"], Value::Null, "a refused registration uses none up: {listed}");
    let first = &listed["invitations"][1];
    assert_eq!((&first["userId"], &first["makerKind"]), (&json!(root.id), &json!("operator")));
    root.delete(&path).await.ok(200);
    root.delete(&path).await.refused(404, "NOT_FOUND");
    root.delete("/admin/invitations/none").await.refused(404, "NOT_FOUND");
    register("ada", Some(code)).await.refused(403, "INVITATION_INVALID");
    for (bad, field) in [(json!({"expiresIn": 59}), "expiresIn"), (json!({"note": "x".repeat(201)}), "note")] {
        root.post("/admin/invitations", bad).await.invalid(field, "");
    }
    let written = root.get("/admin/audit?event=invitation").await.ok(200);
    let expected = [("invitation.revoked", "success"), ("invitation.made", "success"), ("invitation.made", "success")];
    assert_eq!(events(&written, "events"), pairs(&expected));
    let refused = root.get("/admin/audit?event=account.registered&result=failure").await.ok(200);
    assert!(events(&refused, "events").len() >= 6, "{refused}");
}

#[tokio::test]
async fn where_registration_is_closed_nobody_registers() {
    let mesh = Mesh::plan().set("auth.registration", "closed").start();
    let body = json!({"username": "ada", "email": "ada@example.com", "password": PASSWORD, "invitation": "sbi_x"});
    Api::new(&mesh).post("/auth/register", body).await.refused(403, "REGISTRATION_CLOSED");
}

#[tokio::test]
async fn a_new_signing_key_is_taken_up_without_a_restart_and_no_live_socket_is_dropped() {
    let mesh = Mesh::plan().separate().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let socket = ada.socket().await;
    socket.join(&room, None).await;
    let kid = |access: &str| {
        let head = access.split('.').next().unwrap();
        let head = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, head).unwrap();
        serde_json::from_slice::<Value>(&head).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    let (old, other) = (kid(&ada.access), ada.login().await);
    let told = operator(&mesh, &["--set", "auth.key_lead_secs=2", "keys", "rotate"]).await;
    let fresh = wait::until("the new key to sign", async || {
        // The same token again and again: its successor is never used.
        let body = ada.api.post("/auth/refresh", json!({"refreshToken": other.refresh})).await.ok(200);
        let refresh = body["refreshToken"].as_str().unwrap().to_owned();
        let fresh = Person { access: body["accessToken"].as_str().unwrap().to_owned(), refresh, ..other.clone() };
        // Whatever key it is signed with, every process knows it already.
        fresh.get("/auth/profile").await.ok(200);
        fresh.get("/rooms").await.ok(200);
        (kid(&fresh.access) != old).then_some(fresh)
    })
    .await;
    assert!(told.contains(&kid(&fresh.access)), "{told}");
    ada.get("/rooms").await.ok(200);
    fresh.rpc(&mesh).send(&room, "by the new key", "one").await.unwrap();
    ada.rpc(&mesh).send(&room, "by the old key", "two").await.unwrap();
    socket.ok("send_message", json!({"roomId": room, "content": "by the same socket"})).await;
    fresh.socket().await.join(&room, None).await;

    let jwks = Answer::read(ada.api.outside(Method::GET, "/.well-known/jwks.json")).await.unwrap();
    assert_eq!(jwks.headers["cache-control"], "public, max-age=300");
    assert_eq!(jwks.body["keys"].as_array().unwrap().len(), 2, "{}", jwks.text);
    assert!(jwks.text.contains(&old) && jwks.headers.contains_key("etag"), "{}", jwks.text);
    let root = promoted(&mesh, &fresh, "admin").await;
    let written = root.get("/admin/audit?event=key.rotated").await.ok(200);
    assert_eq!((&written["events"][0]["actorKind"], events(&written, "events").len()), (&json!("operator"), 1));
}

/// What no scope of the program opens, whichever service would do it.
async fn refuses_what_is_for_people(program: &Person, keys: &str) {
    for refused in [
        program.get("/rooms").await,
        program.get("/auth/sessions").await,
        program.delete("/auth/sessions").await,
        program.get("/auth/ws-token").await,
        program.get("/auth/factors").await,
        program.get("/admin/audit").await,
        program.put("/auth/profile", json!({"bio": "a program"})).await,
        program.put("/auth/password", json!({"currentPassword": PASSWORD, "newPassword": PASSWORD})).await,
        program.call(Method::POST, "/auth/logout", None).await,
        program.post(keys, json!({"scopes": ["audit:read"]})).await,
    ] {
        refused.refused(403, "FORBIDDEN");
    }
}

async fn names_what_is_wrong_with_a_key(root: &Person, path: &str, person: &Person) {
    for (bad, field) in [
        (json!({}), "scopes"),
        (json!({"scopes": []}), "scopes"),
        (json!({"scopes": ["all"]}), "scopes[0]"),
        (json!({"scopes": "users:read"}), "scopes"),
        (json!({"scopes": ["users:read"], "expiresIn": 59}), "expiresIn"),
    ] {
        root.post(path, bad).await.invalid(field, "");
    }
    root.post(&format!("/admin/service-accounts/{}/keys", person.id), json!({"scopes": ["users:read"]}))
        .await
        .refused(404, "USER_NOT_FOUND");
}

#[tokio::test]
async fn a_program_with_an_api_key_does_what_its_scopes_open_until_the_key_is_revoked() {
    let mesh = Mesh::plan().separate().start();
    let api = Api::new(&mesh);
    let root = promoted(&mesh, &Person::register(&api, "root").await, "admin").await;
    let ada = Person::register(&api, "ada").await;
    let room = ada.room("public").await;
    let own = json!({"name": "billing"});
    ada.post("/admin/service-accounts", own.clone()).await.refused(403, "FORBIDDEN");
    let made = root.post("/admin/service-accounts", own.clone()).await.ok(201);
    root.post("/admin/service-accounts", own).await.refused(400, "ACCOUNT_EXISTS");
    root.post("/admin/service-accounts", json!({"name": "a b"})).await.invalid("name", "32");
    let billing = made["serviceAccount"]["id"].as_str().unwrap();
    let path = format!("/admin/service-accounts/{billing}/keys");
    names_what_is_wrong_with_a_key(&root, &path, &ada).await;
    let scopes = ["rooms:write", "messages:read", "messages:write", "users:read"];
    let made = root.post(&path, json!({"name": "the invoices", "scopes": scopes})).await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.ok(201);
    let key = made["key"].as_str().unwrap();
    let program = Person { access: key.to_owned(), id: billing.to_owned(), ..ada.clone() };

    // Over REST and gRPC alike, as the service account.
    program.join(&room).await;
    let sent = program.send(&room, "your invoice is ready").await;
    assert_eq!((&sent["userId"], &sent["username"]), (&json!(billing), &json!("billing")));
    program.rpc(&mesh).send(&room, "and so is this one", "two").await.unwrap();
    assert_eq!(program.history(&room).await.len(), 2);
    assert_eq!(program.get("/auth/profile").await.ok(200)["user"]["roles"], json!(["service"]));
    refuses_what_is_for_people(&program, &path).await;

    let listed = root.get(&path).await.ok(200);
    let shown = &listed["apiKeys"][0];
    assert_eq!((&shown["name"], &shown["scopes"][0]), (&json!("the invoices"), &json!("rooms:write")));
    assert!(shown["lastUsedAt"].is_string() && !listed.to_string().contains(key), "{listed}");
    assert!(key.starts_with(shown["prefix"].as_str().unwrap()), "{listed}");
    let mut stream = program.rpc(&mesh).watch(&room, "").await.unwrap();
    let revoke = format!("/admin/api-keys/{}", shown["id"].as_str().unwrap());
    ada.delete(&revoke).await.refused(403, "FORBIDDEN");
    root.delete(&revoke).await.ok(200);
    root.delete(&revoke).await.refused(404, "NOT_FOUND");
    wait::until("the key to be refused at the edge and behind it", async || {
        let (edge, behind) =
            (program.get("/auth/profile").await, program.rpc(&mesh).send(&room, "late", "three").await);
        (edge.status == 401 && behind.is_err()).then(|| edge.refused(401, "TOKEN_REVOKED"))
    })
    .await;
    let over = wait::within("the stream to end", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a status"),
                Err(status) => return status,
            }
        }
    })
    .await;
    crate::rpc::refused(Err::<(), _>(over), "TOKEN_REVOKED");
    let written = root.get("/admin/audit?event=api_key").await.ok(200);
    assert_eq!(events(&written, "events"), pairs(&[("api_key.revoked", "success"), ("api_key.created", "success")]));
    for replica in mesh.parts() {
        let log = std::fs::read_to_string(mesh.log(*replica)).unwrap();
        assert!(!log.contains(key), "the key is in the log of {replica}");
    }
}
