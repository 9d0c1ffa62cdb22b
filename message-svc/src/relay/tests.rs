//! What comes from Redis is used only when it is sealed for the log that is followed here, and what is left for Redis
//! never waits. How replicas hear of one another through a real Redis is in `tests/service/relay.rs`.

use tempfile::TempDir;

use super::*;
use crate::{
    hub::{Hint, Subscription, Typing},
    id::LogId,
    relay::receive::Ignored,
    store::{Batch, Store},
    testing::{message, message_entry, sqlite, user},
};

/// A replica that hears, and one that speaks.
struct Ear {
    hub: Arc<Hub>,
    receiver: Receiver,
    hints: Subscription,
    room: RoomId,
    log: LogId,
    speaker: Uuid,
    _store: (Arc<dyn Store>, TempDir),
}

impl Ear {
    async fn new() -> Self {
        let (store, folder) = sqlite().await;
        let hub = Hub::new(16);
        let (room, log) = (RoomId::random(), LogId::random());
        let hints = hub.subscribe(room);
        hints.follows(log);
        let lasts = Duration::from_secs(5);
        let receiver = Receiver {
            replica: Uuid::new_v4(),
            channels: Channels { prefix: "p:".into() },
            hub: Arc::clone(&hub),
            looker: Looker::new(Arc::clone(&hub), Arc::clone(&store), lasts),
            typists: Typists::start(Arc::clone(&hub), lasts, 10, CancellationToken::new()),
            peers: Arc::new(Peers::new(Duration::from_millis(500))),
        };
        Self { hub, receiver, hints, room, log, speaker: Uuid::new_v4(), _store: (store, folder) }
    }

    fn batch(&self, seq: i64) -> Batch {
        [message_entry(self.room, seq, seq, message(user(), &seq.to_string(), "x"))].into()
    }

    fn hear(&self, payload: &[u8]) -> Result<&'static str, Ignored> {
        self.receiver.judge(self.receiver.channels.room(self.room).as_bytes(), payload)
    }

    fn hear_sign(&self, payload: &[u8]) -> Result<&'static str, Ignored> {
        self.receiver.judge(self.receiver.channels.common().as_bytes(), payload)
    }
}

#[tokio::test]
async fn what_is_sealed_for_the_followed_log_reaches_its_watchers() {
    let mut ear = Ear::new().await;
    let batch = ear.batch(3);
    assert_eq!(ear.hear(&frame::seal(&Frame::Entries(Arc::clone(&batch)), ear.speaker, ear.log)), Ok("entries"));
    let Some(Hint::Entries(heard, _)) = ear.hints.next().await else { panic!("entries") };
    assert_eq!(heard, batch);
    assert_eq!(ear.hear(&frame::seal(&Frame::Head(9), ear.speaker, ear.log)), Ok("head"));
    assert!(matches!(ear.hints.next().await, Some(Hint::Head(9))));
    let typing = Typing { user: user(), username: "ada".into(), typing: true };
    assert_eq!(ear.hear(&frame::seal(&Frame::Typing(typing.clone()), ear.speaker, ear.log)), Ok("typing"));
    assert!(matches!(ear.hints.next().await, Some(Hint::Typing(heard)) if heard == typing));
}

#[tokio::test]
async fn what_is_foreign_forged_damaged_or_its_own_is_ignored() {
    let mut ear = Ear::new().await;
    let (entries, speaker, log) = (Frame::Entries(ear.batch(1)), ear.speaker, ear.log);
    let good = frame::seal(&entries, speaker, log);
    assert_eq!(ear.hear(&frame::seal(&entries, ear.receiver.replica, log)), Err(Ignored::Own));
    assert_eq!(ear.hear(&frame::seal(&entries, speaker, LogId::random())), Err(Ignored::Foreign), "another log");
    assert_eq!(ear.hear(&frame::seal(&Frame::Head(i64::MAX), speaker, LogId::random())), Err(Ignored::Foreign));
    let last = good.len() - 1;
    let changed: Vec<_> = good.iter().enumerate().map(|(place, byte)| byte ^ u8::from(place == last)).collect();
    assert_eq!(ear.hear(&changed), Err(Ignored::Foreign));
    assert_eq!(ear.hear(&good[..last]), Err(Ignored::Foreign));
    for garbage in [&b""[..], b"{}", b"\x01", &[0xff; 100], &[&[2], &good[1..]].concat()] {
        assert_eq!(ear.hear(garbage), Err(Ignored::Garbage));
    }
    assert_eq!(ear.hear(&frame::seal(&Frame::Entries([].into()), speaker, log)), Err(Ignored::Garbage), "none");
    for wrong in [Frame::Beat, Frame::Look, Frame::Bye] {
        assert_eq!(ear.hear(&frame::seal(&wrong, speaker, log)), Err(Ignored::Garbage), "a sign on a room's channel");
    }
    assert_eq!(ear.hear_sign(&good), Err(Ignored::Garbage), "a hint on the common channel");
    for channel in [&b"p:room:x"[..], b"p:other", b"q:replicas", b"\xff"] {
        assert_eq!(ear.receiver.judge(channel, &good), Err(Ignored::Garbage));
    }
    assert!(ear.hints.try_next().is_none(), "and nobody heard any of it");
    assert_eq!(ear.hear(&good), Ok("entries"), "what is good still counts");
}

#[tokio::test]
async fn nobody_hears_of_a_room_before_its_log_is_known() {
    let ear = Ear::new().await;
    let other = RoomId::random();
    let entry = message_entry(other, 1, 1, message(user(), "a", "x"));
    let hint = frame::seal(&Frame::Entries([entry].into()), ear.speaker, ear.log);
    let channel = ear.receiver.channels.room(other);
    assert_eq!(ear.receiver.judge(channel.as_bytes(), &hint), Err(Ignored::Unfollowed));
    let _hints = ear.hub.subscribe(other);
    assert_eq!(ear.receiver.judge(channel.as_bytes(), &hint), Err(Ignored::Unfollowed));
}

#[tokio::test]
async fn a_replica_is_known_by_its_signs_until_it_says_goodbye() {
    let ear = Ear::new().await;
    let later = Instant::now() + Duration::from_secs(10);
    for (sign, kind, missing) in [(Frame::Beat, "beat", true), (Frame::Bye, "bye", false), (Frame::Look, "look", true)]
    {
        assert_eq!(ear.hear_sign(&frame::common(&sign, ear.speaker)), Ok(kind));
        assert_eq!(ear.receiver.peers.missing(later), missing);
    }
}

#[tokio::test]
async fn the_outlet_never_waits_and_holds_on_to_nothing_large() {
    let ear = Ear::new().await;
    let config = RedisConfig { queue_max: 2, hint_bytes_max: 1_000, ..RedisConfig::default() };
    let (outlet, mut inbox) = Outlet::new(&config);
    outlet.written(ear.room, ear.log, &ear.batch(1));
    assert!(inbox.queue.try_recv().is_err() && !outlet.take_dropped(), "nothing is taken before there is a connection");
    outlet.set_open(true);
    let large = message_entry(ear.room, 2, 2, message(user(), "large", &"x".repeat(1_000)));
    let weak = Arc::downgrade(&large);
    outlet.written(ear.room, ear.log, &[large].into());
    assert!(weak.upgrade().is_none(), "of a large one only the seq is told");
    for seq in 3..6 {
        outlet.written(ear.room, ear.log, &ear.batch(seq));
    }
    assert!(outlet.take_dropped() && !outlet.take_dropped());
    let kinds: Vec<_> = std::iter::from_fn(|| inbox.queue.try_recv().ok()).map(|hint| hint.kind()).collect();
    assert_eq!(kinds, ["head", "entries"]);
}

#[tokio::test]
async fn a_bad_url_or_file_is_refused_at_once_and_never_shown() {
    let ear = Ear::new().await;
    let refused = |url: &str, ca: &str| {
        let mut mesh = MeshConfig { redis_url: url.into(), ..MeshConfig::default() };
        mesh.redis.ca_file = ca.into();
        let (_, inbox) = Outlet::new(&mesh.redis);
        match Relay::new(&mesh, inbox, &ear.hub, &ear.receiver.looker, &ear.receiver.typists) {
            Ok(_) => None,
            Err(error) => Some(format!("{error} {error:?}")),
        }
    };
    for good in [
        "",
        "redis://host",
        "redis://one:1,redis://two:2",
        "rediss://user:secret@host:1/2",
        "rediss://default:p%40ss@host.example:6379",
        "rediss://:secret@host.example:6380/0",
        "redis://[::1]:6379",
        "redis+unix:///run/redis.sock",
        "redis+sentinel://user:secret@one,two:1/main/2",
        "rediss+sentinel://one/main",
    ] {
        assert_eq!(refused(good, ""), None, "{good}");
    }
    let bad = ["redis://", "redis://:secret@host:port", "redis+sentinel://:secret@one", "redis+sentinel:///secret"];
    for bad in bad {
        let error = refused(bad, "").expect(bad);
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(refused("rediss://host", "/no/such/file").expect("refused").contains("/no/such/file"));
}
