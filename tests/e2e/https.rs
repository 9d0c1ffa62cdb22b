//! The gateway with a certificate of its own: HTTPS and WSS as stock clients speak them, what it says of it, and what is told
//! of bad files. Handshakes that are not finished, new certificates and plain HTTP are tried in `mesh::serve`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use reqwest::{Certificate, Client, Method, Version};
use tempfile::TempDir;

use crate::{
    clients, doctor,
    mesh::{Mesh, Plan},
    mtls::certificates::{Authority, Pair},
    process,
    rest::{Api, Person},
    wait,
};

const OURS: &str = "https://127.0.0.1";

fn write(folder: &Path, pair: &Pair) {
    fs::write(folder.join("tls.crt"), &pair.certificate).unwrap();
    fs::write(folder.join("tls.key"), &pair.key).unwrap();
    fs::set_permissions(folder.join("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// The settings that name what is in this folder.
fn settings(folder: &Path) -> [(&'static str, String); 2] {
    let file = |name: &str| folder.join(name).display().to_string();
    [("gateway.tls.cert_file", file("tls.crt")), ("gateway.tls.key_file", file("tls.key"))]
}

fn with(plan: Plan, folder: &Path) -> Plan {
    settings(folder).iter().fold(plan, |plan, (path, value)| plan.set(path, &**value))
}

#[tokio::test]
async fn stock_clients_speak_https_by_http_2_and_wss() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    write(folder.path(), &authority.sign(OURS));
    let mesh = with(Mesh::plan(), folder.path()).start();
    let url = mesh.url().replace("http://", "https://");
    let trusting = || {
        let root = Certificate::from_pem(authority.certificate.as_bytes()).unwrap();
        Client::builder().no_proxy().tls_certs_only([root]).timeout(wait::LIMIT)
    };
    for (client, version) in [(trusting(), Version::HTTP_2), (trusting().http1_only(), Version::HTTP_11)] {
        let answer = client.build().unwrap().get(format!("{url}/")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        // Said over TLS alone.
        assert!(answer.headers().contains_key("strict-transport-security"));
    }
    assert!(Client::builder().no_proxy().build().unwrap().get(format!("{url}/")).send().await.is_err());
    let plain = Api::new(&mesh).outside(Method::GET, "/").send().await.unwrap();
    assert_eq!(plain.status().as_u16(), 400);
    assert!(plain.text().await.unwrap().contains("https"));

    let api = Api::by(&url, trusting().build().unwrap());
    let (ada, bob) = (Person::register(&api, "ada").await, Person::register(&api, "bob").await);
    let room = ada.room("public").await;
    bob.join(&room).await;
    if !clients::has_node() {
        return;
    }
    let ca = folder.path().join("ca.crt");
    fs::write(&ca, &authority.certificate).unwrap();
    let variables = vec![
        ("URL", url),
        ("NODE_EXTRA_CA_CERTS", ca.display().to_string()),
        ("TRANSPORTS", "polling,websocket".to_owned()),
        ("ROOM", room.clone()),
        ("ADA", ada.access.clone()),
        ("BOB", bob.access.clone()),
    ];
    clients::script("socketio.mjs", variables).await;
    let contents: Vec<_> = ada.history(&room).await.iter().map(|message| message["content"].clone()).collect();
    assert_eq!(contents, ["one", "two", "while away", "three"]);
}

#[test]
fn the_doctor_and_the_start_say_what_is_wrong_with_the_certificate_of_the_edge() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let data = folder.path().join("data");
    let mut environment = vec![("SWITCHBOARD_DATA".to_owned(), data.display().to_string())];
    for (path, value) in settings(folder.path()) {
        environment.push((format!("SWITCHBOARD_{}", path.replace('.', "__").to_uppercase()), value));
    }
    let edge = |environment: &[(String, String)]| doctor::look(environment).1("edge");
    let missing = edge(&environment);
    assert!(missing["outcome"] == "failed" && missing["found"].as_str().unwrap().contains("tls.crt"), "{missing}");
    // The gateway itself does not start, with the same sentence.
    let command = process::command("gateway", environment.iter().map(|(name, value)| (name, value)));
    let (code, text) = process::run_to_end(command, wait::LIMIT);
    assert!(code.is_some_and(|code| code != 0) && text.contains("tls.crt cannot be read"), "{text}");

    write(folder.path(), &authority.sign(OURS));
    assert_eq!(edge(&environment)["outcome"], "ok");
    write(folder.path(), &authority.sign_until(OURS, 2026));
    assert_eq!(edge(&environment)["outcome"], "failed", "it has expired");
    let (one, other) = (authority.sign(OURS), authority.sign(OURS));
    write(folder.path(), &Pair { certificate: one.certificate, key: other.key });
    assert!(edge(&environment)["found"].as_str().unwrap().contains("does not go with"));
    fs::set_permissions(folder.path().join("tls.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(edge(&environment)["found"].as_str().unwrap().contains("can be read by others"));
}
