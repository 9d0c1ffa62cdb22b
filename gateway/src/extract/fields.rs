//! Typed fields of a JSON object, which gathers what is wrong with each instead of ending at the first. REST bodies and
//! payloads of Socket.IO events are read with it. It refuses wrong types, missing fields, U+0000 and numbers that would
//! not survive; lengths and alphabets are the services' business.

use mesh::{error::Refusal, text::Violations};
use serde_json::Value;

use crate::json::Object;

/// A type that can be read from the fields of an object.
pub(crate) trait FromFields: Sized {
    /// Reads every field, also after a bad one: what it makes then is thrown away.
    fn read(fields: &mut Fields) -> Self;
}

/// The fields of an object, and what was wrong with them so far.
pub(crate) struct Fields {
    object: Object,
    violations: Violations,
}

impl Fields {
    pub(crate) fn new(object: Object) -> Self {
        Self { object, violations: Violations::default() }
    }

    /// Text that must be there.
    pub(crate) fn required(&mut self, field: &str) -> String {
        self.text(field).unwrap_or_else(|| {
            // A value of another type has its violation already.
            if matches!(self.object.get(field), None | Some(Value::Null)) {
                self.violations.push(field, "is required");
            }
            String::new()
        })
    }

    /// Text that may be absent; null is the same.
    pub(crate) fn text(&mut self, field: &str) -> Option<String> {
        match self.object.get(field)? {
            Value::Null => None,
            Value::String(text) if text.contains('\0') => self.refuse(field, "must not contain U+0000"),
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.refuse(field, "must be text")
            }
        }
    }

    /// Text of a change: absent leaves it, null empties it.
    pub(crate) fn changed_text(&mut self, field: &str) -> Option<String> {
        if self.object.get(field)?.is_null() { Some(String::new()) } else { self.text(field) }
    }

    /// An object that may be absent; null is the same.
    pub(crate) fn object(&mut self, field: &str) -> Option<Object> {
        match self.object.get(field)? {
            Value::Null => None,
            Value::Object(object) => match object.iter().find_map(|(key, value)| unfit_entry(key, value)) {
                Some(message) => self.refuse(field, message),
                None => Some(object.clone()),
            },
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.refuse(field, "must be an object")
            }
        }
    }

    /// An object of a change: absent leaves it, null empties it.
    pub(crate) fn changed_object(&mut self, field: &str) -> Option<Object> {
        if self.object.get(field)?.is_null() { Some(Object::new()) } else { self.object(field) }
    }

    /// Yes or no that may be absent; null is the same.
    pub(crate) fn flag(&mut self, field: &str) -> Option<bool> {
        match self.object.get(field)? {
            Value::Null => None,
            Value::Bool(flag) => Some(*flag),
            Value::String(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.refuse(field, "must be true or false")
            }
        }
    }

    /// A list of texts that must be there; how many there may be is its service's business, within the size of a body.
    pub(crate) fn required_texts(&mut self, field: &str) -> Vec<String> {
        let Some(Value::Array(values)) = self.object.get(field) else {
            let missing = matches!(self.object.get(field), None | Some(Value::Null));
            self.violations.push(field, if missing { "is required" } else { "must be a list of texts" });
            return Vec::new();
        };
        let texts: Vec<_> = values.iter().filter_map(Value::as_str).filter(|text| !text.contains('\0')).collect();
        if texts.len() < values.len() {
            self.violations.push(field, "must be a list of texts without U+0000");
            return Vec::new();
        }
        texts.into_iter().map(str::to_owned).collect()
    }

    /// A whole number within limits that may be absent; null is the same.
    pub(crate) fn number(&mut self, field: &str, min: i64, max: i64) -> Option<i64> {
        let value = self.object.get(field).filter(|value| !value.is_null())?;
        let number = value.as_i64().filter(|number| (min..=max).contains(number));
        number.or_else(|| self.refuse(field, format!("must be a whole number between {min} and {max}")))
    }

    /// One of some words; the default when absent.
    pub(crate) fn one_of<T: Copy>(&mut self, field: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(field)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.or_else(|| {
            let words = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
            self.refuse(field, format!("must be {words}"))
        })
    }

    /// One of some words, which must be there.
    pub(crate) fn required_one_of<T: Copy>(&mut self, field: &str, words: &[(&str, T)]) -> Option<T> {
        if matches!(self.object.get(field), None | Some(Value::Null)) {
            return self.refuse(field, "is required");
        }
        self.one_of(field, words)
    }

    /// Whether the field is there, whatever its value.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.object.contains_key(field)
    }

    /// Says that a field is not good.
    pub(crate) fn refuse<T>(&mut self, field: &str, message: impl Into<String>) -> Option<T> {
        self.violations.push(field, message);
        None
    }

    /// What was wrong, if anything.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` with an entry for each bad field.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        self.violations.into_result()
    }
}

fn unfit_entry(key: &str, value: &Value) -> Option<&'static str> {
    if key.contains('\0') { Some("must not contain U+0000") } else { unfit(value) }
}

/// Why a value of an application's own cannot be kept as it is. The recursion is bounded by the parser's depth, 128.
fn unfit(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(text) => text.contains('\0').then_some("must not contain U+0000"),
        Value::Number(number) => {
            (!survives(number)).then_some("must not contain whole numbers beyond 2^53: send them as text")
        }
        Value::Array(values) => values.iter().find_map(unfit),
        Value::Object(object) => object.iter().find_map(|(key, value)| unfit_entry(key, value)),
        Value::Null | Value::Bool(_) => None,
    }
}

/// Numbers travel as doubles; a whole number that a double cannot hold would come back as another one.
fn survives(number: &serde_json::Number) -> bool {
    const WHOLE_MAX: u64 = 1 << 53;
    match (number.as_i64(), number.as_u64()) {
        (Some(whole), _) => whole.unsigned_abs() <= WHOLE_MAX,
        (None, Some(_)) => false,
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::new(value.as_object().expect("object").clone())
    }

    fn messages(fields: Fields) -> Vec<(String, String)> {
        let refusal = fields.finish().expect_err("violations");
        refusal.violations.into_iter().map(|violation| (violation.field, violation.message)).collect()
    }

    #[test]
    fn every_bad_field_is_named_and_good_ones_are_read() {
        let mut f = fields(&json!({"a": "x", "b": 1, "c": null, "d": "x\u{0}", "e": [], "f": "blue", "unknown": {}}));
        assert_eq!(f.required("a"), "x");
        f.required("b");
        f.required("c");
        f.required("missing");
        f.text("d");
        f.object("e");
        f.one_of("f", &[("public", 1), ("private", 2)]);
        let expected = [
            ("b", "must be text"),
            ("c", "is required"),
            ("missing", "is required"),
            ("d", "must not contain U+0000"),
            ("e", "must be an object"),
            ("f", "must be \"public\" or \"private\""),
        ];
        assert_eq!(messages(f), expected.map(|(field, message)| (field.to_owned(), message.to_owned())));
    }

    #[test]
    fn a_list_of_texts_has_nothing_else_in_it() {
        for bad in [json!("a"), json!([1]), json!(["a", null]), json!(["a\u{0}"]), json!({}), json!(null)] {
            let mut f = fields(&json!({"list": bad}));
            assert!(f.required_texts("list").is_empty());
            assert_eq!(messages(f)[0].0, "list", "{bad}");
        }
        let mut f = fields(&json!({"list": ["a", ""], "none": []}));
        assert_eq!((f.required_texts("list").len(), f.required_texts("none").len()), (2, 0));
        f.finish().expect("good");
    }

    #[test]
    fn a_number_is_whole_and_within_its_limits() {
        for bad in [json!("5"), json!(0), json!(11), json!(1.5), json!(-1), json!(1e300), json!([1]), json!(true)] {
            let mut f = fields(&json!({"n": bad}));
            assert_eq!(f.number("n", 1, 10), None);
            assert!(messages(f)[0].1.contains("between 1 and 10"), "{bad}");
        }
        let mut f = fields(&json!({"n": 10, "none": null}));
        assert_eq!((f.number("n", 1, 10), f.number("none", 1, 10), f.number("absent", 1, 10)), (Some(10), None, None));
        f.finish().expect("good");
    }

    #[test]
    fn in_a_change_null_empties_and_absence_leaves() {
        let mut f = fields(&json!({"bio": null, "preferences": null}));
        assert_eq!(f.changed_text("bio").as_deref(), Some(""));
        assert_eq!(f.changed_text("firstName"), None);
        assert_eq!(f.changed_object("preferences"), Some(Object::new()));
        f.finish().expect("good");
    }

    #[test]
    fn what_would_not_survive_is_refused_wherever_it_hides() {
        for bad in [
            json!({"a": [{"b": "\u{0}"}]}),
            json!({"a": {"\u{0}": 1}}),
            json!({"a": [9_007_199_254_740_993_i64]}),
            json!({"a": u64::MAX}),
        ] {
            let mut f = fields(&json!({"metadata": bad}));
            assert_eq!(f.object("metadata"), None);
            assert_eq!(messages(f)[0].0, "metadata");
        }
        let mut f = fields(&json!({"metadata": {"a": [1.5, -9_007_199_254_740_992_i64, 1e300, true, null, "x"]}}));
        assert!(f.object("metadata").is_some());
        f.finish().expect("good");
    }
}
