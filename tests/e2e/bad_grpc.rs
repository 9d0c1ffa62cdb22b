//! Bad input over gRPC: calls without metadata, bad deadlines, ids, pages, masks and cursors. Each is refused with its
//! field and limit, and the service serves on.

use ::mesh::proto::{auth::v1 as auth, message::v1 as message, user::v1 as user};
use message::{RoomType, list_messages_request::Position};
use tonic::{Code, Request, metadata::MetadataValue};
use uuid::Uuid;

use crate::{
    mesh::Mesh,
    rest::{Api, Person},
    rpc::{Rpc, invalid, reason, refused},
};

#[tokio::test]
async fn a_call_without_metadata_is_told_that_it_needs_a_caller() {
    let mesh = Mesh::shared();
    let mut nobody = Rpc::new(&mesh, None);
    refused(nobody.auth.get_account(auth::GetAccountRequest::default()).await, "UNAUTHORIZED");
    refused(nobody.auth.logout(auth::LogoutRequest::default()).await, "UNAUTHORIZED");
    refused(nobody.user.get_user(user::GetUserRequest { user_id: Uuid::now_v7().to_string() }).await, "UNAUTHORIZED");
    refused(nobody.message.list_rooms(message::ListRoomsRequest::default()).await, "UNAUTHORIZED");
    let room = Uuid::new_v4().to_string();
    refused(nobody.send(&room, "x", "x").await, "UNAUTHORIZED");
    let result = match nobody.watch(&room, "").await {
        Ok(mut stream) => stream.message().await.map(drop),
        Err(status) => Err(status),
    };
    refused(result, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_deadline_that_is_none_is_named() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    for deadline in ["5", "S", "-1S", "x", "123456789S", "1.5S", "10 S"] {
        let mut request = Request::new(message::ListRoomsRequest::default());
        request.metadata_mut().insert("grpc-timeout", MetadataValue::try_from(deadline).unwrap());
        let status = ada.rpc(&mesh).message.list_rooms(request).await.expect_err(deadline);
        assert_eq!(status.code(), Code::InvalidArgument, "{deadline}: {status:?}");
        let (code, fields) = reason(&status);
        assert_eq!((code.as_str(), fields[0].0.as_str()), ("VALIDATION_FAILED", "grpc-timeout"), "{deadline}");
    }
    ada.rpc(&mesh).message.list_rooms(message::ListRoomsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn an_id_that_is_none_is_named_wherever_it_stands() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room_id = ada.room("private").await;
    for bad in ["", "x", "0", "../..", "'; DROP TABLE rooms; --", "a\0b", &"9".repeat(10_000)] {
        let (mut rpc, bad) = (ada.rpc(&mesh), bad.to_owned());
        let (room, field, says) = (bad.clone(), "room_id", "");
        invalid(rpc.message.get_room(message::GetRoomRequest { room_id: room.clone() }).await, field, says);
        invalid(rpc.message.join_room(message::JoinRoomRequest { room_id: room.clone() }).await, field, says);
        invalid(rpc.message.leave_room(message::LeaveRoomRequest { room_id: room.clone() }).await, field, says);
        invalid(rpc.message.delete_room(message::DeleteRoomRequest { room_id: room.clone() }).await, field, says);
        invalid(rpc.send(&room, "x", "x").await, field, says);
        invalid(rpc.entries(&room, "").await, field, says);
        let result = match rpc.watch(&room, "").await {
            Ok(mut stream) => stream.message().await.map(drop),
            Err(status) => Err(status),
        };
        invalid(result, field, says);
        let request = message::AddMemberRequest { room_id: room_id.clone(), user_id: bad.clone() };
        invalid(rpc.message.add_member(request).await, "user_id", says);
        invalid(
            rpc.message.open_direct_room(message::OpenDirectRoomRequest { user_id: bad.clone() }).await,
            "user_id",
            says,
        );
        invalid(rpc.user.get_user(user::GetUserRequest { user_id: bad.clone() }).await, "user_id", says);
        invalid(rpc.auth.revoke_session(auth::RevokeSessionRequest { session_id: bad }).await, "session_id", says);
    }
    let ids = vec![ada.id.clone(), "x".into()];
    refused(
        ada.rpc(&mesh).user.batch_get_users(user::BatchGetUsersRequest { user_ids: ids }).await,
        "VALIDATION_FAILED",
    );
    let ids = vec![ada.id.clone(); 101];
    invalid(ada.rpc(&mesh).user.batch_get_users(user::BatchGetUsersRequest { user_ids: ids }).await, "user_ids", "100");
}

#[tokio::test]
async fn a_page_or_a_window_that_makes_no_sense_is_named_with_its_limit() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut rpc = ada.rpc(&mesh);
    for page_size in [-1, 101, 10_000, i32::MAX, i32::MIN] {
        let page_token = String::new();
        let list = message::ListRoomsRequest { page_size, page_token: page_token.clone() };
        invalid(rpc.message.list_rooms(list).await, "page_size", "100");
        let list = message::ListPublicRoomsRequest { page_size, ..Default::default() };
        invalid(rpc.message.list_public_rooms(list).await, "page_size", "100");
        let list = message::ListMembersRequest { room_id: room.clone(), page_size, page_token: page_token.clone() };
        invalid(rpc.message.list_members(list).await, "page_size", "100");
        let list = message::ListMessagesRequest { room_id: room.clone(), page_size, position: None };
        invalid(rpc.message.list_messages(list).await, "page_size", "100");
        invalid(rpc.auth.list_sessions(auth::ListSessionsRequest { page_size, page_token }).await, "page_size", "100");
    }
    for (position, field) in [
        (Position::Page(0), "page"),
        (Position::Page(-1), "page"),
        (Position::Before(-1), "before"),
        (Position::After(-1), "after"),
    ] {
        let list = message::ListMessagesRequest { room_id: room.clone(), page_size: 0, position: Some(position) };
        invalid(rpc.message.list_messages(list).await, field, "");
    }
    for token in ["x", "\0", &"A".repeat(5_000)] {
        let list = message::ListRoomsRequest { page_size: 0, page_token: token.to_owned() };
        invalid(rpc.message.list_rooms(list).await, "page_token", "");
        let list = auth::ListSessionsRequest { page_size: 0, page_token: token.to_owned() };
        invalid(rpc.auth.list_sessions(list).await, "page_token", "");
    }
    for cursor in ["x", "\0", &"A".repeat(129), &"A".repeat(100_000)] {
        invalid(rpc.entries(&room, cursor).await, "cursor", "");
    }
}

#[tokio::test]
async fn a_mask_that_is_empty_or_names_what_cannot_change_is_refused() {
    let mesh = Mesh::shared();
    let api = Api::new(&mesh);
    let (ada, eve) = (Person::register(&api, "ada").await, Person::register(&api, "eve").await);
    let room_id = ada.room("private").await;
    let mut rpc = ada.rpc(&mesh);
    let masks =
        |paths: &[&str]| Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    for paths in [&[][..], &["nothing"], &["id"], &["name", "created_by"], &["*"], &["room.name"]] {
        let room = message::Room { id: room_id.clone(), name: "changed".into(), ..Default::default() };
        let change = message::UpdateRoomRequest { room: Some(room), update_mask: masks(paths) };
        refused(rpc.message.update_room(change).await, "VALIDATION_FAILED");
        let changed = user::User { bio: "changed".into(), ..Default::default() };
        let change = user::UpdateUserRequest { user: Some(changed), update_mask: masks(paths), ..Default::default() };
        refused(rpc.user.update_user(change).await, "VALIDATION_FAILED");
        let change = auth::UpdateAccountRequest {
            account: Some(auth::Account::default()),
            update_mask: masks(paths),
            ..Default::default()
        };
        refused(rpc.auth.update_account(change).await, "VALIDATION_FAILED");
    }
    let change = message::UpdateRoomRequest { room: None, update_mask: masks(&["name"]) };
    refused(rpc.message.update_room(change).await, "VALIDATION_FAILED");
    let theirs = user::User { id: eve.id.clone(), bio: "changed".into(), ..Default::default() };
    let change = user::UpdateUserRequest { user: Some(theirs), update_mask: masks(&["bio"]), ..Default::default() };
    refused(rpc.user.update_user(change).await, "FORBIDDEN");
    let room = rpc.message.get_room(message::GetRoomRequest { room_id }).await.unwrap().into_inner().room.unwrap();
    assert_ne!(room.name, "changed");
}

#[tokio::test]
async fn what_the_services_refuse_does_not_depend_on_the_gateway() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut rpc = ada.rpc(&mesh);
    invalid(rpc.send(&room, "", "x").await, "content", "8000");
    invalid(rpc.send(&room, &"x".repeat(8_001), "x").await, "content", "8000");
    invalid(rpc.send(&room, "a\0b", "x").await, "content", "U+0000");
    invalid(rpc.send(&room, "x", &"x".repeat(65)).await, "client_message_id", "64");
    invalid(rpc.send(&room, "x", "é").await, "client_message_id", "ASCII");
    for (name, says) in [("   ", "1"), ("a\u{7}b", "control"), (&*"\u{1F600}".repeat(1_000), "100"), ("a\0b", "")] {
        let request =
            message::CreateRoomRequest { name: name.into(), room_type: RoomType::Public.into(), ..Default::default() };
        invalid(rpc.message.create_room(request).await, "name", says);
    }
    for room_type in [RoomType::Unspecified as i32, RoomType::Direct as i32, 99] {
        let request = message::CreateRoomRequest { name: "x".into(), room_type, ..Default::default() };
        invalid(rpc.message.create_room(request).await, "room_type", "");
    }
    let request = auth::RegisterRequest {
        username: "a\0b".into(),
        email: "x".into(),
        password: "y".into(),
        ..Default::default()
    };
    let status = refused(rpc.auth.register(request).await, "VALIDATION_FAILED");
    let fields: Vec<_> = reason(&status).1.into_iter().map(|(field, _)| field).collect();
    for field in ["username", "email", "password"] {
        assert!(fields.iter().any(|name| name == field), "no {field} in {fields:?}");
    }
    let nan = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(f64::NAN)) };
    let metadata = prost_types::Struct { fields: [("x".to_owned(), nan)].into() };
    let request = message::SendMessageRequest {
        room_id: room.clone(),
        content: "x".into(),
        metadata: Some(metadata),
        ..Default::default()
    };
    invalid(rpc.message.send_message(request).await, "metadata", "");
    let status = rpc.send(&room, &"x".repeat(8 << 20), "x").await.expect_err("8 MiB");
    assert!([Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument].contains(&status.code()), "{status:?}");
    assert_eq!(ada.get(&format!("/rooms/{room}")).await.ok(200)["room"]["lastSeq"], 0);
}

#[tokio::test]
async fn one_bad_entry_in_a_batch_fails_alone() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let rpc = ada.rpc(&mesh);
    let sends = (0..200).map(|index| {
        let (rpc, room) = (rpc.clone(), room.clone());
        let content = if index % 10 == 3 { "bad\0".to_owned() } else { format!("good {index}") };
        async move { (index, rpc.send(&room, &content, &format!("b{index}")).await) }
    });
    for (index, result) in futures::future::join_all(sends).await {
        assert_eq!(result.is_err(), index % 10 == 3, "{index}: {result:?}");
    }
    let seqs: Vec<_> = ada.history(&room).await.iter().map(|message| message["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=180).collect::<Vec<_>>());
}
