//! The live edge: Socket.IO under `/socket` for stock clients, over WebSocket and polling. It owns sockets and the rooms
//! that they follow, and no truth: rooms, membership and messages are message-svc's, sessions auth-svc's.
//!
//! The transport is ours, because delivering is what this gateway is for: a packet is framed once and shared by all
//! sockets that get it, what waits for a socket goes out in one write, a full queue closes its socket, and an idle socket
//! holds no buffer. WebSocket's handshake and frame headers are tungstenite's. Nothing outside `engine.rs` knows what
//! carries a packet.
//!
//! | file | owns |
//! |---|---|
//! | `service.rs`, `engine.rs` | requests, connections, what carries packets |
//! | `packet.rs`, `frame.rs` | what packets say; a packet as the bytes that are written |
//! | `namespace.rs`, `connect.rs` | entering the namespace; who may |
//! | `session.rs` | one socket: its queue, its rooms |
//! | `events.rs`, `payload.rs` | what clients send |
//! | `send.rs`, `carrier.rs` | sends of one socket, in their order; the streams to message-svc that carry all of them |
//! | `join.rs` | entering a room without a gap |
//! | `feed.rs` | following rooms, one subscription each, and delivering |
//! | `hub.rs` | what all sockets share; revocation |

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod carrier;
mod config;
mod connect;
mod engine;
mod events;
#[cfg(test)]
mod fake;
mod feed;
mod frame;
mod hub;
mod join;
mod meter;
mod namespace;
mod packet;
mod payload;
mod send;
mod service;
mod session;
#[cfg(test)]
mod tests;

pub use config::RealtimeConfig;
pub use service::SocketIoLayer;

use crate::edge::Edge;

/// The running realtime edge.
#[derive(Debug)]
pub struct Realtime {
    hub: Arc<hub::Hub>,
    engine: Arc<engine::Engine>,
    tasks: TaskTracker,
    /// Ends the tasks; after the sockets, which need them to the last.
    end: CancellationToken,
}

/// Makes the layer that takes the requests, and starts what follows rooms and revocations. From `shutdown` on nobody is
/// let in; the sockets that are there live until [`Realtime::stop`].
pub(crate) fn build(edge: Arc<Edge>, shutdown: CancellationToken) -> (SocketIoLayer, Realtime) {
    let hub = hub::Hub::new(edge);
    let engine = engine::Engine::new(Arc::clone(&hub));
    let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(Arc::clone(&hub.feeds).run(end.clone()));
    tasks.spawn(Arc::clone(&hub).follow_revocations(end.clone()));
    tasks.spawn(Arc::clone(&hub).follow_ages(end.clone()));
    let closing = Arc::clone(&hub);
    tasks.spawn(end.clone().run_until_cancelled_owned(async move {
        shutdown.cancelled().await;
        closing.stop();
    }));
    let layer = SocketIoLayer::new(Arc::clone(&engine));
    (layer, Realtime { hub, engine, tasks, end })
}

impl Realtime {
    /// Tells the sockets that they are closed, spread over some time, waits until they are gone or the limit has passed,
    /// and ends the tasks. Clients connect again by themselves, and resume by cursor.
    pub async fn stop(&self, limit: Duration) {
        self.engine.stop(limit).await;
        self.end.cancel();
        self.tasks.close();
        self.hub.tasks.close();
        let ended = async {
            self.tasks.wait().await;
            self.hub.tasks.wait().await;
        };
        // What is left of the limit; the caller cuts it there as well.
        if tokio::time::timeout(limit / 4, ended).await.is_err() {
            tracing::warn!("Events of sockets were still being handled at the limit of stopping");
        }
    }
}

#[cfg(test)]
impl Realtime {
    /// Whether no connection is left.
    fn engine_is_empty(&self) -> bool {
        self.engine.is_empty()
    }
}

impl Drop for Realtime {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
