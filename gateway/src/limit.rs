//! How often an address and an account may call, by class of call. REST and the realtime edge ask the same [`Limiter`]. It
//! counts and refuses; who the address and the account are it is told. The counting is that of `mesh::limit`; what an
//! answer's headers say of it is in `limit/standing.rs`, what guessing at passwords meets besides in `limit/guess.rs`.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use http::HeaderMap;
use mesh::{
    config::{MeshConfig, Problems, Profile},
    error::{Reason, Refusal},
    limit::{Left, Limits, Sharing, SharingError, Subject},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod guess;
pub(crate) mod standing;

pub(crate) use guess::Guesses;
pub use guess::{GuessLimits, Patience};
pub use mesh::limit::Rate;
use standing::Policy;
pub(crate) use standing::Standing;

/// The classes of calls; each has limits of its own.
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

/// How many calls an address and an account may make. An address stands for a household or an office, so it may make
/// more than one account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Whether anything is limited. Default true; a load test may want false.
    pub enabled: bool,
    /// Milliseconds between two rounds in which this gateway tells the others, through Redis, what it has let through, and
    /// hears what they have. Default 50: so long a client may get a burst of each gateway. Without `mesh.redis_enabled`, and
    /// while Redis is away, each gateway limits by itself.
    pub share_ms: u64,
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
            share_ms: 50,
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
    /// Each with its name, in the order of [`NAMES`].
    fn all(&self) -> [(&'static str, Rate); 8] {
        let rates = [
            self.auth_address,
            self.auth_account,
            self.rest_address,
            self.rest_account,
            self.handshake_address,
            self.handshake_account,
            self.event_address,
            self.event_account,
        ];
        std::array::from_fn(|place| (NAMES[place], rates[place]))
    }

    /// Reports values that make no sense; `prefix` is where these stand in the section: `rates.`.
    pub(crate) fn validate(&self, prefix: &str, problems: &mut Problems) {
        problems.range(&format!("{prefix}share_ms"), self.share_ms, 10, 10_000);
        problems.range(&format!("{prefix}keys_max"), self.keys_max, 1_000, 100_000_000);
        for (name, rate) in self.all() {
            rate.validate(&format!("{prefix}{name}"), problems);
        }
        self.guesses.validate(&format!("{prefix}guesses."), problems);
    }
}

/// The limits as settings, headers and keys in Redis name them: of each class an address' and an account's.
const NAMES: [&str; 8] = [
    "auth_address",
    "auth_account",
    "rest_address",
    "rest_account",
    "handshake_address",
    "handshake_account",
    "event_address",
    "event_account",
];

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(Class, Subject);

impl Key {
    /// Its place in [`NAMES`].
    fn policy(&self) -> usize {
        2 * self.0 as usize + usize::from(matches!(self.1, Subject::Account(_)))
    }
}

/// A longer name is no account's; it shares a bucket with those that begin alike.
const LOGIN_CHARS_MAX: usize = 254;

/// All counts of this process.
pub(crate) struct Limiter {
    enabled: bool,
    /// A developer's own machine is not limited: tests and load runs come from it.
    loopback_exempt: bool,
    share_every: Duration,
    policies: [Policy; 8],
    limits: Arc<Limits<Key>>,
    /// What failed logins cost.
    pub(crate) guesses: Guesses,
}

impl Limiter {
    pub(crate) fn new(rates: &Rates, profile: Profile) -> Self {
        let limits = Arc::new(Limits::new(rates.keys_max, &rates.all().map(|(_, rate)| rate)));
        let policies = rates.all().map(|(name, rate)| Policy::new(name, rate));
        let loopback_exempt = profile == Profile::Development;
        let guesses = Guesses::new(&rates.guesses, rates.enabled, rates.keys_max);
        let share_every = Duration::from_millis(rates.share_ms);
        Self { enabled: rates.enabled, loopback_exempt, share_every, policies, limits, guesses }
    }

    /// What makes other gateways count with this one, when there is a Redis for it.
    ///
    /// # Errors
    /// When Redis cannot be used as it is configured.
    pub(crate) fn sharing(&self, mesh: &MeshConfig) -> Result<Option<Sharing<Key>>, SharingError> {
        if !mesh.redis_enabled || !self.enabled {
            return Ok(None);
        }
        let name = |key: &Key| (NAMES[key.policy()], key.1);
        Sharing::new(mesh, Arc::clone(&self.limits), self.share_every, name).map(Some)
    }

    /// Counts a call of the address, and one of the account when it is known.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn check(&self, class: Class, address: IpAddr, account: Option<Uuid>) -> Result<(), Refusal> {
        self.check_address(class, address, None)?;
        account.map_or(Ok(()), |account| self.check_account(class, address, account, None))
    }

    /// Counts a call of the address alone. What is left goes to `standing`, where an answer has headers for it.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn check_address(
        &self,
        class: Class,
        address: IpAddr,
        standing: Option<&Standing>,
    ) -> Result<(), Refusal> {
        self.take(address, Key(class, Subject::Address(block(address))), standing)
    }

    /// Counts a call of the account alone; the same otherwise.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn check_account(
        &self,
        class: Class,
        address: IpAddr,
        account: Uuid,
        standing: Option<&Standing>,
    ) -> Result<(), Refusal> {
        self.take(address, Key(class, Subject::Account(account)), standing)
    }

    fn take(&self, address: IpAddr, key: Key, standing: Option<&Standing>) -> Result<(), Refusal> {
        if !self.enabled || (self.loopback_exempt && is_loopback(address)) {
            return Ok(());
        }
        let place = key.policy();
        let Policy { name, rate, .. } = self.policies[place];
        let taken = self.limits.take(key, rate);
        if let Some(standing) = standing {
            // Who was refused reads the same time here as in `Retry-After`.
            standing.add(place, taken.unwrap_or_else(|wait| Left { calls: 0, reset: wait }));
        }
        taken.map(drop).map_err(|wait| {
            metrics::counter!("switchboard_limits_refused_total", "limit" => name).increment(1);
            Refusal::new(Reason::RateLimited, "Too many requests; try again later").with_retry_after(wait)
        })
    }

    /// Writes what a request has met into the headers of its answer.
    pub(crate) fn write(&self, standing: &Standing, headers: &mut HeaderMap) {
        standing.write(&self.policies, headers);
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
    fn each_limit_has_its_own_name_and_rate() {
        let limiter = Limiter::new(&Rates::default(), Profile::Production);
        for class in [Class::Auth, Class::Rest, Class::Handshake, Class::Event] {
            for subject in [Subject::Address(ip("192.0.2.1")), Subject::Account(Uuid::nil())] {
                let place = Key(class, subject).policy();
                let of = if matches!(subject, Subject::Address(_)) { "address" } else { "account" };
                assert_eq!(NAMES[place], format!("{class:?}_{of}").to_lowercase());
                assert_eq!(limiter.policies[place].name, NAMES[place]);
            }
        }
        assert_eq!(limiter.policies[Key(Class::Auth, Subject::Account(Uuid::nil())).policy()].rate, Rate::new(20, 10));
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
        assert!(limiter.limits.keys() <= 1_000, "{}", limiter.limits.keys());
    }
}
