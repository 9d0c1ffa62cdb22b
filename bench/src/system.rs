//! What is measured: our own processes, the peers under `bench/peers/`, or a system that already runs. Each is started for
//! one run in a folder of its own, says how its clients speak, and prepares people and rooms. How each does it is in
//! `system/`.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use anyhow::{Context as _, bail};

use crate::{dialect::Protocol, marker::Marker, process::Cores, usage::Watched};

mod contract;
mod nakama;
mod peer;
pub(crate) mod stores;
mod switchboard;
mod tinode;

/// How a client speaks to it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The protocol of its WebSockets.
    pub(crate) protocol: Protocol,
    /// Where it listens.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The path of its WebSockets.
    pub(crate) path: String,
    /// Where each socket first gets a token of its own, with its bearer; empty for none.
    pub(crate) token_path: String,
}

/// A system that runs, until it is dropped.
pub(crate) trait System {
    /// How a client speaks to it.
    fn endpoint(&self) -> Endpoint;

    /// Its processes, and those of its stores.
    fn watched(&self) -> Vec<Watched>;

    /// So many people, each as the token that their sockets connect with.
    fn people(&mut self, count: usize) -> anyhow::Result<Vec<String>>;

    /// So many rooms that everybody may enter; the first of the people makes them.
    fn rooms(&mut self, count: usize, people: &[String]) -> anyhow::Result<Vec<String>>;

    /// The messages of a room in their stored order; none where nothing is stored.
    fn stored(&self, room: &str, reader: &str) -> anyhow::Result<Option<Vec<Marker>>>;

    /// Where message-svc takes gRPC calls.
    fn message_service(&self) -> Option<SocketAddr> {
        None
    }

    /// The folder of its embedded store.
    fn data(&self) -> Option<PathBuf> {
        None
    }
}

/// How it is started.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// A folder for this run alone.
    pub(crate) folder: PathBuf,
    /// The folder of our own binaries.
    pub(crate) binaries: PathBuf,
    /// The cores of what is measured, its store included.
    pub(crate) cores: Cores,
    /// Replicas of message-svc, where there are several processes.
    pub(crate) replicas: usize,
    /// More settings of ours, by path.
    pub(crate) settings: Vec<(String, String)>,
}

/// A system by its name on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// `switchboard up` on its embedded store.
    Switchboard,
    /// Gateway and services apart, on PostgreSQL.
    SwitchboardPostgres,
    /// A peer of `bench/peers/`.
    Peer(&'static str),
    /// A Nakama that runs.
    Nakama(Remote),
    /// A Tinode that runs.
    Tinode(Remote),
}

/// A system that somebody else has started: its address, and the processes that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) address: SocketAddr,
    /// The server's key, for those that have one.
    pub(crate) key: String,
    /// The server's process id.
    pub(crate) pid: Option<u32>,
    /// That of its store.
    pub(crate) store_pid: Option<u32>,
}

impl Remote {
    fn watched(&self, name: &str) -> Vec<Watched> {
        let server = self.pid.map(|pid| Watched { name: name.to_owned(), pid });
        let store = self.store_pid.map(|pid| Watched { name: "postgres".to_owned(), pid });
        server.into_iter().chain(store).collect()
    }
}

impl FromStr for Remote {
    type Err = anyhow::Error;

    /// `http://127.0.0.1:7350`, `http://KEY@127.0.0.1:7350,SERVER_PID,STORE_PID`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split(',');
        let url = parts.next().unwrap_or_default();
        let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let (key, address) = address.split_once('@').unwrap_or(("defaultkey", address));
        let address = address.parse().with_context(|| format!("{url} is not http://ADDRESS:PORT"))?;
        let mut pid = || parts.next().map(|pid| pid.parse().context("a process id")).transpose();
        Ok(Self { address, key: key.to_owned(), pid: pid()?, store_pid: pid()? })
    }
}

/// The peers that are started here.
const PEERS: [&str; 4] = ["node", "socketioxide", "preframed", "nestjs"];

impl FromStr for Side {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if let Some(peer) = PEERS.into_iter().find(|peer| *peer == text) {
            return Ok(Self::Peer(peer));
        }
        match text.split_once('=') {
            Some(("nakama", remote)) => Ok(Self::Nakama(remote.parse()?)),
            Some(("tinode", remote)) => Ok(Self::Tinode(remote.parse()?)),
            None if text == "switchboard" => Ok(Self::Switchboard),
            None if text == "switchboard-postgres" => Ok(Self::SwitchboardPostgres),
            _ => bail!(
                "there is no system \"{text}\"; there are switchboard, switchboard-postgres, {}, nakama=URL, tinode=URL",
                PEERS.join(", ")
            ),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switchboard => "switchboard",
            Self::SwitchboardPostgres => "switchboard-postgres",
            Self::Peer(name) => name,
            Self::Nakama(_) => "nakama",
            Self::Tinode(_) => "tinode",
        })
    }
}

impl Side {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(&self, setting: &Setting) -> anyhow::Result<Box<dyn System>> {
        let started: anyhow::Result<Box<dyn System>> = match self {
            Self::Switchboard => switchboard::Switchboard::embedded(setting).map(|it| Box::new(it) as _),
            Self::SwitchboardPostgres => switchboard::Switchboard::on_postgres(setting).map(|it| Box::new(it) as _),
            Self::Peer(name) => peer::Peer::start(name, setting).map(|it| Box::new(it) as _),
            Self::Nakama(remote) => Ok(Box::new(nakama::Nakama::new(remote.clone()))),
            Self::Tinode(remote) => Ok(Box::new(tinode::Tinode::new(remote.clone()))),
        };
        started.with_context(|| format!("{self} cannot be started"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_named_as_the_help_says_and_others_are_refused() {
        for name in ["switchboard", "switchboard-postgres", "node", "nestjs"] {
            assert_eq!(name.parse::<Side>().expect("a system").to_string(), name);
        }
        let Side::Nakama(remote) = "nakama=http://key@127.0.0.1:7350,12,34".parse().expect("a system") else {
            panic!("not Nakama")
        };
        assert_eq!(
            (remote.address.port(), remote.key.as_str(), remote.pid, remote.store_pid),
            (7350, "key", Some(12), Some(34))
        );
        for bad in ["", "redis", "nakama", "nakama=here", "node=http://127.0.0.1:1"] {
            assert!(bad.parse::<Side>().is_err(), "{bad}");
        }
    }
}
