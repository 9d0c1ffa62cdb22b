//! Claims: what lets a room be found by a member or by its name. A claim says only what may be so, and is written before
//! the entry that makes it so; whoever lists takes each claim to its room and sees whether it holds. So a membership or a
//! name that is durable is always found, also when the process that wrote it died at once. Claims that came to nothing, or
//! are over, are taken away by whoever meets them.

use std::sync::Arc;

use mongodb::{
    Collection,
    bson::{Document, RawDocumentBuf, doc, oid::ObjectId},
};
use serde::de::DeserializeOwned;

use super::{
    Collections,
    calls::{Cause, Fault},
    documents::{MembershipForm, NameForm, date, decode, encode, id, uuid},
    projection::{joiners, project},
    rooms::{Seen, views},
};
use crate::{
    entry::{Entry, Event, Seq},
    id::{RoomId, UserId},
    member::{Member, Role, Standing},
    room::{NewRoom, RoomType, View},
    store::{JoinedBefore, NamedAfter, fold},
};

/// Rooms that are looked at together, at most.
const ROOMS_MAX: usize = 100;

/// Claims that are to be made.
#[derive(Default)]
pub(super) struct Claims {
    memberships: Vec<RawDocumentBuf>,
    names: Vec<RawDocumentBuf>,
}

impl Claims {
    /// What the entries will make so.
    pub(super) fn of_entries(entries: &[Arc<Entry>]) -> Self {
        let mut claims = Self::default();
        for entry in entries {
            claims.memberships.extend(joiners(entry).map(|member| encode(&MembershipForm::of(entry.room, &member))));
            if let Event::Updated(updated) = &entry.event
                && updated.room_type == RoomType::Public
            {
                claims.names.push(encode(&NameForm::of(entry.room, &updated.name, entry.seq)));
            }
        }
        claims
    }

    /// What the making of the room will make so.
    pub(super) fn of_new(room: &NewRoom) -> Self {
        let meta = &room.meta;
        let member = |(place, (user, role)): (usize, &(UserId, Role))| Member {
            user: *user,
            role: *role,
            standing: Standing::new(0, place),
            joined_at: meta.created_at,
        };
        let members = room.founders.iter().enumerate().map(member);
        let public = meta.room_type == RoomType::Public;
        Self {
            memberships: members.map(|member| encode(&MembershipForm::of(meta.id, &member))).collect(),
            names: public.then(|| encode(&NameForm::of(meta.id, &meta.name, 0))).into_iter().collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.memberships.is_empty() && self.names.is_empty()
    }

    /// Makes them.
    pub(super) async fn write(self, store: Arc<Collections>) -> Result<(), Fault> {
        if !self.memberships.is_empty() {
            store.memberships.insert_many(self.memberships).await?;
        }
        if !self.names.is_empty() {
            store.directory.insert_many(self.names).await?;
        }
        Ok(())
    }
}

/// What both kinds of claim have in common.
trait Claim: DeserializeOwned {
    /// The document's own id.
    fn id(&self) -> ObjectId;
    /// The room that it leads to.
    fn room(&self) -> RoomId;
    /// The entry that makes it so.
    fn seq(&self) -> Seq;
    /// Whether it is so.
    fn holds(&self, seen: &Seen) -> bool;
}

impl Claim for MembershipForm {
    fn id(&self) -> ObjectId {
        self._id
    }

    fn room(&self) -> RoomId {
        RoomId(uuid(self.room))
    }

    fn seq(&self) -> Seq {
        Standing(self.standing).seq()
    }

    fn holds(&self, seen: &Seen) -> bool {
        !seen.view.closed && seen.view.member.is_some_and(|member| self.is(&member))
    }
}

impl Claim for NameForm {
    fn id(&self) -> ObjectId {
        self._id
    }

    fn room(&self) -> RoomId {
        RoomId(uuid(self.room))
    }

    fn seq(&self) -> Seq {
        self.seq
    }

    fn holds(&self, seen: &Seen) -> bool {
        let View { meta, closed, .. } = &seen.view;
        !closed && meta.room_type == RoomType::Public && seen.named == self.seq && fold(&meta.name) == self.key
    }
}

pub(super) async fn rooms_of(
    store: Arc<Collections>,
    user: UserId,
    after: Option<JoinedBefore>,
    rooms_max: usize,
) -> Result<Vec<View>, Fault> {
    let owned = doc! { "user": id(user.0) };
    let mut filter = owned.clone();
    if let Some(JoinedBefore { joined_at, room }) = after {
        // The range is the index's; what is left out of it are rooms of one millisecond.
        filter.insert("joined_at", doc! { "$lte": date(joined_at) });
        filter.insert("$nor", vec![doc! { "joined_at": date(joined_at), "room": { "$gte": id(room.0) } }]);
    }
    let sort = doc! { "joined_at": -1, "room": -1 };
    let page = Page { collection: &store.memberships, owned, filter, sort, user, rooms_max };
    page.list::<MembershipForm>(&store).await
}

pub(super) async fn public_rooms(
    store: Arc<Collections>,
    user: UserId,
    search: String,
    after: Option<NamedAfter>,
    rooms_max: usize,
) -> Result<Vec<View>, Fault> {
    let mut filter = Document::new();
    if let Some(NamedAfter { name, room }) = after {
        let key = fold(&name);
        filter.insert("key", doc! { "$gte": &key });
        filter.insert("$nor", vec![doc! { "key": key, "room": { "$lte": id(room.0) } }]);
    }
    if !search.is_empty() {
        // Not a pattern, and not a field's name: letters.
        let place = doc! { "$indexOfBytes": ["$key", { "$literal": fold(&search) }] };
        filter.insert("$expr", doc! { "$gte": [place, 0] });
    }
    let sort = doc! { "key": 1, "room": 1 };
    let page = Page { collection: &store.directory, owned: Document::new(), filter, sort, user, rooms_max };
    page.list::<NameForm>(&store).await
}

/// A page of rooms that claims lead to.
struct Page<'a> {
    collection: &'a Collection<RawDocumentBuf>,
    /// What all claims have that this page may take away: the shard key, where there is one.
    owned: Document,
    filter: Document,
    sort: Document,
    /// Who looks.
    user: UserId,
    rooms_max: usize,
}

impl Page<'_> {
    async fn list<C: Claim>(self, store: &Collections) -> Result<Vec<View>, Fault> {
        let at_once = self.rooms_max.clamp(1, ROOMS_MAX);
        let find = self.collection.find(self.filter.clone()).sort(self.sort.clone()).max_time(store.call);
        let mut cursor = find.batch_size(u32::try_from(at_once).expect("invariant: at most 100")).await?;
        let mut found: Vec<View> = Vec::new();
        let mut more = true;
        while more && found.len() < self.rooms_max {
            let mut claims: Vec<C> = Vec::with_capacity(at_once);
            while claims.len() < at_once {
                more = cursor.advance().await?;
                if !more {
                    break;
                }
                claims.push(decode(cursor.current())?);
            }
            self.sift(store, claims, &mut found).await?;
        }
        found.truncate(self.rooms_max);
        Ok(found)
    }

    /// Takes in the rooms whose claims hold, in the claims' order, and takes away those that never will.
    async fn sift<C: Claim>(&self, store: &Collections, claims: Vec<C>, found: &mut Vec<View>) -> Result<(), Fault> {
        let rooms: Vec<_> = claims.iter().map(C::room).collect();
        let seen = views(store, &rooms, Some(self.user)).await?;
        let mut over = Vec::new();
        for claim in claims {
            let room = claim.room();
            // One without its room waits for it: the room is made after it.
            let Some(seen) = seen.get(&room) else { continue };
            if !claim.holds(seen) {
                // Until its entry's place is taken it may yet come to hold. And who was in a room is to be found there
                // when the claim is gone.
                let is_over = seen.view.closed || seen.view.last_seq >= claim.seq();
                if is_over && project(store, room).await.is_ok() {
                    over.push(claim.id());
                }
            } else if found.last().is_none_or(|last| last.meta.id != room) {
                // The same claim may have been made twice.
                found.push(seen.view.clone());
            }
        }
        if !over.is_empty() {
            let mut filter = self.owned.clone();
            filter.insert("_id", doc! { "$in": over });
            if let Err(error) = self.collection.delete_many(filter).await {
                tracing::debug!(error = %Cause::of(&error), "claims that are over stay for now");
            }
        }
        Ok(())
    }
}
