//! The public keys of access tokens, where other programs look for them (RFC 8414's neighbours keep theirs there too).

use std::sync::Arc;

use axum::{
    extract::State,
    middleware,
    response::{IntoResponse as _, Response},
};
use http::header;
use mesh::{identity::ServiceName, proto::auth::v1 as pb};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Shared};
use crate::{edge::Edge, layers, limit::Class};

/// Keys rotate with an overlap of hours, so five minutes late is early enough.
const CACHE: &str = "public, max-age=300";

/// RFC 7517's own type.
const TYPE: &str = "application/jwk-set+json";

pub(crate) fn routes(edge: &Arc<Edge>) -> OpenApiRouter<Arc<Edge>> {
    let limit = middleware::from_fn_with_state((Arc::clone(edge), Class::Rest), layers::limit_address);
    OpenApiRouter::default()
        .routes(routes!(jwks))
        .route_layer(middleware::from_fn(layers::etag::etag))
        .route_layer(limit)
}

/// A JSON Web Key Set (RFC 7517).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it describes an answer that auth-svc made")]
pub(crate) struct Jwks {
    /// Ed25519 keys: `kty` `OKP`, `crv` `Ed25519`, `kid`, `x`.
    #[schema(value_type = Vec<Object>)]
    keys: Vec<crate::json::Object>,
}

/// The public keys of access tokens.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "Accounts", operation_id = "jwks",
    responses((status = 200, description = "The keys; may be cached for five minutes", body = Jwks, content_type = TYPE)))]
async fn jwks(State(edge): Shared) -> Answer<Response> {
    let assertion = edge.identity.assertion(ServiceName::Auth, None);
    let message = pb::GetJwksRequest {};
    let answer = edge.again(&assertion, message, async |request| edge.clients.auth().get_jwks(request).await).await?;
    let headers = [(header::CONTENT_TYPE, TYPE), (header::CACHE_CONTROL, CACHE)];
    Ok((headers, answer.jwks_json).into_response())
}
