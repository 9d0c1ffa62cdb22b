//! Access tokens: JWTs signed with auth-svc's Ed25519 key, which nobody else has, and the public keys for everyone who
//! verifies. Checking one here looks at the token alone; `session.rs` adds what the store knows of its session.

use std::{fmt, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use mesh::{
    identity::{ACCESS_TYPE, AccessClaims},
    keys::SigningKey,
    time::Millis,
};
use uuid::Uuid;

use crate::{account::UserId, error::Error, session::SessionId};

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
    header: Header,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    jwks: String,
    issuer: String,
    audience: String,
    ttl: Duration,
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").field("kid", &self.header.kid).finish_non_exhaustive()
    }
}

impl AccessTokens {
    /// Tokens of this issuer for this audience that live so long.
    #[must_use]
    pub fn new(key: &SigningKey, issuer: &str, audience: &str, ttl: Duration) -> Self {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.kid());
        header.typ = Some(ACCESS_TYPE.to_owned());
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        // The clock that checks is the clock that issued.
        validation.leeway = 0;
        Self {
            header,
            signing: key.encoding_key(),
            verifying: DecodingKey::from_ed_der(key.public()),
            validation,
            jwks: serde_json::json!({ "keys": [key.jwk()] }).to_string(),
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            ttl,
        }
    }

    /// The public keys as a JSON Web Key Set.
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
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
        let jwt = jsonwebtoken::encode(&self.header, &claims, &self.signing).map_err(Error::internal)?;
        Ok(AccessToken { jwt, expires_at })
    }

    /// Checks a token's signature, times, issuer, audience and type.
    ///
    /// # Errors
    /// [`Error::TokenExpired`], or [`Error::TokenInvalid`] for everything else.
    pub fn verify(&self, jwt: &str) -> Result<AccessClaims, Error> {
        let data = match jsonwebtoken::decode::<AccessClaims>(jwt, &self.verifying, &self.validation) {
            Ok(data) => data,
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => return Err(Error::TokenExpired),
            Err(_) => return Err(Error::TokenInvalid),
        };
        let typed = data.header.typ.as_deref() == Some(ACCESS_TYPE) && data.claims.typ == ACCESS_TYPE;
        if typed && data.header.kid == self.header.kid { Ok(data.claims) } else { Err(Error::TokenInvalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(key: &SigningKey) -> AccessTokens {
        AccessTokens::new(key, "https://issuer.example", "switchboard", Duration::from_secs(900))
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
        assert!(tokens.jwks().contains(&key.kid()));
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
        let stranger = AccessTokens::new(&SigningKey::generate(), &tokens.issuer, &tokens.audience, tokens.ttl);
        let elsewhere = AccessTokens::new(&key, &tokens.issuer, "another", tokens.ttl);
        let cut = &good[..good.len() - 3];
        for bad in ["", "x.y.z", cut, &issue(&stranger, Millis::now()), &issue(&elsewhere, Millis::now())] {
            assert!(matches!(tokens.verify(bad), Err(Error::TokenInvalid)), "{bad}");
        }
    }

    #[test]
    fn alg_none_and_other_types_of_jwt_are_refused() {
        use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
        let mut tokens = tokens(&SigningKey::generate());
        let good = issue(&tokens, Millis::now());
        let body = good.split('.').nth(1).expect("claims");
        let none = format!("{}.{body}.", BASE64.encode(r#"{"alg":"none","typ":"at+jwt"}"#));
        assert!(matches!(tokens.verify(&none), Err(Error::TokenInvalid)));
        tokens.header.typ = Some("JWT".into());
        let other = issue(&tokens, Millis::now());
        assert!(matches!(tokens.verify(&other), Err(Error::TokenInvalid)));
    }
}
