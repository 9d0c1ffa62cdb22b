//! Tokens of anybody's making: none but an untouched one of ours names a caller, and no assertion outlives the minute that
//! all of them have, whatever times its maker wrote into it.

use test_input::{Edits, text};

use super::*;
use crate::keys::SigningKey;

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
        exp: now + 3_600,
        jti: Uuid::now_v7(),
        typ: ACCESS_TYPE.into(),
    }
}

/// An access token and an assertion of the gateway for a user, with the keys that they are checked with.
fn tokens() -> ([String; 2], DecodingKey, SigningKey) {
    let (access, service) = (SigningKey::generate(), SigningKey::generate());
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    (header.typ, header.kid) = (Some(ACCESS_TYPE.into()), Some(access.kid()));
    let token = jsonwebtoken::encode(&header, &claims(), &access.encoding_key()).expect("signs");
    let user = claims().caller();
    let assertion = token::Assertion::new(ServiceName::Gateway, ServiceName::Message, Some(&user));
    let x = BASE64_URL_SAFE_NO_PAD.encode(access.public());
    let key = DecodingKey::from_ed_components(&x).expect("a key");
    ([token, assertion.sign(&service.encoding_key())], key, service)
}

fn public(key: &SigningKey) -> DecodingKey {
    DecodingKey::from_ed_components(&BASE64_URL_SAFE_NO_PAD.encode(key.public())).expect("a key")
}

#[test]
fn no_token_but_ours_as_it_was_made_is_good() {
    let (examples, access, service) = tokens();
    let service = public(&service);
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let token = text(&examples, edits);
        // Whatever they say, nothing follows from it before a signature is checked.
        drop((token::header(&token), token::issuer(&token), bearer(&token)));
        let good = token::verify_access(&token, &access, "switchboard", "switchboard").is_ok();
        assert_eq!(good, token == examples[0], "{token}");
        let good = token::verify_assertion(&token, &service, ServiceName::Gateway, ServiceName::Message).is_ok();
        assert_eq!(good, token == examples[1], "{token}");
    });
}

#[test]
fn an_assertion_lives_for_its_minute_whatever_it_says() {
    let key = SigningKey::generate();
    let checked = public(&key);
    let now = Millis::now().secs();
    bolero::check!().with_type::<(i64, i64, u8)>().for_each(|(iat, exp, near)| {
        let mut assertion = token::Assertion::new(ServiceName::Gateway, ServiceName::Message, None);
        assertion.iat = if near & 1 == 0 { *iat } else { now + iat % 100 };
        assertion.exp = if near & 2 == 0 { *exp } else { now + exp % 100 };
        let signed = assertion.sign(&key.encoding_key());
        let good = token::verify_assertion(&signed, &checked, ServiceName::Gateway, ServiceName::Message).is_ok();
        let life = i128::from(assertion.exp) - i128::from(assertion.iat);
        assert!(!good || life <= 60, "{} {}", assertion.iat, assertion.exp);
    });
}

/// A path whose instructions `bench/instructions` counts: a token is verified.
#[test]
#[ignore = "bench/instructions counts it"]
fn counted_a_token_is_verified() {
    let ([token, _], key, _) = tokens();
    for _ in 0..test_input::rounds() {
        assert!(token::verify_access(&token, &key, "switchboard", "switchboard").is_ok());
    }
}
