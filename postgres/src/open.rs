//! Opening a database: the pool and what each of its connections is set to, waiting for a server that is not there yet,
//! and the tables. Everything that can be wrong becomes one sentence that says what to do; a password is in none of them.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh::{
    config::{Secret, StoreLimits},
    migration::{Migrated, Migrations, Step},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Error, Executor as _, PgConnection,
    migrate::{Migrate as _, MigrateError, Migrator},
    postgres::PgConnectOptions,
};

use crate::{address, errors, pool::Pool};

/// The pause between two looks for a server that is not there yet.
const START_PAUSE: Duration = Duration::from_millis(250);
/// A connection that has been idle for longer is tried before it is used: the server may have been restarted.
pub const FRESH: Duration = Duration::from_secs(1);

/// A store that cannot be opened, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// Whose store it is, and how its owner speaks of it.
#[derive(Debug)]
pub struct Service {
    /// The service's name, as the server sees it and as sentences have it: `auth-svc`.
    pub name: &'static str,
    /// What sentences call the store: `account store`.
    pub store: &'static str,
    /// The setting that holds the URL: `auth.store_url`.
    pub setting: &'static str,
    /// The same setting as an operator knows it from the environment: `AUTH_STORE_URL`.
    pub variable: &'static str,
    /// The name among migrations of the service's own; the table lies in the service's schema.
    pub migrations_table: &'static str,
    /// The migrations, as `sqlx::migrate!` has them.
    pub migrator: Migrator,
    /// What else each connection is set to, by name.
    pub settings: &'static [(&'static str, &'static str)],
}

/// A server that has been opened.
#[derive(Clone)]
pub struct Server {
    options: PgConnectOptions,
    limits: StoreLimits,
    settings: Arc<Settings>,
    migrated: Migrated,
}

/// The options have the password in them.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The names and values of what a connection is set to.
struct Settings(Vec<String>, Vec<String>);

impl Server {
    /// Connects, waiting for a server that is not there yet, and sees to the tables in this schema.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do, without the password.
    pub async fn open(
        url: &Secret,
        schema: &str,
        mut service: Service,
        limits: &StoreLimits,
        migrations: Migrations,
    ) -> Result<Self, OpenError> {
        let options = address::parse(url.expose(), &service)?;
        service.migrator.dangerous_set_table_name(service.migrations_table);
        // The lock is our own, see below.
        service.migrator.set_locking(false);
        let limit_ms = limits.call_ms.to_string();
        let fixed = [
            ("search_path", &*format!("\"{schema}\"")),
            ("statement_timeout", &limit_ms),
            ("idle_in_transaction_session_timeout", &limit_ms),
        ];
        let (names, values) = fixed
            .into_iter()
            .chain(service.settings.iter().copied())
            .map(|(name, value)| (name.into(), value.into()))
            .unzip();
        let settings = Arc::new(Settings(names, values));
        let server = Self { options, limits: limits.clone(), settings, migrated: Migrated::default() };
        let migrated = server.wait(schema, &service, migrations).await?;
        Ok(Self { migrated, ..server })
    }

    /// What opening did to the tables.
    #[must_use]
    pub fn migrated(&self) -> &Migrated {
        &self.migrated
    }

    /// A pool of at most so many connections; each is made when it is needed.
    #[must_use]
    pub fn pool(&self, connections_max: u32) -> Pool {
        Pool::new(self.clone(), connections_max)
    }

    /// How long a call waits for a connection.
    pub(crate) fn connect_max(&self) -> Duration {
        self.limits.connect()
    }

    /// A connection outside of any pool, within the time that a call waits for one.
    ///
    /// # Errors
    /// The server's, or [`Error::PoolTimedOut`].
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            set_up(&mut connection, &self.settings).await?;
            Ok(connection)
        };
        tokio::time::timeout(self.limits.connect(), connecting).await.unwrap_or(Err(Error::PoolTimedOut))
    }

    /// Tries until the server is there, or for as long as a start may wait.
    async fn wait(&self, schema: &str, service: &Service, migrations: Migrations) -> Result<Migrated, OpenError> {
        let Service { store, variable, .. } = *service;
        let place = format!("{}:{}", self.options.get_host(), self.options.get_port());
        let begun = Instant::now();
        let mut told = false;
        loop {
            let error = match self.prepare(&place, schema, service, migrations).await {
                Ok(migrated) => return Ok(migrated),
                Err(Unprepared::Refused(error)) => return Err(error),
                Err(Unprepared::Failed(error)) => error,
            };
            if !errors::is_on_its_way(&error) {
                return Err(OpenError(format!(
                    "The {store} at {place} cannot be used: {error}. Check {variable} and what its user may do"
                )));
            }
            if begun.elapsed() >= self.limits.start() {
                return Err(OpenError(format!(
                    "The {store} at {place} cannot be reached: {error}. Start it, or correct {variable}"
                )));
            }
            if !told {
                told = true;
                let secs = self.limits.start_secs;
                tracing::warn!(error.cause = %error, wait_secs_max = secs, "the {store} is not there yet; waiting");
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    async fn prepare(
        &self,
        place: &str,
        schema: &str,
        service: &Service,
        migrations: Migrations,
    ) -> Result<Migrated, Unprepared> {
        let mut connection = self.connect().await?;
        check(&mut connection, place, service.store).await?;
        let bad = |error| judge_migration(place, error, service);
        let missing = missing(&mut connection, service).await.map_err(bad)?;
        let version = service.migrator.iter().map(|step| step.version).max().unwrap_or(0);
        match (missing.first(), migrations) {
            // Then a user who may not change tables can run the service.
            (None, _) => Ok(Migrated { backend: "postgres", version, applied: Vec::new() }),
            (Some(_), Migrations::Run) => {
                let applied = migrate(&mut connection, schema, service).await.map_err(bad)?;
                Ok(Migrated { backend: "postgres", version, applied })
            }
            (Some(step), Migrations::Check) => Err(Unprepared::Refused(OpenError(format!(
                "The {} at {place} lacks step {} of its tables, and mesh.migrate_at_start is false: run `switchboard migrate`",
                service.store, step.version
            )))),
        }
    }
}

/// What a connection is set to, whatever the server's defaults are later on: our schema; no statement goes on after the
/// call it belongs to; a process that stops in the middle of a transaction does not keep its locks; and a commit is on
/// disk when it is answered.
async fn set_up(connection: &mut PgConnection, Settings(names, values): &Settings) -> Result<(), Error> {
    sqlx::query(
        "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS setting (name, value)
         UNION ALL SELECT set_config('synchronous_commit', CASE level WHEN 'off' THEN 'on' ELSE level END, false)
                   FROM current_setting('synchronous_commit') AS level",
    )
    .persistent(false)
    .bind(names)
    .bind(values)
    .execute(connection)
    .await?;
    Ok(())
}

/// Why the database is not ready.
enum Unprepared {
    /// It never will be by waiting.
    Refused(OpenError),
    /// This went wrong on the way.
    Failed(Error),
}

impl From<Error> for Unprepared {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Whether the server keeps what it acknowledges, and can hold any text.
async fn check(connection: &mut PgConnection, place: &str, store: &str) -> Result<(), Unprepared> {
    // `reset_val` is what a connection begins with, before we set anything.
    let (commit, fsync, encoding): (String, String, String) = sqlx::query_as(
        "SELECT (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
                current_setting('fsync'), current_setting('server_encoding')",
    )
    .persistent(false)
    .fetch_one(connection)
    .await?;
    if commit == "off" {
        return Err(Unprepared::Refused(OpenError(format!(
            "The {store} at {place} has synchronous_commit=off, so what it acknowledges may be lost: set it to on for this user or database"
        ))));
    }
    if encoding != "UTF8" {
        return Err(Unprepared::Refused(OpenError(format!(
            "The {store} at {place} is a database in {encoding}: make one with ENCODING 'UTF8'"
        ))));
    }
    if fsync == "off" {
        tracing::warn!("the {store} has fsync=off: what it acknowledges is lost when its machine goes down");
    }
    Ok(())
}

/// Brings the tables up to date in one transaction: all steps or none. Replicas that start together wait for one another.
async fn migrate(connection: &mut PgConnection, schema: &str, service: &Service) -> Result<Vec<Step>, MigrateError> {
    let mut write = connection.begin().await?;
    // A step may take longer than a call.
    write.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('switchboard migrations'), hashtext($1))")
        .bind(schema)
        .execute(&mut *write)
        .await?;
    let unmade: bool = sqlx::query_scalar("SELECT to_regnamespace(quote_ident($1)) IS NULL")
        .bind(schema)
        .fetch_one(&mut *write)
        .await?;
    if unmade {
        write.execute(AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""))).await?;
    }
    // Whoever held the lock before may have made them.
    let missing = missing(&mut write, service).await?;
    service.migrator.run_direct(None, &mut *write, false).await?;
    write.commit().await?;
    Ok(missing)
}

/// The steps that have not been made. Steps that this program does not know, or knows otherwise, are refused.
async fn missing(connection: &mut PgConnection, service: &Service) -> Result<Vec<Step>, MigrateError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(service.migrations_table)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await?;
    let applied = if there { connection.list_applied_migrations(service.migrations_table).await? } else { Vec::new() };
    for step in &applied {
        match service.migrator.iter().find(|known| known.version == step.version) {
            None => return Err(MigrateError::VersionMissing(step.version)),
            Some(known) if known.checksum != step.checksum => return Err(MigrateError::VersionMismatch(step.version)),
            Some(_) => {}
        }
    }
    let is_missing = |version| !applied.iter().any(|step| step.version == version);
    let missing = service.migrator.iter().filter(|step| is_missing(step.version));
    Ok(missing.map(|step| Step { version: step.version, description: step.description.to_string() }).collect())
}

fn judge_migration(place: &str, error: MigrateError, service: &Service) -> Unprepared {
    let Service { name, store, .. } = *service;
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
    Unprepared::Refused(OpenError(match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => return Unprepared::Failed(error),
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => format!(
            "The {store} at {place} was written by a newer version of {name}: run that version, or restore an older backup"
        ),
        MigrateError::VersionMismatch(step) => format!(
            "The {store} at {place} has other tables than this version of {name} made in step {step}: run the version that wrote it"
        ),
        other => format!("The tables of the {store} at {place} cannot be brought up to date: {other}"),
    }))
}
