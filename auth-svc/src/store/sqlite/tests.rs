//! SQLite alone: the contract, and what a person meets who opens a file that is not good.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use mesh::config::{Secret, StoreLimits};
use mesh::migration::Migrations;
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

use super::SqliteStore;
use crate::{
    session::SessionId,
    store::{
        OpenError, Store, StoreError,
        contract::{NOW, account, entry, member, session, store_contract},
    },
};

async fn open() -> (Arc<dyn Store>, TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let store = SqliteStore::open(&folder.path().join("auth.db"), 2, Migrations::Run).await.expect("opened");
    (Arc::new(store), folder)
}

async fn backend() -> Option<(Arc<dyn Store>, TempDir)> {
    Some(open().await)
}

store_contract!(backend);

async fn refused(path: &Path) -> String {
    let error = SqliteStore::open(path, 1, Migrations::Run).await.expect_err("refused").to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(!error.contains('\n'), "one sentence: {error}");
    error
}

#[tokio::test]
async fn an_acknowledged_write_is_synced_and_the_file_is_closed_to_others() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("made/too/auth.db");
    let store = SqliteStore::open(&path, 1, Migrations::Run).await.expect("opened");
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.writer).await.expect("pragma");
    // 2 is FULL.
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.writer).await.expect("pragma");
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    for name in ["auth.db", "auth.db-wal"] {
        let mode = fs::metadata(path.with_file_name(name)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let write = sqlx::query("DELETE FROM outbox").execute(&store.readers).await;
    assert!(write.is_err(), "a reader wrote");
}

#[tokio::test]
async fn an_audit_entry_cannot_be_changed() {
    let folder = tempfile::tempdir().expect("folder");
    let store =
        SqliteStore::open(&folder.path().join("auth.db"), 1, mesh::migration::Migrations::Run).await.expect("opened");
    store.append_audit(&[entry(crate::audit::Event::LoginPassword, NOW)]).await.expect("written");
    let changed = sqlx::query("UPDATE audit SET detail = 'nothing happened'").execute(&store.writer).await;
    assert!(changed.expect_err("refused").to_string().contains("append-only"));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (store, folder) = open().await;
    let (account, session) = member(&store, "ada").await;
    store.end_session(account.id, session.id, NOW, NOW, &[]).await.expect("ended");
    store.close().await;
    assert!(store.check().await.is_err(), "a closed store answers");
    let store = SqliteStore::open(&folder.path().join("auth.db"), 1, Migrations::Run).await.expect("opened");
    store.check().await.expect("answers");
    assert!(store.account(account.id).await.expect("read").is_some());
    assert!(store.session(session.id).await.expect("read").expect("there").ended_at.is_some());
    assert_eq!(store.revocations(0, NOW, 10).await.expect("read").head, 1);
    assert!(store.next_delivery(account.id).await.expect("read").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_share_one_new_file() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("auth.db");
        let opening: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { SqliteStore::open(&path, 1, Migrations::Run).await })
            })
            .collect();
        for open in opening {
            open.await.expect("no panic").expect("opened").check().await.expect("answers");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_program_keeps_locked_is_away_until_it_lets_go() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("auth.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, 1, Migrations::Run).await.expect("opened"));
    let (account, session) = member(&store, "ada").await;
    let other = SqliteStore::open(&path, 1, Migrations::Run).await.expect("opened");
    let lock = other.writer.begin_with("BEGIN IMMEDIATE").await.expect("locked");
    let ended = store.end_session(account.id, session.id, NOW, NOW, &[]).await;
    assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
    assert!(store.session(session.id).await.expect("reads go on").expect("there").ended_at.is_none());
    lock.rollback().await.expect("released");
    store.end_session(account.id, session.id, NOW, NOW, &[]).await.expect("ended");
}

#[tokio::test]
async fn a_full_disk_is_away_until_somebody_makes_room() {
    let folder = tempfile::tempdir().expect("folder");
    let sqlite = Arc::new(SqliteStore::open(&folder.path().join("auth.db"), 1, Migrations::Run).await.expect("opened"));
    let store: Arc<dyn Store> = sqlite.clone();
    let (ada, first) = member(&store, "ada").await;
    let limit = |pages: u32| sqlx::query(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")));
    // SQLite takes at least as many as there are.
    limit(1).execute(&sqlite.writer).await.expect("set");
    let mut index = 0;
    let full = loop {
        index += 1;
        let attempt = account(&format!("member-{index}"));
        match store.create_account(&attempt, &session(attempt.id), &[]).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Unavailable(_)), "{full:?}");
    assert!(store.account(ada.id).await.expect("reads go on").is_some());
    limit(1_000_000).execute(&sqlite.writer).await.expect("set");
    store.end_session(ada.id, first.id, NOW, NOW, &[]).await.expect("ended");
    member(&store, &format!("member-{index}")).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_gets_one_sentence_and_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("auth.db");
    let text = "this is a letter, not a database. ".repeat(200);
    fs::write(&path, &text).expect("write");
    assert!(refused(&path).await.contains("damaged"));
    assert_eq!(fs::read_to_string(&path).expect("read"), text);
}

#[tokio::test]
async fn a_damaged_database_gets_one_sentence() {
    let (store, folder) = open().await;
    for index in 0..50 {
        member(&store, &format!("member-{index}")).await;
    }
    store.close().await;
    let path = folder.path().join("auth.db");
    let mut bytes = fs::read(&path).expect("read");
    let middle = bytes.len() / 4;
    let end = bytes.len() - middle;
    bytes[middle..end].fill(0xa5);
    fs::write(&path, bytes).expect("write");
    assert!(refused(&path).await.contains("damaged"));
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (store, folder) = open().await;
    store.close().await;
    let path = folder.path().join("auth.db");
    let newer = SqliteStore::open(&path, 1, Migrations::Run).await.expect("opened");
    sqlx::query(
        "INSERT INTO _auth_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&newer.writer)
    .await
    .expect("written");
    newer.close().await;
    assert!(refused(&path).await.contains("newer version"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_gets_one_sentence() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("write");
    assert!(refused(&file.join("auth.db")).await.contains("AUTH_STORE_URL"));
}

async fn open_url(url: &str, data: &Path) -> Result<Arc<dyn Store>, OpenError> {
    crate::store::open(&Secret::from(url), data, 1, &StoreLimits::default(), Migrations::Run).await
}

#[tokio::test]
async fn the_url_says_which_file_and_nothing_else_is_taken() {
    let data = tempfile::tempdir().expect("folder");
    let elsewhere = data.path().join("elsewhere.db");
    for (url, path) in [
        (String::new(), data.path().join("auth.db")),
        (format!("sqlite:{}", elsewhere.display()), elsewhere.clone()),
        (format!("sqlite://{}", elsewhere.display()), elsewhere),
    ] {
        open_url(&url, data.path()).await.expect("opened").close().await;
        assert!(path.exists(), "{url}");
    }
    for url in ["mysql://x", "sqlite:", "sqlite::memory:", "sqlite://x?mode=ro", "auth.db"] {
        assert!(open_url(url, data.path()).await.is_err(), "{url}");
    }
}

#[tokio::test]
async fn a_store_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("first.db");
    let step = include_str!("../../../migrations/sqlite/0001_accounts.sql");
    let sha384 = "3620aa1ace4b887baf3388d5f54558f9c8436b3748427fffc2425e925b48c9e1c37ddb642364b8df6b559454af26935b";
    mesh_sqlite::testing::first(&path, "_auth_migrations", step, sha384, include_str!("first.sql")).await;
    let store = SqliteStore::open(&path, 1, Migrations::Run).await.expect("opened");
    let id = crate::account::UserId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000001"));
    let account = store.credentials_by_id(id).await.expect("read").expect("there");
    assert_eq!((account.account.username.as_str(), &*account.password_hash), ("Ada", "hash"));
    let session = SessionId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000002"));
    let session = store.session(session).await.expect("read").expect("there");
    // What later steps have added says what was so before them.
    assert_eq!((session.user_id, session.authenticated_at, session.amr.len()), (id, session.created_at, 1));
    let revoked = store.revocations(0, NOW, 10).await.expect("read");
    assert_eq!((revoked.head, revoked.revocations.len()), (7, 1));
    assert_eq!(store.next_delivery(id).await.expect("read").expect("there").version, 2);
}
