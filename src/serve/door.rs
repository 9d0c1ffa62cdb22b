//! How a connection by TLS is let in: by which certificates, and how many may be at it at once. A handshake holds buffers,
//! and a client that connects and says nothing holds them until its time is over; so there is a most of them, and past it the
//! one that has taken longest is ended. A client that means it is done in some milliseconds, so it is never that one.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::socket::Socket;
use crate::tls::{EdgeTls, Peer, Reason, Tls, failed};

/// Whose certificates count.
#[derive(Clone)]
pub(super) enum Door {
    /// Those of both ends, inside the mesh.
    Mesh(Arc<Tls>),
    /// This end's alone, towards clients.
    Edge(Arc<EdgeTls>),
}

impl Door {
    /// Goes through the handshake, and says who is at the other end where that is known.
    pub(super) async fn accept(
        &self,
        socket: Socket,
        limit: Duration,
    ) -> io::Result<(TlsStream<Socket>, Option<Peer>)> {
        match self {
            Self::Mesh(tls) => tls.accept(socket, limit).await.map(|(stream, name)| (stream, Some(name))),
            Self::Edge(tls) => match timeout(limit, greet(tls, socket)).await {
                Ok(accepted) => accepted.map(|stream| (stream, None)),
                Err(_) => {
                    failed(Reason::Timeout);
                    Err(io::ErrorKind::TimedOut.into())
                }
            },
        }
    }
}

/// What who speaks plain HTTP is answered. The connection ends with it: its request has gone over the network in the clear.
const SPEAK_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 38\r\nconnection: close\r\n\r\n\
    This port speaks TLS: call it https.\r\n";
/// The time and the bytes in which such a client may go on talking before its connection is closed: one that is closed with
/// bytes unread is reset, and the client might not see the answer.
const LISTEN_FOR: Duration = Duration::from_secs(1);
const LISTEN_BYTES_MAX: u64 = 64 << 10;

/// A client that speaks plain HTTP is told so in HTTP, since it would not understand anything else.
async fn greet(tls: &EdgeTls, mut socket: Socket) -> io::Result<TlsStream<Socket>> {
    // A method is in capital letters, and no record of TLS begins with one.
    if socket.first_byte().await?.is_ascii_uppercase() {
        failed(Reason::Plain);
        turn_away(socket).await?;
        return Err(io::ErrorKind::InvalidData.into());
    }
    tls.accept(socket).await
}

async fn turn_away(mut socket: Socket) -> io::Result<()> {
    socket.write_all(SPEAK_TLS).await?;
    socket.shutdown().await?;
    let (mut rest, mut sink) = (socket.take(LISTEN_BYTES_MAX), tokio::io::sink());
    // It may go on for as long as it likes, and is not listened to.
    drop(timeout(LISTEN_FOR, tokio::io::copy(&mut rest, &mut sink)).await);
    Ok(())
}

/// All handshakes in progress at one listener.
pub(super) struct Handshakes {
    max: usize,
    begun: Mutex<BTreeMap<u64, CancellationToken>>,
}

/// One; it is over when it is dropped.
pub(super) struct Handshake {
    id: u64,
    all: Arc<Handshakes>,
    ended: CancellationToken,
}

impl Handshakes {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, begun: Mutex::default() })
    }

    /// Begins the handshake of a connection; later ones have higher numbers.
    pub(super) fn begin(self: &Arc<Self>, id: u64) -> Handshake {
        let ended = CancellationToken::new();
        let mut begun = self.begun();
        begun.insert(id, ended.clone());
        if begun.len() > self.max
            && let Some((_, oldest)) = begun.pop_first()
        {
            oldest.cancel();
        }
        drop(begun);
        Handshake { id, all: Arc::clone(self), ended }
    }

    fn begun(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        // Nothing that could panic runs under this lock.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handshake {
    /// Waits until it has to give way to another one.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.begun().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_most_the_oldest_gives_way_and_one_that_is_over_counts_no_more() {
        let all = Handshakes::new(2);
        let (first, second, third) = (all.begin(1), all.begin(2), all.begin(3));
        let are_ended = |some: &[&Handshake]| some.iter().map(|one| one.ended.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(are_ended(&[&first, &second, &third]), [true, false, false]);
        drop((first, second));
        let fourth = all.begin(4);
        assert_eq!(are_ended(&[&third, &fourth]), [false, false]);
        drop((third, fourth));
        assert!(all.begun().is_empty());
    }
}
