//! Rooms and their members over REST: every route and shape of the contract, who may do what, under both prefixes.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    accounts::check_time,
    mesh::Mesh,
    rest::{Api, Person, unique},
};

#[track_caller]
fn check_room(room: &Value, room_type: &str, members: &[&Person]) {
    for key in ["id", "name", "description", "createdBy"] {
        assert!(room[key].is_string(), "no {key} in {room}");
    }
    assert_eq!(room["roomType"], room_type, "{room}");
    assert_eq!(room["memberCount"], members.len(), "{room}");
    let ids: Vec<_> = room["members"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(ids, members.iter().map(|person| person.id.as_str()).collect::<Vec<_>>(), "{room}");
    assert!(room["lastSeq"].is_i64(), "{room}");
    check_time(&room["createdAt"]);
    check_time(&room["updatedAt"]);
}

#[tokio::test]
async fn a_room_is_made_joined_left_and_listed_under_both_prefixes() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
        let body = ada.get("/rooms").await.ok(200);
        assert_eq!((&body["message"], &body["rooms"]), (&"No rooms joined yet.".into(), &json!([])));

        let name = unique("  room ");
        let made = json!({"name": name, "description": "where we talk", "roomType": "public"});
        let body = ada.post("/rooms", made).await.ok(201);
        let room = &body["room"];
        check_room(room, "public", &[&ada]);
        assert_eq!((&room["name"], &room["createdBy"]), (&name.trim().into(), &ada.id.clone().into()));
        assert_eq!((&room["description"], &room["lastSeq"]), (&"where we talk".into(), &0.into()));
        let id = room["id"].as_str().unwrap();
        assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 4);

        let seen = bob.get(&format!("/rooms/{id}")).await.ok(200);
        assert_eq!(seen["room"]["memberCount"], 1, "a public room shows itself");
        bob.get(&format!("/rooms/{id}/messages")).await.refused(403, "NOT_A_MEMBER");
        bob.post(&format!("/rooms/{id}/messages"), json!({"content": "x"})).await.refused(403, "NOT_A_MEMBER");
        for _ in 0..2 {
            let body = bob.call(Method::POST, &format!("/rooms/{id}/join"), None).await.ok(200);
            check_room(&body["room"], "public", &[&ada, &bob]);
            assert_eq!(body["room"]["lastSeq"], 1, "one entry for one join");
        }
        let body = bob.get("/rooms").await.ok(200);
        assert_eq!((&body["message"], &body["rooms"][0]["id"]), (&"Rooms retrieved successfully".into(), &id.into()));
        for _ in 0..2 {
            let body = bob.call(Method::POST, &format!("/rooms/{id}/leave"), None).await.ok(200);
            check_room(&body["room"], "public", &[&ada]);
            assert_eq!(body["room"]["lastSeq"], 2, "one entry for one leave");
        }
        assert_eq!(bob.get("/rooms").await.ok(200)["rooms"], json!([]));
    }
}

#[tokio::test]
async fn general_is_there_from_the_first_start_and_nobody_is_put_into_it() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let body = ada.get("/rooms/public?search=general").await.ok(200);
    let rooms = body["rooms"].as_array().unwrap();
    let general = rooms.iter().find(|room| room["name"] == "general").expect("general");
    assert_eq!((&general["roomType"], &general["createdBy"]), (&"public".into(), &"system".into()));
    assert!(!general["members"].as_array().unwrap().contains(&ada.id.clone().into()));
    let path = format!("/rooms/{}", general["id"].as_str().unwrap());
    ada.delete(&path).await.refused(403, "FORBIDDEN");
    ada.patch(&path, json!({"name": "mine"})).await.refused(403, "FORBIDDEN");
}

#[tokio::test]
async fn public_rooms_are_found_by_part_of_their_name_in_pages() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let mark = unique("Mark");
        for index in 0..5 {
            let name = format!("{index} {mark} %_");
            ada.post("/rooms", json!({"name": name, "roomType": "public"})).await.ok(201);
        }
        ada.post("/rooms", json!({"name": format!("hidden {mark}"), "roomType": "private"})).await.ok(201);
        let (mut names, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("/rooms/public?search={}&pageSize=2&pageToken={token}", mark.to_lowercase());
            let body = ada.get(&path).await.ok(200);
            let rooms = body["rooms"].as_array().unwrap();
            assert!(rooms.len() <= 2, "{body}");
            names.extend(rooms.iter().map(|room| room["name"].as_str().unwrap().to_owned()));
            token = body["nextPageToken"].as_str().unwrap().to_owned();
            if token.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = (0..5).map(|index| format!("{index} {mark} %_")).collect();
        assert_eq!(names, expected);
        let body = ada.get(&format!("/rooms/public?search={mark}%25%25")).await.ok(200);
        assert_eq!(body["rooms"], json!([]), "a wildcard of the store is no wildcard of ours");
    }
}

#[tokio::test]
async fn only_the_owner_changes_and_closes_a_room() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
        let id = ada.room("public").await;
        let path = format!("/rooms/{id}");
        bob.join(&id).await;
        bob.patch(&path, json!({"name": "bob's"})).await.refused(403, "FORBIDDEN");
        bob.delete(&path).await.refused(403, "FORBIDDEN");
        let body = ada.patch(&path, json!({"description": "new"})).await.ok(200);
        assert_eq!((&body["room"]["description"], &body["room"]["lastSeq"]), (&"new".into(), &2.into()));
        let body = ada.patch(&path, json!({"name": "  renamed "})).await.ok(200);
        assert_eq!((&body["room"]["description"], &body["room"]["name"]), (&"new".into(), &"renamed".into()));
        ada.delete(&path).await.ok(200);
        for person in [&ada, &bob] {
            person.get(&path).await.refused(404, "ROOM_NOT_FOUND");
            person.post(&format!("{path}/messages"), json!({"content": "x"})).await.refused(404, "ROOM_NOT_FOUND");
            assert_eq!(person.get("/rooms").await.ok(200)["rooms"], json!([]));
        }
    }
}

#[tokio::test]
async fn a_private_room_does_not_exist_for_others_and_its_members_add_more() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let (bob, eve) = (Person::register(&api, "bob").await, Person::register(&api, "eve").await);
        let id = ada.room("private").await;
        let path = format!("/rooms/{id}");
        let members = format!("{path}/members");
        for (method, path) in [
            (Method::GET, path.clone()),
            (Method::PATCH, path.clone()),
            (Method::DELETE, path.clone()),
            (Method::POST, format!("{path}/join")),
            (Method::POST, format!("{path}/leave")),
            (Method::GET, members.clone()),
            (Method::POST, members.clone()),
            (Method::DELETE, format!("{members}/{}", ada.id)),
            (Method::GET, format!("{path}/messages")),
            (Method::POST, format!("{path}/messages")),
        ] {
            let body = match method {
                Method::PATCH => Some(json!({"name": "x"})),
                Method::POST => Some(json!({"userId": bob.id, "content": "x"})),
                _ => None,
            };
            let answer = eve.call(method.clone(), &path, body).await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
            assert_eq!(answer.refused(404, "ROOM_NOT_FOUND")["message"], "Room not found");
        }
        ada.post(&members, json!({"userId": bob.id})).await.ok(200);
        bob.post(&members, json!({"userId": eve.id})).await.ok(200);
        eve.post(&members, json!({"userId": Uuid::now_v7()})).await.refused(404, "USER_NOT_FOUND");
        let body = ada.get(&members).await.ok(200);
        let roles: Vec<_> = body["members"].as_array().unwrap().iter().map(|member| &member["role"]).collect();
        assert_eq!(roles, ["owner", "member", "member"], "{body}");
        for (member, person) in body["members"].as_array().unwrap().iter().zip([&ada, &bob, &eve]) {
            assert_eq!(
                (&member["userId"], &member["username"]),
                (&person.id.clone().into(), &person.username.clone().into())
            );
            check_time(&member["joinedAt"]);
        }
        assert_eq!(body["nextPageToken"], "");
        bob.delete(&format!("{members}/{}", eve.id)).await.refused(403, "FORBIDDEN");
        for _ in 0..2 {
            ada.delete(&format!("{members}/{}", eve.id)).await.ok(200);
        }
        eve.get(&path).await.refused(404, "ROOM_NOT_FOUND");
        ada.delete(&format!("{members}/{}", ada.id)).await.refused(403, "FORBIDDEN");
    }
}

#[tokio::test]
async fn members_are_listed_in_pages_in_the_order_they_came() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    let id = ada.room("public").await;
    let mut expected = vec![ada.id.clone()];
    for _ in 0..4 {
        let person = Person::register(&api, "p").await;
        person.join(&id).await;
        expected.push(person.id);
    }
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let body = ada.get(&format!("/rooms/{id}/members?pageSize=2&pageToken={token}")).await.ok(200);
        let page = body["members"].as_array().unwrap();
        ids.extend(page.iter().map(|member| member["userId"].as_str().unwrap().to_owned()));
        token = body["nextPageToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn when_the_owner_leaves_the_longest_standing_member_owns_the_room_and_an_empty_private_one_is_closed() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let id = ada.room("private").await;
    let path = format!("/rooms/{id}");
    ada.post(&format!("{path}/members"), json!({"userId": bob.id})).await.ok(200);
    ada.call(Method::POST, &format!("{path}/leave"), None).await.ok(200);
    let body = bob.get(&format!("{path}/members")).await.ok(200);
    assert_eq!((&body["members"][0]["userId"], &body["members"][0]["role"]), (&bob.id.clone().into(), &"owner".into()));
    bob.patch(&path, json!({"name": "bob's"})).await.ok(200);
    bob.call(Method::POST, &format!("{path}/leave"), None).await.ok(200);
    bob.get(&path).await.refused(404, "ROOM_NOT_FOUND");
}

#[tokio::test]
async fn two_people_have_one_direct_room_whoever_opens_it() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let (bob, eve) = (Person::register(&api, "bob").await, Person::register(&api, "eve").await);
        let body = ada.post("/rooms/direct", json!({"userId": bob.id})).await.ok(201);
        let room = &body["room"];
        check_room(room, "direct", &[&ada, &bob]);
        let id = room["id"].as_str().unwrap();
        for (person, other) in [(&ada, &bob), (&bob, &ada)] {
            let body = person.post("/rooms/direct", json!({"userId": other.id})).await.ok(200);
            assert_eq!(body["room"]["id"], id);
        }
        bob.send(id, "hello").await;
        eve.get(&format!("/rooms/{id}")).await.refused(404, "ROOM_NOT_FOUND");
        ada.call(Method::POST, &format!("/rooms/{id}/leave"), None).await.refused(403, "FORBIDDEN");
        ada.post(&format!("/rooms/{id}/members"), json!({"userId": eve.id})).await.refused(403, "FORBIDDEN");
        ada.delete(&format!("/rooms/{id}")).await.refused(403, "FORBIDDEN");
        ada.post("/rooms/direct", json!({"userId": ada.id})).await.refused(400, "VALIDATION_FAILED");
        ada.post("/rooms/direct", json!({"userId": Uuid::now_v7()})).await.refused(404, "USER_NOT_FOUND");
    }
}
