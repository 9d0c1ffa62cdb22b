//! Following revocations, checking sessions, and spending WebSocket tokens.

use std::time::Instant;

use mesh::{
    error::Reason,
    proto::auth::v1::{self as pb, watch_revocations_response::Update},
    time::Millis,
};
use tonic::{Status, Streaming};

use crate::harness::{Auth, LONG, Member, Setup, fields, reason, until, with_bearer};

pub(crate) struct Watch(Streaming<pb::WatchRevocationsResponse>);

impl Watch {
    pub(crate) async fn open(setup: &Setup, auth: &Auth, after: i64) -> Self {
        let bearer = setup.gateway_bearer();
        let request = mesh::client::stream_request(pb::WatchRevocationsRequest { after }, &bearer);
        Self(auth.client().watch_revocations(request).await.expect("followed").into_inner())
    }

    async fn next(&mut self) -> Result<Update, Status> {
        let response = tokio::time::timeout(LONG, self.0.message()).await.expect("something within the limit")?;
        response.and_then(|response| response.update).ok_or_else(|| Status::unavailable("the stream ended"))
    }

    /// The next revocation, past heartbeats.
    pub(crate) async fn revocation(&mut self) -> pb::Revocation {
        loop {
            if let Update::Revocation(revocation) = self.next().await.expect("alive") {
                return revocation;
            }
        }
    }

    /// Everything up to the first heartbeat: the key sets, the revoked sessions, and the heartbeat's number.
    pub(crate) async fn snapshot(&mut self) -> (usize, Vec<i64>, i64) {
        let (mut keys, mut numbers) = (0, Vec::new());
        loop {
            match self.next().await.expect("alive") {
                Update::Keys(set) => {
                    assert!(numbers.is_empty() && set.jwks_json.contains("Ed25519"), "the keys come first");
                    keys += 1;
                }
                Update::Revocation(revocation) => numbers.push(revocation.number),
                Update::Heartbeat(heartbeat) => return (keys, numbers, heartbeat.number),
            }
        }
    }
}

async fn logout(auth: &Auth, member: &Member) {
    auth.client().logout(member.says(pb::LogoutRequest {})).await.expect("logged out");
}

async fn session_of(auth: &Auth, member: &Member) -> String {
    auth.check(&member.access).await.expect("alive").session_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_the_keys_a_snapshot_and_then_each_end_as_it_happens() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let (one, two) = (auth.login("ada").await, auth.login("ada").await);
    logout(&auth, &one).await;
    let mut watch = Watch::open(&setup, &auth, 0).await;
    assert_eq!(watch.snapshot().await, (1, vec![1], 1));
    let session = session_of(&auth, &two).await;
    let start = Instant::now();
    logout(&auth, &two).await;
    let heard = watch.revocation().await;
    println!("a logout was heard by a follower after {:?}", start.elapsed());
    assert_eq!((heard.number, heard.session_id), (2, session));
    assert!(Millis::from(heard.expire_time.expect("a time")) > Millis::now().plus(std::time::Duration::from_mins(15)));
    let mut later = Watch::open(&setup, &auth, 1).await;
    assert_eq!(later.snapshot().await, (1, vec![2], 2));
    assert_eq!(watch.snapshot().await.2, 2, "heartbeats go on");
    auth.check(&ada.access).await.expect("alive");
    auth.stop().await;
    // The stream ends with the process, and says that coming back is worth it.
    loop {
        if let Err(status) = watch.next().await {
            assert_eq!(reason(&status), Reason::Unavailable);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_writes_is_felt_on_the_other() {
    let setup = Setup::new().await;
    let (here, there) = (setup.start().await, setup.start().await);
    let ada = here.register("ada").await;
    let mut watch = Watch::open(&setup, &there, 0).await;
    watch.snapshot().await;
    logout(&here, &ada).await;
    assert_eq!(watch.revocation().await.number, 1);
    let refused = there.client().get_account(ada.says(pb::GetAccountRequest {})).await.expect_err("over");
    assert_eq!(reason(&refused), Reason::TokenRevoked);
    // A token of a session that the other replica opened is good here, and its refresh has the same successor.
    let bob = here.register("bob").await;
    let (a, b) = tokio::join!(here.refresh(&bob.refresh), there.refresh(&bob.refresh));
    assert_eq!(a.expect("good").refresh_token, b.expect("good").refresh_token);
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_are_for_services_and_spending_is_for_gateways() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let watch = || pb::WatchRevocationsRequest { after: 0 };
    let nobody = auth.client().watch_revocations(watch()).await.expect_err("nobody");
    assert_eq!(reason(&nobody), Reason::Unauthorized);
    let user = auth.client().watch_revocations(ada.says(watch())).await.expect_err("a user");
    assert_eq!(reason(&user), Reason::Forbidden);
    let user = auth.client().spend_ws_token(ada.says(spend(&auth, &ada).await)).await.expect_err("a user");
    assert_eq!(reason(&user), Reason::Forbidden);
    let session = pb::CheckTokenRequest { session_id: session_of(&auth, &ada).await, ..Default::default() };
    let user = auth.client().check_token(ada.says(session.clone())).await.expect_err("a user");
    assert_eq!(reason(&user), Reason::Forbidden);
    let gateway = with_bearer(session.clone(), &setup.gateway_bearer());
    let checked = auth.client().check_token(gateway).await.expect("alive").into_inner();
    assert_eq!((checked.user_id, checked.roles), (ada.account.id.clone(), vec!["user".to_owned()]));
    logout(&auth, &ada).await;
    let gateway = with_bearer(session, &setup.gateway_bearer());
    let over = auth.client().check_token(gateway).await.expect_err("over");
    assert_eq!(reason(&over), Reason::TokenRevoked);
    auth.stop().await;
}

async fn spend(auth: &Auth, member: &Member) -> pb::SpendWsTokenRequest {
    let expires = Millis::now().plus(std::time::Duration::from_mins(1));
    pb::SpendWsTokenRequest {
        jti: uuid::Uuid::new_v4().to_string(),
        session_id: session_of(auth, member).await,
        user_id: member.account.id.clone(),
        expire_time: Some(expires.into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ws_token_is_spent_once_while_its_session_lives() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let bob = auth.register("bob").await;
    let send = async |request: &pb::SpendWsTokenRequest| {
        let request = with_bearer(request.clone(), &setup.gateway_bearer());
        auth.client().spend_ws_token(request).await.map(|response| response.into_inner().roles)
    };
    let first = spend(&auth, &ada).await;
    assert_eq!(send(&first).await.expect("spent"), ["user"]);
    assert_eq!(reason(&send(&first).await.expect_err("spent")), Reason::TokenSpent);
    let foreign = pb::SpendWsTokenRequest { user_id: bob.account.id.clone(), ..spend(&auth, &ada).await };
    assert_eq!(reason(&send(&foreign).await.expect_err("not bob's")), Reason::TokenRevoked);
    let past = pb::SpendWsTokenRequest { expire_time: Some(Millis(0).into()), ..spend(&auth, &ada).await };
    assert_eq!(reason(&send(&past).await.expect_err("over")), Reason::TokenExpired);
    let never = pb::SpendWsTokenRequest { expire_time: Some(Millis(i64::MAX).into()), ..spend(&auth, &ada).await };
    assert_eq!(fields(&send(&never).await.expect_err("refused")), ["expire_time"]);
    let empty = send(&pb::SpendWsTokenRequest::default()).await.expect_err("refused");
    assert_eq!(fields(&empty), ["jti", "session_id", "user_id", "expire_time"]);
    let late = spend(&auth, &ada).await;
    logout(&auth, &ada).await;
    assert_eq!(reason(&send(&late).await.expect_err("over")), Reason::TokenRevoked);
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_follows_refuses_a_token_soon_after_its_logout() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let mut watch = Watch::open(&setup, &auth, 0).await;
    let gateway = setup.gateway.clone();
    let follow = tokio::spawn(async move {
        while let Ok(update) = watch.next().await {
            match update {
                Update::Keys(keys) => gateway.set_keys(&keys.jwks_json),
                Update::Heartbeat(heartbeat) => gateway.heartbeat(heartbeat.number),
                Update::Revocation(revocation) => {
                    let session = uuid::Uuid::parse_str(&revocation.session_id).expect("an id");
                    let expires = revocation.expire_time.map_or(Millis(i64::MAX), Millis::from);
                    gateway.revoke(session, revocation.number, expires);
                }
            }
        }
    });
    until("the token is good at the gateway", async || setup.gateway.verify_access(&ada.access).await.is_ok()).await;
    let start = Instant::now();
    logout(&auth, &ada).await;
    until("the token is refused", async || setup.gateway.verify_access(&ada.access).await.is_err()).await;
    println!("a logout was felt at a follower after {:?}", start.elapsed());
    auth.stop().await;
    follow.await.expect("no panic");
}
