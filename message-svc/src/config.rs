//! The settings of message-svc: the section `message`. Every number that bounds something is here with its reason; the
//! limits that clients feel are the contract's.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use mesh::config::{Loader, MeshConfig, Problems, Secret, Section};
use serde::{Deserialize, Serialize};

/// All that one message-svc process is configured with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every process shares.
    pub mesh: MeshConfig,
    /// What is this service's own.
    pub message: MessageSection,
}

impl Config {
    /// Reads both sections; `loader.finish()` tells what was wrong with them.
    pub fn load(loader: &mut Loader) -> Self {
        Self { mesh: loader.section(), message: loader.section() }
    }
}

/// The section `message`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageSection {
    /// The address to listen on. Default 127.0.0.1: what is open to others is opened on purpose.
    pub listen: IpAddr,
    /// The gRPC port. Default 50002.
    pub grpc_port: u16,
    /// The operations port. Default 3001.
    pub http_port: u16,
    /// Where rooms are kept: `sqlite:PATH`, `postgres://…` (`postgresql:` is the same), `mongodb://…` or
    /// `mongodb+srv://…`. Default empty: `messages.db` in the data folder. A secret, because it may hold a password.
    pub store_url: Secret,
    /// What clients may send and ask for.
    pub limits: Limits,
    /// The tasks that write.
    pub rooms: RoomsConfig,
    /// Sends that gateways bundle.
    pub sends: SendsConfig,
    /// Following rooms.
    pub watch: WatchConfig,
    /// Who types.
    pub typing: TypingConfig,
    /// Usernames from user-svc.
    pub names: NamesConfig,
    /// The embedded store.
    pub sqlite: SqliteConfig,
    /// PostgreSQL.
    pub postgres: PostgresConfig,
    /// MongoDB.
    pub mongodb: MongodbConfig,
}

impl Default for MessageSection {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            grpc_port: 50002,
            http_port: 3001,
            store_url: Secret::default(),
            limits: Limits::default(),
            rooms: RoomsConfig::default(),
            sends: SendsConfig::default(),
            watch: WatchConfig::default(),
            typing: TypingConfig::default(),
            names: NamesConfig::default(),
            sqlite: SqliteConfig::default(),
            postgres: PostgresConfig::default(),
            mongodb: MongodbConfig::default(),
        }
    }
}

/// What clients may send and ask for; the contract names these numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Characters of a room's name, after trimming. Default 100: a line.
    pub room_name_chars_max: usize,
    /// Characters of a room's description. Default 1,000: a paragraph.
    pub description_chars_max: usize,
    /// Members of one room. Default 100,000: a room's task keeps them in memory at about 150 bytes each.
    pub room_members_max: usize,
    /// Characters of a message. Default 8,000: a few pages of text.
    pub content_chars_max: usize,
    /// Bytes of a message. Default 32 KiB: 8,000 characters of any script.
    pub content_bytes_max: usize,
    /// Bytes of a message's metadata as compact JSON. Default 8 KiB.
    pub metadata_bytes_max: usize,
    /// Levels of a message's metadata. Default 16: what is deeper is no data but an attack on parsers.
    pub metadata_depth_max: usize,
    /// Characters of a client's id for a message. Default 64: a UUID or a hash.
    pub client_message_id_chars_max: usize,
    /// Things on a page when the caller does not say. Default 50.
    pub page_default: u32,
    /// Things on a page. Default 100.
    pub page_max: u32,
    /// Entries on a page of missed ones when the caller does not say. Default 100.
    pub entries_page_default: u32,
    /// Entries on a page of missed ones. Default 500: an hour of a lively room.
    pub entries_page_max: u32,
    /// Bytes of a page of entries. Default 1 MiB: a quarter of what a gRPC message may have.
    pub entries_page_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            room_name_chars_max: 100,
            description_chars_max: 1_000,
            room_members_max: 100_000,
            content_chars_max: 8_000,
            content_bytes_max: 32 << 10,
            metadata_bytes_max: 8 << 10,
            metadata_depth_max: 16,
            client_message_id_chars_max: 64,
            page_default: 50,
            page_max: 100,
            entries_page_default: 100,
            entries_page_max: 500,
            entries_page_bytes_max: 1 << 20,
        }
    }
}

/// The tasks that write, one per active room.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomsConfig {
    /// Rooms that have a task. Default 100,000: an idle task of a small room holds about 5 kB, and goes away.
    pub active_max: usize,
    /// Orders that wait in one room; more are refused. Default 1,024: a sixth of a second of the fastest room.
    pub queue_max: usize,
    /// Orders in one batch. Default 256: past some hundred, a longer batch only makes the first wait longer.
    pub batch_orders_max: usize,
    /// Bytes of one batch. Default 1 MiB: what a disk takes in one go.
    pub batch_bytes_max: usize,
    /// Seconds without an order after which a task ends and its memory is free. Default 60.
    pub idle_secs: u64,
    /// Milliseconds in which a batch must be settled, whose outcome is unknown or which others displace, before its
    /// callers are told to try again. Default 5,000: a store that is away for longer is down.
    pub settle_ms: u64,
}

impl Default for RoomsConfig {
    fn default() -> Self {
        Self {
            active_max: 100_000,
            queue_max: 1_024,
            batch_orders_max: 256,
            batch_bytes_max: 1 << 20,
            idle_secs: 60,
            settle_ms: 5_000,
        }
    }
}

/// The streams on which gateways send for their users.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SendsConfig {
    /// Messages in progress on one stream; behind them it is read no further. Default 8,192: what some hundred busy rooms
    /// commit at a time, at a kilobyte or two each unless they are long.
    pub in_progress_max: usize,
    /// Bytes of one answer, over which no more results are put into it. Default 1 MiB: a quarter of what a gRPC message
    /// may have.
    pub answer_bytes_max: usize,
}

impl Default for SendsConfig {
    fn default() -> Self {
        Self { in_progress_max: 8_192, answer_bytes_max: 1 << 20 }
    }
}

/// Following rooms.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// Batches that a watcher may lag behind before it reads from the store. Default 16: each followed room has space
    /// for them, 50 bytes a batch.
    pub hints_max: usize,
    /// Milliseconds between two looks at the watched rooms' ends in the store, which find what another process wrote.
    /// Default 1,000.
    pub poll_ms: u64,
    /// Rooms that one stream of a gateway may follow. Default 50,000: as many sockets as a gateway has, and some rooms
    /// each.
    pub rooms_max: usize,
    /// Responses that wait for a reader; behind them its rooms wait without taking memory. Default 256.
    pub queue_max: usize,
    /// Seconds without the reader taking anything after which a stream ends. Default 30: the time of a bad handover
    /// between networks.
    pub stall_secs: u64,
    /// Seconds for which a watcher waits for a store that is away before its stream ends. Default 30.
    pub patience_secs: u64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { hints_max: 16, poll_ms: 1_000, rooms_max: 50_000, queue_max: 256, stall_secs: 30, patience_secs: 30 }
    }
}

/// Who types.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypingConfig {
    /// Seconds after which a start ends by itself. Default 5.
    pub secs: u64,
    /// People who type at once; more are not shown. Default 100,000 at about 100 bytes.
    pub people_max: usize,
}

impl Default for TypingConfig {
    fn default() -> Self {
        Self { secs: 5, people_max: 100_000 }
    }
}

/// Usernames from user-svc.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamesConfig {
    /// Usernames kept. Default 100,000 at about 150 bytes.
    pub names_max: u64,
    /// Seconds for which a name is good without asking. Default 60: a rename is seen within a minute.
    pub fresh_secs: u64,
    /// Milliseconds to wait for user-svc. Default 2,000: a send waits for it once per user.
    pub wait_ms: u64,
    /// Seconds for which a stale name is used without asking again after user-svc did not answer. Default 5.
    pub pause_secs: u64,
}

impl Default for NamesConfig {
    fn default() -> Self {
        Self { names_max: 100_000, fresh_secs: 60, wait_ms: 2_000, pause_secs: 5 }
    }
}

/// The embedded store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqliteConfig {
    /// Connections that read. Default 4: reads are short and mostly from memory.
    pub readers_max: u32,
    /// Entries in one transaction over all rooms. Default 2,048: some tens of milliseconds of writing.
    pub commit_entries_max: usize,
    /// Batches that wait for the committer. Default 4,096: each room has one at most, so more rooms than that wait here.
    pub commit_queue_max: usize,
    /// Milliseconds to wait for a lock that another process holds, and for a reading connection. Default 5,000.
    pub busy_ms: u64,
    /// Pages of 4 KiB in the write-ahead log at which the last of it is copied back within a commit; most of it has been
    /// copied beside the commits by then. Default 16,384 (64 MiB): a page that is written often is copied once.
    pub checkpoint_pages: u32,
    /// KiB of page cache of the writing connection. Default 65,536.
    pub cache_kib: u32,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            readers_max: 4,
            commit_entries_max: 2_048,
            commit_queue_max: 4_096,
            busy_ms: 5_000,
            checkpoint_pages: 16_384,
            cache_kib: 65_536,
        }
    }
}

/// PostgreSQL.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// Connections that read. Default 12: with those that write, a process has as many as one of the other services.
    pub readers_max: u32,
    /// Connections that write, and so commits at once. Default 4: while one waits for the disk the next ones are filled;
    /// more of them make smaller commits, and each costs the server as much as some ten messages.
    pub writers_max: u32,
    /// Milliseconds to wait for a connection. Default 2,000.
    pub connect_ms: u64,
    /// Milliseconds that one call to the store may take in all; a write has half of them to wait for its turn and half to
    /// be done. The server is told to give up after them too. Default 4,000: less than the 5 s that other services wait
    /// (`mesh.grpc.call_deadline_ms`), so that they hear what is wrong instead of nothing.
    pub call_ms: u64,
    /// Seconds that the service waits at its start for a store that is not there yet. Default 60: what a database takes
    /// that starts beside it.
    pub start_secs: u64,
    /// Entries in one commit over all rooms. Default 2,048: some tens of milliseconds of writing.
    pub commit_entries_max: usize,
    /// Bytes after which no more rooms are taken into a commit. Default 4 MiB: as much as a slow network brings in time.
    pub commit_bytes_max: usize,
    /// Batches that wait for a writer. Default 4,096: each room has one at most, so more rooms than that wait here.
    pub commit_queue_max: usize,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            readers_max: 12,
            writers_max: 4,
            connect_ms: 2_000,
            call_ms: 4_000,
            start_secs: 60,
            commit_entries_max: 2_048,
            commit_bytes_max: 4 << 20,
            commit_queue_max: 4_096,
        }
    }
}

impl PostgresConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.range("postgres.readers_max", self.readers_max, 1, 1_000);
        problems.range("postgres.writers_max", self.writers_max, 1, 64);
        problems.range("postgres.connect_ms", self.connect_ms, 10, 60_000);
        problems.range("postgres.call_ms", self.call_ms, 10, 60_000);
        problems.range("postgres.start_secs", self.start_secs, 0, 3_600);
        problems.range("postgres.commit_entries_max", self.commit_entries_max, 1, 100_000);
        problems.range("postgres.commit_bytes_max", self.commit_bytes_max, 1, 256 << 20);
        problems.range("postgres.commit_queue_max", self.commit_queue_max, 1, 1 << 20);
    }
}

/// MongoDB. What the URL says of the first three counts more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MongodbConfig {
    /// Connections to one server, and calls to the store at once; more wait. Default 64: a write holds its connection
    /// until most of the replica set has it on disk, so this many rooms write at the same time.
    pub connections_max: u32,
    /// Milliseconds to reach a server. Default 2,000.
    pub connect_ms: u64,
    /// Milliseconds that a call waits for a primary to be known. Default 3,000: less than an election takes at worst,
    /// because callers would rather try again than hear nothing.
    pub select_ms: u64,
    /// Milliseconds that one call to the store may take in all; the server is told to give up after them too. Default
    /// 4,000: less than the 5 s that other services wait (`mesh.grpc.call_deadline_ms`), so that they hear what is wrong
    /// instead of nothing.
    pub call_ms: u64,
    /// Seconds that the service waits at its start for a store that is not there yet. Default 60: what a database takes
    /// that starts beside it.
    pub start_secs: u64,
}

impl Default for MongodbConfig {
    fn default() -> Self {
        Self { connections_max: 64, connect_ms: 2_000, select_ms: 3_000, call_ms: 4_000, start_secs: 60 }
    }
}

impl MongodbConfig {
    /// How long one call may take.
    #[must_use]
    pub fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    fn validate(&self, problems: &mut Problems) {
        problems.range("mongodb.connections_max", self.connections_max, 1, 1_000);
        problems.range("mongodb.connect_ms", self.connect_ms, 10, 60_000);
        problems.range("mongodb.select_ms", self.select_ms, 10, 60_000);
        problems.range("mongodb.call_ms", self.call_ms, 10, 60_000);
        problems.range("mongodb.start_secs", self.start_secs, 0, 3_600);
    }
}

impl Section for MessageSection {
    const NAME: &'static str = "message";

    fn validate(&self, problems: &mut Problems) {
        let scheme = self.store_url.expose().split(':').next().unwrap_or_default();
        if !matches!(scheme, "" | "sqlite" | "postgres" | "postgresql" | "mongodb" | "mongodb+srv") {
            let known = "must be empty or begin with sqlite:, postgres:, postgresql:, mongodb: or mongodb+srv:";
            problems.push("store_url", known);
        }
        self.postgres.validate(problems);
        self.mongodb.validate(problems);
        let limits = &self.limits;
        problems.range("limits.page_max", limits.page_max, 1, 1_000);
        problems.range("limits.page_default", limits.page_default, 1, limits.page_max);
        problems.range("limits.entries_page_max", limits.entries_page_max, 1, 10_000);
        problems.range("limits.entries_page_default", limits.entries_page_default, 1, limits.entries_page_max);
        problems.range("limits.metadata_depth_max", limits.metadata_depth_max, 1, 64);
        problems.range("limits.client_message_id_chars_max", limits.client_message_id_chars_max, 36, 1_024);
        problems.range("rooms.queue_max", self.rooms.queue_max, 1, 1 << 20);
        problems.range("rooms.batch_orders_max", self.rooms.batch_orders_max, 1, 10_000);
        problems.range("rooms.idle_secs", self.rooms.idle_secs, 1, 86_400);
        problems.range("rooms.settle_ms", self.rooms.settle_ms, 100, 60_000);
        problems.range("sends.in_progress_max", self.sends.in_progress_max, 256, 1 << 20);
        problems.range("sends.answer_bytes_max", self.sends.answer_bytes_max, 1 << 16, 1 << 20);
        problems.range("watch.hints_max", self.watch.hints_max, 1, 1 << 16);
        problems.range("watch.poll_ms", self.watch.poll_ms, 10, 60_000);
        problems.range("watch.queue_max", self.watch.queue_max, 1, 1 << 16);
        problems.range("typing.secs", self.typing.secs, 1, 60);
        problems.range("sqlite.readers_max", self.sqlite.readers_max, 1, 64);
        problems.range("sqlite.commit_entries_max", self.sqlite.commit_entries_max, 1, 100_000);
        problems.range("sqlite.commit_queue_max", self.sqlite.commit_queue_max, 1, 1 << 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_a_bad_value_is_named() {
        let mut loader = Loader::for_test("");
        let _: MessageSection = loader.section();
        assert!(loader.finish().is_ok());

        for scheme in
            ["sqlite:rooms.db", "postgres://db", "postgresql://db", "mongodb://db", "mongodb+srv://db.example"]
        {
            let mut loader = Loader::for_test(&format!("[message]\nstore_url = '{scheme}'\n"));
            let _: MessageSection = loader.section();
            assert!(loader.finish().is_ok(), "{scheme}");
        }

        let mut loader = Loader::for_test("[message]\nstore_url = 'ftp:x'\n[message.limits]\npage_max = 0\n");
        let _: MessageSection = loader.section();
        let error = loader.finish().expect_err("two bad values").to_string();
        assert!(error.contains("message.store_url") && error.contains("message.limits.page_max"), "{error}");
    }
}
