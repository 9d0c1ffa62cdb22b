//! The fault run: 200 clients in 50 rooms send with ids and resume by cursor, at three gateways over two replicas of each
//! service, while processes and stores are killed, paused and restarted at random, now and then two at once. What was
//! acknowledged is there once and in order, and every watcher saw what is stored. The stores are the run's own, and come
//! back on the same folders. `kills/` has the clients and the judge; `faults/redis.rs` is Redis alone.
//!
//! The short form on PostgreSQL runs with the other tests. The long one, of at least 200 faults on each set of stores:
//!
//!     SWITCHBOARD_TEST_FAULTS=200 cargo test --workspace --test e2e faults::under -- \
//!       --include-ignored --nocapture --test-threads 1
//!
//! It prints its seed; `SWITCHBOARD_TEST_SEED` draws the same faults again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use rustix::process::Signal;

use crate::{
    kills::{self, Progress},
    mesh::{Mesh, Part, Replica},
    process,
    stores::{
        self, Kind,
        server::{Server, Store},
    },
    wait,
};

mod redis;
mod rolling;

const CLIENTS: usize = 200;
const ROOMS: usize = 50;
const GATEWAYS: usize = 3;
const SERVICES: usize = 2;
/// The pause between two sends of a client: all of them together send some hundred messages a second, which leaves the
/// processors of a small machine for the mesh.
const PACE: Duration = Duration::from_millis(600);
/// Faults of the short form.
const FAULTS: usize = 10;
/// Sends acknowledged between two faults at the least, so that each meets work in progress.
const ACKS_BETWEEN: u64 = 100;
/// A long run says after so many faults that it goes on.
const TOLD_EVERY: usize = 20;
/// How long a fault lasts, in milliseconds. A pause is longer than the deadline of most calls at its longest.
const LASTS_MS: (u64, u64) = (50, 4_000);
/// One time in so many, two fail at once.
const TWO_AT_ONCE: f64 = 0.25;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Process(Replica),
    Store(Store),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(replica) => replica.fmt(f),
            Self::Store(store) => write!(f, "{store:?}"),
        }
    }
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL, and started again when the fault is over.
    Killed,
    /// SIGSTOP, and SIGCONT.
    Paused,
    /// Asked to end, and started again at once.
    Restarted,
}

/// The mesh and its stores.
struct Field {
    mesh: Mesh,
    stores: Vec<(Store, Server)>,
}

impl Field {
    /// None, with a loud word, where a store's program is missing.
    fn start(kind: Kind, settings: &[(&str, u64)]) -> Option<Self> {
        let mut wanted = vec![Store::Postgres];
        wanted.extend(kind.has_mongodb().then_some(Store::Mongodb));
        wanted.extend(kind.has_redis().then_some(Store::Redis));
        let stores: Option<Vec<_>> = wanted.into_iter().map(|store| Some((store, Server::start(store)?))).collect();
        let stores = stores?;
        let url = |wanted| stores.iter().find(|(store, _)| *store == wanted).map(|(_, server)| server.url());
        let sql = url(Store::Postgres);
        let environment = stores::environment(sql.clone(), url(Store::Mongodb).or(sql), url(Store::Redis));
        // A run may take longer than a token lives, and its clients do not refresh.
        let mut plan = Mesh::plan().replicas(GATEWAYS, SERVICES).on(environment).set("auth.access_ttl_secs", 86_400);
        // A process that gives its store up at start is started again by whoever runs it; nobody does that here.
        for section in ["auth.store", "user.store", "message.postgres", "message.mongodb"] {
            plan = plan.set(&format!("{section}.start_secs"), wait::LIMIT.as_secs());
        }
        let plan = settings.iter().fold(plan, |plan, (path, value)| plan.set(path, *value));
        Some(Self { mesh: plan.start(), stores })
    }

    fn targets(&self) -> Vec<Target> {
        let processes = self.mesh.parts().iter().map(|replica| Target::Process(*replica));
        processes.chain(self.stores.iter().map(|(store, _)| Target::Store(*store))).collect()
    }

    fn server(&self, wanted: Store) -> &Server {
        let found = self.stores.iter().find(|(store, _)| *store == wanted);
        &found.expect("a store of this run").1
    }

    fn begin(&self, target: Target, fault: Fault) {
        match (target, fault) {
            (Target::Process(replica), Fault::Killed) => self.mesh.kill(replica),
            (Target::Process(replica), Fault::Paused) => self.mesh.signal(replica, Signal::STOP),
            (Target::Process(replica), Fault::Restarted) => {
                let status = self.mesh.stop(replica);
                assert!(status.success(), "{replica} ended with {status}");
                self.mesh.launch(replica);
            }
            (Target::Store(store), Fault::Killed) => self.server(store).kill(),
            (Target::Store(store), Fault::Paused) => self.server(store).pause(),
            (Target::Store(store), Fault::Restarted) => {
                self.server(store).stop();
                self.server(store).launch();
            }
        }
    }

    fn end(&self, target: Target, fault: Fault) {
        match (target, fault) {
            (Target::Process(replica), Fault::Killed) => self.mesh.launch(replica),
            (Target::Process(replica), Fault::Paused) => self.mesh.signal(replica, Signal::CONT),
            (Target::Store(store), Fault::Killed) => self.server(store).launch(),
            (Target::Store(store), Fault::Paused) => self.server(store).resume(),
            (_, Fault::Restarted) => {}
        }
    }

    /// Nothing has ended that was not told to.
    fn check(&self) {
        for replica in self.mesh.parts() {
            assert!(
                self.mesh.runs(*replica),
                "{replica} has ended by itself:\n{}",
                process::tail(&self.mesh.log(*replica))
            );
        }
        for (store, server) in &self.stores {
            assert!(server.runs(), "{store:?} has ended by itself");
        }
    }
}

/// What a run does, drawn from its seed.
struct Draw {
    rng: StdRng,
    targets: Vec<Target>,
}

impl Draw {
    fn next(&mut self) -> (Vec<(Target, Fault)>, Duration) {
        let count = if self.rng.random_bool(TWO_AT_ONCE) { 2 } else { 1 };
        let targets: Vec<_> = self.targets.sample(&mut self.rng, count).copied().collect();
        let mut fault = || match self.rng.random_range(0..10) {
            0..5 => Fault::Killed,
            5..8 => Fault::Paused,
            _ => Fault::Restarted,
        };
        let faults = targets.into_iter().map(|target| (target, fault())).collect();
        (faults, Duration::from_millis(self.rng.random_range(LASTS_MS.0..LASTS_MS.1)))
    }
}

/// What was done, and how long it was felt.
#[derive(Default)]
struct Record {
    faults: BTreeMap<(Target, Fault), usize>,
    /// From the end of the fault until every client's next send was acknowledged.
    slowest: (Duration, String),
}

/// Lets so many things fail, each after all have recovered from the one before.
fn disturb(field: &Field, count: usize, progress: &Progress, rng: StdRng) -> Record {
    let (mut draw, mut record, mut done) = (Draw { rng, targets: field.targets() }, Record::default(), 0);
    while done < count {
        let before = progress.acks();
        wait::until_blocking("work in progress", || (progress.acks() >= before + ACKS_BETWEEN).then_some(()));
        // Where in the work the fault falls is chance.
        thread::sleep(Duration::from_millis(draw.rng.random_range(0..250)));
        let (faults, lasts) = draw.next();
        let what: Vec<_> = faults.iter().map(|(target, fault)| format!("{target} {fault:?}")).collect();
        faults.iter().for_each(|(target, fault)| field.begin(*target, *fault));
        thread::sleep(lasts);
        faults.iter().for_each(|(target, fault)| field.end(*target, *fault));
        let over = Instant::now();
        let what = format!("{} for {lasts:?}", what.join(" and "));
        wait::until_blocking(&format!("every client to be served after {what}"), || {
            field.check();
            progress.all_served_since(over).then_some(())
        });
        if over.elapsed() > record.slowest.0 {
            record.slowest = (over.elapsed(), what);
        }
        if done / TOLD_EVERY < (done + faults.len()) / TOLD_EVERY {
            wait::say(&format!("{} faults of {count}, {} sends acknowledged", done + faults.len(), progress.acks()));
        }
        done += faults.len();
        for fault in faults {
            *record.faults.entry(fault).or_default() += 1;
        }
    }
    record
}

async fn run(kind: Kind) {
    if Kind::chosen() != Kind::Sqlite {
        wait::say(
            "SKIPPED: the fault run, which has stores of its own and runs once, with SWITCHBOARD_TEST_STORES=sqlite",
        );
        return;
    }
    let count = match std::env::var("SWITCHBOARD_TEST_FAULTS") {
        Ok(count) => count.parse().expect("SWITCHBOARD_TEST_FAULTS is a number"),
        Err(_) => FAULTS,
    };
    let (seed, begun) = (kills::seed(), Instant::now());
    let Some(field) = Field::start(kind, &[]) else { return };
    let (field, progress) = (Arc::new(field), Arc::new(Progress::new(CLIENTS, PACE)));
    wait::say(&format!("fault run on {kind:?} with SWITCHBOARD_TEST_SEED={seed}: {count} faults, {CLIENTS} clients"));
    let clients = kills::clients(&field.mesh, &progress, ROOMS).await;
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.run())).collect();
    let disturbing = {
        let (field, progress) = (field.clone(), progress.clone());
        tokio::task::spawn_blocking(move || disturb(&field, count, &progress, StdRng::seed_from_u64(seed)))
    };
    let disturbed = disturbing.await;
    progress.stop();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.expect("a client's task"));
    }
    let record = disturbed.expect("the thread of faults");
    field.mesh.start_all();
    let verdict = kills::verdict(&field.mesh, &mut clients).await;
    let faults: usize = record.faults.values().sum();
    for ((target, fault), times) in &record.faults {
        wait::say(&format!("  {target} {fault:?}: {times}"));
    }
    wait::say(&format!(
        "fault run on {kind:?}, seed {seed}: {faults} faults, {verdict}; slowest recovery of all clients {:?} ({}), longest \
         wait of a send {:?}, in {:?} altogether",
        record.slowest.0,
        record.slowest.1,
        progress.longest(),
        begun.elapsed()
    ));
    // A short run may draw none that ends the sockets of clients.
    let ends_sockets = |(target, fault): &(Target, Fault)| {
        matches!(target, Target::Process(Replica { part: Part::Gateway, .. })) && *fault != Fault::Paused
    };
    if record.faults.keys().any(ends_sockets) { verdict.check_disturbed() } else { verdict.check() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it has not passed within its limits yet on the slow MongoDB-compatible server; by hand with --include-ignored"]
async fn under_faults_of_everything_on_postgres_mongodb_and_redis_nothing_is_lost_or_repeated() {
    run(Kind::PostgresMongodbRedis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_faults_of_everything_on_postgres_alone_nothing_is_lost_or_repeated() {
    run(Kind::Postgres).await;
}
