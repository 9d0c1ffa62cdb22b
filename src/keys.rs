//! Keys kept in files of the data folder, mode 0600, made at first start. Processes that share the folder share the
//! keys, also when they start at the same moment. It never logs or shows a key; `identity` uses them.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    digest, rand,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

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
    /// Others than the owner may read the file.
    #[error("{} can be read by others: run chmod 600 on it", path.display())]
    Open {
        /// Which one.
        path: PathBuf,
    },
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

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
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
        thumbprint(&BASE64_URL_SAFE_NO_PAD.encode(self.public()))
    }

    /// The public key as a JSON Web Key.
    #[must_use]
    pub fn jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": self.kid(), "x": BASE64_URL_SAFE_NO_PAD.encode(self.public()),
        })
    }

    /// The key as jsonwebtoken wants it.
    #[must_use]
    pub fn encoding_key(&self) -> jsonwebtoken::EncodingKey {
        jsonwebtoken::EncodingKey::from_ed_der(&self.pkcs8)
    }
}

/// The RFC 7638 thumbprint of an Ed25519 key with this `x`.
#[must_use]
pub(crate) fn thumbprint(x: &str) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}

/// The Ed25519 key of this name, made when it is missing. Its public half is written beside it (`NAME.pub`, the raw
/// key in base64url), for processes that verify and share the folder.
///
/// # Errors
/// When the file cannot be made or read, is damaged, or is open to others.
pub fn signing_key(data: &Path, name: &str) -> Result<SigningKey, KeyError> {
    let path = keys_folder(data)?.join(format!("{name}.key"));
    let bytes = load_or_make(&path, || SigningKey::generate().pkcs8)?;
    let key = SigningKey::from_pkcs8(&bytes).ok_or_else(|| KeyError::Damaged { path: path.clone() })?;
    publish(&path.with_extension("pub"), &BASE64_URL_SAFE_NO_PAD.encode(key.public()))?;
    Ok(key)
}

/// The raw public key of this name, when a process that shares the folder has made it.
#[must_use]
pub fn public_key(data: &Path, name: &str) -> Option<Vec<u8>> {
    let text = fs::read_to_string(data.join("keys").join(format!("{name}.pub"))).ok()?;
    BASE64_URL_SAFE_NO_PAD.decode(text.trim()).ok()
}

/// The 32 random bytes of this name, made when they are missing.
///
/// # Errors
/// When the file cannot be made or read, is damaged, or is open to others.
pub fn secret(data: &Path, name: &str) -> Result<[u8; 32], KeyError> {
    let path = keys_folder(data)?.join(format!("{name}.secret"));
    let bytes = load_or_make(&path, || {
        let mut bytes = vec![0; 32];
        rand::fill(&mut bytes).expect("invariant: the system has a random source");
        bytes
    })?;
    bytes.try_into().ok().ok_or(KeyError::Damaged { path })
}

fn keys_folder(data: &Path) -> Result<PathBuf, KeyError> {
    let path = data.join("keys");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|source| KeyError::Io {
        path: path.clone(),
        did: "made",
        source,
    })?;
    Ok(path)
}

/// Writes to a file of its own and links it to its name, which fails when another process was first: then its key is
/// read. So no reader ever sees half a key.
fn load_or_make(path: &Path, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, KeyError> {
    if !path.exists() {
        let temporary = path.with_extension(format!("new-{}", uuid::Uuid::new_v4().simple()));
        write(&temporary, 0o600, &make())?;
        let linked = fs::hard_link(&temporary, path);
        // The temporary name has served its purpose either way; a leftover harms nobody.
        drop(fs::remove_file(&temporary));
        match linked {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Io { path: path.to_owned(), did: "written", source });
            }
            _ => {}
        }
    }
    let io_error = |source| KeyError::Io { path: path.to_owned(), did: "read", source };
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).map_err(io_error)?.permissions());
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned() });
    }
    fs::read(path).map_err(io_error)
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

    #[test]
    fn a_key_is_made_once_kept_and_closed_to_others() {
        let data = tempfile::tempdir().expect("folder");
        let first = signing_key(data.path(), "auth-access").expect("made");
        let again = signing_key(data.path(), "auth-access").expect("read");
        assert_eq!(first.kid(), again.kid());
        assert_eq!(public_key(data.path(), "auth-access").as_deref(), Some(first.public()));
        let path = data.path().join("keys/auth-access.key");
        assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(signing_key(data.path(), "auth-access"), Err(KeyError::Open { .. })));
    }

    #[test]
    fn processes_that_start_together_share_one_secret() {
        let data = tempfile::tempdir().expect("folder");
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| secret(data.path(), "auth-refresh").expect("secret"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let data = tempfile::tempdir().expect("folder");
        secret(data.path(), "auth-refresh").expect("made");
        let path = data.path().join("keys/auth-refresh.secret");
        fs::write(&path, b"short").expect("write");
        let error = secret(data.path(), "auth-refresh").expect_err("damaged").to_string();
        assert!(error.contains("auth-refresh.secret"), "{error}");
    }
}
