//! The section `gateway` of the configuration: ports, origins, proxies, limits. The realtime edge's own settings are in
//! `realtime/`; what every process shares is in `mesh::config`.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use http::HeaderValue;
use ipnet::IpNet;
use mesh::{
    config::{EdgeTlsConfig, Loader, MeshConfig, Problems, Section},
    serve::ServeLimits,
};
use serde::{Deserialize, Serialize};

use crate::{limit::Rates, realtime::RealtimeConfig};

/// Everything that a gateway process is told.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What every process shares.
    pub mesh: MeshConfig,
    /// The gateway's own.
    pub gateway: GatewayConfig,
}

impl Config {
    /// Reads both sections; the loader collects what is wrong with them.
    pub fn load(loader: &mut Loader) -> Self {
        Self { mesh: loader.section(), gateway: loader.section() }
    }
}

/// The section `gateway`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// The address that both ports listen on. Default `127.0.0.1`: a laptop shows itself to nobody. `0.0.0.0` or `::`
    /// behind a load balancer.
    pub listen: IpAddr,
    /// The public port: REST, Socket.IO, documents, the page. Default 3000.
    pub port: u16,
    /// The port of operations: health, readiness, metrics. Default 3009.
    pub http_port: u16,
    /// Origins of web pages that may call, as `https://app.example.com`. In development every port of localhost may as
    /// well. Default none: the gateway's own page needs no entry.
    pub cors_origins: Vec<String>,
    /// Networks of the proxies in front, as `10.0.0.0/8` or `10.1.2.3`. Only they are believed what `x-forwarded-for`
    /// and `x-forwarded-proto` say. Default none.
    pub trusted_proxies: Vec<String>,
    /// A folder to serve the page from instead of the files embedded at build time, for those who work on it. Default
    /// empty: the embedded ones.
    pub web_dir: PathBuf,
    /// Bytes of a request's body; default 256 KiB: eight times the largest message content.
    pub body_bytes_max: usize,
    /// Bytes of a request's path and query; default 8 KiB: a hundred ids fit twice.
    pub uri_bytes_max: usize,
    /// Requests in progress at once, Socket.IO aside; more are refused with UNAVAILABLE. Default 2,000: with bodies of
    /// the largest size they hold 512 MiB, with usual ones a few.
    pub requests_max: usize,
    /// Milliseconds for a REST request from its head to its answer's; default 15,000, below the 30 s or 60 s of common
    /// proxies, so that the client sees our error and not theirs. Slow bodies end by it too.
    pub request_timeout_ms: u64,
    /// Milliseconds for one call to a service within a request; default 10,000: the request can still answer after it.
    pub call_timeout_ms: u64,
    /// Rooms that `GET /api/rooms` gathers before it answers with a `nextPageToken`; default 1,000, ten calls to
    /// message-svc. More rooms than that are asked for page by page.
    pub rooms_listed_max: usize,
    /// Exports of accounts that are written at once; default 8: each reads all that somebody has sent and may last as long
    /// as its client reads, so they must not take the calls of everybody else. More are refused with `UNAVAILABLE`.
    pub exports_max: usize,
    /// Seconds that a device is known by the token of its last login; default 180 days: who comes back twice a year is
    /// no stranger.
    pub device_token_secs: i64,
    /// The certificate of the public port, where no proxy in front has one.
    pub tls: EdgeTlsConfig,
    /// Connections of the public port. Default: `mesh::serve`'s.
    pub serve: ServeLimits,
    /// How many calls an address and an account may make.
    pub rates: Rates,
    /// Sockets and the rooms that they follow.
    pub realtime: RealtimeConfig,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: Ipv4Addr::LOCALHOST.into(),
            port: 3000,
            http_port: 3009,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            web_dir: PathBuf::new(),
            body_bytes_max: 256 * 1024,
            uri_bytes_max: 8 * 1024,
            requests_max: 2_000,
            request_timeout_ms: 15_000,
            call_timeout_ms: 10_000,
            rooms_listed_max: 1_000,
            exports_max: 8,
            device_token_secs: 180 * 24 * 3_600,
            tls: EdgeTlsConfig::default(),
            serve: ServeLimits::default(),
            rates: Rates::default(),
            realtime: RealtimeConfig::default(),
        }
    }
}

impl GatewayConfig {
    /// For a request.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// For one call to a service.
    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    /// The networks of the proxies; what is none was reported by [`Section::validate`].
    pub(crate) fn trusted_proxies(&self) -> Vec<IpNet> {
        self.trusted_proxies.iter().filter_map(|text| network(text)).collect()
    }
}

/// A network, or one address.
fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Whether this is an origin as browsers send it: scheme, host, and port unless it is the scheme's own.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*', ' ']))
        && text.to_ascii_lowercase() == text
        && HeaderValue::from_str(text).is_ok()
}

impl Section for GatewayConfig {
    const NAME: &'static str = "gateway";

    fn validate(&self, problems: &mut Problems) {
        for origin in &self.cors_origins {
            if !is_origin(origin) {
                problems.push(
                    "cors_origins",
                    format!("\"{origin}\" is no origin; write https://host or http://host:port in small letters"),
                );
            }
        }
        for text in &self.trusted_proxies {
            if network(text).is_none() {
                problems.push("trusted_proxies", format!("\"{text}\" is no network; write 10.0.0.0/8 or an address"));
            }
        }
        let web_dir = &self.web_dir;
        if !web_dir.as_os_str().is_empty() && !web_dir.join("index.html").is_file() {
            problems.push("web_dir", format!("{} has no index.html", web_dir.display()));
        }
        problems.range("body_bytes_max", self.body_bytes_max, 64 * 1024, 64 << 20);
        problems.range("uri_bytes_max", self.uri_bytes_max, 1024, 64 * 1024);
        problems.range("requests_max", self.requests_max, 1, 1_000_000);
        problems.range("request_timeout_ms", self.request_timeout_ms, 100, 600_000);
        problems.range("call_timeout_ms", self.call_timeout_ms, 10, self.request_timeout_ms);
        problems.range("rooms_listed_max", self.rooms_listed_max, 100, 100_000);
        problems.range("exports_max", self.exports_max, 1, 10_000);
        problems.range("device_token_secs", self.device_token_secs, 60, 400 * 24 * 3_600);
        self.tls.validate("tls.", problems);
        self.serve.validate("serve.", problems);
        self.rates.validate("rates.", problems);
        self.realtime.validate("realtime.", problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_every_bad_value_is_named() {
        let mut loader = Loader::for_test("");
        Config::load(&mut loader);
        loader.finish().expect("defaults");

        let mut loader = Loader::for_test(
            r#"
            [gateway]
            cors_origins = ["https://good.example", "*", "https://host/path", "HTTPS://UP.example"]
            trusted_proxies = ["10.0.0.0/8", "::1", "10.0.0.0/99"]
            web_dir = "/nonexistent"
            body_bytes_max = 1
            rates.auth_address.burst = 0
            rates.rest_account.kind = "sliding_window"
            tls.cert_file = "tls.crt"
            "#,
        );
        Config::load(&mut loader);
        let text = loader.finish().expect_err("bad").to_string();
        for part in [
            "\"*\"",
            "host/path",
            "HTTPS://UP",
            "10.0.0.0/99",
            "/nonexistent",
            "body_bytes_max",
            "rates.auth_address.burst",
            "tls.key_file",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("good.example") && !text.contains("::1"), "{text}");
    }
}
