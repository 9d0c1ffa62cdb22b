//! People and sessions as clients see them. A person's own form joins auth-svc's account and user-svc's profile; others
//! see the profile alone, without preferences.

use mesh::{
    proto::{auth::v1 as auth, user::v1 as user},
    time::Millis,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Object, object, time};

/// A person as they see themselves.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    /// Opaque.
    id: String,
    /// 3–32 letters, digits, `_`, `.`, `-`.
    username: String,
    /// At most 254 characters.
    email: String,
    /// Whether its owner has shown that the address is theirs.
    email_verified: bool,
    /// At most 100 characters; may be empty.
    first_name: String,
    /// At most 100 characters; may be empty.
    last_name: String,
    /// First and last name joined, or the username.
    name: String,
    /// At most 1,000 characters.
    bio: String,
    /// An http or https URL; may be empty.
    avatar_url: String,
    /// What the person's clients keep for them: at most 16 KiB as JSON.
    #[schema(value_type = Object)]
    preferences: Object,
    /// The roles that access tokens carry.
    roles: Vec<String>,
    /// When the account was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    /// When the account or the profile was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Millis,
}

impl User {
    /// Joins the account with the profile. The account's username is the true one; a profile that is not there yet
    /// leaves its fields empty.
    pub(crate) fn new(account: auth::Account, profile: Option<user::User>) -> Self {
        let profile = profile.unwrap_or_default();
        let (created, updated) = (time(account.create_time), time(account.update_time));
        Self {
            id: account.id,
            name: full_name(&profile.first_name, &profile.last_name, &account.username),
            username: account.username,
            email: account.email,
            email_verified: account.email_verify_time.is_some(),
            first_name: profile.first_name,
            last_name: profile.last_name,
            bio: profile.bio,
            avatar_url: profile.avatar_url,
            preferences: object(profile.preferences.as_ref()),
            roles: account.roles,
            created_at: created,
            updated_at: updated.max(time(profile.update_time)),
        }
    }
}

/// What auth-svc keeps of a person, as an admin sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    /// The user's id.
    id: String,
    /// The username.
    username: String,
    /// The address to log in with.
    email: String,
    /// When its owner showed that the address is theirs; absent while they have not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    email_verified_at: Option<Millis>,
    /// The roles that access tokens carry.
    roles: Vec<String>,
    /// When the account was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Millis,
    /// Since when an admin keeps everybody out of it; absent while none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Millis>,
}

impl From<auth::Account> for Account {
    fn from(account: auth::Account) -> Self {
        Self {
            id: account.id,
            username: account.username,
            email: account.email,
            email_verified_at: account.email_verify_time.map(Millis::from),
            roles: account.roles,
            created_at: time(account.create_time),
            updated_at: time(account.update_time),
            disabled_at: account.disable_time.map(Millis::from),
        }
    }
}

/// The profile's own `name` may have been made with a username that is not the account's any more.
fn full_name(first: &str, last: &str, username: &str) -> String {
    match (first, last) {
        ("", "") => username.to_owned(),
        (name, "") | ("", name) => name.to_owned(),
        (first, last) => format!("{first} {last}"),
    }
}

/// A person as others see them.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    /// The user's id.
    id: String,
    /// The username.
    username: String,
    /// May be empty.
    first_name: String,
    /// May be empty.
    last_name: String,
    /// First and last name joined, or the username.
    name: String,
    /// May be empty.
    bio: String,
    /// An http or https URL; may be empty.
    avatar_url: String,
    /// When the profile was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    /// When the profile was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Millis,
}

impl From<user::User> for Profile {
    fn from(user: user::User) -> Self {
        Self {
            id: user.id,
            name: full_name(&user.first_name, &user.last_name, &user.username),
            username: user.username,
            first_name: user.first_name,
            last_name: user.last_name,
            bio: user.bio,
            avatar_url: user.avatar_url,
            created_at: time(user.create_time),
            updated_at: time(user.update_time),
        }
    }
}

/// A device that need not give a code of the second factor.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RememberedDevice {
    id: String,
    created_at: Millis,
    expires_at: Millis,
}

impl From<auth::RememberedDevice> for RememberedDevice {
    fn from(device: auth::RememberedDevice) -> Self {
        Self { id: device.id, created_at: time(device.create_time), expires_at: time(device.expire_time) }
    }
}

/// A login on one device.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    /// The session's id.
    id: String,
    /// What the client calls itself; may be empty.
    device: String,
    /// The address that logged in; may be empty.
    ip_address: String,
    /// Roughly where that is (`Paris, FR`); may be empty.
    place: String,
    /// When it last proved whose it is: by a login or a password given again.
    #[schema(value_type = String, format = DateTime)]
    authenticated_at: Millis,
    /// When it was opened.
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    /// When it was last refreshed, to the minute.
    #[schema(value_type = String, format = DateTime)]
    last_used_at: Millis,
    /// When it ends unless it is refreshed before.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Millis,
    /// Whether it is the one that asks.
    current: bool,
}

impl From<auth::Session> for Session {
    fn from(session: auth::Session) -> Self {
        Self {
            id: session.id,
            device: session.device,
            ip_address: session.ip_address,
            place: session.place,
            authenticated_at: time(session.authenticate_time),
            created_at: time(session.create_time),
            last_used_at: time(session.last_use_time),
            expires_at: time(session.expire_time),
            current: session.current,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> auth::Account {
        auth::Account {
            id: "u1".into(),
            username: "ada".into(),
            email: "ada@example.com".into(),
            roles: vec!["user".into()],
            create_time: Some(Millis(1_000).into()),
            update_time: Some(Millis(2_000).into()),
            disable_time: None,
            email_verify_time: None,
        }
    }

    #[test]
    fn a_user_joins_account_and_profile() {
        let preferences = serde_json::json!({"theme": "dark"});
        let preferences = mesh::text::struct_from_json(preferences.as_object().expect("object"));
        let profile = user::User {
            username: "old".into(),
            first_name: "Ada".into(),
            last_name: "Lovelace".into(),
            preferences: Some(preferences),
            update_time: Some(Millis(3_000).into()),
            ..user::User::default()
        };
        assert_eq!(
            serde_json::to_value(User::new(account(), Some(profile))).expect("JSON"),
            serde_json::json!({
                "id": "u1", "username": "ada", "email": "ada@example.com", "emailVerified": false, "firstName": "Ada", "lastName": "Lovelace",
                "name": "Ada Lovelace", "bio": "", "avatarUrl": "", "preferences": {"theme": "dark"}, "roles": ["user"],
                "createdAt": "1970-01-01T00:00:01.000Z", "updatedAt": "1970-01-01T00:00:03.000Z",
            })
        );
    }

    #[test]
    fn without_a_profile_the_account_is_enough_and_the_name_is_the_username() {
        let json = serde_json::to_value(User::new(account(), None)).expect("JSON");
        assert_eq!((&json["name"], &json["preferences"]), (&"ada".into(), &serde_json::json!({})));
    }

    #[test]
    fn others_see_no_preferences_and_no_email() {
        let json = serde_json::to_value(Profile::from(user::User::default())).expect("JSON");
        assert!(json.get("preferences").is_none() && json.get("email").is_none());
    }
}
