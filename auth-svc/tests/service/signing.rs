//! The keys that sign access tokens, as replicas and their callers meet a change of them.

use auth_svc::operator;
use mesh::{error::Reason, proto::auth::v1 as pb};
use serde_json::Value;

use crate::harness::{Auth, Member, Setup, until};

/// The ids of the keys that are known.
async fn kids(auth: &Auth) -> Vec<String> {
    let jwks = auth.client().get_jwks(pb::GetJwksRequest {}).await.expect("keys").into_inner().jwks_json;
    let jwks: Value = serde_json::from_str(&jwks).expect("JSON");
    let kid = |key: &Value| key["kid"].as_str().expect("a kid").to_owned();
    jwks["keys"].as_array().expect("keys").iter().map(kid).collect()
}

/// The id of the key that a token was signed with.
fn kid(access: &str) -> String {
    jsonwebtoken::decode_header(access).expect("a header").kid.expect("a kid")
}

async fn is_good(auth: &Auth, member: &Member) -> bool {
    auth.client().get_account(member.says(pb::GetAccountRequest {})).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_taken_up_by_every_replica_and_tokens_of_the_old_one_stay_good() {
    let setup = Setup::with("key_lead_secs = 1").await;
    let (here, there) = (setup.start().await, setup.start().await);
    let old = here.register("ada").await;
    let first = kid(&old.access);
    assert_eq!((kids(&here).await, kids(&there).await), (vec![first.clone()], vec![first.clone()]));
    let other = here.login("ada").await;
    let rotated = operator::rotate_keys(&setup.config(), false, "root").await.expect("rotated");
    for auth in [&here, &there] {
        // The same token again and again: its successor is never used.
        let signs = async || kid(&auth.refresh(&other.refresh).await.expect("good").access_token);
        until("the new key to sign", async || signs().await == rotated.kid).await;
        assert_eq!(kids(auth).await, [first.clone(), rotated.kid.clone()]);
    }
    let new = here.login("ada").await;
    for auth in [&here, &there] {
        assert!(is_good(auth, &old).await && is_good(auth, &new).await);
        auth.check(&old.access).await.expect("good");
        auth.check(&new.access).await.expect("good");
    }
    here.stop().await;
    there.stop().await;
    // The key of the file is the first of them, not the last.
    let again = setup.start().await;
    assert_eq!(kid(&again.login("ada").await.access), rotated.kid);
    assert!(is_good(&again, &old).await);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_somebody_else_may_have_are_withdrawn_at_once_and_sessions_survive() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let rotated = operator::rotate_keys(&setup.config(), true, "root").await.expect("rotated");
    assert_eq!(rotated.signs_from, rotated.others_leave_at);
    until("the old key to be withdrawn", async || kids(&auth).await == [rotated.kid.clone()]).await;
    until("its tokens to be refused", async || !is_good(&auth, &ada).await).await;
    assert_eq!(auth.check(&ada.access).await.map(drop), Err(Reason::TokenInvalid));
    let fresh = auth.refresh(&ada.refresh).await.expect("the session is whole");
    assert_eq!(kid(&fresh.access_token), rotated.kid);
    assert!(is_good(&auth, &Member { access: fresh.access_token, ..ada }).await);
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_the_secret_of_its_keys_gets_a_new_key_that_signs() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    auth.stop().await;
    // As after a move without the keys of the data folder.
    std::fs::remove_file(setup.data.path().join("keys/auth-seal.secret")).expect("removed");
    let auth = setup.start().await;
    let again = auth.login("ada").await;
    assert_ne!(kid(&again.access), kid(&ada.access));
    assert!(is_good(&auth, &again).await);
    auth.stop().await;
}
