//! What this process cannot work without, as `/ready` sees it: each service has a replica that says that it serves. Which
//! of its replicas do not is told beside it, and makes this process no less ready.

use async_trait::async_trait;
use mesh::{
    client::{Clients, Replicas},
    identity::ServiceName,
    ops::Probe,
};

/// One service behind this gateway.
pub(crate) struct ServiceProbe {
    service: ServiceName,
    replicas: Replicas,
}

impl ServiceProbe {
    /// All three.
    pub(crate) fn all(clients: &Clients) -> impl Iterator<Item = Self> {
        let services = ServiceName::ALL.into_iter();
        services.filter_map(|service| Some(Self { service, replicas: clients.replicas(service)?.clone() }))
    }
}

#[async_trait]
impl Probe for ServiceProbe {
    fn name(&self) -> &str {
        self.service.as_str()
    }

    async fn check(&self) -> Result<(), String> {
        self.replicas.probe().await
    }

    fn note(&self) -> Option<String> {
        Some(self.replicas.summary())
    }
}
