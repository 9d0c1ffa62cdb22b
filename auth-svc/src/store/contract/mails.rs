//! Cases about mails that wait, their tokens, and what those are good for.

use std::{sync::Arc, time::Duration};

use mesh::time::Millis;
use uuid::Uuid;

use super::{HOUR, MINUTE, NOW, account, entry, login, member, opening, session};
use crate::{
    account::{Login, UserId},
    audit::{Event, Filter},
    mail::{Details, Kind, Mail, MailTokenHash, NewMail, Recipient, RecipientHash},
    session::Client,
    store::{
        Created, MailIssue, MailIssued, NewAccount, NewMailToken, NewSession, Opened, Opening, PasswordChange,
        PasswordChanged, PasswordReset, Store, TotpConfirmation, Verification,
    },
};

pub(crate) fn mail(kind: Kind, to: Recipient) -> NewMail {
    let details = Details::from(&Client::cut("a phone", "2001:db8::1"));
    let mail = Mail { id: Uuid::now_v7(), kind, to, details, created_at: NOW, attempts: 0, expires_at: NOW.plus(HOUR) };
    NewMail { mail, slot: None }
}

fn asked(address: &str) -> NewMail {
    let slot = Some(format!("password_reset:{address}"));
    NewMail { slot, ..mail(Kind::PasswordReset, Recipient::Address(address.to_owned())) }
}

/// The issue of the mail of this number to somebody; its token's hash has the number too.
pub(crate) fn issue(kind: Kind, account: &NewAccount, number: u8) -> MailIssue {
    MailIssue {
        mail: Uuid::from_u128(u128::from(number) + 1),
        kind,
        user_id: account.id,
        address: account.email.key().to_owned(),
        recipient: RecipientHash([7; 32]),
        token: Some(NewMailToken { hash: MailTokenHash([number; 32]), expires_at: NOW.plus(HOUR) }),
        now: NOW,
        counted_since: NOW.minus(HOUR),
        account_max: 100,
        address_max: 100,
        recorded_until: NOW.plus(2 * HOUR),
        audit: vec![entry(Event::PasswordResetRequested, NOW).on(account.id)],
    }
}

pub(crate) fn reset(account: &NewAccount, number: u8) -> PasswordReset {
    PasswordReset {
        token: MailTokenHash([number; 32]),
        user_id: account.id,
        new_hash: "hash-2".to_owned(),
        now: NOW,
        revoked_until: NOW.plus(HOUR),
        audit: vec![entry(Event::PasswordReset, NOW).on(account.id)],
        mails: vec![mail(Kind::PasswordChanged, Recipient::Account(account.id))],
    }
}

pub(crate) fn verification(account: &NewAccount, number: u8) -> Verification {
    let audit = vec![entry(Event::EmailVerified, NOW).on(account.id)];
    Verification { token: MailTokenHash([number; 32]), user_id: account.id, now: NOW, audit }
}

async fn written(store: &Arc<dyn Store>, user: UserId, event: Event) -> usize {
    let filter = Filter { subject: Some(user), ..Filter::default() };
    let entries = store.audit(&filter, None, 100).await.expect("read");
    entries.iter().filter(|entry| entry.event == event).count()
}

async fn waiting(store: &Arc<dyn Store>) -> Vec<Mail> {
    store.claim_mails(NOW.plus(HOUR), NOW.plus(HOUR), 100).await.expect("claimed")
}

pub(crate) async fn a_mail_waits_as_it_was_given_until_it_is_seen_to(store: Arc<dyn Store>) {
    let (ada, _) = member(&store, "ada").await;
    let first = asked("ada@example.org");
    let second = mail(Kind::PasswordChanged, Recipient::Account(ada.id));
    for mail in [&first, &second] {
        assert!(store.queue_mail(mail, 10).await.expect("kept"));
    }
    // One of the same slot is as good as the one that waits.
    assert!(store.queue_mail(&asked("ada@example.org"), 10).await.expect("judged"));
    assert!(store.claim_mails(NOW.minus(MINUTE), NOW, 10).await.expect("claimed").is_empty(), "not due yet");
    let until = NOW.plus(MINUTE);
    assert_eq!(store.claim_mails(NOW, until, 10).await.expect("claimed"), [first.mail.clone(), second.mail.clone()]);
    assert!(store.claim_mails(NOW, until, 10).await.expect("claimed").is_empty(), "they are somebody's");
    store.postpone_mail(first.mail.id, NOW.plus(HOUR)).await.expect("noted");
    assert_eq!(
        store.claim_mails(until, NOW.plus(HOUR), 10).await.expect("claimed"),
        std::slice::from_ref(&second.mail)
    );
    store.forget_mail(second.mail.id).await.expect("noted");
    store.forget_mail(second.mail.id).await.expect("noted twice");
    store.postpone_mail(second.mail.id, NOW).await.expect("there is none");
    assert_eq!(waiting(&store).await, [Mail { attempts: 1, ..first.mail.clone() }]);
    store.forget_mail(first.mail.id).await.expect("noted");
    assert!(store.queue_mail(&asked("ada@example.org"), 10).await.expect("kept"), "the slot is free");
    assert_eq!(waiting(&store).await.len(), 1);
}

pub(crate) async fn no_more_mails_wait_than_may(store: Arc<dyn Store>) {
    for number in 0..3 {
        assert!(store.queue_mail(&asked(&format!("{number}@example.org")), 3).await.expect("kept"));
    }
    assert!(!store.queue_mail(&asked("3@example.org"), 3).await.expect("judged"));
    let gone = waiting(&store).await[0].id;
    store.forget_mail(gone).await.expect("noted");
    assert!(store.queue_mail(&asked("3@example.org"), 3).await.expect("kept"));
}

pub(crate) async fn mails_go_with_what_they_tell_of(store: Arc<dyn Store>) {
    let ada = account("ada");
    let welcome = mail(Kind::EmailVerification, Recipient::Account(ada.id));
    let ada = NewAccount { mails: vec![welcome.clone()], ..ada };
    let first = session(ada.id);
    assert_eq!(store.create_account(&ada, &first, &[]).await.expect("made"), Created::Made);
    let taken = NewAccount { mails: vec![asked("x@example.org")], ..account("ADA") };
    assert_eq!(store.create_account(&taken, &session(taken.id), &[]).await.expect("judged"), Created::NameTaken);
    assert_eq!(waiting(&store).await, [welcome.mail]);
    let notice = mail(Kind::PasswordChanged, Recipient::Account(ada.id));
    let change = |verified: &str| PasswordChange {
        user_id: ada.id,
        verified_hash: verified.to_owned(),
        new_hash: "hash-2".to_owned(),
        keep: first.id,
        now: NOW,
        revoked_until: NOW,
        audit: Vec::new(),
        mails: vec![notice.clone()],
    };
    assert_eq!(store.change_password(&change("hash-0")).await.expect("judged"), PasswordChanged::Stale);
    assert_eq!(waiting(&store).await.len(), 1);
    assert!(matches!(store.change_password(&change("hash-1")).await, Ok(PasswordChanged::Changed(_))));
    assert_eq!(waiting(&store).await.len(), 2);
}

pub(crate) async fn of_a_login_from_where_the_account_is_known_nobody_is_told(store: Arc<dyn Store>) {
    let (ada, _) = member(&store, "ada").await;
    let open = async |device: &str, ip_address: &str| {
        let opened = NewSession { device: device.into(), ip_address: ip_address.into(), ..session(ada.id) };
        let mails = vec![mail(Kind::NewDevice, Recipient::Account(ada.id))];
        let opening = Opening { mails, ..opening(&ada, &opened) };
        assert!(matches!(store.open_session(&opening).await, Ok(Opened::Open { .. })));
        waiting(&store).await.len()
    };
    // As the first session was opened.
    assert_eq!(open("a phone", "2001:db8::1").await, 0);
    assert_eq!(open("a laptop", "2001:db8::1").await, 1);
    assert_eq!(open("a phone", "192.0.2.1").await, 2);
    assert_eq!(open("a laptop", "2001:db8::1").await, 2);
    let factor = vec![mail(Kind::FactorChanged, Recipient::Account(ada.id))];
    assert!(!store.remove_totp(ada.id, &[], &factor).await.expect("judged"));
    assert!(!store.replace_recovery_codes(ada.id, &[], &[], &factor).await.expect("judged"));
    assert_eq!(waiting(&store).await.len(), 2, "nothing was changed");
    store.plan_totp(ada.id, b"sealed", NOW).await.expect("planned");
    let confirmation = TotpConfirmation {
        user_id: ada.id,
        sealed_secret: b"sealed".to_vec(),
        step: 1,
        recovery_hashes: Vec::new(),
        now: NOW,
        audit: Vec::new(),
        mails: vec![mail(Kind::FactorChanged, Recipient::Account(ada.id))],
    };
    assert!(store.confirm_totp(&confirmation).await.expect("confirmed"));
    let codes = vec![mail(Kind::FactorChanged, Recipient::Account(ada.id))];
    assert!(store.replace_recovery_codes(ada.id, &[], &[], &codes).await.expect("replaced"));
    assert!(store.remove_totp(ada.id, &[], &factor).await.expect("removed"));
    assert_eq!(waiting(&store).await.len(), 5);
}

pub(crate) async fn an_account_and_an_address_get_so_many_mails_and_one_that_goes_again_is_no_other(
    store: Arc<dyn Store>,
) {
    let ((ada, _), (bob, _)) = (member(&store, "ada").await, member(&store, "bob").await);
    let few = |account, number| MailIssue { account_max: 2, ..issue(Kind::PasswordReset, account, number) };
    for number in [1, 2, 2, 1] {
        assert_eq!(store.issue_mail(&few(&ada, number)).await.expect("judged"), MailIssued::Issued);
    }
    assert_eq!(store.issue_mail(&few(&ada, 3)).await.expect("judged"), MailIssued::Limited);
    assert_eq!(store.mail_token(&MailTokenHash([3; 32]), Kind::PasswordReset, NOW).await.expect("read"), None);
    assert_eq!(written(&store, ada.id, Event::PasswordResetRequested).await, 2, "each once");
    // One that was not asked for counts for nothing and always goes.
    let notice = MailIssue { token: None, ..few(&ada, 4) };
    assert_eq!(store.issue_mail(&notice).await.expect("judged"), MailIssued::Issued);
    // By address too, whoever's it is: both have the same here.
    let by_address = MailIssue { address_max: 2, ..issue(Kind::PasswordReset, &bob, 5) };
    assert_eq!(store.issue_mail(&by_address).await.expect("judged"), MailIssued::Limited);
    let elsewhere = MailIssue { recipient: RecipientHash([8; 32]), ..by_address };
    assert_eq!(store.issue_mail(&elsewhere).await.expect("judged"), MailIssued::Issued);
    // What was long ago counts no more.
    let late = MailIssue { counted_since: NOW, now: NOW.plus(MINUTE), ..few(&ada, 6) };
    assert_eq!(store.issue_mail(&late).await.expect("judged"), MailIssued::Issued);
    let moved = MailIssue { address: "other@example.org".to_owned(), ..few(&bob, 7) };
    assert_eq!(store.issue_mail(&moved).await.expect("judged"), MailIssued::Over, "it is not the account's address");
}

pub(crate) async fn a_token_sets_a_new_password_once_and_ends_everything(store: Arc<dyn Store>) {
    let (ada, first) = member(&store, "ada").await;
    let second = login(&store, &ada, NOW).await;
    let (bob, _) = member(&store, "bob").await;
    for number in [1, 2] {
        store.issue_mail(&issue(Kind::PasswordReset, &ada, number)).await.expect("issued");
    }
    store.issue_mail(&issue(Kind::EmailVerification, &ada, 3)).await.expect("issued");
    let owner = async |number, kind, at| store.mail_token(&MailTokenHash([number; 32]), kind, at).await.expect("read");
    assert_eq!(owner(1, Kind::PasswordReset, NOW).await, Some(ada.id));
    assert_eq!(owner(1, Kind::EmailVerification, NOW).await, None, "good for one thing");
    assert_eq!(owner(1, Kind::PasswordReset, NOW.plus(HOUR)).await, None, "expired");
    assert_eq!(owner(9, Kind::PasswordReset, NOW).await, None);
    for bad in [
        reset(&ada, 9),
        reset(&ada, 3),
        PasswordReset { user_id: bob.id, ..reset(&ada, 1) },
        PasswordReset { now: NOW.plus(HOUR), ..reset(&ada, 1) },
    ] {
        assert_eq!(store.reset_password(&bad).await.expect("judged"), PasswordChanged::Stale);
    }
    assert_eq!(written(&store, ada.id, Event::PasswordReset).await, 0);
    assert!(waiting(&store).await.is_empty());
    let PasswordChanged::Changed(ended) = store.reset_password(&reset(&ada, 1)).await.expect("set") else {
        panic!("a good token")
    };
    assert_eq!((ended.count, ended.head), (2, Some(2)));
    for session in [first.id, second.id] {
        assert!(store.session(session).await.expect("read").expect("there").ended_at.is_some());
    }
    let found = store.credentials(&Login::Email("ada@example.org".into())).await.expect("read").expect("there");
    assert_eq!((found.password_hash.as_str(), found.account.email_verified_at), ("hash-2", Some(NOW)));
    // Neither it nor the other one is good any more; a mail that goes again makes none good.
    for number in [1, 2] {
        assert_eq!(store.reset_password(&reset(&ada, number)).await.expect("judged"), PasswordChanged::Stale);
        assert_eq!(
            store.issue_mail(&issue(Kind::PasswordReset, &ada, number)).await.expect("judged"),
            MailIssued::Over
        );
        assert_eq!(owner(number, Kind::PasswordReset, NOW).await, None);
    }
    assert_eq!(written(&store, ada.id, Event::PasswordReset).await, 1);
    assert_eq!(waiting(&store).await.len(), 1, "the notice");
    let untouched = store.credentials_by_id(bob.id).await.expect("read").expect("there");
    assert_eq!((untouched.password_hash.as_str(), untouched.account.email_verified_at), ("hash-1", None));
}

pub(crate) async fn a_token_that_went_out_before_a_new_password_is_good_no_more(store: Arc<dyn Store>) {
    let (ada, first) = member(&store, "ada").await;
    store.issue_mail(&issue(Kind::PasswordReset, &ada, 1)).await.expect("issued");
    let change = PasswordChange {
        user_id: ada.id,
        verified_hash: ada.password_hash.clone(),
        new_hash: "hash-3".to_owned(),
        keep: first.id,
        now: NOW,
        revoked_until: NOW,
        audit: Vec::new(),
        mails: Vec::new(),
    };
    assert!(matches!(store.change_password(&change).await, Ok(PasswordChanged::Changed(_))));
    assert_eq!(store.mail_token(&MailTokenHash([1; 32]), Kind::PasswordReset, NOW).await.expect("read"), None);
    assert_eq!(store.reset_password(&reset(&ada, 1)).await.expect("judged"), PasswordChanged::Stale);
}

pub(crate) async fn a_token_verifies_an_address_once(store: Arc<dyn Store>) {
    let (ada, first) = member(&store, "ada").await;
    store.issue_mail(&issue(Kind::EmailVerification, &ada, 1)).await.expect("issued");
    store.issue_mail(&issue(Kind::PasswordReset, &ada, 2)).await.expect("issued");
    for bad in
        [verification(&ada, 2), verification(&ada, 9), Verification { now: NOW.plus(HOUR), ..verification(&ada, 1) }]
    {
        assert!(!store.verify_email(&bad).await.expect("judged"));
    }
    assert!(store.verify_email(&verification(&ada, 1)).await.expect("noted"));
    assert!(!store.verify_email(&verification(&ada, 1)).await.expect("judged"), "once");
    assert_eq!(store.account(ada.id).await.expect("read").expect("there").email_verified_at, Some(NOW));
    assert_eq!(written(&store, ada.id, Event::EmailVerified).await, 1);
    assert!(store.session(first.id).await.expect("read").expect("there").ended_at.is_none());
    assert!(store.mail_token(&MailTokenHash([2; 32]), Kind::PasswordReset, NOW).await.expect("read").is_some());
}

pub(crate) async fn of_racing_uses_of_one_token_one_is_first(store: Arc<dyn Store>) {
    let (ada, _) = member(&store, "ada").await;
    store.issue_mail(&issue(Kind::PasswordReset, &ada, 1)).await.expect("issued");
    let calls: Vec<_> = (0..8)
        .map(|number| {
            let (store, reset) =
                (store.clone(), PasswordReset { new_hash: format!("hash-{number}"), ..reset(&ada, 1) });
            tokio::spawn(async move { store.reset_password(&reset).await.expect("judged") })
        })
        .collect();
    let ended = futures::future::join_all(calls).await;
    let changed = ended.iter().filter(|one| matches!(one, Ok(PasswordChanged::Changed(_)))).count();
    assert_eq!(changed, 1, "{ended:?}");
    assert_eq!(written(&store, ada.id, Event::PasswordReset).await, 1);
}

pub(crate) async fn racing_workers_claim_each_mail_once(store: Arc<dyn Store>) {
    for number in 0..40 {
        assert!(store.queue_mail(&asked(&format!("{number}@example.org")), 100).await.expect("kept"));
    }
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let claimed = store.claim_mails(NOW, NOW.plus(HOUR), 3).await.expect("claimed");
                    if claimed.is_empty() {
                        return mine;
                    }
                    mine.extend(claimed.into_iter().map(|mail| mail.id));
                }
            })
        })
        .collect();
    let mut all: Vec<_> =
        futures::future::join_all(calls).await.into_iter().flat_map(|mine| mine.expect("no panic")).collect();
    let claimed = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), claimed, "one was claimed twice");
    // One that was locked in the moment of a look is still there for the next one.
    let rest = store.claim_mails(NOW, NOW.plus(HOUR), 100).await.expect("claimed");
    assert_eq!(all.len() + rest.len(), 40);
}

pub(crate) async fn tokens_and_records_are_forgotten_and_go_with_their_account(store: Arc<dyn Store>) {
    let (ada, _) = member(&store, "ada").await;
    store.issue_mail(&issue(Kind::PasswordReset, &ada, 1)).await.expect("issued");
    store.queue_mail(&mail(Kind::PasswordChanged, Recipient::Account(ada.id)), 10).await.expect("kept");
    let late: Millis = NOW.plus(Duration::from_secs(2 * 3_600));
    // The session has a day.
    assert_eq!(store.prune(late, 10).await.expect("pruned"), 2);
    assert_eq!(store.prune(late, 10).await.expect("pruned"), 0);
    store.issue_mail(&issue(Kind::PasswordReset, &ada, 2)).await.expect("issued");
    let plan = crate::store::DeletionPlan {
        user_id: ada.id,
        disabled: false,
        now: NOW,
        erase_at: NOW,
        revoked_until: NOW,
        audit: Vec::new(),
    };
    store.plan_deletion(&plan).await.expect("planned");
    let erased = store.erase_account(ada.id, NOW, NOW, &[]).await.expect("erased");
    assert!(matches!(erased, crate::store::Erased::Gone { .. }), "{erased:?}");
    assert!(waiting(&store).await.is_empty());
    assert_eq!(store.mail_token(&MailTokenHash([2; 32]), Kind::PasswordReset, NOW).await.expect("read"), None);
}
