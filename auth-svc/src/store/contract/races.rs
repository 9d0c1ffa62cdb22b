//! Cases about calls at the same time: what one account, one limit, one number or one delivery must settle.

use std::{collections::BTreeSet, sync::Arc};

use super::{HOUR, MINUTE, NOW, account, login, member, opening, rotation, session, username};
use crate::store::{
    Created, End, NewAccount, NewSession, Opened, Opening, PasswordChange, PasswordChanged, Rotated, Store,
};

/// All at once, each in a task of its own.
async fn together<T: Send + 'static>(
    calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let calls: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        answers.push(call.await.expect("no panic"));
    }
    answers
}

pub(crate) async fn revocation_numbers_become_visible_in_their_order(store: Arc<dyn Store>) {
    const ACCOUNTS: usize = 6;
    const ROUNDS: usize = 8;
    // Each round of an account ends three sessions: one by one, by a thief, and as one of the others.
    const LAST: i64 = (ACCOUNTS * ROUNDS * 3) as i64;
    let until = NOW.plus(HOUR);
    let writers: Vec<_> = (0..ACCOUNTS)
        .map(|index| {
            let store = store.clone();
            tokio::spawn(async move {
                let (account, kept) = member(&store, &format!("member-{index}")).await;
                for _ in 0..ROUNDS {
                    let one = login(&store, &account, NOW).await;
                    let ended = store.end_session(account.id, one.id, NOW, until, &[]).await.expect("ended");
                    assert!(matches!(ended, End::Ended(_)), "{ended:?}");
                    let stolen = login(&store, &account, NOW).await;
                    for generation in [0, 1, 0] {
                        let rotated = store.rotate(&rotation(&stolen, generation, NOW)).await.expect("judged");
                        assert!(
                            !matches!(rotated, Rotated::Ended | Rotated::Expired | Rotated::Unknown),
                            "{rotated:?}"
                        );
                    }
                    login(&store, &account, NOW).await;
                    let others = store.end_other_sessions(account.id, kept.id, NOW, until, &[]).await.expect("ended");
                    assert_eq!(others.count, 1);
                }
            })
        })
        .collect();
    let mut seen = 0;
    while seen < LAST {
        let page = store.revocations(seen, NOW, 1_000).await.expect("read");
        let numbers: Vec<_> = page.revocations.iter().map(|revocation| revocation.number).collect();
        assert_eq!(numbers, (seen + 1..=page.head).collect::<Vec<_>>(), "a number came before the one below it");
        seen = page.head;
    }
    for writer in writers {
        writer.await.expect("no panic");
    }
    assert_eq!(store.revocations(0, NOW, 1_000).await.expect("read").head, LAST);
}

pub(crate) async fn racing_logins_keep_to_the_limit(store: Arc<dyn Store>) {
    let (account, _) = member(&store, "ada").await;
    let opened = together((0..12).map(|_| {
        let (store, opening) = (store.clone(), Opening { sessions_max: 3, ..opening(&account, &session(account.id)) });
        async move { store.open_session(&opening).await.expect("opened") }
    }))
    .await;
    assert!(opened.iter().all(|opened| matches!(opened, Opened::Open { .. })), "{opened:?}");
    assert_eq!(store.sessions(account.id, NOW, None, 100).await.expect("read").len(), 3);
    // The first one, and all but three of the twelve.
    assert_eq!(store.revocations(0, NOW, 100).await.expect("read").revocations.len(), 10);
}

pub(crate) async fn no_login_with_the_old_password_outlives_its_change(store: Arc<dyn Store>) {
    for round in 0..5 {
        let (account, kept) = member(&store, &format!("ada-{round}")).await;
        let change = PasswordChange {
            user_id: account.id,
            verified_hash: "hash-1".to_owned(),
            new_hash: "hash-2".to_owned(),
            keep: kept.id,
            now: NOW,
            revoked_until: NOW.plus(HOUR),
            audit: Vec::new(),
            mails: Vec::new(),
        };
        let logins = (0..6).map(|_| {
            let (store, opening) = (store.clone(), opening(&account, &session(account.id)));
            async move { store.open_session(&opening).await.map(drop).expect("judged") }
        });
        let logins: Vec<_> = logins.map(tokio::spawn).collect();
        let changed = store.change_password(&change).await.expect("judged");
        assert!(matches!(changed, PasswordChanged::Changed(_)), "{changed:?}");
        for login in logins {
            login.await.expect("no panic");
        }
        let alive = store.sessions(account.id, NOW, None, 100).await.expect("read");
        assert_eq!(alive.iter().map(|session| session.id).collect::<Vec<_>>(), [kept.id]);
    }
}

pub(crate) async fn racing_changes_of_one_password_change_it_once(store: Arc<dyn Store>) {
    let (account, kept) = member(&store, "ada").await;
    let changed = together((0..8).map(|index| {
        let change = PasswordChange {
            user_id: account.id,
            verified_hash: "hash-1".to_owned(),
            new_hash: format!("hash-of-{index}"),
            keep: kept.id,
            now: NOW,
            revoked_until: NOW.plus(HOUR),
            audit: Vec::new(),
            mails: Vec::new(),
        };
        let store = store.clone();
        async move { store.change_password(&change).await.expect("judged") }
    }))
    .await;
    let won: Vec<_> = (0..8).filter(|index| changed[*index] != PasswordChanged::Stale).collect();
    let found = store.credentials_by_id(account.id).await.expect("read").expect("there");
    assert_eq!(won.iter().map(|index| format!("hash-of-{index}")).collect::<Vec<_>>(), [found.password_hash]);
}

pub(crate) async fn racing_ends_of_one_session_end_it_once(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let second = login(&store, &account, NOW).await;
    let ended = together((0..12).map(|index| {
        let store = store.clone();
        async move {
            // Some end the one, others all but the other.
            if index % 2 == 0 {
                let ended = store.end_session(account.id, first.id, NOW, NOW, &[]).await.expect("judged");
                u32::from(matches!(ended, End::Ended(_)))
            } else {
                store.end_other_sessions(account.id, second.id, NOW, NOW, &[]).await.expect("ended").count
            }
        }
    }))
    .await;
    assert_eq!(ended.iter().sum::<u32>(), 1);
    assert_eq!(store.revocations(0, NOW, 100).await.expect("read").head, 1);
}

/// A repeated refresh and the use of the successor, at the same time: one of them was first, and both answers say which.
pub(crate) async fn a_repeated_refresh_and_its_successors_use_are_judged_one_after_the_other(store: Arc<dyn Store>) {
    let (account, _) = member(&store, "ada").await;
    for _ in 0..40 {
        let session = login(&store, &account, NOW).await;
        store.rotate(&rotation(&session, 0, NOW)).await.expect("judged");
        let answers = together([0, 0, 1].map(|generation| {
            let (store, rotation) = (store.clone(), rotation(&session, generation, NOW));
            async move { store.rotate(&rotation).await.expect("judged") }
        }));
        let answers = answers.await;
        let stolen = answers.iter().any(|answer| matches!(answer, Rotated::Reused { .. }));
        let newest = store.rotate(&rotation(&session, 2, NOW)).await.expect("judged");
        assert_eq!(stolen, newest == Rotated::Ended, "{answers:?}, then {newest:?}");
    }
}

pub(crate) async fn two_who_swap_names_at_once_are_both_answered(store: Arc<dyn Store>) {
    for round in 0..3 {
        let names = [format!("ada-{round}"), format!("bob-{round}")];
        let (ada, _) = member(&store, &names[0]).await;
        let (bob, _) = member(&store, &names[1]).await;
        together([(ada.id, names[1].clone()), (bob.id, names[0].clone())].map(|(id, name)| {
            let store = store.clone();
            async move { store.rename(id, &username(&name), NOW, NOW, &[]).await.expect("judged") }
        }))
        .await;
        let mut now = Vec::new();
        for id in [ada.id, bob.id] {
            now.push(store.account(id).await.expect("read").expect("there").username.as_str().to_owned());
        }
        // Neither name was ever free.
        assert_eq!(now, names);
    }
}

pub(crate) async fn racing_workers_claim_each_delivery_once(store: Arc<dyn Store>) {
    let mut made = BTreeSet::new();
    for index in 0..20 {
        let account = NewAccount { delivery_due_at: NOW, ..account(&format!("member-{index}")) };
        store.create_account(&account, &session(account.id), &[]).await.expect("made");
        made.insert(account.id);
    }
    let mut claimed = Vec::new();
    // A worker passes over what another one is claiming, so it may take more than one look.
    while claimed.len() < made.len() {
        let rounds = together((0..6).map(|_| {
            let store = store.clone();
            async move { store.claim_deliveries(NOW, NOW.plus(MINUTE), 4).await.expect("claimed") }
        }));
        let before = claimed.len();
        claimed.extend(rounds.await.into_iter().flatten());
        assert!(claimed.len() > before, "nobody claims what is due: {} of {}", claimed.len(), made.len());
    }
    assert_eq!(claimed.len(), made.len(), "one was claimed twice");
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), made);
}

pub(crate) async fn racing_prunes_forget_each_row_once(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    for _ in 0..19 {
        login(&store, &account, NOW).await;
    }
    let gone = together((0..6).map(|_| {
        let store = store.clone();
        async move { store.prune(first.expires_at, 5).await.expect("pruned") }
    }))
    .await;
    let rest = store.prune(first.expires_at, 100).await.expect("pruned");
    assert_eq!(gone.iter().sum::<u64>() + rest, 20);
}

/// A caller may go away at any moment; what it began is whole, or it is nothing.
pub(crate) async fn a_caller_that_goes_away_leaves_a_whole_write_or_none(store: Arc<dyn Store>) {
    let (mut whole, mut none) = (0, 0);
    for index in 0..200_u64 {
        let attempt = account(&format!("member-{index}"));
        let first = session(attempt.id);
        let mut call = store.create_account(&attempt, &first, &[]);
        // Left after so many looks at it, wherever it stands then; the last ones get to their end.
        for _ in 0..index * index {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        // The same again waits for what is still on its way.
        let again = NewSession { id: session(attempt.id).id, ..first.clone() };
        let made = store.create_account(&attempt, &again, &[]).await.expect("judged");
        assert_ne!(made, Created::NameTaken);
        let (there, missing) = if made == Created::IdTaken { (&first, &again) } else { (&again, &first) };
        assert!(store.session(there.id).await.expect("read").is_some());
        assert!(store.session(missing.id).await.expect("read").is_none());
        assert_eq!(store.next_delivery(attempt.id).await.expect("read").expect("queued").version, 1);
        if made == Created::IdTaken { whole += 1 } else { none += 1 }
    }
    assert!(whole > 0 && none > 0, "{whole} whole, {none} not at all: the limits were no test");
}
