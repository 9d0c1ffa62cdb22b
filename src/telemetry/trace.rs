//! Trace context across processes and queues, as W3C Trace Context has it: read from a request, written into a call, kept
//! beside work that waits, and the current trace's id. The spans of requests are made by `telemetry/request.rs`.

use http::{HeaderMap, HeaderValue, header::HeaderName};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Writes the current span's context into the headers of a call, in place of what is there.
pub fn inject(headers: &mut HeaderMap) {
    let Some((parent, state)) = current(encode) else { return };
    if let Ok(parent) = HeaderValue::try_from(parent) {
        headers.insert(TRACEPARENT, parent);
    }
    match HeaderValue::try_from(state) {
        Ok(state) if !state.is_empty() => {
            headers.insert(TRACESTATE, state);
        }
        Ok(_) | Err(_) => {}
    }
}

/// Like [`inject`], for the metadata of a gRPC call.
pub fn inject_metadata(metadata: &mut MetadataMap) {
    let Some((parent, state)) = current(encode) else { return };
    if let Ok(parent) = MetadataValue::try_from(parent) {
        metadata.insert(TRACEPARENT, parent);
    }
    match MetadataValue::try_from(state) {
        Ok(state) if !state.is_empty() => {
            metadata.insert(TRACESTATE, state);
        }
        Ok(_) | Err(_) => {}
    }
}

/// The id of the current span's trace, 32 hexadecimal digits; none outside of a request.
#[must_use]
pub fn trace_id() -> Option<String> {
    current(|span| span.trace_id().to_string())
}

/// Whether the current span's trace is sampled. What only a sampled trace wants is not made for others.
#[must_use]
pub fn is_sampled() -> bool {
    current(SpanContext::is_sampled) == Some(true)
}

/// A count as an attribute of a span: signed, because the layer of OpenTelemetry writes unsigned numbers as text.
#[must_use]
pub fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The current span as a `traceparent`, when its trace is sampled, else nothing: for messages of a stream, which have no
/// headers and are too many to carry what nobody wants.
#[must_use]
pub fn sampled_traceparent() -> String {
    Origin::current().map(|origin| origin.traceparent()).unwrap_or_default()
}

/// The span of a sampled trace that something is done for, kept beside it while it waits for another task or process.
#[derive(Clone, Debug)]
pub struct Origin(Box<SpanContext>);

impl Origin {
    /// The current span, when its trace is sampled.
    #[must_use]
    pub fn current() -> Option<Self> {
        current(|span| span.is_sampled().then(|| Self(Box::new(span.clone())))).flatten()
    }

    /// What [`sampled_traceparent`] wrote; none for nothing, and for what is no `traceparent` of a sampled trace.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        if traceparent.is_empty() {
            return None;
        }
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Text(traceparent));
        let span = context.span().span_context().clone();
        (span.is_valid() && span.is_sampled()).then(|| Self(Box::new(span)))
    }

    /// For another process.
    #[must_use]
    pub fn traceparent(&self) -> String {
        encode(&self.0).0
    }
}

/// The span of work that is done for all of these at once, made only when there are any: it goes on with the first one's
/// trace and is linked to the others.
pub fn continued<'a>(origins: impl IntoIterator<Item = &'a Origin>, make: impl FnOnce() -> Span) -> Span {
    let mut origins = origins.into_iter();
    let Some(Origin(first)) = origins.next() else { return Span::none() };
    let span = make();
    // It fails only where no traces are kept.
    span.set_parent(Context::new().with_remote_span_context((**first).clone())).ok();
    origins.for_each(|Origin(other)| span.add_link((**other).clone()));
    span
}

/// Looks at the current span's context, when there is one. The OpenTelemetry layer keeps it in a variable of the thread
/// while a span is entered, so this costs no look-up in the subscriber.
pub(super) fn current<T>(look: impl FnOnce(&SpanContext) -> T) -> Option<T> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| look(span))
    })
}

/// The caller's context, when the request carries one.
pub(super) fn extract(headers: &HeaderMap) -> Option<Context> {
    if !headers.contains_key(TRACEPARENT) {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    context.has_active_span().then_some(context)
}

/// Writes the current span's context into the headers of an answer: whoever asked finds the trace by it.
pub(super) fn answer(headers: &mut HeaderMap) {
    if let Some(Ok(value)) = current(|span| HeaderValue::try_from(encode(span).0)) {
        headers.insert(TRACEPARENT, value);
    }
}

fn encode(span: &SpanContext) -> (String, String) {
    let flags = u8::from(span.is_sampled());
    (format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()), span.trace_state().header())
}

/// A `traceparent` alone.
struct Text<'a>(&'a str);

impl Extractor for Text<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
