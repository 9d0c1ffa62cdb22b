//! The second factor: an authenticator app, recovery codes, and devices that need not give one. It judges codes; which
//! call wants one is decided by `login.rs` and `proof.rs`. The app's codes are in `factor/totp.rs`, recovery codes in
//! `factor/recovery.rs`, the ticket between the two steps of a login in `factor/ticket.rs`.

use std::{sync::Arc, time::Duration};

use mesh::time::Millis;
use uuid::Uuid;

use crate::{
    account::{Account, UserId},
    audit::{Entry, Event, Failures},
    error::Error,
    mail::{Kind, Mails, NewMail},
    proof::Method,
    seal::{Purpose, Seal},
    session::{Client, SessionId, Sessions},
    store::{Factors as Kept, Store, TotpAttempt, TotpConfirmation, TrustedDevice},
};

mod recovery;
mod ticket;
mod totp;

pub use recovery::{RecoveryCodes, RecoveryHash};
pub use ticket::{Binding, Challenge, Ticket, Tickets};
pub use totp::{Enrolment, TotpSecret};

/// Wrong codes that cost no wait: fingers slip, and clocks are a step off.
const FREE_FAILURES: u32 = 5;
/// The wait after the next one; it doubles with each.
const HOLD_FIRST: Duration = Duration::from_secs(30);
/// The longest wait. Twenty-four guesses a day at three codes in a million each: no guessing, and the owner, who has
/// recovery codes and remembered devices, waits no longer than that for the app.
const HOLD_MAX: Duration = Duration::from_hours(1);

/// How long an account's app is not asked after so many wrong codes in a row.
#[must_use]
pub fn hold(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(over) => HOLD_FIRST.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX)).min(HOLD_MAX),
    }
}

/// Names and times.
#[derive(Clone, Debug)]
pub struct FactorLimits {
    /// What authenticator apps call us.
    pub issuer: String,
    /// How long a ticket is good.
    pub ticket: Duration,
    /// How long a remembered device need not give a code; zero for never.
    pub remember: Duration,
    /// How many devices of an account are remembered.
    pub devices_max: u32,
}

/// The domain of second factors.
#[derive(Debug)]
pub struct Factors {
    store: Arc<dyn Store>,
    sessions: Arc<Sessions>,
    failures: Arc<Failures>,
    mails: Arc<Mails>,
    secrets: Seal,
    codes: RecoveryCodes,
    /// Tickets between the steps of a login.
    pub tickets: Tickets,
    limits: FactorLimits,
}

impl Factors {
    /// With the secret of the data folder.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        sessions: Arc<Sessions>,
        failures: Arc<Failures>,
        mails: Arc<Mails>,
        secret: &[u8; 32],
        limits: FactorLimits,
    ) -> Self {
        let secrets = Seal::new(secret, Purpose::TotpSecret);
        let (codes, tickets) = (RecoveryCodes::new(secret), Tickets::new(secret, limits.ticket));
        Self { store, sessions, failures, mails, secrets, codes, tickets, limits }
    }

    /// What an account has.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn of(&self, user: UserId) -> Result<Kept, Error> {
        Ok(self.store.factors(user, Millis::now()).await?)
    }

    /// Whether a login of this account from this device goes on without a code.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn lets_in(&self, user: UserId, device: Option<Uuid>) -> Result<bool, Error> {
        if self.of(user).await?.totp_confirmed_at.is_none() {
            return Ok(true);
        }
        match device {
            Some(device) => Ok(self.store.device_is_trusted(user, device, Millis::now()).await?),
            None => Ok(false),
        }
    }

    /// Makes a secret, which counts once [`Factors::confirm`] has seen a code of it.
    ///
    /// # Errors
    /// [`Error::FactorExists`], [`Error::ReauthenticationRequired`].
    pub async fn start(&self, account: &Account, session: SessionId) -> Result<Enrolment, Error> {
        self.sessions.require_fresh(session).await?;
        let user = account.id;
        let secret = TotpSecret::generate();
        let enrolment = secret.enrolment(&self.limits.issuer, account.username.as_str())?;
        let sealed = self.secrets.seal(secret.bytes(), user.0.as_bytes());
        match self.store.plan_totp(user, &sealed, Millis::now()).await? {
            true => Ok(enrolment),
            false => Err(Error::FactorExists),
        }
    }

    /// Confirms the secret by a code of it; the recovery codes, which are shown this once. The code proves the session
    /// too.
    ///
    /// # Errors
    /// [`Error::FactorMissing`], [`Error::MfaCodeInvalid`], [`Error::ReauthenticationRequired`].
    pub async fn confirm(
        &self,
        user: UserId,
        session: SessionId,
        code: &str,
        client: &Client,
    ) -> Result<Vec<String>, Error> {
        self.sessions.require_fresh(session).await?;
        let sealed_secret = self.store.planned_totp(user).await?.ok_or(Error::FactorMissing)?;
        let now = Millis::now();
        let step = self.opened(user, &sealed_secret)?.step_of(code, now).ok_or(Error::MfaCodeInvalid)?;
        let (codes, recovery_hashes) = self.codes.make(user);
        let entry = Entry::own(Event::TotpAdded, user, client, now).session(session);
        let mails = self.told("an authenticator app was added", user, client, now);
        let confirmation =
            TotpConfirmation { user_id: user, sealed_secret, step, recovery_hashes, now, audit: vec![entry], mails };
        if !self.store.confirm_totp(&confirmation).await? {
            return Err(Error::FactorMissing);
        }
        self.sessions.proved(user, session, &[Method::Otp], client).await?;
        Ok(codes)
    }

    /// Removes the app, its recovery codes and the remembered devices.
    ///
    /// # Errors
    /// [`Error::FactorMissing`], [`Error::ReauthenticationRequired`].
    pub async fn remove(&self, user: UserId, session: SessionId, client: &Client) -> Result<(), Error> {
        self.sessions.require_fresh(session).await?;
        let now = Millis::now();
        let entry = Entry::own(Event::TotpRemoved, user, client, now).session(session);
        let mails = self.told("the authenticator app was removed", user, client, now);
        let removed = self.store.remove_totp(user, &[entry], &mails).await?;
        if removed { Ok(()) } else { Err(Error::FactorMissing) }
    }

    /// Replaces the recovery codes.
    ///
    /// # Errors
    /// [`Error::FactorMissing`], [`Error::ReauthenticationRequired`].
    pub async fn new_codes(&self, user: UserId, session: SessionId, client: &Client) -> Result<Vec<String>, Error> {
        self.sessions.require_fresh(session).await?;
        let (codes, hashes) = self.codes.make(user);
        let now = Millis::now();
        let entry = Entry::own(Event::RecoveryCodesMade, user, client, now).session(session);
        let mails = self.told("new recovery codes were made, and the old ones are good no more", user, client, now);
        let replaced = self.store.replace_recovery_codes(user, &hashes, &[entry], &mails).await?;
        if replaced { Ok(codes) } else { Err(Error::FactorMissing) }
    }

    /// What tells the owner by mail.
    fn told(&self, what: &str, user: UserId, client: &Client, now: Millis) -> Vec<NewMail> {
        self.mails.notice_that(what, Kind::FactorChanged, user, client, now)
    }

    /// Lets a device in without a code for a while.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn remember(&self, user: UserId, device: Uuid, session: SessionId, client: &Client) -> Result<(), Error> {
        let now = Millis::now();
        if self.limits.remember.is_zero() {
            return Ok(());
        }
        let trusted = TrustedDevice {
            user_id: user,
            device_id: device,
            now,
            expires_at: now.plus(self.limits.remember),
            devices_max: self.limits.devices_max,
            audit: vec![Entry::own(Event::DeviceRemembered, user, client, now).session(session)],
        };
        Ok(self.store.trust_device(&trusted).await?)
    }

    /// Forgets every remembered device; how many.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn forget_devices(&self, user: UserId, client: &Client) -> Result<u32, Error> {
        let entry = Entry::own(Event::DevicesForgotten, user, client, Millis::now());
        Ok(self.store.forget_devices(user, &[entry]).await?)
    }

    /// Judges a code: of the app, or a recovery code. It is used up by it; a refusal is recorded as a failed `event`.
    ///
    /// # Errors
    /// [`Error::MfaCodeInvalid`], [`Error::MfaHeld`] after many wrong ones.
    pub async fn judge(&self, user: UserId, code: &str, event: Event, client: &Client) -> Result<(), Error> {
        let now = Millis::now();
        let good = match recovery::normalized(code) {
            Some(code) => {
                let entry = Entry::own(Event::RecoveryCodeUsed, user, client, now);
                self.store.use_recovery_code(user, &self.codes.hash(user, &code), &[entry]).await?
            }
            None => self.judge_totp(user, code, now).await?,
        };
        if good {
            return Ok(());
        }
        let refused = Entry::new(event, client, now).on(user).failed("wrong code");
        self.failures.record(self.store.as_ref(), refused).await?;
        Err(Error::MfaCodeInvalid)
    }

    /// A try is counted before the code is looked at, so that many at once are no more than many in a row.
    async fn judge_totp(&self, user: UserId, code: &str, now: Millis) -> Result<bool, Error> {
        if !totp::is_shaped_like_a_code(code) {
            return Ok(false);
        }
        let sealed = match self.store.attempt_totp(user, now).await? {
            TotpAttempt::Sealed(sealed) => sealed,
            TotpAttempt::Held(until) => return Err(Error::MfaHeld(now.until(until))),
            TotpAttempt::Missing => return Ok(false),
        };
        match self.opened(user, &sealed)?.step_of(code, now) {
            Some(step) => Ok(self.store.use_totp(user, step).await?),
            None => Ok(false),
        }
    }

    fn opened(&self, user: UserId, sealed: &[u8]) -> Result<TotpSecret, Error> {
        let opened = self.secrets.open(sealed, user.0.as_bytes()).and_then(TotpSecret::kept);
        opened.ok_or_else(|| Error::internal("a sealed secret does not open: is auth-seal.secret another one?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_wrong_codes_cost_nothing_and_many_cost_ever_more_up_to_an_hour() {
        assert_eq!([0, 1, 4].map(hold), [Duration::ZERO; 3]);
        assert_eq!([5, 6, 7].map(|failures| hold(failures).as_secs()), [30, 60, 120]);
        assert_eq!([12, 40, u32::MAX].map(hold), [HOLD_MAX; 3]);
    }
}
