//! The plans of all statements: each finds what it needs through an index by its key, on tables that the server has
//! never looked at as on large ones, and no list is sorted.

use mesh_postgres::testing::prepared;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::*;
use crate::store::postgres::{append, log, rooms};

/// The statements, and whether each lists in an index's order.
const STATEMENTS: &[(&str, bool)] = &[
    (append::ENTRIES, false),
    (append::ENTRIES_AND_PROJECTION, false),
    (append::DISPLACED, false),
    (append::ROOM, false),
    (log::ENTRIES_AFTER, true),
    (log::SENT, false),
    (log::SENT_BY, true),
    (log::REWRITE, false),
    (rooms::ROOMS_KNOWN_TO, true),
    (log::MESSAGES, true),
    (log::MESSAGES_THROUGH, true),
    (log::HEADS, false),
    (rooms::LOAD, false),
    (rooms::VIEW, false),
    (rooms::ROOMS_AFTER, true),
    (rooms::ROOMS_OF, true),
    (rooms::PUBLIC_ROOMS, true),
    (rooms::MEMBERS, true),
    (rooms::SHOWN_MEMBERS, false),
    (rooms::IS_WRITABLE, false),
];

/// Rooms with logs and members, enough that a scan is the last thing that a planner should want.
const MANY: &str = "
    INSERT INTO rooms SELECT md5('r' || n)::uuid, gen_random_uuid(), 1, 'n' || n, 'n' || n, '', NULL, 0, 0, NULL, 1
    FROM generate_series(1, 5000) AS n;
    INSERT INTO members SELECT md5('r' || n)::uuid, md5('u' || n % 500 || '.' || m)::uuid, 1, m, n
    FROM generate_series(1, 5000) AS n, generate_series(1, 10) AS m;
    INSERT INTO entries SELECT md5('r' || n)::uuid, m, gen_random_uuid(), 1, m, 0, md5('u' || m)::uuid, 'c' || m, '{}'
    FROM generate_series(1, 5000) AS n, generate_series(1, 20) AS m;
    ANALYZE rooms, members, entries";

async fn prepare(connection: &mut PgConnection) {
    for (n, (sql, _)) in STATEMENTS.iter().enumerate() {
        connection.execute(AssertSqlSafe(format!("PREPARE statement_{n} AS {sql}"))).await.expect(sql);
    }
}

async fn check(connection: &mut PgConnection) {
    let prepared = prepared(connection).await;
    assert_eq!(prepared.len(), STATEMENTS.len());
    for one in prepared {
        let (_, in_order) = STATEMENTS.iter().find(|(sql, _)| one.statement.ends_with(sql)).expect("is one of them");
        let mut wrong = one.scans(&[]);
        if *in_order && one.plan.to_string().contains("Sort Key") {
            wrong.push("sorts".into());
        }
        assert!(wrong.is_empty(), "{}: {wrong:?}\n{:#}", one.statement, one.plan);
    }
}

#[tokio::test]
async fn no_statement_reads_more_than_it_needs() {
    let Some(schema) = Schema::new() else { return };
    let store = open(&schema).await;
    // A connection with the settings of all others.
    let mut connection = store.calls.pool().acquire().await.expect("connected");
    prepare(&mut connection).await;
    check(&mut connection).await;
    connection.execute(MANY).await.expect("filled");
    check(&mut connection).await;
    drop(connection);
    store.close().await;
}

#[tokio::test]
async fn the_planner_wants_the_same_where_it_may_scan() {
    let Some(schema) = Schema::new() else { return };
    open(&schema).await.close().await;
    let mut connection = schema.connect().await;
    connection.execute(MANY).await.expect("filled");
    prepare(&mut connection).await;
    check(&mut connection).await;
}

#[tokio::test]
async fn a_scan_is_seen() {
    let Some(schema) = Schema::new() else { return };
    let store = open(&schema).await;
    let mut connection = store.calls.pool().acquire().await.expect("connected");
    for sql in ["SELECT * FROM entries WHERE at > $1", "SELECT room_id FROM entries ORDER BY room_id, seq LIMIT $1"] {
        connection.execute(AssertSqlSafe(format!("PREPARE scan AS {sql}"))).await.expect("prepared");
        assert!(!prepared(&mut connection).await[0].scans(&[]).is_empty(), "{sql}");
        connection.execute("DEALLOCATE scan").await.expect("forgotten");
    }
    drop(connection);
    store.close().await;
}
