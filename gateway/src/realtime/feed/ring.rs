//! The links to all replicas of message-svc: one for each that is known, made and ended as replicas come and go, and every
//! room looked at again when the ring changes. A replica that has left is listened to until its rooms have moved.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Feeds, link::Link, room::LinkId};

/// How often idle rooms are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Feeds {
    /// Follows until shutdown.
    pub(in crate::realtime) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&self).sweep_until(shutdown.clone()));
        let mut changes = self.clients.message_replicas().changes();
        let mut last = 0;
        loop {
            changes.mark_unchanged();
            self.tend(&mut last, &tasks, &shutdown);
            tokio::select! {
                () = shutdown.cancelled() => break,
                // The sender is in the clients, which this holds.
                _ = changes.changed() => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Makes the links what the replicas are, and has every room looked at.
    fn tend(self: &Arc<Self>, last: &mut u64, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let known = self.clients.message_replicas().now();
        {
            let mut links = self.links();
            let is_known = |link: &Link| known.iter().any(|replica| Arc::ptr_eq(replica, &link.replica));
            links.iter().filter(|link| !is_known(link)).for_each(|link| link.leave());
            for replica in known.iter() {
                if links.iter().any(|link| Arc::ptr_eq(replica, &link.replica)) {
                    continue;
                }
                *last += 1;
                let link = Arc::new(Link::new(LinkId(*last), Arc::clone(replica)));
                links.push(Arc::clone(&link));
                tasks.spawn(Arc::clone(self).keep(link, shutdown.clone()));
            }
        }
        self.all().iter().for_each(|room| self.mark(room.id));
    }

    /// A link has ended for good.
    pub(super) fn unlink(&self, link: &Arc<Link>) {
        self.links().retain(|there| !Arc::ptr_eq(there, link));
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
}
