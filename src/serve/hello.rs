//! The first bytes of a connection: hyper-util starts its header timer only when they have told which protocol the client
//! speaks, so a client that connects and says nothing would hold its place forever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tokio_rustls::server::TlsStream;

use super::socket::Socket;

/// How every HTTP/2 connection begins.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How far the first bytes have come.
pub(super) enum Hello {
    /// So far `matched` bytes of the HTTP/2 preface.
    Waiting { matched: usize, timer: Option<Pin<Box<Sleep>>> },
    /// hyper's own timers are at work.
    Known,
}

impl Hello {
    pub(super) fn new() -> Self {
        Self::Waiting { matched: 0, timer: None }
    }

    /// Looks at the first bytes as they come in.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        if let Self::Waiting { matched, .. } = self {
            let expected = &HTTP2_PREFACE[*matched..];
            let seen = bytes.len().min(expected.len());
            *matched += seen;
            if bytes.is_empty() || bytes[..seen] != expected[..seen] || *matched == HTTP2_PREFACE.len() {
                *self = Self::Known;
            }
        }
    }

    /// Ready when they are too late.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<io::Error> {
        let Self::Waiting { timer, .. } = self else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client sent no request"))
    }
}

/// A connection by TLS after its handshake, whose first bytes are still to come.
pub(super) struct Secured {
    stream: TlsStream<Socket>,
    hello: Hello,
    timeout: Duration,
}

impl Secured {
    pub(super) fn new(stream: TlsStream<Socket>, timeout: Duration) -> Self {
        Self { stream, hello: Hello::new(), timeout }
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                self.hello.hear(&buf.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let timeout = self.timeout;
                self.hello.poll_late(cx, timeout).map(Err)
            }
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
