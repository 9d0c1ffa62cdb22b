//! PostgreSQL alone: the contract, and what a person meets who names a server that is not good. Servers that fail in the
//! middle are in `tests/faults.rs`, plans in `tests/plans.rs`.

use std::sync::Arc;

use mesh::config::{Secret, StoreLimits};
use sqlx::{AssertSqlSafe, Executor as _};

use super::PostgresStore;
use crate::store::{
    End, Store,
    contract::{NOW, member, store_contract},
};

mod faults;
mod plans;
mod server;

use server::{LIMITS, LONG, Schema};

async fn backend() -> Option<(Arc<dyn Store>, Schema)> {
    let schema = Schema::new()?;
    Some((Arc::new(schema.open().await), schema))
}

store_contract!(backend);

async fn refused(schema: &Schema, url: &str) -> String {
    let error = schema.open_with(url, &LIMITS).await.expect_err("refused").to_string();
    assert!(!error.contains('\n') && !error.contains("hunter2"), "one sentence without the password: {error}");
    error
}

/// The URL with another parameter.
fn with(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let Some(schema) = Schema::new() else { return };
    let store: Arc<dyn Store> = Arc::new(schema.open().await);
    let (account, session) = member(&store, "ada").await;
    store.end_session(account.id, session.id, NOW, NOW).await.expect("ended");
    store.close().await;
    assert!(store.check().await.is_err(), "a closed store answers");
    let store = schema.open().await;
    store.check().await.expect("answers");
    assert!(store.account(account.id).await.expect("read").is_some());
    assert!(store.session(session.id).await.expect("read").expect("there").ended_at.is_some());
    assert_eq!(store.revocations(0, NOW, 10).await.expect("read").head, 1);
    assert!(store.next_delivery(account.id).await.expect("read").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_make_the_tables_once() {
    for _ in 0..5 {
        let Some(schema) = Schema::new() else { return };
        let schema = Arc::new(schema);
        let opening: Vec<_> = (0..4)
            .map(|_| {
                let schema = schema.clone();
                tokio::spawn(async move { schema.open().await })
            })
            .collect();
        for open in opening {
            open.await.expect("opened").check().await.expect("answers");
        }
    }
}

#[tokio::test]
async fn all_tables_are_in_the_schema_and_the_settings_hold_on_each_connection() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open_with(&with(&schema.url, "options=-csearch_path=public"), &LIMITS).await.expect("opened");
    let mut beside = schema.connect().await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY tablename")
            .bind(&schema.name)
            .fetch_all(&mut beside)
            .await
            .expect("read");
    let expected =
        ["_auth_migrations", "accounts", "outbox", "revocation_head", "revocations", "sessions", "spent_ws_tokens"];
    assert_eq!(tables, expected);
    let settings: (String, String, String, String) = sqlx::query_as(
        "SELECT current_setting('search_path'), current_setting('statement_timeout'),
                current_setting('idle_in_transaction_session_timeout'), current_setting('synchronous_commit')",
    )
    .fetch_one(store.calls.pool())
    .await
    .expect("read");
    let expected = (format!("\"{}\"", schema.name), "20s".to_owned(), "20s".to_owned(), "on".to_owned());
    assert_eq!(settings, expected);
}

#[tokio::test]
async fn a_server_that_does_not_sync_its_commits_is_refused() {
    let Some(schema) = Schema::new() else { return };
    let url = with(&schema.url, "options=-csynchronous_commit=off");
    assert!(refused(&schema, &url).await.contains("synchronous_commit=off"));
    let mut beside = schema.connect().await;
    let made: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(&schema.name)
        .fetch_one(&mut beside)
        .await
        .expect("read");
    assert!(!made, "nothing was made on it");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let Some(schema) = Schema::new() else { return };
    schema.open().await.close().await;
    let mut beside = schema.connect().await;
    beside
        .execute(
            "INSERT INTO _auth_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', TRUE, '', 0)",
        )
        .await
        .expect("written");
    assert!(refused(&schema, &schema.url).await.contains("newer version"));
    beside.execute("UPDATE _auth_migrations SET version = 0 WHERE version = 9999").await.expect("written");
    assert!(refused(&schema, &schema.url).await.contains("newer version"), "an unknown step is not ours");
    beside.execute("DELETE FROM _auth_migrations WHERE version = 0").await.expect("written");
    beside.execute("UPDATE _auth_migrations SET checksum = '\\x00'").await.expect("written");
    assert!(refused(&schema, &schema.url).await.contains("other tables"));
}

#[tokio::test]
async fn a_database_and_a_user_that_do_not_exist_get_one_sentence_at_once() {
    let Some(schema) = Schema::new() else { return };
    let patient = StoreLimits { start_secs: 3_600, ..LIMITS };
    for parameter in ["dbname=no_such_database", "user=no_such_user&password=hunter2"] {
        let url = with(&schema.url, parameter);
        let opening = schema.open_with(&url, &patient);
        let error = tokio::time::timeout(LONG, opening).await.expect("at once").expect_err("refused").to_string();
        assert!(error.contains("AUTH_STORE_URL") && error.contains("no_such"), "{error}");
        assert!(!error.contains('\n') && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_url_that_is_not_good_gets_one_sentence_without_its_password() {
    // No server is asked, so this needs none.
    for url in [
        "postgres://me:hunter2@host:port/db",
        "postgres://me:hunter2#@host/db",
        "postgres://me:hunter2@@host/db",
        "postgres://me:1/hunter2@host/db",
        "postgres://me:hunter2@[host/db",
        "postgresql://me:hunter2@host/db?sslmode=sometimes",
    ] {
        let data = std::path::Path::new("unused");
        let opened = crate::store::open(&Secret::from(url), data, 1, &LIMITS).await;
        let error = opened.expect_err(url).to_string();
        assert!(error.contains("auth.store_url") && error.contains("%40"), "{error}");
        assert!(!error.contains('\n') && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn parameters_that_only_libpq_knows_are_passed_over() {
    let Some(schema) = Schema::new() else { return };
    let url = with(&schema.url, "channel_binding=prefer&target_session_attrs=read-write&connect_timeout=5");
    schema.open_with(&url.replace("postgres://", "postgresql://"), &LIMITS).await.expect("opened");
}

#[tokio::test]
async fn a_user_who_may_not_change_tables_can_run_the_service() {
    let Some(schema) = Schema::new() else { return };
    schema.open().await.close().await;
    let mut beside = schema.connect().await;
    let (name, user) = (&schema.name, format!("{}_user", schema.name));
    let grants = format!(
        "CREATE ROLE {user} LOGIN PASSWORD 'hunter2'; GRANT USAGE ON SCHEMA {name} TO {user};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {user}"
    );
    beside.execute(AssertSqlSafe(grants)).await.expect("granted");
    let url = with(&schema.url, &format!("user={user}&password=hunter2"));
    let opened = schema.open_with(&url, &LIMITS).await;
    let made = match &opened {
        Ok(store) => store.check().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    drop(opened);
    beside.execute(AssertSqlSafe(format!("DROP OWNED BY {user}; DROP ROLE {user}"))).await.expect("dropped");
    made.expect("it runs");
}

/// Who holds the highest number and has not committed holds up those after it: no reader sees 2 before 1.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_waits_for_the_one_before_it() {
    let Some(schema) = Schema::new() else { return };
    let store: Arc<dyn Store> = Arc::new(schema.open().await);
    let (account, session) = member(&store, "ada").await;
    let mut first = schema.connect().await;
    first
        .execute(
            "BEGIN; UPDATE revocation_head SET number = number + 1;
             INSERT INTO revocations VALUES (1, gen_random_uuid(), 9000000000000)",
        )
        .await
        .expect("the first has its number");
    let second = tokio::spawn({
        let store = store.clone();
        async move { store.end_session(account.id, session.id, NOW, NOW).await.expect("ended") }
    });
    let mut beside = schema.connect().await;
    waits(&mut beside, &schema).await;
    assert!(!second.is_finished());
    assert_eq!(store.revocations(0, NOW, 10).await.expect("read").head, 0);
    first.execute("COMMIT").await.expect("committed");
    assert_eq!(second.await.expect("no panic"), End::Ended(2));
    let page = store.revocations(0, NOW, 10).await.expect("read");
    assert_eq!((page.head, page.revocations.len()), (2, 2));
}

/// Waits until a statement on this schema waits for a lock.
async fn waits(beside: &mut sqlx::PgConnection, schema: &Schema) {
    let waiting = async {
        loop {
            let waiting: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM pg_stat_activity AS one JOIN pg_locks AS held ON held.pid = one.pid
                                JOIN pg_class AS of ON of.oid = held.relation
                                WHERE one.wait_event_type = 'Lock' AND of.relnamespace::regnamespace::text = $1)",
            )
            .bind(&schema.name)
            .fetch_one(&mut *beside)
            .await
            .expect("read");
            if waiting {
                break;
            }
        }
    };
    tokio::time::timeout(LONG, waiting).await.expect("a statement waits");
}

#[tokio::test]
async fn debug_output_shows_no_url() {
    let Some(schema) = Schema::new() else { return };
    let store: PostgresStore = schema.open().await;
    let shown = format!("{store:?}");
    assert!(!shown.contains("postgres://") && !shown.contains("password: Some"), "{shown}");
}
