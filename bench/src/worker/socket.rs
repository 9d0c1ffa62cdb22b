//! One client: its token by REST if it needs one, its WebSocket, its greeting, its room. It is driven by readiness and
//! never blocks. Texts go to the dialect; what they mean goes to the tally, and to the worker as news.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::event::epoll::{self, EventData, EventFlags};
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

use super::{
    frame::{self, Opcode},
    tally::{Tally, Watched},
};
use crate::{
    clock,
    dialect::{Dialect, Greeting, Heard, text_after},
    marker::{Finder, Marker},
    orders::Plan,
};

/// The id of the request to enter a room; messages have their number.
const JOIN: u64 = 999_999_999_999;
/// A response's head may be this long.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What all sockets of a worker share.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) dialect: Box<dyn Dialect>,
    pub(super) finder: Finder,
    pub(super) epoll: OwnedFd,
    pub(super) tally: Tally,
    pub(super) news: Vec<News>,
    /// Read into by all, one after the other.
    pub(super) buffer: Vec<u8>,
}

/// What the worker must know.
#[derive(Debug)]
pub(super) enum News {
    /// It is where it was told to be, after so many nanoseconds.
    Settled(u64),
    /// It is not.
    Failed(String),
    /// So many of its messages were answered.
    Answered(usize, u32),
    /// The server ended the connection.
    Closed(usize),
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Idle,
    /// Connecting, or waiting for the token.
    Token,
    /// Connecting, or waiting for the upgrade.
    Upgrade,
    /// Not authenticated yet, or not yet in the room that it resumes.
    Greeting,
    /// Authenticated.
    Ready,
    Joining,
    Live,
    Closed,
}

/// A client that sends.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) id: u32,
    pub(super) next: u32,
    first: u32,
    /// When each message from `first` on was meant to be sent; 0 once it is answered.
    meant: VecDeque<u64>,
    /// Refused ones.
    lost: Vec<u32>,
}

impl Sender {
    pub(super) fn new(id: u32) -> Self {
        Self { id, next: 0, first: 0, meant: VecDeque::new(), lost: Vec::new() }
    }

    fn answered(&mut self, number: u64) -> Option<u64> {
        let place = usize::try_from(number.checked_sub(u64::from(self.first))?).ok()?;
        let meant = std::mem::take(self.meant.get_mut(place)?);
        while self.meant.front() == Some(&0) {
            self.meant.pop_front();
            self.first += 1;
        }
        (meant != 0).then_some(meant)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.meant.is_empty()
    }

    /// The numbers that were not acknowledged.
    pub(super) fn unacknowledged(&self) -> Vec<u32> {
        let waiting = (self.first..).zip(&self.meant).filter(|(_, meant)| **meant != 0).map(|(number, _)| number);
        self.lost.iter().copied().chain(waiting).collect()
    }
}

pub(super) struct Socket {
    index: usize,
    pub(super) stage: Stage,
    stream: Option<TcpStream>,
    /// Bytes of what is not there as a whole yet.
    partial: Vec<u8>,
    /// The frames before the last one of a message in parts.
    parts: Vec<u8>,
    out: Vec<u8>,
    waits_to_write: bool,
    pub(super) room: usize,
    /// What sends name the room by, when it is not the plan's.
    address: Option<Box<str>>,
    pub(super) sender: Option<Box<Sender>>,
    pub(super) watched: Watched,
    /// Of `watched`, when the load began.
    pub(super) base: u64,
    pub(super) stalled: bool,
    cursor: String,
    ws_token: String,
    resume: bool,
    asked_at: u64,
}

impl Socket {
    pub(super) fn new(index: usize, plan: &Plan) -> Self {
        let socket = &plan.sockets[index];
        Self {
            index,
            stage: Stage::Idle,
            stream: None,
            partial: Vec::new(),
            parts: Vec::new(),
            out: Vec::new(),
            waits_to_write: false,
            room: socket.room,
            address: None,
            sender: socket.sender.map(|id| Box::new(Sender::new(id))),
            watched: Watched::default(),
            base: 0,
            stalled: false,
            cursor: String::new(),
            ws_token: String::new(),
            resume: false,
            asked_at: 0,
        }
    }

    /// Begins to connect.
    pub(super) fn open(&mut self, resume: bool, shared: &mut Shared) {
        self.asked_at = clock::now();
        self.resume = resume && !self.cursor.is_empty();
        let stage = if shared.plan.token_path.is_empty() { Stage::Upgrade } else { Stage::Token };
        self.connect(stage, shared);
    }

    fn connect(&mut self, stage: Stage, shared: &mut Shared) {
        self.hang_up(shared);
        let plan = &shared.plan;
        let address = plan.addresses[self.index % plan.addresses.len()];
        let token = &plan.sockets[self.index].token;
        let request = if stage == Stage::Token {
            format!(
                "GET {} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n",
                plan.token_path
            )
        } else {
            format!(
                "GET {} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                shared.dialect.path(&plan.path, token)
            )
        };
        match connect(address) {
            Ok(stream) => {
                let flags = EventFlags::IN | EventFlags::OUT;
                let data = EventData::new_u64(u64::try_from(self.index).unwrap_or(u64::MAX));
                if let Err(error) = epoll::add(&shared.epoll, stream.as_fd(), data, flags) {
                    self.fail(&error.to_string(), shared);
                    return;
                }
                self.stream = Some(stream);
                self.stage = stage;
                self.out = request.into_bytes();
                self.waits_to_write = true;
            }
            Err(error) => self.fail(&error.to_string(), shared),
        }
    }

    /// Asks to enter its room.
    pub(super) fn join(&mut self, shared: &mut Shared) {
        self.asked_at = clock::now();
        self.ask_to_join(shared);
    }

    fn ask_to_join(&mut self, shared: &mut Shared) {
        self.stage = Stage::Joining;
        let room = &shared.plan.rooms[self.room];
        let (dialect, cursor) = (&shared.dialect, if self.resume { &*self.cursor } else { "" });
        frame::write_text(&mut self.out, |out| dialect.join(JOIN, room, cursor, out));
        self.flush(shared);
    }

    /// Queues a message; [`Socket::flush`] sends it.
    pub(super) fn send(&mut self, meant: u64, shared: &Shared) {
        let Some(sender) = &mut self.sender else { return };
        let marker = Marker { sender: sender.id, number: sender.next, at: meant };
        sender.meant.push_back(meant);
        sender.next += 1;
        let room = self.address.as_deref().unwrap_or(&shared.plan.rooms[self.room]);
        let client_id = format!("{:x}-{:x}", marker.sender, marker.number);
        let mut content = |out: &mut Vec<u8>| marker.write(shared.plan.content_bytes, out);
        frame::write_text(&mut self.out, |out| {
            shared.dialect.send(u64::from(marker.number), room, &client_id, &mut content, out);
        });
    }

    /// Stops to read, and so to answer heartbeats.
    pub(super) fn stall(&mut self, shared: &Shared) {
        self.stalled = true;
        if let Some(stream) = &self.stream {
            // A socket that is gone from the poll already is as deaf.
            epoll::delete(&shared.epoll, stream.as_fd()).ok();
        }
    }

    /// Cuts the connection without a word.
    pub(super) fn hang_up(&mut self, shared: &Shared) {
        if let Some(stream) = self.stream.take()
            && !self.stalled
        {
            epoll::delete(&shared.epoll, stream.as_fd()).ok();
        }
        self.stage = Stage::Idle;
        (self.partial, self.parts, self.out) = (Vec::new(), Vec::new(), Vec::new());
        self.waits_to_write = false;
    }

    fn fail(&mut self, why: &str, shared: &mut Shared) {
        let stage = self.stage;
        self.hang_up(shared);
        self.stage = Stage::Closed;
        match stage {
            Stage::Ready | Stage::Live => {
                shared.tally.closed += 1;
                shared.news.push(News::Closed(self.index));
            }
            Stage::Closed => {}
            Stage::Idle | Stage::Token | Stage::Upgrade | Stage::Greeting | Stage::Joining => {
                shared.news.push(News::Failed(format!("{stage:?}: {why}")));
            }
        }
    }

    /// Does what readiness allows.
    pub(super) fn ready(&mut self, flags: EventFlags, shared: &mut Shared) {
        if flags.contains(EventFlags::OUT) && self.waits_to_write {
            self.flush(shared);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
            let mut buffer = std::mem::take(&mut shared.buffer);
            self.read(&mut buffer, shared);
            shared.buffer = buffer;
        }
    }

    fn read(&mut self, buffer: &mut [u8], shared: &mut Shared) {
        loop {
            let Some(stream) = &mut self.stream else { return };
            match stream.read(buffer) {
                Ok(0) => {
                    self.ended(shared);
                    return;
                }
                Ok(len) => {
                    let now = clock::now();
                    self.feed(&buffer[..len], now, shared);
                    if len < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.fail(&error.to_string(), shared);
                    return;
                }
            }
        }
        if !self.out.is_empty() && !self.waits_to_write {
            self.flush(shared);
        }
    }

    fn ended(&mut self, shared: &mut Shared) {
        self.fail("the server closed the connection", shared);
    }

    fn feed(&mut self, bytes: &[u8], now: u64, shared: &mut Shared) {
        if self.partial.is_empty() {
            let used = self.consume(bytes, now, shared);
            if self.stream.is_some() && used < bytes.len() {
                self.partial.extend_from_slice(&bytes[used..]);
            }
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(bytes);
            let used = self.consume(&whole, now, shared);
            if self.stream.is_some() && used < whole.len() {
                whole.drain(..used);
                self.partial = whole;
            }
        }
    }

    /// Reads all that is whole, and says how much that was.
    fn consume(&mut self, bytes: &[u8], now: u64, shared: &mut Shared) -> usize {
        let mut used = 0;
        if matches!(self.stage, Stage::Token | Stage::Upgrade) {
            match self.response(bytes, shared) {
                Some(head) => used = head,
                None => return 0,
            }
        }
        let mut answered = 0;
        while self.stream.is_some() {
            let frame = match frame::read(&bytes[used..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(frame::Malformed) => {
                    self.fail("a frame that no server sends", shared);
                    break;
                }
            };
            used += frame.len;
            match frame.opcode {
                Opcode::Data if frame.last => answered += self.text(frame.payload, now, shared),
                Opcode::Data | Opcode::Continuation => {
                    self.parts.extend_from_slice(frame.payload);
                    if frame.last {
                        let text = std::mem::take(&mut self.parts);
                        answered += self.text(&text, now, shared);
                    }
                }
                Opcode::Ping => frame::write_pong(&mut self.out, frame.payload),
                Opcode::Pong => {}
                Opcode::Close => self.ended(shared),
            }
        }
        if answered > 0 {
            shared.news.push(News::Answered(self.index, answered));
        }
        used
    }

    /// Reads the HTTP response of the token or of the upgrade; none while it is not there as a whole.
    fn response(&mut self, bytes: &[u8], shared: &mut Shared) -> Option<usize> {
        let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
            if bytes.len() > HEAD_BYTES_MAX {
                self.fail("a head without an end", shared);
            }
            return None;
        };
        let status = bytes.get(9..12).unwrap_or_default();
        if self.stage == Stage::Token {
            let length = content_length(&bytes[..head]).unwrap_or(0);
            let body = bytes.get(head..head + length)?;
            match text_after(body, "\"token\"") {
                Some(token) if status == b"200" => {
                    self.ws_token = token.to_owned();
                    self.connect(Stage::Upgrade, shared);
                }
                _ => self.fail(&format!("no token: {}", String::from_utf8_lossy(body)), shared),
            }
            // The connection is another now: all of these bytes were the old one's.
            return Some(bytes.len());
        }
        if status != b"101" {
            self.fail(&format!("no upgrade: {}", String::from_utf8_lossy(&bytes[..head.min(200)])), shared);
            return None;
        }
        self.stage = Stage::Greeting;
        let heard = shared.dialect.opened();
        self.heard(heard, b"", clock::now(), shared);
        Some(head)
    }

    /// Takes a text; says how many messages it answers.
    fn text(&mut self, text: &[u8], now: u64, shared: &mut Shared) -> u32 {
        let heard = shared.dialect.read(text);
        self.heard(heard, text, now, shared)
    }

    fn heard(&mut self, heard: Heard, text: &[u8], now: u64, shared: &mut Shared) -> u32 {
        match heard {
            Heard::Event => self.event(text, now, shared),
            Heard::Ack { id: JOIN, ok } | Heard::Resumed { ok } => self.joined(ok, text, shared),
            Heard::Ack { id, ok } => return self.answered(id, ok, text, now, shared),
            Heard::Answer(answer) => {
                frame::write_text(&mut self.out, |out| out.extend_from_slice(answer.as_bytes()));
            }
            Heard::Step(step) => {
                let token =
                    if self.ws_token.is_empty() { &shared.plan.sockets[self.index].token } else { &self.ws_token };
                let resume = self.resume.then(|| (&*shared.plan.rooms[self.room], &*self.cursor));
                let greeting = Greeting { token, resume };
                frame::write_text(&mut self.out, |out| shared.dialect.step(step, greeting, out));
            }
            Heard::Ready => {
                // One that resumes is where it should be once its room has answered.
                if !self.resume && self.stage == Stage::Greeting {
                    self.stage = Stage::Ready;
                    self.ws_token = String::new();
                    shared.news.push(News::Settled(clock::now() - self.asked_at));
                }
            }
            Heard::Refused => self.fail(&String::from_utf8_lossy(&text[..text.len().min(300)]), shared),
            Heard::Nothing => {}
        }
        0
    }

    fn event(&mut self, text: &[u8], now: u64, shared: &mut Shared) {
        if let Some(marker) = shared.finder.first(text) {
            self.watched.message(marker);
            shared.tally.delivery(marker, text.len(), now);
        }
        if let Some(seq) = shared.dialect.seq(text) {
            self.watched.seq(seq);
        }
        if shared.plan.cursors
            && let Some(cursor) = text_after(text, "\"cursor\"")
        {
            self.cursor.clear();
            self.cursor.push_str(cursor);
        }
    }

    /// The answer to entering a room, with what was missed.
    fn joined(&mut self, ok: bool, text: &[u8], shared: &mut Shared) {
        if !ok {
            self.fail(&String::from_utf8_lossy(&text[..text.len().min(300)]), shared);
            return;
        }
        if shared.plan.cursors
            && let Some(cursor) = text_after(text, "\"cursor\"")
        {
            self.cursor = cursor.to_owned();
        }
        if self.resume {
            if memchr::memmem::find(text, b"\"recovered\":true").is_none() {
                self.fail("the cursor was not taken", shared);
                return;
            }
            for marker in shared.finder.all(text) {
                self.watched.message(marker);
                shared.tally.missed += 1;
            }
            self.watched.forget_seq();
            if memchr::memmem::find(text, b"\"more\":true").is_some() {
                self.ask_to_join(shared);
                return;
            }
        }
        self.address = shared.dialect.address(text).map(Into::into);
        self.stage = Stage::Live;
        self.ws_token = String::new();
        shared.news.push(News::Settled(clock::now() - self.asked_at));
    }

    fn answered(&mut self, id: u64, ok: bool, text: &[u8], now: u64, shared: &mut Shared) -> u32 {
        let Some(sender) = &mut self.sender else { return 0 };
        let Some(meant) = sender.answered(id) else { return 0 };
        if ok {
            shared.tally.ack(meant, now);
        } else {
            sender.lost.extend(u32::try_from(id));
            shared.tally.refusal(text);
        }
        1
    }

    /// Writes what is queued, and asks to be told when there is place for the rest.
    pub(super) fn flush(&mut self, shared: &mut Shared) {
        let Some(stream) = &mut self.stream else { return };
        let mut written = 0;
        let result = loop {
            match stream.write(&self.out[written..]) {
                Ok(len) => written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if written == self.out.len() {
                break Ok(());
            }
        };
        self.out.drain(..written);
        match result {
            Ok(()) => {
                if self.out.capacity() > 4096 {
                    self.out = Vec::new();
                }
                self.interest(false, shared);
            }
            // A connection that is still being made says that it is not connected.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                self.interest(true, shared);
            }
            Err(error) => self.fail(&error.to_string(), shared),
        }
    }

    fn interest(&mut self, write: bool, shared: &mut Shared) {
        if self.waits_to_write == write || self.stalled {
            return;
        }
        self.waits_to_write = write;
        let Some(stream) = &self.stream else { return };
        let flags = if write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        let data = EventData::new_u64(u64::try_from(self.index).unwrap_or(u64::MAX));
        if let Err(error) = epoll::modify(&shared.epoll, stream.as_fd(), data, flags) {
            self.fail(&error.to_string(), shared);
        }
    }
}

/// Begins a connection that does not block.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// The length that a response's head names.
fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}
