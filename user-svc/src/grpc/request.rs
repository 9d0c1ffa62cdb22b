//! Requests to types: every field is checked, so that one answer names every bad one, and nothing after this file sees
//! a value that has not been. The rules that are a profile's own are in `profile.rs`.

use mesh::{
    error::FieldViolation,
    proto::user::v1::{CreateUserRequest, SetUsernameRequest, UpdateUserRequest, User},
    text::{self, Violations},
};

use crate::{
    config::Limits,
    error::Error,
    profile::{self, Change, Field, NewProfile, Rename, UserId},
};

#[cfg(test)]
mod fuzz;

/// A change with whose it is said to be.
#[derive(Debug)]
pub(super) struct Update {
    /// None when the request leaves it to the caller.
    pub(super) id: Option<UserId>,
    pub(super) change: Change,
}

pub(super) fn new_profile(request: &CreateUserRequest, limits: &Limits) -> Result<NewProfile, Error> {
    let mut violations = Violations::default();
    let id = violations.check(id("user_id", &request.user_id));
    let username = violations.check(text::name("username", &request.username, 1, limits.username_chars_max));
    let username_version = violations.check(version(request.username_version));
    let first_name = violations.check(text::name("first_name", &request.first_name, 0, limits.name_chars_max));
    let last_name = violations.check(text::name("last_name", &request.last_name, 0, limits.name_chars_max));
    match (id, username, username_version, first_name, last_name) {
        (Some(id), Some(username), Some(username_version), Some(first_name), Some(last_name)) => {
            Ok(NewProfile { id, username, username_version, first_name, last_name })
        }
        _ => Err(invalid(violations)),
    }
}

pub(super) fn rename(request: &SetUsernameRequest, limits: &Limits) -> Result<Rename, Error> {
    let mut violations = Violations::default();
    let id = violations.check(id("user_id", &request.user_id));
    let username = violations.check(text::name("username", &request.username, 1, limits.username_chars_max));
    let username_version = violations.check(version(request.username_version));
    match (id, username, username_version) {
        (Some(id), Some(username), Some(username_version)) => Ok(Rename { id, username, username_version }),
        _ => Err(invalid(violations)),
    }
}

pub(super) fn user_id(value: &str) -> Result<UserId, Error> {
    id("user_id", value).map_err(|violation| Error::Invalid(vec![violation]))
}

pub(super) fn user_ids(values: &[String], max: usize) -> Result<Vec<UserId>, Error> {
    let mut violations = Violations::default();
    if values.len() > max {
        violations.push("user_ids", format!("must have at most {max} ids"));
        return Err(invalid(violations));
    }
    let named = values.iter().enumerate().map(|(place, value)| id(&format!("user_ids[{place}]"), value));
    let ids: Vec<_> = named.filter_map(|id| violations.check(id)).collect();
    if ids.len() == values.len() { Ok(ids) } else { Err(invalid(violations)) }
}

/// Only the fields that the mask names are looked at; one that is named and not given is emptied.
pub(super) fn update(request: UpdateUserRequest, limits: &Limits) -> Result<Update, Error> {
    let mut violations = Violations::default();
    let mask = request.update_mask.unwrap_or_default();
    let fields = violations.check(Field::mask("update_mask", mask.paths.iter().map(String::as_str)));
    let Some(user) = request.user else {
        violations.push("user", "is required");
        return Err(invalid(violations));
    };
    let id = if user.id.is_empty() { None } else { violations.check(id("user.id", &user.id)) };
    let mut change = Change::default();
    for field in fields.iter().flatten() {
        set(&mut change, *field, &user, limits, &mut violations);
    }
    violations.into_result().map_err(|refusal| Error::Invalid(refusal.violations))?;
    Ok(Update { id, change })
}

fn set(change: &mut Change, field: Field, user: &User, limits: &Limits, violations: &mut Violations) {
    let (name_max, bio_max) = (limits.name_chars_max, limits.bio_chars_max);
    match field {
        Field::FirstName => {
            change.first_name = violations.check(text::name("user.first_name", &user.first_name, 0, name_max));
        }
        Field::LastName => {
            change.last_name = violations.check(text::name("user.last_name", &user.last_name, 0, name_max));
        }
        Field::Bio => change.bio = violations.check(text::text("user.bio", &user.bio, bio_max)).map(str::to_owned),
        Field::AvatarUrl => {
            let url = profile::avatar_url("user.avatar_url", &user.avatar_url, limits.avatar_url_chars_max);
            change.avatar_url = violations.check(url);
        }
        Field::Preferences => {
            let (bytes_max, depth_max) = (limits.preferences_bytes_max, limits.preferences_depth_max);
            let given = user.preferences.clone().unwrap_or_default();
            change.preferences = violations.check(text::json("user.preferences", &given, bytes_max, depth_max));
        }
    }
}

fn id(field: &str, value: &str) -> Result<UserId, FieldViolation> {
    text::uuid(field, value).map(UserId)
}

fn version(value: i64) -> Result<i64, FieldViolation> {
    if value >= 1 { Ok(value) } else { Err(FieldViolation::new("username_version", "must be at least 1")) }
}

fn invalid(violations: Violations) -> Error {
    Error::Invalid(violations.into_result().err().map(|refusal| refusal.violations).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c0de-0000-7000-8000-000000000001";

    fn fields<T: std::fmt::Debug>(result: Result<T, Error>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
            other => panic!("not refused as it should be: {other:?}"),
        }
    }

    fn of(user: User, paths: &[&str]) -> UpdateUserRequest {
        let mut request = UpdateUserRequest { user: Some(user), ..Default::default() };
        request.update_mask.get_or_insert_default().paths = paths.iter().map(ToString::to_string).collect();
        request
    }

    #[test]
    fn every_bad_field_of_a_new_profile_is_named_in_one_answer() {
        let request = CreateUserRequest {
            user_id: "42".into(),
            username: "  ".into(),
            username_version: 0,
            first_name: "x".repeat(101),
            last_name: "a\0b".into(),
        };
        let named = fields(new_profile(&request, &Limits::default()));
        assert_eq!(named, ["user_id", "username", "username_version", "first_name", "last_name"]);
        let request = SetUsernameRequest { user_id: ID.into(), username: "u".repeat(33), username_version: -1 };
        assert_eq!(fields(rename(&request, &Limits::default())), ["username", "username_version"]);
    }

    #[test]
    fn names_are_trimmed_and_may_be_empty() {
        let request = CreateUserRequest {
            user_id: ID.into(),
            username: "ada".into(),
            username_version: 1,
            first_name: " Ada ".into(),
            last_name: "  ".into(),
        };
        let new = new_profile(&request, &Limits::default()).expect("good");
        assert_eq!((new.first_name.as_str(), new.last_name.as_str()), ("Ada", ""));
    }

    #[test]
    fn each_bad_id_of_a_batch_is_named_by_its_place() {
        let ids = [ID, "", ID, "nobody"].map(str::to_owned);
        assert_eq!(fields(user_ids(&ids, 100)), ["user_ids[1]", "user_ids[3]"]);
        assert_eq!(fields(user_ids(&ids, 3)), ["user_ids"]);
        assert_eq!(user_ids(&ids[..1], 1).expect("good").len(), 1);
        assert_eq!(user_ids(&[], 1).expect("good"), []);
    }

    #[test]
    fn a_change_has_the_named_fields_alone_and_the_others_are_not_even_looked_at() {
        let user = User { first_name: "Ada".into(), last_name: "x".repeat(101), bio: "\0".into(), ..User::default() };
        let update = update(of(user, &["first_name", "avatar_url", "preferences"]), &Limits::default()).expect("good");
        assert_eq!(update.id, None);
        let change = Change {
            first_name: Some("Ada".into()),
            avatar_url: Some(String::new()),
            preferences: Some(profile::Preferences::new()),
            ..Change::default()
        };
        assert_eq!(update.change, change);
    }

    #[test]
    fn every_bad_field_of_a_change_is_named_with_its_path() {
        let user = User {
            id: "me".into(),
            first_name: "\u{7}".into(),
            last_name: "😀".repeat(101),
            bio: "b".repeat(1_001),
            avatar_url: "javascript:alert(1)".into(),
            preferences: Some(text::struct_from_json(&deep(17))),
            ..User::default()
        };
        let all = ["first_name", "last_name", "bio", "avatar_url", "preferences"];
        assert_eq!(
            fields(update(of(user, &all), &Limits::default())),
            ["user.id", "user.first_name", "user.last_name", "user.bio", "user.avatar_url", "user.preferences"]
        );
    }

    #[test]
    fn a_mask_with_nothing_or_something_else_and_a_missing_user_are_refused() {
        let limits = Limits::default();
        for paths in [&[][..], &["bio", "username"], &["user.bio"]] {
            assert_eq!(fields(update(of(User::default(), paths), &limits)), ["update_mask"]);
        }
        assert_eq!(fields(update(UpdateUserRequest::default(), &limits)), ["update_mask", "user"]);
    }

    #[test]
    fn preferences_have_their_size_and_depth() {
        let limits = Limits::default();
        let with = |preferences| of(User { preferences: Some(preferences), ..User::default() }, &["preferences"]);
        let long = |chars: usize| {
            let mut object = profile::Preferences::new();
            object.insert("k".into(), "x".repeat(chars).into());
            text::struct_from_json(&object)
        };
        // {"k":"…"} is eight bytes and the text.
        assert!(update(with(long((16 << 10) - 8)), &limits).is_ok());
        assert_eq!(fields(update(with(long((16 << 10) - 7)), &limits)), ["user.preferences"]);
        assert!(update(with(text::struct_from_json(&deep(16))), &limits).is_ok());
        assert_eq!(fields(update(with(text::struct_from_json(&deep(17))), &limits)), ["user.preferences"]);
    }

    fn deep(levels: usize) -> profile::Preferences {
        let mut object = profile::Preferences::new();
        if levels > 1 {
            object.insert("d".into(), deep(levels - 1).into());
        }
        object
    }
}
