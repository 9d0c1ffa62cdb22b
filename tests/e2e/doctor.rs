//! `switchboard doctor`, `config` and what else scripts read: on nothing, on a running mesh, on a mesh with a store that is away.

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    mesh::{Mesh, Ports},
    process, stores, wait,
};

/// Runs a command with these settings; its exit code and what it wrote.
pub(crate) fn switchboard(environment: &[(String, String)], words: &[&str]) -> (Option<i32>, String) {
    let mut command = process::command("switchboard", environment.iter().map(|(name, value)| (name, value)));
    command.args(words);
    process::run_to_end(command, wait::LIMIT)
}

/// What the doctor found, by what it looked at.
pub(crate) fn look(environment: &[(String, String)]) -> (Option<i32>, impl Fn(&str) -> Value + use<>) {
    let (code, text) = switchboard(environment, &["doctor", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(report["healthy"], code == Some(0), "{report:#}");
    let findings = report["findings"].as_array().expect("findings").clone();
    let of = move |what: &str| {
        let found = findings.iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("nothing about {what} in {findings:#?}")).clone()
    };
    (code, of)
}

#[test]
fn the_doctor_says_what_is_away_and_changes_nothing() {
    let (ports, folder) = (Ports::free(), TempDir::new().unwrap());
    let data = folder.path().join("data");
    let mut environment = ports.environment();
    environment.push(("SWITCHBOARD_DATA".into(), data.display().to_string()));
    environment.push(("AUTH_STORE_URL".into(), format!("postgres://me:hunter2@127.0.0.1:{}/x", ports.auth)));
    let (code, of) = look(&environment);
    assert_eq!(code, Some(1));
    for service in ["auth-svc", "user-svc", "message-svc", "account store"] {
        let finding = of(service);
        assert_eq!(finding["outcome"], "failed", "{finding}");
        assert!(finding["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{finding}");
        assert!(!finding.to_string().contains("hunter2"), "{finding}");
    }
    assert!(of("account store")["found"].as_str().is_some_and(|found| found.contains("cannot be reached")));
    for other in ["settings", "keys", "message store", "people's store"] {
        assert_eq!(of(other)["outcome"], "ok", "{}", of(other));
    }
    assert_eq!(of("clock")["outcome"], "warning");
    assert!(!data.exists(), "nothing is made");
    environment.push(("SWITCHBOARD_GATEWAY__PORT".into(), "many".into()));
    assert_eq!(switchboard(&environment, &["doctor"]).0, Some(2));
}

#[test]
fn the_doctor_finds_a_running_mesh_well() {
    if !stores::sqlite_only("the doctor is told of the stores by the data folder alone") {
        return;
    }
    let mesh = Mesh::plan().start();
    let mut environment = mesh.ports.environment();
    environment.push(("SWITCHBOARD_DATA".into(), mesh.data().display().to_string()));
    let (code, of) = look(&environment);
    for what in [
        "settings",
        "keys",
        "auth-svc",
        "user-svc",
        "message-svc",
        "account store",
        "people's store",
        "message store",
        "clock",
    ] {
        assert_eq!(of(what)["outcome"], "ok", "{}", of(what));
    }
    assert_eq!(code, Some(0));
}

#[test]
fn settings_and_completions_are_there_for_scripts() {
    let environment = [("AUTH_STORE_URL".to_owned(), "postgres://me:hunter2@db/x".to_owned())];
    let (code, text) = switchboard(&environment, &["config", "show", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(shown["auth.store_url"]["value"], "(hidden)");
    assert_eq!(shown["auth.store_url"]["origin"], "environment variable AUTH_STORE_URL");
    assert_eq!(
        (&shown["gateway.port"]["value"], &shown["gateway.port"]["origin"]),
        (&"3000".into(), &"default".into())
    );
    let (_, text) = switchboard(&[], &["config", "docs", "--json"]);
    let docs: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&docs["auth.store_url"]["secret"], &docs["auth.store_url"]["variable"]),
        (&true.into(), &"AUTH_STORE_URL".into())
    );
    assert!(docs["gateway.port"]["text"].as_str().is_some_and(|text| text.contains("public port")), "{docs}");
    assert!(switchboard(&[], &["config", "docs"]).1.contains("## `gateway.port`"));
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef switchboard"), ("fish", "complete -c switchboard")]
    {
        let (code, text) = switchboard(&[], &["completions", shell]);
        assert!(code == Some(0) && text.contains(word) && text.contains("doctor"), "{shell}: {text}");
    }
}
