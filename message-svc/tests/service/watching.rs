//! Following rooms over gRPC: what comes, in which order, and when it ends.

use std::collections::HashMap;

use mesh::{
    error::{Reason, Refusal},
    proto::message::v1::{
        entry::Event,
        watch_rooms_request::{Action, Subscribe, Unsubscribe},
        watch_rooms_response::Event as Followed,
        *,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use crate::world::{Person, World, answer, fields, reason, soon};

async fn watch(person: &Person, room: &str, cursor: &str) -> Result<Streaming<WatchRoomResponse>, Refusal> {
    let message = WatchRoomRequest { room_id: room.into(), cursor: cursor.into() };
    answer(person.client().watch_room(person.request(message)).await)
}

/// The next entry, or none at the end.
async fn next(stream: &mut Streaming<WatchRoomResponse>) -> Option<(Entry, String)> {
    let response = soon("an entry", stream.message()).await.expect("follows")?;
    Some((response.entry.expect("an entry"), response.cursor))
}

async fn cursor(person: &Person, room: &str) -> String {
    let message = ListEntriesRequest { room_id: room.into(), ..Default::default() };
    answer(person.client().list_entries(person.request(message)).await).expect("read").cursor
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_what_was_missed_and_then_what_comes() {
    let world = World::start().await;
    let ada = world.person("ada");
    let room = ada.create("Room", RoomType::Public).await;
    let start = cursor(&ada, &room).await;
    for n in 1..=3 {
        ada.send(&room, &n.to_string()).await.expect("sent");
    }
    let mut all = watch(&ada, &room, &start).await.expect("follows");
    let mut live = watch(&ada, &room, "").await.expect("follows");
    ada.send(&room, "4").await.expect("sent");
    let mut cursors = Vec::new();
    for seq in 1..=4 {
        let (entry, cursor) = next(&mut all).await.expect("goes on");
        assert_eq!(entry.seq, seq);
        let Some(Event::Message(message)) = entry.event else { panic!("a message") };
        assert_eq!((message.content, message.username), (seq.to_string(), "ada".to_owned()));
        cursors.push(cursor);
    }
    assert_eq!(next(&mut live).await.expect("goes on").0.seq, 4);
    let mut resumed = watch(&ada, &room, &cursors[1]).await.expect("follows");
    assert_eq!(next(&mut resumed).await.expect("goes on").0.seq, 3);

    assert_eq!(fields(watch(&ada, &room, "garbage").await), ["cursor"]);
    let other = ada.create("Other", RoomType::Public).await;
    assert_eq!(reason(watch(&ada, &other, &cursors[3]).await), Reason::CursorLost);
    assert_eq!(reason(watch(&world.person("bob"), &room, "").await), Reason::NotAMember);
    assert_eq!(reason(watch(&ada, &uuid::Uuid::new_v4().to_string(), "").await), Reason::RoomNotFound);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_after_the_entry_that_removes_its_reader_or_closes_the_room() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada"), world.person("bob"));
    let room = ada.create("Room", RoomType::Public).await;
    let start = cursor(&ada, &room).await;
    bob.join(&room).await.expect("joined");
    ada.remove(&room, &bob.id).await.expect("removed");
    bob.join(&room).await.expect("joined again");
    // An old removal was made good since: it does not end the stream.
    let mut bobs = watch(&bob, &room, &start).await.expect("follows");
    let mut adas = watch(&ada, &room, &start).await.expect("follows");
    ada.send(&room, "x").await.expect("sent");
    ada.remove(&room, &bob.id).await.expect("removed");
    ada.send(&room, "y").await.expect("sent");
    for seq in 1..=5 {
        assert_eq!(next(&mut bobs).await.expect("goes on").0.seq, seq);
    }
    assert!(next(&mut bobs).await.is_none(), "and that was the last");

    let delete = DeleteRoomRequest { room_id: room.clone() };
    answer(ada.client().delete_room(ada.request(delete)).await).expect("closed");
    for seq in 1..=7 {
        assert_eq!(next(&mut adas).await.expect("goes on").0.seq, seq);
    }
    assert!(next(&mut adas).await.is_none());
    world.stop().await;
}

/// A gateway's stream of many rooms.
struct Many {
    wants: mpsc::UnboundedSender<WatchRoomsRequest>,
    responses: Streaming<WatchRoomsResponse>,
}

impl Many {
    async fn open(world: &World) -> Self {
        let (wants, wanted) = mpsc::unbounded_channel();
        let (mut client, request) = world.gateway(UnboundedReceiverStream::new(wanted));
        let responses = answer(client.watch_rooms(request).await).expect("follows");
        Self { wants, responses }
    }

    fn subscribe(&self, room: &str, cursor: &str) {
        let subscribe = Subscribe { room_id: room.into(), cursor: cursor.into() };
        self.wants.send(WatchRoomsRequest { action: Some(Action::Subscribe(subscribe)) }).expect("open");
    }

    fn unsubscribe(&self, room: &str) {
        let unsubscribe = Unsubscribe { room_id: room.into() };
        self.wants.send(WatchRoomsRequest { action: Some(Action::Unsubscribe(unsubscribe)) }).expect("open");
    }

    async fn next(&mut self) -> (String, Followed) {
        let response = soon("a response", self.responses.message()).await.expect("follows").expect("goes on");
        (response.room_id, response.event.expect("an event"))
    }

    async fn next_dropped(&mut self) -> (String, String) {
        match self.next().await {
            (room, Followed::Dropped(dropped)) => (room, dropped.reason),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_follows_many_rooms_each_in_its_order() {
    let world = World::start().await;
    let ada = world.person("ada");
    let mut many = Many::open(&world).await;
    let mut rooms = HashMap::new();
    for n in 0..4 {
        let room = ada.create(&n.to_string(), RoomType::Private).await;
        ada.send(&room, "missed").await.expect("sent");
        many.subscribe(&room, "");
        // Repeated, it does nothing.
        many.subscribe(&room, "");
        let (of, event) = many.next().await;
        let Followed::Subscribed(subscribed) = event else { panic!("{event:?}") };
        assert_eq!((of, subscribed.seq), (room.clone(), 1));
        rooms.insert(room, 1);
    }
    let all: Vec<_> = rooms.keys().cloned().collect();
    for n in 0..10 {
        for room in &all {
            ada.send(room, &n.to_string()).await.expect("sent");
        }
    }
    let mut left = 40;
    while left > 0 {
        let (of, event) = many.next().await;
        let last = rooms.get_mut(&of).expect("is followed");
        for (seq, _) in logged(event) {
            *last += 1;
            assert_eq!(seq, *last);
            left -= 1;
        }
    }
    world.stop().await;
}

/// The seqs of entries, each with the cursor after it.
fn logged(event: Followed) -> Vec<(i64, String)> {
    let Followed::Entries(logged) = event else { panic!("{event:?}") };
    logged.entries.into_iter().map(|logged| (logged.entry.expect("an entry").seq, logged.cursor)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_told_what_it_cannot_follow_and_may_end_and_resume() {
    let world = World::start().await;
    let ada = world.person("ada");
    let mut many = Many::open(&world).await;
    let nowhere = uuid::Uuid::new_v4().to_string();
    many.subscribe(&nowhere, "");
    assert_eq!(many.next_dropped().await, (nowhere, "ROOM_NOT_FOUND".into()));
    many.subscribe("nonsense", "");
    assert_eq!(many.next_dropped().await, ("nonsense".into(), "VALIDATION_FAILED".into()));
    let (room, other) = (ada.create("a", RoomType::Public).await, ada.create("b", RoomType::Public).await);
    many.subscribe(&room, &cursor(&ada, &other).await);
    assert_eq!(many.next_dropped().await, (room.clone(), "CURSOR_LOST".into()));

    let start = cursor(&ada, &room).await;
    many.subscribe(&room, &start);
    assert!(matches!(many.next().await.1, Followed::Subscribed(_)));
    many.unsubscribe(&room);
    many.subscribe(&other, "");
    assert_eq!(many.next().await.0, other, "it has been unsubscribed when this is answered");
    ada.send(&room, "unseen").await.expect("sent");
    ada.send(&other, "seen").await.expect("sent");
    assert_eq!(many.next().await.0, other);
    let delete = DeleteRoomRequest { room_id: room.clone() };
    answer(ada.client().delete_room(ada.request(delete)).await).expect("closed");
    // Who has not seen the end of a closed room yet may still see it; who has, not.
    many.subscribe(&room, &start);
    assert!(matches!(many.next().await.1, Followed::Subscribed(_)));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(logged(many.next().await.1));
    }
    assert_eq!(seen.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2]);
    let last = seen.remove(1).1;
    many.unsubscribe(&room);
    many.subscribe(&room, &last);
    assert_eq!(many.next_dropped().await, (room, "ROOM_NOT_FOUND".into()));

    for n in 0..8 {
        many.subscribe(&ada.create(&n.to_string(), RoomType::Public).await, "");
    }
    let mut refused = 0;
    for _ in 0..8 {
        refused += usize::from(matches!(many.next().await.1, Followed::Dropped(_)));
    }
    assert_eq!(refused, 1, "eight rooms are the limit here, and one was followed before");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rooms_are_for_gateways_only() {
    let world = World::start().await;
    let ada = world.person("ada");
    let wanted = tokio_stream::iter([WatchRoomsRequest::default()]);
    let mut request = tonic::Request::new(wanted);
    let bearer = ada.request(()).metadata().get("authorization").expect("a bearer").clone();
    request.metadata_mut().insert("authorization", bearer);
    assert_eq!(reason(answer(ada.client().watch_rooms(request).await)), Reason::Forbidden);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_types_is_told_and_ends_by_itself() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada"), world.person("bob"));
    let room = ada.create("Room", RoomType::Public).await;
    let mut many = Many::open(&world).await;
    many.subscribe(&room, "");
    assert!(matches!(many.next().await.1, Followed::Subscribed(_)));
    let typing = |typing| SetTypingRequest { room_id: room.clone(), typing };
    assert_eq!(reason(answer(bob.client().set_typing(bob.request(typing(true))).await)), Reason::NotAMember);
    answer(ada.client().set_typing(ada.request(typing(true))).await).expect("told");
    for expected in [true, false] {
        let (_, event) = many.next().await;
        let Followed::Typing(who) = event else { panic!("{event:?}") };
        assert_eq!((who.user_id, who.username, who.typing), (ada.id.clone(), "ada".to_owned(), expected));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_streams_with_a_reason_and_keeps_what_was_sent() {
    let world = World::start().await;
    let ada = world.person("ada");
    let room = ada.create("Room", RoomType::Public).await;
    let mut stream = watch(&ada, &room, "").await.expect("follows");
    ada.send(&room, "x").await.expect("sent");
    assert!(next(&mut stream).await.is_some());
    world.stop().await;
    let status = soon("the end", stream.message()).await.expect_err("a reason");
    assert_eq!(Refusal::from_status(&status).reason, Reason::Unavailable);
}
