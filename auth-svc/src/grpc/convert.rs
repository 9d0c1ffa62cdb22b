//! Between the contract's types and the domain's. It checks shapes; rules are the domain's.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mesh::{
    error::{FieldViolation, Refusal},
    identity::{self, AccessClaims, ServiceName},
    proto::auth::v1 as pb,
    text::{self, Violations},
    time::Millis,
    visit::Visit,
};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::{
    account::{Account, UserId, Username},
    audit::Entry,
    factor::Challenge,
    invitation::Invitation,
    session::{Client, Session, SessionId, Tokens},
    store::{Factors, SessionCursor},
};

#[cfg(test)]
mod fuzz;

/// The page when none is asked for, and the largest.
const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 100;

/// A page of sessions as it was asked for.
pub(super) struct SessionPage {
    pub(super) after: Option<SessionCursor>,
    pub(super) size: u32,
}

/// A WebSocket token as a gateway names it.
pub(super) struct WsToken {
    pub(super) jti: Uuid,
    pub(super) user_id: UserId,
    pub(super) session_id: SessionId,
    pub(super) expires_at: Millis,
}

pub(super) fn violation(violation: FieldViolation) -> Status {
    Refusal::invalid(vec![violation]).into()
}

/// Both values, or all that is wrong with them.
pub(super) fn both<A, B>(violations: Violations, a: Option<A>, b: Option<B>) -> Result<(A, B), Refusal> {
    match (a, b) {
        (Some(a), Some(b)) => Ok((a, b)),
        _ => Err(violations
            .into_result()
            .err()
            .unwrap_or_else(|| Refusal::internal("a field is missing without a violation"))),
    }
}

/// Where a call comes from. Only a gateway's word counts: anyone else could write what they like into an account's
/// list of sessions.
pub(super) fn client<T>(request: &Request<T>, info: Option<&pb::ClientInfo>) -> Client {
    let visit = Visit::of(request);
    let client = match (identity::service(request, &[ServiceName::Gateway]), info) {
        (Ok(_), Some(info)) => Client::cut(&info.device, &info.ip_address),
        _ => Client::cut(&visit.device, &visit.address),
    };
    Client { request_id: visit.request_id, ..client }
}

/// The device that a gateway names; another's word is none.
pub(super) fn device<T>(request: &Request<T>, id: &str) -> Result<Option<Uuid>, FieldViolation> {
    match identity::service(request, &[ServiceName::Gateway]) {
        Ok(_) if !id.is_empty() => text::uuid("device_id", id).map(Some),
        _ => Ok(None),
    }
}

/// Codes of any kind are short; what is longer is none.
const CODE_CHARS_MAX: usize = 64;

/// A code that must be given.
pub(super) fn code_field(given: &str) -> Result<&str, FieldViolation> {
    match code_or_none(given)? {
        "" => Err(FieldViolation::new("code", "must not be empty")),
        code => Ok(code),
    }
}

/// A code that may be given.
pub(super) fn code_or_none(given: &str) -> Result<&str, FieldViolation> {
    text::text("code", given.trim(), CODE_CHARS_MAX)
}

/// A code as the only field.
pub(super) fn code(given: &str) -> Result<&str, Status> {
    code_field(given).map_err(violation)
}

pub(super) fn challenge(challenge: Challenge) -> pb::MfaChallenge {
    pb::MfaChallenge {
        ticket: challenge.ticket,
        expires_in_secs: i64::try_from(challenge.expires_in.as_secs()).unwrap_or(i64::MAX),
        methods: ["totp", "recovery_code"].map(str::to_owned).to_vec(),
    }
}

/// A page of audit entries as it was asked for.
pub(super) struct EntryPage {
    pub(super) after: Option<Uuid>,
    pub(super) size: u32,
}

pub(super) fn entry_page(page_size: i32, page_token: &str) -> Result<EntryPage, Refusal> {
    let mut violations = Violations::default();
    let size = violations.check(text::page_size("page_size", page_size, PAGE_DEFAULT, PAGE_MAX));
    let after = violations.check(match page_token {
        "" => Ok(None),
        token => Uuid::parse_str(token)
            .map(Some)
            .or(Err(FieldViolation::new("page_token", "must be empty or from the last answer"))),
    });
    let (after, size) = both(violations, after, size)?;
    Ok(EntryPage { after, size })
}

/// A page of those found, which are up to one more than the page takes, and the token of the next one.
pub(super) fn entries(found: Vec<Entry>, size: u32) -> (Vec<Entry>, String) {
    cut(found, size, |last| last.id)
}

/// The same of anything whose place in its list is its id.
pub(super) fn cut<T>(mut found: Vec<T>, size: u32, id: impl Fn(&T) -> Uuid) -> (Vec<T>, String) {
    let more = found.len() > size as usize;
    found.truncate(size as usize);
    let token = found.last().filter(|_| more).map(|last| id(last).to_string()).unwrap_or_default();
    (found, token)
}

pub(super) fn login_record(entry: Entry) -> pb::LoginRecord {
    pb::LoginRecord {
        id: entry.id.to_string(),
        time: Some(entry.at.into()),
        event: entry.event.as_str().to_owned(),
        succeeded: entry.succeeded,
        device: entry.client.device,
        ip_address: entry.client.ip_address,
        place: entry.client.place,
        session_id: entry.session.map(|session| session.0.to_string()).unwrap_or_default(),
    }
}

pub(super) fn audit_event(entry: Entry) -> pb::AuditEvent {
    pb::AuditEvent {
        id: entry.id.to_string(),
        time: Some(entry.at.into()),
        event: entry.event.as_str().to_owned(),
        succeeded: entry.succeeded,
        actor_kind: entry.actor.kind().to_owned(),
        actor: entry.actor.name(),
        subject_id: entry.subject.map(|user| user.0.to_string()).unwrap_or_default(),
        session_id: entry.session.map(|session| session.0.to_string()).unwrap_or_default(),
        ip_address: entry.client.ip_address,
        place: entry.client.place,
        device: entry.client.device,
        request_id: entry.client.request_id,
        detail: entry.detail,
    }
}

/// A page of invitations of those found, which are up to one more than the page takes.
pub(super) fn invitations(found: Vec<Invitation>, size: u32) -> pb::ListInvitationsResponse {
    let (found, next_page_token) = cut(found, size, |last| last.id);
    pb::ListInvitationsResponse { invitations: found.into_iter().map(invitation).collect(), next_page_token }
}

pub(super) fn invitation(invitation: Invitation) -> pb::Invitation {
    pb::Invitation {
        id: invitation.id.to_string(),
        note: invitation.note,
        maker_kind: invitation.made_by.kind().to_owned(),
        maker: invitation.made_by.name(),
        create_time: Some(invitation.created_at.into()),
        expire_time: Some(invitation.expires_at.into()),
        use_time: invitation.used_at.map(Into::into),
        user_id: invitation.used_by.map(|user| user.0.to_string()).unwrap_or_default(),
    }
}

pub(super) fn account(account: Account) -> pb::Account {
    pb::Account {
        id: account.id.0.to_string(),
        username: account.username.as_str().to_owned(),
        email: account.email.as_str().to_owned(),
        roles: account.roles,
        create_time: Some(account.created_at.into()),
        update_time: Some(account.updated_at.into()),
        disable_time: account.disabled_at.map(Into::into),
        email_verify_time: account.email_verified_at.map(Into::into),
    }
}

pub(super) fn factors(factors: Factors) -> pb::GetFactorsResponse {
    pb::GetFactorsResponse {
        totp_confirm_time: factors.totp_confirmed_at.map(Into::into),
        recovery_codes: count(factors.recovery_codes),
        remembered_devices: count(factors.trusted_devices),
    }
}

pub(super) fn tokens(tokens: Tokens) -> pb::Tokens {
    pb::Tokens {
        access_token: tokens.access_token,
        refresh_token: tokens.refresh_token.expose().to_owned(),
        expires_in_secs: tokens.expires_in_secs,
    }
}

pub(super) fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The one field that can be changed, and that the mask must name.
pub(super) fn new_username(user: UserId, request: &pb::UpdateAccountRequest) -> Result<Username, Refusal> {
    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        return Err(Refusal::field("update_mask", "must name a field: username"));
    }
    if let Some(other) = paths.iter().find(|path| *path != "username") {
        let message = format!("names {other:.100}, but only username can be changed");
        return Err(Refusal::field("update_mask", message));
    }
    let Some(account) = &request.account else { return Err(Refusal::field("account", "must be given")) };
    if !account.id.is_empty() && text::uuid("account.id", &account.id) != Ok(user.0) {
        return Err(Refusal::field("account.id", "must be empty or the caller's own"));
    }
    Username::parse("account.username", &account.username).map_err(|violation| Refusal::invalid(vec![violation]))
}

pub(super) fn session_page(request: &pb::ListSessionsRequest) -> Result<SessionPage, Refusal> {
    let mut violations = Violations::default();
    let size = violations.check(text::page_size("page_size", request.page_size, PAGE_DEFAULT, PAGE_MAX));
    let after = violations.check(match request.page_token.as_str() {
        "" => Ok(None),
        token => session_cursor(token)
            .map(Some)
            .ok_or_else(|| FieldViolation::new("page_token", "must be empty or from the last answer")),
    });
    let (after, size) = both(violations, after, size)?;
    Ok(SessionPage { after, size })
}

/// A place in the list as text: the time's eight bytes and the id's sixteen.
fn page_token(last: &Session) -> String {
    let mut bytes = last.last_used_at.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(last.id.0.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn session_cursor(token: &str) -> Option<SessionCursor> {
    let bytes: [u8; 24] = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
    let (used, id) = bytes.split_first_chunk::<8>()?;
    let id = Uuid::from_slice(id).ok()?;
    Some(SessionCursor { last_used_at: Millis(i64::from_be_bytes(*used)), id: SessionId(id) })
}

/// A page of those found, which are up to one more than the page takes.
pub(super) fn sessions(mut found: Vec<Session>, size: u32, current: Option<SessionId>) -> pb::ListSessionsResponse {
    let more = found.len() > size as usize;
    found.truncate(size as usize);
    let next_page_token = found.last().filter(|_| more).map(page_token).unwrap_or_default();
    let sessions = found.into_iter().map(|one| session(one, current)).collect();
    pb::ListSessionsResponse { sessions, next_page_token }
}

pub(super) fn session(session: Session, current: Option<SessionId>) -> pb::Session {
    pb::Session {
        id: session.id.0.to_string(),
        current: Some(session.id) == current,
        device: session.device,
        ip_address: session.ip_address,
        place: session.place,
        authenticate_time: Some(session.authenticated_at.into()),
        authentication_methods: session.amr.iter().map(|method| method.as_str().to_owned()).collect(),
        create_time: Some(session.created_at.into()),
        last_use_time: Some(session.last_used_at.into()),
        expire_time: Some(session.expires_at.into()),
    }
}

pub(super) fn checked_token(claims: AccessClaims) -> pb::CheckTokenResponse {
    pb::CheckTokenResponse {
        user_id: claims.sub.to_string(),
        session_id: claims.sid.to_string(),
        roles: claims.roles,
        expire_time: Some(Millis::from_secs(claims.exp).into()),
    }
}

pub(super) fn checked_session(id: Uuid, account: Account, expires_at: Millis) -> pb::CheckTokenResponse {
    pb::CheckTokenResponse {
        user_id: account.id.0.to_string(),
        session_id: id.to_string(),
        roles: account.roles,
        expire_time: Some(expires_at.into()),
    }
}

pub(super) fn ws_spend(request: &pb::SpendWsTokenRequest) -> Result<WsToken, Refusal> {
    let mut violations = Violations::default();
    let jti = violations.check(text::uuid("jti", &request.jti));
    let session_id = violations.check(text::uuid("session_id", &request.session_id));
    let user_id = violations.check(text::uuid("user_id", &request.user_id));
    let expires_at = violations.check(
        request.expire_time.map(Millis::from).ok_or_else(|| FieldViolation::new("expire_time", "must be given")),
    );
    let ((jti, session_id), (user_id, expires_at)) = both(violations, jti.zip(session_id), user_id.zip(expires_at))?;
    Ok(WsToken { jti, user_id: UserId(user_id), session_id: SessionId(session_id), expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            id: SessionId(Uuid::now_v7()),
            user_id: UserId(Uuid::now_v7()),
            device: "a phone".to_owned(),
            ip_address: "::1".to_owned(),
            place: String::new(),
            authenticated_at: Millis(1),
            amr: Vec::new(),
            created_at: Millis(1),
            last_used_at: Millis(1_795_428_000_123),
            expires_at: Millis(3),
            ends_at: Millis(4),
            access_expires_at: Millis(2),
            ended_at: None,
        }
    }

    #[test]
    fn a_page_token_leads_back_to_its_place_and_garbage_nowhere() {
        let last = session();
        let cursor = session_cursor(&page_token(&last)).expect("a place");
        assert_eq!((cursor.last_used_at, cursor.id), (last.last_used_at, last.id));
        for bad in ["x", "AAAA", &"A".repeat(100), "ä"] {
            let request = pb::ListSessionsRequest { page_size: 0, page_token: bad.to_owned() };
            let refusal = session_page(&request).err().expect("refused");
            assert_eq!(refusal.violations[0].field, "page_token");
        }
    }

    #[test]
    fn the_last_page_has_no_token_and_the_callers_session_is_marked() {
        let found = [session(), session()];
        let current = Some(found[1].id);
        let page = sessions(found.to_vec(), 2, current);
        assert!(page.next_page_token.is_empty());
        assert_eq!(page.sessions.iter().map(|session| session.current).collect::<Vec<_>>(), [false, true]);
        let page = sessions(found.to_vec(), 1, current);
        assert!(!page.next_page_token.is_empty() && page.sessions.len() == 1);
    }

    #[test]
    fn only_the_username_of_ones_own_account_can_be_changed() {
        let user = UserId(Uuid::now_v7());
        let request = |paths: &[&str], id: &str| {
            let account = pb::Account { id: id.to_owned(), username: "ada".to_owned(), ..Default::default() };
            let mut request = pb::UpdateAccountRequest { account: Some(account), ..Default::default() };
            request.update_mask.get_or_insert_default().paths = paths.iter().map(ToString::to_string).collect();
            request
        };
        let other = Uuid::now_v7().to_string();
        assert!(new_username(user, &request(&["username"], "")).is_ok());
        assert!(new_username(user, &request(&["username"], &user.0.to_string())).is_ok());
        for (paths, id) in [(&[][..], ""), (&["email"], ""), (&["username", "roles"], ""), (&["username"], &other)] {
            assert!(new_username(user, &request(paths, id)).is_err(), "{paths:?} {id}");
        }
        assert!(new_username(user, &pb::UpdateAccountRequest::default()).is_err());
    }
}
