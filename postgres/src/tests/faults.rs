//! A server that dies, freezes, is slow, or is not there yet: every call ends in time with an error that says to come
//! back, nothing is half done, and all is well again by itself.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh::config::StoreLimits;
use sqlx::Executor as _;
use tokio::time::timeout;

use super::{open, open_with, read, write};
use crate::{
    CallError, Calls,
    testing::{LIMITS, LONG, Mood, Proxy, Schema, with},
};

/// Calls that end soon, and few connections that could be lost to them.
const SHORT: StoreLimits = StoreLimits { connections_max: 2, connect_ms: 300, call_ms: 300, start_secs: 0 };

fn is_away<T: std::fmt::Debug>(answer: &Result<T, CallError>) -> bool {
    matches!(answer, Err(CallError::Away(_) | CallError::Late { .. }))
}

/// Asks until the store answers again.
async fn heals(calls: &Calls) {
    let healed = async {
        loop {
            let answer = read(calls).await;
            if answer.is_ok() {
                break;
            }
            assert!(is_away(&answer), "{answer:?}");
        }
    };
    timeout(LONG, healed).await.expect("the store heals by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_holds_no_call_and_no_connection_for_good() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::new(&schema.url);
    let calls = Arc::new(open_with(&schema, &proxy.url, &SHORT).await.expect("opened"));
    proxy.set(Mood::Frozen);
    // More than the pool has connections, reading and writing, at once and one after the other.
    for _ in 0..2 {
        let asked: Vec<_> = (0..6)
            .map(|id| {
                let calls = calls.clone();
                tokio::spawn(
                    async move { if id % 2 == 0 { read(&calls).await.map(drop) } else { write(&calls, id).await } },
                )
            })
            .collect();
        for call in asked {
            let answer = timeout(LONG, call).await.expect("it ends in time").expect("no panic");
            assert!(is_away(&answer), "{answer:?}");
        }
    }
    proxy.set(Mood::Open);
    heals(&calls).await;
}

/// As after a failover: what was asked of the machine that has gone is never answered, and nothing says so.
#[tokio::test]
async fn connections_to_a_machine_that_has_gone_are_given_up_with_their_calls() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::new(&schema.url);
    let limits = StoreLimits { connections_max: 1, ..LIMITS };
    let calls = open_with(&schema, &proxy.url, &limits).await.expect("opened");
    for _ in 0..5 {
        proxy.lose();
        // The first one in this loop has no connection yet, so it meets the new machine.
        drop(timeout(Duration::from_millis(50), read(&calls)).await);
        timeout(LONG, read(&calls)).await.expect("the only connection is a new one").expect("answered");
    }
}

#[tokio::test]
async fn an_idle_connection_that_died_is_noticed_before_it_is_lent() {
    let Some(schema) = Schema::new() else { return };
    let name = format!("idle-{}", &schema.name[5..20]);
    let proxy = Proxy::new(&schema.url);
    let url = with(&proxy.url, &format!("application_name={name}"));
    let calls = open_with(&schema, &url, &LIMITS).await.expect("opened");
    read(&calls).await.expect("read");
    proxy.lose();
    // Until it is older than what is lent without a look.
    let mut beside = schema.connect().await;
    let ageing = async {
        let is_old = "SELECT extract(epoch FROM clock_timestamp() - state_change) * 1000 > $2 FROM pg_stat_activity
                      WHERE application_name = $1";
        let fresh_ms = i32::try_from(crate::open::FRESH.as_millis()).expect("a second") + 100;
        while !sqlx::query_scalar::<_, bool>(is_old)
            .bind(&name)
            .bind(fresh_ms)
            .fetch_one(&mut beside)
            .await
            .expect("read")
        {}
    };
    timeout(LONG, ageing).await.expect("it grows old");
    timeout(LONG, read(&calls)).await.expect("in time").expect("answered by a new connection");
}

#[tokio::test]
async fn a_cut_connection_is_replaced_within_the_call() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::new(&schema.url);
    let calls = open_with(&schema, &proxy.url, &LIMITS).await.expect("opened");
    for id in 0..5 {
        write(&calls, id).await.expect("written");
        proxy.set(Mood::Cut);
        proxy.settle().await;
        proxy.set(Mood::Open);
    }
    assert_eq!(read(&calls).await.expect("read"), 5);
}

#[tokio::test]
async fn a_server_that_ends_its_connections_is_met_again_within_the_call() {
    let Some(schema) = Schema::new() else { return };
    let name = format!("terminated-{}", &schema.name[5..20]);
    let calls = open_with(&schema, &with(&schema.url, &format!("application_name={name}")), &LIMITS).await;
    let calls = calls.expect("opened");
    let mut beside = schema.connect().await;
    for id in 0..3 {
        write(&calls, id).await.expect("written");
        // What a restart does to every connection.
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1")
            .bind(&name)
            .execute(&mut beside)
            .await
            .expect("ended");
        assert_eq!(read(&calls).await.expect("answered by a new connection"), id + 1);
    }
}

/// Writes while the proxy is in this mood; the answer, and how many notes there are then.
async fn write_in(mood: Mood) -> Option<(Result<(), CallError>, i64)> {
    let schema = Schema::new()?;
    let proxy = Proxy::new(&schema.url);
    let calls = open_with(&schema, &proxy.url, &LIMITS).await.expect("opened");
    proxy.set(mood);
    let answer = write(&calls, 1).await;
    proxy.set(Mood::Open);
    // Whoever writes the same now waits for what may still be on its way, and breaks on it or not.
    let again = write(&calls, 1).await;
    assert_eq!(matches!(again, Err(CallError::Broken(_))), mood == Mood::CutAfterCommit, "{again:?}");
    Some((answer, read(&calls).await.expect("read")))
}

#[tokio::test]
async fn a_write_whose_commit_never_arrived_did_not_happen_and_is_not_made_behind_the_callers_back() {
    let Some((answer, notes)) = write_in(Mood::CutBeforeCommit).await else { return };
    assert!(is_away(&answer), "{answer:?}");
    assert_eq!(notes, 1, "the second one alone");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_reported_as_such_and_never_made_twice() {
    let Some((answer, notes)) = write_in(Mood::CutAfterCommit).await else { return };
    assert!(is_away(&answer), "{answer:?}");
    assert_eq!(notes, 1, "the first one alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_keeps_ends_the_call_and_its_statement() {
    let Some(schema) = Schema::new() else { return };
    let calls = open_with(&schema, &schema.url, &SHORT).await.expect("opened");
    let mut holder = schema.connect().await;
    holder.execute("BEGIN; LOCK TABLE notes").await.expect("locked");
    for id in 0..3 {
        let written = write(&calls, id).await;
        assert!(is_away(&written), "{written:?}");
        assert!(is_away(&read(&calls).await));
    }
    // Nobody is left waiting in the server for those who have gone.
    schema.until_waiting_is(false).await;
    holder.execute("ROLLBACK").await.expect("released");
    assert_eq!(read(&calls).await.expect("read"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_in_the_middle_of_a_transaction_does_not_keep_its_locks() {
    let Some(schema) = Schema::new() else { return };
    let calls = open(&schema).await;
    let stopped = open_with(&schema, &schema.url, &SHORT).await.expect("opened");
    // As that process would leave it when it is paused: a transaction with a lock, and silence.
    let mut silent = stopped.pool().acquire().await.expect("a connection");
    silent.execute("BEGIN; INSERT INTO notes VALUES (1, '1')").await.expect("locked");
    write(&calls, 1).await.expect("the server ends the silent one");
    silent.execute("COMMIT").await.expect_err("the connection is over");
    assert_eq!(read(&calls).await.expect("read"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_wait_for_each_other_are_both_done_in_the_end() {
    let Some(schema) = Schema::new() else { return };
    let calls = Arc::new(open(&schema).await);
    for id in [1, 2] {
        write(&calls, id).await.expect("written");
    }
    let met = Arc::new(tokio::sync::Barrier::new(2));
    let first = |id: i64| {
        let (calls, met) = (calls.clone(), met.clone());
        tokio::spawn(async move {
            let once = std::sync::atomic::AtomicBool::new(true);
            crate::run!(calls, transaction, db => async {
                touch(db, id).await?;
                // Both have their first lock now, and want the other's; who loses runs again, alone.
                if once.swap(false, std::sync::atomic::Ordering::Relaxed) {
                    met.wait().await;
                }
                touch(db, 3 - id).await
            })
        })
    };
    let (one, other) = (first(1), first(2));
    one.await.expect("no panic").expect("done");
    other.await.expect("no panic").expect("done");
}

async fn touch(db: &mut sqlx::PgConnection, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE notes SET text = text || '.' WHERE id = $1").bind(id).execute(db).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_waits_at_its_start_for_a_server_that_is_not_there_yet() {
    let Some(schema) = Schema::new() else { return };
    let schema = Arc::new(schema);
    let place = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let absent = format!("postgres://me:hunter2@{place}/db");
    let impatient = StoreLimits { connect_ms: 100, ..LIMITS };
    let error = open_with(&schema, &absent, &impatient).await.expect_err("nobody is there").to_string();
    assert!(error.contains("cannot be reached") && error.contains(&place.to_string()), "{error}");
    assert!(!error.contains('\n') && !error.contains("hunter2"), "{error}");

    let listener = TcpListener::bind(place).expect("the same port");
    let proxy = Proxy::on(listener, &schema.url);
    // First it is silent, then it cuts, at last it is there.
    proxy.set(Mood::Frozen);
    let opening = tokio::spawn({
        let (schema, url) = (schema.clone(), proxy.url.clone());
        async move { open_with(&schema, &url, &StoreLimits { start_secs: 60, ..impatient }).await }
    });
    proxy.met(2).await;
    proxy.set(Mood::Cut);
    proxy.met(5).await;
    assert!(!opening.is_finished(), "it gave up");
    proxy.set(Mood::Open);
    let calls = timeout(LONG, opening).await.expect("in time").expect("no panic").expect("opened");
    heals(&calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_few_connections() {
    let Some(schema) = Schema::new() else { return };
    let name = format!("bounded-{}", &schema.name[5..20]);
    let url = with(&schema.url, &format!("application_name={name}"));
    let limits = StoreLimits { connections_max: 3, ..LIMITS };
    let calls = Arc::new(open_with(&schema, &url, &limits).await.expect("opened"));
    let written: Vec<_> = (0..60)
        .map(|id| {
            let calls = calls.clone();
            tokio::spawn(async move { write(&calls, id).await })
        })
        .collect();
    for call in written {
        call.await.expect("no panic").expect("written");
    }
    let connections: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1")
        .bind(&name)
        .fetch_one(&mut schema.connect().await)
        .await
        .expect("read");
    assert!((1..=3).contains(&connections), "{connections}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_connection_is_asked_for_few_at_once() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::new(&schema.url);
    let limits = StoreLimits { connections_max: 64, connect_ms: 500, ..LIMITS };
    let calls = Arc::new(open_with(&schema, &proxy.url, &limits).await.expect("opened"));
    let before = proxy.connections();
    proxy.set(Mood::Frozen);
    let reads: Vec<_> = (0..64)
        .map(|_| {
            tokio::spawn({
                let calls = calls.clone();
                async move { read(&calls).await }
            })
        })
        .collect();
    for call in reads {
        assert!(is_away(&call.await.expect("no panic")));
    }
    // Four, and four more where the first gave up a moment before those who waited behind them.
    let asked = proxy.connections() - before;
    assert!((1..=8).contains(&asked), "{asked}");
    proxy.set(Mood::Open);
    heals(&calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_the_calls_that_are_under_way() {
    let Some(schema) = Schema::new() else { return };
    let calls = Arc::new(open(&schema).await);
    let mut holder = schema.connect().await;
    holder.execute("BEGIN; LOCK TABLE notes").await.expect("locked");
    let ends = Arc::new(std::sync::Mutex::new(Vec::new()));
    let under_way = tokio::spawn({
        let (calls, ends) = (calls.clone(), ends.clone());
        async move {
            write(&calls, 1).await.expect("written");
            ends.lock().expect("no panic").push("written");
        }
    });
    schema.until_waiting_is(true).await;
    let closing = tokio::spawn({
        let (calls, ends) = (calls.clone(), ends.clone());
        async move {
            calls.close().await;
            ends.lock().expect("no panic").push("closed");
        }
    });
    holder.execute("ROLLBACK").await.expect("released");
    under_way.await.expect("no panic");
    timeout(LONG, closing).await.expect("in time").expect("no panic");
    assert_eq!(*ends.lock().expect("no panic"), ["written", "closed"]);
    assert!(is_away(&read(&calls).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_waits_while_the_first_makes_the_tables() {
    let Some(schema) = Schema::new() else { return };
    let schema = Arc::new(schema);
    let mut first = schema.connect().await;
    first.execute("BEGIN").await.expect("begun");
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('switchboard migrations'), hashtext($1))")
        .bind(&schema.name)
        .execute(&mut first)
        .await
        .expect("locked");
    let second = tokio::spawn({
        let schema = schema.clone();
        async move { open_with(&schema, &schema.url, &SHORT).await }
    });
    // Longer than a call may take: a step of a migration has no limit.
    let (begun, mut beside) = (Instant::now(), schema.connect().await);
    let mut waited = false;
    while begun.elapsed() < LONG && !(waited && begun.elapsed() > SHORT.call() * 2) {
        waited = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                            AND objid::bigint = hashtext($1)::bigint & 4294967295)",
        )
        .bind(&schema.name)
        .fetch_one(&mut beside)
        .await
        .expect("read");
    }
    assert!(waited && !second.is_finished(), "it did not wait");
    first.execute("COMMIT").await.expect("done");
    read(&second.await.expect("no panic").expect("opened")).await.expect("answers");
}
