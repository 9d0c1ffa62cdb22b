//! Mails over gRPC, seen in the mailbox of a laptop: forgotten passwords, verified addresses, and what nobody may learn. Mail
//! servers at their worst are tested end to end.

use std::time::{Duration, Instant};

use mesh::{
    error::Reason,
    proto::auth::v1::{self as pb, email_service_client::EmailServiceClient},
    serve::{Listeners, bind},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    factors::guarded,
    harness::{Auth, PASSWORD, Setup, fields, login_request, reason, registration, until, with_bearer},
    process::get,
};

/// Another password that is good.
const NEW: &str = "a wholly different sentence";

fn email(auth: &Auth) -> EmailServiceClient<Channel> {
    EmailServiceClient::new(auth.channel())
}

/// The mails that would have been sent, the newest first.
async fn mailbox(auth: &Auth) -> Vec<Value> {
    let answer = get(auth.ops, "/mailbox").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    body["mails"].as_array().expect("mails").clone()
}

/// The token of the newest mail of a kind to an address, once it is there; how many there must be.
async fn token(auth: &Auth, kind: &str, to: &str, count: usize) -> String {
    let mut found = Vec::new();
    until("the mail", async || {
        found = mailbox(auth).await;
        found.retain(|mail| mail["kind"] == kind && mail["to"] == to);
        found.len() >= count
    })
    .await;
    assert_eq!(found.len(), count, "{found:?}");
    let text = found[0]["text"].as_str().expect("a text");
    let at = text.find("sbl_").expect("a token");
    assert!(found[0]["html"].as_str().expect("HTML").contains(&text[at..at + 47]));
    text[at..at + 47].to_owned()
}

async fn forget(auth: &Auth, address: &str) {
    let request = pb::RequestPasswordResetRequest { email: address.to_owned() };
    email(auth).request_password_reset(request).await.expect("taken");
}

async fn reset(auth: &Auth, token: &str, password: &str) -> Result<(), tonic::Status> {
    let request = pb::ResetPasswordRequest { token: token.to_owned(), new_password: password.to_owned() };
    email(auth).reset_password(request).await.map(drop)
}

async fn verify(auth: &Auth, token: &str) -> Result<(), Reason> {
    let request = pb::VerifyEmailRequest { token: token.to_owned() };
    email(auth).verify_email(request).await.map(drop).map_err(|status| reason(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_set_anew_by_a_token_once_and_ends_every_session() {
    let setup = Setup::new().await;
    let (auth, other) = (setup.start().await, setup.start().await);
    let (ada, phone) = (auth.register("ada").await, auth.login("ada").await);
    let bob = auth.register("bob").await;
    forget(&auth, "ADA@example.org").await;
    let mut mails = Vec::new();
    until("the mail, from whichever replica took it", async || {
        mails = mailbox(&auth).await;
        mails.extend(mailbox(&other).await);
        mails.retain(|mail| mail["kind"] == "password_reset");
        !mails.is_empty()
    })
    .await;
    assert_eq!((mails.len(), &mails[0]["to"]), (1, &Value::from("ada@example.org")));
    let text = mails[0]["text"].as_str().expect("a text");
    let token = &text[text.find("#reset-password=").expect("a link") + 16..][..47];
    let weak = reset(&auth, token, "password1").await.expect_err("easy to guess");
    assert_eq!((reason(&weak), fields(&weak)), (Reason::ValidationFailed, vec!["new_password".to_owned()]));
    for bad in [&token[..46], &format!("{token}x"), &token.to_lowercase(), "sbl_", "garbage"] {
        assert_eq!(reason(&reset(&auth, bad, NEW).await.expect_err("none")), Reason::EmailTokenInvalid, "{bad}");
    }
    assert_eq!(verify(&auth, token).await, Err(Reason::EmailTokenInvalid), "it is for something else");
    reset(&other, token, NEW).await.expect("set");
    let again = reset(&auth, token, NEW).await.expect_err("once");
    assert_eq!(reason(&again), Reason::EmailTokenInvalid);
    for ended in [&ada, &phone] {
        assert_eq!(other.check(&ended.access).await.expect_err("over"), Reason::TokenRevoked);
        assert_eq!(auth.refresh(&ended.refresh).await.expect_err("over"), Reason::TokenRevoked);
    }
    auth.check(&bob.access).await.expect("another's is left alone");
    let old = auth.client().login(login_request("ada", PASSWORD)).await.expect_err("the old one");
    assert_eq!(reason(&old), Reason::InvalidCredentials);
    let back = auth.client().login(login_request("ada", NEW)).await.expect("the new one").into_inner();
    let account = back.account.expect("an account");
    assert!(account.email_verify_time.is_some(), "the mail arrived");
    until("the owner is told", async || {
        let mut mails = mailbox(&auth).await;
        mails.extend(mailbox(&other).await);
        mails.iter().any(|mail| mail["kind"] == "password_changed" && mail["to"] == "ada@example.org")
    })
    .await;
    auth.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_verified_by_its_token_alone() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let (ada, _bob) = (auth.register("ada").await, auth.register("bob").await);
    let welcome = token(&auth, "email_verification", "ada@example.org", 1).await;
    let verified = async || {
        let answer = auth.client().get_account(ada.says(pb::GetAccountRequest {})).await.expect("read");
        answer.into_inner().account.expect("an account").email_verify_time.is_some()
    };
    assert!(!verified().await);
    assert_eq!(reason(&reset(&auth, &welcome, NEW).await.expect_err("for something else")), Reason::EmailTokenInvalid);
    verify(&auth, &welcome).await.expect("noted");
    assert!(verified().await);
    assert_eq!(verify(&auth, &welcome).await, Err(Reason::EmailTokenInvalid), "once");
    // Who is verified gets no more of these; who is not gets another one, and the first is good as well.
    for address in ["ada@example.org", "bob@example.org"] {
        let request = pb::RequestEmailVerificationRequest { email: address.to_owned() };
        email(&auth).request_email_verification(request).await.expect("taken");
    }
    let bobs = token(&auth, "email_verification", "bob@example.org", 2).await;
    verify(&auth, &bobs).await.expect("noted");
    token(&auth, "email_verification", "ada@example.org", 1).await;
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_address_must_be_verified_nobody_is_in_before() {
    let setup = Setup::with("email.require_verified = true\n").await;
    let auth = setup.start().await;
    let refused = auth.client().register(registration("ada")).await.expect_err("no session yet");
    assert_eq!(reason(&refused), Reason::EmailUnverified);
    let refused = auth.client().login(login_request("ada", PASSWORD)).await.expect_err("not yet");
    assert_eq!(reason(&refused), Reason::EmailUnverified);
    // Who does not know the password learns nothing of it.
    let stranger = auth.client().login(login_request("ada", "not the password")).await.expect_err("wrong");
    assert_eq!(reason(&stranger), Reason::InvalidCredentials);
    let token = token(&auth, "email_verification", "ada@example.org", 1).await;
    verify(&auth, &token).await.expect("noted");
    let ada = auth.login("ada").await;
    let sessions = auth.client().list_sessions(ada.says(pb::ListSessionsRequest::default())).await.expect("read");
    assert_eq!(sessions.into_inner().sessions.len(), 1, "the registration left none");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_tells_nobody_whether_there_is_an_account_and_sends_a_few_mails_at_most() {
    let setup = Setup::with("email.account_hourly_max = 2\n").await;
    let auth = setup.start().await;
    auth.register("ada").await;
    let mut times: [Vec<Duration>; 2] = Default::default();
    for number in 0..40 {
        for (index, address) in
            ["ada@example.org".to_owned(), format!("nobody-{number}@example.org")].iter().enumerate()
        {
            let begun = Instant::now();
            let request = pb::RequestPasswordResetRequest { email: address.clone() };
            let answer = email(&auth).request_password_reset(request).await.expect("taken").into_inner();
            times[index].push(begun.elapsed());
            assert_eq!(answer, pb::RequestPasswordResetResponse {});
        }
    }
    for (who, times) in ["known", "unknown"].into_iter().zip(&mut times) {
        times.sort_unstable();
        println!("asking for a reset of a {who} address: median {:?}, p90 {:?}", times[20], times[36]);
    }
    // The welcome is one of the two.
    token(&auth, "password_reset", "ada@example.org", 1).await;
    until("all is seen to", async || {
        let metrics = get(auth.ops, "/metrics").await;
        metrics.contains(r#"switchboard_auth_mails_total{kind="password_reset",outcome="needless"} 40"#)
    })
    .await;
    assert!(mailbox(&auth).await.iter().all(|mail| mail["to"] == "ada@example.org"));
    let bad = pb::RequestPasswordResetRequest { email: "no address".to_owned() };
    let refused = email(&auth).request_password_reset(bad).await.expect_err("refused");
    assert_eq!((reason(&refused), fields(&refused)), (Reason::ValidationFailed, vec!["email".to_owned()]));
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_told_of_a_new_password_a_changed_factor_and_a_new_device() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let told = async |kind: &str| {
        let mails = mailbox(&auth).await;
        mails.into_iter().filter(|mail| mail["kind"] == kind && mail["to"] == "ada@example.org").collect::<Vec<_>>()
    };
    let login = async |device: &str, known_device| {
        let client = Some(pb::ClientInfo { device: device.to_owned(), ip_address: "192.0.2.1".to_owned() });
        let request = pb::LoginRequest { client, known_device, ..login_request("ada", PASSWORD) };
        auth.client().login(with_bearer(request, &setup.gateway_bearer())).await.expect("logged in");
    };
    login("a known phone", true).await;
    login("<b>a new laptop</b>", false).await;
    login("<b>a new laptop</b>", false).await;
    until("of the new device", async || !told("new_device").await.is_empty()).await;
    let change = pb::ChangePasswordRequest { current_password: PASSWORD.to_owned(), new_password: NEW.to_owned() };
    auth.client().change_password(ada.says(change)).await.expect("changed");
    until("of the new password", async || !told("password_changed").await.is_empty()).await;
    guarded(&auth, &ada).await;
    until("of the new factor", async || !told("factor_changed").await.is_empty()).await;
    let devices = told("new_device").await;
    assert_eq!(devices.len(), 1, "{devices:?}");
    assert!(devices[0]["text"].as_str().expect("a text").contains("<b>a new laptop</b>"));
    assert!(devices[0]["html"].as_str().expect("HTML").contains("&lt;b&gt;a new laptop&lt;/b&gt;"));
    let factor = &told("factor_changed").await[0];
    assert!(factor["text"].as_str().expect("a text").contains("an authenticator app was added"), "{factor}");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_where_notices_are_off() {
    let setup = Setup::with("email.notices = false\n").await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let change = pb::ChangePasswordRequest { current_password: PASSWORD.to_owned(), new_password: NEW.to_owned() };
    auth.client().change_password(ada.says(change)).await.expect("changed");
    // What comes after it has come.
    auth.register("bob").await;
    token(&auth, "email_verification", "bob@example.org", 1).await;
    assert!(mailbox(&auth).await.iter().all(|mail| mail["kind"] == "email_verification"));
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_has_no_token_of_any_mail() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    auth.register("ada").await;
    forget(&auth, "ada@example.org").await;
    let tokens = [
        token(&auth, "password_reset", "ada@example.org", 1).await,
        token(&auth, "email_verification", "ada@example.org", 1).await,
    ];
    auth.stop().await;
    for entry in std::fs::read_dir(setup.data.path()).expect("the folder") {
        let path = entry.expect("an entry").path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        for token in &tokens {
            let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(!found, "{} has a token", path.display());
        }
    }
    // A token outlives the process that made it.
    let auth = setup.start().await;
    reset(&auth, &tokens[0], NEW).await.expect("set");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_good_for_nothing() {
    let mut setup = Setup::new().await;
    setup.add("email.reset_secs = 60");
    let auth = setup.start().await;
    auth.register("ada").await;
    forget(&auth, "ada@example.org").await;
    let token = token(&auth, "password_reset", "ada@example.org", 1).await;
    auth.stop().await;
    let url = format!("sqlite:{}", setup.data.path().join("auth.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("opened");
    sqlx::query("UPDATE mail_tokens SET expires_at = 1").execute(&pool).await.expect("aged");
    pool.close().await;
    let auth = setup.start().await;
    assert_eq!(reason(&reset(&auth, &token, NEW).await.expect_err("expired")), Reason::EmailTokenInvalid);
    auth.login("ada").await;
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_mail_is_sent_calls_for_it_say_so_and_there_is_no_mailbox() {
    let setup = Setup::with("email.enabled = false\n").await;
    let auth = setup.start().await;
    auth.register("ada").await;
    let request = pb::RequestPasswordResetRequest { email: "ada@example.org".to_owned() };
    let refused = email(&auth).request_password_reset(request).await.expect_err("disabled");
    assert_eq!(reason(&refused), Reason::EmailDisabled);
    assert_eq!(reason(&reset(&auth, "sbl_x", NEW).await.expect_err("disabled")), Reason::EmailDisabled);
    assert_eq!(verify(&auth, "sbl_x").await, Err(Reason::EmailDisabled));
    assert!(get(auth.ops, "/mailbox").await.starts_with("HTTP/1.1 404"));
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_cannot_work_as_it_is_set_is_told_at_the_start_in_one_sentence() {
    let setup = Setup::new().await;
    let folder = setup.data.path().join("templates");
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(folder.join("password_reset.txt"), "Subject: x\n\nHello {{nobody}}\n").expect("written");
    let local = "127.0.0.1:0".parse().expect("an address");
    type Change = fn(&mut auth_svc::mail::EmailConfig);
    let changes: [(Change, &str); 3] = [
        (|email| email.smtp_ca_file = "/nowhere/ca.pem".into(), "auth.email.smtp_ca_file"),
        (|email| (email.enabled, email.require_verified) = (false, true), "auth.email.require_verified"),
        (|email| email.smtp_host = String::new(), "there is no value nobody"),
    ];
    for (change, says) in changes {
        let listeners = Listeners {
            grpc: bind("a test", local, "A_TEST").await.expect("a port"),
            ops: bind("a test", local, "A_TEST").await.expect("a port"),
        };
        let mut config = setup.config();
        config.auth.email.smtp_host = "localhost".to_owned();
        change(&mut config.auth.email);
        if says.contains("nobody") {
            config.auth.email.templates.clone_from(&folder);
        }
        let error = auth_svc::serve(config, listeners, CancellationToken::new()).await.expect_err("refused");
        let text = error.to_string();
        assert!(text.contains(says) && !text.contains('\n'), "{text}");
    }
}
