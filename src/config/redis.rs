//! How the replicas of a service use Redis: what it may take, and how soon its absence is noticed. What goes through it
//! is the service's business; none of it is the truth.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Problems, Secret};

/// The table `mesh.redis`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// What the name of every channel begins with. Default `switchboard:`. Two installations on one Redis take two.
    pub prefix: String,
    /// Milliseconds to connect to one server, TLS and authentication included. Default 1,000: it is near.
    pub connect_ms: u64,
    /// Milliseconds without an answer after which a connection is given up. Default 1,000: with `beat_ms` it is the time
    /// in which a Redis that hangs is noticed.
    pub answer_ms: u64,
    /// Milliseconds between two signs of life, which are questions to Redis and tell the other replicas that this one
    /// is there. Default 500.
    pub beat_ms: u64,
    /// Milliseconds between two tries to connect, at most. They begin with a tenth of a second and double, each with
    /// jitter. Default 1,000, so that live delivery is as fast as before within 2 s of Redis' return.
    pub retry_ms_max: u64,
    /// Milliseconds between two looks at the store while Redis is there, which find what a lost hint should have told.
    /// Default 10,000. Without Redis the service's own, shorter time counts.
    pub look_ms: u64,
    /// Hints that wait to be published. Default 1,024: with `hint_bytes_max` at most 16 MiB. What does not fit is
    /// dropped and counted, and the other replicas are told to look for themselves.
    pub queue_max: usize,
    /// Bytes of the entries in one hint. Default 16 KiB: larger ones are read from the store, which costs less than
    /// keeping and copying them here.
    pub hint_bytes_max: usize,
    /// User of the sentinels, when they ask for one other than Redis'. Default empty: none.
    pub sentinel_user: String,
    /// Password of the sentinels. Default empty: none.
    pub sentinel_password: Secret,
    /// Certificates (PEM) that Redis' own must be signed by. Default empty: the public authorities.
    pub ca_file: PathBuf,
    /// This process' own certificate (PEM), for a Redis that asks for one; needs `key_file`. Default empty: none.
    pub cert_file: PathBuf,
    /// The key (PEM) of `cert_file`.
    pub key_file: PathBuf,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            prefix: "switchboard:".into(),
            connect_ms: 1_000,
            answer_ms: 1_000,
            beat_ms: 500,
            retry_ms_max: 1_000,
            look_ms: 10_000,
            queue_max: 1_024,
            hint_bytes_max: 16 << 10,
            sentinel_user: String::new(),
            sentinel_password: Secret::default(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
        }
    }
}

impl RedisConfig {
    /// The beginnings of URLs that are understood.
    pub const SCHEMES: [&'static str; 5] = ["redis:", "rediss:", "redis+unix:", "redis+sentinel:", "rediss+sentinel:"];

    /// Reports what makes no sense; `prefix` is where this table is in its section, with a dot at its end.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        problems.range(&format!("{prefix}connect_ms"), self.connect_ms, 10, 60_000);
        problems.range(&format!("{prefix}answer_ms"), self.answer_ms, 10, 60_000);
        problems.range(&format!("{prefix}beat_ms"), self.beat_ms, 10, 60_000);
        problems.range(&format!("{prefix}retry_ms_max"), self.retry_ms_max, 10, 60_000);
        problems.range(&format!("{prefix}look_ms"), self.look_ms, 10, 3_600_000);
        problems.range(&format!("{prefix}queue_max"), self.queue_max, 1, 1 << 20);
        problems.range(&format!("{prefix}hint_bytes_max"), self.hint_bytes_max, 0, 1 << 20);
        if self.prefix.len() > 64 || !self.prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            problems.push(format!("{prefix}prefix"), "must have at most 64 printable ASCII characters without blanks");
        }
        if self.cert_file.as_os_str().is_empty() != self.key_file.as_os_str().is_empty() {
            problems.push(format!("{prefix}cert_file"), "needs key_file, and the other way round");
        }
    }

    /// How long to connect.
    #[must_use]
    pub fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    /// How long to wait for an answer.
    #[must_use]
    pub fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms)
    }

    /// How often to give a sign of life.
    #[must_use]
    pub fn beat(&self) -> Duration {
        Duration::from_millis(self.beat_ms)
    }

    /// How long to wait between two tries, at most.
    #[must_use]
    pub fn retry_max(&self) -> Duration {
        Duration::from_millis(self.retry_ms_max)
    }

    /// How often to look at the store while Redis is there.
    #[must_use]
    pub fn look(&self) -> Duration {
        Duration::from_millis(self.look_ms)
    }
}
