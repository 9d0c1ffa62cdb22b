//! A proxy in front of the server that understands enough of the protocol to know a write of entries when it passes, and
//! loses it, or its answer, at every point of its way.

use std::{
    collections::{HashSet, VecDeque},
    str::FromStr as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// Where a write is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing is lost.
    None,
    /// It does not reach the server.
    Before,
    /// The server gets the first half of it.
    Half,
    /// The server runs the statement but is never told to commit it.
    BeforeCommit,
    /// The client is gone at once; the server does it later.
    Late,
    /// It is done, and the answer does not come back.
    After,
}

/// How late.
const LATE: Duration = Duration::from_millis(30);

pub(super) const LOSSES: [Loss; 5] = [Loss::Before, Loss::Half, Loss::BeforeCommit, Loss::Late, Loss::After];

/// A proxy in front of the server.
pub(super) struct Proxy {
    pub(super) url: String,
    plan: Arc<Plan>,
    task: JoinHandle<()>,
}

/// What becomes of the next writes.
type Plan = Mutex<VecDeque<Loss>>;

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(super) async fn new(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = PgConnectOptions::from_str(url).expect("a URL").ssl_mode(PgSslMode::Disable);
        let (host, port) = (server.get_host().to_owned(), server.get_port());
        let here = listener.local_addr().expect("an address").port();
        let plan = Arc::<Plan>::default();
        let shared = Arc::clone(&plan);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((host.as_str(), port)).await else { continue };
                tokio::spawn(relay(client, server, Arc::clone(&shared)));
            }
        });
        Self { url: server.host("127.0.0.1").port(here).to_url_lossy().to_string(), plan, task }
    }

    /// What becomes of the next writes.
    pub(super) fn plan(&self, losses: impl IntoIterator<Item = Loss>) {
        self.plan.lock().expect("lock").extend(losses);
    }

    /// How many planned losses have not happened.
    pub(super) fn planned(&self) -> usize {
        self.plan.lock().expect("lock").len()
    }
}

async fn relay(client: TcpStream, server: TcpStream, plan: Arc<Plan>) {
    let ((from_client, mut to_client), (mut from_server, to_server)) = (client.into_split(), server.into_split());
    let there = Client { from: from_client, to: to_server, writes: HashSet::new() }.relay(&plan);
    let lost = tokio::select! {
        _ = tokio::io::copy(&mut from_server, &mut to_client) => None,
        lost = there => lost,
    };
    let Some(Lost { loss, mut to_server, bind, rest, sync }) = lost else { return };
    // The client has heard all that it will.
    let waiting = if loss == Loss::Late { None } else { Some(to_client) };
    let (send, until) = match loss {
        Loss::None | Loss::Before => return,
        Loss::Half => (bind[..bind.len() / 2].to_vec(), None),
        // Told to say how far it is, it does not commit yet.
        Loss::BeforeCommit => ([&bind[..], &rest, b"H\0\0\0\x04"].concat(), Some(b'C')),
        Loss::Late => {
            tokio::time::sleep(LATE).await;
            ([bind, rest, sync].concat(), Some(b'Z'))
        }
        Loss::After => ([bind, rest, sync].concat(), Some(b'Z')),
    };
    drop(to_server.write_all(&send).await);
    while let Some(until) = until {
        match message(&mut from_server, true).await {
            Some(said) if said[0] != until => {}
            _ => break,
        }
    }
    drop(waiting);
}

/// A write that has not been sent on, and what to send it with.
struct Lost {
    loss: Loss,
    to_server: OwnedWriteHalf,
    bind: Vec<u8>,
    rest: Vec<u8>,
    sync: Vec<u8>,
}

async fn message(from: &mut OwnedReadHalf, typed: bool) -> Option<Vec<u8>> {
    let head = 4 + usize::from(typed);
    let mut message = vec![0; head];
    from.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().ok()?);
    message.resize(usize::try_from(length).ok()? + usize::from(typed), 0);
    from.read_exact(&mut message[head..]).await.ok()?;
    Some(message)
}

/// The client's side of a connection.
struct Client {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    /// Prepared statements that write entries.
    writes: HashSet<Vec<u8>>,
}

impl Client {
    /// Passes on what the client says, until it ends or a write of its is lost.
    async fn relay(mut self, plan: &Plan) -> Option<Lost> {
        // The first message has no type.
        let hello = message(&mut self.from, false).await?;
        self.to.write_all(&hello).await.ok()?;
        loop {
            let message = self.message().await?;
            let body = &message[5..];
            let mut words = body.split(|byte| *byte == 0);
            let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if message[0] == b'P' && second.windows(19).any(|words| words == b"INSERT INTO entries") {
                self.writes.insert(first.to_vec());
            }
            let writes = message[0] == b'B' && self.writes.contains(second);
            let loss = if writes { plan.lock().expect("lock").pop_front() } else { None };
            match loss {
                None | Some(Loss::None) => self.to.write_all(&message).await.ok()?,
                Some(loss) => return self.lose(loss, message).await,
            }
        }
    }

    async fn lose(mut self, loss: Loss, bind: Vec<u8>) -> Option<Lost> {
        let [execute, close, sync] = [self.message().await?, self.message().await?, self.message().await?];
        assert_eq!((execute[0], close[0], sync[0]), (b'E', b'C', b'S'), "as the driver does it");
        Some(Lost { loss, to_server: self.to, bind, rest: [execute, close].concat(), sync })
    }

    async fn message(&mut self) -> Option<Vec<u8>> {
        message(&mut self.from, true).await
    }
}
