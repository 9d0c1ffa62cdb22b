//! The request's id: the caller's own when it is sane, else a new one. It stands on every answer and in every error
//! object, whose body is written here because nobody further in knows the id.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use mesh::telemetry::Route;
use tower_http::request_id::RequestId;
use uuid::Uuid;

use crate::error::ErrorObject;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken from a caller.
const ID_BYTES_MAX: usize = 64;
/// Where Socket.IO is; no axum route names it in logs and metrics.
const SOCKET_PATH: &str = "/socket/";

pub(super) async fn request_id(mut request: Request, next: Next) -> Response {
    let id = taken(request.headers()).unwrap_or_else(made);
    let extensions = request.extensions_mut();
    extensions.insert(RequestId::new(id.clone()));
    if request.uri().path().starts_with(SOCKET_PATH) {
        request.extensions_mut().insert(Route("/socket"));
    }
    request.headers_mut().insert(X_REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ErrorObject>() {
        response = written(response, error, &id);
    }
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

/// An id that a caller may choose: short, and harmless wherever it is shown.
fn taken(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(X_REQUEST_ID)?;
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let bytes = value.as_bytes();
    ((1..=ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(sane)).then(|| value.clone())
}

fn made() -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let text = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).expect("invariant: a UUID is ASCII")
}

fn written(response: Response, error: ErrorObject, id: &HeaderValue) -> Response {
    let error = error.with_request_id(id.to_str().unwrap_or_default());
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match serde_json::to_vec(&error) {
        Ok(json) => Response::from_parts(parts, Body::from(json)),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_harmless_id_is_taken() {
        let taken = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value).expect("header"));
            taken(&headers).is_some()
        };
        assert!(taken(b"a") && taken(b"Ab-1_2.3") && taken(&[b'x'; 64]));
        assert!(!taken(b"") && !taken(&[b'x'; 65]) && !taken(b"a b") && !taken(b"<b>") && !taken(b"\xc3\xa9"));
        assert_eq!(made().len(), 36);
    }
}
