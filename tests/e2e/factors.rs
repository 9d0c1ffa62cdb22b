//! The second factor as people meet it: an app added, codes asked and used once, recovery codes, remembered devices,
//! step-up by the factor, and what guessing meets.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Method, header};
use serde_json::{Value, json};
use totp_rs::{Builder, Secret, Totp};

use crate::{
    mesh::Mesh,
    rest::{Answer, Api, PASSWORD, Person},
    wait,
};

/// An authenticator app. It gives each code once, as people do.
pub(crate) struct App {
    totp: Totp,
    last: u64,
}

impl App {
    fn new(secret: &Value) -> Self {
        let secret = Secret::try_from_base32(secret.as_str().unwrap()).unwrap();
        Self { totp: Builder::new().with_secret(secret).build().unwrap(), last: 0 }
    }

    /// The next code that is good now: the server takes one of a step before or after. The fourth in half a minute waits.
    pub(crate) async fn code(&mut self) -> String {
        let step = wait::until("a code that was not used", async || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 30;
            let next = (self.last + 1).max(now - 1);
            (next <= now + 1).then_some(next)
        });
        self.last = step.await;
        self.totp.generate(self.last * 30).to_string()
    }

    /// The code that was given last.
    fn used(&self) -> String {
        self.totp.generate(self.last * 30).to_string()
    }

    /// Six digits that are the code of no step near.
    fn wrong(&self) -> String {
        let near: Vec<_> = (0..8).map(|step| self.totp.generate((self.last + step - 3) * 30).to_string()).collect();
        (0..).map(|number| format!("{number:06}")).find(|code| !near.contains(code)).unwrap()
    }
}

/// Adds an app to somebody's account: the app and the recovery codes.
pub(crate) async fn guarded(person: &Person) -> (App, Vec<String>) {
    let started = person.post("/auth/factors/totp", json!({})).await.ok(201);
    let mut app = App::new(&started["secret"]);
    let code = app.code().await;
    let body = person.post("/auth/factors/totp/confirm", json!({"code": code})).await.ok(200);
    let codes =
        body["recoveryCodes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect();
    (app, codes)
}

async fn login(person: &Person, device_token: Option<&str>) -> Answer {
    let body = json!({"username": person.username, "password": PASSWORD, "deviceToken": device_token});
    person.api.post("/auth/login", body).await
}

/// A ticket of a login that is asked for a code.
async fn ticket(person: &Person) -> String {
    let body = login(person, None).await.refused(401, "MFA_REQUIRED");
    assert_eq!(body["mfa"]["methods"], json!(["totp", "recovery_code"]), "{body}");
    assert!(body["mfa"]["expiresIn"].as_i64().unwrap() > 0, "{body}");
    body["mfa"]["ticket"].as_str().unwrap().to_owned()
}

async fn complete(api: &Api, ticket: &str, code: &str) -> Answer {
    api.post("/auth/login/mfa", json!({"ticket": ticket, "code": code})).await
}

#[tokio::test]
async fn an_app_is_added_by_a_code_of_it_and_shown_as_text_and_picture_once() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let body = ada.get("/auth/factors").await.ok(200);
    assert_eq!((&body["totp"]["enabled"], &body["recoveryCodesLeft"]), (&json!(false), &json!(0)));
    let confirm = "/auth/factors/totp/confirm";
    ada.post(confirm, json!({"code": "123456"})).await.refused(404, "NOT_FOUND");
    let first = ada.post("/auth/factors/totp", json!({})).await.ok(201);
    let started = ada.post("/auth/factors/totp", json!({})).await.ok(201);
    assert_ne!(first["secret"], started["secret"], "one that was not confirmed makes room");
    let uri = started["otpauthUri"].as_str().unwrap();
    assert!(uri.starts_with(&format!("otpauth://totp/Switchboard:{}?", ada.username)), "{uri}");
    assert!(uri.contains(started["secret"].as_str().unwrap()), "{uri}");
    assert!(started["qrSvg"].as_str().unwrap().contains("<svg"));
    let mut app = App::new(&started["secret"]);
    let mut old = App::new(&first["secret"]);
    ada.post(confirm, json!({"code": old.code().await})).await.refused(401, "MFA_CODE_INVALID");
    ada.post(confirm, json!({})).await.invalid("code", "required");
    login(&ada, None).await.ok(200);
    let body = ada.post(confirm, json!({"code": app.code().await})).await.ok(200);
    assert_eq!(body["recoveryCodes"].as_array().unwrap().len(), 10);
    let body = ada.get("/auth/factors").await.ok(200);
    assert_eq!((&body["totp"]["enabled"], &body["recoveryCodesLeft"]), (&json!(true), &json!(10)));
    crate::accounts::check_time(&body["totp"]["enabledAt"]);
    ada.post("/auth/factors/totp", json!({})).await.refused(409, "CONFLICT");
    ada.post(confirm, json!({"code": app.used()})).await.refused(404, "NOT_FOUND");
    for (method, path) in
        [(Method::GET, ""), (Method::POST, "/totp"), (Method::DELETE, "/totp"), (Method::DELETE, "/devices")]
    {
        ada.api.call(method, &format!("/auth/factors{path}"), None, None).await.refused(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_login_with_a_second_factor_wants_a_code_that_was_never_used_from_where_it_began() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let (mut app, codes) = guarded(&ada).await;
    let wrong = json!({"username": ada.username, "password": "not the password"});
    ada.api.post("/auth/login", wrong).await.refused(401, "INVALID_CREDENTIALS");
    let ticket = ticket(&ada).await;
    complete(&ada.api, &ticket, &app.used()).await.refused(401, "MFA_CODE_INVALID");
    complete(&ada.api, &ticket, &app.wrong()).await.refused(401, "MFA_CODE_INVALID");
    complete(&ada.api, &format!("{ticket}A"), "123456").await.refused(401, "TOKEN_INVALID");
    let code = app.code().await;
    let body = json!({"ticket": ticket, "code": code});
    let elsewhere = ada.api.request(Method::POST, "/auth/login/mfa", None).header(header::USER_AGENT, "Another/1.0");
    Answer::read(elsewhere.json(&body)).await.unwrap().refused(401, "TOKEN_INVALID");
    let opened = Person::from_answer(&ada.api, &complete(&ada.api, &ticket, &code).await.ok(200));
    opened.get("/auth/profile").await.ok(200);
    complete(&ada.api, &ticket, &code).await.refused(401, "MFA_CODE_INVALID");
    let typed = codes[3].to_lowercase().replace('-', " ");
    complete(&ada.api, &ticket, &typed).await.ok(200);
    complete(&ada.api, &ticket, &codes[3]).await.refused(401, "MFA_CODE_INVALID");
    assert_eq!(ada.get("/auth/factors").await.ok(200)["recoveryCodesLeft"], 9);
    let made = ada.post("/auth/factors/recovery-codes", json!({})).await.ok(201);
    complete(&ada.api, &ticket, &codes[4]).await.refused(401, "MFA_CODE_INVALID");
    complete(&ada.api, &ticket, made["recoveryCodes"][4].as_str().unwrap()).await.ok(200);
    let history = ada.get("/auth/history").await.ok(200);
    let second = |result: &str| {
        let logins = history["logins"].as_array().unwrap().iter();
        logins.filter(|login| login["event"] == "login.second_factor" && login["result"] == result).count()
    };
    assert_eq!((second("success"), second("failure")), (3, 5), "{history}");
    // A ticket is worth nothing once the password has changed.
    let change = json!({"currentPassword": PASSWORD, "newPassword": "another good one"});
    ada.put("/auth/password", change).await.ok(200);
    complete(&ada.api, &ticket, made["recoveryCodes"][5].as_str().unwrap()).await.refused(401, "TOKEN_INVALID");
}

#[tokio::test]
async fn a_remembered_device_logs_in_without_a_code_until_it_is_forgotten() {
    let mesh = Mesh::shared();
    let (ada, eve) = (Person::new(&mesh, "ada").await, Person::new(&mesh, "eve").await);
    let (_, codes) = guarded(&ada).await;
    let (_, eves) = guarded(&eve).await;
    let remember = async |person: &Person, code: &str| {
        let body = json!({"ticket": ticket(person).await, "code": code, "rememberDevice": true});
        let body = person.api.post("/auth/login/mfa", body).await.ok(200);
        body["deviceToken"].as_str().unwrap().to_owned()
    };
    let body = json!({"ticket": ticket(&ada).await, "code": codes[0], "rememberDevice": "yes"});
    ada.api.post("/auth/login/mfa", body).await.invalid("rememberDevice", "true or false");
    let plain = complete(&ada.api, &ticket(&ada).await, &codes[0]).await.ok(200);
    login(&ada, plain["deviceToken"].as_str()).await.refused(401, "MFA_REQUIRED");
    let token = remember(&ada, &codes[1]).await;
    let others = remember(&eve, &eves[0]).await;
    let body = login(&ada, Some(&token)).await.ok(200);
    let next = body["deviceToken"].as_str().unwrap().to_owned();
    login(&ada, Some(&next)).await.ok(200);
    for bad in [Some(others.as_str()), Some("nonsense"), Some(""), None] {
        login(&ada, bad).await.refused(401, "MFA_REQUIRED");
    }
    let wrong = json!({"username": ada.username, "password": "not the password", "deviceToken": token});
    ada.api.post("/auth/login", wrong).await.refused(401, "INVALID_CREDENTIALS");
    assert_eq!(ada.get("/auth/factors").await.ok(200)["rememberedDevices"], 1);
    ada.delete("/auth/factors/devices").await.ok(200);
    login(&ada, Some(&token)).await.refused(401, "MFA_REQUIRED");
    login(&eve, Some(&others)).await.ok(200);
}

#[tokio::test]
async fn a_sensitive_call_of_an_account_with_a_second_factor_wants_a_code() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let phone = ada.login().await;
    let (mut app, codes) = guarded(&ada).await;
    // The app was confirmed in this session, which is a proof; the phone logged in by the password alone.
    let sensitive = async |person: &Person| {
        let change = json!({"currentPassword": PASSWORD, "newPassword": PASSWORD});
        vec![
            person.delete("/auth/sessions").await,
            person.put("/auth/password", change).await,
            person.post("/auth/factors/recovery-codes", json!({})).await,
            person.delete("/auth/factors/totp").await,
        ]
    };
    for answer in sensitive(&phone).await {
        answer.refused(403, "REAUTHENTICATION_REQUIRED");
    }
    let prove = async |body: Value| phone.post("/auth/reauthenticate", body).await;
    prove(json!({"password": PASSWORD})).await.refused(401, "MFA_REQUIRED");
    prove(json!({"code": app.wrong()})).await.refused(401, "MFA_CODE_INVALID");
    prove(json!({"password": "not the password", "code": codes[0]})).await.refused(401, "INVALID_CREDENTIALS");
    prove(json!({})).await.invalid("password", "required");
    phone.delete("/auth/sessions").await.refused(403, "REAUTHENTICATION_REQUIRED");
    prove(json!({"code": app.code().await})).await.ok(200);
    for answer in sensitive(&phone).await {
        assert!(answer.status < 300, "{}", answer.text);
    }
    phone.login().await.get("/auth/profile").await.ok(200);
    let body = phone.get("/auth/factors").await.ok(200);
    assert_eq!((&body["totp"]["enabled"], &body["recoveryCodesLeft"]), (&json!(false), &json!(0)));
}

#[tokio::test]
async fn who_guesses_codes_waits_and_the_owner_has_recovery_codes() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let (mut app, codes) = guarded(&ada).await;
    let ticket = ticket(&ada).await;
    let wrong = app.wrong();
    for _ in 0..5 {
        complete(&ada.api, &ticket, &wrong).await.refused(401, "MFA_CODE_INVALID");
    }
    let code = app.code().await;
    let held = complete(&ada.api, &ticket, &code).await;
    let seconds: u64 = held.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    held.refused(429, "RATE_LIMITED");
    complete(&ada.api, &ticket, &codes[0]).await.ok(200);
    complete(&ada.api, &ticket, &code).await.ok(200);
}
