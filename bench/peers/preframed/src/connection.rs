//! One socket: a task that reads its events and writes what waits in its outbox.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    io::{self, IoSlice},
    sync::Arc,
    task::Poll,
};

use bytes::{Buf as _, Bytes, BytesMut};
use peer::{Ack, Join, Refusal, RoomRef, Send, Sent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::{
    frame::{self, Received},
    handshake,
    hub::{Hub, PING_INTERVAL, Room},
    outbox::Outbox,
    packet::{self, Packet},
};

/// Frames that go out in one write; the rest of the batch follows in the next.
const SLICES: usize = 64;

/// Read on the stack, so that an idle socket holds no buffer.
const READ_BYTES: usize = 8 * 1024;

/// Runs a connection until either side ends it.
pub(crate) async fn run(mut stream: TcpStream, hub: Arc<Hub>) {
    let Ok(received) = handshake::upgrade(&mut stream).await else { return };
    let outbox = Arc::new(Outbox::default());
    let id = hub.enter(&outbox);
    let mut connection =
        Connection { stream, received, outbox, hub, id, sid: Uuid::new_v4().to_string(), rooms: HashMap::new() };
    // Clients that break off are no news.
    drop(connection.serve().await);
    for room in connection.rooms.values() {
        room.leave(id);
    }
    connection.hub.leave(id);
}

struct Connection {
    stream: TcpStream,
    /// What was read of a frame that is not whole yet.
    received: BytesMut,
    outbox: Arc<Outbox>,
    hub: Arc<Hub>,
    id: u64,
    sid: String,
    rooms: HashMap<String, Arc<Room>>,
}

enum Turn {
    Read,
    Write,
}

impl Connection {
    async fn serve(&mut self) -> io::Result<()> {
        self.queue(packet::open(&self.sid, PING_INTERVAL.as_millis()));
        self.handle_received()?;
        let mut batch = VecDeque::new();
        loop {
            match self.turn(&mut batch).await? {
                Turn::Write => {
                    self.write(&mut batch).await?;
                    // A socket that always has something to write must be heard all the same; costs nothing when
                    // nothing came.
                    self.read()?;
                }
                Turn::Read => self.read()?,
            }
        }
    }

    /// Waits until there is something to write (which is then in the batch) or to read.
    async fn turn(&self, batch: &mut VecDeque<Bytes>) -> io::Result<Turn> {
        poll_fn(|context| {
            if let Poll::Ready(taken) = self.outbox.poll_take(context, batch) {
                return Poll::Ready(taken.map(|()| Turn::Write).map_err(|_overflowed| io::ErrorKind::TimedOut.into()));
            }
            self.stream.poll_read_ready(context).map_ok(|()| Turn::Read)
        })
        .await
    }

    async fn write(&self, batch: &mut VecDeque<Bytes>) -> io::Result<()> {
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(batch.iter()) {
                *slice = IoSlice::new(frame);
                count += 1;
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(written) => advance(batch, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.received.extend_from_slice(&buffer[..read]);
                self.handle_received()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn handle_received(&mut self) -> io::Result<()> {
        while let Some(received) = frame::take(&mut self.received)? {
            match received {
                Received::Text(text) => {
                    let text = std::str::from_utf8(&text).map_err(io::Error::other)?;
                    self.handle(text)?;
                }
                Received::Ping(payload) => self.outbox.push(frame::pong(payload)),
                Received::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
                Received::Other => {}
            }
        }
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        Ok(())
    }

    fn handle(&mut self, text: &str) -> io::Result<()> {
        match packet::read(text).ok_or(io::ErrorKind::InvalidData)? {
            Packet::Connect => self.queue(packet::connected(&self.sid)),
            Packet::Event { ack, name, data } => self.event(ack, &name, data),
            Packet::Disconnect => return Err(io::ErrorKind::ConnectionAborted.into()),
            Packet::Other => {}
        }
        Ok(())
    }

    fn event(&mut self, ack: Option<u64>, name: &str, data: &RawValue) {
        match name {
            "join_room" => {
                let Some(RoomRef { room_id }) = self.payload(ack, data) else { return };
                let room = self.hub.room(room_id.clone());
                let last_seq = room.join(self.id, &self.outbox);
                self.rooms.insert(room_id.clone(), room);
                self.answer(ack, &Join::new(peer::Room { id: room_id, last_seq }));
            }
            "leave_room" => {
                let Some(RoomRef { room_id }) = self.payload(ack, data) else { return };
                if let Some(room) = self.rooms.remove(&room_id) {
                    room.leave(self.id);
                }
                self.answer(ack, &Ack::default());
            }
            "send_message" => {
                let Some(send) = self.payload::<Send>(ack, data) else { return };
                let Some(room) = self.rooms.get(&send.room_id) else {
                    return self.answer(ack, &Refusal::NOT_A_MEMBER);
                };
                let json = room.broadcast(send, &self.sid);
                let message = RawValue::from_string(json).expect("a message is JSON");
                self.answer(ack, &Sent::new(message));
            }
            _ => {}
        }
    }

    fn payload<'a, T: Deserialize<'a>>(&self, ack: Option<u64>, data: &'a RawValue) -> Option<T> {
        let payload = serde_json::from_str(data.get()).ok();
        if payload.is_none() {
            self.answer(ack, &Refusal::INVALID);
        }
        payload
    }

    fn answer(&self, ack: Option<u64>, data: &impl Serialize) {
        if let Some(id) = ack {
            self.queue(packet::ack(id, data));
        }
    }

    fn queue(&self, text: String) {
        self.outbox.push(frame::text(text));
    }
}

/// Takes out of the batch what was written.
fn advance(batch: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(frame) = batch.front_mut() {
        if written < frame.len() {
            frame.advance(written);
            return;
        }
        written -= frame.len();
        batch.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_batch_that_was_written_is_not_written_again() {
        let mut batch =
            VecDeque::from([Bytes::from_static(b"abc"), Bytes::from_static(b"de"), Bytes::from_static(b"f")]);
        advance(&mut batch, 4);
        assert_eq!(batch, [Bytes::from_static(b"e"), Bytes::from_static(b"f")]);
        advance(&mut batch, 2);
        assert!(batch.is_empty());
    }
}
