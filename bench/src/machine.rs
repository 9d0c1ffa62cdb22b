//! What the figures were measured on: without it they mean nothing.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde::Serialize;

/// The machine and the versions.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// What there is, by name.
    facts: BTreeMap<&'static str, String>,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look(folder: &Path, repository: &Path) -> Self {
        let mut facts = BTreeMap::new();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        facts.insert("CPU", model.map_or("unknown", |(_, model)| model).to_owned());
        facts.insert("cores", std::thread::available_parallelism().map_or(0, usize::from).to_string());
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib =
            meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse().ok());
        facts.insert("memory", format!("{} GiB", kib.unwrap_or(0_u64) >> 20));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        facts.insert("kernel", kernel.trim().to_owned());
        facts.insert("file system of the stores", output(Command::new("stat").args(["-f", "-c", "%T"]).arg(folder)));
        let mut git = Command::new("git");
        git.arg("-C").arg(repository).args(["describe", "--always", "--dirty", "--abbrev=10"]);
        facts.insert("Switchboard", output(&mut git));
        facts.insert("Node.js", output(Command::new("node").arg("--version")));
        facts.insert("date", output(Command::new("date").args(["-u", "+%Y-%m-%d"])));
        Self { facts }
    }

    /// A line each, as a list of Markdown.
    pub(crate) fn markdown(&self) -> String {
        self.facts.iter().map(|(name, fact)| format!("- {name}: {fact}\n")).collect()
    }
}

/// What a command says; empty when it cannot be run.
fn output(command: &mut Command) -> String {
    command.output().map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
