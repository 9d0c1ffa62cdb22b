//! Ids of the path. To a client they are opaque, so one that cannot be an id is simply the id of nothing: 404, in the
//! words of the noun. Services get well-formed ids only.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use mesh::{
    error::{Reason, Refusal},
    text,
};

use crate::error::ErrorObject;

/// The id of `/rooms/{id}`.
pub(crate) struct RoomPath(pub(crate) String);
/// The ids of `/rooms/{id}/members/{userId}`.
pub(crate) struct MemberPath {
    pub(crate) room: String,
    pub(crate) user: String,
}
/// The id of `/users/{id}`.
pub(crate) struct UserPath(pub(crate) String);
/// The id of something whose absence has no code of its own.
pub(crate) struct IdPath(pub(crate) String);
/// The id of `/auth/sessions/{id}`.
pub(crate) struct SessionPath(pub(crate) String);

fn id(given: &str, reason: Reason, message: &str) -> Result<String, ErrorObject> {
    // Written anew, so that every spelling of an id is the same one.
    match text::uuid("id", given) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(Refusal::new(reason, message).into()),
    }
}

async fn path<T, S>(parts: &mut Parts, state: &S) -> Result<T, ErrorObject>
where
    T: serde::de::DeserializeOwned + Send,
    S: Send + Sync,
{
    match Path::<T>::from_request_parts(parts, state).await {
        Ok(Path(value)) => Ok(value),
        // Percent-encoded bytes that are no text.
        Err(_) => Err(Refusal::new(Reason::NotFound, "There is no such route").into()),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RoomPath {
    type Rejection = ErrorObject;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorObject> {
        let given: String = path(parts, state).await?;
        id(&given, Reason::RoomNotFound, "Room not found").map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MemberPath {
    type Rejection = ErrorObject;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorObject> {
        let (room, user): (String, String) = path(parts, state).await?;
        let room = id(&room, Reason::RoomNotFound, "Room not found")?;
        let user = id(&user, Reason::UserNotFound, "User not found")?;
        Ok(Self { room, user })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = ErrorObject;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorObject> {
        let given: String = path(parts, state).await?;
        id(&given, Reason::UserNotFound, "User not found").map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdPath {
    type Rejection = ErrorObject;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorObject> {
        let given: String = path(parts, state).await?;
        id(&given, Reason::NotFound, "There is nothing of this id").map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = ErrorObject;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorObject> {
        let given: String = path(parts, state).await?;
        id(&given, Reason::SessionNotFound, "Session not found").map(Self)
    }
}
