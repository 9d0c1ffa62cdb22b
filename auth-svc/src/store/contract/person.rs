//! Cases about people as a whole: who may log in, deletions, and what is left of somebody afterwards.

use std::sync::Arc;

use mesh::{identity::Scope, time::Millis};
use uuid::Uuid;

use super::{HOUR, MINUTE, NOW, account, email, entry, login, member, opening, session, username};
use crate::{
    account::{Login, UserId},
    api_key::{ApiKey, ApiKeyHash},
    audit::{Actor, Entry, Event, Filter},
    factor::RecoveryHash,
    session::SessionId,
    store::{
        AccessChange, AccessSet, Created, Deletion, DeletionPlan, DeletionPlanned, Erased, NewAccount, NewApiKey,
        NewServiceAccount, Opened, Side, Store, TotpConfirmation, TrustedDevice,
    },
};

type Shared = Arc<dyn Store>;

fn access(user: UserId, disabled: bool) -> AccessChange {
    let by = |event| entry(event, NOW).by(Actor::Operator("root".to_owned())).on(user);
    AccessChange {
        user_id: user,
        disabled,
        now: NOW,
        revoked_until: NOW.plus(HOUR),
        audit: vec![by(if disabled { Event::AccountDisabled } else { Event::AccountEnabled })],
        kept: by(Event::AccountKept),
    }
}

fn plan(user: UserId, erase_at: Millis) -> DeletionPlan {
    DeletionPlan {
        user_id: user,
        disabled: false,
        now: NOW,
        erase_at,
        revoked_until: NOW.plus(HOUR),
        audit: vec![entry(Event::AccountDeleted, NOW).on(user)],
    }
}

async fn events(store: &Shared, user: UserId) -> Vec<Event> {
    let filter = Filter { subject: Some(user), ..Filter::default() };
    let mut found: Vec<_> =
        store.audit(&filter, None, 100).await.expect("read").into_iter().map(|it| it.event).collect();
    found.retain(|event| *event != Event::LoginPassword);
    found.sort_by_key(|event| event.as_str());
    found
}

async fn erase(store: &Shared, user: UserId, at: Millis) -> Erased {
    let entry = entry(Event::AccountErased, at).on(user);
    store.erase_account(user, at, at.plus(HOUR), &[entry]).await.expect("judged")
}

pub(crate) async fn nobody_logs_in_to_a_disabled_account_until_it_is_enabled(store: Shared) {
    let (ada, first) = member(&store, "ada").await;
    let (_, bobs) = member(&store, "bob").await;
    let second = login(&store, &ada, NOW).await;
    let AccessSet::Set { account, ended } = store.set_access(&access(ada.id, true)).await.expect("set") else {
        panic!("missing")
    };
    assert_eq!((account.disabled_at, ended.count, ended.head), (Some(NOW), 2, Some(2)));
    assert_eq!(store.account(ada.id).await.expect("read"), Some(account));
    for id in [first.id, second.id] {
        assert_eq!(store.session(id).await.expect("read").expect("there").ended_at, Some(NOW));
    }
    assert_eq!(store.session(bobs.id).await.expect("read").expect("there").ended_at, None);
    let opened = store.open_session(&opening(&ada, &session(ada.id))).await.expect("judged");
    assert_eq!(opened, Opened::PasswordChanged, "the right password opens nothing");
    // Once more changes nothing, and writes nothing.
    let again = store.set_access(&AccessChange { now: NOW.plus(HOUR), ..access(ada.id, true) }).await.expect("set");
    assert!(matches!(again, AccessSet::Set { account, .. } if account.disabled_at == Some(NOW)));
    let enabled = store.set_access(&access(ada.id, false)).await.expect("set");
    assert!(matches!(enabled, AccessSet::Set { account, .. } if account.disabled_at.is_none()));
    login(&store, &ada, NOW).await;
    assert_eq!(events(&store, ada.id).await, [Event::AccountDisabled, Event::AccountEnabled]);
    let nobody = UserId(Uuid::now_v7());
    assert_eq!(store.set_access(&access(nobody, true)).await.expect("judged"), AccessSet::Missing);
    assert!(events(&store, nobody).await.is_empty());
}

/// A service account with a key.
async fn program(store: &Shared) -> (UserId, Uuid, ApiKeyHash) {
    let account = account("billing");
    let (id, hash) = (account.id, ApiKeyHash([7; 32]));
    let new = NewServiceAccount { account, made_by: Actor::Nobody, audit: Vec::new() };
    assert_eq!(store.create_service_account(&new).await.expect("made"), Created::Made);
    let key = ApiKey {
        id: Uuid::now_v7(),
        account: id,
        prefix: "sbk_".to_owned(),
        name: String::new(),
        scopes: vec![Scope::UsersRead],
        made_by: Actor::Nobody,
        created_at: NOW,
        expires_at: NOW.plus(24 * HOUR),
        last_used_at: None,
    };
    let key_id = key.id;
    store.create_api_key(&NewApiKey { key, hash, keys_max: 10, audit: Vec::new() }).await.expect("made");
    (id, key_id, hash)
}

pub(crate) async fn a_deletion_ends_sessions_and_keys_and_keeps_its_first_time(store: Shared) {
    let (ada, first) = member(&store, "ada").await;
    let erase_at = NOW.plus(24 * HOUR);
    let planned = store.plan_deletion(&plan(ada.id, erase_at)).await.expect("planned");
    assert_eq!(planned, DeletionPlanned::Planned { erase_at, head: Some(1) });
    assert_eq!(store.session(first.id).await.expect("read").expect("there").ended_at, Some(NOW));
    let again = DeletionPlan { disabled: true, ..plan(ada.id, NOW.plus(HOUR)) };
    let again = store.plan_deletion(&again).await.expect("planned");
    assert_eq!(again, DeletionPlanned::Planned { erase_at, head: None }, "it is not hurried");
    assert_eq!(store.account(ada.id).await.expect("read").expect("there").disabled_at, Some(NOW));
    let kept = store.deletion(ada.id).await.expect("read").expect("there");
    let expected =
        Deletion { user_id: ada.id, erase_at, erased: false, told: false, place: String::new(), attempts: 0 };
    assert_eq!(kept, expected);
    assert!(store.taken(&ada.username, &ada.email).await.expect("read"), "its names stay taken");

    let (program, key, hash) = program(&store).await;
    let planned = store.plan_deletion(&plan(program, erase_at)).await.expect("planned");
    assert_eq!(planned, DeletionPlanned::Planned { erase_at, head: Some(2) });
    assert!(store.use_api_key(&hash, NOW).await.expect("read").is_none());
    let revoked = store.revocations(1, NOW, 10).await.expect("read").revocations;
    assert_eq!(revoked.iter().map(|it| it.session_id.0).collect::<Vec<_>>(), [key]);

    let nobody = UserId(Uuid::now_v7());
    assert_eq!(store.plan_deletion(&plan(nobody, NOW)).await.expect("judged"), DeletionPlanned::Missing);
    assert_eq!(store.deletion(nobody).await.expect("read"), None);
}

pub(crate) async fn a_login_takes_a_deletion_back_and_a_disabled_account_has_none(store: Shared) {
    let (ada, _) = member(&store, "ada").await;
    store.plan_deletion(&plan(ada.id, NOW.plus(HOUR))).await.expect("planned");
    assert_eq!(erase(&store, ada.id, NOW).await, Erased::NotDue, "its time has not come");
    let opened = store.open_session(&opening(&ada, &session(ada.id))).await.expect("opened");
    assert_eq!(opened, Opened::Open { head: None, kept: true });
    assert_eq!(store.deletion(ada.id).await.expect("read"), None);
    assert_eq!(erase(&store, ada.id, NOW.plus(2 * HOUR)).await, Erased::NotDue);
    let opened = store.open_session(&opening(&ada, &session(ada.id))).await.expect("opened");
    assert_eq!(opened, Opened::Open { head: None, kept: false });
    assert_eq!(events(&store, ada.id).await, [Event::AccountDeleted, Event::AccountKept]);

    let by_admin = DeletionPlan { disabled: true, ..plan(ada.id, NOW.plus(HOUR)) };
    store.plan_deletion(&by_admin).await.expect("planned");
    let opened = store.open_session(&opening(&ada, &session(ada.id))).await.expect("judged");
    assert_eq!(opened, Opened::PasswordChanged);
    assert!(store.deletion(ada.id).await.expect("read").is_some());
    // An admin takes it back.
    store.set_access(&access(ada.id, false)).await.expect("set");
    assert_eq!(store.deletion(ada.id).await.expect("read"), None);
    assert_eq!(events(&store, ada.id).await.iter().filter(|event| **event == Event::AccountKept).count(), 2);
    login(&store, &ada, NOW).await;
}

pub(crate) async fn an_erased_account_is_gone_with_all_that_it_had_and_its_names_are_free(store: Shared) {
    let (ada, first) = member(&store, "ada").await;
    let (bob, bobs) = member(&store, "bob").await;
    for user in [ada.id, bob.id] {
        store.plan_totp(user, b"sealed", NOW).await.expect("planned");
        let confirmation = TotpConfirmation {
            user_id: user,
            sealed_secret: b"sealed".to_vec(),
            step: 1,
            recovery_hashes: vec![RecoveryHash([1; 32])],
            now: NOW,
            audit: Vec::new(),
            mails: Vec::new(),
        };
        assert!(store.confirm_totp(&confirmation).await.expect("confirmed"));
        store.trust_device(&device(user)).await.expect("trusted");
    }
    store.plan_deletion(&plan(ada.id, NOW.plus(HOUR))).await.expect("planned");
    let late = NOW.plus(HOUR);
    assert_eq!(erase(&store, ada.id, late).await, Erased::Gone { head: None });
    assert_eq!(erase(&store, ada.id, late).await, Erased::NotDue, "once");
    assert_eq!(store.account(ada.id).await.expect("read"), None);
    assert!(store.credentials(&Login::Username("ada".into())).await.expect("read").is_none());
    assert!(store.session(first.id).await.expect("read").is_none());
    assert_eq!(store.factors(ada.id, NOW).await.expect("read"), Default::default());
    assert!(store.trusted_devices(ada.id, NOW).await.expect("read").is_empty());
    assert!(store.next_delivery(ada.id).await.expect("read").is_none());
    assert_eq!(store.revocations(0, NOW, 10).await.expect("read").revocations.len(), 1, "its end is still told");
    assert_eq!(events(&store, ada.id).await, [Event::AccountDeleted, Event::AccountErased]);
    let deletion = store.deletion(ada.id).await.expect("read").expect("until all services know");
    assert!(deletion.erased && !deletion.told);
    // Somebody else may be called so.
    let other = NewAccount { username: username("Ada"), email: email("ada@example.org"), ..account("ada") };
    assert_eq!(store.create_account(&other, &session(other.id), &[]).await.expect("made"), Created::Made);
    // And bob has all of his.
    assert!(store.session(bobs.id).await.expect("read").is_some());
    assert_eq!(store.factors(bob.id, NOW).await.expect("read").recovery_codes, 1);
    assert_eq!(store.trusted_devices(bob.id, NOW).await.expect("read").len(), 1);
    // A key that an admin makes in between goes as well.
    let (program, _, hash) = program(&store).await;
    store.plan_deletion(&plan(program, NOW)).await.expect("planned");
    assert!(matches!(erase(&store, program, late).await, Erased::Gone { .. }));
    assert!(store.use_api_key(&hash, NOW).await.expect("read").is_none());
    assert!(store.service_accounts(None, 10).await.expect("read").is_empty());
}

fn device(user: UserId) -> TrustedDevice {
    TrustedDevice {
        user_id: user,
        device_id: Uuid::now_v7(),
        now: NOW,
        expires_at: NOW.plus(HOUR),
        devices_max: 10,
        audit: Vec::new(),
    }
}

pub(crate) async fn a_deletion_is_claimed_once_noted_postponed_and_finished(store: Shared) {
    let (ada, _) = member(&store, "ada").await;
    let (bob, _) = member(&store, "bob").await;
    store.plan_deletion(&plan(ada.id, NOW)).await.expect("planned");
    store.plan_deletion(&plan(bob.id, NOW.plus(HOUR))).await.expect("planned");
    let claim = async |at: Millis| store.claim_deletions(at, at.plus(MINUTE), 10).await.expect("claimed");
    assert_eq!(claim(NOW).await, [ada.id]);
    assert!(claim(NOW).await.is_empty(), "it is left alone for its lease");
    store.finish_deletion(ada.id).await.expect("done");
    assert!(store.deletion(ada.id).await.expect("read").is_some(), "what is not erased is not finished");
    assert!(matches!(erase(&store, ada.id, NOW).await, Erased::Gone { .. }));
    store.postpone_deletion(ada.id, NOW.plus(2 * MINUTE)).await.expect("noted");
    store.postpone_deletion(ada.id, NOW.plus(2 * MINUTE)).await.expect("noted");
    assert_eq!(store.deletion(ada.id).await.expect("read").expect("there").attempts, 2);
    assert!(claim(NOW.plus(MINUTE)).await.is_empty());
    assert_eq!(claim(NOW.plus(2 * MINUTE)).await, [ada.id]);
    store.note_deletion(ada.id, true, "a place", NOW.plus(3 * MINUTE)).await.expect("noted");
    let noted = store.deletion(ada.id).await.expect("read").expect("there");
    assert_eq!((noted.erased, noted.told, noted.place.as_str(), noted.attempts), (true, true, "a place", 0));
    store.finish_deletion(ada.id).await.expect("done");
    assert_eq!(store.deletion(ada.id).await.expect("read"), None);
    assert_eq!(claim(NOW.plus(2 * HOUR)).await, [bob.id]);
}

pub(crate) async fn what_the_log_tells_of_somebody_is_taken_out_and_their_id_stays(store: Shared) {
    let (ada, admin, bob) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
    let mut written: Vec<Entry> = Vec::new();
    for minute in 0..5 {
        let at = NOW.plus(minute * MINUTE);
        written.push(entry(Event::LoginPassword, at).by(Actor::User(ada)).on(ada).detail("theirs"));
        written.push(entry(Event::LoginPassword, at).on(ada).failed("a guess at them"));
        written.push(entry(Event::RoleSet, at).by(Actor::User(admin)).on(ada).detail("by an admin"));
        written.push(entry(Event::RoleSet, at).by(Actor::User(ada)).on(bob).detail("on another"));
        written.push(entry(Event::LoginPassword, at).by(Actor::User(bob)).on(bob).detail("another's"));
    }
    store.append_audit(&written).await.expect("written");
    for _ in 0..2 {
        for side in [Side::Subject, Side::Actor] {
            let (mut last, mut pages) = (None, 0);
            while let Some(next) = store.scrub_audit(ada, side, last, 4).await.expect("scrubbed") {
                (last, pages) = (Some(next), pages + 1);
            }
            assert!(pages > 1, "{side:?}");
        }
    }
    let mut found = store.audit(&Filter::default(), None, 100).await.expect("read");
    found.sort_by_key(|entry| written.iter().position(|it| it.id == entry.id));
    assert_eq!(found.len(), written.len());
    for (after, before) in found.iter().zip(&written) {
        let place = |entry: &Entry| (entry.client.ip_address.clone(), entry.client.device.clone());
        let (gone, kept) = ((String::new(), String::new()), place(before));
        let (place_left, detail_left) = match (&before.actor, before.subject) {
            (Actor::User(actor), Some(subject)) if *actor == ada && subject == ada => (gone, ""),
            (Actor::Nobody, _) => (gone, ""),
            (Actor::User(actor), _) if *actor == admin => (kept, ""),
            (Actor::User(actor), _) if *actor == ada => (gone, "on another"),
            _ => (kept, "another's"),
        };
        assert_eq!((place(after), after.detail.as_str()), (place_left, detail_left), "{before:?}");
        let rest = |entry: &Entry| (entry.event, entry.at, entry.succeeded, entry.actor.clone(), entry.subject);
        assert_eq!(rest(after), rest(before));
        assert_eq!(after.client.request_id, before.client.request_id);
    }
}

pub(crate) async fn all_live_sessions_of_everybody_end_in_steps(store: Shared) {
    let mut expected = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        let (account, first) = member(&store, name).await;
        expected.extend([first.id, login(&store, &account, NOW).await.id]);
    }
    store.end_session(account("nobody").id, expected[0], NOW, NOW, &[]).await.expect("judged");
    let (mut last, mut count, mut head) = (SessionId(Uuid::nil()), 0, None);
    loop {
        let step = store.end_sessions_after(last, NOW, NOW.plus(HOUR), 4).await.expect("ended");
        let (ended, Some(next)) = step else { break };
        assert!(ended.count <= 4 && next > last);
        (last, count, head) = (next, count + ended.count, ended.head);
    }
    assert_eq!((count, head), (6, Some(6)));
    for id in expected {
        assert_eq!(store.session(id).await.expect("read").expect("there").ended_at, Some(NOW));
    }
}

pub(crate) async fn trusted_devices_are_listed_while_they_are(store: Shared) {
    let (ada, _) = member(&store, "ada").await;
    let (bob, _) = member(&store, "bob").await;
    let mut expected = Vec::new();
    for user in [ada.id, ada.id, bob.id] {
        let device = device(user);
        store.trust_device(&device).await.expect("trusted");
        expected.push(device.device_id);
    }
    let found = store.trusted_devices(ada.id, NOW).await.expect("read");
    assert_eq!(found.iter().map(|known| known.id).collect::<Vec<_>>(), expected[..2]);
    assert!(found.iter().all(|known| known.created_at == NOW && known.expires_at == NOW.plus(HOUR)));
    assert!(store.trusted_devices(ada.id, NOW.plus(HOUR)).await.expect("read").is_empty());
}

pub(crate) async fn a_login_and_an_erasing_at_once_leave_the_account_whole_or_none(store: Shared) {
    for round in 0..10 {
        let (ada, _) = member(&store, &format!("ada-{round}")).await;
        store.plan_deletion(&plan(ada.id, NOW)).await.expect("planned");
        let opening = opening(&ada, &session(ada.id));
        let (opened, erased) = tokio::join!(store.open_session(&opening), erase(&store, ada.id, NOW));
        let there = store.account(ada.id).await.expect("read").is_some();
        match (opened.expect("judged"), erased) {
            (Opened::Open { kept: true, .. }, Erased::NotDue) => assert!(there),
            (Opened::PasswordChanged, Erased::Gone { .. }) => assert!(!there),
            other => panic!("{other:?}"),
        }
        let session = store.session(opening.session.id).await.expect("read");
        assert_eq!(session.is_some(), there, "a session of nobody");
    }
}
