//! One process under test: its log, its end by SIGKILL or SIGTERM, and a watchdog that ends it should the test itself be
//! killed. It knows nothing of what the process does.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::binaries;

/// How long a process may take to end after SIGTERM: more than all steps of its own stop together.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// How much of a log is shown when a test fails.
const TAIL_LINES: usize = 25;

/// A process that runs until it is ended or dropped.
pub(crate) struct Process {
    child: Child,
    watchdog: Watchdog,
}

/// Ends the process when this test's own process has ended, however it did.
struct Watchdog {
    child: Child,
    line: Option<ChildStdin>,
}

/// The process' binary with nothing of this test's environment but what it needs to run at all.
pub(crate) fn command<K: AsRef<OsStr>, V: AsRef<OsStr>>(
    binary: &str,
    environment: impl IntoIterator<Item = (K, V)>,
) -> Command {
    let mut command = Command::new(binaries::path(binary));
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("RUST_BACKTRACE", "1").envs(environment);
    command
}

impl Process {
    /// Starts a command whose output is added to a log. Its folder goes when the test is killed.
    pub(crate) fn spawn(mut command: Command, log: &Path, folder: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let child = command
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the binary can be started");
        let watchdog = Watchdog::new(child.id(), folder);
        Self { child, watchdog }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the state of a child").is_none()
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub(crate) fn stop(self) -> ExitStatus {
        self.stop_by(Signal::TERM)
    }

    /// The same with another signal.
    pub(crate) fn stop_by(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let status = wait(&mut self.child, STOP_LIMIT);
        self.watchdog.dismiss();
        status
    }

    /// The memory that it has, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line for it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("a signal can be sent");
    }

    fn end(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        self.watchdog.dismiss();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Watchdog {
    fn new(pid: u32, folder: &Path) -> Self {
        // The shell reads a line that comes only when the process was ended in good order; the end of this test's
        // process closes the pipe without one.
        let mut child = Command::new("sh")
            .args(["-c", "read -r line || { kill -9 \"$1\"; sleep 1; rm -rf \"$2\"; }", "watchdog", &pid.to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let line = child.stdin.take();
        Self { child, line }
    }

    fn dismiss(&mut self) {
        if let Some(mut line) = self.line.take() {
            drop(line.write_all(b"done\n"));
            drop(line);
            drop(self.child.wait());
        }
    }
}

/// Waits for the end of a child; one that does not come in time is killed, and the test fails.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the state of a child") {
            return status;
        }
        if begun.elapsed() > limit {
            drop(child.kill());
            panic!("the process did not end within {limit:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end and gives its exit code and all that it wrote.
pub(crate) fn run_to_end(mut command: Command, limit: Duration) -> (Option<i32>, String) {
    let out = tempfile::NamedTempFile::new().expect("a file for output");
    let file = out.reopen().expect("a second handle");
    let mut child = command
        .stdout(file.try_clone().expect("a third handle"))
        .stderr(file)
        .spawn()
        .expect("the program can be started");
    let status = wait(&mut child, limit);
    (status.code(), fs::read_to_string(out.path()).expect("what it wrote"))
}

/// The last lines of the logs in a folder, for a test that fails.
pub(crate) fn tails(folder: &Path) -> String {
    let mut text = String::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    for path in paths {
        text.push_str(&format!("--- the end of {} ---\n{}\n", path.display(), tail(&path)));
    }
    text
}

/// The last lines of one log.
pub(crate) fn tail(path: &Path) -> String {
    let log = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
