//! Certificates inside the mesh: with them it works as without, whoever has none or another is not let in and told of, each in
//! a line of its own, who is let in makes the calls of the list alone, and all of them are replaced under load without
//! anybody's noticing.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use ::mesh::{
    config::MeshConfig,
    identity::{Identity, ServiceName},
    proto::{
        auth::v1::{CheckTokenRequest, GetJwksRequest, auth_service_client::AuthServiceClient},
        message::v1::{GetRoomRequest, message_service_client::MessageServiceClient},
        user::v1::{CreateUserRequest, user_service_client::UserServiceClient},
    },
};
use serde_json::json;
use tempfile::TempDir;
use tonic::Request;

use crate::{
    doctor,
    mesh::{Mesh, Part},
    rest::{Api, Person},
    rpc, stores, wait,
};

pub(crate) mod certificates;

use certificates::{Authority, Pair, channel, settings, with};

/// A folder with an authority and what it has signed for each process.
fn equipped() -> (TempDir, Authority) {
    let (folder, ours) = (TempDir::new().unwrap(), Authority::new("ours"));
    fs::write(folder.path().join("ca.crt"), &ours.certificate).unwrap();
    ours.equip(folder.path());
    (folder, ours)
}

/// Waits until a process' log has a line with all of these.
fn logged(mesh: &Mesh, part: Part, words: &[&str]) {
    wait::until_blocking(&format!("{part:?} to log {words:?}"), || {
        let log = fs::read_to_string(mesh.log(part)).unwrap_or_default();
        log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
}

async fn refused_at_the_door(mesh: &Mesh, ours: &Authority) {
    let (port, foreign) = (mesh.ports.auth, Authority::new("foreign"));
    let gateway = "spiffe://switchboard/gateway";
    for (pair, words) in [
        (Some(foreign.sign(gateway)), &["not of an authority of this mesh", gateway][..]),
        (Some(Authority::new("ours").sign(gateway)), &["not of an authority of this mesh"]),
        (Some(ours.sign_until(gateway, 2020)), &["has expired", gateway]),
        (Some(ours.sign("spiffe://elsewhere/gateway")), &["another name", "spiffe://elsewhere/gateway"]),
        (None, &["shows no certificate"]),
    ] {
        let mut auth = AuthServiceClient::new(channel(port, "auth-svc", &ours.certificate, pair.as_ref()));
        let status = auth.get_jwks(GetJwksRequest {}).await.expect_err("not let in");
        assert!(std::error::Error::source(&status).is_some(), "refused by the connection: {status:?}");
        logged(mesh, Part::Auth, words);
    }
    let mut plain = rpc::Rpc::new(mesh, None).auth;
    plain.get_jwks(GetJwksRequest {}).await.expect_err("no TLS at all");
    logged(mesh, Part::Auth, &["does not speak TLS"]);
    assert!(mesh.metric(Part::Auth.into(), "switchboard_tls_refused_total{end=\"caller\",reason=\"expired\"}") >= 1.0);
}

/// Another team's process: it has a certificate, and calls with people's tokens.
async fn another_team(mesh: &Mesh, ours: &Authority, ada: &Person, room: &str) {
    let billing = ours.sign("spiffe://switchboard/team/billing");
    let to = |port, host| channel(port, host, &ours.certificate, Some(&billing));
    let mut auth = AuthServiceClient::new(to(mesh.ports.auth, "auth-svc"));
    auth.get_jwks(GetJwksRequest {}).await.expect("on the list for any");
    let bearer = |token: &str| format!("Bearer {token}").parse::<tonic::metadata::MetadataValue<_>>().unwrap();
    let mut get = Request::new(GetRoomRequest { room_id: room.to_owned() });
    let mut messages = MessageServiceClient::new(to(mesh.ports.message, "message-svc"));
    rpc::refused(messages.get_room(get.get_ref().clone()).await, "UNAUTHORIZED");
    get.metadata_mut().insert("authorization", bearer(&ada.access));
    messages.get_room(get).await.expect("ada may see her room");
    let mut users = UserServiceClient::new(to(mesh.ports.user, "user-svc"));
    rpc::refused(users.create_user(CreateUserRequest::default()).await, "FORBIDDEN");
    logged(mesh, Part::User, &["not on the list", "team/billing", "CreateUser"]);

    // With what a gateway has signed it is no gateway: the certificate says otherwise.
    let config = MeshConfig { data: mesh.data(), ..MeshConfig::default() };
    let gateway = Identity::new(ServiceName::Gateway, &config).unwrap();
    let mut check = Request::new(CheckTokenRequest::default());
    check.metadata_mut().insert("authorization", bearer(&gateway.assertion(ServiceName::Auth, None)));
    rpc::refused(auth.check_token(check).await, "TOKEN_INVALID");
    logged(mesh, Part::Auth, &["another service's than its certificate", "team/billing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_the_mesh_works_and_whoever_is_not_of_it_or_not_on_the_list_is_refused_and_told_of() {
    let (folder, ours) = equipped();
    let mesh = with(Mesh::plan().separate(), folder.path()).start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("public").await;
    let socket = ada.socket().await;
    socket.ok("send_message", json!({"roomId": room, "content": "over the stream of sends"})).await;
    ada.post(&format!("/rooms/{room}/messages"), json!({"content": "over a call"})).await.ok(201);
    let messages = ada.get(&format!("/rooms/{room}/messages")).await.ok(200);
    assert_eq!(messages["messages"].as_array().unwrap().len(), 2, "{messages}");
    refused_at_the_door(&mesh, &ours).await;
    another_team(&mesh, &ours, &ada, &room).await;
}

/// What others call with while certificates change: a new connection for each call.
struct Team {
    authorities: Mutex<String>,
    pair: Mutex<Pair>,
    stop: AtomicBool,
    calls: AtomicUsize,
    sends: AtomicUsize,
}

impl Team {
    async fn call(&self, port: u16) {
        while !self.stop.load(Ordering::Relaxed) {
            let (authorities, pair) = (self.authorities.lock().unwrap().clone(), self.pair.lock().unwrap().clone());
            let mut auth = AuthServiceClient::new(channel(port, "auth-svc", &authorities, Some(&pair)));
            auth.get_jwks(GetJwksRequest {}).await.expect("a call of another team");
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn send(&self, ada: &Person, room: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            ada.post(&format!("/rooms/{room}/messages"), json!({"content": "hello"})).await.ok(201);
            self.sends.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for calls and sends that began after this moment.
    async fn go_on(&self) {
        let before = (self.calls.load(Ordering::Relaxed), self.sends.load(Ordering::Relaxed));
        wait::until("calls and sends to go on", async || {
            let now = (self.calls.load(Ordering::Relaxed), self.sends.load(Ordering::Relaxed));
            (now.0 > before.0 + 4 && now.1 > before.1 + 4).then_some(())
        })
        .await;
    }
}

/// Changes files, and waits until each process has taken them up.
async fn change(mesh: &Mesh, files: impl FnOnce()) {
    let taken = |part: Part| mesh.metric(part.into(), "switchboard_certificates_read_total{outcome=\"taken\"}");
    let before = Part::FOUR.map(taken);
    files();
    wait::until("every process to take up new certificates", async || {
        Part::FOUR.iter().zip(before).all(|(part, before)| taken(*part) > before).then_some(())
    })
    .await;
}

async fn replace(mesh: &Mesh, folder: &Path, old: &Authority, team: &Team) {
    const TEAM: &str = "spiffe://switchboard/team/billing";
    let put = |text: &str| fs::write(folder.join("ca.crt"), text).unwrap();
    // Certificates of the same authority.
    change(mesh, || old.equip(folder)).await;
    team.go_on().await;
    // Another authority: it is known beside the old one, then signs, and then the old one goes.
    let new = Authority::new("new");
    let both = format!("{}{}", old.certificate, new.certificate);
    change(mesh, || put(&both)).await;
    *team.authorities.lock().unwrap() = both;
    team.go_on().await;
    change(mesh, || new.equip(folder)).await;
    *team.pair.lock().unwrap() = new.sign(TEAM);
    team.go_on().await;
    change(mesh, || put(&new.certificate)).await;
    team.go_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_their_authority_are_replaced_under_load_with_no_failed_call() {
    let (folder, old) = equipped();
    let mesh = with(Mesh::plan().separate().set("gateway.rates.enabled", false), folder.path()).start();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("public").await;
    let pair = old.sign("spiffe://switchboard/team/billing");
    let team = Arc::new(Team {
        authorities: Mutex::new(old.certificate.clone()),
        pair: Mutex::new(pair.clone()),
        stop: AtomicBool::new(false),
        calls: AtomicUsize::new(0),
        sends: AtomicUsize::new(0),
    });
    let (calling, port) = (team.clone(), mesh.ports.auth);
    let calling = tokio::spawn(async move { calling.call(port).await });
    let (sending, ada) = (team.clone(), Arc::new(ada));
    let sending = tokio::spawn({
        let (ada, room) = (ada.clone(), room.clone());
        async move { sending.send(&ada, &room).await }
    });
    team.go_on().await;
    replace(&mesh, folder.path(), &old, &team).await;
    team.stop.store(true, Ordering::Relaxed);
    calling.await.expect("no call failed");
    sending.await.expect("no send failed");
    // Connections that are made now know the new authority alone, also within the mesh.
    assert!(mesh.stop(Part::User).success());
    mesh.start(Part::User);
    ada.get("/auth/profile").await.ok(200);
    let authorities = team.authorities.lock().unwrap().clone();
    let mut late = AuthServiceClient::new(channel(mesh.ports.auth, "auth-svc", &authorities, Some(&pair)));
    late.get_jwks(GetJwksRequest {}).await.expect_err("a certificate of the authority that has gone");
    logged(&mesh, Part::Auth, &["not of an authority of this mesh", "team/billing"]);
}

#[test]
fn all_in_one_runs_with_what_the_command_makes_and_the_doctor_tells_what_expires_soon() {
    if !stores::sqlite_only("the doctor is told of the stores by the data folder alone") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tls");
    let make = |days: &str| {
        let words = ["keys", "certificates", "--folder", path.to_str().unwrap(), "--days", days];
        let (code, text) = doctor::switchboard(&[], &words);
        assert_eq!(code, Some(0), "{text}");
    };
    make("90");
    let mesh = with(Mesh::plan(), &path).start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { Api::new(&mesh).get("/rooms").await.refused(401, "UNAUTHORIZED") });
    let mut environment = mesh.ports.environment();
    environment.push(("SWITCHBOARD_DATA".into(), mesh.data().display().to_string()));
    let variable = |name: &str| format!("SWITCHBOARD_{}", name.replace('.', "__").to_uppercase());
    environment.extend(settings(&path).into_iter().map(|(name, value)| (variable(name), value)));
    let (code, of) = doctor::look(&environment);
    for what in ["certificates", "auth-svc", "user-svc", "message-svc", "clock"] {
        assert_eq!(of(what)["outcome"], "ok", "{}", of(what));
    }
    assert_eq!(code, Some(0));
    // Shorter ones are made only where those that are there have little left, or are gone.
    fs::remove_dir_all(path.join("gateway")).unwrap();
    make("5");
    let finding = doctor::look(&environment).1("certificates");
    assert_eq!(finding["outcome"], "warning", "{finding}");
    assert!(finding["found"].as_str().is_some_and(|found| found.starts_with("gateway's")), "{finding}");
    // A pair that does not go together.
    fs::copy(path.join("auth-svc/tls.key"), path.join("operator/tls.key")).unwrap();
    let (code, of) = doctor::look(&environment);
    assert_eq!((code, &of("certificates")["outcome"]), (Some(1), &"failed".into()));
}
