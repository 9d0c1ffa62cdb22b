//! Opening a PostgreSQL database: the URL, the pool and what each of its connections is set to, waiting for a server that
//! is not there yet, and the tables. Everything that can be wrong becomes one sentence that says what to do; a password
//! is in none of them.

use std::{
    str::FromStr as _,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh::config::{Secret, StoreLimits};
use sqlx::{
    AssertSqlSafe, Connection as _, Error, Executor as _, PgConnection, PgPool,
    migrate::{Migrate as _, MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::errors;
use crate::store::OpenError;

/// The tables' own name among migrations; it lies in the service's schema.
const MIGRATIONS_TABLE: &str = "_auth_migrations";
/// The pause between two looks for a server that is not there yet.
const START_PAUSE: Duration = Duration::from_millis(250);
/// A connection that has been idle for longer is tried before it is lent: the server may have been restarted.
const FRESH: Duration = Duration::from_secs(1);
/// The parameters of a URL that the driver knows. Others are libpq's, which many URLs bear; they are passed over, and
/// the driver would show their values in the log.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    // The lock is our own, see below.
    migrator.set_locking(false);
    migrator
}

/// The pool, on a database whose schema of this name has our tables.
pub(super) async fn open(url: &Secret, schema: &str, limits: &StoreLimits) -> Result<PgPool, OpenError> {
    let options = parse(url.expose())?;
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let pool = pool(options, schema, limits);
    let opened = wait_for(&pool, &place, schema, limits).await;
    if opened.is_err() {
        pool.close().await;
    }
    opened.map(|()| pool)
}

/// Tries until the server is there, or for as long as a start may wait.
async fn wait_for(pool: &PgPool, place: &str, schema: &str, limits: &StoreLimits) -> Result<(), OpenError> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        let error = match prepare(pool, place, schema).await {
            Ok(()) => return Ok(()),
            Err(Unprepared::Refused(error)) => return Err(error),
            Err(Unprepared::Failed(error)) => error,
        };
        if !is_on_its_way(&error) {
            return Err(OpenError(format!(
                "The account store at {place} cannot be used: {error}. Check AUTH_STORE_URL and what its user may do"
            )));
        }
        if begun.elapsed() >= limits.start() {
            return Err(OpenError(format!(
                "The account store at {place} cannot be reached: {error}. Start it, or correct AUTH_STORE_URL"
            )));
        }
        if !told {
            told = true;
            let secs = limits.start_secs;
            tracing::warn!(error.cause = %error, wait_secs_max = secs, "the account store is not there yet; waiting");
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// Whether waiting may help: not when the server says who may not connect, or that there is no such database.
fn is_on_its_way(error: &Error) -> bool {
    let refused = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code.starts_with("28"));
    errors::is_away(error) && !refused && !matches!(error, Error::Tls(_))
}

fn parse(url: &str) -> Result<PgConnectOptions, OpenError> {
    let bad = |what: &str| {
        Err(OpenError(format!(
            "auth.store_url {what}; write postgres://user:password@host:5432/database, with %40 for an @ in the password and the like"
        )))
    };
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let rest = address.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    // What follows would be taken for a host or a database, and shown as one.
    if url.contains('#') || rest.matches('@').count() > 1 || rest[authority.len()..].contains('@') {
        return bad("has a character in its password that stands for something else");
    }
    let mut kept = Vec::new();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if PARAMETERS.contains(&name) || name.starts_with("options[") {
            kept.push(parameter);
        } else {
            tracing::warn!(parameter = name, "a parameter of auth.store_url is not known and has no effect");
        }
    }
    match PgConnectOptions::from_str(&format!("{address}?{}", kept.join("&"))) {
        Ok(options) if options.get_application_name().is_none() => Ok(options.application_name("auth-svc")),
        Ok(options) => Ok(options),
        Err(error) => bad(&format!("cannot be read: {error}")),
    }
}

fn pool(options: PgConnectOptions, schema: &str, limits: &StoreLimits) -> PgPool {
    // Poolers in front of the server know no such setting, and we have no fractions.
    let options = options.extra_float_digits(None);
    let search_path: Arc<str> = format!("\"{schema}\"").into();
    let limit: Arc<str> = limits.call_ms.to_string().into();
    PgPoolOptions::new()
        .max_connections(limits.connections_max)
        .acquire_timeout(limits.connect())
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move { Ok(meta.idle_for < FRESH || connection.ping().await.is_ok()) })
        })
        .after_connect(move |connection, _| {
            let (search_path, limit) = (search_path.clone(), limit.clone());
            Box::pin(async move { set_up(connection, &search_path, &limit).await })
        })
        .connect_lazy_with(options)
}

/// What a connection is set to, whatever the server's defaults are later on: our schema; no statement goes on after the
/// call it belongs to; a process that stops in the middle of a transaction does not keep its locks; and a commit is on
/// disk when it is answered.
async fn set_up(connection: &mut PgConnection, search_path: &str, limit_ms: &str) -> Result<(), Error> {
    sqlx::query(
        "SELECT set_config('search_path', $1, false),
                set_config('statement_timeout', $2, false),
                set_config('idle_in_transaction_session_timeout', $2, false),
                set_config('synchronous_commit', CASE level WHEN 'off' THEN 'on' ELSE level END, false)
         FROM current_setting('synchronous_commit') AS level",
    )
    .persistent(false)
    .bind(search_path)
    .bind(limit_ms)
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

async fn prepare(pool: &PgPool, place: &str, schema: &str) -> Result<(), Unprepared> {
    let mut connection = pool.acquire().await?;
    check(&mut connection, place).await?;
    migrate(&mut connection, schema).await.map_err(|error| judge_migration(place, error))
}

/// Whether the server keeps what it acknowledges, and can hold any text.
async fn check(connection: &mut PgConnection, place: &str) -> Result<(), Unprepared> {
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
            "The account store at {place} has synchronous_commit=off, so what it acknowledges may be lost: set it to on for this user or database"
        ))));
    }
    if encoding != "UTF8" {
        return Err(Unprepared::Refused(OpenError(format!(
            "The account store at {place} is a database in {encoding}: make one with ENCODING 'UTF8'"
        ))));
    }
    if fsync == "off" {
        tracing::warn!("the account store has fsync=off: what it acknowledges is lost when its machine goes down");
    }
    Ok(())
}

/// Brings the tables up to date in one transaction: all steps or none. Replicas that start together wait for one another.
async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<(), MigrateError> {
    let migrator = migrator();
    if is_up_to_date(connection, &migrator).await? {
        return Ok(());
    }
    let mut write = connection.begin().await?;
    // A step may take longer than a call.
    write.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('switchboard migrations'), hashtext($1))")
        .bind(schema)
        .execute(&mut *write)
        .await?;
    let missing: bool = sqlx::query_scalar("SELECT to_regnamespace(quote_ident($1)) IS NULL")
        .bind(schema)
        .fetch_one(&mut *write)
        .await?;
    if missing {
        write.execute(AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""))).await?;
    }
    migrator.run_direct(None, &mut *write, false).await?;
    Ok(write.commit().await?)
}

/// Whether there is nothing to do: then a user who may not change tables can run the service.
async fn is_up_to_date(connection: &mut PgConnection, migrator: &Migrator) -> Result<bool, MigrateError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(MIGRATIONS_TABLE)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(false);
    }
    let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await?;
    let known = migrator.iter().map(|step| (step.version, &step.checksum));
    Ok(applied.iter().map(|step| (step.version, &step.checksum)).eq(known))
}

fn judge_migration(place: &str, error: MigrateError) -> Unprepared {
    Unprepared::Refused(OpenError(match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => return Unprepared::Failed(error),
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => format!(
            "The account store at {place} was written by a newer version of auth-svc: run that version, or restore an older backup"
        ),
        MigrateError::VersionMismatch(step) => format!(
            "The account store at {place} has other tables than this version of auth-svc made in step {step}: run the version that wrote it"
        ),
        other => format!("The tables of the account store at {place} cannot be brought up to date: {other}"),
    }))
}
