//! The one serving loop: the gateway's HTTP and WebSockets, gRPC (h2c) and the operations ports all run through it, so
//! that their connections have the same limits. It knows no route; limits on bodies and requests belong to the router.
//!
//! [`bind`] takes a port (`serve/bind.rs`), [`serve`] runs it, [`ServeLimits`] says what it allows (`serve/limits.rs`),
//! what ends a connection is in the socket itself (`serve/socket.rs`, `serve/hello.rs`), and who is let in by TLS is in
//! `serve/door.rs`.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics::{Counter, Gauge};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tower::Service as _;

mod bind;
mod door;
mod hello;
mod limits;
mod socket;
#[cfg(test)]
mod tests;

pub use bind::{BindError, Listeners, bind};
use door::{Door, Handshakes};
use hello::Secured;
pub use limits::ServeLimits;
pub use socket::Connection;
use socket::{Shared, Socket};

use crate::tls::{EdgeTls, Tls};

/// The wait after an accept that failed for lack of something (file descriptors, memory): long enough not to spin,
/// short enough that nobody notices.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At most one warning of a kind in this time: the metrics tell how often it happened.
const WARNING_EVERY: Duration = Duration::from_secs(10);

/// The time that connections get to notice that they were ended.
const END_GRACE: Duration = Duration::from_secs(1);

/// Serves the router on the port until `shutdown`, then until the last connection has ended or the drain limit has
/// passed. In metrics and logs the listener is called by its port; see [`serve_named`].
pub async fn serve(listener: TcpListener, router: Router, limits: &ServeLimits, shutdown: CancellationToken) {
    let name = listener.local_addr().map_or_else(|_| "unknown".to_owned(), |addr| addr.port().to_string());
    serve_named(name, listener, router, limits, shutdown).await;
}

/// Like [`serve`], with a name for the listener in metrics and logs.
pub async fn serve_named(
    name: impl Into<String>,
    listener: TcpListener,
    router: Router,
    limits: &ServeLimits,
    shutdown: CancellationToken,
) {
    serve_secured(name, listener, router, limits, None, shutdown).await;
}

/// Like [`serve_named`], for other processes of the mesh: by TLS with certificates at both ends, when there are any.
pub async fn serve_secured(
    name: impl Into<String>,
    listener: TcpListener,
    router: Router,
    limits: &ServeLimits,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) {
    accept(Server::new(name.into(), router, limits, tls.map(Door::Mesh), shutdown), listener).await;
}

/// Like [`serve_named`], for clients: by TLS with a certificate at this end, when there is one.
pub async fn serve_public(
    name: impl Into<String>,
    listener: TcpListener,
    router: Router,
    limits: &ServeLimits,
    tls: Option<Arc<EdgeTls>>,
    shutdown: CancellationToken,
) {
    accept(Server::new(name.into(), router, limits, tls.map(Door::Edge), shutdown), listener).await;
}

async fn accept(server: Server, listener: TcpListener) {
    let shutdown = server.shutdown.clone();
    let server = Arc::new(server);
    let mut full = Throttle::default();
    let mut refused = Throttle::default();
    let mut number = 0;
    loop {
        let Some(permit) = server.permit(&mut full).await else { break };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                number += 1;
                server.start(stream, peer, number, permit);
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if refused.pass() {
                    tracing::warn!(listener = %server.open.name, error = %error, "Cannot accept connections; trying again");
                }
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    // Closed before draining, so that a load balancer sees at once that nothing more is taken.
    drop(listener);
    server.drain().await;
}

/// Lets this process open as many files as the system allows at most, and says how many that is: a socket is a file,
/// and login shells often allow 1,024.
///
/// # Errors
/// When the system refuses; the limit is as before then.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

/// Errors of one connection that ended before it was accepted: the next one may be good.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted].contains(&error.kind())
}

/// Lets one of many through.
#[derive(Default)]
struct Throttle(Option<Instant>);

impl Throttle {
    fn pass(&mut self) -> bool {
        let now = Instant::now();
        let pass = self.0.is_none_or(|last| now.duration_since(last) >= WARNING_EVERY);
        if pass {
            self.0 = Some(now);
        }
        pass
    }
}

struct Server {
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    limits: ServeLimits,
    door: Option<Door>,
    handshakes: Arc<Handshakes>,
    places: Arc<Semaphore>,
    open: Arc<Open>,
    shutdown: CancellationToken,
}

impl Server {
    fn new(
        name: String,
        router: Router,
        limits: &ServeLimits,
        door: Option<Door>,
        shutdown: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let open = Arc::new(Open::new(name));
        let handshakes = Handshakes::new(limits.handshakes_max);
        Self { builder: builder(limits), router, limits: limits.clone(), door, handshakes, places, open, shutdown }
    }

    /// A place for one connection, as soon as there is one; none at shutdown.
    async fn permit(&self, full: &mut Throttle) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(permit);
        }
        self.open.full.increment(1);
        if full.pass() {
            let (listener, connections_max) = (&self.open.name, self.limits.connections_max);
            tracing::warn!(listener = %listener, connections_max, "All connections are taken; new ones wait for a place");
        }
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            permit = Arc::clone(&self.places).acquire_owned() => permit.ok(),
        }
    }

    fn start(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, id: u64, permit: OwnedSemaphorePermit) {
        let local = match self.prepare(&stream) {
            Ok(local) => local,
            Err(error) => {
                tracing::debug!(listener = %self.open.name, error = %error, "A connection ended while it was accepted");
                return;
            }
        };
        let place = Place { id, open: Arc::clone(&self.open), _permit: permit, _token: self.open.tracker.token() };
        let socket = Socket::new(stream, self.limits.header_timeout(), self.limits.write_timeout(), place);
        let service = Requests { router: self.router.clone(), connection: socket.connection(peer, local, id) };
        let server = Arc::clone(self);
        match self.door.clone() {
            None => tokio::spawn(server.run(TokioIo::new(socket), service)),
            Some(door) => tokio::spawn(server.run_secured(door, socket, service)),
        };
    }

    /// Lets somebody in by TLS, and then runs the connection. Who was not let in has been told of, or counted.
    async fn run_secured(self: Arc<Self>, door: Door, socket: Socket, mut service: Requests) {
        let handshake = self.handshakes.begin(service.connection.id);
        let accepted = tokio::select! {
            accepted = door.accept(socket, self.limits.handshake()) => accepted,
            () = handshake.ended() => {
                self.open.crowded.increment(1);
                return;
            }
            () = self.shutdown.cancelled() => return,
        };
        drop(handshake);
        match accepted {
            Ok((stream, name)) => {
                (service.connection.name, service.connection.secured) = (name, true);
                let limit = self.limits.header_timeout();
                self.run(TokioIo::new(Secured::new(stream, limit)), service).await;
            }
            Err(error) => {
                tracing::debug!(listener = %self.open.name, error = %error, "A connection was not let in");
            }
        }
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        // An event that is sent right after another would wait 40 ms for the peer's acknowledgement otherwise.
        stream.set_nodelay(true)?;
        if self.limits.send_buffer_bytes > 0 {
            SockRef::from(stream).set_send_buffer_size(self.limits.send_buffer_bytes)?;
        }
        stream.local_addr()
    }

    /// Runs a connection until it ends or is upgraded; then the socket goes on in the hands of whoever upgraded it.
    async fn run<S>(self: Arc<Self>, io: TokioIo<S>, service: Requests)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connection = pin!(self.builder.serve_connection_with_upgrades(io, service));
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(listener = %self.open.name, error = %error, "A connection ended with an error");
        }
    }

    /// Waits for the connections, upgraded ones included, and ends those that are left when the limit has passed.
    async fn drain(&self) {
        self.open.tracker.close();
        if tokio::time::timeout(self.limits.drain(), self.open.tracker.wait()).await.is_ok() {
            return;
        }
        let left = self.open.end_all();
        tracing::warn!(
            listener = %self.open.name, connections = left, limit_ms = self.limits.drain_ms,
            "Connections were still open at the limit of draining and are ended"
        );
        if tokio::time::timeout(END_GRACE, self.open.tracker.wait()).await.is_err() {
            tracing::warn!(listener = %self.open.name, "Some connections are still held by the requests they carry");
        }
    }
}

fn builder(limits: &ServeLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout())
        .max_buf_size(limits.header_bytes_max)
        // Answers are flushed one by one: a pipelining client waits for the first.
        .pipeline_flush(false);
    if limits.header_count_max != limits::HEADER_COUNT_DEFAULT {
        builder.http1().max_headers(limits.header_count_max);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        // A process that stood still for some seconds finds that its callers have given all of that up: the few that h2
        // allows by itself would end the connection, and with it the calls that live.
        .max_pending_accept_reset_streams(limits.http2_streams_max as usize)
        .max_header_list_size(limits.http2_header_bytes_max)
        .max_frame_size(limits.http2_frame_bytes_max)
        .keep_alive_interval(Duration::from_millis(limits.http2_ping_interval_ms))
        .keep_alive_timeout(Duration::from_millis(limits.http2_ping_timeout_ms));
    builder
}

/// Hands each request to the router, with the connection it came by.
struct Requests {
    router: Router,
    connection: Connection,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = axum::routing::future::RouteFuture<Infallible>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.connection.clone());
        // A router is always ready, and a clone of it is a clone of an `Arc`.
        self.router.clone().call(request)
    }
}

/// The connections of one listener, upgraded ones included.
struct Open {
    name: String,
    tracker: TaskTracker,
    sockets: Mutex<HashMap<u64, Weak<Shared>>>,
    gauge: Gauge,
    full: Counter,
    stalled: Counter,
    crowded: Counter,
}

impl Open {
    fn new(name: String) -> Self {
        let gauge = metrics::gauge!("switchboard_connections_open", "listener" => name.clone());
        let full = metrics::counter!("switchboard_connections_full_total", "listener" => name.clone());
        let stalled = metrics::counter!("switchboard_connections_stalled_total", "listener" => name.clone());
        let crowded = metrics::counter!("switchboard_connections_crowded_total", "listener" => name.clone());
        Self { name, tracker: TaskTracker::new(), sockets: Mutex::default(), gauge, full, stalled, crowded }
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<u64, Weak<Shared>>> {
        // Nothing that could panic runs under this lock.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_all(&self) -> usize {
        let sockets: Vec<_> = self.sockets().values().filter_map(Weak::upgrade).collect();
        sockets.iter().for_each(|socket| socket.end());
        sockets.len()
    }
}

/// One connection's place among those that are open; dropped with its socket.
struct Place {
    id: u64,
    open: Arc<Open>,
    _permit: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
}

impl Place {
    fn enter(&self, socket: &Arc<Shared>) {
        self.open.sockets().insert(self.id, Arc::downgrade(socket));
        self.open.gauge.increment(1.0);
    }

    fn count_stalled(&self) {
        self.open.stalled.increment(1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.sockets().remove(&self.id);
        self.open.gauge.decrement(1.0);
    }
}
