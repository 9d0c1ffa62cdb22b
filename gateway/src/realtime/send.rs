//! Sends of one socket that are under way together: those into one room go as one bundle, so that the room gets them in
//! the order in which they were sent, and bundles into different rooms go side by side. The next ones wait until all of
//! these are answered, so no send ever overtakes one that has to be tried again. How bundles travel is `carrier.rs`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use mesh::{
    error::{Reason, Refusal},
    proto::message::v1::{SendMessageRequest, SendMessageResponse},
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{events::Reply, hub::Hub, meter, payload, session::Session};
use crate::json;

/// A send on its way.
pub(super) struct Outgoing {
    room: Uuid,
    message: SendMessageRequest,
    reply: Reply,
    begun: std::time::Instant,
}

/// What became of one try.
type Outcome = Result<SendMessageResponse, Status>;

impl Outgoing {
    pub(super) fn new(send: payload::Send, reply: Reply) -> Self {
        let payload::Send { room_id, content, message_type, metadata, client_message_id } = send;
        // With an id it can be tried again without a second message.
        let client_message_id = client_message_id.unwrap_or_else(|| Uuid::new_v4().to_string());
        let message =
            SendMessageRequest { room_id: room_id.to_string(), content, message_type, metadata, client_message_id };
        Self { room: room_id, message, reply, begun: std::time::Instant::now() }
    }

    /// Answered once the message is on disk, or refused.
    fn answer(self, session: &Session, outcome: Outcome) {
        #[derive(Serialize)]
        struct Sent {
            success: bool,
            message: json::Message,
        }
        let result = outcome.map_err(|status| Refusal::from_status(&status)).and_then(|sent| {
            let sent = Sent { success: true, message: sent.message.unwrap_or_default().into() };
            serde_json::to_string(&sent).map_err(Refusal::internal)
        });
        meter::event("send_message", self.reply.send(session, result));
        meter::took("send_message", self.begun);
    }
}

/// Sends all of these and answers each.
pub(super) async fn all(hub: &Hub, session: &Session, sends: Vec<Outgoing>) {
    let mut rooms: Vec<Vec<Outgoing>> = Vec::new();
    for send in sends {
        // They are few, and mostly one.
        match rooms.iter_mut().find(|room| room[0].room == send.room) {
            Some(room) => room.push(send),
            None => rooms.push(vec![send]),
        }
    }
    match <[_; 1]>::try_from(rooms) {
        Ok([room]) => into_room(hub, session, room).await,
        Err(rooms) => drop(join_all(rooms.into_iter().map(|room| into_room(hub, session, room))).await),
    }
}

/// Sends into one room, again while the service is away, within the time that a call may take.
async fn into_room(hub: &Hub, session: &Session, sends: Vec<Outgoing>) {
    let until = Instant::now() + hub.deadline();
    let left = Left(Mutex::new(sends));
    let tried = hub.edge.clients.retry(|| once(hub, session, &left, until));
    let status = match timeout_at(until, tried).await {
        Ok(Ok(())) => return,
        Ok(Err(status)) => status,
        Err(_) => Refusal::new(Reason::DeadlineExceeded, "The answer did not come in time").into(),
    };
    for send in left.take() {
        send.answer(session, Err(status.clone()));
    }
}

/// Those that are not answered yet, in their order.
struct Left(Mutex<Vec<Outgoing>>);

impl Left {
    fn lock(&self) -> MutexGuard<'_, Vec<Outgoing>> {
        // Nothing that could panic half-way runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut *self.lock())
    }
}

/// One try of all that is left. What is decided is answered.
///
/// # Errors
/// Why there is something left.
async fn once(hub: &Hub, session: &Session, left: &Left, until: Instant) -> Result<(), Status> {
    let (room, messages): (Option<Uuid>, Vec<_>) = {
        let left = left.lock();
        (left.first().map(|send| send.room), left.iter().map(|send| send.message.clone()).collect())
    };
    let Some(room) = room else { return Ok(()) };
    let count = messages.len();
    let outcomes = hub.carrier.carry(room, hub.bearer(session), messages, until).await?;
    // Every send is answered, whatever the other end makes of the bundle.
    if outcomes.len() != count {
        return Err(Status::internal(format!("{} outcomes of {count} sends", outcomes.len())));
    }
    // One that comes again after a later one is in the room would come after that one.
    let in_place = outcomes.iter().rposition(Result::is_ok).map_or(0, |last| last + 1);
    let (mut again, mut why) = (Vec::new(), Ok(()));
    for (place, (send, outcome)) in left.take().into_iter().zip(outcomes).enumerate() {
        match outcome {
            Err(status) if status.code() == Code::Unavailable && place >= in_place => {
                again.push(send);
                why = Err(status);
            }
            outcome => send.answer(session, outcome),
        }
    }
    *left.lock() = again;
    why
}
