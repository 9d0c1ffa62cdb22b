//! What follows from the log, when whoever wrote it did not write that, or wrote it late; and the claims by which rooms
//! are found.

use std::sync::{Arc, atomic::Ordering};

use mongodb::bson::{Document, doc};

use super::{
    fail_point::{FailPoint, Victim, late},
    server::{Scratch, patient},
};
use crate::{
    config::MongodbConfig,
    entry::{Entry, Event, MembersChanged, RoomClosed, RoomUpdated, Seq},
    id::{RoomId, UserId},
    room::{NewRoom, RoomType},
    store::{Outcome, Store, Upkeep, mongodb::upkeep},
    testing::{entry, new_room, until, user},
};

fn joined(room: RoomId, seq: Seq, users: &[UserId], member_count: i64) -> Arc<Entry> {
    let change = MembersChanged { joined: users.to_vec(), member_count, ..MembersChanged::default() };
    entry(room, seq, 0, Event::Members(change))
}

fn left(room: RoomId, seq: Seq, user: UserId, member_count: i64) -> Arc<Entry> {
    let change = MembersChanged { left: vec![user], member_count, ..MembersChanged::default() };
    entry(room, seq, 0, Event::Members(change))
}

fn renamed(room: &NewRoom, seq: Seq, name: &str) -> Arc<Entry> {
    let updated = RoomUpdated {
        room_type: room.meta.room_type,
        name: name.to_owned(),
        description: String::new(),
        created_by: room.meta.created_by,
        created_at: room.meta.created_at,
        member_count: 1,
    };
    entry(room.meta.id, seq, 0, Event::Updated(updated))
}

async fn append(store: &dyn Store, entries: &[Arc<Entry>]) {
    assert_eq!(store.append(entries.into()).await.expect("answers"), Outcome::Done);
}

async fn count(scratch: &Scratch, collection: &str) -> u64 {
    scratch.database().await.collection::<Document>(collection).count_documents(doc! {}).await.expect("counted")
}

#[tokio::test(flavor = "multi_thread")]
async fn however_far_the_documents_are_behind_the_log_counts() {
    const REFUSED: i32 = 13;
    let Some(scratch) = Scratch::new() else { return };
    let Some(point) = FailPoint::new(&scratch).await else { return };
    let store = point.victim(&scratch, &patient()).await.store;
    let (owner, guest) = (user(), user());
    let room = new_room(RoomType::Public, "first", owner);
    let id = room.meta.id;
    // Not even the founders are projected.
    point.always(&["update", "delete"], &doc! { "errorCode": REFUSED }).await;
    store.create_room(&room).await.expect("made");
    let rounds = 40;
    for round in 0..rounds {
        let seq = 2 * round;
        append(&*store, &[joined(id, seq + 1, &[guest], 2), left(id, seq + 2, guest, 1)]).await;
    }
    let last = 2 * rounds + 2;
    append(&*store, &[joined(id, last - 1, &[guest], 2), renamed(&room, last, "second")]).await;
    let look = async |store: &dyn Store| {
        let view = store.view(id, Some(guest)).await.expect("reads").expect("is there");
        assert_eq!((view.member_count, view.last_seq, &*view.meta.name), (2, last, "second"));
        assert_eq!(view.member.expect("is one").standing.seq(), last - 1);
        assert!(store.view(id, Some(owner)).await.expect("reads").expect("is there").member.is_some());
        assert_eq!(store.shown_members(&[id]).await.expect("reads"), [[owner, guest]]);
        assert_eq!(store.members(id, None, 10).await.expect("reads").len(), 2);
        assert_eq!(store.load(id).await.expect("reads").expect("is there").members.len(), 2);
        for who in [owner, guest] {
            let rooms = store.rooms_of(who, None, 10).await.expect("reads");
            assert_eq!(rooms.iter().map(|view| view.meta.id).collect::<Vec<_>>(), [id]);
        }
        assert_eq!(store.public_rooms(owner, "second", None, 10).await.expect("reads").len(), 1);
        assert!(store.public_rooms(owner, "first", None, 10).await.expect("reads").is_empty());
    };
    // Nothing can be repaired, and then all of it.
    look(&*store).await;
    point.off().await;
    look(&*store).await;
    let rooms = scratch.database().await.collection::<Document>("rooms");
    let document = rooms.find_one(doc! {}).await.expect("reads").expect("is there");
    assert_eq!(document.get_i64("projected").expect("a number"), last, "whoever could has brought it up to date");
    look(&*store).await;
    assert_eq!((count(&scratch, "memberships").await, count(&scratch, "directory").await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_that_comes_late_lets_nobody_in_again() {
    let Some(scratch) = Scratch::new() else { return };
    let Some(point) = FailPoint::new(&scratch).await else { return };
    let hasty = MongodbConfig { call_ms: 200, ..patient() };
    let Victim { store: slow, troubles } = point.victim(&scratch, &hasty).await;
    let other = scratch.open().await;
    let (owner, guest) = (user(), user());
    let room = new_room(RoomType::Public, "room", owner);
    let id = room.meta.id;
    other.create_room(&room).await.expect("made");
    point.once("update", 0, &late()).await;
    append(&*slow, &[joined(id, 1, &[guest], 2)]).await;
    append(&*other, &[left(id, 2, guest, 1)]).await;
    until("the late projection has come", async || troubles.load(Ordering::SeqCst) > 0).await;
    for store in [&other, &slow] {
        let view = store.view(id, Some(guest)).await.expect("reads").expect("is there");
        assert_eq!((view.member, view.member_count), (None, 1));
        assert_eq!(store.members(id, None, 10).await.expect("reads").len(), 1);
        assert_eq!(store.load(id).await.expect("reads").expect("is there").members.len(), 1);
    }
    let rooms = scratch.database().await.collection::<Document>("rooms");
    let document = rooms.find_one(doc! {}).await.expect("reads").expect("is there");
    assert_eq!(document.get_i64("projected").expect("a number"), 2);
}

#[tokio::test]
async fn claims_that_are_over_go_and_those_that_may_yet_hold_stay() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.open().await;
    let (owner, guest) = (user(), user());
    let (room, closed) = (new_room(RoomType::Public, "first", owner), new_room(RoomType::Public, "closed", owner));
    let id = room.meta.id;
    for room in [&room, &closed] {
        store.create_room(room).await.expect("made");
    }
    // This join is displaced by another entry; its claim came before it.
    let taken = renamed(&room, 1, "second");
    append(&*store, &[taken]).await;
    assert_eq!(store.append([joined(id, 1, &[guest], 2)].into()).await.expect("answers"), Outcome::Displaced);
    append(&*store, &[joined(id, 2, &[guest], 2), left(id, 3, guest, 1), joined(id, 4, &[guest], 2)]).await;
    append(&*store, &[entry(closed.meta.id, 1, 0, Event::Closed(RoomClosed { by: Some(owner) }))]).await;
    // One that is under way: its entry's place is not taken.
    let other = scratch.open().await;
    let memberships = scratch.database().await.collection::<Document>("memberships");
    let mut document = memberships.find_one(doc! {}).await.expect("reads").expect("is there");
    document.remove("_id");
    document.insert("standing", crate::member::Standing::new(5, 0).0);
    memberships.insert_one(document).await.expect("written");

    assert_eq!(count(&scratch, "memberships").await, 2 + 3 + 1);
    for store in [&store, &other] {
        for who in [owner, guest] {
            let rooms = store.rooms_of(who, None, 10).await.expect("reads");
            assert_eq!(rooms.iter().map(|view| view.meta.id).collect::<Vec<_>>(), [id]);
        }
        let names = store.public_rooms(guest, "", None, 10).await.expect("reads");
        assert_eq!(names.iter().map(|view| &*view.meta.name).collect::<Vec<_>>(), ["second"]);
    }
    assert_eq!(count(&scratch, "memberships").await, 2 + 1, "the owner's, the guest's, and the one under way");
    assert_eq!(count(&scratch, "directory").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_the_logs_is_made_from_them_anew_whatever_became_of_it() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.open().await;
    let (owner, guest, gone) = (user(), user(), user());
    let (room, closed) = (new_room(RoomType::Public, "first", owner), new_room(RoomType::Public, "closed", owner));
    for room in [&room, &closed] {
        store.create_room(room).await.expect("made");
    }
    let id = room.meta.id;
    append(&*store, &[joined(id, 1, &[guest, gone], 3), left(id, 2, gone, 2), renamed(&room, 3, "Last")]).await;
    append(&*store, &[entry(closed.meta.id, 1, 0, Event::Closed(RoomClosed { by: None }))]).await;
    let answers = async |store: &dyn Store| {
        (
            store.load(id).await.expect("reads"),
            store.load(closed.meta.id).await.expect("reads"),
            store.members(id, None, 10).await.expect("reads"),
            store.rooms_of(guest, None, 10).await.expect("reads"),
            store.rooms_of(gone, None, 10).await.expect("reads"),
            store.public_rooms(owner, "last", None, 10).await.expect("reads"),
        )
    };
    let before = answers(&*store).await;
    let db = scratch.database().await;
    // All but the entries and the rooms.
    for collection in ["members", "memberships", "directory", "schema"] {
        db.collection::<Document>(collection).drop().await.expect("dropped");
    }
    let lost = answers(&*store).await;
    assert!(lost.2.is_empty() && lost.3.is_empty() && lost.5.is_empty(), "the damage is none: {lost:?}");
    for _ in 0..2 {
        let rebuilt = upkeep(&scratch.url.as_str().into(), &patient(), Upkeep::Rebuild).await.expect("rebuilt");
        assert_eq!(rebuilt, 2);
        assert_eq!(answers(&*store).await, before);
    }
    assert_eq!((count(&scratch, "memberships").await, count(&scratch, "directory").await), (2, 1), "claims twice");
    upkeep(&scratch.url.as_str().into(), &patient(), Upkeep::RenewLogs).await.expect("renewed");
    let renewed = store.load(id).await.expect("reads").expect("is there");
    assert_ne!(renewed.meta.log, before.0.expect("is there").meta.log);
    store.close().await;
}
