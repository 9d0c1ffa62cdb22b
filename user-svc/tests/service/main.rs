//! The service as others meet it: over gRPC on a port of its own, with assertions that another service's `Identity`
//! makes from the data folder that both share. What a profile is made of is tested beside the code.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use mesh::{
    client::{self, Clients, Route},
    config::MeshConfig,
    error::{Reason, Refusal},
    identity::{Identity, ServiceName, UserCaller},
    proto::user::v1::{
        BatchGetUsersRequest, CreateUserRequest, GetUserRequest, SetUsernameRequest, UpdateUserRequest, User,
        user_service_client::UserServiceClient,
    },
    serve::{Listeners, bind},
    text,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use user_svc::{Config, ServeError, UserSection};
use uuid::Uuid;

mod replicas;

/// Far more than anything here takes; nothing is asserted about it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running service with two others that call it.
struct Fixture {
    client: UserServiceClient<Route>,
    auth: Arc<Identity>,
    gateway: Arc<Identity>,
    ops_port: u16,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
    config: Config,
    data: Arc<TempDir>,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(UserSection::default()).await
    }

    async fn with(user: UserSection) -> Self {
        let data = Arc::new(tempfile::tempdir().expect("folder"));
        let mut mesh = MeshConfig { data: data.path().to_owned(), ..MeshConfig::default() };
        // Nobody else is to be asked meanwhile.
        mesh.shutdown.notice_ms = 0;
        // Nobody is there: what is tested needs no session.
        mesh.auth_url = "http://127.0.0.1:9".into();
        mesh.telemetry.filter = "error".into();
        let auth = Identity::new(ServiceName::Auth, &mesh).expect("key");
        let gateway = Identity::new(ServiceName::Gateway, &mesh).expect("key");
        Self::serve(Config { mesh, user }, auth, gateway, data).await
    }

    /// Another replica beside this one: the same settings and the same data folder, on other ports.
    async fn another(&self) -> Self {
        Self::serve(self.config.clone(), self.auth.clone(), self.gateway.clone(), self.data.clone()).await
    }

    async fn serve(mut config: Config, auth: Arc<Identity>, gateway: Arc<Identity>, data: Arc<TempDir>) -> Self {
        let listeners = listeners().await;
        config.mesh.user_url = format!("http://{}", listeners.grpc.local_addr().expect("address"));
        let ops_port = listeners.ops.local_addr().expect("address").port();
        let client = Clients::connect(&config.mesh, None).user();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(user_svc::serve(config.clone(), listeners, shutdown.clone()));
        Self { client, auth, gateway, ops_port, shutdown, served, config, data }
    }

    /// As auth-svc.
    fn auth<T>(&self, message: T) -> Request<T> {
        client::request(message, &self.auth.assertion(ServiceName::User, None), PATIENCE)
    }

    /// As the gateway for itself.
    fn gateway<T>(&self, message: T) -> Request<T> {
        client::request(message, &self.gateway.assertion(ServiceName::User, None), PATIENCE)
    }

    /// As a user, for whom the gateway speaks.
    fn user<T>(&self, id: Uuid, message: T) -> Request<T> {
        let user = UserCaller {
            user_id: id,
            session_id: None,
            roles: vec!["user".into()],
            expires: None,
            via: None,
            scopes: None,
        };
        client::request(message, &self.gateway.assertion(ServiceName::User, Some(&user)), PATIENCE)
    }

    async fn person(&self, username: &str) -> Uuid {
        let id = Uuid::now_v7();
        let request = CreateUserRequest {
            user_id: id.to_string(),
            username: username.into(),
            username_version: 1,
            first_name: "Ada".into(),
            last_name: "Lovelace".into(),
        };
        self.client.clone().create_user(self.auth(request)).await.expect("made");
        id
    }

    async fn get(&self, caller: Uuid, whom: Uuid) -> User {
        let request = self.user(caller, GetUserRequest { user_id: whom.to_string() });
        self.client.clone().get_user(request).await.expect("answered").into_inner().user.expect("there")
    }

    async fn update(&self, caller: Uuid, user: User, paths: &[&str]) -> Result<User, Status> {
        let response = self.client.clone().update_user(self.user(caller, change(user, paths))).await?;
        Ok(response.into_inner().user.expect("there"))
    }

    async fn batch(&self, caller: Uuid, ids: &[Uuid]) -> Vec<User> {
        let user_ids = ids.iter().map(Uuid::to_string).collect();
        let request = self.user(caller, BatchGetUsersRequest { user_ids });
        self.client.clone().batch_get_users(request).await.expect("answered").into_inner().users
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.served.await.expect("no panic").expect("stopped in order");
    }
}

async fn listeners() -> Listeners {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    Listeners {
        grpc: bind("a test", any, "NONE").await.expect("port"),
        ops: bind("a test", any, "NONE").await.expect("port"),
    }
}

fn change(user: User, paths: &[&str]) -> UpdateUserRequest {
    let mut request = UpdateUserRequest { user: Some(user), ..Default::default() };
    request.update_mask.get_or_insert_default().paths = paths.iter().map(ToString::to_string).collect();
    request
}

fn refusal<T>(result: Result<Response<T>, Status>) -> Refusal {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(status) => Refusal::from_status(&status),
    }
}

fn reason<T>(result: Result<Response<T>, Status>) -> Reason {
    refusal(result).reason
}

fn fields(refusal: &Refusal) -> Vec<&str> {
    assert_eq!(refusal.reason, Reason::ValidationFailed);
    refusal.violations.iter().map(|violation| violation.field.as_str()).collect()
}

/// What the operations port answers to a GET.
async fn operations(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_are_there() {
    let mesh = Fixture::start().await;
    mesh.person("ada").await;
    let endpoint = Endpoint::from_shared(mesh.config.mesh.user_url.clone()).expect("URL");
    let mut health = HealthClient::new(endpoint.connect().await.expect("connected"));
    let request = HealthCheckRequest { service: "switchboard.user.v1.UserService".into() };
    let status = health.check(request).await.expect("answered").into_inner().status;
    assert_eq!(status, i32::from(ServingStatus::Serving));

    let ready = operations(mesh.ops_port, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"store\""), "{ready}");
    let health = operations(mesh.ops_port, "/health").await;
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("user-svc"), "{health}");
    let metrics = operations(mesh.ops_port, "/metrics").await;
    assert!(metrics.contains("CreateUser"), "{metrics}");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_seen_by_others_without_preferences_and_by_its_owner_with_them() {
    let mesh = Fixture::start().await;
    let (ada, eve) = (mesh.person("ada").await, mesh.person("eve").await);
    let preferences = text::struct_from_json(serde_json::json!({"theme": "dark"}).as_object().expect("object"));
    let user = User { bio: "Notes".into(), preferences: Some(preferences.clone()), ..User::default() };
    let changed = mesh.update(ada, user, &["bio", "preferences"]).await.expect("changed");
    assert_eq!(changed.preferences.as_ref(), Some(&preferences));
    assert!(changed.update_time.as_ref().map(|at| at.seconds) >= changed.create_time.as_ref().map(|at| at.seconds));

    assert_eq!(mesh.get(ada, ada).await, changed);
    let seen = User { preferences: None, ..changed };
    assert_eq!(mesh.get(eve, ada).await, seen);
    assert_eq!((seen.username.as_str(), seen.name.as_str(), seen.bio.as_str()), ("ada", "Ada Lovelace", "Notes"));
    assert_eq!(mesh.batch(ada, &[ada]).await, std::slice::from_ref(&seen));
    // A service looks people up for itself, and is nobody's owner.
    let request = mesh.gateway(GetUserRequest { user_id: ada.to_string() });
    assert_eq!(mesh.client.clone().get_user(request).await.expect("answered").into_inner().user, Some(seen.clone()));
    let request = mesh.gateway(BatchGetUsersRequest { user_ids: vec![ada.to_string()] });
    assert_eq!(mesh.client.clone().batch_get_users(request).await.expect("answered").into_inner().users, [seen]);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_comes_in_the_order_asked_each_person_once_and_missing_ones_left_out() {
    let mesh = Fixture::start().await;
    let mut people = Vec::new();
    for number in 0..10 {
        people.push(mesh.person(&format!("user{number}")).await);
    }
    let missing = Uuid::now_v7();
    let asked = [people[7], missing, people[2], people[7], people[9], people[0], people[2]];
    let names: Vec<_> = mesh.batch(people[0], &asked).await.into_iter().map(|user| user.username).collect();
    assert_eq!(names, ["user7", "user2", "user9", "user0"]);
    assert_eq!(mesh.batch(people[0], &[]).await, []);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn making_a_profile_is_for_auth_svc_alone_and_may_be_repeated() {
    let mesh = Fixture::start().await;
    let mut client = mesh.client.clone();
    let request = CreateUserRequest {
        user_id: Uuid::now_v7().to_string(),
        username: "ada".into(),
        username_version: 1,
        first_name: String::new(),
        last_name: String::new(),
    };
    let rename =
        SetUsernameRequest { user_id: request.user_id.clone(), username: "countess".into(), username_version: 2 };
    let user = Uuid::now_v7();
    assert_eq!(reason(client.create_user(request.clone()).await), Reason::Unauthorized);
    assert_eq!(reason(client.create_user(mesh.user(user, request.clone())).await), Reason::Forbidden);
    assert_eq!(reason(client.create_user(mesh.gateway(request.clone())).await), Reason::Forbidden);
    assert_eq!(reason(client.set_username(rename.clone()).await), Reason::Unauthorized);
    assert_eq!(reason(client.set_username(mesh.user(user, rename.clone())).await), Reason::Forbidden);
    assert_eq!(reason(client.set_username(mesh.gateway(rename.clone())).await), Reason::Forbidden);

    let first = client.create_user(mesh.auth(request.clone())).await.expect("made").into_inner().user.expect("user");
    assert_eq!((first.name.as_str(), &first.preferences), ("ada", &None));
    let again = CreateUserRequest { first_name: "Eve".into(), ..request.clone() };
    assert_eq!(client.create_user(mesh.auth(again)).await.expect("answered").into_inner().user, Some(first));

    client.set_username(mesh.auth(rename)).await.expect("renamed");
    let old = SetUsernameRequest { user_id: request.user_id.clone(), username: "older".into(), username_version: 1 };
    client.set_username(mesh.auth(old)).await.expect("taken in");
    let id = text::uuid("id", &request.user_id).expect("id");
    assert_eq!(mesh.get(id, id).await.username, "countess");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_editors_of_different_fields_both_keep_their_change() {
    let mesh = Fixture::start().await;
    let ada = mesh.person("ada").await;
    for round in 0..20 {
        let one = User { bio: format!("Notes {round}"), ..User::default() };
        // A client sends back all that it has seen; what the mask does not name is not looked at.
        let other = User { last_name: format!("King {round}"), bio: "stale".into(), ..User::default() };
        let (one, other) = tokio::join!(mesh.update(ada, one, &["bio"]), mesh.update(ada, other, &["last_name"]));
        one.expect("changed");
        other.expect("changed");
        let after = mesh.get(ada, ada).await;
        assert_eq!((after.bio, after.name), (format!("Notes {round}"), format!("Ada King {round}")));
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_changed_by_its_owner_alone() {
    let mesh = Fixture::start().await;
    let (ada, eve) = (mesh.person("ada").await, mesh.person("eve").await);
    let mut client = mesh.client.clone();
    let theft = change(User { id: ada.to_string(), bio: "Eve was here".into(), ..User::default() }, &["bio"]);
    assert_eq!(reason(client.update_user(theft.clone()).await), Reason::Unauthorized);
    assert_eq!(reason(client.update_user(mesh.user(eve, theft.clone())).await), Reason::Forbidden);
    // A service for itself is no user.
    assert_eq!(reason(client.update_user(mesh.gateway(theft.clone())).await), Reason::Unauthorized);
    assert_eq!(mesh.get(eve, ada).await.bio, "");
    client.update_user(mesh.user(ada, theft)).await.expect("one's own id may stand there");
    let nobody = Uuid::now_v7();
    let request = mesh.user(nobody, change(User::default(), &["bio"]));
    assert_eq!(reason(client.update_user(request).await), Reason::UserNotFound);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_with_its_field_and_changes_nothing() {
    let mesh = Fixture::start().await;
    let ada = mesh.person("ada").await;
    let before = mesh.get(ada, ada).await;
    let mut client = mesh.client.clone();

    for bad in ["", "42", "0198c0de000070008000000000000001", "\0"] {
        let request = mesh.user(ada, GetUserRequest { user_id: bad.into() });
        assert_eq!(fields(&refusal(client.get_user(request).await)), ["user_id"]);
    }
    let request = mesh.user(ada, GetUserRequest { user_id: Uuid::now_v7().to_string() });
    assert_eq!(reason(client.get_user(request).await), Reason::UserNotFound);
    assert_eq!(reason(client.get_user(GetUserRequest { user_id: ada.to_string() }).await), Reason::Unauthorized);
    assert_eq!(reason(client.batch_get_users(BatchGetUsersRequest::default()).await), Reason::Unauthorized);

    let mut user_ids: Vec<_> = (0..5).map(|_| ada.to_string()).collect();
    user_ids[3] = "nobody".into();
    let request = mesh.user(ada, BatchGetUsersRequest { user_ids });
    assert_eq!(fields(&refusal(client.batch_get_users(request).await)), ["user_ids[3]"]);
    let user_ids = vec!["nobody".to_owned(); 100];
    let request = mesh.user(ada, BatchGetUsersRequest { user_ids });
    assert_eq!(fields(&refusal(client.batch_get_users(request).await)).len(), 100);
    let user_ids = vec![ada.to_string(); 101];
    let refused = refusal(client.batch_get_users(mesh.user(ada, BatchGetUsersRequest { user_ids })).await);
    assert_eq!(fields(&refused), ["user_ids"]);
    assert!(refused.violations[0].message.contains("100"), "{:?}", refused.violations);

    let user = User { first_name: "a\0b".into(), bio: "b".repeat(1_001), ..User::default() };
    for (paths, expected) in [
        (&[][..], vec!["update_mask"]),
        (&["email"], vec!["update_mask"]),
        (&["bio", "last_name", "first_name"], vec!["user.first_name", "user.bio"]),
    ] {
        let request = mesh.user(ada, change(user.clone(), paths));
        assert_eq!(fields(&refusal(client.update_user(request).await)), expected);
    }
    assert_eq!(mesh.get(ada, ada).await, before);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_nobody_and_an_assertion_for_another_service_are_refused() {
    let mesh = Fixture::start().await;
    let ada = mesh.person("ada").await;
    let elsewhere = mesh.gateway.assertion(ServiceName::Message, None);
    for bearer in ["x.y.z", &elsewhere] {
        let request = client::request(GetUserRequest { user_id: ada.to_string() }, bearer, PATIENCE);
        assert_eq!(reason(mesh.client.clone().get_user(request).await), Reason::TokenInvalid);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_is_there_after_a_restart_and_a_stopped_service_has_let_go_of_its_ports() {
    let mesh = Fixture::start().await;
    let ada = mesh.person("ada").await;
    mesh.update(ada, User { bio: "Notes".into(), ..User::default() }, &["bio"]).await.expect("changed");
    let (config, gateway) = (mesh.config.clone(), mesh.gateway.clone());
    let Fixture { shutdown, served, data, ops_port, .. } = mesh;
    shutdown.cancel();
    served.await.expect("no panic").expect("stopped in order");
    // A store that was closed has written its log back.
    assert!(!data.path().join("users.db-wal").exists());
    let ops = (Ipv4Addr::LOCALHOST, ops_port).into();
    let ops = bind("the same port", ops, "NONE").await.expect("free again");

    let grpc = listeners().await.grpc;
    let mut again = config.clone();
    again.mesh.user_url = format!("http://{}", grpc.local_addr().expect("address"));
    let mut client = Clients::connect(&again.mesh, None).user();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(user_svc::serve(again, Listeners { grpc, ops }, shutdown.clone()));
    let bearer = gateway.assertion(ServiceName::User, None);
    let request = client::request(GetUserRequest { user_id: ada.to_string() }, &bearer, PATIENCE);
    let user = client.get_user(request).await.expect("answered").into_inner().user.expect("there");
    assert_eq!(user.bio, "Notes");
    shutdown.cancel();
    served.await.expect("no panic").expect("stopped in order");
}

#[tokio::test]
async fn a_damaged_store_keeps_it_from_starting_with_a_sentence() {
    let data = tempfile::tempdir().expect("folder");
    std::fs::write(data.path().join("users.db"), [0x5a; 9_000]).expect("write");
    let mesh = MeshConfig { data: data.path().to_owned(), ..MeshConfig::default() };
    let config = Config { mesh, ..Config::default() };
    let error = user_svc::serve(config, listeners().await, CancellationToken::new()).await.expect_err("refused");
    let sentence = error.to_string();
    assert!(sentence.contains("users.db") && sentence.contains("damaged"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_only_checked_changes_nothing() {
    let mesh = Fixture::start().await;
    let ada = mesh.person("ada").await;
    let before = mesh.get(ada, ada).await;
    let checked = |user: User, paths: &[&str]| {
        let request = UpdateUserRequest { validate_only: true, ..change(user, paths) };
        let (mut client, request) = (mesh.client.clone(), mesh.user(ada, request));
        async move { client.update_user(request).await }
    };
    let good = checked(User { bio: "Notes".into(), ..User::default() }, &["bio"]).await.expect("good");
    assert_eq!(good.into_inner().user.as_ref(), Some(&before));
    let bad = checked(User { bio: "x".repeat(1_001), ..User::default() }, &["bio"]).await;
    assert_eq!(fields(&refusal(bad)), ["user.bio"]);
    assert_eq!(mesh.get(ada, ada).await, before);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_nested_beyond_what_can_be_read_are_refused_and_the_service_goes_on() {
    let mesh = Fixture::start().await;
    let ada = mesh.person("ada").await;
    let mut value = serde_json::json!({});
    for _ in 0..60 {
        value = serde_json::json!({ "d": value });
    }
    let preferences = text::struct_from_json(value.as_object().expect("object"));
    let user = User { preferences: Some(preferences), ..User::default() };
    mesh.update(ada, user, &["preferences"]).await.expect_err("refused");
    assert_eq!(mesh.get(ada, ada).await.preferences, Some(text::struct_from_json(&serde_json::Map::new())));
    mesh.stop().await;
}
