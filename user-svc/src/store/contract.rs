//! What every backend must do, as cases that know none of them: `on_backend!` makes a test of each case for one, which is
//! skipped where the backend's server is missing. A case gets a store that may hold other people already, so it makes
//! ids of its own.

use std::sync::Arc;

use mesh::time::Millis;
use serde_json::json;
use uuid::Uuid;

use crate::{
    profile::{Change, NewProfile, OwnProfile, Preferences, Profile, Rename, UserId},
    store::Store,
};

/// Makes a test of each case. The expression opens a backend: it gives the store, and whatever must live as long; or
/// none, where there is no server.
macro_rules! on_backend {
    ($open:expr) => {
        $crate::store::contract::on_backend! { $open =>
            a_new_profile_is_there_for_others_and_for_its_owner,
            making_a_profile_again_answers_the_one_that_is_there,
            of_many_who_make_one_profile_one_wins_and_all_learn_of_it,
            renames_out_of_order_leave_the_newest_name,
            a_rename_may_come_before_the_profile_and_its_names_still_arrive,
            a_name_that_its_owner_has_set_is_not_filled_in_again,
            people_are_looked_up_by_any_number_of_ids_and_missing_ones_are_left_out,
            a_change_touches_the_named_fields_alone,
            a_field_can_be_emptied,
            preferences_are_replaced_whole_and_come_back_as_they_went_in,
            editors_of_different_fields_at_the_same_time_all_keep_their_change,
            a_rename_and_a_change_at_the_same_time_both_stay,
            nobody_is_made_by_a_change,
            the_time_of_the_last_change_never_goes_back,
            text_of_any_script_comes_back_as_it_went_in,
            large_values_come_back_as_they_went_in,
            times_at_the_edges_come_back_as_they_went_in,
            versions_at_the_edges_are_told_apart,
            ids_at_the_edges_are_people_like_others,
            racing_renames_leave_the_newest_name,
            a_caller_that_goes_away_changes_all_or_nothing,
            who_is_erased_is_found_no_more_and_made_by_no_late_news,
            the_check_is_good_until_the_store_is_closed,
        }
    };
    ($open:expr => $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let Some((store, _backend)) = $open.await else { return };
                $crate::store::contract::$case(store).await;
            }
        )*
    };
}
pub(crate) use on_backend;

type Shared = Arc<dyn Store>;

const NOW: Millis = Millis(1_795_428_000_123);
const LATER: Millis = Millis(1_795_428_001_456);

fn someone() -> UserId {
    UserId(Uuid::now_v7())
}

fn ada(id: UserId) -> NewProfile {
    NewProfile {
        id,
        username: "ada".into(),
        username_version: 1,
        first_name: "Ada".into(),
        last_name: "Lovelace".into(),
    }
}

fn rename(id: UserId, username: &str, username_version: i64) -> Rename {
    Rename { id, username: username.into(), username_version }
}

fn bio(text: &str) -> Change {
    Change { bio: Some(text.into()), ..Change::default() }
}

async fn own(store: &Shared, id: UserId) -> OwnProfile {
    store.own(id).await.expect("answered").expect("there")
}

async fn seen(store: &Shared, id: UserId) -> Profile {
    store.profiles(&[id]).await.expect("answered").pop().expect("there")
}

pub(crate) async fn a_new_profile_is_there_for_others_and_for_its_owner(store: Shared) {
    let id = someone();
    let made = store.create(&ada(id), NOW).await.expect("made");
    let whole = Profile {
        id,
        username: "ada".into(),
        first_name: "Ada".into(),
        last_name: "Lovelace".into(),
        bio: String::new(),
        avatar_url: String::new(),
        created_at: NOW,
        updated_at: NOW,
    };
    assert_eq!(made, whole);
    assert_eq!(seen(&store, id).await, whole);
    assert_eq!(own(&store, id).await, OwnProfile { profile: whole, preferences: Preferences::new() });
}

pub(crate) async fn making_a_profile_again_answers_the_one_that_is_there(store: Shared) {
    let id = someone();
    let first = store.create(&ada(id), NOW).await.expect("made");
    let other = NewProfile { username: "eve".into(), username_version: 9, first_name: "Eve".into(), ..ada(id) };
    assert_eq!(store.create(&other, LATER).await.expect("answered"), first);
    assert_eq!(seen(&store, id).await, first);
}

pub(crate) async fn of_many_who_make_one_profile_one_wins_and_all_learn_of_it(store: Shared) {
    let id = someone();
    let tries: Vec<_> = (0..16)
        .map(|number| {
            let (store, new) = (store.clone(), NewProfile { first_name: format!("Ada {number}"), ..ada(id) });
            tokio::spawn(async move { store.create(&new, NOW).await.expect("answered") })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in tries {
        answers.push(answer.await.expect("no panic"));
    }
    let there = seen(&store, id).await;
    assert!(answers.iter().all(|answer| *answer == there), "{answers:?} and not all {there:?}");
}

pub(crate) async fn renames_out_of_order_leave_the_newest_name(store: Shared) {
    let id = someone();
    store.create(&ada(id), NOW).await.expect("made");
    for (name, version) in [("ada.3", 3), ("ada.2", 2), ("other.3", 3), ("ada.1", 1)] {
        store.rename(&rename(id, name, version), LATER).await.expect("answered");
        assert_eq!(seen(&store, id).await.username, "ada.3", "after version {version}");
    }
    store.rename(&rename(id, "ada.4", 4), LATER).await.expect("answered");
    let profile = seen(&store, id).await;
    assert_eq!((profile.username.as_str(), profile.first_name.as_str()), ("ada.4", "Ada"));
    assert_eq!((profile.created_at, profile.updated_at), (NOW, LATER));
}

pub(crate) async fn a_rename_may_come_before_the_profile_and_its_names_still_arrive(store: Shared) {
    let id = someone();
    store.rename(&rename(id, "countess", 2), NOW).await.expect("answered");
    let early = seen(&store, id).await;
    assert_eq!((early.username.as_str(), early.name().as_str()), ("countess", "countess"));
    let made = store.create(&ada(id), LATER).await.expect("answered");
    assert_eq!((made.username.as_str(), made.name().as_str()), ("countess", "Ada Lovelace"));
    assert_eq!((made.created_at, made.updated_at), (NOW, LATER));
    // Only once: what comes after it is a repetition.
    let again = NewProfile { first_name: "Eve".into(), ..ada(id) };
    assert_eq!(store.create(&again, LATER).await.expect("answered"), made);
    // And the guard has the version of the rename, not that of the registration.
    store.rename(&rename(id, "old", 2), LATER).await.expect("answered");
    assert_eq!(seen(&store, id).await.username, "countess");
}

pub(crate) async fn a_name_that_its_owner_has_set_is_not_filled_in_again(store: Shared) {
    let id = someone();
    store.rename(&rename(id, "countess", 2), NOW).await.expect("answered");
    let change = Change { first_name: Some(String::new()), ..Change::default() };
    store.update(id, &change, NOW).await.expect("answered").expect("there");
    let made = store.create(&ada(id), LATER).await.expect("answered");
    assert_eq!((made.first_name.as_str(), made.last_name.as_str()), ("", "Lovelace"));
}

pub(crate) async fn people_are_looked_up_by_any_number_of_ids_and_missing_ones_are_left_out(store: Shared) {
    assert_eq!(store.profiles(&[]).await.expect("answered"), []);
    let ids: Vec<_> = (0..250).map(|_| someone()).collect();
    for id in ids.iter().step_by(2) {
        store.create(&ada(*id), NOW).await.expect("made");
    }
    let mut found: Vec<_> = store.profiles(&ids).await.expect("answered").iter().map(|profile| profile.id).collect();
    found.sort_unstable();
    let mut there: Vec<_> = ids.iter().copied().step_by(2).collect();
    there.sort_unstable();
    assert_eq!(found, there);
    assert_eq!(store.own(ids[1]).await.expect("answered"), None);
}

pub(crate) async fn a_change_touches_the_named_fields_alone(store: Shared) {
    let id = someone();
    store.create(&ada(id), NOW).await.expect("made");
    let mut whole = own(&store, id).await;
    let preferences = json!({"theme": "dark"}).as_object().expect("object").clone();
    let changes = [
        Change { first_name: Some("Augusta".into()), ..Change::default() },
        Change { last_name: Some("King".into()), ..Change::default() },
        bio("Notes"),
        Change { avatar_url: Some("https://a.example/a.png".into()), ..Change::default() },
        Change { preferences: Some(preferences), ..Change::default() },
    ];
    whole.profile.updated_at = LATER;
    for change in changes {
        let Change { first_name, last_name, bio, avatar_url, preferences } = change.clone();
        first_name.into_iter().for_each(|value| whole.profile.first_name = value);
        last_name.into_iter().for_each(|value| whole.profile.last_name = value);
        bio.into_iter().for_each(|value| whole.profile.bio = value);
        avatar_url.into_iter().for_each(|value| whole.profile.avatar_url = value);
        preferences.into_iter().for_each(|value| whole.preferences = value);
        assert_eq!(store.update(id, &change, LATER).await.expect("answered"), Some(whole.clone()));
        assert_eq!(own(&store, id).await, whole);
    }
}

pub(crate) async fn a_field_can_be_emptied(store: Shared) {
    let id = someone();
    store.create(&ada(id), NOW).await.expect("made");
    store.update(id, &bio("Notes"), NOW).await.expect("answered");
    let empty = Change {
        first_name: Some(String::new()),
        bio: Some(String::new()),
        preferences: Some(Preferences::new()),
        ..Change::default()
    };
    let after = store.update(id, &empty, LATER).await.expect("answered").expect("there");
    assert_eq!((after.profile.first_name.as_str(), after.profile.bio.as_str()), ("", ""));
    assert_eq!(after.profile.last_name, "Lovelace");
}

pub(crate) async fn preferences_are_replaced_whole_and_come_back_as_they_went_in(store: Shared) {
    let id = someone();
    store.create(&ada(id), NOW).await.expect("made");
    let first = json!({"theme": "dark", "deep": {"er": [1, -2.5, 1e300, null, true, "ü😀\n"]}, "": 0, "long": "x".repeat(16_000)});
    let second = json!({"sound": false});
    for given in [first, second] {
        let preferences = given.as_object().expect("object").clone();
        let change = Change { preferences: Some(preferences.clone()), ..Change::default() };
        store.update(id, &change, LATER).await.expect("answered");
        assert_eq!(own(&store, id).await.preferences, preferences);
    }
}

pub(crate) async fn editors_of_different_fields_at_the_same_time_all_keep_their_change(store: Shared) {
    for round in 0..20 {
        let id = someone();
        store.create(&ada(id), NOW).await.expect("made");
        let preferences = json!({ "round": round }).as_object().expect("object").clone();
        let changes = [
            Change { first_name: Some("Augusta".into()), ..Change::default() },
            bio("Notes"),
            Change { avatar_url: Some("https://a.example".into()), ..Change::default() },
            Change { preferences: Some(preferences.clone()), ..Change::default() },
        ];
        let editors: Vec<_> = changes
            .into_iter()
            .map(|change| {
                let store = store.clone();
                tokio::spawn(async move { store.update(id, &change, LATER).await.expect("answered").expect("there") })
            })
            .collect();
        for editor in editors {
            editor.await.expect("no panic");
        }
        let after = own(&store, id).await;
        let Profile { first_name, last_name, bio, avatar_url, .. } = &after.profile;
        assert_eq!(
            (first_name.as_str(), last_name.as_str(), bio.as_str(), avatar_url.as_str()),
            ("Augusta", "Lovelace", "Notes", "https://a.example")
        );
        assert_eq!(after.preferences, preferences);
    }
}

pub(crate) async fn a_rename_and_a_change_at_the_same_time_both_stay(store: Shared) {
    for _ in 0..20 {
        let id = someone();
        store.create(&ada(id), NOW).await.expect("made");
        let (renamer, editor) = (store.clone(), store.clone());
        let renamed = tokio::spawn(async move { renamer.rename(&rename(id, "countess", 2), LATER).await });
        let edited = tokio::spawn(async move { editor.update(id, &bio("Notes"), LATER).await });
        renamed.await.expect("no panic").expect("answered");
        edited.await.expect("no panic").expect("answered");
        let profile = seen(&store, id).await;
        assert_eq!((profile.username.as_str(), profile.bio.as_str()), ("countess", "Notes"));
    }
}

pub(crate) async fn nobody_is_made_by_a_change(store: Shared) {
    let id = someone();
    assert_eq!(store.update(id, &bio("Notes"), NOW).await.expect("answered"), None);
    assert_eq!(store.profiles(&[id]).await.expect("answered"), []);
}

pub(crate) async fn the_time_of_the_last_change_never_goes_back(store: Shared) {
    let id = someone();
    store.create(&ada(id), LATER).await.expect("made");
    store.update(id, &bio("Notes"), NOW).await.expect("answered");
    store.rename(&rename(id, "countess", 2), NOW).await.expect("answered");
    let profile = seen(&store, id).await;
    assert_eq!((profile.bio.as_str(), profile.username.as_str(), profile.updated_at), ("Notes", "countess", LATER));
}

pub(crate) async fn text_of_any_script_comes_back_as_it_went_in(store: Shared) {
    let id = someone();
    let name = "Ωμέγα 😀 'quoted\" %s \\ Żółć عَرَبِيّ".to_owned();
    let new = NewProfile { first_name: name.clone(), ..ada(id) };
    assert_eq!(store.create(&new, NOW).await.expect("made").first_name, name);
    let text = format!("{name}\nline two\ttabbed\r\n{}", "😀".repeat(1_000));
    store.update(id, &bio(&text), NOW).await.expect("answered");
    assert_eq!(seen(&store, id).await.bio, text);
}

pub(crate) async fn large_values_come_back_as_they_went_in(store: Shared) {
    let id = someone();
    let huge = "😀\n\\\"".repeat(50_000);
    let new = NewProfile { username: huge.clone(), first_name: huge.clone(), last_name: huge.clone(), ..ada(id) };
    assert_eq!(store.create(&new, NOW).await.expect("made").last_name, huge);
    let preferences = json!({ "huge": huge, "numbers": [0.1, -0.0, 1e-300, u64::MAX, i64::MIN] });
    let preferences = preferences.as_object().expect("object").clone();
    let change = Change {
        bio: Some(huge.clone()),
        avatar_url: Some(huge.clone()),
        preferences: Some(preferences.clone()),
        ..Change::default()
    };
    let after = store.update(id, &change, NOW).await.expect("answered").expect("there");
    assert_eq!(own(&store, id).await, after);
    assert_eq!((after.profile.bio, after.profile.avatar_url), (huge.clone(), huge));
    assert_eq!(after.preferences, preferences);
}

pub(crate) async fn times_at_the_edges_come_back_as_they_went_in(store: Shared) {
    for at in [i64::MIN, -1, 0, 1, i64::MAX].map(Millis) {
        let id = someone();
        let made = store.create(&ada(id), at).await.expect("made");
        assert_eq!((made.created_at, made.updated_at), (at, at));
        store.update(id, &bio("Notes"), Millis(0)).await.expect("answered");
        let profile = seen(&store, id).await;
        assert_eq!((profile.created_at, profile.updated_at), (at, at.max(Millis(0))));
    }
}

pub(crate) async fn versions_at_the_edges_are_told_apart(store: Shared) {
    let id = someone();
    store.create(&NewProfile { username_version: i64::MIN, ..ada(id) }, NOW).await.expect("made");
    for (version, newest) in [(i64::MIN, "ada"), (0, "v0"), (-1, "v0"), (i64::MAX, "last"), (1, "last")] {
        let name = if version == i64::MAX { "last".to_owned() } else { format!("v{version}") };
        store.rename(&rename(id, &name, version), NOW).await.expect("answered");
        assert_eq!(seen(&store, id).await.username, newest, "after version {version}");
    }
}

pub(crate) async fn ids_at_the_edges_are_people_like_others(store: Shared) {
    for id in [Uuid::nil(), Uuid::max()].map(UserId) {
        assert_eq!(store.own(id).await.expect("answered"), None);
        assert_eq!(store.update(id, &bio("Notes"), NOW).await.expect("answered"), None);
        store.create(&ada(id), NOW).await.expect("made");
        assert_eq!(seen(&store, id).await.id, id);
    }
}

pub(crate) async fn racing_renames_leave_the_newest_name(store: Shared) {
    let id = someone();
    // The profile is made in the middle of them.
    let mut calls = Vec::new();
    for version in (2..20).rev() {
        let store = store.clone();
        calls.push(tokio::spawn(async move {
            store.rename(&rename(id, &format!("name-{version}"), version), LATER).await.expect("answered");
        }));
    }
    let made = store.create(&ada(id), NOW).await.expect("made");
    assert_eq!(made.first_name, "Ada");
    for call in calls {
        call.await.expect("no panic");
    }
    let profile = seen(&store, id).await;
    assert_eq!((profile.username.as_str(), profile.name().as_str()), ("name-19", "Ada Lovelace"));
    assert_eq!(profile.updated_at, LATER);
}

pub(crate) async fn a_caller_that_goes_away_changes_all_or_nothing(store: Shared) {
    let id = someone();
    store.create(&ada(id), NOW).await.expect("made");
    let mut kept = 0_u64;
    for round in 0..100_u64 {
        let text = format!("round {round}");
        let change = Change { bio: Some(text.clone()), avatar_url: Some(text.clone()), ..Change::default() };
        let mut call = store.update(id, &change, LATER);
        // Left after so many looks at it, wherever it stands then; the last ones get to their end.
        for _ in 0..round * round {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        // Another change of the person waits for what is still on its way.
        store.update(id, &Change::default(), LATER).await.expect("answered");
        let profile = seen(&store, id).await;
        assert_eq!(profile.bio, profile.avatar_url, "half of round {round}");
        kept += u64::from(profile.bio == text);
    }
    assert!((1..100).contains(&kept), "{kept} of 100 were kept: the limits were no test");
}

pub(crate) async fn who_is_erased_is_found_no_more_and_made_by_no_late_news(store: Shared) {
    let (id, other, stranger) = (someone(), someone(), someone());
    for id in [id, other] {
        store.create(&ada(id), NOW).await.expect("made");
        store.update(id, &bio("Notes"), NOW).await.expect("answered");
    }
    for id in [id, id, stranger] {
        store.erase(id, LATER).await.expect("erased");
    }
    for id in [id, stranger] {
        // The highest version is no exception.
        for version in [2, i64::MAX] {
            store.rename(&rename(id, "late", version), LATER).await.expect("answered");
        }
        let answered = store.create(&ada(id), LATER).await.expect("answered");
        assert_eq!((answered.username.as_str(), answered.name().as_str(), answered.bio.as_str()), ("", "", ""));
        assert_eq!(store.update(id, &bio("late"), LATER).await.expect("answered"), None);
        assert_eq!(store.own(id).await.expect("answered"), None);
    }
    let found = store.profiles(&[id, other, stranger]).await.expect("answered");
    assert_eq!(found.iter().map(|profile| profile.id).collect::<Vec<_>>(), [other]);
    assert_eq!(own(&store, other).await.profile.bio, "Notes");
}

pub(crate) async fn the_check_is_good_until_the_store_is_closed(store: Shared) {
    store.check().await.expect("good");
    store.close().await;
    let error = store.check().await.expect_err("closed");
    assert!(matches!(error, crate::store::StoreError::Unavailable(_)), "{error:?}");
}
