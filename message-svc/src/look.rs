//! Looking at the ends of the followed rooms' logs in the store, which finds what no hint told of: the clock says when,
//! and so does whoever has reason to think that hints were lost. What is found only wakes the watchers.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    hub::Hub,
    id::RoomId,
    store::{Store, StoreError},
};

/// Rooms that are asked about in one query.
const QUERY_ROOMS_MAX: usize = 1_000;
/// The time between two looks at all rooms, at least, however often they are asked for: other processes may ask.
const PAUSE: Duration = Duration::from_millis(100);
/// Rooms that are remembered one by one; when there are more, all are looked at.
const WANTED_ROOMS_MAX: usize = 10_000;

/// Who looks.
pub struct Looker {
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    wanted: Mutex<Wanted>,
    wake: Notify,
    /// The time between two looks that nobody asked for when nothing is said, and after one that failed.
    period: Duration,
}

/// What is to be looked at next.
struct Wanted {
    all: bool,
    rooms: HashSet<RoomId>,
    period: Duration,
}

impl Looker {
    /// One that looks every `period` once it [runs](Self::run).
    #[must_use]
    pub fn new(hub: Arc<Hub>, store: Arc<dyn Store>, period: Duration) -> Arc<Self> {
        let wanted = Mutex::new(Wanted { all: false, rooms: HashSet::new(), period });
        Arc::new(Self { hub, store, wanted, wake: Notify::new(), period })
    }

    /// Wants all rooms looked at now.
    pub fn all(&self) {
        self.lock().all = true;
        self.wake.notify_one();
    }

    /// Wants these rooms looked at now.
    pub fn rooms(&self, rooms: impl IntoIterator<Item = RoomId>) {
        let mut wanted = self.lock();
        for room in rooms {
            if wanted.rooms.len() >= WANTED_ROOMS_MAX {
                wanted.all = true;
                break;
            }
            wanted.rooms.insert(room);
        }
        drop(wanted);
        self.wake.notify_one();
    }

    /// From now on looks this often; none is as often as it was made for.
    pub fn every(&self, period: Option<Duration>) {
        self.lock().period = period.unwrap_or(self.period);
        self.wake.notify_one();
    }

    /// Looks until it is cancelled.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.look_for_ever()).await;
    }

    async fn look_for_ever(&self) {
        let mut failing = false;
        let mut looked = Instant::now();
        loop {
            let due = looked + if failing { self.period } else { self.lock().period };
            tokio::select! {
                () = self.wake.notified(), if !failing => {}
                () = tokio::time::sleep_until(due) => self.lock().all = true,
            }
            if self.lock().all {
                tokio::time::sleep_until(looked + PAUSE).await;
            }
            let (all, rooms) = self.take();
            if !all && rooms.is_empty() {
                continue;
            }
            let rooms = if all { self.hub.rooms() } else { rooms.into_iter().collect() };
            let result = self.look(&rooms).await;
            if let Err(error) = &result {
                self.lock().all = true;
                if !failing {
                    tracing::warn!(error = error as &dyn std::error::Error, "the watched rooms cannot be looked at");
                }
            }
            failing = result.is_err();
            if all || failing {
                looked = Instant::now();
            }
        }
    }

    async fn look(&self, rooms: &[RoomId]) -> Result<(), StoreError> {
        for rooms in rooms.chunks(QUERY_ROOMS_MAX) {
            for head in self.store.heads(rooms).await? {
                self.hub.seen(head);
            }
        }
        Ok(())
    }

    fn take(&self) -> (bool, HashSet<RoomId>) {
        let mut wanted = self.lock();
        (mem::take(&mut wanted.all), mem::take(&mut wanted.rooms))
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // Nothing is left half done under this lock.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::Hint,
        room::RoomType,
        store::faulty::Faulty,
        testing::{message, message_entry, new_room, sqlite, until, user},
    };

    /// Longer than a test may take.
    const NEVER: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn it_looks_when_it_is_asked_to_and_goes_on_after_a_failure() {
        let (store, _folder) = sqlite().await;
        let faulty = Faulty::new(Arc::clone(&store));
        let hub = Hub::new(16);
        let looker = Looker::new(Arc::clone(&hub), Arc::clone(&faulty) as Arc<dyn Store>, Duration::from_millis(20));
        looker.every(Some(NEVER));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&looker).run(shutdown.clone()));

        let owner = user();
        let room = new_room(RoomType::Public, "room", owner);
        store.create_room(&room).await.expect("made");
        let mut hints = hub.subscribe(room.meta.id);
        let mut written = 0;
        for ask in [|looker: &Looker, _| looker.all(), |looker: &Looker, room| looker.rooms([room])] {
            written += 1;
            let entry = message_entry(room.meta.id, written, written, message(owner, &written.to_string(), "x"));
            store.append([entry].into()).await.expect("written");
            assert!(hints.try_next().is_none(), "nobody has looked");
            ask(&looker, room.meta.id);
            assert!(matches!(hints.next().await, Some(Hint::Head(seq)) if seq == written));
        }

        written += 1;
        let entry = message_entry(room.meta.id, written, written, message(owner, "last", "x"));
        store.append([entry].into()).await.expect("written");
        faulty.set_away(true);
        looker.all();
        until("it has failed", async || faulty.refused() > 0).await;
        faulty.set_away(false);
        assert!(matches!(hints.next().await, Some(Hint::Head(seq)) if seq == written), "though nobody asked again");
        shutdown.cancel();
        running.await.expect("ends");
    }
}
