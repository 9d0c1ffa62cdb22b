//! Servers of one service on ports of this machine, under one name whose addresses the test decides: who is called, who
//! is left out, and who comes back.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::Server};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{Health as HealthService, HealthServer},
};

use super::*;
use crate::client::{Retries, place, route::Route};

/// What the test asks for; the replicas' own looking asks for the service.
const CALL: &str = "call";

/// A name server that says what the test wants.
#[derive(Debug, Default)]
struct Names(Mutex<Vec<SocketAddr>>);

impl Names {
    fn say(&self, addresses: &[SocketAddr]) {
        *self.0.lock().expect("lock") = addresses.to_vec();
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!(host, "messages.example");
        let addresses = self.0.lock().expect("lock").clone();
        if addresses.is_empty() { Err(io::Error::other("no such name")) } else { Ok(addresses) }
    }
}

/// Answers that it serves, and counts the test's calls.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

#[async_trait]
impl HealthService for Counting {
    type WatchStream = futures::stream::Pending<Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.fetch_add(usize::from(request.get_ref().service == CALL), Ordering::SeqCst);
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }
}

/// One server, which can be killed and started again at its address.
struct One {
    address: SocketAddr,
    calls: Counting,
    runtime: Option<tokio::runtime::Runtime>,
}

impl One {
    fn start() -> Self {
        let mut one = Self { address: ([127, 0, 0, 1], 0).into(), calls: Counting::default(), runtime: None };
        one.again();
        one
    }

    /// In a runtime of its own: when that goes, all of its connections break as those of a killed process do.
    fn again(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
        // Taken here and not by the task, so that a call that comes at once is not refused.
        let entered = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a socket");
        socket.bind(self.address).expect("port");
        let listener = socket.listen(64).expect("port");
        drop(entered);
        self.address = listener.local_addr().expect("address");
        let calls = self.calls.clone();
        runtime.spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let served = Server::builder().add_service(HealthServer::new(calls)).serve_with_incoming(incoming);
            served.await.expect("served");
        });
        self.runtime = Some(runtime);
    }

    fn kill(&mut self) {
        self.runtime.take().expect("it runs").shutdown_background();
    }

    fn calls(&self) -> usize {
        self.calls.0.swap(0, Ordering::SeqCst)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        if self.runtime.is_some() {
            self.kill();
        }
    }
}

fn follow(urls: &str, names: &Arc<Names>) -> Replicas {
    let config = ReplicasConfig { resolve_ms: 100, check_ms: 100, silence_ms_max: 500 };
    let resolver = Arc::clone(names) as Arc<dyn Resolve>;
    let service = (ServiceName::Message, "service");
    Replicas::follow(service, place::places(urls).expect("good"), resolver, None, (GrpcLimits::default(), config))
}

fn named(names: &Arc<Names>) -> Replicas {
    follow("http://messages.example:50002", names)
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

async fn call(route: Route) -> Result<(), Status> {
    HealthClient::new(route).check(HealthCheckRequest { service: CALL.into() }).await.map(drop)
}

async fn alive(replicas: &Replicas, count: usize) {
    until(&format!("{count} are alive: {}", replicas.summary()), || replicas.now().alive() == count).await;
}

fn heard(replicas: &Replicas) -> bool {
    replicas.now().iter().all(|replica| replica.health().heard.is_some())
}

/// A room of this replica's.
fn room_of(replicas: &Replicas, address: SocketAddr) -> Uuid {
    std::iter::repeat_with(Uuid::new_v4)
        .find(|room| replicas.now().owner(*room).is_some_and(|owner| owner.address == address))
        .expect("one of many")
}

#[tokio::test]
async fn replicas_that_come_and_go_under_a_name_are_followed() {
    let (one, two) = (One::start(), One::start());
    let names = Arc::new(Names::default());
    names.say(&[one.address]);
    let replicas = named(&names);
    for _ in 0..4 {
        call(Route::any(&replicas)).await.expect("answered");
    }
    assert_eq!((one.calls(), two.calls()), (4, 0));
    let first = Arc::clone(replicas.now().iter().next().expect("one"));

    names.say(&[two.address, one.address]);
    until("the second is known", || replicas.now().replicas.len() == 2).await;
    assert!(replicas.now().iter().any(|replica| Arc::ptr_eq(replica, &first)), "who stays keeps their connection");
    for _ in 0..4 {
        call(Route::any(&replicas)).await.expect("answered");
    }
    assert_eq!((one.calls(), two.calls()), (2, 2), "each in turn");

    names.say(&[two.address]);
    until("the first is gone", || replicas.now().replicas.len() == 1).await;
    call(Route::any(&replicas)).await.expect("answered");
    assert_eq!((one.calls(), two.calls()), (0, 1));

    // A name server that knows nothing any more says nothing about who is there.
    names.say(&[]);
    let mut changes = replicas.changes();
    changes.mark_unchanged();
    tokio::time::timeout(Duration::from_millis(400), changes.changed()).await.expect_err("no change");
    call(Route::any(&replicas)).await.expect("answered");
}

fn retries(tries_max: u32) -> Retries {
    Retries::new(&GrpcLimits { tries_max, ..GrpcLimits::default() })
}

#[tokio::test]
async fn a_room_has_one_replica_and_the_next_one_while_that_is_dead() {
    let (mut one, two) = (One::start(), One::start());
    let replicas = follow(&format!("http://{},http://{}", one.address, two.address), &Arc::default());
    until("both have answered", || replicas.now().alive() == 2 && heard(&replicas)).await;
    let room = room_of(&replicas, one.address);
    for _ in 0..3 {
        call(Route::room(&replicas, room)).await.expect("answered");
    }
    assert_eq!((one.calls(), two.calls()), (3, 0));

    one.kill();
    let answer = retries(3).call(|| call(Route::room(&replicas, room))).await;
    answer.expect("the other one has answered within the tries that a call has");
    assert_eq!(two.calls(), 1);
    alive(&replicas, 1).await;
    for _ in 0..4 {
        call(Route::any(&replicas)).await.expect("nobody is sent to the dead one");
    }
    assert_eq!(two.calls(), 4);

    one.again();
    alive(&replicas, 2).await;
    call(Route::room(&replicas, room)).await.expect("answered");
    assert_eq!((one.calls(), two.calls()), (1, 0), "the room is back where it belongs");
}

#[tokio::test]
async fn who_waits_for_a_replica_that_hangs_is_let_go_when_there_is_another() {
    let two = One::start();
    // It takes connections and says nothing.
    let hanging = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = hanging.local_addr().expect("address");
    let replicas = follow(&format!("http://{address},http://{}", two.address), &Arc::default());
    replicas.known().await;
    let room = room_of(&replicas, address);
    let status = call(Route::room(&replicas, room)).await.expect_err("nobody answered");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    call(Route::room(&replicas, room)).await.expect("the next one answers");
    drop(hanging);
}

#[tokio::test]
async fn with_nobody_alive_a_call_is_tried_all_the_same() {
    let mut one = One::start();
    let replicas = follow(&format!("http://{}", one.address), &Arc::default());
    until("it has answered", || heard(&replicas)).await;
    one.kill();
    call(Route::any(&replicas)).await.expect_err("nobody is there");
    alive(&replicas, 0).await;
    assert!(replicas.summary().contains(&format!("0 of 1 replicas healthy; not {}", one.address)));
    one.again();
    retries(10).call(|| call(Route::any(&replicas))).await.expect("it is tried before it is looked at");
    replicas.probe().await.expect("serving");
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_a_service_that_is_away() {
    let replicas = named(&Arc::default());
    let status = call(Route::any(&replicas)).await.expect_err("no address");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(replicas.probe().await.is_err());
}
