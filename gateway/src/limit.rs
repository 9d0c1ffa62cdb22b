//! Token buckets per address and per account, by class of call. REST and the realtime edge ask the same [`Limiter`]. It
//! counts and refuses; who the address and the account are it is told. Buckets are kept in a bounded map: a bucket that
//! is full again is as good as none, so forgetting an idle one changes nothing. What guessing at passwords meets beside
//! them is in `limit/guess.rs`.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use mesh::{
    config::{Problems, Profile},
    error::{Reason, Refusal},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod guess;

pub(crate) use guess::Guesses;
pub use guess::{GuessLimits, Patience};

/// The classes of calls; each has buckets of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Passwords and tokens: register, log in, refresh, change a password.
    Auth,
    /// Every other REST call.
    Rest,
    /// A Socket.IO connection, or the token for one.
    Handshake,
    /// An event from a client over Socket.IO.
    Event,
}

/// A bucket: how much it holds and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
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
    const fn new(burst: u32, per_minute: u32) -> Self {
        Self { burst, per_minute }
    }

    fn quota(self) -> Quota {
        let some = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Quota::per_minute(some(self.per_minute)).allow_burst(some(self.burst))
    }
}

/// How many calls an address and an account may make. An address stands for a household or an office, so it may make
/// more than one account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Whether anything is limited. Default true; a load test may want false.
    pub enabled: bool,
    /// Addresses and accounts remembered; default 200,000, at about 200 bytes each.
    pub keys_max: u64,
    /// Passwords and tokens, per address. Default 60 at once and 60 a minute: an office that starts its day.
    pub auth_address: Rate,
    /// Passwords and tokens, per account that has logged in. Default 20 at once and 10 a minute.
    pub auth_account: Rate,
    /// Other REST calls, per address. Default 600 at once and 6,000 a minute.
    pub rest_address: Rate,
    /// Other REST calls, per account. Default 300 at once and 1,800 a minute, thirty a second.
    pub rest_account: Rate,
    /// Socket.IO connections, per address. Default 200 at once and 1,200 a minute: an office that comes back after its
    /// network was away.
    pub handshake_address: Rate,
    /// Socket.IO connections, per account. Default 30 at once and 60 a minute: some tabs on a bad network.
    pub handshake_account: Rate,
    /// Socket.IO events, per address. Default 2,000 at once and 30,000 a minute.
    pub event_address: Rate,
    /// Socket.IO events, per account. Default 300 at once and 3,000 a minute, fifty a second.
    pub event_account: Rate,
    /// What failed logins cost, also from this machine itself.
    pub guesses: GuessLimits,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            enabled: true,
            keys_max: 200_000,
            auth_address: Rate::new(60, 60),
            auth_account: Rate::new(20, 10),
            rest_address: Rate::new(600, 6_000),
            rest_account: Rate::new(300, 1_800),
            handshake_address: Rate::new(200, 1_200),
            handshake_account: Rate::new(30, 60),
            event_address: Rate::new(2_000, 30_000),
            event_account: Rate::new(300, 3_000),
            guesses: GuessLimits::default(),
        }
    }
}

impl Rates {
    fn all(&self) -> [(&'static str, Rate); 8] {
        [
            ("auth_address", self.auth_address),
            ("auth_account", self.auth_account),
            ("rest_address", self.rest_address),
            ("rest_account", self.rest_account),
            ("handshake_address", self.handshake_address),
            ("handshake_account", self.handshake_account),
            ("event_address", self.event_address),
            ("event_account", self.event_account),
        ]
    }

    fn address(&self, class: Class) -> Rate {
        match class {
            Class::Auth => self.auth_address,
            Class::Rest => self.rest_address,
            Class::Handshake => self.handshake_address,
            Class::Event => self.event_address,
        }
    }

    fn account(&self, class: Class) -> Rate {
        match class {
            Class::Auth => self.auth_account,
            Class::Rest => self.rest_account,
            Class::Handshake => self.handshake_account,
            Class::Event => self.event_account,
        }
    }

    /// Reports values that make no sense; `prefix` is where these stand in the section: `rates.`.
    pub(crate) fn validate(&self, prefix: &str, problems: &mut Problems) {
        problems.range(&format!("{prefix}keys_max"), self.keys_max, 1_000, 100_000_000);
        for (name, rate) in self.all() {
            problems.range(&format!("{prefix}{name}.burst"), rate.burst, 1, 10_000_000);
            problems.range(&format!("{prefix}{name}.per_minute"), rate.per_minute, 1, 100_000_000);
        }
        self.guesses.validate(&format!("{prefix}guesses."), problems);
    }

    /// The longest that an empty bucket takes to be full again.
    fn refill_max(&self) -> Duration {
        let secs = self.all().map(|(_, rate)| u64::from(rate.burst) * 60 / u64::from(rate.per_minute.max(1)) + 1);
        Duration::from_secs(secs.into_iter().max().unwrap_or(1))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(Class, IpAddr),
    Account(Class, Uuid),
}

/// A longer name is no account's; it shares a bucket with those that begin alike.
const LOGIN_CHARS_MAX: usize = 254;

/// All buckets of this process.
pub(crate) struct Limiter {
    rates: Rates,
    /// A developer's own machine is not limited: tests and load runs come from it.
    loopback_exempt: bool,
    buckets: moka::sync::Cache<Key, Arc<DefaultDirectRateLimiter>>,
    /// What failed logins cost.
    pub(crate) guesses: Guesses,
    clock: DefaultClock,
}

impl Limiter {
    pub(crate) fn new(rates: &Rates, profile: Profile) -> Self {
        let buckets =
            moka::sync::Cache::builder().max_capacity(rates.keys_max).time_to_idle(rates.refill_max()).build();
        let loopback_exempt = profile == Profile::Development;
        let guesses = Guesses::new(&rates.guesses, rates.enabled, rates.keys_max);
        Self { rates: rates.clone(), loopback_exempt, buckets, guesses, clock: DefaultClock::default() }
    }

    /// Takes a token of the address, and one of the account when it is known.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn check(&self, class: Class, address: IpAddr, account: Option<Uuid>) -> Result<(), Refusal> {
        self.check_address(class, address)?;
        account.map_or(Ok(()), |account| self.check_account(class, address, account))
    }

    /// Takes a token of the address alone.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn check_address(&self, class: Class, address: IpAddr) -> Result<(), Refusal> {
        self.take(address, || Key::Address(class, block(address)), self.rates.address(class))
    }

    /// Takes a token of the account alone.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn check_account(&self, class: Class, address: IpAddr, account: Uuid) -> Result<(), Refusal> {
        self.take(address, || Key::Account(class, account), self.rates.account(class))
    }

    fn take(&self, address: IpAddr, key: impl FnOnce() -> Key, rate: Rate) -> Result<(), Refusal> {
        if !self.rates.enabled || (self.loopback_exempt && is_loopback(address)) {
            return Ok(());
        }
        let bucket = self.buckets.get_with(key(), || Arc::new(RateLimiter::direct(rate.quota())));
        bucket.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            Refusal::new(Reason::RateLimited, "Too many requests; try again later").with_retry_after(wait)
        })
    }
}

/// What stands for one client: an IPv4 address, or the /64 that an IPv6 client can choose addresses from.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        let tight = Rate::new(3, 1);
        Rates { rest_address: tight, rest_account: tight, ..Rates::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn a_bucket_holds_its_burst_and_then_says_how_long_to_wait() {
        let limiter = Limiter::new(&rates(), Profile::Production);
        for _ in 0..3 {
            limiter.check(Class::Rest, ip("192.0.2.1"), None).expect("within the burst");
        }
        let refusal = limiter.check(Class::Rest, ip("192.0.2.1"), None).expect_err("over");
        assert_eq!(refusal.reason, Reason::RateLimited);
        let wait = refusal.retry_after.expect("a wait");
        assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(60), "{wait:?}");
        limiter.check(Class::Rest, ip("192.0.2.2"), None).expect("another address");
        limiter.check(Class::Event, ip("192.0.2.1"), None).expect("another class");
    }

    #[test]
    fn an_account_is_limited_over_all_its_addresses() {
        let limiter = Limiter::new(&rates(), Profile::Production);
        let account = Some(Uuid::from_u128(1));
        for last in 1..=3 {
            limiter.check(Class::Rest, ip(&format!("192.0.2.{last}")), account).expect("within the burst");
        }
        limiter.check(Class::Rest, ip("192.0.2.4"), account).expect_err("over");
        limiter.check(Class::Rest, ip("192.0.2.4"), Some(Uuid::from_u128(2))).expect("another account");
    }

    #[test]
    fn an_ipv6_client_cannot_get_more_by_changing_its_address() {
        let limiter = Limiter::new(&rates(), Profile::Production);
        for last in 1..=3 {
            limiter.check(Class::Rest, ip(&format!("2001:db8::{last}")), None).expect("within the burst");
        }
        limiter.check(Class::Rest, ip("2001:db8::ffff"), None).expect_err("the same /64");
        limiter.check(Class::Rest, ip("2001:db8:0:1::1"), None).expect("another /64");
        assert_eq!(block(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn loopback_is_exempt_in_development_alone() {
        for (profile, passes) in [(Profile::Development, true), (Profile::Production, false)] {
            let limiter = Limiter::new(&rates(), profile);
            let all = (0..10).all(|_| limiter.check(Class::Rest, ip("127.0.0.1"), Some(Uuid::nil())).is_ok());
            assert_eq!(all, passes);
        }
    }

    #[test]
    fn no_more_keys_are_kept_than_configured() {
        let limiter = Limiter::new(&Rates { keys_max: 1_000, ..rates() }, Profile::Production);
        for number in 0..5_000_u32 {
            drop(limiter.check(Class::Rest, Ipv6Addr::from(u128::from(number) << 64).into(), None));
        }
        limiter.buckets.run_pending_tasks();
        assert!(limiter.buckets.entry_count() <= 1_000, "{}", limiter.buckets.entry_count());
    }
}
