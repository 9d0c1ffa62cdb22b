//! A bare queue of pre-framed WebSocket messages: what this machine and its loopback can deliver at most, from one task a
//! socket. An event is encoded and framed once, shared by every socket, and whatever waits for a socket goes out in one
//! write. It speaks just enough of Engine.IO and Socket.IO that a stock client takes it for a server.
//!
//! | file | owns |
//! |---|---|
//! | `handshake.rs` | the upgrade of a connection |
//! | `frame.rs` | WebSocket frames, both ways |
//! | `packet.rs` | the text of Engine.IO and Socket.IO packets |
//! | `outbox.rs` | what waits for one socket |
//! | `connection.rs` | one socket: its loop and its events |
//! | `hub.rs` | rooms, and who is in them; pings |

use std::{error::Error, sync::Arc, time::Duration};

use tokio::net::TcpListener;

mod connection;
mod frame;
mod handshake;
mod hub;
mod outbox;
mod packet;

use hub::Hub;

/// Without files or memory, accepting fails at once again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Arc::new(Hub::default());
    let listening = peer::listen()?;
    listening.ready();
    tokio::select! {
        stopped = peer::stopped() => stopped?,
        () = accept(&listening.listener, &hub) => {}
        () = hub.ping() => {}
    }
    Ok(())
}

async fn accept(listener: &TcpListener, hub: &Arc<Hub>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if stream.set_nodelay(true).is_ok() {
                    tokio::spawn(connection::run(stream, Arc::clone(hub)));
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
