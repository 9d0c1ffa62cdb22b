//! Roles: what an account may do beyond its own. Each one includes those before it, and access tokens carry them all, so
//! whoever checks for one role looks for one name. Who gets a higher one has it from the next refresh on; who loses one
//! loses every session with it, since tokens say what was true when they were issued.

use mesh::{error::FieldViolation, time::Millis};

use crate::{
    account::{Account, Accounts, UserId},
    audit::{Actor, Entry, Event},
    error::Error,
    session::Client,
    store::{RoleChange, RolesSet},
};

/// The highest role of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Everybody.
    User,
    /// May moderate rooms.
    Moderator,
    /// May also give roles and read the audit log.
    Admin,
}

impl Role {
    /// Every role, the lowest first.
    pub const ALL: [Self; 3] = [Self::User, Self::Moderator, Self::Admin];

    /// Its name in tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Moderator => "moderator",
            Self::Admin => "admin",
        }
    }

    /// Reads a role.
    ///
    /// # Errors
    /// A violation that names the roles.
    pub fn parse(field: &str, text: &str) -> Result<Self, FieldViolation> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| FieldViolation::new(field, "must be user, moderator or admin"))
    }

    /// Its name and those that it includes: what tokens carry.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        Self::ALL.into_iter().filter(|role| *role <= self).map(|role| role.as_str().to_owned()).collect()
    }
}

impl Accounts {
    /// Gives an account a role. One that loses something by it loses its sessions too.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::Invalid`] when an admin would lower themselves, which could leave none, and for a
    /// service account.
    pub async fn set_role(&self, user: UserId, role: Role, by: Actor, client: &Client) -> Result<Account, Error> {
        if by == Actor::User(user) && role < Role::Admin {
            return Err(Error::field("role", "of your own account can be lowered by another admin alone"));
        }
        if self.store.account(user).await?.is_some_and(|account| account.is_service()) {
            return Err(Error::field("user_id", "is a service account's: what it may do is in its keys' scopes"));
        }
        let now = Millis::now();
        let change = RoleChange {
            user_id: user,
            roles: role.names(),
            now,
            revoked_until: self.sessions.revoked_until(now),
            audit: vec![Entry::new(Event::RoleSet, client, now).by(by).on(user).detail(role.as_str())],
        };
        match self.store.set_roles(&change).await? {
            RolesSet::Set { account, ended } => {
                self.sessions.published(ended.head).await;
                Ok(account)
            }
            RolesSet::Missing => Err(Error::UserNotFound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_those_before_it() {
        assert_eq!(Role::User.names(), ["user"]);
        assert_eq!(Role::Admin.names(), ["user", "moderator", "admin"]);
        for role in Role::ALL {
            assert_eq!(Role::parse("role", role.as_str()), Ok(role));
        }
        for bad in ["", "root", "Admin", "admin "] {
            assert!(Role::parse("role", bad).is_err(), "{bad:?}");
        }
    }
}
