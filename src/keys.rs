//! Keys kept in files of the data folder, mode 0600. In development a missing one is made at first start; in production
//! they are made on purpose ([`init`]), and one that is missing or was made in development is refused (P8). Processes
//! that share the folder share the keys, also when they start at the same moment. It never logs or shows a key.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    digest, rand,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    config::{MeshConfig, Profile},
    tls::TlsError,
};

/// Why a key cannot be had. It names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The folder or file cannot be made or read.
    #[error("{} cannot be {did}: {source}. Make the folder writable for this user, or set SWITCHBOARD_DATA", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// `made`, `read` or `written`.
        did: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The file holds no such key.
    #[error("{} holds no valid key: restore it from a backup, or remove it and a new one is made", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
    },
    /// In production nothing makes a key by itself.
    #[error("{} is missing, and in production keys are made on purpose: run `switchboard keys init`, or put it there", path.display())]
    Missing {
        /// Which one.
        path: PathBuf,
    },
    /// Production is no place for a key that lay on a laptop.
    #[error("the keys in {} were made in development: run `switchboard keys init` with another data folder", path.display())]
    Development {
        /// The folder.
        path: PathBuf,
    },
    /// Others than the owner may read the file.
    #[error("{} can be read by others: run chmod 600 on it, or chmod 640 when it is root's and this process' group may read it", path.display())]
    Open {
        /// Which one.
        path: PathBuf,
    },
    /// This process' certificate, or what goes with it.
    #[error(transparent)]
    Certificate(#[from] TlsError),
}

/// An Ed25519 key that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl SigningKey {
    /// A new key from the system's random source.
    ///
    /// # Panics
    /// Never while the system has a random source.
    #[must_use]
    pub fn generate() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new())
            .expect("invariant: the system has a random source");
        Self::from_pkcs8(document.as_ref()).expect("invariant: a key just made is valid")
    }

    /// The key in PKCS #8, for whoever keeps it sealed.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key that was kept in PKCS #8.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        Some(Self { pair, pkcs8: pkcs8.to_vec() })
    }

    /// The raw public key.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The key's id: its RFC 7638 thumbprint, so that equal keys have equal ids everywhere.
    #[must_use]
    pub fn kid(&self) -> String {
        kid(self.public())
    }

    /// The public key as a JSON Web Key.
    #[must_use]
    pub fn jwk(&self) -> serde_json::Value {
        jwk(self.public())
    }

    /// The key as jsonwebtoken wants it.
    #[must_use]
    pub fn encoding_key(&self) -> jsonwebtoken::EncodingKey {
        jsonwebtoken::EncodingKey::from_ed_der(&self.pkcs8)
    }
}

/// A raw public key as a JSON Web Key.
#[must_use]
pub fn jwk(public: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
        "kid": kid(public), "x": BASE64_URL_SAFE_NO_PAD.encode(public),
    })
}

/// The id of a raw public key: its RFC 7638 thumbprint.
#[must_use]
pub fn kid(public: &[u8]) -> String {
    let x = BASE64_URL_SAFE_NO_PAD.encode(public);
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}

/// The names of all signing keys that the processes use.
const SIGNING: [&str; 5] =
    ["auth-access", "service-auth-svc", "service-gateway", "service-message-svc", "service-user-svc"];
/// The names of all secrets that the processes use.
const SECRETS: [&str; 3] = ["auth-refresh", "auth-seal", "gateway-ws"];
/// The file that says that the keys beside it were made by a process in development.
const MARK: &str = "MADE-IN-DEVELOPMENT";

/// Makes every key that is missing, for production; answers the folder.
///
/// # Errors
/// When a file cannot be made or read, is damaged, or is open to others; when the folder has development's keys.
pub fn init(data: &Path) -> Result<PathBuf, KeyError> {
    let folder = KeyFolder::open(data, Profile::Production)?;
    let folder = KeyFolder { make: true, ..folder };
    for name in SIGNING {
        folder.signing_key(name)?;
    }
    for name in SECRETS {
        folder.secret(name)?;
    }
    Ok(folder.path)
}

/// The private keys and secrets that are there, each looked at; makes none.
///
/// # Errors
/// When one cannot be read, is damaged or open to others; in production also when they were made in development.
pub fn look(config: &MeshConfig) -> Result<Vec<&'static str>, KeyError> {
    let path = config.data.join("keys");
    if config.profile == Profile::Production && path.join(MARK).exists() {
        return Err(KeyError::Development { path });
    }
    let is_there = |name: &str, kind: &str| path.join(format!("{name}.{kind}")).exists();
    let folder = KeyFolder { path: path.clone(), make: false, mark: false };
    let mut there = Vec::new();
    for name in SIGNING.into_iter().filter(|name| is_there(name, "key")) {
        let path = folder.path.join(format!("{name}.key"));
        SigningKey::from_pkcs8(&read(&path)?).ok_or(KeyError::Damaged { path })?;
        there.push(name);
    }
    for name in SECRETS.into_iter().filter(|name| is_there(name, "secret")) {
        folder.secret(name)?;
        there.push(name);
    }
    Ok(there)
}

/// How many private keys and secrets a whole mesh has.
pub const COUNT: usize = SIGNING.len() + SECRETS.len();

/// The Ed25519 key of this name. Its public half is written beside it (`NAME.pub`, the raw key in base64url), for
/// processes that verify and share the folder.
///
/// # Errors
/// When the file cannot be made or read, is damaged, or is open to others; in production also when it is missing or was
/// made in development.
pub fn signing_key(config: &MeshConfig, name: &str) -> Result<SigningKey, KeyError> {
    KeyFolder::open(&config.data, config.profile)?.signing_key(name)
}

/// The raw public key of this name, when a process that shares the folder has made it.
#[must_use]
pub fn public_key(data: &Path, name: &str) -> Option<Vec<u8>> {
    let text = fs::read_to_string(data.join("keys").join(format!("{name}.pub"))).ok()?;
    BASE64_URL_SAFE_NO_PAD.decode(text.trim()).ok()
}

/// The 32 random bytes of this name.
///
/// # Errors
/// Like [`signing_key`].
pub fn secret(config: &MeshConfig, name: &str) -> Result<[u8; 32], KeyError> {
    KeyFolder::open(&config.data, config.profile)?.secret(name)
}

/// The folder `keys` of the data folder.
struct KeyFolder {
    path: PathBuf,
    /// Whether a missing key is made.
    make: bool,
    /// Whether keys that are made are marked as development's.
    mark: bool,
}

impl KeyFolder {
    fn open(data: &Path, profile: Profile) -> Result<Self, KeyError> {
        let path = data.join("keys");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|source| KeyError::Io {
            path: path.clone(),
            did: "made",
            source,
        })?;
        let development = profile == Profile::Development;
        if !development && path.join(MARK).exists() {
            return Err(KeyError::Development { path });
        }
        Ok(Self { path, make: development, mark: development })
    }

    fn signing_key(&self, name: &str) -> Result<SigningKey, KeyError> {
        let path = self.path.join(format!("{name}.key"));
        let bytes = self.load(&path, || SigningKey::generate().pkcs8)?;
        let key = SigningKey::from_pkcs8(&bytes).ok_or_else(|| KeyError::Damaged { path: path.clone() })?;
        publish(&path.with_extension("pub"), &BASE64_URL_SAFE_NO_PAD.encode(key.public()))?;
        Ok(key)
    }

    fn secret(&self, name: &str) -> Result<[u8; 32], KeyError> {
        let path = self.path.join(format!("{name}.secret"));
        let bytes = self.load(&path, || {
            let mut bytes = vec![0; 32];
            rand::fill(&mut bytes).expect("invariant: the system has a random source");
            bytes
        })?;
        bytes.try_into().ok().ok_or(KeyError::Damaged { path })
    }

    fn load(&self, path: &Path, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, KeyError> {
        if !path.exists() {
            if !self.make {
                return Err(KeyError::Missing { path: path.to_owned() });
            }
            if self.mark {
                // Before the key: a crash between the two must not leave one without its mark.
                publish(&self.path.join(MARK), "These keys were made by a process in development.\n")?;
            }
            put(path, &make())?;
        }
        read(path)
    }
}

/// Writes to a file of its own and links it to its name, which fails when another process was first: then its key
/// counts. So no reader ever sees half a key.
fn put(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let temporary = path.with_extension(format!("new-{}", uuid::Uuid::new_v4().simple()));
    write(&temporary, 0o600, bytes)?;
    let linked = fs::hard_link(&temporary, path);
    // The temporary name has served its purpose either way; a leftover harms nobody.
    drop(fs::remove_file(&temporary));
    match linked {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(KeyError::Io { path: path.to_owned(), did: "written", source })
        }
        _ => Ok(()),
    }
}

/// The bytes of a private file, which nobody else may read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), did: "read", source };
    let file = fs::metadata(path).map_err(failed)?;
    if is_open(file.mode(), file.uid(), rustix::process::geteuid().as_raw()) {
        return Err(KeyError::Open { path: path.to_owned() });
    }
    fs::read(path).map_err(failed)
}

/// Whether others than this process may read or change a file. One of root's may be read by its group, as PostgreSQL
/// allows for its own keys: that is how Kubernetes hands a Secret to a process that is not root (`fsGroup`).
fn is_open(mode: u32, owner: u32, this: u32) -> bool {
    let allowed = if owner == 0 && this != 0 { 0o740 } else { 0o700 };
    mode & 0o777 & !allowed != 0
}

/// Replaces a public file in one step.
fn publish(path: &Path, text: &str) -> Result<(), KeyError> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("new-{}", uuid::Uuid::new_v4().simple()));
    write(&temporary, 0o644, text.as_bytes())?;
    fs::rename(&temporary, path).map_err(|source| KeyError::Io { path: path.to_owned(), did: "written", source })
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| KeyError::Io { path: path.to_owned(), did: "written", source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(data: &Path, profile: Profile) -> MeshConfig {
        MeshConfig { data: data.to_owned(), profile, ..MeshConfig::default() }
    }

    #[test]
    fn a_key_is_made_once_kept_and_closed_to_others() {
        let data = tempfile::tempdir().expect("folder");
        let config = config(data.path(), Profile::Development);
        let first = signing_key(&config, "auth-access").expect("made");
        let again = signing_key(&config, "auth-access").expect("read");
        assert_eq!(first.kid(), again.kid());
        assert_eq!(public_key(data.path(), "auth-access").as_deref(), Some(first.public()));
        let path = data.path().join("keys/auth-access.key");
        assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(signing_key(&config, "auth-access"), Err(KeyError::Open { .. })));
    }

    #[test]
    fn a_key_of_root_may_be_read_by_the_group_of_a_process_that_is_not_root_and_no_other() {
        let (root, other) = (0, 65_532);
        for (mode, owner, this, open) in [
            (0o100_600, other, other, false),
            (0o100_640, other, other, true),
            (0o100_640, root, other, false),
            (0o100_440, root, other, false),
            (0o100_660, root, other, true),
            (0o100_644, root, other, true),
            (0o100_640, root, root, true),
            (0o100_400, root, root, false),
        ] {
            assert_eq!(is_open(mode, owner, this), open, "{mode:o} of {owner}, read by {this}");
        }
    }

    #[test]
    fn processes_that_start_together_share_one_secret() {
        let data = tempfile::tempdir().expect("folder");
        let config = config(data.path(), Profile::Development);
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| secret(&config, "auth-refresh").expect("secret"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let data = tempfile::tempdir().expect("folder");
        let config = config(data.path(), Profile::Development);
        secret(&config, "auth-refresh").expect("made");
        let path = data.path().join("keys/auth-refresh.secret");
        fs::write(&path, b"short").expect("write");
        let error = secret(&config, "auth-refresh").expect_err("damaged").to_string();
        assert!(error.contains("auth-refresh.secret"), "{error}");
    }

    #[test]
    fn production_makes_no_key_by_itself_and_says_which_is_missing() {
        let data = tempfile::tempdir().expect("folder");
        let config = config(data.path(), Profile::Production);
        for name in SIGNING {
            let error = signing_key(&config, name).map(|_| ()).expect_err("missing").to_string();
            assert!(error.contains(&format!("{name}.key is missing")), "{error}");
        }
        for name in SECRETS {
            let error = secret(&config, name).expect_err("missing").to_string();
            assert!(error.contains(&format!("{name}.secret is missing")), "{error}");
        }
        assert!(look(&config).expect("none is no error").is_empty());
        init(data.path()).expect("made");
        assert_eq!(look(&config).expect("good").len(), COUNT);
        for name in SIGNING {
            signing_key(&config, name).expect("there");
        }
        for name in SECRETS {
            secret(&config, name).expect("there");
        }
    }

    #[test]
    fn production_refuses_keys_that_were_made_in_development() {
        let data = tempfile::tempdir().expect("folder");
        signing_key(&config(data.path(), Profile::Development), "auth-access").expect("made");
        let refused = signing_key(&config(data.path(), Profile::Production), "auth-access");
        assert!(matches!(refused, Err(KeyError::Development { .. })));
        assert!(matches!(init(data.path()), Err(KeyError::Development { .. })));
        assert!(matches!(look(&config(data.path(), Profile::Production)), Err(KeyError::Development { .. })));
        assert_eq!(look(&config(data.path(), Profile::Development)).expect("good"), ["auth-access"]);
    }
}
