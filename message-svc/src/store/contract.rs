//! The suite that holds every backend to the documentation of [`Store`]. Each case gets a store that may hold other
//! rooms; [`contract_suite`] makes a test of each case for one backend.

use std::sync::Arc;

use mesh::time::Millis;

use super::{Created, Head, JoinedBefore, NamedAfter, Outcome, Store};
use crate::{
    entry::{Entry, Event, MembersChanged, RoomClosed, RoomUpdated, Seq},
    id::{RoomId, UserId},
    member::{Member, Role, SHOWN_MAX, Standing},
    message::ClientMessageId,
    room::{NewRoom, RoomType, View, state::RoomState},
    testing::{entry, message, message_entry, new_room, user, whole_log},
};

mod sent;

pub(crate) use sent::{
    a_message_that_is_rewritten_stays_in_its_place, rooms_are_known_to_whoever_has_ever_been_in_them,
    what_one_person_sent_to_a_room_is_listed_by_client_id,
};

/// Makes a test of every case for one backend: `open` gives a store and whatever must live as long, or nothing when there
/// is no server to test on, which it has said loudly.
macro_rules! contract_suite {
    ($open:path) => {
        crate::store::contract::contract_suite!(@cases tests ($open));
    };
    (@cases $use:ident $with:tt) => {
        crate::store::contract::contract_suite!(@$use $with;
            a_room_and_its_owner_are_made_at_once_and_only_once,
            what_is_not_there_is_answered_the_same_everywhere,
            a_batch_is_written_in_order_and_read_back_as_it_was,
            a_taken_seq_displaces_and_nothing_later_is_written,
            a_taken_client_id_displaces_for_ever_and_only_in_its_room_and_for_its_sender,
            a_batch_that_is_written_twice_displaces_itself,
            batches_of_many_rooms_at_once_are_judged_one_by_one,
            the_view_follows_the_entries,
            a_loaded_state_is_what_the_entries_make_of_the_room,
            a_page_of_entries_ends_at_its_bytes_but_is_never_empty,
            messages_are_found_by_number_and_counted_by_seq,
            heads_are_the_ends_of_the_logs,
            rooms_are_known_to_whoever_has_ever_been_in_them,
            what_one_person_sent_to_a_room_is_listed_by_client_id,
            a_message_that_is_rewritten_stays_in_its_place,
            rooms_are_listed_by_id_each_once_and_closed_ones_too,
            a_store_that_is_moved_is_the_same_again_and_no_old_cursor_fits_it,
            my_rooms_are_the_last_joined_first_and_page_by_page,
            public_rooms_are_found_by_name_without_regard_to_case,
            members_are_listed_by_standing_and_the_first_are_shown,
            any_text_comes_back_as_it_was,
        );
    };
    (@run ($store:expr); $($case:ident,)*) => {
        $(crate::store::contract::$case($store).await;)*
    };
    (@tests ($open:path); $($case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let Some((store, _alive)) = $open().await else { return };
                crate::store::contract::$case(&*store).await;
                store.close().await;
            }
        )*
    };
}
pub(crate) use contract_suite;

/// Every case, one after another, on one store.
pub(crate) async fn every_case(store: &dyn Store) {
    contract_suite!(@cases run (store));
}

async fn made(store: &dyn Store, room: &NewRoom) -> RoomId {
    assert_eq!(store.create_room(room).await.expect("made"), Created::New);
    room.meta.id
}

async fn public(store: &dyn Store) -> RoomId {
    made(store, &new_room(RoomType::Public, "a room", user())).await
}

async fn append(store: &dyn Store, batch: &[Arc<Entry>]) -> Outcome {
    store.append(batch.into()).await.expect("answers")
}

async fn view(store: &dyn Store, room: RoomId, user: UserId) -> View {
    store.view(room, Some(user)).await.expect("reads").expect("is there")
}

fn seqs(entries: &[Arc<Entry>]) -> Vec<Seq> {
    entries.iter().map(|entry| entry.seq).collect()
}

fn joined(room: RoomId, seq: Seq, users: &[UserId], member_count: i64) -> Arc<Entry> {
    let change = MembersChanged { joined: users.to_vec(), member_count, ..MembersChanged::default() };
    entry(room, seq, 0, Event::Members(change))
}

pub(crate) async fn a_room_and_its_owner_are_made_at_once_and_only_once(store: &dyn Store) {
    let owner = user();
    let room = new_room(RoomType::Private, "mine", owner);
    let id = made(store, &room).await;
    let there = view(store, id, owner).await;
    assert_eq!(*there.meta, room.meta);
    assert_eq!((there.member_count, there.last_seq, there.messages, there.closed), (1, 0, 0, false));
    let owner_is =
        Member { user: owner, role: Role::Owner, standing: Standing::new(0, 0), joined_at: room.meta.created_at };
    assert_eq!(there.member, Some(owner_is));

    let mut other = new_room(RoomType::Public, "another's", user());
    other.meta.id = id;
    match store.create_room(&other).await.expect("answers") {
        Created::Exists(view) => assert_eq!((*view.meta).clone(), room.meta),
        Created::New => panic!("made twice"),
    }
    assert_eq!(view(store, id, owner).await, there);

    let (one, two) = (user(), user());
    let direct = NewRoom::direct(one, two);
    let id = made(store, &direct).await;
    match store.create_room(&NewRoom::direct(two, one)).await.expect("answers") {
        Created::Exists(view) => assert_eq!(view.meta.created_by, Some(one)),
        Created::New => panic!("made twice"),
    }
    assert_eq!(store.shown_members(&[id]).await.expect("reads"), [[one, two]]);
}

pub(crate) async fn what_is_not_there_is_answered_the_same_everywhere(store: &dyn Store) {
    let (room, who) = (RoomId::random(), user());
    assert_eq!(store.load(room).await.expect("reads"), None);
    assert_eq!(store.view(room, Some(who)).await.expect("reads"), None);
    assert_eq!(store.view(room, None).await.expect("reads"), None);
    assert_eq!(store.entries_after(room, 0, 10, 1000).await.expect("reads"), []);
    assert_eq!(store.sent(room, &[(who, ClientMessageId::stored("x"))]).await.expect("reads"), []);
    assert_eq!(store.sent(room, &[]).await.expect("reads"), []);
    assert_eq!(store.messages(room, 1, 10).await.expect("reads"), []);
    assert_eq!(store.messages_through(room, 10).await.expect("reads"), 0);
    assert_eq!(store.heads(&[room]).await.expect("reads"), []);
    assert_eq!(store.heads(&[]).await.expect("reads"), []);
    assert_eq!(store.shown_members(&[room]).await.expect("reads"), [[]]);
    assert_eq!(store.rooms_of(who, None, 10).await.expect("reads"), []);
    assert_eq!(store.members(room, None, 10).await.expect("reads"), []);
    let there = public(store).await;
    assert_eq!(store.view(there, Some(who)).await.expect("reads").expect("room").member, None);
    assert_eq!(store.entries_after(there, 5, 10, 1000).await.expect("reads"), []);
    assert_eq!(store.messages(there, 1, 10).await.expect("reads"), []);
    assert_eq!(store.heads(&[room, there]).await.expect("reads"), [Head { room: there, last_seq: 0 }]);
}

pub(crate) async fn a_batch_is_written_in_order_and_read_back_as_it_was(store: &dyn Store) {
    let room = public(store).await;
    let who = user();
    let mut batch: Vec<_> =
        (1..=200).map(|n| message_entry(room, n, n, message(who, &format!("c{n}"), &format!("message {n}")))).collect();
    batch.push(entry(room, 201, 200, Event::Closed(RoomClosed { by: Some(who) })));
    assert_eq!(append(store, &batch).await, Outcome::Done);
    assert_eq!(store.entries_after(room, 0, 1000, 1 << 20).await.expect("reads"), batch);
    assert_eq!(store.entries_after(room, 198, 2, 1 << 20).await.expect("reads"), batch[198..200]);
}

pub(crate) async fn a_taken_seq_displaces_and_nothing_later_is_written(store: &dyn Store) {
    let room = public(store).await;
    let who = user();
    let first = message_entry(room, 1, 1, message(who, "a", "first"));
    assert_eq!(append(store, std::slice::from_ref(&first)).await, Outcome::Done);
    let late = [
        message_entry(room, 1, 1, message(who, "b", "late")),
        message_entry(room, 2, 2, message(who, "c", "late too")),
    ];
    assert_eq!(append(store, &late).await, Outcome::Displaced);
    assert_eq!(whole_log(store, room).await, [first]);
}

pub(crate) async fn a_taken_client_id_displaces_for_ever_and_only_in_its_room_and_for_its_sender(store: &dyn Store) {
    let (room, other) = (public(store).await, public(store).await);
    let (who, else_) = (user(), user());
    let first = message_entry(room, 1, 1, message(who, "a", "first"));
    assert_eq!(append(store, std::slice::from_ref(&first)).await, Outcome::Done);
    let again = [
        message_entry(room, 2, 2, message(who, "b", "new")),
        message_entry(room, 3, 3, message(who, "a", "again")),
        message_entry(room, 4, 4, message(who, "c", "later")),
    ];
    assert_eq!(append(store, &again).await, Outcome::Displaced);
    let log = whole_log(store, room).await;
    assert!(log.len() <= 2, "what comes after the conflict is not written");
    assert_eq!(log[0], first);
    let seq = log.len() as Seq + 1;
    assert_eq!(append(store, &[message_entry(room, seq, seq, message(else_, "a", "another's"))]).await, Outcome::Done);
    assert_eq!(append(store, &[message_entry(other, 1, 1, message(who, "a", "elsewhere"))]).await, Outcome::Done);
    let keys = [(who, ClientMessageId::stored("a")), (who, ClientMessageId::stored("none"))];
    assert_eq!(store.sent(room, &keys).await.expect("reads"), [first]);
}

pub(crate) async fn a_batch_that_is_written_twice_displaces_itself(store: &dyn Store) {
    let room = public(store).await;
    let batch = [joined(room, 1, &[user()], 2)];
    assert_eq!(append(store, &batch).await, Outcome::Done);
    assert_eq!(append(store, &batch).await, Outcome::Displaced);
    assert_eq!(whole_log(store, room).await, batch);
}

pub(crate) async fn batches_of_many_rooms_at_once_are_judged_one_by_one(store: &dyn Store) {
    let who = user();
    let mut rooms = Vec::new();
    for _ in 0..20 {
        rooms.push(public(store).await);
    }
    for room in rooms.iter().step_by(3) {
        assert_eq!(append(store, &[message_entry(*room, 1, 1, message(who, "taken", "x"))]).await, Outcome::Done);
    }
    let writes = rooms.iter().map(|room| {
        let batch = vec![
            message_entry(*room, 1, 1, message(who, "a", "x")),
            joined_after(*room, 2, 1, user()),
            message_entry(*room, 3, 2, message(who, "b", "x")),
        ];
        async move { append(store, &batch).await }
    });
    let outcomes = futures::future::join_all(writes).await;
    for (n, (room, outcome)) in rooms.iter().zip(outcomes).enumerate() {
        let taken = n % 3 == 0;
        assert_eq!(outcome, if taken { Outcome::Displaced } else { Outcome::Done }, "room {n}");
        assert_eq!(whole_log(store, *room).await.len(), if taken { 1 } else { 3 });
        assert_eq!(view(store, *room, who).await.member_count, if taken { 1 } else { 2 });
    }
}

fn joined_after(room: RoomId, seq: Seq, messages: i64, user: UserId) -> Arc<Entry> {
    let change = MembersChanged { joined: vec![user], member_count: 2, ..MembersChanged::default() };
    entry(room, seq, messages, Event::Members(change))
}

pub(crate) async fn the_view_follows_the_entries(store: &dyn Store) {
    let (owner, other, third) = (user(), user(), user());
    let new = new_room(RoomType::Private, "before", owner);
    let room = made(store, &new).await;
    let updated = RoomUpdated {
        room_type: RoomType::Private,
        name: "after".into(),
        description: "said".into(),
        created_by: Some(owner),
        created_at: new.meta.created_at,
        member_count: 3,
    };
    let leave = MembersChanged { left: vec![owner], member_count: 2, new_owner: Some(other), ..Default::default() };
    let remove = MembersChanged { removed: vec![third], member_count: 1, ..Default::default() };
    let batch = [
        joined(room, 1, &[other, third], 3),
        message_entry(room, 2, 1, message(owner, "a", "x")),
        entry(room, 3, 1, Event::Updated(updated)),
        entry(room, 4, 1, Event::Members(leave)),
        entry(room, 5, 1, Event::Members(remove)),
    ];
    assert_eq!(append(store, &batch).await, Outcome::Done);
    let seen = view(store, room, other).await;
    assert_eq!((seen.member_count, seen.last_seq, seen.messages, seen.closed), (1, 5, 1, false));
    assert_eq!((&*seen.meta.name, &*seen.meta.description, seen.meta.updated_at), ("after", "said", batch[2].at));
    assert_eq!(seen.meta.created_at, new.meta.created_at);
    let heir = Member { user: other, role: Role::Owner, standing: Standing::new(1, 0), joined_at: batch[0].at };
    assert_eq!(seen.member, Some(heir));
    assert_eq!(view(store, room, owner).await.member, None);
    assert_eq!(view(store, room, third).await.member, None);

    let close = entry(room, 6, 1, Event::Closed(RoomClosed { by: Some(other) }));
    assert_eq!(append(store, &[close]).await, Outcome::Done);
    let seen = view(store, room, other).await;
    assert!(seen.closed && !seen.visible());
    assert_eq!(seen.last_seq, 6);
    assert!(store.load(room).await.expect("reads").expect("stays").closed);
}

pub(crate) async fn a_loaded_state_is_what_the_entries_make_of_the_room(store: &dyn Store) {
    let owner = user();
    let new = new_room(RoomType::Public, "room", owner);
    let room = made(store, &new).await;
    let mut state: RoomState = store.load(room).await.expect("reads").expect("is there");
    let people: Vec<_> = (0..150).map(|_| user()).collect();
    let mut batch = vec![
        joined(room, 1, &people[..100], 101),
        message_entry(room, 2, 1, message(owner, "a", "x")),
        entry(
            room,
            3,
            1,
            Event::Members(MembersChanged { joined: people[100..].to_vec(), member_count: 151, ..Default::default() }),
        ),
    ];
    let leave =
        MembersChanged { left: vec![owner], new_owner: Some(people[0]), member_count: 150, ..Default::default() };
    batch.push(entry(room, 4, 1, Event::Members(leave)));
    let back = MembersChanged { joined: vec![owner], member_count: 151, ..Default::default() };
    batch.push(entry(room, 5, 1, Event::Members(back)));
    assert_eq!(append(store, &batch).await, Outcome::Done);
    for entry in &batch {
        state.apply(entry).expect("in order");
    }
    assert_eq!(store.load(room).await.expect("reads").expect("is there"), state);
}

pub(crate) async fn a_page_of_entries_ends_at_its_bytes_but_is_never_empty(store: &dyn Store) {
    let room = public(store).await;
    let who = user();
    let large = "x".repeat(10_000);
    let batch: Vec<_> = (1..=6).map(|n| message_entry(room, n, n, message(who, &format!("{n}"), &large))).collect();
    assert_eq!(append(store, &batch).await, Outcome::Done);
    let page = async |after, bytes| seqs(&store.entries_after(room, after, 500, bytes).await.expect("reads"));
    assert_eq!(page(0, 1).await, [1]);
    assert_eq!(page(1, 25_000).await, [2, 3]);
    assert_eq!(page(3, 1 << 20).await, [4, 5, 6]);
}

pub(crate) async fn messages_are_found_by_number_and_counted_by_seq(store: &dyn Store) {
    let room = public(store).await;
    let who = user();
    // Entries 1–3 are joins, then a message and a join in turn.
    let mut batch: Vec<_> = (1..=3).map(|seq| joined(room, seq, &[user()], seq + 1)).collect();
    for n in 1..=5 {
        batch.push(message_entry(room, 2 + 2 * n, n, message(who, &format!("{n}"), "x")));
        let change = MembersChanged { joined: vec![user()], member_count: 4 + n, ..Default::default() };
        batch.push(entry(room, 3 + 2 * n, n, Event::Members(change)));
    }
    assert_eq!(append(store, &batch).await, Outcome::Done);
    let numbers = async |first, last| seqs(&store.messages(room, first, last).await.expect("reads"));
    assert_eq!(numbers(1, 5).await, [4, 6, 8, 10, 12]);
    assert_eq!(numbers(2, 3).await, [6, 8]);
    assert_eq!(numbers(5, 9).await, [12]);
    assert_eq!(numbers(-4, 1).await, [4]);
    assert!(numbers(6, 9).await.is_empty());
    for (seq, expected) in [(0, 0), (3, 0), (4, 1), (5, 1), (6, 2), (12, 5), (13, 5), (999, 5), (Seq::MAX, 5), (-1, 0)]
    {
        assert_eq!(store.messages_through(room, seq).await.expect("reads"), expected, "through {seq}");
    }
}

pub(crate) async fn heads_are_the_ends_of_the_logs(store: &dyn Store) {
    let (quiet, lively) = (public(store).await, public(store).await);
    let who = user();
    let batch: Vec<_> = (1..=3).map(|n| message_entry(lively, n, n, message(who, &format!("{n}"), "x"))).collect();
    assert_eq!(append(store, &batch).await, Outcome::Done);
    let mut heads = store.heads(&[lively, quiet]).await.expect("reads");
    heads.sort_by_key(|head| head.last_seq);
    assert_eq!(heads, [Head { room: quiet, last_seq: 0 }, Head { room: lively, last_seq: 3 }]);
}

pub(crate) async fn rooms_are_listed_by_id_each_once_and_closed_ones_too(store: &dyn Store) {
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(public(store).await);
    }
    append(store, &[entry(made[2], 1, 0, Event::Closed(RoomClosed { by: None }))]).await;
    made.sort_unstable();
    let (mut after, mut listed) = (None, Vec::new());
    loop {
        let page = store.rooms_after(after, 2).await.expect("reads");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(*last);
        listed.extend(page);
    }
    assert!(listed.is_sorted_by(|one, next| one < next), "not in order, or twice: {listed:?}");
    // The store may hold other rooms.
    listed.retain(|room| made.contains(room));
    assert_eq!(listed, made);
    assert!(store.rooms_after(Some(RoomId(uuid::Uuid::max())), 2).await.expect("reads").is_empty());
}

/// From this store into an embedded one and back into this one is no case: ids are taken. So what goes out here is what an
/// embedded store gives out after it has taken it in, cut in the middle and taken in again.
pub(crate) async fn a_store_that_is_moved_is_the_same_again_and_no_old_cursor_fits_it(store: &dyn Store) {
    let (owner, guest) = (user(), user());
    let new = new_room(RoomType::Public, "before", owner);
    let room = made(store, &new).await;
    let direct = made(store, &NewRoom::direct(owner, guest)).await;
    let renamed = RoomUpdated {
        room_type: RoomType::Public,
        name: "after".into(),
        description: "d".into(),
        created_by: Some(owner),
        created_at: new.meta.created_at,
        member_count: 2,
    };
    append(store, &[joined(room, 1, &[guest], 2), entry(room, 2, 0, Event::Updated(renamed))]).await;
    let left =
        MembersChanged { left: vec![owner], member_count: 1, new_owner: Some(guest), ..MembersChanged::default() };
    append(
        store,
        &[message_entry(room, 3, 1, message(guest, "a", "h\u{e9}llo")), entry(room, 4, 1, Event::Members(left))],
    )
    .await;
    append(store, &[message_entry(direct, 1, 1, message(owner, "a", "psst"))]).await;
    crate::moving::tests::assert_moves(store, &[room, direct]).await;
}

pub(crate) async fn my_rooms_are_the_last_joined_first_and_page_by_page(store: &dyn Store) {
    let me = user();
    let mut rooms = Vec::new();
    for n in 0..7 {
        let mut room = new_room(RoomType::Private, "r", me);
        // Two were joined in the same millisecond.
        room.meta.created_at = Millis(1_000 + n / 2);
        rooms.push((room.meta.created_at, made(store, &room).await));
    }
    let closed = rooms.remove(3).1;
    assert_eq!(append(store, &[entry(closed, 1, 0, Event::Closed(RoomClosed { by: None }))]).await, Outcome::Done);
    rooms.sort_unstable_by(|one, other| other.cmp(one));
    let expected: Vec<_> = rooms.iter().map(|(_, room)| *room).collect();
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store.rooms_of(me, after, 2).await.expect("reads");
        let Some(last) = page.last() else { break };
        let joined_at = last.member.expect("is mine").joined_at;
        after = Some(JoinedBefore { joined_at, room: last.meta.id });
        listed.extend(page.iter().map(|view| view.meta.id));
    }
    assert_eq!(listed, expected);
    let all = store.rooms_of(me, None, 100).await.expect("reads");
    assert!(all.iter().all(|view| view.member.is_some_and(|member| member.user == me && member.role == Role::Owner)));
}

pub(crate) async fn public_rooms_are_found_by_name_without_regard_to_case(store: &dyn Store) {
    let me = user();
    // The store may hold other rooms: these have a mark of their own.
    let mark = RoomId::random().to_string();
    let mut expected = Vec::new();
    for name in ["Beta", "alpha", "ALPHA", "Ärger", "100%", "a_b"] {
        let room = new_room(RoomType::Public, &format!("{name} {mark}"), me);
        expected.push((super::fold(&room.meta.name), made(store, &room).await));
    }
    made(store, &new_room(RoomType::Private, &format!("hidden {mark}"), me)).await;
    let closed = made(store, &new_room(RoomType::Public, &format!("closed {mark}"), me)).await;
    assert_eq!(append(store, &[entry(closed, 1, 0, Event::Closed(RoomClosed { by: None }))]).await, Outcome::Done);
    expected.sort();

    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store.public_rooms(me, &mark.to_uppercase(), after, 2).await.expect("reads");
        let Some(last) = page.last() else { break };
        after = Some(NamedAfter { name: last.meta.name.clone(), room: last.meta.id });
        listed.extend(page.into_iter().map(|view| (super::fold(&view.meta.name), view.meta.id)));
    }
    assert_eq!(listed, expected);
    let found = async |search: &str| {
        let search = format!("{search} {mark}");
        store.public_rooms(user(), &search, None, 10).await.expect("reads").len()
    };
    assert_eq!(found("aLPHa").await, 2);
    assert_eq!(found("ärGER").await, 1);
    // What are wildcards elsewhere are letters here.
    assert_eq!((found("%").await, found("a_b").await, found("axb").await), (1, 1, 0));
}

pub(crate) async fn members_are_listed_by_standing_and_the_first_are_shown(store: &dyn Store) {
    let owner = user();
    let room = made(store, &new_room(RoomType::Public, "room", owner)).await;
    let people: Vec<_> = (0..120).map(|_| user()).collect();
    let batch = [joined(room, 1, &people[..70], 71), joined(room, 2, &people[70..], 121)];
    assert_eq!(append(store, &batch).await, Outcome::Done);
    let expected: Vec<_> = std::iter::once(owner).chain(people).collect();
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store.members(room, after, 50).await.expect("reads");
        let Some(last) = page.last() else { break };
        after = Some(last.standing);
        listed.extend(page);
    }
    assert_eq!(listed.iter().map(|member| member.user).collect::<Vec<_>>(), expected);
    assert_eq!(listed[0].role, Role::Owner);
    assert!(listed[1..].iter().all(|member| member.role == Role::Member));
    let small = public(store).await;
    let shown = store.shown_members(&[room, small, room]).await.expect("reads");
    assert_eq!(shown[0], expected[..SHOWN_MAX]);
    assert_eq!(shown[2], expected[..SHOWN_MAX]);
    assert_eq!(shown[1].len(), 1);
}

pub(crate) async fn any_text_comes_back_as_it_was(store: &dyn Store) {
    let room = public(store).await;
    let who = user();
    let texts = ["', \"; DROP", "\u{1}\u{7f}\u{2028}", "😀\u{301}", "line\r\n\ttab", "{\"json\": [1]}", "\\u0000"];
    let batch: Vec<_> = (1..)
        .zip(texts)
        .map(|(n, text)| {
            let mut message = message(who, &format!("{n}~ !\"'"), text);
            message.metadata.insert(text.to_owned(), serde_json::json!([text, 1.5, null, {"a": text}]));
            message.message_type = "app.kind".into();
            message_entry(room, n, n, message)
        })
        .collect();
    assert_eq!(append(store, &batch).await, Outcome::Done);
    assert_eq!(whole_log(store, room).await, batch);
    let keys: Vec<_> =
        batch.iter().filter_map(|entry| entry.message()).map(|m| (m.sender, m.client_id.clone())).collect();
    assert_eq!(store.sent(room, &keys).await.expect("reads").len(), texts.len());
}
