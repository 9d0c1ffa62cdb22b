//! The replicas of one service as this process sees them: found by the configuration and by DNS, looked at every second,
//! left out while they are dead. Which of them a call goes to is asked here ([`Known`]); `route.rs` sends it.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use uuid::Uuid;

use super::{
    place::{Place, Resolve},
    ring,
};
use crate::{
    config::{GrpcLimits, ReplicasConfig},
    identity::ServiceName,
    tls::{Connector, Tls},
};

mod follow;

pub(super) use follow::unreachable;

/// One replica of a service. Its connection is made when it is first needed, and again when it broke.
pub struct Replica {
    address: SocketAddr,
    seed: u64,
    channel: Channel,
    alive: AtomicBool,
    health: Mutex<Health>,
    /// It should be looked at now.
    hurry: Notify,
    /// Ends the task that looks at it.
    gone: CancellationToken,
}

struct Health {
    /// When it last answered anything; none before the first time.
    heard: Option<Instant>,
    /// Cancelled when nobody should wait for it any more.
    given_up: CancellationToken,
}

impl Replica {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it is taken for alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Cancelled when this replica has fallen silent and another one is there to be asked instead.
    #[must_use]
    pub fn given_up(&self) -> CancellationToken {
        self.health().given_up.clone()
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        // Nothing that could panic half-way runs under this lock.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replica({}, alive: {})", self.address, self.is_alive())
    }
}

/// The replicas that are known at one moment, those that are taken for dead included.
#[derive(Clone, Debug, Default)]
pub struct Known {
    replicas: Arc<[Arc<Replica>]>,
    turn: Arc<AtomicUsize>,
}

impl Known {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.replicas.iter()
    }

    /// Those to choose from: the living, or, when there is none, all, since a guess is better than a refusal.
    fn choice(&self) -> impl Iterator<Item = &Arc<Replica>> + Clone {
        let none = !self.replicas.iter().any(|replica| replica.is_alive());
        self.replicas.iter().filter(move |replica| none || replica.is_alive())
    }

    /// One of them, each in turn.
    #[must_use]
    pub fn any(&self) -> Option<Arc<Replica>> {
        let choice = self.choice();
        let count = choice.clone().count();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(count)?;
        choice.skip(turn).map(Arc::clone).next()
    }

    /// The one that a room belongs to: by rendezvous hashing among the living.
    #[must_use]
    pub fn owner(&self, room: Uuid) -> Option<Arc<Replica>> {
        if let [only] = &*self.replicas {
            return Some(Arc::clone(only));
        }
        self.choice().max_by_key(|replica| ring::weight(replica.seed, room)).cloned()
    }

    fn alive(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.is_alive()).count()
    }
}

/// The replicas of one service. Cheap to clone; what follows them ends with the last clone.
#[derive(Clone)]
pub struct Replicas {
    shared: Arc<Shared>,
    _end: Arc<DropGuard>,
}

struct Shared {
    service: ServiceName,
    grpc_name: &'static str,
    places: Arc<[Place]>,
    resolver: Arc<dyn Resolve>,
    tls: Option<Arc<Tls>>,
    limits: GrpcLimits,
    config: ReplicasConfig,
    known: ArcSwap<Known>,
    /// Counts the changes; 0 until the names have been looked up for the first time.
    changes: watch::Sender<u64>,
    /// The names should be looked up now.
    lookup: Notify,
    end: CancellationToken,
}

impl Replicas {
    /// Starts to follow; waits for nothing. To be called in a runtime.
    pub(super) fn follow(
        (service, grpc_name): (ServiceName, &'static str),
        places: Arc<[Place]>,
        resolver: Arc<dyn Resolve>,
        tls: Option<Arc<Tls>>,
        (limits, config): (GrpcLimits, ReplicasConfig),
    ) -> Self {
        let end = CancellationToken::new();
        let shared = Arc::new(Shared {
            service,
            grpc_name,
            places,
            resolver,
            tls,
            limits,
            config,
            known: ArcSwap::default(),
            changes: watch::Sender::new(0),
            lookup: Notify::new(),
            end: end.clone(),
        });
        tokio::spawn(end.clone().run_until_cancelled_owned(Arc::clone(&shared).keep_looking_up()));
        Self { shared, _end: Arc::new(end.drop_guard()) }
    }

    /// The replicas as they are now; waits only until their names have been looked up for the first time.
    pub async fn known(&self) -> Arc<Known> {
        if *self.shared.changes.borrow() == 0 {
            let mut changes = self.shared.changes.subscribe();
            let first = changes.wait_for(|count| *count > 0);
            // Who asks for a name that nobody answers for is told that the service is away. The sender is ours.
            let limit = Duration::from_millis(self.shared.limits.connect_ms);
            drop(tokio::time::timeout(limit, first).await);
        }
        self.now()
    }

    /// The replicas as they are now: none before their names have been looked up for the first time.
    #[must_use]
    pub fn now(&self) -> Arc<Known> {
        self.shared.known.load_full()
    }

    /// Tells of each change: a replica that came, went, died or is back.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// A connection to this replica broke: it is left out until it answers, which is asked at once.
    pub fn failed(&self, replica: &Replica) {
        self.shared.dead(replica, "its connection failed");
        replica.hurry.notify_one();
        self.shared.lookup.notify_one();
    }

    /// Something is odd about this replica: it is looked at without waiting for the next second.
    pub fn suspect(&self, replica: &Replica) {
        replica.hurry.notify_one();
    }

    /// Asks every replica how it is.
    ///
    /// # Errors
    /// Why none of them can serve.
    pub async fn probe(&self) -> Result<(), String> {
        let known = self.known().await;
        let asked = known.iter().map(|replica| async {
            self.shared.check(replica).await.map_err(|problem| format!("{} {problem}", replica.address))
        });
        let answers = futures::future::join_all(asked).await;
        if answers.iter().any(Result::is_ok) {
            return Ok(());
        }
        let problems: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        match problems.is_empty() {
            true => Err("its name has no address".to_owned()),
            false => Err(problems.join("; ")),
        }
    }

    /// What an operator should know of them: how many there are, how many are alive, which are not.
    #[must_use]
    pub fn summary(&self) -> String {
        let known = self.now();
        let dead: Vec<_> = known.iter().filter(|one| !one.is_alive()).map(|one| one.address.to_string()).collect();
        let counts = format!("{} of {} replicas healthy", known.alive(), known.replicas.len());
        if dead.is_empty() { counts } else { format!("{counts}; not {}", dead.join(", ")) }
    }
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas").field("service", &self.shared.service).finish_non_exhaustive()
    }
}

impl Shared {
    /// Takes these addresses for the service's; who stays keeps their connection.
    fn adopt(self: &Arc<Self>, places: &HashMap<SocketAddr, &Place>) {
        let before = self.known.load_full();
        let mut addresses: Vec<_> = places.keys().copied().collect();
        addresses.sort_unstable();
        let same = before.replicas.iter().map(|replica| replica.address).eq(addresses.iter().copied());
        if same && *self.changes.borrow() > 0 {
            return;
        }
        let there: HashMap<_, _> = before.replicas.iter().map(|replica| (replica.address, replica)).collect();
        let replicas: Arc<[_]> = addresses
            .iter()
            .filter_map(|address| match there.get(address) {
                Some(replica) => Some(Arc::clone(replica)),
                None => self.connect(places[address], *address),
            })
            .collect();
        before.replicas.iter().filter(|replica| !places.contains_key(&replica.address)).for_each(|replica| {
            replica.gone.cancel();
        });
        self.known.store(Arc::new(Known { replicas, turn: Arc::clone(&before.turn) }));
        self.changed();
    }

    fn connect(self: &Arc<Self>, place: &Place, address: SocketAddr) -> Option<Arc<Replica>> {
        let channel = match &self.tls {
            None => place.endpoint(address, &self.limits).map(|endpoint| endpoint.connect_lazy()),
            Some(tls) => place
                .secured(address, &self.limits)
                .map(|endpoint| endpoint.connect_with_connector_lazy(Connector::new(tls, self.service))),
        };
        let channel =
            channel.inspect_err(|problem| tracing::error!(problem, "A replica cannot be connected to")).ok()?;
        let gone = self.end.child_token();
        let replica = Arc::new(Replica {
            address,
            seed: ring::seed(address),
            channel,
            // Until proven otherwise; the first call finds out.
            alive: AtomicBool::new(true),
            health: Mutex::new(Health { heard: None, given_up: CancellationToken::new() }),
            hurry: Notify::new(),
            gone: gone.clone(),
        });
        let looking = Arc::clone(self).keep_looking_at(Arc::clone(&replica));
        tokio::spawn(gone.run_until_cancelled_owned(looking));
        Some(replica)
    }

    fn changed(&self) {
        let known = self.known.load();
        let as_f64 = |count: usize| u32::try_from(count).map_or(f64::INFINITY, f64::from);
        let service = self.service.as_str();
        metrics::gauge!("switchboard_replicas_known", "callee" => service).set(as_f64(known.replicas.len()));
        metrics::gauge!("switchboard_replicas_healthy", "callee" => service).set(as_f64(known.alive()));
        self.changes.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests;
