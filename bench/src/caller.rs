//! A process that makes calls for a measurement over connections that are kept: REST (`caller/rest.rs`), in a closed loop or
//! by a schedule, or gRPC (`caller/grpc.rs`). It reads one plan from its standard input and writes one report.

use std::{
    io::Write as _,
    net::SocketAddr,
    process::{Child, Stdio},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{
    process::{Cores, command, spawn_on},
    series::{Counts, Series},
};

mod grpc;
mod rest;

/// A load of calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CallPlan {
    /// Where.
    pub(crate) address: SocketAddr,
    /// Requests as they are written, in turn.
    pub(crate) requests: Vec<String>,
    /// Instead of those, a read by gRPC.
    pub(crate) grpc: Option<Read>,
    /// Connections, each with one call at a time.
    pub(crate) at_once: usize,
    /// Calls a second by schedule; none for a closed loop.
    pub(crate) rate: Option<f64>,
    /// On `clock.rs`.
    pub(crate) begin: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A read by gRPC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Read {
    /// Who reads.
    pub(crate) bearer: String,
    /// The newest page of this room's messages; without one, the reader's rooms.
    pub(crate) room: Option<String>,
}

/// What came of it, within the measured time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Called {
    /// Good answers.
    pub(crate) done: u64,
    /// Others.
    pub(crate) failed: u64,
    /// The first of those.
    pub(crate) first_failure: String,
    /// Microseconds from when a call was meant to be made.
    pub(crate) micros: Counts,
    /// Nanoseconds of CPU that this process took.
    pub(crate) cpu: u64,
}

/// The counts of a caller while it runs.
#[derive(Default)]
struct Tally {
    done: u64,
    failed: u64,
    first_failure: String,
    times: Series,
}

impl Tally {
    fn answer(&mut self, plan: &CallPlan, meant: u64, now: u64, failure: Option<String>) {
        if meant < plan.start || meant >= plan.end {
            return;
        }
        match failure {
            None => {
                self.done += 1;
                self.times.record(now.saturating_sub(meant));
            }
            Some(failure) => {
                self.failed += 1;
                if self.first_failure.is_empty() {
                    self.first_failure = failure;
                }
            }
        }
    }

    fn report(self, cpu: u64) -> Called {
        let Self { done, failed, first_failure, times } = self;
        Called { done, failed, first_failure, micros: times.counts(), cpu }
    }
}

/// Runs in the process of the caller.
pub(crate) fn run() -> anyhow::Result<()> {
    let plan = std::io::stdin().lines().next().context("no plan came")??;
    let plan: CallPlan = serde_json::from_str(&plan)?;
    let called = match &plan.grpc {
        Some(read) => grpc::run(&plan, read)?,
        None => rest::run(&plan)?,
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &called)?;
    Ok(out.write_all(b"\n")?)
}

/// A caller that runs.
pub(crate) struct Caller(Child);

impl Caller {
    /// Starts one.
    pub(crate) fn start(plan: &CallPlan, cores: &Cores) -> anyhow::Result<Self> {
        let mut command = command(std::env::current_exe()?);
        command.arg("caller").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = spawn_on(command, cores)?;
        let mut input = child.stdin.take().context("a piped input")?;
        input.write_all(serde_json::to_string(plan)?.as_bytes())?;
        input.write_all(b"\n")?;
        Ok(Self(child))
    }

    /// Waits for its report.
    pub(crate) fn finish(self) -> anyhow::Result<Called> {
        let output = self.0.wait_with_output()?;
        if !output.status.success() {
            bail!("a caller ended with {}", output.status);
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
