//! The settings of user-svc: the section `user`. Every number that bounds something is here with its reason; the
//! limits that clients feel are the contract's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mesh::config::{Loader, MeshConfig, Problems, Secret, Section, StoreLimits};
use serde::{Deserialize, Serialize};

/// All that one user-svc process is configured with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What every process shares.
    pub mesh: MeshConfig,
    /// What is this service's own.
    pub user: UserSection,
}

impl Config {
    /// Reads both sections; `loader.finish()` tells what was wrong with them.
    pub fn load(loader: &mut Loader) -> Self {
        Self { mesh: loader.section(), user: loader.section() }
    }
}

/// The section `user`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserSection {
    /// The address to listen on. Default 127.0.0.1: what is open to others is opened on purpose.
    pub listen: IpAddr,
    /// The gRPC port. Default 50003.
    pub grpc_port: u16,
    /// The operations port. Default 3003.
    pub http_port: u16,
    /// Where people are kept: `sqlite:PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` (`postgresql:` is the same).
    /// Default empty: `users.db` in the data folder. A secret for the password's sake.
    pub store_url: Secret,
    /// Connections that read SQLite. Default 4: reads are short and mostly from memory.
    pub store_readers: u32,
    /// Bounds and patience with a store that is a server of its own.
    pub store: StoreLimits,
    /// What clients may send and ask for.
    pub limits: Limits,
}

impl Default for UserSection {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            grpc_port: 50003,
            http_port: 3003,
            store_url: Secret::default(),
            store_readers: 4,
            store: StoreLimits::default(),
            limits: Limits::default(),
        }
    }
}

/// What clients may send and ask for; the contract names these numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Characters of a username that auth-svc sends. Default 32. Which characters it may have is auth-svc's rule alone:
    /// a second one here could only disagree with it.
    pub username_chars_max: usize,
    /// Characters of a first or last name. Default 100: longer than nearly all names that people have.
    pub name_chars_max: usize,
    /// Characters of a bio. Default 1,000: a few paragraphs.
    pub bio_chars_max: usize,
    /// Characters of an avatar's URL. Default 2,048: what browsers and proxies take without trouble.
    pub avatar_url_chars_max: usize,
    /// Bytes of the preferences as compact JSON. Default 16 KiB: settings, not a document store.
    pub preferences_bytes_max: usize,
    /// Levels of the preferences. Default 16: what is deeper is no data but an attack on parsers.
    pub preferences_depth_max: usize,
    /// People in one `BatchGetUsers`. Default 100: a page of anything shows no more.
    pub batch_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            username_chars_max: 32,
            name_chars_max: 100,
            bio_chars_max: 1_000,
            avatar_url_chars_max: 2_048,
            preferences_bytes_max: 16 << 10,
            preferences_depth_max: 16,
            batch_max: 100,
        }
    }
}

impl Section for UserSection {
    const NAME: &'static str = "user";

    fn validate(&self, problems: &mut Problems) {
        let scheme = self.store_url.expose().split(':').next().unwrap_or_default();
        if !matches!(scheme, "" | "sqlite" | "postgres" | "postgresql") {
            problems.push("store_url", "must be empty or begin with sqlite:, postgres: or postgresql:");
        }
        self.store.validate("store.", problems);
        problems.range("store_readers", self.store_readers, 1, 64);
        let limits = &self.limits;
        // Together they keep the largest answer of `BatchGetUsers` below the 4 MiB that a gRPC message may have, with
        // every character four bytes long.
        problems.range("limits.batch_max", limits.batch_max, 1, 200);
        problems.range("limits.name_chars_max", limits.name_chars_max, 1, 200);
        problems.range("limits.bio_chars_max", limits.bio_chars_max, 0, 2_000);
        problems.range("limits.avatar_url_chars_max", limits.avatar_url_chars_max, 0, 2_048);
        problems.range("limits.username_chars_max", limits.username_chars_max, 32, 100);
        problems.range("limits.preferences_bytes_max", limits.preferences_bytes_max, 2, 1 << 20);
        // A level is up to three messages within one another, and protobuf's decoder takes a hundred.
        problems.range("limits.preferences_depth_max", limits.preferences_depth_max, 1, 30);
    }
}

impl UserSection {
    /// Where gRPC listens.
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        (self.listen, self.grpc_port).into()
    }

    /// Where the operations port listens.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        (self.listen, self.http_port).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        let mut loader = Loader::for_test("");
        let config = Config::load(&mut loader);
        loader.finish().expect("good");
        assert_eq!((config.user.grpc_port, config.user.http_port), (50003, 3003));
        assert!(config.user.store_url.is_empty());
    }

    #[test]
    fn bad_values_are_named_and_the_password_in_a_url_is_not_shown() {
        let text =
            "[user]\nstore_url = 'mysql://me:hunter2@host/db'\n[user.limits]\nbatch_max = 0\nbio_chars_max = 9999";
        let mut loader = Loader::for_test(text);
        let section: UserSection = loader.section();
        let error = loader.finish().expect_err("three bad values").to_string();
        for field in ["user.store_url", "user.limits.batch_max", "user.limits.bio_chars_max"] {
            assert!(error.contains(field), "{field} is missing in {error}");
        }
        assert!(!format!("{error}{section:?}").contains("hunter2"));
    }
}
