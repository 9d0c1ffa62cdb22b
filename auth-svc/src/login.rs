//! Logging in: by the password, and then, for accounts with a second factor, by a code. The password is always judged
//! first, so that nobody learns from the second step which accounts there are. Proving again who one is (step-up) is here
//! too. Codes are judged in `factor.rs`, sessions opened in `session.rs`.

use mesh::time::Millis;
use uuid::Uuid;

use crate::{
    account::{Account, Accounts, Login, RACES_MAX, UserId},
    audit::{Entry, Event},
    error::Error,
    factor::{Binding, Challenge},
    mail::Kind,
    password::Password,
    proof::Method,
    session::{Client, SessionId, Tokens},
    store::{Credentials, Opened, Opening},
};

/// What somebody logs in with.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The name.
    pub login: Login,
    /// The password.
    pub password: &'a Password,
    /// The device, if a gateway knows it: it may be remembered.
    pub device: Option<Uuid>,
    /// Whether that device has logged in to the account before, so that its owner need not be told.
    pub known: bool,
    /// Where the attempt comes from; the second step must come from there too.
    pub binding: Binding,
}

/// The second step of a login.
#[derive(Debug)]
pub struct Completion<'a> {
    /// What the first step gave.
    pub ticket: &'a str,
    /// A code of the second factor.
    pub code: &'a str,
    /// The device that is to be remembered, if any.
    pub remember: Option<Uuid>,
    /// Where it comes from.
    pub binding: Binding,
}

/// What came of a password that was right.
#[derive(Debug)]
pub enum LoggedIn {
    /// The session is open.
    Open(Box<SessionOpened>),
    /// A second factor is asked.
    Challenged(Challenge),
}

/// A session that was opened.
#[derive(Debug)]
pub struct SessionOpened {
    /// Which one.
    pub session: SessionId,
    /// Whose it is.
    pub account: Account,
    /// Its tokens.
    pub tokens: Tokens,
    /// Whether the account was to be deleted, and stays by this.
    pub kept: bool,
}

impl Accounts {
    /// Opens a session, or asks for the second factor. An unknown name costs what a wrong password costs.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::AccountDisabled`], [`Error::EmailUnverified`], or [`Error::PasswordsBusy`].
    pub async fn login(&self, attempt: &Attempt<'_>, client: &Client) -> Result<LoggedIn, Error> {
        for _ in 0..RACES_MAX {
            let found = self.store.credentials(&attempt.login).await?;
            let verified = self.verified(found, attempt.password, Event::LoginPassword, client).await?;
            let rehash = match self.passwords.is_outdated(&verified.password_hash) {
                true => Some(self.passwords.hash(attempt.password).await?),
                false => None,
            };
            let user = verified.account.id;
            self.refuse_disabled(&verified, Event::LoginPassword, client).await?;
            self.refuse_unverified(&verified, client).await?;
            if !self.factors.lets_in(user, attempt.device).await? {
                let asked = Entry::new(Event::LoginPassword, client, Millis::now()).on(user);
                self.failures.record(self.store.as_ref(), asked.failed("a second factor was asked")).await?;
                let (device, hash) = (&client.device, &verified.password_hash);
                let (binding, known) = (attempt.binding, attempt.known);
                let challenge = self.factors.tickets.issue(user, (device, known), binding, hash, rehash)?;
                return Ok(LoggedIn::Challenged(challenge));
            }
            let (proofs, event) = ([Method::Password], Event::LoginPassword);
            if let Some(opened) = self.open(&verified, rehash, &proofs, (event, attempt.known), client).await? {
                return Ok(LoggedIn::Open(Box::new(opened)));
            }
        }
        Err(Error::InvalidCredentials)
    }

    /// Opens the session that a ticket stands for.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] for a ticket that is none, is shown from elsewhere, or whose password has changed;
    /// [`Error::TokenExpired`]; [`Error::AccountDisabled`]; [`Error::MfaCodeInvalid`]; [`Error::MfaHeld`].
    pub async fn complete_login(&self, completion: &Completion<'_>, client: &Client) -> Result<SessionOpened, Error> {
        let ticket = self.factors.tickets.read(completion.ticket, completion.binding)?;
        let user = ticket.user();
        let credentials = self.store.credentials_by_id(user).await?.ok_or(Error::TokenInvalid)?;
        if !ticket.is_of_password(&credentials.password_hash) {
            return Err(Error::TokenInvalid);
        }
        self.refuse_disabled(&credentials, Event::LoginSecondFactor, client).await?;
        self.factors.judge(user, completion.code, Event::LoginSecondFactor, client).await?;
        // The name of the device was given in the first step.
        let client = Client { device: ticket.device.clone(), ..client.clone() };
        let proofs = [Method::Password, Method::Otp];
        let how = (Event::LoginSecondFactor, ticket.known);
        let opened = self.open(&credentials, ticket.rehash, &proofs, how, &client).await?;
        // The password was changed in this very moment.
        let opened = opened.ok_or(Error::TokenInvalid)?;
        if let Some(device) = completion.remember {
            self.factors.remember(user, device, opened.session, &client).await?;
        }
        Ok(opened)
    }

    /// Who knows the password is told that the account is disabled; nobody else is.
    async fn refuse_disabled(&self, verified: &Credentials, event: Event, client: &Client) -> Result<(), Error> {
        if verified.account.disabled_at.is_none() {
            return Ok(());
        }
        let entry = Entry::new(event, client, Millis::now()).on(verified.account.id);
        self.failures.record(self.store.as_ref(), entry.failed("the account is disabled")).await?;
        Err(Error::AccountDisabled)
    }

    /// Who knows the password is told that the address must be verified; nobody else is.
    async fn refuse_unverified(&self, verified: &Credentials, client: &Client) -> Result<(), Error> {
        let judged = self.require_verified(&verified.account);
        if judged.is_err() {
            let entry = Entry::new(Event::LoginPassword, client, Millis::now()).on(verified.account.id);
            self.failures.record(self.store.as_ref(), entry.failed("the address is not verified")).await?;
        }
        judged
    }

    /// Opens a session of an account whose password was right a moment ago; none when that has changed since.
    async fn open(
        &self,
        verified: &Credentials,
        rehash: Option<String>,
        proofs: &[Method],
        (event, known): (Event, bool),
        client: &Client,
    ) -> Result<Option<SessionOpened>, Error> {
        let (now, user) = (Millis::now(), verified.account.id);
        let planned = self.sessions.plan(user, proofs, client, now);
        let id = planned.session.id;
        let opening = Opening {
            session: planned.session.clone(),
            verified_hash: verified.password_hash.clone(),
            rehash,
            sessions_max: self.sessions.limits.per_account_max,
            revoked_until: self.sessions.revoked_until(now),
            audit: vec![Entry::own(event, user, client, now).session(id)],
            over_limit: Entry::own(Event::SessionOverLimit, user, client, now),
            kept: Entry::own(Event::AccountKept, user, client, now).session(id),
            mails: if known { Vec::new() } else { self.mails.notice(Kind::NewDevice, user, client, now) },
        };
        match self.store.open_session(&opening).await? {
            Opened::PasswordChanged => Ok(None),
            Opened::Open { head, kept } => {
                self.sessions.published(head).await;
                let tokens = self.sessions.tokens(&planned, &verified.account.roles)?;
                Ok(Some(SessionOpened { session: id, account: verified.account.clone(), tokens, kept }))
            }
        }
    }

    /// The account whose password this is. A refusal is recorded as a failed `event`, also for an account that is not
    /// there: so that it takes the same time, and because whoever guesses is to be found in the log.
    pub(crate) async fn verified(
        &self,
        found: Option<Credentials>,
        password: &Password,
        event: Event,
        client: &Client,
    ) -> Result<Credentials, Error> {
        let matches = match &found {
            None => self.passwords.verify_nobody(password).await.map(|()| false)?,
            Some(credentials) => self.passwords.verify(password, &credentials.password_hash).await?,
        };
        let entry = Entry::new(event, client, Millis::now());
        let refused = match found {
            Some(credentials) if matches => return Ok(credentials),
            Some(credentials) => entry.on(credentials.account.id).failed("wrong password"),
            None => entry.failed("unknown account"),
        };
        self.failures.record(self.store.as_ref(), refused).await?;
        Err(Error::InvalidCredentials)
    }

    /// Proves whose a session is: by the account's password, or, when it has a second factor, by a code of that; until
    /// when that is fresh. What is given is judged, also where it is not needed.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] when the password is wrong, [`Error::PasswordsBusy`]; [`Error::MfaRequired`] when the
    /// account has a second factor and there is no code; [`Error::MfaCodeInvalid`], [`Error::MfaHeld`].
    pub async fn reauthenticate(
        &self,
        user: UserId,
        session: SessionId,
        password: Option<&Password>,
        code: &str,
        client: &Client,
    ) -> Result<Millis, Error> {
        let wants_code = self.factors.of(user).await?.totp_confirmed_at.is_some();
        if wants_code && code.is_empty() {
            return Err(Error::MfaRequired);
        }
        let mut proofs = Vec::with_capacity(2);
        if let Some(password) = password {
            let credentials = self.store.credentials_by_id(user).await?.ok_or(Error::Unauthorized)?;
            self.verified(Some(credentials), password, Event::SessionReauthenticated, client).await?;
            proofs.push(Method::Password);
        }
        if wants_code {
            self.factors.judge(user, code, Event::SessionReauthenticated, client).await?;
            proofs.push(Method::Otp);
        }
        if proofs.is_empty() {
            return Err(Error::field("password", "must not be empty"));
        }
        self.sessions.proved(user, session, &proofs, client).await
    }
}
