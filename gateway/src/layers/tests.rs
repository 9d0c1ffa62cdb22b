//! The list around handlers that misbehave: one that panics, one that hangs, too many at once.

use std::time::Duration;

use axum::{body::Body, routing::get};
use http::StatusCode;
use mesh::{
    client::{Resolve, SystemResolver},
    config::{MeshConfig, Profile},
};
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt as _;

use super::*;
use crate::config::{Config, GatewayConfig};

struct Fixture {
    router: Router,
    entered: Arc<Notify>,
    _data: tempfile::TempDir,
}

fn fixture(change: impl FnOnce(&mut GatewayConfig)) -> Fixture {
    let data = tempfile::tempdir().expect("folder");
    let mesh = MeshConfig { data: data.path().to_owned(), profile: Profile::Development, ..MeshConfig::default() };
    let mut gateway = GatewayConfig::default();
    change(&mut gateway);
    let resolver: Arc<dyn Resolve> = Arc::new(SystemResolver);
    let edge = Edge::new(Config { mesh, gateway }, &resolver).expect("keys");
    let entered = Arc::new(Notify::new());
    let hanging = Arc::clone(&entered);
    let router = Router::new()
        .route("/good", get(async || "good"))
        .route("/panics", get(async || -> StatusCode { panic!("the text of a panic") }))
        .route(
            "/hangs",
            get(async move || -> StatusCode {
                hanging.notify_one();
                std::future::pending().await
            }),
        );
    let router = around_all(around_http(router, &edge), &edge);
    Fixture { router, entered, _data: data }
}

async fn ask(router: &Router, path: &str) -> (StatusCode, Value, Response<()>) {
    let request = Request::get(path).header("origin", "http://localhost:1").body(Body::empty()).expect("request");
    let (parts, body) = router.clone().oneshot(request).await.expect("infallible").into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("body");
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    (parts.status, body, Response::from_parts(parts, ()))
}

#[tokio::test]
async fn a_panic_becomes_an_error_object_that_a_page_may_read() {
    let gateway = fixture(|_| ());
    let (status, body, head) = ask(&gateway.router, "/panics").await;
    assert_eq!((status.as_u16(), &body["code"], &body["message"]), (500, &"INTERNAL".into(), &"Internal error".into()));
    assert_eq!(head.headers()["x-request-id"].to_str().ok(), body["requestId"].as_str());
    assert_eq!(head.headers()["access-control-allow-origin"], "http://localhost:1");
    assert_eq!(head.headers()["x-content-type-options"], "nosniff");
    assert!(!body.to_string().contains("text of a panic"));
    assert_eq!(ask(&gateway.router, "/good").await.0, 200);
}

#[tokio::test]
async fn a_request_that_hangs_is_given_up_at_its_deadline() {
    let gateway = fixture(|config| config.request_timeout_ms = 100);
    let (status, body, _) = ask(&gateway.router, "/hangs").await;
    assert_eq!((status.as_u16(), &body["code"]), (504, &"DEADLINE_EXCEEDED".into()));
}

#[tokio::test]
async fn past_the_most_requests_at_once_they_are_refused_and_the_place_comes_back() {
    let gateway = fixture(|config| config.requests_max = 1);
    let hanging = tokio::spawn({
        let router = gateway.router.clone();
        async move { ask(&router, "/hangs").await }
    });
    tokio::time::timeout(Duration::from_secs(30), gateway.entered.notified()).await.expect("entered");
    let (status, body, _) = ask(&gateway.router, "/good").await;
    assert_eq!((status.as_u16(), &body["code"]), (503, &"UNAVAILABLE".into()));
    hanging.abort();
    // The client has gone, so its request is dropped, and with it the permit.
    drop(hanging.await);
    assert_eq!(ask(&gateway.router, "/good").await.0, 200);
}
