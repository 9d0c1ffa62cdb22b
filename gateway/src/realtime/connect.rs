//! Who may connect: the WebSocket token is checked here and spent at auth-svc, and the user's limits hold. How a
//! connection comes in is `namespace.rs`; what the rooms in `auth` lead to is `join.rs`.

use std::{net::IpAddr, sync::Arc};

use mesh::{
    client,
    error::{Reason, Refusal},
    identity::{ServiceName, UserCaller},
    proto::auth::v1::{SpendWsTokenRequest, SpendWsTokenResponse},
    time::Millis,
};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    hub::Hub,
    session::{Link, Session},
};
use crate::{limit::Class, ws_token::WsClaims};

/// Rooms that may stand beside the token.
const ROOMS_MAX: usize = 100;

/// What stands in `auth`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Auth {
    token: String,
    /// The rooms to join at once, each with its cursor. Whether an id is one is judged room by room.
    pub(super) rooms: Vec<(String, Option<String>)>,
}

impl Auth {
    /// Reads the JSON that came with CONNECT.
    ///
    /// # Errors
    /// `UNAUTHORIZED` without a token, `VALIDATION_FAILED` for rooms that cannot be understood.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        let mut object: Map<String, Value> = match text {
            "" => Map::new(),
            text => serde_json::from_str(text)
                .map_err(|error| Refusal::field("auth", "must be an object").with_source(error))?,
        };
        let token = match object.remove("token") {
            Some(Value::String(token)) => token,
            Some(Value::Null) | None => return Err(Refusal::unauthorized()),
            Some(_) => return Err(Refusal::new(Reason::TokenInvalid, "Unauthorized")),
        };
        Ok(Self { token, rooms: rooms(object.remove("rooms"))? })
    }
}

fn rooms(rooms: Option<Value>) -> Result<Vec<(String, Option<String>)>, Refusal> {
    let rooms = match rooms {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(rooms)) => rooms,
        Some(_) => return Err(Refusal::field("rooms", "must be an object of room ids and cursors")),
    };
    if rooms.len() > ROOMS_MAX {
        return Err(Refusal::field("rooms", format!("must have at most {ROOMS_MAX} rooms")));
    }
    let cursor = |cursor| match cursor {
        Value::Null => Ok(None),
        Value::String(cursor) => Ok(Some(cursor).filter(|cursor| !cursor.is_empty())),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(Refusal::field("rooms", "must have a cursor, as text, for each room"))
        }
    };
    rooms.into_iter().map(|(room, value)| Ok((room, cursor(value)?))).collect()
}

/// Lets a socket in.
///
/// # Errors
/// Why it is not let in.
pub(super) async fn accept(
    hub: &Arc<Hub>,
    auth: &Auth,
    socket_id: &str,
    address: IpAddr,
    link: Arc<dyn Link>,
) -> Result<Arc<Session>, Refusal> {
    if hub.is_stopping() {
        return Err(Refusal::new(Reason::Unavailable, "This gateway is stopping; connect again"));
    }
    let claims = hub.edge.ws_tokens.verify(&auth.token)?;
    hub.edge.limiter.check_account(Class::Handshake, address, claims.sub, None)?;
    hub.check_user(claims.sub)?;
    let SpendWsTokenResponse { roles, session_expire_time } = spend(hub, &claims).await?;
    let caller =
        UserCaller { user_id: claims.sub, session_id: Some(claims.sid), roles, expires: None, via: None, scopes: None };
    let session = Arc::new(Session::new(hub.next_id(), socket_id, caller, claims.sid, address, link));
    session.set_ends_at(session_expire_time.map_or(Millis(i64::MAX), Millis::from));
    hub.register(&session)?;
    Ok(session)
}

/// Spends the token, which also proves its session alive. Tried once: a second try of a call whose answer was lost would
/// find the token spent, and the client can have another one.
async fn spend(hub: &Hub, claims: &WsClaims) -> Result<SpendWsTokenResponse, Refusal> {
    let message = SpendWsTokenRequest {
        jti: claims.jti.to_string(),
        session_id: claims.sid.to_string(),
        user_id: claims.sub.to_string(),
        expire_time: Some(Millis::from_secs(claims.exp).into()),
    };
    let bearer = hub.edge.identity.assertion(ServiceName::Auth, None);
    let request = client::request(message, &bearer, hub.deadline());
    match hub.edge.clients.auth().spend_ws_token(request).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(Refusal::from_status(&status)),
    }
}

/// The payload of `connected`.
pub(super) fn greeting(session: &Session) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Greeting<'a> {
        user_id: Uuid,
        socket_id: &'a str,
        session_id: Uuid,
        server_time: Millis,
    }
    let greeting = Greeting {
        user_id: session.user_id(),
        socket_id: &session.socket_id,
        session_id: session.session_id,
        server_time: Millis::now(),
    };
    serde_json::to_string(&greeting).expect("invariant: text becomes JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_rooms_are_read() {
        let auth = Auth::read(r#"{"token":"t","rooms":{"a":"c","b":null,"c":""},"other":1}"#).expect("good");
        assert_eq!(auth.token, "t");
        assert_eq!(auth.rooms, [("a".into(), Some("c".into())), ("b".into(), None), ("c".into(), None)]);
        assert_eq!(Auth::read(r#"{"token":"t"}"#).expect("good").rooms, []);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_name() {
        let many: Map<String, Value> = (0..=ROOMS_MAX).map(|n| (n.to_string(), Value::Null)).collect();
        let many = serde_json::json!({"token": "t", "rooms": many}).to_string();
        for (text, reason) in [
            ("", Reason::Unauthorized),
            ("{}", Reason::Unauthorized),
            (r#"{"token":null}"#, Reason::Unauthorized),
            (r#"{"token":5}"#, Reason::TokenInvalid),
            ("[]", Reason::ValidationFailed),
            ("{", Reason::ValidationFailed),
            (r#"{"token":"t","rooms":["a"]}"#, Reason::ValidationFailed),
            (r#"{"token":"t","rooms":{"a":5}}"#, Reason::ValidationFailed),
            (&many, Reason::ValidationFailed),
        ] {
            assert_eq!(Auth::read(text).expect_err("refused").reason, reason, "{text}");
        }
    }
}
