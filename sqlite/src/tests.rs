//! Opening, on a table of the tests' own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use mesh::migration::Migrations;
use sqlx::{Connection as _, SqliteConnection};

use crate::{File, Options, Service, backup};

fn service() -> Service {
    Service {
        name: "note-svc",
        store: "note store",
        variable: "NOTE_STORE_URL",
        migrations_table: "_note_migrations",
        migrator: sqlx::migrate!("src/tests/migrations"),
        restored: Some("UPDATE notes SET title = 'restored'"),
    }
}

async fn open(path: &Path, migrations: Migrations) -> Result<File, String> {
    File::open(path, service(), &Options::new(2, "notes"), migrations).await.map_err(|error| error.to_string())
}

async fn execute(path: &Path, sql: &'static str) {
    let mut connection = SqliteConnection::connect(&path.display().to_string()).await.expect("opens");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("done");
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn opening_says_what_it_did_once_and_then_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("notes.db");
    let first = open(&path, Migrations::Run).await.expect("opened");
    assert_eq!(first.migrated.applied.iter().map(|step| step.version).collect::<Vec<_>>(), [1, 2]);
    let again = open(&path, Migrations::Run).await.expect("opened");
    assert_eq!((again.migrated.version, again.migrated.applied.len()), (2, 0));
}

#[tokio::test]
async fn who_only_checks_makes_no_file_and_no_table() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("notes.db");
    let sentence = open(&path, Migrations::Check).await.expect_err("there is none").to_string();
    assert!(sentence.contains(&path.display().to_string()) && sentence.contains("There is no"), "{sentence}");
    assert!(!path.exists(), "a check made a file");

    execute_new(&path).await;
    let sentence = open(&path, Migrations::Check).await.expect_err("there are no tables");
    assert!(sentence.contains("step 1") && sentence.contains("switchboard migrate"), "{sentence}");
    open(&path, Migrations::Run).await.expect("made").close().await.expect("closed");
    assert_eq!(open(&path, Migrations::Check).await.expect("is good").migrated.version, 2);

    execute(&path, "DELETE FROM _note_migrations WHERE version = 2; ALTER TABLE notes DROP COLUMN title").await;
    let sentence = open(&path, Migrations::Check).await.expect_err("a step is missing");
    assert!(sentence.contains("step 2"), "{sentence}");
}

async fn execute_new(path: &Path) {
    fs::write(path, "").expect("made");
    execute(path, "SELECT 1").await;
}

#[tokio::test]
async fn a_newer_or_other_schema_is_refused_by_either_way_of_opening() {
    for (change, words) in [
        ("INSERT INTO _note_migrations VALUES (9, 'later', '2026-01-01', true, x'00', 0)", "newer version of note-svc"),
        ("UPDATE _note_migrations SET checksum = x'00' WHERE version = 1", "other tables"),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("notes.db");
        open(&path, Migrations::Run).await.expect("made").close().await.expect("closed");
        execute(&path, change).await;
        for migrations in [Migrations::Run, Migrations::Check] {
            let sentence = open(&path, migrations).await.expect_err("refused");
            assert!(sentence.contains(words), "{sentence}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_leaves_the_locks_of_a_store_that_this_process_has_open() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("notes.db");
    let mut holder = open(&path, Migrations::Run).await.expect("made").connection;
    let write = holder.begin_with("BEGIN IMMEDIATE").await.expect("locked");
    let options = Options { busy: std::time::Duration::from_millis(50), ..Options::new(1, "notes") };
    // It wants the lock, and gives up; a file that was opened and closed by the standard library would have dropped it.
    File::open(&path, service(), &options, Migrations::Run).await.expect_err("is locked out");
    let other = std::process::Command::new("python3")
        .args(["-c", "import sqlite3,sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"])
        .arg(&path)
        .output();
    if let Ok(other) = other {
        assert!(!other.status.success(), "another process took the lock that this one holds");
    }
    drop(write);
}

#[tokio::test]
async fn the_file_is_its_owners_alone_synced_and_closed_to_readers_that_write() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("made/too/notes.db");
    let options = Options::new(1, "notes");
    let file = File::open(&path, service(), &options, Migrations::Run).await.expect("opened");
    let (writer, readers) = file.pools(&options).await.expect("pools");
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&writer).await.expect("mode");
    // 2 is FULL.
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&writer).await.expect("level");
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    for name in ["notes.db", "notes.db-wal"] {
        let mode = fs::metadata(path.with_file_name(name)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(sqlx::query("DELETE FROM notes").execute(&readers).await.is_err(), "a reader wrote");
}

#[tokio::test]
async fn a_copy_has_what_was_written_before_and_is_restored_by_each_first_opening_once() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, copy) = (folder.path().join("notes.db"), folder.path().join("copy.db"));
    let mut file = open(&path, Migrations::Run).await.expect("opened");
    sqlx::query("INSERT INTO notes VALUES (1, 'one')").execute(&mut file.connection).await.expect("written");
    // The store stays open: its log is not in its file yet.
    backup::copy(&path, &copy).await.expect("copied");
    assert_eq!(fs::metadata(&copy).expect("there").permissions().mode() & 0o777, 0o600);
    backup::copy(&path, &copy).await.expect_err("is there already");
    let title = "SELECT title FROM notes";
    for restored in ["first.db", "second.db"] {
        let restored = folder.path().join(restored);
        fs::copy(&copy, &restored).expect("copied");
        let mut store = open(&restored, Migrations::Check).await.expect("opened");
        let found: String = sqlx::query_scalar(title).fetch_one(&mut store.connection).await.expect("read");
        assert_eq!(found, "restored");
        sqlx::query("UPDATE notes SET title = 'later'").execute(&mut store.connection).await.expect("written");
        store.close().await.expect("closed");
        let mut store = open(&restored, Migrations::Run).await.expect("opened");
        let found: String = sqlx::query_scalar(title).fetch_one(&mut store.connection).await.expect("read");
        assert_eq!(found, "later", "it was restored twice");
    }
    let found: String = sqlx::query_scalar(title).fetch_one(&mut file.connection).await.expect("read");
    assert_eq!(found, "one", "the original was changed");
}

/// The Rust files in and below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    folders.iter().flat_map(|folder| sources(folder)).chain(rust).collect()
}

#[test]
fn no_statement_limits_by_a_bare_parameter_and_is_prepared_anew_each_time() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for service in ["auth-svc", "user-svc", "message-svc"] {
        let files = sources(&workspace.join(service).join("src/store/sqlite"));
        assert!(!files.is_empty(), "{service}");
        for file in files {
            let text = fs::read_to_string(&file).expect("a file of text");
            for (place, _) in text.match_indices("LIMIT ?") {
                let rest = text[place + "LIMIT ?".len()..].trim_start_matches(|c: char| c.is_ascii_digit());
                assert!(rest.starts_with(" + 0"), "{}: write LIMIT ? + 0", file.display());
            }
        }
    }
}
