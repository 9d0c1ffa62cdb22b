//! The operator's commands that go to the stores themselves, past the services.

use std::{
    collections::HashSet,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    mesh::{Mesh, Part, Ports, get_status},
    process::{self, Process},
    rest::Person,
    stores, wait,
};

/// Longer than any of these commands takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `switchboard` on this data folder; gives its exit code and what it wrote.
fn switchboard(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    Place::folder(data).run(arguments)
}

/// Where an installation keeps its data.
struct Place(Vec<(String, String)>);

impl Place {
    fn folder(data: &Path) -> Self {
        Self(vec![
            ("SWITCHBOARD_DATA".to_owned(), data.display().to_string()),
            ("SWITCHBOARD_LOG".into(), "off".into()),
        ])
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = process::command("switchboard", self.0.clone());
        command.args(arguments);
        process::run_to_end(command, LIMIT)
    }

    fn done(&self, arguments: &[&str]) -> String {
        let (code, text) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        text
    }

    fn refused(&self, arguments: &[&str], words: &str) {
        let (code, text) = self.run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }

    /// What it exports, without the first line, which names the file.
    fn records(&self, file: &Path) -> String {
        self.done(&["export", &file.display().to_string()]);
        let text = fs::read_to_string(file).unwrap();
        text.split_once('\n').unwrap().1.to_owned()
    }
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

/// Some people, rooms of each type with a log that has every kind of entry, and one who has logged out.
async fn live(mesh: &Mesh) -> (Person, Person, String, Value) {
    let (ada, bob) = (Person::new(mesh, "ada").await, Person::new(mesh, "bob").await);
    let eve = Person::new(mesh, "eve").await;
    for room_type in ["public", "private"] {
        let room = ada.room(room_type).await;
        ada.send(&room, "first \u{1f600} \"quoted\"").await;
        let path = format!("/rooms/{room}");
        ada.patch(&path, json!({"name": format!("renamed {room_type}"), "description": "d"})).await.ok(200);
        if room_type == "public" {
            eve.join(&room).await;
            eve.send(&room, "hello").await;
            eve.call(Method::POST, &format!("{path}/leave"), None).await.ok(200);
        }
    }
    let room = ada.room("public").await;
    bob.join(&room).await;
    let sent = ada.post(&format!("/rooms/{room}/messages"), json!({"content": "once", "clientMessageId": "one"})).await;
    let sent = sent.ok(201)["message"].clone();
    for number in 0..30 {
        bob.send(&room, &format!("number {number}")).await;
    }
    eve.call(Method::POST, "/auth/logout", None).await.ok(200);
    (ada, bob, room, sent)
}

/// From the embedded stores into a new place, in two halves, and out again: the same.
fn moves(file: &Path, records: &str, place: &Place, folder: &Path) {
    let whole = fs::read_to_string(file).unwrap();
    let cut = folder.join("cut.jsonl");
    let half: Vec<_> = whole.split_inclusive('\n').collect();
    fs::write(&cut, half[..half.len() * 2 / 3].concat()).unwrap();
    // A file is looked through before anything is written; what comes from a pipe is not.
    place.refused(&["import", &cut.display().to_string()], "was cut");
    let mut command = process::command("switchboard", place.0.clone());
    command.args(["import", "-"]).stdin(fs::File::open(&cut).unwrap());
    let (code, text) = process::run_to_end(command, LIMIT);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("was cut"), "{text}");
    place.refused(&["import", &folder.display().to_string()], "directory");
    place.refused(&["import", "/nowhere/export.jsonl"], "/nowhere/export.jsonl cannot be read");
    let file = file.display().to_string();
    assert!(place.done(&["import", &file]).contains("imported and checked"));
    assert!(place.done(&["import", &file]).contains("already"));
    let again = folder.join("again.jsonl");
    assert_eq!(place.records(&again), records, "what was moved is not the same");
    // Another file finds the place taken.
    place.refused(&["import", &again.display().to_string()], "another file");
    fs::remove_file(&again).unwrap();
    // Neither changes what a record has.
    assert!(place.done(&["restored"]).contains("done for 4 rooms"));
    place.done(&["rebuild"]);
    assert_eq!(place.records(&again), records, "what was rebuilt is not the same");
    fs::remove_file(again).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_and_imported_is_the_same_again_on_every_store() {
    if !stores::sqlite_only("it begins on SQLite and goes to the other stores by itself") {
        return;
    }
    let mesh = Mesh::plan().start();
    live(&mesh).await;
    mesh.stop(mesh.parts()[0]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("export.jsonl");
    let from = Place::folder(&mesh.data());
    let records = from.records(&file);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    Place::folder(&folder.path().join("nowhere")).refused(&["export", "unmade.jsonl"], "There is no account store");
    from.refused(&["export", &file.display().to_string()], "is there already");
    from.refused(&["import", &file.display().to_string()], "holds something already");

    moves(&file, &records, &Place::folder(&folder.path().join("embedded")), folder.path());
    let (Ok(postgres), Ok(mongodb)) = (std::env::var("POSTGRES_URL"), std::env::var("MONGODB_URL")) else {
        wait::skip("moving to PostgreSQL and MongoDB", "eval \"$(tests/stores start)\"");
        return;
    };
    let name = format!("moving_{}", Uuid::new_v4().simple());
    let mut server = PgConnection::connect(&postgres).await.unwrap();
    server.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let database = format!("{}/{name}", postgres.rsplit_once('/').unwrap().0);
    let mut place = Place::folder(&folder.path().join("unused"));
    place.0.push(("AUTH_STORE_URL".into(), database.clone()));
    place.0.push(("USER_STORE_URL".into(), database.clone()));
    place.0.push(("MESSAGE_STORE_URL".into(), mongodb.replacen("/?", &format!("/{name}?"), 1)));
    moves(&file, &records, &place, folder.path());
    place.0.pop();
    // The third way: everything on PostgreSQL, where the accounts are already; so a database of its own.
    let second = format!("{name}_all");
    server.execute(AssertSqlSafe(format!("CREATE DATABASE {second}"))).await.unwrap();
    let mut place = Place::folder(&folder.path().join("unused"));
    for variable in ["AUTH_STORE_URL", "USER_STORE_URL", "MESSAGE_STORE_URL"] {
        place.0.push((variable.into(), database.replace(&name, &second)));
    }
    moves(&file, &records, &place, folder.path());
    for name in [name, second] {
        server.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
    }
}

#[test]
fn a_signal_ends_an_import_that_waits_for_its_pipe() {
    let folder = TempDir::new().unwrap();
    let (from, to, file) = (
        folder.path().join("from"),
        folder.path().join("to"),
        folder.path().join("export.jsonl").display().to_string(),
    );
    Place::folder(&from).done(&["migrate"]);
    Place::folder(&from).done(&["export", &file]);
    let text = fs::read_to_string(&file).unwrap();
    let (pipe, mut feed) = std::io::pipe().unwrap();
    let mut command = process::command("switchboard", Place::folder(&to).0);
    command.args(["import", "-"]).stdin(pipe);
    let log = folder.path().join("log");
    let import = Process::spawn(command, &log, folder.path());
    feed.write_all(text.split_inclusive('\n').next().unwrap().as_bytes()).unwrap();
    wait::until_blocking("the import waits for records", || {
        // It has marked the last store.
        let written = fs::read(to.join("messages.db-wal")).ok()?;
        written.windows(11).any(|some| some == b"import_mark").then_some(())
    });
    assert_eq!(import.stop().code(), Some(2));
    assert!(fs::read_to_string(log).unwrap().contains("stopped before it was done"));
    drop(feed);
    assert!(Place::folder(&to).done(&["import", &file]).contains("imported and checked"));
}

/// Starts all of Switchboard on a data folder.
fn start(data: &Path, ports: &Ports, folder: &Path) -> Process {
    let mut environment = ports.environment();
    environment.push(("SWITCHBOARD_DATA".into(), data.display().to_string()));
    let process = Process::spawn(process::command(Part::All.binary(), environment), &folder.join("log"), folder);
    wait::until_blocking("it is ready", || {
        get_status(ports.ops(Part::Gateway), "/ready").filter(|status| *status == 200)
    });
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_installation_has_all_that_was_acknowledged_before_and_old_cursors_do_not_fit_it() {
    if !stores::sqlite_only("only embedded stores are copied by `switchboard backup`") {
        return;
    }
    let mesh = Mesh::plan().start();
    let (ada, bob, room, sent) = live(&mesh).await;
    let (stop, folder) = (Arc::new(AtomicBool::new(false)), TempDir::new().unwrap());
    let before: HashSet<_> =
        bob.history(&room).await.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect();
    let ack = ada.socket().await.join(&room, None).await;
    let cursor = ack["cursor"].as_str().unwrap().to_owned();
    let sending = tokio::spawn({
        let (stop, room) = (stop.clone(), room.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                bob.send(&room, "meanwhile").await;
            }
            bob
        }
    });
    let (data, backup) = (mesh.data(), folder.path().join("backup"));
    let to = backup.clone();
    let told = tokio::task::spawn_blocking(move || {
        // What has the name of a backup that is not whole may be somebody's own, or one that was stopped.
        let part = to.with_extension("part");
        fs::create_dir_all(part.join("photos")).unwrap();
        Place::folder(&data).refused(&["backup", &to.display().to_string()], "in the way");
        fs::rename(part.join("photos"), part.join("auth.db-journal")).unwrap();
        Place::folder(&data).done(&["backup", &to.display().to_string()]);
        Place::folder(&data).refused(&["backup", &to.display().to_string()], "exists");
    });
    told.await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let bob = sending.await.unwrap();
    for entry in ["auth.db", "users.db", "messages.db", "keys/auth-access.key", "keys/auth-refresh.secret"] {
        let mode = fs::metadata(backup.join(entry)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{entry}");
    }
    let ports = Ports::free();
    let process = start(&backup, &ports, folder.path());
    let mut api = bob.api.clone();
    api.url = format!("http://127.0.0.1:{}", ports.public);
    // The keys went along: a token of before is good.
    let bob = Person { api, ..bob };
    let after: HashSet<_> =
        bob.history(&room).await.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect();
    assert!(before.is_subset(&after), "acknowledged before the backup, and not in it");
    let ada = Person { api: bob.api.clone(), ..ada };
    let again = ada.post(&format!("/rooms/{room}/messages"), json!({"content": "x", "clientMessageId": "one"})).await;
    assert_eq!(again.body["message"]["id"], sent["id"], "a retry was sent twice");
    let ack = ada.socket().await.join(&room, Some(&cursor)).await;
    assert_eq!(ack["recovered"], false, "a cursor of the log before the backup was taken for one of the restored log");
    let cursor = ack["cursor"].as_str().unwrap().to_owned();
    assert!(process.stop().success());
    // The same by hand, for what was restored by other means.
    let place = Place::folder(&backup);
    tokio::task::spawn_blocking(move || {
        assert!(place.done(&["restored"]).contains("done for 4 rooms"));
        assert!(place.done(&["rebuild"]).contains("nothing to do"));
    })
    .await
    .unwrap();
    let process = start(&backup, &ports, folder.path());
    let ack = ada.socket().await.join(&room, Some(&cursor)).await;
    assert_eq!(ack["recovered"], false, "a cursor of before was taken for one of the restored log");
    assert!(process.stop().success());
}
