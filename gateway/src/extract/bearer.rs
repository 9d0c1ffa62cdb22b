//! The user who calls over REST, by the access token in `authorization`, or the service account, by its API key. A token is
//! verified here without a call; the services verify it again, because it goes with every call to them. What a key may do
//! is theirs to judge.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{header, request::Parts};
use mesh::{
    error::{Reason, Refusal},
    identity::{self, API_KEY_PREFIX, UserCaller},
};

use crate::{
    address::Origin,
    edge::Edge,
    error::ErrorObject,
    limit::{Class, Standing},
};

/// The caller and their token.
pub(crate) struct Bearer {
    /// The access token or API key, verified: header-safe ASCII.
    pub(crate) token: String,
    pub(crate) user: UserCaller,
    /// Where the answer's headers find what is left of the account's calls.
    standing: Option<Standing>,
}

impl Bearer {
    /// Counts one more call of the account, of this class.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(crate) fn limit(&self, edge: &Edge, class: Class, origin: Origin) -> Result<(), Refusal> {
        edge.limiter.check_account(class, origin.address, self.user.user_id, self.standing.as_ref())
    }
}

impl FromRequestParts<Arc<Edge>> for Bearer {
    type Rejection = ErrorObject;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ErrorObject> {
        let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(Refusal::unauthorized)?;
        let invalid = || Refusal::new(Reason::TokenInvalid, "Unauthorized");
        let token = value.to_str().ok().and_then(identity::bearer).ok_or_else(invalid)?;
        let user = match token.starts_with(API_KEY_PREFIX) {
            true => edge.identity.verify_key(token).await?,
            false => edge.identity.verify_access(token).await?.caller(),
        };
        let bearer = Self { token: token.to_owned(), user, standing: parts.extensions.get().cloned() };
        bearer.limit(edge, Class::Rest, Origin::of(&parts.extensions))?;
        Ok(bearer)
    }
}
