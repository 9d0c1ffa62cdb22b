//! Rendezvous hashing: which replica a room belongs to. Every gateway that knows the same replicas answers the same, and
//! a replica that comes or goes moves only the rooms that it gets or had. The numbers must be the same in every process
//! and every version, so no hasher of the standard library is used.

use std::net::SocketAddr;

use uuid::Uuid;

/// A replica's number, from its address.
pub(super) fn seed(address: SocketAddr) -> u64 {
    // FNV-1a over the address as text, then mixed: addresses differ in a digit or two.
    let hash = address
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(hash)
}

/// How much a replica wants a room; the one with the most has it, the next one is who takes over.
pub(super) fn weight(seed: u64, room: Uuid) -> u64 {
    let (high, low) = room.as_u64_pair();
    mix(mix(seed ^ high) ^ low)
}

/// The finaliser of splitmix64: every bit of the input changes half of the output's.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn address(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 50_000 + number))
    }

    fn owner(replicas: &[u16], room: Uuid) -> u16 {
        *replicas.iter().max_by_key(|number| weight(seed(address(**number)), room)).expect("some")
    }

    fn rooms() -> Vec<Uuid> {
        (0..10_000_u128).map(|n| Uuid::from_u128(n * 0x1_0000_0000_0000_0001)).collect()
    }

    #[test]
    fn a_room_has_the_same_owner_in_every_process_and_version() {
        // Fixed on purpose: gateways of two versions run side by side while they are exchanged.
        let room = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(weight(seed(address(2)), room), 17_964_381_915_144_557_002);
        assert_eq!(owner(&[1, 2, 3], room), owner(&[3, 1, 2], room));
    }

    #[test]
    fn rooms_are_spread_evenly() {
        let mut counts = HashMap::<_, u32>::new();
        rooms().into_iter().for_each(|room| *counts.entry(owner(&[1, 2, 3, 4], room)).or_default() += 1);
        assert!(counts.len() == 4 && counts.values().all(|count| (2_300..2_700).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_replica_that_comes_or_goes_moves_its_own_rooms_alone() {
        let mut moved = 0;
        for room in rooms() {
            let (three, four) = (owner(&[1, 2, 3], room), owner(&[1, 2, 3, 4], room));
            assert!(four == three || four == 4, "a room moved between replicas that stayed");
            moved += u32::from(four == 4);
        }
        assert!((2_300..2_700).contains(&moved), "{moved}");
    }
}
