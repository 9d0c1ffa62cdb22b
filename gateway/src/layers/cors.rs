//! Which pages of other origins may call: those of the list, and in development those of this machine at any port.

use std::{collections::HashSet, time::Duration};

use http::{
    HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER},
};
use mesh::config::Profile;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{config::GatewayConfig, limit::standing};

/// How long a browser remembers that it may: ten minutes, the most that Chromium keeps to is two hours.
const MAX_AGE: Duration = Duration::from_secs(600);

pub(super) fn layer(config: &GatewayConfig, profile: Profile) -> CorsLayer {
    let listed: HashSet<String> = config.cors_origins.iter().cloned().collect();
    let development = profile == Profile::Development;
    let allowed = move |origin: &HeaderValue| {
        origin.to_str().is_ok_and(|origin| listed.contains(origin) || (development && is_this_machine(origin)))
    };
    let x_request_id = HeaderName::from_static("x-request-id");
    let traceparent = HeaderName::from_static("traceparent");
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| allowed(origin)))
        // There are no cookies to steal; pages that ask with credentials by habit would be turned away otherwise.
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH, x_request_id.clone(), traceparent.clone()])
        .expose_headers([x_request_id, traceparent, RETRY_AFTER, ETAG, standing::LIMIT, standing::POLICY])
        .max_age(MAX_AGE)
}

/// `http://localhost:5173` and its like.
fn is_this_machine(origin: &str) -> bool {
    let Some(rest) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else { return false };
    ["localhost", "127.0.0.1", "[::1]"].into_iter().any(|host| {
        rest.strip_prefix(host).is_some_and(|port| match port.strip_prefix(':') {
            Some(port) => port.parse::<u16>().is_ok(),
            None => port.is_empty(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names_and_not_by_their_likeness() {
        for good in ["http://localhost", "http://localhost:5173", "https://127.0.0.1:1", "http://[::1]:8080"] {
            assert!(is_this_machine(good), "{good}");
        }
        for bad in [
            "http://localhost.evil.example",
            "http://localhost:80.evil.example",
            "http://localhost:",
            "http://127.0.0.1@evil.example",
            "null",
            "file://localhost",
            "https://evil.example",
        ] {
            assert!(!is_this_machine(bad), "{bad}");
        }
    }
}
