//! Two replicas over one store, with somebody who sends at one and somebody who listens at the other, and when each
//! message was sent and heard.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mesh::proto::message::v1::{RoomType, WatchRoomRequest};
use message_svc::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;

use crate::world::{Ground, PATIENCE, Person, World, answer};

/// Longer than a test may take: what counts on this clock never happens.
const NEVER_MS: u64 = 3_600_000;
/// How long delivery may take when it must not be the clock that delivers, which is at its longest in these tests.
pub(super) const BEFORE_THE_CLOCK: Duration = Duration::from_secs(40);

/// Two replicas and a room.
pub(super) struct Crowd {
    _ground: Ground,
    pub(super) one: World,
    pub(super) two: World,
    pub(super) ada: Person,
    pub(super) room: String,
}

/// Uses this Redis, with the defaults.
pub(super) fn through(url: &str) -> impl Fn(&mut Config) + use<> {
    let (url, prefix) = (url.to_owned(), format!("test-{}:", uuid::Uuid::new_v4()));
    move |config| {
        config.mesh.redis_enabled = true;
        config.mesh.redis_url = url.as_str().into();
        config.mesh.redis.prefix.clone_from(&prefix);
    }
}

/// Looks at the store hardly ever, so that what is live came through Redis.
pub(super) fn without_the_clock(config: &mut Config) {
    config.mesh.redis.look_ms = NEVER_MS;
    config.message.watch.poll_ms = 60_000;
}

impl Crowd {
    pub(super) async fn gather(adjust: impl Fn(&mut Config)) -> Self {
        Self::gather_at(&adjust, &adjust).await
    }

    /// Each replica with settings of its own.
    pub(super) async fn gather_at(one: impl FnOnce(&mut Config), two: impl FnOnce(&mut Config)) -> Self {
        let ground = Ground::new().await;
        let one = ground.serve(one).await;
        let ada = one.person("ada");
        // One after the other: SQLite's file is made by the first.
        let room = ada.create("room", RoomType::Public).await;
        let two = ground.serve(two).await;
        Self { _ground: ground, one, two, ada, room }
    }

    /// Waits until both replicas say this of Redis.
    pub(super) async fn until_redis_is(&self, status: &str) {
        for world in [&self.one, &self.two] {
            until_redis_is(world.ops, status).await;
        }
    }

    /// Listens to the room at this replica from its beginning.
    pub(super) async fn listen(&self, world: &World) -> Ear {
        Ear::listen(&self.ada.at(world), &self.room).await
    }

    pub(super) async fn stop(self) {
        self.one.stop().await;
        self.two.stop().await;
    }
}

/// Waits until `/ready` says this of Redis; whatever it says, a process that has its store is ready and stays so.
pub(super) async fn until_redis_is(ops: SocketAddr, status: &str) {
    let wanted = format!("\"redis\":{{\"status\":\"{status}\"");
    let begun = Instant::now();
    let mut ready = false;
    loop {
        let answer = get(ops, "/ready").await;
        let now = answer.starts_with("HTTP/1.1 200");
        assert!(now || !ready, "{answer}");
        ready = now;
        if ready && answer.contains(&wanted) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    answer
}

/// Somebody who listens to a room and checks that every entry comes once and in order.
pub(super) struct Ear {
    heard: Arc<Mutex<BTreeMap<i64, Instant>>>,
    listening: AbortOnDropHandle<()>,
}

impl Ear {
    pub(super) async fn listen(person: &Person, room: &str) -> Self {
        let message = WatchRoomRequest { room_id: room.into(), cursor: String::new() };
        // From the end that the room has now: the stream is there when this is answered.
        let watching = person.client().watch_room(person.stream_request(message)).await;
        let mut stream = answer(watching).expect("follows");
        let heard = Arc::new(Mutex::new(BTreeMap::new()));
        let writes = Arc::clone(&heard);
        let listening = tokio::spawn(async move {
            let mut last = None;
            // It ends with the replica.
            while let Ok(Some(response)) = stream.message().await {
                let seq = response.entry.expect("an entry").seq;
                assert!(last.is_none_or(|last| seq == last + 1), "{seq} came after {last:?}");
                last = Some(seq);
                writes.lock().expect("lock").insert(seq, Instant::now());
            }
        });
        Self { heard, listening: AbortOnDropHandle::new(listening) }
    }

    /// Waits until all up to this seq were heard.
    pub(super) async fn until(&self, seq: i64, limit: Duration) {
        let begun = Instant::now();
        while self.last() < seq {
            assert!(!self.listening.is_finished(), "the stream ended");
            assert!(begun.elapsed() < limit, "heard {} of {seq}", self.last());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) fn last(&self) -> i64 {
        self.heard.lock().expect("lock").last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// How long each of these messages took from its sending, in order of their seq.
    pub(super) fn delays(&self, sent: &BTreeMap<i64, Instant>) -> Vec<(Instant, Duration)> {
        let heard = self.heard.lock().expect("lock");
        sent.iter().map(|(seq, at)| (*at, heard[seq].duration_since(*at))).collect()
    }
}

/// Prints how long messages took.
pub(super) fn print_delays(what: &str, delays: impl IntoIterator<Item = Duration>) {
    let mut delays: Vec<_> = delays.into_iter().collect();
    delays.sort_unstable();
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    say(&format!("{what}: {} messages, ms: p50 {:.1}, p99 {:.1}, max {:.1}", delays.len(), at(50), at(99), at(100)));
}

/// Prints a figure, for whoever runs the tests with `--nocapture`.
#[expect(clippy::print_stdout, reason = "figures for people; the test harness shows them when asked to")]
pub(super) fn say(line: &str) {
    println!("relay: {line}");
}
