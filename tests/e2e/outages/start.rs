//! Processes that start before their stores: they wait, say what for at the operations port and in the log, and serve when
//! the stores are there; or they give up after the limit with one sentence.

use std::time::Duration;

use super::is_named;
use crate::{
    mesh::{Mesh, Part, Ports},
    process,
    rest::Person,
    stores::{
        self, Kind,
        server::{Server, Store},
    },
    wait,
};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_that_starts_before_its_stores_waits_for_them_and_says_so() {
    if Kind::chosen() != Kind::Sqlite {
        wait::say("SKIPPED: starts before the stores, which need stores of their own and run once");
        return;
    }
    let (Some(sql), Some(rooms)) = (Server::start(Store::Postgres), Server::start(Store::Mongodb)) else { return };
    sql.kill();
    rooms.kill();
    let environment = stores::environment(Some(sql.url()), Some(rooms.url()), None);
    let mesh = Mesh::plan().separate().on(environment).prepare();
    for part in Part::FOUR {
        mesh.launch(part);
    }
    for part in [Part::Auth, Part::User, Part::Message] {
        is_named(&mesh, part).await;
        let log = mesh.log(part);
        wait::until("a word about waiting in the log", async || {
            std::fs::read_to_string(&log).ok().filter(|log| log.contains("waiting"))
        })
        .await;
    }
    sql.launch();
    rooms.launch();
    mesh.start_all();
    let ada = Person::new(&mesh, "ada").await;
    let room = ada.room("private").await;
    ada.send(&room, "x").await;
}

#[test]
fn a_service_whose_store_never_comes_gives_up_with_one_sentence() {
    let gone = Ports::free();
    for (part, setting, url, limit) in [
        (Part::Auth, "AUTH_STORE_URL", "postgres", "AUTH__STORE"),
        (Part::User, "USER_STORE_URL", "postgres", "USER__STORE"),
        (Part::Message, "MESSAGE_STORE_URL", "postgres", "MESSAGE__POSTGRES"),
        (Part::Message, "MESSAGE_STORE_URL", "mongodb", "MESSAGE__MONGODB"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut environment = Ports::free().environment();
        environment.push(("SWITCHBOARD_DATA".into(), folder.path().join("data").display().to_string()));
        environment.push((setting.into(), format!("{url}://nobody:hunter2@127.0.0.1:{}/x", gone.auth)));
        environment.push((format!("SWITCHBOARD_{limit}__START_SECS"), "1".into()));
        environment.push(("SWITCHBOARD_LOG".into(), "off".into()));
        let (code, text) = process::run_to_end(process::command(part.binary(), environment), LIMIT);
        assert_eq!(code, Some(2), "{}: {text}", part.binary());
        assert_eq!(text.trim_end().lines().count(), 1, "more than one sentence: {text}");
        assert!(text.contains(&gone.auth.to_string()), "it does not say where: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
