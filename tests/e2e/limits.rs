//! Limits that gateways share through Redis, and that each goes on with alone when Redis is away; and those of events. What
//! REST and gRPC say of a limit is in the suites of the gateway.

use std::{sync::Arc, time::Duration};

use ::mesh::{
    config::MeshConfig,
    limit::{Kind, Limits, Rate, Sharing, Subject},
};
use reqwest::{Method, header};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    mesh::{Mesh, Part, get},
    rest::{Answer, Api, Person},
    socketio::Socket,
    stores::{
        self,
        server::{Server, Store},
    },
    wait,
};

const SHARED: &str = "switchboard_limits_shared";

/// One process' limits, by names that a test chooses.
struct Process {
    limits: Arc<Limits<u8>>,
}

impl Process {
    fn start(redis: &str, rate: Rate, stop: &CancellationToken) -> Self {
        let config = MeshConfig { redis_url: redis.into(), ..MeshConfig::default() };
        let limits = Arc::new(Limits::new(1_000, &[rate]));
        let name = |key: &u8| ("test", Subject::Address([192, 0, 2, *key].into()));
        let sharing = Sharing::new(&config, Arc::clone(&limits), Duration::from_millis(20), name).expect("a URL");
        tokio::spawn(sharing.run(stop.clone()));
        Self { limits }
    }

    /// How many calls are let through before one is not, some of them in each moment.
    async fn until_refused(&self, key: u8, rate: Rate) -> u32 {
        let mut let_through = 0;
        wait::until("the limit", async || match self.limits.take(key, rate) {
            Ok(_) => {
                let_through += 1;
                None
            }
            Err(_) => Some(()),
        })
        .await;
        let_through
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_limit_is_one_for_two_processes_and_for_each_its_own_without_redis() {
    let Some(redis) = Server::start(Store::Redis) else { return };
    let stop = CancellationToken::new();
    let _stopped = stop.clone().drop_guard();
    for kind in [Kind::TokenBucket, Kind::FixedWindow, Kind::SlidingWindow] {
        // Nothing comes back while this runs.
        let rate = Rate { kind, ..Rate::new(500, 1) };
        let [one, other] = [0; 2].map(|_| Process::start(&redis.url(), rate, &stop));
        // Each is heard of by the other once both have their connections.
        for (process, heard_by, key) in [(&one, &other, 1), (&other, &one, 2)] {
            wait::until("the other to hear", async || {
                process.limits.take(key, rate).expect("far from its limit");
                let left = heard_by.limits.take(key, rate).expect("far from its limit").calls;
                (left + 3 < 500).then_some(())
            })
            .await;
        }
        let mut alone = 0;
        while one.limits.take(3, rate).is_ok() {
            alone += 1;
        }
        assert_eq!(alone, 500, "{kind:?}");
        let together = other.until_refused(3, rate).await;
        assert!(together < 500, "{kind:?}: {together} more were let through than one limit has");
        other.limits.take(4, rate).expect("a neighbour");
    }
    for key in redis.ask_redis(&["KEYS", "*"]).lines() {
        assert!(key.starts_with("switchboard:limit:"), "{key}");
        let expires: i64 = redis.ask_redis(&["PTTL", key]).parse().expect("a number");
        assert!(expires > 0, "{key} would stay for good");
    }
}

/// A call from outside that needs no account, of the class of REST.
async fn ask(api: &Api, from: &str) -> Answer {
    let request = api.request(Method::GET, "/rooms", None).header("x-forwarded-for", from);
    Answer::read(request).await.expect("an answer")
}

/// How many such calls a gateway lets through.
async fn let_through(api: &Api, from: &str) -> u32 {
    let mut calls = 0;
    loop {
        let answer = ask(api, from).await;
        if answer.status == 429 {
            assert!(answer.headers.contains_key(header::RETRY_AFTER));
            return calls;
        }
        answer.refused(401, "UNAUTHORIZED");
        calls += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_a_limit_through_redis_and_each_goes_on_alone_when_redis_is_killed() {
    let Some(redis) = Server::start(Store::Redis) else { return };
    let mesh = Mesh::plan()
        .replicas(2, 1)
        .on(stores::environment(None, None, Some(redis.url())))
        .set("gateway.trusted_proxies", "127.0.0.1")
        .set("gateway.rates.rest_address.kind", "sliding_window")
        .set("gateway.rates.rest_address.burst", 100)
        .set("gateway.rates.rest_address.per_minute", 1)
        .start();
    let gateways = [0, 1].map(|number| mesh.replica(Part::Gateway, number));
    let is_shared = async |wanted: f64| {
        for gateway in gateways {
            // Redis is missed by who has something to tell.
            wait::until("Redis to be noticed", async || {
                let url = format!("http://127.0.0.1:{}", mesh.rows[gateway.number].public);
                ask(&Api::new(&mesh).at(&url), "198.51.100.250").await;
                (mesh.metric(gateway, SHARED) == wanted).then_some(())
            })
            .await;
        }
    };
    is_shared(1.0).await;
    let api = Api::new(&mesh);
    let [one, other]: [Api; 2] = mesh.urls().iter().map(|url| api.at(url)).collect::<Vec<_>>().try_into().expect("two");
    assert_eq!(let_through(&one, "198.51.100.1").await, 100);
    let mut more = 0;
    wait::until("the other gateway to refuse", async || match ask(&other, "198.51.100.1").await.status {
        429 => Some(()),
        _ => {
            more += 1;
            None
        }
    })
    .await;
    assert!(more < 100, "{more} more were let through at the other gateway");
    ask(&other, "198.51.100.2").await.refused(401, "UNAUTHORIZED");

    let warnings = |gateway| {
        let log = std::fs::read_to_string(mesh.log(gateway)).expect("a log");
        log.matches("each process counts its limits by itself").count()
    };
    let before = gateways.map(warnings);
    redis.kill();
    is_shared(0.0).await;
    assert_eq!(let_through(&one, "198.51.100.3").await, 100);
    assert_eq!(let_through(&other, "198.51.100.3").await, 100);
    // One for the outage, however many calls there were.
    assert_eq!(gateways.map(warnings), before.map(|count| count + 1));
    redis.launch();
    is_shared(1.0).await;
    assert!(get(mesh.ops(gateways[0]), "/ready").is_some_and(|(status, _)| status == 200));
}

#[tokio::test]
async fn who_sends_too_many_events_is_told_when_to_come_back_and_others_go_on() {
    let mesh = Mesh::plan()
        .set("gateway.trusted_proxies", "127.0.0.1")
        .set("gateway.rates.event_account.burst", 5)
        .set("gateway.rates.event_account.per_minute", 1)
        .start();
    let (ada, bob) = (Person::new(&mesh, "ada").await, Person::new(&mesh, "bob").await);
    let room = ada.room("public").await;
    bob.join(&room).await;
    let connect = async |person: &Person| {
        let auth = json!({"token": person.ws_token().await});
        Socket::connect_from(&mesh.url(), auth, "203.0.113.5").await.expect("the connection is taken")
    };
    let (of_ada, of_bob) = (connect(&ada).await, connect(&bob).await);
    let send = |number: u32| json!({"roomId": room, "content": number.to_string()});
    for number in 0..5 {
        of_ada.ok("send_message", send(number)).await;
    }
    let refusal = of_ada.refused("send_message", send(5), 429, "RATE_LIMITED").await;
    assert!(refusal["retryAfter"].as_u64().is_some_and(|secs| (1..=60).contains(&secs)), "{refusal}");
    // Another account at the same address, and the same person by REST, whose calls are another class.
    of_bob.ok("send_message", send(6)).await;
    ada.send(&room, "7").await;
    // A second socket of the same account gets no more.
    let again = connect(&ada).await;
    again.refused("typing_start", json!({"roomId": room}), 429, "RATE_LIMITED").await;
}
