//! Service accounts and their API keys, which admins make, look through and revoke. Whether the caller is an admin is
//! auth-svc's to judge, and what a key may do the services'.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use mesh::proto::auth::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Done, Shared, Yes, admin::PageParams, given};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, Fields, FromFields, IdPath, Query, UserPath, Visitor},
    json::{ApiKey, ServiceAccount},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(list_accounts, create_account))
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke))
}

/// A service account that is to be made.
#[derive(Debug, ToSchema)]
pub(crate) struct NewServiceAccount {
    /// A username that nobody has: 3–32 letters, digits, `_`, `.`, `-`.
    #[schema(example = "billing")]
    name: String,
}

impl FromFields for NewServiceAccount {
    fn read(fields: &mut Fields) -> Self {
        Self { name: fields.required("name") }
    }
}

/// A service account.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceAccountMade {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    service_account: ServiceAccount,
}

/// Makes a service account, which other teams' programs call as.
#[utoipa::path(post, path = "/admin/service-accounts", tag = "Admin", operation_id = "createServiceAccount",
    security(("bearer" = [])), request_body = NewServiceAccount,
    responses(
        (status = 201, description = "The service account, without keys yet", body = ServiceAccountMade),
        (status = 403, description = "FORBIDDEN without the role `admin`, or REAUTHENTICATION_REQUIRED", body = ErrorObject),
    ))]
async fn create_account(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    Body(new): Body<NewServiceAccount>,
) -> Answer<(StatusCode, Json<ServiceAccountMade>)> {
    let message = pb::CreateServiceAccountRequest { name: new.name };
    // Not again: a second try would find the name taken.
    let call = async |request| edge.clients.api_key().create_service_account(request).await;
    let answer = edge.auth_once(&visit, Some(&bearer.user), message, call).await?;
    let service_account = given(answer.service_account)?.into();
    let message = "Service account created successfully";
    Ok((StatusCode::CREATED, Json(ServiceAccountMade { success: Yes, message, service_account })))
}

/// A page of service accounts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceAccounts {
    success: Yes,
    /// The newest first.
    service_accounts: Vec<ServiceAccount>,
    /// For the next page; empty at the end.
    next_page_token: String,
}

/// The service accounts.
#[utoipa::path(get, path = "/admin/service-accounts", tag = "Admin", operation_id = "listServiceAccounts",
    security(("bearer" = [])),
    params(
        ("pageSize" = Option<i64>, Query, description = "1 to 100; 50 by default"),
        ("pageToken" = Option<String>, Query, description = "From the last answer"),
    ),
    responses(
        (status = 200, description = "A page", body = ServiceAccounts),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
    ))]
async fn list_accounts(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    Query(page): Query<PageParams>,
) -> Answer<Json<ServiceAccounts>> {
    let message = pb::ListServiceAccountsRequest { page_size: page.size, page_token: page.token };
    let call = async |request| edge.clients.api_key().list_service_accounts(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    let service_accounts = answer.service_accounts.into_iter().map(ServiceAccount::from).collect();
    Ok(Json(ServiceAccounts { success: Yes, service_accounts, next_page_token: answer.next_page_token }))
}

/// A key that is to be made.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct NewApiKey {
    /// What to call it, at most 100 characters.
    name: Option<String>,
    /// What it may do: of `audit:read`, `rooms:read`, `rooms:write`, `messages:read`, `messages:write`, `users:read`.
    scopes: Vec<String>,
    /// Seconds that it is good, from 60 to 94,608,000 (three years); a year by default.
    expires_in: Option<i64>,
}

impl FromFields for NewApiKey {
    fn read(fields: &mut Fields) -> Self {
        Self {
            name: fields.text("name"),
            scopes: fields.required_texts("scopes"),
            expires_in: fields.number("expiresIn", 60, 94_608_000),
        }
    }
}

/// A key, with the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiKeyMade {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    api_key: ApiKey,
    /// For `authorization: Bearer …`, over REST and gRPC. It is shown here and never again.
    key: String,
}

/// Makes a key of a service account.
#[utoipa::path(post, path = "/admin/service-accounts/{id}/keys", tag = "Admin", operation_id = "createApiKey",
    security(("bearer" = [])), params(("id" = String, Path, description = "The service account")),
    request_body = NewApiKey,
    responses(
        (status = 201, description = "The key", body = ApiKeyMade),
        (status = 403, description = "FORBIDDEN without the role `admin`, or REAUTHENTICATION_REQUIRED", body = ErrorObject),
        (status = 404, description = "USER_NOT_FOUND: there is no such service account", body = ErrorObject),
        (status = 409, description = "CONFLICT: it has as many keys as it may", body = ErrorObject),
    ))]
async fn create_key(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    UserPath(service_account_id): UserPath,
    Body(new): Body<NewApiKey>,
) -> Answer<(StatusCode, Json<ApiKeyMade>)> {
    let (name, expires_in_secs) = (new.name.unwrap_or_default(), new.expires_in.unwrap_or_default());
    let message = pb::CreateApiKeyRequest { service_account_id, name, scopes: new.scopes, expires_in_secs };
    // Not again: a second try would leave one behind that nobody knows.
    let call = async |request| edge.clients.api_key().create_api_key(request).await;
    let answer = edge.auth_once(&visit, Some(&bearer.user), message, call).await?;
    let api_key = given(answer.api_key)?.into();
    let made = ApiKeyMade { success: Yes, message: "API key created successfully", api_key, key: answer.key };
    Ok((StatusCode::CREATED, Json(made)))
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiKeys {
    success: Yes,
    /// The newest first.
    api_keys: Vec<ApiKey>,
    /// For the next page; empty at the end.
    next_page_token: String,
}

/// The keys of a service account that have not expired.
#[utoipa::path(get, path = "/admin/service-accounts/{id}/keys", tag = "Admin", operation_id = "listApiKeys",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "The service account"),
        ("pageSize" = Option<i64>, Query, description = "1 to 100; 50 by default"),
        ("pageToken" = Option<String>, Query, description = "From the last answer"),
    ),
    responses(
        (status = 200, description = "A page", body = ApiKeys),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
    ))]
async fn list_keys(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    UserPath(service_account_id): UserPath,
    Query(page): Query<PageParams>,
) -> Answer<Json<ApiKeys>> {
    let message = pb::ListApiKeysRequest { service_account_id, page_size: page.size, page_token: page.token };
    let call = async |request| edge.clients.api_key().list_api_keys(request).await;
    let answer = edge.auth_again(&visit, Some(&bearer.user), message, call).await?;
    let api_keys = answer.api_keys.into_iter().map(ApiKey::from).collect();
    Ok(Json(ApiKeys { success: Yes, api_keys, next_page_token: answer.next_page_token }))
}

/// Revokes a key: it is refused everywhere within a second.
#[utoipa::path(delete, path = "/admin/api-keys/{id}", tag = "Admin", operation_id = "revokeApiKey",
    security(("bearer" = [])), params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 200, description = "It is good no more", body = Done),
        (status = 403, description = "FORBIDDEN without the role `admin`", body = ErrorObject),
        (status = 404, description = "NOT_FOUND: there is no such key", body = ErrorObject),
    ))]
async fn revoke(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    IdPath(key_id): IdPath,
) -> Answer<Json<Done>> {
    let message = pb::RevokeApiKeyRequest { key_id };
    // Not again: a second try would find it gone.
    let call = async |request| edge.clients.api_key().revoke_api_key(request).await;
    edge.auth_once(&visit, Some(&bearer.user), message, call).await?;
    Ok(Json(Done::new("API key revoked successfully")))
}
