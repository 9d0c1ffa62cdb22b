//! How the processes of a mesh know one another, by certificates of an authority of their own, and what the edge shows to
//! clients. What is done with them is in `tls.rs`; this says where they are.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::Problems;

/// The table `mesh.tls`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificates (PEM) of the authorities that sign those of this mesh's processes. Default empty: calls inside the mesh
    /// go without TLS. With it every call between the processes goes by TLS, whatever the URLs begin with, both ends show
    /// their certificates, and calls that are not on the list of callers are refused. All processes of a mesh have it or none.
    pub ca_file: PathBuf,
    /// This process' own certificate (PEM), with those between it and the authority. Its only URI name says whose it is:
    /// `spiffe://TRUST-DOMAIN/PROCESS`. `{name}` in the path stands for the process' name, so that one setting serves all.
    pub cert_file: PathBuf,
    /// The key (PEM) of `cert_file`, readable for its owner alone; `{name}` as there.
    pub key_file: PathBuf,
    /// The trust domain in the names of certificates; default `switchboard`. Names of other domains are refused, also with
    /// a certificate of the same authority.
    pub trust_domain: String,
    /// The list of who may call what, instead of the one that is built in (`src/tls/callers.toml`). Default empty: that one.
    pub callers_file: PathBuf,
    /// Milliseconds between two looks at these files; default 5,000. What has changed counts for connections from then on,
    /// without a restart; those that are open go on.
    pub look_ms: u64,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            trust_domain: "switchboard".into(),
            callers_file: PathBuf::new(),
            look_ms: 5_000,
        }
    }
}

impl TlsConfig {
    /// Whether the processes show one another certificates.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.ca_file.as_os_str().is_empty()
    }

    /// Reports what makes no sense; `prefix` is where this table is in its section, with a dot at its end.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        problems.range(&format!("{prefix}look_ms"), self.look_ms, 10, 3_600_000);
        for (name, file) in [("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            if self.is_on() == file.as_os_str().is_empty() {
                problems.push(format!("{prefix}{name}"), "needs ca_file, and the other way round");
            }
        }
        if !self.is_on() && !self.callers_file.as_os_str().is_empty() {
            problems
                .push(format!("{prefix}callers_file"), "needs ca_file: without certificates nobody knows who calls");
        }
        let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        if !(1..=255).contains(&self.trust_domain.len()) || !self.trust_domain.bytes().all(is_good) {
            problems.push(format!("{prefix}trust_domain"), "must be 1–255 of a–z, 0–9, - . _");
        }
    }

    /// How often to look at the files.
    #[must_use]
    pub fn look(&self) -> Duration {
        Duration::from_millis(self.look_ms)
    }
}

/// The table `gateway.tls`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeTlsConfig {
    /// The certificate (PEM) that clients are shown, with those between it and its authority. Default empty: the public port
    /// speaks plain HTTP, on a laptop or behind a proxy where TLS ends. With it the port speaks HTTPS and WSS alone.
    pub cert_file: PathBuf,
    /// The key (PEM) of `cert_file`, readable for its owner alone.
    pub key_file: PathBuf,
    /// Milliseconds between two looks at these files; default 5,000. What has changed counts for connections from then on,
    /// without a restart; those that are open go on.
    pub look_ms: u64,
}

impl Default for EdgeTlsConfig {
    fn default() -> Self {
        Self { cert_file: PathBuf::new(), key_file: PathBuf::new(), look_ms: 5_000 }
    }
}

impl EdgeTlsConfig {
    /// Whether clients are shown a certificate.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.cert_file.as_os_str().is_empty()
    }

    /// Reports what makes no sense; `prefix` is where this table is in its section, with a dot at its end.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        problems.range(&format!("{prefix}look_ms"), self.look_ms, 10, 3_600_000);
        if self.is_on() == self.key_file.as_os_str().is_empty() {
            problems.push(format!("{prefix}key_file"), "needs cert_file, and the other way round");
        }
    }

    /// How often to look at the files.
    #[must_use]
    pub fn look(&self) -> Duration {
        Duration::from_millis(self.look_ms)
    }
}
