//! The last entries of a room, for the moment between reading its log and following it. Bounded in number, bytes and
//! age; the log itself is message-svc's.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::entry::Encoded;
use crate::realtime::RealtimeConfig;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    entries_max: usize,
    bytes_max: usize,
    age_max: Duration,
}

impl Bounds {
    pub(super) fn new(config: &RealtimeConfig) -> Self {
        Self { entries_max: config.recent_entries_max, bytes_max: config.recent_bytes_max, age_max: config.recent() }
    }
}

/// Entries without a hole, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<(Instant, Encoded)>,
    bytes: usize,
}

impl Recent {
    /// Adds the entry that follows the last one.
    pub(super) fn push(&mut self, entry: Encoded, bounds: Bounds) {
        self.bytes += entry.bytes();
        self.entries.push_back((Instant::now(), entry));
        self.prune(bounds);
    }

    /// Forgets what is over the bounds.
    pub(super) fn prune(&mut self, bounds: Bounds) {
        while let Some((at, oldest)) = self.entries.front() {
            let over = self.entries.len() > bounds.entries_max || self.bytes > bounds.bytes_max;
            if !over && at.elapsed() <= bounds.age_max {
                return;
            }
            self.bytes -= oldest.bytes();
            self.entries.pop_front();
        }
        // A room that has gone quiet gives the memory back.
        self.entries.shrink_to_fit();
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All entries after `seq`, when the first of them is still there.
    pub(super) fn after(&self, seq: i64) -> Option<Vec<&Encoded>> {
        let (_, first) = self.entries.front()?;
        let skip = usize::try_from(seq + 1 - first.position.seq).ok()?;
        Some(self.entries.iter().skip(skip).map(|(_, entry)| entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use mesh::proto::message::v1 as pb;

    use super::*;

    fn recent(seqs: std::ops::RangeInclusive<i64>, bounds: Bounds) -> Recent {
        let mut recent = Recent::default();
        for seq in seqs {
            let entry = pb::Entry { seq, ..pb::Entry::default() };
            recent.push(Encoded::new("r", entry, seq.to_string()), bounds);
        }
        recent
    }

    fn seqs(recent: &Recent, after: i64) -> Option<Vec<i64>> {
        recent.after(after).map(|entries| entries.iter().map(|entry| entry.position.seq).collect())
    }

    const WIDE: Bounds = Bounds { entries_max: 100, bytes_max: 1 << 20, age_max: Duration::from_secs(60) };

    #[test]
    fn what_comes_after_is_given_whole_or_not_at_all() {
        let recent = recent(5..=8, WIDE);
        assert_eq!(seqs(&recent, 4), Some(vec![5, 6, 7, 8]));
        assert_eq!(seqs(&recent, 7), Some(vec![8]));
        assert_eq!(seqs(&recent, 8), Some(vec![]));
        assert_eq!(seqs(&recent, 3), None, "entry 4 is not there any more");
        assert_eq!(seqs(&Recent::default(), 3), None);
    }

    #[test]
    fn it_is_bounded_in_number_bytes_and_age() {
        assert_eq!(seqs(&recent(1..=9, Bounds { entries_max: 3, ..WIDE }), 6), Some(vec![7, 8, 9]));
        assert_eq!(seqs(&recent(1..=9, Bounds { entries_max: 3, ..WIDE }), 5), None);
        let one = Encoded::new("r", pb::Entry { seq: 1, ..pb::Entry::default() }, "1".into()).bytes();
        let tight = recent(1..=9, Bounds { bytes_max: 2 * one, ..WIDE });
        assert_eq!((seqs(&tight, 7), seqs(&tight, 6)), (Some(vec![8, 9]), None));
        let mut old = recent(1..=9, WIDE);
        old.prune(Bounds { age_max: Duration::ZERO, ..WIDE });
        assert_eq!((old.entries.len(), old.bytes, old.entries.capacity()), (0, 0, 0));
    }
}
