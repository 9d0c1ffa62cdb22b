//! The transport: an Engine.IO v4 server over WebSocket and HTTP long-polling. It takes requests and carries packets,
//! and knows nothing of what they say: that is `namespace.rs`. How requests get here is `service.rs`.
//!
//! | file | owns |
//! |---|---|
//! | `request.rs` | what a request asks for, and the answers to bad ones |
//! | `socket.rs` | one connection: its queue, its end |
//! | `websocket.rs`, `reader.rs` | the task of a WebSocket; the rules of frames |
//! | `polling.rs` | GET and POST of a session by polling |
//! | `upgrade.rs` | from polling to WebSocket |
//! | `pulse.rs` | the heartbeat |

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use mesh::{
    error::{Reason, Refusal},
    serve::Connection,
};
use tokio::{sync::Notify, time::Instant};

mod polling;
mod pulse;
mod reader;
mod request;
mod socket;
mod upgrade;
mod websocket;

use pulse::Due;
use request::{Ask, Fault};
pub(super) use socket::Socket;
use socket::Wire;

use super::{
    RealtimeConfig,
    frame::Frame,
    hub::Hub,
    meter::Closed,
    namespace::{self, Phase},
    session::Link as _,
};
use crate::{address::Origin, error::ErrorObject, limit::Class};

/// How often some sockets are told that the gateway stops: for people it is one movement, for who takes them a trickle.
const SPREAD_EVERY: Duration = Duration::from_millis(50);

/// Where the endpoint is.
pub(super) const PATH: &str = "/socket";

/// The id of a session: 128 random bits, because who knows it may speak for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id([u8; 16]);

impl Id {
    fn new() -> Self {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).expect("invariant: the system has a random source");
        Self(bytes)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == bytes.len()).then_some(Self(bytes))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// What became of a packet that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Taken,
    /// And the heartbeat has moved: when to look at it next.
    Beat(Instant),
    /// The client closes.
    Left,
    /// No client of this protocol sends it.
    Malformed,
}

/// All connections, connected to the namespace or not.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) hub: Arc<Hub>,
    sockets: Mutex<HashMap<Id, Arc<Socket>>>,
    ping: Frame,
    /// A connection has ended.
    ended: Notify,
}

impl Engine {
    pub(super) fn new(hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self { hub, sockets: Mutex::default(), ping: Frame::control("2"), ended: Notify::new() })
    }

    fn config(&self) -> &RealtimeConfig {
        self.hub.config()
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<Id, Arc<Socket>>> {
        // Nothing that could panic half-way runs under this lock.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sockets().is_empty()
    }

    /// Answers a request to the endpoint.
    pub(super) async fn answer(self: &Arc<Self>, request: Request<Body>) -> Response {
        let ask = match Ask::of(&request) {
            Ok(ask) => ask,
            Err(fault) => return fault.response(),
        };
        let address = Origin::of(request.extensions()).address;
        if ask.opens()
            && let Err(refusal) = self.hub.edge.limiter.check_address(Class::Handshake, address, None)
        {
            return ErrorObject::from(refusal).into_response();
        }
        match ask {
            Ask::OpenPolling => self.open_polling(address),
            Ask::OpenWebSocket => self.open_websocket(address, request),
            Ask::Poll(id) => match self.get(id) {
                Some(socket) => {
                    // The request may wait for a heartbeat; what came with it need not.
                    drop(request);
                    polling::poll(self, &socket).await
                }
                None => Fault::UnknownSession.response(),
            },
            Ask::Post(id) => match self.get(id) {
                Some(socket) => polling::post(self, &socket, request).await,
                None => Fault::UnknownSession.response(),
            },
            Ask::Upgrade(id) => self.upgrade(id, request),
        }
    }

    fn get(&self, id: Id) -> Option<Arc<Socket>> {
        self.sockets().get(&id).cloned()
    }

    fn open_polling(self: &Arc<Self>, address: IpAddr) -> Response {
        match self.open(address, Wire::Polling(Box::default())) {
            Ok(socket) => {
                let open = self.greeting(&socket, &["websocket"]);
                tokio::spawn(polling::attend(Owner::new(Arc::clone(self), socket)));
                request::answer(StatusCode::OK, "text/plain; charset=UTF-8", open)
            }
            Err(refusal) => ErrorObject::from(refusal).into_response(),
        }
    }

    fn open_websocket(self: &Arc<Self>, address: IpAddr, request: Request<Body>) -> Response {
        let (response, upgrade, connection) = match handshake(request) {
            Ok(handshake) => handshake,
            Err(fault) => return fault.response(),
        };
        match self.open(address, Wire::WebSocket) {
            Ok(socket) => {
                socket.push_or_kill(Frame::control(&self.greeting(&socket, &[])));
                tokio::spawn(websocket::serve(Owner::new(Arc::clone(self), socket), upgrade, connection));
                response
            }
            Err(refusal) => ErrorObject::from(refusal).into_response(),
        }
    }

    fn upgrade(self: &Arc<Self>, id: Id, request: Request<Body>) -> Response {
        let Some(socket) = self.get(id) else { return Fault::UnknownSession.response() };
        let started = handshake(request).and_then(|handshake| upgrade::begin(&socket).map(|()| handshake));
        match started {
            Ok((response, upgrade, connection)) => {
                tokio::spawn(upgrade::serve(Arc::clone(self), socket, upgrade, connection));
                response
            }
            Err(fault) => fault.response(),
        }
    }

    /// One more connection.
    ///
    /// # Errors
    /// `UNAVAILABLE` when there are as many as there may be, or the gateway stops.
    fn open(&self, address: IpAddr, wire: Wire) -> Result<Arc<Socket>, Refusal> {
        let socket = Arc::new(Socket::new(address, wire, self.config()));
        let mut sockets = self.sockets();
        // Looked at under the lock that `stop` takes after saying so: a socket that is let in here is told there.
        if self.hub.is_stopping() {
            return Err(Refusal::new(Reason::Unavailable, "This gateway is stopping; connect again"));
        }
        if sockets.len() >= self.config().sockets_max {
            return Err(Refusal::new(Reason::Unavailable, "This gateway has as many sockets as it may; try again"));
        }
        sockets.insert(socket.id, Arc::clone(&socket));
        Ok(socket)
    }

    /// The first packet of a session.
    fn greeting(&self, socket: &Socket, upgrades: &[&str]) -> String {
        let RealtimeConfig { ping_interval_ms, ping_timeout_ms, frame_bytes_max, .. } = self.config();
        let object = serde_json::json!({
            "sid": socket.id.to_string(),
            "upgrades": upgrades,
            "pingInterval": ping_interval_ms,
            "pingTimeout": ping_timeout_ms,
            "maxPayload": frame_bytes_max,
        });
        format!("0{object}")
    }

    /// Takes a packet of a client.
    fn hear(self: &Arc<Self>, socket: &Arc<Socket>, packet: &str) -> Heard {
        match packet.as_bytes().first() {
            Some(b'4') => match namespace::receive(self, socket, &packet[1..]) {
                // Who leaves the namespace has to come again in time.
                Ok(()) if packet.starts_with("41") => Heard::Beat(socket.state().pulse.at()),
                Ok(()) => Heard::Taken,
                Err(namespace::Malformed) => Heard::Malformed,
            },
            Some(b'3') => Heard::Beat(socket.pong(self.config())),
            Some(b'1') => Heard::Left,
            // Packets that mean nothing from a client at this point; the reference server passes over them too.
            Some(b'0' | b'5' | b'6') => Heard::Taken,
            _ => Heard::Malformed,
        }
    }

    /// A connection has ended, from whichever side.
    fn ended(&self, socket: &Arc<Socket>) {
        let why = socket.state().why;
        socket.kill();
        namespace::ended(self, socket, why);
        let mut sockets = self.sockets();
        sockets.remove(&socket.id);
        if sockets.capacity() > 4 * sockets.len() + 64 {
            sockets.shrink_to_fit();
        }
        drop(sockets);
        self.ended.notify_waiters();
    }

    /// Ends the sockets that have entered, some at a time. Each works on until its turn comes.
    async fn spread_out(&self, spread: Duration) {
        let sessions = self.hub.sockets();
        let turns = usize::try_from(spread.as_millis() / SPREAD_EVERY.as_millis()).unwrap_or(1).max(1);
        let mut ticks = tokio::time::interval(SPREAD_EVERY);
        for some in sessions.chunks(sessions.len().div_ceil(turns).max(1)) {
            ticks.tick().await;
            some.iter().for_each(|session| session.finish(Closed::Shutdown, &[]));
        }
    }

    /// Ends every connection, spread over some time, and waits until they are gone; those that are left after three quarters
    /// of the limit are ended without a word. Stock clients take it for a lost network and connect again, elsewhere; all at
    /// once they would be a storm there.
    pub(super) async fn stop(&self, limit: Duration) {
        self.hub.stop();
        let begun = Instant::now();
        self.spread_out(self.config().stop_spread().min(limit / 2)).await;
        // Whoever entered in the moment in which the others were counted.
        self.hub.sockets().iter().for_each(|session| session.finish(Closed::Shutdown, &[]));
        let others: Vec<_> = self.sockets().values().cloned().collect();
        for socket in others.iter().filter(|socket| !matches!(*socket.phase(), Phase::Open(_))) {
            socket.finish_with(socket::NORMAL, Closed::Shutdown);
        }
        drop(others);
        let gone = async {
            loop {
                let ended = self.ended.notified();
                if self.sockets().is_empty() {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout((limit * 3 / 4).saturating_sub(begun.elapsed()), gone).await.is_err() {
            let left: Vec<_> = self.sockets().values().cloned().collect();
            tracing::warn!(sockets = left.len(), "Sockets were still open near the limit of stopping and are ended");
            left.iter().for_each(|socket| socket.kill());
        }
    }
}

/// The WebSocket handshake: the answer, and what becomes of the connection after it.
fn handshake(mut request: Request<Body>) -> Result<(Response, OnUpgrade, Option<Connection>), Fault> {
    let response = tungstenite::handshake::server::create_response_with_body(&request, Body::empty);
    let response = response.ok().ok_or(Fault::BadRequest)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or(Fault::BadRequest)?;
    Ok((response, upgrade, request.extensions_mut().remove::<Connection>()))
}

/// Held by the one task that carries a connection: when it ends, in whichever way, so does the connection.
struct Owner {
    engine: Arc<Engine>,
    socket: Arc<Socket>,
    handed_over: bool,
}

impl Owner {
    fn new(engine: Arc<Engine>, socket: Arc<Socket>) -> Self {
        Self { engine, socket, handed_over: false }
    }

    /// Another task carries it from here on.
    fn hand_over(&mut self) {
        self.handed_over = true;
    }

    fn hear(&self, packet: &str) -> Heard {
        self.engine.hear(&self.socket, packet)
    }

    fn beat(&self) -> (Due, Instant) {
        self.socket.beat(self.engine.config(), &self.engine.ping)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.handed_over {
            self.engine.ended(&self.socket);
        }
    }
}
