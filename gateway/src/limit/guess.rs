//! What guessing at passwords meets: each failed attempt makes the next one wait longer, for the name that is tried, for
//! the address that tries, and, as a valve, for all strangers together. A device that has logged in to the account before
//! is no stranger: it has a count of its own, so that nobody locks an owner out by guessing at their account. It holds
//! for loopback too, since a proxy on the same machine would otherwise open the door to everyone behind it.
//!
//! An attempt counts as failed from its beginning until it is known to be good, so many at once are no more than many in a
//! row. Counts are kept by each gateway for itself, in a bounded map, and run down with time.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mesh::{
    config::Problems,
    error::{Reason, Refusal},
    limit::Limits,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{LOGIN_CHARS_MAX, Rate, block};

/// How failed attempts are counted for one kind of subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    /// Failures that cost no wait; the one after them costs a second, and each further one twice as much.
    pub free: u32,
    /// Seconds after which one failure is forgotten.
    pub forget_secs: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { free: 5, forget_secs: 900 }
    }
}

/// How failed logins are answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuessLimits {
    /// By the name that is tried, from devices that it does not know. Default 5 free, one forgotten in 15 minutes: some
    /// hundred guesses a day, from however many addresses.
    pub account: Patience,
    /// By address. Default 100 free, one forgotten in 30 seconds: an office may mistype.
    pub address: Patience,
    /// By device that has logged in to the account before, and by session that is asked for its password. Default 10
    /// free, one forgotten in 5 minutes.
    pub device: Patience,
    /// The longest wait in seconds. Default 900.
    pub wait_secs_max: u32,
    /// Attempts of all devices that are not known, together. Default 600 at once and 3,000 a minute: more than the
    /// password pool of two cores can judge.
    pub strangers: Rate,
}

impl Default for GuessLimits {
    fn default() -> Self {
        Self {
            account: Patience::default(),
            address: Patience { free: 100, forget_secs: 30 },
            device: Patience { free: 10, forget_secs: 300 },
            wait_secs_max: 900,
            strangers: Rate::new(600, 3_000),
        }
    }
}

impl GuessLimits {
    pub(super) fn validate(&self, prefix: &str, problems: &mut Problems) {
        for (name, patience) in [("account", self.account), ("address", self.address), ("device", self.device)] {
            problems.range(&format!("{prefix}{name}.free"), patience.free, 1, 10_000);
            problems.range(&format!("{prefix}{name}.forget_secs"), patience.forget_secs, 1, 86_400);
        }
        problems.range(&format!("{prefix}wait_secs_max"), self.wait_secs_max, 1, 86_400);
        self.strangers.validate(&format!("{prefix}strangers"), problems);
    }
}

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    /// A name that somebody tries, in small letters; cut, so that a key has a bound.
    Name(String),
    Address(IpAddr),
    Device(Uuid),
    /// A session that is asked for its password.
    Session(Uuid),
    /// An address that somebody asks mails for, written like a name.
    Mail(String),
}

/// The failures of one subject.
#[derive(Debug)]
struct Failures {
    count: u32,
    /// From when on the next one is forgotten.
    counted_from: Instant,
    /// No attempt is taken before this.
    wait_until: Instant,
}

/// The failures of everyone.
pub(crate) struct Guesses {
    limits: GuessLimits,
    enabled: bool,
    kept: moka::sync::Cache<Subject, Arc<Mutex<Failures>>>,
    strangers: Limits<()>,
}

impl std::fmt::Debug for Guesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guesses").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Guesses {
    pub(super) fn new(limits: &GuessLimits, enabled: bool, keys_max: u64) -> Self {
        // By then what was counted at most has run down, or the longest wait is over.
        let all = [limits.account, limits.address, limits.device];
        let longest = all.map(|patience| u64::from(patience.free + 16) * u64::from(patience.forget_secs));
        let idle = longest.into_iter().max().unwrap_or(0).max(u64::from(limits.wait_secs_max));
        Self {
            limits: limits.clone(),
            enabled,
            kept: moka::sync::Cache::builder().max_capacity(keys_max).time_to_idle(Duration::from_secs(idle)).build(),
            strangers: Limits::new(1, &[limits.strangers]),
        }
    }

    /// Begins an attempt to log in. `device` is one that has logged in under this name before.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn login(&self, address: IpAddr, name: &str, device: Option<Uuid>) -> Result<Attempt, Refusal> {
        self.login_at(Instant::now(), address, name, device)
    }

    fn login_at(&self, now: Instant, address: IpAddr, name: &str, device: Option<Uuid>) -> Result<Attempt, Refusal> {
        if !self.enabled {
            return Ok(Attempt::default());
        }
        if let Some(device) = device {
            return self.begin(vec![(Subject::Device(device), self.limits.device)], now);
        }
        let name = Subject::Name(small(name));
        self.begin(vec![(name, self.limits.account), self.stranger(address)?], now)
    }

    /// Begins to ask for a mail to an address: as often as guessing at its account, and no oftener.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn mail(&self, address: IpAddr, to: &str) -> Result<Attempt, Refusal> {
        if !self.enabled {
            return Ok(Attempt::default());
        }
        let to = Subject::Mail(small(to));
        self.begin(vec![(to, self.limits.account), self.stranger(address)?], Instant::now())
    }

    /// Begins to use the token of a mail.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn link(&self, address: IpAddr) -> Result<Attempt, Refusal> {
        if !self.enabled {
            return Ok(Attempt::default());
        }
        self.begin(vec![self.stranger(address)?], Instant::now())
    }

    /// What is counted of somebody whom no device vouches for.
    fn stranger(&self, address: IpAddr) -> Result<(Subject, Patience), Refusal> {
        self.strangers.take((), self.limits.strangers).map_err(refusal)?;
        Ok((Subject::Address(block(address)), self.limits.address))
    }

    /// Begins an attempt to prove a session's password.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn proof(&self, session: Uuid) -> Result<Attempt, Refusal> {
        if !self.enabled {
            return Ok(Attempt::default());
        }
        self.begin(vec![(Subject::Session(session), self.limits.device)], Instant::now())
    }

    fn begin(&self, subjects: Vec<(Subject, Patience)>, now: Instant) -> Result<Attempt, Refusal> {
        let mut attempt = Attempt::default();
        for (subject, patience) in subjects {
            let shared = matches!(subject, Subject::Address(_));
            let fresh = || Arc::new(Mutex::new(Failures { count: 0, counted_from: now, wait_until: now }));
            let failures = self.kept.get_with(subject, fresh);
            match self.count(&failures, patience, now) {
                Ok(()) => attempt.counted.push((failures, shared)),
                Err(wait) => {
                    attempt.undecided();
                    return Err(refusal(wait));
                }
            }
        }
        Ok(attempt)
    }

    /// Counts one more failure, or says how long to wait.
    fn count(&self, failures: &Mutex<Failures>, patience: Patience, now: Instant) -> Result<(), Duration> {
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        if now < failures.wait_until {
            return Err(failures.wait_until - now);
        }
        let forget = Duration::from_secs(u64::from(patience.forget_secs));
        let elapsed = now.saturating_duration_since(failures.counted_from);
        let forgotten = u32::try_from(elapsed.as_secs() / forget.as_secs().max(1)).unwrap_or(u32::MAX);
        failures.count = failures.count.saturating_sub(forgotten);
        failures.counted_from = if failures.count == 0 { now } else { failures.counted_from + forget * forgotten };
        failures.count += 1;
        failures.wait_until = now + self.wait(failures.count, patience);
        Ok(())
    }

    fn wait(&self, count: u32, patience: Patience) -> Duration {
        let longest = Duration::from_secs(u64::from(self.limits.wait_secs_max));
        match count.checked_sub(patience.free) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1_u64.checked_shl(over).unwrap_or(u64::MAX)).min(longest),
        }
    }
}

/// A name as one of those that differ only in case and blanks, cut.
fn small(name: &str) -> String {
    name.trim().chars().take(LOGIN_CHARS_MAX).flat_map(char::to_lowercase).collect()
}

fn refusal(wait: Duration) -> Refusal {
    Refusal::new(Reason::RateLimited, "Too many failed attempts; try again later").with_retry_after(wait)
}

/// An attempt in progress. Dropped, it has failed.
#[derive(Debug, Default)]
#[must_use = "an attempt that is dropped has failed"]
pub(crate) struct Attempt {
    /// What it was counted for, and whether others are counted there too.
    counted: Vec<(Arc<Mutex<Failures>>, bool)>,
}

impl Attempt {
    /// The password was right: the failures are forgotten, but for an address, which others share, only this attempt.
    pub(crate) fn succeeded(self) {
        self.settle(|failures, shared| {
            failures.count = if shared { failures.count.saturating_sub(1) } else { 0 };
        });
    }

    /// Nobody judged it: it is as if it had not been.
    pub(crate) fn undecided(self) {
        self.settle(|failures, _| failures.count = failures.count.saturating_sub(1));
    }

    fn settle(self, change: impl Fn(&mut Failures, bool)) {
        for (failures, shared) in self.counted {
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut failures, shared);
            // A time that is over: nothing is waited for.
            failures.wait_until = failures.counted_from;
        }
    }

    /// Settles it where asking alone counts, whatever comes of it; not what nobody took.
    pub(crate) fn asked<T>(self, result: &Result<T, crate::error::ErrorObject>) {
        match result {
            Ok(_) => drop(self),
            Err(_) => self.undecided(),
        }
    }

    /// Settles it by what came of it: a wrong password or token alone is a failure.
    pub(crate) fn settled<T>(self, result: &Result<T, crate::error::ErrorObject>) {
        match result {
            Ok(_) => self.succeeded(),
            Err(error) if matches!(error.code, Reason::InvalidCredentials | Reason::EmailTokenInvalid) => drop(self),
            Err(_) => self.undecided(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesses() -> Guesses {
        Guesses::new(&GuessLimits::default(), true, 100_000)
    }

    fn ip(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0b00_0000 + number).into()
    }

    fn wait_of(refused: Result<Attempt, Refusal>) -> Duration {
        let refusal = refused.expect_err("refused");
        assert_eq!(refusal.reason, Reason::RateLimited);
        refusal.retry_after.expect("a wait")
    }

    #[test]
    fn ten_thousand_addresses_that_guess_at_one_account_get_a_handful_of_guesses_and_its_owner_gets_in() {
        let limits = GuessLimits { strangers: Rate::new(1_000_000, 1), ..GuessLimits::default() };
        let guesses = Guesses::new(&limits, true, 100_000);
        let (owner, now) = (Some(Uuid::new_v4()), Instant::now());
        let mut judged = 0;
        for number in 0..10_000 {
            judged += u32::from(guesses.login_at(now, ip(number), "ada", None).is_ok());
            if number % 100 == 0 {
                guesses.login_at(now, ip(20_000), "ada", owner).expect("a known device is let through").succeeded();
            }
        }
        assert_eq!(judged, 5);
        assert!(guesses.login_at(now, ip(20_001), "ADA ", None).is_err(), "a name is one whatever its case and blanks");
        guesses.login_at(now, ip(1), "bob", None).expect("another account is left alone").succeeded();
    }

    #[test]
    fn each_failure_past_the_free_ones_costs_twice_the_wait_up_to_the_longest() {
        let guesses = guesses();
        let waits = [1, 4, 5, 6, 9, 20, 70].map(|count| guesses.wait(count, Patience::default()).as_secs());
        assert_eq!(waits, [0, 0, 1, 2, 16, 900, 900]);
    }

    #[test]
    fn failures_run_down_with_time_and_a_good_password_forgets_them() {
        let guesses = guesses();
        let subject = || vec![(Subject::Name("ada".into()), Patience::default())];
        let begun = Instant::now();
        for _ in 0..5 {
            drop(guesses.begin(subject(), begun).expect("free"));
        }
        assert_eq!(wait_of(guesses.begin(subject(), begun)), Duration::from_secs(1));
        // Two are forgotten by then, so two are free again.
        let later = begun + Duration::from_secs(1_800);
        for _ in 0..2 {
            drop(guesses.begin(subject(), later).expect("free again"));
        }
        assert!(guesses.begin(subject(), later).is_err());
        let much_later = later + Duration::from_secs(2);
        guesses.begin(subject(), much_later).expect("after the wait").succeeded();
        for _ in 0..5 {
            drop(guesses.begin(subject(), much_later + Duration::from_secs(1)).expect("free"));
        }
    }

    #[test]
    fn many_at_once_are_no_more_than_many_in_a_row_and_what_nobody_judged_costs_nothing() {
        let (guesses, now) = (guesses(), Instant::now());
        let pending: Vec<_> = (0..100).filter_map(|_| guesses.login_at(now, ip(1), "ada", None).ok()).collect();
        assert_eq!(pending.len(), 5);
        pending.into_iter().for_each(Attempt::undecided);
        for _ in 0..5 {
            drop(guesses.login_at(now, ip(1), "ada", None).expect("as if they had not been"));
        }
        assert!(guesses.login_at(now, ip(1), "ada", None).is_err());
    }

    #[test]
    fn an_address_that_tries_many_names_is_held_and_its_own_account_does_not_free_it() {
        let (guesses, now) = (guesses(), Instant::now());
        for number in 0..100 {
            drop(guesses.login_at(now, ip(1), &format!("name-{number}"), None).expect("free"));
        }
        assert!(guesses.login_at(now, ip(1), "another", None).is_err());
        guesses.login_at(now, ip(2), "own", None).expect("elsewhere").succeeded();
        assert!(guesses.login_at(now, ip(1), "own", None).is_err());
        guesses
            .login_at(now, ip(1), "ada", Some(Uuid::new_v4()))
            .expect("a known device behind the same address")
            .succeeded();
    }

    #[test]
    fn who_asks_for_mails_to_an_address_waits_after_some_and_its_owner_logs_in_all_the_same() {
        let guesses = guesses();
        for _ in 0..5 {
            drop(guesses.mail(ip(1), "ada@example.org").expect("free"));
        }
        let wait = wait_of(guesses.mail(ip(2), " ADA@example.org"));
        assert!(wait <= Duration::from_secs(1) && !wait.is_zero(), "{wait:?}");
        drop(guesses.mail(ip(1), "bob@example.org").expect("another address"));
        guesses.login_at(Instant::now(), ip(3), "ada@example.org", None).expect("logging in is not asking").succeeded();
    }

    #[test]
    fn who_tries_tokens_is_held() {
        let guesses = guesses();
        for _ in 0..100 {
            drop(guesses.link(ip(1)).expect("free"));
        }
        assert!(guesses.link(ip(1)).is_err());
        guesses.link(ip(2)).expect("elsewhere").succeeded();
    }

    #[test]
    fn strangers_together_have_a_limit_that_known_devices_are_no_part_of() {
        let limits = GuessLimits { strangers: Rate::new(3, 1), ..GuessLimits::default() };
        let (guesses, now) = (Guesses::new(&limits, true, 1_000), Instant::now());
        for number in 0..3 {
            guesses.login_at(now, ip(number), &format!("name-{number}"), None).expect("within the burst").succeeded();
        }
        assert!(guesses.login_at(now, ip(9), "name-9", None).is_err());
        guesses.login_at(now, ip(9), "name-9", Some(Uuid::new_v4())).expect("known").succeeded();
    }
}
