//! What processes cost: CPU time and memory as the kernel counts them in /proc, a process with all its descendants taken
//! together. Linux only, like the rest of this tool.

use std::{
    collections::BTreeMap,
    fs,
    ops::{AddAssign, Sub},
};

use serde::Serialize;

/// A process that is watched under a name; several may share one.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// What it is called in reports: `gateway`, `postgres`.
    pub(crate) name: String,
    /// Its id; its descendants count with it.
    pub(crate) pid: u32,
}

/// What one name took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// Seconds in user and kernel mode since the start, ended children included.
    pub(crate) cpu_secs: f64,
    /// Resident bytes.
    pub(crate) rss: f64,
    /// Resident bytes, those shared with others divided by how many share them.
    pub(crate) pss: f64,
    /// Open files.
    pub(crate) files: f64,
    /// Threads.
    pub(crate) threads: f64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.cpu_secs += other.cpu_secs;
        self.rss += other.rss;
        self.pss += other.pss;
        self.files += other.files;
        self.threads += other.threads;
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            cpu_secs: self.cpu_secs - other.cpu_secs,
            rss: self.rss - other.rss,
            pss: self.pss - other.pss,
            files: self.files - other.files,
            threads: self.threads - other.threads,
        }
    }
}

/// All names at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Sample(BTreeMap<String, Usage>);

impl Sample {
    /// Looks at all of them, memory included: that walks their pages and takes milliseconds.
    pub(crate) fn take(watched: &[Watched]) -> Self {
        Self::of(watched, true)
    }

    /// Looks at their CPU time alone.
    pub(crate) fn cpu(watched: &[Watched]) -> Self {
        Self::of(watched, false)
    }

    fn of(watched: &[Watched], memory: bool) -> Self {
        let children = children();
        let mut names: BTreeMap<String, Usage> = BTreeMap::new();
        for Watched { name, pid } in watched {
            let mut pids = vec![*pid];
            while let Some(pid) = pids.pop() {
                *names.entry(name.clone()).or_default() += usage(pid, memory);
                pids.extend(children.get(&pid).into_iter().flatten());
            }
        }
        Self(names)
    }

    /// What was taken between an earlier moment and this one.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |name| earlier.0.get(name).copied().unwrap_or_default();
        Self(self.0.iter().map(|(name, usage)| (name.clone(), *usage - before(name))).collect())
    }

    /// The names with what they took.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Usage)> {
        self.0.iter().map(|(name, usage)| (name.as_str(), *usage))
    }

    /// All names together but the stores.
    pub(crate) fn product(&self) -> Usage {
        self.sum(|name| !is_store(name))
    }

    /// The stores together.
    pub(crate) fn stores(&self) -> Usage {
        self.sum(is_store)
    }

    fn sum(&self, which: impl Fn(&str) -> bool) -> Usage {
        let mut sum = Usage::default();
        self.iter().filter(|(name, _)| which(name)).for_each(|(_, usage)| sum += usage);
        sum
    }
}

/// Whether a process of this name belongs to a store and not to what is measured.
fn is_store(name: &str) -> bool {
    matches!(name, "postgres" | "redis")
}

/// The children of every process.
fn children() -> BTreeMap<u32, Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(parent) = stat(pid).and_then(|fields| fields.first()?.parse().ok())
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The fields of /proc/PID/stat after the state: the parent first.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields = stat.rsplit_once(") ")?.1;
    Some(fields.split_whitespace().skip(1).map(str::to_owned).collect())
}

/// One process; all zero once it has gone.
fn usage(pid: u32, memory: bool) -> Usage {
    let ticks = |fields: &[String]| {
        // utime, stime, and those of children that were waited for: fields 14 to 17 of the line.
        fields.get(10..14).map(|ticks| ticks.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>())
    };
    #[expect(clippy::cast_precision_loss, reason = "it is 100")]
    let per_sec = rustix::param::clock_ticks_per_second() as f64;
    let cpu_secs = stat(pid).and_then(|fields| ticks(&fields)).unwrap_or(0.0) / per_sec;
    if !memory {
        return Usage { cpu_secs, ..Usage::default() };
    }
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let bytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
    };
    let entries = |folder: &str| {
        let count = fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count);
        f64::from(u32::try_from(count).unwrap_or(u32::MAX))
    };
    Usage { cpu_secs, rss: bytes("Rss:"), pss: bytes("Pss:"), files: entries("fd"), threads: entries("task") }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_has_memory_and_files_and_its_children_count_with_it() {
        let watched = [Watched { name: "self".into(), pid: std::process::id() }];
        let alone = Sample::take(&watched).product();
        assert!(alone.rss >= alone.pss && alone.pss > 100_000.0 && alone.files >= 3.0, "{alone:?}");
        let mut child = Command::new("sh")
            .args(["-c", "read -r line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a shell");
        let both = Sample::take(&watched).product();
        assert!(both.files > alone.files, "{both:?} {alone:?}");
        drop(child.stdin.take());
        child.wait().expect("its end");
    }

    #[test]
    fn a_process_that_has_gone_takes_nothing() {
        assert_eq!(usage(u32::MAX, true), Usage::default());
    }
}
