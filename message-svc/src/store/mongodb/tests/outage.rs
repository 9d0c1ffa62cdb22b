//! Servers that stop answering, and servers that are killed: calls end in time with an error to try again on, and what was
//! acknowledged is there when the server is back.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use mongodb::bson::doc;
use tempfile::TempDir;

use super::{
    fail_point::FailPoint,
    server::{Scratch, patient},
};
use crate::{
    config::{MongodbConfig, RoomsConfig},
    hub::Hub,
    order::Change,
    room::RoomType,
    store::{Outcome, Store, StoreError},
    testing::{PATIENCE, message, message_entry, new_room, rooms_with, until, user, whole_log},
};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_does_not_answer_calls_end_in_time_and_after_that_all_is_well() {
    let Some(scratch) = Scratch::new() else { return };
    let Some(point) = FailPoint::new(&scratch).await else { return };
    let config = MongodbConfig { connections_max: 4, call_ms: 300, ..patient() };
    let store = point.victim(&scratch, &config).await.store;
    let room = new_room(RoomType::Public, "room", user());
    store.create_room(&room).await.expect("made");
    let entry = message_entry(room.meta.id, 1, 1, message(user(), "a", "x"));

    let silent = doc! { "blockConnection": true, "blockTimeMS": 1_500 };
    point.always(&["find", "aggregate", "insert", "update", "ping"], &silent).await;
    let begun = Instant::now();
    let lost = store.append([entry.clone()].into()).await;
    assert!(matches!(lost, Err(StoreError::Unknown(_))), "{lost:?}");
    // More calls than connections: those that wait for one are told so.
    let views = join_all((0..20).map(|_| store.view(room.meta.id, None))).await;
    assert!(views.iter().all(|view| matches!(view, Err(StoreError::Unavailable(_)))), "{views:?}");
    assert!(matches!(store.check().await, Err(StoreError::Unavailable(_))));
    let unbegun = store.append([message_entry(room.meta.id, 2, 2, message(user(), "b", "x"))].into()).await;
    assert!(matches!(unbegun, Err(StoreError::Unavailable(_))), "every connection waits: {unbegun:?}");
    assert!(begun.elapsed() < Duration::from_millis(1_500), "calls took {:?}", begun.elapsed());

    point.off().await;
    until("the server answers again", async || store.check().await.is_ok()).await;
    until("the late write is there", async || !whole_log(&*store, room.meta.id).await.is_empty()).await;
    assert_eq!(whole_log(&*store, room.meta.id).await, [entry]);
    let next = message_entry(room.meta.id, 2, 2, message(user(), "b", "x"));
    assert_eq!(store.append([next].into()).await.expect("written"), Outcome::Done);
}

/// A server of the test's own, on a disk of its own.
struct Server {
    process: Child,
    command: Vec<String>,
    _folder: TempDir,
}

impl Server {
    /// None when there is no program for it; then it says so loudly.
    #[expect(clippy::print_stderr, reason = "who runs the tests must see what they did not run")]
    fn start() -> Option<(Self, String)> {
        let mongod = || {
            let found = Command::new("mongod").arg("--version").stdout(Stdio::null()).status().is_ok();
            found.then(|| "mongod --bind_ip 127.0.0.1 --port {port} --dbpath {path}".to_owned())
        };
        let Some(template) = std::env::var("MONGODB_SERVER").ok().filter(|text| !text.is_empty()).or_else(mongod)
        else {
            assert!(
                std::env::var("SWITCHBOARD_TEST_REQUIRE").as_deref() != Ok("all"),
                "MONGODB_SERVER is not set; `eval \"$(tests/stores start)\"` sets it"
            );
            eprintln!("SKIPPED: MONGODB_SERVER is not set; `eval \"$(tests/stores start)\"` sets it");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let path = folder.path().display().to_string();
        let word = |word: &str| word.replace("{port}", &port.to_string()).replace("{path}", &path);
        let command: Vec<_> = template.split_whitespace().map(word).collect();
        let server = Self { process: run(&command), command, _folder: folder };
        Some((server, format!("mongodb://127.0.0.1:{port}/?directConnection=true")))
    }

    /// Kills it, with nothing said before, and starts it again.
    fn kill_and_start(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
        self.process = run(&self.command);
    }
}

fn run(command: &[String]) -> Child {
    let (program, arguments) = command.split_first().expect("a command");
    let quiet =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    quiet.expect("started")
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_the_server_was_killed_is_there_once_and_in_order() {
    const KILLS: usize = 4;
    const SENDERS: usize = 8;
    const BETWEEN: usize = 60;
    let Some((mut server, url)) = Server::start() else { return };
    let scratch = Scratch::on(&url);
    let config = MongodbConfig { connect_ms: 1_000, select_ms: 1_000, call_ms: 4_000, start_secs: 60, ..patient() };
    let store: Arc<dyn Store> = scratch.open_with(&scratch.url, &config).await.expect("opened");
    let senders: Vec<_> = (0..SENDERS).map(|_| user()).collect();
    let room = new_room(RoomType::Public, "room", senders[0]);
    let id = room.meta.id;
    store.create_room(&room).await.expect("made");
    let rooms = rooms_with(&store, &Hub::new(16), &RoomsConfig::default());
    for sender in &senders[1..] {
        rooms.change(id, Change::Join(*sender)).await.expect("joined");
    }
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = senders
        .iter()
        .map(|sender| {
            let (rooms, sender) = (Arc::clone(&rooms), *sender);
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let mut sent = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let client_id = sent.len().to_string();
                    let begun = Instant::now();
                    // As a client does: the same id until there is an answer.
                    let done = loop {
                        match rooms.send(id, message(sender, &client_id, "x")).await {
                            Ok(done) => break done,
                            Err(error) => assert!(begun.elapsed() < PATIENCE, "never answered: {error:?}"),
                        }
                    };
                    sent.push(done);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                sent
            })
        })
        .collect();
    for kill in 0..=KILLS {
        let goal = acknowledged.load(Ordering::SeqCst) + BETWEEN;
        until("messages are acknowledged", async || acknowledged.load(Ordering::SeqCst) >= goal).await;
        if kill < KILLS {
            server.kill_and_start();
        }
    }
    stop.store(true, Ordering::SeqCst);
    let sent: Vec<_> = join_all(tasks).await.into_iter().flat_map(|sent| sent.expect("no panic")).collect();
    let log = whole_log(&*store, id).await;
    for sent in &sent {
        let place = usize::try_from(sent.entry.seq).expect("positive") - 1;
        assert_eq!(log.get(place), Some(&sent.entry), "an acknowledged message is lost");
    }
    // `whole_log` has seen that nothing is there twice and that nothing is missing between.
    assert_eq!(log.iter().filter(|entry| entry.message().is_some()).count(), sent.len());
    store.close().await;
}
