//! Registration, login, rename, passwords.

use mesh::{error::Reason, proto::auth::v1 as pb};
use tonic::Code;

use crate::harness::{Member, PASSWORD, Setup, fields, login_request, reason, registration, with_bearer};

#[tokio::test(flavor = "multi_thread")]
async fn who_registers_has_an_account_a_session_and_a_profile() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("Ada").await;
    let told = setup.users.told();
    assert_eq!(told, [(ada.account.id.clone(), 1, "Ada".to_owned(), Some("Ada".to_owned()))]);
    let account = auth.client().get_account(ada.says(pb::GetAccountRequest {})).await.expect("own account");
    let account = account.into_inner().account.expect("an account");
    assert_eq!(account, ada.account);
    assert_eq!((account.username.as_str(), account.email.as_str()), ("Ada", "Ada@example.org"));
    assert_eq!(account.roles, ["user"]);
    let checked = auth.check(&ada.access).await.expect("good");
    assert_eq!(checked.user_id, account.id);
    let jwks = auth.client().get_jwks(pb::GetJwksRequest {}).await.expect("keys").into_inner().jwks_json;
    let header = jsonwebtoken::decode_header(&ada.access).expect("header");
    assert!(jwks.contains(&header.kid.expect("kid")));
    let stranger = auth.client().get_account(pb::GetAccountRequest {}).await.expect_err("nobody");
    assert_eq!((reason(&stranger), stranger.code()), (Reason::Unauthorized, Code::Unauthenticated));
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_refused_however_it_is_written() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    auth.register("ada").await;
    let same_name = pb::RegisterRequest { username: "ADA".into(), ..registration("bob") };
    let same_email = pb::RegisterRequest { email: "Ada@EXAMPLE.org".into(), ..registration("bob") };
    let same_width = pb::RegisterRequest { email: "ａｄａ@example.org".into(), ..registration("bob") };
    for request in [same_name, same_email, same_width] {
        let refused = auth.client().register(request).await.expect_err("taken");
        assert_eq!(reason(&refused), Reason::AccountExists);
        assert_eq!(refused.message(), "User with this email or username already exists");
    }
    assert_eq!(setup.users.told().len(), 1);
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_race_for_a_name_one_wins_and_the_other_is_told() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let calls: Vec<_> = (0..8)
        .map(|index| {
            let mut client = auth.client();
            let request = pb::RegisterRequest { email: format!("{index}@example.org"), ..registration("ada") };
            tokio::spawn(async move { client.register(request).await })
        })
        .collect();
    let mut won = 0;
    for call in calls {
        match call.await.expect("no panic") {
            Ok(_) => won += 1,
            Err(status) => assert_eq!(reason(&status), Reason::AccountExists),
        }
    }
    assert_eq!((won, setup.users.told().len()), (1, 1));
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_registration_with_the_same_id_logs_in_to_the_same_account() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let id = uuid::Uuid::now_v7().to_string();
    let request = pb::RegisterRequest { user_id: id.clone(), ..registration("ada") };
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, request) = (auth.client(), request.clone());
            tokio::spawn(async move { client.register(request).await })
        })
        .collect();
    for call in calls {
        let response = call.await.expect("no panic").expect("the same registration").into_inner();
        assert_eq!(response.account.expect("an account").id, id);
        let token = response.tokens.expect("tokens").access_token;
        assert_eq!(auth.check(&token).await.expect("good").user_id, id);
    }
    let other_password = pb::RegisterRequest { password: "another one".into(), ..request.clone() };
    let other_name = pb::RegisterRequest { username: "bob".into(), ..request.clone() };
    let other_email = pb::RegisterRequest { email: "bob@example.org".into(), ..request.clone() };
    let other_id = pb::RegisterRequest { user_id: uuid::Uuid::now_v7().to_string(), ..request };
    for request in [other_password, other_name, other_email, other_id] {
        let refused = auth.client().register(request).await.expect_err("another registration");
        assert_eq!(reason(&refused), Reason::AccountExists);
    }
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_takes_either_name_and_never_tells_which_part_was_wrong() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("Ada").await;
    for login in ["ada", "ADA", "ada@example.org", " ADA@EXAMPLE.ORG "] {
        assert_eq!(auth.login(login).await.account, ada.account, "{login}");
    }
    for (login, password) in [("ada", "wrong password"), ("nobody", PASSWORD), ("no@body", PASSWORD), ("a b", "x")] {
        let refused = auth.client().login(login_request(login, password)).await.expect_err("refused");
        assert_eq!((reason(&refused), refused.message()), (Reason::InvalidCredentials, "Invalid credentials"));
    }
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named_and_nothing_changes() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let bad = pb::RegisterRequest {
        username: "a\0b".into(),
        email: "nobody".into(),
        password: "short".into(),
        first_name: "x".repeat(101),
        last_name: "\u{7}".into(),
        user_id: "7".into(),
        client: None,
        invitation: "x".repeat(129),
    };
    let refused = auth.client().register(bad).await.expect_err("refused");
    assert_eq!(reason(&refused), Reason::ValidationFailed);
    assert_eq!(fields(&refused), ["user_id", "username", "email", "password", "first_name", "last_name", "invitation"]);
    let refused = auth.client().login(login_request("", "")).await.expect_err("refused");
    assert_eq!(fields(&refused), ["login", "password"]);
    let refused = auth.client().login(login_request("ada", &"x".repeat(1 << 20))).await.expect_err("refused");
    assert_eq!(fields(&refused), ["password"]);
    assert!(setup.users.told().is_empty());
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_reaches_user_svc_and_frees_the_old_name() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let renamed = rename(&auth, &ada, "Countess").await.expect("renamed");
    assert_eq!((renamed.username.as_str(), renamed.id.as_str()), ("Countess", ada.account.id.as_str()));
    assert_eq!(setup.users.told()[1], (ada.account.id.clone(), 2, "Countess".to_owned(), None));
    auth.login("countess").await;
    let bob = pb::RegisterRequest { email: "bob@example.org".into(), ..registration("ada") };
    auth.client().register(bob).await.expect("the name is free");
    let taken = rename(&auth, &ada, "ADA").await.expect_err("taken");
    assert_eq!(reason(&taken), Reason::AccountExists);
    let empty = rename(&auth, &ada, "").await.expect_err("refused");
    assert_eq!(fields(&empty), ["account.username"]);
    let account = pb::Account { username: "queen".to_owned(), ..Default::default() };
    let mut only = pb::UpdateAccountRequest { account: Some(account), validate_only: true, ..Default::default() };
    only.update_mask.get_or_insert_default().paths = vec!["username".to_owned()];
    let checked = auth.client().update_account(ada.says(only)).await.expect("it would be good").into_inner();
    assert_eq!(checked.account.expect("an account").username, "Countess");
    let mut other = pb::UpdateAccountRequest { account: Some(ada.account.clone()), ..Default::default() };
    other.update_mask.get_or_insert_default().paths = vec!["email".to_owned()];
    let refused = auth.client().update_account(ada.says(other)).await.expect_err("refused");
    assert_eq!(fields(&refused), ["update_mask"]);
    auth.stop().await;
}

async fn rename(auth: &crate::harness::Auth, member: &Member, name: &str) -> Result<pb::Account, tonic::Status> {
    let account = pb::Account { username: name.to_owned(), ..Default::default() };
    let mut request = pb::UpdateAccountRequest { account: Some(account), ..Default::default() };
    request.update_mask.get_or_insert_default().paths = vec!["username".to_owned()];
    let response = auth.client().update_account(member.says(request)).await?;
    Ok(response.into_inner().account.expect("an account"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_every_other_session_at_once() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let (phone, tablet) = (auth.login("ada").await, auth.login("ada").await);
    let change = |current: &str, new: &str| pb::ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
    };
    let wrong = auth.client().change_password(ada.says(change("wrong password", "new password"))).await;
    assert_eq!(reason(&wrong.expect_err("refused")), Reason::InvalidCredentials);
    let short = auth.client().change_password(ada.says(change(PASSWORD, "short"))).await;
    assert_eq!(fields(&short.expect_err("refused")), ["new_password"]);
    auth.check(&phone.access).await.expect("nothing has changed");
    let changed = auth.client().change_password(ada.says(change(PASSWORD, "new password"))).await.expect("changed");
    assert_eq!(changed.into_inner().revoked_sessions, 2);
    for ended in [&phone, &tablet] {
        let refused = auth.client().get_account(ended.says(pb::GetAccountRequest {})).await.expect_err("ended");
        assert_eq!(reason(&refused), Reason::TokenRevoked);
        assert_eq!(auth.refresh(&ended.refresh).await.expect_err("ended"), Reason::TokenRevoked);
    }
    auth.check(&ada.access).await.expect("the caller's session stays");
    let old = auth.client().login(login_request("ada", PASSWORD)).await.expect_err("the old one");
    assert_eq!(reason(&old), Reason::InvalidCredentials);
    auth.client().login(login_request("ada", "new password")).await.expect("the new one");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_gateways_word_about_the_client_counts() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let info = pb::ClientInfo { device: "d".repeat(300), ip_address: "192.0.2.7".into() };
    let told = pb::RegisterRequest { client: Some(info.clone()), ..registration("ada") };
    let through = auth.client().register(with_bearer(told, &setup.gateway_bearer())).await.expect("registered");
    let through = through.into_inner().tokens.expect("tokens").access_token;
    let by_itself = pb::LoginRequest { client: Some(info), ..login_request("ada", PASSWORD) };
    auth.client().login(by_itself).await.expect("logged in");
    let list = with_bearer(pb::ListSessionsRequest::default(), &through);
    let sessions = auth.client().list_sessions(list).await.expect("listed").into_inner().sessions;
    let (current, other) = match sessions.as_slice() {
        [first, second] if first.current => (first, second),
        [first, second] => (second, first),
        other => panic!("{} sessions", other.len()),
    };
    assert_eq!((current.device.as_str(), current.ip_address.as_str()), ("d".repeat(200).as_str(), "192.0.2.7"));
    assert_eq!((other.device.as_str(), other.ip_address.as_str()), ("", ""));
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_logins_is_refused_beyond_the_queue_and_told_when_to_come_back() {
    let setup = Setup::with("password_workers = 1\npassword_queue_max = 1\n").await;
    let auth = setup.start().await;
    auth.register("ada").await;
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let mut client = auth.client();
            tokio::spawn(async move { client.login(login_request("ada", PASSWORD)).await })
        })
        .collect();
    let (mut good, mut busy) = (0, 0);
    for call in calls {
        match call.await.expect("no panic") {
            Ok(_) => good += 1,
            Err(status) => {
                let refusal = mesh::error::Refusal::from_status(&status);
                assert_eq!(refusal.reason, Reason::RateLimited);
                assert!(refusal.retry_after.is_some());
                busy += 1;
            }
        }
    }
    assert!(good > 0 && busy > 0, "{good} good, {busy} refused");
    auth.login("ada").await;
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_registration_is_closed_those_who_are_there_log_in_and_nobody_else_registers() {
    let mut setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    auth.stop().await;
    setup.add("registration = \"closed\"");
    let auth = setup.start().await;
    let refused = auth.client().register(registration("bob")).await.expect_err("closed");
    assert_eq!((reason(&refused), refused.code()), (Reason::RegistrationClosed, Code::PermissionDenied));
    auth.login("ada").await;
    auth.refresh(&ada.refresh).await.expect("the session is whole");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_by_invitation_is_repeated_when_its_answer_is_lost() {
    let setup = Setup::with("registration = \"invitation\"").await;
    let auth = setup.start().await;
    let made = auth_svc::operator::invite(&setup.config(), "", None, "root").await.expect("made");
    let user_id = uuid::Uuid::now_v7().to_string();
    let request = pb::RegisterRequest { user_id, invitation: made.1.expose().to_owned(), ..registration("ada") };
    let first = auth.client().register(request.clone()).await.expect("registered").into_inner();
    let again = auth.client().register(request.clone()).await.expect("the same account").into_inner();
    assert_eq!(first.account, again.account);
    let other = pb::RegisterRequest { user_id: String::new(), invitation: request.invitation, ..registration("bob") };
    let refused = auth.client().register(other).await.expect_err("used");
    assert_eq!(reason(&refused), Reason::InvitationInvalid);
    auth.stop().await;
}
