//! For tests: a link that keeps what it is sent, and a mesh of in-process servers in the place of auth-svc and
//! message-svc, whose faults tests choose. `fake/messages.rs` is the room log.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mesh::{
    config::MeshConfig,
    error::{Reason, Refusal},
    identity::UserCaller,
    proto::{
        auth::v1::{
            self as auth,
            auth_service_server::{AuthService, AuthServiceServer},
        },
        message::v1::message_service_server::MessageServiceServer,
    },
    time::Millis,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use uuid::Uuid;

use super::{
    hub::Hub,
    packet::Frame,
    session::{Link, Session, Unsent},
};
use crate::{
    config::{Config, GatewayConfig},
    edge::Edge,
};

mod messages;

pub(super) use messages::FakeMessages;

#[derive(Default)]
struct Sent {
    frames: Mutex<Vec<String>>,
    places: usize,
    killed: AtomicBool,
    finished: AtomicBool,
}

/// A link that keeps what it is sent, as much as it has places for.
#[derive(Clone)]
pub(super) struct FakeLink(Arc<Sent>);

impl FakeLink {
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Sent { places, ..Sent::default() }))
    }

    /// What has been sent since the last look; there is place for more then.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.frames.lock().expect("lock"))
    }

    pub(super) fn is_killed(&self) -> bool {
        self.0.killed.load(Ordering::SeqCst)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.finished.load(Ordering::SeqCst)
    }
}

impl Link for FakeLink {
    fn send(&self, frame: Frame) -> Result<(), Unsent> {
        let mut frames = self.0.frames.lock().expect("lock");
        if self.is_killed() || self.is_finished() {
            return Err(Unsent::Gone);
        }
        if frames.len() >= self.0.places {
            return Err(Unsent::Full);
        }
        frames.push(frame.as_str().to_owned());
        Ok(())
    }

    fn kill(&self) {
        self.0.killed.store(true, Ordering::SeqCst);
    }

    fn finish(&self) {
        self.0.finished.store(true, Ordering::SeqCst);
    }
}

/// A socket of a new user on this link.
pub(super) fn session(link: FakeLink) -> (Arc<Session>, FakeLink) {
    session_of(Uuid::now_v7(), link)
}

/// A socket of this user on this link.
pub(super) fn session_of(user_id: Uuid, link: FakeLink) -> (Arc<Session>, FakeLink) {
    static IDS: AtomicU64 = AtomicU64::new(0);
    let session_id = Uuid::now_v7();
    let caller = UserCaller { user_id, session_id: Some(session_id), roles: Vec::new(), expires: None, via: None };
    let (id, address) = (IDS.fetch_add(1, Ordering::Relaxed), IpAddr::V4(Ipv4Addr::LOCALHOST));
    (Arc::new(Session::new(id, "sid", caller, session_id, address, Arc::new(link.clone()))), link)
}

/// auth-svc, as far as sockets need it: each token once, and not of the sessions that have ended.
#[derive(Clone, Default)]
pub(super) struct FakeAuth {
    spent: Arc<Mutex<HashSet<String>>>,
    live: Arc<Mutex<HashMap<String, Millis>>>,
}

impl FakeAuth {
    /// A session that is asked about lives until then; any other one has expired.
    pub(super) fn live_until(&self, session: Uuid, at: Millis) {
        self.live.lock().expect("lock").insert(session.to_string(), at);
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

macro_rules! answers_nothing {
    ($($name:ident: $request:ty => $response:ty),* $(,)?) => {
        $(fn $name<'a, 'b>(
            &'a self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::unimplemented("not part of this test")) })
        })*
    };
}
pub(super) use answers_nothing;

impl AuthService for FakeAuth {
    type WatchRevocationsStream = Stream<auth::WatchRevocationsResponse>;

    fn spend_ws_token<'a, 'b>(
        &'a self,
        request: Request<auth::SpendWsTokenRequest>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Answer<auth::SpendWsTokenResponse>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let new = self.spent.lock().expect("lock").insert(request.into_inner().jti);
        Box::pin(async move {
            match new {
                true => {
                    let roles = vec!["user".into()];
                    Ok(Response::new(auth::SpendWsTokenResponse { roles, session_expire_time: None }))
                }
                false => Err(Refusal::new(Reason::TokenSpent, "Unauthorized").into()),
            }
        })
    }

    fn check_token<'a, 'b>(
        &'a self,
        request: Request<auth::CheckTokenRequest>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Answer<auth::CheckTokenResponse>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let until = self.live.lock().expect("lock").get(&request.into_inner().session_id).copied();
        Box::pin(async move {
            match until {
                Some(at) => {
                    let expire_time = Some(at.into());
                    Ok(Response::new(auth::CheckTokenResponse { expire_time, ..Default::default() }))
                }
                None => Err(Refusal::new(Reason::TokenExpired, "Unauthorized").into()),
            }
        })
    }

    answers_nothing! {
        register: auth::RegisterRequest => auth::RegisterResponse,
        login: auth::LoginRequest => auth::LoginResponse,
        refresh: auth::RefreshRequest => auth::RefreshResponse,
        logout: auth::LogoutRequest => auth::LogoutResponse,
        change_password: auth::ChangePasswordRequest => auth::ChangePasswordResponse,
        list_sessions: auth::ListSessionsRequest => auth::ListSessionsResponse,
        revoke_session: auth::RevokeSessionRequest => auth::RevokeSessionResponse,
        revoke_other_sessions: auth::RevokeOtherSessionsRequest => auth::RevokeOtherSessionsResponse,
        get_account: auth::GetAccountRequest => auth::GetAccountResponse,
        update_account: auth::UpdateAccountRequest => auth::UpdateAccountResponse,
        get_jwks: auth::GetJwksRequest => auth::GetJwksResponse,
        reauthenticate: auth::ReauthenticateRequest => auth::ReauthenticateResponse,
        list_logins: auth::ListLoginsRequest => auth::ListLoginsResponse,
        watch_revocations: auth::WatchRevocationsRequest => Stream<auth::WatchRevocationsResponse>,
    }
}

/// An edge whose services are fakes.
pub(super) struct FakeMesh {
    pub(super) edge: Arc<Edge>,
    pub(super) auth: FakeAuth,
    pub(super) messages: FakeMessages,
    _data: tempfile::TempDir,
}

impl FakeMesh {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let data = tempfile::tempdir().expect("folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let (auth, messages) = (FakeAuth::default(), FakeMessages::default());
        let server = Server::builder()
            .add_service(MessageServiceServer::new(messages.clone()))
            .add_service(AuthServiceServer::new(auth.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let mesh = MeshConfig {
            data: data.path().to_owned(),
            auth_url: url.clone(),
            message_url: url,
            ..MeshConfig::default()
        };
        let mut gateway = GatewayConfig::default();
        change(&mut gateway);
        let edge = Edge::new(Config { mesh, gateway }).expect("keys");
        Self { edge, auth, messages, _data: data }
    }

    pub(super) fn hub(&self) -> Arc<Hub> {
        Hub::new(Arc::clone(&self.edge))
    }
}
