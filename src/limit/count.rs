//! How calls are counted, for each kind of limit: plain arithmetic on a number of nanoseconds, so that a test may choose the
//! time. What several processes have counted together comes in by [`Count::hear`]; `limit/share.lua` counts the same way.

use std::time::Duration;

use super::{Kind, Left, Rate};

/// Where the clock begins: later than the longest window, so that one may have begun before.
pub(super) const BEGINNING: u64 = 2_000_000_000_000_000_000;

/// What one key has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// A bucket's: when it is full again. A window's: when it began.
    at: u64,
    /// Calls in the window.
    calls: u32,
    /// Calls in the one before it; of a sliding window alone.
    before: u32,
}

/// What several processes have counted together, as Redis tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// A bucket's: nanoseconds until it is full. A window's: since it began.
    pub(super) nanos: u64,
    pub(super) calls: u32,
    pub(super) before: u32,
}

impl Count {
    /// Nothing yet.
    pub(super) fn new(now: u64) -> Self {
        Self { at: now, calls: 0, before: 0 }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// How long to wait for the next.
    pub(super) fn take(&mut self, rate: Rate, now: u64) -> Result<Left, Duration> {
        self.go_on(rate, now);
        match self.wait(rate, now) {
            0 => {
                self.add(rate, 1);
                let calls = rate.burst.saturating_sub(self.used(rate, now));
                Ok(Left { calls, reset: Duration::from_nanos(self.reset(rate, now)) })
            }
            wait => Err(Duration::from_nanos(wait)),
        }
    }

    /// Takes up what several processes have counted together, and what has been counted here since they were told. What is
    /// known here stays when it is more: Redis may have lost its part.
    pub(super) fn hear(&mut self, rate: Rate, now: u64, heard: Heard, since: u32) {
        let at = match rate.kind {
            Kind::TokenBucket => now.saturating_add(heard.nanos),
            Kind::FixedWindow | Kind::SlidingWindow => now.saturating_sub(heard.nanos),
        };
        let mut together = Self { at, calls: heard.calls, before: heard.before };
        together.go_on(rate, now);
        together.add(rate, since);
        self.go_on(rate, now);
        if together.used(rate, now) >= self.used(rate, now) {
            *self = together;
        }
    }

    /// Leaves behind what is over.
    fn go_on(&mut self, rate: Rate, now: u64) {
        let window = rate.window_nanos();
        match rate.kind {
            Kind::TokenBucket => self.at = self.at.max(now),
            Kind::FixedWindow if now.saturating_sub(self.at) >= window => *self = Self::new(now),
            Kind::FixedWindow => {}
            Kind::SlidingWindow => match now.saturating_sub(self.at) / window {
                0 => {}
                1 => *self = Self { at: self.at + window, calls: 0, before: self.calls },
                _ => *self = Self::new(now),
            },
        }
    }

    /// Counts calls that were made, here or elsewhere, also past the limit.
    fn add(&mut self, rate: Rate, calls: u32) {
        match rate.kind {
            Kind::TokenBucket => self.at = self.at.saturating_add(rate.step_nanos().saturating_mul(calls.into())),
            Kind::FixedWindow | Kind::SlidingWindow => self.calls = self.calls.saturating_add(calls),
        }
    }

    /// Calls that count now, rounded up.
    fn used(&self, rate: Rate, now: u64) -> u32 {
        match rate.kind {
            Kind::TokenBucket => {
                u32::try_from(self.at.saturating_sub(now).div_ceil(rate.step_nanos())).unwrap_or(u32::MAX)
            }
            Kind::FixedWindow => self.calls,
            Kind::SlidingWindow => {
                let window = rate.window_nanos();
                let reaches_back = window.saturating_sub(now.saturating_sub(self.at));
                let before = (u128::from(self.before) * u128::from(reaches_back)).div_ceil(window.into());
                self.calls.saturating_add(u32::try_from(before).unwrap_or(u32::MAX))
            }
        }
    }

    /// Nanoseconds until the next call may come.
    fn wait(&self, rate: Rate, now: u64) -> u64 {
        let window = rate.window_nanos();
        let ends = (self.at.saturating_add(window)).saturating_sub(now);
        match rate.kind {
            Kind::TokenBucket => (self.at.saturating_add(rate.step_nanos())).saturating_sub(now.saturating_add(window)),
            Kind::FixedWindow if self.calls < rate.burst => 0,
            Kind::FixedWindow => ends,
            Kind::SlidingWindow if self.used(rate, now) < rate.burst => 0,
            // When enough of the calls before have gone by, in this window or in the next.
            Kind::SlidingWindow => match (rate.burst - 1).checked_sub(self.calls) {
                Some(room) => ends.saturating_sub(part(window, room, self.before)).max(1),
                None => ends + window - part(window, rate.burst - 1, self.calls),
            },
        }
    }

    /// Nanoseconds until nothing counts any more.
    fn reset(&self, rate: Rate, now: u64) -> u64 {
        let windows = match rate.kind {
            Kind::TokenBucket => 0,
            Kind::FixedWindow => 1,
            Kind::SlidingWindow if self.calls == 0 => 1,
            Kind::SlidingWindow => 2,
        };
        self.at.saturating_add(rate.window_nanos() * windows).saturating_sub(now)
    }
}

/// The part of a window in which so many of these calls are left.
fn part(window: u64, some: u32, of: u32) -> u64 {
    let nanos = u128::from(window) * u128::from(some) / u128::from(of.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX).min(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(kind: Kind) -> Rate {
        // A window of ten seconds.
        Rate { kind, ..Rate::new(10, 60) }
    }

    /// How many calls of a crowd are let through at this moment.
    fn crowd(count: &mut Count, rate: Rate, now: u64) -> usize {
        (0..1_000).take_while(|_| count.take(rate, now).is_ok()).count()
    }

    #[test]
    fn a_bucket_lets_its_burst_through_and_then_what_flows_in() {
        let (rate, now) = (rate(Kind::TokenBucket), BEGINNING);
        let mut count = Count::new(now);
        assert_eq!(count.take(rate, now), Ok(Left { calls: 9, reset: Duration::from_secs(1) }));
        assert_eq!(crowd(&mut count, rate, now), 9);
        assert_eq!(count.take(rate, now), Err(Duration::from_secs(1)));
        assert_eq!(count.take(rate, now + SECOND), Ok(Left { calls: 0, reset: Duration::from_secs(10) }));
        assert_eq!(crowd(&mut count, rate, now + 4 * SECOND), 3);
        assert_eq!(crowd(&mut count, rate, now + 1_000 * SECOND), 10, "no more than it holds");
    }

    #[test]
    fn a_fixed_window_begins_with_the_first_call_and_gives_nothing_back_before_its_end() {
        let (rate, now) = (rate(Kind::FixedWindow), BEGINNING);
        let mut count = Count::new(now - 100 * SECOND);
        assert_eq!(count.take(rate, now), Ok(Left { calls: 9, reset: Duration::from_secs(10) }));
        assert_eq!(crowd(&mut count, rate, now + 9 * SECOND), 9);
        assert_eq!(count.take(rate, now + 9 * SECOND), Err(Duration::from_secs(1)));
        assert_eq!(crowd(&mut count, rate, now + 10 * SECOND), 10);
    }

    #[test]
    fn a_sliding_window_never_lets_two_bursts_through_at_a_boundary() {
        let (rate, now) = (rate(Kind::SlidingWindow), BEGINNING);
        let mut count = Count::new(now);
        assert_eq!(crowd(&mut count, rate, now + 9 * SECOND), 10);
        assert_eq!(crowd(&mut count, rate, now + 10 * SECOND), 0, "all of the window before counts still");
        assert_eq!(crowd(&mut count, rate, now + 15 * SECOND), 5, "half of it");
        assert_eq!(crowd(&mut count, rate, now + 40 * SECOND), 10);
    }

    #[test]
    fn who_waits_as_long_as_was_said_is_let_in_and_who_comes_earlier_is_not() {
        for kind in [Kind::TokenBucket, Kind::FixedWindow, Kind::SlidingWindow] {
            for (burst, per_minute) in [(10, 60), (1, 7), (3, 100_000_000), (1_000, 1)] {
                let (rate, mut now) = (Rate { kind, ..Rate::new(burst, per_minute) }, BEGINNING);
                let mut count = Count::new(now);
                // The hard way for a sliding window: all at its end.
                now += rate.window_nanos() * 9 / 10;
                count.go_on(rate, now);
                count.add(rate, burst);
                for _ in 0..5 {
                    let wait = count.take(rate, now).expect_err("over");
                    let nanos = u64::try_from(wait.as_nanos()).expect("short");
                    assert!(wait <= 2 * rate.window(), "{rate:?} {wait:?}");
                    assert!(count.take(rate, now + nanos * 9 / 10).is_err() || nanos < 10, "{rate:?} {wait:?}");
                    now += nanos;
                    count.take(rate, now).unwrap_or_else(|more| panic!("{rate:?}: {more:?} more than {wait:?}"));
                    while count.take(rate, now).is_ok() {}
                }
            }
        }
    }

    #[test]
    fn the_longest_windows_and_the_highest_counts_overflow_nothing() {
        for kind in [Kind::TokenBucket, Kind::FixedWindow, Kind::SlidingWindow] {
            let (rate, now) = (Rate { kind, ..Rate::new(10_000_000, 1) }, BEGINNING);
            for nanos in [0, u64::MAX] {
                let mut count = Count::new(now);
                count.hear(rate, now, Heard { nanos, calls: u32::MAX, before: u32::MAX }, u32::MAX);
                count.add(rate, u32::MAX);
                assert!(count.take(rate, now).is_err(), "{kind:?}");
            }
        }
    }

    #[test]
    fn what_others_have_counted_is_taken_up_with_what_came_since_and_never_less_than_is_known_here() {
        let now = BEGINNING;
        for kind in [Kind::TokenBucket, Kind::FixedWindow, Kind::SlidingWindow] {
            let rate = rate(kind);
            let heard = |calls: u32| match kind {
                Kind::TokenBucket => Heard { nanos: u64::from(calls) * SECOND, calls: 0, before: 0 },
                Kind::FixedWindow | Kind::SlidingWindow => Heard { nanos: SECOND, calls, before: 0 },
            };
            let mut count = Count::new(now);
            count.hear(rate, now, heard(6), 1);
            assert_eq!(crowd(&mut count, rate, now), 3, "{kind:?}");
            count.hear(rate, now, heard(0), 0);
            assert_eq!(crowd(&mut count, rate, now), 0, "{kind:?}: Redis was wiped");
            // Together they were let through more than one would have been.
            count.hear(rate, now, heard(20), 0);
            assert_eq!(crowd(&mut count, rate, now), 0, "{kind:?}");
            assert!(crowd(&mut count, rate, now + 60 * SECOND) > 0, "{kind:?}");
        }
    }
}
