//! Redis for the tests: the one that `REDIS_URL` names, and servers of a test's own to kill, pause and wipe.

use std::{
    io::{self, Write as _},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::world::PATIENCE;

/// The server that `REDIS_URL` names. Without one the test is to be skipped, which is said loudly here, or fails where
/// `SWITCHBOARD_TEST_REQUIRE=all` demands that nothing is skipped.
pub(super) fn url() -> Option<String> {
    static SAID: Once = Once::new();
    let url = std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        skip(&SAID, "tests on Redis: REDIS_URL is not set; `eval \"$(tests/stores start)\"` starts a server");
    }
    url
}

fn skip(said: &Once, what: &str) {
    assert!(std::env::var("SWITCHBOARD_TEST_REQUIRE").as_deref() != Ok("all"), "skipped {what}");
    // Not by `eprintln!`, which is shown of failing tests only.
    said.call_once(|| drop(writeln!(io::stderr(), "SKIPPED {what}")));
}

/// A server of the test's own, which ends with it.
pub(super) struct Redis {
    process: Child,
    folder: TempDir,
    pub(super) port: u16,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts one on a free port, which `{port}` stands for in the arguments; none when there is no such program on this machine, which is said loudly.
    pub(super) async fn start(arguments: &[&str]) -> Option<Self> {
        static SAID: Once = Once::new();
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            skip(&SAID, "tests that kill Redis: there is no redis-server; Debian's package has that name");
            return None;
        }
        let port = free_port().await;
        let folder = tempfile::tempdir().expect("a folder");
        let place = |argument: &&str| argument.replace("{port}", &port.to_string());
        let arguments: Vec<_> = arguments.iter().map(place).collect();
        let process = launch(port, folder.path(), &arguments);
        let server = Self { process, folder, port, arguments };
        server.until_there().await;
        Some(server)
    }

    /// Where a server of this name would be, which is not there.
    pub(super) async fn absent() -> Option<Self> {
        let mut server = Self::start(&[]).await?;
        server.kill();
        Some(server)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
    }

    pub(super) async fn restart(&mut self) {
        self.process = launch(self.port, self.folder.path(), &self.arguments);
        self.until_there().await;
    }

    /// Stops it without an end, as a machine that hangs.
    pub(super) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(super) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    async fn until_there(&self) {
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "redis-server does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All that it answers to a command.
    pub(super) async fn ask(&self, command: &[&[u8]]) -> String {
        ask_all(self.port, &[command]).await
    }

    /// What it answers to several commands, with their ends of lines.
    pub(super) async fn ask_all(&self, commands: &[&[&[u8]]]) -> String {
        ask_all(self.port, commands).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn launch(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    let sentinel = arguments.iter().any(|argument| argument == "--sentinel");
    let (config, rest) = arguments.split_at(usize::from(sentinel));
    command.args(config).args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(folder);
    if !sentinel {
        command.args(["--save", "", "--appendonly", "no"]);
    }
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("starts")
}

pub(super) async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Sends commands on a connection of their own, and reads until its end.
async fn ask_all(port: u16, commands: &[&[&[u8]]]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("connects");
    for command in commands {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for part in *command {
            bytes.extend(format!("${}\r\n", part.len()).into_bytes());
            bytes.extend_from_slice(part);
            bytes.extend(b"\r\n");
        }
        stream.write_all(&bytes).await.expect("asks");
    }
    // Answers are written before the end is seen. QUIT would do as well, but sentinels know no such command.
    stream.shutdown().await.expect("no more questions");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("answers in time").expect("answers");
    String::from_utf8_lossy(&answer).into_owned()
}
