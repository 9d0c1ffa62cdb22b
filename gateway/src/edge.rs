//! What every part of the gateway shares: configuration, identity, the clients of the services, the limiter. It is made
//! once per process, in `lib.rs`, and holds nothing of any user, so that a gateway can come and go.

use std::{sync::Arc, time::Duration};

use mesh::{
    client::{self, Clients, Resolve, Route},
    config::MeshConfig,
    identity::{Identity, ServiceName, UserCaller},
    keys::KeyError,
    proto::message::v1::message_service_client::MessageServiceClient,
    time::Millis,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    address::Proxies,
    config::{Config, GatewayConfig},
    device_token::DeviceTokens,
    limit::Limiter,
    ws_token::{self, WsTokens},
};

/// No access token lives longer: 30 days at most, and a day for clocks that differ.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// The shared parts.
pub(crate) struct Edge {
    pub(crate) config: GatewayConfig,
    pub(crate) mesh: MeshConfig,
    pub(crate) identity: Arc<Identity>,
    pub(crate) clients: Clients,
    pub(crate) limiter: Limiter,
    pub(crate) ws_tokens: WsTokens,
    pub(crate) device_tokens: DeviceTokens,
    pub(crate) proxies: Proxies,
    /// Places for requests in progress.
    pub(crate) requests: Semaphore,
    /// Places for exports of accounts, which outlive their requests.
    pub(crate) exports: Arc<Semaphore>,
}

impl Edge {
    /// Makes or reads this process' keys; calls nobody. The names of services are looked up by `resolver`.
    ///
    /// # Errors
    /// When a key cannot be had.
    pub(crate) fn new(config: Config, resolver: &Arc<dyn Resolve>) -> Result<Arc<Self>, KeyError> {
        let Config { mesh, gateway } = config;
        let identity = Identity::new(ServiceName::Gateway, &mesh)?;
        let clients = Clients::connect_by(&mesh, identity.tls(), resolver);
        client::AskAuth::install(&identity, &clients, &mesh);
        let secret = ws_token::secret(&mesh, &gateway)?;
        let ws_tokens = WsTokens::new(&mesh, &gateway, &secret);
        let device_tokens = DeviceTokens::new(&mesh, &secret, gateway.device_token_secs);
        let limiter = Limiter::new(&gateway.rates, mesh.profile);
        let proxies = Proxies::new(gateway.trusted_proxies());
        let requests = Semaphore::new(gateway.requests_max);
        let exports = Arc::new(Semaphore::new(gateway.exports_max));
        Ok(Arc::new(Self {
            config: gateway,
            mesh,
            identity,
            clients,
            limiter,
            ws_tokens,
            device_tokens,
            proxies,
            requests,
            exports,
        }))
    }

    /// A session was ended through this gateway: it counts here at once, without waiting for the news of it.
    pub(crate) fn ended_here(&self, user: &UserCaller) {
        let Some(session) = user.session_id else { return };
        if !self.identity.is_revoked(session) {
            // The news itself brings the exact time at which it may be forgotten.
            self.identity.revoke(session, 0, Millis::now().plus(TOKEN_LIFE_MAX));
        }
    }

    /// message-svc for a call that names a room: the replica that the room belongs to.
    pub(crate) fn room_service(&self, room_id: &str) -> MessageServiceClient<Route> {
        // What is no id belongs to nobody; any replica refuses it.
        Uuid::try_parse(room_id).map_or_else(|_| self.clients.message(), |room| self.clients.message_of(room))
    }

    /// For one call to a service.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.config.call_timeout()
    }
}
