//! Tells cargo that the embedded migrations are sources: a new file among them changes no Rust file.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
