//! Cases about the ends of sessions and their revocations.

use std::sync::Arc;

use super::{HOUR, MINUTE, NOW, login, member, rotation};
use crate::{
    revocation::RevocationPage,
    session::{CLOCK_LEEWAY, SessionId},
    store::{End, EndedSessions, PasswordChange, PasswordChanged, Store},
};

async fn revocations(store: &Arc<dyn Store>, after: i64, limit: u32) -> RevocationPage {
    store.revocations(after, NOW, limit).await.expect("read")
}

pub(crate) async fn a_session_ends_once_with_one_revocation(store: Arc<dyn Store>) {
    assert_eq!(revocations(&store, 0, 10).await, RevocationPage::default());
    let (account, first) = member(&store, "ada").await;
    let until = NOW.plus(HOUR);
    assert_eq!(store.end_session(account.id, first.id, NOW, until, &[]).await.expect("judged"), End::Ended(1));
    assert_eq!(store.end_session(account.id, first.id, NOW, until, &[]).await.expect("judged"), End::Over);
    let page = revocations(&store, 0, 10).await;
    assert_eq!((page.head, page.revocations.len()), (1, 1));
    assert_eq!((page.revocations[0].number, page.revocations[0].session_id), (1, first.id));
    let session = store.session(first.id).await.expect("read").expect("there");
    assert_eq!(session.ended_at, Some(NOW));
    // Age ends a session without a revocation: its tokens are over with it.
    let second = login(&store, &account, NOW).await;
    let over = store.end_session(account.id, second.id, second.expires_at, until, &[]).await.expect("judged");
    assert_eq!(over, End::Over);
    assert_eq!(revocations(&store, 0, 10).await.head, 1);
}

pub(crate) async fn a_session_of_somebody_else_is_missing(store: Arc<dyn Store>) {
    let (account, _) = member(&store, "ada").await;
    let (_, others) = member(&store, "bob").await;
    for id in [others.id, SessionId(uuid::Uuid::now_v7())] {
        assert_eq!(store.end_session(account.id, id, NOW, NOW, &[]).await.expect("judged"), End::Missing);
    }
    assert_eq!(store.session(others.id).await.expect("read").expect("there").ended_at, None);
    assert_eq!(revocations(&store, 0, 10).await.head, 0);
}

pub(crate) async fn a_revocation_outlives_the_last_access_token(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let second = login(&store, &account, NOW).await;
    let late = NOW.plus(3 * HOUR);
    store.rotate(&rotation(&first, 0, late)).await.expect("refreshed");
    for session in [&first, &second] {
        store.end_session(account.id, session.id, late, late.plus(MINUTE), &[]).await.expect("ended");
    }
    let page = revocations(&store, 0, 10).await;
    assert_eq!(page.revocations[0].expires_at, late.plus(15 * MINUTE).plus(CLOCK_LEEWAY));
    assert_eq!(page.revocations[1].expires_at, late.plus(MINUTE), "its last token is long over");
}

pub(crate) async fn all_other_sessions_end_and_the_callers_stays(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let (_, others) = member(&store, "bob").await;
    login(&store, &account, NOW).await;
    login(&store, &account, NOW).await;
    let end = || store.end_other_sessions(account.id, first.id, NOW, NOW.plus(HOUR), &[]);
    assert_eq!(end().await.expect("ended"), EndedSessions { count: 2, head: Some(2) });
    assert_eq!(end().await.expect("ended"), EndedSessions { count: 0, head: None });
    let alive = store.sessions(account.id, NOW, None, 10).await.expect("read");
    assert_eq!(alive.iter().map(|session| session.id).collect::<Vec<_>>(), [first.id]);
    assert_eq!(store.session(others.id).await.expect("read").expect("there").ended_at, None);
}

fn change(user_id: crate::account::UserId, keep: SessionId) -> PasswordChange {
    PasswordChange {
        user_id,
        verified_hash: "hash-1".to_owned(),
        new_hash: "hash-2".to_owned(),
        keep,
        now: NOW.plus(MINUTE),
        revoked_until: NOW.plus(HOUR),
        audit: Vec::new(),
        mails: Vec::new(),
    }
}

pub(crate) async fn a_new_password_ends_all_other_sessions(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let second = login(&store, &account, NOW).await;
    let changed = store.change_password(&change(account.id, second.id)).await.expect("changed");
    assert_eq!(changed, PasswordChanged::Changed(EndedSessions { count: 1, head: Some(1) }));
    let found = store.credentials_by_id(account.id).await.expect("read").expect("there");
    assert_eq!((found.password_hash.as_str(), found.account.updated_at), ("hash-2", NOW.plus(MINUTE)));
    assert_eq!(revocations(&store, 0, 10).await.revocations[0].session_id, first.id);
    assert_eq!(store.session(second.id).await.expect("read").expect("there").ended_at, None);
}

pub(crate) async fn a_password_that_changed_meanwhile_is_not_changed_again(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let second = login(&store, &account, NOW).await;
    let stale = PasswordChange { verified_hash: "hash-0".to_owned(), ..change(account.id, first.id) };
    assert_eq!(store.change_password(&stale).await.expect("judged"), PasswordChanged::Stale);
    assert_eq!(store.session(second.id).await.expect("read").expect("there").ended_at, None);
    let found = store.credentials_by_id(account.id).await.expect("read").expect("there");
    assert_eq!(found.password_hash, "hash-1");
}

pub(crate) async fn revocations_are_dense_and_come_in_pages(store: Arc<dyn Store>) {
    let (account, _) = member(&store, "ada").await;
    let mut calls = Vec::new();
    for _ in 0..25 {
        let session = login(&store, &account, NOW).await;
        let (store, user) = (store.clone(), account.id);
        calls.push(tokio::spawn(async move {
            store.end_session(user, session.id, NOW, NOW.plus(HOUR), &[]).await.expect("ended")
        }));
    }
    // A reader beside the writers never sees a number before the one below it.
    let mut seen = Vec::new();
    while seen.len() < 25 {
        let page = revocations(&store, seen.last().copied().unwrap_or(0), 4).await;
        assert!(page.revocations.len() <= 4);
        seen.extend(page.revocations.iter().map(|revocation| revocation.number));
        assert_eq!(page.head, seen.last().copied().unwrap_or(0));
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    for call in calls {
        assert!(matches!(call.await.expect("no panic"), End::Ended(_)));
    }
    assert_eq!(revocations(&store, 25, 4).await, RevocationPage { revocations: Vec::new(), head: 25 });
}

pub(crate) async fn expired_revocations_are_left_out_and_counted(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    store.end_session(account.id, first.id, NOW, NOW.plus(HOUR), &[]).await.expect("ended");
    let page = store.revocations(0, NOW.plus(HOUR), 10).await.expect("read");
    assert_eq!(page, RevocationPage { revocations: Vec::new(), head: 1 });
}

pub(crate) async fn what_has_expired_is_forgotten_and_the_numbers_go_on(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let second = login(&store, &account, NOW.plus(30 * HOUR)).await;
    store.end_session(account.id, first.id, NOW, NOW.plus(HOUR), &[]).await.expect("ended");
    let spend = crate::store::WsSpend {
        jti: uuid::Uuid::new_v4(),
        session_id: second.id,
        user_id: account.id,
        now: NOW,
        expires_at: NOW.plus(MINUTE),
    };
    store.spend_ws(&spend).await.expect("spent");
    assert_eq!(store.prune(NOW, 100).await.expect("pruned"), 0, "nothing has expired yet");
    assert_eq!(store.prune(NOW.plus(2 * HOUR), 100).await.expect("pruned"), 2, "the revocation and the spent id");
    assert_eq!(revocations(&store, 0, 10).await, RevocationPage { revocations: Vec::new(), head: 1 });
    assert!(store.session(first.id).await.expect("read").is_some(), "its time is not over");
    assert_eq!(store.prune(first.expires_at, 1).await.expect("pruned"), 1, "not more than asked for");
    assert_eq!(store.prune(first.expires_at, 1).await.expect("pruned"), 1);
    assert!(store.session(first.id).await.expect("read").is_none());
    let third = login(&store, &account, NOW).await;
    assert_eq!(store.end_session(account.id, third.id, NOW, NOW, &[]).await.expect("ended"), End::Ended(2));
    assert!(store.account(account.id).await.expect("read").is_some());
}
