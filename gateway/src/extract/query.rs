//! Typed parameters of the query string; like the body, every bad one is named with its limit.

use axum::extract::{FromRequestParts, Query as AxumQuery};
use http::request::Parts;
use mesh::{error::Refusal, text::Violations};

use crate::error::ErrorObject;

/// A type that can be read from a query string.
pub(crate) trait FromParams: Sized {
    /// Reads every parameter, also after a bad one: what it makes then is thrown away.
    fn read(params: &mut Params) -> Self;
}

/// The parameters, and what was wrong with them so far.
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    violations: Violations,
}

impl Params {
    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The one value of a parameter.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let mut values = self.all(name);
        let value = values.next().map(str::to_owned);
        if values.next().is_some() {
            drop(values);
            return self.refuse(name, "must be given once");
        }
        drop(values);
        match value {
            Some(value) if value.contains('\0') => self.refuse(name, "must not contain U+0000"),
            value => value,
        }
    }

    /// A whole number within limits.
    pub(crate) fn number(&mut self, name: &str, min: i64, max: i64) -> Option<i64> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(number) if (min..=max).contains(&number) => Some(number),
            _ => self.refuse(name, format!("must be a whole number between {min} and {max}")),
        }
    }

    /// Says that a parameter is not good.
    pub(crate) fn refuse<T>(&mut self, name: &str, message: impl Into<String>) -> Option<T> {
        self.violations.push(name, message);
        None
    }
}

/// The query as the type that a handler wants.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: FromParams, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ErrorObject;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorObject> {
        let Ok(AxumQuery(pairs)) = AxumQuery::<Vec<(String, String)>>::try_from_uri(&parts.uri) else {
            return Err(Refusal::field("query", "must be name=value pairs in UTF-8").into());
        };
        let mut params = Params { pairs, violations: Violations::default() };
        let value = T::read(&mut params);
        params.violations.into_result()?;
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use test_input::{Edits, check_violations, text};

    use super::*;

    struct Read(Option<i64>, Option<String>);

    impl FromParams for Read {
        fn read(params: &mut Params) -> Self {
            Self(params.number("page", 1, 1_000), params.text("search"))
        }
    }

    #[test]
    fn fuzz_a_query_of_any_text_is_within_its_limits_or_refused_by_parameter() {
        let examples = ["page=7&search=a%20b", "page=1&page=2", "search=%F0%9F%98%80&x", "page=-1&search=%00"];
        bolero::check!().with_type::<Edits>().for_each(|edits| {
            let Ok(uri) = format!("/rooms?{}", text(&examples, edits)).parse::<http::Uri>() else { return };
            let (mut parts, ()) = http::Request::new(()).into_parts();
            parts.uri = uri;
            match futures::executor::block_on(Query::<Read>::from_request_parts(&mut parts, &())) {
                Ok(Query(Read(page, search))) => {
                    assert!(page.is_none_or(|page| (1..=1_000).contains(&page)));
                    assert!(search.is_none_or(|search| !search.contains('\0')));
                }
                Err(error) => {
                    let body = serde_json::to_value(&error).expect("JSON");
                    let errors = body["errors"].as_array().expect("errors");
                    let text =
                        |error: &serde_json::Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
                    let errors: Vec<_> =
                        errors.iter().map(|error| (text(error, "field"), text(error, "message"))).collect();
                    check_violations(errors.iter().map(|(field, message)| (&**field, &**message)));
                }
            }
        });
    }

    fn params(pairs: &[(&str, &str)]) -> Params {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Params { pairs, violations: Violations::default() }
    }

    #[test]
    fn numbers_are_whole_and_within_their_limits() {
        for bad in ["-1", "0", "101", "10000", "x", "", "1.5", "99999999999999999999", "0x1"] {
            let mut p = params(&[("limit", bad)]);
            assert_eq!(p.number("limit", 1, 100), None, "{bad}");
            let refusal = p.violations.into_result().expect_err(bad);
            assert_eq!(refusal.violations[0].field, "limit");
            assert!(refusal.violations[0].message.contains("100"));
        }
        let mut p = params(&[("limit", "100"), ("page", "1")]);
        assert_eq!(
            (p.number("limit", 1, 100), p.number("page", 1, 9), p.number("before", 1, 9)),
            (Some(100), Some(1), None)
        );
        p.violations.into_result().expect("good");
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        let mut p = params(&[("page", "1"), ("page", "2")]);
        assert_eq!(p.number("page", 1, 9), None);
        assert_eq!(p.violations.into_result().expect_err("twice").violations.len(), 1);
    }
}
