//! No statement of the store reads a whole table: the plans that SQLite makes for every statement in the files beside
//! this one, so a new statement is judged without being listed here.

use mesh::migration::Migrations;
use sqlx::{AssertSqlSafe, Row as _};

use super::SqliteStore;

const SOURCES: [&str; 12] = [
    include_str!("accounts.rs"),
    include_str!("api_keys.rs"),
    include_str!("audit.rs"),
    include_str!("ends.rs"),
    include_str!("factors.rs"),
    include_str!("invitations.rs"),
    include_str!("mails.rs"),
    include_str!("outbox.rs"),
    include_str!("person.rs"),
    include_str!("sessions.rs"),
    include_str!("signing_keys.rs"),
    include_str!("upkeep.rs"),
];

/// What stands between double quotes in the code and begins like a statement. None of the files has an escaped quote.
fn statements() -> Vec<&'static str> {
    let code = SOURCES.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    code.filter(|text| ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb))).collect()
}

#[tokio::test]
async fn no_statement_reads_a_whole_table() {
    let folder = tempfile::tempdir().expect("folder");
    let store = SqliteStore::open(&folder.path().join("auth.db"), 1, Migrations::Run).await.expect("opened");
    let statements = statements();
    assert!(statements.len() >= 50, "only {} statements were found", statements.len());
    let mut scans = Vec::new();
    for statement in statements {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
            .fetch_all(&store.writer)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        for step in plan {
            let detail: String = step.try_get("detail").expect("a plan");
            // Reading one row, a handful, or no table at all, is no scan.
            if detail.starts_with("SCAN")
                && !["revocation_head", "signing_keys", "CONSTANT ROW"].iter().any(|it| detail.contains(it))
            {
                scans.push(format!("{statement}\n    {detail}"));
            }
        }
    }
    assert!(scans.is_empty(), "{}", scans.join("\n\n"));
}
