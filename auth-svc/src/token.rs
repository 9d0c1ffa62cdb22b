//! Access tokens: JWTs signed with auth-svc's Ed25519 keys, which nobody else has (`signing.rs`). Checking one here looks
//! at the token alone; `session.rs` adds what the store knows of its session.

use std::{fmt, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header, Validation, errors::ErrorKind};
use mesh::{
    identity::{ACCESS_TYPE, AccessClaims},
    time::Millis,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{account::UserId, error::Error, session::SessionId, signing::Keys};

/// A signed access token.
#[derive(Clone)]
pub struct AccessToken {
    /// The JWT.
    pub jwt: String,
    /// When it expires.
    pub expires_at: Millis,
}

/// Issues access tokens and checks them.
pub struct AccessTokens {
    keys: watch::Receiver<Arc<Keys>>,
    validation: Validation,
    issuer: String,
    audience: String,
    ttl: Duration,
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").field("keys", &self.keys.borrow()).finish_non_exhaustive()
    }
}

impl AccessTokens {
    /// Tokens of this issuer for this audience that live so long, signed with what these keys are at the time.
    #[must_use]
    pub fn new(keys: watch::Receiver<Arc<Keys>>, issuer: &str, audience: &str, ttl: Duration) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        // The clock that checks is the clock that issued.
        validation.leeway = 0;
        Self { keys, validation, issuer: issuer.to_owned(), audience: audience.to_owned(), ttl }
    }

    /// The keys as they are now.
    #[must_use]
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.borrow().clone()
    }

    /// The keys now and from now on.
    #[must_use]
    pub fn follow_keys(&self) -> watch::Receiver<Arc<Keys>> {
        self.keys.clone()
    }

    /// How long a token lives.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// When a token issued now expires: to the second, and never after its session's end.
    #[must_use]
    pub fn expiry(&self, now: Millis, session_ends_at: Millis) -> Millis {
        Millis::from_secs(now.plus(self.ttl).min(session_ends_at).secs())
    }

    /// Signs a token that expires then.
    ///
    /// # Errors
    /// [`Error::Internal`] when the key cannot sign.
    pub fn issue(
        &self,
        user: UserId,
        session: SessionId,
        roles: &[String],
        now: Millis,
        expires_at: Millis,
    ) -> Result<AccessToken, Error> {
        let claims = AccessClaims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: user.0,
            sid: session.0,
            roles: roles.to_vec(),
            iat: now.secs(),
            nbf: now.secs(),
            exp: expires_at.secs(),
            jti: Uuid::new_v4(),
            typ: ACCESS_TYPE.to_owned(),
        };
        let keys = self.keys();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(keys.kid().to_owned());
        header.typ = Some(ACCESS_TYPE.to_owned());
        let jwt = jsonwebtoken::encode(&header, &claims, keys.signing()).map_err(Error::internal)?;
        Ok(AccessToken { jwt, expires_at })
    }

    /// Checks a token's signature, times, issuer, audience and type.
    ///
    /// # Errors
    /// [`Error::TokenExpired`], or [`Error::TokenInvalid`] for everything else.
    pub fn verify(&self, jwt: &str) -> Result<AccessClaims, Error> {
        // What exactly is wrong with it helps an attacker more than a caller.
        let header = jsonwebtoken::decode_header(jwt).ok().ok_or(Error::TokenInvalid)?;
        let keys = self.keys();
        let key = header.kid.as_deref().and_then(|kid| keys.verifying(kid)).ok_or(Error::TokenInvalid)?;
        let data = match jsonwebtoken::decode::<AccessClaims>(jwt, key, &self.validation) {
            Ok(data) => data,
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => return Err(Error::TokenExpired),
            Err(_) => return Err(Error::TokenInvalid),
        };
        let typed = data.header.typ.as_deref() == Some(ACCESS_TYPE) && data.claims.typ == ACCESS_TYPE;
        if typed { Ok(data.claims) } else { Err(Error::TokenInvalid) }
    }
}

#[cfg(test)]
mod tests {
    use mesh::keys::SigningKey;

    use super::*;

    const ISSUER: &str = "https://issuer.example";

    fn tokens_for(key: &SigningKey, audience: &str) -> AccessTokens {
        let keys = watch::channel(Arc::new(Keys::alone(key))).1;
        AccessTokens::new(keys, ISSUER, audience, Duration::from_secs(900))
    }

    fn tokens(key: &SigningKey) -> AccessTokens {
        tokens_for(key, "switchboard")
    }

    fn issue(tokens: &AccessTokens, now: Millis) -> String {
        let expires_at = tokens.expiry(now, Millis(i64::MAX));
        let (user, session) = (UserId(Uuid::now_v7()), SessionId(Uuid::now_v7()));
        tokens.issue(user, session, &["user".to_owned()], now, expires_at).expect("signed").jwt
    }

    #[test]
    fn an_issued_token_verifies_and_bears_every_claim() {
        let key = SigningKey::generate();
        let tokens = tokens(&key);
        let jwt = issue(&tokens, Millis::now());
        let claims = tokens.verify(&jwt).expect("good");
        assert_eq!((claims.exp - claims.iat, claims.typ.as_str()), (900, "at+jwt"));
        assert_eq!(claims.roles, ["user"]);
        let header = jsonwebtoken::decode_header(&jwt).expect("header");
        assert_eq!((header.alg, header.kid, header.typ), (Algorithm::EdDSA, Some(key.kid()), Some(ACCESS_TYPE.into())));
        assert!(tokens.keys().jwks().contains(&key.kid()));
    }

    #[test]
    fn a_token_never_outlives_its_session() {
        let tokens = tokens(&SigningKey::generate());
        let now = Millis(1_795_428_000_500);
        assert_eq!(tokens.expiry(now, Millis(i64::MAX)), Millis(1_795_428_900_000));
        assert_eq!(tokens.expiry(now, now.plus(Duration::from_secs(10))), Millis(1_795_428_010_000));
    }

    #[test]
    fn an_old_token_is_expired_and_a_changed_or_foreign_one_invalid() {
        let key = SigningKey::generate();
        let tokens = tokens(&key);
        let old = issue(&tokens, Millis(Millis::now().0 - 1_000_000));
        assert!(matches!(tokens.verify(&old), Err(Error::TokenExpired)));
        let good = issue(&tokens, Millis::now());
        let (stranger, elsewhere) = (self::tokens(&SigningKey::generate()), tokens_for(&key, "another"));
        let cut = &good[..good.len() - 3];
        // A stranger's signature under the id of our key.
        let (head, _) = good.split_once('.').expect("dots");
        let foreign = issue(&stranger, Millis::now());
        let forged = format!("{head}.{}", foreign.split_once('.').expect("dots").1);
        for bad in ["", "x.y.z", cut, &foreign, &forged, &issue(&elsewhere, Millis::now())] {
            assert!(matches!(tokens.verify(bad), Err(Error::TokenInvalid)), "{bad}");
        }
    }

    #[test]
    fn alg_none_and_other_types_of_jwt_are_refused() {
        use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
        let key = SigningKey::generate();
        let tokens = tokens(&key);
        let good = issue(&tokens, Millis::now());
        let body = good.split('.').nth(1).expect("claims");
        let head =
            |alg: &str, typ: &str| BASE64.encode(format!(r#"{{"alg":"{alg}","typ":"{typ}","kid":"{}"}}"#, key.kid()));
        let none = format!("{}.{body}.", head("none", "at+jwt"));
        assert!(matches!(tokens.verify(&none), Err(Error::TokenInvalid)));
        let header = Header { typ: Some("JWT".into()), kid: Some(key.kid()), ..Header::new(Algorithm::EdDSA) };
        let claims = tokens.verify(&good).expect("good");
        let other = jsonwebtoken::encode(&header, &claims, &key.encoding_key()).expect("signed");
        assert!(matches!(tokens.verify(&other), Err(Error::TokenInvalid)));
    }
}
