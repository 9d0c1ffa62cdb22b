//! Reading rooms and members: what a task loads, what a caller sees. `rooms` and `members` may be behind the log or, in
//! part, ahead of what was read of it a moment before. So the log is always read last, and the changes that the documents
//! do not know of yet are taken in: what is answered is the room as of one entry.

use std::{collections::HashMap, sync::Arc};

use mongodb::bson::{self, Document, doc};
use serde::Deserialize;

use super::{
    Collections,
    calls::{Cause, DUPLICATE_KEY, Failure, Fault, code, surely_not_sent},
    documents::{EntryForm, MemberForm, RoomForm, UNPROJECTED, decode, encode, id, uuid},
    log::{Tail, tail, tail_stage},
    projection::{self, People, add_founders, changes_after, project},
    schema::{ENTRIES, MEMBERS},
};
use crate::{
    entry::{Entry, Seq},
    id::{RoomId, UserId},
    member::{Member, Members, SHOWN_MAX, Standing},
    room::{NewRoom, View, state::RoomState},
    store::StoreError,
};

/// Changes that the server adds to a room it answers, so that so many changes of so many rooms fit into one answer. A room
/// that is further behind is read by itself.
const CHANGES_MAX: usize = 16;
/// Changes that are read at once when a room is loaded.
const CHANGES_AT_ONCE: usize = 256;

/// A room as somebody looks at it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) view: View,
    /// The entry that gave it its name; 0 is its making.
    pub(super) named: Seq,
}

/// What the pipeline of [`views`] answers for one room.
#[derive(Deserialize)]
struct SeenForm<'a> {
    room: RoomForm,
    #[serde(default)]
    member: Vec<MemberForm>,
    tail: Vec<Tail>,
    #[serde(borrow)]
    changes: Vec<EntryForm<'a>>,
}

/// Makes the room; the founders and the room are one document.
pub(super) async fn create(store: Arc<Collections>, room: NewRoom) -> Result<(), Fault> {
    store.rooms.insert_one(encode(&RoomForm::of(&room))).await?;
    Ok(())
}

/// Whether a room was made, when making it failed: false is that the id is in use.
pub(super) fn judge_create(failure: Failure) -> Result<bool, StoreError> {
    match failure {
        Failure::NotBegun(cause) => Err(StoreError::unavailable(cause)),
        Failure::Fault(Fault::Driver(error)) if code(&error) == Some(DUPLICATE_KEY) => Ok(false),
        Failure::Fault(Fault::Driver(error)) if surely_not_sent(&error) => {
            Err(StoreError::unavailable(Cause::of(&error)))
        }
        other @ (Failure::NoAnswer(_) | Failure::Fault(_)) => Err(StoreError::unknown(other.cause())),
    }
}

/// The rooms as the user may look at them; those that are not there are left out.
pub(super) async fn views(
    store: &Collections,
    rooms: &[RoomId],
    user: Option<UserId>,
) -> Result<HashMap<RoomId, Seen>, Fault> {
    let mut seen = HashMap::with_capacity(rooms.len());
    let mut behind = Vec::new();
    let mut cursor = store.rooms.aggregate(view_pipeline(rooms, user)).max_time(store.call).await?;
    while cursor.advance().await? {
        let form: SeenForm<'_> = decode(cursor.current())?;
        let room = form.room.meta()?.id;
        if form.changes.len() < CHANGES_MAX {
            seen.insert(room, overlay(form, user)?.seen(user)?);
        } else {
            behind.push(room);
        }
    }
    for room in behind {
        if let Some(whole) = whole(store, room).await? {
            seen.insert(room, whole.seen(user)?);
        }
    }
    Ok(seen)
}

/// The order matters: a member's document may be ahead of the room's, and the changes are read after both, and after the
/// end of the log.
fn view_pipeline(rooms: &[RoomId], user: Option<UserId>) -> Vec<Document> {
    let ids: Vec<_> = rooms.iter().map(|room| id(room.0)).collect();
    let mut stages =
        vec![doc! { "$match": { "_id": { "$in": ids } } }, doc! { "$project": { "_id": 0, "room": "$$ROOT" } }];
    if let Some(user) = user {
        stages.push(doc! { "$lookup": {
            "from": MEMBERS,
            "localField": "room._id",
            "foreignField": "room",
            "pipeline": [{ "$match": { "user": id(user.0) } }],
            "as": "member",
        } });
    }
    stages.push(tail_stage("room._id"));
    stages.push(changes_stage("room._id", "$room.projected", CHANGES_MAX));
    stages
}

/// The stage that adds the first changes that a room's document does not know of.
fn changes_stage(room: &str, projected: &str, changes_max: usize) -> Document {
    let limit = i64::try_from(changes_max).expect("invariant: a small number");
    doc! { "$lookup": {
        "from": ENTRIES,
        "localField": room,
        "foreignField": "room",
        "let": { "projected": projected },
        "pipeline": [
            // The first condition is for the partial index, which knows nothing of variables.
            { "$match": { "change": { "$gt": 0_i64 }, "$expr": { "$gt": ["$change", "$$projected"] } } },
            { "$sort": { "change": 1 } },
            { "$limit": limit },
        ],
        "as": "changes",
    } }
}

/// A room as of one entry.
struct Whole {
    form: RoomForm,
    /// All who were ever in it, or some of them.
    people: People,
    last_seq: Seq,
    messages: i64,
}

impl Whole {
    fn new(form: RoomForm, people: People, tail: Option<&Tail>) -> Self {
        let (last_seq, messages) = tail.map_or((0, 0), |tail| (tail.seq, tail.messages));
        Self { form, people, last_seq, messages }
    }

    /// Takes in the next change, for all people or for this one alone.
    fn take_in(&mut self, entry: &Entry, only: Option<UserId>) {
        self.form.take_in(entry);
        projection::take_in(&mut self.people, entry, only);
        if entry.seq > self.last_seq {
            (self.last_seq, self.messages) = (entry.seq, entry.messages);
        }
    }

    fn seen(&self, user: Option<UserId>) -> Result<Seen, Fault> {
        let view = View {
            meta: Arc::new(self.form.meta()?),
            member_count: self.form.member_count,
            last_seq: self.last_seq,
            messages: self.messages,
            closed: self.form.closed_at.is_some(),
            member: user.and_then(|user| self.people.get(&user)).and_then(|person| person.member),
        };
        Ok(Seen { view, named: self.form.named })
    }
}

fn overlay(form: SeenForm<'_>, user: Option<UserId>) -> Result<Whole, Fault> {
    let SeenForm { room, member, tail, changes } = form;
    let mut people: People = member.iter().map(MemberForm::person).collect();
    add_founders(&mut people, &room, user);
    let mut whole = Whole::new(room, people, tail.first());
    for change in &changes {
        whole.take_in(&*change.entry()?, user);
    }
    Ok(whole)
}

/// A room with all its people, however far its documents are behind. Brings them up to date if it can.
async fn whole(store: &Collections, room: RoomId) -> Result<Option<Whole>, Fault> {
    let Some(document) = store.rooms.find_one(doc! { "_id": id(room.0) }).max_time(store.call).await? else {
        return Ok(None);
    };
    let form: RoomForm = decode(&document)?;
    let before = form.projected;
    let mut people = people(store, room).await?;
    add_founders(&mut people, &form, None);
    let mut whole = Whole::new(form, people, tail(store, room).await?.as_ref());
    loop {
        let changes = changes_after(store, room, whole.form.projected, CHANGES_AT_ONCE).await?;
        changes.iter().for_each(|entry| whole.take_in(entry, None));
        if changes.len() < CHANGES_AT_ONCE {
            break;
        }
    }
    if whole.form.projected != before || before == UNPROJECTED {
        catch_up(store, room).await;
    }
    Ok(Some(whole))
}

/// All that a room's task remembers, as of the last entry.
pub(super) async fn load(store: &Collections, room: RoomId) -> Result<Option<RoomState>, Fault> {
    let Some(whole) = whole(store, room).await? else { return Ok(None) };
    let Whole { form, people, last_seq, messages } = whole;
    Ok(Some(RoomState {
        meta: Arc::new(form.meta()?),
        members: Members::new(people.into_values().filter_map(|person| person.member)),
        closed: form.closed_at.is_some(),
        last_seq,
        messages,
    }))
}

/// Writes what follows from the entries, if it can be: whoever comes next will otherwise.
pub(super) async fn catch_up(store: &Collections, room: RoomId) {
    if let Err(fault) = project(store, room).await {
        metrics::counter!("switchboard_message_projection_failed_total").increment(1);
        tracing::debug!(room.id = %room, error = %Failure::Fault(fault).cause(), "a room's documents stay behind its log");
    }
}

/// Everybody who is in the room. While it is read somebody may move to the end of it, and is then met twice.
async fn people(store: &Collections, room: RoomId) -> Result<People, Fault> {
    let mut cursor =
        store.members.find(standing_after(room, None)).sort(doc! { "standing": 1 }).max_time(store.call).await?;
    let mut people: People = HashMap::new();
    while cursor.advance().await? {
        let (user, person) = decode::<MemberForm>(cursor.current())?.person();
        let known = people.entry(user).or_insert(person);
        if person.seq > known.seq {
            *known = person;
        }
    }
    Ok(people)
}

fn standing_after(room: RoomId, after: Option<Standing>) -> Document {
    doc! { "room": id(room.0), "standing": { "$gt": after.map_or(-1, |standing| standing.0) } }
}

#[derive(Deserialize)]
struct ShownForm {
    _id: bson::Uuid,
    projected: Seq,
    changes: Vec<bson::RawDocumentBuf>,
    #[serde(default)]
    shown: Vec<UserForm>,
}

#[derive(Deserialize)]
struct UserForm {
    user: bson::Uuid,
}

impl ShownForm {
    /// Whether `members` has all that was durable when this was read.
    fn is_current(&self) -> bool {
        self.projected != UNPROJECTED && self.changes.is_empty()
    }
}

/// Rooms with whether `members` is up to date, and with the first members as it has them.
async fn shown_forms(store: &Collections, rooms: &[RoomId], shown_max: usize) -> Result<Vec<ShownForm>, Fault> {
    let ids: Vec<_> = rooms.iter().map(|room| id(room.0)).collect();
    let mut stages = vec![
        doc! { "$match": { "_id": { "$in": ids } } },
        doc! { "$project": { "projected": 1 } },
        changes_stage("_id", "$projected", 1),
    ];
    if shown_max > 0 {
        stages.push(doc! { "$lookup": {
            "from": MEMBERS,
            "localField": "_id",
            "foreignField": "room",
            "pipeline": [
                { "$match": { "standing": { "$gt": -1_i64 } } },
                { "$sort": { "standing": 1 } },
                { "$limit": i64::try_from(shown_max).expect("invariant: a small number") },
                { "$project": { "_id": 0, "user": 1 } },
            ],
            "as": "shown",
        } });
    }
    let mut cursor = store.rooms.aggregate(stages).max_time(store.call).await?;
    let mut forms = Vec::with_capacity(rooms.len());
    while cursor.advance().await? {
        forms.push(decode(cursor.current())?);
    }
    Ok(forms)
}

/// The ids of rooms after this one, in their order.
pub(super) async fn rooms_after(
    store: Arc<Collections>,
    after: Option<RoomId>,
    rooms_max: usize,
) -> Result<Vec<RoomId>, Fault> {
    let after = after.map_or(::uuid::Uuid::nil(), |room| room.0);
    let limit = i64::try_from(rooms_max).unwrap_or(i64::MAX);
    let find = store.rooms.find(doc! { "_id": { "$gt": id(after) } }).sort(doc! { "_id": 1 }).limit(limit);
    let mut cursor = find.projection(doc! { "_id": 1 }).max_time(store.call).await?;
    let mut rooms = Vec::new();
    while cursor.advance().await? {
        let IdForm { _id } = decode(cursor.current())?;
        rooms.push(RoomId(uuid(_id)));
    }
    Ok(rooms)
}

#[derive(Deserialize)]
struct RoomOf {
    room: bson::Uuid,
}

/// By what is known of the person in rooms, which stays when they leave: a claim goes only after that has been written.
pub(super) async fn rooms_known_to(
    store: Arc<Collections>,
    user: UserId,
    after: Option<RoomId>,
    rooms_max: usize,
) -> Result<Vec<RoomId>, Fault> {
    let after = after.map_or(::uuid::Uuid::nil(), |room| room.0);
    let limit = i64::try_from(rooms_max).unwrap_or(i64::MAX);
    let filter = doc! { "user": id(user.0), "room": { "$gt": id(after) } };
    let find =
        store.members.find(filter).sort(doc! { "room": 1 }).limit(limit).projection(doc! { "_id": 0, "room": 1 });
    let mut cursor = find.max_time(store.call).await?;
    let mut rooms = Vec::new();
    while cursor.advance().await? {
        let RoomOf { room } = decode(cursor.current())?;
        rooms.push(RoomId(uuid(room)));
    }
    Ok(rooms)
}

#[derive(serde::Deserialize)]
struct IdForm {
    _id: mongodb::bson::Uuid,
}

pub(super) async fn shown_members(store: Arc<Collections>, rooms: Vec<RoomId>) -> Result<Vec<Vec<UserId>>, Fault> {
    let mut shown = HashMap::new();
    for form in shown_forms(&store, &rooms, SHOWN_MAX).await? {
        let room = RoomId(uuid(form._id));
        let users = if form.is_current() {
            form.shown.iter().map(|form| UserId(uuid(form.user))).collect()
        } else {
            load(&store, room).await?.map_or_else(Vec::new, |mut state| state.members.shown().to_vec())
        };
        shown.insert(room, users);
    }
    Ok(rooms.iter().map(|room| shown.get(room).cloned().unwrap_or_default()).collect())
}

pub(super) async fn members(
    store: Arc<Collections>,
    room: RoomId,
    after: Option<Standing>,
    members_max: usize,
) -> Result<Vec<Member>, Fault> {
    let forms = shown_forms(&store, &[room], 0).await?;
    let Some(form) = forms.first() else { return Ok(Vec::new()) };
    if members_max == 0 {
        return Ok(Vec::new());
    }
    if !form.is_current() {
        let state = load(&store, room).await?;
        return Ok(state.map_or_else(Vec::new, |state| state.members.page(after, members_max)));
    }
    let limit = i64::try_from(members_max).unwrap_or(i64::MAX);
    let find = store.members.find(standing_after(room, after)).sort(doc! { "standing": 1 }).limit(limit);
    let mut cursor = find.max_time(store.call).await?;
    let mut members = Vec::new();
    while cursor.advance().await? {
        members.extend(decode::<MemberForm>(cursor.current())?.person().1.member);
    }
    Ok(members)
}
