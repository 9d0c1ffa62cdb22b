//! One message, one trace: from the client over each process to the statement that writes it and on to the gateway that
//! delivers it, seen by a collector of the test's own. And what becomes of the sends when there is no collector.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value as Any,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use crate::{
    logs,
    mesh::{Mesh, Part},
    rest::{Answer, Person, unique},
    wait,
};

/// A collector on a port of its own.
struct Collector {
    endpoint: String,
    exports: Exports,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone, Default)]
struct Exports {
    all: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    silent: bool,
}

#[tonic::async_trait]
impl TraceService for Exports {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.silent {
            std::future::pending::<()>().await;
        }
        if request.metadata().get("x-key").is_none_or(|key| key != "canary-key") {
            return Err(Status::unauthenticated("the key is missing"));
        }
        self.all.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(silent: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let exports = Exports { silent, ..Exports::default() };
        let service = TraceServiceServer::new(exports.clone());
        let serving =
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { endpoint, exports, _task: AbortOnDropHandle::new(task) }
    }

    /// Every span so far, with the service that made it.
    fn spans(&self) -> Vec<(String, Span)> {
        let exports = self.exports.all.lock().unwrap().clone();
        let mut found = Vec::new();
        for of_service in exports.into_iter().flat_map(|export| export.resource_spans) {
            let resource = of_service.resource.unwrap();
            let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            let Some(Any::StringValue(service)) = name.value.clone().unwrap().value else { panic!("no name") };
            let spans = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
            found.extend(spans.map(|span| (service.clone(), span)));
        }
        found
    }

    /// The spans of one trace, once all of these have come.
    async fn trace(&self, id: &str, names: &[&str]) -> Trace {
        let what = format!("{names:?} of the trace {id}");
        let trace = wait::until(&what, async || {
            let of_trace = self.spans().into_iter().filter(|(_, span)| hex(&span.trace_id) == id);
            let by_name: HashMap<_, _> = of_trace.map(|(service, span)| (span.name.clone(), (service, span))).collect();
            names.iter().all(|name| by_name.contains_key(*name)).then_some(by_name)
        });
        Trace(trace.await)
    }
}

/// The spans of one trace by name.
struct Trace(HashMap<String, (String, Span)>);

impl Trace {
    #[track_caller]
    fn check(&self, name: &str, service: &str, kind: SpanKind, parent: &[u8]) -> Vec<u8> {
        let (of, span) = &self.0[name];
        assert_eq!((of.as_str(), span.kind()), (service, kind), "{name}");
        assert_eq!(hex(&span.parent_span_id), hex(parent), "the parent of {name}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{name}");
        span.span_id.clone()
    }

    fn attribute(&self, name: &str, key: &str) -> Any {
        let span = &self.0[name].1;
        let found = span.attributes.iter().find(|attribute| attribute.key == key);
        found.unwrap_or_else(|| panic!("{name} has no {key}: {span:?}")).value.clone().unwrap().value.unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced(collector: &Collector) -> Mesh {
    let plan = Mesh::plan().separate().set("mesh.telemetry.otlp.endpoint", collector.endpoint.as_str());
    plan.set("mesh.telemetry.otlp.headers", "x-key=canary-key").set("mesh.telemetry.otlp.sample_ratio", 1.0).start()
}

/// Waits until the gateway has exported what it did until now. What a watcher reads from the store and not from a hint,
/// because it has just begun, is delivered without a span; then the next message has one.
async fn flushed(collector: &Collector, ada: &Person) {
    let trace = hex(&rand::random::<[u8; 16]>());
    let request = ada.api.request(Method::GET, "/rooms", Some(&ada.access));
    let request = request.header("traceparent", format!("00-{trace}-{}-01", hex(&[7; 8])));
    Answer::read(request).await.unwrap().ok(200);
    collector.trace(&trace, &["GET /api/rooms"]).await;
}

/// The name of the statement that writes entries, whatever store they are in.
const COMMIT: &str = "INSERT entries";
const REST: &str = "POST /api/rooms/{id}/messages";
const RPC: &str = "switchboard.message.v1.MessageService/SendMessage";
const BUNDLE: &str = "switchboard.message.v1.SendService/SendBundle";

#[tokio::test]
async fn a_message_sent_over_rest_is_one_trace_from_the_client_to_the_store_and_to_who_gets_it() {
    let collector = Collector::start(false).await;
    let mesh = traced(&collector);
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    let mut socket = ada.socket().await;
    socket.join(&room, None).await;

    // The client's own trace, which it gets back.
    let parent = [7_u8; 8];
    let (trace, back) = wait::until("a message that was hinted to its gateway", async || {
        let trace = hex(&rand::random::<[u8; 16]>());
        let request = ada.api.request(Method::POST, &format!("/rooms/{room}/messages"), Some(&ada.access));
        let request = request.header("traceparent", format!("00-{trace}-{}-01", hex(&parent)));
        let answer = Answer::read(request.json(&json!({"content": "hello"}))).await.unwrap();
        let back = answer.headers["traceparent"].to_str().unwrap().to_owned();
        answer.ok(201);
        socket.event("new_message").await;
        flushed(&collector, &ada).await;
        let delivered =
            collector.spans().iter().any(|(_, span)| span.name == "deliver" && hex(&span.trace_id) == trace);
        delivered.then_some((trace, back))
    })
    .await;

    let spans = collector.trace(&trace, &[REST, RPC, "append", COMMIT, "deliver"]).await;
    let rest = spans.check(REST, "gateway", SpanKind::Server, &parent);
    assert_eq!(back, format!("00-{trace}-{}-01", hex(&rest)));
    let rpc = spans.check(RPC, "message-svc", SpanKind::Server, &rest);
    let append = spans.check("append", "message-svc", SpanKind::Internal, &rpc);
    spans.check(COMMIT, "message-svc", SpanKind::Client, &append);
    spans.check("deliver", "gateway", SpanKind::Producer, &rpc);
    let text = |text: &str| Any::StringValue(text.to_owned());
    assert_eq!(spans.attribute(REST, "http.request.method"), text("POST"));
    assert_eq!(spans.attribute(REST, "http.route"), text("/api/rooms/{id}/messages"));
    assert_eq!(spans.attribute(REST, "http.response.status_code"), Any::IntValue(201));
    assert_eq!(spans.attribute(RPC, "rpc.system"), text("grpc"));
    assert_eq!(spans.attribute(RPC, "rpc.grpc.status_code"), Any::IntValue(0));
    assert_eq!(spans.attribute(COMMIT, "db.collection.name"), text("entries"));
    assert_eq!(spans.attribute("deliver", "switchboard.sockets"), Any::IntValue(1));

    // A refusal has its trace in the answer as well.
    let refused = ada.call(Method::GET, &format!("/rooms/{room}/messages?limit=x"), None).await;
    assert_eq!(refused.headers["traceparent"].len(), 55, "{}", refused.text);
}

#[tokio::test]
async fn messages_sent_over_socket_io_are_traces_to_the_store_and_to_who_gets_them() {
    let collector = Collector::start(false).await;
    let mesh = traced(&collector);
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("public").await;
    let mut socket = ada.socket().await;
    socket.join(&room, None).await;
    let trace = wait::until("a message that was hinted to its gateway", async || {
        socket.ok("send_message", json!({"roomId": room, "content": "hello"})).await;
        socket.event("new_message").await;
        flushed(&collector, &ada).await;
        collector.spans().into_iter().find(|(_, span)| span.name == "deliver").map(|(_, span)| hex(&span.trace_id))
    })
    .await;
    let spans = collector.trace(&trace, &["send_message", BUNDLE, "append", COMMIT, "deliver"]).await;
    let event = spans.check("send_message", "gateway", SpanKind::Server, &[]);
    let bundle = spans.check(BUNDLE, "message-svc", SpanKind::Server, &event);
    let append = spans.check("append", "message-svc", SpanKind::Internal, &bundle);
    spans.check(COMMIT, "message-svc", SpanKind::Client, &append);
    spans.check("deliver", "gateway", SpanKind::Producer, &bundle);
    assert_eq!(spans.attribute("send_message", "messaging.system"), Any::StringValue("socket.io".to_owned()));

    for name in [BUNDLE, "append"] {
        assert_eq!(spans.attribute(name, "messaging.batch.message_count"), Any::IntValue(1), "{name}");
    }

    // Sends of many that are written together: what writes them is linked to each.
    let people = futures::future::join_all((0..8).map(|_| Person::new(&mesh, "friend"))).await;
    let mut sockets = Vec::new();
    for person in &people {
        person.join(&room).await;
        sockets.push(person.socket().await);
    }
    let crowded = wait::until("sends that are written together", async || {
        let payload = || json!({"roomId": room, "content": "at once"});
        futures::future::join_all(sockets.iter().map(|socket| socket.ok("send_message", payload()))).await;
        collector.spans().into_iter().find(|(_, span)| span.name == "append" && !span.links.is_empty())
    });
    let (_, append) = crowded.await;
    let linked = append.links[0].clone();
    let bundle = wait::until("the span that is linked to", async || {
        collector.spans().into_iter().find(|(_, span)| span.span_id == linked.span_id)
    });
    let (_, bundle) = bundle.await;
    assert_eq!((bundle.name.as_str(), &bundle.trace_id), (BUNDLE, &linked.trace_id));
    assert_ne!(bundle.trace_id, append.trace_id, "the first one's trace goes on, the others' are linked");
}

#[tokio::test]
async fn a_failed_request_is_exported_though_its_trace_is_not_sampled() {
    let collector = Collector::start(false).await;
    let plan = Mesh::plan().separate().set("mesh.telemetry.otlp.endpoint", collector.endpoint.as_str());
    let plan = plan.set("mesh.telemetry.otlp.headers", "x-key=canary-key").set("mesh.telemetry.otlp.batch_ms", 10);
    let mesh = plan.set("mesh.telemetry.otlp.sample_ratio", 0.0).start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    ada.call(Method::GET, "/rooms", None).await.ok(200);
    mesh.kill(Part::Message);
    let failed = ada.call(Method::GET, &format!("/rooms/{room}"), None).await;
    let trace = failed.headers["traceparent"].to_str().unwrap()[3..35].to_owned();
    failed.refused(503, "UNAVAILABLE");
    let name = "GET /api/rooms/{id}";
    let spans = collector.trace(&trace, &[name]).await;
    assert_eq!(spans.0[name].1.status.clone().unwrap().code(), StatusCode::Error);
    assert_eq!(spans.attribute(name, "error.type"), Any::StringValue("UNAVAILABLE".to_owned()));
    let healthy = collector
        .spans()
        .into_iter()
        .filter(|(_, span)| span.status.as_ref().is_none_or(|status| status.code() != StatusCode::Error));
    assert_eq!(healthy.map(|(_, span)| span.name).collect::<Vec<_>>(), Vec::<String>::new());
}

// Waiting for a process to end blocks a thread, and the collector needs another one meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_in_any_span() {
    let collector = Collector::start(false).await;
    let plan = Mesh::plan().separate().set("gateway.trusted_proxies", "127.0.0.1");
    let plan = plan.set("mesh.telemetry.otlp.endpoint", collector.endpoint.as_str());
    let plan = plan.set("mesh.telemetry.otlp.headers", "x-key=canary-key");
    let mesh = plan.set("mesh.telemetry.otlp.sample_ratio", 1.0).start();
    let mut secrets = logs::walk(&mesh).await;
    let lost = unique("canary-path");
    crate::rest::Api::new(&mesh).get(&format!("/reset/{lost}?token={lost}")).await.refused(404, "NOT_FOUND");
    secrets.push(("a path that nobody serves", lost));
    secrets.push(("the collector's key", "canary-key".to_owned()));
    // What waits is exported before a process ends.
    for part in mesh.parts() {
        assert!(mesh.stop(*part).success());
    }
    let exported: Vec<u8> =
        collector.exports.all.lock().unwrap().iter().flat_map(|export| export.encode_to_vec()).collect();
    let text = String::from_utf8_lossy(&exported);
    for service in ["gateway", "auth-svc", "user-svc", "message-svc"] {
        assert!(
            collector.spans().iter().any(|(of, _)| of == service),
            "no span of {service}: the search proves nothing"
        );
    }
    for (what, secret) in &secrets {
        assert!(!text.contains(secret), "{what} is in a span");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_silent_or_refuses_harms_no_send() {
    let (silent, refusing) = (Collector::start(true).await, Collector::start(false).await);
    let away = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for endpoint in [away, silent.endpoint.clone(), refusing.endpoint.clone()] {
        let plan = Mesh::plan().set("mesh.telemetry.otlp.endpoint", endpoint.as_str());
        // So few that they are all in use at once, and no key, which the third one refuses.
        let plan = plan.set("mesh.telemetry.otlp.queue_max", 8).set("mesh.telemetry.otlp.batch_ms", 10);
        let mesh = plan.set("mesh.telemetry.otlp.sample_ratio", 1.0).set("mesh.telemetry.otlp.timeout_ms", 500).start();
        let ada = Person::new(&mesh, "ada").await;
        let room = ada.room("private").await;
        let mut socket = ada.socket().await;
        socket.join(&room, None).await;
        for number in 0..50 {
            socket.ok("send_message", json!({"roomId": room, "content": format!("number {number}")})).await;
        }
        for number in 0..50 {
            let event = socket.event("new_message").await;
            assert_eq!(event.data["content"], format!("number {number}"));
        }
        let all = mesh.parts()[0];
        let lost = || mesh.metric(all, "switchboard_telemetry_spans_total");
        wait::until("lost spans in the metrics", async || (lost() > 0.0).then_some(())).await;
        wait::until("a line about it", async || {
            let log = std::fs::read_to_string(mesh.log(all)).unwrap();
            log.contains("The collector takes no spans").then_some(())
        })
        .await;
        assert!(mesh.stop(all).success());
        let log = std::fs::read_to_string(mesh.log(all)).unwrap();
        assert_eq!(log.matches("The collector takes no spans").count(), 1, "{log}");
    }
}
