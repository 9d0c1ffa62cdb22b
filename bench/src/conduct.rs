//! Conducts the runs of a scenario: the systems take turns, so that whatever drifts on the machine meets all of them alike.
//! Each run is written to the raw data as it ends; the report is made at the end.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::PathBuf,
};

use anyhow::Context as _;

use crate::{machine::Machine, report, run::Run, system::Side};

/// The runs of one call of this program.
pub(crate) struct Conductor {
    out: PathBuf,
    raw: File,
    machine: Machine,
    rounds: usize,
    runs: Vec<Run>,
}

impl Conductor {
    /// Makes the folder of the results.
    pub(crate) fn new(out: PathBuf, machine: Machine, rounds: usize) -> anyhow::Result<Self> {
        fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
        let path = out.join("raw.jsonl");
        let mut raw = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(raw, "{}", serde_json::json!({ "machine": machine }))?;
        Ok(Self { out, raw, machine, rounds, runs: Vec::new() })
    }

    /// How often each system is run from now on.
    pub(crate) fn rounds(&mut self, rounds: usize) {
        self.rounds = rounds;
    }

    /// Runs a scenario on each system in turn, and again.
    pub(crate) fn scenario(
        &mut self,
        name: &str,
        sides: &[Side],
        measure: impl Fn(&Side) -> anyhow::Result<Run>,
    ) -> anyhow::Result<()> {
        for round in 1..=self.rounds {
            for side in sides {
                say(&format!("{name}: {side}, run {round} of {}", self.rounds));
                let run = measure(side).unwrap_or_else(|error| {
                    let problems = vec![format!("it could not be measured: {error:#}")];
                    Run { problems, ..Run::default() }
                });
                let run = Run { scenario: name.to_owned(), side: side.to_string(), round, ..run };
                run.problems.iter().take(3).for_each(|problem| say(&format!("  PROBLEM: {problem}")));
                writeln!(self.raw, "{}", serde_json::to_string(&run)?)?;
                self.runs.push(run);
            }
        }
        Ok(())
    }

    /// Writes the report; true when every run counts.
    pub(crate) fn finish(self) -> anyhow::Result<bool> {
        let text = report::markdown(&self.runs, &self.machine);
        fs::write(self.out.join("report.md"), &text)?;
        for (name, svg) in report::plots(&self.runs) {
            fs::write(self.out.join(name), svg)?;
        }
        show(&text);
        say(&format!("raw data and report: {}", self.out.display()));
        Ok(self.runs.iter().all(|run| run.counts() && !run.figures.is_empty()))
    }
}

/// To the person at the terminal, beside the result.
#[expect(clippy::print_stderr, reason = "it is for the person at the terminal")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "it is what the program was called for")]
fn show(text: &str) {
    println!("{text}");
}
