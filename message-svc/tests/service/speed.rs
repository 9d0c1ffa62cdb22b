//! How fast sends are over gRPC, client and service in one process: a measurement to run by hand, not a test.
//!
//! `cargo test --release -p message-svc --test service -- --ignored --nocapture speed`

use std::time::Instant;

use futures::future::join_all;
use mesh::proto::message::v1::{RoomType, SendMessageRequest};

use crate::world::{Ground, answer};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    for (rooms, senders, sends) in [(1, 64, 400), (64, 64, 400), (64, 1_024, 100)] {
        let world = Ground::new().await.serve(|config| config.message.names.fresh_secs = 60).await;
        let people: Vec<_> = (0..rooms).map(|n| world.person(&n.to_string())).collect();
        let mut places = Vec::new();
        for person in &people {
            places.push(person.create("room", RoomType::Private).await);
        }
        let (begun, cpu) = (Instant::now(), cpu_secs());
        let tasks = (0..senders).map(|sender| {
            let (person, room_id) = (people[sender % rooms].clone(), places[sender % rooms].clone());
            tokio::spawn(async move {
                for n in 0..sends {
                    let message = SendMessageRequest {
                        room_id: room_id.clone(),
                        content: "A message of a usual length, as people write them in a room.".into(),
                        client_message_id: format!("{sender}-{n}"),
                        ..Default::default()
                    };
                    answer(person.client().send_message(person.request(message)).await).expect("sent");
                }
            })
        });
        join_all(tasks).await.into_iter().for_each(|task| task.expect("no panic"));
        let (secs, cpu) = (begun.elapsed().as_secs_f64(), cpu_secs() - cpu);
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let count = (senders * sends) as f64;
        let (rate, each) = (count / secs, cpu * 1e6 / count);
        #[expect(clippy::print_stdout, reason = "a person waits for it")]
        {
            println!(
                "{rooms} rooms, {senders} senders: {rate:.0} durable sends/s, {each:.1} µs CPU each on both sides"
            );
        }
        world.stop().await;
    }
}

/// The CPU time of this process.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15 of the whole, in hundredths of a second.
    after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
