//! The settings that every process shares: profile, data folder, where the others are, and the limits of serving and
//! calling gRPC. The settings of one process are in that process' own section.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Problems, RedisConfig, Secret, Section, TlsConfig};
use crate::{
    limit::Rate, migration::Migrations, serve::ServeLimits, shutdown::ShutdownLimits, telemetry::TelemetryConfig,
};

/// How strict a process is with what it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A laptop: keys are made, localhost is trusted.
    #[default]
    Development,
    /// Real users: nothing has a default that an attacker could know.
    Production,
}

/// The section `mesh`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// `development` or `production`. Default `development`.
    pub profile: Profile,
    /// Folder of keys and embedded stores. Processes that share it share their keys. Default `./switchboard-data`.
    pub data: PathBuf,
    /// Whether a service brings the tables of its store up to date when it starts. Default true: a new version needs no
    /// further step. With false it starts only on tables that are up to date, and `switchboard migrate` changes them:
    /// for operators whose services may not change tables, or who want to choose the moment.
    pub migrate_at_start: bool,
    /// Where auth-svc is: `http(s)://host:port`, several separated by commas; a name with many addresses is many
    /// replicas. Default: its port on this machine.
    pub auth_url: String,
    /// Where user-svc is; like `auth_url`.
    pub user_url: String,
    /// Where message-svc is; like `auth_url`.
    pub message_url: String,
    /// Whether Redis carries hints between replicas. Default false: one machine needs none.
    pub redis_enabled: bool,
    /// The Redis that carries hints; may hold a password. `redis://[user:password@]host[:port]`, `rediss:` with TLS,
    /// several separated by commas are tried in turn (nodes of one cluster, not independent servers);
    /// `redis+sentinel://[user:password@]sentinel:26379,sentinel:26379/name` asks sentinels for the master of that name.
    /// Default empty: `redis://127.0.0.1:6379`.
    pub redis_url: Secret,
    /// How Redis is used.
    pub redis: RedisConfig,
    /// Tokens, assertions and revocations.
    pub identity: IdentityConfig,
    /// Certificates inside the mesh, and who may call what.
    pub tls: TlsConfig,
    /// Serving and calling gRPC.
    pub grpc: GrpcLimits,
    /// How the replicas of the other services are followed.
    pub replicas: ReplicasConfig,
    /// Serving HTTP connections, gRPC's and the operations port's included.
    pub serve: ServeLimits,
    /// Logs, traces, metrics.
    pub telemetry: TelemetryConfig,
    /// The limits of each step of stopping.
    pub shutdown: ShutdownLimits,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            data: "switchboard-data".into(),
            migrate_at_start: true,
            auth_url: "http://127.0.0.1:50001".into(),
            user_url: "http://127.0.0.1:50003".into(),
            message_url: "http://127.0.0.1:50002".into(),
            redis_enabled: false,
            redis_url: Secret::default(),
            redis: RedisConfig::default(),
            identity: IdentityConfig::default(),
            tls: TlsConfig::default(),
            grpc: GrpcLimits::default(),
            replicas: ReplicasConfig::default(),
            serve: ServeLimits::default(),
            telemetry: TelemetryConfig::default(),
            shutdown: ShutdownLimits::default(),
        }
    }
}

/// Tokens, assertions and revocations, the same in every process of one mesh.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// The claim `iss` of access tokens. Default `switchboard`.
    pub issuer: String,
    /// The claim `aud` of access tokens. Default `switchboard`.
    pub audience: String,
    /// Verified tokens kept, so that a repeated one costs no signature check; about 500 bytes each. Default 50,000.
    pub verified_max: u64,
    /// Revocations kept in memory, 24 bytes each; past it every token is asked about. Default 1,000,000, which is a
    /// logout a second for eleven days of 30-day tokens.
    pub revocations_max: usize,
    /// Silence of the revocation stream, in milliseconds, after which every token is asked about. Default 3,000: three
    /// heartbeats.
    pub silence_ms_max: u64,
    /// Public keys (raw Ed25519 in base64url) of services that do not share this process' data folder, by name:
    /// `gateway`, `auth-svc`, `user-svc`, `message-svc`.
    pub service_keys: BTreeMap<String, String>,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            issuer: "switchboard".into(),
            audience: "switchboard".into(),
            verified_max: 50_000,
            revocations_max: 1_000_000,
            silence_ms_max: 3_000,
            service_keys: BTreeMap::new(),
        }
    }
}

/// What tonic leaves without a limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcLimits {
    /// Calls in progress in one process; more are refused with UNAVAILABLE. Default 10,000: a call holds a few
    /// kilobytes, so this bounds them at some tens of megabytes.
    pub calls_max: usize,
    /// The longest that a unary call may take, in milliseconds; a caller's longer deadline is cut to it. Default 30,000.
    pub deadline_ms_max: u64,
    /// How often those may call who come past the gateway, which limits those who come through it.
    pub direct: DirectLimits,
    /// A message's size in bytes, either way. Default 4 MiB: the largest page of entries is 1 MiB of content, which can
    /// grow when it is wrapped.
    pub message_bytes_max: usize,
    /// The deadline of calls to other services that are not on behalf of a caller with one, in milliseconds. Default
    /// 5,000.
    pub call_deadline_ms: u64,
    /// The time to connect to another service, in milliseconds. Default 1,000: they are near.
    pub connect_ms: u64,
    /// Tries of an idempotent call that finds its service away, the first included. Default 3.
    pub tries_max: u32,
    /// How many calls may be tried again, as a percentage of all calls of this process in the last ten seconds. Default
    /// 20: a service that is away, or that comes back, has a fifth more to do and not three times as much.
    pub retries_percent: u16,
    /// Tries again in a second that are allowed besides, on average over ten seconds. Default 10: with little to do, each
    /// call should have its tries, and so few hurt nobody.
    pub retries_per_sec_min: u16,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            calls_max: 10_000,
            deadline_ms_max: 30_000,
            direct: DirectLimits::default(),
            message_bytes_max: 4 << 20,
            call_deadline_ms: 5_000,
            connect_ms: 1_000,
            tries_max: 3,
            retries_percent: 20,
            retries_per_sec_min: 10,
        }
    }
}

/// How often those may call a service who come past the gateway. Over it: `RATE_LIMITED`, and when to come back. In
/// development a caller on this machine is not limited: tests and load runs come from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectLimits {
    /// Whether they are limited. Default true.
    pub enabled: bool,
    /// Calls of an account, by its token or API key, to one process. Default 1,000 at once and 12,000 a minute: without
    /// certificates (`mesh.tls`) a gateway's reads in a user's name look the same, and what its own limits let through must
    /// pass.
    pub account: Rate,
    /// Calls of a process that is none of the mesh's own, by its certificate, in no user's name. Default 1,000 at once and
    /// 12,000 a minute.
    pub process: Rate,
    /// Calls from an address without a certificate, in nobody's name or with a token that is not good. Default 300 at once
    /// and 3,000 a minute.
    pub address: Rate,
    /// Such callers remembered; default 100,000, at about 200 bytes each.
    pub keys_max: u64,
}

impl Default for DirectLimits {
    fn default() -> Self {
        Self {
            enabled: true,
            account: Rate::new(1_000, 12_000),
            process: Rate::new(1_000, 12_000),
            address: Rate::new(300, 3_000),
            keys_max: 100_000,
        }
    }
}

impl DirectLimits {
    /// Each with its name.
    #[must_use]
    pub fn rates(&self) -> [(&'static str, Rate); 3] {
        [("account", self.account), ("process", self.process), ("address", self.address)]
    }
}

/// How a process follows the replicas of the services that it calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicasConfig {
    /// Milliseconds between two lookups of a service's name, on average; default 5,000, about as long as cluster name
    /// servers let an answer live. A replica that fails is a reason to look at once, yet not more than once a second.
    pub resolve_ms: u64,
    /// Milliseconds between two questions to a replica how it is, on average, and for each answer; default 1,000: a
    /// replica that is killed is noticed by its connection, so this is for one that is back, or hangs.
    pub check_ms: u64,
    /// Milliseconds without an answer after which a replica is left out, and those who wait for it ask another; default
    /// 3,000: a process that is busy for a second or two is not dead.
    pub silence_ms_max: u64,
}

impl Default for ReplicasConfig {
    fn default() -> Self {
        Self { resolve_ms: 5_000, check_ms: 1_000, silence_ms_max: 3_000 }
    }
}

impl MeshConfig {
    /// What a service does with the tables of its store when it starts.
    #[must_use]
    pub fn migrations(&self) -> Migrations {
        if self.migrate_at_start { Migrations::Run } else { Migrations::Check }
    }
}

impl Section for MeshConfig {
    const NAME: &'static str = "mesh";
    const OPEN_TABLES: &'static [&'static str] = &["identity.service_keys"];

    fn validate(&self, problems: &mut Problems) {
        for (field, url) in
            [("auth_url", &self.auth_url), ("user_url", &self.user_url), ("message_url", &self.message_url)]
        {
            if let Err(message) = crate::client::check_urls(url) {
                problems.push(field, message);
            }
        }
        problems.range("identity.silence_ms_max", self.identity.silence_ms_max, 1_000, 3_600_000);
        problems.range("grpc.deadline_ms_max", self.grpc.deadline_ms_max, 10, 3_600_000);
        self.grpc
            .direct
            .rates()
            .iter()
            .for_each(|(name, rate)| rate.validate(&format!("grpc.direct.{name}"), problems));
        problems.range("grpc.direct.keys_max", self.grpc.direct.keys_max, 1_000, 100_000_000);
        problems.range("grpc.message_bytes_max", self.grpc.message_bytes_max, 1 << 20, 64 << 20);
        problems.range("grpc.tries_max", self.grpc.tries_max, 1, 10);
        problems.range("grpc.retries_percent", self.grpc.retries_percent, 0, 200);
        problems.range("replicas.resolve_ms", self.replicas.resolve_ms, 100, 3_600_000);
        problems.range("replicas.check_ms", self.replicas.check_ms, 50, 60_000);
        problems.range("replicas.silence_ms_max", self.replicas.silence_ms_max, self.replicas.check_ms, 600_000);
        let url = self.redis_url.expose();
        if !url.is_empty() && !RedisConfig::SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            problems.push("redis_url", format!("must begin with one of {}", RedisConfig::SCHEMES.join(" ")));
        }
        self.redis.validate("redis.", problems);
        self.tls.validate("tls.", problems);
        self.serve.validate("serve.", problems);
        self.shutdown.validate("shutdown.", problems);
        self.telemetry.validate("telemetry.", problems);
        for name in self.identity.service_keys.keys() {
            if crate::identity::ServiceName::from_name(name).is_none() {
                problems.push(format!("identity.service_keys.{name}"), "is no service's name");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Loader;
    use super::*;

    #[test]
    fn what_cannot_be_right_about_certificates_is_named() {
        for (text, fields) in [
            ("ca_file = 'ca.crt'", &["cert_file", "key_file"][..]),
            ("cert_file = 'tls.crt'\ncallers_file = 'callers.toml'", &["cert_file", "callers_file"]),
            ("trust_domain = 'Example.Com'\nlook_ms = 0", &["trust_domain", "look_ms"]),
        ] {
            let mut loader = Loader::for_test(&format!("[mesh.tls]\n{text}\n"));
            let _: MeshConfig = loader.section();
            let error = loader.finish().expect_err(text).to_string();
            assert_eq!(error.matches("mesh.tls.").count(), fields.len(), "{error}");
            for field in fields {
                assert!(error.contains(&format!("mesh.tls.{field} ")), "{field}: {error}");
            }
        }
    }

    #[test]
    fn what_cannot_be_right_about_redis_is_named() {
        let mut loader = Loader::for_test(
            "[mesh]\nredis_url = 'http://redis'\n[mesh.redis]\nprefix = 'a b'\nbeat_ms = 0\nkey_file = 'key.pem'\n",
        );
        let _: MeshConfig = loader.section();
        let error = loader.finish().expect_err("four bad values").to_string();
        for field in ["mesh.redis_url", "mesh.redis.prefix", "mesh.redis.beat_ms", "mesh.redis.cert_file"] {
            assert!(error.contains(field), "{field}: {error}");
        }
        for url in
            ["redis://a", "rediss://:secret@a:6380/0", "redis+unix:///run/redis.sock", "rediss+sentinel://a,b/main"]
        {
            let mut loader = Loader::for_test(&format!("[mesh]\nredis_url = '{url}'\n"));
            let _: MeshConfig = loader.section();
            assert!(loader.finish().is_ok(), "{url}");
        }
    }
}
