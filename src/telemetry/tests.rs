//! Log lines and trace context of requests, seen through a writer of the test's own. The subscriber is that of `init`.

use std::{
    convert::Infallible,
    future::pending,
    io::Write,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, response::Response, routing::get};
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tracing::subscriber::DefaultGuard;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("lock").clone()).expect("UTF-8")
    }

    fn json(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The lines of requests; there must be exactly one.
    fn one(&self) -> Value {
        let mut lines = self.json();
        lines.retain(|line| line["target"] == "request");
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }
}

fn capture_with(filter: &str, style: log::Style) -> (Lines, DefaultGuard) {
    let lines = Lines::default();
    let writer = lines.clone();
    let filter = filter.parse().expect("filter");
    let subscriber =
        subscriber(filter, style, "a test", &provider(&OtlpConfig::default(), resource("a test"), None), move || {
            writer.clone()
        });
    (lines, tracing::subscriber::set_default(subscriber))
}

fn capture() -> (Lines, DefaultGuard) {
    capture_with("info", log::Style::Json)
}

async fn ask(router: Router, request: http::request::Builder) -> (StatusCode, String) {
    let response = router.layer(RequestLog::http()).oneshot(request.body(Body::empty()).expect("request")).await;
    let response = response.expect("infallible");
    let status = response.status();
    let body = response.into_body().collect().await.expect("body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

/// Calls a gRPC server that answers like this, and reads the answer to its end.
async fn call(path: &str, answer: impl Fn() -> Response + Clone + Send + 'static) {
    let server = RequestLog::grpc().layer(service_fn(move |_: Request<Body>| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(answer()) }
    }));
    let request = Request::post(path).body(Body::empty()).expect("request");
    let response = server.oneshot(request).await.expect("infallible");
    response.into_body().collect().await.expect("body");
}

#[tokio::test]
async fn a_request_leaves_one_line_with_its_route_and_the_callers_trace() {
    let (lines, _guard) = capture();
    let handler = || async {
        tracing::info!("within");
        ([("x-request-id", "r-1")], "body text")
    };
    let request = Request::get("/rooms/of-somebody?token=secret")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("cookie", "c");
    let (_, body) = ask(Router::new().route("/rooms/{id}", get(handler)), request).await;
    assert_eq!(body, "body text");
    let line = lines.one();
    assert_eq!(line["message"], "GET /rooms/{id} answered 200");
    assert_eq!(line["level"], "INFO");
    assert_eq!((&line["http.request.method"], &line["http.route"]), (&"GET".into(), &"/rooms/{id}".into()));
    assert_eq!((&line["http.response.status_code"], &line["request.id"]), (&200.into(), &"r-1".into()));
    assert_eq!(line["service.name"], "a test");
    assert!(line["duration_ms"].is_number() && line.get("url.path").is_none());
    let all = lines.json();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|line| line["trace_id"] == TRACE), "{all:?}");
    let text = lines.text();
    assert!(
        !text.contains("secret")
            && !text.contains("cookie")
            && !text.contains("body text")
            && !text.contains("of-somebody")
    );
}

#[tokio::test]
async fn an_unknown_path_is_told_without_its_query() {
    let (lines, _guard) = capture();
    ask(Router::new(), Request::delete("/nowhere?a=b")).await;
    let line = lines.one();
    assert_eq!(line["message"], "DELETE /nowhere answered 404");
    assert_eq!((&line["url.path"], line.get("http.route")), (&"/nowhere".into(), None));
    assert!(line["trace_id"].as_str().is_some_and(|id| id.len() == 32));
}

#[tokio::test]
async fn a_failure_is_told_with_its_causes_when_it_is_ours_and_with_its_code_alone_when_not() {
    let failing = |status: StatusCode| async move {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let source = Arc::new(io::Error::other("the disk is full"));
        response.extensions_mut().insert(Failure { code: "SOME_CODE", source: Some(source) });
        response
    };
    for (status, level, cause) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "ERROR", Value::from("the disk is full")),
        (StatusCode::GATEWAY_TIMEOUT, "WARN", Value::from("the disk is full")),
        (StatusCode::BAD_REQUEST, "INFO", Value::Null),
    ] {
        let (lines, _guard) = capture();
        ask(Router::new().route("/", get(move || failing(status))), Request::get("/")).await;
        let line = lines.one();
        assert_eq!(
            (&line["level"], &line["error.type"], &line["error.message"]),
            (&level.into(), &"SOME_CODE".into(), &cause)
        );
    }
}

#[tokio::test]
async fn a_request_that_the_client_gives_up_leaves_one_line() {
    let (lines, _guard) = capture();
    let router = Router::new().route("/", get(pending::<()>)).layer(RequestLog::http());
    let future = router.oneshot(Request::get("/").body(Body::empty()).expect("request"));
    assert!(future.now_or_never().is_none());
    assert_eq!(lines.one()["message"], "GET / was given up by the client");
}

#[tokio::test]
async fn a_refused_call_is_told_with_its_reason_and_a_broken_one_with_its_causes() {
    let (lines, _guard) = capture();
    call("/switchboard.auth.v1.AuthService/Login", || {
        let details = ErrorDetails::with_error_info("INVALID_CREDENTIALS", "switchboard", []);
        Status::with_error_details(Code::Unauthenticated, "wrong password of somebody", details).into_http()
    })
    .await;
    let line = lines.one();
    assert_eq!(line["message"], "switchboard.auth.v1.AuthService/Login answered UNAUTHENTICATED");
    assert_eq!((&line["level"], &line["error.type"]), (&"INFO".into(), &"INVALID_CREDENTIALS".into()));
    assert_eq!((&line["rpc.grpc.status_code"], &line["rpc.method"]), (&16.into(), &"Login".into()));
    assert!(!lines.text().contains("somebody"));

    let (lines, _guard) = capture();
    call("/a.v1.A/Do", || {
        let mut status = Status::internal("Something went wrong");
        status.set_source(Arc::new(io::Error::other("the disk is full")));
        status.into_http()
    })
    .await;
    let line = lines.one();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["error.message"], "Something went wrong (INTERNAL): the disk is full");
}

#[tokio::test]
async fn a_stream_is_told_when_it_ends_with_the_status_of_its_trailers() {
    let (lines, _guard) = capture();
    let seen = lines.clone();
    call("/a.v1.A/Watch", move || {
        let seen = seen.clone();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("11"));
        let frames = [Ok::<_, Infallible>(Frame::data("x".into())), Ok(Frame::trailers(trailers))];
        let frames = futures::stream::iter(frames).inspect(move |_| assert_eq!(seen.text(), "", "told too early"));
        Response::new(Body::new(StreamBody::new(frames)))
    })
    .await;
    assert_eq!(lines.one()["message"], "a.v1.A/Watch answered OUT_OF_RANGE");
}

#[tokio::test]
async fn calls_carry_the_trace_on_also_when_only_warnings_are_logged() {
    let (lines, _guard) = capture_with("warn", log::Style::Json);
    let handler = || async {
        let (mut headers, mut metadata) = (HeaderMap::new(), tonic::metadata::MetadataMap::new());
        inject(&mut headers);
        inject_metadata(&mut metadata);
        assert_eq!(metadata.into_headers(), headers);
        format!("{} {:?}", trace_id().expect("a trace"), headers["traceparent"])
    };
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let request = Request::get("/").header("traceparent", &parent).header("tracestate", "a=b");
    let (_, body) = ask(Router::new().route("/", get(handler)), request).await;
    assert!(body.starts_with(&format!("{TRACE} \"00-{TRACE}-")) && body.ends_with("-01\""), "{body}");
    assert!(!body.contains("00f067aa0ba902b7"), "the span is a new one");
    assert_eq!(lines.text(), "");
    assert_eq!(trace_id(), None);
}

#[tokio::test]
async fn only_a_sampled_trace_is_carried_on_beside_work_that_waits_and_an_answer_tells_its_trace() {
    let (_lines, _guard) = capture();
    let handler = || async { sampled_traceparent() };
    for (flags, carried) in [("01", true), ("00", false)] {
        let request = Request::get("/").header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-{flags}"));
        let router = Router::new().route("/", get(handler)).layer(RequestLog::http());
        let response = router.oneshot(request.body(Body::empty()).expect("request")).await.expect("infallible");
        let told = response.headers()["traceparent"].to_str().expect("ASCII").to_owned();
        let body = response.into_body().collect().await.expect("body").to_bytes();
        assert_eq!(body, if carried { told.clone() } else { String::new() });
        assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with(flags), "{told}");
        assert_eq!(Origin::parse(&told).map(|origin| origin.traceparent()), carried.then_some(told));
    }
    assert!(Origin::parse("").is_none() && Origin::parse("00-0-0-01").is_none() && Origin::current().is_none());
    assert!(continued([], || unreachable!("no span is made for nobody")).is_none());
}

#[test]
fn nobody_can_forge_a_line_for_people() {
    let (lines, _guard) = capture_with("info", log::Style::Human { colour: false });
    tracing::warn!(name = "a\nb \u{1b}[31m", count = 3, "one\ntwo");
    let text = lines.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    let part = " WARN  mesh::telemetry::tests: one\\ntwo name=\"a\\nb \\u{1b}[31m\" count=3\n";
    assert!(text.ends_with(part), "{text}");
}

#[tokio::test]
async fn routes_that_do_not_exist_share_one_label() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    ask(Router::new(), Request::get("/a/17")).await;
    call("/a.v1.A/B", || Status::unimplemented("").into_http()).await;
    let text = recorder.handle().render();
    let http = "http_server_request_duration_seconds_count{method=\"GET\",route=\"unmatched\",status=\"404\"} 1";
    assert!(text.contains(http), "{text}");
    let rpc = "rpc_server_duration_seconds_count{rpc_service=\"unmatched\",rpc_method=\"unmatched\",code=\"UNIMPLEMENTED\"} 1";
    assert!(text.contains(rpc), "{text}");
}

#[test]
fn telemetry_can_be_installed_twice_and_a_bad_filter_is_explained() {
    let config = TelemetryConfig { filter: "off".to_owned(), ..TelemetryConfig::default() };
    let (first, second) = (init(&config, "one").expect("first"), init(&config, "two").expect("second"));
    metrics::counter!("a_test_total").increment(1);
    assert!(first.metrics().render().contains("a_test_total 1"));
    assert!(second.metrics().render().contains("a_test_total 1"));
    let error =
        init(&TelemetryConfig { filter: "loud=very".to_owned(), ..config }, "one").expect_err("bad").to_string();
    assert!(error.contains("loud=very"), "{error}");
}
