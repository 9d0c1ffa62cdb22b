//! A response stream with a bounded queue: a task fills it, the reader empties it, and a reader that takes nothing for
//! too long ends it. Dropping the stream ends the task.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, ready};
use mesh::error::{Reason, Refusal};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Status;

/// The reader's end.
pub(crate) struct Outgoing<T> {
    items: mpsc::Receiver<T>,
    /// Why the task ended, when it was not the log that did. Not in the queue, which may be full.
    end: Arc<OnceLock<Refusal>>,
    over: bool,
    _task: AbortOnDropHandle<()>,
}

/// The task's end.
pub(super) struct Outlet<T> {
    items: mpsc::Sender<T>,
    stall: Duration,
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), stall: self.stall }
    }
}

impl<T: Send + 'static> Outgoing<T> {
    /// Runs `fill` until it ends, the reader is gone, or the process stops.
    pub(super) fn spawn<F>(
        queue_max: usize,
        stall: Duration,
        shutdown: CancellationToken,
        fill: impl FnOnce(Outlet<T>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let (sender, items) = mpsc::channel(queue_max);
        let end = Arc::new(OnceLock::new());
        let filling = fill(Outlet { items: sender, stall });
        let told = Arc::clone(&end);
        let task = tokio::spawn(async move {
            let result = match shutdown.run_until_cancelled(filling).await {
                Some(result) => result,
                None => Err(Refusal::new(
                    Reason::Unavailable,
                    "This server is stopping; connect again, and resume by cursor",
                )),
            };
            if let Err(refusal) = result {
                // It is empty: only this task sets it, once.
                drop(told.set(refusal));
            }
        });
        Self { items, end, over: false, _task: AbortOnDropHandle::new(task) }
    }
}

#[cfg(test)]
impl<T> Outgoing<T> {
    /// Whether the task has said why it ended.
    pub(super) fn is_over(&self) -> bool {
        self.end.get().is_some()
    }
}

impl<T> Outlet<T> {
    /// Queues an item; waits while the queue is full.
    ///
    /// # Errors
    /// `SLOW_CONSUMER` when the reader has taken nothing for too long.
    pub(super) async fn send(&self, item: T) -> Result<(), Refusal> {
        let item = match self.items.try_send(item) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(item) | TrySendError::Closed(item)) => item,
        };
        let slow = |_| Refusal::new(Reason::SlowConsumer, "Nothing was read for too long; resume by cursor");
        self.items.send_timeout(item, self.stall).await.map_err(slow)
    }
}

impl<T> Stream for Outgoing<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(item) = ready!(self.items.poll_recv(context)) {
            return Poll::Ready(Some(Ok(item)));
        }
        self.over = true;
        Poll::Ready(self.end.get().cloned().map(|refusal| Err(refusal.into())))
    }
}
