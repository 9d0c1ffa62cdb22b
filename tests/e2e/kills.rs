//! Killed with SIGKILL in the middle of 64 clients' sends, thirty times over, at all in one and at each of the four
//! processes: what was acknowledged is there once, in one dense order, and whoever resumes by cursor sees each entry once.
//! `kills/client.rs` is one client; `kills/judge.rs` compares what they saw with what is stored.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::{
    mesh::{Mesh, Part},
    rest::{Api, Person},
    wait,
};

mod client;
mod judge;

pub(crate) use client::Client;
use judge::Verdict;

const CLIENTS: usize = 64;
const ROOMS: usize = 8;
/// Accounts that are made at once: each costs a processor some time.
const AT_ONCE: usize = 16;
const KILLS_ALL_IN_ONE: usize = 10;
const KILLS_PER_PROCESS: usize = 5;
/// Sends acknowledged between two kills at the least, so that each kill meets work in progress.
const ACKS_BETWEEN: u64 = 128;

/// The pace of a client: a person types slower, and 64 of them must leave a processor for the server.
const PACE: Duration = Duration::from_millis(40);

/// What all clients of one run share.
pub(crate) struct Progress {
    /// The pause between two sends of a client.
    pace: Duration,
    begun: Instant,
    /// Sends acknowledged so far.
    acks: AtomicU64,
    /// Of each client, when its latest acknowledged send was begun, in milliseconds of the run.
    served: Vec<AtomicU64>,
    /// The longest that a send took from its first try on, in milliseconds.
    longest: AtomicU64,
    /// Whether to finish what is pending and stop.
    stop: AtomicBool,
}

impl Progress {
    pub(crate) fn new(clients: usize, pace: Duration) -> Self {
        Self {
            pace,
            begun: Instant::now(),
            acks: AtomicU64::new(0),
            served: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            longest: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub(crate) fn acks(&self) -> u64 {
        self.acks.load(Ordering::Relaxed)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.begun).as_millis()).expect("a short run")
    }

    fn acknowledged(&self, client: usize, begun: Instant) {
        self.acks.fetch_add(1, Ordering::Relaxed);
        self.served[client].store(self.millis(begun), Ordering::Relaxed);
        self.longest.fetch_max(self.millis(Instant::now()) - self.millis(begun), Ordering::Relaxed);
    }

    /// Whether a send of each client, begun after this moment, has been acknowledged.
    pub(crate) fn all_served_since(&self, moment: Instant) -> bool {
        let moment = self.millis(moment);
        self.served.iter().all(|served| served.load(Ordering::Relaxed) > moment)
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Kills parts in this order and starts each again; gives the longest time until sends were acknowledged again.
fn kill_all(mesh: &Mesh, order: &[Part], progress: &Progress, rng: &mut StdRng) -> Duration {
    let mut slowest = Duration::ZERO;
    for part in order {
        let before = progress.acks();
        wait::until_blocking("work in progress", || (progress.acks() >= before + ACKS_BETWEEN).then_some(()));
        // Where in the work the kill falls is chance.
        thread::sleep(Duration::from_millis(rng.random_range(0..250)));
        let begun = Instant::now();
        mesh.kill(*part);
        mesh.start(*part);
        let after = progress.acks();
        wait::until_blocking("sends to be acknowledged again", || (progress.acks() > after).then_some(()));
        slowest = slowest.max(begun.elapsed());
    }
    slowest
}

/// People in rooms, each with a client: client `i` is in room `i % rooms`, and at first at gateway `i % gateways`.
pub(crate) async fn clients(mesh: &Mesh, progress: &Arc<Progress>, rooms: usize) -> Vec<Client> {
    let api = Api::new(mesh);
    let gateways: Vec<_> = mesh.urls().iter().map(|url| api.at(url)).collect();
    let registering = (0..progress.served.len()).map(|_| Person::register(&api, "killed"));
    let people: Vec<_> = futures::stream::iter(registering).buffered(AT_ONCE).collect().await;
    let mut ids = Vec::new();
    for owner in &people[..rooms] {
        ids.push(owner.room("public").await);
    }
    let joining = people.iter().enumerate().skip(rooms).map(|(index, person)| person.join(&ids[index % rooms]));
    futures::stream::iter(joining).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let made = people.into_iter().enumerate().map(|(index, person)| {
        let room = ids[index % rooms].clone();
        Client::new(index, person, room, gateways.clone(), progress.clone())
    });
    made.collect()
}

/// Lets all see the rest of what is stored, and judges.
pub(crate) async fn verdict(mesh: &Mesh, clients: &mut [Client]) -> Verdict {
    join_all(clients.iter_mut().map(Client::finish)).await;
    judge::judge(mesh, clients).await
}

/// A seed, from the environment or by chance.
pub(crate) fn seed() -> u64 {
    match std::env::var("SWITCHBOARD_TEST_SEED") {
        Ok(seed) => seed.parse().expect("SWITCHBOARD_TEST_SEED is a number"),
        Err(_) => rand::rng().random(),
    }
}

async fn run(what: &str, mesh: Mesh, order: Vec<Part>, rng: &mut StdRng) {
    let begun = Instant::now();
    let (mesh, progress) = (Arc::new(mesh), Arc::new(Progress::new(CLIENTS, PACE)));
    let clients = clients(&mesh, &progress, ROOMS).await;
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.run())).collect();
    let killer = {
        let (mesh, progress, order) = (mesh.clone(), progress.clone(), order.clone());
        let mut rng = StdRng::seed_from_u64(rng.random());
        tokio::task::spawn_blocking(move || kill_all(&mesh, &order, &progress, &mut rng))
    };
    let killed = killer.await;
    progress.stop();
    let mut clients: Vec<_> =
        join_all(tasks).await.into_iter().map(|client| client.expect("a client's task")).collect();
    let slowest = killed.expect("the killer's thread");
    let verdict = verdict(&mesh, &mut clients).await;
    wait::say(&format!(
        "{what}: {} kills, {verdict}, slowest recovery {slowest:?}, in {:?} altogether",
        order.len(),
        begun.elapsed()
    ));
    verdict.check_disturbed();
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_kills_under_load_lose_nothing_and_repeat_nothing() {
    let seed = seed();
    wait::say(&format!("kill runs with SWITCHBOARD_TEST_SEED={seed} and {CLIENTS} clients"));
    let mut rng = StdRng::seed_from_u64(seed);
    run("all in one", Mesh::plan().start(), vec![Part::All; KILLS_ALL_IN_ONE], &mut rng).await;
    let mut order: Vec<_> = Part::FOUR.into_iter().flat_map(|part| [part; KILLS_PER_PROCESS]).collect();
    order.shuffle(&mut rng);
    run("four processes", Mesh::plan().separate().start(), order, &mut rng).await;
}
