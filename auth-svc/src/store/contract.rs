//! The contract suite: what every backend of [`Store`] must do, case by case. A backend's tests say
//! `store_contract!(open)`, where `open` gives an empty store and what must be kept alive beside it; none where the
//! backend's server is missing.

use std::{sync::Arc, time::Duration};

use mesh::time::Millis;
use uuid::Uuid;

use super::{Created, NewAccount, NewSession, Rotation, Store};
use crate::{
    account::{Email, UserId, Username},
    audit::{Entry, Event},
    proof::Method,
    refresh::RefreshHash,
    session::{Client, SessionId},
};

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod edges;
pub(crate) mod ends;
pub(crate) mod factors;
pub(crate) mod invitations;
pub(crate) mod mails;
pub(crate) mod outbox;
pub(crate) mod person;
pub(crate) mod proofs;
pub(crate) mod races;
pub(crate) mod refresh;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod signing_keys;

/// One test a case, for a backend. A case that is not listed is dead code, which the lints refuse.
macro_rules! store_contract {
    ($open:path) => {
        $crate::store::contract::store_contract!(@ $open;
            accounts: [
                an_account_is_found_by_its_id_and_by_its_names
                a_taken_name_and_a_taken_id_are_told_apart_and_change_nothing
                of_racing_registrations_of_one_name_one_wins
                a_rename_frees_the_old_name_and_queues_its_version
                a_rename_to_the_same_letters_changes_nothing
                a_rename_to_a_taken_name_is_refused
                of_racing_renames_to_one_name_one_wins
            ]
            sessions: [
                a_session_reads_back_as_it_was_opened
                a_login_with_a_password_that_has_changed_opens_nothing
                a_rehash_replaces_the_hash_with_the_login
                over_the_limit_the_session_unused_for_longest_ends
                live_sessions_are_listed_in_pages_last_used_first
                a_ws_token_is_spent_once
                a_ws_token_of_an_ended_expired_or_foreign_session_is_not_spent
                of_racing_spends_of_one_ws_token_one_wins
            ]
            refresh: [
                a_refresh_replaces_the_token_and_lengthens_the_session
                a_repeated_refresh_gets_the_same_answer_until_the_successor_is_used
                a_spent_token_ends_the_session
                racing_refreshes_with_one_token_all_succeed
                garbage_ends_nothing
                a_session_is_never_lengthened_past_its_end
                an_expired_ended_or_forgotten_session_is_not_refreshed
                the_time_of_use_moves_once_a_minute
                random_refreshes_follow_the_model
            ]
            ends: [
                a_session_ends_once_with_one_revocation
                a_session_of_somebody_else_is_missing
                a_revocation_outlives_the_last_access_token
                all_other_sessions_end_and_the_callers_stays
                a_new_password_ends_all_other_sessions
                a_password_that_changed_meanwhile_is_not_changed_again
                revocations_are_dense_and_come_in_pages
                expired_revocations_are_left_out_and_counted
                what_has_expired_is_forgotten_and_the_numbers_go_on
            ]
            audit: [
                an_entry_reads_back_as_it_was_written
                entries_are_found_newest_first_in_pages_and_by_every_filter
                what_changes_something_is_written_with_its_entry
                what_changes_nothing_writes_no_entry
                a_spent_token_leaves_an_entry_about_the_user_of_its_session
                entries_past_their_retention_are_forgotten_and_others_stay
            ]
            roles: [
                a_higher_role_keeps_the_sessions_and_a_lower_one_ends_them
                a_role_that_the_account_has_already_changes_nothing
            ]
            proofs: [
                a_live_session_notes_when_and_how_it_was_proved
            ]
            factors: [
                an_authenticator_counts_once_it_is_confirmed
                the_code_of_a_step_is_used_once_and_no_earlier_one_after_it
                tries_are_counted_before_they_are_judged_and_held_after_some
                a_recovery_code_is_used_once_by_its_owner
                a_device_is_trusted_for_its_time_and_the_oldest_makes_room
                without_its_authenticator_an_account_has_no_codes_and_no_trusted_devices
                a_new_password_trusts_no_device_and_keeps_the_authenticator
            ]
            invitations: [
                an_invitation_lets_one_person_in_and_is_listed_with_them
                a_registration_that_is_refused_uses_no_invitation_up
                an_invitation_that_is_revoked_or_expired_lets_nobody_in
                there_are_no_more_invitations_than_may_be
                of_racing_registrations_with_one_invitation_one_wins
            ]
            signing_keys: [
                a_key_follows_another_which_stays_as_long_as_its_tokens
                at_once_all_others_leave_when_the_new_one_signs
                of_racing_rotations_one_wins
                there_are_no_more_keys_than_may_be
                a_longer_life_of_tokens_is_noted_and_a_shorter_one_is_not
            ]
            api_keys: [
                a_service_account_has_a_profile_to_deliver_and_no_session
                a_key_is_found_by_its_hash_and_its_use_is_noted_once_a_minute
                a_revoked_key_is_gone_and_its_revocation_is_told
                there_are_no_more_keys_of_an_account_than_may_be
                keys_and_their_accounts_are_listed_in_pages_the_newest_first
            ]
            outbox: [
                a_new_account_queues_its_profile
                deliveries_of_an_account_come_in_order
                a_claimed_delivery_is_left_alone_for_its_lease
                a_postponed_delivery_counts_its_attempts
                only_the_first_delivery_of_an_account_is_claimed
            ]
            mails: [
                a_mail_waits_as_it_was_given_until_it_is_seen_to
                no_more_mails_wait_than_may
                mails_go_with_what_they_tell_of
                of_a_login_from_where_the_account_is_known_nobody_is_told
                an_account_and_an_address_get_so_many_mails_and_one_that_goes_again_is_no_other
                a_token_sets_a_new_password_once_and_ends_everything
                a_token_that_went_out_before_a_new_password_is_good_no_more
                a_token_verifies_an_address_once
                of_racing_uses_of_one_token_one_is_first
                racing_workers_claim_each_mail_once
                tokens_and_records_are_forgotten_and_go_with_their_account
            ]
            person: [
                nobody_logs_in_to_a_disabled_account_until_it_is_enabled
                a_deletion_ends_sessions_and_keys_and_keeps_its_first_time
                a_login_takes_a_deletion_back_and_a_disabled_account_has_none
                an_erased_account_is_gone_with_all_that_it_had_and_its_names_are_free
                a_deletion_is_claimed_once_noted_postponed_and_finished
                what_the_log_tells_of_somebody_is_taken_out_and_their_id_stays
                all_live_sessions_of_everybody_end_in_steps
                trusted_devices_are_listed_while_they_are
                a_login_and_an_erasing_at_once_leave_the_account_whole_or_none
            ]
            races: [
                revocation_numbers_become_visible_in_their_order
                racing_logins_keep_to_the_limit
                no_login_with_the_old_password_outlives_its_change
                racing_changes_of_one_password_change_it_once
                racing_ends_of_one_session_end_it_once
                a_repeated_refresh_and_its_successors_use_are_judged_one_after_the_other
                two_who_swap_names_at_once_are_both_answered
                racing_workers_claim_each_delivery_once
                racing_prunes_forget_each_row_once
                a_caller_that_goes_away_leaves_a_whole_write_or_none
            ]
            edges: [
                text_of_any_script_and_size_comes_back_as_it_went_in
                times_at_the_edges_come_back_as_they_went_in
                pages_have_two_ends
                what_nobody_has_is_missing_everywhere_alike
            ]
        );
    };
    (@ $open:path; $($module:ident: [$($case:ident)*])*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some((store, kept)) = $open().await else { return };
                $crate::store::contract::$module::$case(store).await;
                drop(kept);
            }
        )*)*
    };
}
pub(crate) use store_contract;

/// A time that all cases count from.
pub(crate) const NOW: Millis = Millis(1_800_000_000_000);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

pub(crate) fn username(name: &str) -> Username {
    Username::parse("username", name).expect("a username")
}

pub(crate) fn email(address: &str) -> Email {
    Email::parse("email", address).expect("an address")
}

pub(crate) fn account(name: &str) -> NewAccount {
    NewAccount {
        id: UserId(Uuid::now_v7()),
        username: username(name),
        email: email(&format!("{name}@example.org")),
        password_hash: "hash-1".to_owned(),
        roles: vec!["user".to_owned(), "admin".to_owned()],
        first_name: "Ada".to_owned(),
        last_name: "Lovelace".to_owned(),
        created_at: NOW,
        delivery_due_at: NOW.plus(MINUTE),
        invitation: None,
        mails: Vec::new(),
    }
}

/// The hash of the token of this generation.
pub(crate) fn token(generation: u8) -> RefreshHash {
    RefreshHash([generation; 32])
}

pub(crate) fn session(user: UserId) -> NewSession {
    NewSession {
        id: SessionId(Uuid::now_v7()),
        user_id: user,
        device: "a phone".to_owned(),
        ip_address: "2001:db8::1".to_owned(),
        place: "Paris, FR".to_owned(),
        amr: vec![Method::Password],
        refresh_hash: token(0),
        created_at: NOW,
        expires_at: NOW.plus(24 * HOUR),
        ends_at: NOW.plus(48 * HOUR),
        access_expires_at: NOW.plus(15 * MINUTE),
    }
}

/// A stored account with one session.
pub(crate) async fn member(store: &Arc<dyn Store>, name: &str) -> (NewAccount, NewSession) {
    let account = account(name);
    let session = session(account.id);
    assert_eq!(store.create_account(&account, &session, &[]).await.expect("stored"), Created::Made);
    (account, session)
}

/// Another session of a stored account.
pub(crate) async fn login(store: &Arc<dyn Store>, account: &NewAccount, at: Millis) -> NewSession {
    let session = NewSession { created_at: at, ..session(account.id) };
    let opened = store.open_session(&opening(account, &session)).await.expect("stored");
    assert!(matches!(opened, super::Opened::Open { .. }), "{opened:?}");
    session
}

pub(crate) fn opening(account: &NewAccount, session: &NewSession) -> super::Opening {
    super::Opening {
        session: session.clone(),
        verified_hash: account.password_hash.clone(),
        rehash: None,
        sessions_max: 50,
        revoked_until: NOW.plus(HOUR),
        audit: vec![entry(Event::LoginPassword, session.created_at).on(account.id)],
        over_limit: entry(Event::SessionOverLimit, session.created_at).on(account.id),
        kept: entry(Event::AccountKept, session.created_at).on(account.id),
        mails: Vec::new(),
    }
}

/// A genuine token of this generation, presented a while after the session was opened.
pub(crate) fn rotation(session: &NewSession, generation: u8, at: Millis) -> Rotation {
    Rotation {
        session_id: session.id,
        presented: token(generation),
        successor: token(generation + 1),
        genuine: true,
        now: at,
        expires_at: at.plus(24 * HOUR),
        access_expires_at: at.plus(15 * MINUTE),
        revoked_until: at.plus(HOUR),
        reuse: entry(Event::RefreshReused, at),
    }
}

/// An audit entry by nobody.
pub(crate) fn entry(event: Event, at: Millis) -> Entry {
    Entry::new(event, &Client::cut("a phone", "2001:db8::1"), at)
}
