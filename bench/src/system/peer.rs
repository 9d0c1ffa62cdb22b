//! The peers of `bench/peers/`, started by `bench/peers/start`. Those without accounts take any token and any room.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;

use super::{Endpoint, Setting, System, contract, stores::Stores};
use crate::{
    dialect::Protocol,
    marker::Marker,
    process::{Process, command, free_port, repository},
    usage::Watched,
};

/// It may have to be built first.
const READY_LIMIT: Duration = Duration::from_secs(600);

/// A peer runs until this is dropped.
pub(super) struct Peer {
    name: &'static str,
    process: Process,
    /// Only a peer with accounts has one.
    stores: Option<Stores>,
    address: SocketAddr,
    registered: usize,
}

impl Peer {
    pub(super) fn start(name: &'static str, setting: &Setting) -> anyhow::Result<Self> {
        let mut command = command(repository()?.join("bench/peers/start"));
        command.arg(name).env("PORT", free_port().to_string()).env("NODE_ENV", "production");
        let stores = match name {
            "nestjs" => Some(Stores::start(&setting.folder, &setting.cores, true)?),
            _ => None,
        };
        if let Some(stores) = &stores {
            command.env("DATABASE_URL", &stores.postgres_url).env("REDIS_URL", &stores.redis_url);
        }
        let log = setting.folder.join(format!("{name}.log"));
        let mut process = Process::start(command, &setting.cores, &log)?;
        let url = process.line(&log, "READY http://", READY_LIMIT)?;
        let address = url.trim().parse().with_context(|| format!("READY http://{url}"))?;
        Ok(Self { name, process, stores, address, registered: 0 })
    }
}

impl System for Peer {
    fn endpoint(&self) -> Endpoint {
        let token_path = if self.stores.is_some() { "/api/auth/ws-token" } else { "" };
        Endpoint {
            protocol: Protocol::SocketIo,
            addresses: vec![self.address],
            path: "/socket/".into(),
            token_path: token_path.into(),
        }
    }

    fn watched(&self) -> Vec<Watched> {
        let own = [Watched { name: self.name.to_owned(), pid: self.process.pid() }];
        own.into_iter().chain(self.stores.iter().flat_map(|stores| stores.watched().unwrap_or_default())).collect()
    }

    fn people(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let first = self.registered;
        self.registered += count;
        match &self.stores {
            Some(_) => contract::people(self.address, first, count),
            None => Ok((first..first + count).map(|number| format!("any-{number}")).collect()),
        }
    }

    fn rooms(&mut self, count: usize, people: &[String]) -> anyhow::Result<Vec<String>> {
        match &self.stores {
            Some(_) => contract::rooms(self.address, count, people.first().map_or("", String::as_str)),
            None => Ok((0..count).map(|number| format!("room-{number}")).collect()),
        }
    }

    fn stored(&self, room: &str, reader: &str) -> anyhow::Result<Option<Vec<Marker>>> {
        self.stores.as_ref().map(|_| contract::stored(self.address, room, reader)).transpose()
    }
}
