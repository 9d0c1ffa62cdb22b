//! Refresh, logout, the list of sessions, and what survives a restart.

use mesh::{error::Reason, proto::auth::v1 as pb};

use crate::harness::{Auth, Member, Setup, fields, reason};

async fn list(auth: &Auth, member: &Member, page_size: i32, page_token: &str) -> pb::ListSessionsResponse {
    let request = pb::ListSessionsRequest { page_size, page_token: page_token.to_owned() };
    auth.client().list_sessions(member.says(request)).await.expect("listed").into_inner()
}

fn session_of(member: &Member) -> String {
    let body = member.access.split('.').nth(1).expect("claims");
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, body).expect("base64");
    let claims: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    claims["sid"].as_str().expect("sid").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_refreshes_at_once_with_one_token_get_one_successor() {
    let setup = Setup::new().await;
    let auth = std::sync::Arc::new(setup.start().await);
    let ada = auth.register("ada").await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let (auth, token) = (auth.clone(), ada.refresh.clone());
            tokio::spawn(async move { auth.refresh(&token).await })
        })
        .collect();
    let mut successors = Vec::new();
    for call in calls {
        let tokens = call.await.expect("no panic").expect("good");
        assert_eq!(tokens.expires_in_secs, 900);
        auth.check(&tokens.access_token).await.expect("a good access token");
        successors.push(tokens.refresh_token);
    }
    successors.dedup();
    assert_eq!(successors.len(), 1);
    assert_ne!(successors[0], ada.refresh);
    auth.refresh(&successors[0]).await.expect("the successor is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_used_after_its_successor_ends_the_session() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let other = auth.login("ada").await;
    let second = auth.refresh(&ada.refresh).await.expect("good");
    let again = auth.refresh(&ada.refresh).await.expect("a lost answer is no theft");
    assert_eq!(second.refresh_token, again.refresh_token);
    let third = auth.refresh(&second.refresh_token).await.expect("good");
    assert_eq!(auth.refresh(&ada.refresh).await.expect_err("theft"), Reason::TokenRevoked);
    for token in [&second.refresh_token, &third.refresh_token] {
        assert_eq!(auth.refresh(token).await.expect_err("over"), Reason::TokenRevoked);
    }
    for token in [&ada.access, &third.access_token] {
        assert_eq!(auth.check(token).await.expect_err("over"), Reason::TokenRevoked);
    }
    let refused = auth.client().get_account(ada.says(pb::GetAccountRequest {})).await.expect_err("over");
    assert_eq!(reason(&refused), Reason::TokenRevoked);
    auth.check(&other.access).await.expect("another session is not touched");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_no_refresh_token_and_ends_nothing() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let cut = &ada.refresh[..ada.refresh.len() - 1];
    let mut forged = ada.refresh.clone();
    let flipped = if forged.pop() == Some('A') { 'E' } else { 'A' };
    forged.push(flipped);
    for bad in ["", "x", cut, &forged, &ada.access, &"sbr_".repeat(10_000)] {
        assert_eq!(auth.refresh(bad).await.expect_err("refused"), Reason::TokenInvalid);
    }
    auth.refresh(&ada.refresh).await.expect("still good");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_logout_no_token_of_the_session_is_good() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let other = auth.login("ada").await;
    auth.client().logout(ada.says(pb::LogoutRequest {})).await.expect("logged out");
    // At once, in this process: no poll lies between.
    let refused = auth.client().get_account(ada.says(pb::GetAccountRequest {})).await.expect_err("over");
    assert_eq!((reason(&refused), refused.message()), (Reason::TokenRevoked, "Unauthorized"));
    assert_eq!(auth.check(&ada.access).await.expect_err("over"), Reason::TokenRevoked);
    assert_eq!(auth.refresh(&ada.refresh).await.expect_err("over"), Reason::TokenRevoked);
    let nobody = auth.client().logout(pb::LogoutRequest {}).await.expect_err("nobody");
    assert_eq!(reason(&nobody), Reason::Unauthorized);
    assert_eq!(list(&auth, &other, 0, "").await.sessions.len(), 1);
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_in_pages_and_ended_one_by_one_or_all_but_ones_own() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let bob = auth.register("bob").await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(auth.login("ada").await);
    }
    let first = list(&auth, &ada, 3, "").await;
    let rest = list(&auth, &ada, 3, &first.next_page_token).await;
    assert_eq!((first.sessions.len(), rest.sessions.len(), rest.next_page_token.as_str()), (3, 2, ""));
    let all: Vec<_> = first.sessions.into_iter().chain(rest.sessions).collect();
    let current: Vec<_> = all.iter().filter(|session| session.current).map(|session| &session.id).collect();
    assert_eq!(current, [&session_of(&ada)]);
    let revoke = |member: &Member, id: &str| member.says(pb::RevokeSessionRequest { session_id: id.to_owned() });
    let foreign = auth.client().revoke_session(revoke(&bob, &session_of(&ada))).await.expect_err("not bob's");
    assert_eq!(reason(&foreign), Reason::SessionNotFound);
    let garbage = auth.client().revoke_session(revoke(&ada, "7")).await.expect_err("no id");
    assert_eq!(fields(&garbage), ["session_id"]);
    for _ in 0..2 {
        // Ending it again is no error.
        auth.client().revoke_session(revoke(&ada, &session_of(&others[0]))).await.expect("ended");
    }
    assert_eq!(auth.check(&others[0].access).await.expect_err("over"), Reason::TokenRevoked);
    let rest = ada.says(pb::RevokeOtherSessionsRequest {});
    let ended = auth.client().revoke_other_sessions(rest).await.expect("ended").into_inner();
    assert_eq!(ended.revoked_sessions, 3);
    assert_eq!(list(&auth, &ada, 0, "").await.sessions.len(), 1);
    auth.check(&bob.access).await.expect("bob's session is not touched");
    for (page_size, page_token, field) in [(-1, "", "page_size"), (10_000, "", "page_size"), (0, "x", "page_token")] {
        let request = pb::ListSessionsRequest { page_size, page_token: page_token.to_owned() };
        let refused = auth.client().list_sessions(ada.says(request)).await.expect_err("refused");
        assert_eq!(fields(&refused), [field]);
    }
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_too_many_ends_the_oldest() {
    let setup = Setup::with("sessions_per_account_max = 2\n").await;
    let auth = setup.start().await;
    let first = auth.register("ada").await;
    let second = auth.login("ada").await;
    let third = auth.login("ada").await;
    assert_eq!(auth.check(&first.access).await.expect_err("over"), Reason::TokenRevoked);
    auth.check(&second.access).await.expect("alive");
    assert_eq!(list(&auth, &third, 0, "").await.sessions.len(), 2);
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_ends_and_keys_survive_a_restart() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let gone = auth.login("ada").await;
    auth.client().logout(gone.says(pb::LogoutRequest {})).await.expect("logged out");
    let second = auth.refresh(&ada.refresh).await.expect("good");
    auth.stop().await;
    let auth = setup.start().await;
    let refused = auth.client().get_account(gone.says(pb::GetAccountRequest {})).await.expect_err("over");
    assert_eq!(reason(&refused), Reason::TokenRevoked);
    auth.client().get_account(ada.says(pb::GetAccountRequest {})).await.expect("the key is the same");
    let again = auth.refresh(&ada.refresh).await.expect("the answer may have been lost with the process");
    assert_eq!(again.refresh_token, second.refresh_token);
    auth.refresh(&second.refresh_token).await.expect("good");
    assert_eq!(auth.login("ADA").await.account, ada.account);
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_may_live_for_30_days_and_its_session_lives_as_long() {
    let setup = Setup::with("access_ttl_secs = 2592000\n").await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let session = &list(&auth, &ada, 0, "").await.sessions[0];
    let life = session.expire_time.expect("a time").seconds - session.create_time.expect("a time").seconds;
    assert_eq!(life, 2_592_000);
    auth.stop().await;
}
