//! The edge: REST and Socket.IO on the outside, gRPC on the inside. No store, no domain rule: translate, authenticate,
//! limit.
//!
//! | file | owns |
//! |---|---|
//! | `rest.rs` | the REST routes, a file per noun |
//! | `realtime.rs` | Socket.IO and its transport |
//! | `ws_token.rs` | the tokens that open a socket |
//! | `device_token.rs` | the tokens by which a device is known at its next login |
//! | `extract.rs` | what handlers take from a request: caller, ids, typed body and query |
//! | `json.rs`, `error.rs` | the forms that clients see |
//! | `layers.rs` | what every request passes, in order |
//! | `limit.rs`, `address.rs` | how often, and from where |
//! | `docs.rs`, `web.rs` | the OpenAPI document and its page; the browser client |
//! | `edge.rs` | what all of these share |
//! | `config.rs`, `probe.rs` | settings; readiness |

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use mesh::{
    client::{Resolve, SystemResolver},
    keys::KeyError,
    ops::Ops,
    serve::{BindError, bind, serve_named, serve_public},
    shutdown::Sequence,
    tls::EdgeTls,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

mod address;
pub mod config;
mod device_token;
mod docs;
mod edge;
mod error;
mod extract;
mod json;
mod layers;
mod limit;
mod probe;
pub mod realtime;
mod rest;
mod web;
mod ws_token;

pub use config::{Config, GatewayConfig};
pub use limit::{GuessLimits, Patience, Rate, Rates};

use edge::Edge;
use probe::ServiceProbe;
use realtime::SocketIoLayer;

/// The ports of a gateway.
#[derive(Debug)]
pub struct Listeners {
    /// REST, Socket.IO, documents, the page.
    pub public: TcpListener,
    /// Operations: `/health`, `/ready`, `/metrics`.
    pub ops: TcpListener,
}

/// Why the gateway cannot start: one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A key or the certificate of the edge cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Redis cannot be used as it is configured.
    #[error(transparent)]
    Sharing(#[from] mesh::limit::SharingError),
    /// The process' metrics cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] mesh::telemetry::TelemetryError),
}

/// Takes the ports of the configuration and serves on them.
///
/// # Errors
/// One sentence that says what to do.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServeError> {
    let at = |port| SocketAddr::from((config.gateway.listen, port));
    let listeners = Listeners {
        public: bind("gateway", at(config.gateway.port), "API_GATEWAY_PORT").await?,
        ops: bind("gateway operations", at(config.gateway.http_port), "API_GATEWAY_HTTP_PORT").await?,
    };
    serve(config, listeners, shutdown).await
}

/// Serves until `shutdown`, then stops in order: not ready, nothing more accepted, sockets told, requests finished.
///
/// # Errors
/// When it cannot start; one sentence that says what to do.
pub async fn serve(config: Config, listeners: Listeners, shutdown: CancellationToken) -> Result<(), ServeError> {
    let resolver: Arc<dyn Resolve> = Arc::new(SystemResolver);
    let edge = Edge::new(config, &resolver)?;
    let tls = EdgeTls::start(&edge.config.tls)?;
    let sharing = edge.limiter.sharing(&edge.mesh)?;
    let telemetry = mesh::telemetry::init(&edge.mesh.telemetry, "gateway")?;
    // These outlive the requests, which need keys and revocations to the last.
    let background = CancellationToken::new();
    let follower =
        tokio::spawn(mesh::identity::follow(edge.identity.clone(), edge.clients.clone(), background.clone()));
    let sharing = tokio::spawn({
        let stop = background.clone();
        async move {
            if let Some(sharing) = sharing {
                sharing.run(stop).await;
            }
        }
    });

    let mut ops = Ops::new("gateway", env!("CARGO_PKG_VERSION"), shutdown.clone()).metrics(Some(telemetry.metrics()));
    ops = ops.probe(Arc::new(mesh::identity::KeysProbe::new(edge.identity.clone())));
    for probe in ServiceProbe::all(&edge.clients) {
        ops = ops.probe(Arc::new(probe));
    }
    let ops = tokio::spawn({
        let (limits, stop) = (edge.mesh.serve.clone(), background.clone());
        async move { serve_named("gateway-ops", listeners.ops, ops.router(), &limits, stop).await }
    });
    let stop = CancellationToken::new();
    let (socket_io, realtime) = realtime::build(Arc::clone(&edge), stop.clone());
    let router = router(&edge, socket_io);
    let requests = tokio::spawn({
        let (limits, stop) = (edge.config.serve.clone(), stop.clone());
        async move { serve_public("gateway", listeners.public, router, &limits, tls, stop).await }
    });
    shutdown.cancelled().await;

    let limits = &edge.mesh.shutdown;
    let mut sequence = Sequence::new("gateway");
    sequence.notice(limits.notice()).await;
    stop.cancel();
    // Accepting has ended with the token; connections go as their requests and sockets end.
    sequence.step("sockets", limits.sockets(), realtime.stop(limits.sockets())).await;
    sequence.step("requests", limits.calls(), requests).await;
    background.cancel();
    sequence.step("operations", limits.flush(), async { (ops.await, follower.await, sharing.await) }).await;
    // A step that ran out of time has been logged; there is nothing to lose here.
    let _whole = sequence.finish();
    Ok(())
}

/// Everything that the public port serves.
fn router(edge: &Arc<Edge>, socket_io: SocketIoLayer) -> Router {
    let (api, document) = api(edge).split_for_parts();
    let document = docs::complete(document);
    let router = Router::new()
        .merge(api)
        // The same handlers once more; the document says so in words.
        .nest("/api/v1", Router::from(rest::routes(edge)).layer(layers::no_store()))
        .merge(docs::routes(&document))
        .fallback(web::fallback)
        .method_not_allowed_fallback(web::method_not_allowed)
        .with_state(Arc::clone(edge));
    let router = layers::around_http(router, edge).layer(socket_io);
    layers::around_all(router, edge)
}

/// The documented routes.
fn api(edge: &Arc<Edge>) -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().nest("/api", rest::routes(edge).layer(layers::no_store())).merge(rest::well_known(edge))
}
