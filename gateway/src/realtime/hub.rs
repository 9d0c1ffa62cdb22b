//! What all sockets of this gateway share: the edge, the rooms that are followed, who is connected, and the calls that
//! events make. It also ends the sockets of revoked sessions (P6). It knows no transport and no event.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use mesh::{
    client,
    error::{Reason, Refusal},
    identity::{ServiceName, TokenError},
    proto::{auth::v1::CheckTokenRequest, message::v1::SetTypingRequest},
    time::Millis,
};
use tokio::sync::{Semaphore, broadcast::error::RecvError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Response, Status};
use uuid::Uuid;

use super::{
    RealtimeConfig,
    carrier::Carrier,
    feed::Feeds,
    meter::{self, Closed},
    packet,
    session::{Left, Session},
};
use crate::edge::Edge;

/// How often sessions whose time seems to be over are asked about: sockets close within seconds of it.
const AGES_EVERY: Duration = Duration::from_secs(1);
/// Sessions that are asked about at a time, so that many that end together do not burden auth-svc.
const AGES_ASKED_MAX: usize = 16;

/// The shared parts.
pub(super) struct Hub {
    pub(super) edge: Arc<Edge>,
    pub(super) feeds: Arc<Feeds>,
    pub(super) carrier: Carrier,
    /// Places for joins in progress.
    pub(super) joins: Semaphore,
    /// Tasks that work off the sockets' queues.
    pub(super) tasks: TaskTracker,
    stopping: AtomicBool,
    ids: AtomicU64,
    connected: Mutex<Connected>,
}

#[derive(Default)]
struct Connected {
    sockets: HashMap<u64, Arc<Session>>,
    by_session: HashMap<Uuid, Vec<u64>>,
    by_user: HashMap<Uuid, usize>,
}

impl Hub {
    pub(super) fn new(edge: Arc<Edge>) -> Arc<Self> {
        let config = &edge.config.realtime;
        let feeds = Feeds::new(config, Arc::clone(&edge.identity), edge.clients.clone());
        let carrier = Carrier::new(config, Arc::clone(&edge.identity), edge.clients.clone());
        let joins = Semaphore::new(config.joins_max);
        Arc::new(Self {
            edge,
            feeds,
            carrier,
            joins,
            tasks: TaskTracker::new(),
            stopping: AtomicBool::new(false),
            ids: AtomicU64::new(0),
            connected: Mutex::default(),
        })
    }

    pub(super) fn config(&self) -> &RealtimeConfig {
        &self.edge.config.realtime
    }

    /// A number that no other socket of this process has had.
    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// From here on nobody is let in.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    // ---- who is connected ---------------------------------------------------------------------------------------

    /// Whether a user may open one more socket.
    ///
    /// # Errors
    /// `RATE_LIMITED` when they have as many as they may.
    pub(super) fn check_user(&self, user: Uuid) -> Result<(), Refusal> {
        Self::check_user_of(&self.connected(), user, self.config().sockets_per_user_max)
    }

    fn check_user_of(connected: &Connected, user: Uuid, max: usize) -> Result<(), Refusal> {
        if connected.by_user.get(&user).is_some_and(|sockets| *sockets >= max) {
            let message = format!("At most {max} connections of one user are open at once");
            return Err(Refusal::new(Reason::RateLimited, message));
        }
        Ok(())
    }

    /// A socket is let in.
    ///
    /// # Errors
    /// When its user has as many as they may, or its session has ended meanwhile.
    pub(super) fn register(&self, session: &Arc<Session>) -> Result<(), Refusal> {
        let mut connected = self.connected();
        Self::check_user_of(&connected, session.user_id(), self.config().sockets_per_user_max)?;
        connected.sockets.insert(session.id, Arc::clone(session));
        connected.by_session.entry(session.session_id).or_default().push(session.id);
        *connected.by_user.entry(session.user_id()).or_default() += 1;
        meter::sockets(connected.sockets.len());
        drop(connected);
        // A revocation that came before this line found no socket; one that comes after it finds this one.
        if self.edge.identity.is_revoked(session.session_id) {
            self.unregister(session);
            return Err(TokenError::Revoked.into());
        }
        tracing::debug!(socket.id = %session.socket_id, user.id = %session.user_id(), "A socket connected");
        Ok(())
    }

    fn unregister(&self, session: &Session) {
        let mut connected = self.connected();
        if connected.sockets.remove(&session.id).is_none() {
            return;
        }
        if let Some(ids) = connected.by_session.get_mut(&session.session_id) {
            ids.retain(|id| *id != session.id);
            if ids.is_empty() {
                connected.by_session.remove(&session.session_id);
            }
        }
        if let Some(sockets) = connected.by_user.get_mut(&session.user_id()) {
            *sockets -= 1;
            if *sockets == 0 {
                connected.by_user.remove(&session.user_id());
            }
        }
        meter::sockets(connected.sockets.len());
    }

    /// A socket's connection has ended: it leaves its rooms and types no more.
    pub(super) fn disconnected(self: &Arc<Self>, session: &Arc<Session>, why: Closed) {
        let Left { rooms, typing } = session.leave(why);
        for room in rooms {
            room.remove(session);
        }
        self.unregister(session);
        tracing::debug!(socket.id = %session.socket_id, user.id = %session.user_id(), "A socket disconnected");
        if !typing.is_empty() && !self.is_stopping() {
            let (hub, session) = (Arc::clone(self), Arc::clone(session));
            self.tasks.spawn(async move {
                for room in typing {
                    // What is not passed on ends by itself in a few seconds.
                    drop(hub.set_typing(&session, room, false).await);
                }
            });
        }
    }

    /// Every connected socket.
    pub(super) fn sockets(&self) -> Vec<Arc<Session>> {
        self.connected().sockets.values().cloned().collect()
    }

    fn of_session(&self, session_id: Uuid) -> Vec<Arc<Session>> {
        let connected = self.connected();
        let ids = connected.by_session.get(&session_id).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| connected.sockets.get(id).cloned()).collect()
    }

    fn connected(&self) -> MutexGuard<'_, Connected> {
        // Nothing that could panic half-way runs under this lock.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- revocation ---------------------------------------------------------------------------------------------

    /// Ends the sockets of sessions that end. That a token has expired ends no socket: it was for getting in, and the
    /// session is what counts.
    pub(super) async fn follow_revocations(self: Arc<Self>, shutdown: CancellationToken) {
        let mut revocations = self.edge.identity.revocations();
        loop {
            let revoked = tokio::select! {
                () = shutdown.cancelled() => return,
                revoked = revocations.recv() => revoked,
            };
            match revoked {
                Ok(session_id) => {
                    self.of_session(session_id).iter().for_each(|socket| end_session(socket, Reason::TokenRevoked));
                }
                // Some were not heard of: every socket is looked at.
                Err(RecvError::Lagged(_)) => {
                    let sockets = self.sockets();
                    let ended = sockets.iter().filter(|socket| self.edge.identity.is_revoked(socket.session_id));
                    ended.for_each(|socket| end_session(socket, Reason::TokenRevoked));
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Ends the sockets of sessions that end by age. A session whose time seems to be over may have been refreshed
    /// elsewhere, so auth-svc is asked; while it is away, the sockets stay.
    pub(super) async fn follow_ages(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(AGES_EVERY) => {}
            }
            let asked = stream::iter(self.due(Millis::now()))
                .for_each_concurrent(AGES_ASKED_MAX, |session_id| self.ask_age(session_id));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = asked => {}
            }
        }
    }

    /// The sessions with sockets whose time seems to be over.
    fn due(&self, now: Millis) -> HashSet<Uuid> {
        let connected = self.connected();
        connected.sockets.values().filter(|socket| socket.ends_at() <= now).map(|socket| socket.session_id).collect()
    }

    async fn ask_age(&self, session_id: Uuid) {
        let message = CheckTokenRequest { session_id: session_id.to_string(), ..CheckTokenRequest::default() };
        let bearer = self.edge.identity.assertion(ServiceName::Auth, None);
        let answer = self.edge.clients.auth().check_token(client::request(message, &bearer, self.deadline())).await;
        let sockets = self.of_session(session_id);
        match answer.map_err(|status| Refusal::from_status(&status).reason) {
            Ok(alive) => {
                let ends_at = alive.into_inner().expire_time.map_or(Millis(i64::MAX), Millis::from);
                sockets.iter().for_each(|socket| socket.set_ends_at(ends_at));
            }
            Err(reason @ (Reason::TokenExpired | Reason::TokenRevoked)) => {
                sockets.iter().for_each(|socket| end_session(socket, reason));
            }
            Err(reason) => {
                tracing::debug!(error.code = reason.as_str(), "The age of a session cannot be asked for now")
            }
        }
    }

    // ---- calls --------------------------------------------------------------------------------------------------

    /// Calls a service, again when it is away, within the time that a call may take.
    ///
    /// # Errors
    /// What the service refused, or that it did not answer.
    pub(super) async fn call<T, F>(&self, call: impl FnMut() -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = self.edge.clients.retry(call);
        match tokio::time::timeout(self.edge.call_timeout(), answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Refusal::from_status(&status)),
            Err(_) => Err(Refusal::new(Reason::DeadlineExceeded, "The answer did not come in time")),
        }
    }

    /// The deadline that a call carries.
    pub(super) fn deadline(&self) -> Duration {
        self.edge.call_timeout()
    }

    /// What a call to message-svc on behalf of a socket's user carries.
    pub(super) fn bearer(&self, session: &Session) -> Arc<str> {
        self.edge.identity.assertion(ServiceName::Message, Some(&session.caller))
    }

    /// Passes on that a socket's user types, or has stopped.
    ///
    /// # Errors
    /// What message-svc refused.
    pub(super) async fn set_typing(&self, session: &Session, room: Uuid, typing: bool) -> Result<(), Refusal> {
        let message = SetTypingRequest { room_id: room.to_string(), typing };
        let bearer = self.bearer(session);
        let call = || {
            let (mut client, message) = (self.edge.clients.message_of(room), message.clone());
            let request = client::request(message, &bearer, self.deadline());
            async move { client.set_typing(request).await }
        };
        self.call(call).await.map(|_| ())
    }
}

fn end_session(session: &Arc<Session>, reason: Reason) {
    let code = reason.as_str();
    let data = format!(r#"{{"code":"{code}","message":"The session has ended"}}"#);
    session.finish(Closed::Session, &[packet::event("session_ended", &data), packet::disconnect()]);
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}
