//! One connection through the proxy: each way is read by one half, which the judge and the network's state look at, and
//! written by another when its time has come, so that latency does not narrow what passes.

use std::{sync::Mutex, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Judge, Network, State, Verdict, Way};

/// The most that is read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// How many chunks are on their way at once, in one direction: enough for a second of latency on a fast connection.
const CHUNKS_MAX: usize = 1_024;

/// What decides what becomes of a connection.
pub(super) struct Fate {
    pub(super) network: watch::Receiver<Network>,
    pub(super) losses: watch::Receiver<u32>,
    pub(super) cuts: watch::Receiver<u32>,
    pub(super) judge: Mutex<Judge>,
}

/// What is on its way.
enum Parcel {
    Bytes(Instant, Vec<u8>),
    /// Who sends has ended; the other may go on.
    End(Instant),
    /// The connection ends, both ways.
    Abort,
}

/// The connection has ended.
struct Gone;

/// Passes on what comes until both ends have ended, one of them is gone, or the connection is cut.
pub(super) async fn run(client: TcpStream, server: TcpStream, fate: Fate) {
    let mut cuts = fate.cuts.clone();
    // Slices must go as they are. It fails only on a connection that has ended.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let both = async {
        tokio::try_join!(copy(from_client, to_server, Way::Up, &fate), copy(from_server, to_client, Way::Down, &fate))
    };
    tokio::select! {
        ended = both => drop(ended),
        // An error: the proxy has gone, and its connections go with it.
        cut = cuts.changed() => drop(cut),
    }
}

/// Keeps a connection without a word until it is cut.
pub(super) async fn ignore(client: TcpStream, mut fate: Fate) {
    drop(fate.cuts.changed().await);
    drop(client);
}

async fn copy(from: OwnedReadHalf, to: OwnedWriteHalf, way: Way, fate: &Fate) -> Result<(), Gone> {
    let (send, parcels) = mpsc::channel(CHUNKS_MAX);
    let (taken, given) = tokio::join!(take(from, send, way, fate), give(parcels, to, fate.network.clone()));
    taken.and(given)
}

/// Reads, and decides what becomes of it.
async fn take(mut from: OwnedReadHalf, send: mpsc::Sender<Parcel>, way: Way, fate: &Fate) -> Result<(), Gone> {
    let (mut network, mut buffer) = (fate.network.clone(), vec![0; CHUNK_BYTES]);
    loop {
        let read = from.read(&mut buffer).await;
        let Ok(now) = network.wait_for(|network| network.state != State::Frozen).await.map(|now| now.clone()) else {
            return Err(Gone);
        };
        if fate.losses.has_changed().unwrap_or(true) {
            std::future::pending::<()>().await;
        }
        let due = Instant::now() + now.latency;
        let parcel = match read {
            Ok(0) => Parcel::End(due + now.close_delay),
            // Reset: there is no other half that could go on.
            Err(_) => Parcel::Abort,
            Ok(read) => match (fate.judge.lock().expect("no judge panics"))(way, &buffer[..read]) {
                Verdict::Pass => Parcel::Bytes(due, buffer[..read].to_vec()),
                Verdict::Swallow => continue,
                Verdict::End => Parcel::Abort,
            },
        };
        let last = matches!(parcel, Parcel::End(_) | Parcel::Abort);
        send.send(parcel).await.map_err(|_gone| Gone)?;
        if last {
            return Ok(());
        }
    }
}

/// Writes what is due.
async fn give(
    mut parcels: mpsc::Receiver<Parcel>,
    mut to: OwnedWriteHalf,
    network: watch::Receiver<Network>,
) -> Result<(), Gone> {
    while let Some(parcel) = parcels.recv().await {
        match parcel {
            Parcel::Bytes(due, bytes) => {
                tokio::time::sleep_until(due).await;
                let (slice, rate) = (network.borrow().slice_bytes, network.borrow().bytes_per_sec);
                // A narrow line passes little at a time, so that it is never idle for long.
                let piece = slice.unwrap_or(CHUNK_BYTES).min(rate.map_or(CHUNK_BYTES, piece_bytes)).max(1);
                for piece in bytes.chunks(piece) {
                    to.write_all(piece).await.map_err(|_gone| Gone)?;
                    match rate {
                        Some(rate) => {
                            tokio::time::sleep(Duration::from_secs_f64(count(piece) / f64::from(rate.max(1)))).await;
                        }
                        None => tokio::task::yield_now().await,
                    }
                }
            }
            Parcel::End(due) => {
                tokio::time::sleep_until(due).await;
                return to.shutdown().await.map_err(|_gone| Gone);
            }
            Parcel::Abort => return Err(Gone),
        }
    }
    Ok(())
}

/// What passes in a hundredth of a second.
fn piece_bytes(rate: u32) -> usize {
    usize::try_from(rate / 100).unwrap_or(usize::MAX)
}

fn count(piece: &[u8]) -> f64 {
    f64::from(u32::try_from(piece.len()).unwrap_or(u32::MAX))
}
