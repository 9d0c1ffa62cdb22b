//! The eraser: takes accounts whose time has come out of every service, a step at a time, until it is done everywhere. How
//! far each has come is a row in the store, so a service that is away or a restart in the middle costs time and nothing
//! else. Every step may be done twice. It knows no transport: [`Holders`] is implemented in `grpc/`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use mesh::time::Millis;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ErasedMessages;
use crate::{
    account::UserId,
    audit::{Actor, Entry, Event},
    outbox::{self, DeliveryError},
    revocation::Feed,
    session::Client,
    store::{Deletion, Erased, Side, Store, StoreError},
};

/// Accounts that are taken at a time.
const CLAIM_MAX: u32 = 8;
/// Accounts that are erased at the same time: nobody waits for it, and the other services have more to do.
const CONCURRENT_MAX: usize = 2;
/// Entries of the audit log that are scrubbed in one step.
const SCRUB_AT_ONCE: u32 = 500;

/// Who else holds something about a person.
#[async_trait]
pub trait Holders: Send + Sync + std::fmt::Debug + 'static {
    /// Erases the profile.
    async fn erase_profile(&self, user: UserId) -> Result<(), DeliveryError>;

    /// Has the person leave their rooms and erases their messages, a part of it, from this place on; where it goes on,
    /// nothing at the end.
    async fn erase_messages(&self, user: UserId, what: ErasedMessages, place: &str) -> Result<String, DeliveryError>;
}

/// How patient the eraser is, and what it erases.
#[derive(Clone, Copy, Debug)]
pub struct EraserLimits {
    /// How long one step may take.
    pub patience: Duration,
    /// How often it looks for what is due.
    pub poll: Duration,
    /// The longest wait between two attempts.
    pub retry_max: Duration,
    /// How long a revocation is kept at least.
    pub revocation_keep: Duration,
    /// What becomes of messages.
    pub messages: ErasedMessages,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("{0}")]
    Holder(#[from] DeliveryError),
    #[error("{}", .0.cause())]
    Store(#[from] StoreError),
    #[error("no answer in time")]
    Late,
}

/// The eraser.
#[derive(Debug)]
pub struct Eraser {
    /// Where deletions are kept.
    pub store: Arc<dyn Store>,
    /// What tells of ended sessions and keys.
    pub feed: Feed,
    /// The other services.
    pub holders: Arc<dyn Holders>,
    /// How patient it is.
    pub limits: EraserLimits,
}

impl Eraser {
    /// Erases what is due until the process stops.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let now = Millis::now();
            let claimed = match self.store.claim_deletions(now, now.plus(self.lease()), CLAIM_MAX).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::error!(error.message = error.cause(), "the deletions cannot be read");
                    Vec::new()
                }
            };
            let full = claimed.len() == CLAIM_MAX as usize;
            let erase = stream::iter(claimed).for_each_concurrent(CONCURRENT_MAX, |user| self.erase(user));
            tokio::select! {
                () = erase => {}
                () = stop.cancelled() => return,
            }
            if !full {
                tokio::select! {
                    () = tokio::time::sleep(self.limits.poll) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    /// Nobody else takes a deletion for so long; each step takes it anew.
    fn lease(&self) -> Duration {
        self.limits.patience + Duration::from_secs(1)
    }

    /// Does all the steps that can be done now.
    async fn erase(&self, user: UserId) {
        loop {
            let deletion = match self.store.deletion(user).await {
                Ok(Some(deletion)) => deletion,
                Ok(None) => return,
                Err(error) => return tracing::error!(error.message = error.cause(), "a deletion cannot be read"),
            };
            let step = timeout(self.limits.patience, self.step(&deletion)).await.unwrap_or(Err(StepError::Late));
            outbox::count(step.is_ok());
            match step {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.postpone(&deletion, &error).await,
            }
        }
    }

    /// Does the next step; whether there is another one.
    async fn step(&self, deletion: &Deletion) -> Result<bool, StepError> {
        let user = deletion.user_id;
        if !deletion.erased {
            return self.erase_account(user).await;
        }
        if !deletion.told {
            for side in [Side::Subject, Side::Actor] {
                let mut last = None::<Uuid>;
                while let Some(next) = self.store.scrub_audit(user, side, last, SCRUB_AT_ONCE).await? {
                    last = Some(next);
                }
            }
            self.holders.erase_profile(user).await?;
            self.note(user, "").await?;
            return Ok(true);
        }
        let place = self.holders.erase_messages(user, self.limits.messages, &deletion.place).await?;
        if place.is_empty() {
            self.store.finish_deletion(user).await?;
            tracing::info!(user.id = %user.0, "an account has been erased in every service");
            return Ok(false);
        }
        self.note(user, &place).await?;
        Ok(true)
    }

    async fn erase_account(&self, user: UserId) -> Result<bool, StepError> {
        let now = Millis::now();
        let by = Actor::Service("auth-svc".to_owned());
        let entry = Entry::new(Event::AccountErased, &Client::default(), now).by(by).on(user);
        match self.store.erase_account(user, now, now.plus(self.limits.revocation_keep), &[entry]).await? {
            Erased::Gone { head } => {
                if let Some(head) = head {
                    self.feed.published(head).await;
                }
                Ok(true)
            }
            Erased::NotDue => Ok(false),
        }
    }

    async fn note(&self, user: UserId, place: &str) -> Result<(), StoreError> {
        self.store.note_deletion(user, true, place, Millis::now().plus(self.lease())).await
    }

    async fn postpone(&self, deletion: &Deletion, error: &StepError) {
        // One line a deletion that is held up, and not one an attempt.
        if deletion.attempts == 0 {
            tracing::warn!(error.message = %error, user.id = %deletion.user_id.0, "a deletion waits for a service");
        }
        let until = Millis::now().plus(outbox::retry_wait(deletion.attempts, self.limits.retry_max));
        if let Err(error) = self.store.postpone_deletion(deletion.user_id, until).await {
            tracing::error!(error.message = error.cause(), "a deletion cannot be written");
        }
    }
}

#[cfg(test)]
mod tests;
