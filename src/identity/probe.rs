//! Whether a process can tell who calls, as `/ready` sees it. It asks nobody: `follow.rs` hears of auth-svc.

use std::sync::Arc;

use async_trait::async_trait;

use super::Identity;
use crate::ops::Probe;

/// Ready once the keys of access tokens are known: for the edge, whose every caller brings one. Before that each would be
/// refused as one that nobody can check, so a balancer should send no request yet. Later silence of auth-svc is not told
/// here: tokens are asked about then.
#[derive(Debug)]
pub struct KeysProbe(Arc<Identity>);

impl KeysProbe {
    /// For the identity of this process.
    #[must_use]
    pub fn new(identity: Arc<Identity>) -> Self {
        Self(identity)
    }
}

#[async_trait]
impl Probe for KeysProbe {
    fn name(&self) -> &str {
        "keys"
    }

    async fn check(&self) -> Result<(), String> {
        if self.0.access_keys.load().is_empty() {
            return Err("the keys of access tokens are not known yet: auth-svc has not been heard of".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::MeshConfig, identity::ServiceName, keys::SigningKey};

    #[tokio::test]
    async fn a_process_is_ready_once_it_knows_the_keys_of_access_tokens() {
        let folder = tempfile::tempdir().expect("folder");
        let config = MeshConfig { data: folder.path().to_owned(), ..MeshConfig::default() };
        let identity = Identity::new(ServiceName::Gateway, &config).expect("identity");
        let probe = KeysProbe::new(Arc::clone(&identity));
        assert!(probe.check().await.expect_err("no key yet").contains("auth-svc"));
        identity.set_keys(&serde_json::json!({"keys": [SigningKey::generate().jwk()]}).to_string());
        assert_eq!(probe.check().await, Ok(()));
    }
}
