//! Calls: reads by REST against a peer and by gRPC without the edge, and logins.

use std::net::SocketAddr;

use anyhow::Context as _;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};

use super::{Cast, Clients, Frame, Stage, nanos};
use crate::{
    caller::{CallPlan, Called, Caller, Read},
    clock::{self, SECOND},
    http::request,
    orders::Pace,
    profile::Profile,
    run::{Run, float},
    series::median,
    system::Side,
    usage::Sample,
};

/// Messages that are sent into each room before it is read.
const MESSAGES: u32 = 200;

/// A plan whose time begins soon.
fn plan(address: SocketAddr, requests: Vec<String>, at_once: usize, rate: Option<f64>, frame: &Frame) -> CallPlan {
    let begin = clock::now() + SECOND / 5;
    let start = begin + nanos(frame.warm_up_secs);
    CallPlan { address, requests, grpc: None, at_once, rate, begin, start, end: start + nanos(frame.secs) }
}

/// Makes calls for the measured time; gives what came of them and what they cost.
pub(super) fn load(
    address: SocketAddr,
    requests: Vec<String>,
    at_once: usize,
    rate: Option<f64>,
    stage: &Stage,
    frame: &Frame,
) -> anyhow::Result<(Called, Sample)> {
    call(&plan(address, requests, at_once, rate, frame), stage, frame)
}

/// Runs a load of calls, and takes what it cost.
fn call(plan: &CallPlan, stage: &Stage, frame: &Frame) -> anyhow::Result<(Called, Sample)> {
    let caller = Caller::start(plan, &frame.load_cores)?;
    clock::sleep_until(plan.start);
    let before = stage.cpu();
    let profile = stage.profile(frame)?;
    clock::sleep_until(plan.end);
    let cost = stage.cpu().since(&before);
    profile.map_or(Ok(()), Profile::finish)?;
    Ok((caller.finish()?, cost))
}

impl Run {
    pub(super) fn calls(&mut self, what: &str, called: &Called, cost: &Sample, secs: f64) {
        if called.failed > 0 {
            self.problems
                .push(format!("{what}: {} calls failed, the first with {}", called.failed, called.first_failure));
        }
        let done = float(called.done);
        self.figure(&format!("{what}: requests/s"), done / secs);
        self.figure(&format!("{what}: product CPU per request, us"), cost.product().cpu_secs / done * 1e6);
        self.figure(&format!("{what}: load generator CPU, cores"), float(called.cpu) / 1e9 / secs);
        self.times(what, &called.micros);
    }
}

/// Somebody in rooms with messages, for whom reads are made.
struct Reader {
    stage: Stage,
    clients: Clients,
    address: SocketAddr,
}

impl Reader {
    fn prepare(side: &Side, frame: &Frame) -> anyhow::Result<Self> {
        let mut stage = Stage::set(side, frame)?;
        let cast = Cast { sockets: 10, people: 10, rooms: 5, senders: 5 };
        let mut clients = Clients::prepare(&mut stage, cast, false, frame)?;
        clients.open()?;
        clients.join()?;
        let address = *stage.system.endpoint().addresses.first().context("an address")?;
        // Some hundred messages a room, sent at a leisurely pace.
        let pace = Pace::Rate(f64::from(MESSAGES) * 5.0);
        let slow = Frame { warm_up_secs: 0.1, secs: 0.9, ..frame.clone() };
        clients.load(pace, &stage, &slow)?;
        stage.rest();
        Ok(Self { stage, clients, address })
    }

    fn get(&self, path: &str) -> Vec<String> {
        let bearer = format!("Bearer {}", self.clients.people[0]);
        vec![request("GET", path, self.address, &bearer, "")]
    }
}

/// Profile, rooms, a page of history; what message-svc alone answers is asked of it by gRPC too.
pub(crate) fn reads(at_once: usize, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let reader = Reader::prepare(side, frame)?;
    let history = format!("/api/rooms/{}/messages?limit=50", reader.clients.rooms[0]);
    for (what, path) in [("profile", "/api/auth/profile"), ("rooms", "/api/rooms"), ("history", history.as_str())] {
        let plan = plan(reader.address, reader.get(path), at_once, None, frame);
        let (called, cost) = call(&plan, &reader.stage, frame)?;
        run.calls(what, &called, &cost, frame.secs);
        let room = (what == "history").then(|| reader.clients.rooms[0].clone());
        let address = reader.stage.system.message_service().filter(|_| what != "profile");
        if let Some(address) = address {
            let read = Read { bearer: reader.clients.people[0].clone(), room };
            let plan = CallPlan { grpc: Some(read), ..self::plan(address, Vec::new(), at_once, None, frame) };
            let (directly, its_cost) = call(&plan, &reader.stage, frame)?;
            run.calls(&format!("{what} by gRPC"), &directly, &its_cost, frame.secs);
            let each = |called: &Called, cost: &Sample| cost.product().cpu_secs / float(called.done) * 1e6;
            run.figure(
                &format!("{what}: product CPU of the edge per request, us"),
                each(&called, &cost) - each(&directly, &its_cost),
            );
        }
    }
    Ok(run)
}

/// Milliseconds of one password's hash with the parameters that Switchboard has by default, nothing else running.
fn one_hash_ms() -> anyhow::Result<f64> {
    let params = Params::new(19_456, 2, 1, None).ok().context("good parameters")?;
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut times = Vec::new();
    for _ in 0..10 {
        let begun = clock::now();
        hasher.hash_password(b"correct horse battery").ok().context("a hash")?;
        times.push(float(clock::now() - begun) / 1e6);
    }
    Ok(median(&times))
}

/// Logins at the default cost of a hash: as many as there can be, then beside a steady load of sends.
pub(crate) fn logins(sends_per_sec: f64, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let mut frame = frame.clone();
    // Ten accounts log in all the while, and the oldest sessions are those of the sockets and the reader.
    let settings = [("argon2_memory_kib", "19456"), ("argon2_passes", "2"), ("sessions_per_account_max", "10000")];
    for (name, value) in settings {
        frame.settings.push((format!("auth.{name}"), value.to_owned()));
    }
    let hash_ms = one_hash_ms()?;
    let reader = Reader::prepare(side, &frame)?;
    let Reader { stage, mut clients, address } = reader;
    let login = |number: usize| {
        let body = format!(r#"{{"username":"bench-{number}","password":"correct horse battery"}}"#);
        request("POST", "/api/auth/login", address, "", &body)
    };
    let requests: Vec<_> = (0..10).map(login).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (called, cost) = call(&plan(address, requests.clone(), 4 * cores, None, &frame), &stage, &frame)?;
    run.calls("logins", &called, &cost, frame.secs);
    let possible = float(u64::try_from(cores)?) * 1_000.0 / hash_ms;
    let most = float(called.done) / frame.secs;
    run.figure("one hash alone, ms", hash_ms);
    run.figure("logins/s of what the cores could hash", most / possible);

    let pace = Pace::Rate(sends_per_sec);
    let (alone, _) = clients.load(pace, &stage, &frame)?;
    run.times("sends alone, to ack", &alone.ack_micros);
    let beside = plan(address, requests, 4 * cores, Some(most / 2.0), &frame);
    let caller = Caller::start(&beside, &frame.load_cores)?;
    let (loaded, _) = clients.load(pace, &stage, &frame)?;
    let called = caller.finish()?;
    run.times("sends beside logins, to ack", &loaded.ack_micros);
    run.times("logins at half their most, beside sends", &called.micros);
    if called.failed > 0 {
        run.problems.push(format!("{} logins failed, the first with {}", called.failed, called.first_failure));
    }
    clients.check(&loaded, &stage, &mut run)?;
    Ok(run)
}
