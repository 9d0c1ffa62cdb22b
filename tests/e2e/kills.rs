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

use futures::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::{
    mesh::{Mesh, Part},
    rest::{Api, Person},
    wait,
};

mod client;
mod judge;

use client::Client;

const CLIENTS: usize = 64;
const ROOMS: usize = 8;
const KILLS_ALL_IN_ONE: usize = 10;
const KILLS_PER_PROCESS: usize = 5;
/// Sends acknowledged between two kills at the least, so that each kill meets work in progress.
const ACKS_BETWEEN: u64 = 128;

/// What all clients of one run share.
#[derive(Default)]
struct Progress {
    /// Sends acknowledged so far.
    acks: AtomicU64,
    /// Whether to finish what is pending and stop.
    stop: AtomicBool,
}

impl Progress {
    fn acks(&self) -> u64 {
        self.acks.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
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

/// People in rooms, each with a client: client `i` is in room `i % ROOMS`.
async fn clients(mesh: &Arc<Mesh>, progress: &Arc<Progress>) -> Vec<Client> {
    let api = Api::new(mesh);
    let people = join_all((0..CLIENTS).map(|_| Person::register(&api, "killed"))).await;
    let mut rooms = Vec::new();
    for owner in &people[..ROOMS] {
        rooms.push(owner.room("public").await);
    }
    join_all(people.iter().enumerate().skip(ROOMS).map(|(index, person)| person.join(&rooms[index % ROOMS]))).await;
    let made = people.into_iter().enumerate().map(|(index, person)| {
        let room = rooms[index % ROOMS].clone();
        Client::new(index, person, room, progress.clone())
    });
    made.collect()
}

async fn run(what: &str, mesh: Mesh, order: Vec<Part>, rng: &mut StdRng) {
    let begun = Instant::now();
    let (mesh, progress) = (Arc::new(mesh), Arc::new(Progress::default()));
    let tasks: Vec<_> = clients(&mesh, &progress).await.into_iter().map(|client| tokio::spawn(client.run())).collect();
    let killer = {
        let (mesh, progress, order) = (mesh.clone(), progress.clone(), order.clone());
        let mut rng = StdRng::seed_from_u64(rng.random());
        tokio::task::spawn_blocking(move || kill_all(&mesh, &order, &progress, &mut rng))
    };
    let killed = killer.await;
    progress.stop.store(true, Ordering::Relaxed);
    let mut clients: Vec<_> =
        join_all(tasks).await.into_iter().map(|client| client.expect("a client's task")).collect();
    let slowest = killed.expect("the killer's thread");
    join_all(clients.iter_mut().map(Client::finish)).await;
    let verdict = judge::judge(&mesh, &clients).await;
    wait::say(&format!(
        "{what}: {} kills, {verdict}, slowest recovery {slowest:?}, in {:?} altogether",
        order.len(),
        begun.elapsed()
    ));
    verdict.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_kills_under_load_lose_nothing_and_repeat_nothing() {
    let seed: u64 = match std::env::var("SWITCHBOARD_TEST_SEED") {
        Ok(seed) => seed.parse().expect("SWITCHBOARD_TEST_SEED is a number"),
        Err(_) => rand::rng().random(),
    };
    wait::say(&format!("kill runs with SWITCHBOARD_TEST_SEED={seed} and {CLIENTS} clients"));
    let mut rng = StdRng::seed_from_u64(seed);
    run("all in one", Mesh::plan().start(), vec![Part::All; KILLS_ALL_IN_ONE], &mut rng).await;
    let mut order: Vec<_> = Part::FOUR.into_iter().flat_map(|part| [part; KILLS_PER_PROCESS]).collect();
    order.shuffle(&mut rng);
    run("four processes", Mesh::plan().separate().start(), order, &mut rng).await;
}
