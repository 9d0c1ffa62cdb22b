//! Ended sessions: the access token is refused at REST, gRPC and Socket.IO, sockets are closed with `session_ended`, and
//! all of it holds after a restart. The promise is a second; what was measured is printed.

use std::time::Instant;

use ::mesh::proto::message::v1::ListRoomsRequest;
use reqwest::Method;
use serde_json::json;

use crate::{
    mesh::{Mesh, Part},
    rest::Person,
    rpc::Rpc,
    socketio::Socket,
    wait,
};

/// Whether a token is still good at REST, and at gRPC.
async fn good(mesh: &Mesh, person: &Person) -> (bool, bool) {
    let rest = person.get("/rooms").await;
    if rest.status != 200 {
        assert_eq!(rest.refused(401, "TOKEN_REVOKED")["message"], "Unauthorized");
        return (false, grpc_good(mesh, person).await);
    }
    (true, grpc_good(mesh, person).await)
}

async fn grpc_good(mesh: &Mesh, person: &Person) -> bool {
    let result = person.rpc(mesh).message.list_rooms(ListRoomsRequest::default()).await;
    if result.is_err() {
        crate::rpc::refused(result, "TOKEN_REVOKED");
        return false;
    }
    true
}

async fn feels_the_end(mesh: &Mesh, how: &str, end: impl AsyncFnOnce(&Person, &Person)) -> Person {
    let other = Person::new(mesh, "ada").await;
    let person = other.login().await;
    let mut socket = person.socket().await;
    socket.event("connected").await;
    let spare = person.ws_token().await;
    let begun = Instant::now();
    end(&person, &other).await;
    let events = socket.ended().await;
    let closed = begun.elapsed();
    let last = events.last().expect("an event before the end");
    assert_eq!(last.name, "session_ended", "{events:?}");
    assert!(last.data["code"].is_string() && last.data["message"].is_string(), "{last:?}");
    wait::until("REST to refuse", async || (!good(mesh, &person).await.0).then_some(())).await;
    let rest = begun.elapsed();
    wait::until("gRPC to refuse", async || (!good(mesh, &person).await.1).then_some(())).await;
    let grpc = begun.elapsed();
    wait::say(&format!(
        "{how}: session_ended after {:?}, socket closed {closed:?}, REST {rest:?}, gRPC {grpc:?}",
        last.at - begun
    ));
    let refused = Socket::connect(&mesh.url(), json!({"token": spare})).await.expect_err("a revoked session");
    assert_eq!(refused.0["statusCode"], 401, "{refused}");
    other.get("/rooms").await.ok(200);
    person
}

async fn log_out(person: &Person) {
    let body = person.call(Method::POST, "/auth/logout", None).await.ok(200);
    assert_eq!(body["message"], "Logged out successfully");
}

#[tokio::test]
async fn a_logout_is_felt_everywhere_on_four_processes_and_after_a_restart() {
    let mesh = Mesh::plan().separate().start();
    let person = feels_the_end(&mesh, "logout, four processes", async |person, _| log_out(person).await).await;
    for part in Part::FOUR {
        mesh.kill(part);
    }
    mesh.start_all();
    assert_eq!(good(&mesh, &person).await, (false, false), "it holds after a restart");
    let refused = person.get("/auth/ws-token").await.refused(401, "TOKEN_REVOKED");
    assert_eq!(refused["message"], "Unauthorized");
    person.api.post("/auth/refresh", json!({"refreshToken": person.refresh})).await.refused(401, "TOKEN_REVOKED");
}

#[tokio::test]
async fn a_logout_is_felt_everywhere_all_in_one_and_after_a_restart() {
    let mesh = Mesh::plan().start();
    let person = feels_the_end(&mesh, "logout, all in one", async |person, _| log_out(person).await).await;
    mesh.kill_all();
    mesh.start_all();
    assert_eq!(good(&mesh, &person).await, (false, false), "it holds after a restart");
}

#[tokio::test]
async fn a_revoked_session_and_a_changed_password_end_the_other_sockets() {
    let mesh = Mesh::shared();
    feels_the_end(&mesh, "all other sessions revoked", async |_, other| {
        other.delete("/auth/sessions").await.ok(200);
    })
    .await;
    feels_the_end(&mesh, "password changed", async |_, other| {
        let change = json!({"currentPassword": crate::rest::PASSWORD, "newPassword": "another good one"});
        other.put("/auth/password", change).await.ok(200);
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_was_away_during_the_logout_refuses_all_the_same() {
    let mesh = Mesh::plan().separate().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    mesh.kill(Part::Gateway);
    mesh.kill(Part::Message);
    let mut auth = Rpc::new(&mesh, Some(&ada.access)).auth;
    auth.logout(mesh::proto::auth::v1::LogoutRequest {}).await.unwrap();
    mesh.start_all();
    ada.get(&format!("/rooms/{room}")).await.refused(401, "TOKEN_REVOKED");
    // Before it has heard of auth-svc it can only say that it cannot tell.
    let result = wait::until("message-svc to know the keys", async || {
        let result = ada.rpc(&mesh).send(&room, "x", "x").await;
        let unknown = result.as_ref().is_err_and(|status| status.code() == tonic::Code::Unavailable);
        (!unknown).then_some(result)
    })
    .await;
    crate::rpc::refused(result, "TOKEN_REVOKED");
}
