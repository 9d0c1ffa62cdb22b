//! Who types where, so that a start ends by itself. Nothing of it is stored, and all of it may be lost: a watcher that
//! lags misses hints about typing and nothing else. What was started at another replica ends here too when that one is
//! not heard of any more; only the replica that was told tells the others.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::{
    sync::CancellationToken,
    time::{DelayQueue, delay_queue::Key},
};

use crate::{
    hub::{Hint, Hub, Typing},
    id::{LogId, RoomId, UserId},
};

/// Changes that wait for the task; it never waits for anything but them, so this is a burst.
const QUEUE_MAX: usize = 1_024;

/// A handle on the task that knows who types.
#[derive(Clone, Debug)]
pub struct Typists {
    changes: mpsc::Sender<(RoomId, Told, Typing)>,
}

/// By whom a change was told.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// By a caller, in this life of the room's log.
    Here(LogId),
    /// By another replica, which has told all others.
    There,
}

struct Task {
    hub: Arc<Hub>,
    lasts: Duration,
    people_max: usize,
    ends: DelayQueue<(RoomId, UserId)>,
    typing: HashMap<(RoomId, UserId), Start>,
}

/// Somebody who types.
struct Start {
    ends: Key,
    username: Arc<str>,
    told: Told,
}

impl Typists {
    /// Starts the task; it ends when it is cancelled.
    #[must_use]
    pub fn start(hub: Arc<Hub>, lasts: Duration, people_max: usize, shutdown: CancellationToken) -> Self {
        let (changes, queue) = mpsc::channel(QUEUE_MAX);
        let task = Task { hub, lasts, people_max, ends: DelayQueue::new(), typing: HashMap::new() };
        tokio::spawn(async move { shutdown.run_until_cancelled(task.run(queue)).await });
        Self { changes }
    }

    /// Tells the room's watchers that somebody types or has stopped. A start is told each time, because a watcher may
    /// have come in between; a stop only when there was a start.
    pub async fn set(&self, room: RoomId, log: LogId, typing: Typing) {
        // It fails only while the process stops.
        drop(self.changes.send((room, Told::Here(log), typing)).await);
    }

    /// Tells this replica's watchers what another one told; answers whether there was space for it. Never waits.
    pub(crate) fn set_elsewhere(&self, room: RoomId, typing: Typing) -> bool {
        self.changes.try_send((room, Told::There, typing)).is_ok()
    }
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<(RoomId, Told, Typing)>) {
        loop {
            tokio::select! {
                change = queue.recv() => match change {
                    Some((room, told, typing)) => self.change(room, told, typing),
                    None => return,
                },
                Some(end) = self.ends.next() => {
                    let (room, user) = end.into_inner();
                    self.stopped(room, user);
                }
            }
        }
    }

    fn change(&mut self, room: RoomId, told: Told, typing: Typing) {
        let user = typing.user;
        match (typing.typing, self.typing.get_mut(&(room, user))) {
            (true, Some(start)) => {
                self.ends.reset(&start.ends, self.lasts);
                start.told = told;
            }
            (true, None) => {
                if self.typing.len() >= self.people_max {
                    return;
                }
                let (ends, username) = (self.ends.insert((room, user), self.lasts), Arc::clone(&typing.username));
                self.typing.insert((room, user), Start { ends, username, told });
            }
            (false, Some(start)) => {
                self.ends.remove(&start.ends);
                start.told = told;
                self.stopped(room, user);
                return;
            }
            (false, None) => return,
        }
        self.tell(room, told, typing);
    }

    fn stopped(&mut self, room: RoomId, user: UserId) {
        if let Some(Start { username, told, .. }) = self.typing.remove(&(room, user)) {
            self.tell(room, told, Typing { user, username, typing: false });
        }
    }

    fn tell(&self, room: RoomId, told: Told, typing: Typing) {
        match told {
            Told::Here(log) => self.hub.publish_typing(room, log, typing),
            Told::There => self.hub.deliver(room, Hint::Typing(typing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const LASTS: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_start_ends_by_itself_and_a_stop_is_told_once() {
        let hub = Hub::new(8);
        let (room, log, user) = (RoomId::random(), LogId::random(), UserId(Uuid::now_v7()));
        let mut hints = hub.subscribe(room);
        let typists = Typists::start(Arc::clone(&hub), LASTS, 10, CancellationToken::new());
        let typing = |typing| Typing { user, username: "ada".into(), typing };
        let mut told = async || match hints.next().await {
            Some(Hint::Typing(typing)) => typing.typing,
            other => panic!("{other:?}"),
        };

        let started = tokio::time::Instant::now();
        typists.set(room, log, typing(true)).await;
        assert!(told().await);
        assert!(!told().await);
        assert!(started.elapsed() >= LASTS);

        typists.set(room, log, typing(false)).await;
        typists.set(room, log, typing(true)).await;
        typists.set(room, log, typing(false)).await;
        typists.set(room, log, typing(false)).await;
        assert!(told().await);
        assert!(!told().await);
        typists.set(room, log, typing(true)).await;
        assert!(told().await, "one stop for one start");
    }
}
