//! The settings of the realtime edge, the table `gateway.realtime`. Every limit is here with its unit and its reason;
//! the files beside this one only obey them. What the contract fixes (100 rooms in `auth`, 500 missed entries, a page of
//! 50) is no setting: those are constants where they are used.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mesh::config::{Problems, Secret};
use serde::{Deserialize, Serialize};

/// Sockets, their queues, and the rooms that they follow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RealtimeConfig {
    /// Sockets of this gateway, those that have not said who they are included; default 15,000, a little below the
    /// connections of the public port, so that REST still finds a place. An idle one takes about 3 kB, one in a room 3.5.
    pub sockets_max: usize,
    /// Sockets of one user on this gateway; default 100: many tabs on some devices, and no more than a hundredth of the
    /// whole.
    pub sockets_per_user_max: usize,
    /// Milliseconds from opening a connection to its accepted token; default 10,000. Then it is closed.
    pub connect_timeout_ms: u64,
    /// Milliseconds between heartbeats; default 25,000, below the minute after which proxies forget a connection.
    pub ping_interval_ms: u64,
    /// Milliseconds for the answer to a heartbeat; default 20,000. Then the client is taken for gone.
    pub ping_timeout_ms: u64,
    /// Milliseconds for a change from polling to WebSocket; default 10,000.
    pub upgrade_timeout_ms: u64,
    /// Bytes of one event from a client; default 64 KiB: twice the largest message content. A larger one is refused.
    pub event_bytes_max: usize,
    /// Bytes of one frame, or of one polling request, that is read at all; default 1.25 MiB, so that a client that sends
    /// a megabyte is told why it is refused. A larger one ends the connection.
    pub frame_bytes_max: usize,
    /// Events of one socket that wait for those before them; default 1,000. More are refused with `RATE_LIMITED`.
    pub incoming_max: usize,
    /// Bytes of the events that wait; default 1 MiB.
    pub incoming_bytes_max: usize,
    /// Sends of one socket that are under way together; default 64. Those that come meanwhile are the next, when all of
    /// these are answered, so this bounds what has to be sent again, in its order, when a replica of message-svc dies.
    pub sends_max: usize,
    /// Sends of all sockets to one replica of message-svc that wait to be written, in bundles of one socket's; default
    /// 4,096. A replica that takes no more makes its sockets wait, and their sends time out.
    pub bundles_max: usize,
    /// Packets that wait to be written to one socket; default 256. One more and the socket is closed: its client does
    /// not read, and it resumes by cursor. Events are shared by all sockets, so a place takes 16 bytes.
    pub outgoing_max: usize,
    /// Rooms that one socket may follow; default 1,000, at about 100 bytes each.
    pub rooms_per_socket_max: usize,
    /// Rooms that this gateway follows; default 100,000.
    pub rooms_max: usize,
    /// Joins in progress; default 256. Others wait, so that ten thousand sockets that come back at once do not bury
    /// message-svc.
    pub joins_max: usize,
    /// Milliseconds for a join, its waiting included; default 15,000: what a REST request gets.
    pub join_timeout_ms: u64,
    /// Bytes of missed entries in one ack; default 256 KiB. The client asks for the rest, so one that never reads its
    /// acks costs at most this times `outgoing_max`.
    pub missed_bytes_max: usize,
    /// Entries of a room that are kept to close the gap between reading the log and following it; default 128.
    pub recent_entries_max: usize,
    /// Bytes of those entries; default 256 KiB.
    pub recent_bytes_max: usize,
    /// Seconds that they are kept; default 10: reading the log takes milliseconds.
    pub recent_secs: u64,
    /// Milliseconds that a room is still followed after its last socket left; default 10,000, so that a page that is
    /// loaded again finds it.
    pub linger_ms: u64,
    /// Milliseconds over which sockets are spread when the gateway stops; default 3,000, so that 15,000 of them come to the
    /// other gateways 250 at a time. At most half of `mesh.shutdown.sockets_ms`, which is for telling them and their going.
    pub stop_spread_ms: u64,
    /// Seconds that a WebSocket token is good for; default 60.
    pub ws_token_secs: i64,
    /// The key of WebSocket tokens, 32 bytes or more in base64url, the same for all gateways. Default empty: a key is
    /// made in the data folder, which is right for gateways that share it.
    pub ws_token_key: Secret,
}

impl Default for RealtimeConfig {
    fn default() -> Self {
        Self {
            sockets_max: 15_000,
            sockets_per_user_max: 100,
            connect_timeout_ms: 10_000,
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            upgrade_timeout_ms: 10_000,
            event_bytes_max: 64 * 1024,
            frame_bytes_max: 1280 * 1024,
            incoming_max: 1_000,
            incoming_bytes_max: 1 << 20,
            sends_max: 64,
            bundles_max: 4_096,
            outgoing_max: 256,
            rooms_per_socket_max: 1_000,
            rooms_max: 100_000,
            joins_max: 256,
            join_timeout_ms: 15_000,
            missed_bytes_max: 256 * 1024,
            recent_entries_max: 128,
            recent_bytes_max: 256 * 1024,
            recent_secs: 10,
            linger_ms: 10_000,
            stop_spread_ms: 3_000,
            ws_token_secs: 60,
            ws_token_key: Secret::default(),
        }
    }
}

impl RealtimeConfig {
    pub(super) fn stop_spread(&self) -> Duration {
        Duration::from_millis(self.stop_spread_ms)
    }

    /// Reports values that make no sense; `prefix` is where these stand in the section: `realtime.`.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        for (name, value, min, max) in [
            ("sockets_max", self.sockets_max, 1, 1_000_000),
            ("sockets_per_user_max", self.sockets_per_user_max, 1, 1_000_000),
            ("event_bytes_max", self.event_bytes_max, 40 * 1024, 1 << 20),
            ("frame_bytes_max", self.frame_bytes_max, self.event_bytes_max, 16 << 20),
            ("incoming_max", self.incoming_max, 1, 100_000),
            ("incoming_bytes_max", self.incoming_bytes_max, self.event_bytes_max, 64 << 20),
            // A bundle may have 256 by the contract.
            ("sends_max", self.sends_max, 1, 256),
            ("bundles_max", self.bundles_max, 1, 1 << 20),
            // Entries come up to 64 at a time.
            ("outgoing_max", self.outgoing_max, 128, 65_536),
            ("rooms_per_socket_max", self.rooms_per_socket_max, 100, 100_000),
            ("rooms_max", self.rooms_max, 100, 10_000_000),
            ("joins_max", self.joins_max, 1, 65_536),
            ("missed_bytes_max", self.missed_bytes_max, 64 * 1024, 2 << 20),
            ("recent_entries_max", self.recent_entries_max, 16, 10_000),
            ("recent_bytes_max", self.recent_bytes_max, 64 * 1024, 64 << 20),
        ] {
            problems.range(&format!("{prefix}{name}"), value, min, max);
        }
        for (name, value, min, max) in [
            ("connect_timeout_ms", self.connect_timeout_ms, 100, 600_000),
            ("ping_interval_ms", self.ping_interval_ms, 100, 600_000),
            ("ping_timeout_ms", self.ping_timeout_ms, 100, 600_000),
            ("upgrade_timeout_ms", self.upgrade_timeout_ms, 100, 600_000),
            ("join_timeout_ms", self.join_timeout_ms, 100, 600_000),
            ("recent_secs", self.recent_secs, 1, 600),
            ("linger_ms", self.linger_ms, 0, 600_000),
            ("stop_spread_ms", self.stop_spread_ms, 0, 600_000),
        ] {
            problems.range(&format!("{prefix}{name}"), value, min, max);
        }
        problems.range(&format!("{prefix}ws_token_secs"), self.ws_token_secs, 5, 3_600);
        let key = self.ws_token_key.expose();
        if !key.is_empty() && !BASE64_URL_SAFE_NO_PAD.decode(key).is_ok_and(|key| key.len() >= 32) {
            problems.push(format!("{prefix}ws_token_key"), "must be 32 bytes or more in base64url without padding");
        }
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn upgrade_timeout(&self) -> Duration {
        Duration::from_millis(self.upgrade_timeout_ms)
    }

    pub(super) fn join_timeout(&self) -> Duration {
        Duration::from_millis(self.join_timeout_ms)
    }

    pub(super) fn recent(&self) -> Duration {
        Duration::from_secs(self.recent_secs)
    }

    pub(super) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }
}

#[cfg(test)]
mod tests {
    use mesh::config::{Loader, Section};

    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Gateway {
        realtime: RealtimeConfig,
    }

    impl Section for Gateway {
        const NAME: &'static str = "gateway";

        fn validate(&self, problems: &mut Problems) {
            self.realtime.validate("realtime.", problems);
        }
    }

    fn problems(text: &str) -> String {
        let mut loader = Loader::for_test(text);
        loader.section::<Gateway>();
        loader.finish().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn the_defaults_are_good_and_bad_values_are_named() {
        assert_eq!(problems(""), "");
        let text =
            problems("[gateway.realtime]\noutgoing_max = 1\nping_timeout_ms = 1\nws_token_key = 'short'\nnope = 1");
        for name in ["outgoing_max", "ping_timeout_ms", "ws_token_key", "nope"] {
            assert!(text.contains(&format!("realtime.{name}")), "{name} in {text}");
        }
        assert!(!text.contains("short"), "{text}");
    }
}
