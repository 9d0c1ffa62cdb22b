//! What an operator does at the command line, on the store itself and without a running auth-svc: giving the first admin
//! the role. A running auth-svc on the same store feels it like the act of another replica.

use mesh::time::Millis;

use crate::{
    Config,
    account::{Account, Login},
    audit::{Actor, Entry, Event},
    role::Role,
    session::Client,
    store::{self, OpenError, RoleChange, RolesSet, Store, StoreError},
};

/// Why it was not done: one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be used.
    #[error("the account store cannot be used: {0}")]
    Store(#[from] StoreError),
    /// No account has the name.
    #[error("no account has this username or email")]
    NoAccount,
    /// The name cannot be one.
    #[error("{0}")]
    Name(String),
}

/// Gives the account with this username or email a role; the account after it.
///
/// # Errors
/// One sentence that says what to do.
pub async fn promote(config: &Config, login: &str, role: Role, operator: &str) -> Result<Account, OperatorError> {
    let login = Login::parse("the name", login)
        .map_err(|violation| OperatorError::Name(format!("{} {}", violation.field, violation.message)))?;
    let auth = &config.auth;
    let store =
        store::open(&auth.store_url, &config.mesh.data, auth.store_readers, &auth.store, config.mesh.migrations())
            .await?;
    let done = promote_in(store.as_ref(), config, &login, role, operator).await;
    store.close().await;
    done
}

async fn promote_in(
    store: &dyn Store,
    config: &Config,
    login: &Login,
    role: Role,
    operator: &str,
) -> Result<Account, OperatorError> {
    let found = store.credentials(login).await?.ok_or(OperatorError::NoAccount)?;
    let (user_id, now) = (found.account.id, Millis::now());
    let entry = Entry::new(Event::RoleSet, &Client::default(), now).by(Actor::Operator(operator.to_owned()));
    let change = RoleChange {
        user_id,
        roles: role.names(),
        now,
        revoked_until: now.plus(config.auth.sessions().revocation_keep),
        audit: vec![entry.on(user_id).detail(role.as_str())],
    };
    match store.set_roles(&change).await? {
        RolesSet::Set { account, .. } => Ok(account),
        RolesSet::Missing => Err(OperatorError::NoAccount),
    }
}
