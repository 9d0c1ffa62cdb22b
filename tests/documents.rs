//! The documents against the tree: files and tests that they name exist. A renamed test or a moved file fails here.

use std::{
    fs,
    path::{Path, PathBuf},
};

const DOCUMENTS: [&str; 10] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/cli.md",
    "docs/deploy.md",
    "docs/errors.md",
    "docs/scale.md",
    "docs/security/threats.md",
    "docs/socketio.md",
    "SECURITY.md",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file of the workspace, build output and installed packages left out.
fn sources(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", ".git"].contains(&name.as_str()) {
            sources(&path, out);
        } else if name.ends_with(".rs") || name.ends_with(".py") {
            out.push_str(&fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

/// The texts between backticks, code blocks left out.
fn quoted(document: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).expect("the document");
    let outside: String = text.split("```").step_by(2).collect();
    outside.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut code = String::new();
    sources(&root(), &mut code);
    let names: Vec<_> = DOCUMENTS
        .iter()
        .flat_map(|document| quoted(document))
        // Names of tests are sentences; nothing else in the documents has as many words.
        .filter(|text| text.matches('_').count() >= 4 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(names.len() > 15, "the invariants name their tests: {names:?}");
    for name in names {
        let found = ["fn", "def"].iter().any(|keyword| code.contains(&format!("{keyword} {name}(")));
        assert!(found, "there is no test {name}");
    }
}

#[test]
fn every_file_that_a_document_names_exists() {
    for document in DOCUMENTS {
        for text in quoted(document) {
            let is_path =
                text.contains('/') && !text.starts_with('/') && !text.contains([' ', '<', '{', ':', '*', '@']);
            let known_ending =
                [".rs", ".md", ".js", ".toml", ".yaml", ".py", ".conf", "/"].iter().any(|end| text.ends_with(end));
            if !is_path || !known_ending || text.starts_with("./") {
                continue;
            }
            let places = ["", "gateway/src", "gateway/src/realtime", "message-svc/src", "message-svc"];
            let found = places.iter().any(|place| root().join(place).join(&text).exists());
            assert!(found, "{document} names {text}, which does not exist");
        }
    }
}
