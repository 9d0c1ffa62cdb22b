//! The end of accounts, as callers meet it: what wants a fresh proof, what an admin does to everybody, what user-svc is told.

use mesh::{
    error::Reason,
    proto::auth::v1::{
        self as pb, account_service_client::AccountServiceClient, admin_service_client::AdminServiceClient,
    },
};
use tonic::transport::Channel;

use crate::{
    api_keys::admin,
    harness::{Auth, PASSWORD, Setup, login_request, reason, until},
};

fn accounts(auth: &Auth) -> AccountServiceClient<Channel> {
    AccountServiceClient::new(auth.channel())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensitive_call_of_an_account_wants_a_proof_for_its_export_and_its_deletion() {
    let setup = Setup::with("fresh_secs = 1\n").await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    until("the registration is no fresh proof any more", async || {
        accounts(&auth).export_account(ada.says(pb::ExportAccountRequest {})).await.is_err()
    })
    .await;
    let export = accounts(&auth).export_account(ada.says(pb::ExportAccountRequest {})).await.expect_err("not fresh");
    let delete = accounts(&auth).delete_account(ada.says(pb::DeleteAccountRequest {})).await.expect_err("not fresh");
    for refused in [export, delete] {
        assert_eq!(reason(&refused), Reason::ReauthenticationRequired);
    }
    auth.check(&ada.access).await.expect("the session is whole");
    let anonymous = accounts(&auth).delete_account(pb::DeleteAccountRequest {}).await.expect_err("nobody");
    assert_eq!(reason(&anonymous), Reason::Unauthorized);
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_ends_the_sessions_of_everybody() {
    let setup = Setup::new().await;
    let (auth, other) = (setup.start().await, setup.start().await);
    let admin = admin(&setup, &auth).await;
    let people = [auth.register("ada").await, other.register("bob").await, auth.login("bob").await];
    let mut admins = AdminServiceClient::new(auth.channel());
    let refused = admins.end_all_sessions(people[0].says(pb::EndAllSessionsRequest {})).await.expect_err("no admin");
    assert_eq!(reason(&refused), Reason::Forbidden);
    let ended = admins.end_all_sessions(admin.says(pb::EndAllSessionsRequest {})).await.expect("ended").into_inner();
    // The admin registered and logged in, too.
    assert_eq!(ended.ended_sessions, 5);
    for person in people.iter().chain([&admin]) {
        for replica in [&auth, &other] {
            assert_eq!(replica.check(&person.access).await.expect_err("over"), Reason::TokenRevoked);
            assert_eq!(replica.refresh(&person.refresh).await.expect_err("over"), Reason::TokenRevoked);
        }
    }
    auth.login("ada").await;
    auth.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_without_a_grace_is_erased_after_a_restart_and_user_svc_is_told_last() {
    // So short that it does not hold the test up; the mesh listens to revocations all the time.
    let setup = Setup::with("deletion_grace_days = 0\n").await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    setup.users.set_away(true);
    let planned = accounts(&auth).delete_account(ada.says(pb::DeleteAccountRequest {})).await.expect("planned");
    assert!(planned.into_inner().erase_time.is_some());
    assert_eq!(auth.check(&ada.access).await.expect_err("over"), Reason::TokenRevoked);
    auth.stop().await;
    let auth = setup.start().await;
    until("the name is free", async || auth.client().register(crate::harness::registration("ada")).await.is_ok()).await;
    setup.users.set_away(false);
    let id = ada.account.id;
    until("user-svc is told", async || setup.users.told().iter().any(|told| told.0 == id && told.1 == i64::MAX)).await;
    let refused = auth.client().login(login_request("ada", PASSWORD)).await;
    assert_ne!(refused.expect("it is another's").into_inner().account.expect("an account").id, id);
    auth.stop().await;
}
