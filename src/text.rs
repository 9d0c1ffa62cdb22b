//! Checks of fields that services share: each names the field and the limit it broke. It decides nothing about a
//! domain; services parse their requests into types with these. A U+0000 is refused everywhere, before any store.

use prost_types::{Struct, Value as PbValue, value::Kind};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{FieldViolation, Refusal};

/// The violations found so far, so that one answer can name every bad field.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Keeps the violation, or gives the value.
    pub fn check<T>(&mut self, result: Result<T, FieldViolation>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(violation) => {
                self.0.push(violation);
                None
            }
        }
    }

    /// Adds a violation.
    pub fn push(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldViolation::new(field, message));
    }

    /// `VALIDATION_FAILED` when there are any.
    ///
    /// # Errors
    /// The refusal that names every field.
    pub fn into_result(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::invalid(self.0)) }
    }
}

/// Text of at most so many characters; it may be empty and have line breaks, but no U+0000.
///
/// # Errors
/// A violation that names the limit.
pub fn text<'a>(field: &str, value: &'a str, chars_max: usize) -> Result<&'a str, FieldViolation> {
    if value.contains('\0') {
        return Err(FieldViolation::new(field, "must not contain U+0000"));
    }
    // A character takes at least one byte, so most values are judged without counting.
    if value.len() > chars_max && value.chars().count() > chars_max {
        return Err(FieldViolation::new(field, format!("must have at most {chars_max} characters")));
    }
    Ok(value)
}

/// A one-line name: trimmed, without control characters, within the limits.
///
/// # Errors
/// A violation that names the limit.
pub fn name(field: &str, value: &str, chars_min: usize, chars_max: usize) -> Result<String, FieldViolation> {
    let trimmed = value.trim();
    text(field, trimmed, chars_max)?;
    if trimmed.chars().any(char::is_control) {
        return Err(FieldViolation::new(field, "must not contain control characters"));
    }
    if chars_min > 0 && trimmed.chars().count() < chars_min {
        return Err(FieldViolation::new(field, format!("must have {chars_min}–{chars_max} characters")));
    }
    Ok(trimmed.to_owned())
}

/// A UUID in its hyphenated form.
///
/// # Errors
/// A violation for anything else.
pub fn uuid(field: &str, value: &str) -> Result<Uuid, FieldViolation> {
    let hyphenated = value.len() == uuid::fmt::Hyphenated::LENGTH;
    Uuid::try_parse(value).ok().filter(|_| hyphenated).ok_or_else(|| FieldViolation::new(field, "must be a UUID"))
}

/// The size of a page: 0 is the default.
///
/// # Errors
/// A violation for a negative size or one over the limit.
pub fn page_size(field: &str, value: i32, default: u32, max: u32) -> Result<u32, FieldViolation> {
    match u32::try_from(value) {
        Ok(0) => Ok(default),
        Ok(size) if size <= max => Ok(size),
        _ => Err(FieldViolation::new(field, format!("must be between 1 and {max}"))),
    }
}

/// A JSON object that an application keeps with us, within a size as compact JSON and a depth.
///
/// # Errors
/// A violation that names the limit.
pub fn json(
    field: &str,
    value: &Struct,
    bytes_max: usize,
    depth_max: usize,
) -> Result<Map<String, Value>, FieldViolation> {
    let object = json_object(field, value, depth_max)?;
    let bytes = serde_json::to_string(&object).map_or(usize::MAX, |text| text.len());
    if bytes > bytes_max {
        return Err(FieldViolation::new(field, format!("must have at most {bytes_max} bytes as JSON")));
    }
    Ok(object)
}

fn json_object(field: &str, value: &Struct, depth_left: usize) -> Result<Map<String, Value>, FieldViolation> {
    let deeper = depth_left
        .checked_sub(1)
        .ok_or_else(|| FieldViolation::new(field, "is nested too deeply (16 levels at most)"))?;
    let mut object = Map::new();
    for (key, value) in &value.fields {
        object.insert(text(field, key, usize::MAX)?.to_owned(), json_value(field, value, deeper)?);
    }
    Ok(object)
}

fn json_value(field: &str, value: &PbValue, depth_left: usize) -> Result<Value, FieldViolation> {
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(value)) => number(field, *value)?,
        Some(Kind::StringValue(value)) => Value::String(text(field, value, usize::MAX)?.to_owned()),
        Some(Kind::ListValue(list)) => {
            let deeper = depth_left
                .checked_sub(1)
                .ok_or_else(|| FieldViolation::new(field, "is nested too deeply (16 levels at most)"))?;
            list.values.iter().map(|value| json_value(field, value, deeper)).collect::<Result<_, _>>()?
        }
        Some(Kind::StructValue(value)) => Value::Object(json_object(field, value, depth_left)?),
    })
}

/// A proto number is a double; a whole one is written as JSON writes whole numbers.
fn number(field: &str, value: f64) -> Result<Value, FieldViolation> {
    // Up to 2^53 a double holds every whole number.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        return Ok(Value::from(value as i64));
    }
    serde_json::Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| FieldViolation::new(field, "must not contain NaN or infinite numbers"))
}

/// The proto form of a JSON object.
#[must_use]
pub fn struct_from_json(object: &Map<String, Value>) -> Struct {
    Struct { fields: object.iter().map(|(key, value)| (key.clone(), value_from_json(value))).collect() }
}

fn value_from_json(value: &Value) -> PbValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.iter().map(value_from_json).collect() })
        }
        Value::Object(object) => Kind::StructValue(struct_from_json(object)),
    };
    PbValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Struct {
        struct_from_json(serde_json::from_str::<Value>(text).expect("JSON").as_object().expect("object"))
    }

    #[test]
    fn a_name_is_trimmed_and_bounded_in_characters_not_bytes() {
        assert_eq!(name("name", "  Ä😀  ", 1, 2).as_deref(), Ok("Ä😀"));
        for bad in ["", "   ", "abc", "a\u{7}", "a\0"] {
            assert!(name("name", bad, 1, 2).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_a_hyphenated_uuid_and_nothing_else() {
        assert!(uuid("id", "0198c0de-0000-7000-8000-000000000001").is_ok());
        for bad in ["", "x", "0198c0de000070008000000000000001", "{0198c0de-0000-7000-8000-000000000001}"] {
            assert!(uuid("id", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_page_size_outside_its_range_is_refused_with_the_range() {
        assert_eq!(page_size("page_size", 0, 50, 100), Ok(50));
        assert_eq!(page_size("page_size", 100, 50, 100), Ok(100));
        for bad in [-1, 101, 10_000] {
            assert!(page_size("page_size", bad, 50, 100).expect_err("refused").message.contains("100"));
        }
    }

    #[test]
    fn json_comes_back_as_it_went_in() {
        let text = r#"{"a":[1,2.5,null,true,{"b":"c"}],"z":-3}"#;
        let back = json("metadata", &object(text), 1000, 16).expect("valid");
        assert_eq!(serde_json::to_string(&back).expect("JSON"), text);
    }

    #[test]
    fn json_past_its_size_or_depth_or_with_nul_is_refused() {
        assert!(json("m", &object(r#"{"a":"bbbb"}"#), 5, 16).is_err());
        assert!(json("m", &object(r#"{"a":{"b":{"c":1}}}"#), 100, 2).is_err());
        assert!(json("m", &object(r#"{"a":[[[1]]]}"#), 100, 2).is_err());
        assert!(json("m", &object("{\"a\":\"\\u0000\"}"), 100, 16).is_err());
        assert!(json("m", &object("{\"\\u0000\":1}"), 100, 16).is_err());
    }
}
