//! PostgreSQL's machine dies under load and its standby takes over at the same address: what was acknowledged is there.
//! As operators set it up who must lose nothing: the standby is synchronous, and an address that moves leads to it.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use test_proxy::Proxy;

use crate::{
    kills::{self, Progress},
    mesh::Mesh,
    stores::{
        self, Kind,
        server::{Server, Store},
    },
    wait,
};

const CLIENTS: usize = 32;
const ROOMS: usize = 8;
const PACE: Duration = Duration::from_millis(60);
/// Sends before the failover and after it.
const ACKS: u64 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_takes_over_has_all_that_was_acknowledged() {
    if Kind::chosen() != Kind::Sqlite {
        wait::say("SKIPPED: PostgreSQL's failover, which has servers of its own and runs once");
        return;
    }
    let Some(primary) = Server::start(Store::Postgres) else { return };
    let standby = primary.standby();
    let before = |server: &Server| format!("127.0.0.1:{}", server.port);
    let proxy = Proxy::new(&before(&primary));
    let address = proxy.address();
    let url = primary.url_at(address.port());
    let environment = stores::environment(Some(url.clone()), Some(url), None);
    let mesh = Arc::new(Mesh::plan().separate().on(environment).start());
    let progress = Arc::new(Progress::new(CLIENTS, PACE));
    let clients = kills::clients(&mesh, &progress, ROOMS).await;
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.run())).collect();
    wait::until("work in progress", async || (progress.acks() >= ACKS).then_some(())).await;
    let died = Instant::now();
    primary.kill();
    standby.promote();
    // The address moves; what was connected to it is cut off.
    drop(proxy);
    let listener = wait::until("the address to be free", async || TcpListener::bind(address).ok()).await;
    let _proxy = Proxy::on(listener, &before(&standby));
    let moved = Instant::now();
    wait::until("every client to be served again", async || progress.all_served_since(moved).then_some(())).await;
    wait::say(&format!(
        "PostgreSQL failed over: promoted and moved in {:.1?}, all served {:.1?} later",
        moved - died,
        moved.elapsed()
    ));
    let seen = progress.acks();
    wait::until("more work", async || (progress.acks() >= seen + ACKS).then_some(())).await;
    progress.stop();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.expect("a client's task"));
    }
    let verdict = kills::verdict(&mesh, &mut clients).await;
    wait::say(&format!("PostgreSQL failed over: {verdict}"));
    verdict.check();
}
