//! The table of user-svc as records, the same from SQLite and from PostgreSQL.

use mesh::moving::{Kind, Type};

/// People.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "person",
    table: "people",
    key: &["id"],
    one: false,
    fields: &[
        ("id", Type::Id),
        ("username", Type::Text),
        ("username_version", Type::Number),
        ("first_name", Type::Text),
        ("last_name", Type::Text),
        ("bio", Type::Text),
        ("avatar_url", Type::Text),
        // As the text that it is: numbers in it come back as they went in.
        ("preferences", Type::Text),
        ("created_at", Type::Number),
        ("updated_at", Type::Number),
        ("erased_at", Type::Number),
    ],
}];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite;

    #[tokio::test]
    async fn every_column_goes_along_or_is_left_on_purpose() {
        mesh_sqlite::testing::assert_moved(sqlite::service(), KINDS, &["_user_migrations"]).await;
    }
}
