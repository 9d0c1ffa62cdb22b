//! Hints as anybody on the same Redis may make them: none is taken that was not sealed with the log's id, and what a
//! replica seals by mistake is read as a whole frame or not at all.

use test_input::{Edits, bytes};

use super::*;
use crate::testing::{message, message_entry, user};

fn examples(room: RoomId, replica: Uuid, log: LogId) -> Vec<Vec<u8>> {
    let batch = [
        message_entry(room, 7, 3, message(user(), "c-1", "an ünïcode text 😀")),
        message_entry(room, 8, 4, message(user(), "c-2", "x")),
    ];
    let typing = Typing { user: user(), username: "ada".into(), typing: true };
    let mut examples: Vec<_> = [Frame::Entries(batch.into()), Frame::Head(9), Frame::Typing(typing)]
        .iter()
        .map(|frame| seal(frame, replica, log))
        .collect();
    examples.extend([Frame::Beat, Frame::Look, Frame::Bye].iter().map(|frame| common(frame, replica)));
    examples
}

#[test]
fn no_edited_hint_passes_for_one_of_ours() {
    let (room, replica, log) = (RoomId::random(), Uuid::new_v4(), LogId::random());
    let examples = examples(room, replica, log);
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let bytes = bytes(&examples, edits);
        let Some(message) = open(&bytes) else { return };
        assert_eq!(message.is_sealed_with(log), examples[..3].contains(&bytes));
    });
}

#[test]
fn a_hint_that_is_sealed_is_a_whole_frame_or_none() {
    let (room, replica, log) = (RoomId::random(), Uuid::new_v4(), LogId::random());
    let examples = examples(room, replica, log);
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let bytes = bytes(&examples, edits);
        let Some(frame) = open(&bytes).and_then(|message| message.frame(room)) else { return };
        if let Frame::Entries(batch) = &frame {
            assert!(!batch.is_empty() && batch[0].seq >= 1);
            assert!(batch.iter().zip(batch[0].seq..).all(|(entry, seq)| entry.seq == seq && entry.room == room));
        }
        let again = seal(&frame, replica, log);
        assert_eq!(open(&again).and_then(|message| message.frame(room)), Some(frame));
    });
}
