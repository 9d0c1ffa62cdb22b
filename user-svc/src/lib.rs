//! user-svc: what others see of a person (names, bio, avatar), the person's own preferences, and a copy of the username,
//! which auth-svc owns.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the section `user`: ports, store, limits |
//! | `grpc` | the surface: who may call, requests to types, answers |
//! | [`profile`] | the domain: profiles, changes, the rules of their fields |
//! | [`error`] | what may be refused, and its code |
//! | [`store`] | what is kept: the trait, with SQLite and PostgreSQL behind it |
//!
//! [`serve`] runs all of it on two ports until it is told to stop.

use std::sync::Arc;

use async_trait::async_trait;
use mesh::{
    client::{AskAuth, Clients},
    identity::{self, Identity, ServiceName},
    keys::KeyError,
    ops::{Awaited, Ops, Probe},
    proto::user::v1::user_service_server::UserServiceServer,
    serve::{BindError, Listeners, bind, serve_named, serve_secured},
    shutdown::Sequence,
    telemetry::{self, TelemetryError},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::Routes;

pub mod config;
pub mod error;
mod grpc;
pub mod profile;
pub mod store;

pub use config::{Config, UserSection};

use grpc::Users;
use profile::Profiles;
use store::{OpenError, Store};

const NAME: &str = "user-svc";
/// The store in `/ready`.
const STORE: &str = "store";

/// Why user-svc cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// This service's own key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The metrics cannot be recorded.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// Takes the ports of the configuration and serves on them.
///
/// # Errors
/// One sentence that says what to do.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServeError> {
    let listeners = Listeners {
        grpc: bind("user-svc", config.user.grpc_addr(), "USER_SERVICE_GRPC_PORT").await?,
        ops: bind("user-svc operations", config.user.http_addr(), "USER_SERVICE_HTTP_PORT").await?,
    };
    serve(config, listeners, shutdown).await
}

/// Serves until `shutdown`, then stops in order: it says so, no new calls, calls finish, the operations port, the store
/// closes.
///
/// # Errors
/// When it cannot start; one sentence that says what to do.
pub async fn serve(config: Config, listeners: Listeners, shutdown: CancellationToken) -> Result<(), ServeError> {
    let Config { mesh, user } = &config;
    let telemetry = telemetry::init(&mesh.telemetry, NAME)?;
    let awaited = Awaited::new(STORE);
    let ops = Ops::new(NAME, env!("CARGO_PKG_VERSION"), shutdown.clone())
        .probe(awaited.clone())
        .metrics(Some(telemetry.metrics()));
    // The operations port is there before the store and until the calls have ended, and so are the news of revocations:
    // a load balancer sees that the process is coming or going, and a session that ends meanwhile is felt.
    let drained = CancellationToken::new();
    let operations = spawn({
        let (limits, shutdown) = (mesh.serve.clone(), drained.clone());
        async move { serve_named("user-svc-ops", listeners.ops, ops.router(), &limits, shutdown).await }
    });
    let opening = store::open(&user.store_url, &mesh.data, user.store_readers, &user.store, mesh.migrations());
    let store = tokio::select! {
        opened = opening => opened?,
        // A store that is a server may be waited for; whoever stops us meanwhile does not.
        () = shutdown.cancelled() => return Ok(()),
    };
    let operations = Operations { task: operations, drained, store: awaited };
    let served = serve_with(&config, &store, listeners.grpc, operations, shutdown).await;
    if served.is_err() {
        store.close().await;
    }
    served
}

/// The operations port, what ends it, and the store as it shows it.
struct Operations {
    task: AbortOnDropHandle<()>,
    drained: CancellationToken,
    store: Arc<Awaited>,
}

async fn serve_with(
    config: &Config,
    store: &Arc<dyn Store>,
    listener: TcpListener,
    operations: Operations,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let Config { mesh, user } = config;
    let identity = Identity::new(ServiceName::User, mesh)?;
    let clients = Clients::connect(mesh, identity.tls());
    AskAuth::install(&identity, &clients, mesh);

    let users = Users::new(Profiles::new(Arc::clone(store)), user.limits.clone());
    let api = UserServiceServer::new(users).max_decoding_message_size(mesh.grpc.message_bytes_max);
    let (router, health) =
        mesh::grpc::router::<UserServiceServer<Users>>(Routes::new(api), Arc::clone(&identity), mesh);
    let tls = identity.tls().cloned();
    let following = spawn(identity::follow(identity, clients, operations.drained.clone()));
    operations.store.arrived(Arc::new(StoreProbe(Arc::clone(store))));
    health.set_serving::<UserServiceServer<Users>>(true).await;
    let stop = CancellationToken::new();
    let calls = spawn({
        let (limits, stop) = (mesh.serve.clone(), stop.clone());
        async move { serve_secured(NAME, listener, router, &limits, tls, stop).await }
    });
    shutdown.cancelled().await;

    let limits = &mesh.shutdown;
    let mut sequence = Sequence::new(NAME);
    health.set_serving::<UserServiceServer<Users>>(false).await;
    sequence.notice(limits.notice()).await;
    stop.cancel();
    sequence.step("calls", limits.calls(), calls).await;
    operations.drained.cancel();
    sequence.step("operations", limits.flush(), async { (following.await, operations.task.await) }).await;
    sequence.step("store", limits.stores(), store.close()).await;
    // A step that ran out of time has been logged; the store is consistent either way.
    let _whole = sequence.finish();
    Ok(())
}

/// A task that ends with whoever waits for it: when `serve` is dropped, nothing of it goes on.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// The store in `/ready`.
struct StoreProbe(Arc<dyn Store>);

#[async_trait]
impl Probe for StoreProbe {
    fn name(&self) -> &'static str {
        STORE
    }

    async fn check(&self) -> Result<(), String> {
        // The cause may name files; it is logged by whoever meets it in a call.
        self.0.check().await.map_err(|error| error.to_string())
    }
}
