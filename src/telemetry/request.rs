//! What a request leaves behind: one span, one measurement and one log line, for HTTP and gRPC alike. This file follows
//! a request from its head to the end of its answer's body; what is written then is in `telemetry/request/record.rs`.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use self::record::Record;
use super::trace;

mod record;

/// The layer. An answer of HTTP gets the header `traceparent`, by which whoever asked finds its trace. Put it on with `Router::layer`, so that it knows which route matched; in a request's or an answer's
/// extensions a [`Route`] names one where there is no route, a [`Failure`] (or tonic's `Status`) the cause of an error.
#[derive(Clone, Copy, Debug)]
pub struct RequestLog {
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Http,
    Grpc,
}

impl RequestLog {
    /// For a server of plain HTTP.
    #[must_use]
    pub fn http() -> Self {
        Self { kind: Kind::Http }
    }

    /// For a server of gRPC: the path names the call, and its status is in the headers or trailers of the answer.
    #[must_use]
    pub fn grpc() -> Self {
        Self { kind: Kind::Grpc }
    }
}

/// The route's template of a request that no axum route serves: `/socket`.
#[derive(Clone, Copy, Debug)]
pub struct Route(pub &'static str);

/// Why an HTTP answer is an error, for its log line. Put it into the answer's extensions.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The catalogue's code: `VALIDATION_FAILED`.
    pub code: &'static str,
    /// What caused it. It is logged, with its own causes, when the fault is ours, and never sent.
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl<S> Layer<S> for RequestLog {
    type Service = RequestLogService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestLogService { inner, kind: self.kind }
    }
}

/// The service that [`RequestLog`] makes.
#[derive(Clone, Debug)]
pub struct RequestLogService<S> {
    inner: S,
    kind: Kind,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequestLogService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<LoggedBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let record = Record::begin(self.kind, &request);
        let future = record.span().in_scope(|| self.inner.call(request));
        ResponseFuture { future, record: Some(record) }
    }
}

pin_project! {
    /// The future of [`RequestLogService`].
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        record: Option<Record>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<LoggedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.record.as_ref().map(|record| record.span().enter());
        let mut result = ready!(this.future.poll(cx));
        if let (Ok(response), Some(true)) = (&mut result, this.record.as_ref().map(Record::is_http)) {
            trace::answer(response.headers_mut());
        }
        drop(entered);
        let mut record = this.record.take();
        let response = result?;
        if record.as_mut().is_some_and(|record| record.answered(&response)) {
            record = None;
        }
        Poll::Ready(Ok(response.map(|inner| LoggedBody { inner, record })))
    }
}

pin_project! {
    /// The answer's body, with the record of its request until it ends. Dropped before that, the client has given up.
    pub struct LoggedBody<B> {
        #[pin]
        inner: B,
        record: Option<Record>,
    }
}

impl<B> Body for LoggedBody<B>
where
    B: Body,
    B::Error: fmt::Display,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let entered = this.record.as_ref().map(|record| record.span().enter());
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        drop(entered);
        let over = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || this.inner.is_end_stream(),
            Some(Err(_)) | None => true,
        };
        if over && let Some(mut record) = this.record.take() {
            match &frame {
                Some(Ok(frame)) => record.ended(frame.trailers_ref()),
                Some(Err(error)) => record.broke(error),
                None => record.ended(None),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
