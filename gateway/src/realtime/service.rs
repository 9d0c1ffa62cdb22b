//! The way from HTTP to the sockets: a layer that takes the requests under `/socket` and leaves the others alone. What
//! they ask for is judged in `engine.rs`.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use http::Request;
use tower::{Layer, Service};

use super::engine::{self, Engine};

/// Serves Socket.IO under `/socket`. It belongs inside of request ids and CORS, and outside of every limit on bodies and
/// times, because a poll may last for a heartbeat.
#[derive(Clone)]
pub struct SocketIoLayer {
    engine: Arc<Engine>,
}

impl SocketIoLayer {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

impl std::fmt::Debug for SocketIoLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketIoLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for SocketIoLayer {
    type Service = SocketIoService<S>;

    fn layer(&self, inner: S) -> SocketIoService<S> {
        SocketIoService { inner, engine: Arc::clone(&self.engine) }
    }
}

/// What [`SocketIoLayer`] makes of a service.
#[derive(Clone)]
pub struct SocketIoService<S> {
    inner: S,
    engine: Arc<Engine>,
}

impl<S> std::fmt::Debug for SocketIoService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketIoService").finish_non_exhaustive()
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for SocketIoService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let path = request.uri().path();
        if !path.strip_prefix(engine::PATH).is_some_and(|rest| rest.is_empty() || rest == "/") {
            return Box::pin(self.inner.call(request));
        }
        let engine = Arc::clone(&self.engine);
        Box::pin(async move { Ok(engine.answer(request).await) })
    }
}
