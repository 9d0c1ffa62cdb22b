//! The REST routes of the contract, a file per noun. A handler takes what it needs from the request, makes one call to a
//! service on the caller's behalf and answers in the contract's words; it decides nothing else. The same routers are
//! the source of the OpenAPI document (`docs.rs`).

use std::{borrow::Cow, sync::Arc};

use axum::{extract::State, middleware};
use mesh::{
    client,
    identity::{ServiceName, UserCaller},
    visit::Visit,
};
use serde::Serialize;
use tonic::{Request, Response, Status};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{edge::Edge, error::ErrorObject, layers, limit::Class};

mod account;
mod admin;
mod api_keys;
mod auth;
mod email;
mod factors;
mod history;
mod invitations;
mod jwks;
mod members;
mod messages;
mod rooms;
mod sessions;
mod users;

pub(crate) use jwks::routes as well_known;

/// What handlers know besides the request.
pub(crate) type Shared = State<Arc<Edge>>;

/// What a handler answers.
pub(crate) type Answer<T> = Result<T, ErrorObject>;

/// The routes below `/api`.
pub(crate) fn routes(edge: &Arc<Edge>) -> OpenApiRouter<Arc<Edge>> {
    let limit = |class| middleware::from_fn_with_state((Arc::clone(edge), class), layers::limit_address);
    // What clients ask for again; a token for a socket is new each time, and nobody polls the audit log.
    let polled = auth::profile_routes()
        .merge(sessions::routes())
        .merge(history::routes())
        .merge(users::routes())
        .merge(rooms::routes())
        .merge(members::routes())
        .merge(messages::routes())
        .route_layer(middleware::from_fn(layers::etag::etag));
    // An export is large, and a deletion is for once: who asks often is not their owner.
    let guarded = auth::password_routes()
        .merge(account::routes())
        .merge(email::routes())
        .merge(factors::routes().route_layer(middleware::from_fn(layers::etag::etag)));
    OpenApiRouter::default()
        .merge(guarded.route_layer(limit(Class::Auth)))
        .merge(admin::routes().merge(api_keys::routes()).merge(invitations::routes()).route_layer(limit(Class::Rest)))
        .merge(auth::routes().merge(polled).route_layer(limit(Class::Rest)))
}

impl Edge {
    /// Calls a service once: for what must not happen twice.
    pub(crate) async fn once<T, R, F>(&self, bearer: &str, message: T, call: impl FnOnce(Request<T>) -> F) -> Answer<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let response = call(client::request(message, bearer, self.call_timeout())).await?;
        Ok(response.into_inner())
    }

    /// Calls a service, and again when it is away: for reads, and for changes that are the same when made twice.
    pub(crate) async fn again<T, R, F>(
        &self,
        bearer: &str,
        message: T,
        mut call: impl FnMut(Request<T>) -> F,
    ) -> Answer<R>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let again = || call(client::request(message.clone(), bearer, self.call_timeout()));
        let response = self.clients.retry(again);
        Ok(response.await?.into_inner())
    }

    /// Calls auth-svc once for a user, or for nobody yet, and says where the request comes from. The call is made in this
    /// gateway's name on the user's behalf, since only a gateway's word counts for that.
    pub(crate) async fn auth_once<T, R, F>(
        &self,
        visit: &Visit,
        user: Option<&UserCaller>,
        message: T,
        call: impl FnOnce(Request<T>) -> F,
    ) -> Answer<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let assertion = self.identity.assertion(ServiceName::Auth, user);
        let stamped = |mut request| {
            visit.stamp(&mut request);
            call(request)
        };
        self.once(&assertion, message, stamped).await
    }

    /// The same, and again when auth-svc is away.
    pub(crate) async fn auth_again<T, R, F>(
        &self,
        visit: &Visit,
        user: Option<&UserCaller>,
        message: T,
        mut call: impl FnMut(Request<T>) -> F,
    ) -> Answer<R>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let assertion = self.identity.assertion(ServiceName::Auth, user);
        let stamped = |mut request| {
            visit.stamp(&mut request);
            call(request)
        };
        self.again(&assertion, message, stamped).await
    }
}

/// The `success` of a good answer: true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yes;

impl PartialSchema for Yes {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([true])).into()
    }
}

impl ToSchema for Yes {
    fn name() -> Cow<'static, str> {
        "True".into()
    }
}

impl Serialize for Yes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

/// Something was done, and there is nothing to show.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Done {
    success: Yes,
    /// A sentence for people.
    #[schema(value_type = String)]
    message: &'static str,
}

impl Done {
    pub(crate) fn new(message: &'static str) -> Self {
        Self { success: Yes, message }
    }
}

/// A part of an answer that its service must have given.
pub(crate) fn given<T>(part: Option<T>) -> Answer<T> {
    part.ok_or_else(|| {
        mesh::error::Refusal::internal("a service answered without the message that its contract promises").into()
    })
}
