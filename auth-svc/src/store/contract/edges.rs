//! Cases about the edges: strange text, large values, extreme times, pages at both ends, and ids of nobody.

use std::sync::Arc;

use mesh::time::Millis;
use uuid::Uuid;

use super::{HOUR, NOW, account, login, member, opening, rotation, session, username};
use crate::{
    account::UserId,
    outbox::News,
    session::SessionId,
    store::{
        Created, End, EndedSessions, NewAccount, NewSession, Opened, PasswordChange, PasswordChanged, Renamed, Rotated,
        SessionCursor, Store,
    },
};

pub(crate) async fn text_of_any_script_and_size_comes_back_as_it_went_in(store: Arc<dyn Store>) {
    let strange = "Ωμέγα 😀 'quoted\" %s \\ $1 ? {a,b} NULL Żółć عَرَبِيّ\u{202e}\r\n\t e\u{301}";
    for text in [String::new(), strange.to_owned(), "😀".repeat(10_000)] {
        let attempt = NewAccount {
            password_hash: format!("$argon2id${text}"),
            roles: vec![String::new(), text.clone(), "a,b".to_owned(), "\"".to_owned(), "{}".to_owned()],
            first_name: text.clone(),
            last_name: text.clone(),
            ..account(&format!("member-{}", text.len()))
        };
        let first = NewSession { device: text.clone(), ip_address: text.clone(), ..session(attempt.id) };
        assert_eq!(store.create_account(&attempt, &first, &[]).await.expect("made"), Created::Made);
        let found = store.credentials_by_id(attempt.id).await.expect("read").expect("there");
        assert_eq!((found.password_hash, found.account.roles), (attempt.password_hash, attempt.roles));
        let read = store.session(first.id).await.expect("read").expect("there");
        assert_eq!((&read.device, &read.ip_address), (&text, &text));
        let next = store.next_delivery(attempt.id).await.expect("read").expect("queued");
        assert_eq!(next.news, News::Created { first_name: text.clone(), last_name: text });
    }
    let without = NewAccount { roles: Vec::new(), ..account("nobody") };
    store.create_account(&without, &session(without.id), &[]).await.expect("made");
    assert!(store.account(without.id).await.expect("read").expect("there").roles.is_empty());
}

pub(crate) async fn times_at_the_edges_come_back_as_they_went_in(store: Arc<dyn Store>) {
    let (first, last) = (Millis(i64::MIN), Millis(i64::MAX));
    for (index, at) in [first, Millis(-1), Millis(0), Millis(1), last].into_iter().enumerate() {
        let attempt = NewAccount { created_at: at, delivery_due_at: at, ..account(&format!("member-{index}")) };
        let opened = NewSession {
            created_at: at,
            expires_at: last,
            ends_at: last,
            access_expires_at: at,
            ..session(attempt.id)
        };
        store.create_account(&attempt, &opened, &[]).await.expect("made");
        let found = store.account(attempt.id).await.expect("read").expect("there");
        assert_eq!((found.created_at, found.updated_at), (at, at));
        let read = store.session(opened.id).await.expect("read").expect("there");
        assert_eq!((read.created_at, read.last_used_at, read.access_expires_at), (at, at, at));
        assert_eq!((read.expires_at, read.ends_at), (last, last));
        let listed = store.sessions(attempt.id, at, None, 10).await.expect("read");
        assert_eq!(listed.len(), usize::from(at < last), "what expires now is over");
        let ended = store.end_session(attempt.id, opened.id, NOW, last, &[]).await.expect("judged");
        assert!(matches!(ended, End::Ended(_)), "{ended:?}");
    }
    let page = store.revocations(0, Millis(i64::MAX - 1), 10).await.expect("read");
    assert_eq!((page.head, page.revocations.len()), (5, 5));
    assert!(page.revocations.iter().all(|revocation| revocation.expires_at == last));
    assert_eq!(store.prune(Millis(i64::MAX - 1), 100).await.expect("pruned"), 0);
    assert_eq!(store.claim_deliveries(last, last, 100).await.expect("claimed").len(), 5);
}

pub(crate) async fn pages_have_two_ends(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let second = login(&store, &account, NOW.plus(HOUR)).await;
    let listed = async |after, limit| {
        let page = store.sessions(account.id, NOW, after, limit).await.expect("read");
        page.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    let at = |last_used_at, id| Some(SessionCursor { last_used_at, id });
    let (lowest, highest) = (SessionId(Uuid::nil()), SessionId(Uuid::max()));
    assert_eq!(listed(None, 1).await, [second.id]);
    assert_eq!(listed(at(Millis(i64::MAX), highest), 9).await, [second.id, first.id], "before the first");
    assert_eq!(listed(at(NOW.plus(HOUR), second.id), 9).await, [first.id], "after the first");
    assert_eq!(listed(at(NOW, highest), 9).await, [first.id], "between the two");
    assert!(listed(at(NOW, first.id), 9).await.is_empty(), "after the last");
    assert!(listed(at(Millis(i64::MIN), lowest), 9).await.is_empty(), "far after the last");
    for id in [first.id, second.id] {
        store.end_session(account.id, id, NOW, NOW.plus(HOUR), &[]).await.expect("ended");
    }
    for (after, limit, numbers, head) in [
        (i64::MIN, 9, vec![1, 2], 2),
        (0, 1, vec![1], 1),
        (1, 1, vec![2], 2),
        (2, 1, vec![], 2),
        (i64::MAX, 9, vec![], 2),
        (0, u32::MAX, vec![1, 2], 2),
    ] {
        let page = store.revocations(after, NOW, limit).await.expect("read");
        let found: Vec<_> = page.revocations.iter().map(|revocation| revocation.number).collect();
        assert_eq!((found, page.head), (numbers, head), "after {after}, {limit} at most");
    }
}

pub(crate) async fn what_nobody_has_is_missing_everywhere_alike(store: Arc<dyn Store>) {
    for id in [Uuid::nil(), Uuid::now_v7(), Uuid::max()] {
        let (user, gone) = (UserId(id), session(UserId(id)));
        let nobody = NewAccount { id: user, ..account("nobody") };
        assert!(store.account(user).await.expect("read").is_none());
        assert!(store.credentials_by_id(user).await.expect("read").is_none());
        assert!(store.session(SessionId(id)).await.expect("read").is_none());
        assert!(store.sessions(user, NOW, None, 10).await.expect("read").is_empty());
        assert!(store.next_delivery(user).await.expect("read").is_none());
        store.delivered(user, 1).await.expect("nothing to do");
        store.postpone_delivery(user, 1, NOW).await.expect("nothing to do");
        let renamed = store.rename(user, &username("nobody"), NOW, NOW, &[]).await.expect("judged");
        assert!(matches!(renamed, Renamed::Missing), "{renamed:?}");
        assert_eq!(store.open_session(&opening(&nobody, &gone)).await.expect("judged"), Opened::PasswordChanged);
        assert_eq!(store.end_session(user, gone.id, NOW, NOW, &[]).await.expect("judged"), End::Missing);
        let none = EndedSessions::default();
        assert_eq!(store.end_other_sessions(user, gone.id, NOW, NOW, &[]).await.expect("ended"), none);
        assert_eq!(store.rotate(&rotation(&gone, 0, NOW)).await.expect("judged"), Rotated::Expired);
        let change = PasswordChange {
            user_id: user,
            verified_hash: "hash-1".to_owned(),
            new_hash: "hash-2".to_owned(),
            keep: gone.id,
            now: NOW,
            revoked_until: NOW,
            audit: Vec::new(),
            mails: Vec::new(),
        };
        assert_eq!(store.change_password(&change).await.expect("judged"), PasswordChanged::Stale);
    }
    assert_eq!(store.revocations(0, NOW, 10).await.expect("read").head, 0);
}
