//! Times as the contract has them: UTC, to the millisecond. It converts between Unix milliseconds, the proto's
//! `Timestamp` and RFC 3339; it reads the clock in one place only, [`Millis::now`].

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// Unix time in milliseconds, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

impl Millis {
    /// The time now.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// From whole seconds.
    #[must_use]
    pub fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// The time in the `date` of an HTTP answer: `Mon, 23 Nov 2026 10:00:00 GMT`.
    #[must_use]
    pub fn from_http_date(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc2822(text).ok().map(|time| Self(time.timestamp_millis()))
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This much earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long until then; zero when it has passed.
    #[must_use]
    pub fn until(self, then: Self) -> Duration {
        Duration::from_millis(u64::try_from(then.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// `2026-11-23T10:00:00.123Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        DateTime::<Utc>::from_timestamp_millis(self.0)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
            .to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl From<Millis> for prost_types::Timestamp {
    fn from(at: Millis) -> Self {
        let nanos = i32::try_from(at.0.rem_euclid(1000) * 1_000_000).expect("invariant: below one second");
        Self { seconds: at.secs(), nanos }
    }
}

impl From<&prost_types::Timestamp> for Millis {
    fn from(at: &prost_types::Timestamp) -> Self {
        // Wider than any time that is one, so that the ends of its range are cut off last.
        let millis = i128::from(at.seconds) * 1000 + i128::from(at.nanos / 1_000_000);
        Self(i64::try_from(millis).unwrap_or(if millis < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl From<prost_types::Timestamp> for Millis {
    fn from(at: prost_types::Timestamp) -> Self {
        Self::from(&at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_with_milliseconds() {
        assert_eq!(Millis(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Millis(-1).to_rfc3339(), "1969-12-31T23:59:59.999Z");
        assert_eq!(Millis(951_782_400_123).to_rfc3339(), "2000-02-29T00:00:00.123Z");
        assert_eq!(Millis(1_795_428_000_007).to_rfc3339(), "2026-11-23T10:00:00.007Z");
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(Millis::from_http_date("Mon, 23 Nov 2026 10:00:00 GMT"), Some(Millis(1_795_428_000_000)));
        assert_eq!(Millis::from_http_date("yesterday"), None);
    }

    #[test]
    fn a_timestamp_keeps_its_milliseconds_before_and_after_1970() {
        for millis in [-1, 0, 1, -86_400_001, 1_795_428_000_007] {
            assert_eq!(Millis::from(prost_types::Timestamp::from(Millis(millis))), Millis(millis));
        }
    }
}
