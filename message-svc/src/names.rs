//! Usernames: a bounded cache before user-svc, which owns what others see of a person. A name is asked for again after
//! a minute; while user-svc is away a stale one serves, because a message with an old name is better than none.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use metrics::Counter;
use moka::sync::Cache;

use crate::{config::NamesConfig, error::Error, id::UserId};

/// Names that may be asked for at once.
pub const ASK_MAX: usize = 100;

/// Where usernames come from.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The usernames of these people, at most [`ASK_MAX`]; those that do not exist are left out.
    async fn usernames(&self, users: &[UserId]) -> Result<Vec<(UserId, String)>, DirectoryError>;
}

/// The directory did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("user-svc did not answer")]
pub struct DirectoryError(#[source] pub Arc<dyn std::error::Error + Send + Sync>);

/// Usernames, cached.
pub struct Names {
    directory: Arc<dyn Directory>,
    known: Cache<UserId, Known>,
    fresh: Duration,
    pause: Duration,
    hits: Counter,
    misses: Counter,
}

#[derive(Clone)]
struct Known {
    name: Arc<str>,
    /// Until then the directory is not asked again.
    good_until: Instant,
}

impl Names {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, config: &NamesConfig) -> Self {
        Self {
            directory,
            known: Cache::new(config.names_max),
            fresh: Duration::from_secs(config.fresh_secs),
            pause: Duration::from_secs(config.pause_secs),
            hits: metrics::counter!("switchboard_message_names_total", "outcome" => "cached"),
            misses: metrics::counter!("switchboard_message_names_total", "outcome" => "asked"),
        }
    }

    /// The username of somebody who exists.
    ///
    /// # Errors
    /// [`Error::Directory`] when it was never known and user-svc cannot be asked; [`Error::UserNotFound`] when there is
    /// no such user.
    pub async fn of(&self, user: UserId) -> Result<Arc<str>, Error> {
        let now = Instant::now();
        let known = self.known.get(&user);
        if let Some(known) = &known
            && now < known.good_until
        {
            self.hits.increment(1);
            return Ok(Arc::clone(&known.name));
        }
        self.misses.increment(1);
        if let Some(stale) = &known {
            // One send asks again; others that come meanwhile, or until user-svc is back, have the stale name.
            self.known.insert(user, Known { good_until: now + self.pause, ..stale.clone() });
        }
        match (self.ask(&[user]).await, known) {
            (Ok(names), _) => names.get(&user).cloned().ok_or(Error::UserNotFound),
            (Err(_), Some(stale)) => Ok(stale.name),
            (Err(error), None) => Err(Error::Directory(error)),
        }
    }

    /// The username of a caller, who does exist: when user-svc does not know them yet, it will.
    ///
    /// # Errors
    /// [`Error::Directory`] when their name cannot be known now.
    pub async fn of_caller(&self, user: UserId) -> Result<Arc<str>, Error> {
        match self.of(user).await {
            Err(Error::UserNotFound) => {
                Err(Error::Directory(DirectoryError(Arc::from(Box::from("the caller has no profile yet")))))
            }
            other => other,
        }
    }

    /// The usernames of many, as far as they can be known.
    pub async fn of_all(&self, users: &[UserId]) -> HashMap<UserId, Arc<str>> {
        let now = Instant::now();
        let mut names = HashMap::with_capacity(users.len());
        let mut unsure = Vec::new();
        for user in users {
            let known = self.known.get(user);
            if known.as_ref().is_none_or(|known| known.good_until <= now) {
                unsure.push(*user);
            }
            if let Some(known) = known {
                names.insert(*user, known.name);
            }
        }
        for users in unsure.chunks(ASK_MAX) {
            match self.ask(users).await {
                Ok(found) => {
                    // Who is not there any more has no name either.
                    users.iter().filter(|user| !found.contains_key(user)).for_each(|user| drop(names.remove(user)));
                    names.extend(found);
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "names are left as they were known");
                    break;
                }
            }
        }
        names
    }

    /// Forgets a name: its owner is there no more.
    pub fn forget(&self, user: UserId) {
        self.known.invalidate(&user);
    }

    async fn ask(&self, users: &[UserId]) -> Result<HashMap<UserId, Arc<str>>, DirectoryError> {
        let found = self.directory.usernames(users).await?;
        users.iter().filter(|user| !found.iter().any(|(known, _)| known == *user)).for_each(|user| self.forget(*user));
        let good_until = Instant::now() + self.fresh;
        let mut names = HashMap::with_capacity(found.len());
        for (user, name) in found {
            let name: Arc<str> = name.into();
            self.known.insert(user, Known { name: Arc::clone(&name), good_until });
            names.insert(user, name);
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use uuid::Uuid;

    use super::*;

    /// Answers what it is set to, or is away.
    #[derive(Default)]
    struct Scripted {
        name: Mutex<Option<String>>,
        away: Mutex<bool>,
        asked: Mutex<usize>,
    }

    #[async_trait]
    impl Directory for Scripted {
        async fn usernames(&self, users: &[UserId]) -> Result<Vec<(UserId, String)>, DirectoryError> {
            *self.asked.lock().expect("lock") += 1;
            if *self.away.lock().expect("lock") {
                return Err(DirectoryError(Arc::from(Box::from("away"))));
            }
            let name = self.name.lock().expect("lock").clone();
            Ok(name.map(|name| (users[0], name)).into_iter().collect())
        }
    }

    #[tokio::test]
    async fn a_stale_name_serves_while_the_directory_is_away_and_a_new_one_after() {
        let directory = Arc::new(Scripted::default());
        let config = NamesConfig { fresh_secs: 0, pause_secs: 0, ..NamesConfig::default() };
        let names = Names::new(Arc::clone(&directory) as Arc<dyn Directory>, &config);
        let user = UserId(Uuid::now_v7());
        let set = |name: &str| *directory.name.lock().expect("lock") = Some(name.to_owned());
        let away = |away| *directory.away.lock().expect("lock") = away;

        away(true);
        assert!(matches!(names.of(user).await, Err(Error::Directory(_))));
        away(false);
        assert!(matches!(names.of(user).await, Err(Error::UserNotFound)));
        set("ada");
        assert_eq!(&*names.of(user).await.expect("known"), "ada");
        set("lovelace");
        away(true);
        assert_eq!(&*names.of(user).await.expect("stale"), "ada");
        away(false);
        assert_eq!(&*names.of(user).await.expect("asked"), "lovelace");
        *directory.name.lock().expect("lock") = None;
        assert!(names.of_all(&[user]).await.is_empty(), "who is gone has no name");
        away(true);
        assert!(matches!(names.of(user).await, Err(Error::Directory(_))), "not even a stale one");
    }

    #[tokio::test]
    async fn a_fresh_name_is_not_asked_for() {
        let directory = Arc::new(Scripted::default());
        *directory.name.lock().expect("lock") = Some("ada".into());
        let names = Names::new(Arc::clone(&directory) as Arc<dyn Directory>, &NamesConfig::default());
        let user = UserId(Uuid::now_v7());
        for _ in 0..3 {
            assert_eq!(&*names.of(user).await.expect("known"), "ada");
            assert_eq!(names.of_all(&[user]).await.len(), 1);
        }
        assert_eq!(*directory.asked.lock().expect("lock"), 1);
    }
}
