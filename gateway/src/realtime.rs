//! The live edge: Socket.IO under `/socket` for stock clients, over WebSocket and polling. It owns sockets and the rooms
//! that they follow, and no truth: rooms, membership and messages are message-svc's, sessions auth-svc's.
//!
//! The transport is engineioxide, the Engine.IO server under socketioxide, without socketioxide itself: with that one a
//! refused connection cannot carry the error object, a socket whose buffer is full cannot be closed, and a packet is
//! framed again for every socket. Socket.IO's own protocol is a page of text (`packet.rs`). To exchange the transport,
//! rewrite `engine.rs` and `service.rs`; nothing else knows it.
//!
//! | file | owns |
//! |---|---|
//! | `service.rs`, `engine.rs`, `packet.rs` | requests, connections, packets |
//! | `connect.rs` | who may connect |
//! | `session.rs` | one socket: its queue, its rooms |
//! | `events.rs`, `payload.rs` | what clients send |
//! | `join.rs` | entering a room without a gap |
//! | `feed.rs` | following rooms, one subscription each, and delivering |
//! | `hub.rs` | what all sockets share; revocation |

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod config;
mod connect;
mod engine;
mod events;
#[cfg(test)]
mod fake;
mod feed;
mod hub;
mod join;
mod meter;
mod packet;
mod payload;
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
    let hub = hub::Hub::new(Arc::clone(&edge));
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
    let layer = SocketIoLayer::new(edge, Arc::clone(&engine));
    (layer, Realtime { hub, engine, tasks, end })
}

impl Realtime {
    /// Tells every socket that it is closed, waits until they are gone or the limit has passed, and ends the tasks.
    /// Clients connect again by themselves, and resume by cursor.
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

impl Drop for Realtime {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
