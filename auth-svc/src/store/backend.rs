//! Which database a URL names, and what is done with it as a whole: opening, migrating, moving house, backing up.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mesh::{
    config::{Secret, StoreLimits},
    migration::{Migrated, Migrations},
    moving::House,
};

use super::{OpenError, Store, moving, postgres, sqlite};

/// Opens the store that the URL names, and sees to its tables.
///
/// # Errors
/// One sentence that says what is wrong with it and what to do.
pub async fn open(
    url: &Secret,
    data: &Path,
    readers: u32,
    limits: &StoreLimits,
    migrations: Migrations,
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match Backend::of(url, data)? {
        Backend::Sqlite(path) => Arc::new(sqlite::SqliteStore::open(&path, readers, migrations).await?),
        Backend::Postgres => Arc::new(postgres::PostgresStore::open(url, limits, migrations).await?),
    })
}

/// The file of a store in SQLite, whether it is there or not.
#[must_use]
pub fn sqlite_file(url: &Secret, data: &Path) -> Option<PathBuf> {
    if let Ok(Backend::Sqlite(path)) = Backend::of(url, data) { Some(path) } else { None }
}

/// Brings the tables of the store that the URL names up to date, apart from any service.
///
/// # Errors
/// As [`open`].
pub async fn migrate(url: &Secret, data: &Path, limits: &StoreLimits) -> Result<Migrated, OpenError> {
    match Backend::of(url, data)? {
        Backend::Sqlite(path) => {
            let options = mesh_sqlite::Options::new(1, "migrate");
            let file = mesh_sqlite::File::open(&path, sqlite::service(), &options, Migrations::Run).await?;
            file.close().await.map_err(|error| OpenError(error.to_string()))
        }
        Backend::Postgres => {
            Ok(postgres::server(url, postgres::SCHEMA, limits, Migrations::Run).await?.migrated().clone())
        }
    }
}

/// The store that the URL names as records, for moving house.
///
/// # Errors
/// As [`open`].
pub async fn house(
    url: &Secret,
    data: &Path,
    limits: &StoreLimits,
    migrations: Migrations,
) -> Result<Box<dyn House>, OpenError> {
    Ok(match Backend::of(url, data)? {
        Backend::Sqlite(path) => {
            let options = mesh_sqlite::Options::new(1, "moving");
            let file = mesh_sqlite::File::open(&path, sqlite::service(), &options, migrations).await?;
            let (writer, readers) = file.pools(&options).await?;
            Box::new(mesh_sqlite::moving::Tables::new(moving::KINDS, writer, readers))
        }
        Backend::Postgres => {
            let server = postgres::server(url, postgres::SCHEMA, limits, migrations).await?;
            Box::new(mesh_postgres::moving::Tables::new(moving::KINDS, server))
        }
    })
}

/// The file that the URL names, for a backup.
///
/// # Errors
/// When it names a server, or when there is no such file.
pub fn file(url: &Secret, data: &Path) -> Result<PathBuf, OpenError> {
    match Backend::of(url, data)? {
        Backend::Sqlite(path) if path.is_file() => Ok(path),
        Backend::Sqlite(path) => Err(OpenError(format!("{} is no file: there is nothing to back up", path.display()))),
        Backend::Postgres => {
            let message = "auth.store_url names a server: back it up with its own tools, or use `switchboard export`";
            Err(OpenError(message.to_owned()))
        }
    }
}

/// What a URL names. The one place that knows which backends there are.
#[derive(Debug)]
enum Backend {
    Sqlite(PathBuf),
    Postgres,
}

impl Backend {
    /// An empty URL is SQLite in the data folder.
    fn of(url: &Secret, data: &Path) -> Result<Self, OpenError> {
        match url.expose().split_once(':') {
            None if url.is_empty() => Ok(Self::Sqlite(data.join("auth.db"))),
            Some(("sqlite", rest)) => Ok(Self::Sqlite(sqlite_path(rest)?)),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            _ => {
                let message = "auth.store_url must be empty or begin with sqlite:, postgres: or postgresql:";
                Err(OpenError(message.to_owned()))
            }
        }
    }
}

fn sqlite_path(rest: &str) -> Result<PathBuf, OpenError> {
    mesh_sqlite::file_of(rest).ok_or_else(|| {
        OpenError("auth.store_url must name a file, as in sqlite:/var/lib/switchboard/auth.db".to_owned())
    })
}
