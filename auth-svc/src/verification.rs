//! Whose an address is: shown by the token of a link that was mailed there. Whether an account may log in before that is a
//! setting (`auth.email.require_verified`).

use mesh::time::Millis;

use crate::{
    account::{Account, Accounts},
    audit::{Entry, Event},
    error::Error,
    mail::{Kind, MailTokenHash},
    session::Client,
    store::Verification,
};

impl Accounts {
    /// Notes by the token of a mail that an address is its account's.
    ///
    /// # Errors
    /// [`Error::EmailTokenInvalid`].
    pub async fn verify_email(&self, token: MailTokenHash, client: &Client) -> Result<(), Error> {
        self.mails.require()?;
        let now = Millis::now();
        let found = self.store.mail_token(&token, Kind::EmailVerification, now).await?;
        let Some(user) = found else { return self.refuse_token(Event::EmailVerified, client).await };
        let audit = vec![Entry::own(Event::EmailVerified, user, client, now)];
        match self.store.verify_email(&Verification { token, user_id: user, now, audit }).await? {
            true => Ok(()),
            false => self.refuse_token(Event::EmailVerified, client).await,
        }
    }

    /// Refuses an account whose address must be verified first, where that is asked.
    ///
    /// # Errors
    /// [`Error::EmailUnverified`].
    pub(crate) fn require_verified(&self, account: &Account) -> Result<(), Error> {
        if self.mails.limits.require_verified && account.email_verified_at.is_none() {
            return Err(Error::EmailUnverified);
        }
        Ok(())
    }
}
