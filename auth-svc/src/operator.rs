//! What an operator does at the command line, on the store itself and without a running auth-svc: giving the first admin
//! the role, inviting people, deleting an account, making a new signing key. A running auth-svc on the same store feels it like the act of another replica.

use std::{sync::Arc, time::Duration};

use mesh::{
    keys::{self, KeyError},
    time::Millis,
};

use crate::{
    Config,
    account::{Account, Login},
    audit::{Actor, Entry, Event},
    deletion,
    error::Error,
    invitation::{self, Invitation, InvitationCode, Order},
    role::Role,
    session::Client,
    signing::{self, Rotated, Rotation, Safe},
    store::{self, DeletionPlan, OpenError, RoleChange, RolesSet, Store, StoreError},
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
    /// A key of the data folder cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No account has the name.
    #[error("no account has this username or email")]
    NoAccount,
    /// What was given cannot be right, or stands against what is there.
    #[error("{0}")]
    Refused(String),
}

impl From<Error> for OperatorError {
    fn from(error: Error) -> Self {
        if let Error::Store(error) = error {
            return Self::Store(error);
        }
        let Error::Invalid(violations) = error else { return Self::Refused(error.to_string()) };
        let each = violations.iter().map(|violation| format!("{} {}", violation.field, violation.message));
        Self::Refused(each.collect::<Vec<_>>().join("; "))
    }
}

/// Opens the store for one command.
async fn open(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    let auth = &config.auth;
    store::open(&auth.store_url, &config.mesh.data, auth.store_readers, &auth.store, config.mesh.migrations()).await
}

/// Gives the account with this username or email a role; the account after it.
///
/// # Errors
/// One sentence that says what to do.
pub async fn promote(config: &Config, login: &str, role: Role, operator: &str) -> Result<Account, OperatorError> {
    let login = Login::parse("the name", login).map_err(|violation| Error::Invalid(vec![violation]))?;
    let store = open(config).await?;
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
    if found.account.is_service() {
        return Err(OperatorError::Refused("a service account has no role".to_owned()));
    }
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

/// Deletes the account with this username or email, which is disabled until it is erased; when that is. A running auth-svc
/// erases it.
///
/// # Errors
/// One sentence that says what to do.
pub async fn delete(config: &Config, login: &str, operator: &str) -> Result<Millis, OperatorError> {
    let login = Login::parse("the name", login).map_err(|violation| Error::Invalid(vec![violation]))?;
    let store = open(config).await?;
    let done = async {
        let found = store.credentials(&login).await?.ok_or(OperatorError::NoAccount)?;
        let (user_id, now) = (found.account.id, Millis::now());
        let entry = Entry::new(Event::AccountDeleted, &Client::default(), now);
        let silence = Duration::from_millis(config.mesh.identity.silence_ms_max);
        let plan = DeletionPlan {
            user_id,
            disabled: true,
            now,
            erase_at: config.auth.deletion(silence).erase_at(now),
            revoked_until: now.plus(config.auth.sessions().revocation_keep),
            audit: vec![entry.by(Actor::Operator(operator.to_owned())).on(user_id)],
        };
        Ok(deletion::plan(store.as_ref(), &plan).await?.0)
    };
    let done = done.await;
    store.close().await;
    done
}

/// Makes an invitation to register.
///
/// # Errors
/// One sentence that says what to do.
pub async fn invite(
    config: &Config,
    note: &str,
    life: Option<Duration>,
    operator: &str,
) -> Result<(Invitation, InvitationCode), OperatorError> {
    let order = Order::parse(note, life)?;
    let store = open(config).await?;
    let (limits, by) = (config.auth.invitations(), Actor::Operator(operator.to_owned()));
    let made = invitation::invite(store.as_ref(), limits, order, by, &Client::default()).await;
    store.close().await;
    Ok(made?)
}

/// Makes a new key that signs access tokens. At once means that all access tokens there are lose their worth.
///
/// # Errors
/// One sentence that says what to do.
pub async fn rotate_keys(config: &Config, at_once: bool, operator: &str) -> Result<Rotated, OperatorError> {
    let file = keys::signing_key(&config.mesh, "auth-access")?;
    let safe = Safe::new(&keys::secret(&config.mesh, "auth-seal")?);
    let store = open(config).await?;
    let rotation = Rotation { by: Actor::Operator(operator.to_owned()), at_once };
    let limits = config.auth.keys();
    let done = async {
        // On a store whose auth-svc has never run, the key of the file must stay known too.
        signing::adopt(store.as_ref(), &safe, limits, &file).await?;
        signing::rotate(store.as_ref(), &safe, limits, &rotation).await
    };
    let done = done.await;
    store.close().await;
    Ok(done?)
}
