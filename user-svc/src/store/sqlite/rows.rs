//! Rows to types and back: ids as bytes, times as Unix milliseconds, preferences as JSON. A row that cannot be what the
//! table promises is a broken store, never a panic.

use mesh::time::Millis;
use sqlx::{FromRow, Row as _, sqlite::SqliteRow};

use crate::profile::{OwnProfile, Profile, UserId};

impl FromRow<'_, SqliteRow> for Profile {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        // NULL is a name that nobody has said yet.
        let name = |column| row.try_get::<Option<String>, _>(column).map(Option::unwrap_or_default);
        Ok(Self {
            id: UserId(row.try_get("id")?),
            username: row.try_get("username")?,
            first_name: name("first_name")?,
            last_name: name("last_name")?,
            bio: row.try_get("bio")?,
            avatar_url: row.try_get("avatar_url")?,
            created_at: Millis(row.try_get("created_at")?),
            updated_at: Millis(row.try_get("updated_at")?),
        })
    }
}

impl FromRow<'_, SqliteRow> for OwnProfile {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let json: &str = row.try_get("preferences")?;
        let preferences = serde_json::from_str(json)
            .map_err(|error| sqlx::Error::ColumnDecode { index: "preferences".to_owned(), source: error.into() })?;
        Ok(Self { profile: Profile::from_row(row)?, preferences })
    }
}
