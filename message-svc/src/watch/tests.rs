//! Followers see every entry once and in order: from the store, from hints, and when they missed some of either.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    id::UserId,
    look::Looker,
    room::RoomType,
    store::faulty::Faulty,
    testing::{message, message_entry, new_room, rooms_with, sqlite, sqlite_in, until, user},
};

const PACE: Pace = Pace { entries_max: 500, bytes_max: 1 << 20, patience: Duration::from_secs(60) };

async fn room(store: &Arc<dyn Store>) -> (RoomId, UserId, Cursor) {
    let owner = user();
    let room = new_room(RoomType::Public, "room", owner);
    store.create_room(&room).await.expect("made");
    (room.meta.id, owner, Cursor { log: room.meta.log, seq: 0 })
}

/// Follows until this seq, and checks that every entry comes once and in order.
async fn follow(watch: &mut Watch, from: Seq, to: Seq) {
    let mut next = from;
    while next <= to {
        let Step::Entries(entries, _) = watch.next().await.expect("follows") else { continue };
        assert!(entries.len() <= 500);
        for entry in entries {
            assert_eq!(entry.seq, next);
            next += 1;
        }
    }
    assert_eq!(next, to + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_missed_entries_are_caught_up_while_more_are_written() {
    let (store, _folder) = sqlite().await;
    let (id, owner, start) = room(&store).await;
    for page in 0..10 {
        let batch: Vec<_> = (1..=500)
            .map(|n| message_entry(id, page * 500 + n, page * 500 + n, message(owner, &format!("{page}.{n}"), "x")))
            .collect();
        store.append(batch.into()).await.expect("written");
    }
    let hub = Hub::new(16);
    let rooms = rooms_with(&store, &hub, &crate::config::RoomsConfig::default());
    let writing = tokio::spawn(async move {
        for n in 0..200 {
            rooms.send(id, message(owner, &n.to_string(), "x")).await.expect("sent");
        }
    });
    let followers = [0, 17, 4_999, 5_000].map(|seq| {
        let mut watch = Watch::new(Arc::clone(&store), &hub, id, PACE);
        watch.start_after(Cursor { seq, ..start });
        tokio::spawn(async move { follow(&mut watch, seq + 1, 5_200).await })
    });
    for follower in followers {
        follower.await.expect("follows");
    }
    writing.await.expect("writes");
    assert_eq!(hub.watched(), 0, "who leaves leaves nothing behind");
}

#[tokio::test]
async fn a_follower_that_lags_reads_what_it_missed() {
    let (store, _folder) = sqlite().await;
    let (id, owner, start) = room(&store).await;
    let hub = Hub::new(2);
    let rooms = rooms_with(&store, &hub, &crate::config::RoomsConfig::default());
    let mut watch = Watch::new(Arc::clone(&store), &hub, id, PACE);
    watch.start_after(start);
    for n in 0..20 {
        rooms.send(id, message(owner, &n.to_string(), "x")).await.expect("sent");
        if n == 3 {
            follow(&mut watch, 1, 4).await;
        }
    }
    follow(&mut watch, 5, 20).await;
}

#[tokio::test]
async fn what_another_process_writes_is_found_without_a_hint() {
    let (store, folder) = sqlite().await;
    let (id, owner, start) = room(&store).await;
    let (hub, shutdown) = (Hub::new(16), CancellationToken::new());
    let looker = Looker::new(Arc::clone(&hub), Arc::clone(&store), Duration::from_millis(10));
    let looking = tokio::spawn(looker.run(shutdown.clone()));
    let mut watch = Watch::new(Arc::clone(&store), &hub, id, PACE);
    watch.start_after(start);
    let here = rooms_with(&store, &hub, &crate::config::RoomsConfig::default());
    let there = rooms_with(&sqlite_in(&folder).await, &Hub::new(16), &crate::config::RoomsConfig::default());
    for n in 0..30 {
        let rooms = if n % 3 == 0 { &here } else { &there };
        rooms.send(id, message(owner, &n.to_string(), "x")).await.expect("sent");
        follow(&mut watch, n + 1, n + 1).await;
    }
    shutdown.cancel();
    looking.await.expect("ends");
}

#[tokio::test]
async fn a_follower_waits_for_a_store_that_is_away() {
    let (store, _folder) = sqlite().await;
    let (id, owner, start) = room(&store).await;
    let faulty = Faulty::new(Arc::clone(&store));
    let hub = Hub::new(16);
    store.append([message_entry(id, 1, 1, message(owner, "a", "x"))].into()).await.expect("written");
    faulty.set_away(true);
    let mut watch = Watch::new(Arc::clone(&faulty) as Arc<dyn Store>, &hub, id, PACE);
    watch.start_after(start);
    let following = tokio::spawn(async move { follow(&mut watch, 1, 1).await });
    until("it follows", async || hub.watched() == 1).await;
    faulty.set_away(false);
    following.await.expect("follows");

    faulty.set_away(true);
    let pace = Pace { patience: Duration::ZERO, ..PACE };
    let mut watch = Watch::new(faulty, &hub, id, pace);
    watch.start_after(start);
    assert!(matches!(watch.next().await, Err(Error::Store(_))), "but not for ever");
}
