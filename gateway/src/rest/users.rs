//! People as others see them.

use std::sync::Arc;

use axum::{Json, extract::State};
use mesh::{proto::user::v1 as pb, text};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Shared, Yes, given};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, FromParams, Params, Query, UserPath},
    json::Profile,
};

/// Ids in one request: the contract's.
const IDS_MAX: usize = 100;

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(several)).routes(routes!(one))
}

/// One person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OneUser {
    success: Yes,
    user: Profile,
}

/// One person as others see them.
#[utoipa::path(get, path = "/users/{id}", tag = "Users", operation_id = "getUser", security(("bearer" = [])),
    params(("id" = String, Path, description = "The user")),
    responses(
        (status = 200, description = "The person", body = OneUser),
        (status = 404, description = "USER_NOT_FOUND", body = ErrorObject),
    ))]
async fn one(State(edge): Shared, bearer: Bearer, UserPath(user_id): UserPath) -> Answer<Json<OneUser>> {
    let message = pb::GetUserRequest { user_id };
    let answer =
        edge.again(&bearer.token, message, async |request| edge.clients.user().get_user(request).await).await?;
    Ok(Json(OneUser { success: Yes, user: given(answer.user)?.into() }))
}

/// Which people.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Ids {
    /// At most 100 ids, separated by commas.
    #[param(value_type = String, example = "a,b")]
    ids: Vec<String>,
}

impl FromParams for Ids {
    fn read(params: &mut Params) -> Self {
        let split = |value: &str| value.split(',').map(|id| id.trim().to_owned()).collect::<Vec<_>>();
        let ids: Vec<_> = params.all("ids").flat_map(split).filter(|id| !id.is_empty()).collect();
        if ids.is_empty() {
            params.refuse::<()>("ids", format!("must have 1–{IDS_MAX} ids, separated by commas"));
        } else if ids.len() > IDS_MAX {
            params.refuse::<()>("ids", format!("must have at most {IDS_MAX} ids"));
        }
        Self { ids }
    }
}

/// The people that exist, in the order asked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ManyUsers {
    success: Yes,
    users: Vec<Profile>,
}

/// Several people as others see them; those that do not exist are left out.
#[utoipa::path(get, path = "/users", tag = "Users", operation_id = "getUsers", security(("bearer" = [])),
    params(Ids), responses((status = 200, description = "The people", body = ManyUsers)))]
async fn several(State(edge): Shared, bearer: Bearer, Query(given): Query<Ids>) -> Answer<Json<ManyUsers>> {
    // What cannot be an id is the id of nobody; it must not spoil the others.
    let user_ids: Vec<_> =
        given.ids.iter().filter_map(|id| text::uuid("ids", id).ok()).map(|id| id.to_string()).collect();
    if user_ids.is_empty() {
        return Ok(Json(ManyUsers { success: Yes, users: Vec::new() }));
    }
    let message = pb::BatchGetUsersRequest { user_ids };
    let answer =
        edge.again(&bearer.token, message, async |request| edge.clients.user().batch_get_users(request).await).await?;
    Ok(Json(ManyUsers { success: Yes, users: answer.users.into_iter().map(Profile::from).collect() }))
}
