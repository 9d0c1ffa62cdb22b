//! The page and its SDK: files of `web/`, embedded at build time, or read from a folder while somebody works on them.
//! Nothing outside of the four places below is ever served.

use std::{
    path::{Component, Path},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use mesh::{
    error::{Reason, Refusal},
    telemetry::Route,
};
use rust_embed::RustEmbed;

use crate::{edge::Edge, error::ErrorObject, layers::etag};

#[derive(RustEmbed)]
#[folder = "../web/"]
#[include = "index.html"]
#[include = "app.css"]
#[include = "app/*"]
#[include = "sdk/*"]
struct Embedded;

/// The page runs its own files alone and talks to this origin; WebSockets are named because some browsers do not count
/// them as `'self'`. Avatars come from wherever people keep them.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: https: http:; object-src 'none'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

/// One file, ready to be sent.
pub(crate) struct File {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: &'static str,
    /// Weak, because the same file may go out compressed.
    pub(crate) etag: String,
}

/// Everything that no route answers: a file, or 404.
pub(crate) async fn fallback(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let path = request.uri().path();
    let name = if path == "/" { "index.html" } else { path.trim_start_matches('/') };
    let Some(file) = find(&edge, name).await else {
        return ErrorObject::from(Refusal::new(Reason::NotFound, "There is no such route")).into_response();
    };
    let mut response = match *request.method() {
        Method::GET | Method::HEAD => file.answer(request.headers(), PAGE_POLICY),
        _ => {
            let mut response = method_not_allowed().await.into_response();
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
            response
        }
    };
    // One name for all of them, so that metrics stay few.
    response.extensions_mut().insert(Route("/{file}"));
    response
}

/// What a route answers to a method that it does not have; axum adds `allow`.
pub(crate) async fn method_not_allowed() -> ErrorObject {
    Refusal::new(Reason::MethodNotAllowed, "This route has other methods; see the header allow").into()
}

async fn find(edge: &Edge, name: &str) -> Option<File> {
    let content_type = content_type(name)?;
    let folder = &edge.config.web_dir;
    if folder.as_os_str().is_empty() {
        let file = Embedded::get(name)?;
        let bytes = match file.data {
            std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let hash = BASE64_URL_SAFE_NO_PAD.encode(&file.metadata.sha256_hash()[..12]);
        return Some(File { bytes, content_type, etag: format!("W/\"{hash}\"") });
    }
    let path = Path::new(name);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || !["index.html", "app.css", "app/", "sdk/"].iter().any(|place| name.starts_with(place)) {
        return None;
    }
    let bytes = tokio::fs::read(folder.join(path)).await.ok()?;
    let etag = etag::of(&bytes);
    Some(File { bytes: bytes.into(), content_type, etag })
}

impl File {
    /// The file, or 304 when the client has this version.
    pub(crate) fn answer(self, request: &HeaderMap, policy: HeaderValue) -> Response {
        let Self { bytes, content_type, etag } = self;
        let mut response = if etag::is_known(request, &etag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Body::from(bytes).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        // Kept, but asked about each time: a new version counts from the next load.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        if let Ok(etag) = HeaderValue::try_from(etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

/// The type of a file by its name; none for what is not served.
pub(crate) fn content_type(name: &str) -> Option<&'static str> {
    Some(match Path::new(name).extension()?.to_str()? {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml; charset=utf-8",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "ts" => "text/plain; charset=utf-8",
        _ => return None,
    })
}
