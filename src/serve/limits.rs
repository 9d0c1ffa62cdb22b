//! The limits of one listening port. Every number is here with its unit and its reason; `serve.rs` and
//! `serve/socket.rs` only obey them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Problems;

/// What one listening port allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeLimits {
    /// Connections open at once, upgraded ones included; default 16,000. Past it nothing is accepted until one ends.
    /// Below 20,000, which is the number of open files that many machines allow a process, so that the stores and the
    /// calls to other services never find none left.
    pub connections_max: usize,
    /// Milliseconds for a request's headers, counted from accepting or from the answer before; default 10,000. It ends
    /// clients that send a byte now and then to hold a place. As it also ends an idle HTTP/1.1 connection, a proxy in
    /// front should keep its idle connections for less.
    pub header_timeout_ms: u64,
    /// Handshakes of TLS in progress at once; default 2,000. Past it the one that has taken longest is ended: each holds some
    /// tens of kilobytes, so this bounds them at less than 100 MiB, and one that is meant is done in milliseconds.
    pub handshakes_max: usize,
    /// Milliseconds for a handshake of TLS; default 5,000: more than a phone on a bad network takes.
    pub handshake_ms: u64,
    /// Bytes of an HTTP/1.1 request's headers, and of the read buffer; default 32 KiB, at least 8 KiB. Browsers and
    /// proxies stay below 16 KiB.
    pub header_bytes_max: usize,
    /// Headers of an HTTP/1.1 request; default 100, which hyper parses without allocating.
    pub header_count_max: usize,
    /// Requests at once on one HTTP/2 connection, and requests that may be given up before they were looked at; default
    /// 1,024. A gateway sends a whole service's calls over one.
    pub http2_streams_max: u32,
    /// Bytes of an HTTP/2 request's headers after decompression; default 32 KiB, as in HTTP/1.1.
    pub http2_header_bytes_max: u32,
    /// Bytes of one HTTP/2 frame; default 16 KiB, the protocol's own minimum: larger ones make small answers wait.
    pub http2_frame_bytes_max: u32,
    /// Milliseconds between HTTP/2 pings; default 20,000, below the 60 s after which address translators forget.
    pub http2_ping_interval_ms: u64,
    /// Milliseconds for the answer to an HTTP/2 ping; default 20,000. Then the connection is taken for dead.
    pub http2_ping_timeout_ms: u64,
    /// Milliseconds that a waiting write may make no progress; default 20,000. Then the connection is ended: its peer
    /// has stopped reading, and what is queued for it must not stay in memory.
    pub write_timeout_ms: u64,
    /// Bytes that the kernel keeps for a peer that does not read; default 256 KiB, 0 for the system's own choice, which
    /// grows to several MiB a connection. Smaller means that a stalled peer is noticed sooner.
    pub send_buffer_bytes: usize,
    /// Milliseconds that open requests get to finish at shutdown; default 10,000. Then their connections are ended.
    pub drain_ms: u64,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 16_000,
            header_timeout_ms: 10_000,
            handshakes_max: 2_000,
            handshake_ms: 5_000,
            header_bytes_max: 32 * 1024,
            header_count_max: HEADER_COUNT_DEFAULT,
            http2_streams_max: 1024,
            http2_header_bytes_max: 32 * 1024,
            http2_frame_bytes_max: 16 * 1024,
            http2_ping_interval_ms: 20_000,
            http2_ping_timeout_ms: 20_000,
            write_timeout_ms: 20_000,
            send_buffer_bytes: 256 * 1024,
            drain_ms: 10_000,
        }
    }
}

/// What hyper allows by itself; only another number costs an allocation per request.
pub(super) const HEADER_COUNT_DEFAULT: usize = 100;

impl ServeLimits {
    /// Reports values that make no sense; `prefix` is where these limits stand in the section: `serve.`.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        let field = |name: &str| format!("{prefix}{name}");
        problems.range(&field("connections_max"), self.connections_max, 1, 1_000_000);
        problems.range(&field("header_timeout_ms"), self.header_timeout_ms, 1, 600_000);
        problems.range(&field("handshakes_max"), self.handshakes_max, 1, 1_000_000);
        problems.range(&field("handshake_ms"), self.handshake_ms, 1, 600_000);
        problems.range(&field("header_bytes_max"), self.header_bytes_max, 8 * 1024, 1024 * 1024);
        problems.range(&field("header_count_max"), self.header_count_max, 1, 1000);
        problems.range(&field("http2_streams_max"), self.http2_streams_max, 1, 1_000_000);
        problems.range(&field("http2_header_bytes_max"), self.http2_header_bytes_max, 4 * 1024, 1024 * 1024);
        problems.range(&field("http2_frame_bytes_max"), self.http2_frame_bytes_max, 16 * 1024, (1 << 24) - 1);
        problems.range(&field("http2_ping_interval_ms"), self.http2_ping_interval_ms, 100, 3_600_000);
        problems.range(&field("http2_ping_timeout_ms"), self.http2_ping_timeout_ms, 100, 3_600_000);
        problems.range(&field("write_timeout_ms"), self.write_timeout_ms, 1, 3_600_000);
        problems.range(&field("send_buffer_bytes"), self.send_buffer_bytes, 0, 64 * 1024 * 1024);
        problems.range(&field("drain_ms"), self.drain_ms, 0, 3_600_000);
    }

    pub(super) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(super) fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    pub(super) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    pub(super) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}
