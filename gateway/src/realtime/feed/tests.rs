//! One room without a network: what bridges, what is repeated, what is a hole, and who hears what.

use std::{collections::VecDeque, sync::Mutex};

use mesh::{
    error::{Reason, Refusal},
    proto::message::v1::{self as pb, entry::Event},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    recent::Bounds,
    room::{Admitted, LinkId, Offer, Room, Verdict},
    *,
};
use crate::realtime::{
    RealtimeConfig,
    fake::{FakeLink, session, session_of, session_with},
    frame::Frame,
    packet,
    session::{Link, Session, Unsent},
};

/// The link that carries the feed, and the one that it moves to.
const LINK: LinkId = LinkId(1);
const NEXT: LinkId = LinkId(2);

fn room() -> Arc<Room> {
    let bounds = Bounds::new(&RealtimeConfig { recent_entries_max: 4, ..RealtimeConfig::default() });
    Arc::new(Room::new(Uuid::from_u128(9), bounds, &Arc::default()))
}

fn at(seq: i64) -> Position {
    Position { seq, cursor: format!("c{seq}").into() }
}

fn live_room(seq: i64) -> Arc<Room> {
    let room = room();
    assert_eq!(room.subscribed(LINK, at(seq)), Verdict::Fine);
    room
}

fn say(room: &Room, seq: i64) -> Verdict {
    let message = pb::Message { seq, content: format!("m{seq}"), ..pb::Message::default() };
    put(room, seq, Event::Message(message))
}

fn logged(seq: i64, event: Event) -> pb::watch_rooms_response::LoggedEntry {
    let entry = Some(pb::Entry { seq, create_time: None, event: Some(event) });
    pb::watch_rooms_response::LoggedEntry { entry, cursor: format!("c{seq}"), traceparent: String::new() }
}

fn put(room: &Room, seq: i64, event: Event) -> Verdict {
    room.entries(LINK, vec![logged(seq, event)])
}

fn gone(user: Uuid) -> Event {
    Event::Members(pb::MembersChanged { removed: vec![user.to_string()], ..pb::MembersChanged::default() })
}

fn admit(room: &Arc<Room>, session: &Arc<Session>, from: i64, merge: bool) -> Result<Admitted, Refusal> {
    let from = at(from);
    let offer = Offer { from: &from, member_as_of: from.seq, bridge_max: 10, merge };
    room.admit(session, &offer, |bridge, end| {
        let seqs: Vec<_> = bridge.iter().map(|entry| entry.position.seq).collect();
        Some(packet::ack_of(1, &format!("{seqs:?},\"{}\"", end.cursor)))
    })
}

/// What a link got: the seqs of events, other packets as they are.
fn heard(link: &FakeLink) -> Vec<String> {
    link.take()
        .into_iter()
        .map(|frame| match frame.strip_prefix('2') {
            Some(event) => {
                let event: Value = serde_json::from_str(event).expect("JSON");
                event[1]["seq"].as_i64().map_or_else(|| event[0].to_string(), |seq| seq.to_string())
            }
            None => frame,
        })
        .collect()
}

#[test]
fn the_ack_comes_first_and_every_entry_after_it_once() {
    let room = live_room(5);
    let (session, link) = session(FakeLink::new(100));
    say(&room, 6);
    assert_eq!(admit(&room, &session, 6, true).expect("in"), Admitted::Live);
    say(&room, 7);
    say(&room, 7);
    say(&room, 6);
    say(&room, 8);
    assert_eq!(heard(&link), [r#"31[[],"c6"]"#, "7", "8"]);
}

#[test]
fn what_came_while_the_log_was_read_is_bridged_into_the_ack_or_follows_it() {
    for (merge, expected) in [(true, &[r#"31[[7, 8],"c8"]"#, "9"][..]), (false, &[r#"31[[],"c6"]"#, "7", "8", "9"][..])]
    {
        let room = live_room(5);
        let (session, link) = session(FakeLink::new(100));
        (6..=8).for_each(|seq| assert_eq!(say(&room, seq), Verdict::Fine));
        assert_eq!(admit(&room, &session, 6, merge).expect("in"), Admitted::Live);
        say(&room, 9);
        assert_eq!(heard(&link), expected);
    }
}

#[test]
fn a_reader_ahead_of_the_feed_hears_nothing_twice() {
    let room = live_room(5);
    let (session, link) = session(FakeLink::new(100));
    assert_eq!(admit(&room, &session, 7, true).expect("in"), Admitted::Live);
    (6..=8).for_each(|seq| assert_eq!(say(&room, seq), Verdict::Fine));
    assert_eq!(heard(&link), [r#"31[[],"c7"]"#, "8"]);
}

#[test]
fn entries_that_come_together_are_heard_once_until_a_hole_and_by_nobody_who_left_by_one_of_them() {
    let room = live_room(5);
    let ((stays, stays_link), (leaves, leaves_link)) = (session(FakeLink::new(100)), session(FakeLink::new(100)));
    for session in [&stays, &leaves] {
        assert_eq!(admit(&room, session, 5, true).expect("in"), Admitted::Live);
    }
    // It has heard two of them already.
    let (ahead, ahead_link) = session(FakeLink::new(100));
    assert_eq!(admit(&room, &ahead, 7, true).expect("in"), Admitted::Live);
    let said = |seq: i64| logged(seq, Event::Message(pb::Message { seq, ..pb::Message::default() }));
    let out = logged(8, gone(leaves.user_id()));
    let verdict = room.entries(LINK, vec![said(4), said(5), said(6), said(7), out, said(9), said(11)]);
    assert!(matches!(verdict, Verdict::Again(_)), "10 is missing");
    // The entry about members has no seq in its fields, but a place.
    let rest = |link: &FakeLink| heard(link).split_off(1);
    let told = rest(&leaves_link);
    assert_eq!((told.len(), &told[..2]), (3, &["6".to_owned(), "7".to_owned()][..]));
    assert_eq!(rest(&stays_link).len(), 4);
    assert_eq!(rest(&ahead_link).len(), 2);
    assert_eq!(room.wanted(LINK, true).expect("wanted").1, "c9");
}

#[test]
fn a_reader_too_far_behind_has_to_read_again() {
    let room = live_room(0);
    let (session, link) = session(FakeLink::new(100));
    (1..=9).for_each(|seq| assert_eq!(say(&room, seq), Verdict::Fine));
    assert_eq!(admit(&room, &session, 4, true).expect("asked"), Admitted::Behind, "only four are kept");
    assert_eq!(admit(&room, &session, 5, true).expect("in"), Admitted::Live);
    assert_eq!(heard(&link), [r#"31[[6, 7, 8, 9],"c9"]"#]);
}

#[test]
fn a_hole_is_subscribed_to_again_from_the_last_good_entry() {
    let room = live_room(5);
    let (session, link) = session(FakeLink::new(100));
    assert_eq!(admit(&room, &session, 5, true).expect("in"), Admitted::Live);
    let (first, _) = room.wanted(LINK, true).expect("wanted");
    say(&room, 6);
    assert!(matches!(say(&room, 8), Verdict::Again(wait) if wait.is_zero()));
    assert_eq!(say(&room, 9), Verdict::Fine, "passed over until the new subscription speaks");
    let (second, cursor) = room.wanted(LINK, true).expect("wanted");
    assert!(second != first && cursor == "c6");
    room.subscribed(LINK, at(6));
    (7..=9).for_each(|seq| assert_eq!(say(&room, seq), Verdict::Fine));
    assert_eq!(heard(&link)[1..], ["6", "7", "8", "9"]);
}

#[test]
fn a_subscription_that_begins_too_late_is_not_believed() {
    let room = live_room(5);
    let (session, link) = session(FakeLink::new(100));
    assert_eq!(admit(&room, &session, 5, true).expect("in"), Admitted::Live);
    room.cut(LINK);
    assert!(matches!(room.subscribed(LINK, at(8)), Verdict::Again(_)));
    assert_eq!(room.wanted(LINK, true).expect("wanted").1, "c5");
    // One that begins too early repeats what is known.
    room.subscribed(LINK, at(3));
    (4..=6).for_each(|seq| assert_eq!(say(&room, seq), Verdict::Fine));
    assert_eq!(heard(&link)[1..], ["6"]);
    // A service that never begins where it should gives the sockets no proof: they are closed, not left with a hole.
    room.cut(LINK);
    while matches!(room.subscribed(LINK, at(20)), Verdict::Again(_)) {}
    assert!(link.is_killed() && heard(&link).is_empty());
}

#[test]
fn who_does_not_read_is_closed_and_the_others_hear_on() {
    let room = live_room(0);
    let (slow, slow_link) = session(FakeLink::new(2));
    let (quick, quick_link) = session(FakeLink::new(100));
    for session in [&slow, &quick] {
        assert_eq!(admit(&room, session, 0, true).expect("in"), Admitted::Live);
    }
    (1..=3).for_each(|seq| assert_eq!(say(&room, seq), Verdict::Fine));
    assert!(slow_link.is_killed() && !quick_link.is_killed());
    assert_eq!(heard(&slow_link)[1..], ["1"], "what it got has no hole");
    assert_eq!(heard(&quick_link)[1..], ["1", "2", "3"]);
}

#[test]
fn an_entry_is_encoded_once_for_all() {
    let room = live_room(0);
    let before = packet::event("x", "{}");
    let copy = before.clone();
    // A clone of a frame shares its text; that is what every socket gets.
    assert_eq!(before.bytes().as_ptr(), copy.bytes().as_ptr());
    say(&room, 1);
    let offer_at = at(0);
    let frames: Vec<_> = (0..2)
        .map(|_| {
            let (session, _link) = session(FakeLink::new(10));
            let mut seen = None;
            let offer = Offer { from: &offer_at, member_as_of: 0, bridge_max: 10, merge: true };
            let ack = |bridge: &[&Encoded], _: &Position| {
                seen = Some(bridge[0].frame.bytes().as_ptr());
                None
            };
            room.admit(&session, &offer, ack).expect("in");
            seen.expect("bridged")
        })
        .collect();
    assert_eq!(frames[0], frames[1]);
}

#[test]
fn a_removed_user_gets_the_entry_that_says_so_last_on_all_their_sockets() {
    let room = live_room(0);
    let (one, one_link) = session(FakeLink::new(100));
    let (two, two_link) = session_of(one.user_id(), FakeLink::new(100));
    let (other, other_link) = session(FakeLink::new(100));
    for session in [&one, &two, &other] {
        assert_eq!(admit(&room, session, 0, true).expect("in"), Admitted::Live);
    }
    put(&room, 1, gone(one.user_id()));
    say(&room, 2);
    assert_eq!((&heard(&one_link)[1..], &heard(&two_link)[1..]), (&["1".to_owned()][..], &["1".to_owned()][..]));
    assert_eq!(heard(&other_link)[1..], ["1", "2"]);
    assert!(one.room(room.id).is_none() && other.room(room.id).is_some());
}

#[test]
fn a_removal_from_before_the_membership_is_history() {
    let room = live_room(0);
    let (session, link) = session(FakeLink::new(100));
    let from = at(0);
    // Removed by entry 1, a member again as of entry 2, which the feed has not got yet.
    let offer = Offer { from: &from, member_as_of: 2, bridge_max: 10, merge: true };
    room.admit(&session, &offer, |_, _| None).expect("in");
    put(&room, 1, gone(session.user_id()));
    say(&room, 2);
    say(&room, 3);
    assert_eq!(heard(&link), ["1", "2", "3"]);
}

#[test]
fn who_is_removed_while_joining_does_not_get_in() {
    let room = live_room(5);
    let (session, link) = session(FakeLink::new(100));
    put(&room, 6, gone(session.user_id()));
    assert_eq!(admit(&room, &session, 5, true).expect_err("out").reason, Reason::NotAMember);
    say(&room, 7);
    assert!(heard(&link).is_empty() && session.room(room.id).is_none());
}

#[test]
fn a_closed_room_says_so_last_and_lets_nobody_in() {
    let room = live_room(0);
    let (session, link) = session(FakeLink::new(100));
    assert_eq!(admit(&room, &session, 0, true).expect("in"), Admitted::Live);
    assert_eq!(put(&room, 1, Event::RoomClosed(pb::RoomClosed::default())), Verdict::Ended);
    say(&room, 2);
    assert_eq!(heard(&link)[1..], ["1"]);
    assert_eq!(admit(&room, &session, 1, true).expect_err("closed").reason, Reason::RoomNotFound);
    assert!(session.room(room.id).is_none() && room.wanted(LINK, true).is_none());
}

#[test]
fn a_join_anew_that_fails_leaves_the_socket_as_live_as_it_was() {
    let room = live_room(0);
    let (session, link) = session(FakeLink::new(100));
    assert_eq!(admit(&room, &session, 0, true).expect("in"), Admitted::Live);
    say(&room, 1);
    let watcher = room.suspend(&session).expect("it was live");
    say(&room, 2);
    assert_eq!(heard(&link)[1..], ["1"], "nothing comes while it joins");
    room.restore(watcher);
    say(&room, 3);
    assert_eq!(heard(&link), ["2", "3"]);
    // With too much missed it is closed: it could not be told.
    let watcher = room.suspend(&session).expect("it was live");
    (4..=9).for_each(|seq| assert_eq!(say(&room, seq), Verdict::Fine));
    room.restore(watcher);
    assert!(link.is_killed());
}

#[test]
fn typing_is_told_to_all_but_its_user() {
    let room = live_room(0);
    let (typist, typist_link) = session(FakeLink::new(100));
    let (other, other_link) = session(FakeLink::new(100));
    for session in [&typist, &other] {
        assert_eq!(admit(&room, session, 0, true).expect("in"), Admitted::Live);
    }
    for typing in [true, false] {
        let user_id = typist.user_id().to_string();
        room.typing(&pb::watch_rooms_response::Typing { user_id, username: "ada".into(), typing });
    }
    assert_eq!(typist_link.take().len(), 1);
    let frames = other_link.take();
    let expected = format!(r#"{{"roomId":"{}","userId":"{}","username":"ada"}}]"#, room.name, typist.user_id());
    assert_eq!(frames[1..], [format!(r#"2["typing_start",{expected}"#), format!(r#"2["typing_stop",{expected}"#)]);
}

#[test]
fn a_log_of_another_life_closes_the_sockets_and_starts_anew() {
    let room = live_room(5);
    let (session, link) = session(FakeLink::new(100));
    assert_eq!(admit(&room, &session, 5, true).expect("in"), Admitted::Live);
    assert!(matches!(room.dropped(Reason::CursorLost), Verdict::Again(_)));
    assert!(link.is_killed());
    assert_eq!(room.wanted(LINK, true).expect("wanted").1, "", "from the newest position of the new log");
    room.subscribed(LINK, at(1));
    assert_eq!(say(&room, 2), Verdict::Fine);
}

#[test]
fn a_closed_socket_is_never_left_in_a_room() {
    let room = live_room(0);
    let (session, link) = session(FakeLink::new(100));
    session.leave(crate::realtime::meter::Closed::Client);
    assert_eq!(admit(&room, &session, 0, true).expect("asked"), Admitted::Gone);
    assert!(link.take().is_empty() && room.suspend(&session).is_none());
}

fn say_by(room: &Room, link: LinkId, seq: i64) -> Verdict {
    let message = pb::Message { seq, content: format!("m{seq}"), ..pb::Message::default() };
    room.entries(link, vec![logged(seq, Event::Message(message))])
}

#[test]
fn a_feed_that_moves_is_left_where_it_was_only_when_it_has_begun_elsewhere() {
    let room = live_room(5);
    let (session, link) = session(FakeLink::new(100));
    assert_eq!(admit(&room, &session, 5, true).expect("in"), Admitted::Live);
    // The ring has changed: both are wanted, the next one from where the room stands.
    say(&room, 6);
    assert!(room.wanted(LINK, false).is_some());
    assert_eq!(room.wanted(NEXT, true).expect("wanted").1, "c6");
    say(&room, 7);
    assert_eq!(room.subscribed(NEXT, at(6)), Verdict::Moved);
    assert!(room.is_live_at(NEXT) && room.wanted(LINK, false).is_none() && room.wanted(NEXT, true).is_some());
    // The two repeat each other for a while, whoever is ahead.
    (7..=9).for_each(|seq| assert_eq!(say_by(&room, NEXT, seq), Verdict::Fine));
    (8..=10).for_each(|seq| assert_eq!(say_by(&room, LINK, seq), Verdict::Fine));
    assert_eq!(say_by(&room, LINK, 12), Verdict::Fine, "who is left is not judged");
    (10..=12).for_each(|seq| assert_eq!(say_by(&room, NEXT, seq), Verdict::Fine));
    assert_eq!(heard(&link)[1..], ["6", "7", "8", "9", "10", "11", "12"]);
    // The end of the one that was left is nothing to the room.
    room.cut(LINK);
    assert!(room.is_live_at(NEXT));
    room.cut(NEXT);
    assert!(!room.is_live_at(NEXT) && room.wanted(NEXT, false).is_none());
}

/// A socket's queue that is emptied as fast as it fills.
struct Emptied(Mutex<VecDeque<Frame>>);

impl Link for Emptied {
    fn send_all(&self, frames: &[Frame]) -> Result<(), Unsent> {
        let mut queue = self.0.lock().expect("lock");
        queue.clear();
        queue.extend(frames.iter().cloned());
        Ok(())
    }

    fn kill(&self) {}

    fn finish(&self) {}
}

/// A path whose instructions `bench/instructions` counts: a message is encoded and queued for a hundred sockets.
#[test]
#[ignore = "bench/instructions counts it"]
fn counted_a_message_is_encoded_and_queued_for_a_hundred_sockets() {
    let room = live_room(0);
    for _ in 0..100 {
        let session = session_with(Uuid::now_v7(), Arc::new(Emptied(Mutex::default())));
        assert_eq!(admit(&room, &session, 0, false).expect("in the room"), Admitted::Live);
    }
    for seq in (1..).take(test_input::rounds()) {
        let message = pb::Message { seq, content: "x".repeat(128), ..pb::Message::default() };
        assert_eq!(put(&room, seq, Event::Message(message)), Verdict::Fine);
    }
}
