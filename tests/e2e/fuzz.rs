//! Fuzzing of the running product, from outside: what no unit's fuzz target can see, because it needs all of it at once.
//! Each run is bounded and says its seed; `SWITCHBOARD_FUZZ_SEED` repeats one, `SWITCHBOARD_FUZZ_FACTOR` makes it as many
//! times as long. `docs/testing.md` has the commands.

use std::fs;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use test_input::Edits;

use crate::{
    mesh::{Mesh, files},
    rest::{Api, Person},
    wait,
};

mod grpc;
mod openapi;
mod session;
mod wire;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number")))
}

/// How many times as long as usual a run is to be.
fn factor() -> u64 {
    number("SWITCHBOARD_FUZZ_FACTOR").unwrap_or(1)
}

/// The chances of a run; how to have them again is told.
fn chances(what: &str) -> StdRng {
    let seed = number("SWITCHBOARD_FUZZ_SEED").unwrap_or_else(|| rand::rng().random());
    wait::say(&format!("{what}: SWITCHBOARD_FUZZ_SEED={seed}"));
    StdRng::seed_from_u64(seed)
}

fn edits(chances: &mut StdRng) -> Edits {
    (chances.random(), (0..6).map(|_| (chances.random(), chances.random(), chances.random())).collect())
}

/// Checks that nothing went wrong inside, whatever the callers were told, and that everything still works.
async fn check_well(mesh: &Mesh) {
    for file in files(&mesh.logs()) {
        let log = fs::read_to_string(&file).expect("a log");
        let bad = log.lines().find(|line| line.contains("panicked") || line.contains("ERROR"));
        assert_eq!(bad, None, "in {}", file.display());
    }
    let ada = Person::register(&Api::new(mesh), "ada").await;
    let room = ada.room("private").await;
    let mut socket = ada.socket().await;
    socket.join(&room, None).await;
    ada.send(&room, "served on").await;
    assert_eq!(socket.event("new_message").await.data["content"], "served on");
}
