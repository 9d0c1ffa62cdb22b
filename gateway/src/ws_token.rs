//! WebSocket tokens: what a client shows once to open a Socket.IO connection. The gateways alone issue and check them,
//! with a key of their own, so that neither an access token opens a socket nor a token out of a URL or a log opens the
//! API. Spending one (single use) is auth-svc's part: see `realtime/connect.rs`.

use std::collections::HashSet;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use mesh::{
    config::MeshConfig,
    identity::{TokenError, UserCaller},
    keys::{self, KeyError},
    time::Millis,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::GatewayConfig;

/// The header's `typ`; access tokens have another, and assertions too.
const TYPE: &str = "ws+jwt";
/// The claim `aud`: the gateways.
const AUDIENCE: &str = "switchboard-gateway";
/// The name of the key in the data folder.
const KEY: &str = "gateway-ws";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WsClaims {
    /// The mesh's issuer name.
    pub(crate) iss: String,
    /// The gateways.
    pub(crate) aud: String,
    /// The user.
    pub(crate) sub: Uuid,
    /// Their session: the socket lives no longer than it.
    pub(crate) sid: Uuid,
    /// The user's roles when the token was issued.
    pub(crate) roles: Vec<String>,
    /// When it was issued, in seconds.
    pub(crate) iat: i64,
    /// When it expires, in seconds.
    pub(crate) exp: i64,
    /// What is spent.
    pub(crate) jti: Uuid,
}

/// The secret that all gateways share: the configured one, or the one of the data folder, which is made or read.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn secret(mesh: &MeshConfig, gateway: &GatewayConfig) -> Result<Vec<u8>, KeyError> {
    Ok(match gateway.realtime.ws_token_key.expose() {
        "" => keys::secret(mesh, KEY)?.to_vec(),
        // What is no base64url was reported by the configuration's validation.
        text => BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec()),
    })
}

/// Issues and checks tokens. HMAC-SHA-256: who checks is who issues, and a check costs a microsecond.
pub(crate) struct WsTokens {
    issuer: String,
    lifetime_secs: i64,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl WsTokens {
    /// With the gateways' secret.
    pub(crate) fn new(mesh: &MeshConfig, gateway: &GatewayConfig, secret: &[u8]) -> Self {
        let config = &gateway.realtime;
        let issuer = mesh.identity.issuer.clone();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&issuer]);
        validation.required_spec_claims = HashSet::from(["exp", "aud", "iss", "sub"].map(str::to_owned));
        Self {
            issuer,
            lifetime_secs: config.ws_token_secs,
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
        }
    }

    /// A new token for a user, and how many seconds it is good for. A caller without a session gets one that auth-svc
    /// will not let them spend.
    pub(crate) fn issue(&self, user: &UserCaller) -> (String, i64) {
        let iat = Millis::now().secs();
        let claims = WsClaims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: user.user_id,
            sid: user.session_id.unwrap_or(Uuid::nil()),
            roles: user.roles.clone(),
            iat,
            exp: iat + self.lifetime_secs,
            jti: Uuid::now_v7(),
        };
        let header = Header { typ: Some(TYPE.to_owned()), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding)
            .expect("invariant: claims of text and numbers become JSON, and HMAC takes any key");
        (token, self.lifetime_secs)
    }

    /// What a token says, when it is one of ours and has not expired.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn verify(&self, token: &str) -> Result<WsClaims, TokenError> {
        let decoded = jsonwebtoken::decode::<WsClaims>(token, &self.decoding, &self.validation).map_err(|error| {
            if matches!(error.kind(), ErrorKind::ExpiredSignature) { TokenError::Expired } else { TokenError::Invalid }
        })?;
        if decoded.header.typ.as_deref() == Some(TYPE) { Ok(decoded.claims) } else { Err(TokenError::Invalid) }
    }
}

impl std::fmt::Debug for WsTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WsTokens").field("lifetime_secs", &self.lifetime_secs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use test_input::{Edits, text};

    use super::*;

    #[test]
    fn fuzz_no_token_but_ours_as_it_was_made_is_good() {
        let (_data, tokens) = tokens(3_600);
        let (_other, stranger) = super::tests::tokens(3_600);
        let examples = [tokens.issue(&user()).0, stranger.issue(&user()).0];
        let tokens = std::panic::AssertUnwindSafe(tokens);
        bolero::check!().with_type::<Edits>().for_each(|edits| {
            let token = text(&examples, edits);
            assert_eq!(tokens.verify(&token).is_ok(), token == examples[0], "{token}");
        });
    }

    fn tokens(lifetime_secs: i64) -> (tempfile::TempDir, WsTokens) {
        let data = tempfile::tempdir().expect("folder");
        let tokens = open(data.path(), lifetime_secs);
        (data, tokens)
    }

    fn open(data: &std::path::Path, lifetime_secs: i64) -> WsTokens {
        let mesh = MeshConfig { data: data.to_owned(), ..MeshConfig::default() };
        let mut gateway = GatewayConfig::default();
        gateway.realtime.ws_token_secs = lifetime_secs;
        WsTokens::new(&mesh, &gateway, &secret(&mesh, &gateway).expect("key"))
    }

    fn user() -> UserCaller {
        let (user_id, session_id) = (Uuid::now_v7(), Some(Uuid::now_v7()));
        UserCaller { user_id, session_id, roles: vec!["user".into()], expires: None, via: None, scopes: None }
    }

    #[test]
    fn a_token_says_who_it_was_issued_to_and_each_has_an_id_of_its_own() {
        let (_data, tokens) = tokens(60);
        let user = user();
        let (first, secs) = tokens.issue(&user);
        let (claims, again) =
            (tokens.verify(&first).expect("good"), tokens.verify(&tokens.issue(&user).0).expect("good"));
        assert_eq!(secs, 60);
        assert_eq!((claims.sub, Some(claims.sid), &claims.roles), (user.user_id, user.session_id, &user.roles));
        assert_ne!(claims.jti, again.jti);
    }

    #[test]
    fn gateways_that_share_the_folder_take_each_others_tokens_and_strangers_do_not() {
        let (data, first) = tokens(60);
        let (_other, stranger) = tokens(60);
        let token = first.issue(&user()).0;
        open(data.path(), 60).verify(&token).expect("the same key");
        assert_eq!(stranger.verify(&token), Err(TokenError::Invalid));
    }

    #[test]
    fn an_expired_token_is_called_so() {
        let (_data, tokens) = tokens(-1);
        assert_eq!(tokens.verify(&tokens.issue(&user()).0), Err(TokenError::Expired));
    }

    #[test]
    fn other_kinds_of_tokens_and_no_tokens_are_refused() {
        let (_data, tokens) = tokens(60);
        let good = tokens.issue(&user()).0;
        let claims = tokens.verify(&good).expect("good");
        let access = Header { typ: Some("at+jwt".into()), ..Header::new(Algorithm::HS256) };
        let access = jsonwebtoken::encode(&access, &claims, &tokens.encoding).expect("token");
        let payload = good.split('.').nth(1).expect("payload");
        let none = format!("{}.{payload}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"ws+jwt"}"#));
        let foreign = WsClaims { aud: "switchboard".into(), ..claims };
        let header = Header { typ: Some(TYPE.into()), ..Header::new(Algorithm::HS256) };
        let foreign = jsonwebtoken::encode(&header, &foreign, &tokens.encoding).expect("token");
        for bad in ["", "x", "a.b.c", &access, &none, &foreign, &good[..good.len() - 2], &format!("{good}A")] {
            assert_eq!(tokens.verify(bad), Err(TokenError::Invalid), "{bad}");
        }
    }
}
