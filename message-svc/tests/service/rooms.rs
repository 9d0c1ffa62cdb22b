//! Rooms and members: who sees, enters, leaves, owns and closes what.

use mesh::{error::Reason, proto::message::v1::*};
use uuid::Uuid;

use crate::world::{World, answer, reason};

const GENERAL: &str = "67656e65-7261-4c00-8000-000000000000";

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_made_once_for_one_id_and_shows_itself_to_those_who_may_see_it() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada"), world.person("bob"));
    let id = Uuid::new_v4().to_string();
    let new = CreateRoomRequest {
        name: "  Tea  ".into(),
        description: "and cake".into(),
        room_type: RoomType::Private.into(),
        room_id: id.clone(),
    };
    let room = answer(ada.client().create_room(ada.request(new.clone())).await).expect("made").room.expect("a room");
    assert_eq!((&*room.name, room.member_count, room.last_seq), ("Tea", 1, 0));
    assert_eq!((&room.created_by, &room.member_ids), (&ada.id, &vec![ada.id.clone()]));
    let again = answer(ada.client().create_room(ada.request(new.clone())).await).expect("answered");
    assert_eq!(again.room, Some(room.clone()));
    assert_eq!(reason(answer(bob.client().create_room(bob.request(new)).await)), Reason::Conflict);

    assert_eq!(ada.get(&id).await.expect("sees it"), room);
    assert_eq!(reason(bob.get(&id).await), Reason::RoomNotFound);
    assert_eq!(reason(bob.join(&id).await), Reason::RoomNotFound);
    assert_eq!(reason(bob.leave(&id).await), Reason::RoomNotFound);
    assert_eq!(reason(bob.send(&id, "x").await), Reason::RoomNotFound);
    assert_eq!(reason(bob.history(&id, None, 0).await), Reason::RoomNotFound);
    assert_eq!(reason(bob.add(&id, &bob.id).await), Reason::RoomNotFound);

    let open = ada.create("Open", RoomType::Public).await;
    assert_eq!(bob.get(&open).await.expect("sees it").member_count, 1);
    assert_eq!(reason(bob.send(&open, "x").await), Reason::NotAMember);
    assert_eq!(reason(bob.history(&open, None, 0).await), Reason::NotAMember);
    assert_eq!(reason(bob.add(&open, &bob.id).await), Reason::NotAMember);
    assert_eq!(reason(bob.remove(&open, &ada.id).await), Reason::Forbidden);
    let unknown = Uuid::new_v4().to_string();
    assert_eq!(reason(bob.get(&unknown).await), Reason::RoomNotFound);
    assert_eq!(reason(bob.join(&unknown).await), Reason::RoomNotFound);
    assert_eq!(reason(ada.add(&open, &unknown).await), Reason::UserNotFound);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_and_an_empty_private_room_closes() {
    let world = World::start().await;
    let (ada, bob, eve) = (world.person("ada"), world.person("bob"), world.person("eve"));
    let room = ada.create("Private", RoomType::Private).await;
    ada.add(&room, &bob.id).await.expect("added");
    let added = bob.add(&room, &eve.id).await.expect("members add").room.expect("a room");
    assert_eq!(added.member_ids, [ada.id.clone(), bob.id.clone(), eve.id.clone()]);
    assert_eq!(bob.add(&room, &eve.id).await.expect("is in already").room.expect("a room").last_seq, 2);
    let joined = bob.join(&room).await.expect("is in already");
    assert_eq!(joined.room.expect("a room").last_seq, 2);
    assert_eq!(reason(bob.remove(&room, &eve.id).await), Reason::Forbidden);
    assert_eq!(reason(ada.remove(&room, &ada.id).await), Reason::Forbidden);
    ada.remove(&room, &eve.id).await.expect("removed");
    ada.remove(&room, &eve.id).await.expect("is out already");
    assert_eq!(reason(eve.get(&room).await), Reason::RoomNotFound);

    let list = ListMembersRequest { room_id: room.clone(), page_size: 1, page_token: String::new() };
    let first = answer(ada.client().list_members(ada.request(list.clone())).await).expect("listed");
    assert_eq!((&*first.members[0].username, first.members[0].role()), ("ada", MemberRole::Owner));
    let next = ListMembersRequest { page_token: first.next_page_token, ..list };
    let second = answer(ada.client().list_members(ada.request(next)).await).expect("listed");
    assert_eq!((&*second.members[0].username, second.members[0].role()), ("bob", MemberRole::Member));
    assert_eq!(second.next_page_token, "");

    let left = ada.leave(&room).await.expect("left").room.expect("a room");
    assert_eq!(left.member_ids, std::slice::from_ref(&bob.id));
    bob.remove(&room, &ada.id).await.expect("bob owns it now");
    bob.leave(&room).await.expect("left");
    assert_eq!(reason(bob.get(&room).await), Reason::RoomNotFound);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_owner_changes_and_closes_a_room() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada"), world.person("bob"));
    let id = ada.create("Before", RoomType::Public).await;
    bob.join(&id).await.expect("joined");
    let update = |paths: &[&str]| UpdateRoomRequest {
        room: Some(Room { id: id.clone(), name: "After".into(), description: "Said".into(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
    };
    let refused = bob.client().update_room(bob.request(update(&["name"]))).await;
    assert_eq!(reason(answer(refused)), Reason::Forbidden);
    let changed = answer(ada.client().update_room(ada.request(update(&["name"]))).await).expect("changed");
    let changed = changed.room.expect("a room");
    assert_eq!((&*changed.name, &*changed.description, changed.last_seq), ("After", "", 2));
    let same = answer(ada.client().update_room(ada.request(update(&["name"]))).await).expect("is so");
    assert_eq!(same.room.expect("a room").last_seq, 2, "what is so already is no entry");
    let delete = || DeleteRoomRequest { room_id: id.clone() };
    assert_eq!(reason(answer(bob.client().delete_room(bob.request(delete())).await)), Reason::Forbidden);
    answer(ada.client().delete_room(ada.request(delete())).await).expect("closed");
    for person in [&ada, &bob] {
        assert_eq!(reason(person.get(&id).await), Reason::RoomNotFound);
        assert_eq!(reason(person.send(&id, "x").await), Reason::RoomNotFound);
        assert_eq!(reason(person.join(&id).await), Reason::RoomNotFound);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_have_one_direct_room_from_either_side_also_when_both_open_it_at_once() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada"), world.person("bob"));
    let open = async |one: &crate::world::Person, other: &str| {
        let message = OpenDirectRoomRequest { user_id: other.to_owned() };
        answer(one.client().open_direct_room(one.request(message)).await)
    };
    let (one, other) = tokio::join!(open(&ada, &bob.id), open(&bob, &ada.id));
    let (one, other) = (one.expect("opened"), other.expect("opened"));
    assert_ne!(one.created, other.created, "one of them made it");
    let room = one.room.expect("a room");
    assert_eq!(room.id, other.room.expect("a room").id);
    assert_eq!((room.room_type(), room.member_count), (RoomType::Direct, 2));
    assert!(!open(&ada, &bob.id).await.expect("is there").created);
    assert_eq!(reason(ada.leave(&room.id).await), Reason::Forbidden);
    assert_eq!(reason(ada.remove(&room.id, &bob.id).await), Reason::Forbidden);
    let eve = world.person("eve");
    assert_eq!(reason(ada.add(&room.id, &eve.id).await), Reason::Forbidden);
    assert_eq!(reason(eve.get(&room.id).await), Reason::RoomNotFound);
    assert_eq!(reason(open(&ada, &Uuid::now_v7().to_string()).await), Reason::UserNotFound);
    assert_eq!(reason(open(&ada, &ada.id).await), Reason::ValidationFailed);
    ada.send(&room.id, "hello").await.expect("sent");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn general_is_there_from_the_start_and_belongs_to_nobody() {
    let world = World::start().await;
    let ada = world.person("ada");
    let general = ada.get(GENERAL).await.expect("is there");
    assert_eq!((&*general.name, &*general.created_by, general.member_count), ("general", "system", 0));
    assert_eq!(reason(ada.send(GENERAL, "x").await), Reason::NotAMember);
    ada.join(GENERAL).await.expect("joined");
    assert_eq!(ada.send(GENERAL, "hello").await.expect("sent").seq, 2);
    let delete = DeleteRoomRequest { room_id: GENERAL.into() };
    assert_eq!(reason(answer(ada.client().delete_room(ada.request(delete)).await)), Reason::Forbidden);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn my_rooms_and_public_rooms_come_in_pages() {
    let world = World::start().await;
    let ada = world.person("ada");
    let mut mine = Vec::new();
    for n in 0..5 {
        mine.push(ada.create(&format!("Room {n}"), RoomType::Public).await);
    }
    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let message = ListRoomsRequest { page_size: 2, page_token: token };
        let page = answer(ada.client().list_rooms(ada.request(message)).await).expect("listed");
        listed.extend(page.rooms.into_iter().map(|room| room.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    listed.sort();
    mine.sort();
    assert_eq!(listed, mine);
    let bob = world.person("bob");
    let search = async |search: &str, page_token: String| {
        let message = ListPublicRoomsRequest { search: search.into(), page_size: 3, page_token };
        answer(bob.client().list_public_rooms(bob.request(message)).await).expect("listed")
    };
    let first = search("ROOM", String::new()).await;
    assert_eq!(first.rooms.iter().map(|room| &*room.name).collect::<Vec<_>>(), ["Room 0", "Room 1", "Room 2"]);
    let second = search("ROOM", first.next_page_token).await;
    assert_eq!(second.rooms.iter().map(|room| &*room.name).collect::<Vec<_>>(), ["Room 3", "Room 4"]);
    assert_eq!(second.next_page_token, "");
    assert_eq!(search("GENERAL", String::new()).await.rooms.len(), 1);
    assert!(
        answer(bob.client().list_rooms(bob.request(ListRoomsRequest::default())).await).expect("none").rooms.is_empty()
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_name_serves_while_the_directory_is_away() {
    let world = World::start().await;
    let ada = world.person("ada");
    let room = ada.create("Room", RoomType::Public).await;
    assert_eq!(ada.send(&room, "1").await.expect("sent").username, "ada");
    let known = world.people.lock().expect("lock").take();
    assert_eq!(ada.send(&room, "2").await.expect("sent").username, "ada");
    let message = CreateRoomRequest { name: "x".into(), room_type: RoomType::Public.into(), ..Default::default() };
    answer(ada.client().create_room(ada.request(message)).await).expect("making a room needs no name");
    *world.people.lock().expect("lock") = known;
    let bob = world.person("bob");
    bob.join(&room).await.expect("joined");
    let known = world.people.lock().expect("lock").take();
    assert_eq!(reason(bob.send(&room, "x").await), Reason::Unavailable);
    *world.people.lock().expect("lock") = known;
    assert_eq!(bob.send(&room, "x").await.expect("sent").username, "bob");
    world.stop().await;
}
