//! The transport: Engine.IO over WebSocket and polling, by engineioxide, and the CONNECT handshake of Socket.IO on it.
//! This file, `service.rs` and `packet.rs` (the text type) are the only ones that name that crate. What a socket does
//! is `events.rs`, who may connect `connect.rs`, and how requests get here `service.rs`.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use engineioxide::{
    DisconnectReason, Socket, Str, TransportType, config::EngineIoConfig, handler::EngineIoHandler, socket::Sid,
};
use mesh::{
    error::{Reason, Refusal},
    serve::Connection,
};
use tokio::sync::{Notify, mpsc::error::TrySendError};

use super::{
    RealtimeConfig,
    connect::{self, Auth},
    events,
    hub::Hub,
    meter::{self, Closed},
    packet::{self, Frame, Packet},
    session::{Link, Session, Unsent},
};
use crate::error::ErrorObject;

/// Where the endpoint is.
pub(super) const PATH: &str = "/socket";
/// The longest that a socket which was told its last word may take to go.
const LAST_WORD: Duration = Duration::from_millis(900);
/// What a polling client gets to fetch its last word.
const LAST_POLL: Duration = Duration::from_millis(500);

/// Who a request comes from; `service.rs` puts it into the extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) IpAddr);

/// How far a connection has come.
#[derive(Debug, Default)]
enum Phase {
    /// Nobody has said who they are.
    #[default]
    New,
    /// The token is being checked.
    Connecting,
    /// A socket of the namespace `/`.
    Open(Arc<Session>),
    /// Refused, left, or ended.
    Over,
}

/// What each connection carries.
#[derive(Debug, Default)]
pub(super) struct Data {
    phase: Mutex<Phase>,
    /// The WebSocket that a polling client has moved to.
    upgraded: Mutex<Option<Connection>>,
}

impl Data {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        // Nothing that could panic half-way runs under this lock.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upgraded(&self) -> MutexGuard<'_, Option<Connection>> {
        // Nothing that could panic half-way runs under this lock.
        self.upgraded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type EngineSocket = Socket<Data>;

/// All connections, connected to the namespace or not.
#[derive(Debug)]
pub(super) struct Engine {
    hub: Arc<Hub>,
    sockets: Mutex<HashMap<Sid, Weak<EngineSocket>>>,
    /// A connection has ended.
    ended: Notify,
}

/// The settings of the transport.
pub(super) fn config(config: &RealtimeConfig) -> EngineIoConfig {
    EngineIoConfig::builder()
        .req_path(PATH)
        .ping_interval(Duration::from_millis(config.ping_interval_ms))
        .ping_timeout(Duration::from_millis(config.ping_timeout_ms))
        .upgrade_timeout(Duration::from_millis(config.upgrade_timeout_ms))
        .max_buffer_size(config.outgoing_max)
        .max_payload(config.frame_bytes_max as u64)
        .ws_max_message_size(config.frame_bytes_max)
        .ws_max_frame_size(config.frame_bytes_max)
        // Nearly all events are smaller, and an idle socket keeps the buffer.
        .ws_read_buffer_size(512)
        .build()
}

impl Engine {
    pub(super) fn new(hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self { hub, sockets: Mutex::default(), ended: Notify::new() })
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<Sid, Weak<EngineSocket>>> {
        // Nothing that could panic half-way runs under this lock.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more connection may come.
    ///
    /// # Errors
    /// `UNAVAILABLE` when there are as many as there may be, or the gateway stops.
    pub(super) fn check_place(&self) -> Result<(), Refusal> {
        if self.hub.is_stopping() {
            return Err(Refusal::new(Reason::Unavailable, "This gateway is stopping; connect again"));
        }
        if self.sockets().len() >= self.hub.config().sockets_max {
            return Err(Refusal::new(Reason::Unavailable, "This gateway has as many sockets as it may; try again"));
        }
        Ok(())
    }

    /// A polling client asks for a WebSocket, by this connection.
    pub(super) fn upgrading(&self, sid: &str, connection: &Connection) {
        let socket = sid.parse::<Sid>().ok().and_then(|sid| self.sockets().get(&sid).and_then(Weak::upgrade));
        if let Some(socket) = socket {
            *socket.data.upgraded() = Some(connection.clone());
        }
    }

    /// Ends every connection and waits until they are gone; those that are left after three quarters of the limit are
    /// ended without a word. Stock clients take it for a lost network and connect again, elsewhere.
    pub(super) async fn stop(&self, limit: Duration) {
        self.hub.stop();
        for session in self.hub.sockets() {
            session.finish(Closed::Shutdown, &[]);
        }
        let others: Vec<_> = self.sockets().values().filter_map(Weak::upgrade).collect();
        for socket in others.iter().filter(|socket| !matches!(*socket.data.phase(), Phase::Open(_))) {
            socket.close(DisconnectReason::ClosingServer);
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
        if tokio::time::timeout(limit * 3 / 4, gone).await.is_err() {
            let left: Vec<_> = self.sockets().values().filter_map(Weak::upgrade).collect();
            tracing::warn!(sockets = left.len(), "Sockets were still open near the limit of stopping and are ended");
            left.iter().for_each(kill);
        }
    }

    /// CONNECT: the token is checked in a task of its own; what the client sends meanwhile is against the protocol.
    fn connect(self: &Arc<Self>, socket: Arc<EngineSocket>, packet: &Str) {
        let Ok(Packet::Connect { namespace, auth }) = Packet::read(packet) else { return };
        if namespace != "/" {
            let refusal = Refusal::new(Reason::NotFound, "Invalid namespace");
            refuse(&socket, namespace, &refusal);
            return;
        }
        {
            let mut phase = socket.data.phase();
            if !matches!(*phase, Phase::New) {
                return;
            }
            *phase = Phase::Connecting;
        }
        let too_large = packet.len() > self.hub.config().event_bytes_max;
        let auth = if too_large {
            Err(Refusal::new(Reason::PayloadTooLarge, "What comes with CONNECT is too large"))
        } else {
            Auth::read(auth)
        };
        let engine = Arc::clone(self);
        self.hub.tasks.spawn(async move {
            let link = Box::new(EngineLink(Arc::clone(&socket)));
            let id = socket.id;
            let accepted = match &auth {
                Ok(auth) => Box::pin(connect::accept(&engine.hub, auth, id.as_str(), address(&socket), link)).await,
                Err(refusal) => Err(refusal.clone()),
            };
            match accepted {
                Ok(session) => engine.open(&socket, &session, auth.map(|auth| auth.rooms).unwrap_or_default()),
                Err(refusal) => {
                    // The client closes the connection by itself; one that does not is closed at the time limit.
                    *socket.data.phase() = Phase::Over;
                    refuse(&socket, "/", &refusal);
                }
            }
        });
    }

    /// The socket is let in: from here on it is heard, and the first thing it hears is that.
    fn open(&self, socket: &EngineSocket, session: &Arc<Session>, rooms: Vec<(String, Option<String>)>) {
        {
            let mut phase = socket.data.phase();
            if matches!(*phase, Phase::Connecting) {
                *phase = Phase::Open(Arc::clone(session));
            } else {
                drop(phase);
                // The connection ended while the token was checked.
                self.hub.disconnected(session, Closed::Client);
                return;
            }
            // Under the phase's lock, so that nothing that the client sends is handled before its rooms are in line.
            if session.send(packet::connect(socket.id.as_str())).is_ok() {
                session.emit("connected", &connect::greeting(session));
                events::resume(&self.hub, session, rooms);
            }
        }
        meter::handshake("accepted");
    }

    fn close_late(socket: &Arc<EngineSocket>, limit: Duration) {
        let socket = Arc::downgrade(socket);
        tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            if let Some(socket) = socket.upgrade()
                && !matches!(*socket.data.phase(), Phase::Open(_))
            {
                kill(&socket);
            }
        });
    }
}

impl EngineIoHandler for Engine {
    type Data = Data;

    fn on_connect(self: Arc<Self>, socket: Arc<EngineSocket>) {
        self.sockets().insert(socket.id, Arc::downgrade(&socket));
        Self::close_late(&socket, self.hub.config().connect_timeout());
    }

    fn on_disconnect(&self, socket: Arc<EngineSocket>, reason: DisconnectReason) {
        let phase = std::mem::replace(&mut *socket.data.phase(), Phase::Over);
        if let Phase::Open(session) = phase {
            let why = if reason == DisconnectReason::PacketParsingError { Closed::Protocol } else { Closed::Client };
            self.hub.disconnected(&session, why);
        }
        let mut sockets = self.sockets();
        sockets.remove(&socket.id);
        if sockets.capacity() > 4 * sockets.len() + 64 {
            sockets.shrink_to_fit();
        }
        drop(sockets);
        self.ended.notify_waiters();
    }

    fn on_message(self: &Arc<Self>, msg: Str, socket: Arc<EngineSocket>) {
        let open = match &*socket.data.phase() {
            Phase::Open(session) => Some(Arc::clone(session)),
            Phase::New | Phase::Connecting | Phase::Over => None,
        };
        match (Packet::read(&msg), open) {
            (Ok(Packet::Connect { .. }), _) => self.connect(socket, &msg),
            // Copied, because the text shares the buffer that the connection reads into.
            (Ok(Packet::Event { .. } | Packet::Binary { .. }), Some(session)) => {
                events::receive(&self.hub, &session, Frame::copy_from_slice(&msg));
            }
            // What was under way when the socket was closed.
            (Ok(Packet::Event { .. } | Packet::Binary { .. }), None) if matches!(*socket.data.phase(), Phase::Over) => {
            }
            (Ok(Packet::Ack), _) => {}
            (Ok(Packet::Disconnect), _) => socket.close(DisconnectReason::TransportClose),
            (Ok(Packet::Event { .. } | Packet::Binary { .. }) | Err(_), _) => {
                socket.close(DisconnectReason::PacketParsingError);
            }
        }
    }

    fn on_binary(self: &Arc<Self>, _data: Bytes, _socket: Arc<EngineSocket>) {
        // The attachment of an event that was refused when its text came.
    }
}

fn refuse(socket: &EngineSocket, namespace: &str, refusal: &Refusal) {
    meter::handshake(refusal.reason.as_str());
    let error = events::error_object(refusal);
    let message = ErrorObject::from(refusal.clone()).message;
    // A connection that is gone hears no more.
    drop(socket.emit(packet::connect_error(namespace, &message, &error)));
}

fn address(socket: &EngineSocket) -> IpAddr {
    socket.req_parts.extensions.get::<Client>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0)
}

/// The connection that is this socket's alone: a WebSocket's. A polling client's may carry others' requests.
fn own_connection(socket: &EngineSocket) -> Option<Connection> {
    if socket.transport_type() != TransportType::Websocket {
        return None;
    }
    let upgraded = socket.data.upgraded().clone();
    upgraded.or_else(|| socket.req_parts.extensions.get::<Connection>().cloned())
}

/// Ends a connection at once, also one whose peer has stopped reading.
fn kill(socket: &Arc<EngineSocket>) {
    socket.close(DisconnectReason::TransportError);
    if let Some(connection) = own_connection(socket) {
        connection.kill();
    }
}

/// A connection as the rest of the realtime edge sees it.
struct EngineLink(Arc<EngineSocket>);

impl Link for EngineLink {
    fn send(&self, frame: Frame) -> Result<(), Unsent> {
        self.0.emit(frame).map_err(|unsent| match unsent {
            TrySendError::Full(_) => Unsent::Full,
            TrySendError::Closed(_) => Unsent::Gone,
        })
    }

    fn kill(&self) {
        kill(&self.0);
    }

    fn finish(&self) {
        let socket = Arc::clone(&self.0);
        if let Some(connection) = own_connection(&socket) {
            // The writer writes what is queued before it sees that the session has ended, if its peer reads at all.
            socket.close(DisconnectReason::ClosingServer);
            tokio::spawn(async move {
                tokio::time::sleep(LAST_WORD).await;
                connection.kill();
            });
        } else {
            // What is queued waits for the next poll.
            tokio::spawn(async move {
                tokio::time::sleep(LAST_POLL).await;
                kill(&socket);
            });
        }
    }
}
