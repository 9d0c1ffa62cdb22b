//! The binaries under test. They are built once per test process, by cargo itself and in the profile and folder of this
//! test, so that a test never runs against yesterday's program. It starts nothing; `process.rs` does.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// The path of one binary, built when it is not fresh; or one that was built elsewhere, when
/// `SWITCHBOARD_TEST_BINARIES` names its folder.
pub(crate) fn path(name: &str) -> PathBuf {
    FOLDER.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    if let Some(folder) = env::var_os("SWITCHBOARD_TEST_BINARIES") {
        return folder.into();
    }
    let this = env::current_exe().expect("the path of this test");
    // target/debug/deps/e2e-0123 → target/debug
    let folder = this.parent().and_then(Path::parent).expect("a folder of the profile").to_owned();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let output = Command::new(cargo)
        // With the tests, which are fresh already: features are resolved with them as in `cargo test`, so that no
        // dependency is built twice.
        .args(["build", "--quiet", "--workspace", "--bins", "--tests", "--profile", profile, "--target-dir"])
        .arg(folder.parent().expect("a target folder"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the binaries cannot be built:\n{told}");
    folder
}
