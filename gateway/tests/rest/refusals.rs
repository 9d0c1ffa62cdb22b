//! Every refusal that a service may give, and what becomes of it: in front of a message-svc that says what it is told to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::Uri};
use mesh::{
    error::{FieldViolation, Reason, Refusal},
    serve::{ServeLimits, serve},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::fixture::{Mesh, PATIENCE, Person, port};

/// The words that the contract fixes; every other 401 says "Unauthorized".
const FIXED: [(Reason, &str); 4] = [
    (Reason::InvalidCredentials, "Invalid credentials"),
    (Reason::RoomNotFound, "Room not found"),
    (Reason::AccountExists, "User with this email or username already exists"),
    (Reason::Internal, "Internal error"),
];

/// A service that answers every call with the same status, and counts.
#[derive(Clone)]
struct Refusing {
    status: Arc<Mutex<(Status, u32)>>,
}

impl Refusing {
    async fn start() -> (Mesh, Self, Person) {
        let this = Self { status: Arc::new(Mutex::new((Status::unknown(""), 0))) };
        let listener = port().await;
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let mesh = Mesh::start_with(|mesh, _| mesh.message_url = url).await;
        let answers = this.clone();
        let router = Router::new().fallback(move |uri: Uri| {
            let answers = answers.clone();
            async move {
                let (status, count) = &mut *answers.status.lock().expect("lock");
                // The realtime edge asks as well, and who looks whether this replica lives, whenever they like.
                let called = !uri.path().ends_with("/WatchRooms") && !uri.path().starts_with("/grpc.health.");
                *count += u32::from(called);
                status.clone().into_http::<axum::body::Body>()
            }
        });
        let stop: CancellationToken = mesh.stop.clone();
        tokio::spawn(async move { serve(listener, router, &ServeLimits::default(), stop).await });
        let ada = mesh.person("ada").await;
        (mesh, this, ada)
    }

    fn set(&self, status: impl Into<Status>) {
        *self.status.lock().expect("lock") = (status.into(), 0);
    }

    fn count(&self) -> u32 {
        self.status.lock().expect("lock").1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_of_the_catalogue_arrives_with_its_status() {
    let (mesh, service, ada) = Refusing::start().await;
    for &reason in Reason::ALL {
        let violation = FieldViolation::new("room.name", "must be nicer");
        let mut refusal = Refusal::new(reason, "In the service's words");
        refusal.violations.push(violation);
        service.set(refusal.with_retry_after(Duration::from_millis(1_500)));
        let answer = mesh.get(&ada, "/api/rooms").await;
        answer.refused(reason.http(), reason.as_str());
        assert_eq!(answer.fields(), ["name"]);
        assert_eq!(answer.headers["retry-after"], "2");
        let fixed = FIXED.iter().find(|(fixed, _)| *fixed == reason).map(|(_, words)| *words);
        // Who gave the password already is told what else is wanted; nobody else is told why.
        let told = matches!(reason, Reason::MfaRequired | Reason::MfaCodeInvalid);
        let unauthorized = (reason.http() == 401 && !told).then_some("Unauthorized");
        let words = fixed.or(unauthorized).unwrap_or("In the service's words");
        answer.says(words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_status_shows_nothing_of_its_text() {
    let (mesh, service, ada) = Refusing::start().await;
    for (status, code, expected) in [
        (Status::internal("postgres://me:secret@db"), "INTERNAL", 500),
        (Status::unknown("secret"), "INTERNAL", 500),
        (Status::unimplemented("secret"), "INTERNAL", 500),
        (Status::unavailable("10.0.0.1: secret"), "UNAVAILABLE", 503),
        (Status::deadline_exceeded("secret"), "DEADLINE_EXCEEDED", 504),
        (Status::resource_exhausted("secret"), "RATE_LIMITED", 429),
    ] {
        service.set(status);
        let answer = mesh.get(&ada, "/api/rooms").await;
        answer.refused(expected, code);
        assert!(!answer.body.to_string().contains("secret"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_repeated_is_tried_again_and_nothing_else() {
    let (mesh, service, ada) = Refusing::start().await;
    const ROOM: &str = "/api/rooms/00000000-0000-4000-8000-000000000000";
    let messages = format!("{ROOM}/messages");
    for (method, path, body, tries) in [
        ("GET", "/api/rooms", Value::Null, 3),
        ("POST", "/api/rooms", json!({"name": "x", "roomType": "public"}), 3),
        ("POST", &messages, json!({"content": "x"}), 3),
        ("DELETE", ROOM, Value::Null, 1),
    ] {
        service.set(Refusal::unavailable("a store"));
        mesh.by(&ada, method, path, &body).await.refused(503, "UNAVAILABLE");
        assert_eq!(service.count(), tries, "{method} {path}");
        service.set(Refusal::new(Reason::Internal, ""));
        mesh.by(&ada, method, path, &body).await.refused(500, "INTERNAL");
        assert_eq!(service.count(), 1, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_costs_the_deadline_and_no_more() {
    let listener = port().await;
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let mesh = Mesh::start_with(|mesh, gateway| {
        mesh.message_url = url;
        // Registering must get through in this time, also on a machine that is busy.
        gateway.call_timeout_ms = 4_000;
    })
    .await;
    let ada = mesh.person("ada").await;
    // The port is open and nobody speaks.
    let answer = tokio::time::timeout(PATIENCE, mesh.get(&ada, "/api/rooms")).await.expect("in time");
    assert!(["DEADLINE_EXCEEDED", "UNAVAILABLE"].contains(&answer.body["code"].as_str().expect("code")), "{answer:?}");
    drop(listener);
}
