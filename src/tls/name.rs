//! The name in a certificate: `spiffe://TRUST-DOMAIN/NAME`, its only URI, after SPIFFE's X509-SVID.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// As much of a name as is looked at and shown.
const BYTES_MAX: usize = 255;

/// Why a certificate names no process of this mesh. It shows what the certificate says, which may be anything printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misnamed(pub(super) String);

/// Whose certificate this is.
pub(super) fn of(certificate: &CertificateDer<'_>, trust_domain: &str) -> Result<String, Misnamed> {
    let uri = uri(certificate)?;
    let rest = uri.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(trust_domain));
    match rest.and_then(|rest| rest.strip_prefix('/')).filter(|name| is_good(name)) {
        Some(name) => Ok(name.to_owned()),
        None => Err(Misnamed(format!("its name is {}, and not one of spiffe://{trust_domain}/", shown(&uri)))),
    }
}

/// What an unknown certificate says of itself, for a person to find it by.
pub(super) fn claimed(certificate: &CertificateDer<'_>) -> String {
    uri(certificate).map_or_else(|misnamed| misnamed.to_string(), |uri| shown(&uri))
}

fn uri(certificate: &CertificateDer<'_>) -> Result<String, Misnamed> {
    let certificate =
        EndEntityCert::try_from(certificate).map_err(|error| Misnamed(format!("it cannot be read: {error}")))?;
    let mut uris = certificate.valid_uri_names();
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (None, _) => Err(Misnamed("it has no URI for a name".to_owned())),
        (Some(_), Some(_)) => Err(Misnamed("it has more than one URI for a name".to_owned())),
    }
}

fn shown(uri: &str) -> String {
    uri.chars().filter(char::is_ascii_graphic).take(BYTES_MAX).collect()
}

/// Whether a process may have this name: parts of letters, digits, `-`, `.` and `_`, separated by `/`.
pub(super) fn is_good(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let mut parts = name.split('/');
    name.len() <= BYTES_MAX
        && parts.all(|part| !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_good))
}
