//! The OpenAPI document, made from the same routers that serve, and the page to try it at `/docs/`: Swagger UI from files
//! embedded at build time. Next: `docs/complete.rs` adds what every operation shares.

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use mesh::error::{Reason, Refusal};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use crate::{
    error::ErrorObject,
    layers::headers::DATA_POLICY,
    web::{self, File},
};

mod complete;

pub(crate) use complete::complete;

/// Where the document is.
pub(crate) const DOCUMENT: &str = "/api/openapi.json";

/// Swagger UI sets styles of its own from its script; nothing comes from elsewhere.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'",
);

/// The files of Swagger UI that its page loads; the other builds that come with it are not served.
const PAGE_FILES: [&str; 8] = [
    "favicon-16x16.png",
    "favicon-32x32.png",
    "index.css",
    "index.html",
    "swagger-initializer.js",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-ui.css",
];

/// The document's route and the page's.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let json = Bytes::from(document.to_json().expect("invariant: the document is made of JSON's own types"));
    let document =
        move |headers: HeaderMap| async move { file(json, "application/json").answer(&headers, DATA_POLICY) };
    let page =
        Arc::new(Config::from(DOCUMENT).try_it_out_enabled(true).display_request_duration(true).validator_url("none"));
    let index = Arc::clone(&page);
    Router::new()
        .route(DOCUMENT, get(document.clone()))
        .route("/api/v1/openapi.json", get(document))
        // The page's own links are relative to a folder.
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(async move |headers: HeaderMap| page_file(&index, "index.html", &headers)))
        .route(
            "/docs/{file}",
            get(async move |Path(name): Path<String>, headers: HeaderMap| page_file(&page, &name, &headers)),
        )
}

fn page_file(config: &Arc<Config<'static>>, name: &str, headers: &HeaderMap) -> Response {
    let not_found = || ErrorObject::from(Refusal::new(Reason::NotFound, "There is no such route")).into_response();
    let Some(content_type) = web::content_type(name).filter(|_| PAGE_FILES.contains(&name)) else {
        return not_found();
    };
    match utoipa_swagger_ui::serve(name, Arc::clone(config)) {
        Ok(Some(found)) => {
            let bytes = match found.bytes {
                std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
            };
            file(bytes, content_type).answer(headers, PAGE_POLICY)
        }
        Ok(None) => not_found(),
        Err(error) => ErrorObject::from(Refusal::internal(error.to_string())).into_response(),
    }
}

fn file(bytes: Bytes, content_type: &'static str) -> File {
    // The files change with the build alone, so its version and their length tell versions apart.
    let tag = BASE64_URL_SAFE_NO_PAD.encode(format!("{}-{}", env!("CARGO_PKG_VERSION"), bytes.len()));
    File { bytes, content_type, etag: format!("W/\"{tag}\"") }
}
