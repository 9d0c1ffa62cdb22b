//! A Nakama that runs already. People are devices, authenticated with the server's key, which is that of its default configuration unless the URL names another;
//! rooms are chat rooms, which need no making.

use anyhow::Context as _;
use serde_json::json;

use super::{Endpoint, Remote, System};
use crate::{
    dialect::Protocol,
    http::{self, Client},
    marker::{Finder, Marker},
    usage::Watched,
};

const AT_ONCE: usize = 8;

pub(super) struct Nakama {
    remote: Remote,
    /// Tells the people and rooms of one run from those of another: the server keeps them.
    run: String,
    registered: usize,
}

impl Nakama {
    pub(super) fn new(remote: Remote) -> Self {
        Self { remote, run: format!("{:016x}", rand::random::<u64>()), registered: 0 }
    }
}

impl System for Nakama {
    fn endpoint(&self) -> Endpoint {
        Endpoint {
            protocol: Protocol::Nakama,
            addresses: vec![self.remote.address],
            path: "/ws".into(),
            token_path: String::new(),
        }
    }

    fn watched(&self) -> Vec<Watched> {
        self.remote.watched("nakama")
    }

    fn people(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let first = self.registered;
        self.registered += count;
        http::for_each(self.remote.address, count, AT_ONCE, |client, number| {
            let server = format!("Basic {}", http::base64(format!("{}:", self.remote.key).as_bytes()));
            let id = format!("bench-{}-{}", self.run, first + number);
            let path = "/v2/account/authenticate/device?create=true";
            let answer = client.post(path, &server, &json!({"id": id}))?.good()?;
            Ok(answer["token"].as_str().context("a token")?.to_owned())
        })
    }

    fn rooms(&mut self, count: usize, _people: &[String]) -> anyhow::Result<Vec<String>> {
        Ok((0..count).map(|number| format!("bench-{}-{number}", self.run)).collect())
    }

    fn stored(&self, room: &str, reader: &str) -> anyhow::Result<Option<Vec<Marker>>> {
        let mut client = Client::connect(self.remote.address)?;
        let (finder, mut found, mut cursor) = (Finder::default(), Vec::new(), String::new());
        loop {
            // A room's channel is named after it; forward is from the oldest.
            let path = format!("/v2/channel/2...{room}?limit=100&forward=true{cursor}");
            let answer = client.get(&path, &format!("Bearer {reader}"))?.good()?;
            for message in answer["messages"].as_array().into_iter().flatten() {
                found.extend(finder.first(message["content"].as_str().unwrap_or_default().as_bytes()));
            }
            match answer["nextCursor"].as_str().or(answer["next_cursor"].as_str()) {
                Some(next) if !next.is_empty() => cursor = format!("&cursor={}", encoded(next)),
                _ => return Ok(Some(found)),
            }
            if answer["messages"].as_array().is_none_or(Vec::is_empty) {
                return Ok(Some(found));
            }
        }
    }
}

/// Text as it may stand in a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}
