//! Tokens that are not good: expired, foreign, altered, unsigned, of the wrong kind, used twice. Each is refused at REST,
//! gRPC and Socket.IO with its own code.

use ::mesh::{config::MeshConfig, identity::AccessClaims, keys, proto::message::v1::ListRoomsRequest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use crate::{
    mesh::Mesh,
    rest::{Person, check_refusal},
    rpc::Rpc,
    socketio::Socket,
};

/// The claims of a token, unverified.
fn claims(token: &str) -> AccessClaims {
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

fn encode(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn sign(key: &keys::SigningKey, kid: &str, claims: &AccessClaims) -> String {
    sign_with(Header::new(Algorithm::EdDSA), key, kid, claims)
}

fn sign_with(mut header: Header, key: &keys::SigningKey, kid: &str, claims: &AccessClaims) -> String {
    header.typ = Some(claims.typ.clone());
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, claims, &key.encoding_key()).unwrap()
}

/// The mesh's own signing key, as somebody with its data folder has it.
pub(crate) fn own_key(mesh: &Mesh) -> keys::SigningKey {
    keys::signing_key(&MeshConfig { data: mesh.data(), ..MeshConfig::default() }, "auth-access").unwrap()
}

/// A token of this person that was good until a minute ago.
pub(crate) fn expired(mesh: &Mesh, person: &Person) -> String {
    let key = own_key(mesh);
    let mut old = claims(&person.access);
    (old.iat, old.nbf, old.exp) = (old.iat - 3_600, old.nbf - 3_600, old.iat - 60);
    sign(&key, &key.kid(), &old)
}

/// Every bad token with the code that it gets.
fn bad_tokens(mesh: &Mesh, ada: &Person) -> Vec<(&'static str, String, &'static str)> {
    let good = claims(&ada.access);
    let own = own_key(mesh);
    let kid = own.kid();
    let changed = |change: &dyn Fn(&mut AccessClaims)| {
        let mut claims = good.clone();
        change(&mut claims);
        sign(&own, &kid, &claims)
    };
    let parts: Vec<_> = ada.access.split('.').collect();
    let unsigned = encode(&json!({"alg": "none", "typ": "at+jwt", "kid": kid}));
    let symmetric = encode(&json!({"alg": "HS256", "typ": "at+jwt", "kid": kid}));
    let mut grander = good.clone();
    grander.roles.push("admin".into());
    let grander = encode(&serde_json::to_value(&grander).unwrap());
    let stranger = keys::SigningKey::generate();
    let own_jwk = serde_json::from_value(stranger.jwk()).expect("a key as JSON");
    let mut pointing = Header { jwk: Some(own_jwk), ..Header::new(Algorithm::EdDSA) };
    pointing.jku = Some("https://evil.example/jwks.json".to_owned());
    pointing.x5u = Some("https://evil.example/key.pem".to_owned());
    let invalid = "TOKEN_INVALID";
    vec![
        ("expired", expired(mesh, ada), "TOKEN_EXPIRED"),
        ("foreign key", sign(&stranger, &stranger.kid(), &good), invalid),
        ("foreign key under our kid", sign(&stranger, &kid, &good), invalid),
        ("a key that the header brings", sign_with(pointing.clone(), &stranger, &stranger.kid(), &good), invalid),
        ("a key that the header brings, under our kid", sign_with(pointing, &stranger, &kid, &good), invalid),
        ("alg none", format!("{unsigned}.{}.", parts[1]), invalid),
        ("alg none with a signature", format!("{unsigned}.{}.{}", parts[1], parts[2]), invalid),
        ("alg HS256", format!("{symmetric}.{}.{}", parts[1], parts[2]), invalid),
        ("altered claims", format!("{}.{grander}.{}", parts[0], parts[2]), invalid),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), invalid),
        ("foreign issuer", changed(&|claims| claims.iss = "https://evil.example".into()), invalid),
        ("foreign audience", changed(&|claims| claims.aud = "another".into()), invalid),
        ("not yet good", changed(&|claims| claims.nbf += 3_600), invalid),
        ("another type", changed(&|claims| claims.typ = "JWT".into()), invalid),
        ("a refresh token", ada.refresh.clone(), invalid),
        ("garbage", "garbage".into(), invalid),
        ("dots", "...".into(), invalid),
        ("long", format!("{}.{}.{}", "a".repeat(4_000), "b".repeat(4_000), "c".repeat(4_000)), invalid),
    ]
}

#[tokio::test]
async fn a_bad_access_token_is_refused_over_rest_and_grpc_with_its_code() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let mut bad = bad_tokens(&mesh, &ada);
    bad.push(("a WS token", ada.ws_token().await, "TOKEN_INVALID"));
    for (what, token, code) in bad {
        let answer = ada.api.call(reqwest::Method::GET, "/rooms", Some(&token), None).await;
        assert_eq!(answer.body["code"], code, "{what}: {}", answer.text);
        assert!(answer.headers.contains_key("www-authenticate"), "{what}");
        assert_eq!(answer.refused(401, code)["message"], "Unauthorized", "{what}");
        let result = Rpc::new(&mesh, Some(&token)).message.list_rooms(ListRoomsRequest::default()).await;
        let status = result.expect_err(what);
        assert_eq!((crate::rpc::reason(&status).0.as_str(), status.message()), (code, "Unauthorized"), "{what}");
    }
    for header in ["", "Bearer", "Bearer ", "Basic YTpi", "bearer\u{e9}"] {
        let request = ada.api.request(reqwest::Method::GET, "/rooms", None).header("authorization", header.as_bytes());
        let answer = crate::rest::Answer::read(request).await.unwrap();
        assert_eq!(answer.status, 401, "{header:?}: {}", answer.text);
    }
    ada.get("/rooms").await.ok(200);
}

#[tokio::test]
async fn a_connection_takes_only_a_ws_token_and_only_once() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    let refused = async |token: &str, code: &str, what: &str| {
        let refused = Socket::connect(&mesh.url(), json!({"token": token})).await.expect_err(what);
        assert_eq!(refused.0["code"], code, "{what}: {refused}");
        check_refusal(&refused.0, 401, code);
        assert_eq!(refused.0["message"], "Unauthorized");
    };
    refused(&ada.access, "TOKEN_INVALID", "an access token").await;
    for (what, token, _) in bad_tokens(&mesh, &ada) {
        refused(&token, "TOKEN_INVALID", what).await;
    }
    let token = ada.ws_token().await;
    let parts: Vec<_> = token.split('.').collect();
    let unsigned = encode(&json!({"alg": "none", "typ": "JWT"}));
    refused(&format!("{unsigned}.{}.", parts[1]), "TOKEN_INVALID", "an unsigned WS token").await;
    let socket = Socket::connect(&mesh.url(), json!({"token": token})).await.expect("a fresh token");
    refused(&token, "TOKEN_SPENT", "a token used before").await;
    drop(socket);
    refused(&token, "TOKEN_SPENT", "a token used before, its socket gone").await;

    let elsewhere = Mesh::plan().start();
    let eve = Person::new(&elsewhere, "eve").await;
    refused(&eve.ws_token().await, "TOKEN_INVALID", "another mesh's WS token").await;
    let answer = ada.api.call(reqwest::Method::GET, "/rooms", Some(&eve.access), None).await;
    answer.refused(401, "TOKEN_INVALID");
}

#[tokio::test]
async fn of_many_who_use_one_ws_token_at_once_one_is_let_in() {
    let mesh = Mesh::shared();
    let ada = Person::new(&mesh, "ada").await;
    for _ in 0..5 {
        let token = ada.ws_token().await;
        let url = mesh.url();
        let tries = futures::future::join_all((0..6).map(|_| Socket::connect(&url, json!({"token": token})))).await;
        let (won, lost): (Vec<_>, Vec<_>) = tries.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for refused in lost {
            assert_eq!(refused.expect_err("spent").0["code"], "TOKEN_SPENT");
        }
    }
}
