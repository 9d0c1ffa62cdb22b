//! gRPC for other teams: reflection in both versions, live health, following a room with one call, deadlines.

use std::time::Duration;

use ::mesh::proto::message::v1::{SendMessageRequest, entry::Event};
use futures::StreamExt as _;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    mesh::{Mesh, Part},
    rest::{Api, Person},
    rpc::{self, Rpc, channel},
    wait,
};

/// The names of the services that a server lists by reflection, in the two versions of that protocol.
macro_rules! reflected {
    ($version:ident, $port:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask =
            |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let requests = vec![
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("switchboard.message.v1.MessageService".into())),
        ];
        let mut client = ServerReflectionClient::new(channel($port));
        let answers = client.server_reflection_info(futures::stream::iter(requests)).await.unwrap().into_inner();
        let answers: Vec<_> = answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
        let MessageResponse::ListServicesResponse(list) = &answers[0] else { panic!("no list: {answers:?}") };
        assert!(matches!(answers[1], MessageResponse::FileDescriptorResponse(_)), "{answers:?}");
        list.service.iter().map(|service| service.name.clone()).collect::<Vec<_>>()
    }};
}

#[tokio::test]
async fn every_service_describes_itself_in_both_versions_of_reflection() {
    let mesh = Mesh::shared();
    let ports = &mesh.ports;
    for (port, name) in [
        (ports.auth, "switchboard.auth.v1.AuthService"),
        (ports.user, "switchboard.user.v1.UserService"),
        (ports.message, "switchboard.message.v1.MessageService"),
    ] {
        for names in [reflected!(v1, port), reflected!(v1alpha, port)] {
            for expected in [name, "grpc.health.v1.Health"] {
                assert!(names.iter().any(|name| name == expected), "no {expected} in {names:?}");
            }
        }
    }
}

#[tokio::test]
async fn health_is_live_for_each_service() {
    let mesh = Mesh::shared();
    let ports = &mesh.ports;
    for (port, name) in [
        (ports.auth, "switchboard.auth.v1.AuthService"),
        (ports.user, "switchboard.user.v1.UserService"),
        (ports.message, "switchboard.message.v1.MessageService"),
    ] {
        let mut client = HealthClient::new(channel(port));
        for service in [name, ""] {
            let answer = client.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
        }
        let status = client.check(HealthCheckRequest { service: "no.such.Service".into() }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn readiness_names_what_is_away_and_recovers() {
    let mesh = Mesh::plan().separate().start();
    mesh.kill(Part::Message);
    let port = mesh.ports.ops(Part::Gateway);
    let url = format!("http://127.0.0.1:{port}/ready");
    let ask = || async { reqwest::Client::builder().no_proxy().build().unwrap().get(&url).send().await };
    let body = wait::until("the gateway to miss message-svc", async || {
        let answer = ask().await.ok()?;
        if answer.status() == 200 { None } else { answer.text().await.ok() }
    })
    .await;
    assert!(body.contains("message-svc"), "{body}");
    assert_eq!(crate::mesh::get_status(port, "/health"), Some(200), "the gateway itself lives");
    mesh.start(Part::Message);
    wait::until("the gateway to be ready", async || (ask().await.ok()?.status() == 200).then_some(())).await;
}

#[tokio::test]
async fn one_call_follows_a_room_from_a_cursor_on_and_then_live() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let (room, rpc) = (ada.room("public").await, ada.rpc(&mesh));
    let mut live = rpc.watch(&room, "").await.unwrap();
    rpc.send(&room, "one", "1").await.unwrap();
    let first = wait::within("an entry", live.message()).await.unwrap().unwrap();
    assert_eq!(first.entry.as_ref().unwrap().seq, 1);
    bob.join(&room).await;
    let second = rpc.send(&room, "two", "2").await.unwrap();
    for (stream, from) in [(&mut live, 2), (&mut rpc.watch(&room, &first.cursor).await.unwrap(), 2)] {
        let joined = wait::within("an entry", stream.message()).await.unwrap().unwrap().entry.unwrap();
        assert_eq!(joined.seq, from);
        assert!(matches!(joined.event, Some(Event::Members(members)) if members.joined == [bob.id.clone()]));
        let answer = wait::within("an entry", stream.message()).await.unwrap().unwrap();
        assert_eq!(answer.cursor, second.cursor, "a send is answered with the cursor that watchers get");
        let Some(Event::Message(message)) = answer.entry.unwrap().event else { panic!("no message") };
        assert_eq!(Some(message), second.message);
    }
    let eve = Person::register(&api, "eve").await.rpc(&mesh);
    let result = match eve.watch(&room, "").await {
        Ok(mut stream) => stream.message().await.map(drop),
        Err(status) => Err(status),
    };
    rpc::refused(result, "NOT_A_MEMBER");
}

#[tokio::test]
async fn a_callers_deadline_is_kept() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut request = Request::new(SendMessageRequest { room_id: room, content: "late".into(), ..Default::default() });
    request.set_timeout(Duration::from_nanos(1));
    let status = ada.rpc(&mesh).message.send_message(request).await.unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status:?}");
}

#[tokio::test]
async fn calls_for_services_only_refuse_users_and_strangers() {
    use ::mesh::proto::{
        auth::v1::{SpendWsTokenRequest, WatchRevocationsRequest},
        message::{self, v1::WatchRoomsRequest},
        user::{self, v1::CreateUserRequest},
    };
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let (user, stranger) = (ada.rpc(&mesh), Rpc::new(&mesh, None));
    for (mut rpc, code) in [(user, "FORBIDDEN"), (stranger, "UNAUTHORIZED")] {
        rpc::refused(rpc.user.create_user(CreateUserRequest::default()).await, code);
        rpc::refused(rpc.user.erase_user(user::v1::EraseUserRequest::default()).await, code);
        rpc::refused(rpc.message.erase_user(message::v1::EraseUserRequest::default()).await, code);
        rpc::refused(rpc.auth.spend_ws_token(SpendWsTokenRequest::default()).await, code);
        rpc::refused(rpc.auth.watch_revocations(WatchRevocationsRequest::default()).await.map(drop), code);
        let requests = futures::stream::iter([WatchRoomsRequest::default()]);
        let result = match rpc.message.watch_rooms(requests).await {
            Ok(answer) => answer.into_inner().message().await.map(drop),
            Err(status) => Err(status),
        };
        rpc::refused(result, code);
    }
}
