//! Joins against a room log in memory, with its faults: whatever happens, each socket hears every entry once, in order.
//! `tests/wire.rs` has the connections themselves.

use std::{sync::Arc, time::Duration};

use mesh::error::Reason;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    events::{self, Reply},
    fake::{FakeLink, FakeMesh, session},
    hub::Hub,
    join,
    meter::Closed,
    session::Session,
};

mod protocol;
mod ring;
mod sending;
mod wire;

/// A running hub.
struct Bench {
    mesh: FakeMesh,
    hub: Arc<Hub>,
    _end: tokio_util::sync::DropGuard,
}

impl Bench {
    async fn start() -> Self {
        Self::with(FakeMesh::start().await)
    }

    fn with(mesh: FakeMesh) -> Self {
        let (hub, end) = (mesh.hub(), CancellationToken::new());
        tokio::spawn(Arc::clone(&hub.feeds).run(end.clone()));
        tokio::spawn(Arc::clone(&hub).follow_revocations(end.clone()));
        tokio::spawn(Arc::clone(&hub).follow_ages(end.clone()));
        Self { mesh, hub, _end: end.drop_guard() }
    }

    async fn join(&self, session: &Arc<Session>, room: Uuid, cursor: Option<&str>) -> Result<(), Reason> {
        let result = join::join(&self.hub, session, room, cursor.map(str::to_owned), &Reply::Ack(Some(7))).await;
        result.map_err(|refusal| refusal.reason)
    }
}

/// Polls until it is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// What a client makes of what it gets: every entry must be the one that follows.
#[derive(Debug, Default)]
struct Reader {
    /// The last entry known; none before the first ack.
    seq: Option<i64>,
    cursor: String,
    live: bool,
    acks: Vec<Value>,
    entries: usize,
}

impl Reader {
    fn read(&mut self, link: &FakeLink) {
        for frame in link.take() {
            if let Some(ack) = frame.strip_prefix("37") {
                let ack: Value = serde_json::from_str::<Value>(ack).expect("JSON")[0].take();
                self.ack(ack);
            } else if let Some(event) = frame.strip_prefix('2') {
                let event: Value = serde_json::from_str(event).expect("JSON");
                if event[1]["seq"].is_i64() {
                    assert!(self.live, "an entry before the ack: {event}");
                    self.entry(&event[1]);
                }
            }
        }
    }

    fn ack(&mut self, ack: Value) {
        assert_eq!(ack["success"], true, "{ack}");
        if ack["recovered"] == true {
            let missed = ack["missed"].as_array().expect("missed");
            assert!(missed.len() <= 500);
            missed.iter().for_each(|missed| self.entry(&missed["data"]));
        } else {
            self.seq = None;
        }
        self.cursor = ack["cursor"].as_str().expect("a cursor").to_owned();
        self.live = ack["more"] == false;
        if self.live {
            let seq = ack["room"]["lastSeq"].as_i64().expect("the seq of the cursor");
            assert!(self.seq.is_none_or(|known| known == seq), "the ack's cursor is where its entries end: {ack}");
            self.seq = Some(seq);
        }
        self.acks.push(ack);
    }

    fn entry(&mut self, data: &Value) {
        let seq = data["seq"].as_i64().expect("a seq");
        assert_eq!(seq, self.seq.map_or(seq, |last| last + 1), "a hole, or a repetition");
        self.seq = Some(seq);
        self.cursor = data["cursor"].as_str().expect("a cursor").to_owned();
        self.entries += 1;
    }

    async fn reads_to(&mut self, link: &FakeLink, seq: i64) {
        for _ in 0..3_000 {
            self.read(link);
            if self.seq == Some(seq) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("stands at {:?} and not at {seq}", self.seq);
    }
}

#[tokio::test]
async fn without_a_cursor_the_newest_page_comes_and_then_what_follows() {
    let bench = Bench::start().await;
    let (room, messages) = (Uuid::new_v4(), &bench.mesh.messages);
    messages.write_all(room, 0..60);
    let (session, link) = session(FakeLink::new(256));
    bench.join(&session, room, None).await.expect("joined");
    let mut reader = Reader::default();
    reader.read(&link);
    let ack = reader.acks.pop().expect("an ack");
    let contents: Vec<_> = ack["messages"].as_array().expect("page").iter().map(|m| m["content"].clone()).collect();
    assert_eq!(contents, (10..60).map(|number| Value::from(number.to_string())).collect::<Vec<_>>());
    assert_eq!(
        (&ack["recovered"], &ack["more"], &ack["missed"]),
        (&false.into(), &false.into(), &Value::Array(vec![]))
    );
    assert_eq!(reader.seq, Some(61), "the user's own joining is before the cursor");
    reader.reads_to(&link, messages.write(room, "live")).await;
}

#[tokio::test]
async fn with_a_cursor_everything_missed_comes_in_pages_and_then_what_follows() {
    let bench = Bench::start().await;
    let (room, messages) = (Uuid::new_v4(), &bench.mesh.messages);
    let (session, link) = session(FakeLink::new(4_096));
    bench.join(&session, room, None).await.expect("joined");
    let mut reader = Reader::default();
    reader.read(&link);
    let (cursor, first) = (reader.cursor.clone(), reader.seq);
    messages.write_all(room, 0..1_234);
    reader.reads_to(&link, 1_235).await;
    // The same socket again, from its first cursor: not live until the last page.
    let mut again = Reader { seq: first, cursor, ..Reader::default() };
    while !again.live {
        bench.join(&session, room, Some(&again.cursor)).await.expect("joined");
        again.read(&link);
    }
    let sizes: Vec<_> = again.acks.iter().map(|ack| ack["missed"].as_array().expect("missed").len()).collect();
    assert_eq!(sizes, [500, 500, 234]);
    again.reads_to(&link, messages.write(room, "live")).await;
}

#[tokio::test]
async fn a_cursor_that_proves_nothing_gives_the_newest_page_and_one_that_is_none_is_refused() {
    let bench = Bench::start().await;
    let room = Uuid::new_v4();
    bench.mesh.messages.write(room, "a");
    let (session, link) = session(FakeLink::new(256));
    for lost in ["1:1", "0:99"] {
        bench.join(&session, room, Some(lost)).await.expect("joined");
        let mut reader = Reader::default();
        reader.read(&link);
        assert_eq!(reader.acks[0]["recovered"], false, "{lost}");
        assert_eq!(reader.acks[0]["messages"].as_array().map(Vec::len), Some(1));
    }
    assert_eq!(bench.join(&session, room, Some("garbage")).await, Err(Reason::ValidationFailed));
    // The refusal took nothing away: the socket is as live as it was.
    let mut reader = Reader { seq: Some(2), live: true, ..Reader::default() };
    reader.reads_to(&link, bench.mesh.messages.write(room, "live")).await;
}

#[tokio::test]
async fn a_log_that_grows_while_it_is_read_leaves_no_gap() {
    let bench = Bench::start().await;
    let (room, messages) = (Uuid::new_v4(), &bench.mesh.messages);
    messages.write(room, "a");
    for cursor in [Some("0:0"), None] {
        messages.write_on_read(3);
        let (session, link) = session(FakeLink::new(4_096));
        bench.join(&session, room, cursor).await.expect("joined");
        messages.write_on_read(0);
        let mut reader = Reader { seq: cursor.map(|_| 0), ..Reader::default() };
        reader.reads_to(&link, messages.write(room, "live")).await;
        assert!(reader.live);
    }
}

#[tokio::test]
async fn while_a_live_socket_joins_anew_nothing_comes_before_its_ack() {
    let bench = Bench::start().await;
    let (room, messages) = (Uuid::new_v4(), &bench.mesh.messages);
    let (session, link) = session(FakeLink::new(4_096));
    bench.join(&session, room, None).await.expect("joined");
    let mut reader = Reader::default();
    reader.read(&link);
    for _ in 0..20 {
        messages.write_on_read(3);
        bench.join(&session, room, Some(&reader.cursor)).await.expect("joined");
        messages.write_on_read(0);
        // The reader fails at a repetition, which an entry from before the ack would be.
        reader.reads_to(&link, messages.last_seq(room)).await;
    }
    assert_eq!(reader.acks.len(), 21);
}

#[tokio::test]
async fn a_lost_entry_is_fetched_and_a_broken_stream_goes_on_where_it_stood() {
    let bench = Bench::start().await;
    let (room, messages) = (Uuid::new_v4(), &bench.mesh.messages);
    let (session, link) = session(FakeLink::new(4_096));
    bench.join(&session, room, None).await.expect("joined");
    let mut reader = Reader::default();
    messages.lose(2);
    messages.write_all(room, 0..3);
    reader.reads_to(&link, 4).await;
    messages.cut();
    messages.write_all(room, 0..5);
    reader.reads_to(&link, 9).await;
    assert_eq!((reader.entries, messages.subscriptions()), (8, 3));
}

#[tokio::test]
async fn a_restored_log_closes_its_sockets_which_then_learn_that_they_cannot_recover() {
    let bench = Bench::start().await;
    let (room, messages) = (Uuid::new_v4(), &bench.mesh.messages);
    messages.write_all(room, 0..5);
    let (one, link) = session(FakeLink::new(256));
    bench.join(&one, room, None).await.expect("joined");
    let mut reader = Reader::default();
    reader.read(&link);
    messages.restore(room);
    messages.cut();
    until("the socket is closed", || link.is_killed()).await;
    bench.hub.disconnected(&one, Closed::Gap);
    let (two, link) = session(FakeLink::new(256));
    bench.join(&two, room, Some(&reader.cursor)).await.expect("joined");
    let mut again = Reader::default();
    again.read(&link);
    assert_eq!(again.acks[0]["recovered"], false);
    again.reads_to(&link, messages.write(room, "live")).await;
}

#[tokio::test]
async fn one_subscription_serves_all_sockets_and_ends_after_the_last() {
    let mesh = FakeMesh::start_with(|config| config.realtime.linger_ms = 50).await;
    let bench = Bench::with(mesh);
    let room = Uuid::new_v4();
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let (session, link) = session(FakeLink::new(256));
        bench.join(&session, room, None).await.expect("joined");
        sessions.push((session, link));
    }
    assert_eq!((bench.mesh.messages.subscriptions(), bench.mesh.messages.followed()), (1, 1));
    sessions.iter().for_each(|(session, _)| bench.hub.disconnected(session, Closed::Client));
    until("the room is let go", || bench.mesh.messages.followed() == 0).await;
    let (session, link) = session(FakeLink::new(256));
    bench.join(&session, room, None).await.expect("joined again");
    let mut reader = Reader::default();
    reader.reads_to(&link, bench.mesh.messages.write(room, "live")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_and_faults_every_socket_hears_every_entry_once_in_order() {
    let bench = Arc::new(Bench::start().await);
    let room = Uuid::new_v4();
    bench.mesh.messages.write(room, "first");
    let done = CancellationToken::new();
    let writer = tokio::spawn({
        let (bench, done) = (Arc::clone(&bench), done.clone());
        async move {
            let mut count = 0;
            while !done.is_cancelled() {
                bench.mesh.messages.write(room, "x");
                count += 1;
                match count % 400 {
                    100 => bench.mesh.messages.lose(2),
                    300 => bench.mesh.messages.cut(),
                    _ => {}
                }
                if count % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
    });
    let readers: Vec<_> = (0..16)
        .map(|number| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let (session, link) = session(FakeLink::new(100_000));
                let mut reader = Reader::default();
                for round in 0..30 {
                    let cursor = (round > 0 && (round + number) % 5 > 0).then(|| reader.cursor.clone());
                    // What came before the suspension of a join anew is read first, as a client would.
                    reader.read(&link);
                    let cursor = cursor.map(|_| reader.cursor.clone());
                    let before = reader.entries;
                    bench.join(&session, room, cursor.as_deref()).await.expect("joined");
                    read_rejoin(&mut reader, &link);
                    tokio::time::sleep(Duration::from_millis(number % 7)).await;
                    assert!(reader.entries >= before);
                }
                (session, link, reader)
            })
        })
        .collect();
    let mut ends = Vec::new();
    for reader in readers {
        ends.push(reader.await.expect("no hole, no repetition"));
    }
    done.cancel();
    writer.await.expect("writer");
    let last = bench.mesh.messages.last_seq(room);
    for (session, link, mut reader) in ends {
        while !reader.live {
            bench.join(&session, room, Some(&reader.cursor.clone())).await.expect("joined");
            read_rejoin(&mut reader, &link);
        }
        reader.reads_to(&link, last).await;
    }
}

/// Between a client's look at its cursor and the server's turn some entries may still come live; the ack has them again,
/// from the cursor that was asked with. A client passes over what it knows.
fn read_rejoin(reader: &mut Reader, link: &FakeLink) {
    let frames = link.take();
    let place = frames.iter().position(|frame| frame.starts_with("37")).expect("an ack");
    let asked = reader.seq;
    let replay = FakeLink::new(frames.len());
    for frame in &frames[..place] {
        super::session::Link::send(&replay, frame.clone().into()).expect("a place");
    }
    reader.read(&replay);
    reader.seq = asked;
    for frame in &frames[place..] {
        super::session::Link::send(&replay, frame.clone().into()).expect("a place");
    }
    reader.read(&replay);
}

#[tokio::test]
async fn who_is_removed_or_whose_room_is_closed_hears_that_last() {
    let bench = Bench::start().await;
    let (room, messages) = (Uuid::new_v4(), &bench.mesh.messages);
    let (one, one_link) = session(FakeLink::new(256));
    let (two, two_link) = session(FakeLink::new(256));
    for session in [&one, &two] {
        bench.join(session, room, None).await.expect("joined");
    }
    messages.remove(room, one.user_id());
    messages.write(room, "after");
    messages.close(room);
    messages.write(room, "never heard");
    let (mut first, mut second) = (Reader::default(), Reader::default());
    second.reads_to(&two_link, 5).await;
    first.read(&one_link);
    assert_eq!(first.seq, Some(3));
    until("both are out", || one.room(room).is_none() && two.room(room).is_none()).await;
    assert_eq!(bench.join(&two, room, None).await, Err(Reason::RoomNotFound));
}

#[tokio::test]
async fn events_of_one_socket_are_handled_in_the_order_sent() {
    let bench = Bench::start().await;
    let (room, messages) = (Uuid::new_v4(), &bench.mesh.messages);
    let (session, link) = session(FakeLink::new(4_096));
    for number in 0..100 {
        let payload = serde_json::json!({"roomId": room, "content": number.to_string()});
        events::receive(&bench.hub, &session, format!(r#"2{number}["send_message",{payload}]"#).into());
    }
    until("all are sent", || messages.sent().len() == 100).await;
    let contents: Vec<_> = messages.sent().into_iter().map(|sent| sent.content).collect();
    assert_eq!(contents, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(messages.sent().iter().all(|sent| sent.client_message_id.len() == 36), "each can be tried again");
    let mut acks = Vec::new();
    until("all are answered", || {
        acks.extend(link.take());
        acks.len() == 100
    })
    .await;
    assert!(acks.iter().enumerate().all(|(number, ack)| ack.starts_with(&format!("3{number}[{{\"success\":true"))));
}

#[tokio::test]
async fn a_socket_that_goes_while_typing_types_no_more() {
    let bench = Bench::start().await;
    let room = Uuid::new_v4();
    let (session, link) = session(FakeLink::new(16));
    bench.hub.register(&session).expect("in");
    let payload = serde_json::json!({"roomId": room});
    events::receive(&bench.hub, &session, format!(r#"21["typing_start",{payload}]"#).into());
    until("it is answered", || !link.take().is_empty()).await;
    bench.hub.disconnected(&session, Closed::Client);
    let said = [(room.to_string(), true), (room.to_string(), false)];
    until("the stop is passed on", || bench.mesh.messages.typing() == said).await;
}

#[tokio::test]
async fn a_flood_is_refused_with_a_reason_and_bounded() {
    let mesh = FakeMesh::start_with(|config| config.realtime.incoming_max = 3).await;
    let bench = Bench::with(mesh);
    let (session, link) = session(FakeLink::new(256));
    for number in 0..10 {
        events::receive(&bench.hub, &session, format!(r#"2{number}["nope"]"#).into());
    }
    let mut codes = Vec::new();
    until("all are answered", || {
        codes.extend(link.take().into_iter().map(|frame| frame.contains("RATE_LIMITED")));
        codes.len() == 10
    })
    .await;
    assert_eq!(codes.iter().filter(|limited| **limited).count(), 7);
}

#[tokio::test]
async fn sockets_of_one_user_are_bounded_and_a_revoked_session_gets_none() {
    let mesh = FakeMesh::start_with(|config| config.realtime.sockets_per_user_max = 2).await;
    let bench = Bench::with(mesh);
    let user = Uuid::now_v7();
    let sessions: Vec<_> = (0..3).map(|_| super::fake::session_of(user, FakeLink::new(8)).0).collect();
    bench.hub.register(&sessions[0]).expect("the first");
    bench.hub.register(&sessions[1]).expect("the second");
    assert_eq!(bench.hub.register(&sessions[2]).expect_err("the third").reason, Reason::RateLimited);
    bench.hub.disconnected(&sessions[0], Closed::Client);
    bench.hub.register(&sessions[2]).expect("a place was given back");
    let (late, _link) = session(FakeLink::new(8));
    bench.mesh.edge.identity.revoke(late.session_id, 1, mesh::time::Millis(i64::MAX));
    assert_eq!(bench.hub.register(&late).expect_err("revoked").reason, Reason::TokenRevoked);
    assert_eq!(bench.hub.sockets().len(), 2);
}

#[tokio::test]
async fn a_revoked_session_is_told_and_its_sockets_closed_and_no_others() {
    let bench = Bench::start().await;
    let (one, one_link) = session(FakeLink::new(8));
    let (two, two_link) = session(FakeLink::new(8));
    bench.hub.register(&one).expect("in");
    bench.hub.register(&two).expect("in");
    tokio::task::yield_now().await;
    bench.mesh.edge.identity.revoke(one.session_id, 1, mesh::time::Millis(i64::MAX));
    until("it is told", || one_link.is_finished()).await;
    assert_eq!(
        one_link.take(),
        [r#"2["session_ended",{"code":"TOKEN_REVOKED","message":"The session has ended"}]"#, "1"]
    );
    assert!(!two_link.is_finished() && two_link.take().is_empty());
}

#[tokio::test]
async fn a_session_that_ends_by_age_is_told_and_its_sockets_closed_and_one_that_was_refreshed_stays() {
    let bench = Bench::start().await;
    let (over, over_link) = session(FakeLink::new(8));
    let (refreshed, refreshed_link) = session(FakeLink::new(8));
    let now = mesh::time::Millis::now();
    let later = now.plus(Duration::from_hours(1));
    bench.mesh.auth.live_until(refreshed.session_id, later);
    for socket in [&over, &refreshed] {
        socket.set_ends_at(now);
        bench.hub.register(socket).expect("in");
    }
    until("it is told", || over_link.is_finished()).await;
    assert_eq!(
        over_link.take(),
        [r#"2["session_ended",{"code":"TOKEN_EXPIRED","message":"The session has ended"}]"#, "1"]
    );
    until("the other one has been asked about", || refreshed.ends_at() == later).await;
    assert!(!refreshed_link.is_finished() && refreshed_link.take().is_empty());
}
