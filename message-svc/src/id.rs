//! The ids of this service, each a type of its own so that they cannot be mixed up, and how each is made. Nothing here
//! knows how an id is stored or sent; [`crate::cursor`] makes positions out of a log's id.

use std::fmt;

use uuid::{Uuid, uuid};

/// The namespace from which the ids of direct rooms are derived. Changing it would give every pair a second room.
const DIRECT_ROOMS: Uuid = uuid!("5f2b6c0e-6a0d-4d58-9c5f-2f3b1a7f9a41");

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    )*};
}

ids! {
    /// A room: a random UUID (version 4), but for a direct room's, which is derived from its two users, and [`RoomId::GENERAL`].
    RoomId;
    /// A user, as auth-svc named them.
    UserId;
    /// An entry of a room's log, a UUID of version 7; a message's id is its entry's.
    EntryId;
    /// One life of a room's log. A log that is restored or imported gets a new one, so that no old cursor fits it.
    LogId;
}

impl RoomId {
    /// The room "general", which exists from the first start. A fixed id, so that any number of processes that start
    /// at once on one store make one room; its bytes spell `generaL`.
    pub const GENERAL: Self = Self(uuid!("67656e65-7261-4c00-8000-000000000000"));

    /// A new random id: version 4, so that a cluster that is sharded by ranges of room ids spreads them.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id of the one direct room of two users, the same from either side.
    #[must_use]
    pub fn direct(one: UserId, other: UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        let mut name = [0; 32];
        name[..16].copy_from_slice(low.0.as_bytes());
        name[16..].copy_from_slice(high.0.as_bytes());
        Self(Uuid::new_v5(&DIRECT_ROOMS, &name))
    }
}

impl EntryId {
    /// A new id; later ones sort after earlier ones.
    #[must_use]
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }
}

impl LogId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_room_has_one_id_from_either_side_and_no_client_can_choose_it() {
        let (one, other, third) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        let room = RoomId::direct(one, other);
        assert_eq!(room, RoomId::direct(other, one));
        assert_ne!(room, RoomId::direct(one, third));
        // Clients may choose ids of version 4 only.
        assert_eq!(room.0.get_version_num(), 5);
        assert_eq!(RoomId::GENERAL.0.get_version_num(), 4);
        assert_eq!(&RoomId::GENERAL.0.as_bytes()[..7], b"generaL");
    }
}
