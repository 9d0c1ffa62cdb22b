//! Where the time goes while a load is measured: `perf record` on all cores for just that time, and its samples counted by
//! process and by function. The figures of such a run are those of a system that is being watched: they count for less.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, bail};

use crate::{conduct::say, process::command};

/// Samples a second of each core; an odd number, so that they do not fall in step with timers.
const RATE: &str = "997";
/// Functions below this share of all samples are left out, in percent.
const LEAST: &str = "0.5";

/// A recording in progress.
pub(crate) struct Profile {
    perf: Child,
    data: PathBuf,
}

impl Profile {
    /// Begins one that ends by itself after so many seconds; none without a folder.
    pub(crate) fn start(folder: Option<&Path>, side: &str, secs: f64) -> anyhow::Result<Option<Self>> {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let Some(folder) = folder else { return Ok(None) };
        fs::create_dir_all(folder)?;
        let data = folder.join(format!("{:02}-{side}.perf", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut perf = command("perf");
        perf.args(["record", "-q", "-a", "-F", RATE, "-o"]).arg(&data).args(["--", "sleep", &format!("{secs}")]);
        let perf = perf.stdout(Stdio::null()).spawn().context("perf cannot be started")?;
        Ok(Some(Self { perf, data }))
    }

    /// Waits for its end and writes what it says beside it.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        if !self.perf.wait()?.success() {
            bail!("perf record failed");
        }
        let mut text = String::new();
        for keys in ["comm", "comm,dso", "comm,dso,symbol"] {
            let mut report = command("perf");
            report.args(["report", "--stdio", "-q", "-g", "none", "--percent-limit", LEAST, "--sort", keys, "-i"]);
            let output = report.arg(&self.data).stderr(Stdio::null()).output()?;
            text.push_str(&format!("# by {keys}\n{}", String::from_utf8_lossy(&output.stdout)));
        }
        let path = self.data.with_extension("txt");
        fs::write(&path, text)?;
        say(&format!("  profile: {}", path.display()));
        Ok(())
    }
}
