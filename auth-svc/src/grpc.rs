//! The surface: each handler converts, authorises, calls the domain and encodes. The proto's comments are the spec.
//! What only admins may call is in `grpc/admin.rs` and `grpc/api_key.rs`, second factors in `grpc/factor.rs`, what goes by mail in `grpc/email.rs`, what is held
//! about a person and its end in `grpc/account.rs`, what is converted how in `grpc/convert.rs`, the stream of revocations in
//! `grpc/watch.rs`, and the ways to the other services in `grpc/profiles.rs` and `grpc/others.rs`.

use std::sync::Arc;

use mesh::{
    error::{Answer, Refusal},
    identity::{self, ServiceName},
    proto::auth::v1 as pb,
    text::{self, Violations},
    visit::Visit,
};
use tonic::{Request, Response, Status};

use crate::{
    account::{Accounts, Login, Registration, RegistrationFields, UserId},
    audit::{Event, Events, Filter},
    error::Error,
    factor::Binding,
    login::{Attempt, Completion, LoggedIn},
    password::Password,
    place::Places,
    session::{Client, SessionId, Sessions},
};

mod account;
mod admin;
mod api_key;
mod convert;
mod email;
mod factor;
mod others;
mod profiles;
mod watch;

pub use account::AccountApi;
pub use admin::AdminApi;
pub use api_key::ApiKeyApi;
pub use email::EmailApi;
pub use factor::FactorApi;
pub use others::Others;
pub use profiles::UserService;

/// `AuthService`, over the domain.
#[derive(Debug)]
pub struct AuthApi {
    /// Accounts and passwords.
    pub accounts: Accounts,
    /// Sessions and tokens.
    pub sessions: Arc<Sessions>,
    /// Where addresses are.
    pub places: Places,
}

impl AuthApi {
    /// Where a call comes from.
    fn client<T>(&self, request: &Request<T>) -> Client {
        self.client_of(request, None)
    }

    /// The same for a call whose message says it too.
    fn client_of<T>(&self, request: &Request<T>, info: Option<&pb::ClientInfo>) -> Client {
        let client = convert::client(request, info);
        Client { place: self.places.of(&client.ip_address), ..client }
    }
}

#[tonic::async_trait]
impl pb::auth_service_server::AuthService for AuthApi {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Answer<pb::RegisterResponse> {
        let client = self.client_of(&request, request.get_ref().client.as_ref());
        let message = request.into_inner();
        let fields = RegistrationFields {
            user_id: &message.user_id,
            username: &message.username,
            email: &message.email,
            first_name: &message.first_name,
            last_name: &message.last_name,
            invitation: &message.invitation,
        };
        let registration = Registration::parse(&fields, message.password, client).map_err(refuse)?;
        let registered = self.accounts.register(registration).await.map_err(Refusal::from);
        metrics::counter!("switchboard_auth_registrations_total", "outcome" => outcome(&registered)).increment(1);
        let (account, tokens) = registered?;
        let (account, tokens) = (Some(convert::account(account)), Some(convert::tokens(tokens)));
        Ok(Response::new(pb::RegisterResponse { account, tokens }))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Answer<pb::LoginResponse> {
        let client = self.client_of(&request, request.get_ref().client.as_ref());
        let (device, binding) =
            (convert::device(&request, &request.get_ref().device_id), Binding::of(&Visit::of(&request)));
        // Another's word is none: then the owner is told.
        let known = request.get_ref().known_device && identity::service(&request, &[ServiceName::Gateway]).is_ok();
        let message = request.into_inner();
        let mut violations = Violations::default();
        let login = violations.check(Login::parse("login", &message.login));
        let password = violations.check(Password::parse("password", message.password));
        let device = violations.check(device);
        let ((login, password), device) = convert::both(violations, login.zip(password), device)?;
        let attempt = Attempt { login, password: &password, device, known, binding };
        let logged_in = self.accounts.login(&attempt, &client).await.map_err(Refusal::from);
        let outcome = if let Ok(LoggedIn::Challenged(_)) = logged_in { "challenged" } else { outcome(&logged_in) };
        metrics::counter!("switchboard_auth_logins_total", "outcome" => outcome).increment(1);
        Ok(Response::new(match logged_in? {
            LoggedIn::Open(opened) => pb::LoginResponse {
                account: Some(convert::account(opened.account)),
                tokens: Some(convert::tokens(opened.tokens)),
                mfa: None,
                deletion_cancelled: opened.kept,
            },
            LoggedIn::Challenged(challenge) => {
                pb::LoginResponse { mfa: Some(convert::challenge(challenge)), ..Default::default() }
            }
        }))
    }

    async fn complete_login(&self, request: Request<pb::CompleteLoginRequest>) -> Answer<pb::CompleteLoginResponse> {
        let (client, binding) = (self.client(&request), Binding::of(&Visit::of(&request)));
        let message = request.get_ref();
        let mut violations = Violations::default();
        let code = violations.check(convert::code_field(&message.code));
        let device = violations.check(convert::device(&request, &message.device_id));
        let (code, device) = convert::both(violations, code, device)?;
        let remember = device.filter(|_| message.remember_device);
        let completion = Completion { ticket: &message.ticket, code, remember, binding };
        let logged_in = self.accounts.complete_login(&completion, &client).await.map_err(Refusal::from);
        metrics::counter!("switchboard_auth_logins_total", "outcome" => outcome(&logged_in)).increment(1);
        let opened = logged_in?;
        let (account, tokens) = (Some(convert::account(opened.account)), Some(convert::tokens(opened.tokens)));
        Ok(Response::new(pb::CompleteLoginResponse { account, tokens, deletion_cancelled: opened.kept }))
    }

    async fn refresh(&self, request: Request<pb::RefreshRequest>) -> Answer<pb::RefreshResponse> {
        let client = self.client(&request);
        let tokens = self.sessions.refresh(&request.get_ref().refresh_token, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::RefreshResponse { tokens: Some(convert::tokens(tokens)) }))
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Answer<pb::LogoutResponse> {
        let (user, session) = with_session(&request)?;
        match self.sessions.end(user, session, Event::SessionLogout, &self.client(&request)).await {
            // A session that is forgotten already is as over as one can be.
            Ok(()) | Err(Error::SessionNotFound) => Ok(Response::new(pb::LogoutResponse {})),
            Err(error) => Err(refuse(error)),
        }
    }

    async fn change_password(&self, request: Request<pb::ChangePasswordRequest>) -> Answer<pb::ChangePasswordResponse> {
        let (user, session) = with_session(&request)?;
        let client = self.client(&request);
        let message = request.into_inner();
        let mut violations = Violations::default();
        let current = violations.check(Password::parse("current_password", message.current_password));
        let new = violations.check(Password::parse_new("new_password", message.new_password));
        let (current, new) = convert::both(violations, current, new)?;
        let ended = self.accounts.change_password(user, session, &current, &new, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::ChangePasswordResponse { revoked_sessions: convert::count(ended) }))
    }

    async fn get_account(&self, request: Request<pb::GetAccountRequest>) -> Answer<pb::GetAccountResponse> {
        let user = UserId(identity::user(&request)?.user_id);
        let account = self.accounts.account(user).await.map_err(refuse)?;
        Ok(Response::new(pb::GetAccountResponse { account: Some(convert::account(account)) }))
    }

    async fn update_account(&self, request: Request<pb::UpdateAccountRequest>) -> Answer<pb::UpdateAccountResponse> {
        let user = UserId(identity::user(&request)?.user_id);
        let username = convert::new_username(user, request.get_ref())?;
        let account = if request.get_ref().validate_only {
            self.accounts.account(user).await
        } else {
            self.accounts.rename(user, &username, &self.client(&request)).await
        };
        let account = account.map_err(refuse)?;
        Ok(Response::new(pb::UpdateAccountResponse { account: Some(convert::account(account)) }))
    }

    async fn reauthenticate(&self, request: Request<pb::ReauthenticateRequest>) -> Answer<pb::ReauthenticateResponse> {
        let (user, session) = with_session(&request)?;
        let client = self.client(&request);
        let message = request.into_inner();
        let mut violations = Violations::default();
        let password = violations.check(match message.password {
            none if none.is_empty() => Ok(None),
            given => Password::parse("password", given).map(Some),
        });
        let code = violations.check(convert::code_or_none(&message.code));
        let (password, code) = convert::both(violations, password, code)?;
        let until = self.accounts.reauthenticate(user, session, password.as_ref(), code, &client).await;
        let until = until.map_err(refuse)?;
        Ok(Response::new(pb::ReauthenticateResponse { fresh_until_time: Some(until.into()) }))
    }

    async fn list_logins(&self, request: Request<pb::ListLoginsRequest>) -> Answer<pb::ListLoginsResponse> {
        let user = UserId(identity::user(&request)?.user_id);
        let message = request.get_ref();
        let page = convert::entry_page(message.page_size, &message.page_token)?;
        let filter = Filter { subject: Some(user), events: Events::logins(), ..Filter::default() };
        let found = self.accounts.store.audit(&filter, page.after, page.size + 1).await;
        let (entries, next_page_token) = convert::entries(found.map_err(|error| refuse(error.into()))?, page.size);
        let logins = entries.into_iter().map(convert::login_record).collect();
        Ok(Response::new(pb::ListLoginsResponse { logins, next_page_token }))
    }

    async fn list_sessions(&self, request: Request<pb::ListSessionsRequest>) -> Answer<pb::ListSessionsResponse> {
        let caller = identity::user(&request)?;
        let page = convert::session_page(request.get_ref())?;
        // One more than asked for tells whether there is a next page.
        let found = self.sessions.list(UserId(caller.user_id), page.after, page.size + 1).await.map_err(refuse)?;
        let current = caller.session_id.map(SessionId);
        Ok(Response::new(convert::sessions(found, page.size, current)))
    }

    async fn revoke_session(&self, request: Request<pb::RevokeSessionRequest>) -> Answer<pb::RevokeSessionResponse> {
        let user = UserId(identity::user(&request)?.user_id);
        let session = text::uuid("session_id", &request.get_ref().session_id).map_err(convert::violation)?;
        let client = self.client(&request);
        self.sessions.end(user, SessionId(session), Event::SessionRevoked, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::RevokeSessionResponse {}))
    }

    async fn revoke_other_sessions(
        &self,
        request: Request<pb::RevokeOtherSessionsRequest>,
    ) -> Answer<pb::RevokeOtherSessionsResponse> {
        let (user, session) = with_session(&request)?;
        self.sessions.require_fresh(session).await.map_err(refuse)?;
        let ended = self.sessions.end_others(user, session, &self.client(&request)).await.map_err(refuse)?;
        Ok(Response::new(pb::RevokeOtherSessionsResponse { revoked_sessions: convert::count(ended) }))
    }

    async fn get_jwks(&self, _: Request<pb::GetJwksRequest>) -> Answer<pb::GetJwksResponse> {
        Ok(Response::new(pb::GetJwksResponse { jwks_json: self.sessions.access.keys().jwks().to_owned() }))
    }

    async fn check_token(&self, request: Request<pb::CheckTokenRequest>) -> Answer<pb::CheckTokenResponse> {
        let message = request.get_ref();
        if message.session_id.is_empty() {
            let claims = self.sessions.check(&message.access_token).await.map_err(refuse)?;
            return Ok(Response::new(convert::checked_token(claims)));
        }
        identity::service(&request, &ServiceName::ALL)?;
        if !message.access_token.is_empty() {
            return Err(Refusal::field("session_id", "must be empty when access_token is given").into());
        }
        let id = text::uuid("session_id", &message.session_id).map_err(convert::violation)?;
        let (user, expires_at) = self.sessions.alive_or_key(SessionId(id)).await.map_err(refuse)?;
        let account = self.accounts.account(user).await.map_err(refuse)?;
        Ok(Response::new(convert::checked_session(id, account, expires_at)))
    }

    async fn check_api_key(&self, request: Request<pb::CheckApiKeyRequest>) -> Answer<pb::CheckApiKeyResponse> {
        identity::service(&request, &ServiceName::ALL)?;
        let (key, roles) = self.sessions.check_api_key(&request.get_ref().key).await.map_err(refuse)?;
        Ok(Response::new(api_key::checked(&key, roles)))
    }

    async fn spend_ws_token(&self, request: Request<pb::SpendWsTokenRequest>) -> Answer<pb::SpendWsTokenResponse> {
        identity::service(&request, &[ServiceName::Gateway])?;
        let spend = convert::ws_spend(request.get_ref())?;
        let spent = self.sessions.spend_ws(spend.jti, spend.user_id, spend.session_id, spend.expires_at).await;
        let (roles, session_ends) = spent.map_err(refuse)?;
        Ok(Response::new(pb::SpendWsTokenResponse { roles, session_expire_time: Some(session_ends.into()) }))
    }

    type WatchRevocationsStream = watch::Updates;

    async fn watch_revocations(
        &self,
        request: Request<pb::WatchRevocationsRequest>,
    ) -> Answer<Self::WatchRevocationsStream> {
        identity::service(&request, &ServiceName::ALL)?;
        let follower = self.sessions.feed.follow(request.get_ref().after).map_err(refuse)?;
        Ok(Response::new(watch::updates(self.sessions.access.follow_keys(), follower)))
    }
}

/// The caller and their session; who has none cannot end it or keep it.
fn with_session<T>(request: &Request<T>) -> Result<(UserId, SessionId), Refusal> {
    let caller = identity::user(request)?;
    let session = caller.session_id.ok_or_else(Refusal::unauthorized)?;
    Ok((UserId(caller.user_id), SessionId(session)))
}

/// What came of it, as a label: `ok`, or a code.
fn outcome<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().map_or_else(|refusal| refusal.reason.as_str(), |_| "ok")
}

fn refuse(error: Error) -> Status {
    Refusal::from(error).into()
}
