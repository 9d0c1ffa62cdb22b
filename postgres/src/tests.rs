//! Opening: what a person meets who names a server that is not good, and what every connection is set to. Servers that
//! fail in the middle are in `tests/faults.rs`. The "service" here keeps notes.

use std::{path::Path, sync::Arc};

use mesh::config::StoreLimits;
use mesh::migration::Migrations;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::{
    CallError, Calls, OpenError, Server, Service, errors, run,
    testing::{LIMITS, LONG, Schema, with},
};

mod faults;

pub(crate) fn service() -> Service {
    Service {
        name: "note-svc",
        store: "note store",
        setting: "note.store_url",
        variable: "NOTE_STORE_URL",
        migrations_table: "_note_migrations",
        migrator: sqlx::migrate!("src/tests/migrations"),
        settings: &[("jit", "off")],
    }
}

async fn open_with(schema: &Schema, url: &str, limits: &StoreLimits) -> Result<Calls, OpenError> {
    let server: Server = schema.open(url, service(), limits).await?;
    Ok(Calls::new(server.pool(limits.connections_max), limits.call()))
}

async fn open(schema: &Schema) -> Calls {
    open_with(schema, &schema.url, &LIMITS).await.expect("opened")
}

async fn insert(db: &mut PgConnection, id: i64, text: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO notes (id, text) VALUES ($1, $2)").bind(id).bind(text).execute(db).await.map(drop)
}

async fn count(db: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(db).await
}

async fn write(calls: &Calls, id: i64) -> Result<(), CallError> {
    run!(calls, transaction, db => insert(db, id, &id.to_string()))
}

async fn read(calls: &Calls) -> Result<i64, CallError> {
    run!(calls, statement, db => count(db))
}

async fn refused(schema: &Schema, url: &str) -> String {
    let error = open_with(schema, url, &LIMITS).await.expect_err("refused").to_string();
    assert!(!error.contains('\n') && !error.contains("hunter2"), "one sentence without the password: {error}");
    error
}

#[tokio::test]
async fn what_is_written_is_there_after_a_restart() {
    let Some(schema) = Schema::new() else { return };
    let calls = open(&schema).await;
    write(&calls, 1).await.expect("written");
    calls.close().await;
    assert!(matches!(read(&calls).await, Err(CallError::Away(_))), "a closed store answers");
    assert_eq!(read(&open(&schema).await).await.expect("read"), 1);
}

#[tokio::test]
async fn a_failed_transaction_leaves_nothing_and_names_the_constraint() {
    let Some(schema) = Schema::new() else { return };
    let calls = open(&schema).await;
    write(&calls, 1).await.expect("written");
    let twice: Result<(), CallError> = run!(calls, transaction, db => async {
        insert(db, 2, "2").await?;
        insert(db, 3, "1").await
    });
    let Err(CallError::Broken(error)) = twice else { panic!("{twice:?}") };
    assert!(errors::breaks(&error, "notes_text_key") && !errors::breaks(&error, "notes_pkey"), "{error}");
    // Work may also turn the error into an outcome; nothing of it stays.
    let outcome = run!(calls, transaction, db => async {
        insert(db, 2, "2").await?;
        Ok(insert(db, 3, "1").await.is_err_and(|error| errors::breaks(&error, "notes_text_key")))
    });
    assert!(outcome.expect("an outcome"));
    assert_eq!(read(&calls).await.expect("read"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_make_the_tables_once() {
    for _ in 0..5 {
        let Some(schema) = Schema::new() else { return };
        let schema = Arc::new(schema);
        let opening: Vec<_> = (0..4)
            .map(|_| {
                let schema = schema.clone();
                tokio::spawn(async move { open(&schema).await })
            })
            .collect();
        for open in opening {
            read(&open.await.expect("opened")).await.expect("answers");
        }
    }
}

#[tokio::test]
async fn all_is_in_the_schema_and_the_settings_hold_whatever_the_url_says() {
    let Some(schema) = Schema::new() else { return };
    let url = with(&schema.url, "options=-csearch_path=public");
    let calls = open_with(&schema, &url, &LIMITS).await.expect("opened");
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY tablename")
            .bind(&schema.name)
            .fetch_all(&mut schema.connect().await)
            .await
            .expect("read");
    assert_eq!(tables, ["_note_migrations", "notes"]);
    for (name, expected) in [
        ("search_path", &*format!("\"{}\"", schema.name)),
        ("statement_timeout", "20s"),
        ("idle_in_transaction_session_timeout", "20s"),
        ("synchronous_commit", "on"),
        ("jit", "off"),
        ("application_name", "note-svc"),
    ] {
        assert_eq!(setting(&calls, name).await, expected, "{name}");
    }
}

async fn setting(calls: &Calls, name: &str) -> String {
    let mut connection = calls.pool().acquire().await.expect("a connection");
    sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(&mut *connection).await.expect("read")
}

#[tokio::test]
async fn a_server_that_does_not_sync_its_commits_is_refused() {
    let Some(schema) = Schema::new() else { return };
    let url = with(&schema.url, "options=-csynchronous_commit=off");
    assert!(refused(&schema, &url).await.contains("synchronous_commit=off"));
    let made: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(&schema.name)
        .fetch_one(&mut schema.connect().await)
        .await
        .expect("read");
    assert!(!made, "something was made on it");
}

#[tokio::test]
async fn commits_are_synced_also_when_the_server_is_told_otherwise_later() {
    let Some(schema) = Schema::new() else { return };
    open(&schema).await.close().await;
    let url = schema.user_url().await;
    let calls = open_with(&schema, &url, &LIMITS).await.expect("opened");
    let unsafely = format!("ALTER ROLE {} SET synchronous_commit = off", schema.user());
    schema.connect().await.execute(AssertSqlSafe(unsafely)).await.expect("altered");
    assert!(refused(&schema, &url).await.contains("synchronous_commit=off"));
    // The running one keeps its word, on a connection that is made now.
    assert_eq!(setting(&calls, "synchronous_commit").await, "on");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let Some(schema) = Schema::new() else { return };
    open(&schema).await.close().await;
    let mut beside = schema.connect().await;
    let newer = "INSERT INTO _note_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'from the future', TRUE, '', 0)";
    beside.execute(newer).await.expect("written");
    assert!(refused(&schema, &schema.url).await.contains("newer version of note-svc"));
    beside.execute("DELETE FROM _note_migrations WHERE version = 9999").await.expect("written");
    open(&schema).await;
    beside.execute("UPDATE _note_migrations SET checksum = '\\x00'").await.expect("written");
    assert!(refused(&schema, &schema.url).await.contains("other tables"));
}

#[tokio::test]
async fn a_user_who_may_not_change_tables_can_run_the_service() {
    let Some(schema) = Schema::new() else { return };
    open(&schema).await.close().await;
    let calls = open_with(&schema, &schema.user_url().await, &LIMITS).await.expect("opened");
    write(&calls, 1).await.expect("written");
}

#[tokio::test]
async fn a_database_and_a_user_that_do_not_exist_get_one_sentence_at_once() {
    let Some(schema) = Schema::new() else { return };
    let patient = StoreLimits { start_secs: 3_600, ..LIMITS };
    for parameter in ["dbname=no_such_database", "user=no_such_user&password=hunter2"] {
        let url = with(&schema.url, parameter);
        let opening = tokio::time::timeout(LONG, open_with(&schema, &url, &patient));
        let error = opening.await.expect("at once").expect_err("refused").to_string();
        assert!(error.contains("NOTE_STORE_URL") && error.contains("note store") && !error.contains('\n'), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn urls_as_people_write_them_are_understood() {
    let service = service();
    let parsed = |url: &str| crate::address::parse(url, &service).unwrap_or_else(|error| panic!("{url}: {error}"));
    for (url, host, port, user, database) in [
        ("postgres://app:secret@db.example/app", "db.example", 5432, "app", "app"),
        ("postgresql://app:p%40ss%2Fword@db.example:6432/app?sslmode=require", "db.example", 6432, "app", "app"),
        (
            "postgresql://app:secret@ep-x.example/neon?sslmode=require&channel_binding=require",
            "ep-x.example",
            5432,
            "app",
            "neon",
        ),
        ("postgres://app@10.0.0.7:5433/app?application_name=chat", "10.0.0.7", 5433, "app", "app"),
        ("postgres://db.example/app?user=other", "db.example", 5432, "other", "app"),
    ] {
        let options = parsed(url);
        assert_eq!(
            (options.get_host(), options.get_port(), options.get_username(), options.get_database()),
            (host, port, user, Some(database)),
            "{url}"
        );
    }
    for url in ["postgresql:///app?host=/run/postgresql", "postgres://%2Frun%2Fpostgresql/app"] {
        let options = parsed(url);
        assert_eq!(options.get_socket().map(|path| path.as_path()), Some(Path::new("/run/postgresql")), "{url}");
        assert_eq!(options.get_database(), Some("app"), "{url}");
    }
    let sslmode = |url: &str| format!("{:?}", parsed(url).get_ssl_mode());
    assert_eq!(sslmode("postgres://db/app?sslmode=require"), "Require");
    assert_eq!(sslmode("postgres://db/app?sslmode=verify-full"), "VerifyFull");
}

/// No server is asked, so this needs none.
#[tokio::test]
async fn a_url_that_is_not_good_gets_one_sentence_without_its_password() {
    for url in [
        "postgres://me:hunter2@host:port/db",
        "postgres://me:hunter2#@host/db",
        "postgres://me:hunter2@@host/db",
        "postgres://me:1/hunter2@host/db",
        "postgres://me:hunter2@[host/db",
        "postgresql://me:hunter2@host/db?sslmode=sometimes",
    ] {
        let opened = Server::open(&url.into(), "notes", service(), &LIMITS, Migrations::Run).await;
        let error = opened.expect_err(url).to_string();
        assert!(error.contains("note.store_url") && error.contains("%40"), "{error}");
        assert!(!error.contains('\n') && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn parameters_that_only_libpq_knows_are_passed_over() {
    let Some(schema) = Schema::new() else { return };
    let url = with(&schema.url, "channel_binding=prefer&target_session_attrs=read-write&connect_timeout=5");
    let url = url.replacen("postgres:", "postgresql:", 1);
    open_with(&schema, &url, &LIMITS).await.expect("opened");
}

#[tokio::test]
async fn debug_output_shows_no_password() {
    let Some(schema) = Schema::new() else { return };
    open(&schema).await.close().await;
    let url = schema.user_url().await;
    let server = schema.open(&url, service(), &LIMITS).await.expect("opened");
    let calls = Calls::new(server.pool(1), LIMITS.call());
    read(&calls).await.expect("read");
    let shown = format!("{server:?} {calls:?} {:?}", calls.pool().acquire().await.expect("a connection"));
    assert!(!shown.contains("hunter2") && shown.contains("connections_max"), "{shown}");
}
