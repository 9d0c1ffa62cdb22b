//! The network in front of the server (`test-proxy`) that loses the answer to one command: the server has done it, and
//! nobody knows.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use mongodb::options::{ClientOptions, ServerAddress};
use test_proxy::{Judge, Verdict, Way};

use super::server::with;

/// A command's name comes after the message's header, its flags, its section's kind, and its document's length and first
/// type.
const NAME_AT: usize = 26;

/// A proxy in front of the server.
pub(super) struct Proxy {
    pub(super) url: String,
    plan: Arc<Plan>,
    _network: test_proxy::Proxy,
}

#[derive(Default)]
struct Plan {
    /// The command whose answer is to be lost, and how many of them pass before.
    lose: Mutex<Option<(String, usize)>>,
    lost: AtomicUsize,
}

impl Proxy {
    pub(super) async fn new(url: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), url).await
    }

    pub(super) async fn on(listener: TcpListener, url: &str) -> Self {
        let options = ClientOptions::parse(url).await.expect("a URL");
        let Some(ServerAddress::Tcp { host, port }) = options.hosts.first().cloned() else { panic!("a host") };
        let hosts = options.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let plan = Arc::<Plan>::default();
        let plans = Arc::clone(&plan);
        let server = format!("{host}:{}", port.unwrap_or(27017));
        let network = test_proxy::Proxy::judged(listener, &server, move || judge(Arc::clone(&plans)));
        let url = url.replacen(&hosts, &network.address().to_string(), 1);
        let direct = if url.contains("directConnection") { url } else { with(&url, "directConnection=true") };
        Self { url: direct, plan, _network: network }
    }

    /// The answer to the next such command but so many is lost, and its connection with it.
    pub(super) fn lose(&self, command: &str, skip: usize) {
        *self.plan.lose.lock().expect("no panic while the lock is held") = Some((command.to_owned(), skip));
    }

    /// How many answers have been lost.
    pub(super) fn lost(&self) -> usize {
        self.plan.lost.load(Ordering::SeqCst)
    }
}

fn judge(plan: Arc<Plan>) -> Judge {
    let mut lost = false;
    Box::new(move |way, bytes| match way {
        Way::Up => {
            lost |= plan.takes(bytes);
            Verdict::Pass
        }
        Way::Down if lost => Verdict::End,
        Way::Down => Verdict::Pass,
    })
}

impl Plan {
    /// Whether this is the command whose answer is to be lost.
    fn takes(&self, bytes: &[u8]) -> bool {
        let mut lose = self.lose.lock().expect("no panic while the lock is held");
        let Some((command, skip)) = &mut *lose else { return false };
        if !bytes.get(NAME_AT..).is_some_and(|rest| rest.starts_with(command.as_bytes())) {
            return false;
        }
        if *skip > 0 {
            *skip -= 1;
            return false;
        }
        *lose = None;
        self.lost.fetch_add(1, Ordering::SeqCst);
        true
    }
}
