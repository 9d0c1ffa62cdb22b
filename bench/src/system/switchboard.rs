//! Our own processes from the binaries of one folder: `switchboard up` on its embedded store, or gateway and services apart
//! on PostgreSQL. Settings differ from the defaults only where a load of thousands of clients from one machine needs it;
//! `bench/README.md` lists them.

use std::{
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;

use super::{Endpoint, Setting, System, contract, stores::Stores};
use crate::{
    dialect::Protocol,
    http::Client,
    marker::Marker,
    process::{Process, command, free_port},
    usage::Watched,
};

/// How long it may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// What a load from one machine needs, by path.
const SETTINGS: [(&str, &str); 8] = [
    // Everything comes from one address, and each account does what thousands would.
    ("gateway.rates.enabled", "false"),
    ("gateway.realtime.sockets_per_user_max", "100000"),
    // Preparing is not measured: people register at the least that a hash may cost, and their tokens last for the run.
    ("auth.argon2_memory_kib", "7168"),
    ("auth.argon2_passes", "1"),
    ("auth.access_ttl_secs", "2592000"),
    ("auth.session_secs_max", "7776000"),
    ("auth.refresh_idle_secs", "2592000"),
    ("gateway.realtime.ws_token_secs", "3600"),
];

/// Its processes run until this is dropped, the edge first.
pub(super) struct Switchboard {
    processes: Vec<(&'static str, Process)>,
    stores: Option<Stores>,
    address: SocketAddr,
    message_service: SocketAddr,
    data: PathBuf,
    registered: usize,
}

/// The ports of one start.
struct Ports {
    public: u16,
    gateway_ops: u16,
    auth: u16,
    user: u16,
    messages: Vec<u16>,
}

impl Ports {
    fn free(replicas: usize) -> Self {
        Self {
            public: free_port(),
            gateway_ops: free_port(),
            auth: free_port(),
            user: free_port(),
            messages: (0..replicas.max(1)).map(|_| free_port()).collect(),
        }
    }

    fn environment(&self, message: u16) -> Vec<(String, String)> {
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let messages: Vec<_> = self.messages.iter().map(url).collect();
        [
            ("API_GATEWAY_PORT", self.public.to_string()),
            ("API_GATEWAY_HTTP_PORT", self.gateway_ops.to_string()),
            ("AUTH_SERVICE_GRPC_PORT", self.auth.to_string()),
            ("AUTH_SERVICE_HTTP_PORT", free_port().to_string()),
            ("USER_SERVICE_GRPC_PORT", self.user.to_string()),
            ("USER_SERVICE_HTTP_PORT", free_port().to_string()),
            ("MESSAGE_SERVICE_GRPC_PORT", message.to_string()),
            ("MESSAGE_SERVICE_HTTP_PORT", free_port().to_string()),
            ("AUTH_SERVICE_URL", url(&self.auth)),
            ("USER_SERVICE_URL", url(&self.user)),
            ("MESSAGE_SERVICE_URL", messages.join(",")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

impl Switchboard {
    /// All in one process, everything in SQLite.
    pub(super) fn embedded(setting: &Setting) -> anyhow::Result<Self> {
        let ports = Ports::free(1);
        let mut it = Self::new(setting, &ports, None);
        it.launch("switchboard", &["up"], ports.environment(ports.messages[0]), setting)?;
        it.wait_ready(setting, ports.gateway_ops)?;
        Ok(it)
    }

    /// Gateway and services apart, everything in one PostgreSQL.
    pub(super) fn on_postgres(setting: &Setting) -> anyhow::Result<Self> {
        let stores = Stores::start(&setting.folder, &setting.cores, setting.replicas > 1)?;
        let ports = Ports::free(setting.replicas);
        let mut more = vec![];
        for name in ["AUTH_STORE_URL", "USER_STORE_URL", "MESSAGE_STORE_URL"] {
            more.push((name.to_owned(), stores.postgres_url.clone()));
        }
        if !stores.redis_url.is_empty() {
            more.push(("REDIS_ENABLED".to_owned(), "true".to_owned()));
            more.push(("REDIS_URL".to_owned(), stores.redis_url.clone()));
        }
        let mut it = Self::new(setting, &ports, Some(stores));
        for binary in ["auth-svc", "user-svc"] {
            it.launch(binary, &[], [ports.environment(ports.messages[0]), more.clone()].concat(), setting)?;
        }
        for message in &ports.messages {
            it.launch("message-svc", &[], [ports.environment(*message), more.clone()].concat(), setting)?;
        }
        it.launch("gateway", &[], [ports.environment(ports.messages[0]), more].concat(), setting)?;
        it.wait_ready(setting, ports.gateway_ops)?;
        Ok(it)
    }

    fn new(setting: &Setting, ports: &Ports, stores: Option<Stores>) -> Self {
        Self {
            processes: Vec::new(),
            stores,
            address: ([127, 0, 0, 1], ports.public).into(),
            message_service: ([127, 0, 0, 1], ports.messages[0]).into(),
            data: setting.folder.join("data"),
            registered: 0,
        }
    }

    fn launch(
        &mut self,
        binary: &'static str,
        arguments: &[&str],
        environment: Vec<(String, String)>,
        setting: &Setting,
    ) -> anyhow::Result<()> {
        let mut command = command(setting.binaries.join(binary));
        command.args(arguments).envs(environment).current_dir(&setting.folder);
        command.env("SWITCHBOARD_DATA", &self.data).env("SWITCHBOARD_PROFILE", "development");
        let given = setting.settings.iter().map(|(path, value)| (path.as_str(), value.as_str()));
        for (path, value) in SETTINGS.into_iter().chain(given) {
            command.env(format!("SWITCHBOARD_{}", path.replace('.', "__").to_uppercase()), value);
        }
        let log = setting.folder.join(format!("{binary}-{}.log", self.processes.len()));
        self.processes.insert(0, (binary, Process::start(command, &setting.cores, &log)?));
        Ok(())
    }

    fn wait_ready(&mut self, setting: &Setting, ops: u16) -> anyhow::Result<()> {
        let begun = Instant::now();
        let ready = || Client::connect(([127, 0, 0, 1], ops).into())?.get("/ready", "");
        while !ready().is_ok_and(|answer| answer.status == 200) {
            let started = self.processes.len();
            for (place, (binary, process)) in self.processes.iter_mut().enumerate() {
                process.check_alive(&setting.folder.join(format!("{binary}-{}.log", started - 1 - place)))?;
            }
            if begun.elapsed() > READY_LIMIT {
                bail!("it was not ready within {READY_LIMIT:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl System for Switchboard {
    fn endpoint(&self) -> Endpoint {
        Endpoint {
            protocol: Protocol::SocketIo,
            addresses: vec![self.address],
            path: "/socket/".into(),
            token_path: "/api/auth/ws-token".into(),
        }
    }

    fn watched(&self) -> Vec<Watched> {
        let own = self.processes.iter();
        let own = own.map(|(name, process)| Watched { name: (*name).to_owned(), pid: process.pid() });
        own.chain(self.stores.iter().flat_map(|stores| stores.watched().unwrap_or_default())).collect()
    }

    fn people(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let first = self.registered;
        self.registered += count;
        contract::people(self.address, first, count)
    }

    fn rooms(&mut self, count: usize, people: &[String]) -> anyhow::Result<Vec<String>> {
        contract::rooms(self.address, count, people.first().map_or("", String::as_str))
    }

    fn stored(&self, room: &str, reader: &str) -> anyhow::Result<Option<Vec<Marker>>> {
        contract::stored(self.address, room, reader).map(Some)
    }

    fn message_service(&self) -> Option<SocketAddr> {
        Some(self.message_service)
    }

    fn data(&self) -> Option<PathBuf> {
        self.stores.is_none().then(|| self.data.clone())
    }
}
