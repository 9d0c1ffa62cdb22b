//! A store that is away, silent or slow under real processes: every call to its service is answered in time with an error
//! to come back on, what does not need the store goes on, `/ready` names it, and all is well again by itself. What lies
//! between a service and its store is a proxy, or a disk of its own (`outages/disk.rs`); another server takes over in
//! `outages/failover.rs`; `outages/start.rs` starts before the stores.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use test_proxy::{Network, Proxy, State};

use crate::{
    mesh::{self, Mesh, Part},
    rest::{Answer, Api, Person},
    stores::{
        Kind,
        server::{Server, Store},
    },
    wait,
};

mod disk;
mod failover;
mod start;

/// Calls at once: more than a service has connections.
const CALLS: usize = 40;
/// Connections that a service makes in all of an outage, at most: each of the calls tries three times at the most, and
/// what runs by itself (readiness, revocations, watched rooms) asks a few times a second.
const TRIES_MAX: u32 = 3 * 40 + 400;
/// How much later everything arrives, each way: an answer takes 5 s, and services wait 4 s.
const LATE: Duration = Duration::from_millis(2_500);

/// Where the stores of a test are, with a proxy before each service's.
struct Between {
    auth: Proxy,
    user: Proxy,
    message: Proxy,
    _servers: Vec<Server>,
}

impl Between {
    /// The settings that lead through the proxies; none, with a loud word, where a program is missing.
    fn new(kind: Kind) -> Option<(Self, Vec<(String, String)>)> {
        let sql = Server::start(Store::Postgres)?;
        let other = if kind.has_mongodb() { Some(Server::start(Store::Mongodb)?) } else { None };
        let before = |server: &Server| Proxy::new(&format!("127.0.0.1:{}", server.port));
        let rooms = other.as_ref().unwrap_or(&sql);
        let (auth, user, message) = (before(&sql), before(&sql), before(rooms));
        let settings = [
            ("AUTH_STORE_URL", sql.url_at(auth.address().port())),
            ("USER_STORE_URL", sql.url_at(user.address().port())),
            ("MESSAGE_STORE_URL", rooms.url_at(message.address().port())),
        ];
        let settings = settings.map(|(name, url)| (name.to_owned(), url)).to_vec();
        let servers = [sql].into_iter().chain(other).collect();
        Some((Self { auth, user, message, _servers: servers }, settings))
    }

    fn of(&self, part: Part) -> &Proxy {
        match part {
            Part::Auth => &self.auth,
            Part::User => &self.user,
            Part::Message | Part::All | Part::Gateway => &self.message,
        }
    }
}

/// Somebody, a room of theirs, and somebody else.
struct Scene<'a> {
    mesh: &'a Mesh,
    ada: Person,
    eve: Person,
    room: String,
}

impl Scene<'_> {
    /// A call that its service cannot answer without its store.
    async fn needs(&self, part: Part, id: &str) -> Answer {
        match part {
            Part::Auth => self.ada.get("/auth/sessions").await,
            Part::User => self.ada.get(&format!("/users/{}", self.eve.id)).await,
            Part::Message | Part::All | Part::Gateway => {
                let body = json!({"content": id, "clientMessageId": id});
                self.ada.post(&format!("/rooms/{}/messages", self.room), body).await
            }
        }
    }

    /// What goes on without it.
    async fn goes_on_without(&self, part: Part) {
        match part {
            // A token that is known is good without asking.
            Part::Auth => {
                self.ada.send(&self.room, "on").await;
                self.ada.get("/rooms").await.ok(200);
            }
            // Under the name that is known.
            Part::User => assert_eq!(self.ada.send(&self.room, "on").await["username"], self.ada.username.as_str()),
            Part::Message | Part::All | Part::Gateway => {
                self.ada.get("/auth/sessions").await.ok(200);
                self.ada.get(&format!("/users/{}", self.eve.id)).await.ok(200);
            }
        }
    }

    /// Waits until a call that needs the store is answered; what comes before must say to come back.
    async fn is_back(&self, part: Part, id: &str) {
        self.mesh.wait_ready(part);
        wait::until("calls to be answered again", async || {
            let answer = self.needs(part, id).await;
            if answer.status >= 500 {
                is_passing(&answer);
            }
            (answer.status < 300).then_some(())
        })
        .await;
    }
}

/// Whether an answer says to come back.
#[track_caller]
fn is_passing(answer: &Answer) {
    let code = answer.body["code"].as_str().unwrap_or_default();
    let passing = matches!((answer.status, code), (503, "UNAVAILABLE") | (504, "DEADLINE_EXCEEDED"));
    assert!(passing, "{} {}", answer.status, answer.text);
}

/// The status of `/ready`, and of the store in it.
fn store_in_ready(mesh: &Mesh, part: Part) -> Option<(u16, Value)> {
    let (status, body) = mesh::get(mesh.ops(part), "/ready")?;
    let mut ready: Value = serde_json::from_str(&body).expect("JSON");
    Some((status, ready["checks"]["store"].take()))
}

/// Waits until the store is named as what is missing, while the process says that it lives.
async fn is_named(mesh: &Mesh, part: Part) {
    let named = wait::until("the store to be named in /ready", async || {
        store_in_ready(mesh, part).filter(|(status, store)| (*status, &store["status"]) == (503, &"failed".into()))
    });
    let store = named.await.1;
    assert!(store["latencyMs"].is_number() && store["error"].is_string(), "{store}");
    assert_eq!(mesh::get_status(mesh.ops(part), "/health"), Some(200), "{} lives", part.binary());
}

/// One service's store is so for a while.
async fn goes_through(scene: &Scene<'_>, part: Part, proxy: &Proxy, what: &str, network: &Network) {
    let name = part.binary();
    let (before, begun) = (proxy.connections(), Instant::now());
    proxy.set(network.clone());
    let ids: Vec<_> = (0..CALLS).map(|number| format!("{name}-{what}-{number}")).collect();
    let answers = join_all(ids.iter().map(|id| scene.needs(part, id))).await;
    let slowest = begun.elapsed();
    answers.iter().for_each(is_passing);
    is_named(scene.mesh, part).await;
    scene.goes_on_without(part).await;
    let tries = proxy.connections() - before;
    assert!(tries <= TRIES_MAX, "{name} made {tries} connections in {:?}", begun.elapsed());
    let over = Instant::now();
    proxy.set(Network::default());
    scene.is_back(part, &ids[0]).await;
    wait::say(&format!(
        "{name}, its store {what}: {CALLS} calls refused within {slowest:.1?}, {tries} connections tried, answering \
         again after {:.1?}",
        over.elapsed()
    ));
    // Whatever became of the calls, each can be made again and happened once.
    if part == Part::Message {
        for id in &ids {
            // 200 when it had happened, 201 when it happens now.
            let answer = scene.needs(part, id).await;
            assert!(answer.status < 300, "{}", answer.text);
        }
        let history = scene.ada.history(&scene.room).await;
        let times = |id: &String| history.iter().filter(|message| message["clientMessageId"] == id.as_str()).count();
        assert!(ids.iter().all(|id| times(id) == 1), "a send happened more or less than once");
    }
}

async fn every_outage(kind: Kind) {
    if Kind::chosen() != Kind::Sqlite {
        wait::say("SKIPPED: outages, which have stores of their own and run once, with SWITCHBOARD_TEST_STORES=sqlite");
        return;
    }
    let Some((between, settings)) = Between::new(kind) else { return };
    // Tokens stay good while auth-svc's feed is silent for longer than usual: what is tried here is the store alone.
    let plan = Mesh::plan().separate().on(settings).set("mesh.identity.silence_ms_max", 600_000);
    let plan = plan.set("message.names.fresh_secs", 1).set("gateway.rates.enabled", false);
    let mesh = plan.start();
    let api = Api::new(&mesh);
    let (ada, eve) = (Person::register(&api, "ada").await, Person::register(&api, "eve").await);
    let room = ada.room("private").await;
    ada.send(&room, "known").await;
    let scene = Scene { mesh: &mesh, ada, eve, room };
    let silent = Network { state: State::Silent, ..Network::default() };
    let cut = Network { state: State::Cut, ..Network::default() };
    let slow = Network { latency: LATE, ..Network::default() };
    for (what, network) in [("silent", silent), ("cut", cut), ("slow", slow)] {
        for part in [Part::Auth, Part::User, Part::Message] {
            // On PostgreSQL alone, what auth-svc and user-svc do is tried; with MongoDB only message-svc is another.
            if kind == Kind::Postgres || part == Part::Message {
                goes_through(&scene, part, between.of(part), what, &network).await;
            }
        }
    }
    for part in Part::FOUR {
        assert!(mesh.runs(part), "{} has ended", part.binary());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_silent_cut_or_slow_calls_say_come_back_and_all_is_well_again() {
    every_outage(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_mongodb_is_silent_cut_or_slow_calls_say_come_back_and_all_is_well_again() {
    every_outage(Kind::PostgresMongodb).await;
}
