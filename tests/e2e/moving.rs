//! The operator's commands that go to the stores themselves, past the services.

use std::{path::Path, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    mesh::{Part, Ports, get_status},
    process::{self, Process},
    wait,
};

/// Longer than any of these commands takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `switchboard` on this data folder; gives its exit code and what it wrote.
fn switchboard(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let environment =
        [("SWITCHBOARD_DATA".to_owned(), data.display().to_string()), ("SWITCHBOARD_LOG".into(), "off".into())];
    let mut command = process::command("switchboard", environment);
    command.args(arguments);
    process::run_to_end(command, LIMIT)
}

#[test]
fn migrate_makes_the_tables_once_also_with_several_at_once() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let told: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..3).map(|_| scope.spawn(|| switchboard(&data, &["migrate", "--json"]))).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut applied = [0; 3];
    for (code, text) in &told {
        assert_eq!(*code, Some(0), "{text}");
        let done: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        for (count, store) in applied.iter_mut().zip(["auth", "user", "message"]) {
            assert_eq!(done[store]["backend"], "sqlite");
            *count += usize::from(!done[store]["applied"].as_array().unwrap().is_empty());
        }
    }
    assert_eq!(applied, [1, 1, 1], "each store is made by one of them: {told:?}");
    let (code, text) = switchboard(&data, &["migrate"]);
    assert_eq!((code, text.matches("up to date").count()), (Some(0), 3), "{text}");
}

#[test]
fn a_service_that_only_checks_starts_once_the_tables_are_made() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // A file without tables: what a step of a newer version will find missing.
    for name in ["auth.db", "users.db", "messages.db"] {
        std::fs::write(data.join(name), "").unwrap();
    }
    let ports = Ports::free();
    let start = || {
        let mut environment = ports.environment();
        environment.push(("SWITCHBOARD_DATA".into(), data.display().to_string()));
        environment.push(("SWITCHBOARD_MESH__MIGRATE_AT_START".into(), "false".into()));
        process::command(Part::All.binary(), environment)
    };
    let (code, text) = process::run_to_end(start(), LIMIT);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("run `switchboard migrate`"), "{text}");
    assert_eq!(switchboard(&data, &["migrate"]).0, Some(0));
    let process = Process::spawn(start(), &folder.path().join("log"), folder.path());
    wait::until_blocking("it is ready", || {
        get_status(ports.ops(Part::Gateway), "/ready").filter(|status| *status == 200)
    });
    assert!(process.stop().success());
}
