//! Cases about second factors.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{HOUR, MINUTE, NOW, entry, member};
use crate::{
    account::UserId,
    audit::{Event, Filter},
    factor::RecoveryHash,
    store::{Factors, PasswordChange, Store, TotpAttempt, TotpConfirmation, TrustedDevice},
};

fn hashes(from: u8) -> Vec<RecoveryHash> {
    (from..from + 10).map(|byte| RecoveryHash([byte; 32])).collect()
}

fn confirmation(user_id: UserId, sealed: &[u8]) -> TotpConfirmation {
    TotpConfirmation {
        user_id,
        sealed_secret: sealed.to_vec(),
        step: 100,
        recovery_hashes: hashes(0),
        now: NOW,
        audit: vec![entry(Event::TotpAdded, NOW).on(user_id)],
        mails: Vec::new(),
    }
}

/// A member whose authenticator counts, with the code of step 100 used.
async fn guarded(store: &Arc<dyn Store>, name: &str) -> UserId {
    let (account, _) = member(store, name).await;
    assert!(store.plan_totp(account.id, b"sealed", NOW).await.expect("planned"));
    assert!(store.confirm_totp(&confirmation(account.id, b"sealed")).await.expect("confirmed"));
    account.id
}

fn device(user_id: UserId, device_id: Uuid, minutes: u32) -> TrustedDevice {
    let now = NOW.plus(minutes * MINUTE);
    let audit = vec![entry(Event::DeviceRemembered, now).on(user_id)];
    TrustedDevice { user_id, device_id, now, expires_at: now.plus(HOUR), devices_max: 2, audit }
}

async fn count(store: &Arc<dyn Store>, event: Event) -> usize {
    let entries = store.audit(&Filter::default(), None, 100).await.expect("read");
    entries.iter().filter(|entry| entry.event == event).count()
}

pub(crate) async fn an_authenticator_counts_once_it_is_confirmed(store: Arc<dyn Store>) {
    let (ada, _) = member(&store, "ada").await;
    let (bob, _) = member(&store, "bob").await;
    assert_eq!(store.planned_totp(ada.id).await.expect("read"), None);
    assert!(store.plan_totp(ada.id, b"first", NOW).await.expect("planned"));
    assert!(store.plan_totp(ada.id, b"second", NOW).await.expect("planned again"));
    assert_eq!(store.planned_totp(ada.id).await.expect("read").as_deref(), Some(&b"second"[..]));
    assert_eq!(store.factors(ada.id, NOW).await.expect("read"), Factors::default(), "it does not count yet");
    assert_eq!(store.attempt_totp(ada.id, NOW).await.expect("judged"), TotpAttempt::Missing);
    for (user, sealed) in [(ada.id, &b"first"[..]), (bob.id, b"second"), (UserId(Uuid::now_v7()), b"second")] {
        assert!(!store.confirm_totp(&confirmation(user, sealed)).await.expect("judged"), "another secret or account");
    }
    assert!(!store.replace_recovery_codes(ada.id, &hashes(50), &[], &[]).await.expect("judged"));
    assert!(!store.remove_totp(ada.id, &[], &[]).await.expect("judged"));
    assert!(store.confirm_totp(&confirmation(ada.id, b"second")).await.expect("confirmed"));
    let factors = Factors { totp_confirmed_at: Some(NOW), recovery_codes: 10, trusted_devices: 0 };
    assert_eq!(store.factors(ada.id, NOW).await.expect("read"), factors);
    assert!(!store.confirm_totp(&confirmation(ada.id, b"second")).await.expect("judged"), "once");
    assert!(!store.plan_totp(ada.id, b"third", NOW).await.expect("judged"), "one that counts stays");
    assert_eq!(store.planned_totp(ada.id).await.expect("read"), None);
    let attempt = store.attempt_totp(ada.id, NOW).await.expect("judged");
    assert_eq!(attempt, TotpAttempt::Sealed(b"second".to_vec()));
    assert_eq!(store.factors(bob.id, NOW).await.expect("read"), Factors::default());
    assert_eq!(count(&store, Event::TotpAdded).await, 1);
}

pub(crate) async fn the_code_of_a_step_is_used_once_and_no_earlier_one_after_it(store: Arc<dyn Store>) {
    let ada = guarded(&store, "ada").await;
    let use_step = async |step| store.use_totp(ada, step).await.expect("judged");
    assert!(!use_step(100).await, "the code that confirmed it is used");
    assert!(use_step(101).await);
    assert!(!use_step(101).await);
    assert!(use_step(103).await);
    assert!(!use_step(102).await, "an earlier one");
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.use_totp(ada, 110).await.expect("judged") })
        })
        .collect();
    let mut won = 0;
    for call in calls {
        won += u32::from(call.await.expect("no panic"));
    }
    assert_eq!(won, 1);
}

pub(crate) async fn tries_are_counted_before_they_are_judged_and_held_after_some(store: Arc<dyn Store>) {
    let ada = guarded(&store, "ada").await;
    let attempt = async |at| store.attempt_totp(ada, at).await.expect("judged");
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.attempt_totp(ada, NOW).await.expect("judged") })
        })
        .collect();
    let mut taken = 0;
    for call in calls {
        taken += u32::from(matches!(call.await.expect("no panic"), TotpAttempt::Sealed(_)));
    }
    assert_eq!(taken, 5, "many at once are no more than many in a row");
    let free_at = NOW.plus(Duration::from_secs(30));
    assert_eq!(attempt(NOW).await, TotpAttempt::Held(free_at));
    assert!(matches!(attempt(free_at).await, TotpAttempt::Sealed(_)));
    assert_eq!(attempt(free_at).await, TotpAttempt::Held(free_at.plus(MINUTE)), "twice as long");
    // A good code forgets the failures; so does a recovery code, which needs no try.
    assert!(store.use_totp(ada, 101).await.expect("used"));
    for _ in 0..5 {
        assert!(matches!(attempt(NOW).await, TotpAttempt::Sealed(_)));
    }
    assert!(matches!(attempt(NOW).await, TotpAttempt::Held(_)));
    assert!(store.use_recovery_code(ada, &hashes(0)[0], &[]).await.expect("used"));
    assert!(matches!(attempt(NOW).await, TotpAttempt::Sealed(_)));
}

pub(crate) async fn a_recovery_code_is_used_once_by_its_owner(store: Arc<dyn Store>) {
    let (ada, bob) = (guarded(&store, "ada").await, guarded(&store, "bob").await);
    let code = hashes(0)[3];
    let use_code = async |user, code| {
        store.use_recovery_code(user, &code, &[entry(Event::RecoveryCodeUsed, NOW).on(user)]).await.expect("judged")
    };
    assert!(use_code(ada, code).await);
    assert!(!use_code(ada, code).await);
    assert!(!use_code(ada, RecoveryHash([99; 32])).await);
    assert_eq!(store.factors(ada, NOW).await.expect("read").recovery_codes, 9);
    assert!(use_code(bob, code).await, "another's code of the same hash is another's");
    assert_eq!(count(&store, Event::RecoveryCodeUsed).await, 2, "what is refused is not written");
    let made = [entry(Event::RecoveryCodesMade, NOW)];
    assert!(store.replace_recovery_codes(ada, &hashes(50), &made, &[]).await.expect("replaced"));
    assert_eq!(store.factors(ada, NOW).await.expect("read").recovery_codes, 10);
    assert!(!use_code(ada, hashes(0)[4]).await, "an old one");
    assert!(use_code(ada, hashes(50)[4]).await);
    assert_eq!(store.factors(bob, NOW).await.expect("read").recovery_codes, 9);
}

pub(crate) async fn a_device_is_trusted_for_its_time_and_the_oldest_makes_room(store: Arc<dyn Store>) {
    let ada = guarded(&store, "ada").await;
    let bob = guarded(&store, "bob").await;
    let ids = [1_u128, 2, 3].map(Uuid::from_u128);
    let trusted = async |user, id, at| store.device_is_trusted(user, id, at).await.expect("read");
    assert!(!trusted(ada, ids[0], NOW).await);
    store.trust_device(&device(ada, ids[0], 0)).await.expect("trusted");
    store.trust_device(&device(ada, ids[1], 1)).await.expect("trusted");
    assert!(trusted(ada, ids[0], NOW).await && !trusted(bob, ids[0], NOW).await);
    assert!(!trusted(ada, ids[0], NOW.plus(HOUR)).await, "its time is over");
    store.trust_device(&device(ada, ids[0], 2)).await.expect("trusted for longer");
    assert!(trusted(ada, ids[0], NOW.plus(HOUR)).await);
    store.trust_device(&device(ada, ids[2], 3)).await.expect("trusted");
    let now = NOW.plus(4 * MINUTE);
    let left = [trusted(ada, ids[0], now).await, trusted(ada, ids[1], now).await, trusted(ada, ids[2], now).await];
    assert_eq!(left, [true, false, true], "the one that was trusted longest ago has gone");
    assert_eq!(store.factors(ada, now).await.expect("read").trusted_devices, 2);
    store.trust_device(&device(bob, ids[0], 0)).await.expect("trusted");
    let forgotten = [entry(Event::DevicesForgotten, now)];
    assert_eq!(store.forget_devices(ada, &forgotten).await.expect("forgotten"), 2);
    assert_eq!(store.forget_devices(ada, &forgotten).await.expect("forgotten"), 0);
    assert_eq!(count(&store, Event::DevicesForgotten).await, 1, "what changes nothing is not written");
    assert!(trusted(bob, ids[0], NOW).await);
    assert_eq!(store.prune(NOW.plus(2 * HOUR), 10).await.expect("pruned"), 1);
}

pub(crate) async fn without_its_authenticator_an_account_has_no_codes_and_no_trusted_devices(store: Arc<dyn Store>) {
    let ada = guarded(&store, "ada").await;
    let id = Uuid::from_u128(1);
    store.trust_device(&device(ada, id, 0)).await.expect("trusted");
    let removed = [entry(Event::TotpRemoved, NOW)];
    assert!(store.remove_totp(ada, &removed, &[]).await.expect("removed"));
    assert_eq!(store.factors(ada, NOW).await.expect("read"), Factors::default());
    assert!(!store.device_is_trusted(ada, id, NOW).await.expect("read"));
    assert!(!store.use_recovery_code(ada, &hashes(0)[0], &[]).await.expect("judged"));
    assert!(!store.use_totp(ada, 500).await.expect("judged"));
    assert!(!store.remove_totp(ada, &removed, &[]).await.expect("judged"));
    assert_eq!(count(&store, Event::TotpRemoved).await, 1);
    assert!(store.plan_totp(ada, b"another", NOW).await.expect("planned"), "it can be added again");
}

pub(crate) async fn a_new_password_trusts_no_device_and_keeps_the_authenticator(store: Arc<dyn Store>) {
    let (account, session) = member(&store, "ada").await;
    assert!(store.plan_totp(account.id, b"sealed", NOW).await.expect("planned"));
    assert!(store.confirm_totp(&confirmation(account.id, b"sealed")).await.expect("confirmed"));
    let id = Uuid::from_u128(1);
    store.trust_device(&device(account.id, id, 0)).await.expect("trusted");
    let change = |verified: &str| PasswordChange {
        user_id: account.id,
        verified_hash: verified.to_owned(),
        new_hash: "hash-2".to_owned(),
        keep: session.id,
        now: NOW,
        revoked_until: NOW,
        audit: Vec::new(),
        mails: Vec::new(),
    };
    store.change_password(&change("hash-0")).await.expect("judged");
    assert!(store.device_is_trusted(account.id, id, NOW).await.expect("read"), "nothing was changed");
    store.change_password(&change("hash-1")).await.expect("changed");
    assert!(!store.device_is_trusted(account.id, id, NOW).await.expect("read"));
    assert!(store.factors(account.id, NOW).await.expect("read").totp_confirmed_at.is_some());
}
