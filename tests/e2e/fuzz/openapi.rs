//! The OpenAPI document against the running product, by schemathesis: no answer is a fault of ours, every answer is one
//! that the document describes, and what the document does not allow is refused.

use std::process::Command;

use super::{check_well, factor};
use crate::{
    mesh::Mesh,
    rest::{Api, Person},
    wait,
};

/// Calls that end the session of whoever makes them.
const ENDS: &str = "/auth/logout";
/// A document cannot say which cursors were given, or that a room has no member of that id: what it allows may be refused.
const NOT_CHECKED: &str = "positive_data_acceptance";

fn there() -> bool {
    let there = Command::new("schemathesis").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        wait::skip("schemathesis", "Install it, for example with `pip install schemathesis==4.32.5`.");
    }
    there
}

#[tokio::test]
async fn the_product_answers_as_its_openapi_document_says_whatever_it_is_asked() {
    if !there() {
        return;
    }
    let mesh = Mesh::plan().set("gateway.rates.enabled", false).start();
    let ada = Person::register(&Api::new(&mesh), "ada").await;
    ada.room("public").await;
    let folder = tempfile::tempdir().expect("a folder for what it notes down");
    let mut command = Command::new("schemathesis");
    command
        .args(["run", &format!("{}/api/openapi.json", mesh.url()), "--checks", "all", "--exclude-checks", NOT_CHECKED])
        .args(["--phases", "examples,coverage,fuzzing", "--exclude-path-regex", ENDS, "--no-color"])
        .args(["--max-examples", &(10 * factor()).to_string()])
        .args(["--header", &format!("Authorization: Bearer {}", ada.access)])
        .current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    check_well(&mesh).await;
}
