//! What an operator asks for while message-svc is stopped: everything that follows from the logs made anew, and new ids for
//! logs that were restored. Both may be cut and run again.

use std::sync::Arc;

use mongodb::bson::{Document, doc};

use super::{
    Collections,
    calls::{Cause, Fault},
    documents::{RoomForm, UNPROJECTED, date, decode, id},
    projection::project,
    rooms,
};
use crate::{
    id::{LogId, RoomId},
    member::Standing,
    room::RoomType,
    store::fold,
};

/// Rooms that are read at once, and statements of one command.
const AT_ONCE: usize = 200;

/// Makes members, names and counts from the logs, and the claims that lead to rooms; how many rooms there are.
pub(super) async fn rebuild(store: Arc<Collections>) -> Result<u64, Fault> {
    let (mut after, mut count) = (None, 0);
    loop {
        let ids = rooms::rooms_after(Arc::clone(&store), after, AT_ONCE).await?;
        let Some(last) = ids.last() else { return Ok(count) };
        after = Some(*last);
        for room in ids {
            project_anew(&store, room).await?;
            claim_anew(&store, room).await?;
            count += 1;
        }
    }
}

/// Where this is cut, the room's document says that nothing of its log is in it, and the next to load it goes on.
async fn project_anew(store: &Collections, room: RoomId) -> Result<(), Fault> {
    let own = doc! { "_id": id(room.0) };
    let Some(document) = store.rooms.find_one(own.clone()).await? else { return Ok(()) };
    let form: RoomForm = decode(&document)?;
    let founders = i64::try_from(form.founders().count()).expect("invariant: one or two");
    let reset = doc! {
        "$set": { "projected": UNPROJECTED, "named": 0_i64, "member_count": founders },
        "$unset": { "closed_at": "" },
    };
    store.rooms.update_one(own, reset).await?;
    store.members.delete_many(doc! { "room": id(room.0) }).await?;
    project(store, room).await
}

/// Claims that are there stay; those that are over are taken away by whoever meets them.
async fn claim_anew(store: &Collections, room: RoomId) -> Result<(), Fault> {
    let Some(seen) = rooms::views(store, &[room], None).await?.remove(&room) else { return Ok(()) };
    if seen.view.closed {
        return Ok(());
    }
    let Some(state) = rooms::load(store, room).await? else { return Ok(()) };
    let members = state.members.page(None, usize::MAX);
    let claims = members.iter().map(|member| {
        let Standing(standing) = member.standing;
        let (user, joined_at) = (id(member.user.0), date(member.joined_at));
        doc! { "user": user, "joined_at": joined_at, "room": id(room.0), "standing": standing }
    });
    let claims: Vec<_> = claims.map(|claim| upsert(claim, "standing")).collect();
    update(store, store.memberships.name(), claims).await?;
    if state.meta.room_type == RoomType::Public {
        let claim = doc! { "key": fold(&state.meta.name), "room": id(room.0), "seq": seen.named };
        update(store, store.directory.name(), vec![upsert(claim, "seq")]).await?;
    }
    Ok(())
}

/// A statement that makes the document when there is none like it.
fn upsert(document: Document, field: &str) -> Document {
    let same = document.get(field).cloned();
    doc! { "q": document, "u": { "$set": { field: same } }, "upsert": true }
}

async fn update(store: &Collections, collection: &str, updates: Vec<Document>) -> Result<(), Fault> {
    for updates in updates.chunks(AT_ONCE) {
        let concern = store.concern();
        let command = doc! { "update": collection, "updates": updates.to_vec(), "writeConcern": concern };
        let answer = store.db.run_command(command).await?;
        if answer.contains_key("writeErrors") || answer.contains_key("writeConcernError") {
            return Err(Fault::Refused(Cause::new(format!("a write to {collection} was refused or not confirmed"))));
        }
    }
    Ok(())
}

/// Gives every log another id; how many rooms there are.
pub(super) async fn renew_logs(store: Arc<Collections>) -> Result<u64, Fault> {
    let (mut after, mut count) = (None, 0);
    loop {
        let ids = rooms::rooms_after(Arc::clone(&store), after, AT_ONCE).await?;
        let Some(last) = ids.last() else { return Ok(count) };
        after = Some(*last);
        let renew = |room: &RoomId| {
            let log = id(LogId::random().0);
            doc! { "q": { "_id": id(room.0) }, "u": { "$set": { "log": log } } }
        };
        let renewals: Vec<_> = ids.iter().map(renew).collect();
        count += u64::try_from(renewals.len()).unwrap_or(u64::MAX);
        update(&store, store.rooms.name(), renewals).await?;
    }
}
