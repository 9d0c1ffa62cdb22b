//! What this process cannot work without, as `/ready` sees it: the health that each service tells of itself.

use std::time::Duration;

use async_trait::async_trait;
use mesh::{
    client,
    config::MeshConfig,
    identity::ServiceName,
    ops::Probe,
    proto::{auth::v1::auth_service_server, message::v1::message_service_server, user::v1::user_service_server},
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// One service behind this gateway.
pub(crate) struct ServiceProbe {
    service: ServiceName,
    grpc_name: &'static str,
    client: HealthClient<Channel>,
    deadline: Duration,
}

impl ServiceProbe {
    /// All three.
    pub(crate) fn all(config: &MeshConfig) -> [Self; 3] {
        let deadline = Duration::from_millis(config.grpc.call_deadline_ms);
        let probe = |service, url: &str, grpc_name| {
            let client = HealthClient::new(client::channel(url, &config.grpc));
            Self { service, grpc_name, client, deadline }
        };
        [
            probe(ServiceName::Auth, &config.auth_url, auth_service_server::SERVICE_NAME),
            probe(ServiceName::User, &config.user_url, user_service_server::SERVICE_NAME),
            probe(ServiceName::Message, &config.message_url, message_service_server::SERVICE_NAME),
        ]
    }
}

#[async_trait]
impl Probe for ServiceProbe {
    fn name(&self) -> &str {
        self.service.as_str()
    }

    async fn check(&self) -> Result<(), String> {
        let mut request = tonic::Request::new(HealthCheckRequest { service: self.grpc_name.to_owned() });
        request.set_timeout(self.deadline);
        match self.client.clone().check(request).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
            Ok(answer) => Err(format!("it says {}", answer.get_ref().status().as_str_name())),
            Err(status) => Err(format!("it cannot be asked: {}", status.code())),
        }
    }
}
