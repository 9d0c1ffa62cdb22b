//! The way of sends to message-svc: one stream to each replica, on which the bundles of all sockets that wait go together
//! and come back answered. It knows no socket and repeats nothing: who sends tries again (`send.rs`), in their order.
//! The stream of one replica is `carrier/line.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use mesh::{
    client::{Clients, Replica},
    identity::Identity,
    proto::message::v1::{SendMessageRequest, SendMessageResponse},
    telemetry,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use uuid::Uuid;

use super::{RealtimeConfig, meter};

mod line;

/// What became of each message of a bundle.
pub(super) type Outcomes = Vec<Result<SendMessageResponse, Status>>;

/// The streams.
pub(super) struct Carrier {
    identity: Arc<Identity>,
    clients: Clients,
    bundles_max: usize,
    /// One for each replica that was sent to. They end with this, or when their replica is known no more.
    lines: Mutex<Vec<Line>>,
}

/// The stream to one replica.
struct Line {
    replica: Arc<Replica>,
    bundles: mpsc::Sender<Bundle>,
    _task: AbortOnDropHandle<()>,
}

/// A bundle that waits to be written. When nobody waits for its answer any more it is not.
struct Bundle {
    token: Arc<str>,
    messages: Vec<SendMessageRequest>,
    until: Instant,
    /// The span that sends it, when its trace is sampled, else empty.
    traceparent: String,
    reply: oneshot::Sender<Result<Outcomes, Status>>,
}

impl Carrier {
    pub(super) fn new(config: &RealtimeConfig, identity: Arc<Identity>, clients: Clients) -> Self {
        Self { identity, clients, bundles_max: config.bundles_max, lines: Mutex::default() }
    }

    /// Sends messages into one room on behalf of the user of `token`, in their order, to the replica that the room
    /// belongs to; answers what became of each. Dropped, it takes back what was not written yet.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the replica cannot be reached, or went away before it answered: nobody knows then what became
    /// of them.
    pub(super) async fn carry(
        &self,
        room: Uuid,
        token: Arc<str>,
        messages: Vec<SendMessageRequest>,
        until: Instant,
    ) -> Result<Outcomes, Status> {
        let replicas = self.clients.message_replicas();
        let known = replicas.known().await;
        let replica = known.owner(room).ok_or_else(|| Status::unavailable("message-svc's name has no address"))?;
        let _under_way = meter::UnderWay::new(messages.len());
        let (reply, answer) = oneshot::channel();
        let bundles = self.line(&replica, |one| known.iter().any(|known| Arc::ptr_eq(known, one)));
        let gone = || Status::unavailable("the stream of sends ended");
        let traceparent = telemetry::sampled_traceparent();
        if bundles.send(Bundle { token, messages, until, traceparent, reply }).await.is_err() {
            return Err(gone());
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The way to a replica's line, which is made if there is none. Those of replicas that are known no more end.
    fn line(&self, replica: &Arc<Replica>, is_known: impl Fn(&Arc<Replica>) -> bool) -> mpsc::Sender<Bundle> {
        // Nothing that could panic half-way runs under this lock.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.iter().find(|line| Arc::ptr_eq(&line.replica, replica)) {
            return line.bundles.clone();
        }
        lines.retain(|line| is_known(&line.replica));
        let (bundles, waiting) = mpsc::channel(self.bundles_max);
        let (identity, clients) = (Arc::clone(&self.identity), self.clients.clone());
        let task = tokio::spawn(line::keep(Arc::clone(replica), identity, clients, waiting));
        let (replica, bundles_too) = (Arc::clone(replica), bundles.clone());
        lines.push(Line { replica, bundles: bundles_too, _task: AbortOnDropHandle::new(task) });
        bundles
    }
}
