//! Service accounts and their API keys: how other teams' programs call. A service account is an account that nobody can log
//! in to; what it may do is in the scopes of each of its keys (`mesh::identity::Scope`), which are judged where the call is
//! made. Keys always expire, and a revoked one is refused everywhere like the tokens of an ended session: its id is told
//! to everyone by `revocation.rs`.

use std::{fmt, time::Duration};

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mesh::{
    identity::{API_KEY_PREFIX, Scope},
    text::{self, Violations},
    time::Millis,
};
use uuid::Uuid;

use crate::{
    account::{Accounts, Email, UserId, Username},
    audit::{Actor, Entry, Event},
    error::Error,
    password::Password,
    session::{Client, Sessions},
    store::{Created, KeyMade, NewAccount, NewApiKey, NewServiceAccount},
};

/// The role of every service account: none that people have.
pub const SERVICE_ROLE: &str = "service";
/// That a key is used is noted no more often than this.
pub(crate) const LAST_USE_STEP: Duration = Duration::from_mins(1);
/// The longest name of a key.
const NAME_CHARS_MAX: usize = 100;
/// How long a key may be good, whatever is asked for.
const LIFE_MIN: Duration = Duration::from_mins(1);
const LIFE_MAX: Duration = Duration::from_hours(3 * 365 * 24);

/// How many keys, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ApiKeyLimits {
    /// How long one is good unless its maker says otherwise.
    pub life: Duration,
    /// How many that have not expired a service account may have.
    pub per_account_max: u32,
}

/// A service account as admins see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its id, which is that of its user everywhere.
    pub id: UserId,
    /// Its name, which others see as its username.
    pub name: Username,
    /// Who made it.
    pub made_by: Actor,
    /// When.
    pub created_at: Millis,
}

/// An API key as admins see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, a UUID of version 7. It stands as the session's id in what services tell one another.
    pub id: Uuid,
    /// The service account that it calls as.
    pub account: UserId,
    /// How it begins.
    pub prefix: String,
    /// What its maker called it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Who made it.
    pub made_by: Actor,
    /// When.
    pub created_at: Millis,
    /// Until when it is good.
    pub expires_at: Millis,
    /// When it was last used, to the minute or two.
    pub last_used_at: Option<Millis>,
}

/// The whole of a key, which whoever makes it sees once.
pub struct Secret {
    prefix: String,
    text: String,
}

/// Keys do not belong into a log.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one: the prefix, which is shown, and 256 random bits beside it.
    ///
    /// # Panics
    /// Never while the system has a random source.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; 38];
        rand::fill(&mut bytes).expect("invariant: the system has a random source");
        let (shown, secret) = bytes.split_at(6);
        let prefix = format!("{API_KEY_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(shown));
        let text = format!("{prefix}_{}", BASE64_URL_SAFE_NO_PAD.encode(secret));
        Self { prefix, text }
    }

    /// For whoever it is given to.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

/// The SHA-256 of a key. Argon2 makes guessing slow where people choose; nobody guesses 256 random bits however fast the
/// hash is, and a key is looked up by it at many calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyHash(pub [u8; 32]);

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyHash(…)")
    }
}

impl ApiKeyHash {
    /// Of what somebody calls with.
    #[must_use]
    pub fn of(key: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, key.as_bytes());
        Self(hash.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes"))
    }
}

/// A key as it is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    account: UserId,
    name: String,
    scopes: Vec<Scope>,
    life: Option<Duration>,
}

impl Order {
    /// Checks the fields; no life is the configured one.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every bad one.
    pub fn parse(account: &str, name: &str, scopes: &[String], life: Option<Duration>) -> Result<Self, Error> {
        let mut violations = Violations::default();
        let account = violations.check(text::uuid("service_account_id", account));
        let name = violations.check(text::name("name", name, 0, NAME_CHARS_MAX));
        let scopes = parse_scopes(scopes, &mut violations);
        if life.is_some_and(|life| !(LIFE_MIN..=LIFE_MAX).contains(&life)) {
            let (min, max) = (LIFE_MIN.as_secs(), LIFE_MAX.as_secs());
            violations.push("expires_in_secs", format!("must be between {min} and {max}"));
        }
        violations.into_result().map_err(|refusal| Error::Invalid(refusal.violations))?;
        let (account, name) = (account.unwrap_or_default(), name.unwrap_or_default());
        Ok(Self { account: UserId(account), name, scopes, life })
    }
}

fn parse_scopes(given: &[String], violations: &mut Violations) -> Vec<Scope> {
    let names = || Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
    if given.is_empty() || given.len() > Scope::ALL.len() {
        violations.push("scopes", format!("must have 1 to {} of {}", Scope::ALL.len(), names()));
    }
    let mut scopes = Vec::new();
    for (place, name) in given.iter().enumerate().take(Scope::ALL.len()) {
        match Scope::from_name(name) {
            Some(scope) if scopes.contains(&scope) => violations.push(format!("scopes[{place}]"), "is there twice"),
            Some(scope) => scopes.push(scope),
            None => violations.push(format!("scopes[{place}]"), format!("must be one of {}", names())),
        }
    }
    scopes
}

impl Accounts {
    /// Makes a service account. Its address is one that no mail reaches, and its password one that nobody knows.
    ///
    /// # Errors
    /// [`Error::AccountExists`] when the name is taken, [`Error::PasswordsBusy`].
    pub async fn create_service_account(
        &self,
        name: Username,
        by: Actor,
        client: &Client,
    ) -> Result<ServiceAccount, Error> {
        let email = Email::parse("name", &format!("{}@service.invalid", name.key()));
        let email = email.map_err(|violation| Error::Invalid(vec![violation]))?;
        if self.store.taken(&name, &email).await? {
            return Err(Error::AccountExists);
        }
        let random =
            Password::parse("password", Secret::generate().text).map_err(|_rule| Error::internal("a password"))?;
        let (password_hash, now) = (self.passwords.hash(&random).await?, Millis::now());
        let account = NewAccount {
            id: UserId(Uuid::now_v7()),
            username: name.clone(),
            email,
            password_hash,
            roles: vec![SERVICE_ROLE.to_owned()],
            first_name: String::new(),
            last_name: String::new(),
            created_at: now,
            delivery_due_at: self.outbox.workers_may_take_at(now),
            invitation: None,
            mails: Vec::new(),
        };
        let id = account.id;
        let entry = Entry::new(Event::ServiceAccountCreated, client, now).by(by.clone()).on(id).detail(name.as_str());
        let new = NewServiceAccount { account, made_by: by.clone(), audit: vec![entry] };
        match self.store.create_service_account(&new).await? {
            Created::Made => {}
            Created::IdTaken | Created::NameTaken | Created::NotInvited => return Err(Error::AccountExists),
        }
        self.outbox.deliver_now(id).await;
        Ok(ServiceAccount { id, name, made_by: by, created_at: now })
    }

    /// Makes a key of a service account.
    ///
    /// # Errors
    /// [`Error::UserNotFound`] when there is no such service account, [`Error::ApiKeysFull`].
    pub async fn create_api_key(&self, order: Order, by: Actor, client: &Client) -> Result<(ApiKey, Secret), Error> {
        let (now, secret, limits) = (Millis::now(), Secret::generate(), self.api_keys);
        let key = ApiKey {
            id: Uuid::now_v7(),
            account: order.account,
            prefix: secret.prefix.clone(),
            name: order.name,
            scopes: order.scopes,
            made_by: by.clone(),
            created_at: now,
            expires_at: now.plus(order.life.unwrap_or(limits.life)),
            last_used_at: None,
        };
        let detail = format!("{} for {}", key.id, Scope::join(&key.scopes));
        let entry = Entry::new(Event::ApiKeyCreated, client, now).by(by).on(key.account).detail(&detail);
        let hash = ApiKeyHash::of(secret.expose());
        let new = NewApiKey { key, hash, keys_max: limits.per_account_max, audit: vec![entry] };
        match self.store.create_api_key(&new).await? {
            KeyMade::Made => Ok((new.key, secret)),
            KeyMade::Full => Err(Error::ApiKeysFull),
            KeyMade::Missing => Err(Error::UserNotFound),
        }
    }

    /// Revokes a key: it is refused everywhere within a second.
    ///
    /// # Errors
    /// [`Error::ApiKeyNotFound`].
    pub async fn revoke_api_key(&self, id: Uuid, by: Actor, client: &Client) -> Result<(), Error> {
        let key = self.store.api_key(id).await?.ok_or(Error::ApiKeyNotFound)?;
        let now = Millis::now();
        let entry = Entry::new(Event::ApiKeyRevoked, client, now).by(by).on(key.account).detail(&id.to_string());
        let until = self.sessions.revoked_until(now);
        let number = self.store.revoke_api_key(id, until, &[entry]).await?.ok_or(Error::ApiKeyNotFound)?;
        self.sessions.published(Some(number)).await;
        Ok(())
    }
}

impl Sessions {
    /// The key that somebody calls with, if it is good now, and the roles of its account.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] when it is none, or was revoked; [`Error::TokenExpired`].
    pub async fn check_api_key(&self, text: &str) -> Result<(ApiKey, Vec<String>), Error> {
        let now = Millis::now();
        if !text.starts_with(API_KEY_PREFIX) {
            return Err(Error::TokenInvalid);
        }
        let (key, roles) = self.store.use_api_key(&ApiKeyHash::of(text), now).await?.ok_or(Error::TokenInvalid)?;
        if key.expires_at <= now { Err(Error::TokenExpired) } else { Ok((key, roles)) }
    }

    /// The key of this id, if it is good now.
    ///
    /// # Errors
    /// [`Error::TokenRevoked`] when there is none, [`Error::TokenExpired`].
    pub async fn alive_key(&self, id: Uuid) -> Result<ApiKey, Error> {
        let key = self.store.api_key(id).await?.ok_or(Error::TokenRevoked)?;
        if key.expires_at <= Millis::now() { Err(Error::TokenExpired) } else { Ok(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_how_it_begins_and_no_two_are_the_same() {
        let (one, two) = (Secret::generate(), Secret::generate());
        assert!(one.expose().starts_with(&one.prefix) && one.prefix.starts_with("sbk_"), "{}", one.prefix);
        assert_eq!((one.prefix.len(), one.expose().len()), (12, 56));
        assert_ne!(ApiKeyHash::of(one.expose()), ApiKeyHash::of(two.expose()));
        assert_ne!(ApiKeyHash::of(one.expose()), ApiKeyHash::of(&one.prefix));
        assert!(!format!("{one:?}{:?}", ApiKeyHash::of(one.expose())).contains("sbk_"));
    }

    #[test]
    fn an_order_names_every_field_that_is_wrong() {
        let id = Uuid::now_v7().to_string();
        let scopes = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let good = Order::parse(&id, "billing", &scopes(&["messages:write", "users:read"]), None).expect("good");
        assert_eq!(good.scopes, [Scope::MessagesWrite, Scope::UsersRead]);
        let fields = |order: Result<Order, Error>| match order {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|one| one.field).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let all = Order::parse("x", &"x".repeat(101), &[], Some(Duration::from_secs(1)));
        assert_eq!(fields(all), ["service_account_id", "name", "scopes", "expires_in_secs"]);
        let twice = Order::parse(&id, "", &scopes(&["users:read", "users:read", "admin"]), None);
        assert_eq!(fields(twice), ["scopes[1]", "scopes[2]"]);
        let many = Order::parse(&id, "", &vec!["users:read".to_owned(); 1_000], None);
        assert!(fields(many).contains(&"scopes".to_owned()));
    }
}
