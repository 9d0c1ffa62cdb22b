//! How a session has proved whose it is, and when: what sensitive calls ask before they go on (step-up). Proving again
//! is `POST /api/auth/reauthenticate`; how a password is proved is in `login.rs`, a code in `factor.rs`. A further way to
//! prove is one more [`Method`] and a call of [`Sessions::proved`].

use std::time::Duration;

use mesh::time::Millis;

use crate::{
    account::UserId,
    audit::{Entry, Event},
    error::Error,
    session::{Client, Session, SessionId, Sessions},
};

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A way to prove whose a session is, by its name in RFC 8176.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method { $($(#[$doc])* $name,)* }

        impl Method {
            const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

methods! {
    /// A password.
    Password = "pwd";
    /// A code of a second factor: of an authenticator app, or a recovery code.
    Otp = "otp";
}

impl Method {
    /// Several as they are kept: names separated by spaces.
    #[must_use]
    pub fn join(methods: &[Self]) -> String {
        methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Several as they were kept. One that a newer version wrote is passed over: it proves nothing here.
    #[must_use]
    pub fn split(kept: &str) -> Vec<Self> {
        let known = |name: &str| Self::ALL.iter().copied().find(|method| method.as_str() == name);
        kept.split(' ').filter_map(known).collect()
    }
}

impl Session {
    /// Whether the last proof is younger than this.
    #[must_use]
    pub fn is_fresh(&self, now: Millis, fresh: Duration) -> bool {
        now < self.authenticated_at.plus(fresh)
    }
}

impl Sessions {
    /// The caller's session, if it has proved lately whose it is: what a sensitive call begins with.
    ///
    /// # Errors
    /// [`Error::ReauthenticationRequired`] when the proof is too old, or lacks the account's second factor; what
    /// [`Sessions::alive`] refuses.
    pub async fn require_fresh(&self, session: SessionId) -> Result<Session, Error> {
        let (session, now) = (self.alive(session).await?, Millis::now());
        if !session.is_fresh(now, self.limits.fresh) {
            return Err(Error::ReauthenticationRequired);
        }
        // A remembered device logs in by the password alone, and so did a session from before the factor was added.
        let enough = session.amr.contains(&Method::Otp)
            || self.store.factors(session.user_id, now).await?.totp_confirmed_at.is_none();
        if enough { Ok(session) } else { Err(Error::ReauthenticationRequired) }
    }

    /// The session has proved whose it is, in these ways; until when that is fresh.
    ///
    /// # Errors
    /// [`Error::TokenRevoked`] when it has ended meanwhile.
    pub async fn proved(
        &self,
        user: UserId,
        session: SessionId,
        methods: &[Method],
        client: &Client,
    ) -> Result<Millis, Error> {
        let now = Millis::now();
        let entry = Entry::own(Event::SessionReauthenticated, user, client, now).session(session);
        let entry = entry.detail(&Method::join(methods));
        match self.store.prove_session(user, session, methods, now, &[entry]).await? {
            true => Ok(now.plus(self.limits.fresh)),
            false => Err(Error::TokenRevoked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_read_back_as_they_were_kept_and_unknown_ones_prove_nothing() {
        assert_eq!(Method::split(&Method::join(Method::ALL)), Method::ALL);
        assert_eq!(Method::split("from-the-future pwd"), [Method::Password]);
        assert_eq!(Method::split(""), []);
    }
}
