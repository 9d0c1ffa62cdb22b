//! What every part of the gateway shares: configuration, identity, the clients of the services, the limiter. It is made
//! once per process, in `lib.rs`, and holds nothing of any user, so that a gateway can come and go.

use std::{sync::Arc, time::Duration};

use mesh::{
    client::{self, Clients},
    config::MeshConfig,
    identity::{Identity, ServiceName},
    keys::KeyError,
};

use crate::{
    address::Proxies,
    config::{Config, GatewayConfig},
    limit::Limiter,
};

/// The shared parts.
pub(crate) struct Edge {
    pub(crate) config: GatewayConfig,
    pub(crate) mesh: MeshConfig,
    pub(crate) identity: Arc<Identity>,
    pub(crate) clients: Clients,
    pub(crate) limiter: Limiter,
    pub(crate) proxies: Proxies,
}

impl Edge {
    /// Makes or reads this process' keys; calls nobody.
    ///
    /// # Errors
    /// When a key cannot be had.
    pub(crate) fn new(config: Config) -> Result<Arc<Self>, KeyError> {
        let Config { mesh, gateway } = config;
        let identity = Identity::new(ServiceName::Gateway, &mesh)?;
        let clients = Clients::connect(&mesh);
        client::AskAuth::install(&identity, &clients, &mesh);
        let limiter = Limiter::new(&gateway.rates, mesh.profile);
        let proxies = Proxies::new(gateway.trusted_proxies());
        Ok(Arc::new(Self { config: gateway, mesh, identity, clients, limiter, proxies }))
    }

    /// For one call to a service.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.config.call_timeout()
    }
}
