//! How spans are exported. Off until an endpoint is given.

use http::Uri;
use serde::{Deserialize, Serialize};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use crate::config::{Problems, Secret};

/// The export of spans to a collector, over OTLP/gRPC.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// Where the collector is: `http://host:4317`, or `https:` with a certificate of a public authority. Default empty:
    /// nothing is exported, and spans cost next to nothing.
    pub endpoint: String,
    /// What each export carries beside its spans: `name=value`, several separated by commas. A secret, because it is
    /// where a collector's key is. Default empty.
    pub headers: Secret,
    /// Which part of the traces that begin here is sampled, 0 to 1. A caller's own decision is followed, and a request
    /// that fails by our fault is exported in any case. Default 0.1: one in ten shows what is slow, at a tenth of the
    /// cost; 1 while something is looked for.
    pub sample_ratio: f64,
    /// Spans that wait to be exported; more are dropped. Default 8,192, at about a kilobyte each: what a process that
    /// samples everything makes in a second.
    pub queue_max: usize,
    /// Spans of one export. Default 512: a few hundred kilobytes, an eighth of what a collector takes in one message.
    pub batch_max: usize,
    /// Milliseconds for which spans gather before they are exported. Default 500: soon enough for whoever looks at a
    /// trace, and at most two exports a second when there is little to export.
    pub batch_ms: u64,
    /// Milliseconds that one export may take. Default 5,000: a collector that needs longer is as good as away.
    pub timeout_ms: u64,
    /// Milliseconds for which a process that ends waits for its last spans to be taken. Default 2,000: a collector that
    /// is away must not hold up a restart.
    pub flush_ms: u64,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: Secret::default(),
            sample_ratio: 0.1,
            queue_max: 8_192,
            batch_max: 512,
            batch_ms: 500,
            timeout_ms: 5_000,
            flush_ms: 2_000,
        }
    }
}

impl OtlpConfig {
    /// Whether anything is exported.
    pub(in crate::telemetry) fn is_on(&self) -> bool {
        !self.endpoint.is_empty()
    }

    /// Reports values that make no sense; `prefix` is where these settings stand.
    pub(in crate::telemetry) fn validate(&self, prefix: &str, problems: &mut Problems) {
        let field = |name: &str| format!("{prefix}{name}");
        if self.is_on() && !is_an_endpoint(&self.endpoint) {
            problems.push(field("endpoint"), "must be http://host:port or https://host:port; keys belong into headers");
        }
        if let Err(message) = self.metadata() {
            problems.push(field("headers"), message);
        }
        problems.range(&field("sample_ratio"), self.sample_ratio, 0.0, 1.0);
        problems.range(&field("queue_max"), self.queue_max, 1, 1 << 20);
        problems.range(&field("batch_max"), self.batch_max, 1, 4_096);
        problems.range(&field("batch_ms"), self.batch_ms, 10, 60_000);
        problems.range(&field("timeout_ms"), self.timeout_ms, 10, 60_000);
        problems.range(&field("flush_ms"), self.flush_ms, 0, 60_000);
    }

    /// The headers as an export carries them.
    ///
    /// # Errors
    /// What is wrong with them, without showing any.
    pub(super) fn metadata(&self) -> Result<MetadataMap, &'static str> {
        let mut metadata = MetadataMap::new();
        for header in self.headers.expose().split(',').map(str::trim).filter(|header| !header.is_empty()) {
            let (name, value) = header.split_once('=').ok_or("must be name=value, separated by commas")?;
            let name = name.trim().to_ascii_lowercase();
            let name =
                AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_shown| "has a name that is no header's")?;
            let mut value =
                AsciiMetadataValue::try_from(value.trim()).map_err(|_shown| "has a value that no header can have")?;
            value.set_sensitive(true);
            metadata.insert(name, value);
        }
        Ok(metadata)
    }
}

fn is_an_endpoint(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        scheme && uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) && uri.query().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &OtlpConfig) -> String {
        let mut problems = Problems::default();
        config.validate("otlp.", &mut problems);
        format!("{problems:?}")
    }

    #[test]
    fn bad_settings_are_named_and_no_header_is_shown() {
        let none = problems(&OtlpConfig::default());
        assert_eq!(none, "Problems([])");
        for endpoint in ["collector:4317", "ftp://a", "http://key@a:1", "http://a:1/?key=b", "http://"] {
            let config = OtlpConfig { endpoint: endpoint.into(), ..OtlpConfig::default() };
            assert!(problems(&config).contains("otlp.endpoint"), "{endpoint}");
        }
        for headers in ["hunter2", "a b=hunter2", "a=hunter2\u{1}", "=hunter2"] {
            let config = OtlpConfig { headers: headers.into(), ..OtlpConfig::default() };
            let text = problems(&config);
            assert!(text.contains("otlp.headers") && !text.contains("hunter2"), "{headers}: {text}");
        }
        let config = OtlpConfig { sample_ratio: f64::NAN, batch_max: 0, ..OtlpConfig::default() };
        assert!(problems(&config).contains("otlp.batch_max") && problems(&config).contains("otlp.sample_ratio"));
    }

    #[test]
    fn headers_are_read_as_the_standard_variable_has_them() {
        let config = OtlpConfig { headers: "Authorization=Bearer a=b, x-scope = one".into(), ..OtlpConfig::default() };
        let metadata = config.metadata().expect("good");
        assert_eq!(metadata.get("authorization").expect("there"), "Bearer a=b");
        assert_eq!(metadata.get("x-scope").expect("there"), "one");
    }
}
