//! Whether what was acknowledged arrived, once and in order: what every socket of a room saw is compared with what its
//! neighbours saw, with what was sent, and with what is stored. Times are no concern of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    marker::{Marker, Order},
    orders::{Loaded, Seen, Sent},
};

/// What is wrong, a sentence each; empty when nothing is.
pub(crate) fn live(loaded: &Loaded) -> Vec<String> {
    let mut problems = Vec::new();
    if loaded.refused > 0 {
        problems.push(format!("{} sends were refused, the first with {}", loaded.refused, loaded.first_refusal));
    }
    if loaded.closed > 0 {
        problems.push(format!("the server closed {} sockets", loaded.closed));
    }
    if loaded.drained.is_none() {
        problems.push("not every send was answered in time".to_owned());
    }
    for (room, seen) in by_room(&loaded.rooms) {
        let sent: u64 = senders(loaded, room).map(|sender| u64::from(sender.sent)).sum();
        let lost: u64 = senders(loaded, room).map(|sender| count(&sender.unacknowledged)).sum();
        let orders: BTreeSet<_> = seen.iter().map(|seen| seen.order).collect();
        if orders.len() > 1 {
            let counts: Vec<_> = orders.iter().map(|(count, _)| count).collect();
            let alike = counts.windows(2).all(|pair| pair[0] == pair[1]);
            let what = if alike {
                "in different orders".to_owned()
            } else {
                format!("different numbers of messages: {counts:?}")
            };
            problems.push(format!("room {room}: its sockets saw {what}"));
        }
        for (got, _) in &orders {
            if *got < sent - lost || *got > sent {
                problems.push(format!("room {room}: a socket saw {got} messages of {} acknowledged", sent - lost));
            }
        }
        let gaps: u64 = seen.iter().map(|seen| seen.gaps).sum();
        if gaps > 0 {
            problems.push(format!("room {room}: {gaps} events whose seq did not follow the one before"));
        }
    }
    problems
}

/// Compares one room's log, as it is stored, with what was acknowledged and with what its sockets saw.
pub(crate) fn stored(loaded: &Loaded, room: usize, log: &[Marker]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    log.iter().for_each(|marker| *times.entry(marker.key()).or_default() += 1);
    let twice = times.values().filter(|times| **times > 1).count();
    if twice > 0 {
        problems.push(format!("room {room}: {twice} messages are stored more than once"));
    }
    let mut missing = 0_u64;
    for sender in senders(loaded, room) {
        let lost: BTreeSet<_> = sender.unacknowledged.iter().copied().collect();
        let acknowledged = (0..sender.sent).filter(|number| !lost.contains(number));
        let key = |number| Marker { sender: sender.sender, number, at: 0 }.key();
        missing += count(&acknowledged.filter(|number| !times.contains_key(&key(*number))).collect::<Vec<_>>());
    }
    if missing > 0 {
        problems.push(format!("room {room}: {missing} acknowledged messages are not stored"));
    }
    let mut order = Order::default();
    log.iter().for_each(|marker| order.add(*marker));
    let unlike = |seen: &&Seen| seen.room == room && seen.order != order.parts();
    let unlike: u64 = loaded.rooms.iter().filter(unlike).map(|seen| seen.sockets).sum();
    if unlike > 0 {
        problems.push(format!("room {room}: {unlike} sockets saw another order than the stored one"));
    }
    problems
}

fn by_room(seen: &[Seen]) -> BTreeMap<usize, Vec<&Seen>> {
    let mut rooms: BTreeMap<usize, Vec<&Seen>> = BTreeMap::new();
    seen.iter().for_each(|seen| rooms.entry(seen.room).or_default().push(seen));
    rooms
}

fn senders(loaded: &Loaded, room: usize) -> impl Iterator<Item = &Sent> {
    loaded.senders.iter().filter(move |sender| sender.room == room)
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(number: u32) -> Marker {
        Marker { sender: 1, number, at: u64::from(number) }
    }

    fn order(numbers: &[u32]) -> (u64, u64) {
        let mut order = Order::default();
        numbers.iter().for_each(|number| order.add(marker(*number)));
        order.parts()
    }

    fn loaded(orders: &[&[u32]], sent: u32, unacknowledged: &[u32]) -> Loaded {
        let seen = |numbers: &&[u32]| Seen { room: 0, order: order(numbers), gaps: 0, sockets: 1 };
        let sender = Sent { sender: 1, room: 0, sent, unacknowledged: unacknowledged.to_vec() };
        let rooms = orders.iter().map(seen).collect();
        Loaded { drained: Some(0), senders: vec![sender], rooms, ..Loaded::default() }
    }

    #[test]
    fn a_good_load_has_no_problem() {
        let good = loaded(&[&[0, 1, 2], &[0, 1, 2]], 3, &[]);
        assert!(live(&good).is_empty());
        assert!(stored(&good, 0, &[marker(0), marker(1), marker(2)]).is_empty());
        // What was not acknowledged may be there or not.
        let unknown = loaded(&[&[0, 1]], 3, &[2]);
        assert!(live(&unknown).is_empty() && stored(&unknown, 0, &[marker(0), marker(1)]).is_empty());
    }

    #[test]
    fn every_fault_is_seen() {
        let problem = |loaded: &Loaded, words: &str| {
            let problems = live(loaded);
            assert!(problems.iter().any(|problem| problem.contains(words)), "{words}: {problems:?}");
        };
        problem(&loaded(&[&[0, 1], &[1, 0]], 2, &[]), "different orders");
        problem(&loaded(&[&[0, 1], &[0]], 2, &[]), "different numbers");
        problem(&loaded(&[&[0]], 2, &[]), "1 messages of 2");
        problem(&loaded(&[&[0, 1, 1]], 2, &[]), "3 messages of 2");
        problem(&Loaded { refused: 1, ..loaded(&[&[0]], 1, &[]) }, "refused");
        problem(&Loaded { closed: 1, ..loaded(&[&[0]], 1, &[]) }, "closed");
        problem(&Loaded { drained: None, ..loaded(&[&[0]], 1, &[]) }, "not every send");

        let good = loaded(&[&[0, 1]], 2, &[]);
        let problem = |log: &[Marker], words: &str| {
            let problems = stored(&good, 0, log);
            assert!(problems.iter().any(|problem| problem.contains(words)), "{words}: {problems:?}");
        };
        problem(&[marker(0)], "1 acknowledged messages are not stored");
        problem(&[marker(0), marker(1), marker(1)], "more than once");
        problem(&[marker(1), marker(0)], "another order");
    }
}
