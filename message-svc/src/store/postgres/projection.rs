//! What follows from a commit's entries: the members as they are after it, rooms' names and counts. All entries of a
//! room are taken together, so that no row is touched twice. Nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{MEMBER, OWNER};
use crate::{
    entry::{Entry, Event, MembersChanged},
    member::Standing,
    store::fold,
};

/// What follows from some entries; each list is one of rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Projection {
    pub(super) gone: Vec<Who>,
    pub(super) came: Vec<Came>,
    pub(super) promoted: Vec<Who>,
    /// Who has come, also who is gone again.
    pub(super) visited: Vec<Who>,
    pub(super) rooms: Vec<Changed>,
}

/// A person in a room: room and user.
pub(super) type Who = (Uuid, Uuid);

/// A member as they are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) who: Who,
    pub(super) role: i16,
    pub(super) standing: i64,
    pub(super) joined_at: i64,
}

/// What has changed of a room; none is as before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) room: Uuid,
    pub(super) name: Option<String>,
    pub(super) name_key: Option<String>,
    pub(super) description: Option<String>,
    pub(super) updated_at: Option<i64>,
    pub(super) closed_at: Option<i64>,
    pub(super) member_count: Option<i64>,
}

/// What somebody is after the entries so far.
enum Fate {
    Gone,
    Came(Came),
    /// They were a member before and own the room now.
    Promoted,
}

impl Projection {
    /// Of entries in order; those of a room may lie among others'.
    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut fates = BTreeMap::new();
        let mut visited = BTreeSet::new();
        let mut rooms: BTreeMap<Uuid, Changed> = BTreeMap::new();
        for entry in entries {
            let id = entry.room.0;
            let room = || Changed { room: id, ..Changed::default() };
            match &entry.event {
                Event::Message(_) => {}
                Event::Members(change) => {
                    rooms.entry(id).or_insert_with(room).member_count = Some(change.member_count);
                    visited.extend(change.joined.iter().map(|user| (id, user.0)));
                    decide(&mut fates, entry, change);
                }
                Event::Updated(updated) => {
                    let room = rooms.entry(id).or_insert_with(room);
                    room.name = Some(updated.name.clone());
                    room.name_key = Some(fold(&updated.name));
                    room.description = Some(updated.description.clone());
                    room.updated_at = Some(entry.at.0);
                }
                Event::Closed(_) => rooms.entry(id).or_insert_with(room).closed_at = Some(entry.at.0),
            }
        }
        let (rooms, visited) = (rooms.into_values().collect(), visited.into_iter().collect());
        let mut projection = Self { rooms, visited, ..Self::default() };
        for (who, fate) in fates {
            match fate {
                Fate::Gone => projection.gone.push(who),
                Fate::Came(came) => projection.came.push(came),
                Fate::Promoted => projection.promoted.push(who),
            }
        }
        projection
    }

    /// Whether nothing follows.
    pub(super) fn is_empty(&self) -> bool {
        // Whoever comes or goes changes their room's count.
        self.rooms.is_empty()
    }
}

fn decide(fates: &mut BTreeMap<Who, Fate>, entry: &Entry, change: &MembersChanged) {
    let room = entry.room.0;
    for user in change.left.iter().chain(&change.removed) {
        fates.insert((room, user.0), Fate::Gone);
    }
    for (place, user) in change.joined.iter().enumerate() {
        let (who, standing) = ((room, user.0), Standing::new(entry.seq, place).0);
        fates.insert(who, Fate::Came(Came { who, role: MEMBER, standing, joined_at: entry.at.0 }));
    }
    if let Some(owner) = change.new_owner {
        match fates.entry((room, owner.0)).or_insert(Fate::Promoted) {
            Fate::Came(came) => came.role = OWNER,
            Fate::Gone | Fate::Promoted => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh::time::Millis;

    use super::*;
    use crate::{
        entry::RoomClosed,
        id::{EntryId, RoomId, UserId},
    };

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    #[test]
    fn what_counts_is_what_everybody_is_in_the_end() {
        let room = RoomId(Uuid::from_u128(7));
        let [left, back, heir, fresh] = [1, 2, 3, 4].map(user);
        let changes = [
            MembersChanged { left: vec![left, back], new_owner: Some(heir), member_count: 1, ..Default::default() },
            MembersChanged { joined: vec![fresh, back], member_count: 3, ..Default::default() },
            MembersChanged { removed: vec![fresh], member_count: 2, ..Default::default() },
            MembersChanged { left: vec![heir], new_owner: Some(back), member_count: 1, ..Default::default() },
        ];
        let mut entries: Vec<_> = (1..)
            .zip(changes)
            .map(|(seq, change)| (seq, Event::Members(change)))
            .map(|(seq, event)| Entry { id: EntryId::now(), room, seq, messages: 0, at: Millis(seq * 10), event })
            .collect();
        let at = Millis(50);
        let event = Event::Closed(RoomClosed { by: None });
        entries.push(Entry { id: EntryId::now(), room, seq: 5, messages: 0, at, event });
        let who = |user: UserId| (room.0, user.0);
        let came = Came { who: who(back), role: OWNER, standing: Standing::new(2, 1).0, joined_at: 20 };
        let changed = Changed { room: room.0, closed_at: Some(50), member_count: Some(1), ..Changed::default() };
        let expected = Projection {
            gone: vec![who(left), who(heir), who(fresh)],
            came: vec![came],
            promoted: Vec::new(),
            visited: vec![who(back), who(fresh)],
            rooms: vec![changed],
        };
        assert_eq!(Projection::of(entries.iter()), expected);
        let promoted = Projection::of(entries[..1].iter());
        assert_eq!((promoted.promoted, promoted.came), (vec![who(heir)], Vec::new()));
    }
}
