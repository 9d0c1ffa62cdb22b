//! A whole Switchboard under test: all in one process or as four, in a folder of its own on free ports of this machine.
//! Its parts can be killed, stopped and started again on the same ports. What is asked of it is in `rest.rs`, `rpc.rs`
//! and `socketio.rs`.

use std::{
    collections::{BTreeMap, HashSet},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    ops::Deref,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use rand::RngExt as _;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    process::{self, Process},
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

/// The ports of a mesh.
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

/// How a mesh is started.
#[derive(Default)]
pub(crate) struct Plan {
    separate: bool,
    settings: Vec<(String, String)>,
}

impl Plan {
    /// Four processes instead of one.
    pub(crate) fn separate(mut self) -> Self {
        self.separate = true;
        self
    }

    /// One setting by its path: `auth.access_secs`.
    pub(crate) fn set(mut self, path: &str, value: impl Copy + ToString) -> Self {
        let name = format!("SWITCHBOARD_{}", path.replace('.', "__").to_uppercase());
        self.settings.push((name, value.to_string()));
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Mesh {
        let folder = TempDir::with_prefix("switchboard-e2e-").expect("a folder");
        let ports = Ports::free();
        let mut environment = ports.environment();
        environment.push(("SWITCHBOARD_DATA".into(), folder.path().join("data").display().to_string()));
        environment.push(("SWITCHBOARD_PROFILE".into(), "development".into()));
        environment.extend(self.settings);
        std::fs::create_dir(folder.path().join("logs")).expect("a folder for logs");
        let parts = if self.separate { Part::FOUR.to_vec() } else { vec![Part::All] };
        let mesh = Mesh { folder, ports, environment, parts, running: Mutex::default() };
        mesh.start_all();
        mesh
    }
}

/// A running mesh. It ends when it is dropped.
pub(crate) struct Mesh {
    folder: TempDir,
    pub(crate) ports: Ports,
    environment: Vec<(String, String)>,
    parts: Vec<Part>,
    running: Mutex<BTreeMap<Part, Process>>,
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
    /// All in one process, for every test that neither stops it nor needs settings of its own. The watchdogs end it
    /// after the last test.
    pub(crate) fn shared() -> Shared {
        static SHARED: OnceLock<Mesh> = OnceLock::new();
        Shared(SHARED.get_or_init(|| Mesh::plan().start()))
    }

    /// A mesh of one's own: all in one process unless said otherwise.
    pub(crate) fn plan() -> Plan {
        Plan::default()
    }

    /// The parts that it runs as.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The public address: `http://127.0.0.1:…`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.public)
    }

    /// The folder of keys and stores.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of the logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// Ends one part with SIGKILL.
    pub(crate) fn kill(&self, part: Part) {
        self.take(part).kill();
    }

    /// Ends one part with SIGTERM.
    pub(crate) fn stop(&self, part: Part) -> ExitStatus {
        self.take(part).stop()
    }

    /// Sends one part a signal and lets it run.
    pub(crate) fn signal(&self, part: Part, signal: Signal) {
        let running = self.running.lock().expect("no panic while the lock is held");
        running.get(&part).expect("a part that runs").signal(signal);
    }

    fn take(&self, part: Part) -> Process {
        let mut running = self.running.lock().expect("no panic while the lock is held");
        running.remove(&part).expect("a part that runs")
    }

    /// Starts one part and does not wait for it.
    pub(crate) fn launch(&self, part: Part) {
        let mut command = process::command(part.binary(), self.environment.iter().map(|(k, v)| (k, v)));
        if part == Part::All {
            command.arg("up");
        }
        command.current_dir(self.folder.path());
        let log = self.logs().join(format!("{}.log", part.binary()));
        let process = Process::spawn(command, &log, self.folder.path());
        self.running.lock().expect("no panic while the lock is held").insert(part, process);
    }

    /// Starts one part and waits until it is ready.
    pub(crate) fn start(&self, part: Part) {
        self.launch(part);
        self.wait_ready(part);
    }

    /// Starts what does not run and waits until all is ready.
    pub(crate) fn start_all(&self) {
        for part in &self.parts {
            let there = self.running.lock().expect("no panic while the lock is held").contains_key(part);
            if !there {
                self.launch(*part);
            }
        }
        self.parts.iter().for_each(|part| self.wait_ready(*part));
    }

    /// Ends all with SIGKILL.
    pub(crate) fn kill_all(&self) {
        self.parts.iter().for_each(|part| self.kill(*part));
    }

    /// Waits until a part says that it is ready.
    pub(crate) fn wait_ready(&self, part: Part) {
        let port = self.ports.ops(part);
        wait::until_blocking(&format!("{} to be ready", part.binary()), || {
            if let Some(process) = self.running.lock().expect("no panic while the lock is held").get_mut(&part) {
                assert!(process.runs(), "{} has ended:\n{}", part.binary(), process::tails(&self.logs()));
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
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

/// All files in a folder and below.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}
