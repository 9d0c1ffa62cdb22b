//! How a service uses a store that is a server of its own: bounds and patience, the same for every kind of server. What
//! a store is and how it is spoken to is the services' business.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Problems;

/// The table `store` of a service's section. An embedded store needs none of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreLimits {
    /// Connections of one process, at most. Default 16: more than a server's cores seldom does more, and twenty
    /// processes of three services stay below what a server is set up for.
    pub connections_max: u32,
    /// Milliseconds that a call waits for a connection, a free one or a new one. Default 2,000.
    pub connect_ms: u64,
    /// Milliseconds that one call to the store may take, the wait for a connection included; the server is told to give
    /// up after them too. Default 4,000: less than the 5 s that other services wait (`mesh.grpc.call_deadline_ms`), so
    /// that they hear what is wrong instead of nothing.
    pub call_ms: u64,
    /// Seconds that a service waits at its start for a store that is not there yet. Default 60: what a database takes
    /// that starts beside it.
    pub start_secs: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { connections_max: 16, connect_ms: 2_000, call_ms: 4_000, start_secs: 60 }
    }
}

impl StoreLimits {
    /// Reports what makes no sense; `prefix` is where this table is in its section, with a dot at its end.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        problems.range(&format!("{prefix}connections_max"), self.connections_max, 1, 1_000);
        problems.range(&format!("{prefix}connect_ms"), self.connect_ms, 10, 60_000);
        problems.range(&format!("{prefix}call_ms"), self.call_ms, 10, 60_000);
        problems.range(&format!("{prefix}start_secs"), self.start_secs, 0, 3_600);
    }

    /// How long a call waits for a connection.
    #[must_use]
    pub fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    /// How long a call may take.
    #[must_use]
    pub fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    /// How long a start waits.
    #[must_use]
    pub fn start(&self) -> Duration {
        Duration::from_secs(self.start_secs)
    }
}
