//! What a mesh under test keeps its data in, as `SWITCHBOARD_TEST_STORES` says: `sqlite` (the default) in its own folder, or
//! `postgres`, `postgres+mongodb`, `postgres+mongodb+redis`: fresh databases on the servers of `tests/stores start`, which
//! go with the mesh. `stores/server.rs` has servers of a test's own, to kill.

use std::{
    str::FromStr as _,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use mongodb::options::ClientOptions;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};

use crate::wait;

pub(crate) mod server;

/// Which stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    PostgresMongodb,
    PostgresMongodbRedis,
}

/// What the names of databases begin with; the time follows.
const PREFIX: &str = "switchboard_e2e_";
/// Wider limits for a mesh on MongoDB. The compatible server sorts whole rooms in memory and all tests share one of it, and
/// what is proved on it is behaviour: a busy server must not look like one that is away.
const WIDE_MS: [(&str, u32); 3] = [
    ("SWITCHBOARD_MESSAGE__MONGODB__CALL_MS", 45_000),
    ("SWITCHBOARD_GATEWAY__CALL_TIMEOUT_MS", 50_000),
    ("SWITCHBOARD_GATEWAY__REQUEST_TIMEOUT_MS", 60_000),
];
/// Databases of runs that were killed are dropped by a later one when they are older than any run takes.
const LEFT_OVER_SECS: u64 = 6 * 3_600;

impl Kind {
    /// As the environment says.
    pub(crate) fn chosen() -> Self {
        static CHOSEN: OnceLock<Kind> = OnceLock::new();
        *CHOSEN.get_or_init(|| match std::env::var("SWITCHBOARD_TEST_STORES").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok(name) => Self::named(name),
        })
    }

    /// By its name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "postgres" => Self::Postgres,
            "postgres+mongodb" => Self::PostgresMongodb,
            "postgres+mongodb+redis" => Self::PostgresMongodbRedis,
            other => panic!("{other} are no stores: sqlite, postgres, postgres+mongodb or postgres+mongodb+redis"),
        }
    }

    pub(crate) fn has_mongodb(self) -> bool {
        matches!(self, Self::PostgresMongodb | Self::PostgresMongodbRedis)
    }

    pub(crate) fn has_redis(self) -> bool {
        self == Self::PostgresMongodbRedis
    }
}

/// Whether a test of SQLite's files is to run; says so when it is not.
pub(crate) fn sqlite_only(what: &str) -> bool {
    let kind = Kind::chosen();
    if kind != Kind::Sqlite {
        wait::say(&format!("SKIPPED on {kind:?}: {what}"));
    }
    kind == Kind::Sqlite
}

/// The stores of one mesh. The databases are dropped with it.
#[derive(Default)]
pub(crate) struct Stores {
    pub(crate) postgres: Option<Postgres>,
    mongodb: Option<Mongodb>,
    redis: Option<String>,
}

impl Stores {
    /// Fresh ones of the kind that the environment names.
    pub(crate) fn fresh() -> Self {
        static SWEPT: OnceLock<()> = OnceLock::new();
        let kind = Kind::chosen();
        if kind == Kind::Sqlite {
            return Self::default();
        }
        let exported = |name: &str| {
            std::env::var(name)
                .unwrap_or_else(|_| panic!("{name} is not set; `eval \"$(tests/stores start)\"` sets it"))
        };
        let (postgres, mongodb) = (exported("POSTGRES_URL"), kind.has_mongodb().then(|| exported("MONGODB_URL")));
        SWEPT.get_or_init(|| sweep(&postgres, mongodb.as_deref()));
        Self {
            postgres: Some(Postgres::create(postgres)),
            mongodb: mongodb.map(|url| Mongodb { url: with_database(&url, &fresh_name()) }),
            redis: kind.has_redis().then(|| exported("REDIS_URL")),
        }
    }

    /// As the environment of every process.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let url = self.postgres.as_ref().map(|postgres| postgres.url.clone());
        let message = self.mongodb.as_ref().map(|mongodb| mongodb.url.clone()).or_else(|| url.clone());
        let mut environment = environment(url, message, self.redis.clone());
        if self.mongodb.is_some() {
            let wide = WIDE_MS.map(|(name, ms)| (name.to_owned(), ms.to_string()));
            environment.extend(wide);
        }
        environment
    }
}

/// The settings that name stores.
pub(crate) fn environment(
    sql: Option<String>,
    message: Option<String>,
    redis: Option<String>,
) -> Vec<(String, String)> {
    let mut all = vec![("AUTH_STORE_URL", sql.clone()), ("USER_STORE_URL", sql), ("MESSAGE_STORE_URL", message)];
    if redis.is_some() {
        all.push(("REDIS_ENABLED", Some("true".to_owned())));
        all.push(("SWITCHBOARD_MESH__REDIS__PREFIX", Some(format!("{}:", fresh_name()))));
    }
    all.push(("REDIS_URL", redis));
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// A database on PostgreSQL.
pub(crate) struct Postgres {
    pub(crate) url: String,
    server: String,
}

impl Postgres {
    fn create(server: String) -> Self {
        let name = fresh_name();
        let options = PgConnectOptions::from_str(&server).expect("a URL").database(&name);
        let database = Self { url: options.to_url_lossy().to_string(), server };
        database.beside(format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"));
        database
    }

    /// Runs a statement in the server's own database.
    fn beside(&self, statement: String) {
        let server = self.server.clone();
        block_on(async move {
            let mut connection = PgConnection::connect(&server).await.expect("connected");
            connection.execute(AssertSqlSafe(statement)).await.expect("executed");
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let name =
            PgConnectOptions::from_str(&self.url).ok().and_then(|options| options.get_database().map(str::to_owned));
        // A test that fails already must not fail twice; what stays is swept later.
        if !std::thread::panicking()
            && let Some(name) = name
        {
            self.beside(format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

/// A database on MongoDB; the first write makes it.
struct Mongodb {
    url: String,
}

impl Drop for Mongodb {
    fn drop(&mut self) {
        let url = self.url.clone();
        if !std::thread::panicking() {
            block_on(async move {
                let client = mongodb::Client::with_uri_str(url).await.expect("connected");
                client.default_database().expect("the URL names one").drop().await.expect("dropped");
            });
        }
    }
}

/// The URL with this database.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let hosts = before.split('/').next().unwrap_or(before);
    format!("{scheme}://{hosts}/{name}?{query}")
}

pub(crate) fn fresh_name() -> String {
    format!("{PREFIX}{}_{:08x}", now_secs(), rand::random::<u32>())
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Whether a database was left over by a run that was killed, or by the mesh that tests share until the process ends.
fn is_left_over(name: &str) -> bool {
    let begun = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()?.parse::<u64>().ok());
    begun.is_some_and(|begun| begun + LEFT_OVER_SECS < now_secs())
}

fn sweep(postgres: &str, mongodb: Option<&str>) {
    let (postgres, mongodb) = (postgres.to_owned(), mongodb.map(str::to_owned));
    block_on(async move {
        let mut connection = PgConnection::connect(&postgres).await.expect("PostgreSQL answers");
        let names: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database")
            .fetch_all(&mut connection)
            .await
            .expect("names");
        for name in names.iter().filter(|name| is_left_over(name)) {
            connection.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await.expect("dropped");
        }
        if let Some(url) = mongodb {
            let options = ClientOptions::parse(url).await.expect("a URL");
            let client = mongodb::Client::with_options(options).expect("a client");
            for name in
                client.list_database_names().await.expect("MongoDB answers").iter().filter(|name| is_left_over(name))
            {
                client.database(name).drop().await.expect("dropped");
            }
        }
    });
}

/// Runs something asynchronous from anywhere: on a thread and a runtime of its own.
fn block_on<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let done = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(future)
    });
    done.join().expect("no panic")
}
