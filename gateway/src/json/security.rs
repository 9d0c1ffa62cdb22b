//! What happened to accounts, as their owners and admins see it.

use mesh::{proto::auth::v1 as auth, time::Millis};
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// What came of something.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It was done.
    Success,
    /// It was refused.
    Failure,
}

impl Outcome {
    fn of(succeeded: bool) -> Self {
        if succeeded { Self::Success } else { Self::Failure }
    }
}

/// A login, or an attempt at one.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoginRecord {
    /// Opaque.
    id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    time: Millis,
    /// How: `login.password`, `login.registered`, …
    event: String,
    /// Whether it opened a session.
    result: Outcome,
    /// What the client called itself; may be empty.
    device: String,
    /// The client's address; may be empty.
    ip_address: String,
    /// Roughly where that is (`Paris, FR`); may be empty.
    place: String,
    /// The session that it opened; empty when it failed.
    session_id: String,
}

impl From<auth::LoginRecord> for LoginRecord {
    fn from(login: auth::LoginRecord) -> Self {
        Self {
            id: login.id,
            time: time(login.time),
            event: login.event,
            result: Outcome::of(login.succeeded),
            device: login.device,
            ip_address: login.ip_address,
            place: login.place,
            session_id: login.session_id,
        }
    }
}

/// An entry of the audit log.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditEvent {
    /// Opaque.
    id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    time: Millis,
    /// What, as `group.what`.
    event: String,
    /// Whether it was done or refused.
    result: Outcome,
    /// `user`, `service`, `api_key`, `operator` or `nobody`.
    actor_kind: String,
    /// By whom: an id or a name; empty for `nobody`.
    actor: String,
    /// On whom: the id of a user; may be empty.
    subject_id: String,
    /// The session that it is about; may be empty.
    session_id: String,
    /// The client's address; may be empty.
    ip_address: String,
    /// Roughly where that is; may be empty.
    place: String,
    /// What the client called itself; may be empty.
    device: String,
    /// The id of the request (`x-request-id`); may be empty.
    request_id: String,
    /// More, for people; may be empty.
    detail: String,
}

impl From<auth::AuditEvent> for AuditEvent {
    fn from(event: auth::AuditEvent) -> Self {
        Self {
            id: event.id,
            time: time(event.time),
            event: event.event,
            result: Outcome::of(event.succeeded),
            actor_kind: event.actor_kind,
            actor: event.actor,
            subject_id: event.subject_id,
            session_id: event.session_id,
            ip_address: event.ip_address,
            place: event.place,
            device: event.device,
            request_id: event.request_id,
            detail: event.detail,
        }
    }
}

/// An invitation to register.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Invitation {
    /// Opaque. It lets nobody in.
    id: String,
    /// For whom it is; may be empty.
    note: String,
    /// What made it: `user` or `operator`.
    maker_kind: String,
    /// The id of the user, or the operator's name.
    maker: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    /// Until when it is good.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Millis,
    /// When it was used.
    #[schema(value_type = Option<String>, format = DateTime)]
    used_at: Option<Millis>,
    /// The account that was made with it.
    user_id: Option<String>,
}

impl From<auth::Invitation> for Invitation {
    fn from(invitation: auth::Invitation) -> Self {
        Self {
            id: invitation.id,
            note: invitation.note,
            maker_kind: invitation.maker_kind,
            maker: invitation.maker,
            created_at: time(invitation.create_time),
            expires_at: time(invitation.expire_time),
            used_at: invitation.use_time.map(Millis::from),
            user_id: Some(invitation.user_id).filter(|id| !id.is_empty()),
        }
    }
}

/// An account that programs call as.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceAccount {
    /// The id of its user.
    id: String,
    /// Its username.
    name: String,
    /// What made it: `user` or `operator`.
    maker_kind: String,
    /// The id of the user, or the operator's name.
    maker: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
}

impl From<auth::ServiceAccount> for ServiceAccount {
    fn from(account: auth::ServiceAccount) -> Self {
        let auth::ServiceAccount { id, name, maker_kind, maker, create_time } = account;
        Self { id, name, maker_kind, maker, created_at: time(create_time) }
    }
}

/// A key of a service account, without the key itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiKey {
    /// Opaque.
    id: String,
    /// Whose it is.
    service_account_id: String,
    /// How the key begins.
    prefix: String,
    /// What its maker called it; may be empty.
    name: String,
    /// What it may do.
    scopes: Vec<String>,
    /// What made it: `user` or `operator`.
    maker_kind: String,
    /// The id of the user, or the operator's name.
    maker: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    /// Until when it is good.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Millis,
    /// When it was last used, to the minute or two.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Millis>,
}

impl From<auth::ApiKey> for ApiKey {
    fn from(key: auth::ApiKey) -> Self {
        Self {
            id: key.id,
            service_account_id: key.service_account_id,
            prefix: key.prefix,
            name: key.name,
            scopes: key.scopes,
            maker_kind: key.maker_kind,
            maker: key.maker,
            created_at: time(key.create_time),
            expires_at: time(key.expire_time),
            last_used_at: key.last_use_time.map(Millis::from),
        }
    }
}
