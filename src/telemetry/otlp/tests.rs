//! The way of spans to a collector that is there, away, silent or refuses.

use std::{sync::Mutex, time::Instant};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, Tracer as _, TracerProvider as _};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response};

use super::*;

/// What a collector does with an export.
#[derive(Clone, Copy)]
enum Manner {
    Take,
    Refuse,
    NeverAnswer,
}

struct Collector {
    manner: Manner,
    spans: std::sync::Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
        match self.manner {
            Manner::Take => {}
            Manner::Refuse => return Err(tonic::Status::unauthenticated("no key")),
            Manner::NeverAnswer => std::future::pending().await,
        }
        assert_eq!(request.metadata().get("x-key").map(|key| key.as_bytes()), Some(&b"k"[..]));
        let of_scopes = request.into_inner().resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
        let names = of_scopes.flat_map(|spans| spans.spans).map(|span| span.name);
        self.spans.lock().expect("lock").extend(names);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

type Names = std::sync::Arc<Mutex<Vec<String>>>;

async fn collector(manner: Manner) -> (OtlpConfig, Names, AbortOnDropHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let endpoint = format!("http://{}", listener.local_addr().expect("address"));
    let names = Names::default();
    let service = TraceServiceServer::new(Collector { manner, spans: names.clone() });
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    let task = tokio::spawn(async { serving.await.expect("served") });
    let config =
        OtlpConfig { endpoint, headers: "x-key=k".into(), batch_ms: 10, sample_ratio: 1.0, ..OtlpConfig::default() };
    (config, names, AbortOnDropHandle::new(task))
}

fn provider(config: &OtlpConfig) -> (SdkTracerProvider, Outlet) {
    let resource = Resource::builder_empty().build();
    let outlet = Outlet::start(config, &resource).expect("started");
    let provider =
        SdkTracerProvider::builder().with_sampler(Choice::new(config)).with_span_processor(outlet.clone()).build();
    (provider, outlet)
}

/// Flushing blocks its thread, and the collector needs one.
async fn flush(outlet: &Outlet) -> OTelSdkResult {
    let outlet = outlet.clone();
    tokio::task::spawn_blocking(move || outlet.force_flush()).await.expect("no panic")
}

#[tokio::test]
async fn the_exporter_ends_with_those_who_could_give_it_spans() {
    let (config, ..) = collector(Manner::Take).await;
    let ((queue, spans), (asks, asked)) = (mpsc::channel(1), mpsc::channel(1));
    let exporter = Exporter::new(&config, &Resource::builder_empty().build(), spans, asked).expect("made");
    drop((queue, asks));
    timeout(Duration::from_secs(60), exporter.run()).await.expect("it ends");
}

#[test]
fn the_ratio_decides_where_a_trace_begins_and_its_caller_everywhere_else() {
    let decide = |ratio: f64, parent: Option<bool>| {
        let choice = Choice::new(&OtlpConfig { sample_ratio: ratio, ..OtlpConfig::default() });
        let context = parent.map(|sampled| {
            let flags = TraceFlags::default().with_sampled(sampled);
            let (trace, span) = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]));
            let parent = SpanContext::new(trace, span, flags, true, TraceState::default());
            Context::new().with_remote_span_context(parent)
        });
        let trace = TraceId::from_bytes([1; 16]);
        choice.should_sample(context.as_ref(), trace, "a", &SpanKind::Server, &[], &[]).decision
    };
    let (sampled, recorded) = (SamplingDecision::RecordAndSample, SamplingDecision::RecordOnly);
    assert_eq!((decide(1.0, None), decide(0.0, None)), (sampled.clone(), recorded.clone()));
    assert_eq!((decide(0.0, Some(true)), decide(1.0, Some(false))), (sampled, recorded));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sampled_is_exported_and_of_the_rest_what_failed() {
    let (config, names, _collector) = collector(Manner::Take).await;
    let (sampling, _outlet) = provider(&config);
    let (sparing, outlet) = provider(&OtlpConfig { sample_ratio: 0.0, ..config });
    drop(sampling.tracer("t").start("sampled"));
    drop(sparing.tracer("t").start("not sampled"));
    let mut failed = sparing.tracer("t").start("failed");
    opentelemetry::trace::Span::set_status(&mut failed, Status::error("x"));
    drop(failed);
    flush(&outlet).await.expect("flushed");
    flush(&_outlet).await.expect("flushed");
    let mut names = names.lock().expect("lock").clone();
    names.sort();
    assert_eq!(names, ["failed", "sampled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_silent_or_refuses_costs_spans_and_no_time() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port").local_addr().expect("address");
    let (refusing, _, _one) = collector(Manner::Refuse).await;
    let (silent, _, _two) = collector(Manner::NeverAnswer).await;
    let away = OtlpConfig { endpoint: format!("http://{nobody}"), ..refusing.clone() };
    for (what, config) in [("away", away), ("refusing", refusing), ("silent", silent)] {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let config = OtlpConfig { queue_max: 4, flush_ms: 200, timeout_ms: 60_000, ..config };
        let (provider, outlet) = provider(&config);
        let tracer = provider.tracer("t");
        metrics::with_local_recorder(&recorder, || (0..1_000).for_each(|_| drop(tracer.start("a span"))));
        let dropped = recorder.handle().render();
        assert!(dropped.contains("switchboard_telemetry_spans_total{outcome=\"queue_full\"}"), "{what}: {dropped}");
        let begun = Instant::now();
        let flushed = flush(&outlet).await;
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: it waits for the collector");
        assert!(flushed.is_err() || what != "silent", "{what}: {flushed:?}");
    }
}
