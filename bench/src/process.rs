//! Processes that the measurement starts: pinned to cores, logging into a file, ended with the measurement however it
//! ends. What they are is in `system/`.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    process::{Pid, Signal},
    thread::{CpuSet, sched_setaffinity},
};

/// How long a process may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The cores that a process may use; empty for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) Vec<usize>);

/// A child of ours.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Option<Guard>,
}

/// A command without this process' environment but for what programs need to run at all.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR", "LANG"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Starts a child on some cores: it inherits those of the thread that starts it.
pub(crate) fn spawn_on(mut command: Command, cores: &Cores) -> anyhow::Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    let started = thread::scope(|scope| {
        let starter = scope.spawn(|| {
            if !cores.0.is_empty() {
                let mut set = CpuSet::new();
                cores.0.iter().for_each(|core| set.set(*core));
                sched_setaffinity(None, &set).context("the cores asked for cannot be had")?;
            }
            command.spawn().with_context(|| format!("{program} cannot be started"))
        });
        starter.join().ok()
    });
    started.with_context(|| "the starting thread panicked".to_owned())?
}

impl Process {
    /// Starts a command whose output goes into a file.
    pub(crate) fn start(mut command: Command, cores: &Cores, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = spawn_on(command, cores)?;
        let mut kill = Command::new("kill");
        kill.args(["-9", &child.id().to_string()]);
        let guard = Guard::new(&kill).ok();
        Ok(Self { child, guard })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that begins so, and gives the rest of it.
    pub(crate) fn line(&mut self, log: &Path, prefix: &str, limit: Duration) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let text = BufReader::new(File::open(log)?).lines().map_while(Result::ok);
            if let Some(rest) = text.filter_map(|line| line.strip_prefix(prefix).map(str::to_owned)).next() {
                return Ok(rest);
            }
            self.check_alive(log)?;
            if begun.elapsed() > limit {
                bail!("no line \"{prefix}…\" within {limit:?}:\n{}", tail(log));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// # Errors
    /// With the end of its log, when it has ended.
    pub(crate) fn check_alive(&mut self, log: &Path) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it ended with {status}:\n{}", tail(log)),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended already.
            rustix::process::kill_process(pid, Signal::TERM).ok();
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > STOP_LIMIT {
                drop(self.child.kill());
                drop(self.child.wait());
            }
            thread::sleep(Duration::from_millis(5));
        }
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }
}

/// Runs a command when this process ends without having dismissed it: killed, for one.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    line: ChildStdin,
}

impl Guard {
    pub(crate) fn new(command: &Command) -> anyhow::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", "read -r line || exec \"$@\"", "guard"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let line = shell.stdin.take().context("a piped input")?;
        Ok(Self { shell, line })
    }

    /// Everything ended in good order.
    pub(crate) fn dismiss(mut self) {
        drop(self.line.write_all(b"done\n"));
        drop(self.line);
        drop(self.shell.wait());
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// A port that is free now, below those that the system gives to outgoing connections.
pub(crate) fn free_port() -> u16 {
    use rand::RngExt as _;
    loop {
        let port = rand::rng().random_range(12_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The folder of the repository: where `bench/` is.
pub(crate) fn repository() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("bench/ is in no folder")?.to_owned())
}
