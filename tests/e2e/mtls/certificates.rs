//! Authorities and what they sign, good and bad, and the settings by which the processes of a mesh find theirs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{mesh::Plan, wait};

/// Somebody who signs.
pub(crate) struct Authority {
    pub(crate) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// One for whoever has this URI, good for ever.
    pub(crate) fn sign(&self, uri: &str) -> Pair {
        self.sign_until(uri, 4000)
    }

    pub(crate) fn sign_until(&self, uri: &str, year: i32) -> Pair {
        let host = uri.rsplit('/').next().unwrap().to_owned();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host]).unwrap();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// One for each process, into a folder for each.
    pub(crate) fn equip(&self, folder: &Path) {
        for name in ["gateway", "auth-svc", "user-svc", "message-svc", "operator"] {
            let pair = self.sign(&format!("spiffe://switchboard/{name}"));
            fs::create_dir_all(folder.join(name)).unwrap();
            // One after the other, as whoever copies them does: for a moment they do not go together.
            fs::write(folder.join(name).join("tls.crt"), pair.certificate).unwrap();
            let key = folder.join(name).join("tls.key");
            fs::write(&key, pair.key).unwrap();
            fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// A plan whose processes use what is in this folder.
pub(crate) fn with(plan: Plan, folder: &Path) -> Plan {
    settings(folder).iter().fold(plan, |plan, (path, value)| plan.set(path, &**value))
}

/// The settings that name it.
pub(crate) fn settings(folder: &Path) -> Vec<(&'static str, String)> {
    let file = |path: &str| folder.join(path).display().to_string();
    vec![
        ("mesh.tls.ca_file", file("ca.crt")),
        ("mesh.tls.cert_file", file("{name}/tls.crt")),
        ("mesh.tls.key_file", file("{name}/tls.key")),
        ("mesh.tls.look_ms", "50".to_owned()),
    ]
}

/// A stock client of another team, which looks for the host's name: a connection to a service on this machine.
pub(crate) fn channel(port: u16, host: &str, authorities: &str, pair: Option<&Pair>) -> Channel {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)).domain_name(host);
    let tls = match pair {
        Some(pair) => tls.identity(Identity::from_pem(&pair.certificate, &pair.key)),
        None => tls,
    };
    Endpoint::from_shared(format!("https://127.0.0.1:{port}"))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .timeout(wait::LIMIT)
        .connect_lazy()
}
