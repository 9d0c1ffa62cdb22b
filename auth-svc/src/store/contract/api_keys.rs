//! Cases about service accounts and their API keys.

use std::sync::Arc;

use mesh::{identity::Scope, time::Millis};
use uuid::Uuid;

use super::{HOUR, MINUTE, NOW, account, entry, member};
use crate::{
    account::{Login, UserId},
    api_key::{ApiKey, ApiKeyHash, ServiceAccount},
    audit::{Actor, Event, Filter},
    store::{Created, KeyMade, NewAccount, NewApiKey, NewServiceAccount, Store},
};

fn root() -> Actor {
    Actor::Operator("root".to_owned())
}

fn service(name: &str) -> NewServiceAccount {
    let account = NewAccount { roles: vec!["service".to_owned()], ..account(name) };
    NewServiceAccount { account, made_by: root(), audit: vec![entry(Event::ServiceAccountCreated, NOW)] }
}

/// A service account of this name.
async fn made(store: &Arc<dyn Store>, name: &str) -> UserId {
    let new = service(name);
    assert_eq!(store.create_service_account(&new).await.expect("stored"), Created::Made);
    new.account.id
}

/// The key of this number, which is good for an hour.
fn key(account: UserId, number: u8) -> NewApiKey {
    let key = ApiKey {
        id: Uuid::from_u128(u128::from(number) + 1),
        account,
        prefix: "sbk_abcdefgh".to_owned(),
        name: format!("number {number}"),
        scopes: vec![Scope::MessagesWrite, Scope::UsersRead],
        made_by: root(),
        created_at: NOW,
        expires_at: NOW.plus(HOUR),
        last_used_at: None,
    };
    NewApiKey { key, hash: hash(number), keys_max: 10, audit: vec![entry(Event::ApiKeyCreated, NOW)] }
}

fn hash(number: u8) -> ApiKeyHash {
    ApiKeyHash([number; 32])
}

async fn keep(store: &Arc<dyn Store>, new: &NewApiKey) -> KeyMade {
    store.create_api_key(new).await.expect("judged")
}

async fn written(store: &Arc<dyn Store>, event: Event) -> usize {
    let entries = store.audit(&Filter::default(), None, 100).await.expect("read");
    entries.iter().filter(|entry| entry.event == event).count()
}

pub(crate) async fn a_service_account_has_a_profile_to_deliver_and_no_session(store: Arc<dyn Store>) {
    let id = made(&store, "billing").await;
    let found = store.credentials(&Login::Username("billing".into())).await.expect("read").expect("there");
    assert_eq!((found.account.id, found.account.roles.as_slice()), (id, &["service".to_owned()][..]));
    assert_eq!(store.next_delivery(id).await.expect("read").expect("queued").version, 1);
    assert!(store.sessions(id, NOW, None, 10).await.expect("read").is_empty());
    let taken = NewServiceAccount {
        account: NewAccount { id: UserId(Uuid::now_v7()), ..service("billing").account },
        ..service("billing")
    };
    assert_eq!(store.create_service_account(&taken).await.expect("judged"), Created::NameTaken);
    member(&store, "ada").await;
    assert_eq!(store.create_service_account(&service("ada")).await.expect("judged"), Created::NameTaken);
    assert_eq!(store.service_accounts(None, 10).await.expect("read").len(), 1);
    assert_eq!(written(&store, Event::ServiceAccountCreated).await, 1, "what changes nothing is not written");
}

pub(crate) async fn a_key_is_found_by_its_hash_and_its_use_is_noted_once_a_minute(store: Arc<dyn Store>) {
    let id = made(&store, "billing").await;
    assert_eq!(keep(&store, &key(id, 1)).await, KeyMade::Made);
    assert_eq!(store.api_key(key(id, 1).key.id).await.expect("read"), Some(key(id, 1).key));
    let used = async |at: Millis| {
        let found = store.use_api_key(&hash(1), at).await.expect("read").expect("there");
        assert_eq!((found.0.account, found.1.as_slice()), (id, &["service".to_owned()][..]));
        store.api_key(found.0.id).await.expect("read").expect("there").last_used_at
    };
    assert_eq!(used(NOW).await, Some(NOW));
    assert_eq!(used(Millis(NOW.plus(MINUTE).0 - 1)).await, Some(NOW), "at most once a minute");
    let later = NOW.plus(MINUTE);
    assert_eq!(used(later).await, Some(later));
    assert_eq!(used(NOW).await, Some(later), "it never goes back");
    assert_eq!(used(NOW.plus(HOUR)).await, Some(later), "one that has expired is not used");
    assert!(store.use_api_key(&hash(9), NOW).await.expect("read").is_none());
    assert_eq!(store.prune(NOW.plus(HOUR), 10).await.expect("pruned"), 1);
    assert!(store.use_api_key(&hash(1), NOW).await.expect("read").is_none());
}

pub(crate) async fn a_revoked_key_is_gone_and_its_revocation_is_told(store: Arc<dyn Store>) {
    let id = made(&store, "billing").await;
    for number in 1..=2 {
        assert_eq!(keep(&store, &key(id, number)).await, KeyMade::Made);
    }
    let revoke = async |number| {
        let entries = [entry(Event::ApiKeyRevoked, NOW)];
        store.revoke_api_key(key(id, number).key.id, NOW.plus(HOUR), &entries).await.expect("judged")
    };
    assert_eq!((revoke(1).await, revoke(1).await, revoke(7).await), (Some(1), None, None));
    assert!(store.use_api_key(&hash(1), NOW).await.expect("read").is_none());
    assert!(store.use_api_key(&hash(2), NOW).await.expect("read").is_some());
    let told = store.revocations(0, NOW, 10).await.expect("read");
    assert_eq!((told.head, told.revocations.len()), (1, 1));
    let revocation = told.revocations[0];
    assert_eq!((revocation.session_id.0, revocation.expires_at), (key(id, 1).key.id, NOW.plus(HOUR)));
    assert_eq!(written(&store, Event::ApiKeyRevoked).await, 1, "what changes nothing is not written");
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (store, id) = (store.clone(), key(id, 2).key.id);
            tokio::spawn(async move { store.revoke_api_key(id, NOW, &[]).await.expect("judged") })
        })
        .collect();
    let mut won = 0;
    for call in calls {
        won += u32::from(call.await.expect("no panic").is_some());
    }
    assert_eq!((won, store.revocations(0, NOW, 10).await.expect("read").head), (1, 2));
}

pub(crate) async fn there_are_no_more_keys_of_an_account_than_may_be(store: Arc<dyn Store>) {
    let (billing, other) = (made(&store, "billing").await, made(&store, "other").await);
    let few = |account, number| NewApiKey { keys_max: 2, ..key(account, number) };
    let crowd = made(&store, "crowd").await;
    let calls: Vec<_> = (10..18)
        .map(|number| {
            let (store, key) = (store.clone(), NewApiKey { audit: Vec::new(), ..few(crowd, number) });
            tokio::spawn(async move { store.create_api_key(&key).await.expect("judged") == KeyMade::Made })
        })
        .collect();
    let kept = futures::future::join_all(calls).await.into_iter().filter(|kept| *kept.as_ref().expect("no panic"));
    assert_eq!(kept.count(), 2, "many at once are no more than many in a row");
    for number in 1..=2 {
        assert_eq!(keep(&store, &few(billing, number)).await, KeyMade::Made);
    }
    assert_eq!(keep(&store, &few(billing, 3)).await, KeyMade::Full);
    assert_eq!(keep(&store, &few(other, 4)).await, KeyMade::Made, "another's are not counted");
    let (ada, _) = member(&store, "ada").await;
    assert_eq!(keep(&store, &few(ada.id, 5)).await, KeyMade::Missing, "a person has no keys");
    assert_eq!(written(&store, Event::ApiKeyCreated).await, 3, "what changes nothing is not written");
    let mut late = few(billing, 6);
    late.key.created_at = NOW.plus(HOUR);
    assert_eq!(keep(&store, &late).await, KeyMade::Made, "those that have expired are not counted");
}

pub(crate) async fn keys_and_their_accounts_are_listed_in_pages_the_newest_first(store: Arc<dyn Store>) {
    let mut accounts = Vec::new();
    for name in ["one", "two", "three"] {
        accounts.push(made(&store, name).await);
    }
    accounts.sort_unstable();
    accounts.reverse();
    let ids = |page: Vec<ServiceAccount>| page.into_iter().map(|one| one.id).collect::<Vec<_>>();
    let first = store.service_accounts(None, 2).await.expect("read");
    assert_eq!(first[0].made_by, root());
    let after = first[1].id.0;
    assert_eq!(ids(first), accounts[..2]);
    assert_eq!(ids(store.service_accounts(Some(after), 2).await.expect("read")), accounts[2..]);
    for number in 1..=3 {
        assert_eq!(keep(&store, &key(accounts[0], number)).await, KeyMade::Made);
    }
    let page = store.api_keys(accounts[0], None, 2).await.expect("read");
    assert_eq!(page, [key(accounts[0], 3).key, key(accounts[0], 2).key]);
    let rest = store.api_keys(accounts[0], Some(page[1].id), 2).await.expect("read");
    assert_eq!(rest, [key(accounts[0], 1).key]);
    assert!(store.api_keys(accounts[1], None, 2).await.expect("read").is_empty());
}
