//! Reading a room's log back: pages and windows of messages, and what a client has missed. Pages are ranges of message
//! numbers, so the first and the ten-thousandth cost the same.

use std::sync::Arc;

use crate::{
    cursor::Cursor,
    entry::{Entry, Seq},
    error::Error,
    room::View,
    store::Store,
};

/// Which messages of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The page of this number from 1, the newest first.
    Page(i64),
    /// Those just before this seq.
    Before(Seq),
    /// Those just after this seq.
    After(Seq),
}

/// A page of messages, in seq order.
#[derive(Clone, Debug)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<Arc<Entry>>,
    /// How many the room has.
    pub total: i64,
    /// Whether there are older ones.
    pub has_older: bool,
    /// Whether there are newer ones.
    pub has_newer: bool,
}

/// A page of entries after a cursor.
#[derive(Clone, Debug)]
pub struct EntryPage {
    /// The entries, in order.
    pub entries: Vec<Arc<Entry>>,
    /// Just after the last of them.
    pub cursor: Cursor,
    /// Whether there are more.
    pub more: bool,
}

/// The messages at a position of the room as the caller saw it just now. A page that would be larger than an answer may
/// be is cut at the end that the caller asks for next; `has_older` and `has_newer` are true to that.
///
/// # Errors
/// The store's.
pub async fn messages(
    store: &dyn Store,
    view: &View,
    position: Position,
    size: u32,
    bytes_max: usize,
) -> Result<MessagePage, Error> {
    let (room, total, size) = (view.meta.id, view.messages, i64::from(size));
    // The page holds the numbers above `low`, up to `high`.
    let (low, high) = match position {
        Position::Page(page) => {
            let high = (page - 1).checked_mul(size).map_or(0, |newer| (total - newer).max(0));
            (high - size, high)
        }
        Position::Before(seq) => {
            let high = store.messages_through(room, seq.saturating_sub(1)).await?.min(total);
            (high - size, high)
        }
        Position::After(seq) => {
            let low = store.messages_through(room, seq).await?.min(total);
            (low, low + size)
        }
    };
    let (low, high) = (low.max(0), high.min(total));
    let mut messages = if low < high { store.messages(room, low + 1, high).await? } else { Vec::new() };
    let forward = matches!(position, Position::After(_));
    let cut = cut(&mut messages, bytes_max, forward);
    Ok(MessagePage {
        messages,
        total,
        has_older: low > 0 || (cut && !forward),
        has_newer: high < total || (cut && forward),
    })
}

/// Cuts a page to about so many bytes, but never to nothing: the newest when it is read forward, else the oldest.
/// Answers whether it did.
fn cut(messages: &mut Vec<Arc<Entry>>, bytes_max: usize, forward: bool) -> bool {
    let mut bytes = 0;
    let mut fits = |entry: &Arc<Entry>| {
        bytes += entry.weight();
        bytes <= bytes_max
    };
    let whole = messages.len();
    let kept = if forward {
        messages.iter().take_while(|entry| fits(entry)).count()
    } else {
        messages.iter().rev().take_while(|entry| fits(entry)).count()
    };
    let kept = kept.max(1).min(whole);
    if forward {
        messages.truncate(kept);
    } else {
        messages.drain(..whole - kept);
    }
    kept < whole
}

/// The entries after the cursor; without one, only where the log stands.
///
/// # Errors
/// [`Error::CursorLost`] and the store's.
pub async fn entries(
    store: &dyn Store,
    view: &View,
    cursor: Option<Cursor>,
    size: u32,
    bytes_max: usize,
) -> Result<EntryPage, Error> {
    let Some(cursor) = cursor else {
        return Ok(EntryPage { entries: Vec::new(), cursor: view.cursor(), more: false });
    };
    view.holds(cursor)?;
    let entries = store.entries_after(view.meta.id, cursor.seq, size as usize, bytes_max).await?;
    let seq = entries.last().map_or(cursor.seq, |last| last.seq);
    Ok(EntryPage { entries, cursor: Cursor { seq, ..cursor }, more: seq < view.last_seq })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::RoomId,
        testing::{message, message_entry, user},
    };

    #[test]
    fn a_page_that_is_too_large_is_cut_where_the_next_one_goes_on() {
        let (room, sender) = (RoomId::random(), user());
        let page = || -> Vec<_> {
            (1..=5).map(|n| message_entry(room, n, n, message(sender, "x", &"x".repeat(10_000)))).collect()
        };
        let kept = |bytes_max, forward| {
            let mut messages = page();
            let was_cut = cut(&mut messages, bytes_max, forward);
            (messages.iter().map(|entry| entry.seq).collect::<Vec<_>>(), was_cut)
        };
        assert_eq!(kept(1 << 20, false), (vec![1, 2, 3, 4, 5], false));
        assert_eq!(kept(25_000, false), (vec![4, 5], true));
        assert_eq!(kept(25_000, true), (vec![1, 2], true));
        assert_eq!(kept(1, false), (vec![5], true));
        assert!(!cut(&mut Vec::new(), 1, true));
    }
}
