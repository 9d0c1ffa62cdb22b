//! A Tinode that runs already, with the API key of its default configuration. People and topics are made over its own
//! WebSocket protocol, since it has no REST: one short conversation each.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Endpoint, Remote, System};
use crate::{
    dialect::Protocol,
    http,
    marker::{Finder, Marker},
    usage::Watched,
    worker::frame::{self, Opcode},
};

/// The path with the key that `tinode.conf` comes with.
const PATH: &str = "/v0/channels?apikey=AQEAAAABAAD_rAp4DJh05a1HAwFT3A6K";
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages asked for at once: what a server gives at most, unless it is told otherwise.
const PAGE: u64 = 100;

pub(super) struct Tinode {
    remote: Remote,
    /// Tells the people of one run from those of another: the server keeps them.
    run: String,
    registered: usize,
}

impl Tinode {
    pub(super) fn new(remote: Remote) -> Self {
        Self { remote, run: format!("{:08x}", rand::random::<u32>()), registered: 0 }
    }
}

impl System for Tinode {
    fn endpoint(&self) -> Endpoint {
        Endpoint {
            protocol: Protocol::Tinode,
            addresses: vec![self.remote.address],
            path: PATH.into(),
            token_path: String::new(),
        }
    }

    fn watched(&self) -> Vec<Watched> {
        self.remote.watched("tinode")
    }

    fn people(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let first = self.registered;
        self.registered += count;
        http::for_each(self.remote.address, count, AT_ONCE, |_, number| {
            let name = format!("b{}{}", self.run, first + number);
            let secret = http::base64(format!("{name}:password{name}").as_bytes());
            let mut talk = Conversation::open(self.remote.address)?;
            let everybody = json!({"auth": "JRWPS", "anon": "N"});
            let account = json!({"acc": {"id": "1", "user": "new", "scheme": "basic", "secret": secret, "login": true,
                "desc": {"defacs": everybody, "public": {"fn": name}}}});
            let done = talk.ask(&account)?;
            Ok(done["params"]["token"].as_str().context("a token; credentials must not be required")?.to_owned())
        })
    }

    fn rooms(&mut self, count: usize, people: &[String]) -> anyhow::Result<Vec<String>> {
        let owner = people.first().context("somebody who makes the topics")?;
        let mut talk = Conversation::log_in(self.remote.address, owner)?;
        (0..count)
            .map(|number| {
                let everybody = json!({"auth": "JRWPS", "anon": "N"});
                let topic = json!({"sub": {"id": "1", "topic": format!("new{number}"),
                    "set": {"desc": {"defacs": everybody, "public": {"fn": format!("Room {number}")}}}}});
                Ok(talk.ask(&topic)?["topic"].as_str().context("a topic's name")?.to_owned())
            })
            .collect()
    }

    fn stored(&self, room: &str, reader: &str) -> anyhow::Result<Option<Vec<Marker>>> {
        let mut talk = Conversation::log_in(self.remote.address, reader)?;
        talk.ask(&json!({"sub": {"id": "1", "topic": room}}))?;
        let (finder, mut found, mut since) = (Finder::default(), Vec::new(), 1);
        loop {
            let page = json!({"get": {"id": "1", "topic": room, "what": "data",
                "data": {"since": since, "before": since + PAGE, "limit": PAGE}}});
            let (_, mut data) = talk.ask_for_data(&page)?;
            if data.is_empty() {
                return Ok(Some(found));
            }
            data.sort_by_key(|message| message["seq"].as_u64());
            for message in &data {
                found.extend(finder.first(message["content"].as_str().unwrap_or_default().as_bytes()));
            }
            since += PAGE;
        }
    }
}

/// A WebSocket on which one request waits for its answer.
struct Conversation {
    stream: BufReader<TcpStream>,
    unread: Vec<u8>,
}

impl Conversation {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {PATH} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if !line.contains(" 101 ") {
            bail!("no upgrade: {line}");
        }
        while line.trim_end() != "" {
            line.clear();
            stream.read_line(&mut line)?;
        }
        let mut talk = Self { stream, unread: Vec::new() };
        talk.ask(&json!({"hi": {"id": "1", "ver": "0.22", "ua": "switchboard-bench"}}))?;
        Ok(talk)
    }

    fn log_in(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut talk = Self::open(address)?;
        talk.ask(&json!({"login": {"id": "1", "scheme": "token", "secret": token}}))?;
        Ok(talk)
    }

    /// Asks, with the id "1", and gives the `ctrl` that answers.
    fn ask(&mut self, request: &Value) -> anyhow::Result<Value> {
        Ok(self.ask_for_data(request)?.0)
    }

    /// The same, with the data that comes before the answer.
    fn ask_for_data(&mut self, request: &Value) -> anyhow::Result<(Value, Vec<Value>)> {
        let mut out = Vec::new();
        frame::write_text(&mut out, |out| out.extend_from_slice(request.to_string().as_bytes()));
        self.stream.get_mut().write_all(&out)?;
        let mut data = Vec::new();
        loop {
            let mut text: Value = serde_json::from_slice(&self.next()?)?;
            if text["data"].is_object() {
                data.push(text["data"].take());
            } else if text["ctrl"]["id"] == "1" {
                let code = text["ctrl"]["code"].as_u64().unwrap_or_default();
                if !(200..400).contains(&code) {
                    bail!("{request} is answered with {text}");
                }
                return Ok((text["ctrl"].take(), data));
            }
        }
    }

    fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            match frame::read(&self.unread) {
                Ok(Some(frame)) => {
                    let (len, opcode, payload) = (frame.len, frame.opcode, frame.payload.to_vec());
                    self.unread.drain(..len);
                    match opcode {
                        Opcode::Data => return Ok(payload),
                        Opcode::Close => bail!("the server closed the connection"),
                        Opcode::Ping | Opcode::Pong | Opcode::Continuation => {}
                    }
                }
                Ok(None) => {
                    let mut buffer = [0; 16 * 1024];
                    match self.stream.read(&mut buffer)? {
                        0 => bail!("the connection ended"),
                        len => self.unread.extend_from_slice(&buffer[..len]),
                    }
                }
                Err(frame::Malformed) => bail!("a frame that no server sends"),
            }
        }
    }
}
