//! The surface: `MessageService` of the contract. Each handler says who calls, reads the request (`grpc/request.rs`),
//! calls the domain and encodes the answer (`grpc/answer.rs`). Who may do what is decided in `room.rs` for reading and
//! in `room_task/judge.rs` for writing; the streams are in `grpc/follow.rs` and `grpc/sending.rs`.

use std::sync::Arc;

use mesh::{
    error::Answer,
    identity::{self, ServiceName},
    proto::message::v1::{
        AddMemberRequest, AddMemberResponse, CreateRoomRequest, CreateRoomResponse, DeleteRoomRequest,
        DeleteRoomResponse, EraseUserRequest, EraseUserResponse, GetRoomRequest, GetRoomResponse, JoinRoomRequest,
        JoinRoomResponse, LeaveRoomRequest, LeaveRoomResponse, ListEntriesRequest, ListEntriesResponse,
        ListMembersRequest, ListMembersResponse, ListMessagesRequest, ListMessagesResponse, ListPublicRoomsRequest,
        ListPublicRoomsResponse, ListRoomsRequest, ListRoomsResponse, ListSentMessagesRequest,
        ListSentMessagesResponse, OpenDirectRoomRequest, OpenDirectRoomResponse, RemoveMemberRequest,
        RemoveMemberResponse, SendMessageRequest, SendMessageResponse, SetTypingRequest, SetTypingResponse,
        UpdateRoomRequest, UpdateRoomResponse, WatchRoomRequest, WatchRoomResponse, WatchRoomsRequest,
        WatchRoomsResponse, message_service_server::MessageService,
    },
    text::Violations,
};
use tonic::{Request, Response, Streaming};

use crate::{
    config::Limits,
    error::Error,
    history,
    hub::Typing,
    id::{RoomId, UserId},
    member::Standing,
    names::Names,
    order::Change,
    page::PageToken as _,
    room::{NewRoom, View, create},
    rooms::Rooms,
    sent::{self, Eraser, SentAfter},
    store::{JoinedBefore, NamedAfter, Store},
    typing::Typists,
};

mod answer;
mod directory;
mod follow;
mod outgoing;
mod refusal;
mod request;
mod sending;

pub(crate) use directory::UserDirectory;
pub(crate) use follow::Following;
pub(crate) use sending::{Sending, Sends};

/// The service's handlers.
pub(crate) struct Messages {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) names: Arc<Names>,
    pub(crate) eraser: Eraser,
    pub(crate) typists: Typists,
    pub(crate) following: Arc<Following>,
    pub(crate) limits: Limits,
    /// What a page of messages may weigh: less than an answer may have.
    pub(crate) page_bytes_max: usize,
}

impl Messages {
    async fn view(&self, room: RoomId, user: UserId) -> Result<View, Error> {
        self.store.view(room, Some(user)).await?.ok_or(Error::RoomNotFound)
    }

    /// The room as one of its members sees it.
    async fn own(&self, room: RoomId, user: UserId) -> Result<View, Error> {
        let view = self.view(room, user).await?;
        view.membership()?;
        Ok(view)
    }
}

/// The user who calls.
fn caller<T>(request: &Request<T>) -> Result<UserId, mesh::error::Refusal> {
    Ok(UserId(identity::user(request)?.user_id))
}

#[tonic::async_trait]
impl MessageService for Messages {
    async fn create_room(&self, request: Request<CreateRoomRequest>) -> Answer<CreateRoomResponse> {
        let me = caller(&request)?;
        let room = request::new_room(request.get_ref(), me, &self.limits)?;
        let (room, _) = create::create(&*self.store, room).await?;
        Ok(Response::new(CreateRoomResponse { room: Some(answer::room(&room)) }))
    }

    async fn get_room(&self, request: Request<GetRoomRequest>) -> Answer<GetRoomResponse> {
        let me = caller(&request)?;
        let room = request::room_id(&request.get_ref().room_id)?;
        let view = self.view(room, me).await?;
        if !view.visible() {
            return Err(Error::RoomNotFound.into());
        }
        let room = create::summary(&*self.store, view).await.map_err(Error::from)?;
        Ok(Response::new(GetRoomResponse { room: Some(answer::room(&room)) }))
    }

    async fn list_rooms(&self, request: Request<ListRoomsRequest>) -> Answer<ListRoomsResponse> {
        let me = caller(&request)?;
        let ListRoomsRequest { page_size, page_token } = request.into_inner();
        let (size, after) = request::page::<JoinedBefore>(page_size, &page_token, &self.limits, Violations::default())?;
        // One more than asked tells whether there is a next page.
        let mut views = self.store.rooms_of(me, after, size as usize + 1).await.map_err(Error::from)?;
        let next = cut(&mut views, size).and_then(|last| {
            let joined_at = last.member?.joined_at;
            Some(JoinedBefore { joined_at, room: last.meta.id }.encode())
        });
        let rooms = create::summaries(&*self.store, views).await.map_err(Error::from)?;
        let rooms = rooms.iter().map(answer::room).collect();
        Ok(Response::new(ListRoomsResponse { rooms, next_page_token: next.unwrap_or_default() }))
    }

    async fn list_public_rooms(&self, request: Request<ListPublicRoomsRequest>) -> Answer<ListPublicRoomsResponse> {
        let me = caller(&request)?;
        let ListPublicRoomsRequest { search, page_size, page_token } = request.into_inner();
        let mut violations = Violations::default();
        let search = violations.check(request::search(&search)).unwrap_or_default();
        let (size, after) = request::page::<NamedAfter>(page_size, &page_token, &self.limits, violations)?;
        let read = self.store.public_rooms(me, search, after, size as usize + 1);
        let mut views = read.await.map_err(Error::from)?;
        let next =
            cut(&mut views, size).map(|last| NamedAfter { name: last.meta.name.clone(), room: last.meta.id }.encode());
        let rooms = create::summaries(&*self.store, views).await.map_err(Error::from)?;
        let rooms = rooms.iter().map(answer::room).collect();
        Ok(Response::new(ListPublicRoomsResponse { rooms, next_page_token: next.unwrap_or_default() }))
    }

    async fn update_room(&self, request: Request<UpdateRoomRequest>) -> Answer<UpdateRoomResponse> {
        let me = caller(&request)?;
        let (room, change) = request::update(request.into_inner(), me, &self.limits)?;
        let changed = self.rooms.change(room, change).await?;
        Ok(Response::new(UpdateRoomResponse { room: Some(answer::room(&changed.room)) }))
    }

    async fn delete_room(&self, request: Request<DeleteRoomRequest>) -> Answer<DeleteRoomResponse> {
        let me = caller(&request)?;
        let room = request::room_id(&request.get_ref().room_id)?;
        self.rooms.change(room, Change::Close(me)).await?;
        Ok(Response::new(DeleteRoomResponse {}))
    }

    async fn open_direct_room(&self, request: Request<OpenDirectRoomRequest>) -> Answer<OpenDirectRoomResponse> {
        let me = caller(&request)?;
        let with = request::user_id(&request.get_ref().user_id)?;
        if with == me {
            return Err(Error::field("user_id", "must be another user's").into());
        }
        // A room that is there needs no user-svc.
        let (room, created) = match self.store.view(RoomId::direct(me, with), Some(me)).await.map_err(Error::from)? {
            Some(view) if view.visible() => (create::summary(&*self.store, view).await.map_err(Error::from)?, false),
            _ => {
                self.names.of(with).await?;
                create::open_direct(&*self.store, NewRoom::direct(me, with)).await?
            }
        };
        Ok(Response::new(OpenDirectRoomResponse { room: Some(answer::room(&room)), created }))
    }

    async fn join_room(&self, request: Request<JoinRoomRequest>) -> Answer<JoinRoomResponse> {
        let me = caller(&request)?;
        let room = request::room_id(&request.get_ref().room_id)?;
        let changed = self.rooms.change(room, Change::Join(me)).await?;
        let (room, cursor) = (Some(answer::room(&changed.room)), changed.cursor.encode());
        Ok(Response::new(JoinRoomResponse { room, cursor }))
    }

    async fn leave_room(&self, request: Request<LeaveRoomRequest>) -> Answer<LeaveRoomResponse> {
        let me = caller(&request)?;
        let room = request::room_id(&request.get_ref().room_id)?;
        let changed = self.rooms.change(room, Change::Leave(me)).await?;
        Ok(Response::new(LeaveRoomResponse { room: Some(answer::room(&changed.room)) }))
    }

    async fn list_members(&self, request: Request<ListMembersRequest>) -> Answer<ListMembersResponse> {
        let me = caller(&request)?;
        let ListMembersRequest { room_id, page_size, page_token } = request.into_inner();
        let mut violations = Violations::default();
        let room = violations.check(request::parse_room_id(&room_id)).unwrap_or(RoomId::GENERAL);
        let (size, after) = request::page::<Standing>(page_size, &page_token, &self.limits, violations)?;
        self.own(room, me).await?;
        let read = self.store.members(room, after, size as usize + 1);
        let mut members = read.await.map_err(Error::from)?;
        let next = cut(&mut members, size).map(|last| last.standing.encode());
        let users: Vec<_> = members.iter().map(|member| member.user).collect();
        let names = self.names.of_all(&users).await;
        let members = members.iter().map(|member| answer::member(member, names.get(&member.user).map(|name| &**name)));
        let members = members.collect();
        Ok(Response::new(ListMembersResponse { members, next_page_token: next.unwrap_or_default() }))
    }

    async fn add_member(&self, request: Request<AddMemberRequest>) -> Answer<AddMemberResponse> {
        let by = caller(&request)?;
        let AddMemberRequest { room_id, user_id } = request.get_ref();
        let (room, user) = request::room_and_user(room_id, user_id)?;
        // Who may not see the room is told that first; the room's task asks for all the rest.
        if !self.view(room, by).await?.visible() {
            return Err(Error::RoomNotFound.into());
        }
        self.names.of(user).await?;
        let changed = self.rooms.change(room, Change::Add { by, user }).await?;
        Ok(Response::new(AddMemberResponse { room: Some(answer::room(&changed.room)) }))
    }

    async fn remove_member(&self, request: Request<RemoveMemberRequest>) -> Answer<RemoveMemberResponse> {
        let by = caller(&request)?;
        let RemoveMemberRequest { room_id, user_id } = request.get_ref();
        let (room, user) = request::room_and_user(room_id, user_id)?;
        let changed = self.rooms.change(room, Change::Remove { by, user }).await?;
        Ok(Response::new(RemoveMemberResponse { room: Some(answer::room(&changed.room)) }))
    }

    async fn send_message(&self, request: Request<SendMessageRequest>) -> Answer<SendMessageResponse> {
        let me = caller(&request)?;
        let (room, draft) = request::draft(request.into_inner(), &self.limits)?;
        let username = self.names.of_caller(me).await?;
        let sent = self.rooms.send(room, draft.by(me, username)).await?;
        Ok(Response::new(answer::sent(&sent)))
    }

    async fn list_messages(&self, request: Request<ListMessagesRequest>) -> Answer<ListMessagesResponse> {
        let me = caller(&request)?;
        let (room, position, size) = request::history(request.get_ref(), &self.limits)?;
        let view = self.own(room, me).await?;
        let page = history::messages(&*self.store, &view, position, size, self.page_bytes_max).await?;
        let messages = page.messages.iter().filter_map(|entry| answer::message(entry)).collect();
        let history::MessagePage { total, has_older, has_newer, .. } = page;
        Ok(Response::new(ListMessagesResponse { messages, total, has_older, has_newer }))
    }

    async fn list_sent_messages(&self, request: Request<ListSentMessagesRequest>) -> Answer<ListSentMessagesResponse> {
        let me = caller(&request)?;
        let ListSentMessagesRequest { page_size, page_token } = request.into_inner();
        let (size, after) = request::page::<SentAfter>(page_size, &page_token, &self.limits, Violations::default())?;
        let (sent, next) = sent::page(&*self.store, me, after, size as usize).await?;
        let messages = sent.iter().filter_map(|entry| answer::message(entry)).collect();
        let next_page_token = next.as_ref().map(SentAfter::encode).unwrap_or_default();
        Ok(Response::new(ListSentMessagesResponse { messages, next_page_token }))
    }

    async fn erase_user(&self, request: Request<EraseUserRequest>) -> Answer<EraseUserResponse> {
        identity::service(&request, &[ServiceName::Auth])?;
        let (user, what, after) = request::erasure(request.get_ref())?;
        let next = self.eraser.erase(user, what, after).await?;
        let next_page_token = next.as_ref().map(SentAfter::encode).unwrap_or_default();
        Ok(Response::new(EraseUserResponse { next_page_token }))
    }

    async fn list_entries(&self, request: Request<ListEntriesRequest>) -> Answer<ListEntriesResponse> {
        let me = caller(&request)?;
        let (room, cursor, size) = request::entries(request.get_ref(), &self.limits)?;
        let view = self.own(room, me).await?;
        let bytes_max = self.limits.entries_page_bytes_max;
        let page = history::entries(&*self.store, &view, cursor, size, bytes_max).await?;
        Ok(Response::new(answer::entries(&page)))
    }

    type WatchRoomStream = outgoing::Outgoing<WatchRoomResponse>;

    async fn watch_room(&self, request: Request<WatchRoomRequest>) -> Answer<Self::WatchRoomStream> {
        let caller = identity::user(&request)?;
        let WatchRoomRequest { room_id, cursor } = request.get_ref();
        let (room, cursor) = request::position(room_id, cursor)?;
        Ok(Response::new(self.following.one(caller, room, cursor).await?))
    }

    type WatchRoomsStream = outgoing::Outgoing<WatchRoomsResponse>;

    async fn watch_rooms(&self, request: Request<Streaming<WatchRoomsRequest>>) -> Answer<Self::WatchRoomsStream> {
        identity::service(&request, &[ServiceName::Gateway])?;
        Ok(Response::new(self.following.many(request.into_inner())))
    }

    async fn set_typing(&self, request: Request<SetTypingRequest>) -> Answer<SetTypingResponse> {
        let me = caller(&request)?;
        let room = request::room_id(&request.get_ref().room_id)?;
        let log = self.rooms.may_type(room, me).await?;
        let username = self.names.of_caller(me).await?;
        self.typists.set(room, log, Typing { user: me, username, typing: request.get_ref().typing }).await;
        Ok(Response::new(SetTypingResponse {}))
    }
}

/// Cuts a list that has one more than its page, and answers the page's last when there is a next page.
fn cut<T>(list: &mut Vec<T>, size: u32) -> Option<&T> {
    let more = list.len() > size as usize;
    list.truncate(size as usize);
    if more { list.last() } else { None }
}
