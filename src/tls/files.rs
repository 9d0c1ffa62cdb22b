//! The files of a process' certificates, and what rustls makes of them. They are replaced one after the other while they are
//! read, so what does not fit together is an error and no reason to end.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::TLS13,
};

use super::{
    TlsError,
    callers::Callers,
    name,
    refusals::Refusals,
    verify,
    verify::{JudgeOfCallees, JudgeOfCallers},
};
use crate::{
    config::TlsConfig,
    keys::{self, KeyError},
    time::Millis,
};

/// What gRPC speaks.
pub(super) const HTTP2: &[u8] = b"h2";
/// The last second that a certificate can name: later than any expires.
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);

/// The files as they were read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    authorities: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    callers: Option<String>,
}

impl Contents {
    pub(super) fn read(name: &str, config: &TlsConfig) -> Result<Self, KeyError> {
        Ok(Self {
            authorities: read(&config.ca_file)?,
            certificate: read(&of_process(&config.cert_file, name))?,
            key: keys::read(&of_process(&config.key_file, name))?,
            callers: match config.callers_file.as_os_str().is_empty() {
                true => None,
                false => Some(String::from_utf8_lossy(&read(&config.callers_file)?).into_owned()),
            },
        })
    }
}

/// What counts at one moment.
pub(super) struct Current {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) callers: Callers,
    pub(super) expires: Millis,
    pub(super) authority_expires: Millis,
}

impl Current {
    pub(super) fn new(
        process: &str,
        config: &TlsConfig,
        contents: &Contents,
        refusals: &Arc<Refusals>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (roots, authority_expires) = authorities(&config.ca_file, &contents.authorities, &provider)?;
        let (cert_file, key_file) = (of_process(&config.cert_file, process), of_process(&config.key_file, process));
        let chain = certificates(&cert_file, &contents.certificate)?;
        let bad = |what: String| TlsError::Bad { path: cert_file.clone(), what };
        let expires = own_end(&chain, &roots, &provider).map_err(&bad)?;
        let named = name::of(&chain[0], &config.trust_domain);
        let named = named.map_err(|why| bad(format!("is no certificate of this mesh: {why}")))?;
        if named != process {
            return Err(bad(format!("is the certificate of {named}, and this is {process}")));
        }
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| TlsError::Bad { path: key_file.clone(), what: format!("holds no key in PEM: {error}") })?;
        let callers = match &contents.callers {
            None => Callers::built_in(),
            Some(text) => {
                Callers::parse(text).map_err(|what| TlsError::Bad { path: config.callers_file.clone(), what })?
            }
        };
        let ends = Ends { roots: Arc::new(roots), provider, trust_domain: &config.trust_domain, refusals };
        let unfit = |error: Error| TlsError::Bad {
            path: key_file.clone(),
            what: format!("does not go with {}: {error}", cert_file.display()),
        };
        let server = ends.server(chain.clone(), key.clone_key()).map_err(unfit)?;
        let client = ends.client(chain, key).map_err(unfit)?;
        let (server, client) = (Arc::new(server), Arc::new(client));
        Ok(Self { server, client, callers, expires, authority_expires })
    }
}

/// What both ends are made of.
struct Ends<'a> {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    trust_domain: &'a str,
    refusals: &'a Arc<Refusals>,
}

impl Ends<'_> {
    /// No session is resumed: each connection shows its certificates anew, and they last for long.
    fn server(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone()).build();
        let judge = JudgeOfCallers {
            chain: verifier.map_err(|error| Error::General(error.to_string()))?,
            trust_domain: self.trust_domain.to_owned(),
            refusals: self.refusals.clone(),
        };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(judge))
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn client(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ClientConfig, Error> {
        let judge = JudgeOfCallees {
            roots: self.roots.clone(),
            provider: self.provider.clone(),
            trust_domain: self.trust_domain.to_owned(),
            refusals: self.refusals.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            // What is dangerous about it is to judge oneself; it asks for more than the usual, by the service's name.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge))
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// When the first certificate of a file expires.
///
/// # Errors
/// When there is none.
pub fn expires(path: &Path) -> Result<Millis, TlsError> {
    let chain = certificates(path, &read(path)?)?;
    expires_of(path, &chain[0])
}

/// When this certificate of a file expires.
pub(super) fn expires_of(path: &Path, certificate: &CertificateDer<'_>) -> Result<Millis, TlsError> {
    let provider = aws_lc_rs::default_provider();
    end(certificate, &RootCertStore::empty(), &provider)
        .map_err(|error| TlsError::Bad { path: path.to_owned(), what: format!("is no good certificate: {error}") })
}

/// The path of a process' own file.
pub(super) fn of_process(path: &Path, name: &str) -> PathBuf {
    // A path that is no UTF-8 has no placeholder that anybody could have meant.
    path.to_str().map_or_else(|| path.to_owned(), |path| path.replace("{name}", name).into())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

pub(super) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |what: String| TlsError::Bad { path: path.to_owned(), what };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| bad(format!("is no PEM: {error}")))?;
    if all.is_empty() { Err(bad("holds no certificate in PEM".to_owned())) } else { Ok(all) }
}

/// The authorities, and when the first of them expires.
fn authorities(path: &Path, pem: &[u8], provider: &CryptoProvider) -> Result<(RootCertStore, Millis), TlsError> {
    let mut roots = RootCertStore::empty();
    let mut first = None;
    for certificate in certificates(path, pem)? {
        let bad = |error: Error| TlsError::Bad {
            path: path.to_owned(),
            what: format!("holds a certificate that is none of an authority: {error}"),
        };
        let expires = end(&certificate, &RootCertStore::empty(), provider).map_err(bad)?;
        roots.add(certificate).map_err(bad)?;
        first = Some(first.map_or(expires, |first: Millis| first.min(expires)));
    }
    Ok((roots, first.unwrap_or(Millis(0))))
}

/// When a process' own certificate expires; it must be one of these authorities, expired or not.
fn own_end(chain: &[CertificateDer<'_>], roots: &RootCertStore, provider: &CryptoProvider) -> Result<Millis, String> {
    let expires = end(&chain[0], roots, provider).map_err(|error| format!("is no good certificate: {error}"))?;
    let while_good = UnixTime::since_unix_epoch(Duration::from_secs(expires.secs().unsigned_abs()));
    match verify::chains_to(&chain[0], &chain[1..], roots, provider, while_good) {
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            Err("is not signed by an authority of mesh.tls.ca_file".to_owned())
        }
        _ => Ok(expires),
    }
}

/// When a certificate expires: rustls says it of one that is looked at when all have.
fn end(certificate: &CertificateDer<'_>, roots: &RootCertStore, provider: &CryptoProvider) -> Result<Millis, Error> {
    let late = UnixTime::since_unix_epoch(END_OF_TIME);
    match verify::chains_to(certificate, &[], roots, provider, late) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Ok(Millis(i64::try_from(not_after.as_secs() * 1_000).unwrap_or(i64::MAX)))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(Millis(i64::MAX)),
    }
}
