//! gRPC as another team speaks it: the generated clients with an access token, straight to the services. It also reads
//! the reason and the fields out of a refusal.

use ::mesh::{
    error::{DOMAIN, Reason},
    proto::{
        auth::v1::auth_service_client::AuthServiceClient,
        message::v1::{
            ListEntriesRequest, ListEntriesResponse, SendMessageRequest, SendMessageResponse, WatchRoomRequest,
            WatchRoomResponse, message_service_client::MessageServiceClient,
        },
        user::v1::user_service_client::UserServiceClient,
    },
};
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::interceptor::{InterceptedService, Interceptor},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::{
    mesh::{Mesh, Ports},
    wait,
};

/// Puts the caller's token on every call.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

pub(crate) type Service = InterceptedService<Channel, Bearer>;

/// The three services for one caller.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    pub(crate) auth: AuthServiceClient<Service>,
    pub(crate) user: UserServiceClient<Service>,
    pub(crate) message: MessageServiceClient<Service>,
}

/// A connection to a port of this machine.
pub(crate) fn channel(port: u16) -> Channel {
    Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .expect("a URL")
        .tcp_nodelay(true)
        .timeout(wait::LIMIT)
        .connect_lazy()
}

impl Rpc {
    /// For a caller with this token, or for nobody.
    pub(crate) fn new(mesh: &Mesh, token: Option<&str>) -> Self {
        Self::at(&mesh.ports, token)
    }

    /// The same at these replicas.
    pub(crate) fn at(ports: &Ports, token: Option<&str>) -> Self {
        let bearer = Bearer(token.map(|token| format!("Bearer {token}").parse().expect("a header")));
        let service = |port| InterceptedService::new(channel(port), bearer.clone());
        Self {
            auth: AuthServiceClient::new(service(ports.auth)),
            user: UserServiceClient::new(service(ports.user)),
            message: MessageServiceClient::new(service(ports.message)),
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&self, room: &str, content: &str, id: &str) -> Result<SendMessageResponse, Status> {
        let request = SendMessageRequest {
            room_id: room.to_owned(),
            content: content.to_owned(),
            client_message_id: id.to_owned(),
            ..SendMessageRequest::default()
        };
        Ok(self.message.clone().send_message(request).await?.into_inner())
    }

    /// A page of entries after a cursor.
    pub(crate) async fn entries(&self, room: &str, cursor: &str) -> Result<ListEntriesResponse, Status> {
        let request = ListEntriesRequest { room_id: room.to_owned(), cursor: cursor.to_owned(), page_size: 500 };
        Ok(self.message.clone().list_entries(request).await?.into_inner())
    }

    /// Follows a room.
    pub(crate) async fn watch(&self, room: &str, cursor: &str) -> Result<Streaming<WatchRoomResponse>, Status> {
        let request = WatchRoomRequest { room_id: room.to_owned(), cursor: cursor.to_owned() };
        Ok(self.message.clone().watch_room(request).await?.into_inner())
    }
}

/// The code that clients branch on, and the refused fields with what is said of each.
#[track_caller]
pub(crate) fn reason(status: &Status) -> (String, Vec<(String, String)>) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("a refusal without ErrorInfo: {status:?}"));
    assert_eq!(info.domain, DOMAIN, "{status:?}");
    let known = Reason::from_code(&info.reason).unwrap_or_else(|| panic!("no code of the catalogue: {status:?}"));
    assert_eq!(status.code(), known.grpc(), "{status:?}");
    let fields = details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|field| (field.field.clone(), field.description.clone())).collect());
    (info.reason.clone(), fields.unwrap_or_default())
}

/// Checks that a call was refused with this code.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: &str) -> Status {
    let status = result.expect_err(code);
    assert_eq!(reason(&status).0, code, "{status:?}");
    status
}

/// Checks that a call was refused for this field, in words that contain these.
#[track_caller]
pub(crate) fn invalid<T: std::fmt::Debug>(result: Result<T, Status>, field: &str, says: &str) {
    let status = refused(result, "VALIDATION_FAILED");
    let (_, fields) = reason(&status);
    let found = fields.iter().any(|(name, message)| name == field && message.contains(says));
    assert!(found, "no violation of {field} that says {says:?}: {fields:?}");
}
