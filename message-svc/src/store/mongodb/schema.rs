//! The collections, their indexes and what a document must have, and the version of all that. Opening the store makes what
//! is missing; every step may be repeated and may be done by several processes at once. A version from the future is
//! refused.

use async_trait::async_trait;
use mesh::{
    migration::{Migrated, Migrations, Step},
    moving::{Mark, MoveError},
};
use mongodb::{
    Client, Collection, Database,
    bson::{Document, doc},
    error::Error,
};

use super::calls::{Cause, DUPLICATE_KEY, UNAUTHORIZED, code};
use crate::store::OpenError;

pub(super) const ENTRIES: &str = "entries";
pub(super) const ROOMS: &str = "rooms";
pub(super) const MEMBERS: &str = "members";
pub(super) const MEMBERSHIPS: &str = "memberships";
pub(super) const DIRECTORY: &str = "directory";
/// Where the version is kept.
const SCHEMA: &str = "schema";
/// The one document of [`SCHEMA`]: the database may hold other services' collections.
const SCHEMA_ID: &str = "messages";
/// What each version brought.
const STEPS: [(i32, &str); 2] = [(1, "rooms, logs, members, claims"), (2, "rooms by who has been in them")];
/// This program's version.
pub(super) const VERSION: i32 = STEPS[STEPS.len() - 1].0;

/// The server's code for a collection that is there with other options.
const NAMESPACE_EXISTS: i32 = 48;
/// The server's codes for an index that is there with another shape.
const INDEX_CONFLICTS: [i32; 2] = [85, 86];

/// An index.
pub(super) struct Index {
    pub(super) collection: &'static str,
    pub(super) name: &'static str,
    pub(super) keys: &'static [(&'static str, i32)],
    pub(super) unique: bool,
    pub(super) only: Only,
}

/// Which documents are in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    /// All.
    All,
    /// Entries that are messages.
    Messages,
    /// Entries from which something follows.
    Changes,
}

/// Every index but the one by `_id`. All of `entries` and the unique one of `members` begin with the room and all of
/// `memberships` with the user, so that these can be the shard keys and a unique index holds across shards. `user_room` is for
/// those whose accounts are deleted alone, who are looked for on every shard. A filter and a sort that are used
/// often are a prefix of one of these; `tests/plans.rs` watches the commands that the suite causes.
pub(super) const INDEXES: [Index; 9] = [
    unique(ENTRIES, "room_seq", &[("room", 1), ("seq", 1)], Only::All),
    unique(ENTRIES, "room_sender_client_id", &[("room", 1), ("sender", 1), ("client_id", 1)], Only::Messages),
    unique(ENTRIES, "room_messages", &[("room", 1), ("messages", 1)], Only::Messages),
    plain(ENTRIES, "room_change", &[("room", 1), ("change", 1)], Only::Changes),
    unique(MEMBERS, "room_user", &[("room", 1), ("user", 1)], Only::All),
    plain(MEMBERS, "room_standing", &[("room", 1), ("standing", 1)], Only::All),
    plain(MEMBERS, "user_room", &[("user", 1), ("room", 1)], Only::All),
    plain(MEMBERSHIPS, "user_joined_at", &[("user", 1), ("joined_at", -1), ("room", -1)], Only::All),
    plain(DIRECTORY, "key_room", &[("key", 1), ("room", 1)], Only::All),
];

const fn unique(
    collection: &'static str,
    name: &'static str,
    keys: &'static [(&'static str, i32)],
    only: Only,
) -> Index {
    Index { collection, name, keys, unique: true, only }
}

const fn plain(
    collection: &'static str,
    name: &'static str,
    keys: &'static [(&'static str, i32)],
    only: Only,
) -> Index {
    Index { collection, name, keys, unique: false, only }
}

/// Brings the database up to this program's version, or sees whether it is.
pub(super) async fn see_to(db: &Database, migrations: Migrations) -> Result<Migrated, OpenError> {
    let found = version(db).await.map_err(|error| failed(db, &error))?;
    if found > VERSION {
        return Err(newer(db, found));
    }
    if migrations == Migrations::Run {
        ensure(db, found).await?;
    } else if found < VERSION {
        return Err(OpenError {
            sentence: format!(
                "the MongoDB database {} lacks step {} of its collections and indexes, and mesh.migrate_at_start is \
                 false; run `switchboard migrate`",
                db.name(),
                found + 1
            ),
            source: None,
        });
    }
    let made = STEPS.into_iter().filter(|(version, _)| *version > found);
    Ok(Migrated {
        backend: "mongodb",
        version: VERSION.into(),
        applied: made.map(|(version, what)| Step { version: version.into(), description: what.into() }).collect(),
    })
}

/// Makes what is missing, also what somebody has taken away since.
async fn ensure(db: &Database, found: i32) -> Result<(), OpenError> {
    for collection in [ENTRIES, ROOMS, MEMBERS, MEMBERSHIPS, DIRECTORY] {
        make(db, collection, found < VERSION).await.map_err(|error| failed(db, &error))?;
    }
    let claim = doc! { "_id": SCHEMA_ID, "version": { "$lt": VERSION } };
    let schema = db.collection::<Document>(SCHEMA);
    match schema.update_one(claim, doc! { "$set": { "version": VERSION } }).upsert(true).await {
        Ok(_) => Ok(()),
        // It is there, and of this version or a later one.
        Err(error) if code(&error) == Some(DUPLICATE_KEY) => match version(db).await {
            Ok(found) if found > VERSION => Err(newer(db, found)),
            Ok(_) => Ok(()),
            Err(error) => Err(failed(db, &error)),
        },
        Err(error) => Err(failed(db, &error)),
    }
}

/// The version of what is there; 0 is nothing.
async fn version(db: &Database) -> Result<i32, Error> {
    let found = db.collection::<Document>(SCHEMA).find_one(doc! { "_id": SCHEMA_ID }).await?;
    Ok(found.and_then(|found| found.get_i32("version").ok()).unwrap_or(0))
}

async fn make(db: &Database, collection: &str, outdated: bool) -> Result<(), Error> {
    match db.run_command(doc! { "create": collection, "validator": validator(collection) }).await {
        Ok(_) => {}
        // It was made by an operator who shards it, or by an earlier version.
        Err(error) if code(&error) == Some(NAMESPACE_EXISTS) => {
            if outdated {
                db.run_command(doc! { "collMod": collection, "validator": validator(collection) }).await?;
            }
        }
        Err(error) => return Err(error),
    }
    let indexes: Vec<_> = INDEXES.iter().filter(|index| index.collection == collection).map(Index::document).collect();
    if !indexes.is_empty() {
        db.run_command(doc! { "createIndexes": collection, "indexes": indexes }).await?;
    }
    Ok(())
}

impl Index {
    fn document(&self) -> Document {
        let keys: Document =
            self.keys.iter().map(|(field, direction)| ((*field).to_owned(), (*direction).into())).collect();
        let mut index = doc! { "key": keys, "name": self.name };
        if self.unique {
            index.insert("unique", true);
        }
        match self.only {
            Only::All => {}
            Only::Messages => {
                index.insert("partialFilterExpression", doc! { "kind": 1 });
            }
            Only::Changes => {
                index.insert("partialFilterExpression", doc! { "change": { "$gt": 0_i64 } });
            }
        }
        index
    }
}

/// What every document of a collection must have: a net for whoever writes by hand.
fn validator(collection: &str) -> Document {
    let (required, properties) = match collection {
        ENTRIES => (
            vec!["_id", "room", "seq", "kind", "messages", "at", "payload"],
            doc! {
                "_id": { "bsonType": "binData" },
                "room": { "bsonType": "binData" },
                "seq": { "bsonType": "long", "minimum": 1 },
                "kind": { "bsonType": "int", "minimum": 1 },
                "messages": { "bsonType": "long", "minimum": 0 },
                "at": { "bsonType": "date" },
                "sender": { "bsonType": "binData" },
                "client_id": { "bsonType": "string" },
                "change": { "bsonType": "long", "minimum": 1 },
                "payload": { "bsonType": "string" },
            },
        ),
        ROOMS => (
            vec!["_id", "log", "room_type", "name", "created_at", "member_count", "founders", "named", "projected"],
            doc! {
                "_id": { "bsonType": "binData" },
                "log": { "bsonType": "binData" },
                "room_type": { "bsonType": "int" },
                "name": { "bsonType": "string" },
                "created_at": { "bsonType": "date" },
                "member_count": { "bsonType": "long", "minimum": 0 },
                "founders": { "bsonType": "array" },
                "named": { "bsonType": "long", "minimum": 0 },
                "projected": { "bsonType": "long", "minimum": -1 },
            },
        ),
        MEMBERS => (
            vec!["room", "user", "seq"],
            doc! {
                "room": { "bsonType": "binData" },
                "user": { "bsonType": "binData" },
                "seq": { "bsonType": "long", "minimum": 0 },
                "role": { "bsonType": "int" },
                "standing": { "bsonType": "long", "minimum": 0 },
                "joined_at": { "bsonType": "date" },
            },
        ),
        MEMBERSHIPS => (
            vec!["user", "joined_at", "room", "standing"],
            doc! {
                "user": { "bsonType": "binData" },
                "joined_at": { "bsonType": "date" },
                "room": { "bsonType": "binData" },
                "standing": { "bsonType": "long", "minimum": 0 },
            },
        ),
        _ => (
            vec!["key", "room", "seq"],
            doc! {
                "key": { "bsonType": "string" },
                "room": { "bsonType": "binData" },
                "seq": { "bsonType": "long", "minimum": 0 },
            },
        ),
    };
    doc! { "$jsonSchema": { "bsonType": "object", "required": required, "properties": properties } }
}

fn newer(db: &Database, found: i32) -> OpenError {
    OpenError {
        sentence: format!(
            "the MongoDB database {} was written by a newer version of this program (its schema is {found}); run that version",
            db.name()
        ),
        source: None,
    }
}

fn failed(db: &Database, error: &Error) -> OpenError {
    let name = db.name();
    let sentence = match code(error) {
        Some(UNAUTHORIZED) => format!(
            "the user of message.store_url may not make collections in the MongoDB database {name}; grant it the role \
             readWrite there, and dbAdmin where it has been sharded before the first start"
        ),
        Some(DUPLICATE_KEY) => format!(
            "the MongoDB database {name} holds documents that break a unique index of this program; restore it from a \
             backup, or name another database"
        ),
        Some(code) if INDEX_CONFLICTS.contains(&code) => format!(
            "the MongoDB database {name} has an index of another shape under a name of this program's; drop that index"
        ),
        _ => format!("the MongoDB database {name} cannot be brought up to date: {}", Cause::of(error)),
    };
    OpenError { sentence, source: Some(Box::new(Cause::of(error))) }
}

/// The document of [`SCHEMA`] that remembers an import.
const MARK_ID: &str = "messages-import";

/// What the database remembers of an import.
pub(in crate::store) struct Marks {
    client: Client,
    schema: Collection<Document>,
}

impl Marks {
    pub(super) fn new(client: Client, db: &Database) -> Self {
        Self { client, schema: db.collection(SCHEMA) }
    }
}

#[async_trait]
impl mesh::moving::Marks for Marks {
    async fn get(&self) -> Result<Option<Mark>, MoveError> {
        let found = self.schema.find_one(doc! { "_id": MARK_ID }).await.map_err(|error| unmarked(&error))?;
        let Some(found) = found else { return Ok(None) };
        let file = found.get_str("file").ok().and_then(|file| file.parse().ok());
        let file = file.ok_or_else(|| MoveError::store("the mark of an import cannot be understood"))?;
        Ok(Some(Mark { file, done: found.get_bool("done").unwrap_or(false) }))
    }

    async fn set(&self, mark: Mark) -> Result<(), MoveError> {
        let set = doc! { "$set": { "file": mark.file.to_string(), "done": mark.done } };
        let marked = self.schema.update_one(doc! { "_id": MARK_ID }, set).upsert(true).await;
        marked.map(|_| ()).map_err(|error| unmarked(&error))
    }

    async fn close(&self) {
        self.client.clone().shutdown().immediate(true).await;
    }
}

fn unmarked(error: &Error) -> MoveError {
    MoveError::store(format_args!("MongoDB did not answer: {}", Cause::of(error)))
}
