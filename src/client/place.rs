//! Where the replicas of a service are: the URLs of the configuration, and the addresses that their names have now. It
//! asks for addresses and judges none of them; `replicas.rs` makes connections of them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Uri, uri::Scheme};
use tonic::transport::{ClientTlsConfig, Endpoint};

use crate::config::GrpcLimits;

/// HTTP/2 pings, on idle connections too, so that a peer that went without a word is noticed. With the time for the answer
/// it is the longest that a call waits for such a connection once the network is well again.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// How long a ping may stay without an answer: as long as a call, so that a peer that is only slow keeps its connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that may be on their way to this process on one connection. Fixed, not adaptive: an adaptive window starts at
/// 64 KiB, and h2 ends a connection as abused (`too_many_data_frames`) when the short frames that wait to be read,
/// reckoned at 256 bytes each, come to half of its window. A burst of some hundred short answers did that.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The same for one stream: one that follows many rooms must not be slowed by the window of one message.
const STREAM_WINDOW: u32 = 2 << 20;

/// Asks for the addresses of a name.
#[async_trait]
pub trait Resolve: Send + Sync + std::fmt::Debug {
    /// All addresses that the name has now.
    ///
    /// # Errors
    /// When it has none, or nobody can tell.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Asks as the machine is set up to: its hosts file, its DNS.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// One URL of the configuration: a name with some addresses, or one address.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The host without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// `https://name:port`, which is what the other end is asked for, whatever address it has.
    origin: Uri,
    tls: Option<ClientTlsConfig>,
}

impl Place {
    fn parse(url: &str) -> Result<Self, String> {
        let tls = url.starts_with("https://");
        if !tls && !url.starts_with("http://") {
            return Err(format!("{url} must start with http:// or https://"));
        }
        let origin: Uri = url.parse().map_err(|error| format!("{url} is no URL: {error}"))?;
        let host = origin.host().filter(|host| !host.is_empty()).ok_or_else(|| format!("{url} names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = origin.port_u16().unwrap_or(if tls { 443 } else { 80 });
        // The certificate is the name's, not the address's.
        let tls = tls.then(|| ClientTlsConfig::new().with_webpki_roots().domain_name(host.clone()));
        let place = Self { host, port, origin, tls };
        // So that a bad one is told of at the start.
        place.endpoint(SocketAddr::from(([127, 0, 0, 1], port)), &GrpcLimits::default())?;
        Ok(place)
    }

    /// Whether it is an address by itself, which no lookup will change.
    pub(super) fn is_fixed(&self) -> bool {
        self.fixed().is_some()
    }

    fn fixed(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }

    /// The addresses that it has now.
    pub(super) async fn addresses(&self, resolver: &dyn Resolve) -> io::Result<Vec<SocketAddr>> {
        match self.fixed() {
            Some(address) => Ok(vec![address]),
            None => resolver.resolve(&self.host, self.port).await,
        }
    }

    /// How to reach it at one of them.
    pub(super) fn endpoint(&self, address: SocketAddr, limits: &GrpcLimits) -> Result<Endpoint, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = self.plain(address, limits, scheme, self.origin.clone())?;
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(|error| self.broken(&error)),
            None => Ok(endpoint),
        }
    }

    /// The same with the mesh's own certificates: who connects sees to TLS, whatever the URL says.
    pub(super) fn secured(&self, address: SocketAddr, limits: &GrpcLimits) -> Result<Endpoint, String> {
        let mut origin = self.origin.clone().into_parts();
        origin.scheme = Some(Scheme::HTTPS);
        let origin = Uri::from_parts(origin).map_err(|error| format!("{}: {error}", self.origin))?;
        self.plain(address, limits, "http", origin)
    }

    fn broken(&self, error: &tonic::transport::Error) -> String {
        format!("{}: {error}", self.origin)
    }

    fn plain(&self, address: SocketAddr, limits: &GrpcLimits, scheme: &str, origin: Uri) -> Result<Endpoint, String> {
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|error| self.broken(&error))?;
        Ok(endpoint
            .origin(origin)
            .connect_timeout(Duration::from_millis(limits.connect_ms))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW))
    }
}

/// The places of a service's URL: one or several, separated by commas.
///
/// # Errors
/// What is wrong with it.
pub(super) fn places(urls: &str) -> Result<Arc<[Place]>, String> {
    let places = urls
        .split(',')
        .map(str::trim)
        .filter(|url| !url.is_empty())
        .map(Place::parse)
        .collect::<Result<Arc<[_]>, _>>()?;
    if places.is_empty() { Err("must name at least one http:// or https:// URL".to_owned()) } else { Ok(places) }
}

/// Looks at a service's URL without using it.
///
/// # Errors
/// What is wrong with it.
pub fn check_urls(urls: &str) -> Result<(), String> {
    places(urls).map(|_| ())
}

#[cfg(test)]
mod tests {
    use test_input::{Edits, text};

    use super::*;

    #[test]
    fn fuzz_any_list_of_urls_is_as_many_places_that_can_be_called_or_refused_in_a_sentence() {
        let examples = ["http://127.0.0.1:50001", "http://a.example:1, https://b.example:2,http://[::1]:3", ""];
        bolero::check!().with_type::<Edits>().for_each(|edits| {
            let urls = text(&examples, edits);
            match places(&urls) {
                Ok(places) => {
                    let named = urls.split(',').filter(|url| !url.trim().is_empty()).count();
                    assert!(!places.is_empty() && places.len() == named, "{urls}");
                    for place in places.iter() {
                        let address = ([127, 0, 0, 1], place.port).into();
                        assert!(place.endpoint(address, &GrpcLimits::default()).is_ok(), "{urls}");
                    }
                }
                Err(said) => assert!(!said.is_empty()),
            }
        });
    }

    #[test]
    fn a_url_may_name_several_places_and_must_have_a_scheme() {
        let places = places("http://a:1, https://b,http://[::1]:5").expect("three");
        assert_eq!(
            places.iter().map(|place| (&*place.host, place.port)).collect::<Vec<_>>(),
            [("a", 1), ("b", 443), ("::1", 5)]
        );
        assert_eq!(places.iter().map(Place::is_fixed).collect::<Vec<_>>(), [false, false, true]);
        for bad in ["", "a:1", "ftp://a", "http://", "http://a b"] {
            assert!(check_urls(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_is_kept_for_whoever_answers_at_its_address() {
        let places = places("https://messages.example:50002").expect("one");
        let endpoint = places[0].endpoint(([10, 0, 0, 7], 50002).into(), &GrpcLimits::default()).expect("good");
        assert_eq!(endpoint.uri().to_string(), "https://10.0.0.7:50002/");
        assert_eq!(places[0].origin.host(), Some("messages.example"));
    }
}
