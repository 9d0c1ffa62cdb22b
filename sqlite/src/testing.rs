//! What the services' tests share: whether the list of what moves is whole, and files of the first release.

use std::path::Path;

use mesh::{migration::Migrations, moving::Kind};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::{File, Options, Service};

/// Fails when a table or a column of the service is in none of the kinds, unless its table is left on purpose.
///
/// # Panics
/// Then.
pub async fn assert_moved(service: Service, kinds: &[Kind], left: &[&str]) {
    let path = std::env::temp_dir().join(format!("moved-{}.db", uuid::Uuid::new_v4()));
    let opened = File::open(&path, service, &Options::new(1, "moved"), Migrations::Run).await;
    let mut file = opened.expect("opened");
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY 1, 2",
    )
    .fetch_all(&mut file.connection)
    .await
    .expect("the tables");
    file.close().await.expect("closed");
    std::fs::remove_file(&path).expect("removed");
    let known = |table: &str, column: &str| {
        kinds.iter().any(|kind| {
            kind.table == table && (kind.type_of(column).is_some() || kind.one && kind.key.contains(&column))
        })
    };
    let missing: Vec<_> =
        columns.iter().filter(|(table, column)| !left.contains(&&**table) && !known(table, column)).collect();
    assert!(missing.is_empty(), "neither moved (store/moving.rs) nor left on purpose: {missing:?}");
    assert!(!columns.is_empty(), "there are no tables");
}

/// A file as the first release left it: its tables, the mark of its first step with the step's SHA-384, and what was in them.
///
/// # Panics
/// When it cannot be made.
pub async fn first(path: &Path, migrations_table: &str, step: &str, sha384: &str, data: &str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.expect("opened");
    let sql = format!(
        "{step};
         CREATE TABLE {migrations_table} (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
             installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL,
             execution_time BIGINT NOT NULL);
         INSERT INTO {migrations_table} (version, description, success, checksum, execution_time)
             VALUES (1, 'first', true, x'{sha384}', 0);
         {data}"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("made");
    connection.close().await.expect("closed");
}
