//! Cases about sessions that are alive: opening, listing, WebSocket tokens.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{HOUR, MINUTE, NOW, login, member, opening, session, token};
use crate::{
    session::SessionId,
    store::{NewSession, Opened, Opening, PasswordChange, SessionCursor, Store, WsSpend, WsSpent},
};

pub(crate) async fn a_session_reads_back_as_it_was_opened(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let second = login(&store, &account, NOW).await;
    for opened in [first, second] {
        let read = store.session(opened.id).await.expect("read").expect("there");
        assert_eq!((read.id, read.user_id), (opened.id, account.id));
        assert_eq!((read.device, read.ip_address), (opened.device, opened.ip_address));
        assert_eq!((read.created_at, read.last_used_at), (NOW, NOW));
        assert_eq!((read.expires_at, read.ends_at), (opened.expires_at, opened.ends_at));
        assert_eq!((read.access_expires_at, read.ended_at), (opened.access_expires_at, None));
    }
    assert!(store.session(SessionId(Uuid::now_v7())).await.expect("read").is_none());
}

pub(crate) async fn a_login_with_a_password_that_has_changed_opens_nothing(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let change = PasswordChange {
        user_id: account.id,
        verified_hash: "hash-1".to_owned(),
        new_hash: "hash-2".to_owned(),
        keep: first.id,
        now: NOW,
        revoked_until: NOW.plus(HOUR),
        audit: Vec::new(),
        mails: Vec::new(),
    };
    store.change_password(&change).await.expect("changed");
    let late = session(account.id);
    let opened = store.open_session(&opening(&account, &late)).await.expect("judged");
    assert_eq!(opened, Opened::PasswordChanged);
    assert!(store.session(late.id).await.expect("read").is_none());
}

pub(crate) async fn a_rehash_replaces_the_hash_with_the_login(store: Arc<dyn Store>) {
    let (account, _) = member(&store, "ada").await;
    let rehash = Some("hash-of-today".to_owned());
    let opening = Opening { rehash, ..opening(&account, &session(account.id)) };
    assert_eq!(store.open_session(&opening).await.expect("open"), Opened::Open { head: None, kept: false });
    let found = store.credentials_by_id(account.id).await.expect("read").expect("there");
    assert_eq!(found.password_hash, "hash-of-today");
    assert_eq!(found.account.updated_at, NOW, "the owner changed nothing");
}

pub(crate) async fn over_the_limit_the_session_unused_for_longest_ends(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let second = login(&store, &account, NOW.plus(MINUTE)).await;
    let third = login(&store, &account, NOW.plus(2 * MINUTE)).await;
    // The first was opened first, but used last.
    store.rotate(&super::rotation(&first, 0, NOW.plus(3 * MINUTE))).await.expect("refreshed");
    let fourth = NewSession { created_at: NOW.plus(4 * MINUTE), ..session(account.id) };
    let opening = Opening { sessions_max: 3, ..opening(&account, &fourth) };
    assert_eq!(store.open_session(&opening).await.expect("open"), Opened::Open { head: Some(1), kept: false });
    let alive = store.sessions(account.id, fourth.created_at, None, 10).await.expect("read");
    assert_eq!(alive.iter().map(|session| session.id).collect::<Vec<_>>(), [fourth.id, first.id, third.id]);
    let revoked = store.revocations(0, NOW, 10).await.expect("read");
    assert_eq!(revoked.revocations[0].session_id, second.id);
}

pub(crate) async fn live_sessions_are_listed_in_pages_last_used_first(store: Arc<dyn Store>) {
    let (account, _) = member(&store, "ada").await;
    let (other, others) = member(&store, "bob").await;
    let mut expected = Vec::new();
    for minute in 1..=7 {
        // Two were used at the same time: their ids decide.
        let at = NOW.plus(Duration::from_mins(minute / 2));
        let opened = login(&store, &account, at).await;
        expected.push((at, opened.id));
    }
    let ended = login(&store, &account, NOW.plus(9 * MINUTE)).await;
    store.end_session(account.id, ended.id, NOW.plus(9 * MINUTE), NOW, &[]).await.expect("ended");
    expected.push((NOW, store.sessions(account.id, NOW, None, 100).await.expect("read").last().expect("first").id));
    expected.sort_unstable();
    expected.dedup();
    expected.reverse();
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store.sessions(account.id, NOW.plus(9 * MINUTE), after, 3).await.expect("read");
        let Some(last) = page.last() else { break };
        after = Some(SessionCursor { last_used_at: last.last_used_at, id: last.id });
        listed.extend(page.into_iter().map(|session| (session.last_used_at, session.id)));
    }
    assert_eq!(listed, expected);
    assert_eq!(listed.len(), 8);
    assert_eq!(store.sessions(other.id, NOW, None, 10).await.expect("read")[0].id, others.id);
    let over = store.sessions(account.id, others.expires_at, None, 10).await.expect("read");
    assert!(over.is_empty(), "expired ones are not listed");
}

fn spend(session: &NewSession) -> WsSpend {
    WsSpend {
        jti: Uuid::new_v4(),
        session_id: session.id,
        user_id: session.user_id,
        now: NOW.plus(5 * MINUTE),
        expires_at: NOW.plus(6 * MINUTE),
    }
}

pub(crate) async fn a_ws_token_is_spent_once(store: Arc<dyn Store>) {
    let (_, first) = member(&store, "ada").await;
    let token = spend(&first);
    let roles = vec!["user".to_owned(), "admin".to_owned()];
    assert_eq!(
        store.spend_ws(&token).await.expect("judged"),
        WsSpent::Spent { roles: roles.clone(), session_expires_at: first.expires_at }
    );
    assert_eq!(store.spend_ws(&token).await.expect("judged"), WsSpent::Again);
    assert_eq!(
        store.spend_ws(&spend(&first)).await.expect("judged"),
        WsSpent::Spent { roles, session_expires_at: first.expires_at }
    );
    let used = store.session(first.id).await.expect("read").expect("there");
    assert_eq!(used.last_used_at, token.now);
}

pub(crate) async fn a_ws_token_of_an_ended_expired_or_foreign_session_is_not_spent(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let (stranger, _) = member(&store, "bob").await;
    let foreign = WsSpend { user_id: stranger.id, ..spend(&first) };
    let expired = WsSpend { now: first.expires_at, ..spend(&first) };
    let unknown = WsSpend { session_id: SessionId(Uuid::now_v7()), ..spend(&first) };
    for token in [&foreign, &expired, &unknown] {
        assert_eq!(store.spend_ws(token).await.expect("judged"), WsSpent::SessionOver);
    }
    // What was refused is not spent: the rightful owner still can.
    let rightful = WsSpend { jti: foreign.jti, ..spend(&first) };
    assert!(matches!(store.spend_ws(&rightful).await.expect("judged"), WsSpent::Spent { .. }));
    store.end_session(account.id, first.id, NOW, NOW.plus(HOUR), &[]).await.expect("ended");
    assert_eq!(store.spend_ws(&spend(&first)).await.expect("judged"), WsSpent::SessionOver);
}

pub(crate) async fn of_racing_spends_of_one_ws_token_one_wins(store: Arc<dyn Store>) {
    let (_, first) = member(&store, "ada").await;
    assert_eq!(first.refresh_hash, token(0));
    let one = spend(&first);
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (store, one) = (store.clone(), one.clone());
            tokio::spawn(async move { store.spend_ws(&one).await.expect("judged") })
        })
        .collect();
    let mut won = 0;
    for call in calls {
        won += u32::from(call.await.expect("no panic") != WsSpent::Again);
    }
    assert_eq!(won, 1);
}
