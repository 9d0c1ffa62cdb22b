//! Documents as somebody else may have left them: each is read as what it says or named as damaged, and an entry that
//! is read is written and read again as it was.

use mongodb::bson::doc;
use test_input::{Edits, bytes};

use super::*;
use crate::{
    room::RoomType,
    testing::{message, message_entry, new_room, user},
};

fn examples() -> Vec<Vec<u8>> {
    let entry = message_entry(RoomId::random(), 7, 3, message(user(), "c-1", "hello 😀"));
    let person = doc! { "user": id(Uuid::nil()), "seq": 5_i64, "role": OWNER, "standing": 640_i64, "joined_at": date(Millis(5)) };
    vec![
        encode(&EntryForm::of(&entry)).into_bytes(),
        encode(&RoomForm::of(&new_room(RoomType::Private, "a room", user()))).into_bytes(),
        encode(&person).into_bytes(),
        encode(&NameForm::of(RoomId::random(), "a name", 5)).into_bytes(),
    ]
}

#[test]
fn any_document_is_read_or_named_as_damaged() {
    let examples = examples();
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let mut bytes = bytes(&examples, edits);
        // The length comes first; without a right one nothing else is looked at.
        if let (Some(length), Ok(right)) = (bytes.first_chunk::<4>().copied(), i32::try_from(bytes.len())) {
            let right = if length[3] > 0x7f { length } else { right.to_le_bytes() };
            bytes[..4].copy_from_slice(&right);
        }
        let Ok(document) = RawDocument::from_bytes(&bytes) else { return };
        if let Ok(form) = decode::<EntryForm<'_>>(document)
            && let Ok(entry) = form.entry()
        {
            let again = encode(&EntryForm::of(&entry));
            assert_eq!(decode::<EntryForm<'_>>(&again).expect("ours").entry().expect("ours"), entry);
        }
        if let Ok(form) = decode::<RoomForm>(document) {
            let founders = form.founders().count();
            assert_eq!(founders, form.founders.len());
            if let Ok(meta) = form.meta() {
                assert_eq!(meta.name, form.name);
            }
        }
        if let Ok(form) = decode::<MemberForm>(document) {
            assert_eq!(form.person().1.seq, form.seq);
        }
        // Only whether they are read at all.
        drop((decode::<MembershipForm>(document), decode::<NameForm>(document)));
    });
}
