//! Pages of a very long room beside those of a short one. Its messages are written straight into the embedded store, as many
//! a second as SQLite takes, because sending ten million would take longer than all other scenarios together.

use std::{io::Write as _, path::Path, process::Stdio};

use anyhow::{Context as _, bail};

use super::{Cast, Clients, Frame, Stage};
use crate::{
    dialect::text_after,
    http::{Client, request},
    process::command,
    run::{Run, float},
    scenario::calls,
    system::Side,
};

/// Messages of the short room.
const SHORT: u64 = 10_000;
/// Messages of a page.
const PAGE: u64 = 50;
/// Rows of one transaction.
const ROWS: u64 = 250_000;

/// Runs it.
pub(crate) fn run(messages: u64, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let mut stage = Stage::set(side, frame)?;
    let cast = Cast { sockets: 2, people: 1, rooms: 2, senders: 0 };
    let clients = Clients::prepare(&mut stage, cast, false, frame)?;
    let data = stage.system.data().context("its store cannot be written to directly")?;
    let address = *stage.system.endpoint().addresses.first().context("an address")?;
    let bearer = format!("Bearer {}", clients.people[0]);
    let profile = Client::connect(address)?.get("/api/auth/profile", &bearer)?.good()?.to_string();
    let sender = text_after(profile.as_bytes(), "\"id\"").context("a user id")?;
    let begun = crate::clock::now();
    for (room, messages) in clients.rooms.iter().zip([SHORT, messages]) {
        fill(&data.join("messages.db"), room, sender, messages).context("filling a room")?;
    }
    run.figure("seconds to write both rooms", float(crate::clock::now() - begun) / 1e9);
    stage.rest();
    for (name, room, messages) in [("short", &clients.rooms[0], SHORT), ("long", &clients.rooms[1], messages)] {
        let pages = messages / PAGE;
        for (what, page) in [("first page", 1), ("middle page", pages / 2), ("last page", pages)] {
            let path = format!("/api/rooms/{room}/messages?page={page}&limit={PAGE}");
            let answer = Client::connect(address)?.get(&path, &bearer)?.good()?;
            let found =
                (answer["messages"].as_array().map_or(0, Vec::len), answer["pagination"]["totalItems"].as_u64());
            if found != (usize::try_from(PAGE)?, Some(messages)) {
                run.problems.push(format!("{name}, {what}: {} messages of {:?}", found.0, found.1));
            }
            let requests = vec![request("GET", &path, address, &bearer, "")];
            let (called, cost) = calls::load(address, requests, 1, None, &stage, frame)?;
            run.calls(&format!("{name}, {what}"), &called, &cost, frame.secs);
        }
    }
    for what in ["first page", "middle page", "last page"] {
        let median = |name: &str| run.figures.get(&format!("{name}, {what} p50, ms")).copied();
        if let Some((short, long)) = median("short").zip(median("long")) {
            run.figure(&format!("long to short, {what}, p50"), long / short);
        }
    }
    Ok(run)
}

/// Writes messages into a room that has none, with the columns of message-svc's migration. What is lost when the machine
/// stops now is made again, so nothing waits for the disk. Python has SQLite within, and `tests/stores` needs it anyway.
const FILL: &str = r"
import sqlite3, sys, uuid
file, room, sender, messages, rows, payload = sys.stdin.read().split('\n', 5)
store = sqlite3.connect(file, timeout=60, isolation_level=None)
store.execute('PRAGMA synchronous = OFF')
first, messages = 1, int(messages)
while first <= messages:
    last = min(first + int(rows) - 1, messages)
    store.execute(
        'WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2) '
        'INSERT INTO entries (room_id, seq, entry_id, kind, messages, at, sender, client_id, payload) '
        'SELECT ?3, i, randomblob(16), 1, i, 1760000000000 + i, ?4, printf(\'%012d\', i), ?5 FROM n',
        (first, last, uuid.UUID(room).bytes, uuid.UUID(sender).bytes, payload))
    first = last + 1
store.close()
";

fn fill(file: &Path, room: &str, sender: &str, messages: u64) -> anyhow::Result<()> {
    let payload = serde_json::json!({"username": "bench-0", "content": "x".repeat(100)});
    let mut python = command("python3");
    let mut python = python.args(["-c", FILL]).stdin(Stdio::piped()).spawn().context("python3 is needed")?;
    let mut input = python.stdin.take().context("a piped input")?;
    write!(input, "{}\n{room}\n{sender}\n{messages}\n{ROWS}\n{payload}", file.display())?;
    drop(input);
    let status = python.wait()?;
    if status.success() { Ok(()) } else { bail!("python3 ended with {status}") }
}
