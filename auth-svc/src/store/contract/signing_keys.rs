//! Cases about the keys that sign access tokens.

use std::sync::Arc;

use super::{HOUR, MINUTE, NOW, entry};
use crate::{
    audit::{Event, Filter},
    store::{KEYS_MAX, KeyRecord, KeyRotated, KeyRotation, Store},
};

/// The key of this number, which signs this many minutes from now on; its tokens live an hour.
fn rotation(number: i64, minutes: u32) -> KeyRotation {
    let byte = u8::try_from(number).expect("small");
    let key = KeyRecord {
        number,
        public: vec![byte; 32],
        sealed: vec![byte; 80],
        created_at: NOW,
        signs_from: NOW.plus(minutes * MINUTE),
        leaves_at: None,
        token_secs: 3_600,
    };
    KeyRotation { key, leeway: MINUTE, at_once: false, audit: vec![entry(Event::KeyRotated, NOW)] }
}

async fn rotate(store: &Arc<dyn Store>, rotation: &KeyRotation) -> KeyRotated {
    store.rotate_key(rotation).await.expect("judged")
}

async fn keys(store: &Arc<dyn Store>) -> Vec<KeyRecord> {
    store.signing_keys().await.expect("read")
}

async fn written(store: &Arc<dyn Store>) -> usize {
    store.audit(&Filter::default(), None, 100).await.expect("read").len()
}

pub(crate) async fn a_key_follows_another_which_stays_as_long_as_its_tokens(store: Arc<dyn Store>) {
    assert!(keys(&store).await.is_empty());
    assert_eq!(rotate(&store, &rotation(1, 0)).await, KeyRotated::Rotated);
    assert_eq!(keys(&store).await, [rotation(1, 0).key]);
    for overtaken in [1, 3] {
        assert_eq!(rotate(&store, &rotation(overtaken, 10)).await, KeyRotated::Overtaken);
    }
    assert_eq!(rotate(&store, &rotation(2, 10)).await, KeyRotated::Rotated);
    // Ten minutes until the new one signs, an hour for the last token of the old one, a minute for clocks.
    let leaves_at = NOW.plus(HOUR + 11 * MINUTE);
    let left = KeyRecord { leaves_at: Some(leaves_at), ..rotation(1, 0).key };
    assert_eq!(keys(&store).await, [left.clone(), rotation(2, 10).key]);
    assert_eq!(rotate(&store, &rotation(3, 60)).await, KeyRotated::Rotated);
    assert_eq!(keys(&store).await[0], left, "a later rotation keeps it no longer");
    assert_eq!(written(&store).await, 3, "what changes nothing is not written");
    store.forget_keys(super::Millis(leaves_at.0 - 1)).await.expect("forgotten");
    assert_eq!(keys(&store).await.len(), 3);
    store.forget_keys(leaves_at).await.expect("forgotten");
    let numbers: Vec<_> = keys(&store).await.iter().map(|key| key.number).collect();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(rotate(&store, &rotation(4, 60)).await, KeyRotated::Rotated, "numbers go on");
}

pub(crate) async fn at_once_all_others_leave_when_the_new_one_signs(store: Arc<dyn Store>) {
    for number in 1..=2 {
        assert_eq!(rotate(&store, &rotation(number, 0)).await, KeyRotated::Rotated);
    }
    let now = KeyRotation { at_once: true, ..rotation(3, 1) };
    assert_eq!(rotate(&store, &now).await, KeyRotated::Rotated);
    let ends: Vec<_> = keys(&store).await.iter().map(|key| key.leaves_at).collect();
    let then = Some(NOW.plus(MINUTE));
    assert_eq!(ends, [then, then, None]);
}

pub(crate) async fn of_racing_rotations_one_wins(store: Arc<dyn Store>) {
    assert_eq!(rotate(&store, &rotation(1, 0)).await, KeyRotated::Rotated);
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { rotate(&store, &rotation(2, 10)).await })
        })
        .collect();
    let mut won = 0;
    for call in calls {
        won += u32::from(call.await.expect("no panic") == KeyRotated::Rotated);
    }
    assert_eq!((won, keys(&store).await.len(), written(&store).await), (1, 2, 2));
}

pub(crate) async fn there_are_no_more_keys_than_may_be(store: Arc<dyn Store>) {
    for number in 1..=KEYS_MAX {
        assert_eq!(rotate(&store, &rotation(number, 0)).await, KeyRotated::Rotated);
    }
    assert_eq!(rotate(&store, &rotation(KEYS_MAX + 1, 0)).await, KeyRotated::Full);
    let at_once = KeyRotation { at_once: true, ..rotation(KEYS_MAX + 1, 1) };
    assert_eq!(rotate(&store, &at_once).await, KeyRotated::Rotated, "it makes room");
    store.forget_keys(NOW.plus(MINUTE)).await.expect("forgotten");
    assert_eq!(keys(&store).await, [at_once.key]);
}

pub(crate) async fn a_longer_life_of_tokens_is_noted_and_a_shorter_one_is_not(store: Arc<dyn Store>) {
    for number in 1..=2 {
        assert_eq!(rotate(&store, &rotation(number, 0)).await, KeyRotated::Rotated);
    }
    let lives = async |secs| {
        store.note_token_life(secs).await.expect("noted");
        keys(&store).await.iter().map(|key| key.token_secs).collect::<Vec<_>>()
    };
    assert_eq!(lives(60).await, [3_600, 3_600]);
    assert_eq!(lives(7_200).await, [3_600, 7_200], "the one before has its end already");
}
