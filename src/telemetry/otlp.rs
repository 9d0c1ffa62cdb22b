//! Spans on their way to a collector, over OTLP/gRPC: which are kept, how many may wait, and what becomes of them when the
//! collector is away, slow or refuses. That costs spans, which are counted, and never a request: a span that ends is put
//! into a bounded queue or dropped, and a thread of its own does all the rest. How the export is set is in
//! `telemetry/otlp/config.rs`.

use std::{io, sync::mpsc::sync_channel, thread, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, Status, TraceContextExt as _, TraceId, TraceState},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        Sampler, SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanExporter as _, SpanProcessor,
    },
};
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    time::{sleep, timeout},
};
use tonic::transport::ClientTlsConfig;

use super::TelemetryError;
use crate::client::Backoff;

mod config;

pub use config::OtlpConfig;

/// The pauses after exports that failed: a collector that is restarted is soon used again, one that is away is left alone.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Which spans are recorded: all of them, since each may fail, and a failed one is exported whatever was drawn. Which are
/// sampled is decided where a trace begins, by the ratio, and followed from there on.
#[derive(Clone, Debug)]
pub(super) struct Choice(Sampler);

impl Choice {
    pub(super) fn new(config: &OtlpConfig) -> Self {
        Self(Sampler::TraceIdRatioBased(config.sample_ratio))
    }
}

impl ShouldSample for Choice {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let of_parent = parent.filter(|parent| parent.has_active_span()).map(|parent| {
            let span = parent.span();
            let span = span.span_context();
            (span.is_sampled(), span.trace_state().clone())
        });
        let (sampled, trace_state) = of_parent.unwrap_or_else(|| {
            let drawn = self.0.should_sample(None, trace_id, name, kind, attributes, links);
            (drawn.decision == SamplingDecision::RecordAndSample, TraceState::default())
        });
        let decision = if sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::RecordOnly };
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}

/// Asks for all that waits to be exported, and is told when it is.
type Ask = std::sync::mpsc::SyncSender<()>;

/// Takes spans that have ended.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    queue: mpsc::Sender<SpanData>,
    asks: mpsc::Sender<Ask>,
    /// How long anybody waits for what is left.
    flush: Duration,
}

impl Outlet {
    /// Starts the thread that exports.
    ///
    /// # Errors
    /// When the exporter cannot be made, or the system refuses a thread.
    pub(super) fn start(config: &OtlpConfig, resource: &Resource) -> Result<Self, TelemetryError> {
        let (queue, spans) = mpsc::channel(config.queue_max);
        let (asks, asked) = mpsc::channel(1);
        let (made, ready) = sync_channel(1);
        let (config, resource) = (config.clone(), resource.clone());
        let flush = Duration::from_millis(config.flush_ms);
        thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || {
                // A runtime of its own: spans are exported also while the process' own is busy, or has ended.
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(made.send(Err(TelemetryError::Thread(error)))),
                };
                runtime.block_on(async {
                    match Exporter::new(&config, &resource, spans, asked) {
                        Ok(exporter) => {
                            drop(made.send(Ok(())));
                            exporter.run().await;
                        }
                        Err(error) => drop(made.send(Err(error))),
                    }
                });
            })
            .map_err(TelemetryError::Thread)?;
        ready.recv().unwrap_or_else(|_| Err(TelemetryError::Thread(io::Error::other("it ended"))))?;
        Ok(Self { queue, asks, flush })
    }

    /// Exports what waits, as far as that is possible within the time that is configured for it.
    fn flush_within(&self, limit: Duration) -> OTelSdkResult {
        let (done, is_done) = sync_channel(1);
        let late = || OTelSdkError::Timeout(limit);
        self.asks.try_send(done).map_err(|_full| late())?;
        is_done.recv_timeout(limit).map_err(|_late| late())
    }
}

impl SpanProcessor for Outlet {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let kept = span.span_context.is_sampled() || matches!(span.status, Status::Error { .. });
        if kept && self.queue.try_send(span).is_err() {
            count("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.flush_within(self.flush)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.flush_within(timeout.min(self.flush))
    }
}

/// What became of so many spans: `exported`, `failed`, `queue_full`.
fn count(outcome: &'static str, spans: usize) {
    metrics::counter!("switchboard_telemetry_spans_total", "outcome" => outcome).increment(spans as u64);
}

/// The end of the queue.
struct Exporter {
    exporter: SpanExporter,
    spans: mpsc::Receiver<SpanData>,
    asked: mpsc::Receiver<Ask>,
    batch_max: usize,
    gather: Duration,
    limit: Duration,
    pauses: Backoff,
    failing: bool,
}

impl Exporter {
    fn new(
        config: &OtlpConfig,
        resource: &Resource,
        spans: mpsc::Receiver<SpanData>,
        asked: mpsc::Receiver<Ask>,
    ) -> Result<Self, TelemetryError> {
        let limit = Duration::from_millis(config.timeout_ms);
        let mut builder = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(config.endpoint.clone())
            .with_timeout(limit)
            .with_metadata(config.metadata().unwrap_or_default());
        if config.endpoint.starts_with("https:") {
            builder = builder.with_tls_config(ClientTlsConfig::new().with_webpki_roots());
        }
        let mut exporter = builder.build().map_err(TelemetryError::Otlp)?;
        exporter.set_resource(resource);
        let (batch_max, gather) = (config.batch_max, Duration::from_millis(config.batch_ms));
        let pauses = Backoff::new(PAUSES.0, PAUSES.1);
        Ok(Self { exporter, spans, asked, batch_max, gather, limit, pauses, failing: false })
    }

    /// Exports until nobody can put anything into the queue any more.
    async fn run(mut self) {
        loop {
            // Idle until a span comes; then more are waited for, so that a busy process wakes this thread rarely.
            let mut batch = Vec::new();
            // Who can ask for nothing any more is not waited for, or this would turn without end.
            let mut asked = tokio::select! {
                biased;
                Some(ask) = self.asked.recv() => Some(ask),
                count = self.spans.recv_many(&mut batch, self.batch_max) => {
                    if count == 0 {
                        return;
                    }
                    tokio::select! {
                        biased;
                        Some(ask) = self.asked.recv() => Some(ask),
                        () = sleep(self.gather) => None,
                    }
                }
            };
            loop {
                self.fill(&mut batch);
                if batch.is_empty() {
                    break;
                }
                if !self.export(std::mem::take(&mut batch)).await && asked.is_none() {
                    // Meanwhile the queue fills, and what comes after that is dropped and counted.
                    asked = tokio::select! {
                        biased;
                        Some(ask) = self.asked.recv() => Some(ask),
                        () = sleep(self.pauses.step()) => None,
                    };
                }
            }
            if let Some(ask) = asked {
                // Whoever asked may have given up.
                ask.send(()).ok();
            }
        }
    }

    fn fill(&mut self, batch: &mut Vec<SpanData>) {
        while batch.len() < self.batch_max {
            match self.spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Exports a batch once. What the collector does not take is lost: kept, it would only push out newer spans. One line
    /// tells of the first failure, and one that it is over.
    async fn export(&mut self, batch: Vec<SpanData>) -> bool {
        let spans = batch.len();
        let result = match timeout(self.limit, self.exporter.export(batch)).await {
            Ok(result) => result,
            Err(_) => Err(OTelSdkError::Timeout(self.limit)),
        };
        match result {
            Ok(()) => {
                count("exported", spans);
                self.pauses.reset();
                if std::mem::take(&mut self.failing) {
                    tracing::info!("The collector takes spans again");
                }
                true
            }
            Err(error) => {
                count("failed", spans);
                if !std::mem::replace(&mut self.failing, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "The collector takes no spans; they are dropped until it does");
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
