//! Accounts: the names that people log in with, registration, and changes of username and password.
//! It knows neither gRPC nor SQL. Logging in is in `login.rs`, sessions and their tokens in `session.rs`, hashing in
//! `password.rs`, news to user-svc in `outbox.rs`.

use std::sync::Arc;

use mesh::{
    error::FieldViolation,
    text::{self, Violations},
    time::Millis,
};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use crate::{
    api_key::{ApiKeyLimits, SERVICE_ROLE},
    audit::{Entry, Event, Failures},
    deletion::DeletionLimits,
    error::Error,
    factor::{Binding, Factors},
    invitation::{InvitationHash, InvitationLimits, RegistrationMode},
    login::{Attempt, LoggedIn},
    mail::{Kind, Mails},
    outbox::Outbox,
    password::{Password, Passwords},
    proof::Method,
    role::Role,
    session::{Client, SessionId, Sessions, Tokens},
    store::{Created, Credentials, NewAccount, PasswordChange, PasswordChanged, Renamed, Store},
};

/// How often a login is judged again when its password changes in the same moment.
pub(crate) const RACES_MAX: u32 = 3;

/// The id of an account, which is the id of its user everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

/// A username: 3–32 ASCII letters, digits, `_`, `.`, `-`, as it was typed. Two that differ only in case are the same
/// name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// Checks a username.
    ///
    /// # Errors
    /// A violation that names the limits.
    pub fn parse(field: &str, value: &str) -> Result<Self, FieldViolation> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (3..=32).contains(&value.len()) && value.bytes().all(good) {
            return Ok(Self(value.to_owned()));
        }
        Err(FieldViolation::new(field, "must have 3–32 letters (a–z), digits, `_`, `.` or `-`"))
    }

    /// A name that a store kept; it was good when it was given, whatever the rule is now.
    #[must_use]
    pub fn kept(typed: String) -> Self {
        Self(typed)
    }

    /// As it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What makes it unique: lower case. The rule allows ASCII alone, so no other folding is needed.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// An email address: at most 254 characters with one `@` and something on either side, as it was typed.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    typed: String,
    key: String,
}

impl Email {
    /// Checks an address. Spaces around it are dropped.
    ///
    /// # Errors
    /// A violation that names the rule.
    pub fn parse(field: &str, value: &str) -> Result<Self, FieldViolation> {
        let typed = text::name(field, value, 1, 254)?;
        let key = email_key(&typed);
        let whole = key
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
        if !whole || key.chars().any(char::is_whitespace) {
            return Err(FieldViolation::new(field, "must be an email address: one `@`, no spaces"));
        }
        Ok(Self { typed, key })
    }

    /// An address that a store kept; it was good when it was given, whatever the rule is now.
    #[must_use]
    pub fn kept(typed: String) -> Self {
        Self { key: email_key(&typed), typed }
    }

    /// As it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.typed
    }

    /// What makes it unique: see [`email_key`].
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Addresses do not belong into a log, so debug output has none.
impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Email(…)")
    }
}

/// How two addresses are compared: compatibility forms are made plain (NFKC: full width, ligatures), then each letter
/// gets its full Unicode lower case, then NFKC again, because lower case can come apart. That is no case *folding*:
/// `ß` stays apart from `ss`, and a final sigma from another.
#[must_use]
pub fn email_key(typed: &str) -> String {
    typed.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

/// What somebody logs in with. An `@` makes it an email address, since no username has one.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// The key of a username.
    Username(String),
    /// The key of an address.
    Email(String),
}

impl Login {
    /// Reads a login name. What cannot be a name of any account is still one to look up, so that it costs the same.
    ///
    /// # Errors
    /// A violation when it is empty or longer than any name.
    pub fn parse(field: &str, value: &str) -> Result<Self, FieldViolation> {
        let typed = text::name(field, value, 1, 254)?;
        let key = email_key(&typed);
        Ok(if key.contains('@') { Self::Email(key) } else { Self::Username(typed.to_ascii_lowercase()) })
    }
}

/// A name to log in with may be an address, so debug output has none.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

/// An account as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// The username as typed.
    pub username: Username,
    /// The address as typed.
    pub email: Email,
    /// The roles that its access tokens carry.
    pub roles: Vec<String>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
    /// Since when an admin lets nobody log in to it.
    pub disabled_at: Option<Millis>,
    /// When its address was shown to be its owner's; none while it was not.
    pub email_verified_at: Option<Millis>,
}

impl Account {
    /// Whether programs call as it, and nobody logs in to it.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.roles.iter().any(|role| role == SERVICE_ROLE)
    }
}

/// Somebody who registers, checked.
#[derive(Debug)]
pub struct Registration {
    /// The id that the client chose, if any.
    pub id: Option<UserId>,
    /// The username.
    pub username: Username,
    /// The address.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// For the profile; may be empty.
    pub first_name: String,
    /// For the profile; may be empty.
    pub last_name: String,
    /// The invitation that was given, if any.
    pub invitation: Option<InvitationHash>,
    /// Where it comes from.
    pub client: Client,
}

/// The domain of accounts.
#[derive(Debug)]
pub struct Accounts {
    /// Where accounts are kept.
    pub store: Arc<dyn Store>,
    /// The pool that hashes.
    pub passwords: Passwords,
    /// What opens and ends sessions.
    pub sessions: Arc<Sessions>,
    /// Attempts that failed lately.
    pub failures: Arc<Failures>,
    /// What judges second factors.
    pub factors: Arc<Factors>,
    /// What tells user-svc.
    pub outbox: Arc<Outbox>,
    /// What has mails sent.
    pub mails: Arc<Mails>,
    /// Who may register.
    pub registration: RegistrationMode,
    /// How many may be invited.
    pub invitations: InvitationLimits,
    /// How many API keys, and for how long.
    pub api_keys: ApiKeyLimits,
    /// How long deleted accounts may be had back.
    pub deletion: DeletionLimits,
}

impl Accounts {
    /// Makes an account, its first session and its profile. A repeated call with the same id, names and password logs
    /// in to the account that the first one made.
    ///
    /// # Errors
    /// [`Error::AccountExists`], or [`Error::PasswordsBusy`]; or why nobody may register here, or not with this invitation;
    /// [`Error::EmailUnverified`] when the account is made and its address must be verified before anybody logs in.
    pub async fn register(&self, registration: Registration) -> Result<(Account, Tokens), Error> {
        if let Some(id) = registration.id
            && let Some(there) = self.store.credentials_by_id(id).await?
        {
            return self.register_again(there, registration).await;
        }
        // Before the names are looked at: who was not invited does not learn which are taken.
        let invitation = self.admit(registration.invitation, &registration.client).await?;
        if self.store.taken(&registration.username, &registration.email).await? {
            return Err(Error::AccountExists);
        }
        let names = [
            registration.username.as_str(),
            registration.email.as_str(),
            &registration.first_name,
            &registration.last_name,
        ];
        self.passwords.judge("password", &registration.password, &names).await?;
        let password_hash = self.passwords.hash(&registration.password).await?;
        let now = Millis::now();
        let id = registration.id.unwrap_or_else(|| UserId(Uuid::now_v7()));
        let account = NewAccount {
            id,
            username: registration.username.clone(),
            email: registration.email.clone(),
            password_hash,
            roles: Role::User.names(),
            first_name: registration.first_name.clone(),
            last_name: registration.last_name.clone(),
            created_at: now,
            delivery_due_at: self.outbox.workers_may_take_at(now),
            invitation: invitation.map(|(_, hash)| hash),
            mails: self.mails.welcome(id, &registration.client, now),
        };
        let planned = self.sessions.plan(account.id, &[Method::Password], &registration.client, now);
        let [mut registered, opened] = [Event::AccountRegistered, Event::LoginRegistered]
            .map(|event| Entry::own(event, account.id, &registration.client, now).session(planned.session.id));
        if let Some((invitation, _)) = invitation {
            registered = registered.detail(&format!("by the invitation {invitation}"));
        }
        let audit = [registered, opened];
        match self.store.create_account(&account, &planned.session, &audit).await? {
            Created::Made => {}
            Created::NameTaken => return Err(Error::AccountExists),
            Created::NotInvited => return Err(Error::InvitationInvalid),
            Created::IdTaken => {
                let there = self.store.credentials_by_id(account.id).await?.ok_or(Error::AccountExists)?;
                return self.register_again(there, registration).await;
            }
        }
        self.outbox.deliver_now(account.id).await;
        let tokens = self.sessions.tokens(&planned, &account.roles)?;
        let account = made(account);
        if let Err(refused) = self.require_verified(&account) {
            // Nobody has a token of it yet, so ending it again opens no gap.
            let (user, session) = (account.id, planned.session.id);
            self.sessions.end(user, session, Event::SessionLogout, &registration.client).await?;
            return Err(refused);
        }
        Ok((account, tokens))
    }

    /// The account of this id is there: the same names and password mean that this is the same registration, repeated.
    async fn register_again(&self, there: Credentials, registration: Registration) -> Result<(Account, Tokens), Error> {
        let same = there.account.username.key() == registration.username.key()
            && there.account.email.key() == registration.email.key();
        if !same {
            return Err(Error::AccountExists);
        }
        self.outbox.deliver_now(there.account.id).await;
        let attempt = Attempt {
            login: Login::Username(registration.username.key()),
            password: &registration.password,
            device: None,
            known: true,
            binding: Binding::nowhere(),
        };
        match self.login(&attempt, &registration.client).await {
            Ok(LoggedIn::Open(opened)) => Ok((opened.account, opened.tokens)),
            // One with a second factor was registered long ago.
            Ok(LoggedIn::Challenged(_)) | Err(Error::InvalidCredentials) => Err(Error::AccountExists),
            Err(error) => Err(error),
        }
    }

    /// Sets a new password and ends every session but the caller's; how many ended.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] when the current password is wrong; [`Error::ReauthenticationRequired`] when the
    /// account has a second factor and the session has not given it lately.
    pub async fn change_password(
        &self,
        user: UserId,
        session: SessionId,
        current: &Password,
        new: &Password,
        client: &Client,
    ) -> Result<u32, Error> {
        if self.factors.of(user).await?.totp_confirmed_at.is_some() {
            self.sessions.require_fresh(session).await?;
        }
        for _ in 0..RACES_MAX {
            let credentials = self.store.credentials_by_id(user).await?.ok_or(Error::Unauthorized)?;
            let verified = self.verified(Some(credentials), current, Event::PasswordChanged, client).await?;
            let names = [verified.account.username.as_str(), verified.account.email.as_str()];
            self.passwords.judge("new_password", new, &names).await?;
            let new_hash = self.passwords.hash(new).await?;
            let now = Millis::now();
            let change = PasswordChange {
                user_id: user,
                verified_hash: verified.password_hash,
                new_hash,
                keep: session,
                now,
                revoked_until: self.sessions.revoked_until(now),
                audit: vec![Entry::own(Event::PasswordChanged, user, client, now).session(session)],
                mails: self.mails.notice(Kind::PasswordChanged, user, client, now),
            };
            if let PasswordChanged::Changed(ended) = self.store.change_password(&change).await? {
                self.sessions.published(ended.head).await;
                return Ok(ended.count);
            }
        }
        Err(Error::InvalidCredentials)
    }

    /// An account.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when it is gone.
    pub async fn account(&self, user: UserId) -> Result<Account, Error> {
        self.store.account(user).await?.ok_or(Error::Unauthorized)
    }

    /// Gives an account another username and tells user-svc.
    ///
    /// # Errors
    /// [`Error::AccountExists`] when the name is taken.
    pub async fn rename(&self, user: UserId, username: &Username, client: &Client) -> Result<Account, Error> {
        let now = Millis::now();
        let due_at = self.outbox.workers_may_take_at(now);
        let entry = Entry::own(Event::AccountRenamed, user, client, now).detail(username.as_str());
        match self.store.rename(user, username, now, due_at, &[entry]).await? {
            Renamed::Renamed(account) => {
                self.outbox.deliver_now(user).await;
                Ok(account)
            }
            Renamed::Taken => Err(Error::AccountExists),
            Renamed::Missing => Err(Error::Unauthorized),
        }
    }
}

fn made(account: NewAccount) -> Account {
    Account {
        id: account.id,
        username: account.username,
        email: account.email,
        roles: account.roles,
        created_at: account.created_at,
        updated_at: account.created_at,
        disabled_at: None,
        email_verified_at: None,
    }
}

/// The fields of a registration as they came.
#[derive(Debug, Default)]
pub struct RegistrationFields<'a> {
    /// A UUID or nothing.
    pub user_id: &'a str,
    /// The username.
    pub username: &'a str,
    /// The address.
    pub email: &'a str,
    /// The first name.
    pub first_name: &'a str,
    /// The last name.
    pub last_name: &'a str,
    /// The code of an invitation; may be empty.
    pub invitation: &'a str,
}

impl Registration {
    /// Checks all fields, so that one answer names every bad one.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn parse(fields: &RegistrationFields<'_>, password: String, client: Client) -> Result<Self, Error> {
        let mut violations = Violations::default();
        let id = violations.check(match fields.user_id {
            "" => Ok(None),
            chosen => text::uuid("user_id", chosen).and_then(|id| match id.is_nil() || id.is_max() {
                true => Err(FieldViolation::new("user_id", "must not be the nil or the max UUID")),
                false => Ok(Some(UserId(id))),
            }),
        });
        let username = violations.check(Username::parse("username", fields.username));
        let email = violations.check(Email::parse("email", fields.email));
        let password = violations.check(Password::parse_new("password", password));
        let first_name = violations.check(text::name("first_name", fields.first_name, 0, 100));
        let last_name = violations.check(text::name("last_name", fields.last_name, 0, 100));
        let invitation = violations.check(InvitationHash::parse("invitation", fields.invitation));
        let names = first_name.zip(last_name);
        let (Some(id), Some(username), Some(email), Some(password), Some((first_name, last_name)), Some(invitation)) =
            (id, username, email, password, names, invitation)
        else {
            return Err(match violations.into_result() {
                Err(refusal) => Error::Invalid(refusal.violations),
                Ok(()) => Error::internal("a registration without its fields and without a violation"),
            });
        };
        Ok(Self { id, username, email, password, first_name, last_name, invitation, client })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_keeps_its_letters_and_is_compared_without_case() {
        let name = Username::parse("username", "Ada.L-1_x").expect("good");
        assert_eq!((name.as_str(), name.key().as_str()), ("Ada.L-1_x", "ada.l-1_x"));
        for bad in ["", "ab", &"a".repeat(33), "ada lovelace", "ädä", "ada\0x", "ada@x", "😀😀😀"] {
            assert!(Username::parse("username", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_that_people_take_for_the_same_have_one_key() {
        let key = |typed| Email::parse("email", typed).expect("good").key().to_owned();
        assert_eq!(key("Ada@Example.org"), key("ada@example.ORG"));
        assert_eq!(key("  ada@example.org "), key("ada@example.org"));
        assert_eq!(key("ＡＤＡ＠example.org"), key("ada@example.org"));
        assert_eq!(key("ÄDA@example.org"), key("äda@example.org"));
        // U+212B, the Ångström sign, against the letter.
        assert_eq!(key("\u{212b}@example.org"), key("å@example.org"));
        assert_ne!(key("strasse@example.org"), key("straße@example.org"));
    }

    #[test]
    fn an_address_needs_one_at_sign_with_something_on_either_side() {
        let long = format!("{}@example.org", "a".repeat(250));
        for bad in ["", "ada", "@", "ada@", "@example.org", "a@b@c", "a b@c", "a@b＠c", "a\0@b", long.as_str()] {
            assert!(Email::parse("email", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_login_is_an_address_when_it_has_an_at_sign() {
        assert_eq!(Login::parse("login", "ADA"), Ok(Login::Username("ada".into())));
        assert_eq!(Login::parse("login", "Ada@X.org"), Ok(Login::Email("ada@x.org".into())));
        assert!(Login::parse("login", " ").is_err());
    }

    #[test]
    fn one_answer_names_every_bad_field() {
        let fields = RegistrationFields { user_id: "x", username: "a", email: "b", ..Default::default() };
        let error = Registration::parse(&fields, "short".into(), Client::default()).expect_err("refused");
        let Error::Invalid(violations) = error else { panic!("{error:?}") };
        let named: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, ["user_id", "username", "email", "password"]);
    }

    #[test]
    fn debug_output_has_neither_address_nor_password() {
        let fields = RegistrationFields { username: "ada", email: "ada@x.org", ..Default::default() };
        let parsed = Registration::parse(&fields, "correct horse".into(), Client::default()).expect("good");
        let shown = format!("{parsed:?}");
        assert!(!shown.contains("x.org") && !shown.contains("horse"), "{shown}");
    }
}
