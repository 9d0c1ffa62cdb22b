//! TLS towards clients: the edge shows a certificate and asks for none. It takes up new files while it runs, as inside the
//! mesh. How long a handshake may take, and what is said to who speaks no TLS, is in `serve/door.rs`.

use std::{fmt, io, sync::Arc};

use rustls::{
    Error, ServerConfig,
    crypto::aws_lc_rs::{self, Ticketer},
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    TlsError,
    files::{self, HTTP2},
    follow::{Followed, Source},
    refusals::Reason,
};
use crate::{
    config::EdgeTlsConfig,
    keys::{self, KeyError},
    time::Millis,
};

const HTTP1: &[u8] = b"http/1.1";
/// What a certificate of the edge is called in metrics.
const NAME: &str = "edge";

/// The certificate of the edge, as it is now.
pub struct EdgeTls {
    files: Arc<Followed<Files>>,
}

impl fmt::Debug for EdgeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeTls").finish_non_exhaustive()
    }
}

impl EdgeTls {
    /// Reads the files, when there are to be any, and looks at them again and again from then on. To be called in a runtime.
    ///
    /// # Errors
    /// When a file cannot be read, is not what it should be, or the key is open to others.
    pub fn start(config: &EdgeTlsConfig) -> Result<Option<Arc<Self>>, KeyError> {
        let Some(tls) = Self::read(config)? else { return Ok(None) };
        tls.files.keep_looking(config.look());
        Ok(Some(Arc::new(tls)))
    }

    /// Reads them once.
    ///
    /// # Errors
    /// As [`EdgeTls::start`].
    pub fn read(config: &EdgeTlsConfig) -> Result<Option<Self>, KeyError> {
        if !config.is_on() {
            return Ok(None);
        }
        let files = Followed::read(Files { config: config.clone() })?;
        Ok(Some(Self { files }))
    }

    /// When the certificate expires.
    #[must_use]
    pub fn expires(&self) -> Millis {
        self.files.current.load().1.expires
    }

    /// Goes through the handshake with a client that has connected; how long it may take is the caller's business.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.files.current.load().1.server));
        acceptor.accept(stream).await.inspect_err(|error| {
            // Who has just gone has done nothing wrong.
            if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                failed(Reason::of(error));
            }
        })
    }
}

/// Clients are many, and what they do wrong is theirs: it is counted, and no line says so.
pub(crate) fn failed(reason: Reason) {
    metrics::counter!("switchboard_handshakes_failed_total", "reason" => reason.as_str()).increment(1);
}

/// Where the files are.
struct Files {
    config: EdgeTlsConfig,
}

/// What is made of them.
struct Made {
    server: Arc<ServerConfig>,
    expires: Millis,
}

impl Source for Files {
    type Contents = (Vec<u8>, Vec<u8>);
    type Made = Made;

    fn read(&self) -> Result<Self::Contents, KeyError> {
        Ok((files::read(&self.config.cert_file)?, keys::read(&self.config.key_file)?))
    }

    fn make(&self, (certificate, key): &Self::Contents) -> Result<Made, KeyError> {
        let EdgeTlsConfig { cert_file, key_file, .. } = &self.config;
        let chain = files::certificates(cert_file, certificate)?;
        let expires = files::expires_of(cert_file, &chain[0])?;
        let bad = |what| TlsError::Bad { path: key_file.clone(), what };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| bad(format!("holds no key in PEM: {error}")))?;
        let unfit = |error: Error| bad(format!("does not go with {}: {error}", cert_file.display()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unfit)?;
        // A browser asks for its sockets by HTTP/1.1 and for the rest by HTTP/2.
        server.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        // Sessions are resumed by what the client keeps, so that nothing is kept here.
        server.ticketer = Ticketer::new().map_err(unfit)?;
        Ok(Made { server: Arc::new(server), expires })
    }

    fn expire(&self, made: &Made) -> Vec<(&'static str, Millis)> {
        vec![(NAME, made.expires)]
    }
}
