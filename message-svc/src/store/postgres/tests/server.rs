//! Opening the store in a schema of a test's own, and a server of a test's own, which can be killed.

use std::{path::PathBuf, process::Command};

use mesh::{config::Secret, migration::Migrations};
use mesh_postgres::testing::{self, Schema};
use tempfile::TempDir;

use crate::{
    config::PostgresConfig,
    store::{
        OpenError,
        postgres::{PostgresStore, server},
    },
};

/// What a test is patient with: calls end soon when they must, and never by chance.
pub(super) fn patient() -> PostgresConfig {
    PostgresConfig { readers_max: 4, connect_ms: 20_000, call_ms: 40_000, start_secs: 0, ..PostgresConfig::default() }
}

/// The store in this schema.
pub(super) async fn open(schema: &Schema) -> PostgresStore {
    open_with(schema, &schema.url, &patient()).await.expect("opened")
}

pub(super) async fn open_with(schema: &Schema, url: &str, config: &PostgresConfig) -> Result<PostgresStore, OpenError> {
    Ok(PostgresStore::on(&server(&Secret::from(url), &schema.name, config, Migrations::Run).await?, config))
}

/// A server of the test's own, from `tests/stores`, which can be killed and started again.
pub(super) struct OwnServer {
    pub(super) url: String,
    folder: TempDir,
}

impl OwnServer {
    /// None where the tests have no server at all: then there are no programs to start one either.
    pub(super) fn start() -> Option<Self> {
        testing::url()?;
        let folder = tempfile::tempdir().expect("a folder");
        let said = stores(&folder).arg("start").output().expect("bash runs");
        let said = String::from_utf8(said.stdout).expect("text");
        let url = said.lines().find_map(|line| line.strip_prefix("export POSTGRES_URL="));
        let url = url.expect("tests/stores starts PostgreSQL").to_owned();
        Some(Self { url, folder })
    }

    fn data(&self) -> PathBuf {
        root(&self.folder).join("postgres").join("data")
    }

    /// The server is gone in the middle of whatever it does, all of its processes with it.
    pub(super) fn kill(&self) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("it runs");
        let leader = file.lines().next().expect("a process").to_owned();
        // Its processes end by themselves when they miss it, but not at once.
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &leader]).output().expect("ps runs").stdout;
        let children = String::from_utf8(children).expect("numbers");
        let killed = Command::new("kill").arg("-KILL").arg(&leader).args(children.split_whitespace()).output();
        assert!(killed.is_ok(), "killed");
    }

    /// Starts it as it was started before.
    pub(super) async fn start_again(&self) {
        let data = self.data();
        // Where nobody clears away dead processes, it would take the dead one for a living one.
        std::fs::remove_file(data.join("postmaster.pid")).expect("it was killed");
        let command_line = std::fs::read_to_string(data.join("postmaster.opts")).expect("its command line");
        let (program, arguments) = command_line.trim().split_once(" \"-D\" ").expect("a folder");
        let (_, arguments) = arguments.split_once(' ').expect("more arguments");
        let control = program.replace("/bin/postgres", "/bin/pg_ctl");
        // PostgreSQL does not run as root; whose data it is may run it.
        let root = Command::new("id").arg("-u").output().expect("id runs").stdout == b"0\n";
        let mut command = if root { Command::new("runuser") } else { Command::new("env") };
        if root {
            command.args(["-u", "postgres", "--"]);
        }
        command.arg(control).args(["-w", "-t", "120", "-l", "log", "-o", arguments, "-D"]).arg(&data).arg("start");
        command.current_dir(data.parent().expect("a folder"));
        let done = tokio::task::spawn_blocking(move || command.output().expect("pg_ctl runs"));
        let output = done.await.expect("no panic");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        drop(stores(&self.folder).arg("stop").output());
    }
}

fn root(folder: &TempDir) -> PathBuf {
    folder.path().join("stores")
}

fn stores(folder: &TempDir) -> Command {
    use std::os::unix::fs::PermissionsExt as _;
    // The server's user looks into it.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/stores");
    let mut command = Command::new("bash");
    // What is set is not started.
    command.arg(script).env("SWITCHBOARD_STORES", root(folder)).env_remove("POSTGRES_URL");
    command.env("MONGODB_URL", "none").env("REDIS_URL", "none");
    command
}
