//! The documents against the tree: files and tests that they name exist. A renamed test or a moved file fails here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const DOCUMENTS: [&str; 15] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/cli.md",
    "docs/deploy.md",
    "docs/errors.md",
    "docs/metrics.md",
    "docs/runbook.md",
    "docs/scale.md",
    "docs/security/asvs.md",
    "docs/security/controls.md",
    "docs/security/threats.md",
    "docs/socketio.md",
    "docs/testing.md",
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
        } else if [".rs", ".py", ".test.js"].iter().any(|end| name.ends_with(end)) {
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
        .filter(|text| text.matches('_').count() >= 4)
        .filter(|text| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        // Except metrics, whose page is tried below.
        .filter(|text| !["switchboard_", "http_server_", "rpc_server_"].iter().any(|start| text.starts_with(start)))
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
            let known_ending = [".rs", ".md", ".js", ".html", ".txt", ".toml", ".yaml", ".py", ".conf", "/"]
                .iter()
                .any(|end| text.ends_with(end));
            if !is_path || !known_ending || text.starts_with("./") {
                continue;
            }
            let places = ["", "gateway/src", "gateway/src/realtime", "message-svc/src", "message-svc"];
            let found = places.iter().any(|place| root().join(place).join(&text).exists());
            assert!(found, "{document} names {text}, which does not exist");
        }
    }
}

/// The cells of each row of a table that begins with a number of three parts.
fn requirements(document: &str) -> Vec<Vec<String>> {
    let is_number = |text: &str| {
        let parts: Vec<_> = text.split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
    };
    let rows = document.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    cells.filter(|cells| is_number(&cells[0])).collect()
}

/// The list is the standard's: a number and a level a line.
#[test]
fn every_requirement_of_asvs_has_one_row_and_the_counts_are_right() {
    const STATES: [&str; 3] = ["met", "not applicable", "open"];
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("UTF-8");
    let (document, list) = (read("docs/security/asvs.md"), read("tests/asvs-5.0.0.txt"));
    let rows = requirements(&document);
    let there: Vec<_> = rows.iter().map(|cells| format!("{} {}", cells[0], cells[1])).collect();
    let wanted: Vec<_> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(wanted.len(), 253, "70 of level 1, 183 of level 2");
    assert_eq!(there, wanted, "one row each, with its level, in the order of the standard");
    let mut counts = [[0; 3]; 2];
    for cells in &rows {
        assert_eq!(cells.len(), 4, "{cells:?}");
        let (state, why) = cells[3].split_once(": ").unwrap_or_else(|| panic!("no state: {cells:?}"));
        let place = STATES.iter().position(|one| *one == state).unwrap_or_else(|| panic!("no such state: {cells:?}"));
        assert!(state != "met" || why.contains('`'), "nothing is named that shows it: {cells:?}");
        counts[usize::from(cells[1] == "2")][place] += 1;
    }
    let both = [0, 1, 2].map(|place| counts[0][place] + counts[1][place]);
    for (level, [met, not_applicable, open]) in [("1", counts[0]), ("2", counts[1]), ("both", both)] {
        let line = format!("| {level} | {met} | {not_applicable} | {open} | {} |", met + not_applicable + open);
        assert!(document.contains(&line), "the counts are {line}");
    }
}

/// Those of the page and the SDK are named as they are written there: with spaces.
#[test]
fn every_test_of_the_page_that_asvs_names_exists() {
    let mut code = String::new();
    sources(&root(), &mut code);
    let names: Vec<_> =
        quoted("docs/security/asvs.md").into_iter().filter(|text| text.matches(' ').count() >= 4).collect();
    assert!(!names.is_empty(), "some requirements are about what a browser keeps");
    for name in names {
        assert!(code.contains(&format!("test('{name}'")), "there is no test {name}");
    }
}

/// Every metric that the code writes: its type and its name.
fn metrics(folder: &Path, out: &mut BTreeSet<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", ".git", "tests", "bench"].contains(&name.as_str()) {
            metrics(&path, out);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let code = fs::read_to_string(&path).expect("UTF-8");
            for kind in ["counter", "gauge", "histogram"] {
                for call in code.split(&format!("{kind}!(")).skip(1) {
                    let metric = call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                    let metric = metric.unwrap_or_else(|| panic!("{} names a metric as it goes", path.display()));
                    out.insert((kind.to_owned(), metric.to_owned()));
                }
            }
        }
    }
}

#[test]
fn the_page_of_metrics_lists_every_metric_with_its_type_and_no_other() {
    let mut written = BTreeSet::new();
    metrics(&root(), &mut written);
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let listed: BTreeSet<_> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (cells[2].to_owned(), cells[1].trim_matches('`').to_owned())
        })
        .collect();
    assert_eq!(listed, written);
}
