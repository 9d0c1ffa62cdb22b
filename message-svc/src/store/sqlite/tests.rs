//! SQLite against the contract of every store, and what is SQLite's own: files that cannot be opened.

use std::path::Path;

use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{
    config::SqliteConfig,
    store::contract::contract_suite,
    testing::{message, message_entry, new_room, sqlite, sqlite_in, user, whole_log},
};

use super::*;

async fn backend() -> Option<(Arc<dyn Store>, TempDir)> {
    Some(sqlite().await)
}

contract_suite!(backend);

async fn refused(path: &Path) -> String {
    match SqliteStore::open(path, &SqliteConfig::default(), Migrations::Run).await {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let (store, folder) = sqlite().await;
    let room = new_room(crate::room::RoomType::Public, "room", user());
    store.create_room(&room).await.expect("made");
    let entry = message_entry(room.meta.id, 1, 1, message(user(), "a", "x"));
    store.append([entry.clone()].into()).await.expect("written");
    store.close().await;
    assert!(store.append([entry.clone()].into()).await.is_err(), "a closed store takes nothing");
    let store = sqlite_in(&folder).await;
    assert_eq!(whole_log(&*store, room.meta.id).await, [entry]);
    store.check().await.expect("works");
}

#[tokio::test]
async fn a_damaged_file_is_named_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("messages.db");
    std::fs::write(&path, "this is no database, though it is long enough to be looked at ".repeat(100))
        .expect("written");
    let sentence = refused(&path).await;
    assert!(sentence.contains(&path.display().to_string()) && sentence.contains("damaged"), "{sentence}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let sentence = refused(&file.join("data").join("messages.db")).await;
    assert!(sentence.contains("cannot be made"), "{sentence}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (store, folder) = sqlite().await;
    store.close().await;
    let path = folder.path().join("messages.db");
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.expect("opens");
    sqlx::query(
        "INSERT INTO message_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', true, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .expect("written");
    drop(connection);
    let sentence = refused(&path).await;
    assert!(sentence.contains("newer version") && sentence.contains("9999"), "{sentence}");
}

#[tokio::test]
async fn a_write_fails_as_surely_not_written_while_another_program_holds_the_lock() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("messages.db");
    let config = SqliteConfig { busy_ms: 50, ..SqliteConfig::default() };
    let store = SqliteStore::open(&path, &config, Migrations::Run).await.expect("opens");
    let room = new_room(crate::room::RoomType::Public, "room", user());
    store.create_room(&room).await.expect("made");
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.expect("opens");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("locks");
    // One entry and three take different ways to the disk.
    let batch = |from, to| -> Batch {
        (from..=to).map(|n| message_entry(room.meta.id, n, n, message(user(), "a", "x"))).collect()
    };
    for batch in [batch(1, 1), batch(1, 3)] {
        let error = store.append(batch).await.expect_err("is locked out");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(store.check().await.is_err(), "and is not ready");
    }
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("lets go");
    assert_eq!(store.append(batch(1, 1)).await.expect("writes again"), Outcome::Done);
    assert_eq!(store.append(batch(2, 4)).await.expect("writes again"), Outcome::Done);
    store.check().await.expect("and is ready");
}

#[tokio::test]
async fn no_read_of_a_log_walks_along_it() {
    let (store, folder) = sqlite().await;
    store.close().await;
    let path = folder.path().join("messages.db");
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.expect("opens");
    for (sql, index) in [
        (log::ENTRIES_AFTER, "SEARCH e USING PRIMARY KEY (room_id=? AND seq>?)"),
        (log::SENT, "SEARCH e USING INDEX entries_by_client_id (room_id=? AND sender=? AND client_id=?)"),
        (log::SENT_BY, "SEARCH e USING INDEX entries_by_client_id (room_id=? AND sender=? AND client_id>?)"),
        (rooms::ROOMS_KNOWN_TO, "SEARCH visits USING PRIMARY KEY (user_id=? AND room_id>?)"),
        (log::MESSAGES, "SEARCH e USING INDEX entries_by_number (room_id=? AND messages>? AND messages<?)"),
        (log::MESSAGES_THROUGH, "SEARCH entries USING PRIMARY KEY (room_id=? AND seq<?)"),
        (log::HEADS, "SEARCH e USING"),
        (rooms::ROOMS_AFTER, "SEARCH rooms USING PRIMARY KEY (id>?)"),
    ] {
        let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
            .fetch_all(&mut connection)
            .await
            .expect("explains");
        let plan: Vec<String> = plan.iter().map(|row| sqlx::Row::get(row, "detail")).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{sql}:\n{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("SCAN e") || line.contains("B-TREE")), "{sql}:\n{plan:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_share_one_new_file() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("messages.db");
        let open = |path: std::path::PathBuf| async move {
            SqliteStore::open(&path, &SqliteConfig::default(), Migrations::Run).await
        };
        let opening: Vec<_> = (0..4).map(|_| tokio::spawn(open(path.clone()))).collect();
        for opened in opening {
            opened.await.expect("no panic").expect("opened").check().await.expect("answers");
        }
    }
}

#[tokio::test]
async fn a_store_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("first.db");
    let step = include_str!("../../../migrations/sqlite/0001_rooms.sql");
    let sha384 = "d3b6f82dc786e605da56eadd88b19008deb728b3f5a81c8aae7cc0299307fa82acc74f5d0ff28659319e7348112a6d55";
    mesh_sqlite::testing::first(&path, "message_migrations", step, sha384, include_str!("first.sql")).await;
    let store = SqliteStore::open(&path, &SqliteConfig::default(), Migrations::Run).await.expect("opens");
    let room = RoomId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000004"));
    let state = store.load(room).await.expect("reads").expect("is there");
    assert_eq!((&*state.meta.name, state.members.len(), state.last_seq), ("Room", 1, 1));
    let log = crate::testing::whole_log(&store, room).await;
    assert_eq!(log[0].message().map(|message| &*message.content), Some("hello"));
    let user = UserId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000001"));
    assert_eq!(store.rooms_of(user, None, 10).await.expect("reads").len(), 1);
    assert_eq!(store.rooms_known_to(user, None, 10).await.expect("reads"), [room]);
}
