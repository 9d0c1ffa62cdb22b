//! What is kept of service accounts and their API keys: the part of [`Store`](super::Store) that is about them.

use async_trait::async_trait;
use mesh::time::Millis;
use uuid::Uuid;

use super::{Created, NewAccount, Stored};
use crate::{
    account::UserId,
    api_key::{ApiKey, ApiKeyHash, ServiceAccount},
    audit::{Actor, Entry},
};

/// A service account that is to be made.
#[derive(Clone, Debug)]
pub struct NewServiceAccount {
    /// The account. It needs no invitation.
    pub account: NewAccount,
    /// Who makes it.
    pub made_by: Actor,
    /// Written with it.
    pub audit: Vec<Entry>,
}

/// An API key that is to be made.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// What will be kept of it.
    pub key: ApiKey,
    /// The hash of the whole.
    pub hash: ApiKeyHash,
    /// How many that have not expired its account may have, this one included.
    pub keys_max: u32,
    /// Written with it.
    pub audit: Vec<Entry>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMade {
    /// It is there.
    Made,
    /// The account has as many as it may; nothing changed.
    Full,
    /// There is no such service account; nothing changed.
    Missing,
}

/// Service accounts and their API keys.
#[async_trait]
pub trait ApiKeyStore {
    /// Makes an account without a session, with the delivery of its profile, and notes that it is a service account.
    async fn create_service_account(&self, new: &NewServiceAccount) -> Stored<Created>;

    /// The service accounts, the newest first, from after a place in that order.
    async fn service_accounts(&self, after: Option<Uuid>, limit: u32) -> Stored<Vec<ServiceAccount>>;

    /// Keeps a key, unless the account has as many as it may.
    async fn create_api_key(&self, new: &NewApiKey) -> Stored<KeyMade>;

    /// The key that is known by this, expired or not, with the roles of its account. That it is used at this time is noted
    /// at most once a minute.
    async fn use_api_key(&self, hash: &ApiKeyHash, now: Millis) -> Stored<Option<(ApiKey, Vec<String>)>>;

    /// The key of this id, expired or not.
    async fn api_key(&self, id: Uuid) -> Stored<Option<ApiKey>>;

    /// The keys of a service account that have not been forgotten, the newest first, from after a place in that order.
    async fn api_keys(&self, account: UserId, after: Option<Uuid>, limit: u32) -> Stored<Vec<ApiKey>>;

    /// Forgets a key and writes the revocation of its id, which is kept until this time at least; the number of that, or
    /// none, and nothing happens, when there is no such key.
    async fn revoke_api_key(&self, id: Uuid, revoked_until: Millis, audit: &[Entry]) -> Stored<Option<i64>>;
}
