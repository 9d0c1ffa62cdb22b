//! Following one room: read from the next seq, deliver, wait. A hint is used as the entries themselves only when they
//! start at the next seq; otherwise it only wakes the reader. So there is no gap between reading and subscribing, and a
//! watcher that lagged, or whose room another process writes to, reads what it missed.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    cursor::Cursor,
    entry::{Entry, Seq},
    error::Error,
    hub::{Hint, Hub, Origins, Subscription, Typing},
    id::RoomId,
    store::Store,
};

/// The first wait after a failed read, doubled up to [`RETRY_WAIT_MAX`].
const RETRY_WAIT: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(2);

/// How much a watcher reads at once, and for how long it waits for a store that is away.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Entries of one read.
    pub entries_max: usize,
    /// Bytes of one read.
    pub bytes_max: usize,
    /// How long to try.
    pub patience: Duration,
}

/// A watcher of one room. It has no permission of its own: whoever makes it has asked.
pub struct Watch {
    store: Arc<dyn Store>,
    hints: Subscription,
    pace: Pace,
    room: RoomId,
    /// The seq that comes next.
    next: Seq,
    /// Whether the log may have something that no hint will bring.
    behind: bool,
}

/// What a watcher delivers.
#[derive(Clone, Debug)]
pub enum Step {
    /// The next entries, in order and without a hole, and who sent them, if that is known and wanted.
    Entries(Vec<Arc<Entry>>, Origins),
    /// Somebody types, or has stopped.
    Typing(Typing),
}

impl Watch {
    /// A watcher that has its hints but no position yet. What is read from the store after this cannot be missed.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, hub: &Arc<Hub>, room: RoomId, pace: Pace) -> Self {
        Self { store, hints: hub.subscribe(room), pace, room, next: 1, behind: true }
    }

    /// Starts after this position, which must hold.
    pub fn start_after(&mut self, cursor: Cursor) {
        self.hints.follows(cursor.log);
        self.next = cursor.seq + 1;
        self.behind = true;
    }

    /// Waits for what comes next. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// The store's, after having waited for it.
    pub async fn next(&mut self) -> Result<Step, Error> {
        loop {
            if self.behind {
                let entries = self.read().await?;
                if let Some(last) = entries.last() {
                    self.next = last.seq + 1;
                    return Ok(Step::Entries(entries, None));
                }
                self.behind = false;
            }
            match self.hints.next().await {
                Some(Hint::Entries(batch, origins)) => {
                    if let Some(entries) = self.fitting(&batch) {
                        return Ok(Step::Entries(entries, origins));
                    }
                }
                Some(Hint::Head(seq)) => self.behind = seq >= self.next,
                Some(Hint::Typing(typing)) => return Ok(Step::Typing(typing)),
                None => self.behind = true,
            }
        }
    }

    /// The entries of a hint that come next. Those that were delivered are left out; a hole means that the store knows
    /// more.
    fn fitting(&mut self, batch: &[Arc<Entry>]) -> Option<Vec<Arc<Entry>>> {
        let (first, last) = (batch.first()?.seq, batch.last()?.seq);
        if last < self.next {
            return None;
        }
        if first > self.next {
            self.behind = true;
            return None;
        }
        let entries = batch.iter().filter(|entry| entry.seq >= self.next).cloned().collect();
        self.next = last + 1;
        Some(entries)
    }

    async fn read(&self) -> Result<Vec<Arc<Entry>>, Error> {
        let give_up = Instant::now() + self.pace.patience;
        let mut wait = RETRY_WAIT;
        loop {
            let read =
                self.store.entries_after(self.room, self.next - 1, self.pace.entries_max, self.pace.bytes_max).await;
            match read {
                Err(error) if Instant::now() + wait < give_up => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a watcher waits for the store");
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY_WAIT_MAX);
                }
                other => return Ok(other?),
            }
        }
    }
}

#[cfg(test)]
mod tests;
