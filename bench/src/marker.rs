//! What the load generator writes at the beginning of a message's content: who sent it, the how many-th of theirs it is,
//! and when it was meant to be sent. It is found in whatever JSON a system wraps around it, without parsing that.

use memchr::memmem;

/// Found in no JSON by chance.
const MAGIC: &[u8] = b"~sbm";
const LEN: usize = MAGIC.len() + 8 + 8 + 16;

/// One message of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Marker {
    /// The sender's number in the whole load.
    pub(crate) sender: u32,
    /// Counted from 0 for each sender.
    pub(crate) number: u32,
    /// When it was meant to be sent, on the clock of `clock.rs`.
    pub(crate) at: u64,
}

impl Marker {
    /// The content of a message, filled up to a length.
    pub(crate) fn write(self, bytes: usize, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(MAGIC);
        hex(u64::from(self.sender), 8, out);
        hex(u64::from(self.number), 8, out);
        hex(self.at, 16, out);
        // Text of words, so that nothing is saved by it being all alike.
        let filler = b" the quick brown fox jumps over the lazy dog and goes on its way";
        while out.len() - from < bytes {
            let left = bytes - (out.len() - from);
            out.extend_from_slice(&filler[..left.min(filler.len())]);
        }
    }

    /// Who and which one, for comparing orders.
    pub(crate) fn key(self) -> u64 {
        u64::from(self.sender) << 32 | u64::from(self.number)
    }

    fn read(text: &[u8]) -> Option<Self> {
        let text = text.get(MAGIC.len()..LEN)?;
        let sender = unhex(&text[..8])?;
        let number = unhex(&text[8..16])?;
        let at = unhex(&text[16..])?;
        Some(Self { sender: u32::try_from(sender).ok()?, number: u32::try_from(number).ok()?, at })
    }
}

fn hex(value: u64, digits: u32, out: &mut Vec<u8>) {
    for place in (0..digits).rev() {
        let digit = (value >> (4 * place)) & 0xf;
        out.push(b"0123456789abcdef"[usize::try_from(digit).unwrap_or(0)]);
    }
}

fn unhex(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    for digit in digits {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    Some(value)
}

/// Finds markers in text.
pub(crate) struct Finder(memmem::Finder<'static>);

impl Default for Finder {
    fn default() -> Self {
        Self(memmem::Finder::new(MAGIC))
    }
}

impl Finder {
    /// The first one.
    pub(crate) fn first(&self, text: &[u8]) -> Option<Marker> {
        let at = self.0.find(text)?;
        Marker::read(&text[at..])
    }

    /// All of them, in order.
    pub(crate) fn all<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Marker> + 'a {
        self.0.find_iter(text).filter_map(|at| Marker::read(&text[at..]))
    }
}

/// The order of messages as one number: the same for two readers exactly when they saw the same messages in the same order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    /// How many.
    pub(crate) count: u64,
    hash: u64,
}

impl Order {
    /// One more.
    pub(crate) fn add(&mut self, marker: Marker) {
        self.count += 1;
        // A multiplication by an odd number loses nothing, and a rotation keeps the order.
        self.hash = (self.hash.rotate_left(5) ^ marker.key()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// As numbers that go into JSON.
    pub(crate) fn parts(self) -> (u64, u64) {
        (self.count, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_in_any_json_and_nowhere_else() {
        let markers = [Marker { sender: 7, number: 0xffff_ffff, at: u64::MAX }, Marker { sender: 0, number: 0, at: 0 }];
        let mut text = b"42[\"new_message\",{\"content\":\"".to_vec();
        markers[0].write(100, &mut text);
        text.extend_from_slice(b"\"},{\"content\":\"~sbm is no marker\"},{\"c\":\"");
        markers[1].write(0, &mut text);
        let finder = Finder::default();
        assert_eq!(finder.first(&text), Some(markers[0]));
        assert_eq!(finder.all(&text).collect::<Vec<_>>(), markers);
        assert_eq!(finder.first(b"~sbm0000"), None);
    }

    #[test]
    fn content_has_the_length_that_was_asked_for() {
        for bytes in [36, 37, 100, 128, 1000] {
            let mut out = Vec::new();
            Marker { sender: 1, number: 2, at: 3 }.write(bytes, &mut out);
            assert_eq!(out.len(), bytes);
        }
    }

    #[test]
    fn two_orders_are_the_same_only_for_the_same_messages_in_the_same_order() {
        let order = |numbers: &[u32]| {
            let mut order = Order::default();
            numbers.iter().for_each(|&number| order.add(Marker { sender: 1, number, at: 0 }));
            order
        };
        assert_eq!(order(&[1, 2, 3]), order(&[1, 2, 3]));
        for other in [&[1, 3, 2][..], &[1, 2], &[1, 2, 2], &[1, 2, 3, 3], &[0, 1, 2, 3]] {
            assert_ne!(order(&[1, 2, 3]), order(other));
        }
    }
}
