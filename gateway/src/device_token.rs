//! Device tokens: by which a browser or phone that has logged in before is known again. A client keeps the one that a
//! login gave it and shows it at the next one; it is then no stranger to the limits of guessing (`limit/guess.rs`), and a
//! remembered device need not give a second factor. It opens nothing by itself. The gateways alone issue and read them, with a key of their own; auth-svc hears the device's id.

use std::collections::HashSet;

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use mesh::{config::MeshConfig, time::Millis};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The header's `typ`: no other token has it.
const TYPE: &str = "device+jwt";
/// The claim `aud`: the gateways.
const AUDIENCE: &str = "switchboard-device";
/// Makes another key of the one that WebSocket tokens have.
const LABEL: &[u8] = b"device-token";

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
struct DeviceClaims {
    iss: String,
    aud: String,
    /// The user who logged in.
    sub: Uuid,
    /// The device.
    did: Uuid,
    /// Marks of the names that it logs in with.
    #[serde(default)]
    names: Vec<String>,
    iat: i64,
    exp: i64,
}

/// A device that has logged in before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its id.
    pub(crate) id: Uuid,
    names: Vec<String>,
}

impl Device {
    /// Whether it was this account that it logged in to.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.contains(&mark(self.id, name))
    }
}

/// What stands for a name: who reads a token learns of no address.
fn mark(device: Uuid, name: &str) -> String {
    let name = name.trim().to_lowercase();
    let hash = digest::digest(&digest::SHA256, format!("{device}\0{name}").as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12])
}

/// Issues and reads tokens.
pub(crate) struct DeviceTokens {
    issuer: String,
    life_secs: i64,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for DeviceTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceTokens").field("life_secs", &self.life_secs).finish_non_exhaustive()
    }
}

impl DeviceTokens {
    /// With the gateways' secret.
    pub(crate) fn new(mesh: &MeshConfig, secret: &[u8], life_secs: i64) -> Self {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), LABEL);
        let issuer = mesh.identity.issuer.clone();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&issuer]);
        validation.required_spec_claims = HashSet::from(["exp", "aud", "iss", "sub"].map(str::to_owned));
        Self {
            issuer,
            life_secs,
            encoding: EncodingKey::from_secret(key.as_ref()),
            decoding: DecodingKey::from_secret(key.as_ref()),
            validation,
        }
    }

    /// A token for a device on which this user, who has these names, has logged in.
    pub(crate) fn issue(&self, user: Uuid, device: Uuid, names: [&str; 2]) -> String {
        let names = names.map(|name| mark(device, name)).to_vec();
        let iat = Millis::now().secs();
        let (iss, aud) = (self.issuer.clone(), AUDIENCE.to_owned());
        let claims = DeviceClaims { iss, aud, sub: user, did: device, names, iat, exp: iat + self.life_secs };
        let header = Header { typ: Some(TYPE.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &self.encoding)
            .expect("invariant: claims of text and numbers become JSON, and HMAC takes any key")
    }

    /// The device that a token names. What is no token, or an old one, is none: then the device is a new one.
    pub(crate) fn read(&self, token: &str) -> Option<Device> {
        let decoded = jsonwebtoken::decode::<DeviceClaims>(token, &self.decoding, &self.validation).ok()?;
        let DeviceClaims { did: id, names, .. } = decoded.claims;
        (decoded.header.typ.as_deref() == Some(TYPE)).then_some(Device { id, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: u8, life_secs: i64) -> DeviceTokens {
        DeviceTokens::new(&MeshConfig::default(), &[secret; 32], life_secs)
    }

    #[test]
    fn a_device_is_known_by_its_token_and_by_no_other() {
        let (user, device) = (Uuid::now_v7(), Uuid::new_v4());
        let names = ["Ada", "ada@example.com"];
        let given = tokens(7, 60).issue(user, device, names);
        let read = tokens(7, 60).read(&given).expect("known");
        assert_eq!(read.id, device);
        assert!(read.knows("ada") && read.knows(" ADA@example.com ") && !read.knows("bob"));
        let (foreign, old) = (tokens(8, 60).issue(user, device, names), tokens(7, -1).issue(user, device, names));
        let cut = &given[..given.len() - 2];
        for bad in ["", "x", "a.b.c", cut, &foreign, &old] {
            assert_eq!(tokens(7, 60).read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_for_another_use_names_no_device() {
        let tokens = tokens(7, 60);
        let given = tokens.issue(Uuid::now_v7(), Uuid::new_v4(), ["a", "b"]);
        let claims = jsonwebtoken::decode::<DeviceClaims>(&given, &tokens.decoding, &tokens.validation).expect("good");
        let header = Header { typ: Some("ws+jwt".into()), ..Header::new(Algorithm::HS256) };
        let other = jsonwebtoken::encode(&header, &claims.claims, &tokens.encoding).expect("token");
        assert_eq!(tokens.read(&other), None);
    }
}
