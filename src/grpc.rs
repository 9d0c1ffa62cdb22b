//! Serving gRPC: the router that every service builds its server from, with reflection, live health, authentication, a
//! cap on deadlines and on calls in progress, and limits for those who come past the gateway (`grpc/direct.rs`). It knows no service; `serve` owns the connections, `telemetry` the log
//! line of each call.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures::future::BoxFuture;
use http::{HeaderValue, Request};
use tokio::sync::Semaphore;
use tonic::{Code, Status, metadata::MetadataMap, server::NamedService, service::Routes};
use tonic_health::server::{HealthReporter, health_reporter};
use tower::{Layer, Service};

use crate::{
    config::MeshConfig,
    error::{Reason, Refusal},
    identity::{self, Caller, Identity, UserCaller},
    proto,
    serve::Connection,
    telemetry,
};

mod direct;

use direct::Direct;

/// Where a status has its `ErrorInfo`.
const DETAILS: &str = "grpc-status-details-bin";

/// Health of the services that one process serves; live, so that a process that is not ready says so.
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Sets what `grpc.health.v1` answers for a service.
    pub async fn set_serving<S: NamedService>(&self, serving: bool) {
        if serving {
            self.reporter.set_serving::<S>().await;
        } else {
            self.reporter.set_not_serving::<S>().await;
        }
    }
}

/// The router of a process: its service `S` with everything around it.
pub fn router<S: NamedService>(routes: Routes, identity: Arc<Identity>, mesh: &MeshConfig) -> (axum::Router, Health) {
    router_with::<S>(routes, &[], identity, mesh)
}

/// The router of a process whose routes have more services beside `S`, by their names.
pub fn router_with<S: NamedService>(
    routes: Routes,
    beside: &[&str],
    identity: Arc<Identity>,
    mesh: &MeshConfig,
) -> (axum::Router, Health) {
    let (reporter, health) = health_reporter();
    let reflection = || {
        let names = beside
            .iter()
            .fold(tonic_reflection::server::Builder::configure(), |builder, name| builder.with_service_name(*name));
        names
            // The descriptors are the whole contract; listed is what this process answers.
            .with_service_name(S::NAME)
            .with_service_name("grpc.health.v1.Health")
            .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl shows the reason and the fields of a refusal, and not their bytes.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let broken = "invariant: the descriptor sets were made by this build";
    let routes = routes
        .add_service(health)
        .add_service(reflection().build_v1().expect(broken))
        // grpcurl up to 1.8 asks for v1alpha alone.
        .add_service(reflection().build_v1alpha().expect(broken));
    let limits = &mesh.grpc;
    let gate = Gate {
        identity,
        direct: Arc::new(Direct::new(mesh)),
        calls: Arc::new(Semaphore::new(limits.calls_max)),
        deadline_max: Duration::from_millis(limits.deadline_ms_max),
    };
    let router = routes
        .into_axum_router()
        .layer(GateLayer(gate))
        // Outermost: it times and logs what the gate refuses too.
        .layer(telemetry::RequestLog::grpc());
    (router, Health { reporter })
}

/// What a call passes before its service.
#[derive(Clone)]
struct Gate {
    identity: Arc<Identity>,
    direct: Arc<Direct>,
    calls: Arc<Semaphore>,
    deadline_max: Duration,
}

#[derive(Clone)]
struct GateLayer(Gate);

impl<S> Layer<S> for GateLayer {
    type Service = GateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GateService { gate: self.0.clone(), inner }
    }
}

#[derive(Clone)]
struct GateService<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for GateService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        // The clone may not be ready; the one that was polled is.
        let fresh = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            let answer = gate.pass(request, inner).await;
            Ok(answer.unwrap_or_else(|refusal| Status::from(refusal).into_http()))
        })
    }
}

impl Gate {
    async fn pass<S>(&self, mut request: Request<Body>, mut inner: S) -> Result<Response, Refusal>
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible>,
    {
        // Held until the head of the answer is there: a stream that stays open is bounded by its own limits.
        let Ok(_permit) = self.calls.try_acquire() else {
            return Err(Refusal::new(Reason::Unavailable, "Too many calls in progress; try again"));
        };
        let deadline = deadline(request.headers().get("grpc-timeout"))?
            .map_or(self.deadline_max, |deadline| deadline.min(self.deadline_max));
        let peer = request.extensions().get::<Connection>().and_then(|connection| connection.name.clone());
        self.identity.admit(peer.as_ref(), request.uri().path())?;
        // Who asks how to call, with a token that has expired, is better told so by the call itself.
        let ours = !request.uri().path().starts_with("/grpc.");
        if ours {
            let metadata = MetadataMap::from_headers(std::mem::take(request.headers_mut()));
            let caller = self.identity.authenticate(&metadata).await;
            *request.headers_mut() = metadata.into_headers();
            self.direct.check(&caller, request.extensions().get())?;
            if let Some(caller) = caller? {
                self.identity.agree(peer.as_ref(), &caller)?;
                if let Caller::User(UserCaller { scopes: Some(scopes), .. }) = &caller {
                    identity::require(scopes, request.uri().path())?;
                }
                request.extensions_mut().insert(caller);
            }
        }
        match tokio::time::timeout(deadline, inner.call(request)).await {
            Ok(Ok(response)) if ours => named(response),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(infallible)) => match infallible {},
            Err(_) => Err(Refusal::new(Reason::DeadlineExceeded, "The answer did not come within the deadline")),
        }
    }
}

/// Gives a code to a refusal that tonic made by itself, before any handler: ours all have one. Bytes that are no message of
/// the call are the caller's fault, though gRPC's own libraries call it `INTERNAL`.
fn named(response: Response) -> Result<Response, Refusal> {
    let bare = response.headers().contains_key("grpc-status") && !response.headers().contains_key(DETAILS);
    let status = if bare { Status::from_header_map(response.headers()) } else { None };
    let Some(status) = status else { return Ok(response) };
    let (reason, message) = match status.code() {
        Code::Internal => (Reason::MalformedBody, "The bytes are no request of this call"),
        Code::OutOfRange | Code::ResourceExhausted => (Reason::PayloadTooLarge, "The request is past its limit"),
        Code::Unimplemented => (Reason::MethodNotAllowed, "There is no such call, or no such compression"),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => return Ok(response),
    };
    Err(Refusal::new(reason, message).with_source(status))
}

/// The deadline that a `grpc-timeout` header gives: at most eight digits and a unit.
fn deadline(value: Option<&HeaderValue>) -> Result<Option<Duration>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let bad = || Refusal::field("grpc-timeout", "must be 1–8 digits and one of H, M, S, m, u, n");
    let text = value.to_str().ok().filter(|text| text.is_ascii() && !text.is_empty()).ok_or_else(bad)?;
    let (digits, unit) = text.split_at(text.len() - 1);
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let count: u64 = digits.parse().expect("invariant: at most eight digits");
    Ok(Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return Err(bad()),
    }))
}

#[cfg(test)]
mod tests {
    use test_input::{Edits, bytes};

    use super::*;

    #[test]
    fn fuzz_any_deadline_is_a_time_or_named() {
        bolero::check!().with_type::<Edits>().for_each(|edits| {
            let Ok(value) = HeaderValue::from_bytes(&bytes(&["5S", "99999999H", "1n", "20M", "7u", "300m"], edits))
            else {
                return;
            };
            match deadline(Some(&value)) {
                Ok(given) => assert!(given.is_some_and(|given| given <= Duration::from_secs(99_999_999 * 3_600))),
                Err(refusal) => assert_eq!(refusal.violations[0].field, "grpc-timeout"),
            }
        });
    }

    #[test]
    fn a_deadline_is_read_as_grpc_writes_it_and_a_bad_one_is_named() {
        let read = |text: &str| deadline(Some(&HeaderValue::from_str(text).expect("header")));
        assert_eq!(read("5S").expect("good"), Some(Duration::from_secs(5)));
        assert_eq!(read("99999999n").expect("good"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "S", "-1S", "1", "1x", "123456789S", "1.5S", "1é"] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).expect("header");
            let refusal = deadline(Some(&value)).expect_err(bad);
            assert_eq!(refusal.violations[0].field, "grpc-timeout");
        }
    }
}
