//! Two replicas over one PostgreSQL, as a load balancer's clients meet them: whichever answers, there is one truth. And
//! the same service while its database is away.

use std::time::Duration;

use mesh::{
    error::Reason,
    proto::auth::v1::{self as pb},
    time::Millis,
};
use mesh_postgres::testing::Database;
use tokio::net::TcpListener;

use crate::{
    harness::{Auth, LONG, Member, PASSWORD, Setup, login_request, reason, registration, until, with_bearer},
    process::get,
    revocations::Watch,
};

fn settings(database: &Database, more: &str) -> String {
    let url = &database.url;
    format!("store_url = \"{url}\"\n{more}\n[auth.store]\nconnections_max = 4\nconnect_ms = 500\ncall_ms = 2000\n")
}

/// Two replicas and what they stand on.
struct Pair {
    setup: Setup,
    here: Auth,
    there: Auth,
    _database: Database,
}

impl Pair {
    async fn new(more: &str) -> Option<Self> {
        let database = Database::new().await?;
        let setup = Setup::with(&settings(&database, more)).await;
        let (here, there) = tokio::join!(setup.start(), setup.start());
        // Both make the tables at once; the first call waits for them.
        for auth in [&here, &there] {
            until("it is ready", async || get(auth.ops, "/ready").await.starts_with("HTTP/1.1 200")).await;
        }
        Some(Self { setup, here, there, _database: database })
    }

    /// Both, again and again.
    fn in_turn(&self, calls: usize) -> impl Iterator<Item = &Auth> {
        [&self.here, &self.there].into_iter().cycle().take(calls)
    }

    async fn stop(self) {
        self.here.stop().await;
        self.there.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_with_one_token_at_both_replicas_get_one_successor() {
    let Some(pair) = Pair::new("").await else { return };
    let ada = pair.here.register("ada").await;
    let mut token = ada.refresh.clone();
    for _ in 0..5 {
        let refreshes = pair.in_turn(10).map(|auth| auth.refresh(&token));
        let successors: Vec<_> = futures::future::join_all(refreshes).await;
        let first = successors[0].as_ref().expect("good").refresh_token.clone();
        for successor in successors {
            assert_eq!(successor.expect("good").refresh_token, first);
        }
        token = first;
    }
    // The first one is long spent: at either replica it ends the session at both.
    assert_eq!(pair.there.refresh(&ada.refresh).await.map(drop), Err(Reason::TokenRevoked));
    assert_eq!(pair.here.refresh(&token).await.map(drop), Err(Reason::TokenRevoked));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_registrations_of_one_name_at_both_replicas_one_wins() {
    let Some(pair) = Pair::new("").await else { return };
    let calls = pair.in_turn(6).enumerate().map(async |(index, auth)| {
        let request = pb::RegisterRequest { email: format!("{index}@example.org"), ..registration("ada") };
        auth.client().register(request).await.map(drop).map_err(|status| reason(&status))
    });
    let answers: Vec<_> = futures::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(Reason::AccountExists))), "{answers:?}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_at_both_replicas_keep_to_one_limit() {
    let Some(pair) = Pair::new("sessions_per_account_max = 3").await else { return };
    pair.here.register("ada").await;
    let members: Vec<Member> = futures::future::join_all(pair.in_turn(10).map(|auth| auth.login("ada"))).await;
    let mut alive = 0;
    for member in &members {
        let (here, there) = (pair.here.check(&member.access).await, pair.there.check(&member.access).await);
        assert_eq!(here.is_ok(), there.is_ok());
        alive += u32::from(here.is_ok());
    }
    assert_eq!(alive, 3);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ws_token_is_spent_once_at_both_replicas_together() {
    let Some(pair) = Pair::new("").await else { return };
    let ada = pair.here.register("ada").await;
    let session = pair.there.check(&ada.access).await.expect("alive").session_id;
    for _ in 0..5 {
        let request = pb::SpendWsTokenRequest {
            jti: uuid::Uuid::new_v4().to_string(),
            session_id: session.clone(),
            user_id: ada.account.id.clone(),
            expire_time: Some(Millis::now().plus(Duration::from_mins(1)).into()),
        };
        let spends = pair.in_turn(8).map(async |auth| {
            let request = with_bearer(request.clone(), &pair.setup.gateway_bearer());
            auth.client().spend_ws_token(request).await.map(drop).map_err(|status| reason(&status))
        });
        let answers: Vec<_> = futures::future::join_all(spends).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(Reason::TokenSpent))), "{answers:?}");
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_at_one_replica_is_felt_at_the_other_and_by_its_followers() {
    let Some(pair) = Pair::new("").await else { return };
    let ada = pair.here.register("ada").await;
    let bob = pair.there.register("bob").await;
    let mut watch = Watch::open(&pair.setup, &pair.there, 0).await;
    watch.snapshot().await;
    let begun = std::time::Instant::now();
    for (auth, member) in [(&pair.here, &ada), (&pair.there, &bob)] {
        auth.client().logout(member.says(pb::LogoutRequest {})).await.expect("logged out");
    }
    assert_eq!((watch.revocation().await.number, watch.revocation().await.number), (1, 2));
    println!("two logouts at two replicas were heard by a follower of one after {:?}", begun.elapsed());
    for (auth, member) in [(&pair.there, &ada), (&pair.here, &bob)] {
        until("its token is refused", async || {
            let refused = auth.client().get_account(member.says(pb::GetAccountRequest {})).await;
            refused.is_err_and(|status| reason(&status) == Reason::TokenRevoked)
        })
        .await;
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_calls_say_come_back_and_then_all_is_well_again() {
    let Some(database) = Database::new().await else { return };
    let setup = Setup::with(&settings(&database, "")).await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    database.shut().await;
    until("it is not ready", async || get(auth.ops, "/ready").await.starts_with("HTTP/1.1 503")).await;
    let ready = get(auth.ops, "/ready").await;
    assert!(ready.contains(r#""store":{"status":"#) && ready.contains("cannot be reached"), "{ready}");
    assert!(get(auth.ops, "/health").await.starts_with("HTTP/1.1 200"), "it lives");
    for _ in 0..3 {
        let mut client = auth.client();
        let login = client.login(login_request("ada", PASSWORD));
        let away = tokio::time::timeout(LONG, login).await.expect("in time").expect_err("away");
        assert_eq!(reason(&away), Reason::Unavailable);
        assert!(!away.message().contains("postgres"), "{}", away.message());
        assert_eq!(auth.refresh(&ada.refresh).await.map(drop), Err(Reason::Unavailable));
    }
    database.reopen().await;
    until("it is ready", async || get(auth.ops, "/ready").await.starts_with("HTTP/1.1 200")).await;
    auth.login("ada").await;
    auth.refresh(&ada.refresh).await.expect("the session is whole");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_waits_for_its_database_can_be_stopped() {
    // Somebody who takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = silent.local_addr().expect("an address");
    let url = format!("postgresql://auth:secret@{place}/auth");
    let limits = "connect_ms = 50\nstart_secs = 3600";
    let setup = Setup::with(&format!("store_url = \"{url}\"\n[auth.store]\n{limits}\n")).await;
    let auth = setup.start().await;
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.push(tokio::time::timeout(LONG, silent.accept()).await.expect("it tries again").expect("accepted"));
    }
    assert!(!auth.is_finished(), "it gave up");
    auth.stop().await;
}
