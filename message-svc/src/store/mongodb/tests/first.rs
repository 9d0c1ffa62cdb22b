//! A database as the first release left it, written out by hand: what it holds must stay readable for ever, whatever the
//! forms in this program become.

use mesh::{migration::Migrations, time::Millis};
use mongodb::{
    Database,
    bson::{self, DateTime, Document, doc},
};
use uuid::{Uuid, uuid};

use super::server::{Scratch, patient};
use crate::{
    id::{RoomId, UserId},
    store::{
        Outcome, Store as _,
        mongodb::{
            self as store, MongodbStore,
            schema::{INDEXES, VERSION},
        },
    },
    testing::{message, message_entry, whole_log},
};

const ROOM: Uuid = uuid!("0190a0b0-0000-4000-8000-000000000004");
const LOG: Uuid = uuid!("0190a0b0-0000-4000-8000-000000000005");
const ADA: Uuid = uuid!("0190a0b0-0000-7000-8000-000000000001");
const BOB: Uuid = uuid!("0190a0b0-0000-7000-8000-000000000002");

fn id(id: Uuid) -> bson::Uuid {
    bson::Uuid::from_bytes(id.into_bytes())
}

/// The indexes of that release.
fn indexes(collection: &str) -> Vec<Document> {
    let messages = doc! { "kind": 1 };
    let changes = doc! { "change": { "$gt": 0_i64 } };
    match collection {
        "entries" => vec![
            doc! { "key": { "room": 1, "seq": 1 }, "name": "room_seq", "unique": true },
            doc! { "key": { "room": 1, "sender": 1, "client_id": 1 }, "name": "room_sender_client_id", "unique": true,
            "partialFilterExpression": messages.clone() },
            doc! { "key": { "room": 1, "messages": 1 }, "name": "room_messages", "unique": true,
            "partialFilterExpression": messages },
            doc! { "key": { "room": 1, "change": 1 }, "name": "room_change", "partialFilterExpression": changes },
        ],
        "members" => vec![
            doc! { "key": { "room": 1, "user": 1 }, "name": "room_user", "unique": true },
            doc! { "key": { "room": 1, "standing": 1 }, "name": "room_standing" },
        ],
        "memberships" => vec![doc! { "key": { "user": 1, "joined_at": -1, "room": -1 }, "name": "user_joined_at" }],
        "directory" => vec![doc! { "key": { "key": 1, "room": 1 }, "name": "key_room" }],
        _ => Vec::new(),
    }
}

/// What was in it: Ada's room, which Bob has joined and where he has written.
fn documents(collection: &str) -> Vec<Document> {
    let entry = |seq: i64, number: u128, kind: i32, messages: i64, payload: &str| {
        doc! { "_id": id(Uuid::from_u128(number)), "room": id(ROOM), "seq": seq, "kind": kind, "messages": messages,
        "at": DateTime::from_millis(10 + seq), "payload": payload }
    };
    match collection {
        "entries" => {
            let mut joined = entry(1, 11, 2, 0, &format!(r#"{{"joined":["{BOB}"],"member_count":2}}"#));
            joined.insert("change", 1_i64);
            let mut sent = entry(2, 12, 1, 1, r#"{"username":"bob","content":"hello","metadata":{"k":1}}"#);
            sent.extend(doc! { "sender": id(BOB), "client_id": "one" });
            vec![joined, sent]
        }
        "rooms" => vec![doc! { "_id": id(ROOM), "log": id(LOG), "room_type": 1, "name": "Room", "description": "d",
        "created_by": id(ADA), "created_at": DateTime::from_millis(10), "updated_at": DateTime::from_millis(10),
        "member_count": 2_i64, "founders": [{ "user": id(ADA), "role": 2 }], "named": 0_i64, "projected": 1_i64 }],
        "members" => vec![
            doc! { "room": id(ROOM), "user": id(ADA), "seq": 0_i64, "role": 2, "standing": 0_i64,
            "joined_at": DateTime::from_millis(10) },
            doc! { "room": id(ROOM), "user": id(BOB), "seq": 1_i64, "role": 1, "standing": 128_i64,
            "joined_at": DateTime::from_millis(11) },
        ],
        "memberships" => vec![
            doc! { "user": id(ADA), "joined_at": DateTime::from_millis(10), "room": id(ROOM), "standing": 0_i64 },
            doc! { "user": id(BOB), "joined_at": DateTime::from_millis(11), "room": id(ROOM),
            "standing": 128_i64 },
        ],
        "directory" => vec![doc! { "key": "room", "room": id(ROOM), "seq": 0_i64 }],
        _ => vec![doc! { "_id": "messages", "version": 1 }],
    }
}

async fn make(db: &Database) {
    for collection in ["entries", "rooms", "members", "memberships", "directory", "schema"] {
        db.create_collection(collection).await.expect("made");
        let indexes = indexes(collection);
        if !indexes.is_empty() {
            db.run_command(doc! { "createIndexes": collection, "indexes": indexes }).await.expect("indexes");
        }
        db.collection::<Document>(collection).insert_many(documents(collection)).await.expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds() {
    let Some(scratch) = Scratch::new() else { return };
    let db = scratch.database().await;
    make(&db).await;
    let url = scratch.url.as_str().into();
    store::migrate(&url, &patient()).await.expect("migrated");
    // Nothing is left to do for whoever only checks.
    let store = MongodbStore::open(&url, &patient(), Migrations::Check).await.expect("opened");
    let schema = db.collection::<Document>("schema").find_one(doc! {}).await.expect("reads").expect("is there");
    assert_eq!(schema.get_i32("version").expect("a number"), VERSION);
    for index in &INDEXES {
        let names = db.collection::<Document>(index.collection).list_index_names().await.expect("listed");
        assert!(names.iter().any(|name| name == index.name), "{} is missing", index.name);
    }
    let (room, ada, bob) = (RoomId(ROOM), UserId(ADA), UserId(BOB));
    let state = store.load(room).await.expect("reads").expect("is there");
    assert_eq!((&*state.meta.name, &*state.meta.description, state.meta.log.0), ("Room", "d", LOG));
    assert_eq!((state.members.len(), state.last_seq, state.messages, state.closed), (2, 2, 1, false));
    let log = whole_log(&store, room).await;
    let sent = log[1].message().expect("a message");
    assert_eq!((sent.sender, &*sent.content, sent.client_id.as_str()), (bob, "hello", "one"));
    assert_eq!((sent.metadata["k"].as_i64(), log[1].at), (Some(1), Millis(12)));
    for who in [ada, bob] {
        assert_eq!(store.rooms_of(who, None, 10).await.expect("reads").len(), 1);
    }
    assert_eq!(store.public_rooms(ada, "ro", None, 10).await.expect("reads").len(), 1);
    // The log goes on, and what was sent then is still sent once.
    let again = message_entry(room, 3, 2, message(bob, "one", "hello"));
    assert_ne!(store.append([again].into()).await.expect("answers"), Outcome::Done, "a retry was sent twice");
    let next = message_entry(room, 3, 2, message(bob, "two", "on"));
    assert_eq!(store.append([next].into()).await.expect("answers"), Outcome::Done);
    store.close().await;
}
