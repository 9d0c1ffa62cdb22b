//! The connection to Redis: where it is, and how it is made. What is said on it is said by its users: hints between replicas
//! (message-svc's relay), limits that gateways share (`limit/shared.rs`). None of it is the truth.

use std::{fs, io, path::Path};

use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    ProtocolVersion, RedisError, TlsCertificates, TlsMode,
    aio::MultiplexedConnection,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use tokio::time::{Duration, timeout};

use crate::config::{RedisConfig, Secret};

#[cfg(test)]
mod fuzz;

/// Where Redis is when nobody says.
const DEFAULT_URL: &str = "redis://127.0.0.1:6379";
/// The port of sentinels when nobody says.
const SENTINEL_PORT: u16 = 26_379;

/// Why there is no connection. The text never has the URL in it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Redis, or its client, says no.
    #[error("Redis cannot be used")]
    Redis(#[from] RedisError),
    /// It does not answer.
    #[error("Redis did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The connection ended.
    #[error("the connection to Redis was lost")]
    Lost,
    /// The URL lacks something.
    #[error("a URL of sentinels must be redis+sentinel://[user:password@]host[:port],…/name[/database]")]
    Sentinels,
    /// A file of certificates cannot be read.
    #[error("{0} cannot be read")]
    File(String, #[source] io::Error),
}

/// Where Redis is.
pub struct Server {
    target: Target,
    connect: Duration,
    answer: Duration,
}

enum Target {
    /// One server, or the nodes of one cluster, tried in turn.
    Nodes(Vec<Client>),
    /// Those who know the master.
    Sentinels(Box<Sentinels>),
}

struct Sentinels {
    addresses: Vec<ConnectionAddr>,
    name: String,
    /// How to speak to the master; its address is asked for.
    master: ConnectionInfo,
    certificates: Option<TlsCertificates>,
    user: String,
    password: Secret,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// The server of this URL. Asks nobody.
    ///
    /// # Errors
    /// When the URL makes no sense, or a file cannot be read.
    pub fn new(url: &str, config: &RedisConfig) -> Result<Self, LinkError> {
        let url = if url.is_empty() { DEFAULT_URL } else { url };
        let certificates = certificates(config)?;
        let target = match url.split_once("+sentinel://") {
            Some((scheme, rest)) => Target::Sentinels(Box::new(sentinels(scheme, rest, certificates, config)?)),
            None => {
                let nodes = url.split(',').map(|url| client(url.trim(), certificates.as_ref()));
                Target::Nodes(nodes.collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { target, connect: config.connect(), answer: config.answer() })
    }

    /// A connection that nothing is done with.
    ///
    /// # Errors
    /// When Redis gives none.
    pub async fn reach(&self) -> Result<(), LinkError> {
        self.open(AsyncConnectionConfig::new()).await.map(drop)
    }

    /// A new connection, with the configured limits of waiting.
    ///
    /// # Errors
    /// When Redis gives none in time.
    pub async fn open(&self, config: AsyncConnectionConfig) -> Result<MultiplexedConnection, LinkError> {
        let config = config.set_connection_timeout(Some(self.connect)).set_response_timeout(Some(self.answer));
        match &self.target {
            Target::Nodes(nodes) => self.first(nodes, &config).await,
            Target::Sentinels(sentinels) => {
                let master = self.soon(self.connect, sentinels.master()).await?;
                self.one(&master, &config).await
            }
        }
    }

    /// The first node that answers.
    async fn first(
        &self,
        nodes: &[Client],
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, LinkError> {
        let mut result = Err(LinkError::Lost);
        for node in nodes {
            result = self.one(node, config).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn one(&self, node: &Client, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, LinkError> {
        let connecting = node.get_multiplexed_async_connection_with_config(config);
        self.soon(self.connect, async { Ok(connecting.await?) }).await
    }

    async fn soon<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        timeout(limit, future).await.unwrap_or(Err(LinkError::Silent(limit)))
    }
}

impl Sentinels {
    /// Asks for the master.
    async fn master(&self) -> Result<Client, LinkError> {
        let redis = self.master.redis_settings();
        let kind = SentinelServerType::Master;
        let mut builder = SentinelClientBuilder::new(self.addresses.iter().cloned(), &self.name, kind)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_db(redis.db());
        if let Some(user) = redis.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = redis.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if !self.user.is_empty() {
            builder = builder.set_client_to_sentinel_username(&self.user);
        }
        if !self.password.is_empty() {
            builder = builder.set_client_to_sentinel_password(self.password.expose());
        }
        if matches!(self.master.addr(), ConnectionAddr::TcpTls { .. }) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            if let Some(certificates) = &self.certificates {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates.clone());
            }
        }
        Ok(builder.build()?.async_get_client().await?)
    }
}

fn client(url: &str, certificates: Option<&TlsCertificates>) -> Result<Client, LinkError> {
    let info = url.into_connection_info()?;
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(redis);
    Ok(match certificates.filter(|_| matches!(info.addr(), ConnectionAddr::TcpTls { .. })) {
        Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
        None => Client::open(info)?,
    })
}

/// `[user:password@]host[:port],host[:port]…/name[/database]`, after the scheme.
fn sentinels(
    scheme: &str,
    rest: &str,
    certificates: Option<TlsCertificates>,
    config: &RedisConfig,
) -> Result<Sentinels, LinkError> {
    let (authority, path) = rest.split_once('/').ok_or(LinkError::Sentinels)?;
    let (credentials, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let (name, database) = path.split_once('/').unwrap_or((path, ""));
    if hosts.is_empty() || name.is_empty() {
        return Err(LinkError::Sentinels);
    }
    // The master is described by a URL of its own; where it is will be asked.
    let at = if credentials.is_empty() { "" } else { "@" };
    let master = format!("{scheme}://{credentials}{at}master.invalid/{database}").into_connection_info()?;
    let addresses = hosts.split(',').map(|host| {
        let address = format!("{scheme}://{}", host.trim()).into_connection_info()?.addr().clone();
        let named = host.trim().rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum")]
        Ok(match address {
            ConnectionAddr::Tcp(host, _) if !named => ConnectionAddr::Tcp(host, SENTINEL_PORT),
            ConnectionAddr::TcpTls { host, insecure, tls_params, .. } if !named => {
                ConnectionAddr::TcpTls { host, port: SENTINEL_PORT, insecure, tls_params }
            }
            other => other,
        })
    });
    Ok(Sentinels {
        addresses: addresses.collect::<Result<_, RedisError>>()?,
        name: name.to_owned(),
        master,
        certificates,
        user: config.sentinel_user.clone(),
        password: config.sentinel_password.clone(),
    })
}

fn certificates(config: &RedisConfig) -> Result<Option<TlsCertificates>, LinkError> {
    let read = |path: &Path| {
        let given = !path.as_os_str().is_empty();
        given.then(|| fs::read(path)).transpose().map_err(|error| LinkError::File(path.display().to_string(), error))
    };
    let (root_cert, cert, key) = (read(&config.ca_file)?, read(&config.cert_file)?, read(&config.key_file)?);
    let client_tls = cert.zip(key).map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    if root_cert.is_none() && client_tls.is_none() {
        return Ok(None);
    }
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}
