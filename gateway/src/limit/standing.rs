//! What an answer's headers say of the limits that its request met: `RateLimit-Policy` and `RateLimit`, after the IETF's
//! draft-ietf-httpapi-ratelimit-headers-10. A client that reads them slows down before it is refused.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh::limit::{Left, Rate};
use smallvec::SmallVec;

/// How many calls there may be: `"rest_address";q=600;w=6`.
pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// How many are left, and when all are there again: `"rest_address";r=599;t=1`.
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// One limit as the headers name it.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: &'static str,
    pub(super) rate: Rate,
    /// What stands in `RateLimit-Policy`; it does not change.
    text: String,
}

impl Policy {
    pub(super) fn new(name: &'static str, rate: Rate) -> Self {
        let text = format!("\"{name}\";q={};w={}", rate.burst, whole_secs(rate.window()).max(1));
        Self { name, rate, text }
    }
}

/// The limits that one request has met, by their place in the list of policies. It is in the request's extensions, where the
/// layer that made it finds again what was added further in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing(Arc<Mutex<Met>>);

/// Most requests meet two: their address' and their account's.
type Met = SmallVec<[(usize, Left); 3]>;

impl Standing {
    pub(super) fn add(&self, policy: usize, left: Left) {
        // Nothing that could panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((policy, left));
    }

    /// Writes the headers; none when nothing limits this client.
    pub(super) fn write(&self, policies: &[Policy], headers: &mut HeaderMap) {
        let met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut quotas, mut lefts) = (String::with_capacity(64), String::with_capacity(64));
        for (place, left) in &*met {
            let Some(policy) = policies.get(*place) else { continue };
            let comma = if quotas.is_empty() { "" } else { ", " };
            quotas.extend([comma, &policy.text]);
            let (name, calls, secs) = (policy.name, left.calls, whole_secs(left.reset));
            lefts += &format!("{comma}\"{name}\";r={calls};t={secs}");
        }
        for (name, text) in [(POLICY, quotas), (LIMIT, lefts)] {
            // Names of settings and numbers are good header values.
            if let Ok(value) = HeaderValue::try_from(text)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
    }
}

/// Rounded up, so that nobody comes back too early.
fn whole_secs(time: Duration) -> u128 {
    time.as_millis().div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_each_limit_with_what_it_allows_what_is_left_and_when_all_is_there_again() {
        let policies =
            [Policy::new("rest_address", Rate::new(600, 6_000)), Policy::new("rest_account", Rate::new(10, 5))];
        let (standing, mut headers) = (Standing::default(), HeaderMap::new());
        standing.write(&policies, &mut headers);
        assert!(headers.is_empty());
        standing.add(0, Left { calls: 599, reset: Duration::from_millis(10) });
        standing.add(1, Left { calls: 0, reset: Duration::from_secs(120) });
        standing.write(&policies, &mut headers);
        assert_eq!(headers[POLICY], r#""rest_address";q=600;w=6, "rest_account";q=10;w=120"#);
        assert_eq!(headers[LIMIT], r#""rest_address";r=599;t=1, "rest_account";r=0;t=120"#);
    }
}
