//! Certificates made for the test: what is read, what is refused at the start, what is taken up while it runs, and who
//! connects to whom.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use tokio::net::TcpListener;
use tower::Service as _;

use super::*;

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let certificate = params.self_signed(&key).expect("signed").pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, uris: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.not_after = date_time_ymd(2030, 1, 1);
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("a URI"))).collect();
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }
}

/// Writes a pair for a process, its key closed to others, and gives the settings.
fn equip(folder: &Path, authority: &Authority, (certificate, key): &(String, String)) -> TlsConfig {
    let path = |name: &str| folder.join(name);
    for (name, text) in [("ca.crt", &authority.certificate), ("tls.crt", certificate), ("tls.key", key)] {
        fs::write(path(name), text).expect("written");
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).expect("closed");
    }
    TlsConfig { ca_file: path("ca.crt"), cert_file: path("tls.crt"), key_file: path("tls.key"), ..TlsConfig::default() }
}

fn read(name: &'static str, config: &TlsConfig) -> Result<Tls, String> {
    Tls::read(name, config).map(|tls| tls.expect("on")).map_err(|error| error.to_string())
}

#[test]
fn files_that_are_not_this_process_own_or_do_not_go_together_are_named() {
    let (folder, ours) = (tempfile::tempdir().expect("folder"), Authority::new());
    let (gateway, auth) = (ours.sign(&["spiffe://switchboard/gateway"]), ours.sign(&["spiffe://switchboard/auth-svc"]));
    let config = equip(folder.path(), &ours, &gateway);
    let end = read("gateway", &config).expect("good").expire().0;
    assert_eq!(end.to_string(), "2030-01-01T00:00:00.000Z");
    for (pair, said) in [
        (auth.clone(), "is the certificate of auth-svc, and this is gateway"),
        ((gateway.0.clone(), auth.1), "tls.key does not go with"),
        ((gateway.0.clone(), "none".to_owned()), "tls.key holds no key"),
        (("none".to_owned(), gateway.1.clone()), "tls.crt holds no certificate"),
        (Authority::new().sign(&["spiffe://switchboard/gateway"]), "is not signed by an authority of mesh.tls.ca_file"),
        (ours.sign(&[]), "no URI"),
        (ours.sign(&["spiffe://switchboard/gateway", "spiffe://switchboard/auth-svc"]), "more than one URI"),
        (ours.sign(&["spiffe://switchboard.example/gateway"]), "not one of spiffe://switchboard/"),
        (ours.sign(&["spiffe://switchboard/gateway/"]), "not one of spiffe://switchboard/"),
        (ours.sign(&["https://switchboard/gateway"]), "not one of spiffe://switchboard/"),
    ] {
        let error = read("gateway", &equip(folder.path(), &ours, &pair)).expect_err(said);
        assert!(error.contains(said), "{error}");
    }
    let config = equip(folder.path(), &ours, &gateway);
    fs::set_permissions(&config.key_file, fs::Permissions::from_mode(0o644)).expect("opened");
    assert!(read("gateway", &config).expect_err("open").contains("can be read by others"));
    fs::remove_file(&config.ca_file).expect("removed");
    assert!(read("gateway", &config).expect_err("away").contains("ca.crt cannot be read"));
    assert!(Tls::read("gateway", &TlsConfig::default()).expect("off").is_none());
}

#[test]
fn what_is_replaced_counts_once_it_is_whole_and_a_bad_list_changes_nothing() {
    let (folder, ours) = (tempfile::tempdir().expect("folder"), Authority::new());
    let pair = || ours.sign(&["spiffe://switchboard/gateway"]);
    let (first, second) = (pair(), pair());
    let list = folder.path().join("callers.toml");
    let config = TlsConfig { callers_file: list.clone(), ..equip(folder.path(), &ours, &first) };
    let health = "/grpc.health.v1.Health/Check";
    fs::write(&list, "['grpc.health.v1.Health']\nCheck = ['gateway']\n").expect("written");
    let tls = read("gateway", &config).expect("good");
    let certificate = || tls.current().0.clone();
    let (before, peer) = (certificate(), Peer("team/billing".into()));

    fs::write(&config.cert_file, &second.0).expect("written");
    tls.files.look();
    assert!(
        certificate() == before && tls.files.problem.lock().expect("lock").is_some(),
        "the key is still the old one"
    );
    fs::write(&config.key_file, &second.1).expect("written");
    tls.files.look();
    assert!(certificate() != before && tls.files.problem.lock().expect("lock").is_none());

    fs::write(&list, "[").expect("written");
    tls.files.look();
    assert!(!tls.allows(&peer, health) && tls.allows(&Peer("gateway".into()), health));
    fs::write(&list, "['grpc.health.v1.Health']\nCheck = ['any']\n").expect("written");
    tls.files.look();
    assert!(tls.allows(&peer, health));
}

#[tokio::test]
async fn a_service_is_known_by_its_name_wherever_it_runs_and_no_other_is_taken_for_it() {
    let (folder, ours) = (tempfile::tempdir().expect("folder"), Authority::new());
    let own = |name: &'static str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("folder");
        let config = equip(&path, &ours, &ours.sign(&[&format!("spiffe://switchboard/{name}")]));
        Arc::new(read(name, &config).expect("good"))
    };
    let (gateway, users) = (own("gateway"), own("user-svc"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let place: http::Uri = format!("http://{}", listener.local_addr().expect("address")).parse().expect("a URI");
    let accepting = tokio::spawn(async move {
        let mut peers = Vec::new();
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.expect("accepted");
            peers.push(users.accept(stream, Duration::from_secs(60)).await.map(|(_, peer)| peer));
        }
        peers
    });
    Connector::new(&gateway, ServiceName::User).call(place.clone()).await.expect("it is user-svc");
    let error = Connector::new(&gateway, ServiceName::Auth).call(place).await.expect_err("it is not auth-svc");
    assert!(error.to_string().contains("it is the one of user-svc"), "{error}");
    let peers = accepting.await.expect("no panic");
    assert!(peers[0].as_ref().is_ok_and(|peer| peer.is(ServiceName::Gateway)) && peers[1].is_err(), "{peers:?}");
}
