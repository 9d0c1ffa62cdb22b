//! Where a request comes from, for the calls to auth-svc that keep it: sessions, the history of logins, the audit log.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{header, request::Parts};
use mesh::visit::Visit;
use tower_http::request_id::RequestId;

use crate::{address::Origin, edge::Edge, error::ErrorObject};

/// Address, user agent and request id.
pub(crate) struct Visitor(pub(crate) Visit);

impl FromRequestParts<Arc<Edge>> for Visitor {
    type Rejection = ErrorObject;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Edge>) -> Result<Self, ErrorObject> {
        let device = parts.headers.get(header::USER_AGENT);
        let device = device.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default();
        let request_id = parts.extensions.get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
        let request_id = request_id.unwrap_or_default().to_owned();
        let address = Origin::of(&parts.extensions).address.to_string();
        Ok(Self(Visit { address, device, request_id }))
    }
}
