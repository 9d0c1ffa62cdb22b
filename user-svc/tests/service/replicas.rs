//! Two replicas over one PostgreSQL: whichever answers, there is one truth. And the service while its database is away.

use mesh::config::{Secret, StoreLimits};
use mesh::proto::user::v1::SetUsernameResponse;
use mesh_postgres::testing::Database;
use tokio::{net::TcpListener, time::timeout};

use super::*;

fn on(database: &Database) -> UserSection {
    let store = StoreLimits { connections_max: 4, connect_ms: 500, call_ms: 2_000, start_secs: 60 };
    UserSection { store_url: Secret::from(database.url.as_str()), store, ..UserSection::default() }
}

async fn until_ready_is(expected: bool, mesh: &Fixture) -> String {
    let begin = if expected { "HTTP/1.1 200" } else { "HTTP/1.1 503" };
    let polling = async {
        loop {
            let ready = operations(mesh.ops_port, "/ready").await;
            if ready.starts_with(begin) {
                break ready;
            }
        }
    };
    timeout(PATIENCE, polling).await.expect("it becomes so")
}

async fn rename(mesh: &Fixture, id: Uuid, version: i64) -> Result<Response<SetUsernameResponse>, Status> {
    let username = format!("name-{version}");
    let request = SetUsernameRequest { user_id: id.to_string(), username, username_version: version };
    mesh.client.clone().set_username(mesh.auth(request)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_start_together_are_one_service() {
    let Some(database) = Database::new().await else { return };
    let here = Fixture::with(on(&database)).await;
    let there = here.another().await;
    tokio::join!(until_ready_is(true, &here), until_ready_is(true, &there));
    let ada = here.person("ada").await;
    // Renames arrive in any order at either of them, while the owner edits one field here and one there.
    for round in 0..10 {
        let first = 10 * round + 2;
        let one = User { bio: format!("Notes {round}"), ..User::default() };
        let other = User { last_name: format!("King {round}"), ..User::default() };
        let (newer, older, one, other) = tokio::join!(
            rename(&here, ada, first + 1),
            rename(&there, ada, first),
            here.update(ada, one, &["bio"]),
            there.update(ada, other, &["last_name"]),
        );
        newer.expect("taken in");
        older.expect("taken in");
        one.expect("changed");
        other.expect("changed");
        for mesh in [&here, &there] {
            let seen = mesh.get(ada, ada).await;
            assert_eq!(seen.username, format!("name-{}", first + 1));
            assert_eq!((seen.bio, seen.name), (format!("Notes {round}"), format!("Ada King {round}")));
        }
    }
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_calls_say_come_back_and_then_all_is_well_again() {
    let Some(database) = Database::new().await else { return };
    let mesh = Fixture::with(on(&database)).await;
    until_ready_is(true, &mesh).await;
    let ada = mesh.person("ada").await;
    database.shut().await;
    let ready = until_ready_is(false, &mesh).await;
    assert!(ready.contains("\"store\"") && ready.contains("cannot be reached"), "{ready}");
    assert!(operations(mesh.ops_port, "/health").await.starts_with("HTTP/1.1 200"), "it lives");
    let user = User { bio: "Notes".into(), ..User::default() };
    let update = timeout(PATIENCE, mesh.update(ada, user.clone(), &["bio"])).await.expect("in time");
    assert_eq!(Refusal::from_status(&update.expect_err("away")).reason, Reason::Unavailable);
    let request = mesh.user(ada, GetUserRequest { user_id: ada.to_string() });
    assert_eq!(reason(mesh.client.clone().get_user(request).await), Reason::Unavailable);
    database.reopen().await;
    until_ready_is(true, &mesh).await;
    mesh.update(ada, user, &["bio"]).await.expect("changed");
    assert_eq!(mesh.get(ada, ada).await.bio, "Notes");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_waits_for_its_database_can_be_stopped() {
    // Somebody who takes connections and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("port");
    let place = silent.local_addr().expect("address");
    let store = StoreLimits { connect_ms: 50, start_secs: 3_600, ..StoreLimits::default() };
    let store_url = Secret::from(format!("postgresql://users:secret@{place}/users").as_str());
    let mesh = Fixture::with(UserSection { store_url, store, ..UserSection::default() }).await;
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.push(timeout(PATIENCE, silent.accept()).await.expect("it tries again").expect("accepted"));
    }
    assert!(!mesh.served.is_finished(), "it gave up");
    mesh.stop().await;
}
