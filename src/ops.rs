//! The operations port: `/health` (the process lives; nothing outside is asked), `/ready` (each dependency with its
//! latency) and `/metrics` (Prometheus' text). What a process depends on it says with [`Probe`]s; what it waits for when
//! it starts is [`Awaited`]. It is not for the public: it has no authentication.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::join_all;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use tokio_util::sync::CancellationToken;

/// How long a probe may take when nothing else is set: a dependency that needs longer cannot serve requests in time.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The status of a check without which the process is not ready.
const FAILED: &str = "failed";

/// The most characters of a probe's error that are shown.
const ERROR_CHARS_MAX: usize = 300;

/// Something that a process cannot work without.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Its name in `/ready`: `store`, `auth-svc`.
    fn name(&self) -> &str;

    /// Asks it for the least that shows that it works.
    ///
    /// # Errors
    /// One sentence that may be shown to an operator. Passwords in URLs are cut out of it.
    async fn check(&self) -> Result<(), String>;

    /// What an operator should know of it besides; asked for after the check.
    fn note(&self) -> Option<String> {
        None
    }
}

/// The probe of something that a process has only once it has started. The operations port answers from the beginning,
/// and names this as missing until it is [there](Awaited::arrived).
pub struct Awaited {
    name: &'static str,
    probe: OnceLock<Arc<dyn Probe>>,
}

impl Awaited {
    /// Waits under the name that the probe has in `/ready`.
    #[must_use]
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, probe: OnceLock::new() })
    }

    /// It is there: from now on this probe asks it. Only the first one counts.
    pub fn arrived(&self, probe: Arc<dyn Probe>) {
        self.probe.get_or_init(|| probe);
    }
}

#[async_trait]
impl Probe for Awaited {
    fn name(&self) -> &str {
        self.name
    }

    async fn check(&self) -> Result<(), String> {
        match self.probe.get() {
            Some(probe) => probe.check().await,
            None => Err("not there yet: this process is starting".to_owned()),
        }
    }

    fn note(&self) -> Option<String> {
        self.probe.get().and_then(|probe| probe.note())
    }
}

/// What it means for the process when a probe fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It cannot serve.
    Required,
    /// It serves on, though not as well.
    Wanted,
}

/// What the operations port of one process shows.
#[derive(Clone)]
pub struct Ops {
    service: &'static str,
    version: &'static str,
    started: Instant,
    probes: Vec<(Need, Arc<dyn Probe>)>,
    probe_timeout: Duration,
    metrics: Option<PrometheusHandle>,
    shutdown: CancellationToken,
}

impl Ops {
    /// For a service of this name and version. Once `shutdown` is cancelled it is not ready any more.
    #[must_use]
    pub fn new(service: &'static str, version: &'static str, shutdown: CancellationToken) -> Self {
        let (probes, probe_timeout) = (Vec::new(), PROBE_TIMEOUT);
        Self { service, version, started: Instant::now(), probes, probe_timeout, metrics: None, shutdown }
    }

    /// Adds a dependency.
    #[must_use]
    pub fn probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probes.push((Need::Required, probe));
        self
    }

    /// Adds something, if there is something, that the process does without when it must: while it fails the process is
    /// degraded, and ready.
    #[must_use]
    pub fn wanted(mut self, probe: Option<Arc<dyn Probe>>) -> Self {
        self.probes.extend(probe.map(|probe| (Need::Wanted, probe)));
        self
    }

    /// How long each probe may take; 2 s by default.
    #[must_use]
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    /// Where `/metrics` comes from; without it the page is empty.
    #[must_use]
    pub fn metrics(mut self, metrics: Option<PrometheusHandle>) -> Self {
        self.metrics = metrics;
        self
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(render_metrics))
            .with_state(Arc::new(self))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    service: &'static str,
    version: &'static str,
    uptime_ms: u128,
}

async fn health(State(ops): State<Arc<Ops>>) -> Json<Health> {
    let (service, version) = (ops.service, ops.version);
    Json(Health { status: "ok", service, version, uptime_ms: ops.started.elapsed().as_millis() })
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: Checks,
}

/// The checks as one object, in the order in which the probes were added.
struct Checks(Vec<(String, Check)>);

impl Serialize for Checks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, check)| map.serialize_entry(name, check))?;
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    status: &'static str,
    latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn ready(State(ops): State<Arc<Ops>>) -> (StatusCode, Json<Readiness>) {
    let checks = join_all(ops.probes.iter().map(|(need, probe)| check(*need, probe.as_ref(), ops.probe_timeout))).await;
    let status = if ops.shutdown.is_cancelled() {
        "draining"
    } else if checks.iter().all(|(_, check)| check.status != FAILED) {
        "ready"
    } else {
        "unavailable"
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { status, checks: Checks(checks) }))
}

async fn check(need: Need, probe: &dyn Probe, timeout: Duration) -> (String, Check) {
    let begun = Instant::now();
    let error = match tokio::time::timeout(timeout, probe.check()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(safe(&error)),
        Err(_) => Some(format!("no answer within {} ms", timeout.as_millis())),
    };
    let latency_ms = (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let status = match need {
        _ if error.is_none() => "ok",
        Need::Required => FAILED,
        Need::Wanted => "degraded",
    };
    (probe.name().to_owned(), Check { status, latency_ms, note: probe.note(), error })
}

/// The text without user names and passwords of URLs: `postgres://me:secret@db/x` becomes `postgres://…@db/x`.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'')).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user_end) => {
                out.push('…');
                &after[user_end..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    if let Some((cut, _)) = out.char_indices().nth(ERROR_CHARS_MAX) {
        out.truncate(cut);
    }
    out
}

async fn render_metrics(State(ops): State<Arc<Ops>>) -> Response {
    let text = ops.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::body::{Body, to_bytes};
    use http::Request;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    enum Fake {
        Good,
        Failing,
        Hanging,
    }

    #[async_trait]
    impl Probe for Fake {
        fn name(&self) -> &str {
            match self {
                Self::Good => "good",
                Self::Failing => "failing",
                Self::Hanging => "hanging",
            }
        }

        async fn check(&self) -> Result<(), String> {
            match self {
                Self::Good => Ok(()),
                Self::Failing => Err("cannot reach postgres://me:secret@db:5432/x as \"a@b\"".to_owned()),
                Self::Hanging => pending().await,
            }
        }
    }

    fn ops(shutdown: &CancellationToken) -> Ops {
        Ops::new("a test", "1.2.3", shutdown.clone()).probe_timeout(Duration::from_millis(20))
    }

    async fn ask(ops: Ops, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).expect("request");
        let response = ops.router().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("body");
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    async fn ask_json(ops: Ops, path: &str) -> (StatusCode, Value) {
        let (status, body) = ask(ops, path).await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn ready_names_the_probe_that_fails_and_the_one_that_hangs() {
        let shutdown = CancellationToken::new();
        let all =
            ops(&shutdown).probe(Arc::new(Fake::Good)).probe(Arc::new(Fake::Failing)).probe(Arc::new(Fake::Hanging));
        let (status, body) = ask_json(all, "/ready").await;
        assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &Value::from("unavailable")));
        assert_eq!(body["checks"]["good"]["status"], "ok");
        assert!(body["checks"]["good"]["latencyMs"].is_number() && body["checks"]["good"].get("error").is_none());
        assert_eq!(body["checks"]["failing"]["error"], "cannot reach postgres://…@db:5432/x as \"a@b\"");
        assert_eq!(body["checks"]["hanging"]["error"], "no answer within 20 ms");
    }

    #[tokio::test]
    async fn ready_is_200_when_all_is_well_and_503_once_stopping() {
        let shutdown = CancellationToken::new();
        let good = ops(&shutdown).probe(Arc::new(Fake::Good));
        let (status, body) = ask_json(good.clone(), "/ready").await;
        assert_eq!((status, &body["status"]), (StatusCode::OK, &Value::from("ready")));
        shutdown.cancel();
        let (status, body) = ask_json(good, "/ready").await;
        assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &Value::from("draining")));
    }

    #[tokio::test]
    async fn what_is_only_wanted_degrades_a_process_that_stays_ready() {
        let degraded = ops(&CancellationToken::new()).probe(Arc::new(Fake::Good)).wanted(Some(Arc::new(Fake::Failing)));
        let (status, body) = ask_json(degraded.clone(), "/ready").await;
        assert_eq!((status, &body["status"]), (StatusCode::OK, &Value::from("ready")));
        assert_eq!(body["checks"]["failing"]["status"], "degraded");
        assert!(body["checks"]["failing"]["error"].is_string());
        let (status, _) = ask_json(degraded.probe(Arc::new(Fake::Hanging)), "/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn what_is_awaited_is_named_until_it_is_there() {
        let awaited = Awaited::new("good");
        let starting = ops(&CancellationToken::new()).probe(awaited.clone());
        let (status, body) = ask_json(starting.clone(), "/ready").await;
        assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &Value::from("unavailable")));
        let error = body["checks"]["good"]["error"].as_str().expect("an error");
        assert!(error.contains("not there yet"), "{error}");
        assert_eq!(ask(starting.clone(), "/health").await.0, StatusCode::OK);
        awaited.arrived(Arc::new(Fake::Good));
        assert_eq!(ask(starting, "/ready").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn health_asks_no_probe_and_metrics_are_there_without_a_recorder() {
        let shutdown = CancellationToken::new();
        let hanging = ops(&shutdown).probe(Arc::new(Fake::Hanging));
        let (status, body) = ask_json(hanging.clone(), "/health").await;
        assert_eq!((status, &body["status"], &body["version"]), (StatusCode::OK, &"ok".into(), &"1.2.3".into()));
        assert_eq!(ask(hanging, "/metrics").await, (StatusCode::OK, String::new()));
    }
}
