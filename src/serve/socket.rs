//! One accepted TCP connection as hyper and the WebSocket code above it see it. It owns the three ways in which the
//! server ends a connection by itself: a slow first line, a write that stands still, and [`Connection::kill`].
//!
//! They live in the socket, below all protocols, because the layers above cannot be relied upon: after an upgrade hyper
//! lets go of the connection, and socketioxide's `disconnect` does nothing while its outgoing buffer is full, which is
//! exactly when a stalled peer has to go.

use std::{
    fmt, io,
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Sleep,
};

use super::{Place, hello::Hello};
use crate::tls::Peer;

/// The connection that a request came by. It is in every request's extensions.
#[derive(Clone)]
pub struct Connection {
    /// The other end, as the kernel sees it: a proxy's address behind a proxy.
    pub peer: SocketAddr,
    /// This end.
    pub local: SocketAddr,
    /// A number that no other connection of this listener has had.
    pub id: u64,
    /// Who is at the other end, by its certificate; none where it shows none.
    pub name: Option<Peer>,
    /// Whether it is by TLS.
    pub secured: bool,
    /// Weak, so that a request's extensions that are kept for long (socketioxide keeps them with the socket) do not
    /// keep the file descriptor open.
    shared: Weak<Shared>,
}

impl Connection {
    /// Ends the TCP connection at once, also after an upgrade: what is queued is dropped and the peer gets a reset.
    /// Does nothing when it has ended before.
    pub fn kill(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.end();
        }
    }

    /// Whether the connection has ended, or is about to.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.shared.upgrade().is_none_or(|shared| shared.is_ended())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("local", &self.local).finish_non_exhaustive()
    }
}

/// What a [`Connection`] can reach of its socket.
pub(super) struct Shared {
    write: OwnedWriteHalf,
    ended: AtomicBool,
}

impl Shared {
    fn stream(&self) -> &TcpStream {
        self.write.as_ref()
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Shuts the socket down in the kernel, which wakes whoever waits to read or write it; they get an error, drop the
    /// socket, and with no linger time that close sends a reset instead of waiting for a peer that does not read.
    pub(super) fn end(&self) {
        if self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let linger = self.stream().set_zero_linger();
        let shutdown = SockRef::from(self.stream()).shutdown(Shutdown::Both);
        if let Err(error) = linger.and(shutdown) {
            // The peer was faster: it is closed already.
            tracing::trace!(error = %error, "A connection to end had ended by itself");
        }
    }
}

/// The IO object under hyper. It is small on purpose: ten thousand idle ones have to fit, so timers are made only when
/// there is something to wait for.
pub(super) struct Socket {
    read: OwnedReadHalf,
    shared: Arc<Shared>,
    hello: Hello,
    stalled: Option<Pin<Box<Sleep>>>,
    hello_timeout: Duration,
    write_timeout: Duration,
    place: Place,
}

impl Socket {
    /// Wraps an accepted stream. `place` is given back when the socket is dropped, upgraded or not.
    pub(super) fn new(stream: TcpStream, hello_timeout: Duration, write_timeout: Duration, place: Place) -> Self {
        let (read, write) = stream.into_split();
        let shared = Arc::new(Shared { write, ended: AtomicBool::new(false) });
        place.enter(&shared);
        Self { read, shared, hello: Hello::new(), stalled: None, hello_timeout, write_timeout, place }
    }

    /// The handle that requests carry.
    pub(super) fn connection(&self, peer: SocketAddr, local: SocketAddr, id: u64) -> Connection {
        Connection { peer, local, id, name: None, secured: false, shared: Arc::downgrade(&self.shared) }
    }

    /// The first byte that comes in, which stays to be read.
    pub(super) async fn first_byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        match self.read.peek(&mut byte).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(byte[0]),
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let late = std::task::ready!(self.hello.poll_late(cx, self.hello_timeout));
        self.shared.end();
        Poll::Ready(Err(late))
    }

    /// Writes as soon as the socket takes something, and ends it when it has taken nothing for too long.
    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.shared.is_ended() {
                return Poll::Ready(Err(ended()));
            }
            match self.shared.stream().poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let timeout = self.write_timeout;
                    let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                    std::task::ready!(timer.as_mut().poll(cx));
                    self.shared.end();
                    self.place.count_stalled();
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")));
                }
            }
            match write(self.shared.stream()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(written) => {
                    self.stalled = None;
                    return Poll::Ready(Ok(written));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.shared.is_ended() {
            return Poll::Ready(Err(ended()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.read).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if self.shared.is_ended() => Poll::Ready(Err(ended())),
            Poll::Ready(Ok(())) => {
                self.hello.hear(&buf.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_late(cx),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has it already.
        Poll::Ready(if self.shared.is_ended() { Err(ended()) } else { Ok(()) })
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shared.is_ended() {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(SockRef::from(self.shared.stream()).shutdown(Shutdown::Write))
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server ended this connection")
}
