//! The ways in which Redis is set up that a URL can say: users and rights, TLS, a cluster, sentinels. Each is a real
//! server, set up so.

use std::{path::PathBuf, time::Instant};

use message_svc::Config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{
    crowd::{BEFORE_THE_CLOCK, Crowd, say, through, without_the_clock},
    server::{Redis, free_port},
};
use crate::world::soon;

/// Whether what one replica writes reaches the other by no clock.
async fn crosses(crowd: &Crowd) {
    crowd.until_redis_is("ok").await;
    let ear = crowd.listen(&crowd.two).await;
    for number in 0..10 {
        let message = crowd.ada.send(&crowd.room, &number.to_string()).await.expect("sent");
        ear.until(message.seq, BEFORE_THE_CLOCK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_no_more_rights_than_needed_will_do() {
    let user = "--user switchboard on >a-secret resetchannels &test-* -@all +publish +subscribe +unsubscribe";
    let arguments: Vec<_> = user.split(' ').chain(["--requirepass", "another"]).collect();
    let Some(redis) = Redis::start(&arguments).await else { return };
    let url = format!("redis://switchboard:a-secret@127.0.0.1:{}", redis.port);
    let redis_with = through(&url);
    let crowd = Crowd::gather(|config| {
        redis_with(config);
        without_the_clock(config);
    })
    .await;
    crosses(&crowd).await;
    crowd.stop().await;

    let wrong = Crowd::gather(through(&format!("redis://switchboard:wrong@127.0.0.1:{}", redis.port))).await;
    wrong.until_redis_is("degraded").await;
    wrong.stop().await;
}

/// Certificates as an operator makes them: an authority of one's own, and what it signs.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Self { folder };
        for authority in ["ours", "foreign"] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, authority);
            let certificate = params.self_signed(&key).expect("signed");
            certificates.write(&format!("{authority}.ca.pem"), &certificate.pem());
            let issuer = Issuer::new(params, key);
            for holder in ["server", "client"] {
                let key = KeyPair::generate().expect("a key");
                let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
                let certificate = params.signed_by(&key, &issuer).expect("signed");
                certificates.write(&format!("{authority}.{holder}.pem"), &certificate.pem());
                certificates.write(&format!("{authority}.{holder}.key"), &key.serialize_pem());
            }
        }
        certificates
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_behind_tls_is_trusted_by_its_authority_and_asks_for_ours() {
    // What mains do: the process' own provider of cryptography.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let files = Certificates::make();
    let (certificate, key, authority) =
        (files.text("ours.server.pem"), files.text("ours.server.key"), files.text("ours.ca.pem"));
    let arguments = [
        ["--port", "0"],
        ["--tls-port", "{port}"],
        ["--tls-cert-file", &certificate],
        ["--tls-key-file", &key],
        ["--tls-ca-cert-file", &authority],
        ["--tls-auth-clients", "yes"],
    ];
    let Some(redis) = Redis::start(arguments.as_flattened()).await else { return };
    let redis_with = through(&format!("rediss://127.0.0.1:{}", redis.port));
    let with = |authority: &'static str, holder: &'static str| {
        let (redis_with, files) = (&redis_with, &files);
        move |config: &mut Config| {
            redis_with(config);
            without_the_clock(config);
            config.mesh.redis.ca_file = files.path(&format!("{authority}.ca.pem"));
            if !holder.is_empty() {
                config.mesh.redis.cert_file = files.path(&format!("{holder}.client.pem"));
                config.mesh.redis.key_file = files.path(&format!("{holder}.client.key"));
            }
        }
    };
    let crowd = Crowd::gather(with("ours", "ours")).await;
    crosses(&crowd).await;
    crowd.stop().await;
    // Each is refused, and the service serves on without it.
    for (authority, holder) in [("foreign", "ours"), ("ours", "foreign"), ("ours", "")] {
        let wrong = Crowd::gather(with(authority, holder)).await;
        for _ in 0..2 {
            wrong.until_redis_is("degraded").await;
            wrong.ada.send(&wrong.room, "without Redis").await.expect("sent");
        }
        wrong.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_of_a_cluster_pass_hints_to_one_another_and_stand_in_for_one_another() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = free_port().await.to_string();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
        let Some(node) = Redis::start(&arguments).await else { return };
        nodes.push((node, bus));
    }
    for (number, range) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].into_iter().enumerate() {
        let (from, to) = (range.0.as_bytes(), range.1.as_bytes());
        assert!(nodes[number].0.ask(&[b"CLUSTER", b"ADDSLOTSRANGE", from, to]).await.starts_with("+OK"));
    }
    let (port, bus) = (nodes[0].0.port.to_string(), nodes[0].1.clone());
    for (node, _) in &nodes[1..] {
        let met = node.ask(&[b"CLUSTER", b"MEET", b"127.0.0.1", port.as_bytes(), bus.as_bytes()]).await;
        assert!(met.starts_with("+OK"), "{met}");
    }
    for (node, _) in &nodes {
        soon("the cluster", async {
            while !node.ask(&[b"CLUSTER", b"INFO"]).await.contains("cluster_known_nodes:3") {}
            while !node.ask(&[b"CLUSTER", b"INFO"]).await.contains("cluster_state:ok") {}
        })
        .await;
    }
    let url = |order: [usize; 3]| order.map(|node| format!("redis://127.0.0.1:{}", nodes[node].0.port)).join(",");
    let at = |url: String, prefix: &str| {
        let prefix = prefix.to_owned();
        move |config: &mut Config| {
            through(&url)(config);
            without_the_clock(config);
            config.mesh.redis.prefix = prefix;
        }
    };
    // Each replica at a node of its own, so that whatever crosses went from node to node.
    let prefix = format!("test-{}:", uuid::Uuid::new_v4());
    let crowd = Crowd::gather_at(at(url([0, 1, 2]), &prefix), at(url([1, 2, 0]), &prefix)).await;
    crosses(&crowd).await;
    nodes[0].0.kill();
    crosses(&crowd).await;
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_name_the_master_and_the_one_that_takes_its_place() {
    let secured = ["--requirepass", "a-secret", "--masterauth", "a-secret"];
    let Some(mut master) = Redis::start(&secured).await else { return };
    let port = master.port.to_string();
    let following = ["--replicaof", &format!("127.0.0.1 {port}")];
    let replica = Redis::start(&[&secured[..], &following].concat()).await.expect("a second one");
    let folder = tempfile::tempdir().expect("a folder");
    let mut sentinels = Vec::new();
    for number in 0..3 {
        let config = folder.path().join(format!("sentinel-{number}.conf"));
        let text = format!(
            "requirepass another-secret\nsentinel monitor hints 127.0.0.1 {port} 2\nsentinel auth-pass hints a-secret\n\
             sentinel sentinel-pass another-secret\nsentinel down-after-milliseconds hints 500\n\
             sentinel failover-timeout hints 3000\n"
        );
        std::fs::write(&config, text).expect("written");
        sentinels.push(Redis::start(&[&config.display().to_string(), "--sentinel"]).await.expect("a sentinel"));
    }
    let hosts: Vec<_> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
    let redis_with = through(&format!("redis+sentinel://:a-secret@{}/hints", hosts.join(",")));
    let crowd = Crowd::gather(|config| {
        redis_with(config);
        without_the_clock(config);
        config.mesh.redis.sentinel_password = "another-secret".into();
    })
    .await;
    crosses(&crowd).await;
    // Until the sentinels know each other and the replica: two of them must agree on who is next.
    for sentinel in &sentinels {
        let auth: &[&[u8]] = &[b"AUTH", b"another-secret"];
        soon("the sentinels know each other", async {
            loop {
                let told = sentinel.ask_all(&[auth, &[b"SENTINEL", b"MASTER", b"hints"]]).await;
                let field = |name: &str| told.split("\r\n").skip_while(|part| *part != name).nth(2).map(str::to_owned);
                if (field("num-slaves"), field("num-other-sentinels")) == (Some("1".into()), Some("2".into())) {
                    break;
                }
            }
        })
        .await;
    }
    let begun = Instant::now();
    master.kill();
    crowd.until_redis_is("degraded").await;
    crosses(&crowd).await;
    say(&format!(
        "after a failover by sentinels, Redis carried hints again {:.1} s after the kill",
        begun.elapsed().as_secs_f64()
    ));
    let auth: &[&[u8]] = &[b"AUTH", b"a-secret"];
    assert!(replica.ask_all(&[auth, &[b"ROLE"]]).await.contains("master"), "it has taken over");
    crowd.stop().await;
}
