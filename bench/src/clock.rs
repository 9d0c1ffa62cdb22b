//! The one clock of all processes on this machine: nanoseconds of `CLOCK_MONOTONIC`, so that a time written into a message
//! by one process can be compared in another.

use std::{thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// A second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Now.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Sleeps until a time.
pub(crate) fn sleep_until(at: u64) {
    let left = at.saturating_sub(now());
    if left > 0 {
        thread::sleep(Duration::from_nanos(left));
    }
}
