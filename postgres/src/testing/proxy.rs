//! A proxy in front of a server: it freezes, cuts, and loses, as networks and machines do.

use std::{str::FromStr as _, sync::Arc};

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinHandle,
};

use super::LONG;

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
    mood: Arc<watch::Sender<Mood>>,
    /// Connections that came so far, and how many of them are there.
    met: Arc<watch::Sender<(u32, u32)>>,
    /// How often all connections were lost.
    losses: Arc<watch::Sender<u32>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// On a free port.
    pub async fn new(url: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), url)
    }

    /// On this port.
    #[must_use]
    pub fn on(listener: TcpListener, url: &str) -> Self {
        let server = PgConnectOptions::from_str(url).expect("a URL").ssl_mode(PgSslMode::Disable);
        let (host, port) = (server.get_host().to_owned(), server.get_port());
        let here = listener.local_addr().expect("an address").port();
        let mood = Arc::new(watch::Sender::new(Mood::Open));
        let met = Arc::new(watch::Sender::new((0, 0)));
        let losses = Arc::new(watch::Sender::new(0));
        let (moods, count, lost) = (Arc::clone(&mood), Arc::clone(&met), Arc::clone(&losses));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((host.as_str(), port)).await.expect("the server is there");
                count.send_modify(|(all, now)| (*all, *now) = (*all + 1, *now + 1));
                let (mood, count, lost) = (Arc::clone(&moods), Arc::clone(&count), lost.subscribe());
                tokio::spawn(async move {
                    relay(client, server, mood, lost).await;
                    count.send_modify(|(_, now)| *now -= 1);
                });
            }
        });
        Self { url: server.host("127.0.0.1").port(here).to_url_lossy().to_string(), mood, met, losses, task }
    }

    /// Says nothing more on the connections that are there, as if their server's machine had gone; new ones are good.
    pub fn lose(&self) {
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// Waits until so many connections came.
    pub async fn met(&self, connections: u32) {
        let mut met = self.met.subscribe();
        let waiting = met.wait_for(|(all, _)| *all >= connections);
        tokio::time::timeout(LONG, waiting).await.expect("they come").expect("the proxy is there");
    }

    /// Waits until no connection is left.
    pub async fn settle(&self) {
        let mut met = self.met.subscribe();
        let waiting = met.wait_for(|(_, now)| *now == 0);
        tokio::time::timeout(LONG, waiting).await.expect("they end").expect("the proxy is there");
    }

    /// From now on it does so.
    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn relay(client: TcpStream, server: TcpStream, mood: Arc<watch::Sender<Mood>>, lost: watch::Receiver<u32>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut cut = mood.subscribe();
    tokio::select! {
        () = copy(from_client, to_server, mood.subscribe(), lost.clone(), Mood::CutBeforeCommit) => {}
        () = copy(from_server, to_client, mood.subscribe(), lost, Mood::CutAfterCommit) => {}
        _ = cut.wait_for(|mood| *mood == Mood::Cut) => {}
    }
}

/// What the client sends has COMMIT in it; what the server answers has it too, as the command's tag.
async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut mood: watch::Receiver<Mood>,
    mut lost: watch::Receiver<u32>,
    cut: Mood,
) {
    let mut buffer = vec![0; 64 << 10];
    // Only a loss that comes after this one counts.
    lost.mark_unchanged();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let Ok(mood) = mood.wait_for(|mood| *mood != Mood::Frozen).await.map(|mood| *mood) else { return };
        if lost.has_changed().unwrap_or(true) {
            std::future::pending::<()>().await;
        }
        let commit = buffer[..read].windows(6).any(|word| word == b"COMMIT");
        if (mood == cut && commit) || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
