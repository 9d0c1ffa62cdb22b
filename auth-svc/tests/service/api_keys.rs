//! Service accounts and their API keys, as admins and the programs that have one meet them.

use auth_svc::{operator, role::Role};
use mesh::{
    error::Reason,
    proto::auth::v1::{
        self as pb, admin_service_client::AdminServiceClient, api_key_service_client::ApiKeyServiceClient,
    },
};
use tonic::transport::Channel;

use crate::harness::{Auth, Member, PASSWORD, Setup, fields, login_request, reason, until, with_bearer};

fn keys(auth: &Auth) -> ApiKeyServiceClient<Channel> {
    ApiKeyServiceClient::new(auth.channel())
}

/// Somebody with the role `admin`.
pub(crate) async fn admin(setup: &Setup, auth: &Auth) -> Member {
    auth.register("root").await;
    operator::promote(&setup.config(), "root", Role::Admin, "a test").await.expect("promoted");
    auth.login("root").await
}

async fn account(auth: &Auth, admin: &Member, name: &str) -> pb::ServiceAccount {
    let request = pb::CreateServiceAccountRequest { name: name.to_owned() };
    let made = keys(auth).create_service_account(admin.says(request)).await.expect("made");
    made.into_inner().service_account.expect("an account")
}

async fn key(auth: &Auth, admin: &Member, account: &pb::ServiceAccount, scopes: &[&str]) -> pb::CreateApiKeyResponse {
    let scopes = scopes.iter().map(ToString::to_string).collect();
    let request = pb::CreateApiKeyRequest { service_account_id: account.id.clone(), scopes, ..Default::default() };
    keys(auth).create_api_key(admin.says(request)).await.expect("made").into_inner()
}

async fn whoami(auth: &Auth, key: &str) -> Result<pb::Account, Reason> {
    let asked = auth.client().get_account(with_bearer(pb::GetAccountRequest {}, key)).await;
    asked.map(|answer| answer.into_inner().account.expect("an account")).map_err(|status| reason(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_calls_as_its_service_account_within_its_scopes_until_it_is_revoked() {
    let setup = Setup::new().await;
    let (auth, other) = (setup.start().await, setup.start().await);
    let admin = admin(&setup, &auth).await;
    let billing = account(&auth, &admin, "billing").await;
    assert_eq!(setup.users.told().last().expect("told").2, "billing", "it has a profile");
    let made = key(&auth, &admin, &billing, &["users:read"]).await;
    let shown = made.api_key.expect("a key");
    assert!(made.key.starts_with(&shown.prefix) && made.key.len() == 56, "{}", shown.prefix);
    for replica in [&auth, &other] {
        let own = whoami(replica, &made.key).await.expect("good");
        assert_eq!((own.id.as_str(), own.username.as_str()), (billing.id.as_str(), "billing"));
        assert_eq!(own.roles, ["service"]);
    }
    let request = pb::ListApiKeysRequest { service_account_id: billing.id.clone(), ..Default::default() };
    let listed = keys(&auth).list_api_keys(admin.says(request)).await.expect("listed").into_inner().api_keys;
    assert!(listed.len() == 1 && listed[0].last_use_time.is_some(), "{listed:?}");

    // What is for people, or needs another scope, is refused before it is looked at.
    let change = pb::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: PASSWORD.into() };
    let refused = auth.client().change_password(with_bearer(change, &made.key)).await.expect_err("for people");
    assert_eq!(reason(&refused), Reason::Forbidden);
    let audit = pb::ListAuditEventsRequest::default();
    let mut admins = AdminServiceClient::new(auth.channel());
    let refused = admins.list_audit_events(with_bearer(audit.clone(), &made.key)).await.expect_err("no scope");
    assert!(reason(&refused) == Reason::Forbidden && refused.message().contains("audit:read"), "{refused:?}");
    let auditor = key(&auth, &admin, &billing, &["audit:read"]).await;
    let read = admins.list_audit_events(with_bearer(audit, &auditor.key)).await.expect("read").into_inner();
    assert!(read.events.iter().any(|event| event.event == "api_key.created"));
    assert_eq!(whoami(&auth, &auditor.key).await, Err(Reason::Forbidden));

    let by_id = pb::CheckTokenRequest { session_id: shown.id.clone(), ..Default::default() };
    let checked = auth.client().check_token(with_bearer(by_id.clone(), &setup.gateway_bearer())).await.expect("alive");
    assert_eq!(checked.into_inner().user_id, billing.id);
    let revoke = pb::RevokeApiKeyRequest { key_id: shown.id.clone() };
    keys(&auth).revoke_api_key(admin.says(revoke.clone())).await.expect("revoked");
    assert_eq!(whoami(&auth, &made.key).await, Err(Reason::TokenRevoked), "at once where it was revoked");
    until("the other replica refuses it", async || whoami(&other, &made.key).await.is_err()).await;
    let over = auth.client().check_token(with_bearer(by_id, &setup.gateway_bearer())).await.expect_err("revoked");
    assert_eq!(reason(&over), Reason::TokenRevoked);
    let again = keys(&auth).revoke_api_key(admin.says(revoke)).await.expect_err("gone");
    assert_eq!(reason(&again), Reason::NotFound);
    auth.stop().await;
    other.stop().await;
    let later = setup.start().await;
    assert!(whoami(&later, &made.key).await.is_err(), "also after a restart");
    later.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_logs_in_to_a_service_account_and_no_role_is_given_to_it() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let admin = admin(&setup, &auth).await;
    let billing = account(&auth, &admin, "billing").await;
    for name in ["billing", "billing@service.invalid"] {
        let refused = auth.client().login(login_request(name, PASSWORD)).await.expect_err("no password is its");
        assert_eq!(reason(&refused), Reason::InvalidCredentials);
    }
    let promote = pb::SetRoleRequest { user_id: billing.id.clone(), role: "admin".into() };
    let refused = AdminServiceClient::new(auth.channel()).set_role(admin.says(promote)).await.expect_err("refused");
    assert_eq!(fields(&refused), ["user_id"]);
    operator::promote(&setup.config(), "billing", Role::Admin, "a test").await.expect_err("refused");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_by_admins_alone_and_each_bad_field_is_named() {
    let setup = Setup::with("api_keys_per_account_max = 1").await;
    let auth = setup.start().await;
    let admin = admin(&setup, &auth).await;
    let ada = auth.register("ada").await;
    let billing = account(&auth, &admin, "billing").await;
    let request = |scopes: &[&str]| pb::CreateApiKeyRequest {
        service_account_id: billing.id.clone(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let refused = keys(&auth).create_api_key(ada.says(request(&["users:read"]))).await.expect_err("no admin");
    assert_eq!(reason(&refused), Reason::Forbidden);
    let refused = keys(&auth).create_api_key(request(&["users:read"])).await.expect_err("nobody");
    assert_eq!(reason(&refused), Reason::Unauthorized);
    let bad = pb::CreateApiKeyRequest {
        service_account_id: "x".into(),
        name: "x".repeat(101),
        scopes: vec!["everything".into()],
        expires_in_secs: -1,
    };
    let refused = keys(&auth).create_api_key(admin.says(bad)).await.expect_err("bad");
    assert_eq!(fields(&refused), ["service_account_id", "name", "scopes[0]", "expires_in_secs"]);
    let people = pb::CreateApiKeyRequest { service_account_id: ada.account.id.clone(), ..request(&["users:read"]) };
    let refused = keys(&auth).create_api_key(admin.says(people)).await.expect_err("a person");
    assert_eq!(reason(&refused), Reason::UserNotFound);
    let made = key(&auth, &admin, &billing, &["users:read"]).await;
    let refused = keys(&auth).create_api_key(admin.says(request(&["users:read"]))).await.expect_err("full");
    assert_eq!(reason(&refused), Reason::Conflict);
    let mut changed = made.key.clone().into_bytes();
    let last = changed.last_mut().expect("bytes");
    *last = if *last == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("ASCII");
    for bad in ["sbk_", &made.key[..55], &changed, &format!("{}A", made.key), &format!("sbk_{}", "x".repeat(4_000))] {
        assert_eq!(whoami(&auth, bad).await, Err(Reason::TokenInvalid));
    }
    let stranger = auth.client().check_api_key(ada.says(pb::CheckApiKeyRequest { key: made.key.clone() })).await;
    assert_eq!(reason(&stranger.expect_err("for services")), Reason::Forbidden);
    auth.stop().await;
}
