//! Joining a room without a gap: membership, the feed, what was missed, and then, in one turn under the room's lock, the
//! ack and the socket's place among those that get the next entry. No entry comes before the ack, none is missing after
//! it, none comes twice.

use std::sync::Arc;

use futures::StreamExt as _;
use mesh::{
    client,
    error::{Reason, Refusal},
    proto::message::v1::{
        self as pb, JoinRoomRequest, ListEntriesRequest, ListEntriesResponse, ListMessagesRequest,
        list_messages_request,
    },
    text,
};
use uuid::Uuid;

use super::{
    events::{Reply, error_object},
    feed::{Admitted, Encoded, Hold, Offer, Position},
    hub::Hub,
    meter,
    session::Session,
};
use crate::json;

/// Missed entries in one ack.
const MISSED_MAX: usize = 500;
/// Messages of the newest page.
const PAGE: i32 = 50;
/// Entries that may follow an ack at once; with more the newest page is read again.
const FOLLOW_MAX: usize = 100;
/// How often the log is read again because the room was faster.
const TRIES_MAX: u32 = 20;
/// The same for the newest page, which a cursor goes on from: by that more of the room is read at once.
const PAGE_TRIES_MAX: u32 = 4;
/// Rooms that came with a token and are joined at once.
const RESUMES: usize = 8;

/// Joins the rooms that came with the token, some at a time, and answers each by `room_joined`.
pub(super) async fn resume(hub: &Arc<Hub>, session: &Arc<Session>, rooms: Vec<(String, Option<String>)>) {
    let one = async |(name, cursor): (String, Option<String>)| {
        let room_id = text::uuid("roomId", &name);
        let reply = Reply::RoomJoined(name);
        let result = match room_id {
            Ok(room_id) => Box::pin(join(hub, session, room_id, cursor, &reply)).await,
            Err(violation) => Err(Refusal::invalid(vec![violation])),
        };
        if let Err(refusal) = result
            && let Some(frame) = reply.frame(&error_object(&refusal))
        {
            meter::join(refusal.reason.as_str());
            session.tell(frame);
        }
    };
    futures::stream::iter(rooms).for_each_concurrent(RESUMES, one).await;
}

/// Joins a room and answers.
///
/// # Errors
/// Why the socket is not in the room. A socket that was live in it before is so again.
pub(super) async fn join(
    hub: &Arc<Hub>,
    session: &Arc<Session>,
    room_id: Uuid,
    cursor: Option<String>,
    reply: &Reply,
) -> Result<(), Refusal> {
    let before = session.room(room_id);
    if before.is_none() && session.rooms_len() >= hub.config().rooms_per_socket_max {
        let message = format!("is one too many: a socket may be in at most {}", hub.config().rooms_per_socket_max);
        return Err(Refusal::field("roomId", message));
    }
    // From here to the ack nothing of the room is delivered, so that the ack says where delivery goes on.
    let suspended = before.and_then(|room| room.suspend(session).map(|watcher| (room, watcher)));
    let joining = Joining { hub, session, room_id, reply };
    let result = tokio::time::timeout(hub.config().join_timeout(), joining.run(cursor)).await;
    let result = result.unwrap_or_else(|_| {
        Err(Refusal::new(Reason::DeadlineExceeded, "The room could not be joined in time; try again"))
    });
    if result.is_err()
        && let Some((room, watcher)) = suspended
    {
        room.restore(watcher);
    }
    result
}

struct Joining<'a> {
    hub: &'a Arc<Hub>,
    session: &'a Arc<Session>,
    room_id: Uuid,
    reply: &'a Reply,
}

/// What was read of the log after a cursor.
struct Missed {
    entries: Vec<Encoded>,
    bytes: usize,
    at: Position,
    /// Whether the log went on when it was last read.
    more: bool,
}

impl Joining<'_> {
    async fn run(&self, cursor: Option<String>) -> Result<(), Refusal> {
        let place = self.hub.joins.acquire().await.map_err(Refusal::internal)?;
        let room = self.enter().await?;
        let hold = self.hub.feeds.hold(self.room_id)?;
        let outcome = match cursor {
            Some(cursor) => match self.catch_up(&hold, &room, cursor).await {
                Err(refusal) if refusal.reason == Reason::CursorLost => self.newest(&hold, &room).await?,
                outcome => outcome?,
            },
            None => self.newest(&hold, &room).await?,
        };
        meter::join(outcome);
        drop(place);
        Ok(())
    }

    /// Membership: makes the user one, or proves that they are.
    async fn enter(&self) -> Result<pb::Room, Refusal> {
        let message = JoinRoomRequest { room_id: self.room_id.to_string() };
        let bearer = self.hub.bearer(self.session);
        let call = || {
            let (mut client, message) = (self.hub.edge.clients.message_of(self.room_id), message.clone());
            let request = client::request(message, &bearer, self.hub.deadline());
            async move { client.join_room(request).await }
        };
        Ok(self.hub.call(call).await?.room.unwrap_or_default())
    }

    /// With a cursor: every entry after it.
    async fn catch_up(&self, hold: &Hold, room: &pb::Room, cursor: String) -> Result<&'static str, Refusal> {
        // The feed comes first: what is written while the log is read must be in one of the two.
        hold.live(0).await?;
        let at = Position { seq: 0, cursor: cursor.into() };
        let mut missed = Missed { entries: Vec::new(), bytes: 0, at, more: true };
        for _ in 0..TRIES_MAX {
            self.read_on(&mut missed, &hold.name).await?;
            if missed.more {
                break;
            }
            let offer = Offer {
                from: &missed.at,
                member_as_of: room.last_seq,
                bridge_max: MISSED_MAX - missed.entries.len(),
                merge: true,
            };
            let later = missed.entries.iter().filter(|entry| entry.position.seq > room.last_seq);
            if later.filter_map(|entry| entry.membership(self.session.user_id())).next_back() == Some(false) {
                return Err(Refusal::new(Reason::NotAMember, "You are not in this room any more"));
            }
            let ack = |bridge: &[&Encoded], end: &Position| {
                let entries = missed.entries.iter().chain(bridge.iter().copied());
                self.reply.frame(&Ack { room, end, more: false, lasting: true }.recovered(entries))
            };
            match hold.admit(self.session, &offer, ack)? {
                Admitted::Live | Admitted::Gone => return Ok("recovered"),
                Admitted::Behind if missed.entries.len() >= MISSED_MAX => break,
                Admitted::Behind => {}
            }
        }
        // Too much for one ack, or the room is faster than the reading: the client goes on from here.
        let ack = Ack { room, end: &missed.at, more: true, lasting: false }.recovered(missed.entries.iter());
        if let Some(frame) = self.reply.frame(&ack) {
            self.session.tell(frame);
        }
        Ok("more")
    }

    /// Reads the log from where it was left until its end, or until the ack is full.
    async fn read_on(&self, missed: &mut Missed, room: &str) -> Result<(), Refusal> {
        missed.more = true;
        while missed.more && missed.entries.len() < MISSED_MAX && missed.bytes < self.hub.config().missed_bytes_max {
            let page = self.entries(&missed.at.cursor, MISSED_MAX - missed.entries.len()).await?;
            missed.more = page.more;
            let whole = page.entries.len() == page.cursors.len();
            if !whole || (page.more && page.entries.is_empty()) {
                return Err(Refusal::internal("a page of entries without a cursor for each, or without an end"));
            }
            for (entry, cursor) in page.entries.into_iter().zip(page.cursors) {
                // One entry past the limit is taken, so that every ack makes progress.
                if missed.bytes >= self.hub.config().missed_bytes_max {
                    missed.more = true;
                    return Ok(());
                }
                let entry = Encoded::new(room, entry, cursor);
                missed.bytes += entry.bytes();
                missed.at = entry.position.clone();
                missed.entries.push(entry);
            }
            missed.at = Position { seq: page.seq, cursor: page.cursor.into() };
        }
        Ok(())
    }

    async fn entries(&self, cursor: &str, page_size: usize) -> Result<ListEntriesResponse, Refusal> {
        let page_size = i32::try_from(page_size).unwrap_or(i32::MAX);
        let message = ListEntriesRequest { room_id: self.room_id.to_string(), cursor: cursor.to_owned(), page_size };
        let bearer = self.hub.bearer(self.session);
        let call = || {
            let (mut client, message) = (self.hub.edge.clients.message_of(self.room_id), message.clone());
            let request = client::request(message, &bearer, self.hub.deadline());
            async move { client.list_entries(request).await }
        };
        self.hub.call(call).await
    }

    /// With no cursor, or one that nothing can be proven from: the newest page.
    async fn newest(&self, hold: &Hold, room: &pb::Room) -> Result<&'static str, Refusal> {
        for last in (0..PAGE_TRIES_MAX).rev().map(|left| left == 0) {
            // The feed's position, once it has come to where the room stood when the user was in it.
            let at = hold.live(room.last_seq).await?;
            let messages = self.messages(at.seq).await?;
            // Who may read after that position is a member as of it.
            let offer = Offer { from: &at, member_as_of: at.seq, bridge_max: FOLLOW_MAX, merge: false };
            let ack = |_: &[&Encoded], end: &Position| {
                self.reply.frame(&Ack { room, end, more: false, lasting: true }.newest(&messages))
            };
            match hold.admit(self.session, &offer, ack)? {
                Admitted::Live | Admitted::Gone => return Ok("newest"),
                Admitted::Behind if last => {
                    // The room is faster than the reading of pages: the client goes on from this one.
                    let ack = Ack { room, end: &at, more: true, lasting: false }.newest(&messages);
                    if let Some(frame) = self.reply.frame(&ack) {
                        self.session.tell(frame);
                    }
                }
                Admitted::Behind => {}
            }
        }
        Ok("more")
    }

    async fn messages(&self, until: i64) -> Result<Vec<json::Message>, Refusal> {
        if until == 0 {
            return Ok(Vec::new());
        }
        let position = Some(list_messages_request::Position::Before(until + 1));
        let message = ListMessagesRequest { room_id: self.room_id.to_string(), page_size: PAGE, position };
        let bearer = self.hub.bearer(self.session);
        let call = || {
            let (mut client, message) = (self.hub.edge.clients.message_of(self.room_id), message.clone());
            let request = client::request(message, &bearer, self.hub.deadline());
            async move { client.list_messages(request).await }
        };
        Ok(self.hub.call(call).await?.messages.into_iter().map(json::Message::from).collect())
    }
}

/// The ack of `join_room`.
struct Ack<'a> {
    room: &'a pb::Room,
    end: &'a Position,
    more: bool,
    /// Whether the socket is live from `end` on; the room is then shown as it is at that position.
    lasting: bool,
}

impl Ack<'_> {
    fn recovered<'e>(&self, entries: impl Iterator<Item = &'e Encoded>) -> String {
        let mut missed = String::new();
        for entry in entries {
            let comma = if missed.is_empty() { "" } else { "," };
            missed.push_str(comma);
            missed.push_str(r#"{"event":""#);
            missed.push_str(entry.event);
            missed.push_str(r#"","data":"#);
            missed.push_str(entry.data());
            missed.push('}');
        }
        self.json(true, &missed, "[]")
    }

    fn newest(&self, messages: &[json::Message]) -> String {
        self.json(false, "", &serde_json::to_string(messages).unwrap_or_default())
    }

    fn json(&self, recovered: bool, missed: &str, messages: &str) -> String {
        let last_seq = if self.lasting { self.end.seq } else { self.room.last_seq.max(self.end.seq) };
        let room = json::Room::from(pb::Room { last_seq, ..self.room.clone() });
        let room = serde_json::to_string(&room).unwrap_or_default();
        let cursor = serde_json::Value::from(&*self.end.cursor);
        let more = self.more;
        format!(
            r#"{{"success":true,"room":{room},"cursor":{cursor},"recovered":{recovered},"missed":[{missed}],"more":{more},"messages":{messages}}}"#
        )
    }
}
