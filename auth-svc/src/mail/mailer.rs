//! The mailer: sends what waits, each mail at least once and normally once, until it is taken, refused for good, or too old.
//! Each is claimed in the store, so that several replicas share the work and a mail that one of them held when it died is
//! sent by another. Here it is looked at who a mail is for, whether it is still wanted, and how many they have had.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use mesh::time::Millis;
use tokio_util::sync::CancellationToken;

use super::{
    Kind, Mail, MailLimits, MailTokens, Recipient, Rendered, Templates, Transport, TransportError,
    template::{Field, Values},
};
use crate::{
    account::{Account, Login},
    audit::{Entry, Event},
    outbox,
    session::Client,
    store::{MailIssue, MailIssued, NewMailToken, Store, StoreError},
};

/// Mails that are taken at a time, and sent at the same time: each waits for nothing but its server.
const CLAIM_MAX: u32 = 8;
/// How much longer a mail is this process' own than it may take: for the store, before and after.
const LEASE_EXTRA: Duration = Duration::from_secs(15);
/// Mails are counted over so long.
const RATE_WINDOW: Duration = Duration::from_hours(1);

/// How patient the mailer is, and how many mails it sends.
#[derive(Clone, Copy, Debug)]
pub struct MailerLimits {
    /// How long one mail may take.
    pub patience: Duration,
    /// How often it looks for what is due.
    pub poll: Duration,
    /// The longest wait between two tries.
    pub retry_max: Duration,
    /// How often one mail is tried.
    pub attempts_max: u32,
    /// Mails with links that one account gets in an hour.
    pub account_hourly_max: u32,
    /// The same for one address.
    pub address_hourly_max: u32,
}

/// The mailer.
#[derive(Debug)]
pub struct Mailer {
    /// Where mails wait.
    pub store: Arc<dyn Store>,
    /// What takes them.
    pub transport: Arc<dyn Transport>,
    /// Their texts.
    pub templates: Templates,
    /// Their tokens.
    pub tokens: MailTokens,
    /// How long tokens are good.
    pub mails: MailLimits,
    /// How patient it is.
    pub limits: MailerLimits,
    /// What this installation is called.
    pub product: String,
    /// What links begin with.
    pub link_url: String,
    /// Whether the last try failed, so that the log has one line a failure and not one a try.
    pub failing: AtomicBool,
}

/// What became of a mail. It waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It was taken.
    Sent,
    /// There is no such account, or nothing to say to it any more.
    Needless,
    /// The account or the address has had as many as it may.
    Limited,
    /// The server will never take it.
    Refused,
    /// It was tried for long enough.
    Expired,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Needless => "needless",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

/// Why a mail goes on waiting.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error("{}", .0.cause())]
    Store(#[from] StoreError),
    #[error("{0}")]
    Transport(#[from] TransportError),
}

impl Mailer {
    /// Sends what is due until the process stops.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let now = Millis::now();
            let until = now.plus(self.limits.patience + LEASE_EXTRA);
            let claimed = match self.store.claim_mails(now, until, CLAIM_MAX).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::error!(error.message = error.cause(), "the mails that wait cannot be read");
                    Vec::new()
                }
            };
            let full = claimed.len() == CLAIM_MAX as usize;
            let send = stream::iter(claimed).for_each_concurrent(None, |mail| self.handle(mail));
            tokio::select! {
                () = send => {}
                () = stop.cancelled() => return,
            }
            if !full {
                tokio::select! {
                    () = tokio::time::sleep(self.limits.poll) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    async fn handle(&self, mail: Mail) {
        let (kind, id) = (mail.kind, mail.id);
        let noted = match self.send(&mail).await {
            Ok(outcome) => {
                count(kind, outcome.as_str());
                match outcome {
                    Outcome::Sent => self.note(None),
                    Outcome::Refused | Outcome::Expired => {
                        let (kind, outcome) = (kind.as_str(), outcome.as_str());
                        tracing::warn!(mail.id = %id, mail.kind = kind, outcome, "a mail was given up");
                    }
                    Outcome::Needless | Outcome::Limited => {}
                }
                self.store.forget_mail(id).await
            }
            Err(error) => {
                count(kind, "failed");
                self.note(Some(&error));
                let wait = outbox::retry_wait(mail.attempts, self.limits.retry_max);
                // Not later than it is given up, so that it does not lie about for longer.
                self.store.postpone_mail(id, Millis::now().plus(wait).min(mail.expires_at)).await
            }
        };
        if let Err(error) = noted {
            // It goes out once more, with the same token and under the same id.
            tracing::error!(error.message = error.cause(), "a mail that was seen to cannot be noted");
        }
    }

    fn note(&self, error: Option<&TryError>) {
        let failed_before = self.failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !failed_before => tracing::warn!(error.message = %error, "mail waits to be sent"),
            None if failed_before => tracing::info!("mail goes out again"),
            _ => {}
        }
    }

    async fn send(&self, mail: &Mail) -> Result<Outcome, TryError> {
        let now = Millis::now();
        if !self.mails.enabled {
            return Ok(Outcome::Needless);
        }
        if now >= mail.expires_at || mail.attempts >= self.limits.attempts_max {
            return Ok(Outcome::Expired);
        }
        let Some(account) = self.addressee(mail).await? else { return Ok(Outcome::Needless) };
        match self.store.issue_mail(&self.issue(mail, &account, now)).await? {
            MailIssued::Issued => {}
            MailIssued::Limited => return Ok(Outcome::Limited),
            MailIssued::Over => return Ok(Outcome::Needless),
        }
        match self.transport.send(&self.rendered(mail, &account, now)).await {
            Ok(()) => Ok(Outcome::Sent),
            Err(TransportError::Unaddressable | TransportError::Refused(_)) => Ok(Outcome::Refused),
            Err(error @ TransportError::Failed(_)) => Err(error.into()),
        }
    }

    /// The account that a mail is for, if it is still wanted.
    async fn addressee(&self, mail: &Mail) -> Result<Option<Account>, StoreError> {
        let account = match &mail.to {
            Recipient::Account(user) => self.store.account(*user).await?,
            Recipient::Address(key) => {
                self.store.credentials(&Login::Email(key.clone())).await?.map(|found| found.account)
            }
        };
        let wanted = |account: &Account| match mail.kind {
            Kind::EmailVerification => account.email_verified_at.is_none(),
            Kind::PasswordReset | Kind::PasswordChanged | Kind::NewDevice | Kind::FactorChanged => true,
        };
        Ok(account.filter(|account| account.disabled_at.is_none() && !account.is_service() && wanted(account)))
    }

    fn issue(&self, mail: &Mail, account: &Account, now: Millis) -> MailIssue {
        let key = account.email.key();
        let token = self
            .mails
            .life(mail.kind)
            .map(|life| NewMailToken { hash: self.tokens.of(mail.id, mail.kind).hash(), expires_at: now.plus(life) });
        let client = Client::from(mail.details.clone());
        let audit = match mail.kind {
            Kind::PasswordReset => vec![Entry::new(Event::PasswordResetRequested, &client, now).on(account.id)],
            Kind::EmailVerification | Kind::PasswordChanged | Kind::NewDevice | Kind::FactorChanged => Vec::new(),
        };
        MailIssue {
            mail: mail.id,
            kind: mail.kind,
            user_id: account.id,
            address: key.to_owned(),
            recipient: self.tokens.recipient(key),
            token,
            now,
            counted_since: now.minus(RATE_WINDOW),
            account_max: self.limits.account_hourly_max,
            address_max: self.limits.address_hourly_max,
            // As long as it could be sent again, and as long as it counts.
            recorded_until: mail.expires_at.plus(self.mails.age_max).max(now.plus(RATE_WINDOW)),
            audit,
        }
    }

    fn rendered(&self, mail: &Mail, account: &Account, now: Millis) -> Rendered {
        let client = Client::from(mail.details.clone());
        let mut values = Values::default()
            .set(Field::Product, &self.product)
            .set(Field::Username, account.username.as_str())
            .set(Field::Time, shown_time(mail.created_at))
            .set(Field::What, mail.details.what.as_str())
            .set(Field::Device, client.device)
            .set(Field::Place, client.place);
        if let Some(life) = self.mails.life(mail.kind) {
            let token = self.tokens.of(mail.id, mail.kind);
            let action = if mail.kind == Kind::PasswordReset { "reset-password" } else { "verify-email" };
            // Behind the `#`, so that no server, log or referrer sees it.
            let link = format!("{}#{action}={}", self.link_url, token.expose());
            values =
                values.set(Field::Link, link).set(Field::Token, token.expose()).set(Field::ValidFor, shown_life(life));
        }
        let texts = self.templates.render(mail.kind, &values);
        Rendered {
            id: mail.id,
            kind: mail.kind,
            to: account.email.as_str().to_owned(),
            subject: texts.subject,
            text: texts.text,
            html: texts.html,
            at: now,
        }
    }
}

/// `2026-11-23 10:00 UTC`.
fn shown_time(at: Millis) -> String {
    let text = at.to_rfc3339();
    let minute = text.get(..16).unwrap_or(&text).replace('T', " ");
    format!("{minute} UTC")
}

/// `1 hour`, `3 days`, in the largest unit that fits.
fn shown_life(life: Duration) -> String {
    let secs = life.as_secs();
    let units = [(24 * 3_600, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (size, unit) =
        units.into_iter().find(|(size, _)| secs >= *size && secs.is_multiple_of(*size)).unwrap_or((1, "second"));
    let count = secs / size;
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{ending}")
}

fn count(kind: Kind, outcome: &'static str) {
    metrics::counter!("switchboard_auth_mails_total", "kind" => kind.as_str(), "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_people_say_them() {
        let shown = [3_600, 7_200, 259_200, 90, 61].map(|secs| shown_life(Duration::from_secs(secs)));
        assert_eq!(shown, ["1 hour", "2 hours", "3 days", "90 seconds", "61 seconds"]);
        assert_eq!(shown_time(Millis(1_795_428_000_123)), "2026-11-23 10:00 UTC");
    }
}
