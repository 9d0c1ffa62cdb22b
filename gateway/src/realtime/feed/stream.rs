//! The stream of one link: it keeps the subscriptions as they are wanted and hands what comes in to the rooms, connecting
//! again after each break from where every room stood. It judges no entry: that is `room.rs`.

use std::{sync::Arc, time::Duration};

use mesh::{
    client::{self, Backoff},
    error::Reason,
    identity::ServiceName,
    proto::message::v1::{WatchRoomsRequest, WatchRoomsResponse, watch_rooms_response::Event},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::{Feeds, Position, link::Link, room::Verdict};

/// Requests that wait to be written; more wait in the list of rooms, which is bounded by itself.
const REQUESTS: usize = 256;
/// After so many entries the tasks that write to sockets get a turn: a burst must not look like slow readers.
const YIELD_AFTER: usize = 16;
/// How long a replica that has left the ring is listened to while its rooms move.
const LEAVE_MAX: Duration = Duration::from_secs(10);

impl Feeds {
    /// Keeps a link's stream until shutdown, or until the link is over. A break is logged once, not at every try.
    pub(super) async fn keep(self: Arc<Self>, link: Arc<Link>, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut whole = true;
        let left = async {
            link.leaving.cancelled().await;
            tokio::time::sleep(LEAVE_MAX).await;
        };
        tokio::pin!(left);
        loop {
            let given_up = link.replica.given_up();
            let result = tokio::select! {
                () = shutdown.cancelled() => break,
                () = &mut left => break,
                () = given_up.cancelled() => Err(Status::unavailable("it does not answer")),
                result = self.follow(&link, &mut backoff, &mut whole) => result,
            };
            self.cut(&link);
            if link.leaving.is_cancelled() {
                break;
            }
            if whole {
                whole = false;
                let cause = result.err().map_or_else(|| "ended".to_owned(), |status| status.code().to_string());
                let address = link.replica.address();
                tracing::warn!(rpc.grpc.status = cause, peer.address = %address, "The stream of rooms broke; connecting again");
            }
            // Whether the replica or only the stream has died decides where the rooms go.
            self.clients.message_replicas().suspect(&link.replica);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.is_back(&link) => {}
                () = backoff.wait() => {}
            }
        }
        self.cut(&link);
        self.unlink(&link);
    }

    /// Waits until the link's replica was dead and is alive again.
    async fn is_back(&self, link: &Link) {
        let mut changes = self.clients.message_replicas().changes();
        let mut dead = false;
        loop {
            if link.replica.is_alive() && dead {
                return;
            }
            dead = !link.replica.is_alive();
            // The sender is in the clients, which this holds.
            drop(changes.changed().await);
        }
    }

    /// The link's stream is gone: who was followed by it waits for the next one.
    fn cut(&self, link: &Link) {
        link.clear();
        for room in self.all() {
            room.cut(link.id);
            self.mark(room.id);
        }
    }

    /// One life of the stream. Reading and writing go on side by side: a server that waits for us to read must not wait
    /// while we wait for it to take a request.
    async fn follow(self: &Arc<Self>, link: &Arc<Link>, backoff: &mut Backoff, whole: &mut bool) -> Result<(), Status> {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let bearer = self.identity.assertion(ServiceName::Message, None);
        let mut client = self.clients.message_at(&link.replica);
        let opening = client.watch_rooms(client::stream_request(ReceiverStream::new(receiver), &bearer));
        let reading = async {
            let mut responses = opening.await?.into_inner();
            if !*whole {
                tracing::info!(peer.address = %link.replica.address(), "The stream of rooms is whole again");
                *whole = true;
            }
            let mut count = 0;
            while let Some(response) = responses.message().await? {
                backoff.reset();
                count += match &response.event {
                    Some(Event::Entries(logged)) => logged.entries.len(),
                    Some(Event::Subscribed(_) | Event::Typing(_) | Event::Dropped(_)) | None => 1,
                };
                self.hear(link, response);
                if count >= YIELD_AFTER {
                    count = 0;
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        };
        tokio::select! {
            result = reading => result,
            () = self.keep_subscriptions(link, requests) => Ok(()),
        }
    }

    /// Writes what makes the subscriptions of this stream what is wanted, until the stream is gone or the link is over.
    async fn keep_subscriptions(&self, link: &Link, requests: mpsc::Sender<WatchRoomsRequest>) {
        self.all().iter().for_each(|room| link.mark(room.id));
        loop {
            while let Some(id) = link.next_dirty() {
                for action in self.reconcile(link, id) {
                    if requests.send(WatchRoomsRequest { action: Some(action) }).await.is_err() {
                        return;
                    }
                }
            }
            if link.is_over() {
                return;
            }
            link.woken().await;
        }
    }

    fn hear(self: &Arc<Self>, link: &Link, response: WatchRoomsResponse) {
        let Some(room) = Uuid::try_parse(&response.room_id).ok().and_then(|id| self.get(id)) else { return };
        let verdict = match response.event {
            Some(Event::Subscribed(subscribed)) => {
                if !self.owns(link, room.id) && !room.is_live_at(link.id) {
                    // The ring has changed since this was asked for.
                    link.doubt(room.id);
                    return;
                }
                room.subscribed(link.id, Position { seq: subscribed.seq, cursor: subscribed.cursor.into() })
            }
            Some(Event::Entries(logged)) => room.entries(link.id, logged.entries),
            Some(Event::Typing(typing)) => {
                // Two replicas tell the same for a moment when a room moves.
                if room.is_live_at(link.id) {
                    room.typing(&typing);
                }
                Verdict::Fine
            }
            Some(Event::Dropped(_)) if !self.owns(link, room.id) && !room.is_live_at(link.id) => {
                link.doubt(room.id);
                Verdict::Fine
            }
            Some(Event::Dropped(dropped)) => {
                room.dropped(Reason::from_code(&dropped.reason).unwrap_or(Reason::Unavailable))
            }
            None => Verdict::Fine,
        };
        match verdict {
            Verdict::Fine => {}
            Verdict::Moved => self.mark(room.id),
            Verdict::Ended => self.forget(&room),
            Verdict::Again(wait) if wait.is_zero() => self.mark(room.id),
            Verdict::Again(wait) => {
                let (feeds, id) = (Arc::downgrade(self), room.id);
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    if let Some(feeds) = feeds.upgrade() {
                        feeds.mark(id);
                    }
                });
            }
        }
    }
}
