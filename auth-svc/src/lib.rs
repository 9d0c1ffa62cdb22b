//! auth-svc: who may log in, and until when. Accounts, passwords, sessions, tokens, revocations.
//!
//! | file | owns |
//! |---|---|
//! | `grpc.rs` | the surface: `AuthService`, over the domain |
//! | `account.rs` | usernames, addresses, registration, rename, password change |
//! | `invitation.rs` | who may register, and invitations |
//! | `login.rs` | logging in, in one step or two, and proving again who one is |
//! | `factor.rs` | the second factor: authenticator apps, recovery codes, remembered devices |
//! | `session.rs` | sessions from opening to end, and what a token of one is worth |
//! | `proof.rs` | how and when a session has proved whose it is: what sensitive calls ask for |
//! | `role.rs`, `operator.rs` | who may do more; what is done at the command line |
//! | `api_key.rs` | service accounts and their API keys |
//! | `deletion.rs` | disabling accounts, and deleting them: the plan, and what erases them in every service |
//! | `audit.rs` | security events: who, what, on whom, from where |
//! | `place.rs` | roughly where an address is |
//! | `password.rs` | Argon2id on a bounded pool |
//! | `seal.rs` | sealing what must be read again, by nobody else |
//! | `signing.rs` | the keys that sign access tokens, one after the other |
//! | `token.rs`, `refresh.rs` | access tokens; refresh tokens and their successors |
//! | `revocation.rs` | the feed that tells everyone which sessions have ended |
//! | `mail.rs` | what goes by mail: what waits, its texts, its way to a server |
//! | `reset.rs`, `verification.rs` | what the links in mails do: a new password; showing whose an address is |
//! | `outbox.rs` | news for user-svc, until it arrives |
//! | `store.rs` | what is kept, as a trait; `store/sqlite.rs` and `store/postgres.rs` keep it |
//! | `upkeep.rs` | forgetting what has expired |
//! | `config.rs`, `error.rs` | settings; refusals |

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mesh::{
    client::Clients,
    grpc::Health,
    identity::{Identity, ServiceName, SessionCheck, TokenError, UserCaller},
    keys::KeyError,
    ops::{Awaited, Ops, Probe},
    proto::auth::v1::{
        account_service_server::AccountServiceServer, admin_service_server::AdminServiceServer,
        api_key_service_server::ApiKeyServiceServer, auth_service_server::AuthServiceServer,
        email_service_server::EmailServiceServer, factor_service_server::FactorServiceServer,
    },
    serve::{BindError, Listeners, bind, serve_secured},
    shutdown::Sequence,
    tls::Tls,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService, service::Routes};
use uuid::Uuid;

pub mod account;
pub mod api_key;
pub mod audit;
pub mod config;
pub mod deletion;
pub mod error;
pub mod factor;
#[cfg(test)]
mod fuzz;
pub mod grpc;
pub mod invitation;
pub mod login;
pub mod mail;
pub mod operator;
pub mod outbox;
pub mod password;
pub mod place;
pub mod proof;
pub mod refresh;
pub mod reset;
pub mod revocation;
pub mod role;
pub mod seal;
pub mod session;
pub mod signing;
pub mod store;
pub mod token;
mod upkeep;
pub mod verification;

pub use config::Config;

use account::Accounts;
use audit::Failures;
use deletion::Eraser;
use factor::Factors;
use grpc::{AccountApi, AdminApi, ApiKeyApi, AuthApi, EmailApi, FactorApi, Others, UserService};
use mail::{Mailer, Mails, Post};
use outbox::Outbox;
use password::Passwords;
use place::Places;
use refresh::RefreshTokens;
use revocation::{Feed, Listener, Revocation};
use session::{SessionId, Sessions};
use signing::KeyRing;
use store::{OpenError, Store, StoreError};
use token::AccessTokens;

const NAME: &str = "auth-svc";
/// The store in `/ready`.
const STORE: &str = "store";

/// Why auth-svc cannot start: one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error("the revocations cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The keys that sign access tokens cannot be had.
    #[error("the signing keys cannot be read: {0}")]
    Signing(#[source] error::Error),
    /// Mail cannot be sent as it is set.
    #[error("{0}")]
    Mail(String),
    /// The pool of password threads cannot be started.
    #[error("the password pool cannot be started: {0}")]
    Passwords(Box<dyn std::error::Error + Send + Sync>),
    /// The process' metrics cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] mesh::telemetry::TelemetryError),
    /// A part that runs as long as the process has ended: a fault of ours, after which the rest would deceive.
    #[error("a background task of auth-svc ended by itself; the log says why. Start auth-svc again")]
    Worker,
}

/// Takes the ports of the configuration and serves on them.
///
/// # Errors
/// One sentence that says what to do.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServeError> {
    let listeners = Listeners {
        grpc: bind("auth-svc", config.auth.grpc_addr(), "AUTH_SERVICE_GRPC_PORT").await?,
        ops: bind("auth-svc operations", config.auth.http_addr(), "AUTH_SERVICE_HTTP_PORT").await?,
    };
    serve(config, listeners, shutdown).await
}

/// Serves until `shutdown`, then stops in order: it says so, no new calls, streams end, calls finish, workers finish, the store
/// closes.
///
/// # Errors
/// When it cannot start; one sentence that says what to do.
pub async fn serve(config: Config, listeners: Listeners, shutdown: CancellationToken) -> Result<(), ServeError> {
    let auth = &config.auth;
    // Everything below ends with this call, also when the call is dropped or a worker fails.
    let stop = CancellationToken::new();
    let _end = stop.clone().drop_guard();
    let telemetry = mesh::telemetry::init(&config.mesh.telemetry, NAME)?;
    let post = Post::open(&auth.email, config.mesh.profile).map_err(ServeError::Mail)?;
    let awaited = Awaited::new(STORE);
    let ops = Ops::new(NAME, env!("CARGO_PKG_VERSION"), shutdown.clone())
        .probe(awaited.clone())
        .metrics(Some(telemetry.metrics()));
    // The operations port is there before the store and outlives the calls: whoever looks can see that the process is
    // coming or going.
    let ops_stop = CancellationToken::new();
    let _ops_end = ops_stop.clone().drop_guard();
    let router = ops.router().merge(post.router());
    let ops = spawn_server("auth-svc-ops", listeners.ops, router, &config, None, &ops_stop);
    let opening =
        store::open(&auth.store_url, &config.mesh.data, auth.store_readers, &auth.store, config.mesh.migrations());
    let store = tokio::select! {
        opened = opening => opened?,
        // A store that is a server may be waited for; whoever stops us meanwhile does not.
        () = shutdown.cancelled() => return Ok(()),
    };
    let operations = Operations { task: ops, stop: ops_stop, store: awaited };
    let served = serve_with(&config, &store, post, listeners.grpc, operations, (shutdown.clone(), stop)).await;
    if served.is_err() {
        store.close().await;
    }
    let ended = served?;
    if shutdown.is_cancelled() {
        return Ok(());
    }
    tracing::error!(error.message = ?ended, "a background task ended by itself");
    Err(ServeError::Worker)
}

/// The operations port, what ends it, and the store as it shows it.
struct Operations {
    task: JoinHandle<()>,
    stop: CancellationToken,
    store: Arc<Awaited>,
}

/// What a worker ended with, if one did.
type Ended = Option<Result<(), JoinError>>;

/// Serves until `shutdown`, or until a worker ends by itself; what runs here ends with `stop`.
async fn serve_with(
    config: &Config,
    store: &Arc<dyn Store>,
    post: Post,
    listener: TcpListener,
    operations: Operations,
    (shutdown, stop): (CancellationToken, CancellationToken),
) -> Result<Ended, ServeError> {
    let identity = Identity::new(ServiceName::Auth, &config.mesh)?;
    let keys = keys(config, store).await?;
    let service = Service::new(config, store, post, &identity, &keys, &stop)?;
    // What is revoked must be known before the first token is looked at.
    service.sessions.feed.load().await?;
    let mut workers = service.workers(config, store, &stop);
    let (follower, stopped) = (tell_keys(identity.clone(), keys.follow()), stop.clone());
    workers.spawn(async move { keys.run(stopped).await });
    workers.spawn(follower);

    let limit = config.mesh.grpc.message_bytes_max;
    let accounts = AccountServiceServer::new(AccountApi(service.api.clone())).max_decoding_message_size(limit);
    let admin = AdminServiceServer::new(AdminApi(service.api.clone())).max_decoding_message_size(limit);
    let email = EmailServiceServer::new(EmailApi(service.api.clone())).max_decoding_message_size(limit);
    let factors = FactorServiceServer::new(FactorApi(service.api.clone())).max_decoding_message_size(limit);
    let keys_api = ApiKeyServiceServer::new(ApiKeyApi(service.api.clone())).max_decoding_message_size(limit);
    let api = AuthServiceServer::from_arc(service.api).max_decoding_message_size(limit);
    let beside = [
        <AccountServiceServer<AccountApi> as NamedService>::NAME,
        <AdminServiceServer<AdminApi> as NamedService>::NAME,
        <ApiKeyServiceServer<ApiKeyApi> as NamedService>::NAME,
        <EmailServiceServer<EmailApi> as NamedService>::NAME,
        <FactorServiceServer<FactorApi> as NamedService>::NAME,
    ];
    let routes = Routes::new(api).add_service(admin).add_service(keys_api).add_service(factors).add_service(accounts);
    let routes = routes.add_service(email);
    let tls = identity.tls().cloned();
    let (router, health) =
        mesh::grpc::router_with::<AuthServiceServer<AuthApi>>(routes, &beside, identity, &config.mesh);
    operations.store.arrived(Arc::new(StoreProbe(store.clone())));
    serving(&health, true).await;
    let calls = spawn_server(NAME, listener, router, config, tls, &stop);
    let ended = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = workers.join_next() => ended,
    };

    let limits = &config.mesh.shutdown;
    let mut sequence = Sequence::new(NAME);
    serving(&health, false).await;
    if ended.is_none() {
        sequence.notice(limits.notice()).await;
    }
    stop.cancel();
    // Followers hear of the same token and end, so that the connections can.
    sequence.step("calls", limits.calls(), calls).await;
    sequence.step("flush", limits.flush(), async { while workers.join_next().await.is_some() {} }).await;
    sequence.step("store", limits.stores(), store.close()).await;
    operations.stop.cancel();
    sequence.step("operations", limits.calls(), operations.task).await;
    // A step that ran out of time has been logged; the store is consistent either way.
    let _whole = sequence.finish();
    Ok(ended)
}

/// The keys that sign access tokens.
async fn keys(config: &Config, store: &Arc<dyn Store>) -> Result<KeyRing, ServeError> {
    let file = mesh::keys::signing_key(&config.mesh, "auth-access")?;
    let secret = mesh::keys::secret(&config.mesh, "auth-seal")?;
    KeyRing::open(store.clone(), &secret, config.auth.keys(), &file).await.map_err(ServeError::Signing)
}

/// The gate in front of our own calls hears of new keys like everyone, until they are followed no more.
async fn tell_keys(identity: Arc<Identity>, mut keys: watch::Receiver<Arc<signing::Keys>>) {
    while keys.changed().await.is_ok() {
        let jwks = keys.borrow_and_update().jwks().to_owned();
        identity.set_keys(&jwks);
    }
}

async fn serving(health: &Health, serving: bool) {
    health.set_serving::<AuthServiceServer<AuthApi>>(serving).await;
    health.set_serving::<AccountServiceServer<AccountApi>>(serving).await;
    health.set_serving::<AdminServiceServer<AdminApi>>(serving).await;
    health.set_serving::<ApiKeyServiceServer<ApiKeyApi>>(serving).await;
    health.set_serving::<EmailServiceServer<EmailApi>>(serving).await;
    health.set_serving::<FactorServiceServer<FactorApi>>(serving).await;
}

fn spawn_server(
    name: &'static str,
    listener: TcpListener,
    router: axum::Router,
    config: &Config,
    tls: Option<Arc<Tls>>,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let (limits, stop) = (config.mesh.serve.clone(), stop.clone());
    tokio::spawn(async move { serve_secured(name, listener, router, &limits, tls, stop).await })
}

/// The parts of the service.
struct Service {
    api: Arc<AuthApi>,
    sessions: Arc<Sessions>,
    outbox: Arc<Outbox>,
    mailer: Arc<Mailer>,
    eraser: Arc<Eraser>,
    failures: Arc<Failures>,
}

impl Service {
    fn new(
        config: &Config,
        store: &Arc<dyn Store>,
        post: Post,
        identity: &Arc<Identity>,
        keys: &KeyRing,
        stop: &CancellationToken,
    ) -> Result<Self, ServeError> {
        let (mesh, auth) = (&config.mesh, &config.auth);
        let (issuer, audience) = (&mesh.identity.issuer, &mesh.identity.audience);
        let access = AccessTokens::new(keys.follow(), issuer, audience, auth.access_ttl());
        identity.set_keys(access.keys().jwks());
        let listener = Arc::new(ThisProcess(identity.clone()));
        let sessions = Arc::new(Sessions {
            store: store.clone(),
            access,
            refresh: RefreshTokens::new(&mesh::keys::secret(mesh, "auth-refresh")?),
            feed: Feed::new(store.clone(), listener, auth.feed(), stop.clone()),
            limits: auth.sessions(),
        });
        identity.set_check(Arc::new(AskStore(sessions.clone())));
        let (limits, clients) = (auth.outbox(), Clients::connect(mesh, identity.tls()));
        let patience = Duration::from_millis(mesh.grpc.call_deadline_ms);
        let holders = Others { clients: clients.clone(), identity: identity.clone(), deadline: patience };
        let eraser = Eraser {
            store: store.clone(),
            feed: sessions.feed.clone(),
            holders: Arc::new(holders),
            // The account's own rows and the audit log's take time, too.
            limits: auth.eraser(2 * patience),
        };
        let profiles = UserService { clients, identity: identity.clone(), deadline: limits.patience };
        let outbox = Arc::new(Outbox::new(store.clone(), Arc::new(profiles), limits));
        let secret = mesh::keys::secret(mesh, "auth-seal")?;
        let mails = Arc::new(Mails::new(store.clone(), post.limits()));
        let mailer = Arc::new(post.mailer(store.clone(), &secret, auth.outbox().poll, &auth.mfa_issuer));
        let failures = Arc::new(Failures::default());
        let factors = Arc::new(Factors::new(
            store.clone(),
            sessions.clone(),
            failures.clone(),
            mails.clone(),
            &secret,
            auth.factors(),
        ));
        let accounts = Accounts {
            store: store.clone(),
            passwords: Passwords::start(auth.passwords(), &auth.rules()).map_err(ServeError::Passwords)?,
            sessions: sessions.clone(),
            failures: failures.clone(),
            factors,
            outbox: outbox.clone(),
            mails,
            registration: auth.registration,
            invitations: auth.invitations(),
            api_keys: auth.api_keys(),
            deletion: auth.deletion(Duration::from_millis(mesh.identity.silence_ms_max)),
        };
        let api = AuthApi { accounts, sessions: sessions.clone(), places: Places::open(&auth.places)? };
        Ok(Self { api: Arc::new(api), sessions, outbox, mailer, eraser: Arc::new(eraser), failures })
    }

    /// The parts that run as long as the process.
    fn workers(&self, config: &Config, store: &Arc<dyn Store>, stop: &CancellationToken) -> JoinSet<()> {
        let mut workers = JoinSet::new();
        let (feed, outbox, outbox_stop) = (self.sessions.feed.clone(), self.outbox.clone(), stop.clone());
        workers.spawn(async move { feed.run().await });
        workers.spawn(async move { outbox.run(outbox_stop).await });
        let (mailer, mailer_stop) = (self.mailer.clone(), stop.clone());
        workers.spawn(async move { mailer.run(mailer_stop).await });
        let (eraser, eraser_stop) = (self.eraser.clone(), stop.clone());
        workers.spawn(async move { eraser.run(eraser_stop).await });
        let (failures, keep) = (self.failures.clone(), config.auth.audit_keep());
        workers.spawn(upkeep::run(store.clone(), failures, config.auth.upkeep(), keep, stop.clone()));
        workers
    }
}

/// The gate in front of our own calls hears of revocations like everyone, only sooner.
#[derive(Debug)]
struct ThisProcess(Arc<Identity>);

impl Listener for ThisProcess {
    fn revoked(&self, revocation: &Revocation) {
        self.0.revoke(revocation.session_id.0, revocation.number, revocation.expires_at);
    }

    fn current(&self, head: i64) {
        self.0.heartbeat(head);
    }
}

/// When the feed is behind, and for API keys, the gate asks the store itself.
struct AskStore(Arc<Sessions>);

#[async_trait]
impl SessionCheck for AskStore {
    async fn check(&self, session: Uuid) -> Result<(), TokenError> {
        match self.0.alive_or_key(SessionId(session)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(judged(error, TokenError::Revoked)),
        }
    }

    async fn api_key(&self, key: &str) -> Result<UserCaller, TokenError> {
        let checked = self.0.check_api_key(key).await;
        let (key, roles) = checked.map_err(|error| judged(error, TokenError::Invalid))?;
        Ok(UserCaller {
            roles,
            expires: Some(key.expires_at),
            scopes: Some(key.scopes),
            ..UserCaller::new(key.account.0, Some(key.id))
        })
    }
}

/// What a refusal is to the gate; that the store cannot be asked is no word about who asked.
fn judged(error: error::Error, refused: TokenError) -> TokenError {
    if let error::Error::Store(error) = error {
        tracing::error!(error.message = error.cause(), "a session or key cannot be looked up");
        return TokenError::Unchecked;
    }
    if matches!(error, error::Error::TokenExpired) && refused == TokenError::Invalid {
        return TokenError::Expired;
    }
    refused
}

/// The store, as `/ready` sees it. user-svc is no condition: the outbox waits for it.
struct StoreProbe(Arc<dyn Store>);

#[async_trait]
impl Probe for StoreProbe {
    fn name(&self) -> &str {
        STORE
    }

    async fn check(&self) -> Result<(), String> {
        self.0.check().await.map_err(|error| error.to_string())
    }
}
