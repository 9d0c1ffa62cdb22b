//! The typed JSON body. Size, content type and syntax are judged before any field, so that each fault has its own code;
//! unknown fields are ignored.

use std::sync::Arc;

use axum::{
    body::{Body as HttpBody, HttpBody as _},
    extract::FromRequest,
};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Limited};
use mesh::error::{Reason, Refusal};
use serde_json::Value;

use super::{Fields, FromFields};
use crate::{edge::Edge, error::ErrorObject};

#[cfg(test)]
mod fuzz;

/// A body that is too large is read on for this many times its limit and thrown away, because most clients look at the
/// answer only after they have sent everything. Past that the connection is closed.
const DRAIN_FACTOR: usize = 16;

/// The body as the type that a handler wants.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: FromFields> FromRequest<Arc<Edge>> for Body<T> {
    type Rejection = ErrorObject;

    async fn from_request(request: Request<HttpBody>, edge: &Arc<Edge>) -> Result<Self, ErrorObject> {
        let (parts, body) = request.into_parts();
        let waits = parts.headers.contains_key(header::EXPECT);
        let bytes = read(body, edge.config.body_bytes_max, waits).await?;
        let Value::Object(fields) = parse(&parts.headers, &bytes)? else {
            return Err(Refusal::field("body", "must be a JSON object").into());
        };
        let mut fields = Fields::new(fields);
        let value = T::read(&mut fields);
        fields.finish()?;
        Ok(Self(value))
    }
}

/// Reads a body within its limit. A client that waits to be told to go on (`expect: 100-continue`) is told at once that
/// its body is too large.
async fn read(body: HttpBody, bytes_max: usize, waits: bool) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::new(Reason::PayloadTooLarge, format!("The body must have at most {bytes_max} bytes"));
    if waits && body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut body = Limited::new(body, bytes_max.saturating_mul(DRAIN_FACTOR));
    let mut kept = Vec::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                return too_large();
            }
            Refusal::new(Reason::MalformedBody, "The body ended too early").with_source(error)
        })?;
        let data = frame.into_data().unwrap_or_default();
        read += data.len();
        if read <= bytes_max {
            kept.extend_from_slice(&data);
        } else {
            kept = Vec::new();
        }
    }
    if read > bytes_max { Err(too_large()) } else { Ok(kept.into()) }
}

fn parse(headers: &HeaderMap, bytes: &Bytes) -> Result<Value, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE);
    if content_type.is_none() && bytes.is_empty() {
        // Nothing at all is an object without fields: the answer then names those that are missing.
        return Ok(Value::Object(serde_json::Map::new()));
    }
    if !content_type.is_some_and(|value| value.to_str().is_ok_and(is_json)) {
        return Err(Refusal::new(Reason::UnsupportedMediaType, "The content type must be application/json"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal::new(Reason::MalformedBody, format!("The body is no valid JSON: {error}")))
}

/// `application/json` and its relatives, such as `application/problem+json`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_type_and_suffix() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "text/json+x", ""] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_body_may_have_its_limit_and_not_a_byte_more() {
        assert_eq!(read(HttpBody::from(vec![b'x'; 10]), 10, true).await.expect("fits").len(), 10);
        for size in [11, 160, 161, 10_000] {
            for waits in [false, true] {
                let refusal = read(HttpBody::from(vec![b'x'; size]), 10, waits).await.expect_err("too large");
                assert_eq!(refusal.reason, Reason::PayloadTooLarge, "{size}");
                assert!(refusal.message.contains("10 bytes"));
            }
        }
    }
}
