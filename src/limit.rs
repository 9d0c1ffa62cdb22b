//! Limits by key: who may call how often. The gateway limits by address and account with them, gRPC whoever comes past the
//! gateway. Counts are kept in a bounded map, and one that nobody asked for as long as its window is as good as none, so
//! forgetting it changes nothing. What the keys are, and what is said to who has called too often, is its users'.
//!
//! How each kind counts is in `limit/count.rs`; how processes count together in `limit/shared.rs`.

use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::config::Problems;

mod count;
mod shared;

use count::Count;
pub use shared::{Sharing, SharingError, Subject};

/// How calls are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A bucket that fills all the time: `burst` at once, and then as many as flow in.
    #[default]
    TokenBucket,
    /// `burst` in a window that begins with a key's first call, and then none until it ends.
    FixedWindow,
    /// `burst` in the window that ends now; of the calls before the current one so many count as it still reaches back.
    SlidingWindow,
}

/// How often one key may call. A window is as long as `burst` calls take at `per_minute`, so that each kind lets the same
/// number through in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// `token_bucket`, `fixed_window` or `sliding_window`. Default `token_bucket`.
    pub kind: Kind,
    /// Calls that may come at once.
    pub burst: u32,
    /// Calls a minute, after the burst.
    pub per_minute: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self::new(600, 3_000)
    }
}

impl Rate {
    /// A bucket: so many at once, and so many a minute after that.
    #[must_use]
    pub const fn new(burst: u32, per_minute: u32) -> Self {
        Self { kind: Kind::TokenBucket, burst, per_minute }
    }

    /// The time that `burst` calls take.
    #[must_use]
    pub fn window(self) -> Duration {
        Duration::from_nanos(self.window_nanos())
    }

    /// Reports values that make no sense; `field` is where it stands in the section.
    pub fn validate(&self, field: &str, problems: &mut Problems) {
        problems.range(&format!("{field}.burst"), self.burst, 1, 10_000_000);
        problems.range(&format!("{field}.per_minute"), self.per_minute, 1, 100_000_000);
    }

    /// One call's part of it.
    fn step_nanos(self) -> u64 {
        60_000_000_000 / u64::from(self.per_minute.max(1))
    }

    fn window_nanos(self) -> u64 {
        self.step_nanos() * u64::from(self.burst.max(1))
    }
}

/// What a key has left after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Calls that may come at once now.
    pub calls: u32,
    /// When all of them may again.
    pub reset: Duration,
}

/// The counts of many keys.
pub struct Limits<K> {
    kept: moka::sync::Cache<K, Arc<Mutex<Kept>>>,
    begun: Instant,
    /// Whether other processes are to hear what is counted here.
    is_shared: AtomicBool,
    untold: Mutex<Vec<Untold<K>>>,
}

/// The count of one key.
struct Kept {
    count: Count,
    /// Calls that the other processes have not been told of.
    untold: u32,
}

/// A key with calls that the others have not been told of.
struct Untold<K> {
    key: K,
    rate: Rate,
    kept: Arc<Mutex<Kept>>,
}

/// Keys that wait to be told of; what comes beyond in one round counts here alone.
const UNTOLD_MAX: usize = 20_000;

impl<K> fmt::Debug for Limits<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Limits<K> {
    /// For at most so many keys; `rates` are those that will be asked for.
    #[must_use]
    pub fn new(keys_max: u64, rates: &[Rate]) -> Self {
        // A sliding window looks back for two.
        let window = rates.iter().map(|rate| rate.window()).max().unwrap_or_default();
        let idle = window.saturating_mul(2) + Duration::from_secs(1);
        let kept = moka::sync::Cache::builder().max_capacity(keys_max).time_to_idle(idle).build();
        Self { kept, begun: Instant::now(), is_shared: AtomicBool::new(false), untold: Mutex::default() }
    }

    /// Counts a call of this key.
    ///
    /// # Errors
    /// How long to wait for the next; the call is not counted then.
    pub fn take(&self, key: K, rate: Rate) -> Result<Left, Duration> {
        let now = self.now();
        let kept = match self.kept.get(&key) {
            Some(kept) => kept,
            None => {
                self.kept.get_with(key.clone(), || Arc::new(Mutex::new(Kept { count: Count::new(now), untold: 0 })))
            }
        };
        let mut locked = lock(&kept);
        let left = locked.count.take(rate, now)?;
        if self.is_shared.load(Ordering::Relaxed) {
            locked.untold = locked.untold.saturating_add(1);
            if locked.untold == 1 && !self.remember(key, rate, &kept) {
                locked.untold = 0;
            }
        }
        Ok(left)
    }

    /// How many keys are kept, when all that is waiting to be forgotten has been; for tests.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.kept.run_pending_tasks();
        self.kept.entry_count()
    }

    /// Nanoseconds on a clock that has run for longer than any window, so that one may have begun before this process.
    fn now(&self) -> u64 {
        let since = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        count::BEGINNING.saturating_add(since)
    }

    /// Whether there was space for it.
    fn remember(&self, key: K, rate: Rate, kept: &Arc<Mutex<Kept>>) -> bool {
        let mut untold = lock(&self.untold);
        let fits = untold.len() < UNTOLD_MAX;
        if fits {
            untold.push(Untold { key, rate, kept: Arc::clone(kept) });
        }
        fits
    }
}

/// Nothing that could panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_count_of_its_own_and_no_more_are_kept_than_configured() {
        let rate = Rate::new(3, 1);
        let limits = Limits::new(1_000, &[rate]);
        for _ in 0..3 {
            limits.take(0, rate).expect("within the burst");
        }
        limits.take(0, rate).expect_err("over");
        for key in 1..=5_000 {
            limits.take(key, rate).expect("another key");
        }
        assert!(limits.keys() <= 1_000, "{}", limits.keys());
    }

    #[test]
    fn what_nobody_is_told_of_is_not_kept_for_telling_and_what_is_has_a_bound() {
        let rate = Rate::new(3, 1);
        let limits = Limits::new(100_000, &[rate]);
        limits.take(0, rate).expect("counted");
        assert!(lock(&limits.untold).is_empty(), "nobody listens");
        limits.is_shared.store(true, Ordering::Relaxed);
        for key in 0..UNTOLD_MAX + 100 {
            limits.take(key, rate).expect("counted");
            limits.take(key, rate).expect("counted");
        }
        assert_eq!(lock(&limits.untold).len(), UNTOLD_MAX);
    }
}
