//! The serving loop against raw TCP clients: what it ends, what it lets finish, and how it stops.

use std::{future::pending, io::ErrorKind, net::Ipv4Addr};

use axum::{
    Extension,
    body::Bytes,
    routing::{any, get},
};
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::Upgraded;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::*;

mod secured;

/// Generous: the machine may be busy. No test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough to see that something does not happen.
const MOMENT: Duration = Duration::from_millis(100);

struct Running {
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(router: Router, limits: ServeLimits) -> Running {
    let listener = bind("a test", (Ipv4Addr::LOCALHOST, 0).into(), "NO_PORT").await.expect("port");
    let addr = listener.local_addr().expect("address");
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let task = tokio::spawn(async move { serve(listener, router, &limits, token).await });
    Running { addr, shutdown, task }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn send(addr: SocketAddr, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(addr).await.expect("connect");
    client.write_all(request.as_bytes()).await.expect("send");
    client
}

/// Everything until the server ends the connection, politely or not.
async fn rest(client: &mut TcpStream) -> String {
    let mut all = Vec::new();
    if let Err(error) = soon("the end of the connection", client.read_to_end(&mut all)).await {
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn head(client: &mut TcpStream) -> String {
    let mut all = Vec::new();
    while !all.ends_with(b"\r\n\r\n") {
        all.push(soon("the answer's head", client.read_u8()).await.expect("byte"));
    }
    String::from_utf8(all).expect("UTF-8")
}

const UPGRADE: &str = "GET /up HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";
const PLAIN: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// A router that upgrades at `/up` and hands the upgraded connection to the test; `/` answers "hello".
fn upgrading() -> (Router, mpsc::Receiver<(Connection, Upgraded)>) {
    let (sender, receiver) = mpsc::channel(8);
    let up = move |Extension(connection): Extension<Connection>, request: Request<Body>| async move {
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.expect("upgraded");
            sender.send((connection, upgraded)).await.expect("the test listens");
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("test"));
        response
    };
    (Router::new().route("/up", any(up)).route("/", get(|| async { "hello" })), receiver)
}

#[tokio::test]
async fn kill_ends_an_upgraded_connection_that_nobody_reads() {
    let (router, mut upgrades) = upgrading();
    let server = start(router, ServeLimits::default()).await;
    let mut client = send(server.addr, UPGRADE).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101"));
    let (connection, upgraded) = soon("the upgrade", upgrades.recv()).await.expect("upgraded");
    assert!(!connection.is_ended());
    connection.kill();
    assert_eq!(rest(&mut client).await, "");
    assert!(connection.is_ended());
    // Whoever comes to read it later gets an error.
    let mut upgraded = TokioIo::new(upgraded);
    assert_eq!(upgraded.read_u8().await.expect_err("ended").kind(), ErrorKind::ConnectionAborted);
    assert_eq!(upgraded.write(b"x").await.expect_err("ended").kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn kill_wakes_whoever_waits_for_an_upgraded_connection() {
    let (router, mut upgrades) = upgrading();
    let server = start(router, ServeLimits::default()).await;
    let _client = send(server.addr, UPGRADE).await;
    let (connection, upgraded) = soon("the upgrade", upgrades.recv()).await.expect("upgraded");
    let reader = tokio::spawn(async move { TokioIo::new(upgraded).read_u8().await });
    tokio::task::yield_now().await;
    connection.kill();
    soon("the reader", reader).await.expect("no panic").expect_err("ended");
}

#[tokio::test]
async fn an_upgraded_connection_whose_peer_stops_reading_is_ended() {
    let limits = ServeLimits { write_timeout_ms: 50, send_buffer_bytes: 4096, ..ServeLimits::default() };
    let (router, mut upgrades) = upgrading();
    let server = start(router, limits).await;
    let mut client = send(server.addr, UPGRADE).await;
    let (connection, upgraded) = soon("the upgrade", upgrades.recv()).await.expect("upgraded");
    let mut upgraded = TokioIo::new(upgraded);
    let error = soon("the write timeout", async {
        loop {
            if let Err(error) = upgraded.write_all(&[0; 64 * 1024]).await {
                break error;
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(connection.is_ended());
    drop(upgraded);
    rest(&mut client).await;
}

#[tokio::test]
async fn a_connection_that_stalls_in_an_answer_is_ended() {
    let limits = ServeLimits { write_timeout_ms: 50, send_buffer_bytes: 4096, ..ServeLimits::default() };
    let endless = || async {
        let chunk = Bytes::from(vec![0; 64 * 1024]);
        Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone())))
    };
    let server = start(Router::new().route("/", get(endless)), limits).await;
    let mut client = send(server.addr, PLAIN).await;
    head(&mut client).await;
    server.shutdown.cancel();
    // It returns before the drain limit only because the stalled connection ended.
    soon("the end", server.task).await.expect("no panic");
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_headers_is_ended() {
    let limits = ServeLimits { header_timeout_ms: 50, ..ServeLimits::default() };
    let (router, _upgrades) = upgrading();
    let server = start(router, limits).await;
    for beginning in ["", "GET / HTTP/1.1\r\nhost: ", "PRI * HTTP/2.0\r\n\r\nS"] {
        let mut client = send(server.addr, beginning).await;
        assert_eq!(rest(&mut client).await, "", "after {beginning:?}");
    }
    // A request cut into pieces within the time is served.
    let mut client = send(server.addr, "GE").await;
    client.write_all(b"T / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("send");
    assert!(rest(&mut client).await.ends_with("hello"));
}

#[tokio::test]
async fn at_the_cap_a_connection_waits_until_another_ends() {
    let (router, mut upgrades) = upgrading();
    let server = start(router, ServeLimits { connections_max: 1, ..ServeLimits::default() }).await;
    let _first = send(server.addr, UPGRADE).await;
    let (connection, upgraded) = soon("the upgrade", upgrades.recv()).await.expect("upgraded");
    let mut second = send(server.addr, PLAIN).await;
    tokio::time::timeout(MOMENT, second.read_u8()).await.expect_err("the second one waits");
    connection.kill();
    drop(upgraded);
    assert!(head(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_graceful_stop_finishes_the_running_request_and_takes_no_new_one() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
        move || async move {
            entered.notify_one();
            go.notified().await;
            "finished"
        }
    };
    let server = start(Router::new().route("/", get(handler)), ServeLimits::default()).await;
    let mut client = send(server.addr, PLAIN).await;
    let mut idle = TcpStream::connect(server.addr).await.expect("connect");
    soon("the handler", entered.notified()).await;
    server.shutdown.cancel();
    soon("a closed port", async { while TcpStream::connect(server.addr).await.is_ok() {} }).await;
    assert_eq!(rest(&mut idle).await, "");
    assert!(!server.task.is_finished());
    go.notify_one();
    assert!(rest(&mut client).await.ends_with("finished"));
    soon("the end", server.task).await.expect("no panic");
}

#[tokio::test]
async fn what_is_left_at_the_drain_limit_is_ended() {
    let (router, mut upgrades) = upgrading();
    let router = router.route("/hang", get(pending::<()>));
    let server = start(router, ServeLimits { drain_ms: 20, ..ServeLimits::default() }).await;
    let mut upgraded_client = send(server.addr, UPGRADE).await;
    head(&mut upgraded_client).await;
    let held = soon("the upgrade", upgrades.recv()).await.expect("upgraded");
    let mut hanging_client = send(server.addr, "GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.shutdown.cancel();
    assert_eq!(rest(&mut upgraded_client).await, "");
    assert_eq!(rest(&mut hanging_client).await, "");
    soon("the end", server.task).await.expect("no panic");
    drop(held);
}

#[tokio::test]
async fn one_port_speaks_http_1_and_http_2() {
    let (router, _upgrades) = upgrading();
    let server = start(router, ServeLimits::default()).await;
    let url = format!("http://{}/", server.addr);
    for (client, version) in [
        (reqwest::Client::builder().http1_only(), http::Version::HTTP_11),
        (reqwest::Client::builder().http2_prior_knowledge(), http::Version::HTTP_2),
    ] {
        let response = client.no_proxy().build().expect("client").get(&url).send().await.expect("answer");
        assert_eq!(response.version(), version);
        assert_eq!(response.text().await.expect("text"), "hello");
    }
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let (router, _upgrades) = upgrading();
    let limits = ServeLimits { header_bytes_max: 8 * 1024, ..ServeLimits::default() };
    let server = start(router, limits).await;
    let mut client = send(server.addr, &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(8 * 1024))).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_taken_port_is_explained_in_one_sentence() {
    let taken = bind("a test", (Ipv4Addr::LOCALHOST, 0).into(), "NO_PORT").await.expect("port");
    let addr = taken.local_addr().expect("address");
    let error = bind("the gateway", addr, "API_GATEWAY_PORT").await.expect_err("taken");
    let port = addr.port();
    let sentence = format!("port {port} for the gateway is taken by another program: stop it or set API_GATEWAY_PORT");
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn of_many_warnings_one_passes() {
    let mut throttle = Throttle::default();
    assert_eq!((throttle.pass(), throttle.pass()), (true, false));
    throttle.0 = Instant::now().checked_sub(WARNING_EVERY);
    assert!(throttle.pass());
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn calls_that_were_given_up_unseen_do_not_end_the_connection_of_the_others() {
    const GIVEN_UP: u32 = 500;
    let running = start(Router::new().route("/", get(async || "here")), ServeLimits::default()).await;
    let mut client = TcpStream::connect(running.addr).await.expect("connect");
    // GET / over http, as three entries of the protocol's own table.
    let get: &[u8] = &[0x82, 0x84, 0x86];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for stream in (0..GIVEN_UP).map(|number| 2 * number + 1) {
        bytes.extend(frame(1, 5, stream, get));
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    // The last one is not given up.
    bytes.extend(frame(1, 5, 2 * GIVEN_UP + 1, get));
    client.write_all(&bytes).await.expect("sent");
    loop {
        let mut head = [0; 9];
        soon("a frame", client.read_exact(&mut head)).await.expect("the connection lasts");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        soon("its payload", client.read_exact(&mut payload)).await.expect("the connection lasts");
        assert_ne!(head[3], 7, "the connection is ended: {payload:?}");
        if head[3] == 0 && payload == b"here" {
            break;
        }
    }
}
