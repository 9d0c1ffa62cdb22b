//! What a person meets who opens the store: servers that are not there, not yet there, too new; several processes at once;
//! what was made by hand. Every refusal is one sentence, and none of them has the password in it.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use mesh::migration::Migrations;
use mongodb::{
    Database,
    bson::{Document, doc},
    event::command::CommandEvent,
};

use super::{
    proxy::Proxy,
    server::{Scratch, patient, watched, with},
};
use crate::{
    config::MongodbConfig,
    room::RoomType,
    store::{
        Created, Store,
        mongodb::{
            MongodbStore,
            schema::{INDEXES, VERSION},
        },
    },
    testing::{message, message_entry, new_room, user, whole_log},
};

async fn refused(url: &str, config: &MongodbConfig) -> String {
    let error = MongodbStore::open(&url.into(), config, Migrations::Run).await.err().expect("refused");
    let mut text = error.to_string();
    assert!(!text.contains('\n'), "one sentence: {text}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text} | {cause}");
        source = cause.source();
    }
    assert!(!text.contains("hunter2"), "a password is shown: {text}");
    text
}

/// A call that is to fail soon.
fn brief() -> MongodbConfig {
    MongodbConfig { connect_ms: 200, select_ms: 200, ..patient() }
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_its_password() {
    for url in [
        "mongodb://",
        "mongodb://me:hunter2",
        "mongodb://me:hunter2@",
        "mongodb://me:hun/hunter2@host/db",
        "mongodb://me:hunter2@x@host/db",
        "mongodb://me:hunter2:@host:port/db",
        "mongodb://host/db?tlsCertificateKeyFilePassword=hunter2",
        "mongodb://host/db?authMechanismProperties=hunter2",
        "mongodb://me:hun?ter&hunter2@host/db",
        "mongodb://me:hunter2@host/?tls=true&tlsCAFile=/nowhere/hunter1",
    ] {
        let text = refused(url, &brief()).await;
        assert!(text.contains("message.store_url"), "{url}: {text}");
    }
    let text = refused("mongodb://me:hunter2@host/db?replicaSet=rs0&maxPoolSize=many", &brief()).await;
    assert!(text.contains("maxpoolsize"), "the option is not named: {text}");
}

/// `.invalid` is a name that nobody has, whether DNS answers here or not.
#[tokio::test]
async fn a_url_of_atlas_is_understood_and_its_servers_are_looked_for_in_dns() {
    let url = "mongodb+srv://app:hunter2@cluster0.ab1cd.invalid/?retryWrites=true&w=majority&appName=Cluster0";
    let text = refused(url, &brief()).await;
    assert!(
        text.contains("the DNS names of message.store_url") && text.contains("correct message.store_url"),
        "{text}"
    );
    // DNS has the ports of such a URL.
    let text = refused(&url.replace(".invalid", ".invalid:27017"), &brief()).await;
    assert!(text.contains("no MongoDB URL"), "{text}");
}

#[tokio::test]
async fn a_password_that_is_not_taken_is_said_and_not_shown() {
    let Some(scratch) = Scratch::new() else { return };
    let url = scratch.url.replacen("://", "://somebody:hunter2@", 1);
    if scratch.url.contains('@') {
        return;
    }
    let text = refused(&url, &brief()).await;
    assert!(text.contains("user name or the password"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_and_then_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let here = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("mongodb://me:hunter2@{here}/x?directConnection=true");
    let begun = std::time::Instant::now();
    let text = refused(&url, &MongodbConfig { start_secs: 1, ..brief() }).await;
    assert!(text.contains(&here.to_string()) && text.contains("1 s") && text.contains("message.store_url"), "{text}");
    assert!(begun.elapsed() >= Duration::from_millis(500), "it was not waited for");
}

#[tokio::test]
async fn a_server_that_comes_later_is_waited_for() {
    let Some(scratch) = Scratch::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let here = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("mongodb://{here}/{}?directConnection=true", scratch.name);
    let opening = {
        let config = MongodbConfig { start_secs: 60, ..brief() };
        let url = url.clone();
        tokio::spawn(async move { MongodbStore::open(&url.as_str().into(), &config, Migrations::Run).await })
    };
    // Not before the first try has failed: the warning about it is what takes the time.
    tokio::time::timeout(Duration::from_millis(600), std::future::pending::<()>()).await.expect_err("nothing comes");
    assert!(!opening.is_finished());
    let _proxy = Proxy::on(TcpListener::bind(here).expect("the port is free"), &scratch.url).await;
    let store = opening.await.expect("no panic").map_err(|error| error.to_string()).expect("opened");
    store.check().await.expect("answers");
}

async fn indexes(db: &Database, collection: &str) -> Vec<String> {
    let mut names = db.collection::<Document>(collection).list_index_names().await.expect("listed");
    names.sort();
    names
}

fn expected_indexes(collection: &str) -> Vec<String> {
    let own = INDEXES.iter().filter(|index| index.collection == collection).map(|index| index.name.to_owned());
    let mut names: Vec<_> = own.chain(["_id_".to_owned()]).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_make_the_collections_once() {
    for _ in 0..3 {
        let Some(scratch) = Scratch::new() else { return };
        let scratch = Arc::new(scratch);
        let opening = (0..6).map(|_| {
            let scratch = Arc::clone(&scratch);
            tokio::spawn(async move { scratch.open().await })
        });
        let stores: Vec<_> = join_all(opening).await.into_iter().map(|store| store.expect("no panic")).collect();
        let room = new_room(RoomType::Public, "room", user());
        assert_eq!(stores[0].create_room(&room).await.expect("made"), Created::New);
        for store in &stores {
            assert!(store.view(room.meta.id, None).await.expect("reads").is_some());
        }
        let db = scratch.database().await;
        for collection in ["entries", "members", "memberships", "directory"] {
            assert_eq!(indexes(&db, collection).await, expected_indexes(collection));
        }
        let schema = db.collection::<Document>("schema").find_one(doc! {}).await.expect("reads").expect("is there");
        assert_eq!(schema.get_i32("version").expect("a number"), VERSION);
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_a_closed_store_takes_nothing() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.open().await;
    let room = new_room(RoomType::Public, "room", user());
    store.create_room(&room).await.expect("made");
    let entry = message_entry(room.meta.id, 1, 1, message(user(), "a", "x"));
    store.append([entry.clone()].into()).await.expect("written");
    store.close().await;
    assert!(store.check().await.is_err() && store.append([entry.clone()].into()).await.is_err());
    let store = scratch.open().await;
    assert_eq!(whole_log(&*store, room.meta.id).await, [entry]);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let Some(scratch) = Scratch::new() else { return };
    scratch.open().await.close().await;
    let schema = scratch.database().await.collection::<Document>("schema");
    schema.update_one(doc! {}, doc! { "$set": { "version": VERSION + 1 } }).await.expect("set");
    let text = refused(&scratch.url, &patient()).await;
    assert!(text.contains("newer version") && text.contains(&scratch.name), "{text}");
}

#[tokio::test]
async fn collections_that_were_made_before_the_first_start_are_completed() {
    let Some(scratch) = Scratch::new() else { return };
    let db = scratch.database().await;
    db.create_collection("entries").await.expect("made");
    let store = scratch.open().await;
    assert_eq!(indexes(&db, "entries").await, expected_indexes("entries"));
    let nonsense = db.collection::<Document>("entries").insert_one(doc! { "room": "text" }).await;
    assert!(nonsense.is_err(), "an entry that is none was taken");
    store.close().await;
}

#[tokio::test]
async fn an_index_of_another_shape_is_named() {
    let Some(scratch) = Scratch::new() else { return };
    let db = scratch.database().await;
    let other =
        doc! { "createIndexes": "entries", "indexes": [{ "key": { "room": 1, "seq": 1 }, "name": "room_seq" }] };
    db.run_command(other).await.expect("made");
    let text = refused(&scratch.url, &patient()).await;
    assert!(text.contains("index") && text.contains(&scratch.name), "{text}");
}

#[tokio::test]
async fn what_the_url_says_does_not_weaken_a_promise() {
    let Some(scratch) = Scratch::new() else { return };
    let url = with(
        &scratch.url,
        "w=1&journal=false&readConcernLevel=local&retryWrites=true&readPreference=secondaryPreferred",
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    let commands = Arc::clone(&seen);
    let store = watched(&url, &patient(), move |event| {
        if let CommandEvent::Started(started) = event {
            commands.lock().expect("lock").push(started.command);
        }
    })
    .await;
    seen.lock().expect("lock").clear();
    let room = new_room(RoomType::Public, "room", user());
    store.create_room(&room).await.expect("made");
    store.append([message_entry(room.meta.id, 1, 1, message(user(), "a", "x"))].into()).await.expect("written");
    store.view(room.meta.id, None).await.expect("reads");
    let seen = seen.lock().expect("lock").clone();
    assert!(seen.len() > 5);
    for command in &seen {
        let name = command.keys().next().expect("a name").as_str();
        if ["insert", "update", "delete"].contains(&name) {
            let concern = command.get_document("writeConcern").expect("a write concern");
            assert_eq!(concern.get_str("w").expect("text"), "majority", "{name}");
            assert!(concern.get_bool("j").expect("a flag"), "{name}");
            assert!(!command.contains_key("txnNumber"), "{name} would be tried again behind our back");
        } else {
            let concern = command.get_document("readConcern").expect("a read concern");
            assert_eq!(concern.get_str("level").expect("text"), "majority", "{name}");
        }
    }
}
