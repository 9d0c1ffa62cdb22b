//! The two kinds of signed token that services take: access tokens (auth-svc's, `typ: at+jwt`) and assertions (a
//! service's own, `typ: svc+jwt`). It checks signatures and claims; revocation is `identity`'s business.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Scope, ServiceName, TokenError, UserCaller};
use crate::time::Millis;

/// The header's `typ` of an access token.
pub const ACCESS_TYPE: &str = "at+jwt";
/// The header's `typ` of a service's assertion.
pub(super) const ASSERTION_TYPE: &str = "svc+jwt";
/// How long an assertion is good.
pub(super) const ASSERTION_SECS: i64 = 60;
/// How far two machines' clocks may be apart.
const LEEWAY_SECS: u64 = 5;

/// The claims of an access token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Who issued it.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// The user.
    pub sub: Uuid,
    /// The session.
    pub sid: Uuid,
    /// The user's roles.
    pub roles: Vec<String>,
    /// When it was issued, in Unix seconds.
    pub iat: i64,
    /// From when it is good, in Unix seconds.
    pub nbf: i64,
    /// Until when it is good, in Unix seconds.
    pub exp: i64,
    /// Its own id.
    pub jti: Uuid,
    /// What it is, once more: `at+jwt`.
    pub typ: String,
}

impl AccessClaims {
    /// The user that it names.
    #[must_use]
    pub fn caller(&self) -> UserCaller {
        UserCaller {
            user_id: self.sub,
            session_id: Some(self.sid),
            roles: self.roles.clone(),
            expires: Some(Millis::from_secs(self.exp)),
            via: None,
            scopes: None,
        }
    }
}

/// The claims of an assertion: the calling service speaks for a user, or for itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Assertion {
    pub iss: String,
    pub aud: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The scopes of the API key that the caller came with; without it the user may do all that is theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scp: Option<String>,
    pub act: String,
    pub iat: i64,
    pub exp: i64,
}

impl Assertion {
    pub(super) fn new(from: ServiceName, to: ServiceName, user: Option<&UserCaller>) -> Self {
        let now = Millis::now().secs();
        Self {
            iss: from.as_str().to_owned(),
            aud: to.as_str().to_owned(),
            sub: user.map(|user| user.user_id),
            sid: user.and_then(|user| user.session_id),
            roles: user.map(|user| user.roles.clone()).unwrap_or_default(),
            scp: user.and_then(|user| user.scopes.as_deref()).map(Scope::join),
            act: from.as_str().to_owned(),
            iat: now,
            exp: now + ASSERTION_SECS,
        }
    }

    pub(super) fn sign(&self, key: &EncodingKey) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(ASSERTION_TYPE.to_owned());
        jsonwebtoken::encode(&header, self, key).expect("invariant: plain claims and an Ed25519 key always sign")
    }
}

/// The header of a token, before anything is verified: it only says which kind it is and which key to verify with.
pub(super) fn header(token: &str) -> Result<Header, TokenError> {
    // What exactly is wrong with it helps an attacker more than a caller.
    jsonwebtoken::decode_header(token).ok().ok_or(TokenError::Invalid)
}

/// Checks an access token's signature and claims.
pub(super) fn verify_access(
    token: &str,
    key: &DecodingKey,
    issuer: &str,
    audience: &str,
) -> Result<AccessClaims, TokenError> {
    let mut validation = validation(&["exp", "nbf", "iat", "iss", "aud", "sub", "sid", "jti"]);
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    let claims: AccessClaims = decode(token, key, &validation)?;
    if claims.typ == ACCESS_TYPE { Ok(claims) } else { Err(TokenError::Invalid) }
}

/// Checks an assertion's signature and claims.
pub(super) fn verify_assertion(
    token: &str,
    key: &DecodingKey,
    from: ServiceName,
    to: ServiceName,
) -> Result<Assertion, TokenError> {
    let mut validation = validation(&["exp", "iss", "aud"]);
    validation.set_issuer(&[from.as_str()]);
    validation.set_audience(&[to.as_str()]);
    let claims: Assertion = decode(token, key, &validation)?;
    // A service may not make itself an assertion that lives longer than they do.
    if claims.exp.saturating_sub(claims.iat) > ASSERTION_SECS { Err(TokenError::Invalid) } else { Ok(claims) }
}

fn validation(required: &[&str]) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.leeway = LEEWAY_SECS;
    validation.set_required_spec_claims(required);
    validation
}

fn decode<T: serde::de::DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
) -> Result<T, TokenError> {
    match jsonwebtoken::decode::<T>(token, key, validation) {
        Ok(data) => Ok(data.claims),
        Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => Err(TokenError::Expired),
        // Which check it failed helps an attacker more than a caller.
        Err(_) => Err(TokenError::Invalid),
    }
}

/// The issuer that a token claims, before anything is verified: it only says whose key to verify with.
pub(super) fn issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = token.split('.').nth(1)?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice::<Issuer>(&bytes).ok().map(|claims| claims.iss)
}
