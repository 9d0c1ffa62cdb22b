//! What a request to the endpoint asks for, judged by its method and query as the reference server does it, and the
//! answers to those that ask for nothing good: the protocol's own codes, which stock clients know.

use axum::{body::Body, response::Response};
use http::{HeaderValue, Method, Request, StatusCode, header};

use super::Id;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A new session by polling.
    OpenPolling,
    /// A new session by WebSocket.
    OpenWebSocket,
    /// What waits for the client of a session.
    Poll(Id),
    /// To take what the client of a session sends.
    Post(Id),
    /// To move a session from polling to WebSocket.
    Upgrade(Id),
}

/// Why a request is answered with an error. The numbers and texts are the reference server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    UnsupportedProtocol,
}

impl Ask {
    /// Reads a request.
    ///
    /// # Errors
    /// When it asks for nothing that there is. Whether a session lives is found out later.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Fault> {
        let query = request.uri().query();
        let websocket = match value(query, "transport") {
            Some("polling") => false,
            Some("websocket") => true,
            _ => return Err(Fault::UnknownTransport),
        };
        let method = request.method();
        if let Some(sid) = value(query, "sid").filter(|sid| !sid.is_empty()) {
            let id = Id::parse(sid).ok_or(Fault::UnknownSession)?;
            return match (websocket, method) {
                (false, &Method::GET) => Ok(Self::Poll(id)),
                (false, &Method::POST) => Ok(Self::Post(id)),
                (true, &Method::GET) => Ok(Self::Upgrade(id)),
                _ => Err(Fault::BadRequest),
            };
        }
        if method != Method::GET {
            return Err(Fault::BadMethod);
        }
        if value(query, "EIO") != Some("4") {
            return Err(Fault::UnsupportedProtocol);
        }
        Ok(if websocket { Self::OpenWebSocket } else { Self::OpenPolling })
    }

    /// Whether it opens a connection that was not there before.
    pub(super) fn opens(self) -> bool {
        matches!(self, Self::OpenPolling | Self::OpenWebSocket)
    }
}

impl Fault {
    fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => r#"{"code":0,"message":"Transport unknown"}"#,
            Self::UnknownSession => r#"{"code":1,"message":"Session ID unknown"}"#,
            Self::BadMethod => r#"{"code":2,"message":"Bad handshake method"}"#,
            Self::BadRequest => r#"{"code":3,"message":"Bad request"}"#,
            Self::UnsupportedProtocol => r#"{"code":5,"message":"Unsupported protocol version"}"#,
        }
    }

    /// The answer.
    pub(super) fn response(self) -> Response {
        answer(StatusCode::BAD_REQUEST, "application/json", self.message())
    }
}

/// An answer of the endpoint: small, and nothing that a cache may keep.
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The first value of a name, not decoded: nothing that a client of this protocol sends needs it.
fn value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, query: &str) -> Result<Ask, Fault> {
        Ask::of(&Request::builder().method(method).uri(format!("/socket/?{query}")).body(()).expect("a request"))
    }

    #[test]
    fn requests_are_told_apart_and_bad_ones_have_the_reference_codes() {
        let id = Id::new();
        let sid = id.to_string();
        assert_eq!(ask("GET", "EIO=4&transport=polling&t=x"), Ok(Ask::OpenPolling));
        assert_eq!(ask("GET", "EIO=4&transport=websocket"), Ok(Ask::OpenWebSocket));
        assert_eq!(ask("GET", &format!("EIO=4&transport=polling&sid={sid}")), Ok(Ask::Poll(id)));
        assert_eq!(ask("POST", &format!("transport=polling&EIO=4&sid={sid}&t=1")), Ok(Ask::Post(id)));
        assert_eq!(ask("GET", &format!("EIO=4&transport=websocket&sid={sid}")), Ok(Ask::Upgrade(id)));
        for (method, query, fault) in [
            ("GET", "", Fault::UnknownTransport),
            ("GET", "EIO=4", Fault::UnknownTransport),
            ("GET", "EIO=4&transport=abc", Fault::UnknownTransport),
            ("GET", "EIO=4&transport=webtransport", Fault::UnknownTransport),
            ("GET", "EIO=4&transport=polling&sid=nope", Fault::UnknownSession),
            ("GET", "EIO=4&transport=polling&sid=%00", Fault::UnknownSession),
            ("POST", "EIO=4&transport=polling", Fault::BadMethod),
            ("PUT", "EIO=4&transport=websocket", Fault::BadMethod),
            ("PUT", &format!("EIO=4&transport=polling&sid={sid}"), Fault::BadRequest),
            ("GET", "transport=polling", Fault::UnsupportedProtocol),
            ("GET", "EIO=3&transport=polling", Fault::UnsupportedProtocol),
            ("GET", "EIO=abc&transport=websocket", Fault::UnsupportedProtocol),
        ] {
            assert_eq!(ask(method, query), Err(fault), "{method} {query}");
        }
    }

    #[test]
    fn an_id_reads_back_and_nothing_else_is_one() {
        let id = Id::new();
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        // Each bit is both in the end; some of a UUID's are fixed.
        let (mut any, mut all) = ([0_u8; 16], [u8::MAX; 16]);
        for (place, byte) in (0..256).flat_map(|_| Id::new().0.into_iter().enumerate()) {
            any[place] |= byte;
            all[place] &= byte;
        }
        assert_eq!((any, all), ([u8::MAX; 16], [0; 16]));
        for text in ["", "AAAA", "é", "AAAAAAAAAAAAAAAAAAAAAA=", &"A".repeat(4_000)] {
            assert_eq!(Id::parse(text), None, "{text:.30}");
        }
    }
}
