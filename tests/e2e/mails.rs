//! What goes by mail, through real processes and to a real server of mail, which is sometimes at its worst: a forgotten
//! password, an address that must be verified, and mails that wait.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    factors,
    mesh::{Mesh, Part, Plan, get},
    rest::{Answer, Api, PASSWORD, Person, unique},
    smtp::{Manner, Secured, Sink, Taken},
    wait,
};

/// Another password that is good.
const NEW: &str = "a wholly different sentence";

/// A mesh whose mails go to this server, and which tries again soon.
fn plan(sink: &Sink, tls: &'static str) -> Plan {
    Mesh::plan()
        .set("auth.email.smtp_host", "localhost")
        .set("auth.email.smtp_port", sink.addr.port())
        .set("auth.email.smtp_tls", tls)
        .set("auth.email.sender", "Switchboard <no-reply@example.org>")
        .set("auth.email.retry_secs_max", 1)
        .set("auth.outbox_poll_ms", 50)
}

async fn forget(api: &Api, email: &str) -> Answer {
    api.post("/auth/password/forgot", json!({"email": email})).await
}

async fn reset(api: &Api, token: &str, password: &str) -> Answer {
    api.post("/auth/password/reset", json!({"token": token, "newPassword": password})).await
}

/// The one mail with such a link to somebody, once it is there.
async fn mail(sink: &Sink, to: &str, action: &str) -> Taken {
    let mails = wait::until(&format!("a mail for {action}"), async || {
        let mails = sink.of(to, &format!("#{action}="));
        (!mails.is_empty()).then_some(mails)
    })
    .await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    mails[0].clone()
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_by_mail_and_the_second_factor_is_asked_for_as_ever() {
    let sink = Sink::start(Secured::No).await;
    let mesh = plan(&sink, "none").separate().set("auth.mfa_issuer", "Kraków & Söhne").start();
    let api = Api::new(&mesh);
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let (mut app, _) = factors::guarded(&ada).await;
    // Remembered, which must not outlive the reset.
    let body = api.post("/auth/login", json!({"username": ada.username, "password": PASSWORD})).await;
    let ticket = body.refused(401, "MFA_REQUIRED")["mfa"]["ticket"].clone();
    let step = json!({"ticket": ticket, "code": app.code().await, "rememberDevice": true});
    let body = api.post("/auth/login/mfa", step).await.ok(200);
    let device = body["deviceToken"].clone();
    let phone = Person::from_answer(&api, &body);

    let known = forget(&api, &ada.email.to_uppercase()).await.ok(202);
    let unknown = forget(&api.v1(), "nobody@example.com").await.ok(202);
    assert_eq!(known, unknown);
    let mail = mail(&sink, &ada.email, "reset-password").await;
    assert_eq!(mail.header("from").unwrap(), "Switchboard <no-reply@example.org>");
    assert!(mail.header("content-type").unwrap().starts_with("multipart/alternative"));
    assert!(mail.text.contains("Krak=C3=B3w &amp; S=C3=B6hne"), "{}", mail.text);
    assert!(mail.text.contains(&format!("http://localhost:3000/#reset-password={}", mail.token())), "{}", mail.text);
    let (token, bobs) = (mail.token(), {
        forget(&api, &bob.email).await.ok(202);
        self::mail(&sink, &bob.email, "reset-password").await.token()
    });
    for bad in [&token[1..], &token[..46], &format!("{}{}", &token[..40], &bobs[40..]), "x"] {
        reset(&api, bad, NEW).await.refused(403, "EMAIL_TOKEN_INVALID");
    }
    reset(&api, &token, "short").await.invalid("newPassword", "8");
    reset(&api, &token, "password1").await.invalid("newPassword", "easy to guess");
    api.post("/auth/email/verify", json!({"token": token})).await.refused(403, "EMAIL_TOKEN_INVALID");
    reset(&api.v1(), &token, NEW).await.ok(200);
    reset(&api, &token, NEW).await.refused(403, "EMAIL_TOKEN_INVALID");
    for ended in [&ada, &phone] {
        wait::until("the session has ended", async || (ended.get("/rooms").await.status == 401).then_some(())).await;
    }
    bob.get("/rooms").await.ok(200);
    api.post("/auth/login", json!({"username": ada.username, "password": PASSWORD}))
        .await
        .refused(401, "INVALID_CREDENTIALS");
    let login = json!({"email": ada.email, "password": NEW, "deviceToken": device});
    let body = api.post("/auth/login", login).await.refused(401, "MFA_REQUIRED");
    let step = json!({"ticket": body["mfa"]["ticket"], "code": app.code().await});
    let body = api.post("/auth/login/mfa", step).await.ok(200);
    assert_eq!(body["user"]["emailVerified"], true);
    wait::until("the owner is told", async || (!sink.of(&ada.email, "was changed at").is_empty()).then_some(())).await;
    // Bob's was for Bob, and nobody else got a mail.
    reset(&api, &bobs, NEW).await.ok(200);
    bob.get("/rooms").await;
    assert!(sink.taken().iter().all(|mail| mail.to == [ada.email.clone()] || mail.to == [bob.email.clone()]));
}

#[tokio::test]
async fn a_mail_server_that_puts_off_hangs_or_dies_gets_each_mail_in_the_end_and_a_restart_loses_none() {
    let sink = Sink::start(Secured::No).await;
    // One that hangs is left soon; one that is only slow, because this machine is busy, is not.
    let mesh = plan(&sink, "none").separate().set("auth.email.smtp_timeout_secs", 3).start();
    let api = Api::new(&mesh);
    for manner in [Manner::PutsOff, Manner::Hangs, Manner::Dies] {
        sink.behave(manner);
        let ada = Person::register(&api, "ada").await;
        forget(&api, &ada.email).await.ok(202);
        let before = sink.connections();
        wait::until("some tries", async || (sink.connections() > before + 3).then_some(())).await;
        assert!(sink.of(&ada.email, "#reset-password=").is_empty(), "{manner:?}");
        if manner == Manner::Dies {
            // With mails waiting, and one of them perhaps on its way.
            mesh.kill(Part::Auth);
            sink.behave(Manner::Takes);
            mesh.start(Part::Auth);
        } else {
            sink.behave(Manner::Takes);
        }
        let token = mail(&sink, &ada.email, "reset-password").await.token();
        mail(&sink, &ada.email, "verify-email").await;
        reset(&api, &token, NEW).await.ok(200);
    }
    // One that took it and did not say so gets it twice, under one id and with one token; one that only does not say
    // goodbye gets it once.
    for (manner, copies) in [(Manner::TakesAndDies, 2), (Manner::HangsAtTheEnd, 1)] {
        let ada = Person::register(&api, "ada").await;
        mail(&sink, &ada.email, "verify-email").await;
        sink.behave(manner);
        forget(&api, &ada.email).await.ok(202);
        let mails = |count| {
            let mails = sink.of(&ada.email, "#reset-password=");
            (mails.len() >= count).then_some(mails)
        };
        wait::until("the mail", async || mails(1)).await;
        sink.behave(Manner::Takes);
        // Another mail goes after it: what was to be sent again has been.
        let bob = Person::register(&api, "bob").await;
        mail(&sink, &bob.email, "verify-email").await;
        let mails = wait::until("all copies", async || mails(copies)).await;
        let ids: Vec<_> = mails.iter().map(|mail| mail.header("message-id").unwrap()).collect();
        assert!(mails.iter().all(|mail| mail.token() == mails[0].token()), "{mails:?}");
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        reset(&api, &mails[0].token(), NEW).await.ok(200);
        reset(&api, &mails[0].token(), NEW).await.refused(403, "EMAIL_TOKEN_INVALID");
        // One that has it and says so is not asked again.
        assert!(manner == Manner::TakesAndDies || mails.len() == copies, "{mails:?}");
    }
    // What is refused for good is not tried for ever.
    sink.behave(Manner::Refuses);
    let eve = Person::register(&api, "eve").await;
    wait::until("it is given up", async || {
        let metrics = get(mesh.ops(Part::Auth), "/metrics").unwrap().1;
        metrics.contains(r#"switchboard_auth_mails_total{kind="email_verification",outcome="refused"} 1"#).then_some(())
    })
    .await;
    sink.behave(Manner::Takes);
    let bob = Person::register(&api, "bob").await;
    mail(&sink, &bob.email, "verify-email").await;
    assert!(sink.of(&eve.email, "").is_empty());
}

#[tokio::test]
async fn replicas_of_auth_svc_send_each_mail_once() {
    let sink = Sink::start(Secured::No).await;
    sink.behave(Manner::PutsOff);
    let mesh = plan(&sink, "none").replicas(1, 2).start();
    let api = Api::new(&mesh);
    let mut people = Vec::new();
    for _ in 0..12 {
        people.push(Person::register(&api, "ada").await);
    }
    sink.behave(Manner::Takes);
    for person in &people {
        wait::until("the mail", async || (!sink.of(&person.email, "#verify-email=").is_empty()).then_some(())).await;
    }
    for person in &people {
        assert_eq!(sink.of(&person.email, "#verify-email=").len(), 1);
    }
}

#[tokio::test]
async fn mail_goes_over_tls_or_not_at_all_to_a_server_whose_certificate_is_trusted() {
    for (secured, tls) in [(Secured::ByStarttls, "starttls"), (Secured::FromTheStart, "implicit")] {
        let sink = Sink::start(secured).await;
        let folder = tempfile::TempDir::new().unwrap();
        let trusted = folder.path().join("ca.pem");
        std::fs::write(&trusted, &sink.certificate).unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, "a password of the server\n").unwrap();
        let (trusted, password) = (trusted.display().to_string(), password.display().to_string());
        let mesh = plan(&sink, tls)
            .set("auth.email.smtp_ca_file", trusted.as_str())
            .set("auth.email.smtp_user", "switchboard")
            .set("auth.email.smtp_password_file", password.as_str())
            .start();
        let ada = Person::new(&mesh, "ada").await;
        let mail = mail(&sink, &ada.email, "verify-email").await;
        assert!(mail.secure, "{tls}");
        // `\0switchboard\0a password of the server` in base64.
        let login = "AHN3aXRjaGJvYXJkAGEgcGFzc3dvcmQgb2YgdGhlIHNlcnZlcg==";
        assert_eq!(mail.login.as_deref(), Some(login));
    }
    // A server that offers no TLS, and one whose certificate nobody has said to trust, get nothing.
    for (secured, tls) in
        [(Secured::No, "starttls"), (Secured::ByStarttls, "starttls"), (Secured::FromTheStart, "implicit")]
    {
        let sink = Sink::start(secured).await;
        let mesh = plan(&sink, tls).start();
        Person::new(&mesh, "ada").await;
        wait::until("some tries", async || (sink.connections() > 2).then_some(())).await;
        assert!(sink.taken().is_empty(), "{secured:?}");
    }
}

#[tokio::test]
async fn nothing_that_somebody_is_called_becomes_a_header_or_a_recipient() {
    let sink = Sink::start(Secured::No).await;
    let mesh = plan(&sink, "none").start();
    let api = Api::new(&mesh);
    for bad in ["ada@example.com\r\nBcc: eve@example.com", "ada@example.com\nX: y", "<eve@example.com> ada@example.com"]
    {
        let body = json!({"username": unique("ada"), "email": bad, "password": PASSWORD});
        api.post("/auth/register", body).await.invalid("email", "");
        forget(&api, bad).await.invalid("email", "");
    }
    let name = unique("ada");
    // An address that the product takes and that mail cannot be sent to as it is.
    let strange = format!("{name},eve@example.com");
    let body = json!({"username": name, "email": strange, "password": PASSWORD});
    api.post("/auth/register", body).await.ok(201);
    let request = api.request(Method::POST, "/auth/password/forgot", None);
    let ada = Person::register(&api, "ada").await;
    let device = "Browser\"><script>alert(1)</script>";
    let request = request.header("user-agent", device).json(&json!({"email": ada.email}));
    Answer::read(request).await.unwrap().ok(202);
    let mail = mail(&sink, &ada.email, "reset-password").await;
    let html = mail.text.split("text/html").nth(1).unwrap();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !html.contains("<script>"), "{html}");
    assert!(sink.taken().iter().all(|mail| mail.to == [ada.email.clone()]), "{:?}", sink.taken());
}

#[tokio::test]
async fn email_unverified_is_an_address_that_must_be_verified_before_a_login() {
    let sink = Sink::start(Secured::No).await;
    let mesh = plan(&sink, "none").set("auth.email.require_verified", true).start();
    let api = Api::new(&mesh);
    let name = unique("ada");
    let email = format!("{name}@example.com");
    let body = json!({"username": name, "email": email, "password": PASSWORD});
    api.post("/auth/register", body.clone()).await.refused(403, "EMAIL_UNVERIFIED");
    api.post("/auth/register", body).await.refused(400, "ACCOUNT_EXISTS");
    let login = json!({"username": name, "password": PASSWORD});
    api.post("/auth/login", login.clone()).await.refused(403, "EMAIL_UNVERIFIED");
    api.post("/auth/login", json!({"username": name, "password": "wrong one"}))
        .await
        .refused(401, "INVALID_CREDENTIALS");
    mail(&sink, &email, "verify-email").await;
    let resend = api.post("/auth/email/verify/resend", json!({"email": email})).await.ok(202);
    let unknown = api.post("/auth/email/verify/resend", json!({"email": "nobody@example.com"})).await.ok(202);
    assert_eq!(resend, unknown);
    let mails = wait::until("another one", async || {
        let mails = sink.of(&email, "#verify-email=");
        (mails.len() == 2).then_some(mails)
    })
    .await;
    let token = mails[1].token();
    api.post("/auth/email/verify", json!({"token": &token[..46]})).await.refused(403, "EMAIL_TOKEN_INVALID");
    api.post("/auth/email/verify", json!({"token": token})).await.ok(200);
    api.post("/auth/email/verify", json!({"token": mails[0].token()})).await.refused(403, "EMAIL_TOKEN_INVALID");
    let body = api.post("/auth/login", login).await.ok(200);
    assert_eq!(body["user"]["emailVerified"], true);
    let ada = Person::from_answer(&api, &body);
    assert_eq!(ada.get("/auth/sessions").await.ok(200)["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn email_disabled_is_an_installation_that_sends_no_mail() {
    let mesh = Mesh::plan().set("auth.email.enabled", false).start();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    forget(&api, &ada.email).await.refused(403, "EMAIL_DISABLED");
    api.post("/auth/email/verify", json!({"token": "x"})).await.refused(403, "EMAIL_DISABLED");
    api.post("/auth/email/verify/resend", json!({"email": ada.email})).await.refused(403, "EMAIL_DISABLED");
    reset(&api, "x", NEW).await.refused(403, "EMAIL_DISABLED");
    assert_eq!(get(mesh.ports.auth_ops, "/mailbox").unwrap().0, 404);
}

#[tokio::test]
async fn who_asks_for_mails_to_one_address_waits_after_some_and_a_laptop_shows_what_was_sent() {
    let mesh = Mesh::plan().set("gateway.rates.guesses.account.free", 2).start();
    let api = Api::new(&mesh);
    let ada = Person::register(&api, "ada").await;
    let mailbox = || -> Vec<Value> {
        let (status, body) = get(mesh.ports.auth_ops, "/mailbox").unwrap();
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["mails"].as_array().unwrap().iter().filter(|mail| mail["kind"] == "password_reset").cloned().collect()
    };
    // The waits double, so however slow this machine is, one is met.
    for address in [ada.email.as_str(), "nobody@example.com"] {
        forget(&api, address).await.ok(202);
        let limited = wait::until("the limit", async || {
            let answer = forget(&api, address).await;
            (answer.status != 202).then_some(answer)
        })
        .await;
        limited.refused(429, "RATE_LIMITED");
    }
    let mails = wait::until("the mail", async || Some(mailbox()).filter(|mails| !mails.is_empty())).await;
    assert!(mails.iter().all(|mail| mail["to"] == ada.email), "{mails:?}");
    // The link leads to the page of this very process.
    let link = format!("http://localhost:{}/#reset-password=", mesh.ports.public);
    assert!(mails[0]["text"].as_str().unwrap().contains(&link), "{mails:?}");
    // Asking locks nobody out.
    ada.login().await;
}
