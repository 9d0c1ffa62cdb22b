//! Trace context across processes, as W3C Trace Context has it: read from a request, written into a call, and the
//! current trace's id. Spans themselves are made by `telemetry/request.rs`.

use http::{HeaderMap, HeaderValue, header::HeaderName};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataMap, MetadataValue};

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

fn encode(span: &SpanContext) -> (String, String) {
    let flags = u8::from(span.is_sampled());
    (format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()), span.trace_state().header())
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
