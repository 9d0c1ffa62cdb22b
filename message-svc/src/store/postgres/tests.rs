//! PostgreSQL against the contract of every store, and what is PostgreSQL's own: opening, and commits that several rooms
//! share. Servers that fail in the middle are in `tests/faults.rs`, plans in `tests/plans.rs`.

use std::{path::Path, sync::Arc};

use futures::future::join_all;
use mesh::migration::Migrations;
use mesh_postgres::testing::{Schema, with};
use sqlx::Executor as _;

use crate::{
    config::MessageSection,
    room::RoomType,
    store::{Created, contract::contract_suite},
    testing::{message, message_entry, new_room, user, whole_log},
};

use super::*;

mod faults;
mod model;
mod plans;
mod proxy;
mod server;

use server::{open, open_with, patient};

async fn postgres() -> Option<(Arc<dyn Store>, Schema)> {
    let schema = Schema::new()?;
    Some((Arc::new(open(&schema).await), schema))
}

contract_suite!(postgres);

/// A public room.
async fn room(store: &dyn Store) -> RoomId {
    let room = new_room(RoomType::Public, "room", user());
    assert_eq!(store.create_room(&room).await.expect("made"), Created::New);
    room.meta.id
}

async fn refused(schema: &Schema, url: &str) -> String {
    let opened = open_with(schema, url, &patient()).await;
    let error = opened.err().expect("refused").to_string();
    assert!(!error.contains('\n') && !error.contains("hunter2"), "one sentence without the password: {error}");
    error
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let Some(schema) = Schema::new() else { return };
    let store = open(&schema).await;
    let room = room(&store).await;
    let entry = message_entry(room, 1, 1, message(user(), "a", "x"));
    store.append([entry.clone()].into()).await.expect("written");
    store.close().await;
    assert!(store.append([entry.clone()].into()).await.is_err(), "a closed store takes nothing");
    assert!(store.check().await.is_err(), "and is not ready");
    let store = open(&schema).await;
    assert_eq!(whole_log(&store, room).await, [entry]);
    store.check().await.expect("works");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_make_the_tables_once() {
    for _ in 0..5 {
        let Some(schema) = Schema::new() else { return };
        let opened = join_all((0..4).map(|_| open(&schema))).await;
        for store in opened {
            store.check().await.expect("works");
            store.close().await;
        }
    }
}

#[tokio::test]
async fn all_tables_are_in_the_schema_and_the_settings_hold_on_each_connection() {
    let Some(schema) = Schema::new() else { return };
    let store =
        open_with(&schema, &with(&schema.url, "options=-csearch_path=public"), &patient()).await.expect("opens");
    let mut beside = schema.connect().await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY tablename")
            .bind(&schema.name)
            .fetch_all(&mut beside)
            .await
            .expect("read");
    assert_eq!(tables, ["_message_migrations", "entries", "members", "rooms", "visits"]);
    let mut connection = store.calls.pool().acquire().await.expect("connected");
    let settings: (String, String, String, String) = sqlx::query_as(
        "SELECT current_setting('search_path'), current_setting('statement_timeout'),
                current_setting('plan_cache_mode'), current_setting('synchronous_commit')",
    )
    .fetch_one(&mut *connection)
    .await
    .expect("read");
    let expected = (format!("\"{}\"", schema.name), "40s".into(), "force_generic_plan".into(), "on".into());
    assert_eq!(settings, expected);
    drop(connection);
    store.close().await;
}

#[tokio::test]
async fn a_server_that_does_not_sync_its_commits_is_refused() {
    let Some(schema) = Schema::new() else { return };
    let sentence = refused(&schema, &with(&schema.url, "options=-csynchronous_commit=off")).await;
    assert!(sentence.contains("message store") && sentence.contains("synchronous_commit=off"), "{sentence}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let Some(schema) = Schema::new() else { return };
    open(&schema).await.close().await;
    let mut beside = schema.connect().await;
    beside
        .execute(
            "INSERT INTO _message_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'later', true, '', 0)",
        )
        .await
        .expect("written");
    let sentence = refused(&schema, &schema.url).await;
    assert!(sentence.contains("newer version of message-svc"), "{sentence}");
}

#[tokio::test]
async fn a_url_that_is_not_good_gets_one_sentence_without_its_password() {
    // No server is asked, so this needs none.
    for url in ["postgres://me:hunter2@host:port/db", "postgresql://me:hunter2@@host/db"] {
        let config = MessageSection { store_url: Secret::from(url), ..MessageSection::default() };
        let error =
            crate::store::open(&config, Path::new("unused"), Migrations::Run).await.err().expect(url).to_string();
        assert!(error.contains("message.store_url") && error.contains("%40"), "{error}");
        assert!(!error.contains('\n') && !error.contains("hunter2"), "{error}");
    }
}

/// One writer, so that what waits together is written together.
async fn lone_writer(schema: &Schema) -> PostgresStore {
    open_with(schema, &schema.url, &PostgresConfig { writers_max: 1, ..patient() }).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_are_displaced_do_not_hold_up_the_others_whoever_wrote_and_when() {
    let Some(schema) = Schema::new() else { return };
    let (one, two) = (lone_writer(&schema).await, lone_writer(&schema).await);
    let mut rooms = Vec::new();
    for _ in 0..40 {
        rooms.push(room(&one).await);
    }
    let who = user();
    // Both write the same next entries of all rooms again and again: each time one of them gets a room, and only one.
    for seq in 1..=10 {
        let writes = rooms.iter().flat_map(|room| {
            [&one, &two].map(|store| {
                let entry = message_entry(*room, seq, seq, message(who, &format!("{seq}"), "x"));
                async move { store.append([entry].into()).await.expect("answers") }
            })
        });
        let outcomes = join_all(writes).await;
        for (room, pair) in outcomes.chunks(2).enumerate() {
            let done = pair.iter().filter(|outcome| **outcome == Outcome::Done).count();
            assert_eq!(done, 1, "room {room}, entry {seq}");
        }
    }
    for room in rooms {
        assert_eq!(whole_log(&two, room).await.len(), 10);
    }
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn two_batches_for_one_room_that_wait_together_are_judged_one_after_the_other() {
    let Some(schema) = Schema::new() else { return };
    let store = lone_writer(&schema).await;
    let (room, who) = (room(&store).await, user());
    let batch = |id: &str| -> Batch { [message_entry(room, 1, 1, message(who, id, id))].into() };
    let outcomes = join_all(["a", "b", "c"].map(|id| store.append(batch(id)))).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.expect("answers")).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count(), 1);
    assert_eq!(whole_log(&store, room).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn what_the_server_does_not_take_fails_alone() {
    let Some(schema) = Schema::new() else { return };
    let store = lone_writer(&schema).await;
    let mut rooms = Vec::new();
    for _ in 0..6 {
        rooms.push(room(&store).await);
    }
    let writes = rooms.iter().enumerate().map(|(n, room)| {
        // PostgreSQL has no text with this character; whoever calls keeps it out.
        let id = if n == 3 { "\0" } else { "a" };
        store.append([message_entry(*room, 1, 1, message(user(), id, "x"))].into())
    });
    for (n, outcome) in join_all(writes).await.into_iter().enumerate() {
        match outcome {
            Ok(outcome) => assert!(n != 3 && outcome == Outcome::Done),
            Err(error) => assert!(n == 3 && matches!(error, StoreError::Unavailable(_)), "{n}: {error:?}"),
        }
    }
    store.close().await;
}

#[tokio::test]
async fn closing_writes_what_waits() {
    let Some(schema) = Schema::new() else { return };
    let store = lone_writer(&schema).await;
    let mut rooms = Vec::new();
    for _ in 0..20 {
        rooms.push(room(&store).await);
    }
    let writes = rooms.iter().map(|room| store.append([message_entry(*room, 1, 1, message(user(), "a", "x"))].into()));
    let (written, ()) = tokio::join!(join_all(writes), store.close());
    assert!(written.into_iter().all(|outcome| outcome.is_ok_and(|outcome| outcome == Outcome::Done)));
}

#[tokio::test]
async fn a_write_that_waits_for_somebody_holds_up_no_other_room() {
    let Some(schema) = Schema::new() else { return };
    let store = Arc::new(open(&schema).await);
    let (held, free) = (room(&*store).await, room(&*store).await);
    // Somebody has the room's next entry and has not committed it.
    let mut beside = schema.connect().await;
    let take = format!("BEGIN; INSERT INTO entries VALUES ('{held}', 1, '{held}', 2, 0, 0, NULL, NULL, '{{}}')");
    beside.execute(sqlx::AssertSqlSafe(take)).await.expect("taken");
    let waiting = tokio::spawn({
        let (store, entry) = (Arc::clone(&store), message_entry(held, 1, 1, message(user(), "a", "x")));
        async move { store.append([entry].into()).await }
    });
    schema.until_waiting_is(true).await;
    for seq in 1..=3 {
        let entry = message_entry(free, seq, seq, message(user(), "a", "x"));
        assert_eq!(store.append([entry].into()).await.expect("written"), Outcome::Done);
    }
    assert!(!waiting.is_finished());
    beside.execute("ROLLBACK").await.expect("given back");
    assert_eq!(waiting.await.expect("no panic").expect("written"), Outcome::Done);
    store.close().await;
}

#[tokio::test]
async fn a_store_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds() {
    let Some(schema) = Schema::new() else { return };
    let step = include_str!("../../../migrations/postgres/0001_rooms.sql");
    let sha384 = "29e9904d7d2e7349c7d9eb8f523d0a172e1cf57dcec988c89ea080293ee0afba54978d3898d7541bf230d173baae5014";
    schema.first("_message_migrations", step, sha384, include_str!("first.sql")).await;
    let store = open(&schema).await;
    let room = RoomId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000004"));
    let state = store.load(room).await.expect("reads").expect("is there");
    assert_eq!((&*state.meta.name, state.members.len(), state.last_seq), ("Room", 1, 1));
    let log = crate::testing::whole_log(&store, room).await;
    assert_eq!(log[0].message().map(|message| &*message.content), Some("hello"));
    assert_eq!(
        store
            .rooms_of(UserId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000001")), None, 10)
            .await
            .expect("reads")
            .len(),
        1
    );
}
