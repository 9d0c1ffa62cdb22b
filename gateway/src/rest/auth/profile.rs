//! The caller's own profile, which two services keep: auth-svc the username, user-svc all that others see. Reading joins
//! the two; a change goes to each for what it owns.

use axum::{Json, extract::State};
use mesh::{
    error::{Reason, Refusal},
    proto::{auth::v1 as auth, user::v1 as user},
    text,
    visit::Visit,
};
use prost_types::FieldMask;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, Shared, Yes, given};
use crate::{
    edge::Edge,
    error::ErrorObject,
    extract::{Bearer, Body, Fields, FromFields, Visitor},
    json::{Object, User},
};

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnUser {
    success: Yes,
    #[schema(value_type = String)]
    message: &'static str,
    user: User,
}

/// The caller's own profile.
#[utoipa::path(get, path = "/auth/profile", tag = "Accounts", operation_id = "getProfile",
    security(("bearer" = [])), responses((status = 200, description = "The profile", body = OwnUser)))]
pub(super) async fn get_profile(State(edge): Shared, bearer: Bearer) -> Answer<Json<OwnUser>> {
    let id = bearer.user.user_id.to_string();
    let (account, profile) = tokio::try_join!(account(&edge, &bearer.token), profile(&edge, &bearer.token, &id))?;
    let user = User::new(account, profile);
    Ok(Json(OwnUser { success: Yes, message: "User profile retrieved successfully", user }))
}

async fn account(edge: &Edge, token: &str) -> Answer<auth::Account> {
    let message = auth::GetAccountRequest {};
    let answer = edge.again(token, message, async |request| edge.clients.auth().get_account(request).await).await?;
    given(answer.account)
}

/// The profile that user-svc has; none when it has not heard of the account yet. That user-svc is away is an error: a
/// client that edits what it was shown would write the empty fields back.
pub(super) async fn profile(edge: &Edge, token: &str, id: &str) -> Answer<Option<user::User>> {
    let message = user::GetUserRequest { user_id: id.to_owned() };
    match edge.again(token, message, async |request| edge.clients.user().get_user(request).await).await {
        Ok(answer) => given(answer.user).map(Some),
        Err(error) if error.code == Reason::UserNotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A change of a profile: what is absent stays.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ProfileChange {
    /// 3–32 letters, digits, `_`, `.`, `-`; unique without regard to case.
    #[schema(nullable = false)]
    username: Option<String>,
    /// At most 100 characters; null empties it.
    first_name: Option<String>,
    /// At most 100 characters; null empties it.
    last_name: Option<String>,
    /// At most 1,000 characters; null empties it.
    bio: Option<String>,
    /// An http or https URL, at most 2,048 characters; null empties it.
    avatar_url: Option<String>,
    /// At most 16 KiB as JSON, 16 levels; replaced as a whole. Null empties it.
    #[schema(value_type = Option<Object>)]
    preferences: Option<Object>,
}

impl FromFields for ProfileChange {
    fn read(fields: &mut Fields) -> Self {
        Self {
            username: fields.changed_text("username"),
            first_name: fields.changed_text("firstName"),
            last_name: fields.changed_text("lastName"),
            bio: fields.changed_text("bio"),
            avatar_url: fields.changed_text("avatarUrl"),
            preferences: fields.changed_object("preferences"),
        }
    }
}

impl ProfileChange {
    /// What auth-svc has to change, if anything.
    fn account(&self) -> Option<auth::UpdateAccountRequest> {
        let username = self.username.clone()?;
        Some(auth::UpdateAccountRequest {
            account: Some(auth::Account { username, ..auth::Account::default() }),
            update_mask: Some(FieldMask { paths: vec!["username".to_owned()] }),
            validate_only: false,
        })
    }

    /// What user-svc has to change, if anything.
    fn profile(self) -> Option<user::UpdateUserRequest> {
        let given = [
            ("first_name", self.first_name.is_some()),
            ("last_name", self.last_name.is_some()),
            ("bio", self.bio.is_some()),
            ("avatar_url", self.avatar_url.is_some()),
            ("preferences", self.preferences.is_some()),
        ];
        let paths: Vec<_> = given.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
        let user = user::User {
            first_name: self.first_name.unwrap_or_default(),
            last_name: self.last_name.unwrap_or_default(),
            bio: self.bio.unwrap_or_default(),
            avatar_url: self.avatar_url.unwrap_or_default(),
            preferences: self.preferences.as_ref().map(text::struct_from_json),
            ..user::User::default()
        };
        let update_mask = Some(FieldMask { paths });
        let any = update_mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
        any.then_some(user::UpdateUserRequest { user: Some(user), update_mask, validate_only: false })
    }
}

/// Changes the fields that are given. A bad field changes nothing.
#[utoipa::path(put, path = "/auth/profile", tag = "Accounts", operation_id = "updateProfile",
    security(("bearer" = [])), request_body = ProfileChange,
    responses(
        (status = 200, description = "The profile after the change", body = OwnUser),
        (status = 400, description = "VALIDATION_FAILED, or ACCOUNT_EXISTS for a username that is taken", body = ErrorObject),
    ))]
pub(super) async fn update_profile(
    State(edge): Shared,
    bearer: Bearer,
    Visitor(visit): Visitor,
    body: Result<Body<ProfileChange>, ErrorObject>,
) -> Answer<Json<OwnUser>> {
    let user = match body {
        Ok(Body(change)) => update(&edge, &bearer, &visit, change).await,
        Err(error) => Err(error),
    };
    let user = user.map_err(in_these_words)?;
    Ok(Json(OwnUser { success: Yes, message: "User profile updated successfully", user }))
}

/// A refusal in the words that the contract has for this route.
fn in_these_words(error: ErrorObject) -> ErrorObject {
    const WORDS: &str = "Failed to update user profile";
    if error.code == Reason::AccountExists {
        error.with_message(WORDS).with_error("username", "is taken by another account")
    } else if error.code == Reason::ValidationFailed {
        error.with_message(WORDS)
    } else {
        error
    }
}

/// Changes both parts in an order in which a refusal leaves everything as it was: first each service checks its fields,
/// then the username is changed, because it may still turn out to be taken, then the rest, which has been found good.
///
/// What remains possible is that user-svc goes away between the last two calls: then the answer is `UNAVAILABLE`, the
/// new username stands, and the same request made again completes the change.
async fn update(edge: &Edge, bearer: &Bearer, visit: &Visit, change: ProfileChange) -> Answer<User> {
    let (token, id) = (bearer.token.as_str(), bearer.user.user_id.to_string());
    let (for_auth, for_user) = (change.account(), change.profile());
    if let (Some(for_auth), Some(for_user)) = (&for_auth, &for_user) {
        check(edge, bearer, visit, for_auth, for_user).await?;
    }
    let account = match for_auth {
        Some(message) => Some(update_account(edge, bearer, visit, message).await?),
        None => None,
    };
    let profile = match for_user {
        Some(message) => Some(update_user(edge, token, message).await?),
        None => None,
    };
    let account = match account {
        Some(account) => account,
        None => self::account(edge, token).await?,
    };
    let profile = match profile {
        Some(profile) => Some(profile),
        None => self::profile(edge, token, &id).await?,
    };
    Ok(User::new(account, profile))
}

/// Lets both services check their fields; what either finds is told at once.
async fn check(
    edge: &Edge,
    bearer: &Bearer,
    visit: &Visit,
    for_auth: &auth::UpdateAccountRequest,
    for_user: &user::UpdateUserRequest,
) -> Answer<()> {
    let for_auth = auth::UpdateAccountRequest { validate_only: true, ..for_auth.clone() };
    let for_user = user::UpdateUserRequest { validate_only: true, ..for_user.clone() };
    match tokio::join!(update_account(edge, bearer, visit, for_auth), update_user(edge, &bearer.token, for_user)) {
        (Ok(_), Ok(_)) => Ok(()),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(account), Err(profile)) => Err(account.joined(profile)),
    }
}

async fn update_account(
    edge: &Edge,
    bearer: &Bearer,
    visit: &Visit,
    message: auth::UpdateAccountRequest,
) -> Answer<auth::Account> {
    let call = async |request| edge.clients.auth().update_account(request).await;
    given(edge.auth_again(visit, Some(&bearer.user), message, call).await?.account)
}

async fn update_user(edge: &Edge, token: &str, message: user::UpdateUserRequest) -> Answer<user::User> {
    let call = async |request| edge.clients.user().update_user(request).await;
    match edge.again(token, message, call).await {
        Ok(answer) => given(answer.user),
        // Registration is not through everywhere yet.
        Err(error) if error.code == Reason::UserNotFound => {
            Err(Refusal::new(Reason::Unavailable, "The profile is still being made; try again").into())
        }
        Err(error) => Err(error),
    }
}
