//! What one person has sent, in all rooms that they have ever been in: for the document of what is held about them, and for
//! its erasure when their account is deleted. Rooms are found by who has been in them, messages within a room by their
//! sender, so the cost is that of what they have sent.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    entry::{Entry, Event},
    error::Error,
    id::{RoomId, UserId},
    message::{self, ClientMessageId, Message},
    names::Names,
    order::Change,
    rooms::Rooms,
    store::Store,
};

/// The name that stands where somebody wrote whose account is deleted. A username has no space, so nobody can be called so.
pub const DELETED: &str = "deleted user";

/// Rooms that one call looks through, so that it ends in time also where they wrote in few of many.
const ROOMS_MAX: usize = 50;
/// Rooms that one call has somebody leave: each is a write.
const DEPARTURES_MAX: usize = 50;
/// Messages that one call erases, for the same reason.
const ERASED_MAX: usize = 200;
/// About the bytes of a page: what an answer may have, with room for what a message weighs more on the wire.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// A place in what somebody has sent, room by room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentAfter {
    /// The last room seen.
    pub room: RoomId,
    /// The last message seen there; none when nothing is left in it.
    pub client_id: Option<ClientMessageId>,
}

/// What becomes of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// They lose the name of who wrote them.
    Keep,
    /// They lose all that they say, too.
    Blank,
}

/// A page of what somebody has sent, and where it goes on. It may be empty though there is more.
///
/// # Errors
/// The store's.
pub async fn page(
    store: &dyn Store,
    user: UserId,
    after: Option<SentAfter>,
    messages_max: usize,
) -> Result<(Vec<Arc<Entry>>, Option<SentAfter>), Error> {
    let mut found = Vec::new();
    let mut bytes = 0;
    let (last, mut client_id) = after.map_or((None, None), |after| (Some(after.room), after.client_id));
    let begun = last.filter(|_| client_id.is_some());
    let rooms = store.rooms_known_to(user, last, ROOMS_MAX).await?;
    let full = rooms.len() == ROOMS_MAX;
    let mut last = None;
    for room in begun.into_iter().chain(rooms) {
        loop {
            let asked = messages_max - found.len();
            let sent = store.sent_by(room, user, client_id.as_ref(), asked).await?;
            let more = sent.len() == asked;
            for entry in sent {
                bytes += entry.weight();
                client_id = entry.message().map(|message| message.client_id.clone());
                found.push(entry);
                if found.len() >= messages_max || bytes >= PAGE_BYTES_MAX {
                    return Ok((found, Some(SentAfter { room, client_id })));
                }
            }
            if !more {
                break;
            }
        }
        (last, client_id) = (Some(room), None);
    }
    Ok((found, last.filter(|_| full).map(|room| SentAfter { room, client_id: None })))
}

/// What erases people.
#[derive(Clone)]
pub(crate) struct Eraser {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) names: Arc<Names>,
}

impl Eraser {
    /// Does a part of it: first they leave their rooms, then page after page of their messages is erased. Answers where it
    /// goes on; none when all is done.
    ///
    /// # Errors
    /// The store's, or those of a room that is busy: to be called again.
    pub(crate) async fn erase(
        &self,
        user: UserId,
        what: Erased,
        after: Option<SentAfter>,
    ) -> Result<Option<SentAfter>, Error> {
        self.names.forget(user);
        // All of them at first, so that they can write nowhere any more when the messages' turn comes.
        let joined = self.store.rooms_of(user, None, DEPARTURES_MAX).await?;
        for view in &joined {
            match self.rooms.change(view.meta.id, Change::Depart(user)).await {
                // It was closed meanwhile.
                Ok(_) | Err(Error::RoomNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        if !joined.is_empty() {
            // Until a look has shown that they are in no room.
            return Ok(Some(after.unwrap_or(SentAfter { room: RoomId(Uuid::nil()), client_id: None })));
        }
        let (sent, next) = page(&*self.store, user, after, ERASED_MAX).await?;
        let erased: Vec<_> = sent.iter().filter_map(|entry| erased(entry, what)).collect();
        if !erased.is_empty() {
            self.store.rewrite(&erased).await?;
        }
        Ok(next)
    }
}

/// The message without what is erased; none when there is nothing to do.
fn erased(entry: &Entry, what: Erased) -> Option<Arc<Entry>> {
    let before = entry.message()?;
    let mut message = Message { username: DELETED.into(), ..before.clone() };
    if what == Erased::Blank {
        message.content.clear();
        message.metadata.clear();
        message::TEXT.clone_into(&mut message.message_type);
    }
    if message == *before {
        return None;
    }
    Some(Arc::new(Entry { event: Event::Message(Arc::new(message)), ..entry.clone() }))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{
        config::NamesConfig,
        member::Role,
        names::{Directory, DirectoryError},
        room::{NewRoom, RoomType},
        testing::{message, new_room, rooms, sqlite, user, whole_log},
    };

    /// A user-svc that knows nobody any more.
    struct Nobody;

    #[async_trait]
    impl Directory for Nobody {
        async fn usernames(&self, _: &[UserId]) -> Result<Vec<(UserId, String)>, DirectoryError> {
            Ok(Vec::new())
        }
    }

    fn eraser(store: &Arc<dyn Store>) -> Eraser {
        let names = Arc::new(Names::new(Arc::new(Nobody), &NamesConfig::default()));
        Eraser { store: Arc::clone(store), rooms: rooms(store), names }
    }

    async fn erase_all(eraser: &Eraser, user: UserId, what: Erased) {
        let mut after = None;
        for _ in 0..100 {
            after = eraser.erase(user, what, after).await.expect("erased");
            if after.is_none() {
                return;
            }
        }
        panic!("it comes to no end");
    }

    async fn sent(store: &dyn Store, user: UserId, size: usize) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (entries, next) = page(store, user, after, size).await.expect("read");
            assert!(entries.len() <= size);
            all.extend(entries.iter().filter_map(|entry| entry.message()).map(|message| message.content.clone()));
            after = next;
            if after.is_none() {
                all.sort();
                return all;
            }
        }
    }

    #[tokio::test]
    async fn what_somebody_sent_is_found_page_by_page_also_in_rooms_that_they_have_left() {
        let (store, _folder) = sqlite().await;
        let rooms = rooms(&store);
        let (who, else_) = (user(), user());
        let mut expected = Vec::new();
        // More rooms than one page looks through; in most of them they wrote nothing.
        for n in 0..ROOMS_MAX + 7 {
            let room = new_room(RoomType::Public, "a room", else_);
            store.create_room(&room).await.expect("made");
            rooms.change(room.meta.id, Change::Join(who)).await.expect("joined");
            if n % 10 == 3 {
                for m in 0..5 {
                    let text = format!("{n}.{m}");
                    rooms.send(room.meta.id, message(who, &text, &text)).await.expect("sent");
                    rooms.send(room.meta.id, message(else_, &text, "another's")).await.expect("sent");
                    expected.push(text);
                }
                rooms.change(room.meta.id, Change::Leave(who)).await.expect("left");
            }
        }
        expected.sort();
        for size in [1, 4, 5, 100] {
            assert_eq!(sent(&*store, who, size).await, expected, "{size}");
        }
        assert!(sent(&*store, user(), 10).await.is_empty());
    }

    #[tokio::test]
    async fn who_is_erased_leaves_every_room_and_their_messages_stay_without_them() {
        for what in [Erased::Keep, Erased::Blank] {
            let (store, _folder) = sqlite().await;
            let eraser = eraser(&store);
            let rooms = Arc::clone(&eraser.rooms);
            let (who, friend) = (user(), user());
            let owned = new_room(RoomType::Private, "theirs", who);
            let left = new_room(RoomType::Public, "left", friend);
            let (direct, alone) = (NewRoom::direct(who, friend), new_room(RoomType::Private, "alone", who));
            for room in [&owned, &left, &direct, &alone] {
                store.create_room(room).await.expect("made");
            }
            rooms.change(owned.meta.id, Change::Add { by: who, user: friend }).await.expect("added");
            rooms.change(left.meta.id, Change::Join(who)).await.expect("joined");
            for room in [&owned, &left, &direct] {
                let mut told = message(who, "c1", "a secret");
                told.metadata.insert("place".into(), "here".into());
                rooms.send(room.meta.id, told).await.expect("sent");
                rooms.send(room.meta.id, message(friend, "c1", "an answer")).await.expect("sent");
            }
            rooms.change(left.meta.id, Change::Leave(who)).await.expect("left");
            let before = whole_log(&*store, left.meta.id).await;

            // Twice: whoever lost the answer asks again.
            for _ in 0..2 {
                erase_all(&eraser, who, what).await;
            }
            assert!(store.rooms_of(who, None, 10).await.expect("read").is_empty());
            let state = store.load(owned.meta.id).await.expect("read").expect("is there");
            assert_eq!(state.members.get(friend).map(|member| member.role), Some(Role::Owner), "it is the friend's");
            assert!(store.load(alone.meta.id).await.expect("read").expect("is there").closed);
            let state = store.load(direct.meta.id).await.expect("read").expect("is there");
            assert_eq!((state.members.len(), state.closed), (1, false), "the other may read on");
            for room in [&owned, &left, &direct] {
                let log = whole_log(&*store, room.meta.id).await;
                let theirs = |entry: &&Arc<Entry>| entry.message().is_some_and(|message| message.sender == who);
                let message = log.iter().find(theirs).and_then(|entry| entry.message()).expect("is in its place");
                let (text, data) = if what == Erased::Keep { ("a secret", 1) } else { ("", 0) };
                assert_eq!((&*message.username, &*message.content, message.metadata.len()), (DELETED, text, data));
                let other = log.iter().filter_map(|entry| entry.message()).find(|message| message.sender == friend);
                assert_eq!(
                    other.map(|message| (&*message.username, &*message.content)),
                    Some(("somebody", "an answer"))
                );
            }
            let after = whole_log(&*store, left.meta.id).await;
            let place = |entry: &Arc<Entry>| (entry.id, entry.seq, entry.messages, entry.at);
            assert!(before.iter().map(place).eq(after.iter().map(place)), "ids, places and times stay");
            // The last one out of a direct room closes it.
            erase_all(&eraser, friend, what).await;
            assert!(store.load(direct.meta.id).await.expect("read").expect("is there").closed);
        }
    }
}
