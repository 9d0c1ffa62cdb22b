//! For tests: a link that keeps what it is sent, and a mesh of in-process servers in the place of auth-svc and
//! message-svc, whose faults tests choose. `fake/messages.rs` is the room log.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mesh::{
    client::Resolve,
    config::{MeshConfig, ReplicasConfig},
    error::{Reason, Refusal},
    identity::UserCaller,
    proto::{
        auth::v1::{
            self as auth,
            auth_service_server::{AuthService, AuthServiceServer},
        },
        message::v1::{message_service_server::MessageServiceServer, send_service_server::SendServiceServer},
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
mod sends;

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
    fn send_all(&self, frames: &[Frame]) -> Result<(), Unsent> {
        let mut sent = self.0.frames.lock().expect("lock");
        if self.is_killed() || self.is_finished() {
            return Err(Unsent::Gone);
        }
        if sent.len() + frames.len() > self.0.places {
            return Err(Unsent::Full);
        }
        sent.extend(frames.iter().map(|frame| frame.as_str().to_owned()));
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
    (session_with(user_id, Arc::new(link.clone())), link)
}

/// A socket of this user on any link.
pub(super) fn session_with(user_id: Uuid, link: Arc<dyn Link>) -> Arc<Session> {
    static IDS: AtomicU64 = AtomicU64::new(0);
    let session_id = Uuid::now_v7();
    let caller =
        UserCaller { user_id, session_id: Some(session_id), roles: Vec::new(), expires: None, via: None, scopes: None };
    let (id, address) = (IDS.fetch_add(1, Ordering::Relaxed), IpAddr::V4(Ipv4Addr::LOCALHOST));
    Arc::new(Session::new(id, "sid", caller, session_id, address, link))
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
        complete_login: auth::CompleteLoginRequest => auth::CompleteLoginResponse,
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
        check_api_key: auth::CheckApiKeyRequest => auth::CheckApiKeyResponse,
        watch_revocations: auth::WatchRevocationsRequest => Stream<auth::WatchRevocationsResponse>,
    }
}

/// An edge whose services are fakes.
pub(super) struct FakeMesh {
    pub(super) edge: Arc<Edge>,
    pub(super) auth: FakeAuth,
    pub(super) messages: FakeMessages,
    /// What the name of message-svc stands for, and who answers there.
    pub(super) ring: Mutex<FakeRing>,
    names: Arc<FakeNames>,
    _auth_server: FakeServer,
    _data: tempfile::TempDir,
}

/// The replicas of message-svc that run, by their numbers.
pub(super) type FakeRing = BTreeMap<usize, FakeServer>;

/// A name server that says what the test wants.
#[derive(Debug, Default)]
struct FakeNames(Mutex<Vec<SocketAddr>>);

#[async_trait::async_trait]
impl Resolve for FakeNames {
    async fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(self.0.lock().expect("lock").clone())
    }
}

/// A server in a runtime of its own: when that goes, all its connections break as those of a killed process do.
pub(super) struct FakeServer {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl FakeServer {
    fn start(address: SocketAddr, routes: tonic::service::Routes) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = std::net::TcpListener::bind(address).expect("port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("address");
        runtime.spawn(async move {
            let (reporter, health) = tonic_health::server::health_reporter();
            reporter.set_serving::<MessageServiceServer<FakeMessages>>().await;
            let listener = TcpListener::from_std(listener).expect("a socket");
            let server = Server::builder().add_routes(routes).add_service(health);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        Self { address, runtime: Some(runtime) }
    }
}

impl FakeServer {
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        self.address == address
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Any port of this machine.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl FakeMesh {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let mesh = Self::start_many(1, change);
        mesh.edge.clients.message_replicas().known().await;
        mesh
    }

    /// With so many replicas of message-svc, numbered from 0.
    pub(super) fn start_many(replicas: usize, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let (data, names) = (tempfile::tempdir().expect("folder"), Arc::new(FakeNames::default()));
        let auth = FakeAuth::default();
        let auth_server = FakeServer::start(ANY, tonic::service::Routes::new(AuthServiceServer::new(auth.clone())));
        let mesh = MeshConfig {
            data: data.path().to_owned(),
            auth_url: format!("http://{}", auth_server.address),
            message_url: "http://messages.example:50002".into(),
            replicas: ReplicasConfig { resolve_ms: 100, check_ms: 200, silence_ms_max: 1_000 },
            ..MeshConfig::default()
        };
        let (messages, mut ring) = (FakeMessages::default(), FakeRing::new());
        for number in 0..replicas {
            ring.insert(number, Self::serve(&messages, number, ANY));
        }
        *names.0.lock().expect("lock") = ring.values().map(|server| server.address).collect();
        let mut gateway = GatewayConfig::default();
        change(&mut gateway);
        let resolver = Arc::clone(&names) as Arc<dyn Resolve>;
        let edge = Edge::new(Config { mesh, gateway }, &resolver).expect("keys");
        Self { edge, auth, messages, ring: Mutex::new(ring), names, _auth_server: auth_server, _data: data }
    }

    fn serve(messages: &FakeMessages, number: usize, address: SocketAddr) -> FakeServer {
        let routes = tonic::service::Routes::new(MessageServiceServer::new(messages.replica(number)))
            .add_service(SendServiceServer::new(messages.replica(number)));
        FakeServer::start(address, routes)
    }

    /// A replica of this number comes, and the name stands for it too.
    pub(super) fn add(&self, number: usize) {
        let server = Self::serve(&self.messages, number, ANY);
        self.names.0.lock().expect("lock").push(server.address);
        self.ring.lock().expect("lock").insert(number, server);
    }

    /// The name stands for a replica no more, which runs on.
    pub(super) fn unname(&self, number: usize) {
        let address = self.address(number);
        self.names.0.lock().expect("lock").retain(|one| *one != address);
    }

    /// A replica is killed; its name stays. Where it was is what [`FakeMesh::revive`] needs.
    pub(super) fn kill(&self, number: usize) -> SocketAddr {
        self.ring.lock().expect("lock").remove(&number).expect("it runs").address
    }

    /// It is there again.
    pub(super) fn revive(&self, number: usize, address: SocketAddr) {
        self.ring.lock().expect("lock").insert(number, Self::serve(&self.messages, number, address));
    }

    fn address(&self, number: usize) -> SocketAddr {
        self.ring.lock().expect("lock")[&number].address
    }

    pub(super) fn hub(&self) -> Arc<Hub> {
        Hub::new(Arc::clone(&self.edge))
    }
}
