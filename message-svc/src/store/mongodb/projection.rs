//! What follows from entries: a room's name and counts in `rooms`, who is in it in `members`. It is written after the
//! entries, from where `projected` stands, each document guarded by its own seq, so any number of processes may do it at
//! once, again, or late. Readers take in the changes behind `projected` by the same two functions, so what is not written
//! yet is seen all the same.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use mongodb::bson::{Bson, Document, doc};

use super::{
    Collections,
    calls::{Cause, DUPLICATE_KEY, Fault},
    documents::{EntryForm, Person, RoomForm, UNPROJECTED, date, decode, id, role_number},
};
use crate::{
    entry::{Entry, Event, Seq},
    id::{RoomId, UserId},
    member::{Member, Role, Standing},
};

/// Changes that are projected at once; each names at most 100 people.
const CHANGES_MAX: usize = 64;

/// People by what is known of them.
pub(super) type People = HashMap<UserId, Person>;

/// What an entry does to one person.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Effect {
    In(Member),
    Out,
    Owner,
}

impl RoomForm {
    /// Takes in the next change.
    pub(super) fn take_in(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Message(_) => {}
            Event::Members(change) => self.member_count = change.member_count,
            Event::Updated(updated) => {
                self.name.clone_from(&updated.name);
                self.description.clone_from(&updated.description);
                self.updated_at = date(entry.at);
                self.named = entry.seq;
            }
            Event::Closed(_) => self.closed_at = Some(date(entry.at)),
        }
        self.projected = entry.seq;
    }

    /// The founders, while nobody else knows of them.
    fn unprojected_founders(&self) -> impl Iterator<Item = Member> {
        self.founders().filter(|_| self.projected == UNPROJECTED)
    }
}

/// Adds the founders of a room that are not members yet, all of them or this one alone.
pub(super) fn add_founders(people: &mut People, room: &RoomForm, only: Option<UserId>) {
    for member in room.unprojected_founders().filter(|member| only.is_none_or(|user| user == member.user)) {
        people.entry(member.user).or_insert(Person { seq: 0, member: Some(member) });
    }
}

/// Takes in a change, of all people or of this one alone. What a document knows already is left as it is.
pub(super) fn take_in(people: &mut People, entry: &Entry, only: Option<UserId>) {
    for (user, effect) in effects(entry).into_iter().filter(|(user, _)| only.is_none_or(|only| only == *user)) {
        let person = people.entry(user).or_insert(Person { seq: UNPROJECTED, member: None });
        if person.seq >= entry.seq {
            continue;
        }
        person.seq = entry.seq;
        person.member = match effect {
            Effect::In(member) => Some(member),
            Effect::Out => None,
            Effect::Owner => person.member.map(|member| Member { role: Role::Owner, ..member }),
        };
    }
}

/// What an entry does to whom; nobody is named twice.
fn effects(entry: &Entry) -> Vec<(UserId, Effect)> {
    let Event::Members(change) = &entry.event else { return Vec::new() };
    let gone = change.left.iter().chain(&change.removed).filter(|user| !change.joined.contains(user));
    let joined = change.joined.iter().enumerate().map(|(place, user)| Member {
        user: *user,
        role: if change.new_owner == Some(*user) { Role::Owner } else { Role::Member },
        standing: Standing::new(entry.seq, place),
        joined_at: entry.at,
    });
    let heir = change.new_owner.filter(|user| !change.joined.contains(user));
    gone.map(|user| (*user, Effect::Out))
        .chain(joined.map(|member| (member.user, Effect::In(member))))
        .chain(heir.map(|user| (user, Effect::Owner)))
        .collect()
}

/// Who joins by this entry.
pub(super) fn joiners(entry: &Entry) -> impl Iterator<Item = Member> {
    effects(entry).into_iter().filter_map(|(_, effect)| match effect {
        Effect::In(member) => Some(member),
        Effect::Out | Effect::Owner => None,
    })
}

/// The changes of a room after this one, in order.
pub(super) async fn changes_after(
    store: &Collections,
    room: RoomId,
    after: Seq,
    changes_max: usize,
) -> Result<Vec<Arc<Entry>>, Fault> {
    let filter = doc! { "room": id(room.0), "change": { "$gt": after.max(0) } };
    let limit = i64::try_from(changes_max).unwrap_or(i64::MAX);
    let find = store.entries.find(filter).sort(doc! { "change": 1 }).limit(limit).max_time(store.call);
    let mut cursor = find.await?;
    let mut changes = Vec::new();
    while cursor.advance().await? {
        changes.push(decode::<EntryForm<'_>>(cursor.current())?.entry()?);
    }
    Ok(changes)
}

/// Brings `rooms` and `members` up to the room's last change.
pub(super) async fn project(store: &Collections, room: RoomId) -> Result<(), Fault> {
    loop {
        let Some(document) = store.rooms.find_one(doc! { "_id": id(room.0) }).max_time(store.call).await? else {
            return Ok(());
        };
        let mut form: RoomForm = decode(&document)?;
        let before = form.projected;
        let changes = changes_after(store, room, before, CHANGES_MAX).await?;
        let mut people = HashMap::new();
        for member in form.unprojected_founders() {
            people.insert(member.user, (0, Effect::In(member)));
        }
        for entry in &changes {
            effects(entry).into_iter().for_each(|(user, effect)| follow(&mut people, user, entry.seq, effect));
            form.take_in(entry);
        }
        form.projected = form.projected.max(0);
        if form.projected == before {
            return Ok(());
        }
        write_people(store, room, people).await?;
        write_room(store, room, &form).await?;
        if changes.len() < CHANGES_MAX {
            return Ok(());
        }
    }
}

/// Of several effects on one person only the last is written; becoming the owner needs what was before it.
fn follow(people: &mut HashMap<UserId, (Seq, Effect)>, user: UserId, seq: Seq, effect: Effect) {
    match people.entry(user) {
        hash_map::Entry::Vacant(place) => {
            place.insert((seq, effect));
        }
        hash_map::Entry::Occupied(mut place) => {
            let effect = match (place.get().1, effect) {
                (Effect::In(member), Effect::Owner) => Effect::In(Member { role: Role::Owner, ..member }),
                (_, effect) => effect,
            };
            place.insert((seq, effect));
        }
    }
}

async fn write_people(store: &Collections, room: RoomId, people: HashMap<UserId, (Seq, Effect)>) -> Result<(), Fault> {
    let updates = people.into_iter().map(|(user, (seq, effect))| update_of(room, user, seq, effect)).collect();
    let taken = update_members(store, updates).await?;
    // Whoever it was has put a document there at the same moment; documents of people are never taken away.
    let again: Vec<_> = taken
        .into_iter()
        .map(|mut update| {
            update.insert("upsert", false);
            update
        })
        .collect();
    if again.is_empty() { Ok(()) } else { update_members(store, again).await.map(|_| ()) }
}

/// The statement that lets one person's document know of this effect, unless it knows of a later one.
fn update_of(room: RoomId, user: UserId, seq: Seq, effect: Effect) -> Document {
    let change = match effect {
        Effect::In(member) => doc! { "$set": {
            "seq": seq,
            "role": role_number(member.role),
            "standing": member.standing.0,
            "joined_at": date(member.joined_at),
        } },
        Effect::Out => doc! { "$set": { "seq": seq }, "$unset": { "role": "", "standing": "", "joined_at": "" } },
        Effect::Owner => doc! { "$set": { "seq": seq, "role": role_number(Role::Owner) } },
    };
    let filter = doc! { "room": id(room.0), "user": id(user.0), "seq": { "$lt": seq } };
    // Who becomes owner has a document: what let them in has been projected.
    doc! { "q": filter, "u": change, "upsert": effect != Effect::Owner }
}

/// Runs the updates; answers those that met a document which is newer, or which came at the same moment.
async fn update_members(store: &Collections, updates: Vec<Document>) -> Result<Vec<Document>, Fault> {
    const AT_ONCE: usize = 1_000;
    let mut taken = Vec::new();
    for updates in updates.chunks(AT_ONCE) {
        let command = doc! {
            "update": store.members.name(),
            "updates": updates.to_vec(),
            "ordered": false,
            "writeConcern": store.concern(),
        };
        let answer = store.db.run_command(command).await?;
        if let Some(concern) = answer.get("writeConcernError") {
            let code = concern.as_document().and_then(|concern| concern.get("code")).and_then(Bson::as_i32);
            return Err(Fault::Refused(Cause::new(format!("a projection was not confirmed: code {code:?}"))));
        }
        for error in answer.get_array("writeErrors").into_iter().flatten() {
            let error = error.as_document();
            let place =
                error.and_then(|error| error.get_i32("index").ok()).and_then(|place| usize::try_from(place).ok());
            match (error.and_then(|error| error.get_i32("code").ok()), place.and_then(|place| updates.get(place))) {
                (Some(DUPLICATE_KEY), Some(update)) => taken.push(update.clone()),
                (code, _) => {
                    return Err(Fault::Refused(Cause::new(format!("a projection was refused: code {code:?}"))));
                }
            }
        }
    }
    Ok(taken)
}

/// Everything that can change is set, so it does not matter how far the room's document was.
async fn write_room(store: &Collections, room: RoomId, form: &RoomForm) -> Result<(), Fault> {
    let mut set = doc! {
        "name": &form.name,
        "description": &form.description,
        "updated_at": form.updated_at,
        "member_count": form.member_count,
        "named": form.named,
        "projected": form.projected,
    };
    if let Some(at) = form.closed_at {
        set.insert("closed_at", at);
    }
    let filter = doc! { "_id": id(room.0), "projected": { "$lt": form.projected } };
    store.rooms.update_one(filter, doc! { "$set": set }).await?;
    Ok(())
}
