//! Logs, traces and metrics of a process. [`init`] installs them once; what a request leaves behind is in
//! `telemetry/request.rs`, how a line looks in `telemetry/log.rs`, how traces cross processes in `telemetry/trace.rs`, how
//! they get to a collector in `telemetry/otlp.rs`.
//! No token, password, e-mail address, IP address or message body goes into any of them.

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
    thread,
    time::Duration,
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider, SpanProcessor as _},
};
use serde::{Deserialize, Serialize};
use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _, Registry,
    filter::{ParseError, Targets, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};
use uuid::Uuid;

mod log;
mod otlp;
mod request;
#[cfg(test)]
mod tests;
mod trace;

pub use otlp::OtlpConfig;
pub use request::{Failure, LoggedBody, RequestLog, RequestLogService, ResponseFuture, Route};
pub use trace::{Origin, continued, inject, inject_metadata, is_sampled, number, sampled_traceparent, trace_id};

use self::otlp::{Choice, Outlet};
use crate::config::Problems;

/// The time between two clean-ups of the metrics. Histograms keep every value until then.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Upper bounds in seconds of all histograms of durations: from a fast read to the longest deadline.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Upper bounds of histograms of numbers: batches are that large at the most.
const COUNTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// A line for people.
    Human,
}

/// What to log, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// The least level logged (`error`, `warn`, `info`, `debug`, `trace`, `off`), by target when wanted:
    /// `info,request=warn` leaves out the lines of good requests, `info,sqlx=debug` shows statements. Default `info`.
    pub filter: String,
    /// `auto` (for people on a terminal, else JSON), `json` or `human`. Default `auto`.
    pub format: LogFormat,
    /// Traces to a collector.
    pub otlp: OtlpConfig,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto, otlp: OtlpConfig::default() }
    }
}

impl TelemetryConfig {
    /// Reports values that make no sense; `prefix` is where these settings stand in the section: `telemetry.`.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        if let Err(error) = self.targets() {
            problems.push(format!("{prefix}filter"), error.to_string());
        }
        self.otlp.validate(&format!("{prefix}otlp."), problems);
    }

    /// `EnvFilter` would take the same text and more (filters on fields of spans), but at a price for every span that is
    /// entered; and what nothing matches it drops, information included.
    fn targets(&self) -> Result<Targets, TelemetryError> {
        self.filter.parse().map_err(|source| TelemetryError::Filter { filter: self.filter.clone(), source })
    }

    fn style(&self) -> log::Style {
        let terminal = io::stderr().is_terminal();
        match self.format {
            LogFormat::Json => log::Style::Json,
            LogFormat::Auto if !terminal => log::Style::Json,
            LogFormat::Auto | LogFormat::Human => {
                log::Style::Human { colour: terminal && std::env::var_os("NO_COLOR").is_none() }
            }
        }
    }
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error(
        "the log filter \"{filter}\" is not understood ({source}); write a level, or target=level, separated by commas"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The recorder of metrics could not be made.
    #[error("the metrics cannot be recorded: {0}")]
    Metrics(#[from] BuildError),
    /// A thread that looks after telemetry could not be started.
    #[error("a thread of the telemetry cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// The export of spans could not be set up.
    #[error("spans cannot be exported as mesh.telemetry.otlp says: {0}")]
    Otlp(#[source] ExporterBuildError),
}

/// Keeps telemetry going. Spans that are not exported yet are exported when it is dropped, within their limit of time.
#[derive(Debug)]
pub struct Guard {
    outlet: Option<Outlet>,
    metrics: PrometheusHandle,
}

impl Guard {
    /// Where `/metrics` comes from.
    #[must_use]
    pub fn metrics(&self) -> PrometheusHandle {
        self.metrics.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Not shut down: another mesh of this process may go on.
        if let Some(outlet) = &self.outlet
            && outlet.force_flush().is_err()
        {
            tracing::warn!("The last spans may not have been exported");
        }
    }
}

/// The process' own recorder of metrics. The `metrics` crate has one place for it in a process, so there is one here.
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs logs, traces and metrics. When they are installed already (two meshes in one process) those stay.
///
/// # Errors
/// When the filter cannot be understood, spans cannot be exported as configured, or the system refuses a thread.
pub fn init(config: &TelemetryConfig, service: &str) -> Result<Guard, TelemetryError> {
    let metrics = metrics()?;
    let filter = config.targets()?;
    let resource = resource(service);
    let outlet = if config.otlp.is_on() { Some(Outlet::start(&config.otlp, &resource)?) } else { None };
    let provider = provider(&config.otlp, resource, outlet.clone());
    let installed = subscriber(filter, config.style(), service, &provider, io::stderr).try_init().is_ok();
    if !installed {
        tracing::debug!("Telemetry is installed already");
    }
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(Guard { outlet: outlet.filter(|_| installed), metrics })
}

/// Who makes the spans, beside what `OTEL_RESOURCE_ATTRIBUTES` says.
fn resource(service: &str) -> Resource {
    Resource::builder()
        .with_service_name(service.to_owned())
        .with_attributes([
            KeyValue::new("service.namespace", "switchboard"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
        ])
        .build()
}

/// Without an exporter spans have ids but go nowhere: a root span says that it is not sampled, which is true and costs
/// next to nothing, while the decision of a caller that samples is passed on.
fn provider(config: &OtlpConfig, resource: Resource, outlet: Option<Outlet>) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder().with_resource(resource);
    match outlet {
        Some(outlet) => builder.with_sampler(Choice::new(config)).with_span_processor(outlet),
        None => builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff))),
    }
    .build()
}

/// The subscriber with a writer of choice. The log's filter is the log's alone: a process that logs warnings only still
/// passes traces on.
fn subscriber<W>(
    filter: Targets,
    style: log::Style,
    service: &str,
    provider: &SdkTracerProvider,
    writer: W,
) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    // Each of these attributes would be made for every span, and only a developer of this code could use them.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("switchboard"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    Registry::default()
        .with(traces.with_filter(spans))
        .with(log::LogLayer::new(writer, style, service).with_filter(filter))
}

fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    // Two threads may come here at once: the loser's recorder is refused and dropped, and both use the winner's.
    if let Some(handle) = METRICS.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_entries".to_owned()), &COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_orders".to_owned()), &COUNTS)?
        .build_recorder();
    let handle = recorder.handle();
    if METRICS.set(handle.clone()).is_ok() {
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("Another recorder of metrics is installed; /metrics stays empty");
        }
        describe();
        let upkeep = handle.clone();
        thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                loop {
                    thread::sleep(UPKEEP_EVERY);
                    upkeep.run_upkeep();
                }
            })
            .map_err(TelemetryError::Thread)?;
        return Ok(handle);
    }
    Ok(METRICS.get().cloned().unwrap_or(handle))
}

fn describe() {
    metrics::describe_counter!(
        "switchboard_telemetry_spans_total",
        "Spans by what became of them: exported, failed, or dropped because the queue was full"
    );
    metrics::describe_gauge!("switchboard_connections_open", "Open connections, upgraded ones included, by listener");
    metrics::describe_counter!(
        "switchboard_connections_full_total",
        "Times that a new connection had to wait for a place"
    );
    metrics::describe_counter!(
        "switchboard_connections_stalled_total",
        "Connections ended because the peer stopped reading"
    );
    metrics::describe_histogram!("http_server_request_duration_seconds", "HTTP requests by method, route and status");
    metrics::describe_histogram!("rpc_server_duration_seconds", "gRPC calls by service, method and status code");
}
