//! What goes on while a service is away, and what is made good when it is back: registration without user-svc, sends
//! under a known name, tokens while auth-svc is silent.

use reqwest::Method;
use serde_json::json;

use crate::{
    mesh::{Mesh, Part},
    rest::{Api, PASSWORD, Person, unique},
    wait,
};

#[tokio::test]
async fn an_account_made_while_user_svc_is_away_has_its_profile_when_it_is_back() {
    let mesh = Mesh::plan().separate().start();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    mesh.kill(Part::User);
    let username = unique("late");
    let account = json!({
        "username": username, "email": format!("{username}@example.com"), "password": PASSWORD, "firstName": "Late",
    });
    let body = api.post("/auth/register", account).await.ok(201);
    let late = Person::from_answer(&api, &body);
    // The row that remembers it survives auth-svc, too.
    mesh.kill(Part::Auth);
    mesh.start(Part::Auth);
    mesh.start(Part::User);
    let user = wait::until("the profile", async || {
        let answer = ada.get(&format!("/users/{}", late.id)).await;
        (answer.status == 200).then_some(answer)
    })
    .await
    .ok(200)["user"]
        .take();
    assert_eq!((&user["username"], &user["firstName"]), (&username.into(), &"Late".into()));
}

#[tokio::test]
async fn a_rename_made_while_user_svc_is_away_arrives() {
    let mesh = Mesh::plan().separate().start();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    mesh.kill(Part::User);
    let mut auth = ada.rpc(&mesh).auth;
    let mut names = Vec::new();
    for _ in 0..3 {
        let name = unique("renamed");
        let account = ::mesh::proto::auth::v1::Account { username: name.clone(), ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["username".into()] });
        let request =
            ::mesh::proto::auth::v1::UpdateAccountRequest { account: Some(account), update_mask, ..Default::default() };
        auth.update_account(request).await.unwrap();
        names.push(name);
    }
    mesh.start(Part::User);
    wait::until("the last name", async || {
        let answer = bob.get(&format!("/users/{}", ada.id)).await;
        (answer.body["user"]["username"] == names[2]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn somebody_known_goes_on_sending_while_user_svc_is_away() {
    let mesh = Mesh::plan().separate().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    ada.send(&room, "known from here on").await;
    mesh.kill(Part::User);
    let message = ada.send(&room, "user-svc is away").await;
    assert_eq!(message["username"], ada.username);
    assert_eq!(ada.history(&room).await.len(), 2);
}

#[tokio::test]
async fn tokens_are_good_while_auth_svc_restarts_and_refused_when_nobody_can_tell() {
    let mesh = Mesh::plan().separate().set("mesh.identity.silence_ms_max", 1_000).start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    mesh.kill(Part::Auth);
    ada.send(&room, "within the grace").await;
    // Past the grace each token is asked about, and there is nobody to ask.
    let refused = wait::until("the silence to be noticed", async || {
        let answer = ada.get("/rooms").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused.refused(503, "UNAVAILABLE");
    mesh.start(Part::Auth);
    wait::until("auth-svc to be heard again", async || (ada.get("/rooms").await.status == 200).then_some(())).await;
    ada.call(Method::POST, "/auth/logout", None).await.ok(200);
    wait::until("the revocation", async || (ada.get("/rooms").await.status == 401).then_some(())).await;
}
