//! A new password for who has forgotten theirs: by the token of a link that was mailed to the account's address. It ends
//! every session and trusts no device any more, so a second factor is asked for at the next login as ever. Which mails
//! go out is decided in `mail/mailer.rs`.

use mesh::time::Millis;

use crate::{
    account::Accounts,
    audit::{Entry, Event},
    error::Error,
    mail::{Kind, MailTokenHash},
    password::Password,
    session::Client,
    store::{PasswordChanged, PasswordReset},
};

impl Accounts {
    /// Sets a new password by the token of a mail.
    ///
    /// # Errors
    /// [`Error::EmailTokenInvalid`]; [`Error::Invalid`] for a password that is easy to guess, after which the token is still
    /// good; [`Error::PasswordsBusy`].
    pub async fn reset_password(&self, token: MailTokenHash, new: &Password, client: &Client) -> Result<(), Error> {
        self.mails.require()?;
        let found = self.store.mail_token(&token, Kind::PasswordReset, Millis::now()).await?;
        let Some(user) = found else { return self.refuse_token(Event::PasswordReset, client).await };
        let account = self.store.account(user).await?.ok_or(Error::EmailTokenInvalid)?;
        let names = [account.username.as_str(), account.email.as_str()];
        self.passwords.judge("new_password", new, &names).await?;
        let new_hash = self.passwords.hash(new).await?;
        let now = Millis::now();
        let reset = PasswordReset {
            token,
            user_id: user,
            new_hash,
            now,
            revoked_until: self.sessions.revoked_until(now),
            audit: vec![Entry::own(Event::PasswordReset, user, client, now)],
            mails: self.mails.notice(Kind::PasswordChanged, user, client, now),
        };
        match self.store.reset_password(&reset).await? {
            PasswordChanged::Changed(ended) => {
                self.sessions.published(ended.head).await;
                Ok(())
            }
            // Somebody else was first with it.
            PasswordChanged::Stale => self.refuse_token(Event::PasswordReset, client).await,
        }
    }

    /// Refuses a token that is not good, which is recorded as a failed `event`.
    pub(crate) async fn refuse_token<T>(&self, event: Event, client: &Client) -> Result<T, Error> {
        let entry = Entry::new(event, client, Millis::now()).failed("the link is not good");
        self.failures.record(self.store.as_ref(), entry).await?;
        Err(Error::EmailTokenInvalid)
    }
}
