//! Servers of a test's own: PostgreSQL, MongoDB (or a compatible one) and Redis, each on a folder and a port that stay, so
//! that it can be killed, paused and started again in the middle of everything. They end with the test, also when it is
//! killed.

use std::{
    net::TcpStream,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Mutex,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{mesh::free_port, process::Process, wait};

/// What kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Store {
    Postgres,
    Mongodb,
    Redis,
}

/// A server of the test's own.
pub(crate) struct Server {
    store: Store,
    pub(crate) port: u16,
    words: Vec<String>,
    running: Mutex<Option<Process>>,
    folder: TempDir,
}

impl Server {
    /// Starts one on a folder of its own; none, with a loud word, when its program is not there.
    pub(crate) fn start(store: Store) -> Option<Self> {
        Self::start_in(store, TempDir::with_prefix("switchboard-store-").expect("a folder"))
    }

    /// The same in this folder, which may be on a disk of its own.
    pub(crate) fn start_in(store: Store, folder: TempDir) -> Option<Self> {
        let port = free_port();
        let words = match store {
            Store::Postgres => postgres(folder.path(), port)?,
            Store::Mongodb => mongodb(folder.path(), port)?,
            Store::Redis => redis(folder.path(), port)?,
        };
        let server = Self { store, port, words, running: Mutex::default(), folder };
        server.launch();
        server.until_up();
        Some(server)
    }

    /// A PostgreSQL that follows this one, with everything that is acknowledged from now on on both.
    pub(crate) fn standby(&self) -> Self {
        let folder = TempDir::with_prefix("switchboard-store-").expect("a folder");
        let (data, port) = (prepare(folder.path()), self.port.to_string());
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-U", "switchboard", "-X", "stream", "-c", "fast", "-R", "-D"];
        let mut copy = as_postgres("pg_basebackup");
        check(&copy.args(arguments).arg(&data).current_dir(folder.path()).output().expect("pg_basebackup runs"));
        let port = free_port();
        let words = postgres_words(&data, port);
        let standby = Self { store: Store::Postgres, port, words, running: Mutex::default(), folder };
        standby.launch();
        wait::until_blocking("the standby to follow", || {
            (self.ask("SELECT count(*) FROM pg_stat_replication") == "1").then_some(())
        });
        // Only now: a start waits for nothing that is not there yet.
        self.ask("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.ask("SELECT pg_reload_conf()");
        wait::until_blocking("the standby to count", || {
            (self.ask("SELECT sync_state FROM pg_stat_replication") == "sync").then_some(())
        });
        standby
    }

    /// Makes a standby the one that writes.
    pub(crate) fn promote(&self) {
        let mut promote = as_postgres("pg_ctl");
        promote.args(["promote", "-w", "-D"]).arg(self.folder.path().join("data")).current_dir(self.folder.path());
        check(&promote.output().expect("pg_ctl runs"));
    }

    /// What PostgreSQL answers to a statement, bare.
    fn ask(&self, statement: &str) -> String {
        let port = self.port.to_string();
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-U", "switchboard", "-d", "postgres", "-AtXqc", statement];
        let output = as_postgres("psql").args(arguments).current_dir(self.folder.path()).output().expect("psql runs");
        check(&output);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What Redis answers to a command.
    pub(crate) fn ask_redis(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(command).output();
        let output = output.expect("redis-cli runs");
        check(&output);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Where services find it, at this port: its own, or that of a proxy before it.
    pub(crate) fn url_at(&self, port: u16) -> String {
        match self.store {
            Store::Postgres => format!("postgres://switchboard@127.0.0.1:{port}/postgres"),
            Store::Mongodb => format!("mongodb://127.0.0.1:{port}/messages?directConnection=true"),
            Store::Redis => format!("redis://127.0.0.1:{port}"),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// Starts it, as it was started before, and does not wait for it.
    pub(crate) fn launch(&self) {
        let mut command = program(&self.words[0], self.store == Store::Postgres);
        command.args(&self.words[1..]).current_dir(self.folder.path()).stdin(Stdio::null());
        let process = Process::spawn(command, &self.folder.path().join("log"), self.folder.path());
        *self.running() = Some(process);
    }

    /// Waits until it answers.
    pub(crate) fn until_up(&self) {
        wait::until_blocking(&format!("{:?}", self.store), || self.is_up().then_some(()));
    }

    fn is_up(&self) -> bool {
        if self.store != Store::Postgres {
            return TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        }
        // It takes connections some time before it answers on them.
        let mut ready = as_postgres("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).current_dir(self.folder.path());
        ready.status().expect("pg_isready runs").success()
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.running().as_mut().is_some_and(Process::runs)
    }

    /// Ends it with SIGKILL, its processes with it: those of PostgreSQL would live on for a moment, and keep a new one
    /// from its folder.
    pub(crate) fn kill(&self) {
        self.signal(Signal::STOP);
        let children = self.children();
        let process = self.running().take().expect("it runs");
        process.kill();
        send(&children, Signal::KILL);
    }

    /// Asks it to end now and waits until it has.
    pub(crate) fn stop(&self) {
        let process = self.running().take().expect("it runs");
        // PostgreSQL takes SIGTERM for a wish to end when the last client has gone.
        process.stop_by(if self.store == Store::Postgres { Signal::INT } else { Signal::TERM });
    }

    /// Stops all of it, as a machine that hangs.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        send(&self.children(), Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        send(&self.children(), Signal::CONT);
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.running().as_ref().expect("it runs").signal(signal);
    }

    fn children(&self) -> Vec<Pid> {
        let parent = self.running().as_ref().expect("it runs").id().to_string();
        let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().expect("ps runs").stdout;
        String::from_utf8_lossy(&listed).split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.running.lock().expect("no panic while the lock is held")
    }
}

fn send(processes: &[Pid], signal: Signal) {
    for pid in processes {
        // It may have ended by itself.
        kill_process(*pid, signal).ok();
    }
}

fn check(output: &Output) {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn missing<T>(what: &str) -> Option<T> {
    wait::skip(what, "`tests/stores start` installs it and tells where it is");
    None
}

/// PostgreSQL's programs, which Debian keeps out of the PATH.
fn postgres_programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let mut debian: Vec<_> = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    debian.sort_by_key(|entry| std::cmp::Reverse(entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0)));
    folders.extend(debian.into_iter().map(|entry| entry.path().join("bin")));
    let mut servers = folders.iter().filter(|folder| folder.join("postgres").exists());
    // Links may lead to some of the programs only; where they lead to, all of them are.
    let program = servers.find_map(|folder| std::fs::canonicalize(folder.join("initdb")).ok())?;
    program.parent().map(Path::to_owned)
}

/// One of PostgreSQL's programs, which do not run as root.
fn as_postgres(name: &str) -> Command {
    let folder = postgres_programs().expect("PostgreSQL is there");
    program(&folder.join(name).display().to_string(), true)
}

fn program(path: &str, postgres: bool) -> Command {
    let mut command = Command::new(path);
    if let Some((uid, gid)) = postgres.then(postgres_user).flatten() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Whose data it is, when this is root.
fn postgres_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().expect("id runs").stdout;
        String::from_utf8_lossy(&output).trim().parse::<u32>().expect("a user `postgres`")
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}

/// A folder for data that its owner may make.
fn prepare(folder: &Path) -> PathBuf {
    if let Some((uid, gid)) = postgres_user() {
        chown(folder, Some(uid), Some(gid)).expect("a folder may be given away");
    }
    folder.join("data")
}

fn postgres(folder: &Path, port: u16) -> Option<Vec<String>> {
    if postgres_programs().is_none() {
        return missing("PostgreSQL");
    }
    let data = prepare(folder);
    let mut initdb = as_postgres("initdb");
    initdb.args(["-U", "switchboard", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
    check(&initdb.current_dir(folder).output().expect("initdb runs"));
    Some(postgres_words(&data, port))
}

fn postgres_words(data: &Path, port: u16) -> Vec<String> {
    let program = postgres_programs().expect("PostgreSQL is there").join("postgres");
    let mut words =
        vec![program.display().to_string(), "-D".into(), data.display().to_string(), "-p".into(), port.to_string()];
    for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"] {
        words.extend(["-c".to_owned(), setting.to_owned()]);
    }
    words
}

fn mongodb(folder: &Path, port: u16) -> Option<Vec<String>> {
    let there = Command::new("mongod").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let mongod = there.then(|| "mongod --bind_ip 127.0.0.1 --port {port} --dbpath {path}".to_owned());
    let Some(template) = std::env::var("MONGODB_SERVER").ok().filter(|text| !text.is_empty()).or(mongod) else {
        return missing("MONGODB_SERVER");
    };
    let (port, path) = (port.to_string(), folder.join("data").display().to_string());
    Some(template.split_whitespace().map(|word| word.replace("{port}", &port).replace("{path}", &path)).collect())
}

fn redis(folder: &Path, port: u16) -> Option<Vec<String>> {
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        return missing("redis-server");
    }
    let (port, folder) = (port.to_string(), folder.display().to_string());
    let words =
        ["redis-server", "--bind", "127.0.0.1", "--port", &port, "--dir", &folder, "--save", "", "--appendonly", "no"];
    Some(words.map(str::to_owned).to_vec())
}
