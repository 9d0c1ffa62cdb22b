//! Cases about what one person has sent, wherever they have been: how it is found, and how it is changed.

use std::sync::Arc;

use super::{append, entry, joined, made, public};
use crate::{
    entry::{Entry, Event, MembersChanged},
    id::RoomId,
    message::ClientMessageId,
    room::{NewRoom, RoomType},
    store::{Outcome, Store},
    testing::{message, message_entry, new_room, user, whole_log},
};

pub(crate) async fn rooms_are_known_to_whoever_has_ever_been_in_them(store: &dyn Store) {
    let (who, else_) = (user(), user());
    let (stayed, left, brief) = (public(store).await, public(store).await, public(store).await);
    append(store, &[joined(stayed, 1, &[who], 2)]).await;
    append(store, &[joined(left, 1, &[else_, who], 3)]).await;
    let gone = |room, seq, count| {
        let change = MembersChanged { left: vec![who], member_count: count, ..MembersChanged::default() };
        entry(room, seq, 0, Event::Members(change))
    };
    append(store, &[gone(left, 2, 2)]).await;
    // In and out again in one batch.
    append(store, &[joined(brief, 1, &[who], 2), gone(brief, 2, 1)]).await;
    let direct = made(store, &NewRoom::direct(else_, who)).await;
    let owned = made(store, &new_room(RoomType::Private, "theirs", who)).await;
    // Whoever is erased is in no room any more, as whoever looked there has seen.
    for room in store.rooms_of(who, None, 10).await.expect("reads") {
        let seq = room.last_seq + 1;
        append(store, &[gone(room.meta.id, seq, room.member_count - 1)]).await;
    }
    assert!(store.rooms_of(who, None, 10).await.expect("reads").is_empty());
    let mut expected = vec![stayed, left, brief, direct, owned];
    expected.sort_unstable();
    assert_eq!(store.rooms_known_to(who, None, 10).await.expect("reads"), expected);
    let mut paged: Vec<RoomId> = Vec::new();
    loop {
        let page = store.rooms_known_to(who, paged.last().copied(), 2).await.expect("reads");
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, expected);
    assert_eq!(store.rooms_known_to(user(), None, 10).await.expect("reads"), []);
}

pub(crate) async fn what_one_person_sent_to_a_room_is_listed_by_client_id(store: &dyn Store) {
    let (room, other, who) = (public(store).await, public(store).await, user());
    let ids = ["z", "A", " ", "m-10", "m-9", "~"];
    let mut batch: Vec<Arc<Entry>> = Vec::new();
    for id in ids {
        for (sender, text) in [(who, "theirs"), (user(), "another's")] {
            let seq = i64::try_from(batch.len()).expect("small") + 1;
            batch.push(message_entry(room, seq, seq, message(sender, id, text)));
        }
    }
    append(store, &batch).await;
    append(store, &[message_entry(other, 1, 1, message(who, "elsewhere", "theirs"))]).await;
    let mut expected: Vec<_> = batch.iter().step_by(2).cloned().collect();
    expected.sort_by(|one, two| {
        let id = |entry: &Arc<Entry>| entry.message().expect("a message").client_id.as_str().to_owned();
        id(one).into_bytes().cmp(&id(two).into_bytes())
    });
    assert_eq!(store.sent_by(room, who, None, 100).await.expect("reads"), expected);
    let mut paged: Vec<Arc<Entry>> = Vec::new();
    loop {
        let after = paged.last().map(|entry| entry.message().expect("a message").client_id.clone());
        let page = store.sent_by(room, who, after.as_ref(), 4).await.expect("reads");
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, expected);
    assert_eq!(store.sent_by(room, user(), None, 10).await.expect("reads"), []);
    assert_eq!(store.sent_by(RoomId::random(), who, None, 10).await.expect("reads"), []);
}

pub(crate) async fn a_message_that_is_rewritten_stays_in_its_place(store: &dyn Store) {
    let (room, who, else_) = (public(store).await, user(), user());
    let mut told = message(who, "c1", "before");
    told.metadata.insert("a".into(), 1.into());
    let first = message_entry(room, 1, 1, told);
    let others = message_entry(room, 2, 2, message(else_, "c1", "another's"));
    let change = MembersChanged { joined: vec![user()], member_count: 2, ..MembersChanged::default() };
    let moved = entry(room, 3, 2, Event::Members(change));
    append(store, &[Arc::clone(&first), Arc::clone(&others), Arc::clone(&moved)]).await;
    let said = |entry: &Arc<Entry>, sender| {
        let event = Event::Message(Arc::new(message(sender, "c1", "after")));
        Arc::new(Entry { event, ..(**entry).clone() })
    };
    let changed = said(&first, who);
    // Of these only the first is theirs and there; what is not a message stays as well.
    let absent = message_entry(room, 9, 9, message(who, "c9", "after"));
    for _ in 0..2 {
        store
            .rewrite(&[Arc::clone(&changed), said(&others, who), said(&moved, who), absent.clone()])
            .await
            .expect("done");
    }
    store.rewrite(&[]).await.expect("nothing is done");
    assert_eq!(whole_log(store, room).await, [Arc::clone(&changed), others, moved]);
    assert_eq!(store.messages(room, 1, 1).await.expect("reads"), [Arc::clone(&changed)]);
    let keys = [(who, ClientMessageId::stored("c1"))];
    assert_eq!(store.sent(room, &keys).await.expect("reads"), [Arc::clone(&changed)], "it is still sent once");
    let again = message_entry(room, 4, 3, message(who, "c1", "again"));
    assert_eq!(append(store, &[again]).await, Outcome::Displaced);
}
