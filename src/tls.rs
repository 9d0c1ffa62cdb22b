//! Certificates inside the mesh: each process shows its own, judges the other end's, and takes up new ones while it runs.
//! They say which process calls; for whom, the tokens of `identity` say. And the one that the edge shows to clients.
//!
//! | file | owns |
//! |---|---|
//! | `tls/files.rs` | reading the files into what rustls wants |
//! | `tls/follow.rs` | taking up what they hold now |
//! | `tls/edge.rs` | TLS towards clients |
//! | `tls/name.rs` | whose a certificate is |
//! | `tls/verify.rs` | judging the other end's |
//! | `tls/callers.rs`, `callers.toml` | who may call what |
//! | `tls/connect.rs` | connections to other services |
//! | `tls/refusals.rs` | what is said and counted of those that are refused |

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::Guard;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::{MeshConfig, TlsConfig},
    identity::ServiceName,
    keys::KeyError,
    time::Millis,
};

mod callers;
mod connect;
mod edge;
mod files;
mod follow;
mod name;
mod refusals;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use connect::Connector;
pub use edge::EdgeTls;
pub(crate) use edge::failed;
pub use files::expires;
use files::{Contents, Current};
use follow::{Followed, Source};
pub(crate) use refusals::Reason;
use refusals::Refusals;

/// Why certificates cannot be used. It names files, never their content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there, and not what it should be, or does not fit the others.
    #[error("{} {what}", path.display())]
    Bad {
        /// Which one.
        path: PathBuf,
        /// What is wrong, as the rest of a sentence.
        what: String,
    },
}

/// Whether the files of the process of this name are here: a machine has its own process' alone, or those of all.
#[must_use]
pub fn is_here(name: &str, config: &TlsConfig) -> bool {
    let own = [&config.cert_file, &config.key_file];
    let names_all = own.iter().all(|path| path.to_str().is_some_and(|path| path.contains("{name}")));
    names_all && own.iter().all(|path| files::of_process(path, name).exists())
}

/// What a process with certificates goes by when no service is meant: the operator's commands.
pub const OPERATOR: &str = "operator";

/// Who is at the other end of a connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer(Arc<str>);

impl Peer {
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name within the trust domain.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether it is this service.
    #[must_use]
    pub fn is(&self, service: ServiceName) -> bool {
        &*self.0 == service.as_str()
    }
}

/// One process' certificates, as they are now.
pub struct Tls {
    files: Arc<Followed<Files>>,
    refusals: Arc<Refusals>,
}

/// The files of the process of this name.
struct Files {
    name: &'static str,
    config: TlsConfig,
    refusals: Arc<Refusals>,
}

impl Source for Files {
    type Contents = Contents;
    type Made = Current;

    fn read(&self) -> Result<Contents, KeyError> {
        Contents::read(self.name, &self.config)
    }

    fn make(&self, contents: &Contents) -> Result<Current, KeyError> {
        Ok(Current::new(self.name, &self.config, contents, &self.refusals)?)
    }

    fn expire(&self, current: &Current) -> Vec<(&'static str, Millis)> {
        vec![(self.name, current.expires), ("authority", current.authority_expires)]
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.files.source.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificates of the process of this name, when there are to be any, and looks at the files again and again
    /// from then on. To be called in a runtime, where the task lives that looks.
    ///
    /// # Errors
    /// When a file cannot be read, is not what it should be, or the key is open to others.
    pub fn start(name: &'static str, config: &MeshConfig) -> Result<Option<Arc<Self>>, KeyError> {
        let Some(tls) = Self::read(name, &config.tls)? else { return Ok(None) };
        tls.files.keep_looking(config.tls.look());
        Ok(Some(Arc::new(tls)))
    }

    /// Reads them once.
    fn read(name: &'static str, config: &TlsConfig) -> Result<Option<Self>, KeyError> {
        if !config.is_on() {
            return Ok(None);
        }
        let refusals = Arc::new(Refusals::default());
        let files = Files { name, config: config.clone(), refusals: Arc::clone(&refusals) };
        Ok(Some(Self { files: Followed::read(files)?, refusals }))
    }

    fn current(&self) -> Guard<Arc<(Contents, Current)>> {
        self.files.current.load()
    }

    /// When this process' certificate expires, and when the first of the authorities does.
    #[must_use]
    pub fn expire(&self) -> (Millis, Millis) {
        let current = &self.current().1;
        (current.expires, current.authority_expires)
    }

    /// Lets a caller in that has connected, or not. Who it is, is in its certificate.
    pub(crate) async fn accept<S>(&self, stream: S, limit: Duration) -> io::Result<(TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current().1.server));
        let Ok(accepted) = tokio::time::timeout(limit, acceptor.accept(stream)).await else {
            self.refusals.caller(Reason::Timeout, None, "");
            return Err(io::ErrorKind::TimedOut.into());
        };
        let stream = accepted.inspect_err(|error| self.refused(error))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let name = certificate.and_then(|one| name::of(one, &self.files.source.config.trust_domain).ok());
        let name = name.ok_or(io::ErrorKind::PermissionDenied)?;
        Ok((stream, Peer(name.into())))
    }

    fn refused(&self, error: &io::Error) {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else { return };
        // A certificate that was refused has been told of by who judged it.
        if !matches!(error, rustls::Error::InvalidCertificate(_)) {
            self.refusals.caller(Reason::of(error), None, &error.to_string());
        }
    }

    /// Whether this process may make this call, by the list.
    pub(crate) fn allows(&self, peer: &Peer, path: &str) -> bool {
        self.current().1.callers.allow(peer.name(), path)
    }
}
