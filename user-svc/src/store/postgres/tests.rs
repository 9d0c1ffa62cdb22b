//! The contract on PostgreSQL, and what is PostgreSQL's own: the URL, the plans, a row that cannot be. How calls end when
//! the server fails is tested in `mesh-postgres`.

use std::{path::Path, sync::Arc};

use mesh::{
    config::{Secret, StoreLimits},
    migration::Migrations,
    time::Millis,
};
use mesh_postgres::testing::{LIMITS, Schema, prepared};
use sqlx::Executor as _;
use uuid::Uuid;

use super::{PostgresStore, server};
use crate::{
    profile::{Change, NewProfile, Rename, UserId},
    store::{self, OpenError, Store, StoreError, contract},
};

contract::on_backend!(fresh());

async fn fresh() -> Option<(Arc<dyn Store>, Schema)> {
    let schema = Schema::new()?;
    Some((Arc::new(open(&schema, &LIMITS).await), schema))
}

async fn opened(schema: &Schema, limits: &StoreLimits) -> Result<PostgresStore, OpenError> {
    Ok(PostgresStore::on(&server(&schema.secret(), &schema.name, limits, Migrations::Run).await?, limits))
}

async fn open(schema: &Schema, limits: &StoreLimits) -> PostgresStore {
    opened(schema, limits).await.expect("opened")
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
async fn what_was_saved_is_there_after_a_restart() {
    let Some((store, schema)) = fresh().await else { return };
    let ada = new("ada");
    let made = store.create(&ada, Millis(1)).await.expect("made");
    store.close().await;
    assert_eq!(open(&schema, &LIMITS).await.profiles(&[ada.id]).await.expect("answered"), [made]);
}

/// No server is asked, so this needs none.
#[tokio::test]
async fn both_schemes_name_this_store_and_a_bad_url_gets_one_sentence_without_its_password() {
    for url in ["postgres://me:hunter2#@host/db", "postgresql://me:hunter2@host:port/db"] {
        let opened = store::open(&Secret::from(url), Path::new("unused"), 1, &LIMITS, Migrations::Run).await;
        let sentence = opened.expect_err(url).to_string();
        assert!(sentence.contains("user.store_url") && !sentence.contains("hunter2"), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_is_a_broken_store_and_no_panic() {
    let Some((store, schema)) = fresh().await else { return };
    let ada = new("ada");
    store.create(&ada, Millis(1)).await.expect("made");
    schema.connect().await.execute("UPDATE people SET preferences = '[1'").await.expect("written");
    let error = store.own(ada.id).await.expect_err("broken");
    assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
    // Others do not need what is broken.
    assert_eq!(store.profiles(&[ada.id]).await.expect("answered").len(), 1);
}

/// Enough that the planner prefers an index to reading all of them.
const FILL: &str = "
    INSERT INTO people (id, username, username_version, first_name, last_name, created_at, updated_at)
    SELECT gen_random_uuid(), 'name-' || n, 1, 'Ada', 'Lovelace', n, n FROM generate_series(1, 10000) AS n;
    ANALYZE people";

#[tokio::test]
async fn no_statement_reads_the_whole_table() {
    let Some(schema) = Schema::new() else { return };
    // One connection, so that all is prepared on it.
    let store = open(&schema, &StoreLimits { connections_max: 1, ..LIMITS }).await;
    schema.connect().await.execute(FILL).await.expect("filled");
    let ada = new("ada");
    for _ in 0..2 {
        store.create(&ada, Millis(1)).await.expect("made");
    }
    let rename = Rename { id: ada.id, username: "countess".into(), username_version: 2 };
    store.rename(&rename, Millis(1)).await.expect("renamed");
    store.profiles(&[ada.id]).await.expect("answered");
    store.own(ada.id).await.expect("answered");
    store.update(ada.id, &Change::default(), Millis(1)).await.expect("answered");
    store.erase(ada.id, Millis(2)).await.expect("erased");
    let statements = prepared(&mut store.calls.pool().acquire().await.expect("the connection")).await;
    assert_eq!(statements.len(), 7, "{statements:?}");
    for one in statements {
        let scans = one.scans(&[]);
        assert!(scans.is_empty(), "{scans:?} by {}", one.statement);
    }
}

#[tokio::test]
async fn a_store_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds() {
    let Some(schema) = Schema::new() else { return };
    let step = include_str!("../../../migrations/postgres/0001_people.sql");
    let sha384 = "d78bc261ee9f9e1dd4255cf77ceefdb9c5a40cb1a4dd7d93a187155e6d099d0fcad04d9a884f5446e433442f94067a07";
    schema.first("_user_migrations", step, sha384, include_str!("first.sql")).await;
    let store = open(&schema, &LIMITS).await;
    let id = UserId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000001"));
    let own = store.own(id).await.expect("read").expect("there");
    assert_eq!((&*own.profile.username, &*own.profile.bio, own.preferences.len()), ("Ada", "bio", 1));
}
