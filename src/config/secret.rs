//! A setting that must not be seen: it is hidden in debug output and in `config show`, and may be given as the path of
//! a file. It only wraps; what the secret is for is its owner's business.

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

/// What a secret serializes as, so that the loader can tell that a field is one.
const MARK: &str = "<secret>";

/// A secret text; empty for none.
#[derive(Clone, Debug, Default)]
pub struct Secret(SecretString);

impl Secret {
    /// The text itself. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether none was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MARK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self(if text == MARK { String::new() } else { text }.into()))
    }
}

/// Whether this default is that of a secret.
pub(super) fn is_secret(value: &Value) -> bool {
    value.as_str() == Some(MARK)
}
