//! TLS at a listener, against clients of rustls: what is negotiated, what is replaced, and who is turned away.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tempfile::TempDir;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::{config::EdgeTlsConfig, tls::EdgeTls};

/// A certificate for `localhost`, in files of a folder; its bytes.
fn equip(folder: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    // One after the other, as whoever copies them does: for a moment they do not go together.
    fs::write(folder.join("tls.crt"), made.cert.pem()).expect("written");
    let key = folder.join("tls.key");
    fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("closed");
    made.cert.der().to_vec()
}

struct Secured {
    running: Running,
    folder: TempDir,
    first: Vec<u8>,
}

impl Secured {
    async fn start(limits: ServeLimits) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let first = equip(folder.path());
        let file = |name: &str| folder.path().join(name);
        let config = EdgeTlsConfig { cert_file: file("tls.crt"), key_file: file("tls.key"), look_ms: 10 };
        let tls = EdgeTls::start(&config).expect("good files");
        let listener = bind("a test", (Ipv4Addr::LOCALHOST, 0).into(), "NO_PORT").await.expect("port");
        let (addr, shutdown) = (listener.local_addr().expect("address"), CancellationToken::new());
        let secured = async |Extension(connection): Extension<Connection>| connection.secured.to_string();
        let (router, token) = (Router::new().route("/", get(secured)), shutdown.clone());
        let task = tokio::spawn(async move { serve_public("a test", listener, router, &limits, tls, token).await });
        Self { running: Running { addr, shutdown, task }, folder, first }
    }

    /// Connects, trusting these certificates and speaking these protocols.
    async fn connect(&self, trusted: &[&[u8]], protocols: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        trusted.iter().for_each(|der| roots.add(der.to_vec().into()).expect("a certificate"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.running.addr).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// Asks over a connection that stays, and gives the body of the answer.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(PLAIN.as_bytes()).await.expect("sent");
    let mut all = String::new();
    while !all.ends_with("true") && !all.ends_with("false") {
        all.push(soon("the answer", stream.read_u8()).await.expect("byte").into());
    }
    all.rsplit_once("\r\n\r\n").expect("a head").1.to_owned()
}

#[tokio::test]
async fn clients_get_the_protocol_that_they_ask_for_and_a_new_certificate_without_losing_a_connection() {
    let server = Secured::start(ServeLimits::default()).await;
    let first = server.first.clone();
    for (asked, got) in [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)] {
        let stream = server.connect(&[&first], asked).await.expect("let in");
        assert_eq!(stream.get_ref().1.alpn_protocol(), got);
    }
    let mut before = server.connect(&[&first], &["http/1.1"]).await.expect("let in");
    assert_eq!(ask(&mut before).await, "true");
    let second = equip(server.folder.path());
    soon("the new certificate", async {
        while server.connect(&[&second], &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(ask(&mut before).await, "true", "who was connected goes on");
    assert!(server.connect(&[&first], &[]).await.is_err(), "the old one is shown no more");
    // What cannot be used changes nothing.
    fs::write(server.folder.path().join("tls.crt"), "none").expect("written");
    tokio::time::sleep(MOMENT).await;
    server.connect(&[&second], &[]).await.expect("let in");
}

#[tokio::test]
async fn who_never_finishes_the_handshake_is_closed_and_harms_nobody() {
    let limits = ServeLimits { handshakes_max: 4, ..ServeLimits::default() };
    let server = Secured::start(limits).await;
    let mut silent = Vec::new();
    for number in 0..20 {
        let mut client = TcpStream::connect(server.running.addr).await.expect("connect");
        // Some say nothing, some begin.
        if number % 2 == 0 {
            client.write_all(&[0x16, 3, 1, 0, 200, 1]).await.expect("sent");
        }
        silent.push(client);
    }
    let mut good = server.connect(&[&server.first], &["http/1.1"]).await.expect("let in beside them");
    assert_eq!(ask(&mut good).await, "true");
    // All but four gave way, long before their time.
    for client in &mut silent[..16] {
        assert_eq!(rest(client).await, "");
    }
    assert_eq!(ask(&mut good).await, "true");

    let limits = ServeLimits { handshake_ms: 50, ..ServeLimits::default() };
    let server = Secured::start(limits).await;
    let mut client = TcpStream::connect(server.running.addr).await.expect("connect");
    assert_eq!(rest(&mut client).await, "", "its time is over");
}

#[tokio::test]
async fn plain_http_at_a_port_of_tls_is_told_so_and_closed() {
    let server = Secured::start(ServeLimits::default()).await;
    let mut client = send(server.running.addr, PLAIN).await;
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("call it https.\r\n"), "{answer}");
    // Also one that has more to say than is listened to.
    let mut client = send(server.running.addr, &format!("POST / HTTP/1.1\r\n\r\n{}", "x".repeat(1_000))).await;
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 400 "));
    server.running.shutdown.cancel();
    soon("the end", server.running.task).await.expect("no panic");
}
