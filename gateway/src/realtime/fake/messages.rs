//! A room log in memory with the surface of message-svc, and the faults that a gateway has to live with: entries that
//! get lost on the stream, streams that break, logs that begin a new life, a log that grows while it is read.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::StreamExt as _;
use mesh::{
    error::{Reason, Refusal},
    proto::message::v1::{
        self as pb, entry::Event, list_messages_request, message_service_server::MessageService,
        watch_rooms_request::Action, watch_rooms_response as watch,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{Answer, Stream, answers_nothing};

type Outlet = mpsc::UnboundedSender<Result<pb::WatchRoomsResponse, Status>>;
pub(super) type Later<'b, T> = std::pin::Pin<Box<dyn Future<Output = Answer<T>> + Send + 'b>>;

#[derive(Default)]
struct Log {
    /// Which life; cursors of another do not hold.
    life: u32,
    entries: Vec<pb::Entry>,
    members: HashSet<String>,
}

#[derive(Default)]
pub(super) struct State {
    rooms: HashMap<String, Log>,
    /// The rooms that each stream follows, and at which replica.
    streams: Vec<(usize, Outlet, HashSet<String>)>,
    /// The next entries that streams do not get.
    lose: usize,
    /// Entries that are written in the middle of each reading of the log.
    write_on_read: usize,
    subscriptions: usize,
    typing: Vec<(String, bool)>,
    sent: Vec<pb::SendMessageRequest>,
    /// So many messages are stored before a stream of sends breaks with its answers.
    pub(super) break_sends_after: Option<usize>,
    /// Messages with these contents are refused once, as by a store that is away for a moment.
    refuse: HashSet<String>,
    /// Messages with these contents are never taken in.
    held: HashSet<String>,
    /// The sizes of the bundles that came in.
    pub(super) bundles: Vec<usize>,
    /// At which replica each call that names a room came in.
    calls: Vec<(usize, String)>,
    arrivals: u64,
}

/// One replica of message-svc, as far as the realtime edge needs it; all have one store.
#[derive(Clone, Default)]
pub(in crate::realtime) struct FakeMessages(Arc<Mutex<State>>, usize);

impl State {
    fn log(&mut self, room: &str) -> &mut Log {
        self.rooms.entry(room.to_owned()).or_default()
    }

    fn append(&mut self, room: &str, event: Event) -> pb::Entry {
        let log = self.log(room);
        let seq = i64::try_from(log.entries.len()).expect("small") + 1;
        let event = match event {
            Event::Message(message) => Event::Message(pb::Message { seq, room_id: room.to_owned(), ..message }),
            other @ (Event::Members(_) | Event::RoomUpdated(_) | Event::RoomClosed(_)) => other,
        };
        if let Event::Members(members) = &event {
            log.members.extend(members.joined.iter().cloned());
            log.members.retain(|user| !members.left.contains(user) && !members.removed.contains(user));
        }
        let entry = pb::Entry { seq, create_time: None, event: Some(event) };
        log.entries.push(entry.clone());
        let cursor = format!("{}:{seq}", log.life);
        if self.lose > 0 {
            self.lose -= 1;
            return entry;
        }
        let logged = watch::LoggedEntry { entry: Some(entry.clone()), cursor, traceparent: String::new() };
        self.tell(room, &watch::Event::Entries(watch::LoggedEntries { entries: vec![logged] }));
        entry
    }

    fn tell(&mut self, room: &str, event: &watch::Event) {
        for (_, outlet, rooms) in &self.streams {
            if rooms.contains(room) {
                let response = pb::WatchRoomsResponse { room_id: room.to_owned(), event: Some(event.clone()) };
                drop(outlet.send(Ok(response)));
            }
        }
    }

    /// The seq of a cursor that holds.
    fn seq(&mut self, room: &str, cursor: &str) -> Result<usize, Refusal> {
        let (life, seq) = cursor
            .split_once(':')
            .and_then(|(life, seq)| Some((life.parse::<u32>().ok()?, seq.parse::<usize>().ok()?)))
            .ok_or_else(|| Refusal::field("cursor", "is no cursor"))?;
        let log = self.log(room);
        if life == log.life && seq <= log.entries.len() {
            Ok(seq)
        } else {
            Err(Refusal::new(Reason::CursorLost, "The cursor cannot be proven whole"))
        }
    }
}

impl FakeMessages {
    /// Another replica over the same store.
    pub(in crate::realtime) fn replica(&self, number: usize) -> Self {
        Self(Arc::clone(&self.0), number)
    }

    /// The rooms that streams which live follow at a replica.
    pub(in crate::realtime) fn followed_at(&self, replica: usize) -> HashSet<String> {
        let mut state = self.state();
        state.streams.retain(|(_, outlet, _)| !outlet.is_closed());
        let there = state.streams.iter().filter(|(at, ..)| *at == replica);
        there.flat_map(|(_, _, rooms)| rooms.iter().cloned()).collect()
    }

    /// The calls that named a room since the last look: at which replica, and which room.
    pub(in crate::realtime) fn calls(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.state().calls)
    }

    fn called(&self, room_id: &str) {
        self.state().calls.push((self.1, room_id.to_owned()));
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("lock")
    }

    pub(in crate::realtime) fn write(&self, room: Uuid, content: &str) -> i64 {
        let message = pb::Message { content: content.to_owned(), ..pb::Message::default() };
        self.state().append(&room.to_string(), Event::Message(message)).seq
    }

    /// A message for each number.
    pub(in crate::realtime) fn write_all(&self, room: Uuid, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.write(room, &number.to_string());
        }
    }

    pub(in crate::realtime) fn remove(&self, room: Uuid, user: Uuid) {
        let removed = vec![user.to_string()];
        let event = Event::Members(pb::MembersChanged { removed, ..pb::MembersChanged::default() });
        self.state().append(&room.to_string(), event);
    }

    pub(in crate::realtime) fn close(&self, room: Uuid) {
        self.state().append(&room.to_string(), Event::RoomClosed(pb::RoomClosed::default()));
    }

    /// The next so many entries do not reach the streams.
    pub(in crate::realtime) fn lose(&self, entries: usize) {
        self.state().lose = entries;
    }

    /// So many entries are written in the middle of each reading of a log.
    pub(in crate::realtime) fn write_on_read(&self, entries: usize) {
        self.state().write_on_read = entries;
    }

    /// All streams break.
    pub(in crate::realtime) fn cut(&self) {
        self.state().streams.clear();
    }

    /// The log is made anew, as by a restore: earlier cursors do not hold.
    pub(in crate::realtime) fn restore(&self, room: Uuid) {
        let mut state = self.state();
        let log = state.log(&room.to_string());
        log.life += 1;
        log.entries.truncate(1);
    }

    pub(in crate::realtime) fn last_seq(&self, room: Uuid) -> i64 {
        i64::try_from(self.state().log(&room.to_string()).entries.len()).expect("small")
    }

    /// How often any room was subscribed to.
    pub(in crate::realtime) fn subscriptions(&self) -> usize {
        self.state().subscriptions
    }

    /// How many rooms are followed by streams that live.
    pub(in crate::realtime) fn followed(&self) -> usize {
        let mut state = self.state();
        state.streams.retain(|(_, outlet, _)| !outlet.is_closed());
        state.streams.iter().map(|(_, _, rooms)| rooms.len()).sum()
    }

    pub(in crate::realtime) fn say_typing(&self, room: Uuid, user: Uuid, typing: bool) {
        let typing = watch::Typing { user_id: user.to_string(), username: "ada".into(), typing };
        self.state().tell(&room.to_string(), &watch::Event::Typing(typing));
    }

    /// What was said of typing.
    pub(in crate::realtime) fn typing(&self) -> Vec<(String, bool)> {
        self.state().typing.clone()
    }

    pub(in crate::realtime) fn sent(&self) -> Vec<pb::SendMessageRequest> {
        self.state().sent.clone()
    }

    fn act(&self, mine: &Outlet, action: Action) {
        let mut state = self.state();
        match action {
            Action::Subscribe(subscribe) => {
                state.subscriptions += 1;
                let room = subscribe.room_id;
                let last = state.log(&room).entries.len();
                let seq = match subscribe.cursor.as_str() {
                    "" => Ok(last),
                    cursor => state.seq(&room, cursor),
                };
                let tell = |event| {
                    drop(mine.send(Ok(pb::WatchRoomsResponse { room_id: room.clone(), event: Some(event) })));
                };
                let seq = match seq {
                    Ok(seq) => seq,
                    Err(refusal) => {
                        tell(watch::Event::Dropped(watch::Dropped { reason: refusal.reason.as_str().into() }));
                        return;
                    }
                };
                let log = state.log(&room);
                let position = |seq| format!("{}:{seq}", log.life);
                tell(watch::Event::Subscribed(watch::Subscribed { cursor: position(seq), seq: seq as i64 }));
                for entries in log.entries[seq..].chunks(64) {
                    let logged = |entry: &pb::Entry| {
                        let cursor = position(entry.seq as usize);
                        watch::LoggedEntry { entry: Some(entry.clone()), cursor, traceparent: String::new() }
                    };
                    let entries = entries.iter().map(logged).collect();
                    tell(watch::Event::Entries(watch::LoggedEntries { entries }));
                }
                state.streams.iter_mut().filter(|(_, outlet, _)| outlet.same_channel(mine)).for_each(
                    |(_, _, rooms)| {
                        rooms.insert(room.clone());
                    },
                );
            }
            Action::Unsubscribe(unsubscribe) => {
                for (_, _, rooms) in state.streams.iter_mut().filter(|(_, outlet, _)| outlet.same_channel(mine)) {
                    rooms.remove(&unsubscribe.room_id);
                }
            }
        }
    }
}

impl FakeMessages {
    /// Streams of sends break, with their answers, when so many messages are stored.
    pub(in crate::realtime) fn break_sends_after(&self, messages: usize) {
        self.state().break_sends_after = Some(messages);
    }

    /// The message of this content is refused the first time, as by a store that is away for a moment.
    pub(in crate::realtime) fn refuse_once(&self, content: &str) {
        self.state().refuse.insert(content.to_owned());
    }

    /// The message of this content is not taken in, and not answered.
    pub(in crate::realtime) fn hold(&self, content: &str) {
        self.state().held.insert(content.to_owned());
    }

    /// How many messages each bundle had that came in.
    pub(in crate::realtime) fn bundles(&self) -> Vec<usize> {
        self.state().bundles.clone()
    }

    /// The contents of a room's messages, in their order.
    pub(in crate::realtime) fn contents(&self, room: Uuid) -> Vec<String> {
        let mut state = self.state();
        let entries = state.log(&room.to_string()).entries.iter();
        entries
            .filter_map(|entry| match &entry.event {
                Some(Event::Message(message)) => Some(message.content.clone()),
                _ => None,
            })
            .collect()
    }

    /// Takes a message in, once for each client id.
    pub(super) async fn store(
        &self,
        user: &str,
        request: pb::SendMessageRequest,
    ) -> Result<pb::SendMessageResponse, Status> {
        self.called(&request.room_id);
        // Later ones take less time: whoever handles them side by side gets them out of order.
        let arrival = {
            let mut state = self.state();
            state.arrivals += 1;
            state.arrivals
        };
        tokio::time::sleep(std::time::Duration::from_millis(20_u64.saturating_sub(arrival))).await;
        let held = self.state().held.contains(&request.content);
        if held {
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        if state.refuse.remove(&request.content) {
            return Err(Refusal::new(Reason::Unavailable, "The store is away").into());
        }
        let known = state.log(&request.room_id).entries.iter().find_map(|entry| match &entry.event {
            Some(Event::Message(message)) if message.client_message_id == request.client_message_id => {
                Some(message.clone())
            }
            _ => None,
        });
        if let Some(message) = known {
            return Ok(pb::SendMessageResponse { message: Some(message), replayed: true, ..Default::default() });
        }
        let message = pb::Message {
            content: request.content.clone(),
            client_message_id: request.client_message_id.clone(),
            user_id: user.to_owned(),
            ..pb::Message::default()
        };
        let entry = state.append(&request.room_id, Event::Message(message));
        state.sent.push(request);
        let Some(Event::Message(message)) = entry.event else { unreachable!() };
        Ok(pb::SendMessageResponse { message: Some(message), ..Default::default() })
    }
}

/// Who calls, by the assertion that the call carries; its signature is not looked at here.
fn caller<T>(request: &Request<T>) -> String {
    user_of(request.metadata().get("authorization").and_then(|value| value.to_str().ok()).expect("a bearer"))
}

pub(super) fn user_of(token: &str) -> String {
    let payload = token.split('.').nth(1).expect("a token");
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    let claims: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
    claims["sub"].as_str().expect("a user").to_owned()
}

impl MessageService for FakeMessages {
    type WatchRoomStream = Stream<pb::WatchRoomResponse>;
    type WatchRoomsStream = Stream<pb::WatchRoomsResponse>;

    fn join_room<'a, 'b>(&'a self, request: Request<pb::JoinRoomRequest>) -> Later<'b, pb::JoinRoomResponse>
    where
        'a: 'b,
        Self: 'b,
    {
        let (user, room) = (caller(&request), request.into_inner().room_id);
        self.called(&room);
        let mut state = self.state();
        if !state.log(&room).members.contains(&user) {
            let event = pb::MembersChanged { joined: vec![user], ..pb::MembersChanged::default() };
            state.append(&room, Event::Members(event));
        }
        let log = state.log(&room);
        let last_seq = log.entries.len() as i64;
        let closed = log.entries.iter().any(|entry| matches!(entry.event, Some(Event::RoomClosed(_))));
        let cursor = format!("{}:{last_seq}", log.life);
        let room = Some(pb::Room { id: room, last_seq, ..pb::Room::default() });
        Box::pin(async move {
            match closed {
                true => Err(Refusal::new(Reason::RoomNotFound, "Room not found").into()),
                false => Ok(Response::new(pb::JoinRoomResponse { room, cursor })),
            }
        })
    }

    fn list_entries<'a, 'b>(&'a self, request: Request<pb::ListEntriesRequest>) -> Later<'b, pb::ListEntriesResponse>
    where
        'a: 'b,
        Self: 'b,
    {
        let user = caller(&request);
        let request = request.into_inner();
        let mut state = self.state();
        let result = if state.log(&request.room_id).members.contains(&user) {
            state.seq(&request.room_id, &request.cursor).map(|seq| {
                let log = state.log(&request.room_id);
                let end = log.entries.len().min(seq + request.page_size as usize);
                let entries = log.entries[seq..end].to_vec();
                let cursors = entries.iter().map(|entry| format!("{}:{}", log.life, entry.seq)).collect();
                let (cursor, more) = (format!("{}:{end}", log.life), end < log.entries.len());
                pb::ListEntriesResponse { entries, cursor, more, seq: end as i64, cursors }
            })
        } else {
            Err(Refusal::new(Reason::NotAMember, "You are not in this room"))
        };
        for number in 0..state.write_on_read {
            let message = pb::Message { content: format!("while reading {number}"), ..pb::Message::default() };
            state.append(&request.room_id, Event::Message(message));
        }
        Box::pin(async move { Ok(Response::new(result?)) })
    }

    fn list_messages<'a, 'b>(&'a self, request: Request<pb::ListMessagesRequest>) -> Later<'b, pb::ListMessagesResponse>
    where
        'a: 'b,
        Self: 'b,
    {
        let request = request.into_inner();
        let mut state = self.state();
        let Some(list_messages_request::Position::Before(before)) = request.position else { unreachable!() };
        let messages = state.log(&request.room_id).entries.iter().filter(|entry| entry.seq < before);
        let mut messages: Vec<_> = messages
            .filter_map(|entry| match &entry.event {
                Some(Event::Message(message)) => Some(message.clone()),
                _ => None,
            })
            .collect();
        messages.drain(..messages.len().saturating_sub(request.page_size as usize));
        for number in 0..state.write_on_read {
            let message = pb::Message { content: format!("while reading {number}"), ..pb::Message::default() };
            state.append(&request.room_id, Event::Message(message));
        }
        let response = pb::ListMessagesResponse { messages, ..pb::ListMessagesResponse::default() };
        Box::pin(async move { Ok(Response::new(response)) })
    }

    fn send_message<'a, 'b>(&'a self, request: Request<pb::SendMessageRequest>) -> Later<'b, pb::SendMessageResponse>
    where
        'a: 'b,
        Self: 'b,
    {
        let user = caller(&request);
        let request = request.into_inner();
        let messages = self.clone();
        Box::pin(async move { Ok(Response::new(messages.store(&user, request).await?)) })
    }

    fn set_typing<'a, 'b>(&'a self, request: Request<pb::SetTypingRequest>) -> Later<'b, pb::SetTypingResponse>
    where
        'a: 'b,
        Self: 'b,
    {
        let request = request.into_inner();
        self.called(&request.room_id);
        self.state().typing.push((request.room_id, request.typing));
        Box::pin(async { Ok(Response::new(pb::SetTypingResponse {})) })
    }

    fn watch_rooms<'a, 'b>(
        &'a self,
        request: Request<Streaming<pb::WatchRoomsRequest>>,
    ) -> Later<'b, Self::WatchRoomsStream>
    where
        'a: 'b,
        Self: 'b,
    {
        let (outlet, responses) = mpsc::unbounded_channel();
        self.state().streams.push((self.1, outlet.clone(), HashSet::new()));
        let (messages, mut requests, mine) = (self.clone(), request.into_inner(), outlet.downgrade());
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let Some(mine) = mine.upgrade() else { return };
                messages.act(&mine, request.action.expect("an action"));
            }
        });
        Box::pin(async {
            Ok(Response::new(Box::pin(UnboundedReceiverStream::new(responses)) as Self::WatchRoomsStream))
        })
    }

    answers_nothing! {
        create_room: pb::CreateRoomRequest => pb::CreateRoomResponse,
        get_room: pb::GetRoomRequest => pb::GetRoomResponse,
        list_rooms: pb::ListRoomsRequest => pb::ListRoomsResponse,
        list_public_rooms: pb::ListPublicRoomsRequest => pb::ListPublicRoomsResponse,
        update_room: pb::UpdateRoomRequest => pb::UpdateRoomResponse,
        erase_user: pb::EraseUserRequest => pb::EraseUserResponse,
        list_sent_messages: pb::ListSentMessagesRequest => pb::ListSentMessagesResponse,
        delete_room: pb::DeleteRoomRequest => pb::DeleteRoomResponse,
        open_direct_room: pb::OpenDirectRoomRequest => pb::OpenDirectRoomResponse,
        leave_room: pb::LeaveRoomRequest => pb::LeaveRoomResponse,
        list_members: pb::ListMembersRequest => pb::ListMembersResponse,
        add_member: pb::AddMemberRequest => pb::AddMemberResponse,
        remove_member: pb::RemoveMemberRequest => pb::RemoveMemberResponse,
        watch_room: pb::WatchRoomRequest => Stream<pb::WatchRoomResponse>,
    }
}
