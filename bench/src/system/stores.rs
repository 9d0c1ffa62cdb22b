//! Stores for one run: PostgreSQL and, where it is needed, Redis, by `tests/stores`, which starts them in a throw-away
//! folder with the defaults of their packages (so commits are on disk before they are answered).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    process::{Cores, Guard, command, repository, spawn_on},
    usage::Watched,
};

/// Stores that run until this is dropped.
#[derive(Debug)]
pub(crate) struct Stores {
    folder: PathBuf,
    pub(crate) postgres_url: String,
    /// Empty when none was asked for.
    pub(crate) redis_url: String,
    guard: Option<Guard>,
}

impl Stores {
    /// Starts PostgreSQL, and Redis if asked, on some cores.
    pub(crate) fn start(run: &Path, cores: &Cores, redis: bool) -> anyhow::Result<Self> {
        let folder = run.join("stores");
        // PostgreSQL runs as a user of its own, who must reach its folder.
        fs::set_permissions(run, fs::Permissions::from_mode(0o755))?;
        let script = repository()?.join("tests/stores");
        let mut start = command(&script);
        start.arg("start").env("SWITCHBOARD_STORES", &folder).env("MONGODB_URL", "none");
        if !redis {
            start.env("REDIS_URL", "none");
        }
        start.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let output = spawn_on(start, cores)?.wait_with_output()?;
        let mut stores = Self { folder, postgres_url: String::new(), redis_url: String::new(), guard: None };
        stores.guard = stop(&stores.folder).and_then(|stop| Guard::new(&stop)).ok();
        if !output.status.success() {
            bail!("tests/stores start ended with {}", output.status);
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            match line.strip_prefix("export ").and_then(|line| line.split_once('=')) {
                Some(("POSTGRES_URL", url)) => stores.postgres_url = url.to_owned(),
                Some(("REDIS_URL", url)) => stores.redis_url = url.to_owned(),
                _ => {}
            }
        }
        if stores.postgres_url.is_empty() {
            bail!("tests/stores names no PostgreSQL");
        }
        Ok(stores)
    }

    /// Their processes.
    pub(crate) fn watched(&self) -> anyhow::Result<Vec<Watched>> {
        let pid = |path: &str| -> anyhow::Result<u32> {
            let text = fs::read_to_string(self.folder.join(path)).with_context(|| path.to_owned())?;
            text.lines().next().unwrap_or_default().trim().parse().context("a process id")
        };
        let mut watched = vec![Watched { name: "postgres".into(), pid: pid("postgres/data/postmaster.pid")? }];
        if !self.redis_url.is_empty() {
            watched.push(Watched { name: "redis".into(), pid: pid("redis.pid")? });
        }
        Ok(watched)
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        if let Ok(mut stop) = stop(&self.folder) {
            // What is left is a throw-away folder.
            drop(stop.status());
        }
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }
}

fn stop(folder: &Path) -> anyhow::Result<Command> {
    let mut stop = command(repository()?.join("tests/stores"));
    stop.arg("stop").env("SWITCHBOARD_STORES", folder).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(stop)
}
