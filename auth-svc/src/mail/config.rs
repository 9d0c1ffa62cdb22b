//! The settings `auth.email`: whether mail goes out, by which server, how much of it, and how long links are good.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use mesh::config::{Problems, Profile, Secret};
use serde::{Deserialize, Serialize};

use super::{MailLimits, MailerLimits};

const HOUR_SECS: u64 = 60 * 60;
const DAY_SECS: u64 = 24 * HOUR_SECS;

/// How the connection to the server of outgoing mail is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// TLS from the first byte on.
    Implicit,
    /// TLS by STARTTLS, without which nothing is sent.
    #[default]
    Starttls,
    /// None: for a server on this machine, and for development.
    None,
}

/// The settings `auth.email`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmailConfig {
    /// Whether mail is sent at all. Default true: people who forget their password need it. Without `smtp_host` a laptop shows
    /// its mails at the operations port (`/mailbox`), and an installation in production sends none, as with false.
    pub enabled: bool,
    /// The server that takes outgoing mail, by its name or address. Default empty: none.
    pub smtp_host: String,
    /// Its port; 0 for the usual one: 465 with `implicit`, 587 with `starttls`, 25 with `none`. Default 0.
    pub smtp_port: u16,
    /// How the connection is secured: `implicit` for TLS from the first byte on, `starttls` for TLS by that command, without
    /// which nothing is sent, `none` for a server on this machine or in development. Default `starttls`.
    pub smtp_tls: Security,
    /// A file of certificates (PEM) that are trusted besides the public authorities, for a server with one of its own. Default
    /// empty: none.
    pub smtp_ca_file: PathBuf,
    /// The user to log in as. Default empty: no login.
    pub smtp_user: Secret,
    /// The password of that user.
    pub smtp_password: Secret,
    /// Seconds that one mail may take, from connecting to the server's word that it has it. Default 20: servers look at mail
    /// before they take it, and a hanging one holds up eight mails at most.
    pub smtp_timeout_secs: u64,
    /// Who the mails are from: an address, or `Name <address>`. Default `Switchboard <no-reply@localhost>`, which no server
    /// on the Internet takes.
    pub sender: String,
    /// What the links in mails begin with: the page that reads the token behind the `#`. Default `http://localhost:3000/`, the
    /// built-in page, in one process at whatever port it has; production wants `https:`.
    pub link_url: String,
    /// A folder with templates that take the place of the built-in ones: `password_reset.txt`, `password_reset.html` and so
    /// on. Default empty: the built-in ones.
    pub templates: PathBuf,
    /// Seconds that a link for a new password is good. Default 3,600: enough for a slow mailbox, too short to lie about.
    pub reset_secs: u64,
    /// Seconds that a link that verifies an address is good. Default 3 days: people register on a Friday.
    pub verification_secs: u64,
    /// Whether an address must be verified before its account logs in; registering opens no session then. Default false.
    pub require_verified: bool,
    /// Whether people are told by mail of a changed password, a changed second factor, and a login from a device that has not
    /// logged in before. Default true: it is how somebody notices that it was not they.
    pub notices: bool,
    /// Mails with links that one account gets in an hour; more that are asked for are not sent. Default 6: a person who
    /// tries again, and no way to fill a mailbox.
    pub account_hourly_max: u32,
    /// The same for one address, whichever accounts it had. Default 6.
    pub address_hourly_max: u32,
    /// Mails that wait; more are refused with `RATE_LIMITED`. Default 10,000: some 5 MB, and an hour of a busy day while the
    /// server is away.
    pub waiting_max: u32,
    /// How often one mail is tried. Default 50: with the waits between, more than a day.
    pub attempts_max: u32,
    /// Seconds for which one mail is tried, at most; a mail with a link no longer than that is good. Default 86,400: after a
    /// day it is no news.
    pub age_secs_max: u64,
    /// Seconds between two tries at most. Default 1,800: servers that put off unknown senders want some minutes.
    pub retry_secs_max: u64,
    /// Mails that the mailbox of a laptop keeps; the oldest makes room. Default 100.
    pub mailbox_max: u32,
}

impl Default for EmailConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            smtp_host: String::new(),
            smtp_port: 0,
            smtp_tls: Security::Starttls,
            smtp_ca_file: PathBuf::new(),
            smtp_user: Secret::default(),
            smtp_password: Secret::default(),
            smtp_timeout_secs: 20,
            sender: "Switchboard <no-reply@localhost>".to_owned(),
            link_url: "http://localhost:3000/".to_owned(),
            templates: PathBuf::new(),
            reset_secs: HOUR_SECS,
            verification_secs: 3 * DAY_SECS,
            require_verified: false,
            notices: true,
            account_hourly_max: 6,
            address_hourly_max: 6,
            waiting_max: 10_000,
            attempts_max: 50,
            age_secs_max: DAY_SECS,
            retry_secs_max: 1_800,
            mailbox_max: 100,
        }
    }
}

/// Where mails go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nowhere.
    Nowhere,
    /// Into the mailbox at the operations port.
    Mailbox,
    /// To a server.
    Smtp,
}

impl EmailConfig {
    pub(crate) fn validate(&self, prefix: &str, problems: &mut Problems) {
        let name = |field: &str| format!("{prefix}{field}");
        if self.smtp_host.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@')) {
            problems.push(name("smtp_host"), "must be the name or address of a server, without a scheme or a port");
        }
        if self.smtp_user.is_empty() != self.smtp_password.is_empty() {
            problems.push(name("smtp_user"), "must be given together with smtp_password, or neither");
        }
        if let Err(error) = self.sender.parse::<lettre::message::Mailbox>() {
            problems.push(name("sender"), format!("must be an address, or `Name <address>`: {error}"));
        }
        if let Err(message) = base_url(&self.link_url) {
            problems.push(name("link_url"), message);
        }
        problems.range(&name("smtp_timeout_secs"), self.smtp_timeout_secs, 1, 300);
        problems.range(&name("reset_secs"), self.reset_secs, 60, DAY_SECS);
        problems.range(&name("verification_secs"), self.verification_secs, 60, 30 * DAY_SECS);
        problems.range(&name("account_hourly_max"), self.account_hourly_max, 1, 1_000);
        problems.range(&name("address_hourly_max"), self.address_hourly_max, 1, 1_000);
        problems.range(&name("waiting_max"), self.waiting_max, 1, 1_000_000);
        problems.range(&name("attempts_max"), self.attempts_max, 1, 1_000);
        problems.range(&name("age_secs_max"), self.age_secs_max, 60, 7 * DAY_SECS);
        problems.range(&name("retry_secs_max"), self.retry_secs_max, 1, DAY_SECS);
        problems.range(&name("mailbox_max"), self.mailbox_max, 1, 10_000);
    }

    /// Where mails go under this profile.
    ///
    /// # Errors
    /// One sentence about what may be in development alone.
    pub(super) fn way(&self, profile: Profile) -> Result<Way, String> {
        let production = profile == Profile::Production;
        let way = match (self.enabled, self.smtp_host.is_empty()) {
            (false, _) => Way::Nowhere,
            (true, true) if production => Way::Nowhere,
            (true, true) => Way::Mailbox,
            (true, false) => Way::Smtp,
        };
        if way == Way::Nowhere && self.require_verified {
            return Err(
                "auth.email.require_verified wants mail: set auth.email.smtp_host, or nobody gets in".to_owned()
            );
        }
        if way == Way::Smtp && production {
            if self.smtp_tls == Security::None && !is_loopback(&self.smtp_host) {
                return Err("auth.email.smtp_tls is none, which in production is for a server on this machine alone: \
                     set it to starttls or implicit"
                    .to_owned());
            }
            if !self.link_url.starts_with("https:") {
                return Err(
                    "auth.email.link_url must begin with https: in production: its links carry tokens".to_owned()
                );
            }
        }
        Ok(way)
    }

    pub(crate) fn port(&self) -> u16 {
        match (self.smtp_port, self.smtp_tls) {
            (0, Security::Implicit) => 465,
            (0, Security::Starttls) => 587,
            (0, Security::None) => 25,
            (port, _) => port,
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.smtp_timeout_secs)
    }

    pub(crate) fn limits(&self, enabled: bool) -> MailLimits {
        MailLimits {
            enabled,
            notices: self.notices,
            require_verified: self.require_verified,
            waiting_max: self.waiting_max,
            age_max: Duration::from_secs(self.age_secs_max),
            reset: Duration::from_secs(self.reset_secs),
            verification: Duration::from_secs(self.verification_secs),
        }
    }

    /// `poll` is how often the outbox is looked at.
    pub(crate) fn mailer(&self, poll: Duration) -> MailerLimits {
        MailerLimits {
            patience: self.timeout(),
            poll,
            retry_max: Duration::from_secs(self.retry_secs_max),
            attempts_max: self.attempts_max,
            account_hourly_max: self.account_hourly_max,
            address_hourly_max: self.address_hourly_max,
        }
    }
}

/// Whether a URL can stand before a `#` and a token, in HTML too.
fn base_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
        return Err("must begin with https:// or http:// and a host");
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]@!$&()*+,;=%".contains(c);
    if url.len() > 500 || !rest.chars().all(fits) {
        return Err("must be a URL of at most 500 ASCII characters without `?` and `#`");
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EmailConfig {
        EmailConfig {
            smtp_host: "mail.example.org".into(),
            link_url: "https://x.org/".into(),
            ..EmailConfig::default()
        }
    }

    #[test]
    fn mails_go_to_the_server_or_to_the_mailbox_of_a_laptop_and_in_production_nowhere_without_a_server() {
        let none = EmailConfig::default();
        assert_eq!(none.way(Profile::Development), Ok(Way::Mailbox));
        assert_eq!(none.way(Profile::Production), Ok(Way::Nowhere));
        for profile in [Profile::Development, Profile::Production] {
            assert_eq!(config().way(profile), Ok(Way::Smtp));
            assert_eq!(EmailConfig { enabled: false, ..config() }.way(profile), Ok(Way::Nowhere));
            let wanted = EmailConfig { enabled: false, require_verified: true, ..config() };
            assert!(wanted.way(profile).expect_err("nobody gets in").contains("require_verified"));
        }
    }

    #[test]
    fn production_wants_tls_and_links_that_nobody_reads_on_the_way() {
        let plain = EmailConfig { smtp_tls: Security::None, ..config() };
        assert_eq!(plain.way(Profile::Development), Ok(Way::Smtp));
        assert!(plain.way(Profile::Production).expect_err("refused").contains("smtp_tls"));
        for host in ["localhost", "127.0.0.1", "::1"] {
            let local = EmailConfig { smtp_host: host.into(), ..plain.clone() };
            assert_eq!(local.way(Profile::Production), Ok(Way::Smtp));
        }
        let link = EmailConfig { link_url: "http://x.org/".into(), ..config() };
        assert!(link.way(Profile::Production).expect_err("refused").contains("link_url"));
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        let bad = EmailConfig {
            smtp_host: "smtp://mail".into(),
            smtp_user: "me".into(),
            sender: "Ada\r\nBcc: eve@example.org <ada@example.org>".into(),
            link_url: "https://x.org/?next=\"".into(),
            reset_secs: 1,
            ..EmailConfig::default()
        };
        let mut problems = Problems::default();
        bad.validate("email.", &mut problems);
        let told = format!("{problems:?}");
        for field in ["smtp_host", "smtp_user", "sender", "link_url", "reset_secs"] {
            assert!(told.contains(&format!("email.{field}")), "{field}: {told}");
        }
        let mut problems = Problems::default();
        config().validate("email.", &mut problems);
        assert_eq!(format!("{problems:?}"), "Problems([])");
    }
}
