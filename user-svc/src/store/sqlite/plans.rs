//! No statement of the store reads the whole table: the plans that SQLite makes for every statement in `sqlite.rs`, so a
//! new statement is judged without being listed here.

use mesh::migration::Migrations;
use sqlx::{AssertSqlSafe, Row as _};

use super::SqliteStore;

/// What stands between double quotes in the code and begins like a statement. The file has no escaped quote.
fn statements() -> impl Iterator<Item = &'static str> {
    let code = include_str!("../sqlite.rs").split('"').skip(1).step_by(2);
    code.filter(|text| ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb)))
        // Whether there is any row at all is no scan.
        .filter(|text| *text != "SELECT 1 FROM people LIMIT 1")
}

#[tokio::test]
async fn no_statement_reads_the_whole_table() {
    let folder = tempfile::tempdir().expect("folder");
    let store = SqliteStore::open(&folder.path().join("users.db"), 1, Migrations::Run).await.expect("opened");
    assert_eq!(statements().count(), 7);
    for statement in statements() {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        for step in sqlx::query(explain).fetch_all(&store.writer).await.expect(statement) {
            let detail: String = step.try_get("detail").expect("a plan");
            // The array of ids that was asked for is read whole, of course.
            let good = !detail.starts_with("SCAN") || detail.contains("json_each");
            assert!(good, "{detail} by {statement}");
        }
    }
}
