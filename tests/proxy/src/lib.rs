//! The network between two processes under test, at its worst: a TCP proxy that is slow, narrow, cut, silent, slow to
//! close, or slices what passes. It knows no protocol; who does gives it a [`Judge`] that sees the bytes and may swallow
//! them or end the connection at that point. It runs on a thread of its own, so that a test that blocks holds up nothing.
//! What happens to one connection is in `link.rs`.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::Mutex,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{oneshot, watch},
};

mod link;

/// How long [`Proxy::met`] and [`Proxy::settle`] wait for what must happen.
const LONG: Duration = Duration::from_secs(30);

/// What the network does. The default is a good one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Whether anything passes at all.
    pub state: State,
    /// How much later everything arrives, each way.
    pub latency: Duration,
    /// How much passes in a second on one connection, each way; unlimited when none.
    pub bytes_per_sec: Option<u32>,
    /// The most that is sent on in one piece; as it comes when none.
    pub slice_bytes: Option<usize>,
    /// How much later an end arrives, in either direction.
    pub close_delay: Duration,
}

/// Whether anything passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Everything does.
    #[default]
    Open,
    /// Nothing does until it is open again, and then all of it, as when packets are lost and sent again.
    Frozen,
    /// Connections are taken and nothing is ever heard on them, nor on those that were there: not even later, as when the
    /// machine behind them has gone without a word.
    Silent,
    /// All connections end, and new ones at once.
    Cut,
}

/// The direction of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who connected to the server.
    Up,
    /// From the server.
    Down,
}

/// What becomes of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are sent on.
    Pass,
    /// They are not.
    Swallow,
    /// They are not, and their connection ends, both ways.
    End,
}

/// Sees what passes on one connection, as it was read.
pub type Judge = Box<dyn FnMut(Way, &[u8]) -> Verdict + Send>;

/// A proxy in front of one server. It ends with all its connections when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    /// Connections that came so far, and how many of them are there.
    met: watch::Receiver<(u32, u32)>,
    /// How often the connections that were there were lost, and how often they were cut.
    losses: watch::Sender<u32>,
    cuts: watch::Sender<u32>,
    /// Its end is the end of the thread.
    _stop: oneshot::Sender<()>,
}

impl Proxy {
    /// On a free port of this machine, in front of `host:port`.
    #[must_use]
    pub fn new(server: &str) -> Self {
        Self::on(StdListener::bind("127.0.0.1:0").expect("a free port"), server)
    }

    /// On this listener.
    #[must_use]
    pub fn on(listener: StdListener, server: &str) -> Self {
        Self::judged(listener, server, || Box::new(|_, _| Verdict::Pass))
    }

    /// On this listener, with a judge for each connection.
    #[must_use]
    pub fn judged(listener: StdListener, server: &str, judge: impl Fn() -> Judge + Send + 'static) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        listener.set_nonblocking(true).expect("a listener can be asked not to block");
        let network = watch::Sender::new(Network::default());
        let (losses, cuts) = (watch::Sender::new(0), watch::Sender::new(0));
        let (count, met) = watch::channel((0, 0));
        let (stop, stopped) = oneshot::channel();
        let world = World {
            server: server.to_owned(),
            network: network.subscribe(),
            losses: losses.subscribe(),
            cuts: cuts.subscribe(),
            count,
        };
        std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = world.accept(listener, judge) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, network, met, losses, cuts, _stop: stop }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the network is so.
    pub fn set(&self, network: Network) {
        let state = network.state;
        self.network.send_replace(network);
        match state {
            State::Open | State::Frozen => {}
            State::Silent => self.lose(),
            State::Cut => self.cuts.send_modify(|cuts| *cuts += 1),
        }
    }

    /// From now on so much passes; all else stays as it is.
    pub fn set_state(&self, state: State) {
        let network = self.network.borrow().clone();
        self.set(Network { state, ..network });
    }

    /// Says nothing more on the connections that are there, as if their server's machine had gone; new ones are good.
    pub fn lose(&self) {
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// How many connections came so far.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.met.borrow().0
    }

    /// Waits until so many connections came.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn met(&self, connections: u32) {
        self.until(|(all, _)| *all >= connections).await;
    }

    /// Waits until no connection is left.
    ///
    /// # Panics
    /// When they do not end.
    pub async fn settle(&self) {
        self.until(|(_, now)| *now == 0).await;
    }

    async fn until(&self, holds: impl FnMut(&(u32, u32)) -> bool) {
        let mut met = self.met.clone();
        let waited = tokio::time::timeout(LONG, met.wait_for(holds)).await;
        waited.expect("it happens in time").expect("the proxy is there");
    }
}

/// What all connections share.
struct World {
    server: String,
    network: watch::Receiver<Network>,
    losses: watch::Receiver<u32>,
    cuts: watch::Receiver<u32>,
    count: watch::Sender<(u32, u32)>,
}

impl World {
    async fn accept(self, listener: StdListener, judge: impl Fn() -> Judge) {
        let listener = TcpListener::from_std(listener).expect("a listener that does not block");
        while let Ok((client, _)) = listener.accept().await {
            let mut fate = link::Fate {
                network: self.network.clone(),
                losses: self.losses.clone(),
                cuts: self.cuts.clone(),
                judge: Mutex::new(judge()),
            };
            // Only what comes from here on counts; marked before the state is read, so that nothing falls between.
            fate.losses.mark_unchanged();
            fate.cuts.mark_unchanged();
            let state = fate.network.borrow().state;
            let (server, count) = (self.server.clone(), self.count.clone());
            // Only now: who waits for a connection may change everything at once.
            count.send_modify(|(all, now)| (*all, *now) = (*all + 1, *now + 1));
            tokio::spawn(async move {
                match state {
                    // Taken, and never heard of again; only a cut ends it.
                    State::Silent => link::ignore(client, fate).await,
                    State::Cut => drop(client),
                    State::Open | State::Frozen => {
                        if let Ok(server) = TcpStream::connect(server).await {
                            link::run(client, server, fate).await;
                        }
                    }
                }
                count.send_modify(|(_, now)| *now -= 1);
            });
        }
    }
}

#[cfg(test)]
mod tests;
