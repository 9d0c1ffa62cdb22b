//! Cases about invitations.

use std::sync::Arc;

use uuid::Uuid;

use super::{HOUR, MINUTE, NOW, account, entry, session};
use crate::{
    audit::{Actor, Event, Filter},
    invitation::{Invitation, InvitationHash},
    store::{Created, NewAccount, NewInvitation, Store},
};

/// The one of this number, with a hash of its own.
fn invitation(number: u8) -> NewInvitation {
    let invitation = Invitation {
        id: Uuid::from_u128(u128::from(number) + 1),
        note: format!("for number {number}"),
        made_by: Actor::Operator("root".to_owned()),
        created_at: NOW,
        expires_at: NOW.plus(HOUR),
        used_at: None,
        used_by: None,
    };
    let audit = vec![entry(Event::InvitationMade, NOW)];
    NewInvitation { invitation, hash: InvitationHash([number; 32]), open_max: 100, audit }
}

fn invited(name: &str, number: u8) -> NewAccount {
    NewAccount { invitation: Some(InvitationHash([number; 32])), ..account(name) }
}

async fn register(store: &Arc<dyn Store>, account: &NewAccount) -> Created {
    store.create_account(account, &session(account.id), &[]).await.expect("judged")
}

async fn written(store: &Arc<dyn Store>, event: Event) -> usize {
    let entries = store.audit(&Filter::default(), None, 100).await.expect("read");
    entries.iter().filter(|entry| entry.event == event).count()
}

pub(crate) async fn an_invitation_lets_one_person_in_and_is_listed_with_them(store: Arc<dyn Store>) {
    for number in 0..3 {
        assert!(store.invite(&invitation(number)).await.expect("kept"));
    }
    assert_eq!(written(&store, Event::InvitationMade).await, 3);
    let good = async |number| store.good_invitation(&InvitationHash([number; 32]), NOW).await.expect("read");
    assert_eq!((good(1).await, good(7).await), (Some(invitation(1).invitation.id), None));
    let ada = invited("ada", 1);
    assert_eq!(register(&store, &ada).await, Created::Made);
    assert_eq!(good(1).await, None);
    assert_eq!(register(&store, &ada).await, Created::IdTaken, "the same registration, whose answer was lost");
    assert_eq!(register(&store, &invited("bob", 1)).await, Created::NotInvited);
    let used = Invitation { used_at: Some(NOW), used_by: Some(ada.id), ..invitation(1).invitation };
    let expected = [invitation(2).invitation, used, invitation(0).invitation];
    assert_eq!(store.invitations(NOW, None, 10).await.expect("read"), expected);
    let first = store.invitations(NOW, None, 2).await.expect("read");
    let rest = store.invitations(NOW, Some(first[1].id), 2).await.expect("read");
    assert_eq!((first.as_slice(), rest.as_slice()), (&expected[..2], &expected[2..]));
}

pub(crate) async fn a_registration_that_is_refused_uses_no_invitation_up(store: Arc<dyn Store>) {
    assert_eq!(register(&store, &account("ada")).await, Created::Made);
    assert!(store.invite(&invitation(1)).await.expect("kept"));
    let taken = NewAccount { email: super::email("other@example.org"), ..invited("ada", 1) };
    assert_eq!(register(&store, &taken).await, Created::NameTaken);
    assert_eq!(register(&store, &invited("bob", 9)).await, Created::NotInvited);
    assert!(!store.taken(&super::username("bob"), &super::email("bob@example.org")).await.expect("read"));
    assert_eq!(register(&store, &invited("bob", 1)).await, Created::Made);
}

pub(crate) async fn an_invitation_that_is_revoked_or_expired_lets_nobody_in(store: Arc<dyn Store>) {
    for number in 0..3 {
        assert!(store.invite(&invitation(number)).await.expect("kept"));
    }
    let revoke = async |number| {
        let entries = [entry(Event::InvitationRevoked, NOW)];
        store.revoke_invitation(invitation(number).invitation.id, &entries).await.expect("judged")
    };
    assert!(revoke(0).await);
    assert!(!revoke(0).await && !revoke(50).await, "there is none");
    assert_eq!(register(&store, &invited("ada", 0)).await, Created::NotInvited);
    assert_eq!(register(&store, &invited("ada", 1)).await, Created::Made);
    assert!(!revoke(1).await, "it was used");
    assert_eq!(written(&store, Event::InvitationRevoked).await, 1, "what changes nothing is not written");
    let late = NewAccount { created_at: NOW.plus(HOUR), ..invited("bob", 2) };
    assert_eq!(store.good_invitation(&InvitationHash([2; 32]), late.created_at).await.expect("read"), None);
    assert_eq!(register(&store, &late).await, Created::NotInvited);
    assert!(store.invitations(late.created_at, None, 10).await.expect("read").is_empty());
    assert_eq!(store.prune(late.created_at, 10).await.expect("pruned"), 2, "used or not");
}

pub(crate) async fn there_are_no_more_invitations_than_may_be(store: Arc<dyn Store>) {
    let few = |number| NewInvitation { open_max: 2, ..invitation(number) };
    // Many at once, which have expired by now.
    let calls: Vec<_> = (10..18)
        .map(|number| {
            let (store, mut early) = (store.clone(), NewInvitation { audit: Vec::new(), ..few(number) });
            early.invitation.created_at = NOW.minus(HOUR + HOUR);
            early.invitation.expires_at = NOW.minus(HOUR);
            tokio::spawn(async move { store.invite(&early).await.expect("judged") })
        })
        .collect();
    let kept = futures::future::join_all(calls).await.into_iter().filter(|kept| *kept.as_ref().expect("no panic"));
    assert_eq!(kept.count(), 2, "many at once are no more than many in a row");
    for number in 0..2 {
        assert!(store.invite(&few(number)).await.expect("kept"));
    }
    assert!(!store.invite(&few(2)).await.expect("judged"));
    assert_eq!(written(&store, Event::InvitationMade).await, 2);
    assert!(store.revoke_invitation(few(0).invitation.id, &[]).await.expect("revoked"));
    assert!(store.invite(&few(2)).await.expect("kept"));
    // Those that have expired count no more.
    let mut late = few(3);
    late.invitation.created_at = NOW.plus(HOUR);
    late.invitation.expires_at = NOW.plus(HOUR + MINUTE);
    assert!(store.invite(&late).await.expect("kept"));
}

pub(crate) async fn of_racing_registrations_with_one_invitation_one_wins(store: Arc<dyn Store>) {
    assert!(store.invite(&invitation(1)).await.expect("kept"));
    let calls: Vec<_> = (0..8)
        .map(|index| {
            let store = store.clone();
            tokio::spawn(async move { register(&store, &invited(&format!("member-{index}"), 1)).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.expect("no panic"));
    }
    let count = |outcome| outcomes.iter().filter(|one| **one == outcome).count();
    assert_eq!((count(Created::Made), count(Created::NotInvited)), (1, 7), "{outcomes:?}");
}
