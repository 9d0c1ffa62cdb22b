//! Replicas that hear of one another through Redis: what is live, what crosses, and what heals when Redis is killed,
//! wiped, paused, cut off or full of nonsense. Delays are printed and none is asserted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mesh::proto::message::v1::{
    RoomType, SetTypingRequest, WatchRoomsRequest,
    watch_rooms_request::{Action, Subscribe},
    watch_rooms_response::Event as Followed,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use self::{
    crowd::{BEFORE_THE_CLOCK, Crowd, Ear, get, print_delays, say, through, until_redis_is, without_the_clock},
    server::Redis,
};
use crate::world::{Person, World, answer, soon};

mod crowd;
mod server;
mod setups;

type Sent = Arc<Mutex<BTreeMap<i64, Instant>>>;

/// Sends without pause until it is dropped; when each message was sent, by its seq.
fn chatter(person: &Person, room: &str) -> (Sent, AbortOnDropHandle<()>) {
    let sent = Sent::default();
    let (writes, person, room) = (Arc::clone(&sent), person.clone(), room.to_owned());
    let task = tokio::spawn(async move {
        for n in 0.. {
            let at = Instant::now();
            let message = person.send(&room, &n.to_string()).await.expect("sent");
            writes.lock().expect("lock").insert(message.seq, at);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    (sent, AbortOnDropHandle::new(task))
}

/// Waits until so many more were sent.
async fn more(sent: &Sent, count: usize) {
    let goal = sent.lock().expect("lock").len() + count;
    soon("messages", async {
        while sent.lock().expect("lock").len() < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_writes_is_live_on_the_other() {
    let Some(url) = server::url() else { return };
    let redis = through(&url);
    let crowd = Crowd::gather(|config| {
        redis(config);
        without_the_clock(config);
    })
    .await;
    crowd.until_redis_is("ok").await;
    let (at_one, at_two) = (crowd.listen(&crowd.one).await, crowd.listen(&crowd.two).await);
    let (ada, eda) = (crowd.ada.clone(), crowd.ada.at(&crowd.two));
    let (mut from_one, mut from_two) = (BTreeMap::new(), BTreeMap::new());
    for n in 0..200 {
        let (person, sent) = if n % 2 == 0 { (&ada, &mut from_one) } else { (&eda, &mut from_two) };
        let at = Instant::now();
        // Some are larger than a hint may be.
        let content = if n % 10 == 0 { "😀".repeat(6_000) } else { n.to_string() };
        let message = person.send(&crowd.room, &content).await.expect("sent");
        sent.insert(message.seq, at);
        at_one.until(message.seq, BEFORE_THE_CLOCK).await;
        at_two.until(message.seq, BEFORE_THE_CLOCK).await;
    }
    let delays = |ear: &Ear, sent: &BTreeMap<_, _>| ear.delays(sent).into_iter().map(|(_, delay)| delay).collect();
    print_delays("at the replica that wrote", {
        let mut all: Vec<Duration> = delays(&at_one, &from_one);
        all.extend::<Vec<Duration>>(delays(&at_two, &from_two));
        all
    });
    print_delays("at the other replica", {
        let mut all: Vec<Duration> = delays(&at_two, &from_one);
        all.extend::<Vec<Duration>>(delays(&at_one, &from_two));
        all
    });
    crowd.stop().await;
}

/// A gateway's stream at this replica.
async fn follow(
    world: &World,
    room: &str,
) -> (tonic::Streaming<mesh::proto::message::v1::WatchRoomsResponse>, mpsc::UnboundedSender<WatchRoomsRequest>) {
    let (wants, wanted) = mpsc::unbounded_channel();
    let subscribe = Subscribe { room_id: room.into(), cursor: String::new() };
    wants.send(WatchRoomsRequest { action: Some(Action::Subscribe(subscribe)) }).expect("open");
    let (mut client, request) = world.gateway(UnboundedReceiverStream::new(wanted));
    let mut stream = answer(client.watch_rooms(request).await).expect("follows");
    let first = soon("subscribed", stream.message()).await.expect("follows").expect("goes on");
    assert!(matches!(first.event, Some(Followed::Subscribed(_))));
    (stream, wants)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_types_at_one_replica_is_seen_at_the_other_until_they_stop_or_are_cut_off() {
    let Some(mut redis) = Redis::start(&[]).await else { return };
    let crowd = Crowd::gather(through(&redis.url())).await;
    crowd.until_redis_is("ok").await;
    let (mut stream, _wants) = follow(&crowd.two, &crowd.room).await;
    let mut next = async || match soon("typing", stream.message()).await.expect("follows").expect("goes on").event {
        Some(Followed::Typing(who)) => (who.user_id, who.username, who.typing),
        other => panic!("{other:?}"),
    };
    let ada = &crowd.ada;
    let set = async |typing| {
        let request = SetTypingRequest { room_id: crowd.room.clone(), typing };
        answer(ada.client().set_typing(ada.request(request)).await).expect("told");
    };
    let seen = |typing| (ada.id.clone(), "ada".to_owned(), typing);
    let channel = until_heard(&redis, &crowd.room).await;
    set(true).await;
    assert_eq!(next().await, seen(true));
    set(false).await;
    assert_eq!(next().await, seen(false), "a stop crosses");
    set(true).await;
    assert_eq!(next().await, seen(true));
    assert_eq!(next().await, seen(false), "a start ends by itself");
    set(true).await;
    assert_eq!(next().await, seen(true));
    redis.kill();
    assert_eq!(next().await, seen(false), "also when nobody tells that it has, on {channel}");
    crowd.stop().await;
}

/// Waits until somebody is subscribed to the room's channel, and answers its name.
async fn until_heard(redis: &Redis, room: &str) -> String {
    let (mut channels, ends) = (String::new(), format!("room:{room}\r\n"));
    soon("subscribed", async {
        while !channels.contains(&ends) {
            channels = redis.ask(&[b"PUBSUB", b"CHANNELS", b"*"]).await;
        }
    })
    .await;
    channels.lines().find(|line| line.ends_with(room)).expect("a channel").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_hears_of_the_rooms_that_are_followed_at_it_and_of_no_others() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let crowd = Crowd::gather(through(&redis.url())).await;
    crowd.until_redis_is("ok").await;
    let other = crowd.ada.create("other", RoomType::Public).await;
    let (one, two) = (crowd.listen(&crowd.two).await, crowd.listen(&crowd.two).await);
    until_heard(&redis, &crowd.room).await;
    let channels = redis.ask(&[b"PUBSUB", b"CHANNELS", b"*"]).await;
    assert!(!channels.contains(&other), "{channels}");
    drop(one);
    crowd.ada.send(&crowd.room, "x").await.expect("sent");
    two.until(1, BEFORE_THE_CLOCK).await;
    drop(two);
    soon("unsubscribed", async { while redis.ask(&[b"PUBSUB", b"CHANNELS", b"*"]).await.contains("room:") {} }).await;
    assert!(redis.ask(&[b"DBSIZE"]).await.starts_with(":0\r\n"), "nothing is kept in Redis");
    crowd.stop().await;
}

/// Prints what a fault did to what was sent from its beginning on: the longest delay, and how long after Redis' return
/// the last slow delivery was.
fn print_fault(what: &str, begun: Instant, returned: Instant, delays: &[(Instant, Duration)]) {
    const SLOW: Duration = Duration::from_millis(250);
    let since: Vec<_> = delays.iter().filter(|(at, _)| *at >= begun).collect();
    let longest = since.iter().map(|(_, delay)| *delay).max().unwrap_or_default();
    let healed = since.iter().filter(|(_, delay)| *delay > SLOW).map(|(at, delay)| (*at + *delay).max(returned)).max();
    let healed = healed.map_or(Duration::ZERO, |last| last - returned);
    say(&format!(
        "{what}: {} messages, longest delay {:.0} ms, live again {:.0} ms after Redis' return",
        since.len(),
        longest.as_secs_f64() * 1e3,
        healed.as_secs_f64() * 1e3
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_redis_is_wiped_killed_paused_or_hangs_up() {
    let Some(mut redis) = Redis::start(&[]).await else { return };
    let crowd = Crowd::gather(through(&redis.url())).await;
    crowd.until_redis_is("ok").await;
    let ear = crowd.listen(&crowd.two).await;
    let (sent, chatting) = chatter(&crowd.ada, &crowd.room);
    let mut faults = Vec::new();
    more(&sent, 50).await;
    for fault in ["wiped (FLUSHALL)", "killed and restarted", "paused (SIGSTOP)", "hangs up (CLIENT KILL)"] {
        let begun = Instant::now();
        let mut returned = begun;
        match fault {
            "wiped (FLUSHALL)" => drop(redis.ask(&[b"FLUSHALL"]).await),
            "killed and restarted" => {
                redis.kill();
                crowd.until_redis_is("degraded").await;
                more(&sent, 200).await;
                redis.restart().await;
                returned = Instant::now();
            }
            "paused (SIGSTOP)" => {
                redis.pause();
                crowd.until_redis_is("degraded").await;
                more(&sent, 200).await;
                redis.resume();
                returned = Instant::now();
            }
            _ => {
                // One command cannot kill both kinds, and a connection is of either.
                redis.ask(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]).await;
                redis.ask(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]).await;
            }
        }
        more(&sent, 10).await;
        crowd.until_redis_is("ok").await;
        // Long enough for what the other replica did not hear to be found.
        more(&sent, 400).await;
        faults.push((fault, begun, returned));
    }
    drop(chatting);
    let sent = sent.lock().expect("lock").clone();
    let last = *sent.last_key_value().expect("some").0;
    ear.until(last, BEFORE_THE_CLOCK).await;
    let delays = ear.delays(&sent);
    let ends = faults.iter().skip(1).map(|(_, begun, _)| *begun).chain([Instant::now()]);
    for ((fault, begun, returned), end) in faults.iter().zip(ends) {
        let these: Vec<_> = delays.iter().filter(|(at, _)| *at < end).copied().collect();
        print_fault(fault, *begun, *returned, &these);
    }
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_redis_at_the_start_keeps_nobody_from_serving() {
    let Some(mut redis) = Redis::absent().await else { return };
    let crowd = Crowd::gather(through(&redis.url())).await;
    crowd.until_redis_is("degraded").await;
    let ear = crowd.listen(&crowd.two).await;
    let (sent, chatting) = chatter(&crowd.ada, &crowd.room);
    more(&sent, 100).await;
    redis.restart().await;
    crowd.until_redis_is("ok").await;
    more(&sent, 50).await;
    drop(chatting);
    let sent = sent.lock().expect("lock").clone();
    ear.until(*sent.last_key_value().expect("some").0, BEFORE_THE_CLOCK).await;
    print_delays("without Redis at first", ear.delays(&sent).into_iter().map(|(_, delay)| delay));
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_reach_redis_is_heard_through_the_store_by_one_that_can() {
    let (Some(redis), Some(nowhere)) = (Redis::start(&[]).await, Redis::absent().await) else { return };
    let crowd = Crowd::gather_at(through(&nowhere.url()), through(&redis.url())).await;
    until_redis_is(crowd.two.ops, "ok").await;
    until_redis_is(crowd.one.ops, "degraded").await;
    let ear = crowd.listen(&crowd.two).await;
    crowd.ada.send(&crowd.room, "x").await.expect("sent");
    // The slow clock, ten seconds.
    ear.until(1, BEFORE_THE_CLOCK).await;
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_falls_silent_is_looked_for_in_the_store() {
    let (Some(redis), Some(bridge)) = (Redis::start(&[]).await, Redis::absent().await) else { return };
    // One reaches Redis over a bridge that can be cut.
    let prefix = through(&redis.url());
    let port = redis.port;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", bridge.port)).await.expect("a port");
    let passing = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut from, _) = listener.accept().await.expect("accepts");
            open.push(AbortOnDropHandle::new(tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
                drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
            })));
        }
    }));
    let over_the_bridge = |config: &mut message_svc::Config| {
        prefix(config);
        config.mesh.redis_url = bridge.url().as_str().into();
        without_the_clock(config);
    };
    let crowd = Crowd::gather_at(over_the_bridge, |config| {
        prefix(config);
        without_the_clock(config);
        // The clock that counts while a replica is missed.
        config.message.watch.poll_ms = 500;
    })
    .await;
    crowd.until_redis_is("ok").await;
    let ear = crowd.listen(&crowd.two).await;
    crowd.ada.send(&crowd.room, "1").await.expect("sent");
    ear.until(1, BEFORE_THE_CLOCK).await;
    // Until every look that the start asked for is over.
    let (begun, mut last) = (Instant::now(), 1);
    while begun.elapsed() < Duration::from_secs(1) {
        last = crowd.ada.send(&crowd.room, "x").await.expect("sent").seq;
        ear.until(last, BEFORE_THE_CLOCK).await;
    }
    drop(passing);
    until_redis_is(crowd.one.ops, "degraded").await;
    let at = Instant::now();
    crowd.ada.send(&crowd.room, "x").await.expect("sent");
    ear.until(last + 1, BEFORE_THE_CLOCK).await;
    say(&format!("a replica cut off from Redis is heard of {:.0} ms later", at.elapsed().as_secs_f64() * 1e3));
    until_redis_is(crowd.two.ops, "ok").await;
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_that_do_not_fit_are_dropped_and_made_good() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let redis_with = through(&redis.url());
    let crowd = Crowd::gather(|config| {
        redis_with(config);
        without_the_clock(config);
        config.mesh.redis.queue_max = 1;
        config.message.watch.rooms_max = 100;
    })
    .await;
    crowd.until_redis_is("ok").await;
    let mut rooms = Vec::new();
    for n in 0..30 {
        let room = crowd.ada.create(&n.to_string(), RoomType::Public).await;
        rooms.push((Ear::listen(&crowd.ada.at(&crowd.two), &room).await, room));
    }
    let mut sends = 0;
    while !get(crowd.one.ops, "/metrics").await.contains("switchboard_relay_dropped_total{reason=\"full\"}") {
        sends += 1;
        assert!(sends < 200, "nothing is ever dropped");
        let burst = rooms.iter().map(|(_, room)| crowd.ada.send(room, "x"));
        futures::future::join_all(burst).await.into_iter().for_each(|sent| drop(sent.expect("sent")));
    }
    for (ear, _) in &rooms {
        ear.until(sends, BEFORE_THE_CLOCK).await;
    }
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_channels_is_ignored() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let redis_with = through(&redis.url());
    let crowd = Crowd::gather(|config| {
        redis_with(config);
        without_the_clock(config);
    })
    .await;
    crowd.until_redis_is("ok").await;
    let ear = crowd.listen(&crowd.two).await;
    let room = until_heard(&redis, &crowd.room).await;
    let common = room.replace(&format!("room:{}", crowd.room), "replicas");
    let frame = |kind: u8, rest: &[u8]| [&[1, kind][..], &[7; 32], rest].concat();
    let large = vec![b'x'; 1 << 20];
    let nonsense = [b"".to_vec(), b"{}".to_vec(), large, frame(1, b"forged"), frame(2, &[0x7f; 8]), frame(3, b"?")];
    for _ in 0..10 {
        for nonsense in &nonsense {
            for channel in [&room, &common] {
                let answer = redis.ask(&[b"PUBLISH", channel.as_bytes(), nonsense]).await;
                assert!(!answer.starts_with(":0"), "it is heard: {answer}");
            }
        }
        // A forged sign makes them look at the store, and that is all.
        redis.ask(&[b"PUBLISH", common.as_bytes(), &frame(5, b"")]).await;
    }
    for seq in 1..=20 {
        crowd.ada.send(&crowd.room, &seq.to_string()).await.expect("sent");
        ear.until(seq, BEFORE_THE_CLOCK).await;
    }
    crowd.until_redis_is("ok").await;
    let metrics = get(crowd.two.ops, "/metrics").await;
    for reason in ["garbage", "foreign"] {
        assert!(metrics.contains(&format!("switchboard_relay_ignored_total{{reason=\"{reason}\"}}")), "{metrics}");
    }
    crowd.stop().await;
}
