//! `switchboard keys certificates`: an authority of the mesh's own and a certificate for each process, for those who have
//! nobody else that makes them. What is good for long enough is kept, so it may be run again at any time, and has to be
//! before a third of a certificate's life is left over; running processes take the new ones up by themselves.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use mesh::{
    config::{Flags, Loader, MeshConfig},
    identity::ServiceName,
    process,
    time::Millis,
    tls::{self, OPERATOR},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// Days that the authority's certificate is good: as long as anybody will keep such an installation.
const AUTHORITY_DAYS: u16 = 3_650;
/// A clock that is a little behind must not take a new certificate for one of the future.
const DAYS_BEFORE: i64 = 1;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error("{} cannot be {did}: {source}", path.display())]
    Io { path: PathBuf, did: &'static str, source: std::io::Error },
    #[error("{name} cannot be the name of a certificate: {source}")]
    Make { name: String, source: rcgen::Error },
    #[error("{} holds no key: {source}", path.display())]
    Key { path: PathBuf, source: rcgen::Error },
    #[error(transparent)]
    Certificate(#[from] tls::TlsError),
    #[error("{} is the certificate of an authority whose key is not beside it: put ca.key there, or have your authority make them", .0.display())]
    NotOurs(PathBuf),
}

/// What the command is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The folder, instead of `tls` in the data folder.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Days that a certificate is good, at most those of two years.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=730))]
    days: u16,
    /// Names of others who are to have one beside the processes: `team/billing`.
    names: Vec<String>,
}

/// Makes those that are missing or expire soon.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn run(flags: &Flags, wanted: &Wanted) -> ExitCode {
    let mut loader = Loader::from_env(flags);
    let mesh: MeshConfig = loader.section();
    if let Err(error) = loader.finish() {
        return process::fail("switchboard", &error);
    }
    let folder = wanted.folder.clone().unwrap_or_else(|| mesh.data.join("tls"));
    match make(&folder, &mesh.tls.trust_domain, wanted) {
        Ok(made) => {
            let made = if made.is_empty() { "nothing, all are good".to_owned() } else { made.join(", ") };
            println!("Made: {made}. The certificates are in {}, a folder for each process.", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => process::fail("switchboard", &error),
    }
}

/// Makes what is wanted and not good for long enough; says what.
fn make(folder: &Path, trust_domain: &str, wanted: &Wanted) -> Result<Vec<String>, MakeError> {
    make_folder(folder)?;
    let authority = Authority::take(folder)?;
    let processes = ServiceName::ALL.map(ServiceName::as_str).into_iter().chain([OPERATOR]).map(str::to_owned);
    let mut made = Vec::new();
    for name in processes.chain(wanted.names.iter().cloned()) {
        let own = folder.join(&name);
        make_folder(&own)?;
        put(&own.join("ca.crt"), &authority.certificate)?;
        let certificate = own.join("tls.crt");
        if certificate.exists() && own.join("tls.key").exists() && good_for(&certificate, wanted.days)? {
            continue;
        }
        let (text, key) = authority.sign(&name, trust_domain, wanted.days)?;
        // The certificate last: with it the pair is whole.
        put(&own.join("tls.key"), &key)?;
        put(&certificate, &text)?;
        made.push(name);
    }
    Ok(made)
}

/// Whether a certificate is good for a third of such a life at the least.
fn good_for(certificate: &Path, days: u16) -> Result<bool, MakeError> {
    let left = tls::expires(certificate)?.secs() - Millis::now().secs();
    Ok(left > i64::from(days) * 24 * 3_600 / 3)
}

/// Who signs.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The one that is in this folder, or a new one.
    fn take(folder: &Path) -> Result<Self, MakeError> {
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| MakeError::Io { path: path.to_owned(), did: "read", source })
        };
        match (certificate.exists(), key.exists()) {
            (true, false) => return Err(MakeError::NotOurs(certificate)),
            (true, true) => {}
            (false, there) => {
                let pair = if there { pair(&key, &read(&key)?)? } else { KeyPair::generate().map_err(named("ca"))? };
                let signed = authority()?.self_signed(&pair).map_err(named("ca"))?;
                put(&key, &pair.serialize_pem())?;
                put(&certificate, &signed.pem())?;
            }
        }
        let issuer = Issuer::new(authority()?, pair(&key, &read(&key)?)?);
        Ok(Self { certificate: read(&certificate)?, issuer })
    }

    /// A certificate and its key for one process.
    fn sign(&self, name: &str, trust_domain: &str, days: u16) -> Result<(String, String), MakeError> {
        let named = || named(name);
        // For other teams, whose clients look for the host's name: that of the Service, of compose, of this machine.
        let host = name.rsplit('/').next().unwrap_or(name);
        let mut params = params(vec![host.to_owned(), "localhost".to_owned()], name, days)?;
        let uri = format!("spiffe://{trust_domain}/{name}");
        params.subject_alt_names.push(SanType::URI(uri.try_into().map_err(named())?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(named())?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(named())?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// The authority's own certificate, the same whenever it is asked for but for its dates, which those it signs do not bear.
fn authority() -> Result<CertificateParams, MakeError> {
    let mut params = params(Vec::new(), "Switchboard mesh authority", AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(hosts: Vec<String>, name: &str, days: u16) -> Result<CertificateParams, MakeError> {
    let mut params = CertificateParams::new(hosts).map_err(named(name))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = day(-DAYS_BEFORE);
    // Dates are whole days: the last one is not cut short.
    params.not_after = day(i64::from(days) + 1);
    Ok(params)
}

/// The beginning of a day, counted from today.
fn day(days: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(Millis::now().secs() / (24 * 3_600) + days)
}

fn named(name: &str) -> impl Fn(rcgen::Error) -> MakeError {
    move |source| MakeError::Make { name: name.to_owned(), source }
}

fn pair(path: &Path, text: &str) -> Result<KeyPair, MakeError> {
    KeyPair::from_pem(text).map_err(|source| MakeError::Key { path: path.to_owned(), source })
}

fn make_folder(path: &Path) -> Result<(), MakeError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| MakeError::Io { path: path.to_owned(), did: "made", source })
}

/// Replaces a file in one step; it is its owner's alone.
fn put(path: &Path, text: &str) -> Result<(), MakeError> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("new-{}", uuid::Uuid::new_v4().simple()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| MakeError::Io { path: path.to_owned(), did: "written", source })
}

#[cfg(test)]
mod tests {
    use mesh::{config::TlsConfig, tls::Tls};

    use super::*;

    fn wanted(names: &[&str], days: u16) -> Wanted {
        Wanted { folder: None, days, names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn config(folder: &Path) -> MeshConfig {
        let own = |file| folder.join("{name}").join(file);
        let tls = TlsConfig {
            ca_file: folder.join("ca.crt"),
            cert_file: own("tls.crt"),
            key_file: own("tls.key"),
            ..TlsConfig::default()
        };
        MeshConfig { tls, ..MeshConfig::default() }
    }

    #[tokio::test]
    async fn each_process_can_use_its_certificate_and_a_second_run_makes_only_what_expires_soon() {
        let folder = tempfile::tempdir().expect("folder");
        let made = make(folder.path(), "switchboard", &wanted(&["team/billing"], 90)).expect("made");
        assert_eq!(made, ["gateway", "auth-svc", "user-svc", "message-svc", "operator", "team/billing"]);
        let config = config(folder.path());
        for name in ["gateway", "auth-svc", "user-svc", "message-svc", OPERATOR, "team/billing"] {
            let tls = Tls::start(name, &config).expect("good").expect("on");
            let days = (tls.expire().0.secs() - Millis::now().secs()) / (24 * 3_600);
            assert!((90..=91).contains(&days), "{days}");
        }
        let authority = fs::read(folder.path().join("ca.crt")).expect("there");
        assert_eq!(make(folder.path(), "switchboard", &wanted(&[], 90)).expect("made"), [""; 0]);
        // Of 730 days, 90 are less than a third.
        assert_eq!(make(folder.path(), "switchboard", &wanted(&[], 730)).expect("made").len(), 5);
        assert_eq!(fs::read(folder.path().join("ca.crt")).expect("there"), authority, "the authority stays");
        Tls::start("gateway", &config).expect("good").expect("on");
    }

    #[test]
    fn an_authority_without_its_key_is_not_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("ca.crt"), "somebody's").expect("written");
        let error = make(folder.path(), "switchboard", &wanted(&[], 90)).expect_err("refused").to_string();
        assert!(error.contains("ca.key"), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join("ca.crt")).expect("there"), "somebody's");
    }
}
