//! A send happens once: the same `clientMessageId` answers the first message on every transport, in whatever order they
//! are used, also after a restart.

use serde_json::{Value, json};

use crate::{
    mesh::Mesh,
    rest::{Api, Person},
};

/// Sends over each transport with one id; gives the ids of the messages answered.
async fn over_all(mesh: &Mesh, ada: &Person, room: &str, id: &str) -> Vec<Value> {
    let socket = ada.socket().await;
    let payload = json!({"roomId": room, "content": "by socket", "clientMessageId": id});
    let by_socket = socket.ok("send_message", payload).await["message"]["id"].take();
    let answer =
        ada.post(&format!("/rooms/{room}/messages"), json!({"content": "by REST", "clientMessageId": id})).await;
    assert!([200, 201].contains(&answer.status), "{}", answer.text);
    let by_rest = answer.body["data"]["id"].clone();
    let by_grpc = ada.rpc(mesh).send(room, "by gRPC", id).await.unwrap();
    vec![by_socket, by_rest, by_grpc.message.unwrap().id.into()]
}

#[tokio::test]
async fn one_id_is_one_message_across_rest_grpc_and_socket_io() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let path = format!("/rooms/{room}/messages");
    for (first, id) in [("socket", "a"), ("rest", "b"), ("grpc", "c")] {
        let made = match first {
            "rest" => {
                ada.post(&path, json!({"content": first, "clientMessageId": id})).await.ok(201)["data"]["id"].take()
            }
            "grpc" => {
                let answer = ada.rpc(&mesh).send(&room, first, id).await.unwrap();
                assert!(!answer.replayed);
                answer.message.unwrap().id.into()
            }
            _ => {
                let payload = json!({"roomId": room, "content": first, "clientMessageId": id});
                ada.socket().await.ok("send_message", payload).await["message"]["id"].take()
            }
        };
        assert_eq!(over_all(&mesh, &ada, &room, id).await, vec![made; 3], "first by {first}");
        assert!(ada.rpc(&mesh).send(&room, "again", id).await.unwrap().replayed);
    }
    let history = ada.history(&room).await;
    let contents: Vec<_> = history.iter().map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["socket", "rest", "grpc"]);
}

#[tokio::test]
async fn an_id_belongs_to_its_sender_and_its_room() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let (room, other) = (ada.room("public").await, ada.room("public").await);
    bob.join(&room).await;
    let body = json!({"content": "x", "clientMessageId": "shared"});
    for (person, room) in [(&ada, &room), (&bob, &room), (&ada, &other)] {
        person.post(&format!("/rooms/{room}/messages"), body.clone()).await.ok(201);
    }
}

#[tokio::test]
async fn a_retry_after_a_restart_still_answers_the_first() {
    let mesh = Mesh::plan().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let body = json!({"content": "kept", "clientMessageId": "k"});
    let path = format!("/rooms/{room}/messages");
    let first = ada.post(&path, body.clone()).await.ok(201);
    mesh.kill_all();
    mesh.start_all();
    let again = ada.post(&path, body).await.ok(200);
    assert_eq!(first["data"], again["data"]);
    assert_eq!(over_all(&mesh, &ada, &room, "k").await, vec![first["data"]["id"].clone(); 3]);
}
