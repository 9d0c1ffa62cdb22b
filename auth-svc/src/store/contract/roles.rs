//! Cases about roles.

use std::sync::Arc;

use super::{HOUR, MINUTE, NOW, entry, login, member};
use crate::{
    account::UserId,
    audit::{Event, Filter},
    store::{EndedSessions, RoleChange, RolesSet, Store},
};

fn change(user_id: UserId, roles: &[&str]) -> RoleChange {
    RoleChange {
        user_id,
        roles: roles.iter().map(ToString::to_string).collect(),
        now: NOW.plus(MINUTE),
        revoked_until: NOW.plus(HOUR),
        audit: vec![entry(Event::RoleSet, NOW.plus(MINUTE)).on(user_id)],
    }
}

pub(crate) async fn a_higher_role_keeps_the_sessions_and_a_lower_one_ends_them(store: Arc<dyn Store>) {
    // The contract's accounts begin as user and admin.
    let (account, first) = member(&store, "ada").await;
    let (_, others) = member(&store, "bob").await;
    login(&store, &account, NOW).await;
    let set = async |roles: &[&str]| match store.set_roles(&change(account.id, roles)).await.expect("judged") {
        RolesSet::Set { account, ended } => (account.roles, account.updated_at, ended),
        RolesSet::Missing => panic!("missing"),
    };
    let (roles, updated_at, ended) = set(&["user", "moderator", "admin"]).await;
    assert_eq!((roles.len(), updated_at, ended), (3, NOW.plus(MINUTE), EndedSessions::default()));
    let (roles, _, ended) = set(&["user", "moderator"]).await;
    assert_eq!((roles.len(), ended), (2, EndedSessions { count: 2, head: Some(2) }));
    assert_eq!(store.account(account.id).await.expect("read").expect("there").roles, ["user", "moderator"]);
    assert!(store.session(first.id).await.expect("read").expect("there").ended_at.is_some());
    assert!(store.session(others.id).await.expect("read").expect("there").ended_at.is_none());
    let filter = Filter { subject: Some(account.id), ..Filter::default() };
    let entries = store.audit(&filter, None, 10).await.expect("read");
    assert_eq!(entries.iter().filter(|entry| entry.event == Event::RoleSet).count(), 2);
}

pub(crate) async fn a_role_that_the_account_has_already_changes_nothing(store: Arc<dyn Store>) {
    let (account, _) = member(&store, "ada").await;
    let set = store.set_roles(&change(account.id, &["user", "admin"])).await.expect("judged");
    let RolesSet::Set { account: after, ended } = set else { panic!("missing") };
    assert_eq!((after.updated_at, ended), (NOW, EndedSessions::default()));
    assert!(store.audit(&Filter::default(), None, 10).await.expect("read").is_empty());
    let nobody = change(UserId(uuid::Uuid::now_v7()), &["user"]);
    assert_eq!(store.set_roles(&nobody).await.expect("judged"), RolesSet::Missing);
}
