//! Messages over REST: sending, pages by number, windows by `seq`, and their shapes, under both prefixes.

use serde_json::{Value, json};

use crate::{
    accounts::check_time,
    mesh::Mesh,
    rest::{Api, Person},
};

fn seqs(body: &Value) -> Vec<i64> {
    body["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_message_is_answered_and_read_back_as_it_was_sent() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let room = ada.room("private").await;
        let path = format!("/rooms/{room}/messages");
        let content = "héllo 👩‍👩‍👧 <script>alert(1)</script>\n\tend";
        let metadata = json!({"reply": {"to": "x", "n": [1, 2.5, true, null]}});
        let sent =
            json!({"content": content, "messageType": "rich.text", "metadata": metadata, "clientMessageId": "c 1~"});
        let body = ada.post(&path, sent).await.ok(201);
        assert_eq!(body["message"], "Message sent");
        let message = &body["data"];
        assert_eq!((&message["seq"], &message["roomId"]), (&1.into(), &room.clone().into()));
        assert_eq!((&message["userId"], &message["username"]), (&ada.id.clone().into(), &ada.username.clone().into()));
        assert_eq!((&message["content"], &message["messageType"]), (&content.into(), &"rich.text".into()));
        assert_eq!((&message["metadata"], &message["clientMessageId"]), (&metadata, &"c 1~".into()));
        check_time(&message["createdAt"]);
        check_time(&message["updatedAt"]);
        let body = ada.get(&path).await.ok(200);
        assert_eq!(body["message"], "Message history retrieved successfully");
        assert_eq!(body["messages"], json!([message]));

        let plain = ada.send(&room, "plain").await;
        assert_eq!(plain["messageType"], "text");
        assert!(!plain["clientMessageId"].as_str().unwrap().is_empty(), "one is made for a client that gives none");
        let longest = "é".repeat(8_000);
        assert_eq!(ada.send(&room, &longest).await["content"], longest.as_str());
    }
}

#[tokio::test]
async fn history_is_read_by_page_newest_first_each_page_in_order() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
        let room = ada.room("public").await;
        let path = format!("/rooms/{room}/messages");
        let body = ada.get(&path).await.ok(200);
        assert_eq!(body["messages"], json!([]));
        assert_eq!((&body["pagination"]["totalItems"], &body["pagination"]["itemsPerPage"]), (&0.into(), &50.into()));
        // The third entry is a join, so that numbers of messages and of entries differ.
        for index in 1..=7 {
            if index == 3 {
                bob.join(&room).await;
            }
            ada.send(&room, &format!("message {index}")).await;
        }
        let body = ada.get(&format!("{path}?page=1&limit=3")).await.ok(200);
        assert_eq!(seqs(&body), [6, 7, 8]);
        let expected = json!({
            "currentPage": 1, "totalPages": 3, "totalItems": 7, "itemsPerPage": 3, "hasNext": true, "hasPrevious": false,
        });
        assert_eq!(body["pagination"], expected);
        assert_eq!(seqs(&ada.get(&format!("{path}?page=2&limit=3")).await.ok(200)), [2, 4, 5]);
        let body = ada.get(&format!("{path}?page=3&limit=3")).await.ok(200);
        assert_eq!(seqs(&body), [1]);
        assert_eq!((&body["pagination"]["hasNext"], &body["pagination"]["hasPrevious"]), (&false.into(), &true.into()));
        assert_eq!(seqs(&ada.get(&format!("{path}?page=4&limit=3")).await.ok(200)), [0_i64; 0]);
        assert_eq!(seqs(&ada.get(&format!("{path}?limit=100")).await.ok(200)).len(), 7);
    }
}

#[tokio::test]
async fn history_is_read_by_windows_before_and_after_a_seq() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
        let room = ada.room("public").await;
        let path = format!("/rooms/{room}/messages");
        for index in 1..=7 {
            if index == 3 {
                bob.join(&room).await;
            }
            ada.send(&room, &format!("message {index}")).await;
        }
        let body = ada.get(&format!("{path}?before=6&limit=3")).await.ok(200);
        assert_eq!(seqs(&body), [2, 4, 5]);
        let pagination = &body["pagination"];
        assert_eq!((&pagination["nextBefore"], &pagination["nextAfter"]), (&2.into(), &5.into()), "{body}");
        assert_eq!(pagination["itemsPerPage"], 3);
        assert!(pagination["hasNext"].is_boolean() && pagination["hasPrevious"].is_boolean(), "{body}");
        assert_eq!(seqs(&ada.get(&format!("{path}?before=2&limit=3")).await.ok(200)), [1]);
        assert_eq!(seqs(&ada.get(&format!("{path}?after=5&limit=2")).await.ok(200)), [6, 7]);
        assert_eq!(seqs(&ada.get(&format!("{path}?after=8")).await.ok(200)), [0_i64; 0]);
        assert_eq!(seqs(&ada.get(&format!("{path}?before=1")).await.ok(200)), [0_i64; 0]);
        let all = ada.history(&room).await;
        assert_eq!(all.len(), 7);
    }
}

#[tokio::test]
async fn a_retry_answers_the_first_message_with_200_also_when_its_content_differs() {
    let mesh = Mesh::shared();
    for api in [Api::new(&mesh), Api::new(&mesh).v1()] {
        let ada = Person::register(&api, "ada").await;
        let room = ada.room("private").await;
        let path = format!("/rooms/{room}/messages");
        let first = ada.post(&path, json!({"content": "first", "clientMessageId": "same"})).await.ok(201);
        let again = ada.post(&path, json!({"content": "second", "clientMessageId": "same"})).await.ok(200);
        assert_eq!(first["data"], again["data"]);
        assert_eq!(ada.history(&room).await, [first["data"].clone()]);
    }
}
