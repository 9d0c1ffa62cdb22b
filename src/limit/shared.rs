//! Limits that several processes share through Redis. Nobody waits for it: each process decides by what it knows, and tells
//! the others some times a second what it has let through, in one atomic script, which answers with what all of them have.
//! So a client who calls many processes at once may get a burst of each within one such round, and no more after it. When
//! Redis is away every process limits by itself, as without it.

use std::{fmt, hash::Hash, net::IpAddr, sync::Arc, time::Duration};

use ::redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use metrics::Gauge;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Kind, Limits, Ordering, Rate, Untold, count::Heard, lock};
use crate::{
    client::Backoff,
    config::MeshConfig,
    redis::{LinkError, Server},
};

const SCRIPT: &str = include_str!("share.lua");
/// Keys in one script: more would keep Redis from others for too long.
const KEYS_MAX: usize = 256;
/// The first wait after a connection was lost or could not be made.
const RETRY: Duration = Duration::from_millis(100);

/// A Redis that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("mesh.redis_url or a file of mesh.redis cannot be used")]
pub struct SharingError(#[source] LinkError);

/// Whose limit it is, in the name of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An address.
    Address(IpAddr),
    /// An account.
    Account(Uuid),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Account(account) => write!(f, "{account}"),
        }
    }
}

/// Tells other processes what this one has counted, and hears what they have.
pub struct Sharing<K> {
    limits: Arc<Limits<K>>,
    /// A key's name: the limit's, and whose it is.
    name: fn(&K) -> (&'static str, Subject),
    server: Server,
    prefix: String,
    retry_max: Duration,
    every: Duration,
    up: Gauge,
}

impl<K> fmt::Debug for Sharing<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Sharing<K> {
    /// Of these limits, through the Redis of the configuration. It does nothing until it [runs](Self::run).
    ///
    /// # Errors
    /// When the URL makes no sense, or a file cannot be read.
    pub fn new(
        mesh: &MeshConfig,
        limits: Arc<Limits<K>>,
        every: Duration,
        name: fn(&K) -> (&'static str, Subject),
    ) -> Result<Self, SharingError> {
        let server = Server::new(mesh.redis_url.expose(), &mesh.redis).map_err(SharingError)?;
        let up = metrics::gauge!("switchboard_limits_shared");
        up.set(0.0);
        let prefix = format!("{}limit:", mesh.redis.prefix);
        Ok(Self { limits, name, server, prefix, retry_max: mesh.redis.retry_max(), every, up })
    }

    /// Goes on until it is cancelled. A dead Redis is told of once, and its return once.
    pub async fn run(self, shutdown: CancellationToken) {
        let (mut told, mut backoff) = (false, Backoff::new(RETRY, self.retry_max));
        loop {
            let sharing = Box::pin(self.share(&mut told, &mut backoff));
            let Some(result) = shutdown.run_until_cancelled(sharing).await else { break };
            self.stop_telling();
            let Err(error) = result;
            if !told {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "Redis is away: each process counts its limits by itself");
                told = true;
            }
            if shutdown.run_until_cancelled(backoff.wait()).await.is_none() {
                break;
            }
        }
        self.stop_telling();
    }

    /// Shares for as long as the connection lasts.
    async fn share(&self, told: &mut bool, backoff: &mut Backoff) -> Result<std::convert::Infallible, LinkError> {
        let mut connection = self.server.open(AsyncConnectionConfig::new()).await?;
        // A server that lets nobody run scripts is as good as away.
        self.tell(&mut connection, &[]).await?;
        self.limits.is_shared.store(true, Ordering::Relaxed);
        self.up.set(1.0);
        tracing::info!("Limits are shared through Redis");
        *told = false;
        let mut rounds = interval(self.every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let untold = std::mem::take(&mut *lock(&self.limits.untold));
            let mut result = Ok(());
            for some in untold.chunks(KEYS_MAX) {
                match &result {
                    Ok(()) => result = self.tell(&mut connection, some).await,
                    Err(_) => forget(some),
                }
            }
            result?;
            backoff.reset();
        }
    }

    /// Tells what was counted here of some keys, and takes up what was counted by all.
    async fn tell(&self, connection: &mut MultiplexedConnection, untold: &[Untold<K>]) -> Result<(), LinkError> {
        let mut command = ::redis::cmd("EVAL");
        command.arg(SCRIPT).arg(untold.len());
        for Untold { key, rate, .. } in untold {
            let (name, subject) = (self.name)(key);
            // Processes with other settings, as in a rolling change of them, count in their own ways.
            let Rate { burst, per_minute, .. } = rate;
            command.arg(format!("{}{}:{burst}:{per_minute}:{name}:{subject}", self.prefix, letter(rate.kind)));
        }
        for Untold { rate, kept, .. } in untold {
            let calls = std::mem::take(&mut lock(kept).untold);
            command.arg(letter(rate.kind)).arg(calls);
            command.arg(micros(rate.window_nanos())).arg(micros(rate.step_nanos()));
        }
        let all: Vec<(u64, u32, u32)> = command.query_async(connection).await?;
        for (Untold { rate, kept, .. }, (micros, calls, before)) in untold.iter().zip(all) {
            let (mut kept, now) = (lock(kept), self.limits.now());
            let since = kept.untold;
            kept.count.hear(*rate, now, Heard { nanos: micros.saturating_mul(1_000), calls, before }, since);
        }
        Ok(())
    }

    /// What was not told is known here all the same.
    fn stop_telling(&self) {
        self.limits.is_shared.store(false, Ordering::Relaxed);
        self.up.set(0.0);
        forget(&std::mem::take(&mut *lock(&self.limits.untold)));
    }
}

/// They count here alone; the next call of each is told again.
fn forget<K>(untold: &[Untold<K>]) {
    untold.iter().for_each(|untold| lock(&untold.kept).untold = 0);
}

fn letter(kind: Kind) -> &'static str {
    match kind {
        Kind::TokenBucket => "t",
        Kind::FixedWindow => "f",
        Kind::SlidingWindow => "s",
    }
}

/// With what is lost in whole microseconds: a step may be less than one. A window is far below 2^53 of them.
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}
