//! The contract on SQLite, and what is SQLite's own: the file, its mode, its damage, its versions.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use mesh::{
    config::{Secret, StoreLimits},
    migration::Migrations,
    time::Millis,
};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use uuid::Uuid;

use super::SqliteStore;
use crate::{
    profile::{Change, NewProfile, UserId},
    store::{self, Store, StoreError, contract},
};

contract::on_backend!(fresh());

async fn fresh() -> Option<(Arc<dyn Store>, TempDir)> {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("users.db")).await;
    Some((Arc::new(store), folder))
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, 4, Migrations::Run).await.expect("opened")
}

async fn refused(path: &Path) -> String {
    SqliteStore::open(path, 4, Migrations::Run).await.expect_err("refused").to_string()
}

fn new(username: &str) -> NewProfile {
    NewProfile {
        id: UserId(Uuid::now_v7()),
        username: username.into(),
        username_version: 1,
        first_name: String::new(),
        last_name: String::new(),
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_files_that_a_crash_leaves() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("users.db");
    let (store, ada) = (open(&path).await, new("ada"));
    store.create(&ada, Millis(1)).await.expect("made");
    let change = Change { bio: Some("Notes".into()), ..Change::default() };
    store.update(ada.id, &change, Millis(2)).await.expect("answered");
    // The files as they are now, without any word of goodbye.
    let left = folder.path().join("left.db");
    fs::copy(&path, &left).expect("copied");
    fs::copy(folder.path().join("users.db-wal"), folder.path().join("left.db-wal")).expect("copied");
    let again = open(&left).await;
    assert_eq!(again.own(ada.id).await.expect("answered").expect("there").profile.bio, "Notes");
}

#[tokio::test]
async fn every_commit_is_synced_and_readers_cannot_write() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("users.db")).await;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.writer).await.expect("mode");
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.writer).await.expect("level");
    // 2 is FULL.
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    assert!(sqlx::query("DELETE FROM people").execute(&store.readers).await.is_err());
}

#[tokio::test]
async fn the_folder_is_made_and_the_file_is_closed_to_others() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("deep/er/users.db");
    let store = open(&path).await;
    store.create(&new("ada"), Millis(1)).await.expect("made");
    for name in ["users.db", "users.db-wal"] {
        let mode = fs::metadata(path.with_file_name(name)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_program_keeps_locked_is_away_until_it_lets_go() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("users.db");
    let (store, other, ada) = (open(&path).await, open(&path).await, new("ada"));
    store.create(&ada, Millis(1)).await.expect("made");
    let lock = other.writer.begin_with("BEGIN IMMEDIATE").await.expect("locked");
    let away = store.create(&new("eve"), Millis(1)).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    assert!(store.own(ada.id).await.expect("reads go on").is_some());
    lock.rollback().await.expect("released");
    store.create(&new("eve"), Millis(1)).await.expect("made");
}

#[tokio::test]
async fn a_full_disk_is_away_until_somebody_makes_room() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("users.db")).await;
    let ada = new("ada");
    store.create(&ada, Millis(1)).await.expect("made");
    let limit = |pages: u32| sqlx::query(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")));
    // SQLite takes at least as many as there are.
    limit(1).execute(&store.writer).await.expect("set");
    let full = Change { bio: Some("x".repeat(100_000)), ..Change::default() };
    let away = store.update(ada.id, &full, Millis(2)).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    assert_eq!(store.own(ada.id).await.expect("reads go on").expect("there").profile.bio, "");
    limit(1_000_000).execute(&store.writer).await.expect("set");
    store.update(ada.id, &full, Millis(2)).await.expect("changed");
}

#[tokio::test]
async fn a_damaged_file_is_named_with_what_to_do_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("folder");
    let garbage = folder.path().join("garbage.db");
    fs::write(&garbage, "this is no database, whatever its name says\n".repeat(200)).expect("write");

    let torn = folder.path().join("torn.db");
    let store = open(&torn).await;
    for number in 0..200 {
        store.create(&new(&format!("user{number}")), Millis(1)).await.expect("made");
    }
    store.close().await;
    let mut bytes = fs::read(&torn).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xff);
    fs::write(&torn, &bytes).expect("write");

    for path in [garbage, torn] {
        let before = fs::read(&path).expect("read");
        let sentence = refused(&path).await;
        assert!(sentence.contains(&path.display().to_string()), "{sentence}");
        assert!(sentence.contains("damaged") && sentence.contains("backup"), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
        assert!(fs::read(&path).expect("read") == before, "{} was changed", path.display());
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("users.db");
    let store = open(&path).await;
    sqlx::query(
        "INSERT INTO _user_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&store.writer)
    .await
    .expect("written");
    store.close().await;
    let sentence = refused(&path).await;
    assert!(sentence.contains("newer version") && sentence.contains("users.db"), "{sentence}");
}

#[tokio::test]
async fn a_file_whose_tables_were_made_otherwise_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("users.db");
    let store = open(&path).await;
    sqlx::query("UPDATE _user_migrations SET checksum = x'00'").execute(&store.writer).await.expect("written");
    store.close().await;
    let sentence = refused(&path).await;
    assert!(sentence.contains("other tables"), "{sentence}");
}

#[tokio::test]
async fn a_place_that_cannot_be_a_file_is_named_with_what_to_set() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("write");
    for path in [folder.path().to_owned(), file.join("users.db")] {
        let sentence = refused(&path).await;
        assert!(sentence.contains(&path.display().to_string()), "{sentence}");
        assert!(sentence.contains("USER_STORE_URL") || sentence.contains("writable"), "{sentence}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_on_a_new_file_all_find_the_tables() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("users.db");
        let opened: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { open(&path).await })
            })
            .collect();
        for store in opened {
            let store = store.await.expect("no panic");
            store.create(&new("ada"), Millis(1)).await.expect("made");
        }
    }
}

#[tokio::test]
async fn another_services_tables_may_stand_in_the_same_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("all.db");
    open(&path).await.close().await;
    let store = open(&path).await;
    sqlx::query("CREATE TABLE _sqlx_migrations (version BIGINT)").execute(&store.writer).await.expect("made");
    store.close().await;
    open(&path).await.check().await.expect("good");
}

#[tokio::test]
async fn a_url_chooses_the_file_and_a_strange_one_is_refused_without_being_shown() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("mine.db");
    for url in [format!("sqlite:{}", path.display()), format!("sqlite://{}", path.display())] {
        store::open(&Secret::from(url.as_str()), folder.path(), 1, &StoreLimits::default(), Migrations::Run)
            .await
            .expect("opened")
            .close()
            .await;
        assert!(path.exists());
        fs::remove_file(&path).expect("removed");
    }
    store::open(&Secret::default(), folder.path(), 1, &StoreLimits::default(), Migrations::Run)
        .await
        .expect("opened")
        .close()
        .await;
    assert!(folder.path().join("users.db").exists());
    for url in ["sqlite:", "sqlite::memory:", "sqlite:a.db?mode=ro", "mysql://me:hunter2@host/db", "users.db"] {
        let sentence = store::open(&Secret::from(url), folder.path(), 1, &StoreLimits::default(), Migrations::Run)
            .await
            .expect_err(url)
            .to_string();
        assert!(sentence.contains("user.store_url") && !sentence.contains("hunter2"), "{sentence}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_is_a_broken_store_and_no_panic() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("users.db")).await;
    let ada = new("ada");
    store.create(&ada, Millis(1)).await.expect("made");
    sqlx::query("UPDATE people SET preferences = '[1'").execute(&store.writer).await.expect("written");
    let error = store.own(ada.id).await.expect_err("broken");
    assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
    // Others do not need what is broken.
    assert_eq!(store.profiles(&[ada.id]).await.expect("answered").len(), 1);
}

#[tokio::test]
async fn a_store_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("first.db");
    let step = include_str!("../../../migrations/sqlite/0001_people.sql");
    let sha384 = "cbf06aa4cc905255d429f7ea6c87fc05f0427b0167c8683b026e8b51db4e2dda1fa19e13fbbb7c931eb7f2083cf87500";
    mesh_sqlite::testing::first(&path, "_user_migrations", step, sha384, include_str!("first.sql")).await;
    let store = open(&path).await;
    let id = UserId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000001"));
    let own = store.own(id).await.expect("read").expect("there");
    assert_eq!((&*own.profile.username, &*own.profile.bio, own.preferences.len()), ("Ada", "bio", 1));
}
