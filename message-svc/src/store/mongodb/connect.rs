//! From a URL to a database: what the URL may not change (write and read concern, the primary, retries), waiting for the
//! servers at the start, and what a person is told when it cannot be done. A URL may hold a password, so nothing that the
//! driver says about the URL itself is shown when it could have a part of one in it.

use std::time::Duration;

use mesh::config::Secret;
use mongodb::{
    Client, Database,
    bson::{Document, doc},
    error::{Error, ErrorKind},
    options::{
        Acknowledgment, ClientOptions, ConnectionString, DatabaseOptions, ReadConcern, ReadPreference,
        SelectionCriteria, WriteConcern,
    },
};
use tokio::time::{Instant, sleep};

use super::calls::{Cause, UNAUTHORIZED, code};
use crate::{config::MongodbConfig, store::OpenError};

/// The database when the URL names none.
const DATABASE: &str = "messages";
/// The server's own name of its abilities; this is MongoDB 5.0.
const WIRE_VERSION_MIN: i32 = 13;
/// Connections that are not used for so long are closed: before balancers and firewalls forget them without a word.
const IDLE_MAX: Duration = Duration::from_secs(240);
/// How often each server is looked at, and so about how long one that went silent is still asked.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The wait between two tries to reach the servers at the start.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// The server's code for a password that it does not take.
const AUTHENTICATION_FAILED: i32 = 18;

/// Finds the servers and the database. `adjust` has the last word on the driver's options.
pub(super) async fn connect(
    url: &Secret,
    config: &MongodbConfig,
    adjust: impl FnOnce(&mut ClientOptions),
) -> Result<(Client, Database), OpenError> {
    let mut waiting = Waiting::new(config);
    let mut options = loop {
        match ClientOptions::parse(url.expose()).await {
            Ok(options) => break bounded(options, config),
            // The names of the servers come from DNS, which may not be there yet.
            Err(error) if matches!(*error.kind, ErrorKind::DnsResolve { .. }) => {
                waiting.again("the DNS names of message.store_url", Cause::of(&error)).await?;
            }
            Err(error) => return Err(bad_url(url, &error)),
        }
    };
    adjust(&mut options);
    let hosts = options.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let name = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
    let client = Client::with_options(options).map_err(|error| bad_url(url, &error))?;
    let db = client.database_with_options(&name, durable(config));
    loop {
        match db.run_command(doc! { "hello": 1 }).await {
            Ok(hello) if hello.get_bool("isWritablePrimary").unwrap_or(false) => {
                check(&hello)?;
                return Ok((client, db));
            }
            Ok(_) => {
                let cause = "the server is no primary; name the whole replica set, without directConnection";
                waiting.again(&hosts, Cause::new(cause)).await?;
            }
            Err(error) => match refused(&error) {
                Some(sentence) => return Err(open_error(sentence, Cause::of(&error))),
                None => waiting.again(&hosts, Cause::of(&error)).await?,
            },
        }
    }
}

/// The options of the URL, with what bounds the driver and without what would weaken a promise.
fn bounded(mut options: ClientOptions, config: &MongodbConfig) -> ClientOptions {
    options.app_name.get_or_insert_with(|| "message-svc".to_owned());
    options.max_pool_size.get_or_insert(config.connections_max);
    options.connect_timeout.get_or_insert(Duration::from_millis(config.connect_ms));
    options.server_selection_timeout.get_or_insert(Duration::from_millis(config.select_ms));
    options.max_idle_time.get_or_insert(IDLE_MAX);
    options.heartbeat_freq.get_or_insert(HEARTBEAT);
    // A crowd of rooms that wakes up at once should not wait for connections two by two.
    options.max_connecting.get_or_insert(8);
    options.retry_reads = Some(true);
    // A write is tried once, so that what is known of it is known: who wrote reads back, and decides.
    options.retry_writes = Some(false);
    options
}

/// What every call of the database promises.
fn durable(config: &MongodbConfig) -> DatabaseOptions {
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(config.call()).build();
    DatabaseOptions::builder()
        .write_concern(concern)
        .read_concern(ReadConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build()
}

/// Whether the server that answered can be worked with.
fn check(hello: &Document) -> Result<(), OpenError> {
    let version = hello.get_i32("maxWireVersion").unwrap_or(0);
    if version < WIRE_VERSION_MIN {
        return Err(OpenError {
            sentence: "the MongoDB server of message.store_url is too old; use MongoDB 5.0 or a later version".into(),
            source: None,
        });
    }
    let router = hello.get_str("msg").is_ok_and(|kind| kind == "isdbgrid");
    if !router && hello.get_str("setName").is_err() {
        tracing::warn!(
            "the MongoDB server is no replica set: what is acknowledged is on its disk, and on no other; use a replica set \
             of three where losing one machine must lose nothing"
        );
    }
    Ok(())
}

/// The wait for servers that are not there yet.
struct Waiting {
    give_up: Instant,
    start_secs: u64,
    said: bool,
}

impl Waiting {
    fn new(config: &MongodbConfig) -> Self {
        let give_up = Instant::now() + Duration::from_secs(config.start_secs);
        Self { give_up, start_secs: config.start_secs, said: false }
    }

    /// Waits a little, or gives up.
    async fn again(&mut self, what: &str, cause: Cause) -> Result<(), OpenError> {
        if Instant::now() + RETRY_WAIT > self.give_up {
            let sentence = format!(
                "MongoDB ({what}) has not answered as a primary for {} s: {cause}; start it, or correct message.store_url",
                self.start_secs
            );
            return Err(open_error(sentence, cause));
        }
        if !self.said {
            self.said = true;
            tracing::warn!(error = %cause, "waiting up to {} s for MongoDB ({what})", self.start_secs);
        }
        sleep(RETRY_WAIT).await;
        Ok(())
    }
}

/// What waiting would not help against.
fn refused(error: &Error) -> Option<String> {
    let credentials = "MongoDB refused the user name or the password of message.store_url; correct them, or authSource";
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
    match &*error.kind {
        ErrorKind::Authentication { .. } => Some(credentials.into()),
        ErrorKind::Command(_) if code(error) == Some(AUTHENTICATION_FAILED) => Some(credentials.into()),
        ErrorKind::Command(_) if code(error) == Some(UNAUTHORIZED) => {
            Some("MongoDB wants a user name and a password; add them to message.store_url".into())
        }
        ErrorKind::InvalidTlsConfig { message, .. } => {
            Some(format!("the TLS settings of message.store_url cannot be used: {message}"))
        }
        ErrorKind::IncompatibleServer { message, .. } => {
            Some(format!("the MongoDB server of message.store_url cannot be used: {message}"))
        }
        _ => None,
    }
}

fn bad_url(url: &Secret, error: &Error) -> OpenError {
    let form = "mongodb://USER:PASSWORD@HOST:27017,HOST2:27017/DATABASE?replicaSet=NAME";
    let sentence = match (&*error.kind, bad_option(url.expose())) {
        (ErrorKind::InvalidTlsConfig { message, .. }, _) => {
            format!("the TLS settings of message.store_url cannot be used: {message}")
        }
        (_, Some(fault)) => format!("message.store_url has an option that cannot be used: {fault}"),
        _ => format!(
            "message.store_url is no MongoDB URL; it looks like {form}, with what is no letter or digit in the user name and \
             the password percent-encoded"
        ),
    };
    OpenError { sentence, source: None }
}

/// What is wrong with the options of a URL, taken by themselves, without those that are secrets.
fn bad_option(url: &str) -> Option<String> {
    let (_, options) = url.split_once('?')?;
    if options.contains(['@', '/']) {
        // The question mark was a password's.
        return None;
    }
    let is_secret = |option: &&str| {
        let option = option.to_ascii_lowercase();
        option.contains("password") || option.contains("properties")
    };
    let shown: Vec<_> = options.split('&').filter(|option| !is_secret(option)).collect();
    let error = ConnectionString::parse(format!("mongodb://localhost/?{}", shown.join("&"))).err()?;
    if let ErrorKind::InvalidArgument { message, .. } = *error.kind { Some(message) } else { None }
}

fn open_error(sentence: String, cause: Cause) -> OpenError {
    OpenError { sentence, source: Some(Box::new(cause)) }
}
