//! Who calls: it verifies access tokens and assertions (cached), knows auth-svc's keys and revocations, and signs this
//! process' own assertions. It trusts no bare user id. `identity/token.rs` has the token formats, `revocations.rs` what
//! has been revoked, `follow.rs` the task that learns of it, `scope.rs` what API keys may do.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use metrics::Counter;
use tokio::sync::broadcast;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::{
    config::MeshConfig,
    error::{Reason, Refusal},
    keys::{self, KeyError},
    time::Millis,
    tls::{Peer, Tls},
};

mod follow;
#[cfg(test)]
mod fuzz;
mod probe;
mod revocations;
mod scope;
#[cfg(test)]
mod tests;
mod token;

pub use follow::follow;
pub use probe::KeysProbe;
pub use scope::Scope;
pub(crate) use scope::require;
pub use token::{ACCESS_TYPE, AccessClaims};

/// The services that may speak for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceName {
    /// The edge.
    Gateway,
    /// auth-svc.
    Auth,
    /// user-svc.
    User,
    /// message-svc.
    Message,
}

impl ServiceName {
    /// Every service.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Auth, Self::User, Self::Message];

    /// Its name: the binary's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Auth => "auth-svc",
            Self::User => "user-svc",
            Self::Message => "message-svc",
        }
    }

    /// The service of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.as_str() == name)
    }
}

/// A user who calls, by their own token or through a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCaller {
    /// The user.
    pub user_id: Uuid,
    /// Their session; a service may speak for a user without one.
    pub session_id: Option<Uuid>,
    /// Their roles.
    pub roles: Vec<String>,
    /// When the token that says so expires.
    pub expires: Option<Millis>,
    /// The service that speaks for them, if one does.
    pub via: Option<ServiceName>,
    /// What a service account may do with the API key that it calls with, whose id stands as the session's; none for
    /// people, who may do all that is theirs.
    pub scopes: Option<Vec<Scope>>,
}

impl UserCaller {
    /// A user without a token that says more.
    #[must_use]
    pub fn new(user_id: Uuid, session_id: Option<Uuid>) -> Self {
        Self { user_id, session_id, roles: Vec::new(), expires: None, via: None, scopes: None }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A user.
    User(UserCaller),
    /// A service for itself.
    Service(ServiceName),
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None of ours, or not for this use.
    #[error("the token is not valid")]
    Invalid,
    /// Good once.
    #[error("the token has expired")]
    Expired,
    /// Its session has ended.
    #[error("the token has been revoked")]
    Revoked,
    /// What is known of revocations is too old, and auth-svc does not answer.
    #[error("the token cannot be checked now")]
    Unchecked,
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let reason = match error {
            TokenError::Invalid => Reason::TokenInvalid,
            TokenError::Expired => Reason::TokenExpired,
            TokenError::Revoked => Reason::TokenRevoked,
            TokenError::Unchecked => return Self::unavailable("auth-svc"),
        };
        // Which check failed is in the code; the words are the same for all.
        Self::new(reason, "Unauthorized")
    }
}

/// Asks auth-svc about one session, when what is known here is too old.
#[async_trait]
pub trait SessionCheck: Send + Sync {
    /// Whether the session is alive.
    ///
    /// # Errors
    /// [`TokenError::Revoked`] when it is not, [`TokenError::Unchecked`] when nobody can tell.
    async fn check(&self, session: Uuid) -> Result<(), TokenError>;

    /// Whose API key this is, if it is good now.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], [`TokenError::Expired`] or [`TokenError::Revoked`] when it is not,
    /// [`TokenError::Unchecked`] when nobody can tell.
    async fn api_key(&self, key: &str) -> Result<UserCaller, TokenError>;
}

/// A verified assertion and until when it is good.
type Verified = (Caller, i64);
/// Whom an assertion is for, and the user, session and roles that it speaks for.
type Speech = (ServiceName, Option<(Uuid, Option<Uuid>, Vec<String>, Option<Vec<Scope>>)>);

/// What one process knows about callers.
pub struct Identity {
    service: ServiceName,
    issuer: String,
    audience: String,
    data: PathBuf,
    configured: HashMap<ServiceName, Vec<u8>>,
    silence_max: Duration,
    signing: EncodingKey,
    tls: Option<Arc<Tls>>,
    access_keys: ArcSwap<HashMap<String, DecodingKey>>,
    service_keys: Mutex<HashMap<ServiceName, (DecodingKey, Instant)>>,
    revocations: revocations::Revocations,
    check: OnceLock<Arc<dyn SessionCheck>>,
    access_verified: moka::sync::Cache<[u8; 32], Arc<AccessClaims>>,
    assertions_verified: moka::sync::Cache<[u8; 32], Arc<Verified>>,
    keys_verified: moka::sync::Cache<[u8; 32], Arc<UserCaller>>,
    assertions_made: moka::sync::Cache<Speech, Arc<str>>,
    meter: Meter,
}

/// What is counted; handles, because every call counts one of them.
struct Meter {
    hits: Counter,
    misses: Counter,
    asked: Counter,
}

impl Meter {
    fn new() -> Self {
        let looked = |outcome| metrics::counter!("switchboard_tokens_verified_total", "outcome" => outcome);
        Self {
            hits: looked("cached"),
            misses: looked("checked"),
            asked: metrics::counter!("switchboard_sessions_asked_total"),
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("service", &self.service).finish_non_exhaustive()
    }
}

/// How long a made assertion is handed out again: half of its life, so that it is good for as long on arrival.
const ASSERTION_REUSE: Duration = Duration::from_secs(30);
/// How long what auth-svc has said of an API key counts before it is asked again, which is also how it learns that the key
/// is in use. Its revocation is heard of at once, like that of a session.
const KEY_REUSE: Duration = Duration::from_secs(60);
/// What every API key begins with.
pub const API_KEY_PREFIX: &str = "sbk_";
/// The longest text that is asked about.
const API_KEY_BYTES_MAX: usize = 128;
/// How long another service's public key is used before the file is looked at again.
const SERVICE_KEY_REUSE: Duration = Duration::from_secs(60);

impl Identity {
    /// Makes or reads this service's own key, and reads its certificate, when it is to have one: to be called in a runtime
    /// then, which follows the files.
    ///
    /// # Errors
    /// When the key or the certificate cannot be had, or a configured one is none.
    pub fn new(service: ServiceName, config: &MeshConfig) -> Result<Arc<Self>, KeyError> {
        let key = keys::signing_key(config, &format!("service-{}", service.as_str()))?;
        let configured = config
            .identity
            .service_keys
            .iter()
            .filter_map(|(name, key)| Some((ServiceName::from_name(name)?, BASE64_URL_SAFE_NO_PAD.decode(key).ok()?)))
            .collect();
        let silence_max = Duration::from_millis(config.identity.silence_ms_max);
        Ok(Arc::new(Self {
            service,
            issuer: config.identity.issuer.clone(),
            audience: config.identity.audience.clone(),
            data: config.data.clone(),
            configured,
            silence_max,
            signing: key.encoding_key(),
            tls: Tls::start(service.as_str(), config)?,
            access_keys: ArcSwap::default(),
            service_keys: Mutex::default(),
            revocations: revocations::Revocations::new(config.identity.revocations_max, silence_max),
            check: OnceLock::new(),
            access_verified: moka::sync::Cache::new(config.identity.verified_max),
            assertions_verified: moka::sync::Cache::new(config.identity.verified_max),
            keys_verified: moka::sync::Cache::builder()
                .max_capacity(config.identity.verified_max)
                .time_to_live(KEY_REUSE)
                .build(),
            assertions_made: moka::sync::Cache::builder()
                .max_capacity(config.identity.verified_max)
                .time_to_live(ASSERTION_REUSE)
                .build(),
            meter: Meter::new(),
        }))
    }

    /// Which service this process is.
    #[must_use]
    pub fn service(&self) -> ServiceName {
        self.service
    }

    /// This process' certificate, when the processes of the mesh show one another theirs.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Whether the process at the other end may make this call: by its certificate and the list. Without certificates in
    /// the mesh, whoever reaches this port may.
    ///
    /// # Errors
    /// `FORBIDDEN` when it may not.
    pub(crate) fn admit(&self, peer: Option<&Peer>, path: &str) -> Result<(), Refusal> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let name = peer.map(Peer::name);
        if peer.is_some_and(|peer| tls.allows(peer, path)) {
            return Ok(());
        }
        let known = crate::proto::rpcs::rpc(path).map_or("a call that there is not", |(_, method)| method);
        tracing::warn!(
            peer.name = name,
            rpc.method = known,
            "A call was refused: its caller is not on the list of those who may make it"
        );
        Err(Refusal::new(Reason::Forbidden, "The calling process is not on the list of those who may make this call"))
    }

    /// Whether a service that says who it is by a token is the one that its certificate names: nobody can use another's.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] when it is not.
    pub(crate) fn agree(&self, peer: Option<&Peer>, caller: &Caller) -> Result<(), TokenError> {
        let said = match caller {
            Caller::Service(service) => Some(*service),
            Caller::User(user) => user.via,
        };
        let (Some(_), Some(said)) = (&self.tls, said) else { return Ok(()) };
        if peer.is_some_and(|peer| peer.is(said)) {
            return Ok(());
        }
        let (name, said) = (peer.map(Peer::name), said.as_str());
        tracing::warn!(
            peer.name = name,
            token.issuer = said,
            "A call was refused: its token is another service's than its certificate"
        );
        Err(TokenError::Invalid)
    }

    /// How to ask about a session when the stream is silent. Set once, at start.
    pub fn set_check(&self, check: Arc<dyn SessionCheck>) {
        // A second one would be a second wiring of the same process; the first stays.
        drop(self.check.set(check));
    }

    /// Replaces the public keys of access tokens by those of a JSON Web Key Set.
    pub fn set_keys(&self, jwks_json: &str) {
        let parsed: serde_json::Value = serde_json::from_str(jwks_json).unwrap_or_default();
        let keys = parsed["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let keys: HashMap<_, _> = keys
            .iter()
            .filter(|key| key["kty"] == "OKP" && key["crv"] == "Ed25519")
            .filter_map(|key| {
                let (kid, x) = (key["kid"].as_str()?, key["x"].as_str()?);
                Some((kid.to_owned(), DecodingKey::from_ed_components(x).ok()?))
            })
            .collect();
        let withdrawn = self.access_keys.load().keys().any(|kid| !keys.contains_key(kid));
        self.access_keys.store(Arc::new(keys));
        // A token of a withdrawn key must not live on in the cache.
        if withdrawn {
            self.access_verified.invalidate_all();
        }
    }

    /// A session has ended: its tokens are refused from here on.
    pub fn revoke(&self, session: Uuid, number: i64, expires: Millis) {
        self.revocations.add(session, number, expires);
    }

    /// All revocations up to this number have been given.
    pub fn heartbeat(&self, number: i64) {
        self.revocations.heartbeat(number);
    }

    /// The sessions that end from here on. Who lags must look at all of their sessions ([`Identity::is_revoked`]).
    #[must_use]
    pub fn revocations(&self) -> broadcast::Receiver<Uuid> {
        self.revocations.listen()
    }

    /// Whether this session is known to have ended.
    #[must_use]
    pub fn is_revoked(&self, session: Uuid) -> bool {
        self.revocations.contains(session)
    }

    fn silence_max(&self) -> Duration {
        self.silence_max
    }

    /// Verifies an access token: its signature (once), its times, its session.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify_access(&self, token: &str) -> Result<Arc<AccessClaims>, TokenError> {
        let key = fingerprint(token);
        let claims = match self.access_verified.get(&key) {
            Some(claims) => {
                self.meter.hits.increment(1);
                claims
            }
            None => {
                self.meter.misses.increment(1);
                let claims = Arc::new(self.verify_access_signature(token)?);
                self.access_verified.insert(key, claims.clone());
                claims
            }
        };
        if claims.exp <= Millis::now().secs() {
            return Err(TokenError::Expired);
        }
        self.check_session(claims.sid).await?;
        Ok(claims)
    }

    fn verify_access_signature(&self, token: &str) -> Result<AccessClaims, TokenError> {
        let header = token::header(token)?;
        if header.typ.as_deref() != Some(ACCESS_TYPE) {
            return Err(TokenError::Invalid);
        }
        let keys = self.access_keys.load();
        match header.kid.as_deref().and_then(|kid| keys.get(kid)) {
            Some(key) => token::verify_access(token, key, &self.issuer, &self.audience),
            // Nothing has been heard of auth-svc yet, or not lately, when it may have a new key: that is not the token's
            // fault.
            None if keys.is_empty() || !self.revocations.fresh() => Err(TokenError::Unchecked),
            None => Err(TokenError::Invalid),
        }
    }

    /// Whether a session is alive: from memory while that is fresh, else by asking.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn check_session(&self, session: Uuid) -> Result<(), TokenError> {
        if self.revocations.contains(session) {
            return Err(TokenError::Revoked);
        }
        if self.revocations.fresh() {
            return Ok(());
        }
        self.meter.asked.increment(1);
        match self.check.get() {
            Some(check) => check.check(session).await,
            None => Err(TokenError::Unchecked),
        }
    }

    /// The caller that a request's metadata names; none when it names none.
    ///
    /// # Errors
    /// When there is an `authorization` that is not good.
    pub async fn authenticate(&self, metadata: &MetadataMap) -> Result<Option<Caller>, Refusal> {
        let Some(value) = metadata.get("authorization") else { return Ok(None) };
        let token = value.to_str().ok().and_then(bearer).ok_or(TokenError::Invalid)?;
        self.caller(token).await.map(Some)
    }

    /// The caller that a token names: an access token's user, an API key's service account, or whom a service asserts.
    ///
    /// # Errors
    /// When it is not good.
    pub async fn caller(&self, token: &str) -> Result<Caller, Refusal> {
        if token.starts_with(API_KEY_PREFIX) {
            return Ok(Caller::User(self.verify_key(token).await?));
        }
        let key = fingerprint(token);
        if let Some(verified) = self.assertions_verified.get(&key) {
            self.meter.hits.increment(1);
            return self.accept(&verified).await;
        }
        let header = token::header(token)?;
        if header.typ.as_deref() == Some(token::ASSERTION_TYPE) {
            self.meter.misses.increment(1);
            let verified = Arc::new(self.verify_assertion(token)?);
            self.assertions_verified.insert(key, verified.clone());
            return self.accept(&verified).await;
        }
        Ok(Caller::User(self.verify_access(token).await?.caller()))
    }

    /// Verifies an API key: by what auth-svc has said of it within the last minute, and by what has been revoked since.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify_key(&self, key: &str) -> Result<UserCaller, TokenError> {
        let found = fingerprint(key);
        let caller = match self.keys_verified.get(&found) {
            Some(caller) => caller,
            None => {
                let check = self.check.get().filter(|_| key.len() <= API_KEY_BYTES_MAX);
                let asked = check.ok_or(TokenError::Invalid)?.api_key(key).await?;
                let caller = Arc::new(asked);
                self.keys_verified.insert(found, caller.clone());
                caller
            }
        };
        if caller.expires.is_none_or(|at| at <= Millis::now()) {
            return Err(TokenError::Expired);
        }
        self.check_session(caller.session_id.ok_or(TokenError::Invalid)?).await?;
        Ok((*caller).clone())
    }

    async fn accept(&self, (caller, expires): &Verified) -> Result<Caller, Refusal> {
        if *expires <= Millis::now().secs() {
            return Err(TokenError::Expired.into());
        }
        if let Caller::User(UserCaller { session_id: Some(session), .. }) = caller {
            self.check_session(*session).await?;
        }
        Ok(caller.clone())
    }

    fn verify_assertion(&self, token: &str) -> Result<Verified, TokenError> {
        let from = token::issuer(token).and_then(|name| ServiceName::from_name(&name)).ok_or(TokenError::Invalid)?;
        let key = self.service_key(from).ok_or(TokenError::Invalid)?;
        let claims = token::verify_assertion(token, &key, from, self.service)?;
        let caller = match claims.sub {
            None => Caller::Service(from),
            Some(user_id) => Caller::User(UserCaller {
                user_id,
                session_id: claims.sid,
                roles: claims.roles,
                expires: None,
                via: Some(from),
                scopes: claims.scp.as_deref().map(Scope::split),
            }),
        };
        Ok((caller, claims.exp))
    }

    /// The public key of another service: configured, or from the data folder that the two share.
    fn service_key(&self, service: ServiceName) -> Option<DecodingKey> {
        let mut known = self.service_keys.lock().expect("invariant: no panic while the lock is held");
        if let Some((key, read)) = known.get(&service)
            && read.elapsed() < SERVICE_KEY_REUSE
        {
            return Some(key.clone());
        }
        let raw = self
            .configured
            .get(&service)
            .cloned()
            .or_else(|| keys::public_key(&self.data, &format!("service-{}", service.as_str())))?;
        let key = DecodingKey::from_ed_der(&raw);
        known.insert(service, (key.clone(), Instant::now()));
        Some(key)
    }

    /// An assertion of this service for a callee, on behalf of a user or of itself; good for half a minute and more.
    #[must_use]
    pub fn assertion(&self, callee: ServiceName, on_behalf: Option<&UserCaller>) -> Arc<str> {
        let key =
            (callee, on_behalf.map(|user| (user.user_id, user.session_id, user.roles.clone(), user.scopes.clone())));
        self.assertions_made
            .get_with(key, || token::Assertion::new(self.service, callee, on_behalf).sign(&self.signing).into())
    }
}

/// The token of an `authorization` value.
#[must_use]
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Tokens are found again by their SHA-256, so that the cache holds none.
fn fingerprint(token: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref().try_into().expect("invariant: SHA-256 has 32 bytes")
}

/// The user who calls.
///
/// # Errors
/// `UNAUTHORIZED` without one.
pub fn user<T>(request: &tonic::Request<T>) -> Result<UserCaller, Refusal> {
    match request.extensions().get::<Caller>() {
        Some(Caller::User(user)) => Ok(user.clone()),
        _ => Err(Refusal::unauthorized()),
    }
}

/// The service that calls, when it is one of these.
///
/// # Errors
/// `UNAUTHORIZED` without a caller, `FORBIDDEN` for any other.
pub fn service<T>(request: &tonic::Request<T>, allowed: &[ServiceName]) -> Result<ServiceName, Refusal> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Service(service)) if allowed.contains(service) => Ok(*service),
        Some(_) => Err(Refusal::new(Reason::Forbidden, "This call is for other services only")),
        None => Err(Refusal::unauthorized()),
    }
}
