//! A running auth-svc with its data folder, a user-svc, and the callers that tests play: a user with a token, a gateway,
//! a stranger.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auth_svc::{Config, ServeError};
use mesh::{
    config::Loader,
    error::{Reason, Refusal},
    identity::{Identity, ServiceName},
    proto::auth::v1::{self as pb, auth_service_client::AuthServiceClient},
    serve::Listeners,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Channel};

use crate::users::Users;

/// How long a test waits for what must happen; generous, since nothing is measured by it.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A password that is good.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Passwords as cheap as the settings allow, and news delivered soon.
const SETTINGS: &str = "
[mesh.shutdown]
notice_ms = 0
[mesh.telemetry]
filter = \"off\"
[auth]
argon2_memory_kib = 7168
argon2_passes = 1
outbox_poll_ms = 20
outbox_retry_ms_max = 50
revocation_poll_ms = 50
";

/// A data folder and the services around it; auth-svc may come and go.
pub(crate) struct Setup {
    pub(crate) data: TempDir,
    pub(crate) users: Users,
    users_addr: SocketAddr,
    pub(crate) gateway: Arc<Identity>,
    settings: String,
    shutdown: CancellationToken,
}

impl Setup {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With lines for the section `auth`.
    pub(crate) async fn with(auth: &str) -> Self {
        let data = tempfile::tempdir().expect("folder");
        let shutdown = CancellationToken::new();
        let settings = format!("{SETTINGS}{auth}");
        let mut loader = Loader::for_test(&settings);
        let mut config = Config::load(&mut loader).mesh;
        loader.finish().expect("good settings");
        config.data = data.path().to_owned();
        let users = Users::default();
        let users_addr = users.serve(&config, shutdown.clone()).await;
        let gateway = Identity::new(ServiceName::Gateway, &config).expect("a key");
        Self { data, users, users_addr, gateway, settings, shutdown }
    }

    /// From the next start on, with more lines for the section `auth`.
    pub(crate) fn add(&mut self, auth: &str) {
        self.settings = format!("{}{auth}\n", self.settings);
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::load(&mut Loader::for_test(&self.settings));
        config.mesh.data = self.data.path().to_owned();
        config.mesh.user_url = format!("http://{}", self.users_addr);
        config
    }

    /// Starts an auth-svc on this folder.
    pub(crate) async fn start(&self) -> Auth {
        let listeners = Listeners {
            grpc: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            ops: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
        };
        let grpc = listeners.grpc.local_addr().expect("an address");
        let ops = listeners.ops.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(auth_svc::serve(self.config(), listeners, shutdown.clone()));
        let endpoint = Channel::from_shared(format!("http://{grpc}")).expect("a URL");
        let channel = endpoint.connect_lazy();
        let client = AuthServiceClient::new(channel.clone());
        Auth { client, channel, ops, shutdown, task }
    }

    /// The gateway's own word.
    pub(crate) fn gateway_bearer(&self) -> Arc<str> {
        self.gateway.assertion(ServiceName::Auth, None)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A running auth-svc.
pub(crate) struct Auth {
    client: AuthServiceClient<Channel>,
    channel: Channel,
    pub(crate) ops: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Auth {
    pub(crate) fn client(&self) -> AuthServiceClient<Channel> {
        self.client.clone()
    }

    /// For its other services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let stopped = tokio::time::timeout(LONG, self.task).await.expect("it ends");
        stopped.expect("no panic").expect("a clean end");
    }

    pub(crate) async fn register(&self, name: &str) -> Member {
        let response = self.client().register(registration(name)).await.expect("registered").into_inner();
        Member::new(response.account, response.tokens)
    }

    pub(crate) async fn login(&self, login: &str) -> Member {
        let request = login_request(login, PASSWORD);
        let response = self.client().login(request).await.expect("logged in").into_inner();
        Member::new(response.account, response.tokens)
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<pb::Tokens, Reason> {
        let request = pb::RefreshRequest { refresh_token: token.to_owned() };
        let response = self.client().refresh(request).await;
        response.map(|response| response.into_inner().tokens.expect("tokens")).map_err(|status| reason(&status))
    }

    pub(crate) async fn check(&self, token: &str) -> Result<pb::CheckTokenResponse, Reason> {
        let request = pb::CheckTokenRequest { access_token: token.to_owned(), session_id: String::new() };
        self.client().check_token(request).await.map(tonic::Response::into_inner).map_err(|status| reason(&status))
    }
}

/// Somebody with a session.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) account: pb::Account,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Member {
    fn new(account: Option<pb::Account>, tokens: Option<pb::Tokens>) -> Self {
        let tokens = tokens.expect("tokens");
        Self { account: account.expect("an account"), access: tokens.access_token, refresh: tokens.refresh_token }
    }

    /// A request in the member's own name.
    pub(crate) fn says<T>(&self, message: T) -> Request<T> {
        with_bearer(message, &self.access)
    }
}

pub(crate) fn with_bearer<T>(message: T, bearer: &str) -> Request<T> {
    mesh::client::request(message, bearer, LONG)
}

pub(crate) fn registration(name: &str) -> pb::RegisterRequest {
    pb::RegisterRequest {
        username: name.to_owned(),
        email: format!("{name}@example.org"),
        password: PASSWORD.to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Lovelace".to_owned(),
        client: None,
        user_id: String::new(),
        invitation: String::new(),
    }
}

pub(crate) fn login_request(login: &str, password: &str) -> pb::LoginRequest {
    pb::LoginRequest { login: login.to_owned(), password: password.to_owned(), ..Default::default() }
}

pub(crate) fn reason(status: &Status) -> Reason {
    Refusal::from_status(status).reason
}

/// The fields that a refusal names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    Refusal::from_status(status).violations.into_iter().map(|violation| violation.field).collect()
}

/// Asks again and again until it is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, poll).await.unwrap_or_else(|_| panic!("it never came: {what}"));
}
