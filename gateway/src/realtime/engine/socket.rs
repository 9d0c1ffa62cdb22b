//! One connection of a client, whatever carries it: what waits to be written, how far its end has come, and its
//! heartbeat. Nothing here waits or writes. The task that does is `websocket.rs` or `polling.rs`; who the client is is
//! `namespace.rs`. Memory counts: an idle one is this struct and one task.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Id,
    pulse::{Due, Pulse},
};
use crate::realtime::{
    RealtimeConfig,
    frame::Frame,
    meter::Closed,
    namespace::Phase,
    session::{Link, Unsent},
};

/// The close codes of RFC 6455 that the server uses by itself.
pub(super) const NORMAL: u16 = 1000;
pub(super) const PROTOCOL: u16 = 1002;

/// A queue of so few places is kept by a socket whose frames have all been written.
const PLACES_KEPT: usize = 8;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not at all.
    No,
    /// What is queued is still written, then the close code.
    Last(u16),
    /// Nothing is written any more.
    Over,
}

/// What carries the packets.
#[derive(Debug)]
pub(super) enum Wire {
    Polling(Box<Polling>),
    WebSocket,
}

/// What only a polling client needs.
#[derive(Debug, Default)]
pub(super) struct Polling {
    /// A GET waits.
    pub(super) polled: bool,
    /// A POST is being read.
    pub(super) posting: bool,
    /// A WebSocket has been opened for this session.
    pub(super) upgrading: bool,
    /// It answers, so polls are let go at once.
    pub(super) probed: bool,
    /// The client itself has closed.
    pub(super) left: bool,
    /// Tells the session's task that something of this has changed.
    pub(super) changed: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: VecDeque<Frame>,
    /// Frames that are queued or being written.
    pub(super) waiting: usize,
    pub(super) ending: Ending,
    pub(super) why: Closed,
    pub(super) wire: Wire,
    pub(super) pulse: Pulse,
    /// Who writes, and whether it has been told since it last looked: a batch of frames wakes it once.
    waker: Option<Waker>,
    woken: bool,
}

/// One connection.
#[derive(Debug)]
pub(in crate::realtime) struct Socket {
    pub(in crate::realtime) id: Id,
    pub(in crate::realtime) address: IpAddr,
    pub(in crate::realtime) phase: Mutex<Phase>,
    outgoing_max: usize,
    state: Mutex<State>,
}

impl Socket {
    pub(super) fn new(address: IpAddr, wire: Wire, config: &RealtimeConfig) -> Self {
        let state = State {
            queue: VecDeque::new(),
            waiting: 0,
            ending: Ending::No,
            why: Closed::Client,
            wire,
            pulse: Pulse::new(config, Instant::now()),
            waker: None,
            woken: false,
        };
        let (id, outgoing_max) = (Id::new(), config.outgoing_max);
        Self { id, address, phase: Mutex::default(), outgoing_max, state: Mutex::new(state) }
    }

    pub(in crate::realtime) fn phase(&self) -> MutexGuard<'_, Phase> {
        // Nothing that could panic half-way runs under this lock.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic half-way runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's turn: `written` frames are on their way, and when `batch` is empty it gets what waits.
    pub(super) fn take(&self, batch: &mut VecDeque<Frame>, written: usize, waker: &Waker) -> Ending {
        let mut state = self.state();
        state.waiting = state.waiting.saturating_sub(written);
        state.listen(waker);
        if state.ending != Ending::Over && batch.is_empty() {
            if batch.capacity() > PLACES_KEPT {
                *batch = VecDeque::new();
            }
            std::mem::swap(batch, &mut state.queue);
        }
        state.ending
    }

    /// Queues a packet whose place a client must have: without one it does not read, and is ended.
    pub(super) fn push_or_kill(&self, frame: Frame) {
        if self.send(frame) == Err(Unsent::Full) {
            self.state().why = Closed::Slow;
            self.kill();
        }
    }

    /// Ends a connection whose client is done, or has broken the protocol; by WebSocket with a closing handshake.
    pub(in crate::realtime) fn end(&self, why: Closed) {
        let mut state = self.state();
        if state.ending != Ending::No {
            return;
        }
        state.why = why;
        let code = if why == Closed::Protocol { PROTOCOL } else { NORMAL };
        let ending = if matches!(state.wire, Wire::WebSocket) { Ending::Last(code) } else { Ending::Over };
        state.finish(ending);
    }

    /// Ends it once what is queued is written, with this close code.
    pub(super) fn finish_with(&self, code: u16, why: Closed) {
        let mut state = self.state();
        if state.ending == Ending::No {
            state.why = why;
            state.finish(Ending::Last(code));
        }
    }

    /// What the heartbeat asks for now, and when to look again. A ping is queued by this.
    pub(super) fn beat(&self, config: &RealtimeConfig, ping: &Frame) -> (Due, Instant) {
        let mut state = self.state();
        let due = state.pulse.look(config, Instant::now());
        let at = state.pulse.at();
        drop(state);
        if due == Due::Ping {
            self.push_or_kill(ping.clone());
        }
        (due, at)
    }

    /// The client has answered a ping. When to look next.
    pub(super) fn pong(&self, config: &RealtimeConfig) -> Instant {
        let mut state = self.state();
        state.pulse.pong(config, Instant::now());
        state.changed();
        state.pulse.at()
    }

    /// The client is in the namespace, or, with a time, has left it and may come again until then.
    pub(in crate::realtime) fn connect_by(&self, by: Option<Instant>) {
        let mut state = self.state();
        state.pulse.connect_by(by);
        state.changed();
    }
}

impl Link for Socket {
    fn send_all(&self, frames: &[Frame]) -> Result<(), Unsent> {
        let mut state = self.state();
        if state.ending != Ending::No {
            return Err(Unsent::Gone);
        }
        if state.waiting + frames.len() > self.outgoing_max {
            return Err(Unsent::Full);
        }
        state.waiting += frames.len();
        state.queue.extend(frames.iter().cloned());
        state.wake();
        Ok(())
    }

    fn kill(&self) {
        let mut state = self.state();
        if state.ending != Ending::Over {
            state.queue = VecDeque::new();
            state.finish(Ending::Over);
        }
    }

    fn finish(&self) {
        let mut state = self.state();
        if state.ending == Ending::No {
            state.finish(Ending::Last(NORMAL));
        }
    }
}

impl State {
    /// Whom to wake when there is something to write.
    pub(super) fn listen(&mut self, waker: &Waker) {
        self.woken = false;
        match &self.waker {
            Some(known) if known.will_wake(waker) => {}
            _ => self.waker = Some(waker.clone()),
        }
    }

    pub(super) fn wake(&mut self) {
        if !std::mem::replace(&mut self.woken, true)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }

    pub(super) fn changed(&self) {
        if let Wire::Polling(polling) = &self.wire {
            polling.changed.notify_one();
        }
    }

    pub(super) fn finish(&mut self, ending: Ending) {
        self.ending = ending;
        self.changed();
        self.wake();
    }

    /// The session by polling, unless it has ended or moved.
    pub(super) fn polling(&mut self) -> Option<&mut Polling> {
        match &mut self.wire {
            Wire::Polling(polling) if self.ending != Ending::Over => Some(polling),
            Wire::Polling(_) | Wire::WebSocket => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn socket(outgoing_max: usize) -> Socket {
        let config = RealtimeConfig { outgoing_max, ..RealtimeConfig::default() };
        Socket::new(Ipv4Addr::LOCALHOST.into(), Wire::WebSocket, &config)
    }

    #[tokio::test]
    async fn a_batch_of_frames_wakes_the_writer_once_and_is_taken_whole() {
        let (socket, count, mut batch) = (socket(16), Arc::new(Count::default()), VecDeque::new());
        let waker = Waker::from(Arc::clone(&count));
        assert_eq!(socket.take(&mut batch, 0, &waker), Ending::No);
        for text in ["a", "b", "c"] {
            assert_eq!(socket.send(text.into()), Ok(()));
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        socket.take(&mut batch, 0, &waker);
        assert_eq!(batch, ["a", "b", "c"].map(Frame::from));
        assert_eq!(socket.send("d".into()), Ok(()));
        assert_eq!(count.0.load(Ordering::SeqCst), 2, "it has looked since");
    }

    #[tokio::test]
    async fn what_is_being_written_takes_its_places_until_it_is() {
        let (socket, mut batch) = (socket(2), VecDeque::new());
        let waker = Waker::noop();
        socket.send("a".into()).expect("a place");
        socket.send("b".into()).expect("a place");
        assert_eq!(socket.send("c".into()), Err(Unsent::Full));
        socket.take(&mut batch, 0, waker);
        assert_eq!(socket.send("c".into()), Err(Unsent::Full), "none of it is written");
        batch.pop_front();
        socket.take(&mut batch, 1, waker);
        assert_eq!(socket.send("c".into()), Ok(()));
        assert_eq!(socket.send("d".into()), Err(Unsent::Full));
    }

    #[tokio::test]
    async fn after_a_last_word_nothing_is_queued_and_after_the_end_nothing_is_kept() {
        let (socket, mut batch) = (socket(8), VecDeque::new());
        socket.send("last".into()).expect("a place");
        socket.finish();
        assert_eq!(socket.send("later".into()), Err(Unsent::Gone));
        assert_eq!(socket.take(&mut batch, 0, Waker::noop()), Ending::Last(NORMAL));
        assert_eq!(batch, [Frame::from("last")]);
        let killed = self::socket(8);
        killed.send("lost".into()).expect("a place");
        killed.kill();
        batch.clear();
        assert_eq!(killed.take(&mut batch, 0, Waker::noop()), Ending::Over);
        assert!(batch.is_empty());
    }
}
