//! The way from HTTP to the sockets: a layer that takes the requests under `/socket` and leaves the others alone. Here
//! new connections are counted and limited, and what a request carries is cut to what a socket needs for its life.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use engineioxide::service::EngineIoService;
use http::{Extensions, HeaderMap, HeaderValue, Request, header};
use hyper::upgrade::OnUpgrade;
use mesh::{error::Refusal, serve::Connection};
use tower::{Layer, Service};

use super::engine::{self, Client, Engine};
use crate::{address::Origin, edge::Edge, error::ErrorObject, limit::Class};

/// Serves Socket.IO under `/socket`. It belongs inside of request ids and CORS, and outside of every limit on bodies and
/// times, because a poll may last for a heartbeat.
#[derive(Clone)]
pub struct SocketIoLayer {
    shared: Arc<Shared>,
}

struct Shared {
    edge: Arc<Edge>,
    engine: Arc<Engine>,
    transport: EngineIoService<Engine>,
}

impl SocketIoLayer {
    pub(super) fn new(edge: Arc<Edge>, engine: Arc<Engine>) -> Self {
        let config = engine::config(&edge.config.realtime);
        let transport = EngineIoService::with_config(Arc::clone(&engine), config);
        Self { shared: Arc::new(Shared { edge, engine, transport }) }
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
        SocketIoService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// What [`SocketIoLayer`] makes of a service.
#[derive(Clone)]
pub struct SocketIoService<S> {
    inner: S,
    shared: Arc<Shared>,
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
        match self.shared.prepare(request) {
            Ok(request) => {
                // Its own `Service` of tower wants a mutable clone; hyper's does not.
                let answer = hyper::service::Service::call(&self.shared.transport, request);
                Box::pin(async move { answer.await.map(|response| response.map(Body::new)) })
            }
            Err(refusal) => {
                let response = ErrorObject::from(refusal).into_response();
                Box::pin(async move { Ok(response) })
            }
        }
    }
}

impl Shared {
    /// Judges a request that would open a connection, and cuts what is kept of it: its parts live as long as the socket.
    fn prepare(&self, request: Request<Body>) -> Result<Request<Body>, Refusal> {
        let (mut parts, body) = request.into_parts();
        let address = Origin::of(&parts.extensions).address;
        let connection = parts.extensions.remove::<Connection>();
        match query(parts.uri.query(), "sid") {
            None => {
                self.edge.limiter.check_address(Class::Handshake, address)?;
                self.engine.check_place()?;
            }
            Some(sid) => {
                if let Some(connection) = &connection
                    && query(parts.uri.query(), "transport") == Some("websocket")
                {
                    self.engine.upgrading(sid, connection);
                }
            }
        }
        let mut headers = HeaderMap::with_capacity(1);
        for name in [header::CONTENT_TYPE, header::SEC_WEBSOCKET_KEY] {
            if let Some(value) = parts.headers.get(&name).and_then(copy) {
                headers.insert(name, value);
            }
        }
        // Copied for the same reason as the headers.
        if let Ok(uri) = parts.uri.to_string().parse() {
            parts.uri = uri;
        }
        let mut extensions = Extensions::new();
        extensions.insert(Client(address));
        if let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() {
            extensions.insert(upgrade);
        }
        if let Some(connection) = connection {
            extensions.insert(connection);
        }
        parts.headers = headers;
        parts.extensions = extensions;
        Ok(Request::from_parts(parts, body))
    }
}

/// A copy of its own: what came with the request is a part of the 8 KiB that its head was read into, and would keep
/// them for as long as the socket lives.
fn copy(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

/// The first value of a name, as the transport itself reads it: not decoded.
fn query<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_the_transport_reads_it() {
        let text = Some("EIO=4&transport=websocket&sid=abc&t=x");
        assert_eq!((query(text, "sid"), query(text, "transport")), (Some("abc"), Some("websocket")));
        assert_eq!((query(text, "si"), query(None, "sid"), query(Some("sids=1"), "sid")), (None, None, None));
    }
}
