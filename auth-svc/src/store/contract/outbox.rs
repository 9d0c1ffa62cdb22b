//! Cases about the outbox: order, leases, attempts.

use std::sync::Arc;

use super::{HOUR, MINUTE, NOW, account, member, session, username};
use crate::{
    outbox::{Delivery, News},
    store::{NewAccount, Store},
};

pub(crate) async fn a_new_account_queues_its_profile(store: Arc<dyn Store>) {
    let (made, _) = member(&store, "Ada").await;
    let next = store.next_delivery(made.id).await.expect("read");
    let news = News::Created { first_name: "Ada".to_owned(), last_name: "Lovelace".to_owned() };
    let expected = Delivery { user_id: made.id, version: 1, username: "Ada".to_owned(), news, attempts: 0 };
    assert_eq!(next, Some(expected));
    let until = NOW.plus(HOUR);
    assert!(store.claim_deliveries(NOW, until, 10).await.expect("claimed").is_empty(), "not due yet");
    assert_eq!(store.claim_deliveries(NOW.plus(MINUTE), until, 10).await.expect("claimed"), [made.id]);
    store.delivered(made.id, 1).await.expect("noted");
    store.delivered(made.id, 1).await.expect("noted twice");
    assert_eq!(store.next_delivery(made.id).await.expect("read"), None);
    assert!(store.claim_deliveries(until, until, 10).await.expect("claimed").is_empty());
}

pub(crate) async fn deliveries_of_an_account_come_in_order(store: Arc<dyn Store>) {
    let (made, _) = member(&store, "ada").await;
    for name in ["second", "third"] {
        store.rename(made.id, &username(name), NOW, NOW, &[]).await.expect("renamed");
    }
    for (version, name) in [(1, "ada"), (2, "second"), (3, "third")] {
        let next = store.next_delivery(made.id).await.expect("read").expect("queued");
        assert_eq!((next.version, next.username.as_str()), (version, name));
        store.delivered(made.id, version).await.expect("noted");
    }
    assert_eq!(store.next_delivery(made.id).await.expect("read"), None);
}

pub(crate) async fn a_claimed_delivery_is_left_alone_for_its_lease(store: Arc<dyn Store>) {
    let mut made = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        let account = NewAccount { delivery_due_at: NOW, ..account(name) };
        store.create_account(&account, &session(account.id), &[]).await.expect("made");
        made.push(account.id);
    }
    let until = NOW.plus(MINUTE);
    let mut claimed = store.claim_deliveries(NOW, until, 2).await.expect("claimed");
    assert_eq!(claimed.len(), 2, "not more than asked for");
    claimed.extend(store.claim_deliveries(NOW, until, 2).await.expect("claimed"));
    claimed.sort_unstable();
    assert_eq!(claimed, made, "each one once");
    assert!(store.claim_deliveries(NOW, until, 2).await.expect("claimed").is_empty());
    let again = store.claim_deliveries(until, until.plus(MINUTE), 10).await.expect("claimed");
    assert_eq!(again.len(), 3, "the lease is over");
}

pub(crate) async fn a_postponed_delivery_counts_its_attempts(store: Arc<dyn Store>) {
    let (made, _) = member(&store, "ada").await;
    store.postpone_delivery(made.id, 1, NOW.plus(HOUR)).await.expect("noted");
    store.postpone_delivery(made.id, 2, NOW).await.expect("there is none");
    let next = store.next_delivery(made.id).await.expect("read").expect("queued");
    assert_eq!((next.version, next.attempts), (1, 1));
    let early = store.claim_deliveries(NOW.plus(2 * MINUTE), NOW.plus(HOUR), 10).await.expect("claimed");
    assert!(early.is_empty());
    assert_eq!(store.claim_deliveries(NOW.plus(HOUR), NOW.plus(HOUR), 10).await.expect("claimed"), [made.id]);
}

pub(crate) async fn only_the_first_delivery_of_an_account_is_claimed(store: Arc<dyn Store>) {
    let (made, _) = member(&store, "ada").await;
    // The rename is due and the profile before it is not: the rename waits for it.
    store.rename(made.id, &username("countess"), NOW, NOW, &[]).await.expect("renamed");
    assert!(store.claim_deliveries(NOW, NOW.plus(HOUR), 10).await.expect("claimed").is_empty());
    store.delivered(made.id, 1).await.expect("noted");
    assert_eq!(store.claim_deliveries(NOW, NOW.plus(HOUR), 10).await.expect("claimed"), [made.id]);
}
