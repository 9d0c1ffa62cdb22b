//! A rolling restart: every process of a mesh of replicas is asked to end and started again, one after the other, under the
//! load of the fault run and before its judge. Nothing is lost or repeated; how long a client waited is printed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Field;
use crate::{
    kills::{self, Progress},
    mesh::{Part, Replica},
    stores::Kind,
    wait,
};

/// As many as keep every process at work and leave a processor of a small machine for the mesh.
const CLIENTS: usize = 60;
const ROOMS: usize = 15;
const PACE: Duration = Duration::from_millis(400);
/// Sends acknowledged between two restarts, so that each meets work in progress.
const ACKS_BETWEEN: u64 = 60;
/// What a client should wait at the most; printed beside what it did, never judged.
const GOAL: Duration = Duration::from_secs(3);

/// Restarts each in turn, as a new release is rolled out; gives how long the slowest took to end.
fn roll(field: &Field, progress: &Progress) -> (Duration, Replica) {
    let mut slowest = (Duration::ZERO, Replica::from(Part::Gateway));
    // message-svc before the gateways, as docs/deploy.md says.
    let order = [Part::Auth, Part::User, Part::Message, Part::Gateway];
    let processes = order.iter().flat_map(|part| field.mesh.parts().iter().filter(move |one| one.part == *part));
    for replica in processes {
        let before = progress.acks();
        wait::until_blocking("work in progress", || (progress.acks() >= before + ACKS_BETWEEN).then_some(()));
        let asked = Instant::now();
        let status = field.mesh.stop(*replica);
        assert!(status.success(), "{replica} ended with {status}");
        slowest = slowest.max((asked.elapsed(), *replica));
        field.mesh.start(*replica);
        let over = Instant::now();
        wait::until_blocking(&format!("every client to be served after {replica}"), || {
            field.check();
            progress.all_served_since(over).then_some(())
        });
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_every_process_under_load_loses_and_repeats_nothing() {
    if Kind::chosen() != Kind::Sqlite {
        wait::say("SKIPPED: the rolling restart, which has stores of its own and runs once");
        return;
    }
    // With the notice that processes give by default, which other tests do without.
    let Some(field) = Field::start(Kind::Postgres, &[("mesh.shutdown.notice_ms", 2_000)]) else { return };
    let (field, progress) = (Arc::new(field), Arc::new(Progress::new(CLIENTS, PACE)));
    let clients = kills::clients(&field.mesh, &progress, ROOMS).await;
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.run())).collect();
    let rolling = {
        let (field, progress) = (field.clone(), progress.clone());
        tokio::task::spawn_blocking(move || roll(&field, &progress))
    };
    let rolled = rolling.await;
    progress.stop();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.expect("a client's task"));
    }
    let (slowest, replica) = rolled.expect("the thread of restarts");
    let verdict = kills::verdict(&field.mesh, &mut clients).await;
    wait::say(&format!(
        "rolling restart of {} processes: {verdict}; longest wait of a send {:?} (goal {GOAL:?}), slowest to end {replica} \
         in {slowest:?}",
        field.mesh.parts().len(),
        progress.longest()
    ));
    verdict.check_disturbed();
}
