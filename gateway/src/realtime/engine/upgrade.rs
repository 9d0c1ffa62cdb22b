//! The way from polling to WebSocket: the client opens a WebSocket for its session, probes it, and says when it has
//! fetched the last packet by polling. Until then the session goes on by polling, and if the probe fails it stays there;
//! nothing is lost or overtaken either way.

use std::sync::Arc;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use mesh::serve::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Engine, Owner,
    reader::{Incoming, Reader},
    request::Fault,
    socket::{Ending, Socket, Wire},
    websocket::Channel,
};
use crate::realtime::frame::Frame;

/// Notes that a WebSocket is being opened for a session.
///
/// # Errors
/// When the session has one, or has ended.
pub(super) fn begin(socket: &Socket) -> Result<(), Fault> {
    let mut state = socket.state();
    if state.ending != Ending::No {
        return Err(Fault::UnknownSession);
    }
    let polling = state.polling().filter(|polling| !polling.upgrading).ok_or(Fault::BadRequest)?;
    polling.upgrading = true;
    Ok(())
}

/// Runs the WebSocket: first the probe, then, when the client moves, the session.
pub(super) async fn serve(
    engine: Arc<Engine>,
    socket: Arc<Socket>,
    upgrade: OnUpgrade,
    connection: Option<Connection>,
) {
    let Ok(upgraded) = upgrade.await else {
        abandon(&socket);
        return;
    };
    let (mut io, mut reader) = (TokioIo::new(upgraded), Reader::default());
    let limit = engine.config().upgrade_timeout();
    let probe = Box::pin(probe(&engine, &socket, &mut io, &mut reader));
    let Some(early) = tokio::time::timeout(limit, probe).await.ok().flatten() else {
        // Before the connection is let go of: a client that sees its end may try again at once.
        abandon(&socket);
        return;
    };
    let Some(owner) = take_over(engine, &socket) else { return };
    let mut channel = Channel::new(owner, io, connection, reader);
    drop(socket);
    channel.hear(&early);
    channel.await;
}

/// Speaks with the client until it moves; what came right after that. None when it does not move.
async fn probe(engine: &Engine, socket: &Socket, io: &mut TokioIo<Upgraded>, reader: &mut Reader) -> Option<Vec<u8>> {
    let mut probed = false;
    loop {
        let mut buffer = [0; 512];
        let read = io.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        let mut input = &buffer[..read];
        while let Some(incoming) = reader.read(&mut input, engine.config().frame_bytes_max).ok()? {
            let answer = match incoming {
                Incoming::Text(packet) if packet == "2probe" => {
                    probed = true;
                    Frame::control("3probe")
                }
                Incoming::Text(packet) if packet == "5" && probed => return Some(input.to_vec()),
                Incoming::Ping(payload) => Frame::websocket(10, &payload),
                Incoming::Pong => continue,
                Incoming::Text(_) | Incoming::Binary | Incoming::Close(_) => return None,
            };
            io.write_all(answer.bytes()).await.ok()?;
            if probed {
                let_polls_go(socket);
            }
        }
    }
}

/// The poll that waits is answered, and so is every one that comes, so that the client can end with polling.
fn let_polls_go(socket: &Socket) {
    let mut state = socket.state();
    if let Some(polling) = state.polling() {
        polling.probed = true;
        state.wake();
    }
}

/// The session stays where it is.
fn abandon(socket: &Socket) {
    if let Some(polling) = socket.state().polling() {
        (polling.upgrading, polling.probed) = (false, false);
    }
}

/// From here on the WebSocket carries the session; its polling task ends.
fn take_over(engine: Arc<Engine>, socket: &Arc<Socket>) -> Option<Owner> {
    let mut state = socket.state();
    state.polling()?;
    // The poll that may still wait is answered with nothing, and the session's task told.
    state.wake();
    state.changed();
    state.wire = Wire::WebSocket;
    Some(Owner::new(engine, Arc::clone(socket)))
}
