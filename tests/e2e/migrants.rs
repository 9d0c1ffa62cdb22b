//! What a client of a NestJS backend with the same routes does, unchanged: an access token of thirty days with no
//! refresh, a room joined by an event without an ack, and handlers on the event names.

use serde_json::{Value, json};

use crate::{mesh::Mesh, rest::Person, wait};

const THIRTY_DAYS_SECS: i64 = 30 * 24 * 3600;

#[tokio::test]
async fn a_client_of_a_nestjs_backend_works_unchanged() {
    let mesh = Mesh::plan().set("auth.access_ttl_secs", THIRTY_DAYS_SECS).start();
    let ada = Person::new(&mesh, "ada").await;
    let body = json!({"email": ada.email, "password": crate::rest::PASSWORD});
    let body = ada.api.post("/auth/login", body).await.ok(200);
    assert_eq!(body["expiresIn"], THIRTY_DAYS_SECS);
    let ada = Person::from_answer(&ada.api, &body);
    let rooms = ada.get("/rooms").await.ok(200);
    assert_eq!(rooms["message"], "No rooms joined yet.");
    let public = ada.get("/rooms/public").await.ok(200);
    let room = public["rooms"][0]["id"].as_str().expect("general").to_owned();

    let mut socket = ada.socket().await;
    socket.event("connected").await;
    socket.emit("join_room", &json!({"roomId": room}));
    socket.emit("send_message", &json!({"roomId": room, "content": "as ever"}));
    let message = socket.event("new_message").await.data;
    assert_eq!((&message["content"], &message["userId"]), (&"as ever".into(), &ada.id.clone().into()));
    assert_eq!((&message["messageType"], &message["username"]), (&"text".into(), &ada.username.clone().into()));
    let history = ada.get(&format!("/rooms/{room}/messages?page=1&limit=50")).await.ok(200);
    assert_eq!(history["messages"].as_array().unwrap().len(), 1);
    assert_eq!(history["pagination"]["currentPage"], 1);

    // The token outlives the server that made it.
    mesh.kill_all();
    mesh.start_all();
    let mut socket = ada.socket().await;
    socket.emit("join_room", &json!({"roomId": room}));
    socket.emit("send_message", &json!({"roomId": room, "content": "after a restart"}));
    assert_eq!(socket.event("new_message").await.data["content"], "after a restart");
}

#[tokio::test]
async fn an_event_without_an_ack_that_is_refused_is_answered_by_an_error_event() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let mut socket = ada.socket().await;
    socket.emit("join_room", &json!({"roomId": uuid::Uuid::new_v4()}));
    let error: Value = socket.event("error").await.data;
    crate::rest::check_refusal(&error, 404, "ROOM_NOT_FOUND");
    socket.emit("send_message", &json!({"roomId": 7}));
    let error = socket.event("error").await.data;
    crate::rest::check_refusal(&error, 400, "VALIDATION_FAILED");
    wait::say("a refused event without an ack came back as an error event");
}
