//! The smallest form of each scenario, against the binaries of this build: the load generator must see that they do their
//! work right. Nothing is asserted on time.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// The folder of the binaries under test, built when they are not fresh.
fn binaries() -> &'static Path {
    FOLDER.get_or_init(|| {
        if let Some(folder) = env::var_os("SWITCHBOARD_TEST_BINARIES") {
            return folder.into();
        }
        let bench = Path::new(env!("CARGO_BIN_EXE_switchboard-bench"));
        let folder = bench.parent().expect("a folder of the profile").to_owned();
        let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let status = Command::new(cargo)
            // With the tests, so that features are resolved as in `cargo test --workspace` and nothing is built twice.
            .args(["build", "--quiet", "--workspace", "--bins", "--tests", "--target-dir"])
            .arg(folder.parent().expect("a target folder"))
            .status()
            .expect("cargo can be run");
        assert!(status.success(), "the binaries cannot be built");
        folder
    })
}

/// Runs a scenario; gives its report.
fn bench(arguments: &str) -> String {
    let out = tempfile::TempDir::new().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_switchboard-bench"))
        .args(arguments.split(' '))
        .args(["--runs", "1", "--secs", "0.5", "--warm-up", "0.2"])
        .arg("--binaries")
        .arg(binaries())
        .arg("--out")
        .arg(out.path())
        .output()
        .expect("the load generator can be run");
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments}:\n{said}\n{told}");
    let raw = std::fs::read_to_string(out.path().join("raw.jsonl")).expect("raw data");
    assert!(raw.lines().count() >= 2 && raw.contains("\"figures\""), "{raw}");
    told.into_owned()
}

/// Whether a report has a figure that is more than nothing.
fn has(report: &str, figure: &str) {
    let row = report.lines().find_map(|line| line.strip_prefix(&format!("| {figure} | ")));
    let row = row.unwrap_or_else(|| panic!("no {figure} in\n{report}"));
    assert!(!row.starts_with("0.00") && !row.starts_with('–'), "{figure} is {row}");
}

#[test]
fn fan_out_reaches_every_socket() {
    let report = bench("fan-out --sides switchboard --sockets 40 --people 10 --rate 400");
    has(&report, "deliveries/s");
    has(&report, "at a rate: deliveries/s");
}

#[test]
fn idle_sockets_are_weighed() {
    let report = bench("idle --sides switchboard --sockets 40 --people 10 --rooms 4");
    has(&report, "memory before (PSS), MB");
}

#[test]
fn durable_sends_are_stored_once_and_in_order() {
    let report = bench("durable --sides switchboard --senders 8 --rooms 4 --in-flight 4 --workers 2");
    has(&report, "acks/s");
    has(&report, "load generator CPU, cores");
}

#[test]
fn a_hot_room_has_one_order() {
    has(&bench("hot-room --sides switchboard --members 12 --senders 4 --in-flight 4"), "deliveries/s");
}

#[test]
fn a_steady_rate_is_kept() {
    has(
        &bench("latency --sides switchboard --sockets 40 --people 10 --rooms 10 --rate 200"),
        "send to delivery p99, ms",
    );
}

#[test]
fn sockets_that_stop_to_read_cost_the_others_nothing() {
    has(&bench("stalled --sides switchboard --readers 10 --stalled 4 --rate 100"), "deliveries/s");
}

#[test]
fn after_a_storm_nothing_is_missing() {
    has(&bench("storm --sides switchboard --sockets 40 --people 10 --rooms 4 --rate 200"), "sockets resumed/s");
}

#[test]
fn reads_are_answered() {
    has(&bench("rest --sides switchboard --connections 2"), "history: requests/s");
}

#[test]
fn logins_are_answered_beside_sends() {
    has(&bench("logins --sides switchboard --sends 50"), "logins: requests/s");
}

#[test]
fn pages_of_a_long_room_are_right() {
    has(&bench("history --sides switchboard --messages 20000"), "long, middle page: requests/s");
}

#[test]
fn growth_is_weighed() {
    let sizes = "--sockets 20 --rooms 1,4 --spread 20 --deliveries 200 --message-services 0";
    has(&bench(&format!("growth --sides switchboard {sizes}")), "deliveries/s");
}

#[test]
fn a_soak_is_weighed_minute_by_minute() {
    let sizes = "--minutes 3 --settled-after 1 --rate 100 --sockets 10 --rooms 5";
    has(&bench(&format!("soak --sides switchboard {sizes}")), "memory (PSS) after minute 03, MB");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_switchboard-bench"))
        .args(["idle", "--sides", "nothing"])
        .output()
        .expect("the load generator can be run");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no system \"nothing\""));
}
