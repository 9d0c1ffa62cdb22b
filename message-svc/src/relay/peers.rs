//! The other replicas, as far as they are heard of through Redis. One that falls silent may be cut off from Redis while
//! it still writes, so the store is looked at more often until it is heard again, has said goodbye or is forgotten.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// Replicas that are known; nobody runs more, so what comes beyond is somebody's mistake.
const PEERS_MAX: usize = 256;
/// Signs of life that may be late.
const BEATS_MISSED_MAX: u32 = 3;
/// The time after which a silent replica is taken for dead: an orchestrator has replaced it by then.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The other replicas.
#[derive(Debug)]
pub(super) struct Peers {
    heard: Mutex<HashMap<Uuid, Instant>>,
    silence: Duration,
}

impl Peers {
    /// Nobody is known yet; they give signs of life this often.
    pub(super) fn new(beat: Duration) -> Self {
        Self { heard: Mutex::default(), silence: beat * BEATS_MISSED_MAX }
    }

    /// A replica gave a sign of life.
    pub(super) fn heard(&self, replica: Uuid, now: Instant) {
        let mut heard = self.lock();
        if heard.len() < PEERS_MAX || heard.contains_key(&replica) {
            heard.insert(replica, now);
        }
    }

    /// A replica stopped.
    pub(super) fn left(&self, replica: Uuid) {
        self.lock().remove(&replica);
    }

    /// Nobody could be heard until now, and everybody gets the time to be.
    pub(super) fn expect_all(&self, now: Instant) {
        self.lock().values_mut().for_each(|heard| *heard = now);
    }

    /// Whether a replica is silent that was there not long ago.
    pub(super) fn missing(&self, now: Instant) -> bool {
        let mut heard = self.lock();
        heard.retain(|_, heard| now.duration_since(*heard) < FORGOTTEN_AFTER);
        heard.values().any(|heard| now.duration_since(*heard) > self.silence)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        // Nothing is left half done under this lock.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_replica_is_missed_until_it_speaks_leaves_or_is_forgotten() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let peers = Peers::new(second);
        let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
        peers.heard(one, start);
        peers.heard(other, start);
        assert!(!peers.missing(start + 3 * second));
        peers.heard(one, start + 3 * second);
        assert!(peers.missing(start + 4 * second), "one of them");
        peers.left(other);
        assert!(!peers.missing(start + 4 * second));
        assert!(peers.missing(start + 10 * second));
        peers.expect_all(start + 10 * second);
        assert!(!peers.missing(start + 11 * second));
        assert!(peers.missing(start + 20 * second));
        assert!(!peers.missing(start + 70 * second), "it is dead");
        for _ in 0..2 * PEERS_MAX {
            peers.heard(Uuid::new_v4(), start);
        }
        assert_eq!(peers.lock().len(), PEERS_MAX);
    }
}
