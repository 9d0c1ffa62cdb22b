//! What tests on a real server need: where it is, a schema or a database of the test's own that goes with the test, a
//! proxy that freezes and cuts (`testing/proxy.rs`), and the plans of all that a connection has prepared. Only with the
//! feature `testing`; it panics where something is not as it should be.

use std::{
    io::{self, Write as _},
    str::FromStr as _,
    sync::Once,
    time::Duration,
};

use mesh::config::{Secret, StoreLimits};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};

use crate::{OpenError, Server, Service};

mod plans;
mod proxy;

pub use plans::{Prepared, prepared};
pub use proxy::{Mood, Proxy};

/// How long a test waits for what must happen.
pub const LONG: Duration = Duration::from_secs(30);

/// What a test is patient with: no call ends by chance, and a start waits for nobody.
pub const LIMITS: StoreLimits = StoreLimits { connections_max: 8, connect_ms: 20_000, call_ms: 20_000, start_secs: 0 };

/// The server that `POSTGRES_URL` names. Without one the test is to be skipped, which is said loudly here, or fails where
/// `SWITCHBOARD_TEST_REQUIRE=all` demands that nothing is skipped.
#[must_use]
pub fn url() -> Option<String> {
    static SAID: Once = Once::new();
    let hint = "POSTGRES_URL is not set; `eval \"$(tests/stores start)\"` starts a server";
    let url = std::env::var("POSTGRES_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var("SWITCHBOARD_TEST_REQUIRE").as_deref() != Ok("all"), "{hint}");
        // Not by `eprintln!`, which is shown of failing tests only.
        SAID.call_once(|| drop(writeln!(io::stderr(), "SKIPPED all tests on PostgreSQL: {hint}")));
    }
    url
}

/// The URL with another parameter.
#[must_use]
pub fn with(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

fn own_name() -> String {
    format!("test_{:032x}", rand::random::<u128>())
}

/// Runs a statement when a test is over. A runtime of its own: this may be the last moment of the test's.
fn finally(url: String, statement: String) {
    let done = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&url).await.expect("connected");
            connection.execute(AssertSqlSafe(statement)).await.expect("dropped");
        });
    });
    // A test that fails already must not fail twice.
    drop(done.join());
}

/// A schema of the test's own, dropped with it.
#[derive(Debug)]
pub struct Schema {
    /// The server and its database.
    pub url: String,
    /// The schema's name.
    pub name: String,
}

impl Schema {
    /// None, with a loud word, where there is no server.
    #[must_use]
    pub fn new() -> Option<Self> {
        Some(Self { url: url()?, name: own_name() })
    }

    /// The URL as services have it.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret::from(self.url.as_str())
    }

    /// Opens a service's tables in this schema.
    ///
    /// # Errors
    /// As [`Server::open`].
    pub async fn open(&self, url: &str, service: Service, limits: &StoreLimits) -> Result<Server, OpenError> {
        Server::open(&Secret::from(url), &self.name, service, limits, mesh::migration::Migrations::Run).await
    }

    /// Makes the tables as the first release left them: its first step with the step's SHA-384, and what was in them.
    ///
    /// # Panics
    /// When they cannot be made.
    pub async fn first(&self, migrations_table: &str, step: &str, sha384: &str, data: &str) {
        let mut connection = PgConnection::connect(&self.url).await.expect("connected");
        let sql = format!(
            "CREATE SCHEMA {name}; SET search_path TO {name}; {step};
             CREATE TABLE {migrations_table} (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
                 installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL,
                 execution_time BIGINT NOT NULL);
             INSERT INTO {migrations_table} (version, description, success, checksum, execution_time)
                 VALUES (1, 'first', true, '\\x{sha384}', 0);
             {data}",
            name = self.name
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("made");
    }

    /// A connection beside the store, in the same schema.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.expect("connected");
        connection.execute(AssertSqlSafe(format!("SET search_path = {}", self.name))).await.expect("set");
        connection
    }

    /// The URL of a user of the test's own, who may read and write in the schema, which has its tables already.
    pub async fn user_url(&self) -> String {
        let (name, user) = (&self.name, self.user());
        let grants = format!(
            "CREATE ROLE {user} LOGIN PASSWORD 'hunter2'; GRANT USAGE ON SCHEMA {name} TO {user};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {user}"
        );
        self.connect().await.execute(AssertSqlSafe(grants)).await.expect("granted");
        with(&self.url, &format!("user={user}&password=hunter2"))
    }

    /// That user's name.
    #[must_use]
    pub fn user(&self) -> String {
        format!("{}_user", self.name)
    }

    /// Waits until some statement on this schema waits for a lock, or until none does.
    pub async fn until_waiting_is(&self, expected: bool) {
        let mut beside = self.connect().await;
        let polling = async {
            loop {
                let waiting: bool = sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM pg_stat_activity AS one JOIN pg_locks AS held ON held.pid = one.pid
                                    JOIN pg_class AS of ON of.oid = held.relation
                                    WHERE one.wait_event_type = 'Lock' AND of.relnamespace::regnamespace::text = $1)",
                )
                .bind(&self.name)
                .fetch_one(&mut beside)
                .await
                .expect("read");
                if waiting == expected {
                    break;
                }
            }
        };
        tokio::time::timeout(LONG, polling).await.expect("it becomes so");
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let statement = format!("DROP SCHEMA IF EXISTS {} CASCADE; DROP ROLE IF EXISTS {}", self.name, self.user());
        finally(self.url.clone(), statement);
    }
}

/// A database of the test's own, dropped with it, which can be made unreachable.
#[derive(Debug)]
pub struct Database {
    /// Its URL.
    pub url: String,
    server: String,
    name: String,
}

impl Database {
    /// None, with a loud word, where there is no server.
    pub async fn new() -> Option<Self> {
        let (server, name) = (url()?, own_name());
        let url = PgConnectOptions::from_str(&server).expect("a URL").database(&name).to_url_lossy().to_string();
        let database = Self { url, server, name };
        database.execute(&format!("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", database.name)).await;
        Some(database)
    }

    /// Runs a statement beside the database, not in it.
    async fn execute(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.server).await.expect("connected");
        connection.execute(AssertSqlSafe(statement)).await.expect("executed");
    }

    /// From now on nobody may connect, and who is connected is no more.
    pub async fn shut(&self) {
        let name = &self.name;
        self.execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        self.execute(&terminate).await;
    }

    /// All may connect again.
    pub async fn reopen(&self) {
        self.execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        finally(self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}
