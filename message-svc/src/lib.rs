//! message-svc: rooms, members and messages. A room is an append-only log with a dense `seq`; what was answered is on
//! disk, a send happens once, and whoever follows a room by cursor misses nothing.
//!
//! | module | owns |
//! |---|---|
//! | `grpc` | the surface: who calls, requests to types, answers, the two streams |
//! | [`rooms`], `room_task` | the active rooms; the task that alone writes a room's log, and its judge |
//! | [`order`] | what callers want of a room's task, and what they are told |
//! | [`room`], [`member`], [`entry`], [`message`] | the domain's nouns |
//! | [`watch`], [`hub`], [`typing`] | following a room; hints to those who do; who types |
//! | [`relay`], [`look`] | hints between replicas, through Redis; finding in the store what no hint told |
//! | [`history`], [`cursor`], [`page`] | reading back; positions in a log; positions in a list |
//! | [`sent`] | what one person has sent anywhere, and its erasure |
//! | [`names`] | usernames, from user-svc |
//! | [`store`] | what is kept: the trait, and SQLite, PostgreSQL and MongoDB behind it |
//! | [`config`], [`error`], [`id`] | settings; refusals; ids |
//!
//! [`serve`] runs all of it on two ports until it is told to stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use mesh::{
    client::{AskAuth, Clients},
    config::MeshConfig,
    identity::{self, Identity, ServiceName},
    keys::KeyError,
    ops::{Awaited, Ops, Probe},
    proto::message::v1::{
        message_service_server::MessageServiceServer,
        send_service_server::{self, SendServiceServer},
    },
    serve::{BindError, Listeners, bind, serve_named, serve_secured},
    shutdown::Sequence,
    telemetry::{self, TelemetryError},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::Routes;

pub mod config;
pub mod cursor;
pub mod entry;
pub mod error;
mod grpc;
pub mod history;
pub mod hub;
pub mod id;
pub mod look;
pub mod member;
pub mod message;
pub mod moving;
pub mod names;
pub mod order;
pub mod page;
pub mod relay;
pub mod room;
mod room_task;
pub mod rooms;
pub mod sent;
pub mod store;
#[cfg(test)]
mod testing;
pub mod typing;
pub mod watch;

pub use config::{Config, MessageSection};

use grpc::{Following, Messages, Sending, Sends, UserDirectory};
use hub::Hub;
use look::Looker;
use names::Names;
use relay::{Outlet, Relay, RelayError};
use rooms::Rooms;
use sent::Eraser;
use store::{OpenError, Store, StoreError};
use typing::Typists;
use watch::Pace;

const NAME: &str = "message-svc";
/// The store in `/ready`.
const STORE: &str = "store";

/// Why message-svc cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store does not answer.
    #[error("the message store cannot be used")]
    Store(#[from] StoreError),
    /// Redis cannot be used as it is configured.
    #[error(transparent)]
    Relay(#[from] RelayError),
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
    let MessageSection { listen, grpc_port, http_port, .. } = config.message;
    let grpc = bind(NAME, SocketAddr::new(listen, grpc_port), "MESSAGE_SERVICE_GRPC_PORT").await?;
    let http = SocketAddr::new(listen, http_port);
    let ops = bind("message-svc operations", http, "MESSAGE_SERVICE_HTTP_PORT").await?;
    serve(config, Listeners { grpc, ops }, shutdown).await
}

/// Serves on the two ports until `shutdown`, then stops in order: it says so, no new calls, streams end, calls in progress finish,
/// what waits in the rooms is written, the operations port, the store.
///
/// # Errors
/// When it cannot start. Once it serves, it does so until it is told to stop.
pub async fn serve(config: Config, listeners: Listeners, shutdown: CancellationToken) -> Result<(), ServeError> {
    let Config { mesh, message } = config;
    let telemetry = telemetry::init(&mesh.telemetry, NAME)?;
    // The last things to stop: readiness says "draining", and revocations count, until the last call has ended.
    let drained = CancellationToken::new();
    let (awaited, relaying) = (Awaited::new(STORE), mesh.redis_enabled.then(|| Awaited::new(relay::PROBE)));
    let ops = Ops::new(NAME, env!("CARGO_PKG_VERSION"), shutdown.clone())
        .probe(awaited.clone())
        .wanted(relaying.clone().map(|probe| probe as Arc<dyn Probe>))
        .metrics(Some(telemetry.metrics()));
    let limits = mesh.serve.clone();
    // There before the store, so that whoever starts the process sees what it waits for.
    let operations = {
        let (limits, drained) = (limits.clone(), drained.clone());
        spawn(async move { serve_named("message-svc-ops", listeners.ops, ops.router(), &limits, drained).await })
    };
    let store = tokio::select! {
        opened = store::open(&message, &mesh.data, mesh.migrations()) => opened?,
        // A store that is a server may be waited for; whoever stops us meanwhile does not.
        () = shutdown.cancelled() => return Ok(()),
    };
    room::create::ensure_general(&*store).await?;
    let identity = Identity::new(ServiceName::Message, &mesh)?;
    let clients = Clients::connect(&mesh, identity.tls());
    AskAuth::install(&identity, &clients, &mesh);

    let Hints { hub, typists, redis, tasks } = hints(&mesh, &message, &store, &drained)?;
    let rooms = Rooms::new(Arc::clone(&store), Arc::clone(&hub), &message.rooms, &message.limits);
    let names = Arc::new(names(&clients, &identity, &message));
    let stop = CancellationToken::new();
    let sending = sending((&rooms, &names, &identity), &mesh, &message, &stop);
    let messages = Messages {
        store: Arc::clone(&store),
        rooms: Arc::clone(&rooms),
        eraser: Eraser { store: Arc::clone(&store), rooms: Arc::clone(&rooms), names: Arc::clone(&names) },
        names,
        typists,
        following: following(&store, &hub, &identity, &message, &stop),
        limits: message.limits,
        // The rest is for what a message weighs more on the wire than it was reckoned.
        page_bytes_max: mesh.grpc.message_bytes_max / 8 * 7,
    };
    let routes = routes(messages, sending, mesh.grpc.message_bytes_max);
    let beside = [send_service_server::SERVICE_NAME];
    let (router, health) =
        mesh::grpc::router_with::<MessageServiceServer<Messages>>(routes, &beside, Arc::clone(&identity), &mesh);
    health.set_serving::<MessageServiceServer<Messages>>(true).await;
    awaited.arrived(Arc::new(StoreProbe(Arc::clone(&store))));
    relaying.zip(redis).into_iter().for_each(|(awaited, redis)| awaited.arrived(redis));
    let calls = {
        let (tls, stop) = (identity.tls().cloned(), stop.clone());
        spawn(async move { serve_secured(NAME, listeners.grpc, router, &limits, tls, stop).await })
    };
    let follow = spawn(identity::follow(identity, clients, drained.clone()));
    tracing::info!("message-svc is serving");

    shutdown.cancelled().await;
    let mut sequence = Sequence::new(NAME);
    health.set_serving::<MessageServiceServer<Messages>>(false).await;
    sequence.notice(mesh.shutdown.notice()).await;
    stop.cancel();
    sequence.step("calls", mesh.shutdown.calls(), calls).await;
    sequence.step("rooms", mesh.shutdown.flush(), rooms.stop()).await;
    drained.cancel();
    sequence
        .step("operations", mesh.shutdown.flush(), async { (operations.await, follow.await, join_all(tasks).await) })
        .await;
    sequence.step("store", mesh.shutdown.stores(), store.close()).await;
    let _whole = sequence.finish();
    Ok(())
}

fn sending(
    (rooms, names, identity): (&Arc<Rooms>, &Arc<Names>, &Arc<Identity>),
    mesh: &MeshConfig,
    message: &MessageSection,
    shutdown: &CancellationToken,
) -> Sending {
    Sending {
        rooms: Arc::clone(rooms),
        names: Arc::clone(names),
        identity: Arc::clone(identity),
        limits: message.limits.clone(),
        config: message.sends.clone(),
        deadline_max: Duration::from_millis(mesh.grpc.deadline_ms_max),
        stall: Duration::from_secs(message.watch.stall_secs),
        shutdown: shutdown.clone(),
    }
}

/// Both services of the contract that this process answers.
fn routes(messages: Messages, sending: Sending, bytes_max: usize) -> Routes {
    let service =
        MessageServiceServer::new(messages).max_decoding_message_size(bytes_max).max_encoding_message_size(bytes_max);
    let sends = SendServiceServer::new(Sends::new(sending))
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    Routes::new(service).add_service(sends)
}

fn names(clients: &Clients, identity: &Arc<Identity>, message: &MessageSection) -> Names {
    let wait = Duration::from_millis(message.names.wait_ms);
    let directory = UserDirectory::new(clients.clone(), Arc::clone(identity), wait);
    Names::new(Arc::new(directory), &message.names)
}

/// What the watchers are told of: by this process, by others, and by looking.
struct Hints {
    hub: Arc<Hub>,
    typists: Typists,
    /// Redis in `/ready`, when it is used.
    redis: Option<Arc<dyn Probe>>,
    tasks: Vec<AbortOnDropHandle<()>>,
}

fn hints(
    mesh: &MeshConfig,
    message: &MessageSection,
    store: &Arc<dyn Store>,
    drained: &CancellationToken,
) -> Result<Hints, RelayError> {
    let (outlet, inbox) = mesh.redis_enabled.then(|| Outlet::new(&mesh.redis)).unzip();
    let hub = Hub::relayed(message.watch.hints_max, outlet);
    let looker = Looker::new(Arc::clone(&hub), Arc::clone(store), Duration::from_millis(message.watch.poll_ms));
    let lasts = Duration::from_secs(message.typing.secs);
    let typists = Typists::start(Arc::clone(&hub), lasts, message.typing.people_max, drained.clone());
    let relay = inbox.map(|inbox| Relay::new(mesh, inbox, &hub, &looker, &typists)).transpose()?;
    let redis = relay.as_ref().map(Relay::probe);
    let relaying = relay.map(|relay| spawn(relay.run(drained.clone())));
    let tasks = [spawn(looker.run(drained.clone()))].into_iter().chain(relaying).collect();
    Ok(Hints { hub, typists, redis, tasks })
}

fn following(
    store: &Arc<dyn Store>,
    hub: &Arc<Hub>,
    identity: &Arc<Identity>,
    message: &MessageSection,
    shutdown: &CancellationToken,
) -> Arc<Following> {
    let pace = Pace {
        entries_max: message.limits.entries_page_max as usize,
        bytes_max: message.limits.entries_page_bytes_max,
        patience: Duration::from_secs(message.watch.patience_secs),
    };
    Arc::new(Following {
        store: Arc::clone(store),
        hub: Arc::clone(hub),
        identity: Arc::clone(identity),
        pace,
        queue_max: message.watch.queue_max,
        stall: Duration::from_secs(message.watch.stall_secs),
        rooms_max: message.watch.rooms_max,
        shutdown: shutdown.clone(),
    })
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
