//! The one clock of all processes on this machine: nanoseconds of `CLOCK_MONOTONIC`, so that a time written into a message
//! by one process can be compared in another.

use std::{thread, time::Duration};

use rustix::{
    fd::OwnedFd,
    time::{ClockId, Itimerspec, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_settime},
};

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

/// The CPU time of this process in nanoseconds.
pub(crate) fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// When the how many-th event of a steady rate is due.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive time below 2^52"
)]
pub(crate) fn scheduled(begin: u64, number: u64, per_sec: f64) -> u64 {
    begin + (number as f64 * SECOND as f64 / per_sec) as u64
}

/// Sets a timer to fire once.
pub(crate) fn set_timer(timer: &OwnedFd, at: u64) -> anyhow::Result<()> {
    let at = Timespec { tv_sec: i64::try_from(at / SECOND)?, tv_nsec: i64::try_from(at % SECOND)? };
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let once = Itimerspec { it_interval: never, it_value: at };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &once)?;
    Ok(())
}
