//! The way to those who hold something about a person, when the account is deleted: what the eraser asks for becomes calls to
//! user-svc and message-svc, in auth-svc's own name. When to try again is the eraser's business.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mesh::{
    client::{self, Clients},
    error::Refusal,
    identity::{Identity, ServiceName},
    proto::{message::v1 as message, user::v1 as user},
};
use tonic::Status;

use crate::{
    account::UserId,
    deletion::{ErasedMessages, Holders},
    outbox::DeliveryError,
};

/// user-svc and message-svc, as the eraser sees them.
#[derive(Debug)]
pub struct Others {
    /// How to reach them.
    pub clients: Clients,
    /// Who signs for us.
    pub identity: Arc<Identity>,
    /// How long one call may take.
    pub deadline: Duration,
}

#[async_trait]
impl Holders for Others {
    async fn erase_profile(&self, user: UserId) -> Result<(), DeliveryError> {
        let bearer = self.identity.assertion(ServiceName::User, None);
        let message = user::EraseUserRequest { user_id: user.0.to_string() };
        let request = client::request(message, &bearer, self.deadline);
        self.clients.user().erase_user(request).await.map(drop).map_err(failed)
    }

    async fn erase_messages(&self, user: UserId, what: ErasedMessages, place: &str) -> Result<String, DeliveryError> {
        let bearer = self.identity.assertion(ServiceName::Message, None);
        let messages = match what {
            ErasedMessages::Keep => message::ErasedMessages::Keep,
            ErasedMessages::Blank => message::ErasedMessages::Blank,
        };
        let message = message::EraseUserRequest {
            user_id: user.0.to_string(),
            messages: messages.into(),
            page_token: place.to_owned(),
        };
        let request = client::request(message, &bearer, self.deadline);
        let answer = self.clients.message().erase_user(request).await.map_err(failed)?;
        Ok(answer.into_inner().next_page_token)
    }
}

/// The reason alone: a text could hold what is not for the log.
#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn failed(status: Status) -> DeliveryError {
    DeliveryError(Refusal::from_status(&status).reason.to_string())
}
