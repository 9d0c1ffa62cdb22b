//! Rooms, members, messages.

use serde_json::{Value, json};

use crate::fixture::{Answer, Mesh, Person};

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

fn ids(answer: &Answer, list: &str, field: &str) -> Vec<String> {
    let items = answer.body[list].as_array().expect("list");
    items.iter().map(|item| item[field].as_str().expect("text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_made_changed_joined_left_and_closed() {
    let mesh = Mesh::start().await;
    let (ada, eve) = (mesh.person("ada").await, mesh.person("eve").await);
    let none = mesh.get(&ada, "/api/rooms").await;
    none.good(200).says("No rooms joined yet.");
    assert_eq!((&none.body["rooms"], &none.body["nextPageToken"]), (&json!([]), &json!("")));

    let new = json!({"name": " Engines ", "description": "Analytical", "roomType": "public"});
    let made = mesh.by(&ada, "POST", "/api/rooms", &new).await;
    let room = &made.good(201).body["room"];
    assert_eq!(
        (&room["name"], &room["roomType"], &room["createdBy"]),
        (&json!("Engines"), &json!("public"), &json!(ada.id))
    );
    assert_eq!((&room["members"], &room["memberCount"], &room["lastSeq"]), (&json!([ada.id]), &json!(1), &json!(0)));
    let path = format!("/api/rooms/{}", room["id"].as_str().expect("id"));
    let listed = mesh.get(&ada, "/api/v1/rooms").await;
    listed.good(200).says("Rooms retrieved successfully");
    assert_eq!(listed.body["rooms"][0]["id"], room["id"]);

    // A public room shows itself; reading and sending are for members.
    assert_eq!(mesh.get(&eve, &path).await.good(200).body["room"]["name"], "Engines");
    mesh.get(&eve, &format!("{path}/messages")).await.refused(403, "NOT_A_MEMBER");
    mesh.by(&eve, "POST", &format!("{path}/messages"), &json!({"content": "hi"})).await.refused(403, "NOT_A_MEMBER");
    mesh.by(&eve, "PATCH", &path, &json!({"name": "Mine"})).await.refused(403, "FORBIDDEN");
    mesh.by(&eve, "DELETE", &path, &Value::Null).await.refused(403, "FORBIDDEN");

    for _ in 0..2 {
        let joined = mesh.by(&eve, "POST", &format!("{path}/join"), &Value::Null).await;
        assert_eq!(joined.good(200).body["room"]["memberCount"], 2);
    }
    let members = mesh.get(&eve, &format!("{path}/members")).await;
    assert_eq!(ids(members.good(200), "members", "userId"), [ada.id.clone(), eve.id.clone()]);
    assert_eq!(
        (ids(&members, "members", "role"), ids(&members, "members", "username")),
        (vec!["owner".into(), "member".into()], vec!["ada".to_owned(), "eve".into()])
    );
    for _ in 0..2 {
        mesh.by(&eve, "POST", &format!("{path}/leave"), &Value::Null).await.good(200);
    }
    let changed = mesh.by(&ada, "PATCH", &path, &json!({"description": null})).await;
    assert_eq!(
        (&changed.good(200).body["room"]["description"], &changed.body["room"]["name"]),
        (&json!(""), &json!("Engines"))
    );
    mesh.by(&ada, "DELETE", &path, &Value::Null).await.good(200);
    mesh.get(&ada, &path).await.refused(404, "ROOM_NOT_FOUND").says("Room not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_room_does_not_exist_for_others_until_they_are_added() {
    let mesh = Mesh::start().await;
    let (ada, eve) = (mesh.person("ada").await, mesh.person("eve").await);
    let path = format!("/api/rooms/{}", mesh.room(&ada, "private").await);
    for (method, path, body) in [
        ("GET", path.clone(), Value::Null),
        ("PATCH", path.clone(), json!({"name": "x"})),
        ("DELETE", path.clone(), Value::Null),
        ("POST", format!("{path}/join"), Value::Null),
        ("GET", format!("{path}/members"), Value::Null),
        ("GET", format!("{path}/messages"), Value::Null),
        ("POST", format!("{path}/messages"), json!({"content": "x"})),
        ("GET", format!("/api/rooms/{NOBODY}"), Value::Null),
        ("GET", "/api/rooms/not-an-id".into(), Value::Null),
        ("GET", "/api/rooms/%00".into(), Value::Null),
    ] {
        let answer = mesh.by(&eve, method, &path, &body).await;
        answer.refused(404, "ROOM_NOT_FOUND").says("Room not found");
    }
    let members = format!("{path}/members");
    mesh.by(&ada, "POST", &members, &json!({"userId": NOBODY})).await.refused(404, "USER_NOT_FOUND");
    let added = mesh.by(&ada, "POST", &members, &json!({"userId": eve.id})).await;
    assert_eq!(added.good(200).body["room"]["members"], json!([ada.id, eve.id]));
    mesh.get(&eve, &path).await.good(200);
    mesh.by(&eve, "DELETE", &format!("{members}/{}", ada.id), &Value::Null).await.refused(403, "FORBIDDEN");
    mesh.by(&ada, "DELETE", &format!("{members}/{}", eve.id), &Value::Null).await.good(200);
    mesh.get(&eve, &path).await.refused(404, "ROOM_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_have_one_direct_room_from_either_side() {
    let mesh = Mesh::start().await;
    let (ada, eve) = (mesh.person("ada").await, mesh.person("eve").await);
    let open =
        async |who: &Person, with: &str| mesh.by(who, "POST", "/api/rooms/direct", &json!({"userId": with})).await;
    let made = open(&ada, &eve.id).await;
    let room = &made.good(201).body["room"];
    assert_eq!((&room["roomType"], &room["memberCount"]), (&json!("direct"), &json!(2)));
    assert_eq!(&open(&eve, &ada.id).await.good(200).body["room"]["id"], &room["id"]);
    open(&ada, NOBODY).await.refused(404, "USER_NOT_FOUND");
    assert_eq!(open(&ada, &ada.id).await.refused(400, "VALIDATION_FAILED").fields(), ["userId"]);
    assert_eq!(open(&ada, "x").await.refused(400, "VALIDATION_FAILED").fields(), ["userId"]);
    let leave = format!("/api/rooms/{}/leave", room["id"].as_str().expect("id"));
    mesh.by(&ada, "POST", &leave, &Value::Null).await.refused(403, "FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_rooms_are_listed_and_public_ones_by_page() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    for _ in 0..7 {
        mesh.room(&ada, "public").await;
    }
    let all = ids(mesh.get(&ada, "/api/rooms").await.good(200), "rooms", "id");
    assert_eq!(all.len(), 7);
    let gather = async |base: &str, size: usize| {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = mesh.get(&ada, &format!("{base}pageSize={size}&pageToken={token}")).await;
            assert!(ids(page.good(200), "rooms", "id").len() <= size);
            found.extend(ids(&page, "rooms", "id"));
            token = page.body["nextPageToken"].as_str().expect("token").to_owned();
            if token.is_empty() {
                return found;
            }
        }
    };
    assert_eq!(gather("/api/rooms?", 3).await, all);
    assert_eq!(gather("/api/rooms/public?search=ENG&", 2).await.len(), 7);
    // The room that is there from the first start.
    assert!(ids(&mesh.get(&ada, "/api/rooms/public").await, "rooms", "name").contains(&"general".to_owned()));
    for bad in ["/api/rooms?pageToken=garbage", "/api/rooms/public?pageToken=%00"] {
        assert_eq!(mesh.get(&ada, bad).await.refused(400, "VALIDATION_FAILED").fields(), ["pageToken"], "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rooms_than_the_cap_are_reached_by_the_token() {
    let mesh = Mesh::start_with(|_, gateway| gateway.rooms_listed_max = 100).await;
    let ada = mesh.person("ada").await;
    for _ in 0..102 {
        mesh.room(&ada, "private").await;
    }
    let first = mesh.get(&ada, "/api/rooms").await;
    assert_eq!(ids(first.good(200), "rooms", "id").len(), 100);
    let token = first.body["nextPageToken"].as_str().expect("token");
    let rest = mesh.get(&ada, &format!("/api/rooms?pageToken={token}")).await;
    assert_eq!((ids(rest.good(200), "rooms", "id").len(), &rest.body["nextPageToken"]), (2, &json!("")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_once_and_a_retry_answers_the_first() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let room = mesh.room(&ada, "private").await;
    let path = format!("/api/rooms/{room}/messages");
    let new = json!({"content": "Hello <b>!", "messageType": "greeting", "metadata": {"a": [1, 2.5, null]}, "clientMessageId": "c-1"});
    let sent = mesh.by(&ada, "POST", &path, &new).await;
    sent.good(201).says("Message sent");
    let data = &sent.body["data"];
    for field in ["content", "messageType", "metadata", "clientMessageId"] {
        assert_eq!(data[field], new[field], "{field}");
    }
    assert_eq!(
        (&data["seq"], &data["roomId"], &data["userId"], &data["username"]),
        (&json!(1), &json!(room), &json!(ada.id), &json!("ada"))
    );
    let again = mesh.by(&ada, "POST", &path, &json!({"content": "Other", "clientMessageId": "c-1"})).await;
    again.good(200).says("Message sent");
    assert_eq!(&again.body["data"], data);
    let plain = mesh.by(&ada, "POST", &path, &json!({"content": "no id"})).await;
    let plain = &plain.good(201).body["data"];
    assert_eq!((&plain["seq"], &plain["messageType"], &plain["metadata"]), (&json!(2), &json!("text"), &json!({})));
    assert!(plain["clientMessageId"].as_str().is_some_and(|id| !id.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_goes_by_pages_and_by_windows() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let path = format!("/api/rooms/{}/messages", mesh.room(&ada, "private").await);
    let get = async |query: &str| {
        let answer = mesh.get(&ada, &format!("{path}{query}")).await;
        answer.good(200).says("Message history retrieved successfully");
        let messages = answer.body["messages"].as_array().expect("list");
        let seqs: Vec<_> = messages.iter().map(|message| message["seq"].as_i64().expect("seq")).collect();
        (seqs, answer.body["pagination"].clone())
    };
    let page = |current, pages, items, per, next, previous| json!({"currentPage": current, "totalPages": pages, "totalItems": items, "itemsPerPage": per, "hasNext": next, "hasPrevious": previous});
    assert_eq!(get("").await, (vec![], page(1, 0, 0, 50, false, false)));
    for number in 1..=5 {
        mesh.by(&ada, "POST", &path, &json!({"content": format!("{number}")})).await.good(201);
    }
    assert_eq!(get("").await, (vec![1, 2, 3, 4, 5], page(1, 1, 5, 50, false, false)));
    assert_eq!(get("?limit=2").await, (vec![4, 5], page(1, 3, 5, 2, true, false)));
    assert_eq!(get("?page=2&limit=2").await, (vec![2, 3], page(2, 3, 5, 2, true, true)));
    assert_eq!(get("?page=3&limit=2").await, (vec![1], page(3, 3, 5, 2, false, true)));
    assert_eq!(get("?page=9&limit=2").await, (vec![], page(9, 3, 5, 2, false, true)));

    let window = |before: Value, after: Value, next, previous| json!({"nextBefore": before, "nextAfter": after, "itemsPerPage": 2, "hasNext": next, "hasPrevious": previous});
    let null = || Value::Null;
    assert_eq!(get("?before=6&limit=2").await, (vec![4, 5], window(json!(4), null(), true, false)));
    assert_eq!(get("?before=4&limit=2").await, (vec![2, 3], window(json!(2), json!(3), true, true)));
    assert_eq!(get("?before=2&limit=2").await, (vec![1], window(null(), json!(1), false, true)));
    assert_eq!(get("?before=1&limit=2").await, (vec![], window(null(), json!(0), false, true)));
    assert_eq!(get("?after=0&limit=2").await, (vec![1, 2], window(null(), json!(2), true, false)));
    assert_eq!(get("?after=3&limit=2").await, (vec![4, 5], window(json!(4), null(), false, true)));
    assert_eq!(get("?after=5&limit=2").await, (vec![], window(json!(6), null(), false, true)));
}
