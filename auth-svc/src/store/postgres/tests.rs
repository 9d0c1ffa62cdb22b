//! PostgreSQL alone: the contract, the order of revocations under a held lock, what an operator meets, and the plans. How
//! calls end when the server fails is tested in `mesh-postgres`.

use std::sync::Arc;

use mesh::{
    config::{Secret, StoreLimits},
    migration::Migrations,
};
use mesh_postgres::testing::{LIMITS, Schema, prepared};
use sqlx::Executor as _;
use uuid::Uuid;

use super::{PostgresStore, server};
use crate::{
    account::{Login, UserId},
    api_key::{ApiKey, ApiKeyHash},
    audit::{Actor, Event, Events, Filter},
    factor::RecoveryHash,
    invitation::{Invitation, InvitationHash},
    mail::{Kind, MailTokenHash, Recipient},
    proof::Method,
    session::SessionId,
    store::{
        AccessChange, DeletionPlan, End, KeyRecord, KeyRotation, NewAccount, NewApiKey, NewInvitation,
        NewServiceAccount, NewSession, OpenError, Opening, PasswordChange, RoleChange, SessionCursor, Side, Store,
        StoreError, TotpConfirmation, TrustedDevice, WsSpend,
        contract::{NOW, account, email, entry, mails, member, opening, rotation, session, store_contract, username},
    },
};

async fn opened(schema: &Schema, limits: &StoreLimits) -> Result<PostgresStore, OpenError> {
    Ok(PostgresStore::on(&server(&schema.secret(), &schema.name, limits, Migrations::Run).await?, limits))
}

async fn open(schema: &Schema) -> PostgresStore {
    opened(schema, &LIMITS).await.expect("opened")
}

async fn backend() -> Option<(Arc<dyn Store>, Schema)> {
    let schema = Schema::new()?;
    Some((Arc::new(open(&schema).await), schema))
}

store_contract!(backend);

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let Some((store, schema)) = backend().await else { return };
    let (account, session) = member(&store, "ada").await;
    store.end_session(account.id, session.id, NOW, NOW, &[]).await.expect("ended");
    store.close().await;
    assert!(matches!(store.check().await, Err(StoreError::Unavailable(_))), "a closed store answers");
    let store = open(&schema).await;
    store.check().await.expect("answers");
    assert!(store.account(account.id).await.expect("read").is_some());
    assert!(store.session(session.id).await.expect("read").expect("there").ended_at.is_some());
    assert_eq!(store.revocations(0, NOW, 10).await.expect("read").head, 1);
    assert!(store.next_delivery(account.id).await.expect("read").is_some());
}

/// Who holds the highest number and has not committed holds up those after it: no reader sees 2 before 1.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_waits_for_the_one_before_it() {
    let Some((store, schema)) = backend().await else { return };
    let (account, session) = member(&store, "ada").await;
    let mut first = schema.connect().await;
    first
        .execute(
            "BEGIN; UPDATE revocation_head SET number = number + 1;
             INSERT INTO revocations VALUES (1, gen_random_uuid(), 9000000000000)",
        )
        .await
        .expect("the first has its number");
    let second = tokio::spawn({
        let store = store.clone();
        async move { store.end_session(account.id, session.id, NOW, NOW, &[]).await.expect("ended") }
    });
    schema.until_waiting_is(true).await;
    assert!(!second.is_finished());
    assert_eq!(store.revocations(0, NOW, 10).await.expect("read").head, 0);
    first.execute("COMMIT").await.expect("committed");
    assert_eq!(second.await.expect("no panic"), End::Ended(2));
    let page = store.revocations(0, NOW, 10).await.expect("read");
    assert_eq!((page.head, page.revocations.len()), (2, 2));
}

/// No server is asked, so this needs none.
#[tokio::test]
async fn both_schemes_name_this_store_and_a_bad_url_gets_one_sentence_without_its_password() {
    for url in ["postgres://me:hunter2#@host/db", "postgresql://me:hunter2@host:port/db"] {
        let opened =
            crate::store::open(&Secret::from(url), std::path::Path::new("unused"), 1, &LIMITS, Migrations::Run).await;
        let error = opened.expect_err(url).to_string();
        assert!(error.contains("auth.store_url") && !error.contains('\n') && !error.contains("hunter2"), "{error}");
    }
}

/// Enough that the planner prefers an index to reading all of them.
const FILL: &str = "
    INSERT INTO accounts
    SELECT gen_random_uuid(), 'name-' || n, 'key-' || n, 1, n || '@example.org', n || '@example.org',
           repeat('h', 100), '{user}', n, n
    FROM generate_series(1, 10000) AS n;
    INSERT INTO sessions
    SELECT gen_random_uuid(), id, 'a phone', '::1', repeat('r', 32)::bytea, n, n, n + 1000000, n + 9000000, n, NULL
    FROM (SELECT id, row_number() OVER () AS n FROM accounts) AS numbered, generate_series(1, 3);
    INSERT INTO revocations SELECT n, gen_random_uuid(), n FROM generate_series(1, 10000) AS n;
    UPDATE revocation_head SET number = 10000;
    INSERT INTO spent_ws_tokens SELECT gen_random_uuid(), n FROM generate_series(1, 10000) AS n;
    INSERT INTO outbox SELECT id, 1, username, true, '', '', 0, created_at FROM accounts;
    INSERT INTO totp_factors SELECT id, 'sealed', created_at, created_at, 0, 0, 0 FROM accounts;
    INSERT INTO recovery_codes SELECT id, int4send(n) FROM accounts, generate_series(1, 3) AS n;
    INSERT INTO trusted_devices SELECT id, gen_random_uuid(), created_at, created_at FROM accounts;
    INSERT INTO audit
    SELECT gen_random_uuid(), n, 'login.' || n % 50, true, 'user', gen_random_uuid(), gen_random_uuid(), NULL, '', '', '', '', ''
    FROM generate_series(1, 10000) AS n;
    INSERT INTO invitations
    SELECT gen_random_uuid(), int4send(n), '', 'operator', 'root', n, n, NULL, NULL FROM generate_series(1, 10000) AS n;
    INSERT INTO service_accounts SELECT id, 'operator', 'root', created_at FROM accounts;
    INSERT INTO api_keys
    SELECT gen_random_uuid(), id, decode(md5(id::text), 'hex'), '', '', '', 'operator', 'root', created_at, created_at, NULL
    FROM accounts;
    INSERT INTO mails SELECT id, '', id, '', '', id::text, created_at, 0, created_at, created_at FROM accounts;
    INSERT INTO mail_tokens SELECT decode(md5(id::text), 'hex'), '', id, '', created_at FROM accounts;
    INSERT INTO mail_records SELECT id, id, decode(md5(id::text), 'hex'), true, created_at, created_at FROM accounts;
    INSERT INTO deletions SELECT id, created_at, created_at, NULL, false, '', 0, created_at FROM accounts;
    ANALYZE mails, mail_tokens, mail_records, deletions, service_accounts, api_keys, accounts, sessions, revocations, revocation_head, spent_ws_tokens, outbox, totp_factors, recovery_codes, trusted_devices,
            invitations, audit";

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_whole_table() {
    let Some(schema) = Schema::new() else { return };
    // One connection, so that all is prepared on it.
    let limits = StoreLimits { connections_max: 1, ..LIMITS };
    let opened = opened(&schema, &limits).await;
    let postgres = Arc::new(opened.expect("opened"));
    schema.connect().await.execute(FILL).await.expect("filled");
    let store: Arc<dyn Store> = postgres.clone();
    call_everything(&store).await;
    let statements = prepared(&mut postgres.calls.pool().acquire().await.expect("the connection")).await;
    assert!(statements.len() >= 50, "only {} statements were prepared", statements.len());
    for one in statements {
        let scans = one.scans(&["revocation_head", "signing_keys"]);
        assert!(scans.is_empty(), "{scans:?} by {}", one.statement);
    }
}

/// Every call of the store, along every way through it that has statements of its own.
async fn call_everything(store: &Arc<dyn Store>) {
    let (ada, first) = member(store, "ada").await;
    let taken = account("ada");
    store.create_account(&taken, &session(taken.id), &[]).await.expect("judged");
    store.credentials(&Login::Username("ada".into())).await.expect("read");
    store.credentials(&Login::Email("ada@example.org".into())).await.expect("read");
    store.credentials_by_id(ada.id).await.expect("read");
    store.taken(&username("ada"), &email("ada@example.org")).await.expect("read");
    store.rename(ada.id, &username("countess"), NOW, NOW, &[]).await.expect("renamed");
    let second = session(ada.id);
    let opening = Opening { rehash: Some("hash-of-today".to_owned()), sessions_max: 1, ..opening(&ada, &second) };
    store.open_session(&opening).await.expect("opened");
    let change = PasswordChange {
        user_id: ada.id,
        verified_hash: "hash-of-today".to_owned(),
        new_hash: "hash-2".to_owned(),
        keep: second.id,
        now: NOW,
        revoked_until: NOW,
        audit: Vec::new(),
        mails: Vec::new(),
    };
    store.change_password(&change).await.expect("changed");
    store.session(first.id).await.expect("read");
    let after = SessionCursor { last_used_at: NOW, id: SessionId(Uuid::max()) };
    store.sessions(ada.id, NOW, Some(after), 10).await.expect("read");
    for generation in [0, 1, 0] {
        store.rotate(&rotation(&second, generation, NOW)).await.expect("judged");
    }
    let (bob, third) = member(store, "bob").await;
    let later = NOW.plus(std::time::Duration::from_mins(5));
    let jti = Uuid::new_v4();
    let spend = WsSpend { jti, session_id: third.id, user_id: bob.id, now: later, expires_at: later };
    store.spend_ws(&spend).await.expect("spent");
    store.end_other_sessions(bob.id, second.id, NOW, NOW, &[]).await.expect("ended");
    store.end_session(bob.id, third.id, NOW, NOW, &[]).await.expect("judged");
    store.revocations(0, NOW, 10).await.expect("read");
    store.claim_deliveries(NOW, NOW, 10).await.expect("claimed");
    store.next_delivery(ada.id).await.expect("read");
    store.postpone_delivery(ada.id, 1, NOW).await.expect("noted");
    store.delivered(ada.id, 1).await.expect("noted");
    store.prune(NOW, 10).await.expect("pruned");
    call_factors(store, bob.id).await;
    call_invitations(store).await;
    call_keys(store).await;
    call_api_keys(store).await;
    call_audit(store, &bob, &third).await;
    call_mails(store, &bob).await;
    call_person(store, bob.id).await;
    store.check().await.expect("answers");
}

async fn call_factors(store: &Arc<dyn Store>, user_id: UserId) {
    let hash = RecoveryHash([7; 32]);
    store.plan_totp(user_id, b"sealed", NOW).await.expect("planned");
    store.planned_totp(user_id).await.expect("read");
    let (sealed_secret, recovery_hashes) = (b"sealed".to_vec(), vec![hash]);
    let confirmation = TotpConfirmation {
        user_id,
        sealed_secret,
        step: 1,
        recovery_hashes,
        now: NOW,
        audit: Vec::new(),
        mails: Vec::new(),
    };
    store.confirm_totp(&confirmation).await.expect("confirmed");
    store.factors(user_id, NOW).await.expect("read");
    store.attempt_totp(user_id, NOW).await.expect("judged");
    store.use_totp(user_id, 2).await.expect("used");
    store.use_recovery_code(user_id, &hash, &[]).await.expect("used");
    store.replace_recovery_codes(user_id, &[hash], &[], &[]).await.expect("replaced");
    let device_id = Uuid::new_v4();
    let device = TrustedDevice { user_id, device_id, now: NOW, expires_at: NOW, devices_max: 1, audit: Vec::new() };
    store.trust_device(&device).await.expect("trusted");
    store.device_is_trusted(user_id, device_id, NOW).await.expect("read");
    store.forget_devices(user_id, &[]).await.expect("forgotten");
    store.remove_totp(user_id, &[], &[]).await.expect("removed");
}

async fn call_mails(store: &Arc<dyn Store>, account: &NewAccount) {
    let mail = mails::mail(Kind::PasswordChanged, Recipient::Account(account.id));
    store.queue_mail(&mail, 10_000_000).await.expect("kept");
    store.claim_mails(NOW, NOW, 10).await.expect("claimed");
    store.postpone_mail(mail.mail.id, NOW).await.expect("noted");
    store.forget_mail(mail.mail.id).await.expect("noted");
    for number in [1, 1, 2, 3] {
        let kind = if number == 3 { Kind::EmailVerification } else { Kind::PasswordReset };
        store.issue_mail(&mails::issue(kind, account, number)).await.expect("issued");
    }
    store.mail_token(&MailTokenHash([1; 32]), Kind::PasswordReset, NOW).await.expect("read");
    store.verify_email(&mails::verification(account, 3)).await.expect("noted");
    store.reset_password(&mails::reset(account, 1)).await.expect("set");
}

async fn call_person(store: &Arc<dyn Store>, user_id: UserId) {
    let kept = entry(Event::AccountKept, NOW);
    for disabled in [true, false] {
        let (audit, kept) = (Vec::new(), kept.clone());
        let change = AccessChange { user_id, disabled, now: NOW, revoked_until: NOW, audit, kept };
        store.set_access(&change).await.expect("set");
    }
    store.trusted_devices(user_id, NOW).await.expect("read");
    store.end_sessions_after(SessionId(Uuid::nil()), NOW, NOW, 10).await.expect("ended");
    let plan = DeletionPlan { user_id, disabled: true, now: NOW, erase_at: NOW, revoked_until: NOW, audit: Vec::new() };
    store.plan_deletion(&plan).await.expect("planned");
    store.deletion(user_id).await.expect("read");
    store.claim_deletions(NOW, NOW, 10).await.expect("claimed");
    store.erase_account(user_id, NOW, NOW, &[]).await.expect("erased");
    for side in [Side::Subject, Side::Actor] {
        store.append_audit(&[entry(Event::RoleSet, NOW).by(Actor::User(user_id)).on(user_id)]).await.expect("written");
        store.scrub_audit(user_id, side, None, 10).await.expect("scrubbed");
    }
    store.note_deletion(user_id, true, "", NOW).await.expect("noted");
    store.postpone_deletion(user_id, NOW).await.expect("noted");
    store.finish_deletion(user_id).await.expect("done");
}

async fn call_invitations(store: &Arc<dyn Store>) {
    let hash = InvitationHash([7; 32]);
    let invitation = Invitation {
        id: Uuid::now_v7(),
        note: String::new(),
        made_by: Actor::Nobody,
        created_at: NOW,
        expires_at: NOW.plus(std::time::Duration::from_mins(1)),
        used_at: None,
        used_by: None,
    };
    let new = NewInvitation { invitation, hash, open_max: 10, audit: Vec::new() };
    store.invite(&new).await.expect("kept");
    store.good_invitation(&hash, NOW).await.expect("read");
    store.invitations(NOW, Some(Uuid::max()), 10).await.expect("read");
    let invited = NewAccount { invitation: Some(hash), ..account("invited") };
    store.create_account(&invited, &session(invited.id), &[]).await.expect("made");
    store.revoke_invitation(new.invitation.id, &[]).await.expect("judged");
}

async fn call_api_keys(store: &Arc<dyn Store>) {
    let account = account("billing");
    let id = account.id;
    let new = NewServiceAccount { account, made_by: Actor::Nobody, audit: Vec::new() };
    store.create_service_account(&new).await.expect("made");
    store.service_accounts(Some(Uuid::max()), 10).await.expect("read");
    let key = ApiKey {
        id: Uuid::now_v7(),
        account: id,
        prefix: String::new(),
        name: String::new(),
        scopes: Vec::new(),
        made_by: Actor::Nobody,
        created_at: NOW,
        expires_at: NOW.plus(std::time::Duration::from_mins(1)),
        last_used_at: None,
    };
    let (key_id, hash) = (key.id, ApiKeyHash([7; 32]));
    store.create_api_key(&NewApiKey { key, hash, keys_max: 10, audit: Vec::new() }).await.expect("made");
    store.use_api_key(&hash, NOW).await.expect("used");
    store.api_key(key_id).await.expect("read");
    store.api_keys(id, Some(Uuid::max()), 10).await.expect("read");
    store.revoke_api_key(key_id, NOW, &[]).await.expect("revoked");
}

async fn call_keys(store: &Arc<dyn Store>) {
    let key = KeyRecord {
        number: 1,
        public: vec![7; 32],
        sealed: vec![7; 80],
        created_at: NOW,
        signs_from: NOW,
        leaves_at: None,
        token_secs: 900,
    };
    let rotation = KeyRotation { key, leeway: std::time::Duration::ZERO, at_once: false, audit: Vec::new() };
    store.rotate_key(&rotation).await.expect("rotated");
    store.signing_keys().await.expect("read");
    store.note_token_life(1_000).await.expect("noted");
    store.forget_keys(NOW).await.expect("forgotten");
}

async fn call_audit(store: &Arc<dyn Store>, account: &NewAccount, session: &NewSession) {
    let entries = [entry(Event::LoginPassword, NOW)];
    store.append_audit(&entries).await.expect("written");
    let filters = [
        Filter::default(),
        Filter { subject: Some(account.id), ..Filter::default() },
        Filter { actor: Some("nobody".to_owned()), ..Filter::default() },
        Filter { events: Events::One(Event::LoginPassword), ..Filter::default() },
    ];
    for filter in filters {
        store.audit(&filter, None, 10).await.expect("read");
    }
    store.prune_audit(NOW, 10).await.expect("pruned");
    let roles = vec!["moderator".to_owned()];
    let change = RoleChange { user_id: account.id, roles, now: NOW, revoked_until: NOW, audit: Vec::new() };
    store.set_roles(&change).await.expect("set");
    store.prove_session(account.id, session.id, &[Method::Password], NOW, &entries).await.expect("judged");
}

#[tokio::test]
async fn an_audit_entry_cannot_be_changed() {
    let Some((store, schema)) = backend().await else { return };
    store.append_audit(&[entry(Event::LoginPassword, NOW)]).await.expect("written");
    let changed = schema.connect().await.execute("UPDATE audit SET detail = 'nothing happened'").await;
    assert!(changed.expect_err("refused").to_string().contains("append-only"));
}

#[tokio::test]
async fn a_store_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds() {
    let Some(schema) = Schema::new() else { return };
    let step = include_str!("../../../migrations/postgres/0001_accounts.sql");
    let sha384 = "53ff4c64e548f3b290af8eab724722ddf472c3ff2cda9f79c6b303b8502438d2a3973f57e57567689c6b2337a6c424d8";
    schema.first("_auth_migrations", step, sha384, include_str!("first.sql")).await;
    let store = open(&schema).await;
    let id = crate::account::UserId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000001"));
    let account = store.credentials_by_id(id).await.expect("read").expect("there");
    assert_eq!((account.account.username.as_str(), &*account.password_hash), ("Ada", "hash"));
    let session = SessionId(uuid::uuid!("0190a0b0-0000-7000-8000-000000000002"));
    let session = store.session(session).await.expect("read").expect("there");
    // What later steps have added says what was so before them.
    assert_eq!((session.user_id, session.authenticated_at, session.amr.len()), (id, session.created_at, 1));
    let revoked = store.revocations(0, NOW, 10).await.expect("read");
    assert_eq!((revoked.head, revoked.revocations.len()), (7, 1));
    assert_eq!(store.next_delivery(id).await.expect("read").expect("there").version, 2);
}
