//! News for user-svc: that an account was made, that it was renamed. Each is a row written with the account, so none
//! is lost; it goes out at once where that is possible, and by a worker, in order for each account, until it arrives.
//! It may arrive twice; versions make that harmless. It knows no transport: [`Profiles`] is implemented in `grpc/`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use mesh::time::Millis;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{account::UserId, store::Store};

/// Accounts that the worker takes at a time; a crash delays those by one lease.
const CLAIM_MAX: u32 = 64;
/// Accounts that are delivered at the same time: enough to hide latency, too few to burden user-svc.
const CONCURRENT_MAX: usize = 8;
/// The wait after a first failure; it doubles with each.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// What user-svc is to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The account was made; the names are for its profile.
    Created {
        /// May be empty.
        first_name: String,
        /// May be empty.
        last_name: String,
    },
    /// The account has another username.
    Renamed,
}

/// News that has not arrived yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The account.
    pub user_id: UserId,
    /// The version of its username, from 1; deliveries of an account go out in this order.
    pub version: i64,
    /// The username of this version.
    pub username: String,
    /// What happened.
    pub news: News,
    /// How often it has failed.
    pub attempts: u32,
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
#[error("the news was not taken: {0}")]
pub struct DeliveryError(pub String);

/// Whoever keeps profiles.
#[async_trait]
pub trait Profiles: Send + Sync + std::fmt::Debug + 'static {
    /// Brings the news. Taking it twice, or after newer ones, must change nothing.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError>;
}

/// How patient the outbox is.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// How long a caller waits for its own news to arrive.
    pub patience: Duration,
    /// How often the worker looks for what is due.
    pub poll: Duration,
    /// The longest wait between two attempts.
    pub retry_max: Duration,
}

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    store: Arc<dyn Store>,
    profiles: Arc<dyn Profiles>,
    limits: OutboxLimits,
    /// Whether the last attempt failed, so that the log has one line a failure and not one an attempt.
    failing: AtomicBool,
}

impl Outbox {
    /// An outbox over this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, profiles: Arc<dyn Profiles>, limits: OutboxLimits) -> Self {
        Self { store, profiles, limits, failing: AtomicBool::new(false) }
    }

    /// When the worker may take news written now: not while the caller that wrote it is delivering it.
    #[must_use]
    pub fn workers_may_take_at(&self, now: Millis) -> Millis {
        now.plus(self.lease())
    }

    fn lease(&self) -> Duration {
        self.limits.patience + Duration::from_secs(1)
    }

    /// Delivers an account's news now, as far as that succeeds in time; the worker does the rest.
    pub async fn deliver_now(&self, user: UserId) {
        if timeout(self.limits.patience, self.deliver_account(user)).await.is_err() {
            self.note(Err(&DeliveryError("no answer in time".to_owned())));
        }
    }

    /// Delivers an account's news in order, until one fails.
    async fn deliver_account(&self, user: UserId) {
        loop {
            let delivery = match self.store.next_delivery(user).await {
                Ok(Some(delivery)) => delivery,
                Ok(None) => return,
                Err(error) => return tracing::error!(error.message = error.cause(), "the outbox cannot be read"),
            };
            let arrived = self.profiles.deliver(&delivery).await;
            self.note(arrived.as_ref().map(drop));
            let noted = if arrived.is_ok() {
                self.store.delivered(user, delivery.version).await
            } else {
                let until = Millis::now().plus(self.wait(delivery.attempts));
                self.store.postpone_delivery(user, delivery.version, until).await
            };
            if let Err(error) = noted {
                // The news goes out once more, which is harmless.
                return tracing::error!(error.message = error.cause(), "the outbox cannot be written");
            }
            if arrived.is_err() {
                return;
            }
        }
    }

    fn wait(&self, attempts: u32) -> Duration {
        retry_wait(attempts, self.limits.retry_max)
    }

    fn note(&self, arrived: Result<(), &DeliveryError>) {
        count(arrived.is_ok());
        let failed_before = self.failing.swap(arrived.is_err(), Ordering::Relaxed);
        match arrived {
            Err(error) if !failed_before => {
                tracing::warn!(error.message = %error, "news for user-svc waits in the outbox");
            }
            Ok(()) if failed_before => tracing::info!("news reaches user-svc again"),
            _ => {}
        }
    }

    /// Delivers what is due until the process stops.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let now = Millis::now();
            let claimed = match self.store.claim_deliveries(now, now.plus(self.lease()), CLAIM_MAX).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::error!(error.message = error.cause(), "the outbox cannot be read");
                    Vec::new()
                }
            };
            let full = claimed.len() == CLAIM_MAX as usize;
            let deliver = stream::iter(claimed).for_each_concurrent(CONCURRENT_MAX, |user| self.deliver_now(user));
            tokio::select! {
                () = deliver => {}
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
}

/// The wait after so many failures: it doubles with each and is spread over its upper half, so that what failed together
/// does not come back together.
pub(crate) fn retry_wait(attempts: u32, max: Duration) -> Duration {
    let wait = RETRY_FIRST.saturating_mul(1_u32.checked_shl(attempts.min(16)).unwrap_or(u32::MAX));
    wait.min(max).mul_f64(rand::random_range(0.5..1.0))
}

/// Counts an attempt to tell another service something.
pub(crate) fn count(arrived: bool) {
    let outcome = if arrived { "arrived" } else { "failed" };
    metrics::counter!("switchboard_auth_outbox_deliveries_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests;
