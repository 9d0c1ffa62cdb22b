//! Sessions: a login on one device, from its opening through its refreshes to its end, and what a token of it is worth
//! now. Accounts and passwords are in `account.rs`; the two kinds of token in `token.rs` and `refresh.rs`; how an end
//! is told to everyone in `revocation.rs`.

use std::{sync::Arc, time::Duration};

use mesh::{identity::AccessClaims, time::Millis};
use uuid::Uuid;

use crate::{
    account::UserId,
    audit::{Entry, Event},
    error::Error,
    proof::Method,
    refresh::{RefreshToken, RefreshTokens},
    revocation::Feed,
    store::{End, NewSession, Rotated, Rotation, SessionCursor, Store, WsSpend, WsSpent},
    token::AccessTokens,
};

/// What the clocks of verifiers may be behind ours: a revocation is kept so much longer than the last token.
pub const CLOCK_LEEWAY: Duration = Duration::from_mins(2);

/// How far in the future a WebSocket token may expire. It lives 60 s; its id is remembered until then, so the limit
/// bounds what a gateway with a wrong clock can make us keep.
const WS_TOKEN_LIFE_MAX: Duration = Duration::from_hours(1);

/// How much of a device's name is kept, in characters.
const DEVICE_CHARS_MAX: usize = 200;
/// The longest address text is an IPv6 one with an embedded IPv4 one and a zone.
const ADDRESS_CHARS_MAX: usize = 64;

/// The id of a session: the claim `sid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub Uuid);

/// Where a call comes from, as a gateway saw it; empty when nobody trustworthy says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// What the client calls itself.
    pub device: String,
    /// Its address.
    pub ip_address: String,
    /// Roughly where that is; empty without a database of places.
    pub place: String,
    /// The id of its request.
    pub request_id: String,
}

impl Client {
    /// Cuts what is too long and drops control characters: a strange user agent is no reason to refuse a login.
    #[must_use]
    pub fn cut(device: &str, ip_address: &str) -> Self {
        let cut = |text: &str, max| text.chars().filter(|c| !c.is_control()).take(max).collect::<String>();
        Self {
            device: cut(device.trim(), DEVICE_CHARS_MAX),
            ip_address: cut(ip_address, ADDRESS_CHARS_MAX),
            ..Self::default()
        }
    }
}

/// Addresses do not belong into a log, so debug output has none.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client(…)")
    }
}

/// A session as the store has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// What the client calls itself.
    pub device: String,
    /// The address that logged in.
    pub ip_address: String,
    /// Roughly where that was; may be empty.
    pub place: String,
    /// When it last proved whose it is.
    pub authenticated_at: Millis,
    /// How it did.
    pub amr: Vec<Method>,
    /// When it was opened.
    pub created_at: Millis,
    /// When it was last used, to the minute.
    pub last_used_at: Millis,
    /// When it ends unless it is refreshed before.
    pub expires_at: Millis,
    /// When it ends at the latest.
    pub ends_at: Millis,
    /// When the last of its access tokens expires.
    pub access_expires_at: Millis,
    /// When it was ended by logout or revocation.
    pub ended_at: Option<Millis>,
}

/// Devices and addresses do not belong into a log.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// What a client gets for a session.
#[derive(Clone)]
pub struct Tokens {
    /// The access token, a JWT.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: RefreshToken,
    /// Until the access token expires.
    pub expires_in_secs: i64,
}

/// Tokens do not belong into a log.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

/// A session that is about to be opened, with its first refresh token.
#[derive(Debug)]
pub struct Planned {
    /// The session.
    pub session: NewSession,
    /// Its token.
    pub refresh_token: RefreshToken,
}

/// How long sessions live, and how many.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// How long one lives without a refresh.
    pub idle: Duration,
    /// How long one lives at most.
    pub life_max: Duration,
    /// How many an account may have.
    pub per_account_max: u32,
    /// How long a revocation is kept at least, for sockets that outlive their access token.
    pub revocation_keep: Duration,
    /// How long a proof is fresh enough for what is sensitive.
    pub fresh: Duration,
}

/// The domain of sessions.
#[derive(Debug)]
pub struct Sessions {
    /// Where they are kept.
    pub store: Arc<dyn Store>,
    /// Access tokens.
    pub access: AccessTokens,
    /// Refresh tokens.
    pub refresh: RefreshTokens,
    /// What tells everyone that a session has ended.
    pub feed: Feed,
    /// How long and how many.
    pub limits: SessionLimits,
}

impl Sessions {
    /// A session that opens now after these proofs, not stored yet.
    #[must_use]
    pub fn plan(&self, user: UserId, proofs: &[Method], client: &Client, now: Millis) -> Planned {
        let id = SessionId(Uuid::now_v7());
        let refresh_token = self.refresh.first(id);
        let ends_at = now.plus(self.limits.life_max);
        let session = NewSession {
            id,
            user_id: user,
            device: client.device.clone(),
            ip_address: client.ip_address.clone(),
            place: client.place.clone(),
            amr: proofs.to_vec(),
            refresh_hash: refresh_token.hash(),
            created_at: now,
            expires_at: self.idle_end(now).min(ends_at),
            ends_at,
            access_expires_at: self.access.expiry(now, ends_at),
        };
        Planned { session, refresh_token }
    }

    /// A session lives at least as long as its access token, so that a client with a long one need not refresh.
    fn idle_end(&self, now: Millis) -> Millis {
        now.plus(self.limits.idle.max(self.access.ttl()))
    }

    /// Until when a revocation written now is kept at least.
    #[must_use]
    pub fn revoked_until(&self, now: Millis) -> Millis {
        now.plus(self.limits.revocation_keep)
    }

    /// Waits until revocations up to this number are felt in this process and on their way to all followers.
    pub async fn published(&self, head: Option<i64>) {
        if let Some(head) = head {
            self.feed.published(head).await;
        }
    }

    /// The tokens of a session that has been opened.
    ///
    /// # Errors
    /// [`Error::Internal`] when the key cannot sign.
    pub fn tokens(&self, planned: &Planned, roles: &[String]) -> Result<Tokens, Error> {
        let session = &planned.session;
        let (user, now, expires_at) = (session.user_id, session.created_at, session.access_expires_at);
        let access = self.access.issue(user, session.id, roles, now, expires_at)?;
        Ok(Tokens {
            access_token: access.jwt,
            refresh_token: planned.refresh_token.clone(),
            expires_in_secs: expires_at.secs() - now.secs(),
        })
    }

    /// Exchanges a refresh token for fresh tokens.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], [`Error::TokenExpired`], or [`Error::TokenRevoked`], also when this very call ends the
    /// session because the token's successor has been used.
    pub async fn refresh(&self, text: &str, client: &Client) -> Result<Tokens, Error> {
        let presented = self.refresh.parse(text).ok_or(Error::TokenInvalid)?;
        let successor = self.refresh.successor(&presented.token);
        let session_id = presented.token.session_id();
        let now = Millis::now();
        let rotation = Rotation {
            session_id,
            presented: presented.token.hash(),
            successor: successor.hash(),
            genuine: presented.genuine,
            now,
            expires_at: self.idle_end(now),
            access_expires_at: self.access.expiry(now, Millis(i64::MAX)),
            revoked_until: self.revoked_until(now),
            reuse: Entry::new(Event::RefreshReused, client, now).session(session_id),
        };
        match self.store.rotate(&rotation).await? {
            Rotated::Fresh { session, roles } => {
                let expires_at = self.access.expiry(now, session.ends_at);
                let access = self.access.issue(session.user_id, session_id, &roles, now, expires_at)?;
                Ok(Tokens {
                    access_token: access.jwt,
                    refresh_token: successor,
                    expires_in_secs: expires_at.secs() - now.secs(),
                })
            }
            Rotated::Reused { user_id, head } => {
                tracing::warn!(
                    target: "auth_svc::security",
                    audit = "refresh_token.reused",
                    user.id = %user_id.0,
                    session.id = %session_id.0,
                    "a spent refresh token was used again; its session has been ended"
                );
                self.published(Some(head)).await;
                Err(Error::TokenRevoked)
            }
            Rotated::Ended => Err(Error::TokenRevoked),
            Rotated::Expired => Err(Error::TokenExpired),
            Rotated::Unknown => Err(Error::TokenInvalid),
        }
    }

    /// A user's live sessions, the last used first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, user: UserId, after: Option<SessionCursor>, limit: u32) -> Result<Vec<Session>, Error> {
        Ok(self.store.sessions(user, Millis::now(), after, limit).await?)
    }

    /// Ends a session of a user; ending it again is no error.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`] when the user has no such session.
    pub async fn end(&self, user: UserId, session: SessionId, event: Event, client: &Client) -> Result<(), Error> {
        let now = Millis::now();
        let entry = Entry::own(event, user, client, now).session(session);
        match self.store.end_session(user, session, now, self.revoked_until(now), &[entry]).await? {
            End::Ended(head) => self.published(Some(head)).await,
            End::Over => {}
            End::Missing => return Err(Error::SessionNotFound),
        }
        Ok(())
    }

    /// Ends all sessions of a user but one; how many.
    ///
    /// # Errors
    /// [`Error::Store`]. Whether the caller has proved lately whose session this is, is looked at before.
    pub async fn end_others(&self, user: UserId, keep: SessionId, client: &Client) -> Result<u32, Error> {
        let now = Millis::now();
        let entry = Entry::own(Event::SessionOthersRevoked, user, client, now).session(keep);
        let ended = self.store.end_other_sessions(user, keep, now, self.revoked_until(now), &[entry]).await?;
        self.published(ended.head).await;
        Ok(ended.count)
    }

    /// What an access token is worth now, as the store sees its session.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], [`Error::TokenExpired`], [`Error::TokenRevoked`].
    pub async fn check(&self, jwt: &str) -> Result<AccessClaims, Error> {
        let claims = self.access.verify(jwt)?;
        let session = self.alive(SessionId(claims.sid)).await?;
        if session.user_id.0 == claims.sub { Ok(claims) } else { Err(Error::TokenInvalid) }
    }

    /// A session that is alive now.
    ///
    /// # Errors
    /// [`Error::TokenRevoked`] when it has ended or is not known, [`Error::TokenExpired`] when its time is over.
    pub async fn alive(&self, id: SessionId) -> Result<Session, Error> {
        let session = self.store.session(id).await?.ok_or(Error::TokenRevoked)?;
        if session.ended_at.is_some() {
            return Err(Error::TokenRevoked);
        }
        if session.expires_at <= Millis::now() { Err(Error::TokenExpired) } else { Ok(session) }
    }

    /// Whose the session of this id is and until when it is alive, or the API key, whose id may stand in its place.
    ///
    /// # Errors
    /// As [`Sessions::alive`].
    pub async fn alive_or_key(&self, id: SessionId) -> Result<(UserId, Millis), Error> {
        match self.alive(id).await {
            Ok(session) => Ok((session.user_id, session.expires_at)),
            Err(Error::TokenRevoked) => self.alive_key(id.0).await.map(|key| (key.account, key.expires_at)),
            Err(error) => Err(error),
        }
    }

    /// Spends a WebSocket token's id; the user's roles, and when the session ends unless it is used before.
    ///
    /// # Errors
    /// [`Error::TokenSpent`] for the second time, [`Error::TokenRevoked`] when the session is over,
    /// [`Error::TokenExpired`] when the token is, [`Error::Invalid`] when it expires too far in the future.
    pub async fn spend_ws(
        &self,
        jti: Uuid,
        user_id: UserId,
        session_id: SessionId,
        expires_at: Millis,
    ) -> Result<(Vec<String>, Millis), Error> {
        let now = Millis::now();
        if expires_at <= now {
            return Err(Error::TokenExpired);
        }
        if expires_at > now.plus(WS_TOKEN_LIFE_MAX) {
            return Err(Error::field("expire_time", "must be at most one hour from now"));
        }
        match self.store.spend_ws(&WsSpend { jti, session_id, user_id, now, expires_at }).await? {
            WsSpent::Spent { roles, session_expires_at } => Ok((roles, session_expires_at)),
            WsSpent::Again => Err(Error::TokenSpent),
            WsSpent::SessionOver => Err(Error::TokenRevoked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_strange_device_name_is_cut_and_never_refused() {
        let client = Client::cut(&format!(" a\u{7}\0{}", "😀".repeat(300)), "::1");
        assert_eq!(client.device.chars().count(), 200);
        assert!(client.device.starts_with("a😀"));
        assert_eq!(client.ip_address, "::1");
    }
}
