//! `ApiKeyService`: service accounts and their keys, for admins. What a key may do is judged in `mesh::identity`.

use std::{sync::Arc, time::Duration};

use mesh::{
    error::{Answer, Refusal},
    proto::auth::v1 as pb,
    text,
};
use tonic::{Request, Response};
use uuid::Uuid;

use super::{AuthApi, admin, convert, refuse};
use crate::{
    account::{UserId, Username},
    api_key::{ApiKey, Order, ServiceAccount},
    audit::Actor,
};

/// `ApiKeyService`, over the same domain.
#[derive(Clone, Debug)]
pub struct ApiKeyApi(pub Arc<AuthApi>);

#[tonic::async_trait]
impl pb::api_key_service_server::ApiKeyService for ApiKeyApi {
    async fn create_service_account(
        &self,
        request: Request<pb::CreateServiceAccountRequest>,
    ) -> Answer<pb::CreateServiceAccountResponse> {
        let admin = admin::admin(&request)?;
        let (_, session) = super::with_session(&request)?;
        self.0.sessions.require_fresh(session).await.map_err(refuse)?;
        let client = self.0.client(&request);
        let name = Username::parse("name", &request.get_ref().name).map_err(convert::violation)?;
        let made = self.0.accounts.create_service_account(name, Actor::User(admin), &client).await.map_err(refuse)?;
        Ok(Response::new(pb::CreateServiceAccountResponse { service_account: Some(service_account(&made)) }))
    }

    async fn list_service_accounts(
        &self,
        request: Request<pb::ListServiceAccountsRequest>,
    ) -> Answer<pb::ListServiceAccountsResponse> {
        admin::admin(&request)?;
        let page = convert::entry_page(request.get_ref().page_size, &request.get_ref().page_token)?;
        let found = self.0.accounts.store.service_accounts(page.after, page.size + 1).await;
        let found = found.map_err(|error| refuse(error.into()))?;
        let (found, next_page_token) = convert::cut(found, page.size, |last| last.id.0);
        let service_accounts = found.iter().map(service_account).collect();
        Ok(Response::new(pb::ListServiceAccountsResponse { service_accounts, next_page_token }))
    }

    async fn create_api_key(&self, request: Request<pb::CreateApiKeyRequest>) -> Answer<pb::CreateApiKeyResponse> {
        let admin = admin::admin(&request)?;
        let (_, session) = super::with_session(&request)?;
        self.0.sessions.require_fresh(session).await.map_err(refuse)?;
        let (client, asked) = (self.0.client(&request), request.get_ref());
        let life = match u64::try_from(asked.expires_in_secs) {
            Ok(0) => None,
            given => Some(Duration::from_secs(given.unwrap_or_default())),
        };
        let order = Order::parse(&asked.service_account_id, &asked.name, &asked.scopes, life).map_err(refuse)?;
        let made = self.0.accounts.create_api_key(order, Actor::User(admin), &client).await.map_err(refuse)?;
        let (api_key, key) = (Some(api_key(made.0)), made.1.expose().to_owned());
        Ok(Response::new(pb::CreateApiKeyResponse { api_key, key }))
    }

    async fn list_api_keys(&self, request: Request<pb::ListApiKeysRequest>) -> Answer<pb::ListApiKeysResponse> {
        admin::admin(&request)?;
        let asked = request.get_ref();
        let account = text::uuid("service_account_id", &asked.service_account_id).map_err(convert::violation)?;
        let page = convert::entry_page(asked.page_size, &asked.page_token)?;
        let found = self.0.accounts.store.api_keys(UserId(account), page.after, page.size + 1).await;
        let found = found.map_err(|error| refuse(error.into()))?;
        let (found, next_page_token) = convert::cut(found, page.size, |last| last.id);
        let api_keys = found.into_iter().map(api_key).collect();
        Ok(Response::new(pb::ListApiKeysResponse { api_keys, next_page_token }))
    }

    async fn revoke_api_key(&self, request: Request<pb::RevokeApiKeyRequest>) -> Answer<pb::RevokeApiKeyResponse> {
        let admin = admin::admin(&request)?;
        let id: Result<Uuid, Refusal> =
            text::uuid("key_id", &request.get_ref().key_id).map_err(|violation| Refusal::invalid(vec![violation]));
        let client = self.0.client(&request);
        self.0.accounts.revoke_api_key(id?, Actor::User(admin), &client).await.map_err(refuse)?;
        Ok(Response::new(pb::RevokeApiKeyResponse {}))
    }
}

fn service_account(account: &ServiceAccount) -> pb::ServiceAccount {
    pb::ServiceAccount {
        id: account.id.0.to_string(),
        name: account.name.as_str().to_owned(),
        maker_kind: account.made_by.kind().to_owned(),
        maker: account.made_by.name(),
        create_time: Some(account.created_at.into()),
    }
}

fn api_key(key: ApiKey) -> pb::ApiKey {
    pb::ApiKey {
        id: key.id.to_string(),
        service_account_id: key.account.0.to_string(),
        prefix: key.prefix,
        name: key.name,
        scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        maker_kind: key.made_by.kind().to_owned(),
        maker: key.made_by.name(),
        create_time: Some(key.created_at.into()),
        expire_time: Some(key.expires_at.into()),
        last_use_time: key.last_used_at.map(Into::into),
    }
}

pub(super) fn checked(key: &ApiKey, roles: Vec<String>) -> pb::CheckApiKeyResponse {
    pb::CheckApiKeyResponse {
        key_id: key.id.to_string(),
        user_id: key.account.0.to_string(),
        roles,
        scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        expire_time: Some(key.expires_at.into()),
    }
}
