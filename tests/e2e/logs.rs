//! Nothing secret in any log: canaries in every field that must not be logged go through REST, gRPC and Socket.IO, also
//! through what is refused, and then all logs are searched for them. What must be in a log is there.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    mesh::{Mesh, files, get},
    rest::{Answer, Api, Person, unique},
    rpc::Rpc,
    socketio::Socket,
    wait,
};

/// Where the client comes from, as a proxy that is trusted says.
const ADDRESS: &str = "203.0.113.77";

async fn post(api: &Api, path: &str, token: Option<&str>, body: Value) -> Answer {
    let request = api.request(Method::POST, path, token).header("x-forwarded-for", ADDRESS).json(&body);
    Answer::read(request).await.unwrap()
}

/// Uses everything once, well and badly; gives what must not be found.
pub(crate) async fn walk(mesh: &Mesh) -> Vec<(&'static str, String)> {
    let api = Api::new(mesh);
    let (password, wrong) = (unique("canary-password"), unique("canary-wrong"));
    let (content, bad_content) = (unique("canary-content"), format!("{}\0", unique("canary-refused")));
    let email = format!("{}@example.com", unique("canary-email"));
    let bio = unique("canary-bio");
    let account = json!({"username": unique("walker"), "email": email, "password": password});
    let body = post(&api, "/auth/register", None, account.clone()).await.ok(201);
    let ada = Person::from_answer(&api, &body);
    post(&api, "/auth/register", None, account).await.refused(400, "ACCOUNT_EXISTS");
    post(&api, "/auth/login", None, json!({"email": email, "password": wrong}))
        .await
        .refused(401, "INVALID_CREDENTIALS");
    post(&api, "/auth/login", None, json!({"email": format!("{email} bad"), "password": "x"})).await;
    let body = post(&api, "/auth/refresh", None, json!({"refreshToken": ada.refresh})).await.ok(200);
    let successor = body["refreshToken"].as_str().unwrap().to_owned();
    ada.put("/auth/profile", json!({"bio": bio, "preferences": {"p": bio}})).await.ok(200);
    ada.put("/auth/profile", json!({"bio": bio, "avatarUrl": bio})).await.refused(400, "VALIDATION_FAILED");
    let room = ada.room("private").await;
    let path = format!("/rooms/{room}/messages");
    for content in [&content, &bad_content] {
        post(&api, &path, Some(&ada.access), json!({"content": content, "metadata": {"m": content}})).await;
        drop(ada.rpc(mesh).send(&room, content, "").await);
    }
    drop(raw_body(&ada, &content).await);
    let ws_token = ada.ws_token().await;
    let mut socket = Socket::connect(&mesh.url(), json!({"token": ws_token})).await.unwrap();
    drop(Socket::connect(&mesh.url(), json!({"token": ws_token})).await);
    socket.join(&room, None).await;
    socket.ok("send_message", json!({"roomId": room, "content": content})).await;
    socket.call("send_message", json!({"roomId": room, "content": bad_content})).await;
    socket.raw(format!("42[\"send_message\",{{\"content\":\"{content}\"}}]"));
    socket.event("error").await;
    let foreign = format!("{}x", ada.access);
    api.call(Method::GET, "/rooms", Some(&foreign), None).await.refused(401, "TOKEN_INVALID");
    drop(Rpc::new(mesh, Some(&foreign)).send(&room, &content, "").await);
    ada.call(Method::POST, "/auth/logout", None).await.ok(200);
    post(&api, "/auth/password/forgot", None, json!({"email": email})).await.ok(202);
    post(&api, "/auth/password/forgot", None, json!({"email": format!("{bio}@example.com")})).await.ok(202);
    let mail_token = mailed(mesh).await;
    let changed = unique("canary-changed");
    let reset = json!({"token": mail_token, "newPassword": changed});
    post(&api, "/auth/password/reset", None, reset.clone()).await.ok(200);
    post(&api, "/auth/password/reset", None, reset).await.refused(403, "EMAIL_TOKEN_INVALID");
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    vec![
        ("the password", password),
        ("a wrong password", wrong),
        ("the email", email),
        ("the bio", bio),
        ("the content", content),
        ("refused content", bad_content.trim_end_matches('\0').to_owned()),
        ("the access token", signature(&ada.access)),
        ("the refresh token", ada.refresh.clone()),
        ("its successor", successor),
        ("the WS token", signature(&ws_token)),
        ("the client's address", ADDRESS.to_owned()),
        ("the token of a mail", mail_token),
        ("the password set by it", changed),
    ]
}

/// The token of the first mail for a new password.
async fn mailed(mesh: &Mesh) -> String {
    wait::until("the mail", async || {
        let page = get(mesh.ports.auth_ops, "/mailbox")?.1;
        let at = page.find("#reset-password=")? + "#reset-password=".len();
        Some(page.get(at..at + 47)?.to_owned())
    })
    .await
}

async fn raw_body(ada: &Person, content: &str) -> Result<Answer, reqwest::Error> {
    let request = ada.api.request(Method::POST, "/rooms", Some(&ada.access)).header("content-type", "application/json");
    Answer::read(request.body(format!("{{\"name\": {content}"))).await
}

#[tokio::test]
async fn no_token_password_email_address_or_content_is_in_any_log() {
    for plan in [Mesh::plan(), Mesh::plan().separate()] {
        let mesh = plan.set("gateway.trusted_proxies", "127.0.0.1").set("mesh.telemetry.filter", "debug").start();
        let secrets = walk(&mesh).await;
        for part in mesh.parts() {
            assert!(mesh.stop(*part).success());
        }
        let logs = files(&mesh.logs());
        let mut lines = 0;
        for path in &logs {
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            lines += text.lines().count();
            for (what, secret) in &secrets {
                let line = text.lines().find(|line| line.contains(secret));
                assert!(line.is_none(), "{what} is in {}: {}", path.display(), line.unwrap_or_default());
            }
        }
        assert!(lines > 20, "only {lines} lines were logged: the search proves nothing");
        wait::say(&format!("{lines} log lines in {} files hold none of {} secrets", logs.len(), secrets.len()));
    }
}

#[tokio::test]
async fn a_request_is_one_line_in_each_process_it_passes_with_one_trace_id() {
    let mesh = Mesh::plan().separate().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let request = ada.api.request(Method::GET, &format!("/rooms/{room}/messages"), Some(&ada.access));
    let id = unique("request").replace('_', "-");
    assert_eq!(Answer::read(request.header("x-request-id", &id)).await.unwrap().headers["x-request-id"], id.as_str());
    let read = |part: &str| std::fs::read_to_string(mesh.logs().join(format!("{part}.log"))).unwrap();
    let line = wait::until("the gateway's line", async || {
        read("gateway").lines().find(|line| line.contains(&id)).map(str::to_owned)
    })
    .await;
    let line: Value = serde_json::from_str(&line).expect("a JSON line");
    let trace = line["trace_id"].as_str().expect("a trace id").to_owned();
    assert_eq!(trace.len(), 32, "{line}");
    wait::until("message-svc's line", async || read("message-svc").contains(&trace).then_some(())).await;
}
