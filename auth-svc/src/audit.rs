//! The audit log: which security event happened, who did it, to whom, from where, under which request. An entry that
//! tells of a write goes into the store with it, in the same step ([`Entry`] stands in that call's arguments); one that
//! tells of anything else is written by [`record`]. Entries are never changed; they go when their retention is over.
//!
//! Failed attempts are counted when they are many: `audit/failures.rs`.
//!
//! A new event is one line in the list below. Names are `group.what`; the group `login` is what an owner sees as the
//! history of their logins.

use mesh::time::Millis;
use uuid::Uuid;

use crate::{
    account::UserId,
    error::Error,
    session::{Client, SessionId},
    store::Store,
};

mod failures;

pub use failures::Failures;

/// How much of a detail is kept, in characters: it is for people, and ours.
const DETAIL_CHARS_MAX: usize = 500;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What happened. Names may be added, never changed: exports are kept for years.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            /// Every event.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in the store, in answers and in exports.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

events! {
    /// An account was made, or refused to somebody with an invitation that is none; the detail has that of one that is.
    AccountRegistered = "account.registered";
    /// An account has another username; the detail has both.
    AccountRenamed = "account.renamed";
    /// Everything that is held about a person was given to them.
    AccountExported = "account.exported";
    /// Nobody may log in to an account any more.
    AccountDisabled = "account.disabled";
    /// Its people may log in again.
    AccountEnabled = "account.enabled";
    /// An account is to be deleted; its sessions ended.
    AccountDeleted = "account.deleted";
    /// A deletion was taken back: its owner logged in, or an admin enabled the account.
    AccountKept = "account.kept";
    /// An account was erased. What else the log has of it tells no more who it was.
    AccountErased = "account.erased";
    /// A session was opened, or refused to somebody who does not know the password.
    LoginPassword = "login.password";
    /// A session was opened by registering.
    LoginRegistered = "login.registered";
    /// A session was opened by a code of the second factor, or refused to a wrong one.
    LoginSecondFactor = "login.second_factor";
    /// A session was ended by its own user.
    SessionLogout = "session.logout";
    /// A session was ended from another one.
    SessionRevoked = "session.revoked";
    /// Every session but the caller's was ended.
    SessionOthersRevoked = "session.others_revoked";
    /// An admin ended all sessions of an account, or everybody's.
    SessionsEnded = "session.ended_by_admin";
    /// Sessions were ended because the account had as many as it may.
    SessionOverLimit = "session.over_limit";
    /// A spent refresh token was used again; its session was ended.
    RefreshReused = "session.refresh_reused";
    /// A password was changed, or the current one was not known.
    PasswordChanged = "password.changed";
    /// A link for a new password was mailed to an account; the actor is nobody, who asked is not known.
    PasswordResetRequested = "password.reset_requested";
    /// A password was set by such a link, and all sessions ended; or the token was not good.
    PasswordReset = "password.reset";
    /// A link showed that the address is the account's; or the token was not good.
    EmailVerified = "email.verified";
    /// A session proved again whose it is, or could not; the detail says how.
    SessionReauthenticated = "session.reauthenticated";
    /// An authenticator app was added.
    TotpAdded = "factor.totp_added";
    /// The authenticator app was removed, with recovery codes and remembered devices.
    TotpRemoved = "factor.totp_removed";
    /// New recovery codes were made; the old ones are good no more.
    RecoveryCodesMade = "factor.recovery_codes_made";
    /// A recovery code was used.
    RecoveryCodeUsed = "factor.recovery_code_used";
    /// A device need not give a code for a while.
    DeviceRemembered = "factor.device_remembered";
    /// Every remembered device was forgotten.
    DevicesForgotten = "factor.devices_forgotten";
    /// An account was given another role; the detail says which.
    RoleSet = "role.set";
    /// An invitation was made; the detail has its id.
    InvitationMade = "invitation.made";
    /// An invitation was taken back before it was used; the detail has its id.
    InvitationRevoked = "invitation.revoked";
    /// A new key was made that signs access tokens; the detail has its id and from when on it does.
    KeyRotated = "key.rotated";
    /// A service account was made; the detail has its name.
    ServiceAccountCreated = "service_account.created";
    /// An API key was made; the detail has its id and its scopes.
    ApiKeyCreated = "api_key.created";
    /// An API key was revoked; the detail has its id.
    ApiKeyRevoked = "api_key.revoked";
    /// The audit log was read as a whole.
    AuditExported = "audit.exported";
    /// What a newer version wrote and this one does not know.
    Unknown = "unknown.event";
}

impl Event {
    /// The event that a store kept. During an upgrade it may be one of a newer version.
    #[must_use]
    pub fn kept(name: &str) -> Self {
        Self::from_name(name).unwrap_or(Self::Unknown)
    }

    /// The event of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == name)
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody that is known: a login that failed.
    Nobody,
    /// A user.
    User(UserId),
    /// A service of the mesh for itself.
    Service(String),
    /// A key of a service account; the id of the key.
    ApiKey(Uuid),
    /// Somebody at the command line of the machine.
    Operator(String),
}

impl Actor {
    /// What kind, as it is kept.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::User(_) => "user",
            Self::Service(_) => "service",
            Self::ApiKey(_) => "api_key",
            Self::Operator(_) => "operator",
        }
    }

    /// Its id or name, as it is kept.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::User(id) => id.0.to_string(),
            Self::ApiKey(id) => id.to_string(),
            Self::Service(name) | Self::Operator(name) => name.clone(),
        }
    }

    /// The actor that a store kept.
    #[must_use]
    pub fn kept(kind: &str, name: &str) -> Option<Self> {
        Some(match kind {
            "nobody" => Self::Nobody,
            "user" => Self::User(UserId(Uuid::parse_str(name).ok()?)),
            "api_key" => Self::ApiKey(Uuid::parse_str(name).ok()?),
            "service" => Self::Service(name.to_owned()),
            "operator" => Self::Operator(name.to_owned()),
            _ => return None,
        })
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A UUID of version 7, of its time.
    pub id: Uuid,
    /// When.
    pub at: Millis,
    /// What.
    pub event: Event,
    /// Whether it was done, or refused.
    pub succeeded: bool,
    /// Who.
    pub actor: Actor,
    /// On whom, when it is known.
    pub subject: Option<UserId>,
    /// The session that it is about.
    pub session: Option<SessionId>,
    /// From where, and under which request.
    pub client: Client,
    /// More, for people: a reason, a count, a name. Never a secret.
    pub detail: String,
}

impl Entry {
    /// Something that was done now, by nobody yet.
    #[must_use]
    pub fn new(event: Event, client: &Client, at: Millis) -> Self {
        Self {
            id: id_at(at, rand::random()),
            at,
            event,
            succeeded: true,
            actor: Actor::Nobody,
            subject: None,
            session: None,
            client: client.clone(),
            detail: String::new(),
        }
    }

    /// Something that a user did to their own account.
    #[must_use]
    pub fn own(event: Event, user: UserId, client: &Client, at: Millis) -> Self {
        Self { actor: Actor::User(user), subject: Some(user), ..Self::new(event, client, at) }
    }

    /// The same by somebody.
    #[must_use]
    pub fn by(self, actor: Actor) -> Self {
        Self { actor, ..self }
    }

    /// The same on somebody.
    #[must_use]
    pub fn on(self, user: UserId) -> Self {
        Self { subject: Some(user), ..self }
    }

    /// The same about a session.
    #[must_use]
    pub fn session(self, session: SessionId) -> Self {
        Self { session: Some(session), ..self }
    }

    /// The same, refused.
    #[must_use]
    pub fn failed(self, why: &str) -> Self {
        Self { succeeded: false, ..self }.detail(why)
    }

    /// The same with more for people.
    #[must_use]
    pub fn detail(self, detail: &str) -> Self {
        Self { detail: detail.chars().take(DETAIL_CHARS_MAX).collect(), ..self }
    }
}

/// Writes an entry that tells of no write.
///
/// # Errors
/// [`Error::Store`]: what cannot be recorded must not be answered as if it had been.
pub async fn record(store: &dyn Store, entry: Entry) -> Result<(), Error> {
    Ok(store.append_audit(&[entry]).await?)
}

/// The id of an entry at this time; the lowest with no random bits, the highest with all.
#[must_use]
pub fn id_at(at: Millis, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(at.0).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// On whom.
    pub subject: Option<UserId>,
    /// By whom: the id or name of an actor.
    pub actor: Option<String>,
    /// Which event.
    pub events: Events,
    /// Whether it was done.
    pub succeeded: Option<bool>,
    /// Not before.
    pub since: Option<Millis>,
    /// Before.
    pub until: Option<Millis>,
}

/// Which events are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Events {
    /// All.
    #[default]
    All,
    /// One.
    One(Event),
    /// Those whose names begin with a group.
    Group(String),
}

impl Events {
    /// Reads `event`: nothing for all, a name, or a group.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let group = |event: &Event| event.as_str().split_once('.').is_some_and(|(group, _)| group == text);
        match text {
            "" => Some(Self::All),
            name => Event::from_name(name)
                .map(Self::One)
                .or_else(|| Event::ALL.iter().any(group).then(|| Self::Group(text.to_owned()))),
        }
    }

    /// The history of logins.
    #[must_use]
    pub fn logins() -> Self {
        Self::Group("login".to_owned())
    }

    /// The first and the last name, compared by bytes.
    #[must_use]
    pub fn range(&self) -> (String, String) {
        match self {
            Self::All => (String::new(), "\u{7f}".to_owned()),
            Self::One(event) => (event.as_str().to_owned(), event.as_str().to_owned()),
            // `/` comes right after `.`.
            Self::Group(group) => (format!("{group}."), format!("{group}/")),
        }
    }
}

impl Filter {
    /// The ids between which the entries lie, both excluded, from a place in the list on (the newest come first).
    #[must_use]
    pub fn ids(&self, after: Option<Uuid>) -> (Uuid, Uuid) {
        let low = self.since.map_or(Uuid::nil(), |since| before(id_at(since, [0; 10])));
        let high = self.until.map_or(Uuid::max(), |until| id_at(until, [0; 10]));
        (low, after.map_or(high, |after| after.min(high)))
    }
}

fn before(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_groups_and_lead_back_to_their_events() {
        for event in Event::ALL {
            assert_eq!(Event::from_name(event.as_str()), Some(*event));
            assert_eq!(Event::kept(event.as_str()), *event);
            assert_eq!(event.as_str().split('.').count(), 2, "{event:?}");
            assert_eq!(Events::parse(event.as_str()), Some(Events::One(*event)));
        }
        assert_eq!(Events::parse("login"), Some(Events::logins()));
        assert_eq!(Events::parse("nothing"), None);
        assert_eq!(Event::kept("from.the_future"), Event::Unknown);
        let (low, high) = Events::logins().range();
        let logins: Vec<_> = Event::ALL.iter().filter(|it| (&*low..=&*high).contains(&it.as_str())).collect();
        assert!(logins.len() >= 2 && logins.iter().all(|it| it.as_str().starts_with("login.")), "{logins:?}");
    }

    #[test]
    fn the_order_of_ids_is_the_order_of_time_and_a_time_is_a_range_of_ids() {
        let (early, late) = (Millis(1_800_000_000_000), Millis(1_800_000_000_001));
        assert!(id_at(early, [255; 10]) < id_at(late, [0; 10]));
        let filter = Filter { since: Some(early), until: Some(late), ..Filter::default() };
        let (low, high) = filter.ids(None);
        for random in [[0; 10], [7; 10], [255; 10]] {
            assert!(low < id_at(early, random) && id_at(early, random) < high);
            assert!(id_at(late, random) >= high);
        }
        assert!(id_at(Millis(early.0 - 1), [255; 10]) <= low);
        assert_eq!(filter.ids(Some(low)).1, low);
    }

    #[test]
    fn an_actor_reads_back_as_it_was_kept() {
        let id = Uuid::now_v7();
        for actor in [
            Actor::Nobody,
            Actor::User(UserId(id)),
            Actor::ApiKey(id),
            Actor::Service("gateway".into()),
            Actor::Operator("root".into()),
        ] {
            assert_eq!(Actor::kept(actor.kind(), &actor.name()), Some(actor));
        }
        assert_eq!(Actor::kept("user", "x"), None);
        assert_eq!(Actor::kept("ghost", ""), None);
    }
}
