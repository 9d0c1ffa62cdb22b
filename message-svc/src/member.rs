//! Members of a room: who, in which role, since when. [`Members`] is the set that a room's task keeps in memory; it
//! knows who is longest-standing. Who may do what is decided in `room_task/judge.rs`.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use mesh::time::Millis;

use crate::{entry::Seq, id::UserId};

/// How many members a room shows of itself.
pub const SHOWN_MAX: usize = 100;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads, sends, and adds to a private room.
    Member,
    /// Also changes and closes the room and removes members. A room has at most one.
    Owner,
}

/// How long somebody stands in a room, as an order: the lower, the longer. It is made of the entry that let them in and
/// their place in it, so it is the same in every store and no two members of a room share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing(pub i64);

impl Standing {
    /// More places than one entry has people.
    const PLACES: i64 = 128;

    /// The standing of the `place`-th person whom the entry `seq` let in; `seq` 0 is the room's making.
    #[must_use]
    pub fn new(seq: Seq, place: usize) -> Self {
        let place = i64::try_from(place).expect("invariant: an entry names at most 100 people");
        Self(seq * Self::PLACES + place)
    }

    /// The entry that let them in; 0 is the room's making.
    #[must_use]
    pub fn seq(self) -> Seq {
        self.0 / Self::PLACES
    }
}

/// A member of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// Their place in the order of joining.
    pub standing: Standing,
    /// Since when.
    pub joined_at: Millis,
}

/// The members of one room.
#[derive(Clone, Debug, Default)]
pub struct Members {
    by_user: HashMap<UserId, Member>,
    by_standing: BTreeMap<Standing, UserId>,
    owner: Option<UserId>,
    /// The first [`SHOWN_MAX`], kept because most changes of a large room leave them as they are.
    shown: Option<Arc<[UserId]>>,
}

impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        self.by_user == other.by_user && self.by_standing == other.by_standing && self.owner == other.owner
    }
}

impl Members {
    /// The members given.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let mut all = Self::default();
        for member in members {
            all.put(member);
        }
        all
    }

    /// The member, if they are one.
    #[must_use]
    pub fn get(&self, user: UserId) -> Option<&Member> {
        self.by_user.get(&user)
    }

    /// Whether they are a member.
    #[must_use]
    pub fn contains(&self, user: UserId) -> bool {
        self.by_user.contains_key(&user)
    }

    /// The owner, if there is one.
    #[must_use]
    pub fn owner(&self) -> Option<UserId> {
        self.owner
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_user.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// The longest-standing member but for the one given: who takes over from them.
    #[must_use]
    pub fn heir_of(&self, leaving: UserId) -> Option<UserId> {
        self.by_standing.values().copied().find(|user| *user != leaving)
    }

    /// The first [`SHOWN_MAX`] members, the longest-standing first.
    pub fn shown(&mut self) -> Arc<[UserId]> {
        let by_standing = &self.by_standing;
        Arc::clone(self.shown.get_or_insert_with(|| by_standing.values().copied().take(SHOWN_MAX).collect()))
    }

    /// The members with a standing after this, the longest-standing first.
    #[must_use]
    pub fn page(&self, after: Option<Standing>, members_max: usize) -> Vec<Member> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.by_standing.range((from, Bound::Unbounded)).take(members_max);
        users.filter_map(|(_, user)| self.get(*user).copied()).collect()
    }

    /// Adds the member, or puts them as given; answers what was there.
    pub fn put(&mut self, member: Member) -> Option<Member> {
        let before = self.by_user.insert(member.user, member);
        if let Some(before) = before {
            self.by_standing.remove(&before.standing);
            self.forget_owner(before);
        }
        self.by_standing.insert(member.standing, member.user);
        if member.role == Role::Owner {
            self.owner = Some(member.user);
        }
        let unseen = before.is_none() && self.shown.as_ref().is_some_and(|shown| self.comes_after(shown, member));
        if !unseen {
            self.shown = None;
        }
        before
    }

    /// Takes the member out; answers what was there.
    pub fn take(&mut self, user: UserId) -> Option<Member> {
        let before = self.by_user.remove(&user)?;
        self.by_standing.remove(&before.standing);
        self.forget_owner(before);
        if self.shown.as_ref().is_some_and(|shown| shown.contains(&user)) {
            self.shown = None;
        }
        Some(before)
    }

    fn forget_owner(&mut self, before: Member) {
        if self.owner == Some(before.user) {
            self.owner = None;
        }
    }

    /// Whether a full list of shown members ends before this one.
    fn comes_after(&self, shown: &[UserId], member: Member) -> bool {
        shown.len() == SHOWN_MAX
            && shown.last().and_then(|last| self.by_user.get(last)).is_some_and(|last| last.standing < member.standing)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn member(n: usize) -> Member {
        Member {
            user: UserId(Uuid::from_u128(n as u128)),
            role: Role::Member,
            standing: Standing::new(1 + i64::try_from(n).expect("small"), 0),
            joined_at: Millis(0),
        }
    }

    #[test]
    fn the_shown_members_are_the_longest_standing_whatever_came_and_went() {
        let mut members = Members::default();
        for n in (0..250).rev() {
            members.put(member(n));
            let _ = members.shown();
        }
        for n in [3, 120, 99, 249] {
            members.take(member(n).user);
            let shown = members.shown();
            let expected: Vec<_> = members.by_standing.values().copied().take(SHOWN_MAX).collect();
            assert_eq!(&shown[..], expected);
        }
    }

    #[test]
    fn an_owner_who_is_taken_out_is_no_owner() {
        let mut members = Members::new([Member { role: Role::Owner, ..member(1) }, member(2)]);
        assert_eq!(members.owner(), Some(member(1).user));
        assert_eq!(members.heir_of(member(1).user), Some(member(2).user));
        members.take(member(1).user);
        assert_eq!(members.owner(), None);
        assert_eq!(members.heir_of(member(2).user), None);
    }
}
