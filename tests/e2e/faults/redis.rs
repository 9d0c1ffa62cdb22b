//! Redis wiped, killed and paused in the middle of a mesh of replicas: nothing is lost, and what one replica writes is live
//! at the other again by itself. The delays are printed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Server, Store};
use crate::{
    mesh::Mesh,
    rest::{Api, Person},
    rpc::Rpc,
    socketio::{Event, Socket},
    stores, wait,
};

/// Messages of each phase.
const MESSAGES: usize = 150;
const PACE: Duration = Duration::from_millis(10);

/// Sends to one replica after the other, so that half of it crosses wherever a gateway listens; when each was sent, by its
/// content.
async fn send(at: &[Rpc], room: &str, phase: &str, count: usize) -> HashMap<String, Instant> {
    let mut sent = HashMap::new();
    for number in 0..count {
        let content = format!("{phase} {number}");
        sent.insert(content.clone(), Instant::now());
        at[number * at.len() / count].send(room, &content, &content).await.expect("sent");
        tokio::time::sleep(PACE).await;
    }
    sent
}

/// The longest and the middle delay of these messages at a watcher, in milliseconds.
fn delays(events: &[Event], sent: &HashMap<String, Instant>) -> (f64, f64) {
    let arrived = events.iter().filter_map(|event| Some(event.at - *sent.get(event.data["content"].as_str()?)?));
    let mut all: Vec<_> = arrived.map(|delay| delay.as_secs_f64() * 1e3).collect();
    all.sort_by(f64::total_cmp);
    assert_eq!(all.len(), sent.len(), "each message once");
    (all[all.len() / 2], all[all.len() - 1])
}

async fn until_redis_is(mesh: &Mesh, status: &str) {
    for row in &mesh.rows {
        wait::until("Redis in /ready", async || {
            let (code, body) = crate::mesh::get(row.message_ops, "/ready")?;
            assert_eq!(code, 200, "Redis is wanted and not needed: {body}");
            let ready: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            (ready["checks"]["redis"]["status"] == status).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_wiped_killed_and_paused_in_a_mesh_of_replicas_loses_nothing_and_heals() {
    let (Some(postgres), Some(redis)) = (Server::start(Store::Postgres), Server::start(Store::Redis)) else { return };
    let environment = stores::environment(Some(postgres.url()), Some(postgres.url()), Some(redis.url()));
    let mesh = Mesh::plan().replicas(2, 2).on(environment).start();
    until_redis_is(&mesh, "ok").await;
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut watchers = Vec::new();
    for url in mesh.urls() {
        let person = Person { api: Api::at(&ada.api, &url), ..ada.clone() };
        let socket: Socket = person.socket().await;
        socket.join(&room, None).await;
        watchers.push((socket, Vec::<Event>::new()));
    }
    let replicas: Vec<_> = mesh.rows.iter().map(|row| Rpc::at(row, Some(&ada.access))).collect();
    let mut phases = vec![("before", send(&replicas, &room, "before", MESSAGES).await)];
    redis.ask_redis(&["FLUSHALL"]);
    phases.push(("after FLUSHALL", send(&replicas, &room, "wiped", MESSAGES).await));
    redis.kill();
    until_redis_is(&mesh, "degraded").await;
    phases.push(("while Redis is dead", send(&replicas, &room, "dead", MESSAGES).await));
    redis.launch();
    phases.push(("while it comes back", send(&replicas, &room, "back", MESSAGES).await));
    until_redis_is(&mesh, "ok").await;
    redis.pause();
    phases.push(("while Redis hangs (SIGSTOP)", send(&replicas, &room, "paused", 2 * MESSAGES).await));
    redis.resume();
    until_redis_is(&mesh, "ok").await;
    phases.push(("when all is well again", send(&replicas, &room, "well", MESSAGES).await));
    let total: usize = phases.iter().map(|(_, sent)| sent.len()).sum();
    for (number, (socket, events)) in watchers.iter_mut().enumerate() {
        while events.len() < total {
            events.push(socket.event("new_message").await);
        }
        let seqs: Vec<_> = events.iter().map(|event| event.data["seq"].as_i64().expect("a seq")).collect();
        assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
        for (phase, sent) in &phases {
            let (middle, longest) = delays(events, sent);
            wait::say(&format!(
                "gateway {number}, {phase}: delays of {} messages {middle:.0} ms, at most {longest:.0} ms",
                sent.len()
            ));
        }
    }
}
