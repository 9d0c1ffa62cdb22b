//! Each thing that the network does, seen from its two ends.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{Judge, Network, Proxy, State, StdListener, Verdict, Way};

/// Long enough for anything that happens at all.
const LONG: Duration = Duration::from_secs(10);
/// How long nothing is to come.
const SHORT: Duration = Duration::from_millis(50);

/// A server that sends back what it gets, and its address.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
                drop(to.shutdown().await);
            });
        }
    });
    address
}

async fn connected(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("the proxy is there")
}

/// Sends this and reads as much again.
async fn echoed(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut back = vec![0; bytes.len()];
    let (mut from, mut to) = stream.split();
    let (sent, read) = tokio::join!(to.write_all(bytes), from.read_exact(&mut back));
    sent?;
    read?;
    Ok(back)
}

async fn ends(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = timeout(LONG, stream.read(&mut byte)).await.expect("in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn a_good_network_passes_everything_and_the_end() {
    let proxy = Proxy::new(&echo().await);
    let mut stream = connected(&proxy).await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    assert_eq!(timeout(LONG, echoed(&mut stream, &bytes)).await.expect("in time").expect("echoed"), bytes);
    stream.shutdown().await.expect("shut");
    ends(&mut stream).await;
    proxy.settle().await;
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_slow_narrow_network_that_slices_changes_no_byte_and_takes_its_time() {
    let proxy = Proxy::new(&echo().await);
    let network = Network {
        latency: Duration::from_millis(30),
        bytes_per_sec: Some(100_000),
        slice_bytes: Some(7),
        close_delay: Duration::from_millis(100),
        ..Network::default()
    };
    proxy.set(network);
    let mut stream = connected(&proxy).await;
    let bytes: Vec<u8> = (0..5_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let begun = Instant::now();
    assert_eq!(timeout(LONG, echoed(&mut stream, &bytes)).await.expect("in time").expect("echoed"), bytes);
    // Never sooner: 30 ms each way, and 5,000 bytes at 100,000 a second.
    assert!(begun.elapsed() >= Duration::from_millis(30 + 30 + 50), "{:?}", begun.elapsed());
    let begun = Instant::now();
    stream.shutdown().await.expect("shut");
    ends(&mut stream).await;
    assert!(begun.elapsed() >= Duration::from_millis(2 * (30 + 100)), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_is_frozen_comes_later_and_what_is_silent_never_does() {
    let proxy = Proxy::new(&echo().await);
    let mut stream = connected(&proxy).await;
    echoed(&mut stream, b"there").await.expect("echoed");
    proxy.set_state(State::Frozen);
    timeout(SHORT, echoed(&mut stream, b"frozen")).await.expect_err("nothing comes");
    proxy.set_state(State::Open);
    let mut back = [0; 6];
    timeout(LONG, stream.read_exact(&mut back)).await.expect("in time").expect("read");
    assert_eq!(&back, b"frozen");
    proxy.set_state(State::Silent);
    let mut taken = connected(&proxy).await;
    for stream in [&mut stream, &mut taken] {
        timeout(SHORT, echoed(stream, b"silence")).await.expect_err("nothing comes");
    }
    proxy.set_state(State::Open);
    for stream in [&mut stream, &mut taken] {
        timeout(SHORT, echoed(stream, b"silence")).await.expect_err("not even now");
    }
    let mut fresh = connected(&proxy).await;
    timeout(LONG, echoed(&mut fresh, b"there")).await.expect("in time").expect("echoed");
}

#[tokio::test]
async fn a_cut_ends_every_connection_however_short_it_is() {
    let proxy = Proxy::new(&echo().await);
    let mut stream = connected(&proxy).await;
    echoed(&mut stream, b"there").await.expect("echoed");
    proxy.set_state(State::Silent);
    let mut ignored = connected(&proxy).await;
    proxy.met(2).await;
    proxy.set_state(State::Cut);
    proxy.set_state(State::Open);
    ends(&mut stream).await;
    ends(&mut ignored).await;
    proxy.set_state(State::Cut);
    ends(&mut connected(&proxy).await).await;
    proxy.settle().await;
}

#[tokio::test]
async fn a_judge_swallows_and_ends_at_the_byte_that_it_chooses() {
    let judge = || -> Judge {
        Box::new(|way, bytes| match (way, bytes) {
            (Way::Up, b"hush") => Verdict::Swallow,
            (Way::Down, b"last") => Verdict::End,
            _ => Verdict::Pass,
        })
    };
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    let proxy = Proxy::judged(listener, &echo().await, judge);
    let mut stream = connected(&proxy).await;
    timeout(SHORT, echoed(&mut stream, b"hush")).await.expect_err("swallowed");
    assert_eq!(echoed(&mut stream, b"said").await.expect("echoed"), b"said");
    echoed(&mut stream, b"last").await.expect_err("ended");
    let mut again = connected(&proxy).await;
    echoed(&mut again, b"said").await.expect("one connection's end is no other's");
    drop(proxy);
    ends(&mut again).await;
}
