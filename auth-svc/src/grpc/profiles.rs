//! The way to user-svc: what the outbox delivers becomes a call there, in auth-svc's own name. When to try again is the
//! outbox's business.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mesh::{
    client::{self, Clients},
    error::Refusal,
    identity::{Identity, ServiceName},
    proto::user::v1::{CreateUserRequest, SetUsernameRequest},
};

use crate::outbox::{Delivery, DeliveryError, News, Profiles};

/// user-svc, as the outbox sees it.
#[derive(Debug)]
pub struct UserService {
    /// How to reach it.
    pub clients: Clients,
    /// Who signs for us.
    pub identity: Arc<Identity>,
    /// How long one call may take.
    pub deadline: Duration,
}

#[async_trait]
impl Profiles for UserService {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        let bearer = self.identity.assertion(ServiceName::User, None);
        let (user_id, username) = (delivery.user_id.0.to_string(), delivery.username.clone());
        let username_version = delivery.version;
        let mut user = self.clients.user();
        let answer = match &delivery.news {
            News::Created { first_name, last_name } => {
                let (first_name, last_name) = (first_name.clone(), last_name.clone());
                let message = CreateUserRequest { user_id, username, username_version, first_name, last_name };
                user.create_user(client::request(message, &bearer, self.deadline)).await.map(drop)
            }
            News::Renamed => {
                let message = SetUsernameRequest { user_id, username, username_version };
                user.set_username(client::request(message, &bearer, self.deadline)).await.map(drop)
            }
        };
        // The reason alone: a violation's text could hold a name.
        answer.map_err(|status| DeliveryError(Refusal::from_status(&status).reason.to_string()))
    }
}
