//! The network in front of a server (`test-proxy`), and what this protocol knows beyond it: where a COMMIT passes.

use std::{
    net::TcpListener,
    str::FromStr as _,
    sync::{Arc, Mutex},
};

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use test_proxy::{Judge, State, Verdict, Way};

/// What the proxy does with what passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It lets it pass.
    Open,
    /// It takes connections and says nothing, like a server that is stopped.
    Frozen,
    /// It ends all connections.
    Cut,
    /// It ends a connection instead of sending its COMMIT on.
    CutBeforeCommit,
    /// It ends a connection instead of bringing the answer to its COMMIT back.
    CutAfterCommit,
}

/// A proxy in front of a server.
#[derive(Debug)]
pub struct Proxy {
    /// The server's URL, through the proxy.
    pub url: String,
    mood: Arc<Mutex<Mood>>,
    network: test_proxy::Proxy,
}

impl Proxy {
    /// On a free port.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), url)
    }

    /// On this port.
    #[must_use]
    pub fn on(listener: TcpListener, url: &str) -> Self {
        let server = PgConnectOptions::from_str(url).expect("a URL").ssl_mode(PgSslMode::Disable);
        let address = format!("{}:{}", server.get_host(), server.get_port());
        let mood = Arc::new(Mutex::new(Mood::Open));
        let moods = Arc::clone(&mood);
        let network = test_proxy::Proxy::judged(listener, &address, move || judge(Arc::clone(&moods)));
        let here = network.address().port();
        Self { url: server.host("127.0.0.1").port(here).to_url_lossy().to_string(), mood, network }
    }

    /// Says nothing more on the connections that are there, as if their server's machine had gone; new ones are good.
    pub fn lose(&self) {
        self.network.lose();
    }

    /// How many connections came so far.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.network.connections()
    }

    /// Waits until so many connections came.
    pub async fn met(&self, connections: u32) {
        self.network.met(connections).await;
    }

    /// Waits until no connection is left.
    pub async fn settle(&self) {
        self.network.settle().await;
    }

    /// From now on it does so.
    pub fn set(&self, mood: Mood) {
        *self.mood.lock().expect("no panic while the lock is held") = mood;
        self.network.set_state(match mood {
            Mood::Open | Mood::CutBeforeCommit | Mood::CutAfterCommit => State::Open,
            Mood::Frozen => State::Frozen,
            Mood::Cut => State::Cut,
        });
    }
}

/// What the client sends has COMMIT in it; what the server answers has it too, as the command's tag.
fn judge(mood: Arc<Mutex<Mood>>) -> Judge {
    Box::new(move |way, bytes| {
        let cut = match way {
            Way::Up => Mood::CutBeforeCommit,
            Way::Down => Mood::CutAfterCommit,
        };
        let meant = *mood.lock().expect("no panic while the lock is held") == cut;
        let commit = || bytes.windows(6).any(|word| word == b"COMMIT");
        if meant && commit() { Verdict::End } else { Verdict::Pass }
    })
}
