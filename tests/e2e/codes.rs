//! Every code of the catalogue can be reached, and stands in docs/errors.md. The `match` in [`reach`] is exhaustive, so a
//! new code needs its proof here. Reauthentication and who may register are tested
//! in `security.rs`, disabled accounts in `deletion.rs`, unverified addresses and no mail in `mails.rs`. Five codes need a fault, which is injected: a process killed (`UNAVAILABLE`), one
//! halted (`DEADLINE_EXCEEDED`), a store damaged while it is open (`INTERNAL`), a reader that does not read
//! (`SLOW_CONSUMER`) and a client from outside that calls too often (`RATE_LIMITED`).

use std::{fs, path::Path};

use ::mesh::{
    error::Reason,
    proto::message::v1::{CreateRoomRequest, RoomType},
};
use reqwest::{Method, header};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use crate::{
    bad_tokens, factors,
    mesh::{Mesh, Part},
    rest::{Answer, Api, PASSWORD, Person, check_refusal, unique},
    rpc,
    socketio::Socket,
    wait,
};

/// Gets one code over REST, or over the edge that has it, and gives the refusal.
async fn reach(reason: Reason, mesh: &Mesh) -> Option<Value> {
    let api = Api::new(mesh);
    let ada = Person::register(&api, "ada").await;
    let room = format!("/rooms/{}", Uuid::new_v4());
    let answer = match reason {
        Reason::ValidationFailed => ada.post("/rooms", json!({})).await,
        Reason::MalformedBody => raw(&ada, "application/json", "{").await,
        Reason::AccountExists => {
            let body = json!({"username": ada.username, "email": "x@example.com", "password": PASSWORD});
            api.post("/auth/register", body).await
        }
        Reason::InvalidCredentials => {
            api.post("/auth/login", json!({"username": ada.username, "password": "wrong one"})).await
        }
        Reason::MfaRequired => {
            factors::guarded(&ada).await;
            api.post("/auth/login", json!({"username": ada.username, "password": PASSWORD})).await
        }
        Reason::MfaCodeInvalid => {
            ada.post("/auth/factors/totp", json!({})).await.ok(201);
            ada.post("/auth/factors/totp/confirm", json!({"code": "no code"})).await
        }
        Reason::EmailTokenInvalid => api.post("/auth/email/verify", json!({"token": "garbage"})).await,
        Reason::Unauthorized => api.get("/rooms").await,
        Reason::TokenExpired => {
            let token = bad_tokens::expired(mesh, &ada);
            api.call(Method::GET, "/rooms", Some(&token), None).await
        }
        Reason::TokenInvalid => api.call(Method::GET, "/rooms", Some("garbage"), None).await,
        Reason::TokenRevoked => revoked(&ada).await,
        Reason::TokenSpent => return Some(spent(mesh, &ada).await),
        Reason::Forbidden => {
            let open = ada.room("public").await;
            Person::register(&api, "eve").await.delete(&format!("/rooms/{open}")).await
        }
        Reason::NotAMember => {
            let open = ada.room("public").await;
            Person::register(&api, "eve").await.get(&format!("/rooms/{open}/messages")).await
        }
        Reason::RoomNotFound => ada.get(&room).await,
        Reason::UserNotFound => ada.get(&format!("/users/{}", Uuid::now_v7())).await,
        Reason::SessionNotFound => ada.delete(&format!("/auth/sessions/{}", Uuid::now_v7())).await,
        Reason::NotFound => ada.get("/nothing").await,
        Reason::MethodNotAllowed => ada.delete("/auth/login").await,
        Reason::PayloadTooLarge => raw(&ada, "application/json", &" ".repeat(300 << 10)).await,
        Reason::UnsupportedMediaType => raw(&ada, "text/plain", "x").await,
        // Over gRPC alone, or by a fault: each has a test of its own below.
        Reason::AccountDisabled
        | Reason::EmailDisabled
        | Reason::EmailUnverified
        | Reason::RegistrationClosed
        | Reason::InvitationRequired
        | Reason::InvitationInvalid
        | Reason::Conflict
        | Reason::ReauthenticationRequired
        | Reason::CursorLost
        | Reason::SlowConsumer
        | Reason::RateLimited
        | Reason::Internal
        | Reason::Unavailable
        | Reason::DeadlineExceeded => return None,
    };
    Some(answer.refused(reason.http(), reason.as_str()))
}

async fn raw(person: &Person, content_type: &str, body: &str) -> Answer {
    let request = person.api.request(Method::POST, "/rooms", Some(&person.access));
    Answer::read(request.header(header::CONTENT_TYPE, content_type).body(body.to_owned())).await.unwrap()
}

async fn revoked(person: &Person) -> Answer {
    person.call(Method::POST, "/auth/logout", None).await.ok(200);
    wait::until("the revocation", async || {
        let answer = person.get("/rooms").await;
        (answer.status != 200).then_some(answer)
    })
    .await
}

async fn spent(mesh: &Mesh, person: &Person) -> Value {
    let auth = json!({"token": person.ws_token().await});
    Socket::connect(&mesh.url(), auth.clone()).await.unwrap();
    Socket::connect(&mesh.url(), auth).await.expect_err("spent").0
}

#[tokio::test]
async fn every_code_that_needs_no_fault_is_reached_from_outside() {
    let mesh = Mesh::shared();
    let mut reached = 0;
    for reason in Reason::ALL {
        if let Some(refusal) = reach(*reason, &mesh).await {
            check_refusal(&refusal, reason.http(), reason.as_str());
            reached += 1;
        }
    }
    assert_eq!(reached, Reason::ALL.len() - 14, "fourteen codes have tests of their own");
}

#[test]
fn the_document_lists_every_code_with_its_status_and_no_other() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md")).unwrap();
    for reason in Reason::ALL {
        let line = text.lines().find(|line| line.contains(&format!("`{reason}`")));
        let line = line.unwrap_or_else(|| panic!("docs/errors.md says nothing of {reason}"));
        assert!(
            line.contains(&reason.http().to_string()),
            "the status {} of {reason} is missing: {line}",
            reason.http()
        );
    }
    let first_cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for code in first_cells {
        assert!(Reason::from_code(code).is_some(), "docs/errors.md lists {code}, which is no code");
    }
}

#[tokio::test]
async fn conflict_is_a_room_id_that_is_anothers() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, eve) = (Person::register(&api, "ada").await, Person::register(&api, "eve").await);
    let room_id = ada.room("public").await;
    let request =
        CreateRoomRequest { name: "x".into(), room_type: RoomType::Public.into(), room_id, ..Default::default() };
    rpc::refused(eve.rpc(&mesh).message.create_room(request).await, "CONFLICT");
}

#[tokio::test]
async fn cursor_lost_is_a_cursor_of_another_room() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let (room, other) = (ada.room("private").await, ada.room("private").await);
    let rpc = ada.rpc(&mesh);
    let cursor = rpc.entries(&other, "").await.unwrap().cursor;
    rpc::refused(rpc.entries(&room, &cursor).await, "CURSOR_LOST");
}

#[tokio::test]
async fn slow_consumer_is_a_reader_that_does_not_read() {
    // A small queue and little patience; what is in flight on the way is filled by large messages.
    let mesh = Mesh::plan().set("message.watch.queue_max", 1).set("message.watch.stall_secs", 1).start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let rpc = ada.rpc(&mesh);
    // On a connection of its own: what is not read of it must not hold up the sends.
    let mut stream = ada.rpc(&mesh).watch(&room, "").await.unwrap();
    let content = "x".repeat(8_000);
    let status = wait::within("the stream to end", async {
        for index in 0.. {
            // More than all buffers on the way hold, and then nothing is read for longer than the patience.
            for step in 0..1_000 {
                rpc.send(&room, &content, &format!("{index} {step}")).await.unwrap();
            }
            let begun = std::time::Instant::now();
            while begun.elapsed() < std::time::Duration::from_secs(3) {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            loop {
                match tokio::time::timeout(std::time::Duration::from_millis(200), stream.message()).await {
                    Ok(Ok(Some(_))) => {}
                    Ok(Ok(None)) => panic!("the stream ended without a status"),
                    Ok(Err(status)) => return status,
                    Err(_) => break,
                }
            }
        }
        unreachable!("the loop has no end")
    })
    .await;
    rpc::refused(Err::<(), _>(status), "SLOW_CONSUMER");
}

#[tokio::test]
async fn rate_limited_is_a_client_from_outside_that_calls_too_often() {
    let mesh = Mesh::plan()
        .set("gateway.trusted_proxies", "127.0.0.1")
        .set("gateway.rates.auth_address.burst", 3)
        .set("gateway.rates.auth_address.per_minute", 1)
        .start();
    let api = Api::new(&mesh);
    let login = |from: &'static str| {
        let body = json!({"username": "nobody", "password": PASSWORD});
        api.request(Method::POST, "/auth/login", None).header("x-forwarded-for", from).json(&body)
    };
    let limited = wait::until("the limit", async || {
        let answer = Answer::read(login("203.0.113.9")).await.unwrap();
        (answer.status != 401).then_some(answer)
    })
    .await;
    let wait: u64 = limited.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!(wait >= 1, "{wait}");
    limited.refused(429, "RATE_LIMITED");
    Answer::read(login("203.0.113.10")).await.unwrap().refused(401, "INVALID_CREDENTIALS");
    for _ in 0..20 {
        api.post("/auth/login", json!({"username": unique("nobody"), "password": PASSWORD}))
            .await
            .refused(401, "INVALID_CREDENTIALS");
    }
}

#[tokio::test]
async fn unavailable_is_a_service_that_is_away_and_passes() {
    let mesh = Mesh::plan().separate().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let socket = ada.socket().await;
    socket.join(&room, None).await;
    mesh.kill(Part::Message);
    ada.get("/rooms").await.refused(503, "UNAVAILABLE");
    socket.refused("send_message", json!({"roomId": room, "content": "x"}), 503, "UNAVAILABLE").await;
    mesh.start(Part::Message);
    wait::until("message-svc to be heard again", async || (ada.get("/rooms").await.status == 200).then_some(())).await;
    socket.ok("send_message", json!({"roomId": room, "content": "again"})).await;
}

#[tokio::test]
async fn deadline_exceeded_is_a_service_that_does_not_answer_and_passes() {
    let mesh = Mesh::plan().separate().set("gateway.call_timeout_ms", 2_000).start();
    let ada = Person::new(&mesh, "ada").await;
    ada.room("private").await;
    mesh.signal(Part::Message, Signal::STOP);
    ada.get("/rooms").await.refused(504, "DEADLINE_EXCEEDED");
    mesh.signal(Part::Message, Signal::CONT);
    wait::until("message-svc to be heard again", async || (ada.get("/rooms").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn internal_is_a_store_that_is_damaged_while_it_is_open_and_tells_nothing_of_it() {
    let mesh = Mesh::plan().separate().start();
    let ada = Person::new(&mesh, "ada").await;
    let eve = Person::new(&mesh, "eve").await;
    match &mesh.stores.postgres {
        Some(postgres) => {
            let mut store = PgConnection::connect(&postgres.url).await.unwrap();
            sqlx::query("DROP TABLE users.people").execute(&mut store).await.unwrap();
        }
        None => {
            let store = SqliteConnectOptions::new().filename(mesh.data().join("users.db"));
            let mut store = store.connect().await.unwrap();
            sqlx::query("DROP TABLE people").execute(&mut store).await.unwrap();
        }
    }
    let refusal = wait::until("the damage to be felt", async || {
        let answer = ada.get(&format!("/users/{}", eve.id)).await;
        (answer.status != 200).then_some(answer)
    })
    .await
    .refused(500, "INTERNAL");
    let text = refusal.to_string();
    for leak in ["sqlite", "database", "users.db", "table", "people", "src/"] {
        assert!(!text.to_lowercase().contains(leak), "{text}");
    }
    ada.get("/rooms").await.ok(200);
}
