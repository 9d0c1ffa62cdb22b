//! The record of one request: its span, and at its end the measurement and the log line. Labels and fields are bounded:
//! route templates instead of paths, known methods only, never a header, a query string or a body.

use std::{borrow::Cow, error::Error, fmt, time::Instant};

use axum::extract::MatchedPath;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower_http::request_id::RequestId;
use tracing::{Span, field::Empty};

use super::{Failure, Kind, Route};
use crate::{proto::rpcs, telemetry::trace};

/// Characters of an unmatched path that are logged: enough to see what somebody looks for.
const PATH_CHARS_MAX: usize = 128;

/// Characters of a cause that are logged.
const CAUSE_CHARS_MAX: usize = 2000;

/// What stands for a route or an RPC that does not exist: clients could fill the metrics with names otherwise.
const UNMATCHED: &str = "unmatched";

/// Writes an event of a level that is known only at run time. All lines of requests have the target `request`, so that
/// a filter can leave them out.
macro_rules! line {
    ($severity:expr, { $($fields:tt)+ }, $message:literal) => {
        match $severity {
            Severity::Info => tracing::info!(target: "request", { $($fields)+ }, $message),
            Severity::Warn => tracing::warn!(target: "request", { $($fields)+ }, $message),
            Severity::Error => tracing::error!(target: "request", { $($fields)+ }, $message),
        }
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// All is well, or the client is to blame.
    Info,
    /// Something is at its limits.
    Warn,
    /// We are to blame.
    Error,
}

enum Call {
    Http {
        method: &'static str,
        route: Option<Cow<'static, str>>,
        path: String,
    },
    /// `known` is what metrics and traces call it; the log has what the caller named.
    Rpc {
        service: Cow<'static, str>,
        method: Cow<'static, str>,
        known: Option<rpcs::Rpc>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Http(StatusCode),
    Rpc(Code),
    /// The client went away before the end.
    Cancelled,
}

/// What is known about an error.
#[derive(Default)]
struct Fault {
    code: Option<Cow<'static, str>>,
    cause: Option<String>,
}

/// A request on its way.
pub(super) struct Record {
    call: Call,
    span: Span,
    begun: Instant,
    request_id: Option<HeaderValue>,
    status: Option<StatusCode>,
    fault: Option<Box<Fault>>,
    finished: bool,
}

impl Record {
    pub(super) fn begin<B>(kind: Kind, request: &Request<B>) -> Self {
        let call = match kind {
            Kind::Http => Call::http(request),
            Kind::Grpc => Call::grpc(request.uri().path()),
        };
        let span = if call.is_a_probe() { Span::none() } else { call.span() };
        if let Some(parent) = trace::extract(request.headers()) {
            use tracing_opentelemetry::OpenTelemetrySpanExt as _;
            // It fails only where no traces are kept.
            span.set_parent(parent).ok();
        }
        let request_id = request.extensions().get::<RequestId>().map(|id| id.header_value().clone());
        Self { call, span, begun: Instant::now(), request_id, status: None, fault: None, finished: false }
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    pub(super) fn is_http(&self) -> bool {
        matches!(self.call, Call::Http { .. })
    }

    /// Takes down the answer's head. True when there is no more to come.
    pub(super) fn answered<B: Body>(&mut self, response: &Response<B>) -> bool {
        let status = response.status();
        self.status = Some(status);
        if let Some(id) = response.headers().get("x-request-id") {
            self.request_id = Some(id.clone());
        }
        match &mut self.call {
            Call::Http { route, .. } => {
                if let (None, Some(Route(name))) = (&route, response.extensions().get()) {
                    *route = Some(Cow::Borrowed(name));
                }
                if status.is_client_error() || status.is_server_error() {
                    self.fault = response.extensions().get::<Failure>().map(|failure| {
                        let cause = failure.source.as_deref().map(|source| causes(source));
                        Box::new(Fault { code: Some(Cow::Borrowed(failure.code)), cause })
                    });
                }
                let done = response.body().is_end_stream() || status == StatusCode::SWITCHING_PROTOCOLS;
                if done {
                    self.finish(Outcome::Http(status));
                }
                done
            }
            Call::Rpc { .. } => {
                let Some(code) = code_of(response.headers()).or_else(|| code_of_http(status)) else { return false };
                if let Some(status) = response.extensions().get::<Status>() {
                    let code = status.get_details_error_info().map(|info| Cow::Owned(info.reason));
                    self.fault = Some(Box::new(Fault { code, cause: Some(causes(status)) }));
                }
                self.finish(Outcome::Rpc(code));
                true
            }
        }
    }

    /// The body came to its end, for gRPC with the trailers that hold the status.
    pub(super) fn ended(&mut self, trailers: Option<&HeaderMap>) {
        let outcome = match &self.call {
            Call::Http { .. } => Outcome::Http(self.status.unwrap_or_default()),
            Call::Rpc { .. } => {
                let code = trailers.and_then(code_of).unwrap_or(Code::Unknown);
                if code != Code::Ok {
                    self.fault = trailers.map(|trailers| Box::new(Fault::of_trailers(trailers)));
                }
                Outcome::Rpc(code)
            }
        };
        self.finish(outcome);
    }

    /// The body could not be made to its end.
    pub(super) fn broke(&mut self, error: &impl fmt::Display) {
        let cause = Some(error.to_string());
        let outcome = match &self.call {
            // The status has gone out already, but the answer is none.
            Call::Http { .. } => Outcome::Http(StatusCode::INTERNAL_SERVER_ERROR),
            Call::Rpc { .. } => Outcome::Rpc(Code::Unknown),
        };
        self.fault = Some(Box::new(Fault { code: Some(Cow::Borrowed("BODY_BROKE")), cause }));
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        self.finished = true;
        let took = self.begun.elapsed();
        self.measure(outcome, took.as_secs_f64());
        self.mark_span(outcome);
        let duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3;
        let span = self.span.clone();
        span.in_scope(|| self.log(outcome, duration_ms));
    }

    fn measure(&self, outcome: Outcome, seconds: f64) {
        match &self.call {
            Call::Http { method, route, .. } => {
                let route = route.clone().unwrap_or(Cow::Borrowed(UNMATCHED));
                let status = match outcome {
                    Outcome::Http(status) => Cow::Owned(status.as_str().to_owned()),
                    Outcome::Rpc(_) | Outcome::Cancelled => Cow::Borrowed("cancelled"),
                };
                let labels = [("method", Cow::Borrowed(*method)), ("route", route), ("status", status)];
                metrics::histogram!("http_server_request_duration_seconds", &labels).record(seconds);
            }
            Call::Rpc { known, .. } => {
                let (service, method) = known.unwrap_or((UNMATCHED, UNMATCHED));
                let labels = [("rpc_service", service), ("rpc_method", method), ("code", name_of(outcome.code()))];
                metrics::histogram!("rpc_server_duration_seconds", &labels).record(seconds);
            }
        }
    }

    fn mark_span(&self, outcome: Outcome) {
        match outcome {
            Outcome::Http(status) => {
                self.span.record("http.response.status_code", trace::number(status.as_u16().into()));
            }
            Outcome::Rpc(code) => {
                self.span.record("rpc.grpc.status_code", code as i32);
            }
            Outcome::Cancelled => {}
        }
        if let Some(code) = self.fault.as_deref().and_then(|fault| fault.code.as_deref()) {
            self.span.record("error.type", code);
        }
        if outcome.severity() == Severity::Error {
            self.span.record("otel.status_code", "ERROR");
        }
    }

    fn log(&self, outcome: Outcome, duration_ms: f64) {
        let severity = outcome.severity();
        if severity == Severity::Info && self.call.is_a_probe() {
            return;
        }
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        let fault = self.fault.as_deref();
        let code = fault.and_then(|fault| fault.code.as_deref());
        // What a client did wrong may quote what the client sent; only what is our fault is told in full.
        let cause = fault.and_then(|fault| fault.cause.as_deref()).filter(|_| severity != Severity::Info);
        match (&self.call, outcome) {
            (Call::Http { method, route, path }, Outcome::Http(status)) => {
                let route = route.as_deref();
                let shown = route.unwrap_or(path);
                let path = route.is_none().then_some(path.as_str());
                let status = status.as_u16();
                line!(severity, { http.request.method = method, http.route = route, url.path = path,
                    http.response.status_code = status, duration_ms, request.id = id, "error.type" = code,
                    error.message = cause }, "{method} {shown} answered {status}");
            }
            (Call::Http { method, route, path }, Outcome::Cancelled | Outcome::Rpc(_)) => {
                let route = route.as_deref();
                let shown = route.unwrap_or(path);
                let path = route.is_none().then_some(path.as_str());
                line!(severity, { http.request.method = method, http.route = route, url.path = path, duration_ms,
                    request.id = id, "error.type" = "cancelled" }, "{method} {shown} was given up by the client");
            }
            (Call::Rpc { service, method, .. }, outcome) => {
                let (service, method, status) = (&**service, &**method, outcome.code());
                let name = name_of(status);
                line!(severity, { rpc.system = "grpc", rpc.service = service, rpc.method = method,
                    rpc.grpc.status_code = status as i32, duration_ms, request.id = id, "error.type" = code,
                    error.message = cause }, "{service}/{method} answered {name}");
            }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // An answer without a body by its nature is dropped with the body unread.
        let outcome = match (&self.call, self.status) {
            (Call::Http { method: "HEAD", .. }, Some(status)) => Outcome::Http(status),
            (Call::Http { .. }, Some(status @ (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED))) => {
                Outcome::Http(status)
            }
            _ => Outcome::Cancelled,
        };
        self.finish(outcome);
    }
}

impl Call {
    fn grpc(path: &str) -> Self {
        if let Some(known @ (service, method)) = rpcs::rpc(path) {
            return Self::Rpc { service: service.into(), method: method.into(), known: Some(known) };
        }
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        Self::Rpc { service: shortened(service).into(), method: shortened(method).into(), known: None }
    }

    /// Health and reflection: asked every few seconds by machines, which is no news while it goes well.
    fn is_a_probe(&self) -> bool {
        matches!(self, Self::Rpc { service, .. } if service.starts_with("grpc."))
    }

    fn http<B>(request: &Request<B>) -> Self {
        let extensions = request.extensions();
        let route = match (extensions.get::<Route>(), extensions.get::<MatchedPath>()) {
            (Some(Route(name)), _) => Some(Cow::Borrowed(*name)),
            (None, Some(matched)) => Some(Cow::Owned(matched.as_str().to_owned())),
            (None, None) => None,
        };
        let path = if route.is_some() { String::new() } else { shortened(request.uri().path()) };
        Self::Http { method: method_of(request.method()), route, path }
    }

    /// The request's span. What is not known yet is filled in at the end.
    fn span(&self) -> Span {
        match self {
            // A path that nobody serves may be anything, a token included; the log has some of it, a collector nothing.
            Self::Http { method, route, .. } => {
                let shown = route.as_deref().unwrap_or(UNMATCHED);
                tracing::info_span!(target: "request", "http", otel.name = %format_args!("{method} {shown}"),
                    otel.kind = "server", otel.status_code = Empty, http.request.method = method,
                    http.route = route.as_deref(), http.response.status_code = Empty, "error.type" = Empty)
            }
            Self::Rpc { known, .. } => {
                let (service, method) = known.unwrap_or((UNMATCHED, UNMATCHED));
                tracing::info_span!(target: "request", "rpc", otel.name = %format_args!("{service}/{method}"),
                    otel.kind = "server", otel.status_code = Empty, rpc.system = "grpc", rpc.service = service,
                    rpc.method = method, rpc.grpc.status_code = Empty, "error.type" = Empty)
            }
        }
    }
}

impl Outcome {
    fn code(self) -> Code {
        match self {
            Self::Rpc(code) => code,
            Self::Http(_) | Self::Cancelled => Code::Cancelled,
        }
    }

    fn severity(self) -> Severity {
        match self {
            Self::Http(StatusCode::GATEWAY_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => Severity::Warn,
            Self::Http(status) if status.is_server_error() => Severity::Error,
            Self::Http(_) | Self::Cancelled => Severity::Info,
            Self::Rpc(Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable) => Severity::Error,
            Self::Rpc(Code::DeadlineExceeded | Code::ResourceExhausted) => Severity::Warn,
            Self::Rpc(_) => Severity::Info,
        }
    }
}

impl Fault {
    /// What the trailers of a stream tell; its cause was known only to the stream.
    fn of_trailers(trailers: &HeaderMap) -> Self {
        let Some(status) = Status::from_header_map(trailers) else { return Self::default() };
        let code = status.get_details_error_info().map(|info| Cow::Owned(info.reason));
        Self { code, cause: Some(causes(&status)) }
    }
}

/// An error and what caused it, from the outside in.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut out = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<Status>() {
            // Its own text holds metadata, which may be anything.
            Some(status) => format!("{} ({})", status.message(), name_of(status.code())),
            None => error.to_string(),
        };
        // Many errors quote their cause: it is not said twice.
        if !out.ends_with(&text) {
            if !out.is_empty() {
                out.push_str(": ");
            }
            out.push_str(&text);
        }
        next = error.source();
    }
    if let Some((cut, _)) = out.char_indices().nth(CAUSE_CHARS_MAX) {
        out.truncate(cut);
    }
    out
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// The code of an answer that did not come from a gRPC handler.
fn code_of_http(status: StatusCode) -> Option<Code> {
    match status {
        StatusCode::OK => None,
        StatusCode::NOT_FOUND => Some(Code::Unimplemented),
        _ => Some(Code::Unknown),
    }
}

fn method_of(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(PATH_CHARS_MAX).collect()
}

fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
