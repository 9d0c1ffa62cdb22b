//! Certificates inside the mesh: each process shows its own, judges the other end's, and takes up new ones while it runs.
//! They say which process calls; for whom, the tokens of `identity` say.
//!
//! | file | owns |
//! |---|---|
//! | `tls/files.rs` | reading the files into what rustls wants |
//! | `tls/name.rs` | whose a certificate is |
//! | `tls/verify.rs` | judging the other end's |
//! | `tls/callers.rs`, `callers.toml` | who may call what |
//! | `tls/connect.rs` | connections to other services |
//! | `tls/refusals.rs` | what is said and counted of those that are refused |

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
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
mod files;
mod name;
mod refusals;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use connect::Connector;
pub use files::expires;
use files::{Contents, Current};
use refusals::{Reason, Refusals};

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
    name: &'static str,
    config: TlsConfig,
    refusals: Arc<Refusals>,
    current: ArcSwap<Current>,
    /// Why the files cannot be used as they are, so that it is told once.
    problem: Mutex<Option<String>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
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
        let tls = Arc::new(tls);
        tls.measure();
        let (weak, every) = (Arc::downgrade(&tls), config.tls.look());
        tokio::spawn(keep_looking(weak, every));
        Ok(Some(tls))
    }

    /// Reads them once.
    fn read(name: &'static str, config: &TlsConfig) -> Result<Option<Self>, KeyError> {
        if !config.is_on() {
            return Ok(None);
        }
        let refusals = Arc::new(Refusals::default());
        let contents = Contents::read(name, config)?;
        let current = Current::new(name, config, contents, &refusals)?;
        let (config, current) = (config.clone(), ArcSwap::from_pointee(current));
        Ok(Some(Self { name, config, refusals, current, problem: Mutex::default() }))
    }

    /// Looks whether the files have changed, and takes up what they hold now. What cannot be used, such as a certificate
    /// whose key is not written yet, changes nothing and is told once.
    fn look(&self) {
        let read = self.changed();
        // Nothing that could panic runs under this lock.
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *problem, read.as_ref().err().map(ToString::to_string));
        let outcome = match read {
            Ok(None) => None,
            Ok(Some(current)) => {
                let days = current.expires.secs().saturating_sub(Millis::now().secs()) / (24 * 3600);
                tracing::info!(certificate.days_left = days, "New certificates count for connections from now on");
                self.current.store(Arc::new(current));
                Some("taken")
            }
            Err(_) if before == *problem => None,
            Err(error) => {
                tracing::warn!(error.message = %error, "New certificates cannot be used; those from before stay");
                Some("unusable")
            }
        };
        drop(problem);
        if let Some(outcome) = outcome {
            metrics::counter!("switchboard_certificates_read_total", "outcome" => outcome).increment(1);
        }
        self.measure();
    }

    fn changed(&self) -> Result<Option<Current>, KeyError> {
        let contents = Contents::read(self.name, &self.config)?;
        if contents == self.current.load().contents {
            return Ok(None);
        }
        Ok(Some(Current::new(self.name, &self.config, contents, &self.refusals)?))
    }

    /// Shows how long they are good.
    fn measure(&self) {
        let (current, now) = (self.current.load(), Millis::now());
        for (certificate, expires) in [(self.name, current.expires), ("authority", current.authority_expires)] {
            let left = i32::try_from(expires.secs() - now.secs()).unwrap_or(i32::MAX);
            metrics::gauge!("switchboard_certificate_expires_seconds", "certificate" => certificate).set(left);
        }
    }

    /// When this process' certificate expires, and when the first of the authorities does.
    #[must_use]
    pub fn expire(&self) -> (Millis, Millis) {
        let current = self.current.load();
        (current.expires, current.authority_expires)
    }

    /// Lets a caller in that has connected, or not. Who it is, is in its certificate.
    pub(crate) async fn accept<S>(&self, stream: S, limit: Duration) -> io::Result<(TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().server));
        let Ok(accepted) = tokio::time::timeout(limit, acceptor.accept(stream)).await else {
            self.refusals.caller(Reason::Timeout, None, "");
            return Err(io::ErrorKind::TimedOut.into());
        };
        let stream = accepted.inspect_err(|error| self.refused(error))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let name = certificate.and_then(|one| name::of(one, &self.config.trust_domain).ok());
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
        self.current.load().callers.allow(peer.name(), path)
    }
}

/// Looks for as long as somebody has use for it.
async fn keep_looking(tls: Weak<Tls>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(tls) = tls.upgrade() else { return };
        // Files are read on a thread that may wait. One that panicked has said so; the next look is another one.
        drop(tokio::task::spawn_blocking(move || tls.look()).await);
    }
}
