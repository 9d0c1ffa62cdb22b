//! Cases about refresh tokens: rotation, repetition, reuse.

use std::{sync::Arc, time::Duration};

use mesh::time::Millis;

use super::{HOUR, MINUTE, NOW, member, rotation};
use crate::store::{NewSession, Rotated, Rotation, Store};

async fn rotate(store: &Arc<dyn Store>, rotation: &Rotation) -> Rotated {
    store.rotate(rotation).await.expect("judged")
}

fn is_fresh(rotated: &Rotated) -> bool {
    matches!(rotated, Rotated::Fresh { .. })
}

pub(crate) async fn a_refresh_replaces_the_token_and_lengthens_the_session(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    let at = NOW.plus(HOUR);
    let Rotated::Fresh { session, roles } = rotate(&store, &rotation(&first, 0, at)).await else {
        panic!("the token was good")
    };
    assert_eq!((session.id, session.user_id, roles), (first.id, account.id, account.roles));
    assert_eq!((session.last_used_at, session.expires_at), (at, at.plus(24 * HOUR)));
    assert_eq!(session.access_expires_at, at.plus(15 * MINUTE));
    assert_eq!(store.session(first.id).await.expect("read"), Some(session));
}

pub(crate) async fn a_repeated_refresh_gets_the_same_answer_until_the_successor_is_used(store: Arc<dyn Store>) {
    let (_, first) = member(&store, "ada").await;
    for minute in 0..10 {
        let again = rotation(&first, 0, NOW.plus(Duration::from_mins(minute)));
        assert!(is_fresh(&rotate(&store, &again).await), "minute {minute}");
    }
    assert!(is_fresh(&rotate(&store, &rotation(&first, 1, NOW)).await));
    let late = rotate(&store, &rotation(&first, 0, NOW)).await;
    assert!(matches!(late, Rotated::Reused { .. }), "{late:?}");
}

pub(crate) async fn a_spent_token_ends_the_session(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    for generation in 0..5 {
        assert!(is_fresh(&rotate(&store, &rotation(&first, generation, NOW)).await));
    }
    let reused = rotate(&store, &rotation(&first, 1, NOW)).await;
    assert_eq!(reused, Rotated::Reused { user_id: account.id, head: 1 });
    let session = store.session(first.id).await.expect("read").expect("there");
    assert_eq!(session.ended_at, Some(NOW));
    let revoked = store.revocations(0, NOW, 10).await.expect("read");
    assert_eq!((revoked.head, revoked.revocations[0].session_id), (1, first.id));
    // The thief's token is as dead as the owner's, and nothing is revoked twice.
    for generation in 0..=5 {
        assert_eq!(rotate(&store, &rotation(&first, generation, NOW)).await, Rotated::Ended);
    }
    assert_eq!(store.revocations(0, NOW, 10).await.expect("read").head, 1);
}

pub(crate) async fn racing_refreshes_with_one_token_all_succeed(store: Arc<dyn Store>) {
    let (_, first) = member(&store, "ada").await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let (store, rotation) = (store.clone(), rotation(&first, 0, NOW));
            tokio::spawn(async move { rotate(&store, &rotation).await })
        })
        .collect();
    for call in calls {
        assert!(is_fresh(&call.await.expect("no panic")));
    }
    assert!(is_fresh(&rotate(&store, &rotation(&first, 1, NOW)).await));
}

pub(crate) async fn garbage_ends_nothing(store: Arc<dyn Store>) {
    let (_, first) = member(&store, "ada").await;
    for generation in 0..3 {
        rotate(&store, &rotation(&first, generation, NOW)).await;
    }
    let forged = Rotation { genuine: false, ..rotation(&first, 77, NOW) };
    let late = Rotation { now: first.ends_at, ..forged.clone() };
    let strange = Rotation { session_id: crate::session::SessionId(uuid::Uuid::now_v7()), ..forged.clone() };
    for bad in [forged, late, strange] {
        assert_eq!(rotate(&store, &bad).await, Rotated::Unknown);
    }
    assert!(is_fresh(&rotate(&store, &rotation(&first, 3, NOW)).await));
    // The hash alone is enough for the token that counts, should the secret behind the tags be lost.
    let untagged = Rotation { genuine: false, ..rotation(&first, 4, NOW) };
    assert!(is_fresh(&rotate(&store, &untagged).await));
}

pub(crate) async fn a_session_is_never_lengthened_past_its_end(store: Arc<dyn Store>) {
    let (_, first) = member(&store, "ada").await;
    // Each refresh asks for 24 hours more, and the session has 48 in all.
    let late = Millis(first.ends_at.0 - 60_000);
    for (generation, at, expires_at) in [
        (0, NOW.plus(23 * HOUR), NOW.plus(47 * HOUR)),
        (1, NOW.plus(46 * HOUR), first.ends_at),
        (2, late, first.ends_at),
    ] {
        let rotated = rotate(&store, &rotation(&first, generation, at)).await;
        let Rotated::Fresh { session, .. } = rotated else { panic!("{rotated:?}") };
        assert_eq!((session.expires_at, session.ends_at), (expires_at, first.ends_at));
        assert_eq!(session.access_expires_at, at.plus(15 * MINUTE).min(first.ends_at));
    }
    assert_eq!(rotate(&store, &rotation(&first, 3, first.ends_at)).await, Rotated::Expired);
}

pub(crate) async fn an_expired_ended_or_forgotten_session_is_not_refreshed(store: Arc<dyn Store>) {
    let (account, first) = member(&store, "ada").await;
    assert_eq!(rotate(&store, &rotation(&first, 0, first.expires_at)).await, Rotated::Expired);
    store.end_session(account.id, first.id, NOW, NOW.plus(HOUR), &[]).await.expect("ended");
    assert_eq!(rotate(&store, &rotation(&first, 0, NOW)).await, Rotated::Ended);
    store.prune(first.expires_at, 100).await.expect("pruned");
    assert!(store.session(first.id).await.expect("read").is_none());
    assert_eq!(rotate(&store, &rotation(&first, 0, NOW)).await, Rotated::Expired);
    let forged = Rotation { genuine: false, ..rotation(&first, 0, NOW) };
    assert_eq!(rotate(&store, &forged).await, Rotated::Unknown);
}

pub(crate) async fn the_time_of_use_moves_once_a_minute(store: Arc<dyn Store>) {
    let (_, first) = member(&store, "ada").await;
    for (secs, seen) in [(59, 0), (60, 60), (119, 60), (120, 120)] {
        let at = NOW.plus(Duration::from_secs(secs));
        let Rotated::Fresh { session, .. } = rotate(&store, &rotation(&first, 0, at)).await else { panic!("good") };
        assert_eq!(session.last_used_at, NOW.plus(Duration::from_secs(seen)), "after {secs} s");
    }
}

/// The rule, as simply as it can be said: the newest token and the one before it are good, older ones end it all.
fn expect(newest: &mut u8, ended: &mut bool, presented: u8) -> &'static str {
    if *ended {
        "ended"
    } else if presented == *newest {
        *newest += 1;
        "fresh"
    } else if presented + 1 == *newest {
        "fresh"
    } else {
        *ended = true;
        "reused"
    }
}

pub(crate) async fn random_refreshes_follow_the_model(store: Arc<dyn Store>) {
    use proptest::{prelude::*, test_runner::TestRunner};
    let handle = tokio::runtime::Handle::current();
    let (account, _) = member(&store, "ada").await;
    tokio::task::spawn_blocking(move || {
        let steps = prop::collection::vec(0_u8..4, 1..20);
        let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
        let run = TestRunner::new(config).run(&steps, |steps| {
            let session: NewSession = handle.block_on(super::login(&store, &account, NOW));
            let (mut newest, mut ended) = (0, false);
            for back in steps {
                // Most steps use the newest token or the one before it, as real clients do.
                let presented = newest.max(back) - back;
                let expected = expect(&mut newest, &mut ended, presented);
                let got = match handle.block_on(rotate(&store, &rotation(&session, presented, NOW))) {
                    Rotated::Fresh { .. } => "fresh",
                    Rotated::Reused { .. } => "reused",
                    Rotated::Ended => "ended",
                    Rotated::Expired | Rotated::Unknown => "lost",
                };
                prop_assert_eq!(got, expected);
            }
            Ok(())
        });
        run.expect("the model holds");
    })
    .await
    .expect("no panic");
}
