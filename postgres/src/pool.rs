//! Connections, few of them, lent to one call at a time. The driver's own pool asks the server for a sign of life each
//! time a connection comes back, and waits for it without a limit: of a machine that went without a word it would keep
//! its connections, and soon have none to lend. This one never waits for a server without a limit, and asks for nothing
//! when a connection comes back.

use std::{
    collections::VecDeque,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection as _, Error, PgConnection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use crate::{
    errors,
    open::{FRESH, Server},
};

/// Connections that are made at once. A server that comes back has everybody's to make, and each costs it a process.
const MAKING_MAX: usize = 4;
/// How long an idle connection may take to show that it lives. A server in good health needs milliseconds.
const PING_MAX: Duration = Duration::from_secs(1);
/// A connection that has been idle for so long is closed: the load that needed it is over.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// A connection as old as that is closed when it comes back, so that a name that leads elsewhere by now is followed.
const LIFE_MAX: Duration = Duration::from_mins(30);
/// The first pause before a server that is starting is tried again, and the longest, in milliseconds.
const PAUSE_MS: (u64, u64) = (10, 200);

/// The pool; clones are the same one.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    server: Server,
    connections_max: u32,
    /// One for each connection that may be lent.
    permits: Arc<Semaphore>,
    /// One for each connection that may be in the making.
    making: Semaphore,
    /// The one that came back last is lent first, so that those that are not needed grow old.
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    connection: PgConnection,
    made: Instant,
    since: Instant,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.idle().len();
        f.debug_struct("Pool").field("connections_max", &self.0.connections_max).field("idle", &idle).finish()
    }
}

impl Pool {
    pub(crate) fn new(server: Server, connections_max: u32) -> Self {
        let permits = Arc::new(Semaphore::new(connections_max as usize));
        let making = Semaphore::new(MAKING_MAX);
        Self(Arc::new(Inner { server, connections_max, permits, making, idle: Mutex::default() }))
    }

    /// A connection that lives as far as one can know, within the time that a call waits for one.
    ///
    /// # Errors
    /// [`Error::PoolTimedOut`], [`Error::PoolClosed`], or why the server takes no connection.
    pub async fn acquire(&self) -> Result<Lent, Error> {
        let begun = Instant::now();
        let acquiring = async {
            let Ok(permit) = self.0.permits.clone().acquire_owned().await else { return Err(Error::PoolClosed) };
            match self.idle_connection().await {
                Some((connection, made)) => Ok(self.lend(connection, made, permit)),
                None => self.new_connection(permit).await,
            }
        };
        let lent = timeout(self.0.server.connect_max(), acquiring).await.unwrap_or(Err(Error::PoolTimedOut));
        let outcome = if lent.is_ok() { "lent" } else { "failed" };
        metrics::histogram!("switchboard_postgres_pool_wait_seconds", "outcome" => outcome)
            .record(begun.elapsed().as_secs_f64());
        lent
    }

    async fn idle_connection(&self) -> Option<(PgConnection, Instant)> {
        loop {
            let Idle { mut connection, made, since } = self.idle().pop_back()?;
            if since.elapsed() < FRESH {
                return Some((connection, made));
            }
            if timeout(PING_MAX, connection.ping()).await.is_ok_and(|pong| pong.is_ok()) {
                return Some((connection, made));
            }
            self.forget();
        }
    }

    /// A new connection, or one that came back meanwhile. A task of its own makes it, and keeps the permit meanwhile, so
    /// that it is there for the next call when this one has no more time: otherwise a server that is slow to take
    /// connections, because everybody comes back at once, would make one after the other that nobody waits for any more.
    async fn new_connection(&self, permit: OwnedSemaphorePermit) -> Result<Lent, Error> {
        let (wanted, made) = oneshot::channel();
        tokio::spawn(self.clone().make(permit, wanted));
        // The task ends without an answer only when the runtime does.
        made.await.unwrap_or(Err(Error::PoolClosed))
    }

    async fn make(self, permit: OwnedSemaphorePermit, mut wanted: oneshot::Sender<Result<Lent, Error>>) {
        let turn = tokio::select! {
            turn = self.0.making.acquire() => turn,
            // Who has stopped waiting before its turn came needs none.
            () = wanted.closed() => return,
        };
        let _turn = turn.expect("invariant: nobody closes it");
        let connected = match self.idle_connection().await {
            Some(idle) => Ok(idle),
            None => self.connect().await.map(|connection| (connection, Instant::now())),
        };
        let lent = connected.map(|(connection, made)| self.lend(connection, made, permit));
        if let Err(Ok(lent)) = wanted.send(lent) {
            lent.give_back();
        }
    }

    fn lend(&self, connection: PgConnection, made: Instant, permit: OwnedSemaphorePermit) -> Lent {
        Lent { connection: Some(connection), made, pool: self.clone(), _permit: permit, _counted: Counted::new() }
    }

    /// A connection, also from a server that is just starting, if it is up in time.
    async fn connect(&self) -> Result<PgConnection, Error> {
        let deadline = Instant::now() + self.0.server.connect_max();
        let mut pause_ms = PAUSE_MS.0;
        loop {
            let error = match self.0.server.connect().await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let pause = Duration::from_millis(rand::random_range(pause_ms / 2..=pause_ms));
            if !errors::is_starting(&error) || Instant::now() + pause > deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
        }
    }

    /// Closes all that are idle: one was dead, and whatever ended it ended others too.
    fn forget(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn give_back(&self, connection: PgConnection, made: Instant) {
        let mut idle = self.idle();
        if made.elapsed() < LIFE_MAX && !self.0.permits.is_closed() {
            idle.push_back(Idle { connection, made, since: Instant::now() });
        }
        if idle.front().is_some_and(|oldest| oldest.since.elapsed() > IDLE_MAX) {
            idle.pop_front();
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        // Each change under the lock is whole, so what a panicking holder leaves can be used.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the connections that are lent, then closes all. Nobody gets one from now on.
    pub async fn close(&self) {
        // Who waits for a permit already is served first; an error means that it is closed.
        let all = self.0.permits.acquire_many(self.0.connections_max).await;
        self.0.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for Idle { connection, .. } in idle {
            // A server that does not listen is not waited for.
            drop(timeout(PING_MAX, connection.close()).await);
        }
    }
}

/// A connection that is lent. It goes back to the pool by [`Lent::give_back`] only; dropped (the caller has gone, the time
/// is over, it failed) it is closed, whatever the server was about to say on it.
#[derive(Debug)]
pub struct Lent {
    connection: Option<PgConnection>,
    made: Instant,
    pool: Pool,
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Counts a connection for as long as it is lent.
#[derive(Debug)]
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("switchboard_postgres_pool_lent").increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("switchboard_postgres_pool_lent").decrement(1.0);
    }
}

impl Lent {
    /// Gives it back. Nothing may be under way on it: no statement, no transaction.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.give_back(connection, self.made);
        }
    }

    /// Closes it, and those that are idle with it: it was dead.
    pub fn lost(self) {
        self.pool.forget();
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("invariant: only giving it back takes it, and consumes it")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("invariant: only giving it back takes it, and consumes it")
    }
}
