//! How a peer starts and ends: `PORT` from the environment on loopback, one `READY` line, SIGTERM.

use std::{env, io, net::SocketAddr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
};

/// Connections that may wait to be accepted: thousands of clients connect at once in some scenarios.
const BACKLOG: u32 = 4096;

/// A port that is listened on.
#[derive(Debug)]
pub struct Listening {
    /// Where clients come in.
    pub listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Says that the peer serves now; the line is the only one on standard output.
    #[expect(clippy::print_stdout, reason = "whoever started the peer waits for this line")]
    pub fn ready(&self) {
        println!("READY http://{}", self.address);
    }
}

/// Listens on `PORT` of loopback (any free port when it is not set), with as many open files as the system allows.
///
/// # Errors
/// When `PORT` is no port, or is taken.
pub fn listen() -> io::Result<Listening> {
    let port = match env::var("PORT") {
        Ok(port) => {
            port.parse().map_err(|error| io::Error::other(format!("PORT must be a port, not {port:?}: {error}")))?
        }
        Err(_) => 0,
    };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let listener = socket.listen(BACKLOG)?;
    Ok(Listening { address: listener.local_addr()?, listener })
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When the system gives no signals.
pub async fn stopped() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
