//! The one stream to message-svc: it keeps the subscriptions as the rooms want them and hands what comes in to the
//! rooms, connecting again after each break from where every room stood. It judges no entry: that is `room.rs`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mesh::{
    client::{self, Backoff},
    error::Reason,
    identity::ServiceName,
    proto::message::v1::{
        WatchRoomsRequest, WatchRoomsResponse,
        watch_rooms_request::{Action, Subscribe, Unsubscribe},
        watch_rooms_response::Event,
    },
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::{Feeds, Position, room::Verdict};

/// Requests that wait to be written; more wait in the list of rooms, which is bounded by itself.
const REQUESTS: usize = 256;
/// After so many messages the tasks that write to sockets get a turn: a burst must not look like slow readers.
const YIELD_EVERY: u32 = 16;
/// How often idle rooms are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Feeds {
    /// Follows until shutdown. A break is logged once, not at every try.
    pub(in crate::realtime) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let sweeper = tokio::spawn(Arc::clone(&self).sweep_until(shutdown.clone()));
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut whole = true;
        loop {
            let result = tokio::select! {
                () = shutdown.cancelled() => break,
                result = self.follow(&mut backoff, &mut whole) => result,
            };
            if whole {
                whole = false;
                let cause = result.err().map_or_else(|| "ended".to_owned(), |status| status.code().to_string());
                tracing::warn!(rpc.grpc.status = cause, "The stream of rooms broke; connecting again");
            }
            self.all().iter().for_each(|room| room.cut());
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = backoff.wait() => {}
            }
        }
        // It ends by the same token; its own panic would have been logged.
        drop(sweeper.await);
    }

    async fn sweep_until(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.sweep(),
            }
        }
    }

    /// One life of the stream. Reading and writing go on side by side: a server that waits for us to read must not wait
    /// while we wait for it to take a request.
    async fn follow(self: &Arc<Self>, backoff: &mut Backoff, whole: &mut bool) -> Result<(), Status> {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let bearer = self.identity.assertion(ServiceName::Message, None);
        let mut client = self.clients.message();
        let opening = client.watch_rooms(client::stream_request(ReceiverStream::new(receiver), &bearer));
        let reading = async {
            let mut responses = opening.await?.into_inner();
            if !*whole {
                tracing::info!("The stream of rooms is whole again");
                *whole = true;
            }
            let mut count = 0_u32;
            while let Some(response) = responses.message().await? {
                backoff.reset();
                self.hear(response);
                count = count.wrapping_add(1);
                if count.is_multiple_of(YIELD_EVERY) {
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        };
        tokio::select! {
            result = reading => result,
            () = self.keep_subscriptions(requests) => Ok(()),
        }
    }

    /// Writes what makes the subscriptions of this stream what the rooms want, until the stream is gone.
    async fn keep_subscriptions(&self, requests: mpsc::Sender<WatchRoomsRequest>) {
        let mut subscribed = HashMap::new();
        self.all().iter().for_each(|room| self.mark(room.id));
        loop {
            while let Some(id) = self.next_dirty() {
                for action in self.reconcile(id, &mut subscribed) {
                    if requests.send(WatchRoomsRequest { action: Some(action) }).await.is_err() {
                        return;
                    }
                }
            }
            self.wake.notified().await;
        }
    }

    fn reconcile(&self, id: Uuid, subscribed: &mut HashMap<Uuid, u64>) -> Vec<Action> {
        let room = self.get(id);
        let wanted = room.as_ref().and_then(|room| room.wanted());
        let mut actions = Vec::new();
        if subscribed.get(&id).copied() == wanted.as_ref().map(|(generation, _)| *generation) {
            return actions;
        }
        let room_id = id.to_string();
        // A room that is being followed is followed from elsewhere only after it was left.
        if subscribed.remove(&id).is_some() {
            actions.push(Action::Unsubscribe(Unsubscribe { room_id: room_id.clone() }));
        }
        if let Some((generation, cursor)) = wanted {
            subscribed.insert(id, generation);
            actions.push(Action::Subscribe(Subscribe { room_id, cursor }));
        }
        actions
    }

    fn hear(self: &Arc<Self>, response: WatchRoomsResponse) {
        let Some(room) = Uuid::try_parse(&response.room_id).ok().and_then(|id| self.get(id)) else { return };
        let verdict = match response.event {
            Some(Event::Subscribed(subscribed)) => {
                room.subscribed(Position { seq: subscribed.seq, cursor: subscribed.cursor.into() })
            }
            Some(Event::Entry(logged)) => match logged.entry {
                Some(entry) => room.entry(entry, logged.cursor),
                None => Verdict::Fine,
            },
            Some(Event::Typing(typing)) => {
                room.typing(&typing);
                Verdict::Fine
            }
            Some(Event::Dropped(dropped)) => {
                room.dropped(Reason::from_code(&dropped.reason).unwrap_or(Reason::Unavailable))
            }
            None => Verdict::Fine,
        };
        match verdict {
            Verdict::Fine => {}
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
