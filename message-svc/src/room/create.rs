//! Making rooms: once, however often it is asked for, and also when the answer of the first try was lost. Rooms are made
//! without a task, because nothing of their log is written.

use crate::{
    error::Error,
    id::RoomId,
    room::{NewRoom, RoomType, Summary, View},
    store::{Created, Store, StoreError},
};

/// Makes a room, or answers the one that the same user has made with the same id; says whether this made it.
///
/// # Errors
/// [`Error::RoomExists`] when the id is in use for a room that the caller did not make or does not see any more.
pub async fn create(store: &dyn Store, room: NewRoom) -> Result<(Summary, bool), Error> {
    let (made, view) = make(store, &room).await?;
    match view {
        _ if made => Ok((summary_of_new(room), true)),
        Some(view) if view.visible() && view.meta.created_by == room.meta.created_by => {
            Ok((summary(store, view).await?, false))
        }
        _ => Err(Error::RoomExists),
    }
}

/// Makes the direct room of two users, or answers it; says whether this made it.
///
/// # Errors
/// The store's.
pub async fn open_direct(store: &dyn Store, room: NewRoom) -> Result<(Summary, bool), Error> {
    let (made, view) = make(store, &room).await?;
    match view {
        _ if made => Ok((summary_of_new(room), true)),
        // Its id is derived from the two, so it is theirs whoever made it.
        Some(view) if view.visible() && view.meta.room_type == RoomType::Direct => {
            Ok((summary(store, view).await?, false))
        }
        _ => Err(Error::RoomExists),
    }
}

/// Makes the room "general" when it is missing.
///
/// # Errors
/// The store's.
pub async fn ensure_general(store: &dyn Store) -> Result<(), StoreError> {
    make(store, &NewRoom::general()).await.map(|_| ())
}

/// The room as its answers show it.
///
/// # Errors
/// The store's.
pub async fn summary(store: &dyn Store, view: View) -> Result<Summary, StoreError> {
    Ok(summaries(store, vec![view]).await?.remove(0))
}

/// The rooms as their answers show them, in the same order.
///
/// # Errors
/// The store's.
pub async fn summaries(store: &dyn Store, views: Vec<View>) -> Result<Vec<Summary>, StoreError> {
    if views.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<RoomId> = views.iter().map(|view| view.meta.id).collect();
    let shown = store.shown_members(&ids).await?;
    let summary = |(view, shown): (View, Vec<_>)| Summary {
        meta: view.meta,
        member_count: view.member_count,
        shown: shown.into(),
        last_seq: view.last_seq,
    };
    Ok(views.into_iter().zip(shown).map(summary).collect())
}

/// Whether this made the room, and if not, the room that is there.
async fn make(store: &dyn Store, room: &NewRoom) -> Result<(bool, Option<View>), StoreError> {
    let created = match store.create_room(room).await {
        // The id was fixed before the first try, so the second one tells what became of it.
        Err(StoreError::Unknown(_)) => store.create_room(room).await?,
        other => other?,
    };
    Ok(match created {
        Created::New => (true, None),
        Created::Exists(view) => (view.meta.log == room.meta.log, Some(view)),
    })
}

fn summary_of_new(room: NewRoom) -> Summary {
    let member_count = i64::try_from(room.founders.len()).expect("invariant: one or two");
    let shown = room.founders.iter().map(|(user, _)| *user).collect();
    Summary { meta: room.meta.into(), member_count, shown, last_seq: 0 }
}
