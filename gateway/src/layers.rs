//! What a request passes on its way to a handler, and an answer on its way back: one list, outermost first. Each step is
//! a small function here or a layer of tower-http; none knows a route.

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};
use mesh::{
    error::{Reason, Refusal},
    telemetry::RequestLog,
};
use tower::ServiceBuilder;
use tower_http::{
    CompressionLevel,
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{NotForContentType, Predicate, SizeAbove},
    },
    set_header::SetResponseHeaderLayer,
};

use crate::{
    address::Origin,
    edge::Edge,
    error::ErrorObject,
    limit::{Class, Standing},
};

mod cors;
pub(crate) mod etag;
pub(crate) mod headers;
mod request_id;
#[cfg(test)]
mod tests;

/// Around everything, Socket.IO included.
pub(crate) fn around_all(router: Router, edge: &Arc<Edge>) -> Router {
    router.layer(
        ServiceBuilder::new()
            // First of all, so that every answer has an id, and every error object is written with it.
            .layer(middleware::from_fn(request_id::request_id))
            // Inside of the id, which its line bears; outside of all that may refuse.
            .layer(RequestLog::http())
            .layer(middleware::from_fn_with_state(Arc::clone(edge), origin))
            // Errors get these headers too: a browser shows a page of ours, or none.
            .layer(middleware::from_fn(headers::security))
            // A browser tells its page nothing of an answer without these, so refusals and panics are inside.
            .layer(cors::layer(&edge.config, edge.mesh.profile))
            .layer(middleware::from_fn_with_state(Arc::clone(edge), limit_uri))
            .layer(CatchPanicLayer::custom(panicked)),
    )
}

/// Around REST, documents and pages; not around Socket.IO, whose requests stay open for long and have limits of their
/// own in `realtime/`.
pub(crate) fn around_http(router: Router, edge: &Arc<Edge>) -> Router {
    router.layer(
        ServiceBuilder::new()
            // Outside of the deadline: compressing is our time, not the service's.
            .layer(compression())
            .layer(middleware::from_fn_with_state(Arc::clone(edge), limit_requests))
            .layer(middleware::from_fn_with_state(Arc::clone(edge), deadline)),
    )
}

/// Around what is personal: nothing of it may stay in a cache. An answer that says otherwise keeps its word.
pub(crate) fn no_store() -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

/// An answer of fewer bytes fits into one packet anyway.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// gzip, brotli or zstd, as the client prefers. Compressing what is secret beside what a stranger chose can give the secret
/// away by its length; here no stranger's page can make a request in a user's name, since tokens are in no cookie.
///
/// The fastest level: most answers are JSON of a few kilobytes, for which a better one gains little.
fn compression() -> CompressionLayer<impl Predicate> {
    let worthwhile = SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::IMAGES);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worthwhile)
}

/// Finds out where the request comes from, for limits and sessions.
async fn origin(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let origin = edge.proxies.origin(request.extensions(), request.headers());
    request.extensions_mut().insert(origin);
    next.run(request).await
}

/// Headers have their limit in the connection (`serve.header_bytes_max`), the path and the query here.
async fn limit_uri(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let bytes_max = edge.config.uri_bytes_max;
    if request.uri().path_and_query().is_some_and(|uri| uri.as_str().len() > bytes_max) {
        let message = format!("The path and query must have at most {bytes_max} bytes");
        return ErrorObject::from(Refusal::new(Reason::PayloadTooLarge, message)).into_response();
    }
    next.run(request).await
}

/// Requests hold bodies and answers in memory, so there is a most of them at once.
async fn limit_requests(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = edge.requests.try_acquire() else {
        let refusal = Refusal::new(Reason::Unavailable, "Too many requests in progress; try again");
        return ErrorObject::from(refusal).into_response();
    };
    next.run(request).await
}

/// A request that takes too long is given up; what it has called ends by the deadline that the call carries.
async fn deadline(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(edge.config.request_timeout(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let refusal = Refusal::new(Reason::DeadlineExceeded, "The answer did not come in time");
            ErrorObject::from(refusal).into_response()
        }
    }
}

/// Counts a call of the address; the account's is counted where the account is found out. The answer says what is left.
pub(crate) async fn limit_address(
    State((edge, class)): State<(Arc<Edge>, Class)>,
    mut request: Request,
    next: Next,
) -> Response {
    let (origin, standing) = (Origin::of(request.extensions()), Standing::default());
    let mut response = match edge.limiter.check_address(class, origin.address, Some(&standing)) {
        Ok(()) => {
            request.extensions_mut().insert(standing.clone());
            next.run(request).await
        }
        Err(refusal) => ErrorObject::from(refusal).into_response(),
    };
    edge.limiter.write(&standing, response.headers_mut());
    response
}

/// One bad request must not end the process. The panic's own text is in the log of panics; it is not sent.
#[expect(clippy::needless_pass_by_value, reason = "the signature that CatchPanicLayer asks for")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let cause = format!("a handler panicked: {}", text.unwrap_or("without a text"));
    ErrorObject::from(Refusal::internal(cause)).into_response()
}
