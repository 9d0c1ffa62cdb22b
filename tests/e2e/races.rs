//! Races: several clients do the same thing at the same moment. One wins, and the others are told properly.

use futures::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::{
    mesh::Mesh,
    rest::{Api, PASSWORD, Person, unique},
};

#[tokio::test]
async fn of_many_who_register_one_username_at_once_one_gets_it() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let username = unique("raced");
    let answers = join_all((0..8).map(|index| {
        let body =
            json!({"username": username, "email": format!("{index}_{username}@example.com"), "password": PASSWORD});
        let api = api.clone();
        async move { api.post("/auth/register", body).await }
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(won.len(), 1);
    lost.into_iter().for_each(|answer| drop(answer.refused(400, "ACCOUNT_EXISTS")));
    let winner = Person::from_answer(&api, &won[0].body);
    winner.get("/auth/profile").await.ok(200);
}

#[tokio::test]
async fn of_two_who_open_a_direct_room_at_once_one_makes_it_and_both_get_it() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    for _ in 0..5 {
        let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
        let answers = join_all((0..8).map(|index| {
            let (one, other) = if index % 2 == 0 { (&ada, &bob) } else { (&bob, &ada) };
            one.post("/rooms/direct", json!({"userId": other.id}))
        }))
        .await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(made, 1, "{:?}", answers.iter().map(|answer| &answer.text).collect::<Vec<_>>());
        let id = answers[0].body["room"]["id"].clone();
        for answer in answers {
            let status = answer.status;
            assert!([200, 201].contains(&status), "{}", answer.text);
            assert_eq!(answer.ok(status)["room"]["id"], id);
        }
        assert_eq!(ada.get("/rooms").await.ok(200)["rooms"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn one_client_message_id_sent_many_times_at_once_is_one_message() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let (path, rpc) = (format!("/rooms/{room}/messages"), ada.rpc(&mesh));
    let sockets = [ada.socket().await, ada.socket().await];
    for round in 0..10 {
        let id = format!("raced {round}");
        let rest =
            join_all((0..4).map(|index| ada.post(&path, json!({"content": index.to_string(), "clientMessageId": id}))));
        let grpc = join_all((0..4).map(|_| rpc.send(&room, "by gRPC", &id)));
        let live = join_all(sockets.iter().map(|socket| {
            socket.ok("send_message", json!({"roomId": room, "content": "by socket", "clientMessageId": id}))
        }));
        let (rest, grpc, live) = tokio::join!(rest, grpc, live);
        let made = rest.iter().filter(|answer| answer.status == 201).count();
        assert!(made <= 1);
        let fresh = grpc.iter().filter(|answer| !answer.as_ref().unwrap().replayed).count();
        assert!(made + fresh <= 1, "made {made} times by REST and {fresh} times by gRPC");
        let mut ids: Vec<String> =
            rest.iter().map(|answer| answer.body["data"]["id"].as_str().unwrap().to_owned()).collect();
        ids.extend(grpc.into_iter().map(|answer| answer.unwrap().message.unwrap().id));
        ids.extend(live.iter().map(|ack| ack["message"]["id"].as_str().unwrap().to_owned()));
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
    assert_eq!(ada.history(&room).await.len(), 10);
}

#[tokio::test]
async fn two_who_make_a_room_with_one_id_at_once_are_told_apart() {
    use ::mesh::proto::message::v1::{CreateRoomRequest, RoomType};
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let request = CreateRoomRequest {
        name: "raced".into(),
        description: String::new(),
        room_type: RoomType::Public.into(),
        room_id: Uuid::new_v4().to_string(),
    };
    let (mut one, mut two) = (ada.rpc(&mesh).message, bob.rpc(&mesh).message);
    let (first, second) = tokio::join!(one.create_room(request.clone()), two.create_room(request.clone()));
    let (won, lost) = if first.is_ok() { (first, second) } else { (second, first) };
    assert_eq!(won.unwrap().into_inner().room.unwrap().id, request.room_id);
    crate::rpc::refused(lost, "CONFLICT");
}

#[tokio::test]
async fn joins_that_race_are_each_counted_once() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    let room = ada.room("public").await;
    let people = join_all((0..8).map(|_| Person::register(&api, "p"))).await;
    join_all(people.iter().flat_map(|person| [person.join(&room), person.join(&room)])).await;
    let body = ada.get(&format!("/rooms/{room}")).await.ok(200);
    assert_eq!((&body["room"]["memberCount"], body["room"]["members"].as_array().unwrap().len()), (&9.into(), 9));
    assert!(body["room"]["lastSeq"].as_i64().unwrap() <= 8, "{body}");
}
