//! What waits for one socket. Anybody may put frames into it; only the socket's own task takes them out.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

/// A socket that is this many frames behind is closed: the limit of a queue, as everywhere in the product.
const FRAMES_MAX: usize = 4096;

/// The queue of one socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    frames: VecDeque<Bytes>,
    task: Option<Waker>,
    overflowed: bool,
}

/// The socket fell too far behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflowed;

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nothing panics with the lock")
    }

    /// Puts a frame behind those that wait. Only the first of several wakes the task.
    pub(crate) fn push(&self, frame: Bytes) {
        let task = {
            let mut inner = self.lock();
            if inner.frames.len() < FRAMES_MAX {
                inner.frames.push_back(frame);
            } else {
                inner.overflowed = true;
            }
            inner.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Takes all that waits, for the empty queue that is given: neither side allocates in a steady flow.
    pub(crate) fn poll_take(&self, context: &Context<'_>, empty: &mut VecDeque<Bytes>) -> Poll<Result<(), Overflowed>> {
        let mut inner = self.lock();
        if inner.overflowed {
            return Poll::Ready(Err(Overflowed));
        }
        if inner.frames.is_empty() {
            inner.task = Some(context.waker().clone());
            return Poll::Pending;
        }
        mem::swap(&mut inner.frames, empty);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(outbox: &Outbox) -> Poll<Result<usize, Overflowed>> {
        let mut frames = VecDeque::new();
        let taken = outbox.poll_take(&Context::from_waker(Waker::noop()), &mut frames);
        taken.map_ok(|()| frames.len())
    }

    #[test]
    fn what_waits_is_taken_at_once() {
        let outbox = Outbox::default();
        assert_eq!(take(&outbox), Poll::Pending);
        outbox.push(Bytes::from_static(b"a"));
        outbox.push(Bytes::from_static(b"b"));
        assert_eq!(take(&outbox), Poll::Ready(Ok(2)));
        assert_eq!(take(&outbox), Poll::Pending);
    }

    #[test]
    fn a_socket_that_is_too_far_behind_is_told_so() {
        let outbox = Outbox::default();
        for _ in 0..=FRAMES_MAX {
            outbox.push(Bytes::from_static(b"a"));
        }
        assert_eq!(take(&outbox), Poll::Ready(Err(Overflowed)));
    }
}
