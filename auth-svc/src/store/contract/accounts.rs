//! Cases about accounts: uniqueness, finding, renaming.

use std::sync::Arc;

use super::{MINUTE, NOW, account, email, member, session, username};
use crate::{
    account::Login,
    outbox::News,
    store::{Created, NewAccount, Renamed, Store},
};

pub(crate) async fn an_account_is_found_by_its_id_and_by_its_names(store: Arc<dyn Store>) {
    let (made, _) = member(&store, "Ada").await;
    let by_name = Login::parse("login", "aDA").expect("login");
    let by_address = Login::parse("login", "ADA@example.ORG").expect("login");
    for login in [by_name, by_address] {
        let found = store.credentials(&login).await.expect("read").expect("found");
        assert_eq!(found.password_hash, "hash-1");
        assert_eq!(found.account.id, made.id);
        assert_eq!(found.account.username.as_str(), "Ada");
        assert_eq!(found.account.email.as_str(), "Ada@example.org");
        assert_eq!(found.account.roles, ["user", "admin"]);
        assert_eq!((found.account.created_at, found.account.updated_at), (NOW, NOW));
        assert_eq!(store.account(made.id).await.expect("read"), Some(found.account));
    }
    let stranger = account("bob");
    assert!(store.credentials(&Login::Username("bob".into())).await.expect("read").is_none());
    assert!(store.credentials(&Login::Email("bob@example.org".into())).await.expect("read").is_none());
    assert!(store.account(stranger.id).await.expect("read").is_none());
    assert!(store.credentials_by_id(stranger.id).await.expect("read").is_none());
    assert!(!store.taken(&stranger.username, &stranger.email).await.expect("read"));
    assert!(store.taken(&stranger.username, &email("ada@EXAMPLE.org")).await.expect("read"));
    assert!(store.taken(&username("ADA"), &stranger.email).await.expect("read"));
}

pub(crate) async fn a_taken_name_and_a_taken_id_are_told_apart_and_change_nothing(store: Arc<dyn Store>) {
    let (made, _) = member(&store, "ada").await;
    let same_name = NewAccount { username: username("ADA"), ..account("bob") };
    let same_email = NewAccount { email: email("ADA@example.org"), ..account("bob") };
    let same_id = NewAccount { id: made.id, ..account("bob") };
    let same_all = NewAccount { id: made.id, ..account("ada") };
    for (attempt, expected) in [
        (same_name, Created::NameTaken),
        (same_email, Created::NameTaken),
        (same_id, Created::IdTaken),
        (same_all, Created::IdTaken),
    ] {
        let first = session(attempt.id);
        assert_eq!(store.create_account(&attempt, &first, &[]).await.expect("judged"), expected);
        assert!(store.session(first.id).await.expect("read").is_none());
    }
    assert!(store.credentials(&Login::Username("bob".into())).await.expect("read").is_none());
    assert!(store.credentials(&Login::Email("bob@example.org".into())).await.expect("read").is_none());
    assert_eq!(store.next_delivery(made.id).await.expect("read").expect("one").version, 1);
}

pub(crate) async fn of_racing_registrations_of_one_name_one_wins(store: Arc<dyn Store>) {
    let calls: Vec<_> = (0..16)
        .map(|index| {
            let store = store.clone();
            // Half of them race for the username, half for the address.
            let attempt = match index % 2 {
                0 => NewAccount { email: email(&format!("{index}@example.org")), ..account("ada") },
                _ => NewAccount { username: username(&format!("ada-{index}")), ..account("ada") },
            };
            tokio::spawn(async move {
                let created = store.create_account(&attempt, &session(attempt.id), &[]).await.expect("judged");
                (index % 2, created)
            })
        })
        .collect();
    let mut made = Vec::new();
    for call in calls {
        let (kind, created) = call.await.expect("no panic");
        if created == Created::Made {
            made.push(kind);
        }
    }
    made.sort_unstable();
    made.dedup();
    assert_eq!(made, [0, 1], "one for the name and one for the address");
}

pub(crate) async fn a_rename_frees_the_old_name_and_queues_its_version(store: Arc<dyn Store>) {
    let (made, _) = member(&store, "ada").await;
    let later = NOW.plus(MINUTE);
    let renamed = store.rename(made.id, &username("Countess"), later, later, &[]).await.expect("renamed");
    let Renamed::Renamed(account) = renamed else { panic!("{renamed:?}") };
    assert_eq!((account.username.as_str(), account.updated_at), ("Countess", later));
    assert_eq!(store.account(made.id).await.expect("read"), Some(account));
    assert!(store.credentials(&Login::Username("ada".into())).await.expect("read").is_none());
    assert!(store.credentials(&Login::Username("countess".into())).await.expect("read").is_some());
    store.delivered(made.id, 1).await.expect("noted");
    let next = store.next_delivery(made.id).await.expect("read").expect("queued");
    assert_eq!((next.version, next.username.as_str(), next.news), (2, "Countess", News::Renamed));
    let stranger = account_named("ada");
    assert_eq!(store.create_account(&stranger, &session(stranger.id), &[]).await.expect("made"), Created::Made);
    let missing = store.rename(account_named("x-y").id, &username("nobody"), later, later, &[]).await.expect("judged");
    assert!(matches!(missing, Renamed::Missing), "{missing:?}");
}

fn account_named(name: &str) -> NewAccount {
    NewAccount { email: email(&format!("{name}@example.net")), ..account(name) }
}

pub(crate) async fn a_rename_to_the_same_letters_changes_nothing(store: Arc<dyn Store>) {
    let (made, _) = member(&store, "ada").await;
    store.delivered(made.id, 1).await.expect("noted");
    let later = NOW.plus(MINUTE);
    let same = store.rename(made.id, &username("ada"), later, later, &[]).await.expect("judged");
    assert!(matches!(&same, Renamed::Renamed(account) if account.updated_at == NOW), "{same:?}");
    assert!(store.next_delivery(made.id).await.expect("read").is_none());
    // Another case is another name to look at, and still one's own.
    let other = store.rename(made.id, &username("ADA"), later, later, &[]).await.expect("judged");
    assert!(matches!(&other, Renamed::Renamed(account) if account.username.as_str() == "ADA"), "{other:?}");
    assert_eq!(store.next_delivery(made.id).await.expect("read").expect("queued").version, 2);
}

pub(crate) async fn a_rename_to_a_taken_name_is_refused(store: Arc<dyn Store>) {
    let (ada, _) = member(&store, "ada").await;
    let (bob, _) = member(&store, "bob").await;
    let taken = store.rename(bob.id, &username("ADA"), NOW, NOW, &[]).await.expect("judged");
    assert!(matches!(taken, Renamed::Taken), "{taken:?}");
    assert_eq!(store.account(bob.id).await.expect("read").expect("there").username.as_str(), "bob");
    assert_eq!(store.account(ada.id).await.expect("read").expect("there").username.as_str(), "ada");
    assert_eq!(store.next_delivery(bob.id).await.expect("read").expect("queued").version, 1);
}

pub(crate) async fn of_racing_renames_to_one_name_one_wins(store: Arc<dyn Store>) {
    let mut calls = Vec::new();
    for index in 0..8 {
        let (member, _) = member(&store, &format!("member-{index}")).await;
        let store = store.clone();
        calls.push(tokio::spawn(async move {
            store.rename(member.id, &username("countess"), NOW, NOW, &[]).await.expect("judged")
        }));
    }
    let mut won = 0;
    for call in calls {
        match call.await.expect("no panic") {
            Renamed::Renamed(_) => won += 1,
            Renamed::Taken => {}
            Renamed::Missing => panic!("an account is missing"),
        }
    }
    assert_eq!(won, 1);
}
