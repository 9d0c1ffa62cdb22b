//! The namespace `/` on a connection: CONNECT with a token, events to the session's queue, and the end. Nothing here
//! knows what carries the packets; that is `engine.rs`. Who may connect is `connect.rs`, what the events do `events.rs`.

use std::sync::Arc;

use mesh::error::{Reason, Refusal};
use tokio::time::Instant;

use super::{
    connect::{self, Auth},
    engine::{Engine, Socket},
    events,
    meter::{self, Closed},
    packet::{self, Packet},
    session::{Link as _, Session},
};
use crate::error::ErrorObject;

pub(super) use super::packet::Malformed;

/// How far a connection has come.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// Nobody has said who they are.
    #[default]
    New,
    /// The token is being checked.
    Connecting,
    /// A socket of the namespace `/`.
    Open(Arc<Session>),
    /// Refused, or ended.
    Over,
}

/// Takes a message of a client. It is called in the order of arrival and never waits.
///
/// # Errors
/// For what no client sends, which ends the connection.
pub(super) fn receive(engine: &Arc<Engine>, socket: &Arc<Socket>, text: &str) -> Result<(), Malformed> {
    match Packet::read(text)? {
        Packet::Connect { namespace, auth } => connect(engine, socket, namespace, auth),
        Packet::Event { .. } | Packet::Binary { .. } => {
            let open = match &*socket.phase() {
                Phase::Open(session) => Some(Arc::clone(session)),
                Phase::New | Phase::Connecting => return Err(Malformed),
                // What was under way when the socket was closed.
                Phase::Over => None,
            };
            if let Some(session) = open {
                events::receive(&engine.hub, &session, text.into());
            }
        }
        Packet::Disconnect => leave(engine, socket),
        Packet::Ack => {}
    }
    Ok(())
}

/// The client leaves the namespace; it may enter again within the time that it had at first.
fn leave(engine: &Engine, socket: &Socket) {
    let mut phase = socket.phase();
    if let Phase::Open(session) = &*phase {
        let session = Arc::clone(session);
        *phase = Phase::New;
        drop(phase);
        socket.connect_by(Some(Instant::now() + engine.hub.config().connect_timeout()));
        engine.hub.disconnected(&session, Closed::Client);
    }
}

/// The connection has ended.
pub(super) fn ended(engine: &Engine, socket: &Socket, why: Closed) {
    let phase = std::mem::replace(&mut *socket.phase(), Phase::Over);
    if let Phase::Open(session) = phase {
        engine.hub.disconnected(&session, why);
    }
}

/// CONNECT: the token is checked in a task of its own; what the client sends meanwhile is against the protocol.
fn connect(engine: &Arc<Engine>, socket: &Arc<Socket>, namespace: &str, auth: &str) {
    if namespace != "/" {
        let refusal = Refusal::new(Reason::NotFound, "Invalid namespace");
        refuse(socket, namespace, &refusal);
        return;
    }
    {
        let mut phase = socket.phase();
        if !matches!(*phase, Phase::New) {
            return;
        }
        *phase = Phase::Connecting;
    }
    let auth = if auth.len() > engine.hub.config().event_bytes_max {
        Err(Refusal::new(Reason::PayloadTooLarge, "What comes with CONNECT is too large"))
    } else {
        Auth::read(auth)
    };
    let (engine, socket) = (Arc::clone(engine), Arc::clone(socket));
    engine.hub.clone().tasks.spawn(async move {
        let id = socket.id.to_string();
        let accepted = match &auth {
            Ok(auth) => Box::pin(connect::accept(&engine.hub, auth, &id, socket.address, socket.clone())).await,
            Err(refusal) => Err(refusal.clone()),
        };
        match accepted {
            Ok(session) => open(&engine, &socket, &session, auth.map(|auth| auth.rooms).unwrap_or_default()),
            Err(refusal) => {
                // The client closes the connection by itself; one that does not is closed at the time limit.
                *socket.phase() = Phase::Over;
                refuse(&socket, "/", &refusal);
            }
        }
    });
}

/// The socket is let in: from here on it is heard, and the first thing it hears is that.
fn open(engine: &Engine, socket: &Socket, session: &Arc<Session>, rooms: Vec<(String, Option<String>)>) {
    {
        let mut phase = socket.phase();
        if matches!(*phase, Phase::Connecting) {
            *phase = Phase::Open(Arc::clone(session));
        } else {
            drop(phase);
            // The connection ended while the token was checked.
            engine.hub.disconnected(session, Closed::Client);
            return;
        }
        socket.connect_by(None);
        // Under the phase's lock, so that nothing that the client sends is handled before its rooms are in line.
        if session.send(packet::connect(&session.socket_id)).is_ok() {
            session.emit("connected", &connect::greeting(session));
            events::resume(&engine.hub, session, rooms);
        }
    }
    meter::handshake("accepted");
}

fn refuse(socket: &Socket, namespace: &str, refusal: &Refusal) {
    meter::handshake(refusal.reason.as_str());
    let error = events::error_object(refusal);
    let message = ErrorObject::from(refusal.clone()).message;
    if socket.send(packet::connect_error(namespace, &message, &error)).is_err() {
        tracing::trace!("A refused connection was gone before it heard of it");
    }
}
