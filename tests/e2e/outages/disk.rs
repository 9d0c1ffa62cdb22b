//! A disk that is full, under each store: sends are refused with an error to come back on, reads go on where the server
//! lives, and when there is space again all is well, with everything that was acknowledged. The disk is a small one in
//! memory, which only root may mount; elsewhere the tests are skipped, loudly.

use std::{
    fs::{File, remove_file},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    mesh::{Mesh, Part, Plan},
    rest::{Api, Person},
    stores::{
        self, Kind,
        server::{Server, Store},
    },
    wait,
};

/// A disk of its own.
struct Disk {
    folder: TempDir,
}

impl Disk {
    /// None, with a loud word, where it cannot be mounted. Not demanded by `SWITCHBOARD_TEST_REQUIRE`: no package brings
    /// the right to mount.
    fn mount(mebibytes: u32) -> Option<Self> {
        if Kind::chosen() != Kind::Sqlite {
            wait::say("SKIPPED: full disks, which are under stores of their own and run once");
            return None;
        }
        let folder = TempDir::with_prefix("switchboard-disk-").expect("a folder");
        let size = format!("size={mebibytes}m,mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self { folder });
        }
        wait::say("SKIPPED: a full disk, since this user may mount none");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the space that there is.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).expect("a file");
        for bytes in [1 << 20, 4 << 10, 1] {
            while file.write_all(&vec![0; bytes]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

/// A mesh on these stores. It is one person who fills the disk.
fn plan(stores: Vec<(String, String)>) -> Plan {
    Mesh::plan().separate().on(stores).set("gateway.rates.enabled", false)
}

/// Sends until one is refused; the ids of the messages that were acknowledged.
async fn until_full(ada: &Person, room: &str) -> Vec<Value> {
    let (path, content) = (format!("/rooms/{room}/messages"), "x".repeat(8_000));
    let mut acknowledged = Vec::new();
    wait::until("the disk to be full", async || {
        let id = format!("full-{}", acknowledged.len());
        let mut answer = ada.post(&path, json!({"content": content, "clientMessageId": id})).await;
        if answer.status < 300 {
            acknowledged.push(answer.body["data"]["id"].take());
            return None;
        }
        super::is_passing(&answer);
        Some(())
    })
    .await;
    acknowledged
}

/// The disk becomes full and has space again; `revive` is what an operator does then.
async fn goes_through(what: &str, mesh: &Mesh, disk: &Disk, reads_go_on: bool, revive: impl FnOnce()) {
    let api = Api::new(mesh);
    let ada = Person::register(&api, "ada").await;
    let room = ada.room("private").await;
    ada.send(&room, "before").await;
    let filler = disk.fill();
    let acknowledged = until_full(&ada, &room).await;
    if reads_go_on {
        assert_eq!(ada.history(&room).await.len(), acknowledged.len() + 1);
    }
    for part in mesh.parts() {
        assert!(mesh.runs(*part), "{part} has ended");
    }
    remove_file(filler).expect("removed");
    revive();
    let id = format!("full-{}", acknowledged.len());
    wait::until("sends to be taken again", async || {
        let body = json!({"content": "again", "clientMessageId": id});
        let answer = ada.post(&format!("/rooms/{room}/messages"), body).await;
        if answer.status >= 500 {
            super::is_passing(&answer);
        }
        (answer.status < 300).then_some(())
    })
    .await;
    let history = ada.history(&room).await;
    let found = |id: &&Value| history.iter().filter(|message| message["id"] == **id).count() == 1;
    assert_eq!(acknowledged.iter().filter(found).count(), acknowledged.len(), "acknowledged and missing, or twice");
    assert_eq!(history.len(), acknowledged.len() + 2, "what was refused happened once");
    wait::say(&format!(
        "{what} on a full disk: {} sends acknowledged before it was full, none lost",
        acknowledged.len()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_on_a_full_disk_refuses_writes_reads_on_and_loses_nothing() {
    let Some(disk) = Disk::mount(48) else { return };
    let data = disk.path().join("data").display().to_string();
    let mesh = plan(vec![("SWITCHBOARD_DATA".to_owned(), data)]).start();
    goes_through("SQLite", &mesh, &disk, true, || {}).await;
}

async fn on_a_server(store: Store, mebibytes: u32) {
    let Some(disk) = Disk::mount(mebibytes) else { return };
    let folder = TempDir::new_in(disk.path()).expect("a folder");
    let Some(server) = Server::start_in(store, folder) else { return };
    let sql = (store == Store::Postgres).then(|| server.url());
    let mesh = plan(stores::environment(sql, Some(server.url()), None)).start();
    // A server that cannot write its journal ends, or lives on and writes no more: whoever made space starts it again.
    let revive = || {
        if server.runs() {
            server.kill();
        } else {
            wait::say(&format!("{store:?} had ended when its disk was full"));
        }
        server.launch();
    };
    goes_through(&format!("{store:?}"), &mesh, &disk, false, revive).await;
    mesh.wait_ready(Part::Message);
    drop(mesh);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_on_a_full_disk_refuses_writes_and_loses_nothing() {
    on_a_server(Store::Postgres, 160).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_on_a_full_disk_refuses_writes_and_loses_nothing() {
    on_a_server(Store::Mongodb, 96).await;
}
