//! The two streams that follow rooms: one room for a user, who must be a member and whose session must live, and many
//! rooms for a gateway, which asks permission itself. Both are [`crate::watch::Watch`] with an end of its own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use mesh::{
    error::{Reason, Refusal},
    identity::{Identity, TokenError, UserCaller},
    proto::message::v1::{
        WatchRoomResponse, WatchRoomsRequest, WatchRoomsResponse,
        watch_rooms_request::{Action, Subscribe},
        watch_rooms_response::{Dropped, Event, LoggedEntries, LoggedEntry, Subscribed, Typing},
    },
    time::Millis,
};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Code, Status};

use super::{
    answer,
    outgoing::{Outgoing, Outlet},
    request,
};
use crate::{
    cursor::Cursor,
    entry::{Entry, Seq},
    error::Error,
    hub::{Hub, Origins},
    id::{LogId, RoomId, UserId},
    store::Store,
    watch::{Pace, Step, Watch},
};

/// How often a stream asks whether its session lives, when no news of revocations come. It costs a look into memory.
const SESSION_CHECK: Duration = Duration::from_secs(5);

/// Entries that go to a gateway together; the contract says so. It queues them for a socket in one turn, so this is much
/// less than a socket's queue has places.
const TOGETHER_MAX: usize = 64;
/// Bytes of content and metadata after which the next entry goes by itself: with what is around it, far below what a gRPC
/// message may have.
const TOGETHER_BYTES_MAX: usize = 512 << 10;

/// What following needs.
pub(crate) struct Following {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) pace: Pace,
    pub(crate) queue_max: usize,
    pub(crate) stall: Duration,
    pub(crate) rooms_max: usize,
    pub(crate) shutdown: CancellationToken,
}

impl Following {
    /// Follows one room for a user.
    pub(super) async fn one(
        &self,
        caller: UserCaller,
        room: RoomId,
        cursor: Option<Cursor>,
    ) -> Result<Outgoing<WatchRoomResponse>, Error> {
        let user = UserId(caller.user_id);
        // Before looking: what is written after the look is hinted.
        let mut watch = self.watch(room);
        let view = self.store.view(room, Some(user)).await?.ok_or(Error::RoomNotFound)?;
        view.membership()?;
        let from = cursor.unwrap_or(view.cursor());
        view.holds(from)?;
        watch.start_after(from);
        let one = One { user, log: view.meta.log, member_at: view.last_seq };
        let session = session_end(Arc::clone(&self.identity), caller);
        Ok(Outgoing::spawn(self.queue_max, self.stall, self.shutdown.clone(), |outlet| async move {
            tokio::select! {
                biased;
                refusal = session => Err(refusal),
                result = one.deliver(watch, outlet) => result,
            }
        }))
    }

    /// Follows many rooms for a gateway, as it says while it goes.
    pub(super) fn many(
        self: &Arc<Self>,
        wanted: impl Stream<Item = Result<WatchRoomsRequest, Status>> + Send + Unpin + 'static,
    ) -> Outgoing<WatchRoomsResponse> {
        let following = Arc::clone(self);
        Outgoing::spawn(self.queue_max, self.stall, self.shutdown.clone(), |outlet| {
            let many = Many { following, outlet, rooms: HashMap::new(), broken: CancellationToken::new() };
            many.run(wanted)
        })
    }

    fn watch(&self, room: RoomId) -> Watch {
        Watch::new(Arc::clone(&self.store), &self.hub, room, self.pace)
    }
}

/// One room, followed by one user.
struct One {
    user: UserId,
    log: LogId,
    /// The seq at which they were seen to be a member. An older entry that expelled them was made good since.
    member_at: Seq,
}

impl One {
    async fn deliver(self, mut watch: Watch, outlet: Outlet<WatchRoomResponse>) -> Result<(), Refusal> {
        loop {
            let Step::Entries(entries, _) = watch.next().await? else { continue };
            for entry in entries {
                let cursor = Cursor { log: self.log, seq: entry.seq }.encode();
                outlet.send(WatchRoomResponse { entry: Some(answer::entry(&entry)), cursor }).await?;
                if entry.closes() || (entry.seq > self.member_at && entry.expels(self.user)) {
                    return Ok(());
                }
            }
        }
    }
}

/// Waits until the caller's session ends or their token expires.
async fn session_end(identity: Arc<Identity>, caller: UserCaller) -> Refusal {
    let mut revocations = identity.revocations();
    let mut checks = tokio::time::interval(SESSION_CHECK);
    loop {
        let left = caller.expires.map_or(SESSION_CHECK, |expires| Millis::now().until(expires));
        if left.is_zero() {
            return TokenError::Expired.into();
        }
        let ask = tokio::select! {
            revoked = revocations.recv() => match revoked {
                Ok(session) => caller.session_id == Some(session),
                Err(RecvError::Lagged(_)) => true,
                // It ends with the identity, and then only the clock is left.
                Err(RecvError::Closed) => { checks.tick().await; true }
            },
            _ = checks.tick() => true,
            () = tokio::time::sleep(left.min(SESSION_CHECK)) => false,
        };
        if let Some(session) = caller.session_id.filter(|_| ask)
            // A stream that is open is not ended because auth-svc is away; it is ended when the session is.
            && identity.check_session(session).await == Err(TokenError::Revoked)
        {
            return TokenError::Revoked.into();
        }
    }
}

/// Many rooms, followed by one gateway.
struct Many {
    following: Arc<Following>,
    outlet: Outlet<WatchRoomsResponse>,
    /// The tasks that follow a room each. One that has ended by itself stays until it is unsubscribed or replaced.
    rooms: HashMap<RoomId, AbortOnDropHandle<()>>,
    /// Cancelled when the reader does not keep up.
    broken: CancellationToken,
}

/// Whether what came was a message that cannot be decoded, which tonic calls `INTERNAL`, and no end of the connection.
fn is_garbage(status: &Status) -> bool {
    status.code() == Code::Internal && std::error::Error::source(status).is_none()
}

impl Many {
    async fn run(
        mut self,
        mut wanted: impl Stream<Item = Result<WatchRoomsRequest, Status>> + Unpin,
    ) -> Result<(), Refusal> {
        let broken = self.broken.clone();
        let slow = || Refusal::new(Reason::SlowConsumer, "Nothing was read for too long; resume by cursors");
        loop {
            let next = broken.run_until_cancelled(wanted.next()).await.ok_or_else(slow)?;
            match next {
                Some(Ok(WatchRoomsRequest { action: Some(Action::Subscribe(room)) })) => self.subscribe(room).await?,
                Some(Ok(WatchRoomsRequest { action: Some(Action::Unsubscribe(room)) })) => {
                    if let Ok(room) = request::room_id(&room.room_id) {
                        self.unsubscribe(room).await;
                    }
                }
                // A later kind of action.
                Some(Ok(WatchRoomsRequest { action: None })) => {}
                Some(Err(status)) if is_garbage(&status) => {
                    let message = "The bytes are no request of this call";
                    return Err(Refusal::new(Reason::MalformedBody, message).with_source(status));
                }
                // Whoever has said all that they want may still listen.
                Some(Err(_)) | None => break,
            }
        }
        broken.cancelled().await;
        Err(slow())
    }

    async fn subscribe(&mut self, wanted: Subscribe) -> Result<(), Refusal> {
        let (room, cursor) = match request::position(&wanted.room_id, &wanted.cursor) {
            Ok(position) => position,
            Err(refusal) => return self.outlet.send(dropped(wanted.room_id, refusal.reason)).await,
        };
        if self.rooms.get(&room).is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        if self.rooms.len() >= self.following.rooms_max {
            self.rooms.retain(|_, task| !task.is_finished());
        }
        if self.rooms.len() >= self.following.rooms_max {
            return self.outlet.send(dropped(wanted.room_id, Reason::Unavailable)).await;
        }
        let (following, outlet, broken) = (Arc::clone(&self.following), self.outlet.clone(), self.broken.clone());
        let task = tokio::spawn(async move {
            let result = match deliver(&following, room, cursor, &outlet).await {
                Err(End::Dropped(reason)) => outlet.send(dropped(room.to_string(), reason)).await,
                Err(End::Slow(refusal)) => Err(refusal),
                Ok(()) => Ok(()),
            };
            if result.is_err() {
                broken.cancel();
            }
        });
        self.rooms.insert(room, AbortOnDropHandle::new(task));
        Ok(())
    }

    async fn unsubscribe(&mut self, room: RoomId) {
        if let Some(task) = self.rooms.remove(&room) {
            task.abort();
            // Only when it has ended may the room be followed again, or the two would mix.
            drop(task.await);
        }
    }
}

/// Why a room is not followed any more.
enum End {
    Dropped(Reason),
    Slow(Refusal),
}

impl<E: Into<Error>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Dropped(Refusal::from(error.into()).reason)
    }
}

async fn deliver(
    following: &Following,
    room: RoomId,
    cursor: Option<Cursor>,
    outlet: &Outlet<WatchRoomsResponse>,
) -> Result<(), End> {
    // Before looking: what is written after the look is hinted.
    let mut watch = following.watch(room);
    let view = following.store.view(room, None).await?.ok_or(Error::RoomNotFound)?;
    let from = cursor.unwrap_or(view.cursor());
    // Who has not seen a room's last entries yet may see them also after it was closed.
    if view.closed && from == view.cursor() {
        return Err(Error::RoomNotFound.into());
    }
    view.holds(from)?;
    watch.start_after(from);
    let room_id = room.to_string();
    let send = |event| outlet.send(WatchRoomsResponse { room_id: room_id.clone(), event: Some(event) });
    send(Event::Subscribed(Subscribed { cursor: from.encode(), seq: from.seq })).await.map_err(End::Slow)?;
    loop {
        match watch.next().await? {
            Step::Entries(entries, origins) => {
                for together in together(&entries) {
                    send(logged(together, view.meta.log, &origins)).await.map_err(End::Slow)?;
                    if together.last().is_some_and(|entry| entry.closes()) {
                        return Ok(());
                    }
                }
            }
            Step::Typing(who) => {
                let (user_id, username) = (who.user.to_string(), who.username.to_string());
                send(Event::Typing(Typing { user_id, username, typing: who.typing })).await.map_err(End::Slow)?;
            }
        }
    }
}

/// Cuts entries into what goes into one response each. Nothing comes after one that closes the room.
fn together(entries: &[Arc<Entry>]) -> impl Iterator<Item = &[Arc<Entry>]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |entry: &&Arc<Entry>| {
            bytes += entry.message().map_or(0, |message| message.weight());
            bytes <= TOGETHER_BYTES_MAX
        };
        let count = rest.iter().take(TOGETHER_MAX).take_while(fits).count().max(1).min(rest.len());
        let (first, others) = rest.split_at(count);
        rest = others;
        (!first.is_empty()).then_some(first)
    })
}

fn logged(entries: &[Arc<Entry>], log: LogId, origins: &Origins) -> Event {
    let one = |entry: &Arc<Entry>| {
        let cursor = Cursor { log, seq: entry.seq }.encode();
        let origin = origins.iter().flat_map(|origins| origins.iter()).find(|(seq, _)| *seq == entry.seq);
        let traceparent = origin.map(|(_, origin)| origin.traceparent()).unwrap_or_default();
        LoggedEntry { entry: Some(answer::entry(entry)), cursor, traceparent }
    };
    Event::Entries(LoggedEntries { entries: entries.iter().map(one).collect() })
}

fn dropped(room_id: String, reason: Reason) -> WatchRoomsResponse {
    WatchRoomsResponse { room_id, event: Some(Event::Dropped(Dropped { reason: reason.as_str().to_owned() })) }
}

#[cfg(test)]
mod tests {
    use mesh::{config::MeshConfig, error::Reason, identity::ServiceName};
    use uuid::Uuid;

    use super::*;

    fn caller(session: Uuid, expires: Option<Millis>) -> UserCaller {
        UserCaller {
            user_id: Uuid::now_v7(),
            session_id: Some(session),
            roles: Vec::new(),
            expires,
            via: None,
            scopes: None,
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_session_and_with_no_other() {
        let data = tempfile::tempdir().expect("a folder");
        let config = MeshConfig { data: data.path().to_owned(), ..MeshConfig::default() };
        let identity = Identity::new(ServiceName::Message, &config).expect("an identity");
        let session = Uuid::now_v7();
        let ending = tokio::spawn(session_end(Arc::clone(&identity), caller(session, None)));
        identity.revoke(Uuid::now_v7(), 1, Millis(i64::MAX));
        tokio::task::yield_now().await;
        assert!(!ending.is_finished());
        identity.revoke(session, 2, Millis(i64::MAX));
        assert_eq!(ending.await.expect("no panic").reason, Reason::TokenRevoked);

        let soon = Millis::now().plus(Duration::from_millis(50));
        let refusal = session_end(identity, caller(Uuid::now_v7(), Some(soon))).await;
        assert_eq!(refusal.reason, Reason::TokenExpired);
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_told_so_in_the_end() {
        let forever = CancellationToken::new();
        let mut stream = Outgoing::spawn(2, Duration::from_millis(20), forever, |outlet| async move {
            for n in 0.. {
                outlet.send(n).await?;
            }
            Ok(())
        });
        // Nothing is taken until the task has given up.
        while !stream.is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(stream.next().await.and_then(Result::ok), Some(0));
        assert_eq!(stream.next().await.and_then(Result::ok), Some(1));
        let status = stream.next().await.and_then(Result::err).expect("a status");
        assert_eq!(Refusal::from_status(&status).reason, Reason::SlowConsumer);
        assert!(stream.next().await.is_none());
    }
}
