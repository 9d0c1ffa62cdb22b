//! Rooms with their logs as records, through the [`Store`] trait: a room is read as of one moment, and written as it was
//! made at first, entry after entry, so members, names and counts follow in the new store as they did in the old one. The
//! records of members are there to be compared. A log that is written anew gets a new id: no cursor of before fits it.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mesh::{
    moving::{House, Line, Marks, MoveError, Out, Record},
    time::Millis,
};
use serde_json::Value;

use crate::{
    entry::{Entry, Seq},
    id::{EntryId, LogId, RoomId, UserId},
    member::{Member, Role},
    room::{NewRoom, RoomMeta, RoomType, state::RoomState},
    store::{
        Outcome, Store, StoreError,
        payload::{self, Kind},
    },
};

/// Ids of rooms that are looked at together.
const ROOMS_MAX: usize = 200;
/// Entries of one read, and of one write; with the bytes of both.
const ENTRIES_MAX: usize = 500;
/// See [`ENTRIES_MAX`].
const BYTES_MAX: usize = 1 << 20;
/// Rooms that are written at the same time, so that small ones share commits.
const AT_ONCE: usize = 64;
/// Tries of a write whose answer is lost.
const TRIES_MAX: u32 = 5;

/// The rooms of a store.
pub struct Rooms {
    store: Arc<dyn Store>,
    marks: Box<dyn Marks>,
}

/// What a batch has of one room.
struct Part {
    room: RoomId,
    make: Option<NewRoom>,
    entries: Vec<(u64, Arc<Entry>)>,
}

impl Rooms {
    /// The rooms of this store, which remembers imports there.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, marks: Box<dyn Marks>) -> Self {
        Self { store, marks }
    }

    async fn put(&self, Part { room, make, entries }: Part) -> Result<(), MoveError> {
        if let Some(new) = make {
            self.make(&new).await?;
        }
        let mut tries = 0;
        let mut left = &entries[..];
        while !left.is_empty() {
            let head = self.store.heads(&[room]).await.map_err(failed)?.first().map_or(0, |head| head.last_seq);
            left = &left[left.partition_point(|(_, entry)| entry.seq <= head)..];
            follows(head, left)?;
            while let Some((batch, rest)) = split(left) {
                let written: Vec<_> = batch.iter().map(|(_, entry)| Arc::clone(entry)).collect();
                match self.store.append(written.into()).await {
                    Ok(Outcome::Done) => left = rest,
                    // Or it was written and the answer was lost: the log tells.
                    Ok(Outcome::Displaced) | Err(StoreError::Unknown(_)) if tries < TRIES_MAX => {
                        tries += 1;
                        break;
                    }
                    Ok(Outcome::Displaced) => {
                        return Err(MoveError::store(format_args!("somebody else writes to the room {room}")));
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(())
    }

    async fn make(&self, new: &NewRoom) -> Result<(), MoveError> {
        let mut tries = 0;
        loop {
            match self.store.create_room(new).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Unknown(_)) if tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

#[async_trait]
impl House for Rooms {
    fn kinds(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        vec![
            (
                "room",
                vec![
                    "id",
                    "type",
                    "name",
                    "description",
                    "created_by",
                    "created_at",
                    "updated_at",
                    "founders",
                    "closed",
                    "members",
                    "last_seq",
                    "messages",
                ],
            ),
            ("member", vec!["room", "user", "role", "standing", "joined_at"]),
            ("entry", vec!["room", "seq", "id", "what", "messages", "at", "sender", "client_id", "payload"]),
        ]
    }

    async fn export(&self, out: &Out) -> Result<(), MoveError> {
        let mut after = None;
        loop {
            let rooms = self.store.rooms_after(after, ROOMS_MAX).await.map_err(failed)?;
            let Some(last) = rooms.last() else { return Ok(()) };
            after = Some(*last);
            for room in rooms {
                export_room(&*self.store, room, out).await?;
            }
        }
    }

    async fn is_empty(&self) -> Result<bool, MoveError> {
        Ok(self.store.rooms_after(None, 1).await.map_err(failed)?.is_empty())
    }

    async fn write(&self, lines: Vec<Line>) -> Result<(), MoveError> {
        let mut parts: Vec<Part> = Vec::new();
        for line in &lines {
            let room = RoomId(line.id(if line.kind == "room" { "id" } else { "room" })?);
            if parts.last().is_none_or(|part| part.room != room) {
                parts.push(Part { room, make: None, entries: Vec::new() });
            }
            let part = parts.last_mut().expect("invariant: one has just been put there");
            match &*line.kind {
                "room" => part.make = Some(new_room(line)?),
                "entry" => part.entries.push((line.number, Arc::new(entry(line)?))),
                // Members follow from the entries; the check at the end compares them.
                "member" => {}
                _ => return Err(line.wrong("its kind is not this store's")),
            }
        }
        let rooms: HashSet<_> = parts.iter().map(|part| part.room).collect();
        if rooms.len() < parts.len() {
            return Err(lines[0].wrong("a room comes again after another one"));
        }
        stream::iter(parts).map(|part| self.put(part)).buffer_unordered(AT_ONCE).try_collect().await
    }

    fn marks(&self) -> &dyn Marks {
        &*self.marks
    }

    async fn close(&self) {
        self.store.close().await;
        self.marks.close().await;
    }
}

/// The room, its members and its log, as of one moment.
async fn export_room(store: &dyn Store, room: RoomId, out: &Out) -> Result<(), MoveError> {
    let Some(state) = store.load(room).await.map_err(failed)? else { return Ok(()) };
    out.put(room_record(&state)).await?;
    for member in state.members.page(None, usize::MAX) {
        out.put(member_record(room, &member)).await?;
    }
    let mut seq = 0;
    while seq < state.last_seq {
        let entries = store.entries_after(room, seq, ENTRIES_MAX, BYTES_MAX).await.map_err(failed)?;
        let Some(last) = entries.last() else {
            return Err(MoveError::store(format_args!("the log of the room {room} has no entry after {seq}")));
        };
        seq = last.seq;
        for entry in entries.iter().filter(|entry| entry.seq <= state.last_seq) {
            out.put(entry_record(entry)).await?;
        }
    }
    Ok(())
}

/// A failure of the store, with its cause: what a store says of itself holds nothing that people wrote.
fn failed(error: StoreError) -> MoveError {
    match error {
        StoreError::Unavailable(ref cause) | StoreError::Unknown(ref cause) => {
            MoveError::store(format_args!("{error}: {cause}"))
        }
        StoreError::Damaged(_) => MoveError::store(error),
    }
}

/// Whether the entries go on from the end of the log, without a hole: the store counts on it.
fn follows(head: Seq, entries: &[(u64, Arc<Entry>)]) -> Result<(), MoveError> {
    for (seq, (number, entry)) in (head + 1..).zip(entries) {
        if entry.seq != seq {
            let what = format!("entry {} cannot follow entry {} of its room", entry.seq, seq - 1);
            return Err(MoveError::Line { number: *number, what });
        }
    }
    Ok(())
}

/// Entries with the lines that they come from.
type Numbered = [(u64, Arc<Entry>)];

/// The next batch, and what comes after it.
fn split(left: &Numbered) -> Option<(&Numbered, &Numbered)> {
    let mut bytes = 0;
    let fits = left.iter().take(ENTRIES_MAX).take_while(|(_, entry)| {
        bytes += entry.weight();
        bytes <= BYTES_MAX
    });
    let count = fits.count().max(1);
    (!left.is_empty()).then(|| left.split_at(count))
}

fn room_record(state: &RoomState) -> Record {
    let meta = &state.meta;
    let founders: Vec<_> = founders(state).into_iter().map(|(user, role)| (user.0, role_text(role))).collect();
    Record::new("room")
        .with("id", &meta.id.0)
        .with("type", &payload::type_number(meta.room_type))
        .with("name", &meta.name)
        .with("description", &meta.description)
        .with("created_by", &meta.created_by.map(|user| user.0))
        .with("created_at", &meta.created_at.0)
        .with("updated_at", &meta.updated_at.0)
        .with("founders", &founders)
        .with("closed", &state.closed)
        .with("members", &state.member_count())
        .with("last_seq", &state.last_seq)
        .with("messages", &state.messages)
}

/// Whom the making of the room let in, as [`NewRoom`] does it. Nobody leaves a direct room but by the deletion of their
/// account, so its two are still there, or were erased.
fn founders(state: &RoomState) -> Vec<(UserId, Role)> {
    if state.meta.room_type == RoomType::Direct {
        let members = state.members.page(None, usize::MAX).into_iter();
        return members.filter(|member| member.standing.seq() == 0).map(|member| (member.user, member.role)).collect();
    }
    state.meta.created_by.map(|user| (user, Role::Owner)).into_iter().collect()
}

fn member_record(room: RoomId, member: &Member) -> Record {
    Record::new("member")
        .with("room", &room.0)
        .with("user", &member.user.0)
        .with("role", role_text(member.role))
        .with("standing", &member.standing.0)
        .with("joined_at", &member.joined_at.0)
}

fn entry_record(entry: &Entry) -> Record {
    let message = entry.message();
    Record::new("entry")
        .with("room", &entry.room.0)
        .with("seq", &entry.seq)
        .with("id", &entry.id.0)
        .with("what", &(Kind::of(&entry.event) as i64))
        .with("messages", &entry.messages)
        .with("at", &entry.at.0)
        .with("sender", &message.map(|message| message.sender.0))
        .with("client_id", &message.map(|message| message.client_id.as_str()))
        .with("payload", &payload::encode(&entry.event))
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Owner => "owner",
    }
}

/// The room as it is to be made. Its name is its last one: the entries that it was changed by bring it there again.
fn new_room(line: &Line) -> Result<NewRoom, MoveError> {
    let room_type = payload::room_type(line.number("type")?);
    let created_by = if line.has("created_by") { Some(UserId(line.id("created_by")?)) } else { None };
    let meta = RoomMeta {
        id: RoomId(line.id("id")?),
        log: LogId::random(),
        room_type: room_type.map_err(|_unknown| line.wrong("the field type is no type of room"))?,
        name: line.text("name")?.to_owned(),
        description: line.text("description")?.to_owned(),
        created_by,
        created_at: Millis(line.number("created_at")?),
        updated_at: Millis(line.number("updated_at")?),
    };
    let founders = line.fields.get("founders").and_then(Value::as_array);
    let founders = founders.and_then(|list| list.iter().map(founder).collect::<Option<Vec<_>>>());
    let founders = founders.ok_or_else(|| line.wrong("the field founders is no list of users with their roles"))?;
    Ok(NewRoom { meta, founders })
}

fn founder(pair: &Value) -> Option<(UserId, Role)> {
    let [user, role] = &pair.as_array()?[..] else { return None };
    let role = match role.as_str()? {
        "owner" => Role::Owner,
        "member" => Role::Member,
        _ => return None,
    };
    Some((UserId(user.as_str()?.parse().ok()?), role))
}

fn entry(line: &Line) -> Result<Entry, MoveError> {
    let sent = if line.has("sender") { Some((UserId(line.id("sender")?), line.text("client_id")?)) } else { None };
    let event = payload::decode(line.number("what")?, line.text("payload")?, sent);
    Ok(Entry {
        id: EntryId(line.id("id")?),
        room: RoomId(line.id("room")?),
        seq: line.number("seq")?,
        messages: line.number("messages")?,
        at: Millis(line.number("at")?),
        event: event.map_err(|_text| line.wrong("the field payload cannot be understood"))?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use mesh::moving::Mark;
    use tokio::sync::{Mutex, mpsc};

    use super::*;
    use crate::testing::sqlite;

    /// Remembers nothing for longer than a test.
    #[derive(Default)]
    struct Forgetful(Mutex<Option<Mark>>);

    #[async_trait]
    impl Marks for Forgetful {
        async fn get(&self) -> Result<Option<Mark>, MoveError> {
            Ok(*self.0.lock().await)
        }

        async fn set(&self, mark: Mark) -> Result<(), MoveError> {
            *self.0.lock().await = Some(mark);
            Ok(())
        }

        async fn close(&self) {}
    }

    fn lines(records: &[Record]) -> Vec<Line> {
        let line = |(number, record): (u64, &Record)| {
            let mut fields: serde_json::Map<String, Value> = serde_json::from_str(&record.text).expect("JSON");
            let kind = fields.remove("kind").and_then(|kind| kind.as_str().map(str::to_owned)).expect("a kind");
            Line { number, kind, fields }
        };
        (1..).zip(records).map(line).collect()
    }

    /// What a store gives out of these rooms.
    async fn records(store: &dyn Store, rooms: &[RoomId]) -> Vec<Record> {
        let (sender, mut records) = mpsc::channel(10_000);
        let mut rooms = rooms.to_vec();
        rooms.sort_unstable();
        for room in rooms {
            export_room(store, room, &Out(sender.clone())).await.expect("exported");
        }
        drop(sender);
        let mut all = Vec::new();
        while let Some(record) = records.recv().await {
            all.push(record);
        }
        all
    }

    /// Out of this store into an embedded one, cut in the middle and taken in again: the same comes out.
    pub(crate) async fn assert_moves(store: &dyn Store, rooms: &[RoomId]) {
        let out = records(store, rooms).await;
        let (other, _folder) = sqlite().await;
        let house = Rooms::new(Arc::clone(&other), Box::new(Forgetful::default()));
        assert!(house.is_empty().await.expect("answers"));
        let all = lines(&out);
        for cut in [all.len() / 3, all.len() / 2, all.len(), all.len()] {
            house.write(all[..cut].to_vec()).await.expect("written");
        }
        assert!(!house.is_empty().await.expect("answers"));
        assert_eq!(records(&*other, rooms).await, out);
        for room in rooms {
            let (before, after) = (store.load(*room).await, other.load(*room).await);
            let (before, after) = (before.expect("reads").expect("there"), after.expect("reads").expect("there"));
            assert_ne!(before.meta.log, after.meta.log, "a cursor of before fits");
            assert_eq!(before.members, after.members);
        }
        let mut hole = all;
        hole.retain(|line| !(line.kind == "entry" && line.fields["seq"] == 1));
        let (third, _folder) = sqlite().await;
        let refused = Rooms::new(third, Box::new(Forgetful::default())).write(hole).await;
        assert!(matches!(refused, Err(MoveError::Line { .. })), "a log with a hole was taken in: {refused:?}");
    }
}
