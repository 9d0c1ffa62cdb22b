//! One client of a kill run: it sends one message after the other, repeats what was not acknowledged with the same
//! `clientMessageId`, follows its room and resumes by cursor whenever its connection has ended. It records what it saw and
//! judges nothing but the order.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use super::Progress;
use crate::{
    rest::{Api, Person},
    socketio::{Event, Refused, Socket},
    wait,
};

/// The pause before something is tried again.
const RETRY: Duration = Duration::from_millis(40);
/// How long an ack may take before the send is repeated: longer than any recovery seen.
const ACK_LIMIT: Duration = Duration::from_secs(15);
/// Codes that a client answers by trying again. A token may be spent by a connection whose answer was lost.
pub(super) const PASSING: [&str; 3] = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "TOKEN_SPENT"];

/// What it did and saw.
pub(crate) struct Client {
    index: usize,
    pub(super) person: Person,
    pub(super) room: String,
    /// The public addresses, and which of them it is at.
    gateways: Vec<Api>,
    turn: usize,
    progress: Arc<Progress>,
    socket: Option<Socket>,
    /// Where it began to follow.
    pub(super) first_cursor: String,
    cursor: String,
    /// Every entry that it saw: its `seq` and, of a message, its id.
    pub(super) seen: Vec<(i64, Option<String>)>,
    /// The id of the message that each client id was acknowledged with.
    pub(super) acknowledged: HashMap<String, String>,
    /// Client ids that were sent more than once.
    pub(super) repeated: HashSet<String>,
    /// Joins with a cursor that were not answered with what was missed.
    pub(super) unrecovered: usize,
    /// Entries that did not follow the one before.
    pub(super) jumps: Vec<(i64, i64)>,
    pub(super) reconnects: usize,
}

impl Client {
    pub(super) fn new(index: usize, person: Person, room: String, gateways: Vec<Api>, progress: Arc<Progress>) -> Self {
        Self {
            index,
            person,
            room,
            gateways,
            turn: index,
            progress,
            socket: None,
            first_cursor: String::new(),
            cursor: String::new(),
            seen: Vec::new(),
            acknowledged: HashMap::new(),
            repeated: HashSet::new(),
            unrecovered: 0,
            jumps: Vec::new(),
            reconnects: 0,
        }
    }

    /// Sends and follows until told to stop.
    pub(crate) async fn run(mut self) -> Self {
        let mut number = 0;
        while !self.progress.stopped() {
            let id = format!("{}-{number}", self.index);
            self.send(&id).await;
            number += 1;
            tokio::time::sleep(self.progress.pace).await;
        }
        self
    }

    /// Sends one message until it is acknowledged.
    async fn send(&mut self, id: &str) {
        let begun = std::time::Instant::now();
        let mut tries = 0;
        loop {
            self.connect().await;
            let payload = json!({"roomId": self.room, "content": id, "clientMessageId": id});
            let socket = self.socket.as_ref().expect("a connection was made");
            let ack = socket.try_call("send_message", payload, ACK_LIMIT).await;
            tries += 1;
            self.take_events();
            match ack {
                Ok(ack) if ack["success"] == true => {
                    self.progress.acknowledged(self.index, begun);
                    let message = ack["message"]["id"].as_str().expect("a message id").to_owned();
                    self.acknowledged.insert(id.to_owned(), message);
                    if tries > 1 {
                        self.repeated.insert(id.to_owned());
                    }
                    return;
                }
                Ok(refusal) => {
                    check_passing("a send", &refusal);
                    tokio::time::sleep(RETRY).await;
                }
                Err(_) => self.socket = None,
            }
            assert!(begun.elapsed() < 2 * wait::LIMIT, "{id} was not acknowledged after {tries} tries");
        }
    }

    /// Makes sure that there is a connection, and that it follows the room from where the last one ended.
    async fn connect(&mut self) {
        if self.socket.is_some() {
            return;
        }
        if !self.seen.is_empty() || !self.cursor.is_empty() {
            self.reconnects += 1;
        }
        let begun = std::time::Instant::now();
        while self.socket.is_none() {
            self.socket = self.try_connect().await;
            assert!(begun.elapsed() < 2 * wait::LIMIT, "no connection after {:?}", begun.elapsed());
            if self.socket.is_none() {
                // As through a load balancer: the next one may be better off.
                self.turn += 1;
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn try_connect(&mut self) -> Option<Socket> {
        let api = &self.gateways[self.turn % self.gateways.len()];
        let answer = api.try_call(Method::GET, "/auth/ws-token", Some(&self.person.access), None).await.ok()?;
        if answer.status != 200 {
            check_passing("a token", &answer.body);
        }
        let token = answer.body["token"].as_str()?.to_owned();
        let socket = match Socket::connect(&api.url, json!({"token": token})).await {
            Ok(socket) => socket,
            Err(Refused(refusal)) => {
                check_passing("a connection", &refusal);
                return None;
            }
        };
        loop {
            let mut payload = json!({"roomId": self.room});
            if !self.cursor.is_empty() {
                payload["cursor"] = self.cursor.clone().into();
            }
            let ack = socket.try_call("join_room", payload, ACK_LIMIT).await.ok()?;
            if ack["success"] != true {
                check_passing("a join", &ack);
                return None;
            }
            self.take_join(&ack);
            if ack["more"] == false {
                return Some(socket);
            }
        }
    }

    fn take_join(&mut self, ack: &Value) {
        if self.cursor.is_empty() {
            self.first_cursor = ack["cursor"].as_str().expect("a cursor").to_owned();
        } else if ack["recovered"] != true {
            self.unrecovered += 1;
        }
        for missed in ack["missed"].as_array().expect("a list of what was missed") {
            self.take_entry(&missed["data"]);
        }
        self.cursor = ack["cursor"].as_str().expect("a cursor").to_owned();
    }

    fn take_events(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        let events: Vec<Event> = socket.arrived();
        for event in events {
            if event.data["roomId"] == self.room.as_str() && event.data["seq"].is_i64() {
                self.take_entry(&event.data);
            }
        }
    }

    fn take_entry(&mut self, data: &Value) {
        let seq = data["seq"].as_i64().expect("a seq");
        if let Some((last, _)) = self.seen.last()
            && seq != last + 1
        {
            self.jumps.push((*last, seq));
        }
        self.cursor = data["cursor"].as_str().expect("a cursor").to_owned();
        self.seen.push((seq, data["id"].as_str().map(str::to_owned)));
    }

    /// Follows until all that is stored has been seen. Nobody sends any more.
    pub(super) async fn finish(&mut self) {
        let body = self.person.get(&format!("/rooms/{}", self.room)).await.ok(200);
        let last = body["room"]["lastSeq"].as_i64().expect("a seq");
        let begun = std::time::Instant::now();
        while self.seen.last().is_none_or(|(seq, _)| *seq < last) {
            self.connect().await;
            self.take_events();
            let alive = match &self.socket {
                // Its ack also tells whether the connection still lives.
                Some(socket) => socket.try_call("typing_stop", json!({"roomId": self.room}), ACK_LIMIT).await.is_ok(),
                None => false,
            };
            self.take_events();
            if !alive {
                self.socket = None;
            }
            assert!(begun.elapsed() < wait::LIMIT, "saw {:?} of {last}", self.seen.last());
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// A refusal must be one that passes; null is a connection that failed.
#[track_caller]
fn check_passing(what: &str, refusal: &Value) {
    let passing = refusal.is_null() || PASSING.iter().any(|code| refusal["code"] == *code);
    assert!(passing, "{what} was refused: {refusal}");
}
