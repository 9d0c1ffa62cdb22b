//! A proxy in front of the server that loses the answer to one command: the server has done it, and nobody knows.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use mongodb::options::{ClientOptions, ServerAddress};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
    task::JoinHandle,
};

use super::server::with;

/// A command's name comes after the message's header, its flags, its section's kind, and its document's length and first
/// type.
const NAME_AT: usize = 26;

/// A proxy in front of the server.
pub(super) struct Proxy {
    pub(super) url: String,
    plan: Arc<Plan>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Plan {
    /// The command whose answer is to be lost, and how many of them pass before.
    lose: Mutex<Option<(String, usize)>>,
    lost: AtomicUsize,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(super) async fn new(url: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), url).await
    }

    pub(super) async fn on(listener: TcpListener, url: &str) -> Self {
        let options = ClientOptions::parse(url).await.expect("a URL");
        let Some(ServerAddress::Tcp { host, port }) = options.hosts.first().cloned() else { panic!("a host") };
        let hosts = options.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let here = listener.local_addr().expect("an address");
        let url = url.replacen(&hosts, &here.to_string(), 1);
        let direct = if url.contains("directConnection") { url } else { with(&url, "directConnection=true") };
        let plan = Arc::<Plan>::default();
        let plans = Arc::clone(&plan);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((host.as_str(), port.unwrap_or(27017))).await else { continue };
                tokio::spawn(relay(client, server, Arc::clone(&plans)));
            }
        });
        Self { url: direct, plan, task }
    }

    /// The answer to the next such command but so many is lost, and its connection with it.
    pub(super) async fn lose(&self, command: &str, skip: usize) {
        *self.plan.lose.lock().await = Some((command.to_owned(), skip));
    }

    /// How many answers have been lost.
    pub(super) fn lost(&self) -> usize {
        self.plan.lost.load(Ordering::SeqCst)
    }
}

async fn relay(client: TcpStream, server: TcpStream, plan: Arc<Plan>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let lost = Arc::new(AtomicBool::new(false));
    tokio::select! {
        () = requests(from_client, to_server, plan, Arc::clone(&lost)) => {}
        () = answers(from_server, to_client, lost) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: Arc<Plan>, lost: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut lose = plan.lose.lock().await;
        if let Some((command, skip)) = &mut *lose
            && buffer[..read].get(NAME_AT..).is_some_and(|rest| rest.starts_with(command.as_bytes()))
        {
            if *skip == 0 {
                lost.store(true, Ordering::SeqCst);
                plan.lost.fetch_add(1, Ordering::SeqCst);
                *lose = None;
            } else {
                *skip -= 1;
            }
        }
        drop(lose);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lost: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if lost.load(Ordering::SeqCst) || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
