//! No command that the store sends scans: of every command that the contract's cases cause, the filter and the sort are a
//! prefix of an index of `schema.rs`. A real `mongod` is asked for its plans as well; others may plan in another way.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use mongodb::{
    Database,
    bson::{Bson, Document, doc},
    event::command::CommandEvent,
};

use super::server::{Scratch, patient, watched};
use crate::store::{
    contract,
    mongodb::schema::{INDEXES, Index, Only, ROOMS},
};

/// What a command asks of one collection.
#[derive(Debug)]
struct Query {
    collection: String,
    filter: Document,
    sort: Document,
}

/// How a field is asked for.
#[derive(Debug, PartialEq)]
enum Condition {
    Equal,
    Range,
}

fn conditions(filter: &Document) -> Vec<(&str, Condition)> {
    let fields = filter.iter().filter(|(field, _)| !field.starts_with('$'));
    fields
        .map(|(field, value)| {
            let ranged = value
                .as_document()
                .is_some_and(|value| value.keys().any(|key| ["$gt", "$gte", "$lt", "$lte"].contains(&key.as_str())));
            (field.as_str(), if ranged { Condition::Range } else { Condition::Equal })
        })
        .collect()
}

/// Whether the index has only documents that are asked for, and all of them.
fn covers(index: &Index, filter: &Document) -> bool {
    match index.only {
        Only::All => true,
        Only::Messages => filter.get_i32("kind").is_ok_and(|kind| kind == 1),
        Only::Changes => filter.contains_key("change"),
    }
}

/// Whether the filter is a prefix of the keys, and the sort what comes after it, forwards or backwards.
fn serves(keys: &[(&str, i32)], unique: bool, query: &Query) -> bool {
    let asked = conditions(&query.filter);
    let is = |field: &str, condition: Condition| asked.contains(&(field, condition));
    let equal = keys.iter().take_while(|(field, _)| is(field, Condition::Equal)).count();
    if unique && equal == keys.len() {
        // One document; whatever else is asked of it is asked of nothing else.
        return true;
    }
    let rest = &keys[equal..];
    // What a partial index asks for is no key of it.
    let others =
        asked.iter().filter(|(field, _)| *field != "kind" && !keys[..equal].iter().any(|(key, _)| key == field));
    let ranged = others.clone().all(|(field, _)| rest.first().is_some_and(|(key, _)| key == field));
    let sort: Vec<_> = query.sort.iter().map(|(field, way)| (field.as_str(), way.as_i32().unwrap_or(0))).collect();
    let along = rest.len() >= sort.len() && rest.iter().zip(&sort).all(|(key, sort)| key == sort);
    let back = rest.len() >= sort.len() && rest.iter().zip(&sort).all(|(key, sort)| *key == (sort.0, -sort.1));
    let bounded = equal > 0 || others.count() > 0 || !sort.is_empty();
    ranged && bounded && (along || back)
}

fn is_served(query: &Query) -> bool {
    let by_id = serves(&[("_id", 1)], true, query);
    let own = INDEXES.iter().filter(|index| index.collection == query.collection && covers(index, &query.filter));
    by_id || own.into_iter().any(|index| serves(index.keys, index.unique, query))
}

/// The queries of a filter; each clause of an `$or` is one.
fn clauses(collection: &str, filter: &Document, sort: &Document) -> Vec<Query> {
    let query = |filter: &Document| Query { collection: collection.into(), filter: filter.clone(), sort: sort.clone() };
    match filter.get_array("$or") {
        Ok(clauses) => clauses.iter().filter_map(Bson::as_document).map(query).collect(),
        Err(_) => vec![query(filter)],
    }
}

fn document(command: &Document, field: &str) -> Document {
    command.get_document(field).cloned().unwrap_or_default()
}

fn pipeline(command: &Document) -> Vec<Document> {
    command.get_array("pipeline").into_iter().flatten().filter_map(|stage| stage.as_document().cloned()).collect()
}

/// The first filter and the first sort of a pipeline.
fn beginning(stages: &[Document]) -> (Document, Document) {
    let first = |name: &str| stages.iter().find_map(|stage| stage.get_document(name).ok().cloned()).unwrap_or_default();
    (first("$match"), first("$sort"))
}

/// What a command asks for, of its collection and of those that it looks into.
fn queries(name: &str, command: &Document) -> Vec<Query> {
    let Ok(collection) = command.get_str(name) else { return Vec::new() };
    match name {
        "find" => clauses(collection, &document(command, "filter"), &document(command, "sort")),
        "update" | "delete" => command
            .get_array(format!("{name}s"))
            .into_iter()
            .flatten()
            .filter_map(Bson::as_document)
            .flat_map(|statement| clauses(collection, &document(statement, "q"), &Document::new()))
            .collect(),
        "aggregate" => {
            let stages = pipeline(command);
            let (filter, sort) = beginning(&stages);
            let looked = stages.iter().filter_map(|stage| stage.get_document("$lookup").ok()).map(|lookup| {
                let (mut filter, sort) = beginning(&pipeline(lookup));
                filter.insert(lookup.get_str("foreignField").expect("a field"), "the local field");
                Query { collection: lookup.get_str("from").expect("a collection").into(), filter, sort }
            });
            clauses(collection, &filter, &sort).into_iter().chain(looked).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the server is MongoDB itself, whose plans are what they say.
async fn is_mongod(db: &Database) -> bool {
    let info = db.run_command(doc! { "buildInfo": 1 }).await.expect("answers");
    info.contains_key("buildEnvironment") && info.get_str("gitVersion").is_ok_and(|git| git.contains(|c| c != '0'))
}

fn scans(plan: &Bson) -> bool {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other kind of value is no plan")]
    match plan {
        Bson::Document(plan) => {
            plan.get_str("stage").is_ok_and(|stage| ["COLLSCAN", "SORT"].contains(&stage)) || plan.values().any(scans)
        }
        Bson::Array(plans) => plans.iter().any(scans),
        _ => false,
    }
}

#[tokio::test]
async fn every_query_is_a_prefix_of_an_index() {
    let Some(scratch) = Scratch::new() else { return };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let commands = Arc::clone(&seen);
    let store = watched(&scratch.url, &patient(), move |event| {
        if let CommandEvent::Started(started) = event {
            commands.lock().expect("lock").push((started.command_name, started.command));
        }
    })
    .await;
    contract::every_case(&*store).await;
    store.close().await;
    let seen = seen.lock().expect("lock").clone();

    let (mut used, mut names) = (HashSet::new(), HashSet::new());
    for (name, command) in &seen {
        for query in queries(name, command) {
            assert!(is_served(&query), "no index serves {query:?} of {name}");
            used.insert(query.collection.clone());
            names.insert(name.clone());
        }
    }
    for collection in INDEXES.iter().map(|index| index.collection).chain([ROOMS]) {
        assert!(used.contains(collection), "nothing was asked of {collection}");
    }
    for name in ["find", "aggregate", "update", "delete"] {
        assert!(names.contains(name), "nothing was asked by {name}");
    }
    let db = scratch.database().await;
    if is_mongod(&db).await {
        for (name, mut command) in seen.into_iter().filter(|(name, _)| ["find", "aggregate"].contains(&name.as_str())) {
            for field in ["lsid", "$clusterTime", "$db", "readConcern", "maxTimeMS"] {
                command.remove(field);
            }
            let plan = db.run_command(doc! { "explain": &command, "verbosity": "queryPlanner" }).await.expect("a plan");
            assert!(!scans(&Bson::Document(plan)), "{name} scans: {command}");
        }
    }
}

#[test]
fn what_no_index_serves_is_seen() {
    let query = |filter: Document, sort: Document| Query { collection: "entries".into(), filter, sort };
    for good in [
        query(doc! { "room": 1, "seq": { "$gt": 1 } }, doc! { "seq": 1 }),
        query(doc! { "room": 1 }, doc! { "seq": -1 }),
        query(doc! { "room": 1, "kind": 1, "messages": { "$gte": 1, "$lte": 2 } }, doc! { "messages": 1 }),
        query(doc! { "_id": 1, "anything": 2 }, doc! {}),
    ] {
        assert!(is_served(&good), "{good:?}");
    }
    for bad in [
        query(doc! {}, doc! {}),
        query(doc! { "seq": 1 }, doc! {}),
        query(doc! { "room": 1, "at": { "$gt": 1 } }, doc! {}),
        query(doc! { "room": 1 }, doc! { "at": 1 }),
        query(doc! { "room": 1, "seq": { "$gt": 1 } }, doc! { "messages": 1 }),
        query(doc! { "room": 1, "messages": 2 }, doc! {}),
        query(doc! { "room": 1, "sender": 2, "client_id": 3 }, doc! {}),
    ] {
        assert!(!is_served(&bad), "{bad:?}");
    }
}
