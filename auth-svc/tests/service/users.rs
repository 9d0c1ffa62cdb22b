//! A user-svc for tests: it remembers what it was told, by whom, and it can be away.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use mesh::{
    config::MeshConfig,
    error::{Answer, Refusal},
    identity::{self, Identity, ServiceName},
    proto::user::v1::{self as pb, user_service_server::UserServiceServer},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

/// What it was told: the id, the version, the username, and the first name of a new profile.
pub(crate) type Told = (String, i64, String, Option<String>);

/// A user-svc.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    told: Arc<Mutex<Vec<Told>>>,
    away: Arc<AtomicBool>,
}

impl Users {
    /// All it was told, in order.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().expect("no panic").clone()
    }

    /// From now on every call is refused, or none is.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Serves on a free port.
    pub(crate) async fn serve(&self, config: &MeshConfig, shutdown: CancellationToken) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let identity = Identity::new(ServiceName::User, config).expect("a key");
        let routes = Routes::new(UserServiceServer::new(self.clone()));
        let (router, _health) = mesh::grpc::router::<UserServiceServer<Self>>(routes, identity, config);
        let limits = config.serve.clone();
        tokio::spawn(async move { mesh::serve::serve(listener, router, &limits, shutdown).await });
        addr
    }

    fn take<T>(&self, request: &Request<T>, told: Told) -> Result<(), Status> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Refusal::unavailable("user-svc").into());
        }
        identity::service(request, &[ServiceName::Auth])?;
        self.told.lock().expect("no panic").push(told);
        Ok(())
    }
}

#[tonic::async_trait]
impl pb::user_service_server::UserService for Users {
    async fn create_user(&self, request: Request<pb::CreateUserRequest>) -> Answer<pb::CreateUserResponse> {
        let user = request.get_ref().clone();
        self.take(&request, (user.user_id, user.username_version, user.username, Some(user.first_name)))?;
        Ok(Response::new(pb::CreateUserResponse::default()))
    }

    async fn set_username(&self, request: Request<pb::SetUsernameRequest>) -> Answer<pb::SetUsernameResponse> {
        let user = request.get_ref().clone();
        self.take(&request, (user.user_id, user.username_version, user.username, None))?;
        Ok(Response::new(pb::SetUsernameResponse {}))
    }

    async fn erase_user(&self, request: Request<pb::EraseUserRequest>) -> Answer<pb::EraseUserResponse> {
        let user_id = request.get_ref().user_id.clone();
        // No version is so high, and no name is empty.
        self.take(&request, (user_id, i64::MAX, String::new(), None))?;
        Ok(Response::new(pb::EraseUserResponse {}))
    }

    async fn get_user(&self, _: Request<pb::GetUserRequest>) -> Answer<pb::GetUserResponse> {
        Err(Status::unimplemented("not for these tests"))
    }

    async fn batch_get_users(&self, _: Request<pb::BatchGetUsersRequest>) -> Answer<pb::BatchGetUsersResponse> {
        Err(Status::unimplemented("not for these tests"))
    }

    async fn update_user(&self, _: Request<pb::UpdateUserRequest>) -> Answer<pb::UpdateUserResponse> {
        Err(Status::unimplemented("not for these tests"))
    }
}
