//! Calling the other services: deadlines, bounded retries of idempotent calls, and each call to the replica that it
//! belongs to. It knows where the services are and nothing of what they say; `identity` signs what the calls carry.
//! Where the replicas are is `client/place.rs`, which of them live `client/replicas.rs`, who owns a room
//! `client/ring.rs`, `client/route.rs` sends a call there, and `client/retry.rs` tries it again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rand::RngExt as _;
use tonic::{Code, Request, Status, metadata::MetadataValue};
use uuid::Uuid;

use crate::{
    config::MeshConfig,
    error::{Reason, Refusal},
    identity::{Identity, Scope, ServiceName, SessionCheck, TokenError, UserCaller},
    proto::{
        auth::v1::{
            CheckApiKeyRequest, CheckTokenRequest, account_service_client::AccountServiceClient,
            admin_service_client::AdminServiceClient, api_key_service_client::ApiKeyServiceClient,
            auth_service_client::AuthServiceClient, auth_service_server, email_service_client::EmailServiceClient,
            factor_service_client::FactorServiceClient,
        },
        message::v1::{
            message_service_client::MessageServiceClient, message_service_server,
            send_service_client::SendServiceClient,
        },
        user::v1::{user_service_client::UserServiceClient, user_service_server},
    },
    telemetry,
    time::Millis,
    tls::Tls,
};

mod place;
mod replicas;
mod retry;
mod ring;
mod route;

pub use place::{Resolve, SystemResolver, check_urls};
pub use replicas::{Known, Replica, Replicas};
pub use retry::Retries;
pub use route::Route;

/// Clients of all services. Cheap to clone; connections are shared and made when they are first needed.
#[derive(Clone, Debug)]
pub struct Clients {
    auth: Replicas,
    user: Replicas,
    message: Replicas,
    retries: Retries,
    message_bytes_max: usize,
}

impl Clients {
    /// Never waits: a service that is away is found out by the first call. With certificates calls show this process'
    /// own. To be called in a runtime, where the tasks live that follow the replicas.
    ///
    /// # Panics
    /// When a URL is none; [`MeshConfig`]'s validation has seen to that.
    #[must_use]
    pub fn connect(config: &MeshConfig, tls: Option<&Arc<Tls>>) -> Self {
        Self::connect_by(config, tls, &(Arc::new(SystemResolver) as Arc<dyn Resolve>))
    }

    /// The same with names looked up by this resolver.
    ///
    /// # Panics
    /// When a URL is none; [`MeshConfig`]'s validation has seen to that.
    #[must_use]
    pub fn connect_by(config: &MeshConfig, tls: Option<&Arc<Tls>>, resolver: &Arc<dyn Resolve>) -> Self {
        let follow = |service, grpc_name, urls: &str| {
            let places = place::places(urls).expect("invariant: the configuration was validated");
            let limits = (config.grpc.clone(), config.replicas.clone());
            Replicas::follow((service, grpc_name), places, Arc::clone(resolver), tls.cloned(), limits)
        };
        Self {
            auth: follow(ServiceName::Auth, auth_service_server::SERVICE_NAME, &config.auth_url),
            user: follow(ServiceName::User, user_service_server::SERVICE_NAME, &config.user_url),
            message: follow(ServiceName::Message, message_service_server::SERVICE_NAME, &config.message_url),
            retries: Retries::new(&config.grpc),
            message_bytes_max: config.grpc.message_bytes_max,
        }
    }

    /// Makes an idempotent call, and makes it again while its service is away; see [`Retries::call`].
    ///
    /// # Errors
    /// The last try's status.
    pub async fn retry<T, F>(&self, call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.retries.call(call).await
    }

    /// auth-svc.
    #[must_use]
    pub fn auth(&self) -> AuthServiceClient<Route> {
        AuthServiceClient::new(Route::any(&self.auth)).max_decoding_message_size(self.message_bytes_max)
    }

    /// auth-svc, for what is held about a person, and its end.
    #[must_use]
    pub fn account(&self) -> AccountServiceClient<Route> {
        AccountServiceClient::new(Route::any(&self.auth)).max_decoding_message_size(self.message_bytes_max)
    }

    /// auth-svc, for what only admins may do.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Route> {
        AdminServiceClient::new(Route::any(&self.auth)).max_decoding_message_size(self.message_bytes_max)
    }

    /// auth-svc, for service accounts and their keys.
    #[must_use]
    pub fn api_key(&self) -> ApiKeyServiceClient<Route> {
        ApiKeyServiceClient::new(Route::any(&self.auth)).max_decoding_message_size(self.message_bytes_max)
    }

    /// auth-svc, for what goes by mail.
    #[must_use]
    pub fn email(&self) -> EmailServiceClient<Route> {
        EmailServiceClient::new(Route::any(&self.auth)).max_decoding_message_size(self.message_bytes_max)
    }

    /// auth-svc, for second factors.
    #[must_use]
    pub fn factor(&self) -> FactorServiceClient<Route> {
        FactorServiceClient::new(Route::any(&self.auth)).max_decoding_message_size(self.message_bytes_max)
    }

    /// user-svc.
    #[must_use]
    pub fn user(&self) -> UserServiceClient<Route> {
        UserServiceClient::new(Route::any(&self.user)).max_decoding_message_size(self.message_bytes_max)
    }

    /// message-svc, for a call that names no room.
    #[must_use]
    pub fn message(&self) -> MessageServiceClient<Route> {
        self.message_by(Route::any(&self.message))
    }

    /// message-svc, for a call that names a room: the replica that the room belongs to, so that its writes meet in one
    /// process. Any other one would be right as well, only slower.
    #[must_use]
    pub fn message_of(&self, room: Uuid) -> MessageServiceClient<Route> {
        self.message_by(Route::room(&self.message, room))
    }

    /// One replica of message-svc.
    #[must_use]
    pub fn message_at(&self, replica: &Arc<Replica>) -> MessageServiceClient<Route> {
        self.message_by(Route::one(&self.message, replica))
    }

    /// One replica of message-svc, for what only gateways send.
    #[must_use]
    pub fn sends_at(&self, replica: &Arc<Replica>) -> SendServiceClient<Route> {
        SendServiceClient::new(Route::one(&self.message, replica)).max_decoding_message_size(self.message_bytes_max)
    }

    fn message_by(&self, route: Route) -> MessageServiceClient<Route> {
        MessageServiceClient::new(route).max_decoding_message_size(self.message_bytes_max)
    }

    /// The replicas of a service; none for the gateway, which nobody calls.
    #[must_use]
    pub fn replicas(&self, service: ServiceName) -> Option<&Replicas> {
        match service {
            ServiceName::Gateway => None,
            ServiceName::Auth => Some(&self.auth),
            ServiceName::User => Some(&self.user),
            ServiceName::Message => Some(&self.message),
        }
    }

    /// The replicas of message-svc.
    #[must_use]
    pub fn message_replicas(&self) -> &Replicas {
        &self.message
    }
}

/// A request with its bearer, its deadline and the trace that it is part of.
///
/// # Panics
/// When the bearer is no header value; tokens are ASCII.
pub fn request<T>(message: T, bearer: &str, deadline: Duration) -> Request<T> {
    let mut request = stream_request(message, bearer);
    request.set_timeout(deadline);
    request
}

/// Like [`request`] for a call that stays open.
///
/// # Panics
/// When the bearer is no header value; tokens are ASCII.
pub fn stream_request<T>(message: T, bearer: &str) -> Request<T> {
    let mut request = Request::new(message);
    let mut value: MetadataValue<_> =
        format!("Bearer {bearer}").parse().expect("invariant: tokens are ASCII without control characters");
    value.set_sensitive(true);
    request.metadata_mut().insert("authorization", value);
    telemetry::inject_metadata(request.metadata_mut());
    request
}

/// Waits that grow to a limit, each drawn at random, so that many callers do not come back together.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// From a first wait, doubled each time, to the longest.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The next wait: between half of the step and the whole of it.
    pub fn step(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Sleeps for the next wait.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    /// It went well: the next failure starts from the first wait.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Asks auth-svc about sessions, for [`Identity`] when its own knowledge is too old.
#[derive(Debug)]
pub struct AskAuth {
    clients: Clients,
    identity: std::sync::Weak<Identity>,
    deadline: Duration,
}

impl AskAuth {
    /// Wires the two together.
    pub fn install(identity: &Arc<Identity>, clients: &Clients, config: &MeshConfig) {
        // The identity owns this; a strong reference back would keep both for ever.
        identity.set_check(Arc::new(Self {
            clients: clients.clone(),
            identity: Arc::downgrade(identity),
            deadline: Duration::from_millis(config.grpc.call_deadline_ms),
        }));
    }
}

#[async_trait]
impl SessionCheck for AskAuth {
    async fn check(&self, session: Uuid) -> Result<(), TokenError> {
        let bearer = self.identity.upgrade().ok_or(TokenError::Unchecked)?.assertion(ServiceName::Auth, None);
        let message = CheckTokenRequest { session_id: session.to_string(), ..CheckTokenRequest::default() };
        match self.clients.auth().check_token(request(message, &bearer, self.deadline)).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::Unauthenticated => Err(TokenError::Revoked),
            Err(_) => Err(TokenError::Unchecked),
        }
    }

    async fn api_key(&self, key: &str) -> Result<UserCaller, TokenError> {
        let bearer = self.identity.upgrade().ok_or(TokenError::Unchecked)?.assertion(ServiceName::Auth, None);
        let message = CheckApiKeyRequest { key: key.to_owned() };
        let asked = self.clients.retry(|| {
            let (mut auth, request) = (self.clients.auth(), request(message.clone(), &bearer, self.deadline));
            async move { auth.check_api_key(request).await }
        });
        let answer = match asked.await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let reason = Refusal::from_status(&status).reason;
                let known = [
                    (Reason::TokenInvalid, TokenError::Invalid),
                    (Reason::TokenExpired, TokenError::Expired),
                    (Reason::TokenRevoked, TokenError::Revoked),
                ];
                return Err(known
                    .iter()
                    .find(|(one, _)| *one == reason)
                    .map_or(TokenError::Unchecked, |(_, error)| *error));
            }
        };
        let id = |text: &str| Uuid::try_parse(text).ok().ok_or(TokenError::Unchecked);
        Ok(UserCaller {
            user_id: id(&answer.user_id)?,
            session_id: Some(id(&answer.key_id)?),
            roles: answer.roles,
            expires: answer.expire_time.map(Millis::from),
            via: None,
            scopes: Some(answer.scopes.iter().filter_map(|name| Scope::from_name(name)).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Takes connections and ends each of them once a call has come, after these bytes. Counts them.
    async fn ending(goodbye: &'static [u8]) -> (String, Arc<AtomicU32>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let accepted = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut bytes = [0; 4096];
                let mut settled = false;
                while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await {
                    if std::mem::replace(&mut settled, true) {
                        drop(tokio::io::AsyncWriteExt::write_all(&mut stream, goodbye).await);
                        break;
                    }
                    // An empty SETTINGS frame: this end speaks HTTP/2.
                    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
                    drop(tokio::io::AsyncWriteExt::write_all(&mut stream, &settings).await);
                }
            }
        });
        (url, accepted)
    }

    #[tokio::test]
    async fn a_connection_that_ends_under_a_call_is_a_service_that_is_away() {
        // A process that is killed says nothing; one that stops says GOAWAY for all streams, without an error; one that
        // has enough says it with ENHANCE_YOUR_CALM.
        let killed: &[u8] = &[];
        let stopped: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let weary: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
        for goodbye in [killed, stopped, weary] {
            let (url, accepted) = ending(goodbye).await;
            let clients = Clients::connect(&MeshConfig { auth_url: url, ..MeshConfig::default() }, None);
            let asking = clients.retry(|| {
                let mut auth = clients.auth();
                async move { auth.check_token(CheckTokenRequest::default()).await }
            });
            let status = asking.await.expect_err("nobody answers");
            let reason = crate::error::Refusal::from_status(&status).reason;
            assert_eq!(reason, crate::error::Reason::Unavailable, "{status:?}");
            assert!(accepted.load(Ordering::Relaxed) >= 3, "each try came by a connection of its own");
        }
    }

    #[test]
    fn waits_grow_to_their_limit_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        assert!(backoff.step() <= Duration::from_millis(100));
        for _ in 0..10 {
            assert!(backoff.step() <= Duration::from_millis(300));
        }
        backoff.reset();
        assert!(backoff.step() <= Duration::from_millis(100));
    }
}
