//! A connection by WebSocket: one task that reads, writes and keeps the heartbeat, and holds no buffer while there is
//! nothing to do: it reads onto its stack and writes the shared frames themselves, all that wait in one call. The way
//! from polling to here (the probe) is `upgrade.rs`; the rules of frames are `reader.rs`.

use std::{
    collections::VecDeque,
    io::IoSlice,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use mesh::serve::Connection;
use smallvec::SmallVec;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::{Instant, Sleep},
};

use super::{
    Heard, Owner,
    pulse::Due,
    reader::{Incoming, Reader},
    socket::{Ending, NORMAL},
};
use crate::realtime::{frame::Frame, meter::Closed};

/// The longest that a client which was told its last word may take to go.
const LAST_WORD: Duration = Duration::from_millis(900);
/// Bytes that are read at once; they are on the stack only while they are.
const READ_BYTES: usize = 4096;
/// Frames that are written at once.
const WRITE_FRAMES: usize = 64;

/// How far the closing handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// The last frames are being written.
    Begun,
    /// Our close frame is among them.
    Said,
}

/// A WebSocket and its end of the session.
pub(super) struct Channel {
    io: TokioIo<Upgraded>,
    owner: Owner,
    connection: Option<Connection>,
    reader: Reader,
    batch: VecDeque<Frame>,
    /// Bytes of the first frame that are written already.
    offset: usize,
    /// Frames that were written since the socket was told.
    written: usize,
    sleep: Pin<Box<Sleep>>,
    /// Whether something was written since the last flush.
    unflushed: bool,
    closing: Closing,
    /// What comes in means nothing any more, until the client closes.
    deaf: bool,
    /// It cannot even be read. It is still taken from the kernel, which would otherwise reset the connection before the
    /// client has the close frame that says why.
    unreadable: bool,
    /// The client has closed.
    heard_close: bool,
}

/// Runs a session that begins by WebSocket.
pub(super) async fn serve(owner: Owner, upgrade: OnUpgrade, connection: Option<Connection>) {
    // Without a connection the client has gone; the owner tells whom it concerns.
    if let Ok(io) = upgrade.await {
        Channel::new(owner, TokioIo::new(io), connection, Reader::default()).await;
    }
}

impl Channel {
    pub(super) fn new(owner: Owner, io: TokioIo<Upgraded>, connection: Option<Connection>, reader: Reader) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(owner.socket.state().pulse.at()));
        Self {
            io,
            owner,
            connection,
            reader,
            batch: VecDeque::new(),
            offset: 0,
            written: 0,
            unflushed: false,
            sleep,
            closing: Closing::No,
            deaf: false,
            unreadable: false,
            heard_close: false,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
            self.hear(buffer.filled());
        }
    }

    /// Takes what has come in.
    pub(super) fn hear(&mut self, mut input: &[u8]) {
        let bytes_max = self.owner.engine.config().frame_bytes_max;
        while !self.heard_close && !self.unreadable {
            match self.reader.read(&mut input, bytes_max) {
                Ok(None) => return,
                Ok(Some(Incoming::Text(packet))) if !self.deaf => self.packet(&packet),
                // The attachment of an event that was refused when its text came.
                Ok(Some(Incoming::Text(_) | Incoming::Binary | Incoming::Pong)) => {}
                Ok(Some(Incoming::Ping(payload))) => {
                    self.owner.socket.push_or_kill(Frame::websocket(10, &payload));
                }
                Ok(Some(Incoming::Close(code))) => {
                    self.heard_close = true;
                    let code = code.first_chunk().map_or(NORMAL, |code| u16::from_be_bytes(*code));
                    self.owner.socket.finish_with(code, Closed::Client);
                }
                Err(broken) => {
                    self.unreadable = true;
                    self.owner.socket.finish_with(broken.code(), Closed::Protocol);
                }
            }
        }
    }

    fn packet(&mut self, packet: &str) {
        match self.owner.hear(packet) {
            Heard::Beat(next) => self.sleep.as_mut().reset(next),
            Heard::Taken => {}
            Heard::Left => self.end(Closed::Client),
            Heard::Malformed => self.end(Closed::Protocol),
        }
    }

    fn end(&mut self, why: Closed) {
        self.deaf = true;
        self.owner.socket.end(why);
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let ending = self.owner.socket.take(&mut self.batch, std::mem::take(&mut self.written), cx.waker());
            match ending {
                Ending::No => {}
                Ending::Over => {
                    self.kill();
                    return Poll::Ready(());
                }
                Ending::Last(code) => {
                    if self.closing == Closing::No {
                        (self.closing, self.deaf) = (Closing::Begun, true);
                        self.sleep.as_mut().reset(Instant::now() + LAST_WORD);
                    }
                    if self.batch.is_empty() && self.closing == Closing::Begun {
                        self.closing = Closing::Said;
                        self.batch.push_back(Frame::websocket(8, &code.to_be_bytes()));
                    }
                }
            }
            if self.batch.is_empty() {
                // By TLS what was written may wait in this process until the kernel takes it.
                if self.unflushed {
                    if ready!(Pin::new(&mut self.io).poll_flush(cx)).is_err() {
                        return Poll::Ready(());
                    }
                    self.unflushed = false;
                }
                let over = self.closing == Closing::Said && self.heard_close;
                return if over { Poll::Ready(()) } else { Poll::Pending };
            }
            self.unflushed = true;
            if ready!(self.poll_batch(cx)).is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// Writes the batch, all of it or as much as the kernel takes.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while let Some(first) = self.batch.front() {
            let first = &first.bytes()[self.offset..];
            let io = Pin::new(&mut self.io);
            let written = if self.batch.len() == 1 {
                ready!(io.poll_write(cx, first))?
            } else {
                let rest = self.batch.iter().skip(1).take(WRITE_FRAMES - 1).map(Frame::bytes);
                let slices: SmallVec<[IoSlice<'_>; 8]> = std::iter::once(first).chain(rest).map(IoSlice::new).collect();
                ready!(io.poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.offset += written;
            while let Some(length) = self.batch.front().map(Frame::len).filter(|length| *length <= self.offset) {
                self.offset -= length;
                self.batch.pop_front();
                self.written += 1;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.closing != Closing::No {
                self.kill();
                return Poll::Ready(());
            }
            let (due, at) = self.owner.beat();
            if due == Due::End {
                self.kill();
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(at);
        }
    }

    /// Ends the connection also when its peer does not read; what is queued in the kernel is dropped.
    fn kill(&self) {
        if let Some(connection) = &self.connection {
            connection.kill();
        }
    }
}

impl Future for Channel {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Reading first: an answer to it goes out with what waits. Time last: it looks at what both have changed.
        if self.poll_read(cx).is_ready() || self.poll_write(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_time(cx)
    }
}
