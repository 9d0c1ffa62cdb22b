//! user-svc as the directory of usernames. It asks for itself, not for a user: names are for everybody.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mesh::{
    client::{self, Clients},
    identity::{Identity, ServiceName},
    proto::user::v1::BatchGetUsersRequest,
    text,
};

use crate::{
    id::UserId,
    names::{Directory, DirectoryError},
};

/// user-svc.
pub(crate) struct UserDirectory {
    clients: Clients,
    identity: Arc<Identity>,
    wait: Duration,
}

impl UserDirectory {
    pub(crate) fn new(clients: Clients, identity: Arc<Identity>, wait: Duration) -> Self {
        Self { clients, identity, wait }
    }
}

#[async_trait]
impl Directory for UserDirectory {
    async fn usernames(&self, users: &[UserId]) -> Result<Vec<(UserId, String)>, DirectoryError> {
        let message = BatchGetUsersRequest { user_ids: users.iter().map(ToString::to_string).collect() };
        let bearer = self.identity.assertion(ServiceName::User, None);
        let asking = self.clients.retry(|| {
            let request = client::request(message.clone(), &bearer, self.wait);
            let mut users = self.clients.user();
            async move { users.batch_get_users(request).await }
        });
        // The limit holds for all tries together: a send waits for this.
        let answer = tokio::time::timeout(self.wait, asking).await;
        let found = match answer {
            Ok(Ok(response)) => response.into_inner().users,
            Ok(Err(status)) => return Err(DirectoryError(Arc::new(status))),
            Err(elapsed) => return Err(DirectoryError(Arc::new(elapsed))),
        };
        let known = found.into_iter().filter_map(|user| {
            let id = text::uuid("id", &user.id).ok()?;
            Some((UserId(id), user.username))
        });
        Ok(known.collect())
    }
}
