//! Has the crate built again when a file of the page comes or goes: the embedding macro sees only changes of the files
//! that it found.

fn main() {
    for path in ["../web/index.html", "../web/app.css", "../web/app", "../web/sdk"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
