//! The snippets that `switchboard up` prints work as printed: they are cut out of its banner and run by a shell.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::json;

use super::{has_grpcurl, has_node, is_there};
use crate::{
    mesh::Mesh,
    process::{Process, run_to_end},
    rest::{Api, Person},
    wait::{self, skip},
};

/// What the snippets' own user is called.
const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";

/// The indented lines after a heading that begins like this.
fn snippet(banner: &str, heading: &str) -> String {
    let mut lines = banner.lines().skip_while(|line| !line.starts_with(heading)).skip(1).peekable();
    while lines.next_if(|line| line.is_empty()).is_some() {}
    let text: Vec<_> = lines.take_while(|line| line.starts_with("  ")).collect();
    assert!(!text.is_empty(), "no snippet under {heading:?} in:\n{banner}");
    text.join("\n")
}

/// Runs a script that goes on until it is stopped; `timeout` ends it with all that it started.
fn follow(name: &str, script: &str, folder: &Path, room: &str, token: &str) -> Process {
    let path = folder.join(format!("{name}.sh"));
    fs::write(&path, format!("set -e\n{script}\n")).unwrap();
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "60", "bash"]).arg(&path).current_dir(super::folder());
    command.env("ROOM", room).env("TOKEN", token);
    Process::spawn(command, &folder.join(format!("{name}.out")), folder)
}

#[tokio::test]
async fn the_banners_snippets_work_as_printed() {
    if !has_node() || !has_grpcurl() {
        return;
    }
    for program in ["bash", "curl", "jq", "timeout"] {
        if !is_there(program) {
            return skip(program, "Install it, for example with `apt-get install curl jq`.");
        }
    }
    let mesh = Mesh::plan().start();
    let banner = wait::until("the banner", async || {
        let text = fs::read_to_string(mesh.logs().join("switchboard.log")).unwrap();
        text.contains("join_room").then_some(text)
    })
    .await;
    let mut shell = Command::new("bash");
    shell.args(["-ec", &format!("{}\necho; echo \"ROOM=$ROOM\"; echo \"TOKEN=$TOKEN\"", snippet(&banner, "REST"))]);
    let (code, text) = tokio::task::spawn_blocking(move || run_to_end(shell, Duration::from_secs(60))).await.unwrap();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\"hello\""), "{text}");
    let variable = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let (room, token) = (variable("ROOM="), variable("TOKEN="));

    let work = mesh.logs();
    let grpc = follow("grpcurl", &snippet(&banner, "gRPC"), &work, &room, &token);
    let socketio = snippet(&banner, "Socket.IO");
    let ours = socketio.replace("npm install socket.io-client && ", "");
    assert_ne!(ours, socketio, "the installed client is used instead of a fresh one");
    let node = follow("node", &ours, &work, &room, &token);
    let read = |name: &str| fs::read_to_string(work.join(format!("{name}.out"))).unwrap_or_default();
    wait::until("the ack of the join", async || read("node").contains("success: true").then_some(())).await;

    let api = Api::new(&mesh);
    let body = api.post("/auth/login", json!({"email": EMAIL, "password": PASSWORD})).await.ok(200);
    let ada = Person::from_answer(&api, &body);
    // grpcurl says nothing until the first entry has come.
    wait::until("both to hear of a message", async || {
        ada.send(&room, "as printed").await;
        ["grpcurl", "node"].iter().all(|name| read(name).contains("as printed")).then_some(())
    })
    .await;
    assert!(read("grpcurl").contains("switchboard.auth.v1.AuthService"), "{}", read("grpcurl"));
    node.stop();
    grpc.stop();
}
