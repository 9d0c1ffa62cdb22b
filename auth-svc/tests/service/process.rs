//! What an operator meets: health, readiness, a port or a folder that is not good.

use auth_svc::{Config, ServeError};
use mesh::{
    config::Loader,
    proto::auth::v1 as pb,
    serve::{Listeners, bind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::harness::{Setup, until};

pub(crate) async fn get(addr: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operations_port_shows_the_store() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    until("it is ready", async || get(auth.ops, "/ready").await.starts_with("HTTP/1.1 200")).await;
    let ready = get(auth.ops, "/ready").await;
    assert!(ready.contains(r#""store":{"status":"ok""#), "{ready}");
    assert!(get(auth.ops, "/health").await.contains(r#""service":"auth-svc""#));
    auth.register("ada").await;
    let metrics = get(auth.ops, "/metrics").await;
    assert!(metrics.contains("auth_outbox_deliveries_total"), "{metrics}");
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_gets_one_sentence() {
    let setup = Setup::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = setup.config();
    config.auth.grpc_port = taken.local_addr().expect("an address").port();
    let port = config.auth.grpc_port.to_string();
    let error = auth_svc::run(config, CancellationToken::new()).await.expect_err("refused");
    assert!(matches!(error, ServeError::Bind(_)));
    let text = error.to_string();
    assert!(text.contains(&port) && text.contains("AUTH_SERVICE_GRPC_PORT") && !text.contains('\n'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_gets_one_sentence() {
    let setup = Setup::new().await;
    let path = setup.data.path().join("auth.db");
    std::fs::write(&path, "no database at all, but long enough to be looked at ".repeat(100)).expect("written");
    let local = "127.0.0.1:0".parse().expect("an address");
    let listeners = Listeners {
        grpc: bind("a test", local, "A_TEST").await.expect("a port"),
        ops: bind("a test", local, "A_TEST").await.expect("a port"),
    };
    let error = auth_svc::serve(setup.config(), listeners, CancellationToken::new()).await.expect_err("refused");
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()) && text.contains("damaged") && !text.contains('\n'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_run_in_one_process_and_know_nothing_of_each_other() {
    let (one, other) = (Setup::new().await, Setup::new().await);
    let (here, there) = (one.start().await, other.start().await);
    let ada = here.register("ada").await;
    there.register("ada").await;
    assert!(there.check(&ada.access).await.is_err(), "another mesh's token was good");
    let request = ada.says(pb::GetAccountRequest {});
    there.client().get_account(request).await.expect_err("another mesh's token was good");
    here.stop().await;
    there.stop().await;
}

#[test]
fn the_default_settings_are_good() {
    let mut loader = Loader::for_test("");
    let config = Config::load(&mut loader);
    loader.finish().expect("good");
    assert_eq!((config.auth.grpc_port, config.auth.http_port), (50001, 3002));
}
