//! Calling the other services: channels that connect by themselves and again, deadlines, bounded retries of idempotent
//! calls. It knows where the services are and nothing of what they say; `identity` signs what the calls carry.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rand::RngExt as _;
use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use uuid::Uuid;

use crate::{
    config::{GrpcLimits, MeshConfig},
    error::cut_off,
    identity::{Identity, ServiceName, SessionCheck, TokenError},
    proto::{
        auth::v1::{
            CheckTokenRequest, admin_service_client::AdminServiceClient, auth_service_client::AuthServiceClient,
        },
        message::v1::message_service_client::MessageServiceClient,
        user::v1::user_service_client::UserServiceClient,
    },
    telemetry,
};

/// HTTP/2 pings on idle connections, so that a peer that is gone is noticed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long a ping may stay without an answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that may be on their way to this process on one connection. Fixed, not adaptive: an adaptive window starts at
/// 64 KiB, and h2 ends a connection as abused (`too_many_data_frames`) when the short frames that wait to be read,
/// reckoned at 256 bytes each, come to half of its window. A burst of some hundred short answers did that.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The same for one stream: one that follows many rooms must not be slowed by the window of one message.
const STREAM_WINDOW: u32 = 2 << 20;

/// Clients of all services. Cheap to clone; connections are shared and made when they are first needed.
#[derive(Clone, Debug)]
pub struct Clients {
    auth: AuthServiceClient<Channel>,
    admin: AdminServiceClient<Channel>,
    user: UserServiceClient<Channel>,
    message: MessageServiceClient<Channel>,
}

impl Clients {
    /// Never waits: a service that is away is found out by the first call.
    ///
    /// # Panics
    /// When a URL is none; [`MeshConfig`]'s validation has seen to that.
    #[must_use]
    pub fn connect(config: &MeshConfig) -> Self {
        let limit = config.grpc.message_bytes_max;
        let auth = channel(&config.auth_url, &config.grpc);
        Self {
            auth: AuthServiceClient::new(auth.clone()).max_decoding_message_size(limit),
            admin: AdminServiceClient::new(auth).max_decoding_message_size(limit),
            user: UserServiceClient::new(channel(&config.user_url, &config.grpc)).max_decoding_message_size(limit),
            message: MessageServiceClient::new(channel(&config.message_url, &config.grpc))
                .max_decoding_message_size(limit),
        }
    }

    /// auth-svc.
    #[must_use]
    pub fn auth(&self) -> AuthServiceClient<Channel> {
        self.auth.clone()
    }

    /// auth-svc, for what only admins may do.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        self.admin.clone()
    }

    /// user-svc.
    #[must_use]
    pub fn user(&self) -> UserServiceClient<Channel> {
        self.user.clone()
    }

    /// message-svc.
    #[must_use]
    pub fn message(&self) -> MessageServiceClient<Channel> {
        self.message.clone()
    }
}

/// The endpoints of a service's URL: one or several, separated by commas.
///
/// # Errors
/// What is wrong with it.
pub fn endpoints(urls: &str) -> Result<Vec<Endpoint>, String> {
    let endpoints = urls
        .split(',')
        .map(str::trim)
        .filter(|url| !url.is_empty())
        .map(|url| {
            let tls = url.starts_with("https://");
            if !tls && !url.starts_with("http://") {
                return Err(format!("{url} must start with http:// or https://"));
            }
            let endpoint =
                Endpoint::from_shared(url.to_owned()).map_err(|error| format!("{url} is no URL: {error}"))?;
            if tls {
                let config = ClientTlsConfig::new().with_webpki_roots();
                endpoint.tls_config(config).map_err(|error| format!("{url}: {error}"))
            } else {
                Ok(endpoint)
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    if endpoints.is_empty() { Err("must name at least one http:// or https:// URL".to_owned()) } else { Ok(endpoints) }
}

/// A channel to a service, for clients that [`Clients`] has not; never waits.
///
/// # Panics
/// When the URL is none; [`MeshConfig`]'s validation has seen to that.
#[must_use]
pub fn channel(urls: &str, limits: &GrpcLimits) -> Channel {
    let endpoints = endpoints(urls).expect("invariant: the configuration was validated");
    let mut endpoints: Vec<_> = endpoints
        .into_iter()
        .map(|endpoint| {
            endpoint
                .connect_timeout(Duration::from_millis(limits.connect_ms))
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .initial_stream_window_size(STREAM_WINDOW)
        })
        .collect();
    if endpoints.len() == 1 { endpoints.remove(0).connect_lazy() } else { Channel::balance_list(endpoints.into_iter()) }
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

/// Tries an idempotent call again, a few times, while its service is away or goes away under it. The deadline of each try is the caller's
/// business: it should be set from what is left of the whole.
///
/// # Errors
/// The last try's status.
pub async fn retry<T, F>(tries_max: u32, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
    let mut tries = 1;
    loop {
        match call().await {
            Err(status) if (status.code() == Code::Unavailable || cut_off(&status)) && tries < tries_max => {
                tries += 1;
                backoff.wait().await;
            }
            result => return result,
        }
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
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_url_may_name_several_endpoints_and_must_have_a_scheme() {
        assert_eq!(endpoints("http://a:1, http://b:2").expect("two").len(), 2);
        for bad in ["", "a:1", "ftp://a", "http://", "http://a b"] {
            assert!(endpoints(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_a_service_that_is_away_is_tried_again_and_not_for_ever() {
        for (code, tries) in [(Code::Unavailable, 3), (Code::Internal, 1), (Code::DeadlineExceeded, 1)] {
            let count = AtomicU32::new(0);
            let result: Result<(), _> = retry(3, async || {
                count.fetch_add(1, Ordering::Relaxed);
                Err(Status::new(code, ""))
            })
            .await;
            assert_eq!(result.expect_err("fails").code(), code);
            assert_eq!(count.load(Ordering::Relaxed), tries, "{code}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_under_a_call_is_a_service_that_is_away() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let accepted = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                // Until the call itself has come; then the process is gone.
                let mut bytes = [0; 4096];
                let mut settled = false;
                while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await {
                    if std::mem::replace(&mut settled, true) {
                        break;
                    }
                    // An empty SETTINGS frame: this end speaks HTTP/2.
                    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
                    drop(tokio::io::AsyncWriteExt::write_all(&mut stream, &settings).await);
                }
            }
        });
        let clients = Clients::connect(&MeshConfig { auth_url: url, ..MeshConfig::default() });
        let status = retry(3, || {
            let mut auth = clients.auth();
            async move { auth.check_token(CheckTokenRequest::default()).await }
        })
        .await
        .expect_err("nobody answers");
        assert_eq!(crate::error::Refusal::from_status(&status).reason, crate::error::Reason::Unavailable, "{status:?}");
        assert!(accepted.load(Ordering::Relaxed) >= 3, "each try came by a connection of its own");
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
