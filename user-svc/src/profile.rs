//! Profiles: what others see of a person, and the person's own preferences. It knows neither gRPC nor SQL: the surface
//! is `grpc.rs`, what is kept is `store.rs`. Usernames and who may log in are auth-svc's; here is a copy of the name.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mesh::{error::FieldViolation, text, time::Millis};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{error::Error, store::Store};

/// Characters of a refused path that are said again: enough to recognise it, too few to fill an answer.
const ECHOED_CHARS_MAX: usize = 40;

/// The id of a person, which is the id of their account everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

/// What a person's clients keep for them: a JSON object, replaced as a whole.
pub type Preferences = Map<String, Value>;

/// What others see of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whose it is.
    pub id: UserId,
    /// The newest username that auth-svc has told of.
    pub username: String,
    /// May be empty.
    pub first_name: String,
    /// May be empty.
    pub last_name: String,
    /// May be empty.
    pub bio: String,
    /// An http or https URL; may be empty.
    pub avatar_url: String,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

impl Profile {
    /// What to call the person: first and last name joined, or the username.
    #[must_use]
    pub fn name(&self) -> String {
        match (self.first_name.as_str(), self.last_name.as_str()) {
            ("", "") => self.username.clone(),
            (first, "") => first.to_owned(),
            ("", last) => last.to_owned(),
            (first, last) => format!("{first} {last}"),
        }
    }
}

/// A profile as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnProfile {
    /// What everybody sees.
    pub profile: Profile,
    /// What only the owner sees.
    pub preferences: Preferences,
}

/// A profile that is to be made, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProfile {
    /// The account's id.
    pub id: UserId,
    /// The account's username.
    pub username: String,
    /// Its version, from 1.
    pub username_version: i64,
    /// May be empty.
    pub first_name: String,
    /// May be empty.
    pub last_name: String,
}

/// A username that auth-svc has given to somebody, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// Whose.
    pub id: UserId,
    /// The new name.
    pub username: String,
    /// Its version, from 1.
    pub username_version: i64,
}

/// A change of a profile, checked: what is none stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// A new first name.
    pub first_name: Option<String>,
    /// A new last name.
    pub last_name: Option<String>,
    /// A new bio.
    pub bio: Option<String>,
    /// A new avatar.
    pub avatar_url: Option<String>,
    /// New preferences in place of all the old ones.
    pub preferences: Option<Preferences>,
}

/// A field that its owner may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The first name.
    FirstName,
    /// The last name.
    LastName,
    /// The bio.
    Bio,
    /// The avatar's URL.
    AvatarUrl,
    /// The preferences, as a whole.
    Preferences,
}

impl Field {
    /// Every field with its path in an update mask.
    const PATHS: [(&str, Self); 5] = [
        ("first_name", Self::FirstName),
        ("last_name", Self::LastName),
        ("bio", Self::Bio),
        ("avatar_url", Self::AvatarUrl),
        ("preferences", Self::Preferences),
    ];

    /// The fields that a mask names, each once.
    ///
    /// # Errors
    /// A violation of `field` for a mask that names nothing, or something that cannot be changed.
    pub fn mask<'a>(field: &str, paths: impl IntoIterator<Item = &'a str>) -> Result<BTreeSet<Self>, FieldViolation> {
        let mut fields = BTreeSet::new();
        for path in paths {
            let Some((_, named)) = Self::PATHS.iter().find(|(known, _)| *known == path) else {
                let shown: String = path.chars().take(ECHOED_CHARS_MAX).collect();
                let message = format!("names {shown:?}, which cannot be changed here; it may name {}", Self::known());
                return Err(FieldViolation::new(field, message));
            };
            fields.insert(*named);
        }
        if fields.is_empty() {
            return Err(FieldViolation::new(field, format!("must name at least one of {}", Self::known())));
        }
        Ok(fields)
    }

    fn known() -> String {
        Self::PATHS.map(|(path, _)| path).join(", ")
    }
}

/// An avatar's URL: empty, or `http://` or `https://` with a host, in printable characters without spaces. It is never
/// fetched here; clients show it.
///
/// # Errors
/// A violation that names the rule it breaks.
pub fn avatar_url(field: &str, value: &str, chars_max: usize) -> Result<String, FieldViolation> {
    let value = text::text(field, value, chars_max)?;
    if value.is_empty() {
        return Ok(String::new());
    }
    if value.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err(FieldViolation::new(field, "must not contain spaces or control characters"));
    }
    let url = value.parse::<http::Uri>().ok();
    let web = url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")));
    // `http://:80/` has an authority and still no host.
    if web.and_then(|url| url.host().map(|host| !host.is_empty())) == Some(true) {
        return Ok(value.to_owned());
    }
    Err(FieldViolation::new(field, "must be empty or a URL that begins with http:// or https:// and has a host"))
}

/// The domain of profiles.
#[derive(Clone, Debug)]
pub struct Profiles {
    store: Arc<dyn Store>,
}

impl Profiles {
    /// Profiles that are kept there.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Makes a profile, or answers the one of this id that is there.
    ///
    /// # Errors
    /// [`Error::UserNotFound`] for somebody who was erased.
    pub async fn create(&self, new: &NewProfile) -> Result<Profile, Error> {
        let profile = self.store.create(new, Millis::now()).await?;
        if profile.username.is_empty() { Err(Error::UserNotFound) } else { Ok(profile) }
    }

    /// Erases somebody, for good.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase(&self, id: UserId) -> Result<(), Error> {
        Ok(self.store.erase(id, Millis::now()).await?)
    }

    /// Takes a username in, unless a newer one is known. Makes the profile when it is missing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rename(&self, rename: &Rename) -> Result<(), Error> {
        Ok(self.store.rename(rename, Millis::now()).await?)
    }

    /// Somebody as others see them.
    ///
    /// # Errors
    /// [`Error::UserNotFound`].
    pub async fn seen(&self, id: UserId) -> Result<Profile, Error> {
        self.store.profiles(&[id]).await?.pop().ok_or(Error::UserNotFound)
    }

    /// Somebody as they see themself.
    ///
    /// # Errors
    /// [`Error::UserNotFound`].
    pub async fn own(&self, id: UserId) -> Result<OwnProfile, Error> {
        self.store.own(id).await?.ok_or(Error::UserNotFound)
    }

    /// Several people as others see them, in the order asked. Whoever is asked for twice comes once, at the first
    /// place; whoever does not exist is left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn several(&self, ids: &[UserId]) -> Result<Vec<Profile>, Error> {
        let mut places: HashMap<UserId, usize> = HashMap::with_capacity(ids.len());
        let mut asked = Vec::with_capacity(ids.len());
        for id in ids {
            places.entry(*id).or_insert_with(|| {
                asked.push(*id);
                asked.len()
            });
        }
        let mut profiles = self.store.profiles(&asked).await?;
        profiles.sort_unstable_by_key(|profile| places.get(&profile.id).copied());
        Ok(profiles)
    }

    /// Changes what the owner may change. Fields that the change does not name keep what they have, also against
    /// another change at the same time.
    ///
    /// # Errors
    /// [`Error::UserNotFound`].
    pub async fn update(&self, id: UserId, change: &Change) -> Result<OwnProfile, Error> {
        self.store.update(id, change, Millis::now()).await?.ok_or(Error::UserNotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(first: &str, last: &str) -> String {
        let profile = Profile {
            id: UserId(Uuid::nil()),
            username: "ada".into(),
            first_name: first.into(),
            last_name: last.into(),
            bio: String::new(),
            avatar_url: String::new(),
            created_at: Millis(0),
            updated_at: Millis(0),
        };
        profile.name()
    }

    #[test]
    fn a_name_is_first_and_last_joined_or_the_username() {
        assert_eq!(named("Ada", "Lovelace"), "Ada Lovelace");
        assert_eq!(named("Ada", ""), "Ada");
        assert_eq!(named("", "Lovelace"), "Lovelace");
        assert_eq!(named("", ""), "ada");
    }

    #[test]
    fn an_avatar_is_nothing_or_a_web_url_with_a_host() {
        let good =
            ["", "http://a", "https://cdn.example:8443/a.png?size=2#x", "HTTPS://EXAMPLE.ORG/a", "https://[::1]/a"];
        for url in good {
            assert_eq!(avatar_url("user.avatar_url", url, 2_048).as_deref(), Ok(url));
        }
        let long = format!("https://a.example/{}", "x".repeat(2_048));
        let bad = [
            "ftp://a/b",
            "javascript:alert(1)",
            "data:image/png;base64,AAAA",
            "//cdn.example/a.png",
            "a.png",
            "http://",
            "http:///a",
            "https://:80/a",
            "https://a/b c",
            "https://a/\n",
            "https://a/\u{85}",
            "https://a/\0",
            " https://a",
            &long,
        ];
        for url in bad {
            let violation = avatar_url("user.avatar_url", url, 2_048).expect_err(url);
            assert_eq!(violation.field, "user.avatar_url");
        }
    }

    #[test]
    fn a_mask_names_fields_that_can_be_changed_and_at_least_one() {
        let fields = Field::mask("update_mask", ["bio", "first_name", "bio"]).expect("good");
        assert_eq!(fields, BTreeSet::from([Field::Bio, Field::FirstName]));
        let unknown = "z".repeat(10_000);
        for bad in
            [&[][..], &["username"], &["bio", "name"], &["preferences.theme"], &["*"], &[""], &[unknown.as_str()]]
        {
            let violation = Field::mask("update_mask", bad.iter().copied()).expect_err("refused");
            assert_eq!(violation.field, "update_mask");
            assert!(violation.message.contains("avatar_url") && violation.message.len() < 300, "{}", violation.message);
        }
    }
}
