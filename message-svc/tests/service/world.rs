//! A message-svc on free ports, a user-svc of which the test decides what it knows, and callers.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh::{
    client::{self, Clients, Route},
    config::{Loader, MeshConfig},
    error::{Reason, Refusal},
    identity::{Identity, ServiceName, UserCaller},
    proto::{
        message::v1::{message_service_client::MessageServiceClient, send_service_client::SendServiceClient, *},
        user::v1::{
            BatchGetUsersRequest, BatchGetUsersResponse, CreateUserRequest, CreateUserResponse, EraseUserRequest,
            EraseUserResponse, GetUserRequest, GetUserResponse, SetUsernameRequest, SetUsernameResponse,
            UpdateUserRequest, UpdateUserResponse, User,
            user_service_server::{UserService, UserServiceServer},
        },
    },
    serve::Listeners,
};
use message_svc::Config;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What user-svc knows; `None` while it is away.
type People = Arc<Mutex<Option<HashMap<String, String>>>>;

/// What the replicas of one installation share: the data folder, with the store in it, and a user-svc.
#[derive(Clone)]
pub(crate) struct Ground {
    data: Arc<TempDir>,
    people: People,
    user_url: String,
}

/// One message-svc.
pub(crate) struct World {
    ground: Ground,
    pub(crate) people: People,
    /// Its operations port.
    pub(crate) ops: SocketAddr,
    identity: Arc<Identity>,
    clients: Clients,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

/// Somebody who calls through the gateway.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) id: String,
    caller: UserCaller,
    identity: Arc<Identity>,
    client: MessageServiceClient<Route>,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let people: People = Arc::new(Mutex::new(Some(HashMap::new())));
        let users = free_port().await;
        let user_url = url(&users);
        let directory = UserServiceServer::new(Directory(Arc::clone(&people)));
        let router = tonic::service::Routes::new(directory).into_axum_router();
        let limits = MeshConfig::default().serve;
        tokio::spawn(async move { mesh::serve::serve(users, router, &limits, CancellationToken::new()).await });
        Self { data: Arc::new(tempfile::tempdir().expect("a folder")), people, user_url }
    }

    /// One more replica, with settings of its own.
    pub(crate) async fn serve(&self, adjust: impl FnOnce(&mut Config)) -> World {
        let listeners = Listeners { grpc: free_port().await, ops: free_port().await };
        let ops = listeners.ops.local_addr().expect("an address");
        let mut loader = Loader::for_test("");
        let mut config = Config::load(&mut loader);
        loader.finish().expect("the defaults are good");
        config.mesh.data = self.data.path().to_owned();
        config.mesh.user_url.clone_from(&self.user_url);
        config.mesh.message_url = url(&listeners.grpc);
        "error".clone_into(&mut config.mesh.telemetry.filter);
        // Nobody else is to be asked meanwhile.
        config.mesh.shutdown.notice_ms = 0;
        config.message.names.wait_ms = 500;
        config.message.names.fresh_secs = 0;
        config.message.names.pause_secs = 0;
        config.message.typing.secs = 1;
        config.message.watch.rooms_max = 8;
        adjust(&mut config);
        let identity = Identity::new(ServiceName::Gateway, &config.mesh).expect("an identity");
        let clients = Clients::connect(&config.mesh, None);
        let shutdown = CancellationToken::new();
        let serving = message_svc::serve(config, listeners, shutdown.clone());
        let serving = tokio::spawn(async move { serving.await.expect("serves") });
        let people = Arc::clone(&self.people);
        World { ground: self.clone(), people, ops, identity, clients, shutdown, serving }
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Ground::new().await.serve(|_| {}).await
    }

    /// Somebody with a profile.
    pub(crate) fn person(&self, username: &str) -> Person {
        let caller = UserCaller {
            user_id: Uuid::now_v7(),
            session_id: None,
            roles: Vec::new(),
            expires: None,
            via: None,
            scopes: None,
        };
        let id = caller.user_id.to_string();
        self.people.lock().expect("lock").get_or_insert_default().insert(id.clone(), username.to_owned());
        Person { id, caller, identity: Arc::clone(&self.identity), client: self.clients.message() }
    }

    /// The gateway speaking for itself.
    pub(crate) fn gateway<T>(&self, message: T) -> (MessageServiceClient<Route>, Request<T>) {
        let bearer = self.identity.assertion(ServiceName::Message, None);
        (self.clients.message(), client::stream_request(message, &bearer))
    }

    /// The gateway's word for itself.
    pub(crate) fn assertion(&self) -> String {
        self.identity.assertion(ServiceName::Message, None).to_string()
    }

    /// A gateway that sends for its users.
    pub(crate) async fn sends<T>(&self, messages: T) -> (SendServiceClient<Route>, Request<T>) {
        let replica = self.clients.message_replicas().known().await.any().expect("a replica");
        (self.clients.sends_at(&replica), client::stream_request(messages, &self.assertion()))
    }

    /// A client without any identity.
    pub(crate) fn stranger(&self) -> MessageServiceClient<Route> {
        self.clients.message()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        soon("message-svc stops", self.serving).await.expect("no panic");
        drop(self.ground);
    }
}

impl Person {
    /// The same one, calling another replica.
    pub(crate) fn at(&self, world: &World) -> Self {
        Self { client: world.clients.message(), ..self.clone() }
    }

    pub(crate) fn client(&self) -> MessageServiceClient<Route> {
        self.client.clone()
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let bearer = self.identity.assertion(ServiceName::Message, Some(&self.caller));
        client::request(message, &bearer, PATIENCE)
    }

    /// The gateway's word for them.
    pub(crate) fn assertion(&self) -> String {
        self.identity.assertion(ServiceName::Message, Some(&self.caller)).to_string()
    }

    /// For a stream, which has no deadline.
    pub(crate) fn stream_request<T>(&self, message: T) -> Request<T> {
        client::stream_request(message, &self.identity.assertion(ServiceName::Message, Some(&self.caller)))
    }

    pub(crate) async fn create(&self, name: &str, room_type: RoomType) -> String {
        let message = CreateRoomRequest { name: name.into(), room_type: room_type.into(), ..Default::default() };
        let made = self.client().create_room(self.request(message)).await.expect("made");
        made.into_inner().room.expect("a room").id
    }

    pub(crate) async fn join(&self, room: &str) -> Result<JoinRoomResponse, Refusal> {
        let message = JoinRoomRequest { room_id: room.into() };
        answer(self.client().join_room(self.request(message)).await)
    }

    pub(crate) async fn leave(&self, room: &str) -> Result<LeaveRoomResponse, Refusal> {
        let message = LeaveRoomRequest { room_id: room.into() };
        answer(self.client().leave_room(self.request(message)).await)
    }

    pub(crate) async fn add(&self, room: &str, user: &str) -> Result<AddMemberResponse, Refusal> {
        let message = AddMemberRequest { room_id: room.into(), user_id: user.into() };
        answer(self.client().add_member(self.request(message)).await)
    }

    pub(crate) async fn remove(&self, room: &str, user: &str) -> Result<RemoveMemberResponse, Refusal> {
        let message = RemoveMemberRequest { room_id: room.into(), user_id: user.into() };
        answer(self.client().remove_member(self.request(message)).await)
    }

    pub(crate) async fn get(&self, room: &str) -> Result<Room, Refusal> {
        let message = GetRoomRequest { room_id: room.into() };
        answer(self.client().get_room(self.request(message)).await).map(|got| got.room.expect("a room"))
    }

    pub(crate) async fn send(&self, room: &str, content: &str) -> Result<Message, Refusal> {
        let message = SendMessageRequest { room_id: room.into(), content: content.into(), ..Default::default() };
        answer(self.client().send_message(self.request(message)).await).map(|sent| sent.message.expect("a message"))
    }

    pub(crate) async fn history(
        &self,
        room: &str,
        position: Option<list_messages_request::Position>,
        page_size: i32,
    ) -> Result<ListMessagesResponse, Refusal> {
        let message = ListMessagesRequest { room_id: room.into(), page_size, position };
        answer(self.client().list_messages(self.request(message)).await)
    }
}

pub(crate) fn answer<T>(result: Result<Response<T>, Status>) -> Result<T, Refusal> {
    result.map(Response::into_inner).map_err(|status| Refusal::from_status(&status))
}

/// The reason of a refusal; a panic when it was none.
pub(crate) fn reason<T>(result: Result<T, Refusal>) -> Reason {
    match result {
        Ok(_) => panic!("was not refused"),
        Err(refusal) => refusal.reason,
    }
}

/// The fields that were refused.
pub(crate) fn fields<T>(result: Result<T, Refusal>) -> Vec<String> {
    match result {
        Ok(_) => panic!("was not refused"),
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::ValidationFailed, "{refusal}");
            refusal.violations.into_iter().map(|violation| violation.field).collect()
        }
    }
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn free_port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port")
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().expect("an address"))
}

/// user-svc, as far as message-svc needs it.
struct Directory(People);

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("message-svc does not call this"))
}

#[tonic::async_trait]
impl UserService for Directory {
    async fn batch_get_users(
        &self,
        request: Request<BatchGetUsersRequest>,
    ) -> Result<Response<BatchGetUsersResponse>, Status> {
        let people = self.0.lock().expect("lock");
        let people = people.as_ref().ok_or_else(|| Status::unavailable("away"))?;
        let users = request.into_inner().user_ids.into_iter().filter_map(|id| {
            let username = people.get(&id)?.clone();
            Some(User { id, username, ..User::default() })
        });
        Ok(Response::new(BatchGetUsersResponse { users: users.collect() }))
    }

    async fn create_user(&self, _: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        unused()
    }

    async fn set_username(&self, _: Request<SetUsernameRequest>) -> Result<Response<SetUsernameResponse>, Status> {
        unused()
    }

    async fn erase_user(&self, _: Request<EraseUserRequest>) -> Result<Response<EraseUserResponse>, Status> {
        unused()
    }

    async fn get_user(&self, _: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        unused()
    }

    async fn update_user(&self, _: Request<UpdateUserRequest>) -> Result<Response<UpdateUserResponse>, Status> {
        unused()
    }
}
