//! Judging the other end's certificate: rustls says whether it is good, this whose it is. A callee must be the service that
//! was to be called, whatever host it runs on; a caller must be somebody of the trust domain, and what it may call is judged
//! with each call.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    name::{self, Misnamed},
    refusals::{Reason, Refusals},
};

/// Judges callers.
#[derive(Debug)]
pub(super) struct JudgeOfCallers {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) trust_domain: String,
    pub(super) refusals: Arc<Refusals>,
}

impl ClientCertVerifier for JudgeOfCallers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(certificate, between, now);
        let named =
            verified.and_then(|verified| name::of(certificate, &self.trust_domain).map(|_| verified).map_err(misnamed));
        named.inspect_err(|error| {
            self.refusals.caller(Reason::of(error), Some(&name::claimed(certificate)), &error.to_string());
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Judges services that are called. The name that is asked for is the service's, not its host's.
#[derive(Debug)]
pub(super) struct JudgeOfCallees {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) trust_domain: String,
    pub(super) refusals: Arc<Refusals>,
}

impl JudgeOfCallees {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        wanted: &str,
        now: UnixTime,
    ) -> Result<(), Error> {
        chains_to(certificate, between, &self.roots, &self.provider, now)?;
        match name::of(certificate, &self.trust_domain).map_err(misnamed)? {
            name if name == wanted => Ok(()),
            name => Err(misnamed(Misnamed(format!("it is the one of {name}")))),
        }
    }
}

impl ServerCertVerifier for JudgeOfCallees {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        wanted: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let wanted = wanted.to_str();
        self.judge(certificate, between, &wanted, now).map(|()| ServerCertVerified::assertion()).inspect_err(|error| {
            self.refusals.callee(Reason::of(error), &wanted, &error.to_string());
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether an authority has signed this certificate, for a server, and it is good at this time.
pub(super) fn chains_to(
    certificate: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<(), Error> {
    let certificate = ParsedCertificate::try_from(certificate)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, roots, between, now, algorithms)
}

fn misnamed(why: Misnamed) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}
