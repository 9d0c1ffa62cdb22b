//! Who types where, so that a start ends by itself. Nothing of it is stored, and all of it may be lost: a watcher that
//! lags misses hints about typing and nothing else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::{
    sync::CancellationToken,
    time::{DelayQueue, delay_queue::Key},
};

use crate::{
    hub::{Hub, Typing},
    id::{RoomId, UserId},
};

/// Changes that wait for the task; it never waits for anything but them, so this is a burst.
const QUEUE_MAX: usize = 1_024;

/// A handle on the task that knows who types.
#[derive(Clone, Debug)]
pub struct Typists {
    changes: mpsc::Sender<(RoomId, Typing)>,
}

struct Task {
    hub: Arc<Hub>,
    lasts: Duration,
    people_max: usize,
    ends: DelayQueue<(RoomId, UserId)>,
    typing: HashMap<(RoomId, UserId), (Key, Arc<str>)>,
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
    pub async fn set(&self, room: RoomId, typing: Typing) {
        // It fails only while the process stops.
        drop(self.changes.send((room, typing)).await);
    }
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<(RoomId, Typing)>) {
        loop {
            tokio::select! {
                change = queue.recv() => match change {
                    Some((room, typing)) => self.change(room, typing),
                    None => return,
                },
                Some(end) = self.ends.next() => {
                    let (room, user) = end.into_inner();
                    self.stopped(room, user);
                }
            }
        }
    }

    fn change(&mut self, room: RoomId, typing: Typing) {
        let user = typing.user;
        let known = self.typing.get(&(room, user)).map(|(key, _)| *key);
        match (typing.typing, known) {
            (true, Some(key)) => self.ends.reset(&key, self.lasts),
            (true, None) => {
                if self.typing.len() >= self.people_max {
                    return;
                }
                let key = self.ends.insert((room, user), self.lasts);
                self.typing.insert((room, user), (key, Arc::clone(&typing.username)));
            }
            (false, Some(key)) => {
                self.ends.remove(&key);
                self.stopped(room, user);
                return;
            }
            (false, None) => return,
        }
        self.hub.publish_typing(room, typing);
    }

    fn stopped(&mut self, room: RoomId, user: UserId) {
        if let Some((_, username)) = self.typing.remove(&(room, user)) {
            self.hub.publish_typing(room, Typing { user, username, typing: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::hub::Hint;

    const LASTS: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_start_ends_by_itself_and_a_stop_is_told_once() {
        let hub = Hub::new(8);
        let (room, user) = (RoomId::random(), UserId(Uuid::now_v7()));
        let mut hints = hub.subscribe(room);
        let typists = Typists::start(Arc::clone(&hub), LASTS, 10, CancellationToken::new());
        let typing = |typing| Typing { user, username: "ada".into(), typing };
        let mut told = async || match hints.next().await {
            Some(Hint::Typing(typing)) => typing.typing,
            other => panic!("{other:?}"),
        };

        let started = tokio::time::Instant::now();
        typists.set(room, typing(true)).await;
        assert!(told().await);
        assert!(!told().await);
        assert!(started.elapsed() >= LASTS);

        typists.set(room, typing(false)).await;
        typists.set(room, typing(true)).await;
        typists.set(room, typing(false)).await;
        typists.set(room, typing(false)).await;
        assert!(told().await);
        assert!(!told().await);
        typists.set(room, typing(true)).await;
        assert!(told().await, "one stop for one start");
    }
}
