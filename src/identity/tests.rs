//! Tests of who is let in: forged, foreign, expired and revoked tokens, and what counts when auth-svc is silent.

use std::sync::atomic::{AtomicU32, Ordering};

use jsonwebtoken::{Algorithm, Header};
use tonic::metadata::MetadataMap;

use super::*;
use crate::keys::SigningKey;

/// An identity of message-svc, with one access key known and the stream whole.
struct Fixture {
    data: tempfile::TempDir,
    config: MeshConfig,
    key: SigningKey,
    identity: Arc<Identity>,
}

fn fixture() -> Fixture {
    let data = tempfile::tempdir().expect("folder");
    let config = MeshConfig { data: data.path().to_owned(), ..MeshConfig::default() };
    let key = SigningKey::generate();
    let identity = Identity::new(ServiceName::Message, &config).expect("identity");
    identity.set_keys(&jwks(&key));
    identity.heartbeat(0);
    Fixture { data, config, key, identity }
}

fn jwks(key: &SigningKey) -> String {
    serde_json::json!({ "keys": [key.jwk()] }).to_string()
}

fn claims() -> AccessClaims {
    let now = Millis::now().secs();
    AccessClaims {
        iss: "switchboard".into(),
        aud: "switchboard".into(),
        sub: Uuid::now_v7(),
        sid: Uuid::now_v7(),
        roles: vec!["user".into()],
        iat: now,
        nbf: now,
        exp: now + 60,
        jti: Uuid::now_v7(),
        typ: ACCESS_TYPE.into(),
    }
}

fn sign(claims: &AccessClaims, key: &SigningKey, typ: &str) -> String {
    let header = Header { typ: Some(typ.to_owned()), kid: Some(key.kid()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, &key.encoding_key()).expect("signs")
}

fn metadata(token: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
    metadata
}

#[tokio::test]
async fn a_good_access_token_names_its_user_again_and_again() {
    let Fixture { identity, key, data: _data, .. } = fixture();
    let claims = claims();
    let token = sign(&claims, &key, ACCESS_TYPE);
    for _ in 0..2 {
        let caller = identity.authenticate(&metadata(&token)).await.expect("good");
        assert_eq!(caller, Some(Caller::User(claims.caller())));
    }
    assert_eq!(identity.authenticate(&MetadataMap::new()).await.expect("none"), None);
}

#[tokio::test]
async fn forged_foreign_and_misused_tokens_are_refused() {
    let Fixture { identity, key, data: _data, .. } = fixture();
    let good = claims();
    let mut tokens = vec![
        ("another key", sign(&good, &SigningKey::generate(), ACCESS_TYPE)),
        ("typ of another use", sign(&good, &key, "ws+jwt")),
        ("no typ", sign(&good, &key, "JWT")),
        ("other issuer", sign(&AccessClaims { iss: "other".into(), ..claims() }, &key, ACCESS_TYPE)),
        ("other audience", sign(&AccessClaims { aud: "other".into(), ..claims() }, &key, ACCESS_TYPE)),
        ("claim typ", sign(&AccessClaims { typ: "rt+jwt".into(), ..claims() }, &key, ACCESS_TYPE)),
        ("not yet", sign(&AccessClaims { nbf: good.nbf + 3600, ..claims() }, &key, ACCESS_TYPE)),
        ("garbage", "garbage".into()),
        ("dots", "..".into()),
    ];
    let token = sign(&good, &key, ACCESS_TYPE);
    let (_, rest) = token.split_once('.').expect("dots");
    let none = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","typ":"at+jwt","kid":"{}"}}"#, key.kid()));
    tokens.push(("alg none", format!("{none}.{}.", rest.split_once('.').expect("dots").0)));
    tokens.push(("alg none with a signature", format!("{none}.{rest}")));
    let symmetric = Header { typ: Some(ACCESS_TYPE.into()), kid: Some(key.kid()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(key.public());
    tokens.push(("public key as secret", jsonwebtoken::encode(&symmetric, &good, &secret).expect("signs")));
    tokens.push(("truncated", token[..token.len() - 4].to_owned()));
    for (what, token) in tokens {
        assert_eq!(identity.verify_access(&token).await.map(|_| ()), Err(TokenError::Invalid), "{what}");
        assert!(identity.authenticate(&metadata(&token)).await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn an_expired_token_is_told_from_an_invalid_one_also_when_it_was_cached() {
    let Fixture { identity, key, data: _data, .. } = fixture();
    let past = Millis::now().secs() - 100;
    let token = sign(&AccessClaims { exp: past, ..claims() }, &key, ACCESS_TYPE);
    assert_eq!(identity.verify_access(&token).await.map(|_| ()), Err(TokenError::Expired));
    // Good for the signature check, which has some leeway, but not for us.
    let token = sign(&AccessClaims { exp: Millis::now().secs() - 1, ..claims() }, &key, ACCESS_TYPE);
    for _ in 0..2 {
        assert_eq!(identity.verify_access(&token).await.map(|_| ()), Err(TokenError::Expired));
    }
}

#[tokio::test]
async fn a_revoked_session_ends_its_tokens_and_assertions_and_tells_listeners() {
    let Fixture { identity, key, config, data: _data } = fixture();
    let claims = claims();
    let token = sign(&claims, &key, ACCESS_TYPE);
    let gateway = Identity::new(ServiceName::Gateway, &config).expect("identity");
    let assertion = gateway.assertion(ServiceName::Message, Some(&claims.caller()));
    identity.verify_access(&token).await.expect("good");
    identity.authenticate(&metadata(&assertion)).await.expect("good");
    let mut ended = identity.revocations();
    identity.revoke(claims.sid, 1, Millis::now().plus(Duration::from_secs(60)));
    assert_eq!(identity.verify_access(&token).await.map(|_| ()), Err(TokenError::Revoked));
    let refusal = identity.authenticate(&metadata(&assertion)).await.expect_err("revoked");
    assert_eq!(refusal.reason, Reason::TokenRevoked);
    assert_eq!(ended.recv().await.expect("told"), claims.sid);
}

#[tokio::test]
async fn an_assertion_is_good_for_its_callee_alone_and_cannot_be_made_by_a_user() {
    let Fixture { identity, key, config, data: _data } = fixture();
    let gateway = Identity::new(ServiceName::Gateway, &config).expect("identity");
    let user = claims().caller();
    let caller = identity.authenticate(&metadata(&gateway.assertion(ServiceName::Message, Some(&user)))).await;
    let Ok(Some(Caller::User(named))) = caller else { panic!("{caller:?}") };
    assert_eq!((named.user_id, named.via), (user.user_id, Some(ServiceName::Gateway)));
    let caller = identity.authenticate(&metadata(&gateway.assertion(ServiceName::Message, None))).await;
    assert_eq!(caller.expect("good"), Some(Caller::Service(ServiceName::Gateway)));
    let other = gateway.assertion(ServiceName::Auth, Some(&user));
    assert_eq!(identity.authenticate(&metadata(&other)).await.expect_err("not for us").reason, Reason::TokenInvalid);
    // The access key signs no assertions, whatever the header says.
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(token::ASSERTION_TYPE.into());
    let forged = token::Assertion::new(ServiceName::Gateway, ServiceName::Message, Some(&user));
    let forged = jsonwebtoken::encode(&header, &forged, &key.encoding_key()).expect("signs");
    assert_eq!(identity.authenticate(&metadata(&forged)).await.expect_err("forged").reason, Reason::TokenInvalid);
}

#[tokio::test]
async fn a_service_without_a_shared_folder_is_known_by_its_configured_key() {
    let Fixture { config, data: _data, .. } = fixture();
    let elsewhere = tempfile::tempdir().expect("folder");
    let far = MeshConfig { data: elsewhere.path().to_owned(), ..MeshConfig::default() };
    let gateway = Identity::new(ServiceName::Gateway, &far).expect("identity");
    let token = gateway.assertion(ServiceName::User, None);
    let mut config = config;
    let user = Identity::new(ServiceName::User, &config).expect("identity");
    assert!(user.authenticate(&metadata(&token)).await.is_err());
    let public = keys::public_key(&far.data, "service-gateway").expect("written");
    config.identity.service_keys.insert("gateway".into(), BASE64_URL_SAFE_NO_PAD.encode(public));
    let user = Identity::new(ServiceName::User, &config).expect("identity");
    let caller = user.authenticate(&metadata(&token)).await.expect("known");
    assert_eq!(caller, Some(Caller::Service(ServiceName::Gateway)));
}

struct Answers(Result<(), TokenError>, AtomicU32);

#[async_trait]
impl SessionCheck for Answers {
    async fn check(&self, _session: Uuid) -> Result<(), TokenError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0
    }

    async fn api_key(&self, _key: &str) -> Result<UserCaller, TokenError> {
        Err(TokenError::Invalid)
    }
}

#[tokio::test]
async fn in_silence_every_token_is_asked_about_and_refused_without_an_answer() {
    for answer in [Ok(()), Err(TokenError::Revoked), Err(TokenError::Unchecked)] {
        let Fixture { config, key, data: _data, .. } = fixture();
        let identity = Identity::new(ServiceName::Message, &config).expect("identity");
        identity.set_keys(&jwks(&key));
        let token = sign(&claims(), &key, ACCESS_TYPE);
        // No heartbeat yet, and nobody to ask.
        assert_eq!(identity.verify_access(&token).await.map(|_| ()), Err(TokenError::Unchecked));
        let answers = Arc::new(Answers(answer, AtomicU32::new(0)));
        identity.set_check(answers.clone());
        for _ in 0..2 {
            assert_eq!(identity.verify_access(&token).await.map(|_| ()), answer);
        }
        assert_eq!(answers.1.load(Ordering::Relaxed), 2);
        identity.heartbeat(1);
        assert_eq!(identity.verify_access(&token).await.map(|_| ()), Ok(()));
        assert_eq!(answers.1.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn a_withdrawn_key_ends_its_tokens_at_once() {
    let Fixture { identity, key, data: _data, .. } = fixture();
    let token = sign(&claims(), &key, ACCESS_TYPE);
    identity.verify_access(&token).await.expect("good");
    let next = SigningKey::generate();
    identity.set_keys(&serde_json::json!({ "keys": [key.jwk(), next.jwk()] }).to_string());
    identity.verify_access(&token).await.expect("both are good while they overlap");
    identity.set_keys(&jwks(&next));
    assert_eq!(identity.verify_access(&token).await.map(|_| ()), Err(TokenError::Invalid));
}

#[tokio::test]
async fn a_token_of_a_key_that_may_be_new_is_not_called_invalid_in_silence() {
    let Fixture { config, key, data: _data, .. } = fixture();
    let identity = Identity::new(ServiceName::Message, &config).expect("identity");
    identity.set_keys(&jwks(&key));
    let next = SigningKey::generate();
    let token = sign(&claims(), &next, ACCESS_TYPE);
    assert_eq!(identity.verify_access(&token).await.map(|_| ()), Err(TokenError::Unchecked));
    identity.set_keys(&serde_json::json!({ "keys": [key.jwk(), next.jwk()] }).to_string());
    identity.heartbeat(1);
    identity.verify_access(&token).await.expect("good once the key is known");
}

/// auth-svc, as far as one key goes.
struct Keys(UserCaller, AtomicU32);

#[async_trait]
impl SessionCheck for Keys {
    async fn check(&self, _session: Uuid) -> Result<(), TokenError> {
        Ok(())
    }

    async fn api_key(&self, key: &str) -> Result<UserCaller, TokenError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if key == "sbk_good" { Ok(self.0.clone()) } else { Err(TokenError::Invalid) }
    }
}

#[tokio::test]
async fn an_api_key_is_asked_about_once_and_refused_as_soon_as_it_is_revoked_or_has_expired() {
    let (good, expired) = (Millis::now().plus(Duration::from_secs(60)), Millis::now());
    for expires in [good, expired] {
        let Fixture { identity, data: _data, .. } = fixture();
        let caller = UserCaller {
            expires: Some(expires),
            scopes: Some(vec![Scope::UsersRead]),
            ..UserCaller::new(Uuid::now_v7(), Some(Uuid::now_v7()))
        };
        assert!(identity.authenticate(&metadata("sbk_good")).await.is_err(), "nobody to ask");
        let keys = Arc::new(Keys(caller.clone(), AtomicU32::new(0)));
        identity.set_check(keys.clone());
        for bad in ["sbk_bad".to_owned(), format!("sbk_{}", "x".repeat(200))] {
            let refusal = identity.authenticate(&metadata(&bad)).await.expect_err("none of ours");
            assert_eq!(refusal.reason, Reason::TokenInvalid);
        }
        assert_eq!(keys.1.load(Ordering::Relaxed), 1, "what cannot be a key is not asked about");
        if expires == expired {
            assert_eq!(identity.verify_key("sbk_good").await, Err(TokenError::Expired));
            continue;
        }
        for _ in 0..3 {
            let named = identity.authenticate(&metadata("sbk_good")).await.expect("good");
            assert_eq!(named, Some(Caller::User(caller.clone())));
        }
        assert_eq!(keys.1.load(Ordering::Relaxed), 2, "asked once");
        identity.revoke(caller.session_id.expect("the key's id"), 1, good);
        assert_eq!(identity.verify_key("sbk_good").await, Err(TokenError::Revoked));
    }
}

#[tokio::test]
async fn the_scopes_of_a_key_go_with_the_word_of_a_service() {
    let Fixture { identity, config, data: _data, .. } = fixture();
    let gateway = Identity::new(ServiceName::Gateway, &config).expect("identity");
    for scopes in [None, Some(Vec::new()), Some(vec![Scope::RoomsRead, Scope::AuditRead])] {
        let caller = UserCaller { scopes, ..UserCaller::new(Uuid::now_v7(), Some(Uuid::now_v7())) };
        let heard = identity.authenticate(&metadata(&gateway.assertion(ServiceName::Message, Some(&caller)))).await;
        let Ok(Some(Caller::User(heard))) = heard else { panic!("{heard:?}") };
        assert_eq!(heard.scopes, caller.scopes);
    }
}
