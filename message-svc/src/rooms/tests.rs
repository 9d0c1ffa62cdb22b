//! The writers under load, under faults and against one another: what was answered is in the log once and in order,
//! and what was refused is not.

use std::collections::HashMap;

use futures::{FutureExt as _, future::join_all};
use tempfile::TempDir;

use super::*;
use crate::{
    entry::{Entry, Event, MembersChanged},
    message::ClientMessageId,
    room::RoomType,
    store::faulty::{Fault, Faulty},
    testing::{message, new_room, rooms, rooms_with, sqlite, sqlite_in, until, user, whole_log},
};

async fn room(store: &Arc<dyn Store>, room_type: RoomType, owner: UserId) -> RoomId {
    let room = new_room(room_type, "room", owner);
    store.create_room(&room).await.expect("made");
    room.meta.id
}

async fn with_members(store: &Arc<dyn Store>, room_type: RoomType, owner: UserId, members: &[UserId]) -> RoomId {
    let id = room(store, room_type, owner).await;
    let rooms = rooms(store);
    join_all(members.iter().map(|user| rooms.change(id, Change::Add { by: owner, user: *user })))
        .await
        .into_iter()
        .for_each(|added| drop(added.expect("added")));
    rooms.stop().await;
    id
}

/// The writers of two processes on one database.
async fn two_writers() -> (Arc<Rooms>, Arc<Rooms>, Arc<dyn Store>, TempDir) {
    let (store, folder) = sqlite().await;
    let other = sqlite_in(&folder).await;
    (rooms(&store), rooms(&other), store, folder)
}

/// That every answer is what the log has.
fn check_answers(log: &[Arc<Entry>], sent: &[Sent]) {
    for sent in sent {
        let seq = usize::try_from(sent.entry.seq).expect("positive");
        assert_eq!(log[seq - 1], sent.entry, "an answered message is not in the log");
        assert_eq!(sent.cursor.seq, sent.entry.seq);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_senders_get_one_dense_order_and_every_message_once() {
    let (store, _folder) = sqlite().await;
    let senders: Vec<_> = (0..64).map(|_| user()).collect();
    let id = with_members(&store, RoomType::Private, senders[0], &senders[1..]).await;
    let rooms = rooms(&store);
    let tasks = senders.into_iter().map(|sender| {
        let rooms = Arc::clone(&rooms);
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for n in 0..40 {
                sent.push(rooms.send(id, message(sender, &n.to_string(), "x")).await.expect("sent"));
            }
            assert!(sent.windows(2).all(|pair| pair[0].entry.seq < pair[1].entry.seq), "one sender's order is kept");
            sent
        })
    });
    let sent: Vec<_> = join_all(tasks).await.into_iter().flat_map(|sent| sent.expect("no panic")).collect();
    let log = whole_log(&*store, id).await;
    assert_eq!(log.iter().filter(|entry| entry.message().is_some()).count(), 64 * 40);
    check_answers(&log, &sent);
    assert!(sent.iter().all(|sent| !sent.replayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_write_one_room_keep_one_order_and_every_message_once() {
    let (one, two, store, _folder) = two_writers().await;
    let senders: Vec<_> = (0..16).map(|_| user()).collect();
    let id = with_members(&store, RoomType::Private, senders[0], &senders[1..]).await;
    // Every message goes to both at once, as when a gateway tries again elsewhere.
    let tasks = senders.into_iter().map(|sender| {
        let (one, two) = (Arc::clone(&one), Arc::clone(&two));
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for n in 0..20 {
                let client_id = n.to_string();
                let tries = tokio::join!(
                    one.send(id, message(sender, &client_id, "to one")),
                    two.send(id, message(sender, &client_id, "to two")),
                );
                let (first, second) = (tries.0.expect("sent"), tries.1.expect("sent"));
                assert_eq!(first.entry, second.entry, "both tries get the same answer");
                assert_ne!(first.replayed, second.replayed, "and one of them is the first");
                sent.push(first);
            }
            sent
        })
    });
    let sent: Vec<_> = join_all(tasks).await.into_iter().flat_map(|sent| sent.expect("no panic")).collect();
    let log = whole_log(&*store, id).await;
    assert_eq!(log.iter().filter(|entry| entry.message().is_some()).count(), 16 * 20);
    check_answers(&log, &sent);
}

#[tokio::test]
async fn what_another_process_changed_counts_at_once() {
    let (one, two, store, _folder) = two_writers().await;
    let (owner, guest) = (user(), user());
    let id = room(&store, RoomType::Public, owner).await;
    // The second remembers the room without the guest.
    two.send(id, message(owner, "1", "x")).await.expect("sent");
    assert!(matches!(two.send(id, message(guest, "1", "x")).await, Err(Error::NotAMember)));
    one.change(id, Change::Join(guest)).await.expect("joined");
    two.send(id, message(guest, "1", "x")).await.expect("is a member now");
    one.change(id, Change::Remove { by: owner, user: guest }).await.expect("removed");
    let joined = two.change(id, Change::Join(guest)).await.expect("joins again");
    assert!(joined.cursor.seq > 4, "a join is not answered from what was remembered");
    one.change(id, Change::Remove { by: owner, user: guest }).await.expect("removed");
    assert!(matches!(two.send(id, message(guest, "2", "x")).await, Err(Error::NotAMember)));
    one.change(id, Change::Close(owner)).await.expect("closed");
    assert!(matches!(two.send(id, message(owner, "2", "x")).await, Err(Error::RoomNotFound)));
}

#[tokio::test]
async fn a_retried_send_returns_the_first_answer_also_when_its_content_differs() {
    let (store, _folder) = sqlite().await;
    let owner = user();
    let id = room(&store, RoomType::Public, owner).await;
    let first = rooms(&store).send(id, message(owner, "a", "first")).await.expect("sent");
    // Another life of the process: nothing is remembered.
    let rooms = rooms(&store);
    let again = rooms.send(id, message(owner, "a", "second")).await.expect("answered");
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.entry, first.entry);
    assert_eq!(again.cursor, first.cursor);
    let both = join_all([
        rooms.send(id, message(owner, "b", "x")),
        rooms.send(id, message(owner, "b", "y")),
        rooms.send(id, message(owner, "a", "z")),
    ])
    .await;
    let both: Vec<_> = both.into_iter().map(|sent| sent.expect("answered")).collect();
    assert_eq!(both.iter().map(|sent| sent.replayed).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(both[0].entry, both[1].entry);
    assert_eq!(both[2].entry, first.entry);
    assert_eq!(whole_log(&*store, id).await.len(), 2);
}

#[tokio::test]
async fn an_acknowledged_send_is_answered_again_as_long_as_its_sender_sees_the_room() {
    let (store, _folder) = sqlite().await;
    let (owner, guest) = (user(), user());
    for (room_type, seen) in [(RoomType::Public, true), (RoomType::Private, false)] {
        let id = with_members(&store, room_type, owner, &[guest]).await;
        let rooms = rooms(&store);
        let first = rooms.send(id, message(guest, "a", "x")).await.expect("sent");
        rooms.change(id, Change::Remove { by: owner, user: guest }).await.expect("removed");
        match rooms.send(id, message(guest, "a", "x")).await {
            Ok(again) => assert!(seen && again.replayed && again.entry == first.entry),
            Err(error) => assert!(!seen && matches!(error, Error::RoomNotFound)),
        }
        assert!(rooms.send(id, message(guest, "b", "x")).await.is_err());
    }
}

#[tokio::test]
async fn joins_that_wait_together_share_entries_of_a_hundred() {
    let (store, _folder) = sqlite().await;
    let owner = user();
    let id = room(&store, RoomType::Public, owner).await;
    let rooms = rooms(&store);
    let guests: Vec<_> = (0..250).map(|_| user()).collect();
    let joined = join_all(guests.iter().map(|guest| rooms.change(id, Change::Join(*guest)))).await;
    for (n, joined) in joined.into_iter().enumerate() {
        assert!(joined.expect("joined").room.member_count >= 2 + i64::try_from(n).expect("small"));
    }
    let log = whole_log(&*store, id).await;
    let people = |entry: &Arc<Entry>| match &entry.event {
        Event::Members(change) => change.joined.len(),
        Event::Message(_) | Event::Updated(_) | Event::Closed(_) => 0,
    };
    assert_eq!(log.iter().map(people).collect::<Vec<_>>(), [100, 100, 50]);
    let members = store.members(id, None, 1000).await.expect("reads");
    assert_eq!(members[1..].iter().map(|member| member.user).collect::<Vec<_>>(), guests);
}

#[tokio::test]
async fn a_join_that_comes_after_a_leave_is_told_after_it() {
    let (store, _folder) = sqlite().await;
    let (owner, one, two) = (user(), user(), user());
    let id = room(&store, RoomType::Public, owner).await;
    let rooms = rooms(&store);
    let waiting = [
        rooms.change(id, Change::Join(one)),
        rooms.change(id, Change::Leave(one)),
        rooms.change(id, Change::Join(two)),
        rooms.change(id, Change::Join(one)),
    ];
    assert!(join_all(waiting).await.iter().all(Result::is_ok));
    let change = |change: MembersChanged| Event::Members(change);
    let expected = [
        change(MembersChanged { joined: vec![one], member_count: 2, ..Default::default() }),
        change(MembersChanged { left: vec![one], member_count: 1, ..Default::default() }),
        change(MembersChanged { joined: vec![two, one], member_count: 3, ..Default::default() }),
    ];
    let log = whole_log(&*store, id).await;
    assert_eq!(log.iter().map(|entry| &entry.event).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_removed_member_comes_after_their_removal() {
    let (one, two, store, _folder) = two_writers().await;
    let (owner, guest) = (user(), user());
    let id = with_members(&store, RoomType::Private, owner, &[guest]).await;
    let sending = join_all([one, Arc::clone(&two)].into_iter().enumerate().map(|(who, rooms)| {
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for n in 0.. {
                match rooms.send(id, message(guest, &format!("{who}-{n}"), "x")).await {
                    Ok(done) => sent.push(done),
                    Err(error) => {
                        assert!(matches!(error, Error::RoomNotFound), "{error:?}");
                        break;
                    }
                }
            }
            assert!(rooms.send(id, message(guest, "after", "x")).await.is_err());
            sent
        })
    }));
    let removing = async {
        until("some were sent", async || store.view(id, None).await.expect("reads").expect("room").last_seq > 50).await;
        two.change(id, Change::Remove { by: owner, user: guest }).await.expect("removed")
    };
    let (sent, removed) = tokio::join!(sending, removing);
    let log = whole_log(&*store, id).await;
    let removal = log.iter().position(|entry| entry.expels(guest)).expect("is in the log");
    assert_eq!(log.len(), removal + 1, "nothing comes after it");
    assert_eq!(removed.cursor.seq, log[removal].seq);
    for sent in sent {
        check_answers(&log, &sent.expect("no panic"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_closed_under_load_takes_nothing_more() {
    let (store, _folder) = sqlite().await;
    let senders: Vec<_> = (0..16).map(|_| user()).collect();
    let id = with_members(&store, RoomType::Private, senders[0], &senders[1..]).await;
    let rooms = rooms(&store);
    let sending = join_all(senders.iter().map(|sender| {
        let (rooms, sender) = (Arc::clone(&rooms), *sender);
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for n in 0.. {
                match rooms.send(id, message(sender, &n.to_string(), "x")).await {
                    Ok(done) => sent.push(done),
                    Err(error) => {
                        assert!(matches!(error, Error::RoomNotFound), "{error:?}");
                        return sent;
                    }
                }
            }
            sent
        })
    }));
    let closing = async {
        until("some were sent", async || store.view(id, None).await.expect("reads").expect("room").last_seq > 100)
            .await;
        rooms.change(id, Change::Close(senders[0])).await.expect("closed");
    };
    let (sent, ()) = tokio::join!(sending, closing);
    let log = whole_log(&*store, id).await;
    assert!(log.last().expect("entries").closes());
    let sent: Vec<_> = sent.into_iter().flat_map(|sent| sent.expect("no panic")).collect();
    check_answers(&log, &sent);
    assert_eq!(sent.len(), log.iter().filter(|entry| entry.message().is_some()).count());
    assert!(matches!(rooms.change(id, Change::Join(user())).await, Err(Error::RoomNotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_a_write_an_answer_is_in_the_log_once() {
    let (store, _folder) = sqlite().await;
    let senders: Vec<_> = (0..8).map(|_| user()).collect();
    let id = with_members(&store, RoomType::Private, senders[0], &senders[1..]).await;
    let faulty = Faulty::new(Arc::clone(&store));
    let kinds = [Fault::LostAfter, Fault::LostBefore, Fault::LostMiddle, Fault::Late, Fault::Before];
    // Every order of two of them, with some peace in between.
    let pairs = kinds.into_iter().flat_map(|one| kinds.into_iter().map(move |two| (one, two)));
    faulty.plan(pairs.flat_map(|(one, two)| [one, two, Fault::None, Fault::None]));
    let rooms = rooms(&(faulty as Arc<dyn Store>));
    let tasks = senders.iter().map(|sender| {
        let (rooms, sender) = (Arc::clone(&rooms), *sender);
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for n in 0..60 {
                // As a client does: the same id until there is an answer.
                let done = loop {
                    match rooms.send(id, message(sender, &n.to_string(), "x")).await {
                        Ok(done) => break done,
                        Err(error) => assert!(matches!(error, Error::Store(_)), "{error:?}"),
                    }
                };
                sent.push(done);
            }
            sent
        })
    });
    let sent: Vec<_> = join_all(tasks).await.into_iter().flat_map(|sent| sent.expect("no panic")).collect();
    let log = whole_log(&*store, id).await;
    assert_eq!(log.iter().filter(|entry| entry.message().is_some()).count(), 8 * 60);
    check_answers(&log, &sent);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_answered_and_happens_once() {
    let (store, _folder) = sqlite().await;
    let faulty = Faulty::new(Arc::clone(&store));
    let rooms = rooms(&(Arc::clone(&faulty) as Arc<dyn Store>));
    let (owner, guest) = (user(), user());
    let id = room(&store, RoomType::Public, owner).await;
    let update = |name: &str| Change::Update { by: owner, name: Some(name.to_owned()), description: None };
    for change in [
        Change::Join(guest),
        update("new"),
        Change::Remove { by: owner, user: guest },
        Change::Add { by: owner, user: guest },
        Change::Leave(guest),
        Change::Close(owner),
    ] {
        let before = whole_log(&*store, id).await.len();
        faulty.plan([Fault::LostAfter]);
        let changed = rooms.change(id, change.clone()).await.expect("answered");
        assert_eq!(changed.cursor.seq, i64::try_from(before).expect("small") + 1, "{change:?}");
        assert_eq!(whole_log(&*store, id).await.len(), before + 1, "{change:?}");
    }
}

#[tokio::test]
async fn a_private_room_that_was_emptied_by_half_a_write_is_closed_all_the_same() {
    let (store, _folder) = sqlite().await;
    let faulty = Faulty::new(Arc::clone(&store));
    let rooms = rooms(&(Arc::clone(&faulty) as Arc<dyn Store>));
    let owner = user();
    let id = room(&store, RoomType::Private, owner).await;
    faulty.plan([Fault::LostMiddle]);
    rooms.change(id, Change::Leave(owner)).await.expect("left");
    until("it is closed", async || store.view(id, None).await.expect("reads").expect("room").closed).await;
    assert!(matches!(rooms.send(id, message(owner, "a", "x")).await, Err(Error::RoomNotFound)));
    let log = whole_log(&*store, id).await;
    assert_eq!(log.len(), 2);
    assert!(log[0].expels(owner) && log[1].closes());
}

#[tokio::test]
async fn while_the_store_is_away_callers_are_told_and_the_task_survives() {
    let (store, _folder) = sqlite().await;
    let faulty = Faulty::new(Arc::clone(&store));
    let config = RoomsConfig { settle_ms: 100, ..RoomsConfig::default() };
    let rooms = rooms_with(&(Arc::clone(&faulty) as Arc<dyn Store>), &Hub::new(16), &config);
    let owner = user();
    let id = room(&store, RoomType::Public, owner).await;
    let send = async |n: &str| rooms.send(id, message(owner, n, "x")).await;
    faulty.set_away(true);
    assert!(matches!(send("1").await, Err(Error::Store(_))), "not loaded yet");
    faulty.set_away(false);
    send("1").await.expect("sent");
    faulty.set_away(true);
    assert!(matches!(send("2").await, Err(Error::Store(_))));
    faulty.set_away(false);
    send("2").await.expect("sent");
    // The answer is lost and then the store is away for longer than a batch may take.
    faulty.plan([Fault::Late]);
    let (lost, ()) = tokio::join!(send("3"), async { faulty.set_away(false) });
    lost.expect("it was found when the log was read on, or written again");
    faulty.plan([Fault::LostAfter]);
    let waiting = tokio::spawn({
        let rooms = Arc::clone(&rooms);
        async move { rooms.send(id, message(owner, "4", "x")).await }
    });
    until("it was written", async || store.view(id, None).await.expect("reads").expect("room").last_seq == 4).await;
    faulty.set_away(true);
    assert!(matches!(waiting.await.expect("no panic"), Err(Error::Store(_)) | Ok(_)));
    faulty.set_away(false);
    let again = send("4").await.expect("answered");
    assert!(again.replayed);
    assert_eq!(whole_log(&*store, id).await.len(), 4);
}

#[tokio::test]
async fn an_idle_task_goes_away_and_the_next_order_starts_another() {
    let (store, _folder) = sqlite().await;
    let config = RoomsConfig { idle_secs: 0, ..RoomsConfig::default() };
    let rooms = rooms_with(&store, &Hub::new(16), &config);
    let owner = user();
    let id = room(&store, RoomType::Public, owner).await;
    for n in 0..20 {
        rooms.send(id, message(owner, &n.to_string(), "x")).await.expect("sent");
        if n % 4 == 0 {
            until("the task is gone", async || rooms.active() == 0).await;
        }
    }
    assert!(matches!(rooms.send(RoomId::random(), message(owner, "a", "x")).await, Err(Error::RoomNotFound)));
    until("a room that is not there has no task", async || rooms.active() == 0).await;
    assert_eq!(whole_log(&*store, id).await.len(), 20);
}

#[tokio::test]
async fn a_full_queue_refuses_and_loses_nothing() {
    let (store, _folder) = sqlite().await;
    let config = RoomsConfig { queue_max: 4, ..RoomsConfig::default() };
    let rooms = rooms_with(&store, &Hub::new(16), &config);
    let owner = user();
    let id = room(&store, RoomType::Public, owner).await;
    let ids: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    let all = join_all(ids.iter().map(|n| rooms.send(id, message(owner, n, "x")))).await;
    let refused = all.iter().filter(|sent| matches!(sent, Err(Error::Busy))).count();
    assert_eq!(all.iter().filter(|sent| sent.is_ok()).count() + refused, 50);
    assert_eq!(refused, 46);
    assert_eq!(whole_log(&*store, id).await.len(), 4);
}

#[tokio::test]
async fn stopping_serves_what_waits_and_takes_no_more() {
    let (store, _folder) = sqlite().await;
    let rooms = rooms(&store);
    let owner = user();
    let id = room(&store, RoomType::Public, owner).await;
    let ids: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    let sending = join_all(ids.iter().map(|n| rooms.send(id, message(owner, n, "x"))));
    let (sent, ()) = tokio::join!(sending, rooms.stop());
    assert!(sent.iter().all(Result::is_ok));
    assert!(matches!(rooms.send(id, message(owner, "late", "x")).await, Err(Error::NoRoom)));
    assert_eq!(rooms.active(), 0);
}

#[tokio::test]
async fn who_owns_a_room_follows_who_is_in_it() {
    let (store, _folder) = sqlite().await;
    let rooms = rooms(&store);
    let (one, two, three) = (user(), user(), user());
    let id = room(&store, RoomType::Public, one).await;
    let owner = async || {
        let members = store.members(id, None, 10).await.expect("reads");
        members.into_iter().find(|member| member.role == crate::member::Role::Owner).map(|member| member.user)
    };
    for user in [two, three] {
        rooms.change(id, Change::Join(user)).await.expect("joined");
    }
    assert_eq!(owner().await, Some(one));
    rooms.change(id, Change::Leave(one)).await.expect("left");
    assert_eq!(owner().await, Some(two), "the longest-standing takes over");
    rooms.change(id, Change::Join(one)).await.expect("joined");
    rooms.change(id, Change::Leave(two)).await.expect("left");
    assert_eq!(owner().await, Some(three));
    for user in [one, three] {
        rooms.change(id, Change::Leave(user)).await.expect("left");
    }
    assert_eq!(owner().await, None, "a public room stays when it is empty");
    rooms.change(id, Change::Join(two)).await.expect("joined");
    assert_eq!(owner().await, Some(two), "and belongs to the next who comes");

    crate::room::create::ensure_general(&*store).await.expect("made");
    crate::room::create::ensure_general(&*store).await.expect("is there");
    let general = rooms.change(RoomId::GENERAL, Change::Join(one)).await.expect("joined");
    assert_eq!((general.room.member_count, general.room.meta.created_by), (1, None));
    assert!(matches!(rooms.change(RoomId::GENERAL, Change::Close(one)).await, Err(Error::Forbidden(_))));
}

#[tokio::test]
async fn who_types_is_asked_of_the_members_only() {
    let (store, _folder) = sqlite().await;
    let rooms = rooms(&store);
    let (owner, other) = (user(), user());
    let (open, hidden) = (room(&store, RoomType::Public, owner).await, room(&store, RoomType::Private, owner).await);
    rooms.may_type(open, owner).await.expect("may");
    assert!(matches!(rooms.may_type(open, other).await, Err(Error::NotAMember)));
    assert!(matches!(rooms.may_type(hidden, other).await, Err(Error::RoomNotFound)));
    assert!(whole_log(&*store, open).await.is_empty());
}

#[tokio::test]
async fn an_order_whose_caller_is_gone_is_not_served() {
    let (store, _folder) = sqlite().await;
    let rooms = rooms(&store);
    let owner = user();
    let id = room(&store, RoomType::Public, owner).await;
    // It is queued, and its caller leaves before the task has run.
    assert!(rooms.send(id, message(owner, "a", "x")).now_or_never().is_none());
    rooms.send(id, message(owner, "b", "x")).await.expect("sent");
    let log = whole_log(&*store, id).await;
    let ids: HashMap<_, _> = log.iter().filter_map(|entry| Some((&entry.message()?.client_id, entry.seq))).collect();
    assert_eq!(ids.get(&ClientMessageId::stored("b")), Some(&1));
}
