//! The end of accounts, and what comes before it: disabling one, ending everybody's sessions, deleting. A deletion is
//! planned at once, which ends all sessions, and done when its grace is over; until then a login takes it back, unless an
//! admin has asked for it. What erases accounts everywhere is `deletion/eraser.rs`.

use std::time::Duration;

use mesh::time::Millis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    account::{Account, Accounts, UserId},
    audit::{self, Actor, Entry, Event},
    error::Error,
    role::Role,
    session::{Client, SessionId, Sessions},
    store::{AccessChange, AccessSet, DeletionPlan, DeletionPlanned, Store},
};

mod eraser;

pub use eraser::{Eraser, EraserLimits, Holders};

/// Sessions that are ended in one step, when all are.
const ENDED_AT_ONCE: u32 = 500;

/// What becomes of the messages of somebody whose account is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErasedMessages {
    /// They stay, by a deleted user.
    #[default]
    Keep,
    /// They stay in their places without content.
    Blank,
}

/// How long accounts may still be had back.
#[derive(Clone, Copy, Debug)]
pub struct DeletionLimits {
    /// The grace.
    pub grace: Duration,
    /// The least time between a deletion and the erasing, whatever the grace: no token of the account is taken anywhere
    /// after it, so nothing is written that the erasing does not find.
    pub settle: Duration,
}

impl DeletionLimits {
    /// When what is deleted now is erased.
    #[must_use]
    pub fn erase_at(&self, now: Millis) -> Millis {
        now.plus(self.grace.max(self.settle))
    }
}

/// Plans the deletion of an account; when it is erased.
///
/// # Errors
/// [`Error::UserNotFound`].
pub(crate) async fn plan(store: &dyn Store, plan: &DeletionPlan) -> Result<(Millis, Option<i64>), Error> {
    match store.plan_deletion(plan).await? {
        DeletionPlanned::Planned { erase_at, head } => Ok((erase_at, head)),
        DeletionPlanned::Missing => Err(Error::UserNotFound),
    }
}

impl Accounts {
    /// Deletes the caller's own account; when it is erased. Whether they have proved lately who they are is looked at
    /// before.
    ///
    /// # Errors
    /// [`Error::AdminStays`] for an admin: there might be none left.
    pub async fn delete_own(&self, user: UserId, session: SessionId, client: &Client) -> Result<Millis, Error> {
        let account = self.account(user).await?;
        if account.roles.iter().any(|role| role == Role::Admin.as_str()) {
            return Err(Error::AdminStays);
        }
        let now = Millis::now();
        let entry = Entry::own(Event::AccountDeleted, user, client, now).session(session);
        self.delete(user, false, now, entry).await
    }

    /// Deletes an account for an admin; when it is erased.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::Invalid`] for the admin's own account.
    pub async fn delete_other(&self, user: UserId, by: Actor, client: &Client) -> Result<Millis, Error> {
        not_oneself(user, &by)?;
        let now = Millis::now();
        let entry = Entry::new(Event::AccountDeleted, client, now).by(by).on(user);
        self.delete(user, true, now, entry).await
    }

    async fn delete(&self, user: UserId, disabled: bool, now: Millis, entry: Entry) -> Result<Millis, Error> {
        let planned = DeletionPlan {
            user_id: user,
            disabled,
            now,
            erase_at: self.deletion.erase_at(now),
            revoked_until: self.sessions.revoked_until(now),
            audit: vec![entry],
        };
        let (erase_at, head) = plan(self.store.as_ref(), &planned).await?;
        self.sessions.published(head).await;
        Ok(erase_at)
    }

    /// Lets nobody log in to an account any more, or lets them again, which takes a deletion back.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::Invalid`] for the admin's own account and for a service account.
    pub async fn set_access(&self, user: UserId, disabled: bool, by: Actor, client: &Client) -> Result<Account, Error> {
        not_oneself(user, &by)?;
        let service = self.store.account(user).await?.is_some_and(|account| account.is_service());
        if disabled && service {
            return Err(Error::field("user_id", "is a service account's: revoke its keys instead"));
        }
        let now = Millis::now();
        let event = if disabled { Event::AccountDisabled } else { Event::AccountEnabled };
        let entry = |event| Entry::new(event, client, now).by(by.clone()).on(user);
        let change = AccessChange {
            user_id: user,
            disabled,
            now,
            revoked_until: self.sessions.revoked_until(now),
            audit: vec![entry(event)],
            kept: entry(Event::AccountKept),
        };
        match self.store.set_access(&change).await? {
            AccessSet::Set { account, ended } => {
                self.sessions.published(ended.head).await;
                Ok(account)
            }
            AccessSet::Missing => Err(Error::UserNotFound),
        }
    }

    /// Ends all sessions of an account for an admin; how many.
    ///
    /// # Errors
    /// [`Error::UserNotFound`].
    pub async fn end_sessions_of(&self, user: UserId, by: Actor, client: &Client) -> Result<u32, Error> {
        self.store.account(user).await?.ok_or(Error::UserNotFound)?;
        let now = Millis::now();
        let entry = Entry::new(Event::SessionsEnded, client, now).by(by).on(user);
        // No session has the nil id, so none is kept.
        let (none, until) = (SessionId(Uuid::nil()), self.sessions.revoked_until(now));
        let ended = self.store.end_other_sessions(user, none, now, until, &[entry]).await?;
        self.sessions.published(ended.head).await;
        Ok(ended.count)
    }
}

impl Sessions {
    /// Ends every session that is open now, of everybody; how many. It is done in steps: when it fails, some have ended.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn end_all(&self, by: Actor, client: &Client) -> Result<u32, Error> {
        let now = Millis::now();
        // Written before, so that an end that was cut is in the log too.
        audit::record(self.store.as_ref(), Entry::new(Event::SessionsEnded, client, now).by(by).detail("everybody's"))
            .await?;
        let (mut last, mut count, mut head) = (SessionId(Uuid::nil()), 0_u32, None);
        loop {
            let step = self.store.end_sessions_after(last, now, self.revoked_until(now), ENDED_AT_ONCE).await?;
            let (ended, Some(next)) = step else { break };
            count = count.saturating_add(ended.count);
            head = ended.head.or(head);
            last = next;
        }
        self.published(head).await;
        Ok(count)
    }
}

fn not_oneself(user: UserId, by: &Actor) -> Result<(), Error> {
    if *by == Actor::User(user) {
        return Err(Error::field("user_id", "must not be your own"));
    }
    Ok(())
}
