//! Conditional GET for what clients ask for again and again: an answer gets a tag made of its bytes, and who names that tag
//! gets 304 without a body. It saves the network and the client's work; the services are asked each time, so that nothing
//! here can be stale, and `no-store` stays true.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::{self, Body, HttpBody as _},
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use mesh::error::Refusal;

use crate::error::ErrorObject;

/// Tags good answers to GET. What is not in memory as a whole, such as an export, goes through as it is.
pub(crate) async fn etag(request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::GET).then(|| request.headers().clone());
    let response = next.run(request).await;
    let (Some(asked), StatusCode::OK, Some(bytes)) = (asked, response.status(), response.body().size_hint().exact())
    else {
        return response;
    };
    let (mut parts, body) = response.into_parts();
    let whole = usize::try_from(bytes).unwrap_or(usize::MAX);
    let body = match body::to_bytes(body, whole).await {
        Ok(body) => body,
        Err(error) => return ErrorObject::from(Refusal::internal(error.to_string())).into_response(),
    };
    let tag = of(&body);
    let known = is_known(&asked, &tag);
    if let Ok(tag) = HeaderValue::try_from(tag) {
        parts.headers.insert(header::ETAG, tag);
    }
    if known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

/// The tag of these bytes: weak, because they may go out compressed. Of SHA-256, so that nobody can make two answers
/// with one tag.
pub(crate) fn of(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    format!("W/\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]))
}

/// Whether the request names this tag (RFC 9110, 13.1.2: compared weakly, as a list, or `*`).
pub(crate) fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let wanted = opaque(tag);
    let lines = request.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).any(|known| known == "*" || opaque(known) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_a_list_weak_or_strong_and_not_by_its_beginning() {
        let tag = of(b"{}");
        let strong = tag.trim_start_matches("W/").to_owned();
        let knows = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::IF_NONE_MATCH, line.parse().expect("header"));
            }
            is_known(&headers, &tag)
        };
        for good in [&[tag.as_str()] as &[&str], &[&strong], &["\"a\"", &format!("\"b\", {tag}")], &["*"]] {
            assert!(knows(good), "{good:?}");
        }
        for bad in [&[] as &[&str], &["\"a\""], &[&strong[..strong.len() - 2]], &[""], &["W/*"]] {
            assert!(!knows(bad), "{bad:?}");
        }
        assert_ne!(of(b"{}"), of(b"{ }"));
    }
}
