//! Mails: which there are, and how one comes to wait for its turn. A mail that waits is a row that says for whom and what
//! for; its token and its text are made when it goes out, so neither is ever kept. Whoever asks for a mail gets the same
//! answer in the same time whether there is an account or not, since that is looked at afterwards, by `mail/mailer.rs`.
//!
//! `mail/config.rs` has the settings, `mail/token.rs` what links carry, `mail/template.rs` the texts; mails go out by
//! `mail/smtp.rs`, or into the mailbox of a developer (`mail/mailbox.rs`). What links do is in `reset.rs` and
//! `verification.rs`.

use std::{sync::Arc, time::Duration};

use mesh::time::Millis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    account::{Email, UserId},
    error::Error,
    session::Client,
    store::Store,
};

mod config;
mod mailbox;
mod mailer;
mod post;
mod smtp;
mod template;
mod token;
mod transport;

pub use config::{EmailConfig, Security};
pub use mailbox::Mailbox;
pub use mailer::{Mailer, MailerLimits};
pub use post::Post;
pub use template::Templates;
pub use token::{MailTokenHash, MailTokens, RecipientHash};
pub use transport::{Rendered, Transport, TransportError};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What a mail is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name: in the store, in metrics, and of its templates.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// A link for a new password.
    PasswordReset = "password_reset";
    /// A link that shows whose an address is.
    EmailVerification = "email_verification";
    /// The password is another one.
    PasswordChanged = "password_changed";
    /// Somebody logged in from a device that has not logged in before.
    NewDevice = "new_device";
    /// A second factor was added, removed or made anew.
    FactorChanged = "factor_changed";
}

impl Kind {
    /// The kind that a store kept; none when a newer version wrote it.
    #[must_use]
    pub fn kept(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Whether it carries a token. It is then one that somebody asks for, so that how many go out is limited; a mail that
    /// tells of something always goes out.
    #[must_use]
    pub fn has_token(self) -> bool {
        match self {
            Self::PasswordReset | Self::EmailVerification => true,
            Self::PasswordChanged | Self::NewDevice | Self::FactorChanged => false,
        }
    }
}

/// To whom.
#[derive(Clone, PartialEq, Eq)]
pub enum Recipient {
    /// To the address that the account has when the mail goes out.
    Account(UserId),
    /// To the account that has the address of this key, if there is one.
    Address(String),
}

/// Addresses do not belong into a log.
impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account(user) => write!(f, "Account({})", user.0),
            Self::Address(_) => f.write_str("Address(…)"),
        }
    }
}

/// Where a mail was asked for from, or what it tells of was done from.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    device: String,
    ip_address: String,
    place: String,
    request_id: String,
    /// What happened, where the kind of a mail leaves that open.
    pub what: String,
}

/// Addresses and devices do not belong into a log.
impl std::fmt::Debug for Details {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Details(…)")
    }
}

impl From<&Client> for Details {
    fn from(client: &Client) -> Self {
        let Client { device, ip_address, place, request_id } = client.clone();
        Self { device, ip_address, place, request_id, what: String::new() }
    }
}

impl From<Details> for Client {
    fn from(details: Details) -> Self {
        let Details { device, ip_address, place, request_id, .. } = details;
        Self { device, ip_address, place, request_id }
    }
}

/// A mail that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its id, a UUID of version 7; with a secret it is what its token is made of.
    pub id: Uuid,
    /// What it is about.
    pub kind: Kind,
    /// To whom.
    pub to: Recipient,
    /// Where it was asked for from.
    pub details: Details,
    /// When.
    pub created_at: Millis,
    /// How often it could not be sent.
    pub attempts: u32,
    /// After this it is not sent any more.
    pub expires_at: Millis,
}

/// A mail that is to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMail {
    /// The mail.
    pub mail: Mail,
    /// Of two with the same slot that wait, the second is not kept; none for any number.
    pub slot: Option<String>,
}

/// What decides which mails there are, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct MailLimits {
    /// Whether any is sent.
    pub enabled: bool,
    /// Whether people are told of what happened to their account.
    pub notices: bool,
    /// Whether an address must be verified before its account logs in.
    pub require_verified: bool,
    /// How many may wait.
    pub waiting_max: u32,
    /// How long one is tried for.
    pub age_max: Duration,
    /// How long a link for a new password is good.
    pub reset: Duration,
    /// How long a link that verifies an address is good.
    pub verification: Duration,
}

impl MailLimits {
    /// How long the token of a mail is good, from when it goes out.
    #[must_use]
    pub fn life(&self, kind: Kind) -> Option<Duration> {
        match kind {
            Kind::PasswordReset => Some(self.reset),
            Kind::EmailVerification => Some(self.verification),
            Kind::PasswordChanged | Kind::NewDevice | Kind::FactorChanged => None,
        }
    }
}

/// What has mails sent.
#[derive(Debug)]
pub struct Mails {
    store: Arc<dyn Store>,
    /// Which, and for how long.
    pub limits: MailLimits,
}

impl Mails {
    /// Over this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, limits: MailLimits) -> Self {
        Self { store, limits }
    }

    /// Whether mails are sent here.
    ///
    /// # Errors
    /// [`Error::EmailDisabled`].
    pub fn require(&self) -> Result<(), Error> {
        if self.limits.enabled { Ok(()) } else { Err(Error::EmailDisabled) }
    }

    /// Has a mail go to the account that has this address, if there is one. It takes the same time either way.
    ///
    /// # Errors
    /// [`Error::EmailDisabled`], [`Error::MailsBusy`].
    pub async fn ask(&self, kind: Kind, email: &Email, client: &Client) -> Result<(), Error> {
        self.require()?;
        let key = email.key();
        // Who asks twice before the first mail has gone gets one mail.
        let slot = Some(format!("{}:{key}", kind.as_str()));
        let mail = self.mail(kind, Recipient::Address(key.to_owned()), client, Millis::now());
        match self.store.queue_mail(&NewMail { mail, slot }, self.limits.waiting_max).await? {
            true => Ok(()),
            false => Err(Error::MailsBusy),
        }
    }

    /// What is to tell somebody what happened to their account, for the write that it tells of; nothing where nobody is told.
    #[must_use]
    pub fn notice(&self, kind: Kind, user: UserId, client: &Client, now: Millis) -> Vec<NewMail> {
        if !self.limits.enabled || !self.limits.notices {
            return Vec::new();
        }
        vec![NewMail { mail: self.mail(kind, Recipient::Account(user), client, now), slot: None }]
    }

    /// The same where the kind leaves open what happened.
    #[must_use]
    pub fn notice_that(&self, what: &str, kind: Kind, user: UserId, client: &Client, now: Millis) -> Vec<NewMail> {
        let mut mails = self.notice(kind, user, client, now);
        mails.iter_mut().for_each(|new| what.clone_into(&mut new.mail.details.what));
        mails
    }

    /// What asks somebody who registers to show whose the address is.
    #[must_use]
    pub fn welcome(&self, user: UserId, client: &Client, now: Millis) -> Vec<NewMail> {
        if !self.limits.enabled {
            return Vec::new();
        }
        vec![NewMail { mail: self.mail(Kind::EmailVerification, Recipient::Account(user), client, now), slot: None }]
    }

    fn mail(&self, kind: Kind, to: Recipient, client: &Client, now: Millis) -> Mail {
        // Nobody waits for a link longer than it would be good.
        let age = self.limits.life(kind).map_or(self.limits.age_max, |life| life.min(self.limits.age_max));
        Mail {
            id: Uuid::now_v7(),
            kind,
            to,
            details: client.into(),
            created_at: now,
            attempts: 0,
            expires_at: now.plus(age),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_kinds_and_unknown_ones_nowhere() {
        for kind in Kind::ALL {
            assert_eq!(Kind::kept(kind.as_str()), Some(*kind));
        }
        assert_eq!(Kind::kept("from_the_future"), None);
    }

    #[test]
    fn debug_output_has_neither_address_nor_device() {
        let client = Client::cut("a phone", "192.0.2.1");
        let shown = format!("{:?}{:?}", Recipient::Address("ada@example.org".into()), Details::from(&client));
        assert!(!shown.contains("example.org") && !shown.contains("phone") && !shown.contains("192"), "{shown}");
        assert_eq!(Client::from(Details::from(&client)), client);
    }
}
