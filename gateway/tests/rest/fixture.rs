//! A whole mesh in this process, on ports and in a folder of its own, and a client that speaks to its gateway.

use std::{net::Ipv4Addr, time::Duration};

use gateway::GatewayConfig;
use mesh::{
    config::{MeshConfig, Profile},
    serve::{Listeners, bind},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Far more than anything here takes; nothing is asserted about it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The password of everybody here.
pub(crate) const PASSWORD: &str = "correct horse";

/// A running mesh.
pub(crate) struct Mesh {
    pub(crate) url: String,
    pub(crate) ops_url: String,
    /// Where message-svc is.
    pub(crate) message_url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) stop: CancellationToken,
    pub(crate) served: tokio::task::JoinHandle<Result<(), gateway::ServeError>>,
    _stop_at_end: DropGuard,
    _data: TempDir,
}

/// An answer that has been read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

/// A user who has registered.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) refresh_token: String,
}

pub(crate) async fn port() -> TcpListener {
    bind("a test", (Ipv4Addr::LOCALHOST, 0).into(), "NONE").await.expect("port")
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().expect("address"))
}

async fn listeners() -> Listeners {
    Listeners { grpc: port().await, ops: port().await }
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| ()).await
    }

    /// Starts everything; `change` may set what it wants to have different. A service whose URL it sets is not started.
    pub(crate) async fn start_with(change: impl FnOnce(&mut MeshConfig, &mut GatewayConfig)) -> Self {
        let data = tempfile::tempdir().expect("folder");
        let mut mesh = MeshConfig { data: data.path().to_owned(), ..MeshConfig::default() };
        mesh.telemetry.filter = "off".into();
        // Nobody else is to be asked meanwhile.
        mesh.shutdown.notice_ms = 0;
        let (auth, user, message) = (listeners().await, listeners().await, listeners().await);
        (mesh.auth_url, mesh.user_url, mesh.message_url) = (url(&auth.grpc), url(&user.grpc), url(&message.grpc));
        let mut gateway = GatewayConfig::default();
        change(&mut mesh, &mut gateway);
        if mesh.profile == Profile::Production {
            mesh::keys::init(&mesh.data).expect("keys");
        }

        let stop = CancellationToken::new();
        if mesh.auth_url == url(&auth.grpc) {
            let mut config = auth_svc::Config { mesh: mesh.clone(), ..auth_svc::Config::default() };
            // What it costs is not tested here.
            (config.auth.argon2_memory_kib, config.auth.argon2_passes) = (8 * 1024, 1);
            tokio::spawn(auth_svc::serve(config, auth, stop.clone()));
        }
        let config = user_svc::Config { mesh: mesh.clone(), ..user_svc::Config::default() };
        tokio::spawn(user_svc::serve(config, user, stop.clone()));
        if mesh.message_url == url(&message.grpc) {
            let config =
                message_svc::Config { mesh: mesh.clone(), message: message_svc::config::MessageSection::default() };
            tokio::spawn(message_svc::serve(config, message, stop.clone()));
        }
        let listeners = gateway::Listeners { public: port().await, ops: port().await };
        let (url, ops_url) = (url(&listeners.public), url(&listeners.ops));
        let message_url = mesh.message_url.clone();
        let served = tokio::spawn(gateway::serve(gateway::Config { mesh, gateway }, listeners, stop.clone()));
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        let http = http.build().expect("client");
        Self { url, ops_url, message_url, http, _stop_at_end: stop.clone().drop_guard(), stop, served, _data: data }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A call without a user.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path);
        answer(if body.is_null() { request } else { request.json(body) }).await
    }

    /// A call of a user's.
    pub(crate) async fn by(&self, who: &Person, method: &str, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path).bearer_auth(&who.token);
        answer(if body.is_null() { request } else { request.json(body) }).await
    }

    pub(crate) async fn get(&self, who: &Person, path: &str) -> Answer {
        self.by(who, "GET", path, &Value::Null).await
    }

    /// Somebody new. The first call waits until the gateway knows auth-svc's keys, as a load balancer would.
    pub(crate) async fn person(&self, username: &str) -> Person {
        let new = json!({"username": username, "email": format!("{username}@example.com"), "password": PASSWORD});
        let answer = eventually(async || {
            let answer = self.call("POST", "/api/auth/register", &new).await;
            (answer.status != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
        })
        .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let person = Person {
            id: text(&answer.body["user"]["id"]),
            token: text(&answer.body["accessToken"]),
            refresh_token: text(&answer.body["refreshToken"]),
        };
        eventually(async || {
            let answer = self.get(&person, "/api/auth/profile").await;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
        person
    }

    /// A room of somebody's.
    pub(crate) async fn room(&self, owner: &Person, room_type: &str) -> String {
        let answer = self.by(owner, "POST", "/api/rooms", &json!({"name": "Engines", "roomType": room_type})).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.body["room"]["id"].as_str().expect("id").to_owned()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("body");
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
    Answer { status, headers, body }
}

/// Polls until there is something.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.expect("it came about")
}

impl Answer {
    /// Whether it is an error object of this code, with everything that such an object has.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> &Self {
        let id = self.headers.get("x-request-id").expect("id").to_str().expect("text");
        let body = &self.body;
        assert_eq!((self.status.as_u16(), body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!((&body["success"], &body["statusCode"]), (&json!(false), &json!(status)), "{self:?}");
        assert_eq!(body["requestId"].as_str(), Some(id), "{self:?}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, message: &str) -> &Self {
        assert_eq!(self.body["message"], message, "{self:?}");
        self
    }

    /// The fields that were refused.
    pub(crate) fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().expect("text")).collect()
    }

    #[track_caller]
    pub(crate) fn good(&self, status: u16) -> &Self {
        assert_eq!((self.status.as_u16(), &self.body["success"]), (status, &json!(true)), "{self:?}");
        self
    }
}
