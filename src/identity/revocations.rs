//! The revoked sessions that still matter, in memory, up to a limit, and how fresh that knowledge is (P6). It is fed by
//! `follow` or, in auth-svc, by the store's own feed; it decides nothing about tokens.

use std::{
    collections::HashMap,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::time::Millis;

/// Sessions that a slow listener may lag behind; who lags looks at all of its sessions again.
const ENDED_QUEUE: usize = 4_096;
/// How often the expired ones are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Revocations {
    sessions: RwLock<HashMap<Uuid, Millis>>,
    max: usize,
    silence_max: Duration,
    overflowed: AtomicBool,
    number: AtomicI64,
    heard: Mutex<Option<Instant>>,
    pruned: Mutex<Instant>,
    ended: broadcast::Sender<Uuid>,
}

impl Revocations {
    pub(super) fn new(max: usize, silence_max: Duration) -> Self {
        Self {
            sessions: RwLock::default(),
            max,
            silence_max,
            overflowed: AtomicBool::new(false),
            number: AtomicI64::new(0),
            heard: Mutex::new(None),
            pruned: Mutex::new(Instant::now()),
            ended: broadcast::channel(ENDED_QUEUE).0,
        }
    }

    /// Takes a revocation in and tells the listeners.
    pub(super) fn add(&self, session: Uuid, number: i64, expires: Millis) {
        metrics::counter!("switchboard_revocations_total").increment(1);
        let mut sessions = self.sessions.write().expect("invariant: no panic while the lock is held");
        if sessions.len() >= self.max && !sessions.contains_key(&session) {
            sessions.retain(|_, expires| *expires > Millis::now());
        }
        if sessions.len() < self.max {
            sessions.insert(session, expires);
        } else if !self.overflowed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                revocations.max = self.max,
                "more revocations than the limit: every token is now asked about at auth-svc"
            );
        }
        drop(sessions);
        self.number.fetch_max(number, Ordering::Relaxed);
        // No listener is no fault: a service without sockets has none.
        drop(self.ended.send(session));
    }

    /// Everything up to this number has been heard.
    pub(super) fn heartbeat(&self, number: i64) {
        self.number.fetch_max(number, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in a float")]
        metrics::gauge!("switchboard_revocations_heard_timestamp_seconds").set(Millis::now().0 as f64 / 1e3);
        *self.heard.lock().expect("invariant: no panic while the lock is held") = Some(Instant::now());
        let mut pruned = self.pruned.lock().expect("invariant: no panic while the lock is held");
        if pruned.elapsed() >= PRUNE_EVERY {
            *pruned = Instant::now();
            let now = Millis::now();
            let mut sessions = self.sessions.write().expect("invariant: no panic while the lock is held");
            sessions.retain(|_, expires| *expires > now);
        }
    }

    /// The highest number heard of: where to go on.
    pub(super) fn number(&self) -> i64 {
        self.number.load(Ordering::Relaxed)
    }

    pub(super) fn contains(&self, session: Uuid) -> bool {
        self.sessions.read().expect("invariant: no panic while the lock is held").contains_key(&session)
    }

    /// Whether what is known here is enough to let a token in.
    pub(super) fn fresh(&self) -> bool {
        let heard = *self.heard.lock().expect("invariant: no panic while the lock is held");
        !self.overflowed.load(Ordering::Relaxed) && heard.is_some_and(|at| at.elapsed() <= self.silence_max)
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Uuid> {
        self.ended.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far() -> Millis {
        Millis::now().plus(Duration::from_secs(60))
    }

    #[test]
    fn knowledge_is_fresh_only_after_a_heartbeat_and_not_for_ever() {
        let revocations = Revocations::new(10, Duration::from_millis(20));
        assert!(!revocations.fresh());
        revocations.heartbeat(1);
        assert!(revocations.fresh());
        let start = Instant::now();
        while revocations.fresh() {
            assert!(start.elapsed() < Duration::from_secs(10), "silence was never noticed");
            std::thread::yield_now();
        }
    }

    #[test]
    fn past_the_limit_nothing_is_fresh_but_what_is_known_stays_known() {
        let revocations = Revocations::new(2, Duration::from_secs(60));
        let sessions: Vec<_> = (0..3).map(|_| Uuid::now_v7()).collect();
        for (number, session) in (1..).zip(&sessions) {
            revocations.add(*session, number, far());
        }
        revocations.heartbeat(3);
        assert!(revocations.contains(sessions[0]) && revocations.contains(sessions[1]));
        assert!(!revocations.fresh());
    }

    #[test]
    fn an_expired_revocation_makes_room() {
        let revocations = Revocations::new(1, Duration::from_secs(60));
        revocations.add(Uuid::now_v7(), 1, Millis(0));
        let session = Uuid::now_v7();
        revocations.add(session, 2, far());
        revocations.heartbeat(2);
        assert!(revocations.contains(session) && revocations.fresh());
    }
}
