//! The ordered stop: signals that ask for it, and steps that each have a limit, so that a process always ends. What the
//! steps are is the process' own business: stop accepting, tell sockets, finish calls, flush, close stores.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::config::Problems;

/// How long each step of stopping may take. Together they stay below the 30 s after which Kubernetes and systemd's
/// common settings kill a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownLimits {
    /// Milliseconds in which a process says that it stops and takes what comes all the same; default 2,000. Who calls it asks
    /// every second how it is (`mesh.replicas.check_ms`) and goes to another replica, so that no call meets a closed door.
    pub notice_ms: u64,
    /// Milliseconds to tell sockets that they will be closed; default 5,000: one round trip on a bad mobile network.
    pub sockets_ms: u64,
    /// Milliseconds for calls in progress; default 10,000, above the deadline of nearly all of them.
    pub calls_ms: u64,
    /// Milliseconds to write what is still in queues; default 5,000, which is thousands of batches.
    pub flush_ms: u64,
    /// Milliseconds to close stores; default 5,000: SQLite writes its log back then.
    pub stores_ms: u64,
}

impl Default for ShutdownLimits {
    fn default() -> Self {
        Self { notice_ms: 2_000, sockets_ms: 5_000, calls_ms: 10_000, flush_ms: 5_000, stores_ms: 5_000 }
    }
}

impl ShutdownLimits {
    /// Reports values that make no sense; `prefix` is where these limits stand in the section: `shutdown.`.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        for (name, value) in [
            ("notice_ms", self.notice_ms),
            ("sockets_ms", self.sockets_ms),
            ("calls_ms", self.calls_ms),
            ("flush_ms", self.flush_ms),
            ("stores_ms", self.stores_ms),
        ] {
            problems.range(&format!("{prefix}{name}"), value, 0, 600_000);
        }
    }

    /// For being left by those who call.
    #[must_use]
    pub fn notice(&self) -> Duration {
        Duration::from_millis(self.notice_ms)
    }

    /// For telling sockets.
    #[must_use]
    pub fn sockets(&self) -> Duration {
        Duration::from_millis(self.sockets_ms)
    }

    /// For finishing calls.
    #[must_use]
    pub fn calls(&self) -> Duration {
        Duration::from_millis(self.calls_ms)
    }

    /// For flushing queues.
    #[must_use]
    pub fn flush(&self) -> Duration {
        Duration::from_millis(self.flush_ms)
    }

    /// For closing stores.
    #[must_use]
    pub fn stores(&self) -> Duration {
        Duration::from_millis(self.stores_ms)
    }
}

/// The signals that ask a process to stop.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes SIGTERM and SIGINT over from the system, which would end the process at once.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and says which.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Cancels the token at the first signal. The task ends at the second one, which is when a person has lost patience:
    /// main may then exit at once.
    pub fn watch(mut self, shutdown: CancellationToken) -> JoinHandle<&'static str> {
        tokio::spawn(async move {
            let signal = self.next().await;
            tracing::info!(signal, "Stopping; a second signal ends the process at once");
            shutdown.cancel();
            self.next().await
        })
    }
}

/// The steps of one stop, in the order in which they are called.
#[derive(Debug)]
pub struct Sequence {
    what: String,
    begun: Instant,
    whole: bool,
}

impl Sequence {
    /// Begins to stop `what`: `auth-svc`.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), begun: Instant::now(), whole: true }
    }

    /// Runs one step and logs how long it took, or that its limit passed: it is dropped then, and the next one goes on.
    pub async fn step<F: Future>(&mut self, name: &str, limit: Duration, future: F) -> Option<F::Output> {
        let begun = Instant::now();
        let output = tokio::time::timeout(limit, future).await.ok();
        let (what, duration_ms, limit_ms) = (&self.what, millis(begun.elapsed()), millis(limit));
        if output.is_some() {
            tracing::info!(step = name, duration_ms, "Stopping {what}: {name} done");
        } else {
            self.whole = false;
            tracing::warn!(step = name, duration_ms, limit_ms, "Stopping {what}: {name} ran out of time");
        }
        output
    }

    /// Goes on as before for so long, while the process says that it stops.
    pub async fn notice(&self, time: Duration) {
        if !time.is_zero() {
            let what = &self.what;
            tracing::info!(
                duration_ms = millis(time),
                "Stopping {what}: told, and taking what comes until others are asked"
            );
            tokio::time::sleep(time).await;
        }
    }

    /// Logs the end, and says whether every step finished within its limit.
    #[must_use]
    pub fn finish(self) -> bool {
        let Self { what, begun, whole } = self;
        tracing::info!(duration_ms = millis(begun.elapsed()), whole, "Stopped {what}");
        whole
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_hanging_step_is_left_behind_and_the_next_one_runs() {
        let mut sequence = Sequence::new("a test");
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(5));
        assert_eq!(sequence.step("calls", long, async { 1 }).await, Some(1));
        assert_eq!(sequence.step("flush", short, pending::<()>()).await, None);
        assert_eq!(sequence.step("stores", long, async { 2 }).await, Some(2));
        assert!(!sequence.finish());
    }

    #[tokio::test]
    async fn the_first_signal_cancels_and_the_second_ends_the_watch() {
        let shutdown = CancellationToken::new();
        let watch = Signals::new().expect("signals").watch(shutdown.clone());
        let myself = rustix::process::getpid();
        rustix::process::kill_process(myself, rustix::process::Signal::TERM).expect("signal");
        shutdown.cancelled().await;
        rustix::process::kill_process(myself, rustix::process::Signal::INT).expect("signal");
        assert_eq!(watch.await.expect("no panic"), "SIGINT");
    }
}
