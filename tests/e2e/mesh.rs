//! A whole Switchboard under test: all in one process, as four, or as replicas of each, in a folder of its own on free
//! ports of this machine, over the stores that `stores.rs` gives it. Its parts can be killed, stopped and started again on
//! the same ports. What is asked of it is in `rest.rs`, `rpc.rs` and `socketio.rs`.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    ops::Deref,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use rand::RngExt as _;
use rustix::process::Signal;
use tempfile::TempDir;
use test_proxy::Proxy;

use crate::{
    process::{self, Process},
    stores::{Kind, Stores},
    wait,
};

/// A process of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    All,
    Auth,
    User,
    Message,
    Gateway,
}

impl Part {
    /// The four processes, in the order in which they are started.
    pub(crate) const FOUR: [Self; 4] = [Self::Auth, Self::User, Self::Message, Self::Gateway];

    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::All => "switchboard",
            Self::Auth => "auth-svc",
            Self::User => "user-svc",
            Self::Message => "message-svc",
            Self::Gateway => "gateway",
        }
    }
}

/// One process of a mesh: its part, and which of the part's replicas it is, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Replica {
    pub(crate) part: Part,
    pub(crate) number: usize,
}

impl From<Part> for Replica {
    fn from(part: Part) -> Self {
        Self { part, number: 0 }
    }
}

impl fmt::Display for Replica {
    /// As its log is named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.part.binary())?;
        if self.number > 0 { write!(f, "-{}", self.number) } else { Ok(()) }
    }
}

/// The ports of a mesh, or of one row of its replicas.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) public: u16,
    pub(crate) gateway_ops: u16,
    pub(crate) auth: u16,
    pub(crate) auth_ops: u16,
    pub(crate) user: u16,
    pub(crate) user_ops: u16,
    pub(crate) message: u16,
    pub(crate) message_ops: u16,
}

impl Ports {
    pub(crate) fn free() -> Self {
        Self {
            public: free_port(),
            gateway_ops: free_port(),
            auth: free_port(),
            auth_ops: free_port(),
            user: free_port(),
            user_ops: free_port(),
            message: free_port(),
            message_ops: free_port(),
        }
    }

    /// As the environment of every process.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        [
            ("API_GATEWAY_PORT", self.public.to_string()),
            ("API_GATEWAY_HTTP_PORT", self.gateway_ops.to_string()),
            ("AUTH_SERVICE_GRPC_PORT", self.auth.to_string()),
            ("AUTH_SERVICE_HTTP_PORT", self.auth_ops.to_string()),
            ("USER_SERVICE_GRPC_PORT", self.user.to_string()),
            ("USER_SERVICE_HTTP_PORT", self.user_ops.to_string()),
            ("MESSAGE_SERVICE_GRPC_PORT", self.message.to_string()),
            ("MESSAGE_SERVICE_HTTP_PORT", self.message_ops.to_string()),
            ("AUTH_SERVICE_URL", local(self.auth)),
            ("USER_SERVICE_URL", local(self.user)),
            ("MESSAGE_SERVICE_URL", local(self.message)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The operations port of a part; all in one is as ready as its gateway.
    pub(crate) fn ops(&self, part: Part) -> u16 {
        match part {
            Part::All | Part::Gateway => self.gateway_ops,
            Part::Auth => self.auth_ops,
            Part::User => self.user_ops,
            Part::Message => self.message_ops,
        }
    }
}

/// A port that is free now and that nobody gets by chance: below the range that the system takes the ports of outgoing
/// connections from, since a client that retries a port of that range can connect to itself.
pub(crate) fn free_port() -> u16 {
    static TAKEN: OnceLock<Mutex<HashSet<u16>>> = OnceLock::new();
    let mut taken = TAKEN.get_or_init(Mutex::default).lock().expect("no panic while the lock is held");
    loop {
        let port = rand::rng().random_range(12_000..32_000);
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            return port;
        }
    }
}

/// The settings that tell every process where the others are, when there are several of each.
fn addresses(rows: &[Ports], services: usize) -> Vec<(String, String)> {
    let all = |port: fn(&Ports) -> u16| {
        let urls: Vec<_> = rows[..services].iter().map(|ports| format!("http://127.0.0.1:{}", port(ports))).collect();
        urls.join(",")
    };
    [
        ("AUTH_SERVICE_URL", all(|ports| ports.auth)),
        ("USER_SERVICE_URL", all(|ports| ports.user)),
        ("MESSAGE_SERVICE_URL", all(|ports| ports.message)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// How a mesh is started.
pub(crate) struct Plan {
    separate: bool,
    gateways: usize,
    services: usize,
    stores: Option<Vec<(String, String)>>,
    proxied: bool,
    settings: Vec<(String, String)>,
    messages_of: BTreeMap<usize, usize>,
}

impl Plan {
    /// Four processes instead of one.
    pub(crate) fn separate(mut self) -> Self {
        self.separate = true;
        self
    }

    /// So many gateways, and so many replicas of each service.
    pub(crate) fn replicas(mut self, gateways: usize, services: usize) -> Self {
        (self.gateways, self.services) = (gateways, services);
        self.separate()
    }

    /// This gateway knows of no replica of message-svc but this one: it will not agree with the others whose a room is.
    pub(crate) fn one_sided(mut self, gateway: usize, message: usize) -> Self {
        self.messages_of.insert(gateway, message);
        self
    }

    /// On stores that the test itself has, by the settings that name them, whatever the other tests run on.
    pub(crate) fn on(mut self, stores: Vec<(String, String)>) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Four processes, each of which reaches every other one through a proxy of its own.
    pub(crate) fn proxied(mut self) -> Self {
        self.proxied = true;
        self.separate()
    }

    /// One setting by its path: `auth.access_secs`.
    pub(crate) fn set(mut self, path: &str, value: impl Copy + ToString) -> Self {
        let name = format!("SWITCHBOARD_{}", path.replace('.', "__").to_uppercase());
        self.settings.push((name, value.to_string()));
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Mesh {
        let mesh = self.prepare();
        mesh.start_all();
        mesh
    }

    /// All but starting it.
    pub(crate) fn prepare(self) -> Mesh {
        let folder = TempDir::with_prefix("switchboard-e2e-").expect("a folder");
        let rows: Vec<_> = (0..self.gateways.max(self.services)).map(|_| Ports::free()).collect();
        let stores = if self.stores.is_none() { Stores::fresh() } else { Stores::default() };
        let mut environment = addresses(&rows, self.services);
        environment.push(("SWITCHBOARD_DATA".into(), folder.path().join("data").display().to_string()));
        environment.push(("SWITCHBOARD_PROFILE".into(), "development".into()));
        // Most tests that stop a process wait for it, and nobody else is to be asked meanwhile.
        environment.push(("SWITCHBOARD_MESH__SHUTDOWN__NOTICE_MS".into(), "0".into()));
        environment.extend(self.stores.unwrap_or_else(|| stores.environment()));
        environment.extend(self.settings);
        std::fs::create_dir(folder.path().join("logs")).expect("a folder for logs");
        let count = |part| if part == Part::Gateway { self.gateways } else { self.services };
        let parts = if self.separate { &Part::FOUR[..] } else { &[Part::All] };
        let parts = parts.iter().flat_map(|part| (0..count(*part)).map(|number| Replica { part: *part, number }));
        let (ports, parts) = (rows[0].clone(), parts.collect());
        let one_sided = self.messages_of.into_iter().map(|(gateway, message)| {
            (Replica { part: Part::Gateway, number: gateway }, format!("http://127.0.0.1:{}", rows[message].message))
        });
        let one_sided = one_sided.collect();
        let links = if self.proxied { Links::new(&ports) } else { Links::default() };
        Mesh { folder, ports, rows, environment, one_sided, parts, links, running: Mutex::default(), stores }
    }
}

/// The network between the parts: a proxy for each that calls another, and none where nobody asked for them.
#[derive(Default)]
pub(crate) struct Links(BTreeMap<(Part, Part), Proxy>);

impl Links {
    fn new(ports: &Ports) -> Self {
        let port = |part| match part {
            Part::Auth => ports.auth,
            Part::User => ports.user,
            Part::Message => ports.message,
            Part::All | Part::Gateway => ports.public,
        };
        let calls = Part::FOUR.into_iter().flat_map(|from| Part::FOUR.map(|to| (from, to)));
        // Nobody calls the gateway but clients; they are `All` here.
        let calls = calls.filter(|(from, to)| from != to && *to != Part::Gateway).chain([(Part::All, Part::Gateway)]);
        Self(calls.map(|(from, to)| ((from, to), Proxy::new(&format!("127.0.0.1:{}", port(to))))).collect())
    }

    /// The way from one part to another; from clients (`All`) to the gateway.
    pub(crate) fn between(&self, from: Part, to: Part) -> &Proxy {
        self.0.get(&(from, to)).expect("a mesh that was started with proxies")
    }

    fn environment(&self, part: Part) -> Vec<(&'static str, String)> {
        let of = |to| match to {
            Part::Auth => Some("AUTH_SERVICE_URL"),
            Part::User => Some("USER_SERVICE_URL"),
            Part::Message => Some("MESSAGE_SERVICE_URL"),
            Part::All | Part::Gateway => None,
        };
        let calls = self.0.iter().filter(|((from, _), _)| *from == part);
        calls.filter_map(|((_, to), proxy)| Some((of(*to)?, format!("http://{}", proxy.address())))).collect()
    }
}

/// A running mesh. It ends when it is dropped.
pub(crate) struct Mesh {
    folder: TempDir,
    /// Those of the first replica of each part.
    pub(crate) ports: Ports,
    /// Those of each row of replicas.
    pub(crate) rows: Vec<Ports>,
    environment: Vec<(String, String)>,
    /// Where message-svc is, for gateways that know of one replica alone.
    one_sided: BTreeMap<Replica, String>,
    parts: Vec<Replica>,
    pub(crate) links: Links,
    running: Mutex<BTreeMap<Replica, Process>>,
    /// Dropped after the processes.
    pub(crate) stores: Stores,
}

/// The mesh that many tests share. A test that fails shows the ends of its logs.
pub(crate) struct Shared(&'static Mesh);

impl Deref for Shared {
    type Target = Mesh;

    fn deref(&self) -> &Mesh {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.0.tell_when_failing();
    }
}

impl Mesh {
    /// For every test that neither stops it nor needs settings of its own: all in one process on SQLite, four on real
    /// stores. The watchdogs end it after the last test.
    pub(crate) fn shared() -> Shared {
        static SHARED: OnceLock<Mesh> = OnceLock::new();
        Shared(SHARED.get_or_init(|| {
            // All tests come from one address: together they fail more often than one person who mistypes.
            let plan = Mesh::plan().set("gateway.rates.guesses.address.free", 10_000);
            if Kind::chosen() == Kind::Sqlite { plan.start() } else { plan.separate().start() }
        }))
    }

    /// A mesh of one's own: all in one process unless said otherwise.
    pub(crate) fn plan() -> Plan {
        Plan {
            separate: false,
            gateways: 1,
            services: 1,
            stores: None,
            proxied: false,
            settings: Vec::new(),
            messages_of: BTreeMap::new(),
        }
    }

    /// The processes that it runs as.
    pub(crate) fn parts(&self) -> &[Replica] {
        &self.parts
    }

    /// The public address: `http://127.0.0.1:…`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.public)
    }

    /// The public address of each gateway.
    pub(crate) fn urls(&self) -> Vec<String> {
        let gateways = self.parts.iter().filter(|replica| matches!(replica.part, Part::Gateway | Part::All));
        gateways.map(|replica| format!("http://127.0.0.1:{}", self.rows[replica.number].public)).collect()
    }

    /// One replica of a part.
    pub(crate) fn replica(&self, part: Part, number: usize) -> Replica {
        let replica = Replica { part, number };
        assert!(self.parts.contains(&replica), "{replica} is not of this mesh");
        replica
    }

    /// The sum of a metric's values at a process.
    pub(crate) fn metric(&self, replica: Replica, name: &str) -> f64 {
        let text = get(self.ops(replica), "/metrics").map(|(_, text)| text).unwrap_or_default();
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// The operations port of a process.
    pub(crate) fn ops(&self, replica: impl Into<Replica>) -> u16 {
        let replica = replica.into();
        self.rows[replica.number].ops(replica.part)
    }

    /// The folder of keys and stores.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of the logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// The log of one process.
    pub(crate) fn log(&self, replica: impl Into<Replica>) -> PathBuf {
        self.logs().join(format!("{}.log", replica.into()))
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Replica, Process>> {
        self.running.lock().expect("no panic while the lock is held")
    }

    /// Ends one process with SIGKILL.
    pub(crate) fn kill(&self, replica: impl Into<Replica>) {
        self.take(replica.into()).kill();
    }

    /// Ends one process with SIGTERM.
    pub(crate) fn stop(&self, replica: impl Into<Replica>) -> ExitStatus {
        self.take(replica.into()).stop()
    }

    /// Sends one process a signal and lets it run.
    pub(crate) fn signal(&self, replica: impl Into<Replica>, signal: Signal) {
        self.running().get(&replica.into()).expect("a part that runs").signal(signal);
    }

    /// Whether one process runs.
    pub(crate) fn runs(&self, replica: impl Into<Replica>) -> bool {
        self.running().get_mut(&replica.into()).is_some_and(Process::runs)
    }

    /// The memory of one process, in KiB.
    pub(crate) fn memory_kib(&self, replica: impl Into<Replica>) -> u64 {
        self.running().get(&replica.into()).expect("a part that runs").memory_kib()
    }

    fn take(&self, replica: Replica) -> Process {
        self.running().remove(&replica).expect("a part that runs")
    }

    /// Starts one process and does not wait for it.
    pub(crate) fn launch(&self, replica: impl Into<Replica>) {
        let replica = replica.into();
        let own = self.rows[replica.number].environment();
        let environment = own.iter().chain(&self.environment).map(|(name, value)| (name, value));
        let mut command = process::command(replica.part.binary(), environment);
        if let Some(url) = self.one_sided.get(&replica) {
            command.env("MESSAGE_SERVICE_URL", url);
        }
        command.envs(self.links.environment(replica.part));
        if replica.part == Part::All {
            command.arg("up");
        }
        command.current_dir(self.folder.path());
        let process = Process::spawn(command, &self.log(replica), self.folder.path());
        self.running().insert(replica, process);
    }

    /// Starts one process and waits until it is ready.
    pub(crate) fn start(&self, replica: impl Into<Replica>) {
        let replica = replica.into();
        self.launch(replica);
        self.wait_ready(replica);
    }

    /// Starts what does not run and waits until all is ready.
    pub(crate) fn start_all(&self) {
        for replica in &self.parts {
            let there = self.running().contains_key(replica);
            if !there {
                self.launch(*replica);
            }
        }
        self.parts.iter().for_each(|replica| self.wait_ready(*replica));
    }

    /// Ends all with SIGKILL.
    pub(crate) fn kill_all(&self) {
        self.parts.iter().for_each(|replica| self.kill(*replica));
    }

    /// Waits until a process says that it is ready.
    pub(crate) fn wait_ready(&self, replica: impl Into<Replica>) {
        let replica = replica.into();
        let port = self.ops(replica);
        wait::until_blocking(&format!("{replica} to be ready"), || {
            if let Some(process) = self.running().get_mut(&replica) {
                assert!(process.runs(), "{replica} has ended:\n{}", process::tails(&self.logs()));
            }
            (get_status(port, "/ready") == Some(200)).then_some(())
        });
    }

    fn tell_when_failing(&self) {
        if std::thread::panicking() {
            wait::say(&process::tails(&self.logs()));
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.tell_when_failing();
    }
}

/// The status of a plain GET, without a runtime; none when nobody answers.
pub(crate) fn get_status(port: u16, path: &str) -> Option<u16> {
    get(port, path).map(|(status, _)| status)
}

/// The status and the body of a plain GET, without a runtime; none when nobody answers.
pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
}

/// All files in a folder and below.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}
