//! What the services' tests share: whether the list of what moves is whole.

use mesh::{migration::Migrations, moving::Kind};

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
