//! Trying a call again: which failures, how often, after which waits, and how many of all calls. A service that comes
//! back must not be met by several times the load that it had when it went.

use std::{fmt, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tower::retry::budget::{Budget as _, TpsBudget};

use super::Backoff;
use crate::{config::GrpcLimits, error::cut_off};

/// The first wait between two tries, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// For so long a call counts for what may be tried again: as long as a replica's failure is felt at the most.
const MEMORY: Duration = Duration::from_secs(10);

/// How calls are tried again in one process. Clones share one budget, which is for the calls to all services: what they
/// compete for is this process' own time as much as theirs.
#[derive(Clone)]
pub struct Retries {
    tries_max: u32,
    budget: Arc<TpsBudget>,
}

impl Retries {
    /// As the configuration says.
    #[must_use]
    pub fn new(limits: &GrpcLimits) -> Self {
        let share = f32::from(limits.retries_percent) / 100.0;
        let budget = Arc::new(TpsBudget::new(MEMORY, u32::from(limits.retries_per_sec_min), share));
        Self { tries_max: limits.tries_max, budget }
    }

    /// Makes an idempotent call, and makes it again while its service is away or goes away under it: a few times, after
    /// waits that grow and are drawn at random, and only while such tries are a small part of all calls. The deadline of
    /// each try is the caller's business: it should be set from what is left of the whole.
    ///
    /// # Errors
    /// The last try's status.
    pub async fn call<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.budget.deposit();
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut tries = 1;
        loop {
            match call().await {
                Err(status) if is_away(&status) && tries < self.tries_max && self.withdraw() => {
                    tries += 1;
                    backoff.wait().await;
                }
                result => return result,
            }
        }
    }

    /// Whether one more try is within the budget.
    fn withdraw(&self) -> bool {
        let allowed = self.budget.withdraw();
        let outcome = if allowed { "made" } else { "over_budget" };
        metrics::counter!("switchboard_retries_total", "outcome" => outcome).increment(1);
        allowed
    }
}

impl fmt::Debug for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retries").field("tries_max", &self.tries_max).finish_non_exhaustive()
    }
}

fn is_away(status: &Status) -> bool {
    status.code() == Code::Unavailable || cut_off(status)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn retries(tries_max: u32) -> Retries {
        Retries::new(&GrpcLimits { tries_max, ..GrpcLimits::default() })
    }

    #[tokio::test]
    async fn only_a_service_that_is_away_is_tried_again_and_not_for_ever() {
        for (code, tries) in [(Code::Unavailable, 3), (Code::Internal, 1), (Code::DeadlineExceeded, 1)] {
            let count = AtomicU32::new(0);
            let result: Result<(), _> = retries(3)
                .call(async || {
                    count.fetch_add(1, Ordering::Relaxed);
                    Err(Status::new(code, ""))
                })
                .await;
            assert_eq!(result.expect_err("fails").code(), code);
            assert_eq!(count.load(Ordering::Relaxed), tries, "{code}");
        }
    }

    #[tokio::test]
    async fn of_many_calls_that_fail_a_small_part_is_tried_again() {
        const CALLS: u32 = 10_000;
        let limits = GrpcLimits { retries_percent: 20, retries_per_sec_min: 10, ..GrpcLimits::default() };
        let (retries, count) = (Retries::new(&limits), AtomicU32::new(0));
        let failing = (0..CALLS).map(|_| {
            retries.call(async || {
                count.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(Status::unavailable("away"))
            })
        });
        futures::future::join_all(failing).await;
        let again = count.load(Ordering::Relaxed) - CALLS;
        // A fifth of the calls, and what is always allowed in the time that counts.
        assert_eq!(again, CALLS / 5 + 10 * 10);
    }

    #[tokio::test]
    async fn few_calls_have_all_their_tries() {
        let limits = GrpcLimits { retries_percent: 0, retries_per_sec_min: 1, ..GrpcLimits::default() };
        let (retries, count) = (Retries::new(&limits), AtomicU32::new(0));
        let failing = (0..5).map(|_| {
            retries.call(async || {
                count.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(Status::unavailable("away"))
            })
        });
        futures::future::join_all(failing).await;
        assert_eq!(count.load(Ordering::Relaxed), 15);
    }
}
