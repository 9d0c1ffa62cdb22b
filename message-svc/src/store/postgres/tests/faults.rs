//! Servers that fail, with the rooms' tasks on top: whatever becomes of a write or its answer, what was answered is in
//! the log once, in order, and nothing else is there twice.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use mesh_postgres::testing::{LONG, Mood, Proxy as Freezer};
use sqlx::PgConnection;
use tokio::task::JoinHandle;

use super::{
    proxy::{LOSSES, Loss, Proxy},
    server::OwnServer,
    *,
};
use crate::{
    entry::Event,
    error::Error,
    order::{Change, Sent},
    rooms::Rooms,
    testing::{rooms, until},
};

/// Rooms with one owner each, who sends.
struct World {
    store: Arc<dyn Store>,
    rooms: Arc<Rooms>,
    places: Vec<(RoomId, UserId)>,
}

impl World {
    async fn new(store: PostgresStore, count: usize) -> Self {
        let store: Arc<dyn Store> = Arc::new(store);
        let mut places = Vec::new();
        for _ in 0..count {
            let owner = user();
            let room = new_room(RoomType::Public, "room", owner);
            store.create_room(&room).await.expect("made");
            places.push((room.meta.id, owner));
        }
        Self { rooms: rooms(&store), store, places }
    }

    /// Sends into all rooms, as clients do: the same id until there is an answer. Each has so many senders, each of
    /// whom goes on until they have sent so many and it is enough.
    fn send(&self, senders: usize, least: usize, enough: &Arc<AtomicBool>) -> Vec<JoinHandle<Vec<Sent>>> {
        let each = self.places.iter().flat_map(|place| (0..senders).map(move |sender| (*place, sender)));
        each.map(|((room, owner), sender)| {
            let (rooms, enough) = (Arc::clone(&self.rooms), Arc::clone(enough));
            tokio::spawn(async move {
                let mut sent = Vec::new();
                while sent.len() < least || !enough.load(Ordering::SeqCst) {
                    let id = format!("{sender}-{}", sent.len());
                    match rooms.send(room, message(owner, &id, &id)).await {
                        Ok(done) => sent.push(done),
                        Err(error) => assert!(matches!(error, Error::Store(_) | Error::Busy), "{error:?}"),
                    }
                }
                sent
            })
        })
        .collect()
    }

    /// That each answer is what the logs have, that each sender's order is kept, and that the logs have nothing else.
    async fn check(&self, sending: Vec<JoinHandle<Vec<Sent>>>) -> usize {
        let sent: Vec<_> = join_all(sending).await.into_iter().map(|sent| sent.expect("no panic")).collect();
        let mut logs = HashMap::new();
        for (room, _) in &self.places {
            // Dense, and no client id twice.
            logs.insert(*room, whole_log(&*self.store, *room).await);
        }
        let mut count = 0;
        for sent in sent {
            assert!(sent.windows(2).all(|pair| pair[0].entry.seq < pair[1].entry.seq), "one sender's order is kept");
            for done in &sent {
                let log = &logs[&done.entry.room];
                let there = usize::try_from(done.entry.seq - 1).ok().and_then(|place| log.get(place));
                assert_eq!(there, Some(&done.entry), "an answered message is not in the log");
            }
            count += sent.len();
        }
        let messages: usize = logs.values().flatten().filter(|entry| matches!(entry.event, Event::Message(_))).count();
        assert_eq!(messages, count, "each that was sent is there, and nothing more");
        count
    }

    async fn close(self) {
        self.rooms.stop().await;
        self.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_write_is_lost_it_happens_once() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::new(&schema.url).await;
    let store = open_with(&schema, &proxy.url, &PostgresConfig { writers_max: 2, ..patient() }).await.expect("opens");
    let world = World::new(store, 6).await;
    // Every order of two of them, with some peace in between.
    let pairs = LOSSES.into_iter().flat_map(|one| LOSSES.into_iter().map(move |two| (one, two)));
    proxy.plan(pairs.flat_map(|(one, two)| [one, two, Loss::None, Loss::None]));
    let plan_is_over = Arc::new(AtomicBool::new(false));
    let sending = world.send(3, 30, &plan_is_over);
    until("all was lost that can be", async || proxy.planned() == 0).await;
    plan_is_over.store(true, Ordering::SeqCst);
    world.check(sending).await;
    world.close().await;
}

#[tokio::test]
async fn a_lost_write_is_unknown_and_is_there_or_not_as_it_was_lost() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::new(&schema.url).await;
    let store = open_with(&schema, &proxy.url, &patient()).await.expect("opens");
    let who = user();
    for loss in LOSSES {
        for members in [false, true] {
            let room = room(&store).await;
            // A connection that has the statement already, so that the write is its first message.
            let mut batch = vec![message_entry(room, 1, 1, message(who, "0", "x"))];
            if members {
                batch.push(joined(room, 2));
            }
            assert_eq!(store.append(batch.into()).await.expect("written"), Outcome::Done);
            let seq = if members { 3 } else { 2 };
            let mut batch = vec![message_entry(room, seq, 2, message(who, "1", "x"))];
            if members {
                batch.push(joined_after(room, seq + 1, 2));
            }
            let batch: Batch = batch.into();
            proxy.plan([loss]);
            let error = store.append(Arc::clone(&batch)).await.expect_err("its answer was lost");
            assert!(matches!(error, StoreError::Unknown(_)), "{loss:?}: {error:?}");
            let there = matches!(loss, Loss::Late | Loss::After);
            let head = seq - 1 + if there { i64::try_from(batch.len()).expect("small") } else { 0 };
            let arrived = async || store.heads(&[room]).await.expect("reads")[0].last_seq == head;
            until("it is as it was lost", arrived).await;
            let count = store.view(room, None).await.expect("reads").expect("room").member_count;
            assert_eq!(
                count,
                if !members {
                    1
                } else if there {
                    3
                } else {
                    2
                },
                "{loss:?}: what follows is there too"
            );
            let again = store.append(batch).await.expect("answers");
            assert_eq!(again, if there { Outcome::Displaced } else { Outcome::Done }, "{loss:?}");
        }
    }
    store.close().await;
}

fn joined(room: RoomId, seq: Seq) -> Arc<Entry> {
    let change = crate::entry::MembersChanged { joined: vec![user()], member_count: 2, ..Default::default() };
    crate::testing::entry(room, seq, 1, Event::Members(change))
}

fn joined_after(room: RoomId, seq: Seq, messages: i64) -> Arc<Entry> {
    let change = crate::entry::MembersChanged { joined: vec![user()], member_count: 3, ..Default::default() };
    crate::testing::entry(room, seq, messages, Event::Members(change))
}

#[tokio::test]
async fn a_room_whose_making_was_lost_is_made_once() {
    let Some(schema) = Schema::new() else { return };
    let store = open(&schema).await;
    let mut beside = schema.connect().await;
    for _ in 0..5 {
        let room = new_room(RoomType::Private, "room", user());
        let making = crate::room::create::create(&store, room.clone());
        let ending = terminate(&mut beside, &schema, 1);
        let (made, _) = tokio::join!(making, ending);
        if made.is_err() {
            crate::room::create::create(&store, room.clone()).await.expect("made");
        }
        let view = store.view(room.meta.id, None).await.expect("reads").expect("is there");
        assert_eq!((view.meta.log, view.member_count), (room.meta.log, 1));
    }
    store.close().await;
}

/// Ends connections of the stores in this schema, as an operator does, so many times.
async fn terminate(beside: &mut PgConnection, schema: &Schema, times: usize) -> usize {
    let mut ended = 0;
    for _ in 0..times {
        // The stores are known by having the schema's tables open.
        let pids: Vec<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() AND application_name = 'message-svc' AND state = 'active'
               AND pid IN (SELECT held.pid FROM pg_locks AS held JOIN pg_class AS of ON of.oid = held.relation
                           WHERE of.relnamespace::regnamespace::text = $1)",
        )
        .bind(&schema.name)
        .fetch_all(&mut *beside)
        .await
        .expect("read");
        for pid in pids {
            let done: bool = sqlx::query_scalar("SELECT pg_terminate_backend($1)")
                .bind(pid)
                .fetch_one(&mut *beside)
                .await
                .expect("ended");
            ended += usize::from(done);
        }
    }
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_ended_in_the_middle_lose_and_repeat_nothing() {
    let Some(schema) = Schema::new() else { return };
    let world = World::new(open(&schema).await, 8).await;
    let calm = Arc::new(AtomicBool::new(false));
    let sending = world.send(4, 50, &calm);
    let mut beside = schema.connect().await;
    let (mut ended, begun) = (0, Instant::now());
    while ended < 60 {
        assert!(begun.elapsed() < LONG, "only {ended} were met at work");
        ended += terminate(&mut beside, &schema, 1).await;
    }
    calm.store(true, Ordering::SeqCst);
    assert!(world.check(sending).await >= 8 * 4 * 50);
    world.store.check().await.expect("is ready");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_the_middle_has_all_that_was_acknowledged() {
    let Some(server) = OwnServer::start() else { return };
    let schema = Schema { url: server.url.clone(), name: "messages".into() };
    let config = PostgresConfig { start_secs: 60, ..PostgresConfig::default() };
    let world = World::new(open_with(&schema, &schema.url, &config).await.expect("opens"), 8).await;
    let calm = Arc::new(AtomicBool::new(false));
    let sending = world.send(4, 100, &calm);
    let (room, _) = world.places[0];
    for _ in 0..3 {
        let head = async || world.store.heads(&[room]).await.ok().map_or(0, |heads| heads[0].last_seq);
        let before = head().await;
        until("some more are sent", async || head().await > before + 50).await;
        server.kill();
        assert!(world.store.check().await.is_err(), "it is not ready");
        server.start_again().await;
        until("it is ready again by itself", async || world.store.check().await.is_ok()).await;
    }
    calm.store(true, Ordering::SeqCst);
    assert!(world.check(sending).await >= 8 * 4 * 100);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_ends_every_call_in_time_and_serves_again() {
    let Some(schema) = Schema::new() else { return };
    let freezer = Freezer::new(&schema.url);
    let config = PostgresConfig { connect_ms: 200, call_ms: 400, writers_max: 1, commit_entries_max: 1, ..patient() };
    let store = open_with(&schema, &freezer.url, &config).await.expect("opens");
    let room = room(&store).await;
    let batch = |seq: i64| -> Batch { [message_entry(room, seq, seq, message(user(), "a", "x"))].into() };
    assert_eq!(store.append(batch(1)).await.expect("written"), Outcome::Done);
    freezer.set(Mood::Frozen);
    let begun = Instant::now();
    // One is sent and not answered; the others have no turn in time, so they surely did not happen.
    let writes = join_all((0..20).map(|_| store.append(batch(2)))).await;
    assert!(writes.iter().all(Result::is_err));
    let sure = writes.iter().filter(|error| matches!(error, Err(StoreError::Unavailable(_)))).count();
    assert!(sure >= 19, "{writes:?}");
    let error = store.heads(&[room]).await.expect_err("no answer");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(store.create_room(&new_room(RoomType::Public, "room", user())).await.is_err());
    assert!(store.check().await.is_err(), "it is not ready");
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    freezer.set(Mood::Cut);
    freezer.set(Mood::Open);
    until("it serves again", async || store.append(batch(2)).await.is_ok()).await;
    until("and is ready", async || store.check().await.is_ok()).await;
    assert_eq!(whole_log(&store, room).await.len(), 2);
    store.close().await;
}

#[tokio::test]
async fn a_server_that_only_reads_is_not_ready_and_loses_nothing() {
    let Some(schema) = Schema::new() else { return };
    let store = open(&schema).await;
    let room = room(&store).await;
    store.close().await;
    let url = with(&schema.url, "options=-cdefault_transaction_read_only=on");
    // As a standby does: the tables are there, and nothing can be written.
    let store = open_with(&schema, &url, &patient()).await.expect("opens");
    assert!(store.check().await.is_err());
    let batch: Batch = [message_entry(room, 1, 1, message(user(), "a", "x"))].into();
    let error = store.append(batch).await.expect_err("is refused");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(whole_log(&store, room).await.is_empty(), "reads go on");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_write_one_room_keep_one_order_and_every_message_once() {
    let Some(schema) = Schema::new() else { return };
    let world = World::new(open(&schema).await, 1).await;
    let other: Arc<dyn Store> = Arc::new(open(&schema).await);
    let (here, there) = (Arc::clone(&world.rooms), rooms(&other));
    let (room, owner) = world.places[0];
    // Every message goes to both at once, as when a gateway tries again elsewhere; members come and go meanwhile.
    let tasks = (0..16).map(|sender| {
        let (here, there) = (Arc::clone(&here), Arc::clone(&there));
        tokio::spawn(async move {
            let guest = user();
            let mut sent = Vec::new();
            here.change(room, Change::Join(guest)).await.expect("joined");
            for n in 0..20 {
                let id = format!("{sender}-{n}");
                let to = |text: &str| message(owner, &id, text);
                let tries = tokio::join!(here.send(room, to("here")), there.send(room, to("there")));
                let (first, second) = (tries.0.expect("sent"), tries.1.expect("sent"));
                assert_eq!(first.entry, second.entry, "both tries get the same answer");
                assert_ne!(first.replayed, second.replayed, "and one of them is the first");
                sent.push(first);
            }
            there.change(room, Change::Leave(guest)).await.expect("left");
            sent
        })
    });
    assert_eq!(world.check(tasks.collect()).await, 16 * 20);
    let view = world.store.view(room, None).await.expect("reads").expect("room");
    assert_eq!((view.member_count, world.store.members(room, None, 100).await.expect("reads").len()), (1, 1));
    there.stop().await;
    other.close().await;
    world.close().await;
}
