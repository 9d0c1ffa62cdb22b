//! Cases about the audit log.

use std::sync::Arc;

use mesh::time::Millis;
use uuid::Uuid;

use super::{HOUR, MINUTE, NOW, account, entry, login, member, opening, rotation, session, username};
use crate::{
    account::UserId,
    audit::{Actor, Entry, Event, Events, Filter},
    session::{Client, SessionId},
    store::{Opening, PasswordChange, Store},
};

async fn list(store: &Arc<dyn Store>, filter: Filter) -> Vec<Entry> {
    store.audit(&filter, None, 100).await.expect("read")
}

fn events(entries: &[Entry]) -> Vec<Event> {
    entries.iter().map(|entry| entry.event).collect()
}

pub(crate) async fn an_entry_reads_back_as_it_was_written(store: Arc<dyn Store>) {
    let client = Client {
        device: "a phone 😀".to_owned(),
        ip_address: "2001:db8::1".to_owned(),
        place: "Paris, FR".to_owned(),
        request_id: "r-1".to_owned(),
    };
    let (user, session) = (UserId(Uuid::now_v7()), SessionId(Uuid::now_v7()));
    let full = Entry::own(Event::SessionRevoked, user, &client, NOW).session(session).failed("why 'not\" \\");
    let bare = Entry::new(Event::LoginPassword, &Client::default(), NOW.plus(MINUTE));
    let operator = bare.clone().by(Actor::Operator("root".to_owned()));
    let operator = Entry { id: Uuid::now_v7(), ..operator };
    for entry in [&full, &bare, &operator] {
        store.append_audit(std::slice::from_ref(entry)).await.expect("written");
    }
    let read = list(&store, Filter { actor: Some(user.0.to_string()), ..Filter::default() }).await;
    assert_eq!(read, [full]);
    let read = list(&store, Filter { actor: Some("root".to_owned()), ..Filter::default() }).await;
    assert_eq!(read, [operator]);
}

pub(crate) async fn entries_are_found_newest_first_in_pages_and_by_every_filter(store: Arc<dyn Store>) {
    let (ada, bob) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
    let at = |minutes| NOW.plus(minutes * MINUTE);
    let client = Client::default();
    let written = [
        Entry::own(Event::LoginPassword, ada, &client, at(0)),
        Entry::new(Event::LoginPassword, &client, at(1)).on(ada).failed("wrong password"),
        Entry::own(Event::LoginRegistered, bob, &client, at(2)),
        Entry::own(Event::AccountRenamed, ada, &client, at(3)),
        Entry::new(Event::SessionRevoked, &client, at(4)).by(Actor::User(bob)).on(ada),
    ];
    store.append_audit(&written).await.expect("written");
    let times = async |filter: Filter| {
        let found = list(&store, filter).await;
        found.into_iter().map(|entry| (entry.at.0 - NOW.0) / 60_000).collect::<Vec<_>>()
    };
    let all = Filter::default;
    let actor = |user: UserId| Some(user.0.to_string());
    for (filter, expected) in [
        (all(), vec![4, 3, 2, 1, 0]),
        (Filter { subject: Some(ada), ..all() }, vec![4, 3, 1, 0]),
        (Filter { subject: Some(ada), events: Events::logins(), ..all() }, vec![1, 0]),
        (Filter { subject: Some(ada), actor: actor(bob), ..all() }, vec![4]),
        (Filter { actor: actor(bob), ..all() }, vec![4, 2]),
        (Filter { actor: actor(bob), succeeded: Some(false), ..all() }, vec![]),
        (Filter { events: Events::One(Event::LoginPassword), ..all() }, vec![1, 0]),
        (Filter { events: Events::logins(), ..all() }, vec![2, 1, 0]),
        (Filter { succeeded: Some(false), ..all() }, vec![1]),
        (Filter { since: Some(at(1)), until: Some(at(3)), ..all() }, vec![2, 1]),
        (Filter { subject: Some(ada), since: Some(at(3)), ..all() }, vec![4, 3]),
        (Filter { subject: Some(UserId(Uuid::nil())), ..all() }, vec![]),
    ] {
        assert_eq!(times(filter.clone()).await, expected, "{filter:?}");
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.audit(&all(), after, 2).await.expect("read");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page);
    }
    assert_eq!(seen, written.iter().rev().cloned().collect::<Vec<_>>());
}

pub(crate) async fn what_changes_something_is_written_with_its_entry(store: Arc<dyn Store>) {
    let ada = account("ada");
    let first = session(ada.id);
    let registered = [entry(Event::AccountRegistered, NOW)];
    store.create_account(&ada, &first, &registered).await.expect("made");
    let renamed = [entry(Event::AccountRenamed, NOW.plus(MINUTE))];
    store.rename(ada.id, &username("countess"), NOW, NOW, &renamed).await.expect("renamed");
    let second = session(ada.id);
    let one = Opening { sessions_max: 1, ..opening(&ada, &second) };
    let one = Opening {
        audit: vec![entry(Event::LoginPassword, NOW.plus(2 * MINUTE))],
        over_limit: entry(Event::SessionOverLimit, NOW.plus(3 * MINUTE)),
        ..one
    };
    store.open_session(&one).await.expect("opened");
    let change = PasswordChange {
        user_id: ada.id,
        verified_hash: "hash-1".to_owned(),
        new_hash: "hash-2".to_owned(),
        keep: second.id,
        now: NOW,
        revoked_until: NOW,
        audit: vec![entry(Event::PasswordChanged, NOW.plus(4 * MINUTE))],
        mails: Vec::new(),
    };
    store.change_password(&change).await.expect("changed");
    let other = crate::store::NewAccount { password_hash: "hash-2".to_owned(), ..ada.clone() };
    let third = login(&store, &other, NOW.plus(5 * MINUTE)).await;
    let others = [entry(Event::SessionOthersRevoked, NOW.plus(6 * MINUTE))];
    store.end_other_sessions(ada.id, third.id, NOW, NOW, &others).await.expect("ended");
    let logout = [entry(Event::SessionLogout, NOW.plus(7 * MINUTE))];
    store.end_session(ada.id, third.id, NOW, NOW, &logout).await.expect("ended");
    let expected = [
        Event::SessionLogout,
        Event::SessionOthersRevoked,
        Event::LoginPassword,
        Event::PasswordChanged,
        Event::SessionOverLimit,
        Event::LoginPassword,
        Event::AccountRenamed,
        Event::AccountRegistered,
    ];
    assert_eq!(events(&list(&store, Filter::default()).await), expected);
}

pub(crate) async fn what_changes_nothing_writes_no_entry(store: Arc<dyn Store>) {
    let (ada, first) = member(&store, "ada").await;
    member(&store, "bob").await;
    let entries = [entry(Event::AccountRenamed, NOW)];
    let again = account("ada");
    store.create_account(&again, &session(again.id), &entries).await.expect("judged");
    store.rename(ada.id, &username("bob"), NOW, NOW, &entries).await.expect("judged");
    store.rename(ada.id, &username("ada"), NOW, NOW, &entries).await.expect("judged");
    let stale = Opening { verified_hash: "hash-0".to_owned(), ..opening(&ada, &session(ada.id)) };
    store.open_session(&stale).await.expect("judged");
    let stale = PasswordChange {
        user_id: ada.id,
        verified_hash: "hash-0".to_owned(),
        new_hash: "hash-2".to_owned(),
        keep: first.id,
        now: NOW,
        revoked_until: NOW,
        audit: entries.to_vec(),
        mails: Vec::new(),
    };
    store.change_password(&stale).await.expect("judged");
    store.end_other_sessions(ada.id, first.id, NOW, NOW, &entries).await.expect("judged");
    store.end_session(ada.id, SessionId(Uuid::now_v7()), NOW, NOW, &entries).await.expect("judged");
    assert_eq!(list(&store, Filter::default()).await, []);
}

pub(crate) async fn a_spent_token_leaves_an_entry_about_the_user_of_its_session(store: Arc<dyn Store>) {
    let (ada, first) = member(&store, "ada").await;
    for generation in [0, 0, 1, 0] {
        store.rotate(&rotation(&first, generation, NOW)).await.expect("judged");
    }
    let found = list(&store, Filter { subject: Some(ada.id), ..Filter::default() }).await;
    assert_eq!(events(&found), [Event::RefreshReused], "once, and not for the refreshes that were good");
}

pub(crate) async fn entries_past_their_retention_are_forgotten_and_others_stay(store: Arc<dyn Store>) {
    let at = |hours: u32| NOW.plus(hours * HOUR);
    let written: Vec<_> = (0..5).map(|hour| entry(Event::LoginPassword, at(hour))).collect();
    store.append_audit(&written).await.expect("written");
    assert_eq!(store.prune_audit(at(0), 10).await.expect("pruned"), 0);
    assert_eq!(store.prune_audit(at(3), 2).await.expect("pruned"), 2, "not more than asked for");
    assert_eq!(store.prune_audit(at(3), 2).await.expect("pruned"), 1);
    let left: Vec<Millis> = list(&store, Filter::default()).await.into_iter().map(|entry| entry.at).collect();
    assert_eq!(left, [at(4), at(3)]);
    // Beside what expires by itself, the log is left alone.
    store.prune(at(1000), 100).await.expect("pruned");
    assert_eq!(list(&store, Filter::default()).await.len(), 2);
}
