//! A message and the parts of one that are checked: content, type, metadata, the client's id for it. Parsing gives
//! values that hold every limit, so nothing after it checks again. How a message gets into a log is `room_task.rs`.

use std::sync::Arc;

use mesh::{
    error::FieldViolation,
    text::{self},
};
use serde_json::{Map, Value};

use crate::{config::Limits, id::UserId};

/// The type of a message whose sender named none.
pub const TEXT: &str = "text";
/// Characters of a message type; a name, not a text.
const TYPE_CHARS_MAX: usize = 32;

/// A message as its log has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The sender.
    pub sender: UserId,
    /// The sender's username when it was sent.
    pub username: Arc<str>,
    /// What it says.
    pub content: String,
    /// `text`, or a name of the application's own.
    pub message_type: String,
    /// The application's own data; empty for none.
    pub metadata: Map<String, Value>,
    /// With the same one, the same sender gets the first message again, for ever.
    pub client_id: ClientMessageId,
}

/// A message on its way into a log: all that its sender says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// What it says.
    pub content: String,
    /// `text`, or a name of the application's own.
    pub message_type: String,
    /// The application's own data; empty for none.
    pub metadata: Map<String, Value>,
    /// The client's id for it, or one made for the client.
    pub client_id: ClientMessageId,
}

/// A client's own id for a message: 1–64 characters of printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientMessageId(Box<str>);

impl Message {
    /// About how many bytes it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let metadata = self.metadata.iter().map(|(key, value)| key.len() + value_weight(value)).sum::<usize>();
        self.content.len() + self.username.len() + metadata
    }
}

impl Draft {
    /// The message that this is when it comes from somebody.
    #[must_use]
    pub fn by(self, sender: UserId, username: Arc<str>) -> Message {
        let Self { content, message_type, metadata, client_id } = self;
        Message { sender, username, content, message_type, metadata, client_id }
    }
}

/// Any value takes some bytes on the wire, however short it is as JSON.
fn value_weight(value: &Value) -> usize {
    const EACH: usize = 16;
    EACH + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(value_weight).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| key.len() + value_weight(value)).sum(),
    }
}

impl ClientMessageId {
    /// The client's own.
    ///
    /// # Errors
    /// A violation that names the limit.
    pub fn parse(field: &str, value: &str, limits: &Limits) -> Result<Self, FieldViolation> {
        let max = limits.client_message_id_chars_max;
        if value.is_empty() || value.len() > max || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(FieldViolation::new(field, format!("must have 1–{max} characters of printable ASCII")));
        }
        Ok(Self(value.into()))
    }

    /// One for a client that gave none.
    #[must_use]
    pub fn made() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }

    /// As a store has it: it was checked before it was stored.
    #[must_use]
    pub fn stored(value: &str) -> Self {
        Self(value.into())
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks content.
///
/// # Errors
/// A violation that names the limit.
pub fn content<'a>(field: &str, value: &'a str, limits: &Limits) -> Result<&'a str, FieldViolation> {
    let (chars_max, bytes_max) = (limits.content_chars_max, limits.content_bytes_max);
    if value.trim().is_empty() {
        return Err(FieldViolation::new(field, format!("must have 1–{chars_max} characters, not only blanks")));
    }
    text::text(field, value, chars_max)?;
    if value.len() > bytes_max {
        return Err(FieldViolation::new(field, format!("must have at most {bytes_max} bytes")));
    }
    Ok(value)
}

/// Checks a message type; empty is [`TEXT`].
///
/// # Errors
/// A violation that names the limit.
pub fn message_type<'a>(field: &str, value: &'a str) -> Result<&'a str, FieldViolation> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if value.is_empty() {
        Ok(TEXT)
    } else if value.len() <= TYPE_CHARS_MAX && value.bytes().all(good) {
        Ok(value)
    } else {
        Err(FieldViolation::new(
            field,
            format!("must have 1–{TYPE_CHARS_MAX} characters of letters, digits, `_`, `.`, `-`"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_bounded_in_characters_and_in_bytes() {
        let limits = Limits::default();
        for good in ["a", " a ", "line\nbreak", &"😀".repeat(8_000)] {
            assert!(content("content", good, &limits).is_ok());
        }
        for bad in ["", "  \n\t ", "a\0", &"a".repeat(8_001)] {
            assert!(content("content", bad, &limits).is_err());
        }
        let tight = Limits { content_bytes_max: 8, ..limits };
        assert!(content("content", "123456789", &tight).is_err());
    }

    #[test]
    fn a_client_message_id_is_short_printable_ascii() {
        let limits = Limits::default();
        for good in ["1", " ", "~", &"x".repeat(64)] {
            assert!(ClientMessageId::parse("client_message_id", good, &limits).is_ok());
        }
        for bad in ["", "ä", "a\n", "a\0", &"x".repeat(65)] {
            assert!(ClientMessageId::parse("client_message_id", bad, &limits).is_err());
        }
    }

    #[test]
    fn a_message_type_is_a_name() {
        assert_eq!(message_type("message_type", ""), Ok(TEXT));
        assert_eq!(message_type("message_type", "app.image-2_x"), Ok("app.image-2_x"));
        for bad in ["a b", "ä", "a/b", &"x".repeat(33)] {
            assert!(message_type("message_type", bad).is_err());
        }
    }
}
