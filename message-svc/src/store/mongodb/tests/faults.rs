//! Writes that are cut: before, in the middle of and after each kind of command, refused, late, and with the answer lost.
//! What was answered is in the log once and in order, and everybody who looks, from whichever process and before anything
//! was repaired, sees what the log says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
};

use futures::future::join_all;
use mongodb::{
    bson::{Document, doc},
    event::command::CommandEvent,
};

use super::{
    fail_point::{FailPoint, Victim, cut, late, stepped_down, unconfirmed},
    proxy::Proxy,
    server::{Scratch, patient, watched},
};
use crate::{
    config::{MongodbConfig, RoomsConfig},
    entry::Entry,
    error::Error,
    hub::Hub,
    id::{RoomId, UserId},
    member::{Member, Members, SHOWN_MAX, Standing},
    order::{Change, Sent},
    room::{NewRoom, RoomType, create, state::RoomState},
    store::{Head, Store},
    testing::{message, new_room, rooms_with, user, whole_log},
};

/// Gives up before a late answer comes.
fn hasty() -> MongodbConfig {
    MongodbConfig { call_ms: 200, ..patient() }
}

/// A client that tries again until it is answered.
async fn insist<T>(mut order: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let mut tries = 0;
    loop {
        match order().await {
            Ok(done) => return done,
            Err(error @ (Error::Store(_) | Error::Busy)) => {
                tries += 1;
                assert!(tries < 100, "never answered: {error:?}");
            }
            Err(error) => panic!("refused: {error:?}"),
        }
    }
}

/// What the clients of one script were told.
struct Told {
    room: NewRoom,
    direct: NewRoom,
    people: Vec<UserId>,
    sent: Vec<Sent>,
}

/// Some of everything that a room can meet.
async fn script(store: &Arc<dyn Store>) -> Told {
    let config = RoomsConfig { settle_ms: 2_000, ..RoomsConfig::default() };
    let rooms = rooms_with(store, &Hub::new(16), &config);
    let people: Vec<_> = (0..4).map(|_| user()).collect();
    let [owner, one, two, three] = people[..] else { panic!("four") };
    let room = new_room(RoomType::Public, &format!("first {}", RoomId::random()), owner);
    let direct = NewRoom::direct(one, two);
    let id = room.meta.id;
    insist(async || create::create(&**store, room.clone()).await).await;
    insist(async || create::open_direct(&**store, direct.clone()).await).await;
    let change = async |change: Change| insist(async || rooms.change(id, change.clone()).await).await;
    let send =
        async |who: UserId, client_id: &str| insist(async || rooms.send(id, message(who, client_id, "x")).await).await;

    join_all([one, two, three].map(|who| change(Change::Join(who)))).await;
    let mut sent = join_all([send(owner, "1"), send(one, "1"), send(two, "1"), send(one, "2")]).await;
    let name = format!("second {}", room.meta.id);
    change(Change::Update { by: owner, name: Some(name), description: Some("d".into()) }).await;
    change(Change::Remove { by: owner, user: two }).await;
    // A retry beside something new: one of the batch is there already.
    sent.extend(join_all([send(three, "1"), send(one, "2"), send(one, "3")]).await);
    change(Change::Join(two)).await;
    change(Change::Leave(owner)).await;
    sent.push(send(three, "2").await);
    rooms.stop().await;
    Told { room, direct, people, sent }
}

/// The room as its log makes it.
fn replayed(room: &NewRoom, log: &[Arc<Entry>]) -> RoomState {
    let founders = room.founders.iter().enumerate().map(|(place, (user, role))| Member {
        user: *user,
        role: *role,
        standing: Standing::new(0, place),
        joined_at: room.meta.created_at,
    });
    let mut state = RoomState {
        meta: Arc::new(room.meta.clone()),
        members: Members::new(founders),
        closed: false,
        last_seq: 0,
        messages: 0,
    };
    for entry in log {
        state.apply(entry).expect("in order");
    }
    state
}

/// That everybody sees what the log says.
async fn check(store: &dyn Store, told: &Told) {
    let log = whole_log(store, told.room.meta.id).await;
    for sent in &told.sent {
        let place = usize::try_from(sent.entry.seq).expect("positive") - 1;
        assert_eq!(log[place], sent.entry, "an answered message is not in the log");
    }
    let mut state = replayed(&told.room, &log);
    let mut direct = replayed(&told.direct, &[]);
    let ids = [told.room.meta.id, told.direct.meta.id];
    let heads = store.heads(&ids).await.expect("reads");
    assert_eq!(heads.len(), 2);
    assert!(heads.contains(&Head { room: ids[0], last_seq: state.last_seq }));

    for user in &told.people {
        let view = store.view(ids[0], Some(*user)).await.expect("reads").expect("is there");
        assert_eq!(view.meta, state.meta);
        assert_eq!((view.last_seq, view.messages, view.closed), (state.last_seq, state.messages, state.closed));
        assert_eq!(view.member_count, state.member_count());
        assert_eq!(view.member.as_ref(), state.members.get(*user));

        let mut expected: Vec<_> = [&state, &direct]
            .into_iter()
            .filter_map(|state| Some((state.members.get(*user)?.joined_at, state.meta.id)))
            .collect();
        expected.sort_unstable_by(|one, other| other.cmp(one));
        let listed = store.rooms_of(*user, None, 10).await.expect("reads");
        assert_eq!(
            listed.iter().map(|view| view.meta.id).collect::<Vec<_>>(),
            expected.iter().map(|(_, room)| *room).collect::<Vec<_>>()
        );
        let found = store.public_rooms(*user, &state.meta.name, None, 10).await.expect("reads");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0], view);
    }
    let everybody = state.members.page(None, usize::MAX);
    let shown = store.shown_members(&ids).await.expect("reads");
    assert_eq!(shown, [state.members.shown().to_vec(), direct.members.shown().to_vec()]);
    assert!(everybody.len() < SHOWN_MAX);
    let mut listed = Vec::new();
    while let Some(member) =
        store.members(ids[0], listed.last().map(|last: &Member| last.standing), 1).await.expect("reads").first()
    {
        listed.push(*member);
    }
    assert_eq!(listed, everybody);
    assert_eq!(store.load(ids[0]).await.expect("reads").as_ref(), Some(&state));
    assert_eq!(store.load(ids[1]).await.expect("reads").as_ref(), Some(&direct));
}

/// As a process sees it that can write nothing, so that nothing is repaired on the way; then as one that can.
async fn check_all(point: &FailPoint, reader: &dyn Store, told: &Told) {
    const UNAUTHORIZED: i32 = 13;
    point.always(&["insert", "update", "delete"], &doc! { "errorCode": UNAUTHORIZED }).await;
    check(reader, told).await;
    point.off().await;
    check(reader, told).await;
    check(reader, told).await;
}

/// How many commands of each name a script needs.
async fn commands(scratch: &Scratch) -> HashMap<String, usize> {
    let seen = Arc::new(Mutex::new(HashMap::new()));
    let counted = Arc::clone(&seen);
    let store = watched(&scratch.url, &patient(), move |event| {
        if let CommandEvent::Started(started) = event {
            *counted.lock().expect("lock").entry(started.command_name).or_insert(0) += 1;
        }
    })
    .await;
    seen.lock().expect("lock").clear();
    script(&store).await;
    store.close().await;
    let seen = seen.lock().expect("lock");
    seen.clone()
}

/// Runs the script with its commands of this name cut in this way, every so many of them, one at a time.
async fn sweep(command: &str, every: usize, fault: Document, config: MongodbConfig) {
    let Some(scratch) = Scratch::new() else { return };
    let Some(point) = FailPoint::new(&scratch).await else { return };
    let count = commands(&scratch).await.get(command).copied().unwrap_or(0);
    assert!(count > 0, "the script has no {command}");
    let Victim { store, troubles } = point.victim(&scratch, &config).await;
    let reader = point.victim(&scratch, &patient()).await.store;
    for skip in (0..count).step_by(every) {
        point.once(command, skip, &fault).await;
        let told = script(&store).await;
        check_all(&point, &*reader, &told).await;
    }
    store.close().await;
    reader.close().await;
    // Joins that come together may need fewer commands than in the run that was counted.
    let cuts = troubles.load(Ordering::SeqCst);
    assert!(cuts * every * 2 > count, "of {count} commands only {cuts} were cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_that_are_cut_before_they_are_done() {
    sweep("insert", 1, cut(), patient()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_that_are_done_but_not_confirmed() {
    sweep("insert", 1, unconfirmed(), patient()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_that_are_done_late() {
    sweep("insert", 1, late(), hasty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_that_are_refused_by_a_server_that_stepped_down() {
    sweep("insert", 4, stepped_down(), patient()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_that_are_cut_before_they_are_done() {
    sweep("update", 1, cut(), patient()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_that_are_done_but_not_confirmed() {
    sweep("update", 1, unconfirmed(), patient()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_that_are_done_late() {
    sweep("update", 1, late(), hasty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_are_refused() {
    sweep("aggregate", 1, stepped_down(), patient()).await;
    sweep("find", 3, doc! { "errorCode": 50 }, patient()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_writes_that_are_lost() {
    let Some(scratch) = Scratch::new() else { return };
    let Some(point) = FailPoint::new(&scratch).await else { return };
    let counts = commands(&scratch).await;
    let proxy = Proxy::new(&scratch.url).await;
    let store = scratch.open_with(&proxy.url, &patient()).await.expect("opened");
    let reader = point.victim(&scratch, &patient()).await.store;
    for command in ["insert", "update"] {
        let before = proxy.lost();
        for skip in 0..counts[command] {
            proxy.lose(command, skip);
            let told = script(&store).await;
            check_all(&point, &*reader, &told).await;
        }
        // Joins that come together may need fewer commands than in the run that was counted.
        assert!(proxy.lost() - before > counts[command] / 2, "answers to {command} were not lost");
    }
    store.close().await;
    reader.close().await;
}
