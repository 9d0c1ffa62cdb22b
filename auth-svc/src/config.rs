//! The settings of auth-svc: the section `auth`, beside the section `mesh` that all processes share. Each field says
//! its unit, its default and the reason; parts of the service are built from it in `lib.rs`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use mesh::config::{Loader, MeshConfig, Problems, Secret, Section, StoreLimits};
use serde::{Deserialize, Serialize};

use crate::{
    api_key::ApiKeyLimits,
    deletion::{DeletionLimits, ErasedMessages, EraserLimits},
    factor::FactorLimits,
    invitation::{InvitationLimits, RegistrationMode},
    mail::EmailConfig,
    outbox::OutboxLimits,
    password::{PasswordLimits, PasswordRules},
    revocation::FeedLimits,
    session::SessionLimits,
    signing::KeyLimits,
};

const DAY_SECS: u64 = 24 * 60 * 60;
/// The contract's: a heartbeat a second.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Revocations remembered for live followers: some 300 kB, and minutes of the busiest service.
const FEED_MEMORY_MAX: usize = 8192;

/// All that auth-svc is told.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What every process is told.
    pub mesh: MeshConfig,
    /// What only this one is told.
    pub auth: AuthSection,
}

impl Config {
    /// Reads both sections; the loader collects what is wrong with them.
    #[must_use]
    pub fn load(loader: &mut Loader) -> Self {
        Self { mesh: loader.section(), auth: loader.section() }
    }
}

/// The section `auth`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSection {
    /// The address to listen on. Default 127.0.0.1: nobody else reaches a service that was not told to be reached.
    pub listen: IpAddr,
    /// The port of gRPC. Default 50001.
    pub grpc_port: u16,
    /// The port of `/health`, `/ready` and `/metrics`. Default 3002.
    pub http_port: u16,
    /// Where accounts are kept: `sqlite:PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` (`postgresql:` is the
    /// same). Default empty: `auth.db` in the data folder. A secret for the password's sake.
    pub store_url: Secret,
    /// Connections that read SQLite. Default 4: reads are short, and one writer keeps few readers busy.
    pub store_readers: u32,
    /// Bounds and patience with a store that is a server of its own.
    pub store: StoreLimits,
    /// Who may register: `open` for everybody, `invitation` for whoever an admin has invited, `closed` for nobody. Default
    /// `open`: a product that nobody can enter is not what one starts with.
    pub registration: RegistrationMode,
    /// Seconds that an invitation is good, unless its maker says otherwise. Default 7 days: enough to be read after a
    /// holiday, too short to lie about for ever.
    pub invitation_secs: u64,
    /// Invitations that have not expired, used or not; more are refused. Default 1,000: more than people hand out in a
    /// week, and a bound on what a lost admin's session can prepare.
    pub invitations_max: u32,
    /// Days that an API key is good, unless its maker says otherwise. Default 365: a key that is never renewed is one that
    /// nobody remembers.
    pub api_key_days: u32,
    /// API keys of one service account that have not expired; more are refused. Default 20: two for each program that calls
    /// as it, so that one can follow the other.
    pub api_keys_per_account_max: u32,
    /// Days between the deletion of an account and its erasing, in which its owner may log in and have it back; 0 for none.
    /// Default 14: whoever was tricked, or regrets it, notices within two weeks, and it stays below the month within which
    /// people may ask for it by law.
    pub deletion_grace_days: u32,
    /// What becomes of the messages of a deleted account: `keep` for the text without its author's name, `blank` for nothing
    /// but the place. Default `keep`: what others answered to stays readable.
    pub deletion_messages: ErasedMessages,
    /// Seconds that an access token lives, from 60 to 30 days. Default 900: what a stolen one is worth, since its
    /// session can be revoked at any time. A client that never refreshes needs 2,592,000.
    pub access_ttl_secs: u64,
    /// Days after which a new key signs access tokens; 0 for never by itself. Default 90: whoever got hold of one has it for
    /// a quarter of a year at most.
    pub key_days: u32,
    /// Seconds that a new key is known to everybody before it signs. Default 600: twice as long as caches keep
    /// `/.well-known/jwks.json`.
    pub key_lead_secs: u64,
    /// Seconds that a session lives without a refresh. Default 7 days: a device that is used weekly stays logged in.
    pub refresh_idle_secs: u64,
    /// Seconds that a session lives at most. Default 90 days: then the password is asked for again.
    pub session_secs_max: u64,
    /// Seconds that a proof of who one is (a login, a password given again) is enough for a sensitive call. Default 600:
    /// long enough to find the button, too short for whoever finds the laptop open.
    pub fresh_secs: u64,
    /// What authenticator apps call this installation, 1–64 characters without a colon. Default `Switchboard`.
    pub mfa_issuer: String,
    /// Seconds between the password and the code of a login. Default 300: enough to find the phone.
    pub mfa_ticket_secs: u64,
    /// Seconds that a remembered device need not give a code; 0 for never. Default 30 days: each device is asked monthly.
    pub remember_device_secs: u64,
    /// Devices of one account that are remembered; one more forgets the oldest. Default 20.
    pub remembered_devices_max: u32,
    /// A database of places in `MaxMind`'s format (`.mmdb`), for people who look at their sessions. Default empty: places
    /// stay empty too.
    pub places: std::path::PathBuf,
    /// Days that the audit log is kept, which is also how far back people see their logins. Default 180.
    pub audit_keep_days: u32,
    /// Live sessions of one account; one more ends the one that was not used for longest. Default 50, more than a
    /// person has devices.
    pub sessions_per_account_max: u32,
    /// Argon2id's memory in KiB. Default 19,456 (19 MiB), as OWASP advises for two passes.
    pub argon2_memory_kib: u32,
    /// Argon2id's passes. Default 2.
    pub argon2_passes: u32,
    /// Argon2id's lanes. Default 1: the pool uses the cores already.
    pub argon2_lanes: u32,
    /// How hard a new password must be to guess, as zxcvbn scores it from 0 to 4. Default 2: none of the 30,000 most common
    /// ones or their spellings, at least a million guesses, which the limits of logins make a matter of years.
    pub password_score_min: u8,
    /// Words that make a password easy to guess here: names of the organisation, its products and places, at most 100 of
    /// 3–100 characters. Default empty: what they are is for the operator to say.
    pub password_words: Vec<String>,
    /// A list of passwords that are known from breaches: `SHA1:COUNT` a line in the order of the hashes, as Have I Been
    /// Pwned gives it to download. Default empty: none.
    pub breached_passwords: std::path::PathBuf,
    /// Threads that hash passwords; 0 for one a core. Default 0.
    pub password_workers: u32,
    /// Passwords that wait for a thread; more are refused with `RATE_LIMITED`. Default 128: some two seconds of waiting
    /// on two cores.
    pub password_queue_max: u32,
    /// Milliseconds between two looks for revocations that another replica wrote. Default 250: within P6's second,
    /// with time left for the way to the gateways.
    pub revocation_poll_ms: u64,
    /// Seconds that a revocation is kept at least, also when no access token of its session lives. Default 3,600: a
    /// gateway that was cut off for so long still learns which sockets to close.
    pub revocation_keep_secs: u64,
    /// Streams that follow revocations at a time. Default 1,024: one a process of the mesh.
    pub followers_max: u32,
    /// Milliseconds that registering and renaming wait for user-svc; the outbox delivers later what it missed. Default
    /// 2,000.
    pub user_deadline_ms: u64,
    /// Milliseconds between two looks for news that is due to user-svc. Default 1,000.
    pub outbox_poll_ms: u64,
    /// Milliseconds between two attempts to deliver, at most. Default 30,000: user-svc is whole soon after it is back.
    pub outbox_retry_ms_max: u64,
    /// Seconds between two rounds of forgetting what has expired. Default 60.
    pub upkeep_secs: u64,
    /// Outgoing mail.
    pub email: EmailConfig,
}

impl Default for AuthSection {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            grpc_port: 50001,
            http_port: 3002,
            store_url: Secret::default(),
            store_readers: 4,
            store: StoreLimits::default(),
            registration: RegistrationMode::Open,
            invitation_secs: 7 * DAY_SECS,
            invitations_max: 1_000,
            api_key_days: 365,
            api_keys_per_account_max: 20,
            deletion_grace_days: 14,
            deletion_messages: ErasedMessages::Keep,
            access_ttl_secs: 900,
            key_days: 90,
            key_lead_secs: 600,
            refresh_idle_secs: 7 * DAY_SECS,
            session_secs_max: 90 * DAY_SECS,
            fresh_secs: 600,
            mfa_issuer: "Switchboard".to_owned(),
            mfa_ticket_secs: 300,
            remember_device_secs: 30 * DAY_SECS,
            remembered_devices_max: 20,
            places: std::path::PathBuf::new(),
            audit_keep_days: 180,
            sessions_per_account_max: 50,
            argon2_memory_kib: 19_456,
            argon2_passes: 2,
            argon2_lanes: 1,
            password_score_min: 2,
            password_words: Vec::new(),
            breached_passwords: std::path::PathBuf::new(),
            password_workers: 0,
            password_queue_max: 128,
            revocation_poll_ms: 250,
            revocation_keep_secs: 3_600,
            followers_max: 1_024,
            user_deadline_ms: 2_000,
            outbox_poll_ms: 1_000,
            outbox_retry_ms_max: 30_000,
            upkeep_secs: 60,
            email: EmailConfig::default(),
        }
    }
}

impl Section for AuthSection {
    const NAME: &'static str = "auth";

    fn validate(&self, problems: &mut Problems) {
        let scheme = self.store_url.expose().split(':').next().unwrap_or_default();
        if !matches!(scheme, "" | "sqlite" | "postgres" | "postgresql") {
            problems.push("store_url", "must be empty or begin with sqlite:, postgres: or postgresql:");
        }
        self.store.validate("store.", problems);
        problems.range("store_readers", self.store_readers, 1, 64);
        problems.range("invitation_secs", self.invitation_secs, 60, 90 * DAY_SECS);
        problems.range("invitations_max", self.invitations_max, 1, 1_000_000);
        problems.range("api_key_days", self.api_key_days, 1, 1_095);
        problems.range("api_keys_per_account_max", self.api_keys_per_account_max, 1, 10_000);
        problems.range("deletion_grace_days", self.deletion_grace_days, 0, 365);
        problems.range("access_ttl_secs", self.access_ttl_secs, 60, 30 * DAY_SECS);
        problems.range("key_days", self.key_days, 0, 3_650);
        problems.range("key_lead_secs", self.key_lead_secs, 1, 30 * DAY_SECS);
        problems.range("refresh_idle_secs", self.refresh_idle_secs, 60, 400 * DAY_SECS);
        problems.range("session_secs_max", self.session_secs_max, 60, 400 * DAY_SECS);
        if self.session_secs_max < self.refresh_idle_secs.max(self.access_ttl_secs) {
            problems.push("session_secs_max", "must not be less than refresh_idle_secs or access_ttl_secs");
        }
        problems.range("fresh_secs", self.fresh_secs, 1, DAY_SECS);
        let issuer = self.mfa_issuer.as_str();
        if !(1..=64).contains(&issuer.chars().count()) || issuer.contains(':') || issuer.chars().any(char::is_control) {
            problems.push("mfa_issuer", "must have 1–64 characters, none of them a colon");
        }
        problems.range("mfa_ticket_secs", self.mfa_ticket_secs, 10, 3_600);
        problems.range("remember_device_secs", self.remember_device_secs, 0, 400 * DAY_SECS);
        problems.range("remembered_devices_max", self.remembered_devices_max, 1, 1_000);
        problems.range("audit_keep_days", self.audit_keep_days, 1, 36_500);
        problems.range("sessions_per_account_max", self.sessions_per_account_max, 1, 10_000);
        // 7 MiB is the least that OWASP lists, with five passes.
        problems.range("argon2_memory_kib", self.argon2_memory_kib, 7 * 1024, 4 * 1024 * 1024);
        problems.range("argon2_passes", self.argon2_passes, 1, 100);
        problems.range("argon2_lanes", self.argon2_lanes, 1, 64);
        problems.range("password_score_min", self.password_score_min, 0, 4);
        if self.password_words.len() > 100
            || self.password_words.iter().any(|word| !(3..=100).contains(&word.chars().count()))
        {
            problems.push("password_words", "must be at most 100 words of 3–100 characters");
        }
        problems.range("password_workers", self.password_workers, 0, 1024);
        problems.range("password_queue_max", self.password_queue_max, 1, 100_000);
        problems.range("revocation_poll_ms", self.revocation_poll_ms, 10, 1_000);
        problems.range("revocation_keep_secs", self.revocation_keep_secs, 60, 30 * DAY_SECS);
        problems.range("followers_max", self.followers_max, 1, 100_000);
        problems.range("user_deadline_ms", self.user_deadline_ms, 10, 30_000);
        problems.range("outbox_poll_ms", self.outbox_poll_ms, 10, 60_000);
        problems.range("outbox_retry_ms_max", self.outbox_retry_ms_max, 10, 3_600_000);
        problems.range("upkeep_secs", self.upkeep_secs, 1, 3_600);
        self.email.validate("email.", problems);
    }
}

impl AuthSection {
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

    pub(crate) fn access_ttl(&self) -> Duration {
        Duration::from_secs(self.access_ttl_secs)
    }

    pub(crate) fn keys(&self) -> KeyLimits {
        KeyLimits {
            every: (self.key_days > 0).then(|| Duration::from_secs(u64::from(self.key_days) * DAY_SECS)),
            lead: Duration::from_secs(self.key_lead_secs),
            token_life: self.access_ttl(),
        }
    }

    pub(crate) fn passwords(&self) -> PasswordLimits {
        PasswordLimits {
            memory_kib: self.argon2_memory_kib,
            passes: self.argon2_passes,
            lanes: self.argon2_lanes,
            workers: self.password_workers,
            queue_max: self.password_queue_max,
        }
    }

    pub(crate) fn rules(&self) -> PasswordRules {
        PasswordRules {
            score_min: self.password_score_min,
            breached: self.breached_passwords.clone(),
            words: self.password_words.clone(),
        }
    }

    pub(crate) fn sessions(&self) -> SessionLimits {
        SessionLimits {
            idle: Duration::from_secs(self.refresh_idle_secs),
            life_max: Duration::from_secs(self.session_secs_max),
            per_account_max: self.sessions_per_account_max,
            revocation_keep: Duration::from_secs(self.revocation_keep_secs),
            fresh: Duration::from_secs(self.fresh_secs),
        }
    }

    pub(crate) fn invitations(&self) -> InvitationLimits {
        InvitationLimits { life: Duration::from_secs(self.invitation_secs), open_max: self.invitations_max }
    }

    pub(crate) fn api_keys(&self) -> ApiKeyLimits {
        ApiKeyLimits {
            life: Duration::from_secs(u64::from(self.api_key_days) * DAY_SECS),
            per_account_max: self.api_keys_per_account_max,
        }
    }

    /// `silence` is how long a part of the mesh may hear nothing of revocations before it asks about every token.
    pub(crate) fn deletion(&self, silence: Duration) -> DeletionLimits {
        DeletionLimits {
            grace: Duration::from_secs(u64::from(self.deletion_grace_days) * DAY_SECS),
            // And what was accepted in that last moment has been written.
            settle: silence + Duration::from_secs(2),
        }
    }

    /// `patience` is how long one call to another service may take.
    pub(crate) fn eraser(&self, patience: Duration) -> EraserLimits {
        EraserLimits {
            patience,
            poll: Duration::from_millis(self.outbox_poll_ms),
            retry_max: Duration::from_millis(self.outbox_retry_ms_max),
            revocation_keep: Duration::from_secs(self.revocation_keep_secs),
            messages: self.deletion_messages,
        }
    }

    pub(crate) fn factors(&self) -> FactorLimits {
        FactorLimits {
            issuer: self.mfa_issuer.clone(),
            ticket: Duration::from_secs(self.mfa_ticket_secs),
            remember: Duration::from_secs(self.remember_device_secs),
            devices_max: self.remembered_devices_max,
        }
    }

    pub(crate) fn feed(&self) -> FeedLimits {
        FeedLimits {
            poll: Duration::from_millis(self.revocation_poll_ms),
            heartbeat: HEARTBEAT,
            memory_max: FEED_MEMORY_MAX,
            followers_max: self.followers_max,
        }
    }

    pub(crate) fn outbox(&self) -> OutboxLimits {
        OutboxLimits {
            patience: Duration::from_millis(self.user_deadline_ms),
            poll: Duration::from_millis(self.outbox_poll_ms),
            retry_max: Duration::from_millis(self.outbox_retry_ms_max),
        }
    }

    pub(crate) fn audit_keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.audit_keep_days) * DAY_SECS)
    }

    pub(crate) fn upkeep(&self) -> Duration {
        Duration::from_secs(self.upkeep_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_an_access_token_may_live_for_30_days() {
        for text in ["", "[auth]\naccess_ttl_secs = 2592000"] {
            let mut loader = Loader::for_test(text);
            let config = Config::load(&mut loader);
            loader.finish().expect("good");
            assert!(config.auth.sessions().life_max >= config.auth.access_ttl());
        }
    }

    #[test]
    fn values_that_make_no_sense_are_named_and_the_password_in_a_url_is_not_shown() {
        let text = "[auth]\naccess_ttl_secs = 59\nstore_url = \"mysql://me:hunter2@host/db\"\nsession_secs_max = 3600
                    [auth.store]\nconnections_max = 0";
        let mut loader = Loader::for_test(text);
        let config = Config::load(&mut loader);
        let settings = format!("{:?}", loader.settings());
        let error = loader.finish().expect_err("bad").to_string();
        for field in ["auth.access_ttl_secs", "auth.store_url", "auth.session_secs_max", "auth.store.connections_max"] {
            assert!(error.contains(field), "{field} is missing in {error}");
        }
        assert!(!format!("{error}{config:?}{settings}").contains("hunter2"));
    }
}
