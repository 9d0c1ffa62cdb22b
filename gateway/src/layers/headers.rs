//! Headers that tell a browser what an answer may do. Pages bring a policy of their own (`web.rs`, `docs.rs`); anything
//! else may do nothing.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{
    HeaderValue,
    header::{
        CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

use crate::address::Origin;

/// For an answer that is data: nothing of it is to be run or shown as a page. The first does not stand for the others.
pub(crate) const DATA_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
/// A year, and what is below this host, as browsers' lists ask for. Only said over TLS, where it is true.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

pub(super) async fn security(request: Request, next: Next) -> Response {
    let https = Origin::of(request.extensions()).https;
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(DATA_POLICY);
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
    }
    response
}
