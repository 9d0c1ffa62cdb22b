//! What `/metrics` shows is what `docs/metrics.md` says, label by label, and no stranger makes it grow.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Client, Method};
use serde_json::json;

use crate::{
    logs,
    mesh::{Mesh, Part, get},
    rest::{Answer, Api, Person, unique},
    socketio::Socket,
    wait,
};

/// A metric as the page has it.
struct Documented {
    kind: String,
    labels: BTreeSet<String>,
    processes: String,
}

fn documented() -> BTreeMap<String, Documented> {
    let page = include_str!("../../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, _unit, labels, processes, _meaning] = cells[..] else { panic!("six cells: {row}") };
        let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
        let name = quoted(name).pop_first().unwrap();
        (name, Documented { kind: kind.to_owned(), labels: quoted(labels), processes: processes.to_owned() })
    })
    .collect()
}

/// The series of a process: each family's name with the labels of each of its series.
fn series(text: &str) -> BTreeMap<String, BTreeSet<BTreeMap<String, String>>> {
    let mut families: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
    let histograms: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .filter(|(_, kind)| *kind == "histogram")
        .map(|(name, _)| name)
        .collect();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').unwrap().0),
            None => (line.split(' ').next().unwrap(), ""),
        };
        // No label of ours has a comma or a quote in it.
        let mut labels: BTreeMap<_, _> = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        labels.remove("le");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .find(|name| histograms.contains(name))
            .unwrap_or(name);
        families.entry(family.to_owned()).or_default().insert(labels);
    }
    families
}

fn page(mesh: &Mesh, part: Part) -> String {
    get(mesh.ops(part), "/metrics").expect("a page").1
}

#[tokio::test]
async fn every_process_shows_the_metrics_of_the_page_with_their_labels_and_no_others() {
    let mesh = Mesh::plan().separate().set("gateway.trusted_proxies", "127.0.0.1").start();
    drop(logs::walk(&mesh).await);
    let documented = documented();
    let mut seen = BTreeSet::new();
    for part in Part::FOUR {
        let (process, text) = (part.binary(), page(&mesh, part));
        let kinds: BTreeMap<_, _> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        for (family, series) in series(&text) {
            let page = documented.get(&family).unwrap_or_else(|| panic!("{family} of {process} is not on the page"));
            assert_eq!(kinds[family.as_str()], page.kind, "{family}");
            assert!(page.processes == "all" || page.processes.contains(process), "{family} is shown by {process}");
            for labels in series {
                assert_eq!(labels.keys().cloned().collect::<BTreeSet<_>>(), page.labels, "{family} of {process}");
            }
            seen.insert((process, family));
        }
    }
    // What a mesh that was used once must show; the rest wants a fault, Redis, or another store.
    for (process, family) in [
        ("gateway", "http_server_request_duration_seconds"),
        ("gateway", "switchboard_connections_open"),
        ("gateway", "switchboard_replicas_healthy"),
        ("gateway", "switchboard_tokens_verified_total"),
        ("gateway", "switchboard_sockets_connected"),
        ("gateway", "switchboard_sockets_closed_total"),
        ("gateway", "switchboard_sockets_handshakes_total"),
        ("gateway", "switchboard_sockets_events_total"),
        ("gateway", "switchboard_sockets_event_duration_seconds"),
        ("gateway", "switchboard_sockets_joins_total"),
        ("gateway", "switchboard_sockets_delivered_total"),
        ("gateway", "switchboard_rooms_followed"),
        ("gateway", "switchboard_sends_under_way"),
        ("gateway", "switchboard_revocations_heard_timestamp_seconds"),
        ("auth-svc", "rpc_server_duration_seconds"),
        ("auth-svc", "switchboard_auth_registrations_total"),
        ("auth-svc", "switchboard_auth_logins_total"),
        ("auth-svc", "switchboard_auth_mails_total"),
        ("auth-svc", "switchboard_auth_passwords_waiting"),
        ("auth-svc", "switchboard_auth_passwords_wait_seconds"),
        ("auth-svc", "switchboard_revocations_heard_timestamp_seconds"),
        ("user-svc", "rpc_server_duration_seconds"),
        ("user-svc", "switchboard_revocations_total"),
        ("message-svc", "switchboard_message_sends_total"),
        ("message-svc", "switchboard_message_bundled_total"),
        ("message-svc", "switchboard_message_bundle_duration_seconds"),
        ("message-svc", "switchboard_message_rooms_active"),
        ("message-svc", "switchboard_message_batch_orders"),
        ("message-svc", "switchboard_message_store_duration_seconds"),
        ("message-svc", "switchboard_message_names_total"),
    ] {
        assert!(seen.contains(&(process, family.to_owned())), "{process} does not show {family}");
    }
}

/// What a stranger may name: paths, methods, events, RPCs, none of which there is, each with a name of its own.
async fn annoy(mesh: &Mesh, ada: &Person, socket: &mut Socket) {
    let api = Api::new(mesh);
    let method = |text: String| Method::from_bytes(text.replace('_', "-").as_bytes()).unwrap();
    for _ in 0..20 {
        let name = unique("nothing");
        api.get(&format!("/{name}")).await.refused(404, "NOT_FOUND");
        drop(Answer::read(api.outside(Method::GET, &format!("/{name}/%ff?{name}"))).await);
        drop(Answer::read(api.request(method(name.clone()), "/rooms", Some(&ada.access))).await);
        drop(Answer::read(api.outside(method(name.clone()), &format!("/{name}"))).await);
        socket.call(&name, json!({ name.clone(): name })).await;
        socket.raw(format!("42[\"{name}\"]"));
        socket.event("error").await;
    }
    let h2 = Client::builder().no_proxy().http2_prior_knowledge().timeout(wait::LIMIT).build().unwrap();
    for _ in 0..20 {
        let name = unique("Nothing");
        for path in [
            format!("/{name}/{name}"),
            format!("/{name}"),
            format!("/switchboard.message.v1.MessageService/{name}"),
            format!("/grpc.health.v1.Health/{name}"),
        ] {
            let url = format!("http://127.0.0.1:{}{path}", mesh.ports.message);
            let call = || h2.post(&url).header("content-type", "application/grpc").body(vec![0; 5]);
            // As it is, with a token that is none, with a deadline that is none, and as something else than gRPC.
            for call in [call(), call().bearer_auth(&name), call().header("grpc-timeout", &name), h2.get(&url)] {
                drop(call.send().await.unwrap().bytes().await);
            }
        }
    }
}

#[tokio::test]
async fn no_path_method_event_or_rpc_that_there_is_not_makes_a_series() {
    // Refusals by rate would come in one round and not in the other.
    let mesh = Mesh::plan().separate().set("gateway.rates.enabled", false).start();
    let ada = Person::new(&mesh, "ada").await;
    let mut socket = ada.socket().await;
    let count = || {
        let all = [Part::Gateway, Part::Message].map(|part| series(&page(&mesh, part)));
        let families = ["http_server_request_duration_seconds", "rpc_server_duration_seconds", "switchboard_sockets_"];
        let is_asked = |name: &str| families.iter().any(|family| name.starts_with(family));
        all.into_iter().flatten().filter(|(name, _)| is_asked(name)).collect::<Vec<_>>()
    };
    annoy(&mesh, &ada, &mut socket).await;
    let once = count();
    annoy(&mesh, &ada, &mut socket).await;
    assert_eq!(count(), once);
    let text = format!("{once:?}").to_lowercase();
    assert!(!text.contains("nothing") && text.contains("unmatched") && text.contains("unknown"), "{text}");
}
