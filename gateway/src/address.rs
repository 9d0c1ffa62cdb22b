//! Where a request comes from: the connection's other end, or, behind proxies that are configured, what they say. It
//! believes no header of anybody else. Rate limits and sessions use the result.

use std::net::{IpAddr, Ipv4Addr};

use http::{Extensions, HeaderMap, header::HeaderName};
use ipnet::IpNet;
use mesh::serve::Connection;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The proxies in front of this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Vec<IpNet>);

/// Where one request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The client's address, IPv4 when it is one.
    pub(crate) address: IpAddr,
    /// Whether the client spoke TLS: to this process, or to the proxy in front, which says so.
    pub(crate) https: bool,
}

impl Origin {
    /// Where the request with these extensions comes from; the middleware `origin` put it there.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let nobody = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), https: false };
        extensions.get().copied().unwrap_or(nobody)
    }
}

impl Proxies {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where a request comes from. Each proxy appends the address that it heard from, so the list is read from its end
    /// for as long as a trusted one is speaking; the first other address is the client.
    pub(crate) fn origin(&self, extensions: &Extensions, headers: &HeaderMap) -> Origin {
        // Without a connection (a test that calls the router itself) nobody is known and nobody is trusted.
        let nobody = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), false);
        let (peer, secured) = extensions.get::<Connection>().map_or(nobody, |c| (c.peer.ip(), c.secured));
        self.origin_behind(peer.to_canonical(), secured, headers)
    }

    fn origin_behind(&self, peer: IpAddr, secured: bool, headers: &HeaderMap) -> Origin {
        if !self.trusts(peer) {
            return Origin { address: peer, https: secured };
        }
        let hops: Vec<_> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .map(|hop| hop_address(hop.trim()))
            .collect();
        let mut address = peer;
        for hop in hops.into_iter().rev() {
            // What cannot be read ends the chain: the last address that is known counts.
            let Some(hop) = hop else { break };
            address = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        let https = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok()).map_or(secured, |value| {
            value.rsplit(',').next().is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"))
        });
        Origin { address, https }
    }
}

/// An address as proxies write it: alone, or with a port.
fn hop_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    address.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|addr| addr.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use test_input::{Edits, bytes};

    use super::*;

    #[test]
    fn fuzz_no_header_of_a_stranger_counts_and_none_of_a_proxy_breaks_anything() {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().expect("network")]);
        let examples = ["192.0.2.9, 10.0.0.2", "[2001:db8::1]:4711, fd00::7", "::ffff:192.0.2.9", "https,http"];
        bolero::check!().with_type::<(bool, Edits, Edits)>().for_each(|(proxy, hops, proto)| {
            let mut headers = HeaderMap::new();
            for (name, edits) in [(FORWARDED_FOR, hops), (FORWARDED_PROTO, proto)] {
                if let Ok(value) = http::HeaderValue::from_bytes(&bytes(&examples, edits)) {
                    headers.append(name, value);
                }
            }
            let peer: IpAddr = if *proxy { [10, 0, 0, 1].into() } else { [192, 0, 2, 1].into() };
            let origin = proxies.origin_behind(peer, false, &headers);
            assert!(*proxy || origin == Origin { address: peer, https: false });
            // An IPv4 address has one spelling, or a client could be two for the limits.
            assert_eq!(origin.address, origin.address.to_canonical());
        });
    }

    fn origin(trusted: &[&str], peer: &str, forwarded: &[&str], proto: &str) -> (String, bool) {
        let proxies = Proxies::new(trusted.iter().map(|net| net.parse().expect("network")).collect());
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().expect("header"));
        }
        headers.insert(FORWARDED_PROTO, proto.parse().expect("header"));
        let origin = proxies.origin_behind(peer.parse().expect("address"), false, &headers);
        (origin.address.to_string(), origin.https)
    }

    #[test]
    fn the_headers_of_strangers_are_not_believed() {
        assert_eq!(origin(&[], "192.0.2.9", &["1.2.3.4"], "https"), ("192.0.2.9".into(), false));
        assert_eq!(origin(&["10.0.0.0/8"], "192.0.2.9", &["1.2.3.4"], "https"), ("192.0.2.9".into(), false));
    }

    #[test]
    fn tls_to_this_process_is_the_clients_unless_a_proxy_says_otherwise() {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().expect("network")]);
        for (peer, proto, https) in [
            ("192.0.2.9", None, true),
            ("192.0.2.9", Some("http"), true),
            ("10.0.0.1", None, true),
            ("10.0.0.1", Some("http"), false),
            ("10.0.0.1", Some("https"), true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(proto) = proto {
                headers.insert(FORWARDED_PROTO, http::HeaderValue::from_static(proto));
            }
            let origin = proxies.origin_behind(peer.parse().expect("address"), true, &headers);
            assert_eq!(origin.https, https, "{peer} {proto:?}");
        }
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        let from = |forwarded: &[&str]| origin(&trusted, "10.0.0.1", forwarded, "https");
        assert_eq!(from(&["192.0.2.9"]), ("192.0.2.9".into(), true));
        assert_eq!(from(&["6.6.6.6, 192.0.2.9, 10.0.0.2"]), ("192.0.2.9".into(), true));
        assert_eq!(from(&["6.6.6.6", "192.0.2.9", "10.0.0.2"]).0, "192.0.2.9");
        assert_eq!(from(&["[2001:db8::1]:4711, fd00::7"]).0, "2001:db8::1");
        assert_eq!(from(&["192.0.2.9:4711"]).0, "192.0.2.9");
        assert_eq!(from(&["::ffff:192.0.2.9"]).0, "192.0.2.9");
    }

    #[test]
    fn what_cannot_be_read_ends_the_chain_at_the_last_proxy() {
        let from = |forwarded: &[&str]| origin(&["10.0.0.0/8"], "10.0.0.1", forwarded, "http");
        assert_eq!(from(&[]), ("10.0.0.1".into(), false));
        assert_eq!(from(&["192.0.2.9, unknown, 10.0.0.2"]).0, "10.0.0.2");
        assert_eq!(from(&["10.0.0.3"]).0, "10.0.0.3");
    }
}
