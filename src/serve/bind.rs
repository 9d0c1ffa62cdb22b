//! Taking a port, with one sentence for the person who starts the process when that fails. It opens no connection;
//! `serve.rs` does.

use std::{fmt, io, net::SocketAddr};

use socket2::SockRef;
use tokio::net::TcpListener;

/// Connections that the kernel holds until they are accepted. A whole gateway's clients may come back at once; the
/// kernel cuts it to its own limit (`net.core.somaxconn`, 4096 by default).
const BACKLOG: i32 = 4096;

/// The ports of one service.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC.
    pub grpc: TcpListener,
    /// Operations: `/health`, `/ready`, `/metrics`.
    pub ops: TcpListener,
}

/// A port that could not be taken. Its text names the port, what it was for and what to do.
#[derive(Debug)]
pub struct BindError {
    what: String,
    addr: SocketAddr,
    variable: &'static str,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, addr, variable, source } = self;
        let (ip, port) = (addr.ip(), addr.port());
        if source.kind() == io::ErrorKind::AddrInUse {
            write!(f, "port {port} for {what} is taken by another program: stop it or set {variable}")
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            write!(
                f,
                "port {port} for {what} needs more rights than this program has: set {variable} to a port from 1024 on"
            )
        } else if source.kind() == io::ErrorKind::AddrNotAvailable {
            write!(
                f,
                "address {ip} for {what} (port {port}, {variable}) is none of this machine's: listen on another one"
            )
        } else {
            write!(f, "port {port} for {what} cannot be opened on {ip} ({source}): set {variable} or another address")
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Takes a port; `variable` is the environment name that an operator sets to choose another one.
///
/// # Errors
/// When the port is taken, forbidden, or the address is not this machine's.
pub async fn bind(what: &str, addr: SocketAddr, variable: &'static str) -> Result<TcpListener, BindError> {
    let failed = |source| BindError { what: what.to_owned(), addr, variable, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    // Listening again only sets the length of the queue, which is 1024 otherwise.
    SockRef::from(&listener).listen(BACKLOG).map_err(failed)?;
    Ok(listener)
}
