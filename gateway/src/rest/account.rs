//! Everything that is held about the caller, as one document, and the deletion of their account.
//!
//! The document is put together from three services while it is sent: a page of it is in memory at a time, and the next is
//! asked for when the client has taken the last. When a service goes away in the middle the answer is cut off, so that nobody
//! takes a part for the whole: it is no JSON then.

use std::{io, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::header;
use mesh::{
    client,
    error::{Reason, Refusal},
    identity::{ServiceName, UserCaller},
    proto::{
        auth::v1::{self as auth, export_account_response::Record},
        message::v1 as message,
        user::v1 as user,
    },
    time::Millis,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Shared, Yes, given};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Visitor},
    json::{Account, AuditEvent, Message, RememberedDevice, Room, Session, object, time},
};

/// Rooms or messages of a page.
const PAGE_SIZE: i32 = 100;
/// Parts of the document that wait for the client.
const QUEUE_MAX: usize = 4;
/// A part goes out when it has so many bytes.
const PART_BYTES: usize = 32 << 10;

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(export)).routes(routes!(delete))
}

/// An account that is to be deleted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deleted {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    /// When it is erased in every service.
    #[schema(value_type = String, format = DateTime)]
    erase_at: Millis,
}

impl Deleted {
    pub(super) fn at(erase_at: Millis) -> Self {
        Self { success: Yes, message: "The account will be deleted", erase_at }
    }
}

/// Deletes the caller's account.
///
/// Every session of it ends at once, this one included. When the grace is over (`eraseAt`) it is erased in every service: the
/// account and its history, the profile, and memberships; messages keep their text or lose it, by the setting
/// `auth.deletion_messages`, and the name of their author in any case. Logging in before that takes the deletion back; the
/// answer to that login says so by `deletionCancelled`.
#[utoipa::path(delete, path = "/auth/account", tag = "Accounts", operation_id = "deleteAccount",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "It will be erased", body = Deleted),
        (status = 403, description = "REAUTHENTICATION_REQUIRED: prove first who you are", body = ErrorObject),
        (status = 409, description = "CONFLICT for an admin: have another admin take the role first", body = ErrorObject),
    ))]
async fn delete(State(edge): Shared, bearer: Bearer, Visitor(visit): Visitor) -> Answer<Json<Deleted>> {
    // Not again: the first try may have ended the session that asks.
    let call = async |request| edge.clients.account().delete_account(request).await;
    let answer = edge.auth_once(&visit, Some(&bearer.user), auth::DeleteAccountRequest {}, call).await?;
    edge.ended_here(&bearer.user);
    Ok(Json(Deleted::at(time(answer.erase_time))))
}

/// Everything that is held about the caller, as one JSON document.
///
/// `account`, `profile` (null when there is none yet), `factors`, `sessions`, `rememberedDevices`, `events` (the audit log
/// about the account, the newest first; logins are those that begin with `login.`), `rooms` that they are in, and `messages`
/// that they have sent anywhere. Nothing in it is secret: no hash, token or code. It can be large, and is cut off when it cannot be
/// completed.
#[utoipa::path(get, path = "/auth/account/export", tag = "Accounts", operation_id = "exportAccount",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The document", body = Object),
        (status = 403, description = "REAUTHENTICATION_REQUIRED: prove first who you are", body = ErrorObject),
        (status = 503, description = "UNAVAILABLE when too many exports are written at once", body = ErrorObject),
    ))]
async fn export(State(edge): Shared, bearer: Bearer, Visitor(visit): Visitor) -> Answer<Response> {
    let place = Arc::clone(&edge.exports).try_acquire_owned().map_err(|_full| {
        Refusal::new(Reason::Unavailable, "As many exports as may be are written now; try again later")
    })?;
    let assertion = edge.identity.assertion(ServiceName::Auth, Some(&bearer.user));
    let mut request = client::stream_request(auth::ExportAccountRequest {}, &assertion);
    visit.stamp(&mut request);
    let records = edge.clients.account().export_account(request).await?.into_inner();
    let profile = profile(&edge, &bearer.user).await?;
    let (sender, parts) = mpsc::channel(QUEUE_MAX);
    let mut document = Document { parts: sender, part: Vec::new() };
    let user = bearer.user.clone();
    tokio::spawn(async move {
        if let Err(stopped) = write(&edge, &user, &mut document, records, profile).await {
            document.cut(stopped).await;
        }
        drop(place);
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"account.json\""),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(parts))).into_response())
}

async fn profile(edge: &Edge, user: &UserCaller) -> Answer<Value> {
    let assertion = edge.identity.assertion(ServiceName::User, Some(user));
    let message = user::GetUserRequest { user_id: user.user_id.to_string() };
    let found = edge.again(&assertion, message, async |request| edge.clients.user().get_user(request).await).await;
    match found {
        Ok(answer) => {
            let profile = given(answer.user)?;
            Ok(json!({
                "username": profile.username, "firstName": profile.first_name, "lastName": profile.last_name,
                "bio": profile.bio, "avatarUrl": profile.avatar_url,
                "preferences": object(profile.preferences.as_ref()),
                "createdAt": time(profile.create_time), "updatedAt": time(profile.update_time),
            }))
        }
        Err(error) if error.code == Reason::UserNotFound => Ok(Value::Null),
        Err(error) => Err(error),
    }
}

/// Why a document is not completed.
enum Stopped {
    /// Nobody takes it any more.
    Left,
    /// A part of it cannot be had.
    Failed(ErrorObject),
}

impl From<ErrorObject> for Stopped {
    fn from(error: ErrorObject) -> Self {
        Self::Failed(error)
    }
}

impl From<Status> for Stopped {
    fn from(status: Status) -> Self {
        Self::Failed(status.into())
    }
}

/// A JSON document on its way out, part by part.
struct Document {
    parts: mpsc::Sender<io::Result<Bytes>>,
    part: Vec<u8>,
}

impl Document {
    /// One more of a list, with its comma.
    async fn item(&mut self, first: &mut bool, item: &impl Serialize) -> Result<(), Stopped> {
        if !std::mem::take(first) {
            self.part.push(b',');
        }
        serde_json::to_writer(&mut self.part, item).map_err(|error| ErrorObject::from(Refusal::internal(error)))?;
        self.text("").await
    }

    async fn text(&mut self, text: &str) -> Result<(), Stopped> {
        self.part.extend_from_slice(text.as_bytes());
        if self.part.len() < PART_BYTES { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        let part = Bytes::from(std::mem::take(&mut self.part));
        self.parts.send(Ok(part)).await.map_err(|_closed| Stopped::Left)
    }

    /// Ends it so that the client sees that it is not whole.
    async fn cut(self, stopped: Stopped) {
        let Stopped::Failed(error) = stopped else { return };
        tracing::warn!(code = %error.code, "the document of an account was cut off");
        // Whoever left meanwhile need not be told.
        drop(self.parts.send(Err(io::Error::other(error.code.as_str()))).await);
    }
}

async fn write(
    edge: &Edge,
    user: &UserCaller,
    document: &mut Document,
    mut records: Streaming<auth::ExportAccountResponse>,
    profile: Value,
) -> Result<(), Stopped> {
    document.text(&format!("{{\"format\":\"switchboard-account-1\",\"exportedAt\":{}", json!(Millis::now()))).await?;
    document.text(&format!(",\"profile\":{profile}")).await?;
    let mut next = records.message().await?.and_then(|answer| answer.record);
    if let Some(Record::Account(account)) = next {
        document.text(&format!(",\"account\":{}", json!(Account::from(account)))).await?;
        next = records.message().await?.and_then(|answer| answer.record);
    }
    if let Some(Record::Factors(factors)) = next {
        document.text(&format!(",\"factors\":{}", factors_json(&factors))).await?;
        next = records.message().await?.and_then(|answer| answer.record);
    }
    // Records of one kind come together; each kind is a list.
    for (name, pick) in LISTS {
        document.text(&format!(",\"{name}\":[")).await?;
        let mut first = true;
        while let Some(item) = next.as_ref().and_then(pick) {
            document.item(&mut first, &item).await?;
            next = records.message().await?.and_then(|answer| answer.record);
        }
        document.text("]").await?;
    }
    rooms(edge, user, document).await?;
    messages(edge, user, document).await?;
    document.text("}").await?;
    document.flush().await
}

type Pick = fn(&Record) -> Option<Value>;

const LISTS: [(&str, Pick); 3] = [
    ("sessions", |record| match record {
        Record::Session(session) => Some(json!(Session::from(session.clone()))),
        Record::Account(_) | Record::Factors(_) | Record::RememberedDevice(_) | Record::Event(_) => None,
    }),
    ("rememberedDevices", |record| match record {
        Record::RememberedDevice(device) => Some(json!(RememberedDevice::from(device.clone()))),
        Record::Account(_) | Record::Factors(_) | Record::Session(_) | Record::Event(_) => None,
    }),
    ("events", |record| match record {
        Record::Event(event) => Some(json!(AuditEvent::from(event.clone()))),
        Record::Account(_) | Record::Factors(_) | Record::Session(_) | Record::RememberedDevice(_) => None,
    }),
];

fn factors_json(factors: &auth::GetFactorsResponse) -> Value {
    json!({
        "authenticatorSince": factors.totp_confirm_time.map(Millis::from),
        "recoveryCodesLeft": factors.recovery_codes,
        "rememberedDevices": factors.remembered_devices,
    })
}

async fn rooms(edge: &Edge, user: &UserCaller, document: &mut Document) -> Result<(), Stopped> {
    document.text(",\"rooms\":[").await?;
    let (mut first, mut page_token) = (true, String::new());
    loop {
        // A new one for each page: it lives for a minute, and the client may be slow.
        let assertion = edge.identity.assertion(ServiceName::Message, Some(user));
        let message = message::ListRoomsRequest { page_size: PAGE_SIZE, page_token };
        let call = async |request| edge.clients.message().list_rooms(request).await;
        let answer = edge.again(&assertion, message, call).await?;
        for room in answer.rooms {
            document.item(&mut first, &Room::from(room)).await?;
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return document.text("]").await;
        }
    }
}

async fn messages(edge: &Edge, user: &UserCaller, document: &mut Document) -> Result<(), Stopped> {
    document.text(",\"messages\":[").await?;
    let (mut first, mut page_token) = (true, String::new());
    loop {
        let assertion = edge.identity.assertion(ServiceName::Message, Some(user));
        let message = message::ListSentMessagesRequest { page_size: PAGE_SIZE, page_token };
        let call = async |request| edge.clients.message().list_sent_messages(request).await;
        let answer = edge.again(&assertion, message, call).await?;
        for message in answer.messages {
            document.item(&mut first, &Message::from(message)).await?;
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return document.text("]").await;
        }
    }
}
