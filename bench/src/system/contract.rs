//! Preparing people and rooms over the REST contract that Switchboard and the peers with accounts share, and reading a
//! room's messages back.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{
    http::{self, Client},
    marker::{Finder, Marker},
};

/// Calls at once: enough to keep a server busy that hashes passwords.
const AT_ONCE: usize = 8;
/// Of the contract.
const PAGE: usize = 100;

/// Registers people; gives their access tokens.
pub(super) fn people(address: SocketAddr, first: usize, count: usize) -> anyhow::Result<Vec<String>> {
    http::for_each(address, count, AT_ONCE, |client, number| {
        let name = format!("bench-{}", first + number);
        let body =
            json!({"username": name, "email": format!("{name}@example.com"), "password": "correct horse battery"});
        let answer = client.post("/api/auth/register", "", &body)?.good().context("registering")?;
        text(&answer, "accessToken")
    })
}

/// Makes public rooms; gives their ids.
pub(super) fn rooms(address: SocketAddr, count: usize, owner: &str) -> anyhow::Result<Vec<String>> {
    http::for_each(address, count, AT_ONCE, |client, number| {
        let body = json!({"name": format!("Room {number}"), "roomType": "public"});
        let answer = client.post("/api/rooms", &format!("Bearer {owner}"), &body)?.good().context("making a room")?;
        text(&answer["room"], "id")
    })
}

/// All messages of a room in the order of their `seq`, read from the newest page back.
pub(super) fn stored(address: SocketAddr, room: &str, reader: &str) -> anyhow::Result<Vec<Marker>> {
    let mut client = Client::connect(address)?;
    let (finder, mut newest_first, mut before) = (Finder::default(), Vec::new(), String::new());
    loop {
        let path = format!("/api/rooms/{room}/messages?limit={PAGE}{before}");
        let answer = client.get(&path, &format!("Bearer {reader}"))?.good().context("reading a room")?;
        let messages = answer["messages"].as_array().context("a page has messages")?;
        for message in messages.iter().rev() {
            let content = message["content"].as_str().unwrap_or_default();
            newest_first.extend(finder.first(content.as_bytes()));
        }
        match messages.first().map(|first| &first["seq"]) {
            Some(seq) if messages.len() == PAGE => before = format!("&before={seq}"),
            _ => break,
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    match value[field].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("there is no {field} in {value}"),
    }
}
