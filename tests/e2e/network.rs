//! The network between the processes, and between them and a client, at its worst. While something is cut or silent,
//! every call that needs it is refused in time, by a code that says to come back; while it is slow, all goes on; and once
//! it is well again, so is everything, without a restart. Stores and Redis have the same in the services' own suites.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use test_proxy::{Network, State};

use crate::{
    mesh::{Mesh, Part, Plan},
    rest::{Answer, Api, PASSWORD, Person, unique},
    wait,
};

/// Who calls whom.
const LINKS: [(Part, Part); 7] = [
    (Part::Gateway, Part::Auth),
    (Part::Gateway, Part::User),
    (Part::Gateway, Part::Message),
    (Part::Auth, Part::User),
    (Part::User, Part::Auth),
    (Part::Message, Part::Auth),
    (Part::Message, Part::User),
];

/// Four processes whose calls have as long as they have in production: for tests in which none may fail, however busy the
/// machine is.
fn patient() -> Plan {
    Mesh::plan().proxied().set("gateway.rates.enabled", false)
}

/// Four processes that give up soon, so that a test of what gives up is over soon.
fn hasty() -> Plan {
    patient()
        .set("mesh.grpc.call_deadline_ms", 1_500)
        .set("gateway.call_timeout_ms", 2_000)
        .set("gateway.request_timeout_ms", 4_000)
}

/// Something that needs each of the services.
async fn asked(ada: &Person, room: &str) -> Vec<(&'static str, Answer)> {
    let name = unique("new");
    let account = json!({"username": name, "email": format!("{name}@example.com"), "password": PASSWORD});
    let message = json!({"content": "hello", "clientMessageId": name});
    let messages = format!("/rooms/{room}/messages");
    let calls = [
        ("profile", Method::GET, "/auth/profile", None),
        ("rooms", Method::GET, "/rooms", None),
        ("send", Method::POST, messages.as_str(), Some(message)),
        ("register", Method::POST, "/auth/register", Some(account)),
        ("ws-token", Method::GET, "/auth/ws-token", None),
    ];
    let calls = calls.map(async |(what, method, path, body)| (what, ada.call(method, path, body).await));
    join_all(calls).await
}

fn all_good(answers: &[(&'static str, Answer)]) -> bool {
    answers.iter().all(|(_, answer)| (200..300).contains(&answer.status))
}

/// What is refused is told so, and in no other way than this.
fn check(answers: &[(&'static str, Answer)], link: (Part, Part), state: State) {
    for (what, answer) in answers {
        let code = answer.body["code"].as_str().unwrap_or_default();
        let in_time =
            matches!((answer.status, code), (200..=299, "") | (503, "UNAVAILABLE") | (504, "DEADLINE_EXCEEDED"));
        assert!(in_time, "{what} with {link:?} {state:?}: {} {}", answer.status, answer.text);
    }
}

async fn each_link_is(state: State) {
    let mesh = hasty().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut slowest = (Duration::ZERO, LINKS[0]);
    for link in LINKS {
        let proxy = mesh.links.between(link.0, link.1);
        proxy.set_state(state);
        check(&asked(&ada, &room).await, link, state);
        proxy.set_state(State::Open);
        let begun = Instant::now();
        wait::until("everything to be well again", async || {
            let answers = asked(&ada, &room).await;
            check(&answers, link, state);
            all_good(&answers).then_some(())
        })
        .await;
        if begun.elapsed() > slowest.0 {
            slowest = (begun.elapsed(), link);
        }
    }
    wait::say(&format!("network {state:?}: well again within {:?}, slowest {:?}", slowest.0, slowest.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_between_two_parts_is_told_in_time_and_over_when_it_is_over() {
    each_link_is(State::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_packets_between_two_parts_are_told_in_time_and_over_when_they_are_over() {
    each_link_is(State::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_takes_connections_and_never_answers_is_told_in_time_and_left_behind() {
    each_link_is(State::Silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_narrow_network_that_slices_everything_breaks_nothing() {
    let mesh = patient().start();
    let mut api = Api::new(&mesh);
    let public = mesh.links.between(Part::All, Part::Gateway);
    api.url = format!("http://{}", public.address());
    let ada = Person::register(&api, "ada").await;
    let room = ada.room("private").await;
    for network in [
        Network { latency: Duration::from_millis(20), ..Network::default() },
        Network { bytes_per_sec: Some(100_000), ..Network::default() },
        Network { slice_bytes: Some(3), ..Network::default() },
        Network { close_delay: Duration::from_millis(300), ..Network::default() },
    ] {
        LINKS.iter().for_each(|link| mesh.links.between(link.0, link.1).set(network.clone()));
        public.set(network.clone());
        let answers = asked(&ada, &room).await;
        assert!(all_good(&answers), "{network:?}: {answers:?}");
        let mut socket = ada.socket().await;
        socket.join(&room, None).await;
        let content = unique("through");
        socket.ok("send_message", json!({"roomId": room, "content": content})).await;
        assert_eq!(socket.event("new_message").await.data["content"], content, "{network:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_cut_off_resumes_with_exactly_what_it_missed() {
    let mesh = patient().start();
    let mut api = Api::new(&mesh);
    let public = mesh.links.between(Part::All, Part::Gateway);
    api.url = format!("http://{}", public.address());
    let near = Person::new(&mesh, "near").await;
    let far = Person::register(&api, "far").await;
    let room = near.room("public").await;
    far.join(&room).await;
    for state in [State::Cut, State::Silent] {
        let mut socket = far.socket().await;
        let cursor = socket.join(&room, None).await["cursor"].as_str().expect("a cursor").to_owned();
        public.set_state(state);
        if state == State::Cut {
            socket.ended().await;
        }
        let contents: Vec<_> = (0..5).map(|_| unique("missed")).collect();
        for content in &contents {
            near.send(&room, content).await;
        }
        public.set_state(State::Open);
        let socket = far.socket().await;
        let ack = socket.join(&room, Some(&cursor)).await;
        let missed = ack["missed"].as_array().expect("missed");
        let missed: Vec<_> = missed.iter().map(|event| event["data"]["content"].as_str().unwrap_or_default()).collect();
        assert_eq!((ack["recovered"].as_bool(), missed), (Some(true), contents.iter().map(String::as_str).collect()));
    }
}
