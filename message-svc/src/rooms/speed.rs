//! How fast the writers are over a store on disk, without gRPC: a measurement to run by hand, not a test.
//!
//! `cargo test --release -p message-svc --lib -- --ignored --nocapture speed`

use std::time::Instant;

use futures::future::join_all;

use super::*;
use crate::{
    room::RoomType,
    testing::{message, new_room, rooms, sqlite, user},
};

/// Sends from all senders of all rooms at once, each waiting for its answer before the next.
async fn measure(name: &str, rooms_count: usize, senders: usize, sends: usize) {
    let (store, folder) = sqlite().await;
    let writers = rooms(&store);
    let mut places = Vec::new();
    for _ in 0..rooms_count {
        let owner = user();
        let room = new_room(RoomType::Public, "room", owner);
        store.create_room(&room).await.expect("made");
        places.push((room.meta.id, owner));
    }
    let content = "A message of a usual length, as people write them in a room.".to_owned();
    let (begun, cpu) = (Instant::now(), cpu_secs());
    let tasks = (0..senders).map(|sender| {
        let (id, owner) = places[sender % rooms_count];
        let (writers, content) = (Arc::clone(&writers), content.clone());
        tokio::spawn(async move {
            let mut slowest = 0.0_f64;
            for n in 0..sends {
                let begun = Instant::now();
                let sent = writers.send(id, message(owner, &format!("{sender}-{n}"), &content)).await;
                assert!(!sent.expect("sent").replayed);
                slowest = slowest.max(begun.elapsed().as_secs_f64());
            }
            slowest
        })
    });
    let slowest = join_all(tasks).await.into_iter().map(|task| task.expect("no panic")).fold(0.0, f64::max);
    let (secs, cpu) = (begun.elapsed().as_secs_f64(), cpu_secs() - cpu);
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let count = (senders * sends) as f64;
    let (rate, each, worst) = (count / secs, cpu * 1e6 / count, slowest * 1e3);
    let line = format!("{name}: {rate:.0} durable sends/s, {each:.1} µs CPU each, slowest {worst:.0} ms");
    #[expect(clippy::print_stdout, reason = "a person waits for it")]
    {
        println!("{line}");
    }
    writers.stop().await;
    store.close().await;
    drop(folder);
}

/// The CPU time of this process.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15 of the whole, in hundredths of a second.
    after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    measure("1 sender", 1, 1, 2_000).await;
    measure("one hot room, 64 senders", 1, 64, 500).await;
    measure("64 rooms, 64 senders", 64, 64, 500).await;
    measure("64 rooms, 1,024 senders", 64, 1_024, 200).await;
    measure("1,000 rooms, 1,000 senders", 1_000, 1_000, 100).await;
}

/// A path whose instructions `bench/instructions` counts: 64 messages that wait are numbered and written as one batch.
#[test]
#[ignore = "bench/instructions counts it"]
fn counted_sixty_four_messages_are_numbered_and_written() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (store, _folder) = sqlite().await;
        let writers = rooms(&store);
        let owner = user();
        let room = new_room(RoomType::Public, "room", owner);
        store.create_room(&room).await.expect("made");
        let content = "x".repeat(128);
        for round in 0..test_input::rounds() {
            let sends = (0..64).map(|n| writers.send(room.meta.id, message(owner, &format!("{round}-{n}"), &content)));
            assert!(join_all(sends).await.iter().all(Result::is_ok));
        }
        writers.stop().await;
        store.close().await;
    });
}
