//! The relay: hints from this process to the other replicas of message-svc and back, through Redis' Pub/Sub. It makes
//! live delivery across replicas a matter of milliseconds, and nothing depends on it: what Redis loses, drops or never
//! had is found in the store ([`crate::look`]), every second while Redis is away and now and then while it is there.
//!
//! One connection a process, both to publish and to subscribe. Each followed room has a channel of its own, so a replica
//! hears of the rooms that are followed at it and of no others, however many replicas there are and whatever they write;
//! a common channel carries signs of life. What the hub has for other replicas comes through the [`Outlet`]; what they
//! say is judged in `relay/receive.rs`; the forms are in `relay/frame.rs`; only `relay/redis.rs` knows Redis.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mesh::{
    client::Backoff,
    config::{MeshConfig, RedisConfig},
    ops::Probe,
    redis::{LinkError, Server},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{frame::Frame, outlet::Outgoing, peers::Peers, receive::Receiver, redis::Link};
use crate::{hub::Hub, id::RoomId, look::Looker, typing::Typists};

mod frame;
mod outlet;
mod peers;
mod receive;
mod redis;

pub use outlet::{Inbox, Outlet};

/// Redis in `/ready`.
pub(crate) const PROBE: &str = "redis";
/// Channels in one command. More would keep Redis from others for too long.
const CHANNELS_MAX: usize = 1_000;
/// Hints that are published together.
const PUBLISH_MAX: usize = 256;
/// The first wait after a connection was lost or could not be made.
const RETRY: Duration = Duration::from_millis(100);
/// A connection that lived for less is no reason to hurry with the next.
const STABLE: Duration = Duration::from_secs(5);

/// A Redis that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("mesh.redis_url or a file of mesh.redis cannot be used")]
pub struct RelayError(#[source] LinkError);

/// This process' part of the relay.
pub struct Relay {
    server: Server,
    channels: Channels,
    config: RedisConfig,
    replica: Uuid,
    hub: Arc<Hub>,
    looker: Arc<Looker>,
    peers: Arc<Peers>,
    receiver: Arc<Receiver>,
    outlet: Outlet,
    queue: mpsc::Receiver<Outgoing>,
    is_up: Arc<AtomicBool>,
}

/// The names of channels.
#[derive(Clone, Debug)]
struct Channels {
    prefix: Arc<str>,
}

/// What one connection has been told.
struct Session {
    link: Link,
    subscribed: HashSet<RoomId>,
    /// Whether a replica that was there is not heard of.
    missing: bool,
}

/// Asks the Redis of the configuration for a connection, and lets it go.
///
/// # Errors
/// When the URL makes no sense, a file cannot be read, or Redis gives none.
pub async fn reach(mesh: &MeshConfig) -> Result<(), RelayError> {
    let server = Server::new(mesh.redis_url.expose(), &mesh.redis).map_err(RelayError)?;
    server.reach().await.map_err(RelayError)
}

impl Relay {
    /// The relay between a hub and its outlet's other end. It does nothing until it [runs](Self::run).
    ///
    /// # Errors
    /// When the URL makes no sense, or a file cannot be read.
    pub fn new(
        mesh: &MeshConfig,
        inbox: Inbox,
        hub: &Arc<Hub>,
        looker: &Arc<Looker>,
        typists: &Typists,
    ) -> Result<Self, RelayError> {
        let config = mesh.redis.clone();
        let server = Server::new(mesh.redis_url.expose(), &config).map_err(RelayError)?;
        let channels = Channels { prefix: config.prefix.as_str().into() };
        let replica = Uuid::new_v4();
        let peers = Arc::new(Peers::new(config.beat()));
        let receiver = Receiver {
            replica,
            channels: channels.clone(),
            hub: Arc::clone(hub),
            looker: Arc::clone(looker),
            typists: typists.clone(),
            peers: Arc::clone(&peers),
        };
        let Inbox { outlet, queue } = inbox;
        metrics::gauge!("switchboard_relay_up").set(0.0);
        Ok(Self {
            server,
            channels,
            config,
            replica,
            hub: Arc::clone(hub),
            looker: Arc::clone(looker),
            peers,
            receiver: Arc::new(receiver),
            outlet,
            queue,
            is_up: Arc::default(),
        })
    }

    /// Redis as `/ready` shows it.
    #[must_use]
    pub fn probe(&self) -> Arc<dyn Probe> {
        Arc::new(RedisProbe(Arc::clone(&self.is_up)))
    }

    /// Keeps a connection until it is cancelled, and then says goodbye. A dead Redis is told of once, and its return once.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (mut told, mut backoff) = (false, Backoff::new(RETRY, self.config.retry_max()));
        while !shutdown.is_cancelled() {
            let result = match Box::pin(shutdown.run_until_cancelled(self.open())).await {
                Some(Ok(mut session)) => {
                    tracing::info!("Redis carries hints between the replicas");
                    told = false;
                    let opened = Instant::now();
                    let result = self.serve(&mut session, &shutdown).await;
                    self.went_down();
                    if opened.elapsed() >= STABLE {
                        backoff.reset();
                    }
                    result
                }
                Some(Err(error)) => Err(error),
                None => return,
            };
            let Err(error) = result else { return };
            if !told && !shutdown.is_cancelled() {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "Redis is away: the replicas hear of one another through the store, a little later"
                );
                told = true;
            }
            shutdown.run_until_cancelled(backoff.wait()).await;
        }
    }

    /// Connects, and subscribes to what is followed. From then on nothing is missed, so one look at the store finds all
    /// that was; and the others are told to look for what this process could not tell them.
    async fn open(&mut self) -> Result<Session, LinkError> {
        let link = Link::open(&self.server, Arc::clone(&self.receiver)).await?;
        let mut session = Session { link, subscribed: HashSet::new(), missing: false };
        session.link.subscribe(&[self.channels.common()]).await?;
        self.outlet.touch_all();
        self.follow(&mut session).await?;
        // What is written from here on is published; what was written before, the others will see when they look.
        self.outlet.set_open(true);
        self.is_up.store(true, Ordering::Relaxed);
        metrics::gauge!("switchboard_relay_up").set(1.0);
        self.peers.expect_all(Instant::now());
        self.looker.every(Some(self.config.look()));
        self.looker.all();
        let look = (self.channels.common(), frame::common(&Frame::Look, self.replica));
        if let Err(error) = session.link.publish(vec![look]).await {
            self.went_down();
            return Err(error);
        }
        Ok(session)
    }

    /// Passes hints on until the connection is lost or the process stops.
    async fn serve(&mut self, session: &mut Session, shutdown: &CancellationToken) -> Result<(), LinkError> {
        let mut beats = interval(self.config.beat());
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return self.say_goodbye(session).await,
                () = session.link.lost() => return Err(LinkError::Lost),
                Some(first) = self.queue.recv() => self.publish(session, Some(first)).await?,
                () = self.outlet.touches() => self.follow(session).await?,
                _ = beats.tick() => self.beat(session).await?,
            }
        }
    }

    /// Publishes what waits.
    async fn publish(&mut self, session: &mut Session, first: Option<Outgoing>) -> Result<(), LinkError> {
        let waiting = std::iter::from_fn(|| self.queue.try_recv().ok());
        let messages: Vec<_> = first
            .into_iter()
            .chain(waiting)
            .take(PUBLISH_MAX)
            .map(|hint| {
                metrics::counter!("switchboard_relay_published_total", "kind" => hint.kind()).increment(1);
                (self.channels.room(hint.room), hint.encode(self.replica))
            })
            .collect();
        if messages.is_empty() { Ok(()) } else { session.link.publish(messages).await }
    }

    /// Subscribes to rooms that are followed since the last time, and leaves those that are not any more.
    async fn follow(&self, session: &mut Session) -> Result<(), LinkError> {
        let touched = self.outlet.take_touched().unwrap_or_else(|| {
            let known = session.subscribed.iter().copied();
            known.chain(self.hub.rooms()).collect()
        });
        let (mut join, mut leave) = (Vec::new(), Vec::new());
        for room in touched {
            match (self.hub.watches(room), session.subscribed.contains(&room)) {
                (true, false) => join.push(room),
                (false, true) => leave.push(room),
                (true, true) | (false, false) => {}
            }
        }
        for rooms in join.chunks(CHANNELS_MAX) {
            session.link.subscribe(&self.channels.rooms(rooms)).await?;
            session.subscribed.extend(rooms);
            // What was written between the watcher's own look and this moment told nobody here.
            self.looker.rooms(rooms.iter().copied());
        }
        for rooms in leave.chunks(CHANNELS_MAX) {
            session.link.unsubscribe(&self.channels.rooms(rooms)).await?;
            for room in rooms {
                session.subscribed.remove(room);
            }
        }
        Ok(())
    }

    /// Asks Redis whether it is there by telling the others that this process is; and sees who of them is not.
    async fn beat(&self, session: &mut Session) -> Result<(), LinkError> {
        // Whoever follows a room of which a hint was dropped would hear of it by the slow clock only.
        let frame = if self.outlet.take_dropped() { Frame::Look } else { Frame::Beat };
        session.link.publish(vec![(self.channels.common(), frame::common(&frame, self.replica))]).await?;
        let missing = self.peers.missing(Instant::now());
        if missing != session.missing {
            session.missing = missing;
            if missing {
                tracing::info!("a replica is not heard of through Redis any more: looking at the store more often");
                self.looker.all();
            }
            self.looker.every((!missing).then(|| self.config.look()));
        }
        Ok(())
    }

    async fn say_goodbye(&mut self, session: &mut Session) -> Result<(), LinkError> {
        while !self.queue.is_empty() {
            self.publish(session, None).await?;
        }
        let bye = frame::common(&Frame::Bye, self.replica);
        session.link.publish(vec![(self.channels.common(), bye)]).await
    }

    /// Without Redis the store is looked at, at once and then often.
    fn went_down(&mut self) {
        self.outlet.set_open(false);
        self.is_up.store(false, Ordering::Relaxed);
        metrics::gauge!("switchboard_relay_up").set(0.0);
        self.looker.every(None);
        self.looker.all();
        // They are told to look when the connection is back.
        while let Ok(hint) = self.queue.try_recv() {
            hint.dropped("down");
        }
    }
}

impl Channels {
    /// Where every replica listens.
    fn common(&self) -> String {
        format!("{}replicas", self.prefix)
    }

    fn room(&self, room: RoomId) -> String {
        format!("{}room:{room}", self.prefix)
    }

    fn rooms(&self, rooms: &[RoomId]) -> Vec<String> {
        rooms.iter().map(|room| self.room(*room)).collect()
    }

    /// Which room's channel this is; `Some(None)` for the common one, none for any other.
    fn parse(&self, channel: &[u8]) -> Option<Option<RoomId>> {
        let name = std::str::from_utf8(channel).ok()?.strip_prefix(&*self.prefix)?;
        if name == "replicas" {
            return Some(None);
        }
        let room = name.strip_prefix("room:")?;
        Some(Some(RoomId(Uuid::try_parse(room).ok()?)))
    }
}

/// Redis in `/ready`. It is wanted, not needed.
struct RedisProbe(Arc<AtomicBool>);

#[async_trait]
impl Probe for RedisProbe {
    fn name(&self) -> &'static str {
        PROBE
    }

    async fn check(&self) -> Result<(), String> {
        // The beats ask Redis all the time.
        let away = "is away; the replicas hear of one another through the store, a little later";
        if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err(away.to_owned()) }
    }
}

#[cfg(test)]
mod tests;
