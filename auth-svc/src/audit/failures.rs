//! Failed attempts in the audit log: one by one as long as they are few, and counted when they are many, so that whoever
//! guesses cannot fill the disk. What was counted is written as one entry when its ten minutes are over. A crash loses
//! the count of the last ten minutes, never the first entries.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh::time::Millis;

use super::{Entry, Event};
use crate::{
    account::UserId,
    error::Error,
    store::{Store, StoreError},
};

/// Entries are counted together for so long.
const WINDOW: Duration = Duration::from_mins(10);
/// Entries of one account and event that are written one by one: more than fingers slip.
const WRITTEN_MAX: u32 = 20;
/// The same for all names that are no account's.
const UNKNOWN_WRITTEN_MAX: u32 = 200;
/// Accounts that are counted at a time, some 300 bytes each; when there are more, they share one count.
const KEYS_MAX: usize = 10_000;

/// What is counted together.
type Key = (Event, Option<UserId>);

#[derive(Debug)]
struct Window {
    began: Millis,
    written: u32,
    /// How many were not, and the last of them.
    counted: u32,
    last: Option<Entry>,
}

/// The failed attempts of the last minutes.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<Key, Window>>);

impl Failures {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a failed attempt, or counts it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn record(&self, store: &dyn Store, entry: Entry) -> Result<(), Error> {
        let due = self.judge(entry);
        if due.is_empty() { Ok(()) } else { Ok(store.append_audit(&due).await?) }
    }

    /// What is to be written now: what was counted before, when its time is over, and the entry itself unless it is only
    /// counted.
    fn judge(&self, entry: Entry) -> Vec<Entry> {
        let mut windows = self.lock();
        let key = (entry.event, entry.subject);
        let key = if windows.len() < KEYS_MAX || windows.contains_key(&key) { key } else { (entry.event, None) };
        let fresh = Window { began: entry.at, written: 0, counted: 0, last: None };
        let window = windows.entry(key).or_insert(fresh);
        let mut due = Vec::new();
        if entry.at >= window.began.plus(WINDOW) {
            due.extend(window.summary());
            *window = Window { began: entry.at, written: 0, counted: 0, last: None };
        }
        let written_max = if key.1.is_some() { WRITTEN_MAX } else { UNKNOWN_WRITTEN_MAX };
        if window.written < written_max {
            window.written += 1;
            due.push(entry);
        } else {
            window.counted += 1;
            window.last = Some(entry);
        }
        due
    }

    /// Writes what was counted until a time; all of it when there is none.
    ///
    /// # Errors
    /// [`StoreError`]; the counts are lost with it, which the log of the process tells.
    pub async fn flush(&self, store: &dyn Store, until: Option<Millis>) -> Result<(), StoreError> {
        let over = |window: &Window| until.is_none_or(|until| until >= window.began.plus(WINDOW));
        let due: Vec<_> = {
            let mut windows = self.lock();
            let due = windows.values_mut().filter(|window| over(window)).filter_map(Window::summary).collect();
            windows.retain(|_, window| !over(window));
            due
        };
        if due.is_empty() { Ok(()) } else { store.append_audit(&due).await }
    }
}

impl Window {
    /// One entry for those that were counted: the last of them, and how many.
    fn summary(&mut self) -> Option<Entry> {
        let last = self.last.take()?;
        let (detail, count) = (last.detail.clone(), self.counted);
        Some(last.detail(&format!("{detail}; this one stands for {count} in ten minutes")))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::session::Client;

    fn failed(user: Option<UserId>, at: Millis) -> Entry {
        let entry = Entry::new(Event::LoginPassword, &Client::default(), at);
        Entry { subject: user, ..entry }.failed("wrong password")
    }

    #[test]
    fn a_flood_of_failures_is_a_bounded_number_of_entries_that_tell_how_many_there_were() {
        let failures = Failures::default();
        let (ada, bob) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        let begun = Millis(1_800_000_000_000);
        let mut written = Vec::new();
        for _ in 0..10_000 {
            written.extend(failures.judge(failed(Some(ada), begun)));
        }
        assert_eq!(written.len(), 20);
        assert_eq!(failures.judge(failed(Some(bob), begun)).len(), 1, "another account is written");
        let due = failures.judge(failed(Some(ada), begun.plus(WINDOW)));
        assert_eq!(due.len(), 2, "the summary, and the first of the next ten minutes");
        assert_eq!(due[0].detail, "wrong password; this one stands for 9980 in ten minutes");
        assert_eq!((due[0].subject, due[0].succeeded), (Some(ada), false));
        let unknown: usize = (0..10_000).map(|_| failures.judge(failed(None, begun)).len()).sum();
        assert_eq!(unknown, 200);
    }

    #[test]
    fn no_more_accounts_are_counted_than_there_is_room_for() {
        let failures = Failures::default();
        let begun = Millis(1_800_000_000_000);
        let mut written = 0;
        for number in 0..KEYS_MAX + 5_000 {
            let user = UserId(Uuid::from_u128(u128::try_from(number).expect("small") + 1));
            written += failures.judge(failed(Some(user), begun)).len();
        }
        assert!(failures.lock().len() <= KEYS_MAX + 1);
        assert_eq!(written, KEYS_MAX + 200, "those that share a count are written as far as it goes");
    }
}
