//! Starting and stopping: what cannot be started says so in one sentence with exit code 2, keys are kept and closed to
//! others, and a stop by SIGTERM loses nothing.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    mesh::{Mesh, Part, Ports, files, get_status},
    process::{self, Process},
    rest::{Api, Person},
    stores, wait,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs a binary that must end by itself with exit code 2 and one line; gives the line.
fn refused_start(part: Part, ports: &Ports, data: &Path, settings: &[(&str, &str)]) -> String {
    let mut environment = ports.environment();
    environment.push(("SWITCHBOARD_DATA".into(), data.display().to_string()));
    environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    // A start that fails must say so without its log, too.
    environment.push(("SWITCHBOARD_LOG".into(), "off".into()));
    let (code, text) = process::run_to_end(process::command(part.binary(), environment), LIMIT);
    assert_eq!(code, Some(2), "{}: {text}", part.binary());
    assert!(text.starts_with(&format!("{}: ", part.binary())), "{text}");
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
    text
}

fn one_line(text: &str) {
    assert_eq!(text.trim_end().lines().count(), 1, "more than one sentence: {text}");
}

#[test]
fn a_taken_port_is_named_in_one_sentence_with_what_to_do() {
    let ports = Ports::free();
    let folder = TempDir::new().unwrap();
    for (port, part, variable) in [
        (ports.public, Part::All, "API_GATEWAY_PORT"),
        (ports.message_ops, Part::All, "MESSAGE_SERVICE_HTTP_PORT"),
        (ports.public, Part::Gateway, "API_GATEWAY_PORT"),
        (ports.auth, Part::Auth, "AUTH_SERVICE_GRPC_PORT"),
        (ports.user_ops, Part::User, "USER_SERVICE_HTTP_PORT"),
        (ports.message, Part::Message, "MESSAGE_SERVICE_GRPC_PORT"),
    ] {
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let text = refused_start(part, &ports, &folder.path().join("data"), &[]);
        one_line(&text);
        assert!(text.contains(&port.to_string()) && text.contains(variable), "{text}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named_in_one_sentence() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, "x").unwrap();
    for part in [Part::All, Part::Auth, Part::User, Part::Message, Part::Gateway] {
        // A folder below a file can be made by nobody, root included.
        let text = refused_start(part, &Ports::free(), &file.join("data"), &[]);
        one_line(&text);
        assert!(text.contains("a-file") && text.contains("SWITCHBOARD_DATA"), "{text}");
    }
}

#[test]
fn a_damaged_database_or_key_is_named_in_one_sentence_and_left_as_it_is() {
    if !stores::sqlite_only("damaged files of databases") {
        return;
    }
    let mesh = Mesh::plan().separate().start();
    let stop = |part| assert!(mesh.stop(part).success());
    Part::FOUR.iter().rev().for_each(|part| stop(*part));
    for (part, file) in
        [(Part::Auth, "auth.db"), (Part::User, "users.db"), (Part::Message, "messages.db"), (Part::All, "messages.db")]
    {
        let path = mesh.data().join(file);
        let good = fs::read(&path).unwrap();
        for damage in [
            b"this is no database, and it is longer than a header of one hundred bytes ".repeat(4),
            good[..good.len() / 2].to_vec(),
        ] {
            fs::write(&path, &damage).unwrap();
            let text = refused_start(part, &Ports::free(), &mesh.data(), &[]);
            one_line(&text);
            assert!(text.contains(file), "{text}");
            assert_eq!(fs::read(&path).unwrap(), damage, "a damaged database was written to");
        }
        fs::write(&path, good).unwrap();
    }
    let key = |path: &PathBuf| {
        path.to_string_lossy().contains("auth-access") && path.extension().is_none_or(|it| it != "pub")
    };
    let path = files(&mesh.data()).into_iter().find(key).expect("the key of access tokens");
    fs::write(&path, "damaged").unwrap();
    let text = refused_start(Part::Auth, &Ports::free(), &mesh.data(), &[]);
    one_line(&text);
    assert!(text.contains("auth-access"), "{text}");
}

#[test]
fn bad_settings_are_reported_all_at_once_each_with_its_origin() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("settings.toml");
    fs::write(&file, "[gateway]\nno_such_setting = 1\nbody_bytes_max = \"many\"\n[nonsense]\nx = 1\n").unwrap();
    let settings = [
        ("SWITCHBOARD_CONFIG", file.to_str().unwrap()),
        ("AUTH_STORE_URL", "ftp://x"),
        ("SWITCHBOARD_MESH__GRPC__TRIES_MAX", "99"),
        ("SWITCHBOARD_TYPO", "1"),
    ];
    let text = refused_start(Part::All, &Ports::free(), &folder.path().join("data"), &settings);
    for part in [
        "gateway.no_such_setting",
        "settings.toml",
        "gateway.body_bytes_max",
        "nonsense.x",
        "auth.store_url",
        "AUTH_STORE_URL",
        "mesh.grpc.tries_max",
        "SWITCHBOARD_MESH__GRPC__TRIES_MAX",
        "SWITCHBOARD_TYPO",
    ] {
        assert!(text.contains(part), "nothing of {part} in:\n{text}");
    }
    assert!(!folder.path().join("data").exists(), "a start that was refused made its folder");
}

#[test]
fn production_does_not_start_on_a_key_that_it_would_have_to_make() {
    for part in [Part::Auth, Part::Gateway, Part::Message, Part::User] {
        let folder = TempDir::new().unwrap();
        let settings = [("SWITCHBOARD_PROFILE", "production")];
        let text = refused_start(part, &Ports::free(), &folder.path().join("data"), &settings);
        one_line(&text);
        assert!(text.contains("key") || text.contains("secret"), "{text}");
    }
}

#[test]
fn production_starts_on_keys_that_were_made_for_it_and_not_on_those_of_development() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let production = ("SWITCHBOARD_PROFILE".to_owned(), "production".to_owned());
    let environment = |ports: &Ports| {
        let mut environment = ports.environment();
        environment.push(("SWITCHBOARD_DATA".into(), data.display().to_string()));
        environment.push(production.clone());
        environment
    };
    let ports = Ports::free();
    let mut command = process::command(Part::All.binary(), environment(&ports));
    command.args(["keys", "init"]);
    let (code, text) = process::run_to_end(command, LIMIT);
    assert_eq!(code, Some(0), "{text}");
    let process = Process::spawn(
        process::command(Part::All.binary(), environment(&ports)),
        &folder.path().join("log"),
        folder.path(),
    );
    wait::until_blocking("production to be ready", || {
        (get_status(ports.gateway_ops, "/ready") == Some(200)).then_some(())
    });
    assert!(process.stop().success());

    let mesh = Mesh::plan().start();
    assert!(mesh.stop(Part::All).success());
    let text = refused_start(Part::Auth, &Ports::free(), &mesh.data(), &[("SWITCHBOARD_PROFILE", "production")]);
    one_line(&text);
    assert!(text.contains("development"), "{text}");
}

#[test]
fn the_banner_comes_soon_and_names_what_to_paste() {
    let folder = TempDir::new().unwrap();
    let ports = Ports::free();
    let mut environment = ports.environment();
    environment.push(("SWITCHBOARD_DATA".into(), folder.path().join("data").display().to_string()));
    let mut command = process::command(Part::All.binary(), environment);
    command.current_dir(folder.path());
    let log = folder.path().join("out.log");
    let begun = Instant::now();
    let process = Process::spawn(command, &log, folder.path());
    let url = format!("http://localhost:{}", ports.public);
    let text = wait::until_blocking("the banner", || {
        let text = fs::read_to_string(&log).unwrap();
        text.contains("join_room").then_some(text)
    });
    wait::say(&format!("the banner of `switchboard` came after {:?}", begun.elapsed()));
    for part in [url.as_str(), "curl", "grpcurl", "socket.io-client", &ports.message.to_string()] {
        assert!(text.contains(part), "nothing of {part} in:\n{text}");
    }
    for path in ["/", "/sdk/switchboard.js", "/docs", "/api/openapi.json"] {
        let status = get_status(ports.public, path).unwrap();
        assert!([200, 301, 302, 303, 307, 308].contains(&status), "{path}: {status}");
    }
    assert!(process.stop().success());
}

#[tokio::test]
async fn keys_are_made_once_closed_to_others_and_tokens_outlive_a_restart() {
    let mesh = Mesh::plan().start();
    let ada = Person::new(&mesh, "ada").await;
    // Public keys may be seen, and so may the mark that says which profile made the others.
    let secret =
        |path: &PathBuf| path.extension().is_none_or(|it| it != "pub") && !path.ends_with("MADE-IN-DEVELOPMENT");
    for path in files(&mesh.data()).into_iter().filter(secret) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} can be read by others: {mode:o}", path.display());
    }
    assert!(mesh.stop(Part::All).success());
    mesh.start_all();
    ada.get("/auth/profile").await.ok(200);
    ada.api.post("/auth/refresh", json!({"refreshToken": ada.refresh})).await.ok(200);
}

/// Sends over a socket until the connection ends; gives the ids of what was acknowledged.
async fn send_until_the_end(person: &Person, room: &str) -> Vec<String> {
    let socket = person.socket().await;
    let mut acknowledged = Vec::new();
    for index in 0.. {
        let payload =
            json!({"roomId": room, "content": "going on", "clientMessageId": format!("{}-{index}", person.id)});
        match socket.try_call("send_message", payload, LIMIT).await {
            Ok(ack) if ack["success"] == true => acknowledged.push(ack["message"]["id"].as_str().unwrap().to_owned()),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    acknowledged
}

#[tokio::test]
async fn a_stop_by_sigterm_loses_nothing_that_was_acknowledged() {
    for plan in [Mesh::plan(), Mesh::plan().separate()] {
        let mesh = Arc::new(plan.start());
        let api = Api::new(&mesh);
        let ada = Person::register(&api, "ada").await;
        let room = ada.room("public").await;
        let (mut senders, moving) = (Vec::new(), Arc::new(AtomicBool::new(false)));
        for _ in 0..8 {
            let (person, room, moving) = (Person::register(&api, "p").await, room.clone(), moving.clone());
            person.join(&room).await;
            senders.push(tokio::spawn(async move {
                moving.store(true, Ordering::Relaxed);
                send_until_the_end(&person, &room).await
            }));
        }
        let mut watcher = ada.socket().await;
        watcher.join(&room, None).await;
        for _ in 0..100 {
            watcher.event("new_message").await;
        }
        assert!(moving.load(Ordering::Relaxed));
        let begun = Instant::now();
        let stopping = mesh.clone();
        let stopped = tokio::task::spawn_blocking(move || {
            stopping.parts().iter().rev().map(|part| (*part, stopping.stop(*part))).collect::<Vec<_>>()
        });
        for (part, status) in wait::within("the stop", stopped).await.unwrap() {
            assert!(status.success(), "{part:?}: {status}");
        }
        let elapsed = begun.elapsed();
        watcher.ended().await;
        let mut acknowledged = Vec::new();
        for sender in senders {
            acknowledged.extend(wait::within("a sender", sender).await.unwrap());
        }
        mesh.start_all();
        let stored: std::collections::HashSet<_> =
            ada.history(&room).await.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect();
        let missing = acknowledged.iter().filter(|id| !stored.contains(*id)).count();
        wait::say(&format!("stopped within {elapsed:?}: {} acknowledged, {missing} missing", acknowledged.len()));
        assert_eq!(missing, 0);
        assert!(!acknowledged.is_empty());
    }
}
