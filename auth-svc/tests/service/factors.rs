//! The second factor over gRPC, without a gateway: what another team's client does.

use mesh::{
    error::Reason,
    proto::auth::v1::{self as pb, factor_service_client::FactorServiceClient},
    time::Millis,
};
use totp_rs::{Builder, Secret, Totp};

use crate::harness::{Auth, Member, PASSWORD, Setup, fields, login_request, reason};

fn app(secret: &str) -> Totp {
    let secret = Secret::try_from_base32(secret).expect("base32");
    Builder::new().with_secret(secret).build().expect("an app")
}

/// The code of now, or of steps beside it.
fn code(app: &Totp, steps: i64) -> String {
    let secs = u64::try_from(Millis::now().secs() + 30 * steps).expect("after 1970");
    app.generate(secs).to_string()
}

pub(crate) async fn guarded(auth: &Auth, member: &Member) -> (Totp, Vec<String>) {
    let mut client = FactorServiceClient::new(auth.channel());
    let started = client.start_totp(member.says(pb::StartTotpRequest {})).await.expect("started").into_inner();
    let app = app(&started.secret);
    let confirm = pb::ConfirmTotpRequest { code: code(&app, -1) };
    let confirmed = client.confirm_totp(member.says(confirm)).await.expect("confirmed");
    (app, confirmed.into_inner().recovery_codes)
}

fn completion(ticket: &str, code: &str) -> pb::CompleteLoginRequest {
    pb::CompleteLoginRequest { ticket: ticket.to_owned(), code: code.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_over_grpc_is_completed_by_a_code() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let (app, codes) = guarded(&auth, &ada).await;
    let login = auth.client().login(login_request("ada", PASSWORD)).await.expect("asked").into_inner();
    assert!(login.account.is_none() && login.tokens.is_none(), "nothing is given before the code");
    let ticket = login.mfa.expect("a challenge").ticket;
    let refused = auth.client().complete_login(completion(&ticket, "")).await.expect_err("no code");
    assert_eq!(fields(&refused), ["code"]);
    let used = auth.client().complete_login(completion(&ticket, &code(&app, -1))).await.expect_err("used");
    assert_eq!(reason(&used), Reason::MfaCodeInvalid);
    let opened = auth.client().complete_login(completion(&ticket, &code(&app, 1))).await.expect("opened");
    let tokens = opened.into_inner().tokens.expect("tokens");
    auth.check(&tokens.access_token).await.expect("good");
    // Nobody but a gateway can name a device, so nothing was remembered.
    let remember = pb::CompleteLoginRequest {
        remember_device: true,
        device_id: uuid::Uuid::new_v4().to_string(),
        ..completion(&ticket, &codes[0])
    };
    auth.client().complete_login(remember).await.expect("opened");
    let mut client = FactorServiceClient::new(auth.channel());
    let factors = client.get_factors(ada.says(pb::GetFactorsRequest {})).await.expect("read").into_inner();
    assert!(factors.totp_confirm_time.is_some());
    assert_eq!((factors.recovery_codes, factors.remembered_devices), (9, 0));
    let stranger = client.get_factors(pb::GetFactorsRequest {}).await.expect_err("nobody");
    assert_eq!(reason(&stranger), Reason::Unauthorized);
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_gives_away_neither_secret_nor_code_and_a_restart_loses_neither() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    let ada = auth.register("ada").await;
    let (app, codes) = guarded(&auth, &ada).await;
    let login = auth.client().login(login_request("ada", PASSWORD)).await.expect("asked").into_inner();
    let ticket = login.mfa.expect("a challenge").ticket;
    auth.stop().await;
    let secret = app.secret();
    let plain: Vec<_> = codes.iter().map(|code| code.replace('-', "")).collect();
    for entry in std::fs::read_dir(setup.data.path()).expect("the folder") {
        let path = entry.expect("an entry").path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let mut needles = vec![secret.as_bytes().to_vec(), secret.to_base32().into_bytes()];
        needles.extend(codes.iter().chain(&plain).map(|code| code.clone().into_bytes()));
        for needle in needles {
            let found = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "{} has a secret", path.display());
        }
    }
    let auth = setup.start().await;
    auth.client().complete_login(completion(&ticket, &code(&app, 0))).await.expect("the same ticket and app");
    auth.stop().await;
}
