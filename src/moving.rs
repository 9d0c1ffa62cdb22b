//! Moving house: everything that a store holds as records, so that it can go from any backend to any other. Here are the
//! shape of a record, which is the same whatever it comes from, and what a service's store must be able to do
//! ([`House`]). The file that records travel in is the `switchboard` binary's; what a record holds is each service's.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use uuid::Uuid;

/// One thing of a store, on its way out: a JSON object on one line, with its fields in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is: `account`, `entry`.
    pub kind: &'static str,
    /// The line, without its end.
    pub text: String,
}

impl Record {
    /// A record without fields.
    #[must_use]
    pub fn new(kind: &'static str) -> Self {
        Self { kind, text: format!("{{\"kind\":\"{kind}\"}}") }
    }

    /// The record with one more field.
    ///
    /// # Panics
    /// When the value cannot be written as JSON, as a map whose keys are no text.
    #[must_use]
    pub fn with(mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Self {
        let value = serde_json::to_string(value).expect("invariant: a field is plain JSON");
        self.text.pop();
        self.text.push_str(&format!(",\"{name}\":{value}}}"));
        self
    }
}

/// One record on its way in.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it is in its file, from 1.
    pub number: u64,
    /// What it is.
    pub kind: String,
    /// What it holds, the kind not among it.
    pub fields: Map<String, Value>,
}

impl Line {
    /// What is wrong with it.
    pub fn wrong(&self, what: impl fmt::Display) -> MoveError {
        MoveError::Line { number: self.number, what: what.to_string() }
    }

    fn field(&self, name: &str) -> Result<&Value, MoveError> {
        self.fields.get(name).ok_or_else(|| self.wrong(format_args!("the field {name} is missing")))
    }

    /// A text.
    ///
    /// # Errors
    /// [`MoveError::Line`] when the field is missing or something else; likewise for the others.
    pub fn text(&self, name: &str) -> Result<&str, MoveError> {
        self.field(name)?.as_str().ok_or_else(|| self.wrong(format_args!("the field {name} is no text")))
    }

    /// A number.
    ///
    /// # Errors
    /// See [`Line::text`].
    pub fn number(&self, name: &str) -> Result<i64, MoveError> {
        self.field(name)?.as_i64().ok_or_else(|| self.wrong(format_args!("the field {name} is no whole number")))
    }

    /// An id.
    ///
    /// # Errors
    /// See [`Line::text`].
    pub fn id(&self, name: &str) -> Result<Uuid, MoveError> {
        self.text(name)?.parse().map_err(|error| self.wrong(format_args!("the field {name} is no id: {error}")))
    }

    /// Whether the field is there and not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }
}

/// A table of a SQL store as records: the one list from which they are read, checked and written.
#[derive(Debug)]
pub struct Kind {
    /// What its records are called.
    pub name: &'static str,
    /// The table.
    pub table: &'static str,
    /// The columns by which records are ordered.
    pub key: &'static [&'static str],
    /// Whether the table has one row, made with it.
    pub one: bool,
    /// The columns that go along.
    pub fields: &'static [(&'static str, Type)],
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A UUID.
    Id,
    /// Bytes; in a record they are hexadecimal.
    Bytes,
    /// Text.
    Text,
    /// A list of texts.
    Texts,
    /// A whole number.
    Number,
    /// Yes or no.
    Flag,
}

impl Kind {
    /// The kind's type of this field.
    #[must_use]
    pub fn type_of(&self, field: &str) -> Option<Type> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, kind)| *kind)
    }

    /// Whether the line has fields of this kind only, each of its type or null.
    ///
    /// # Errors
    /// [`MoveError::Line`] with the field.
    pub fn check(&self, line: &Line) -> Result<(), MoveError> {
        for (name, value) in &line.fields {
            let Some(kind) = self.type_of(name) else {
                return Err(line.wrong(format_args!("the field {name} is not known")));
            };
            let fits = match kind {
                _ if value.is_null() => true,
                Type::Id => value.as_str().is_some_and(|text| text.parse::<Uuid>().is_ok()),
                Type::Bytes => value.as_str().is_some_and(is_hex),
                Type::Text => value.is_string(),
                Type::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
                Type::Number => value.is_i64(),
                Type::Flag => value.is_boolean(),
            };
            if !fits {
                return Err(line.wrong(format_args!("the field {name} is not what it must be")));
            }
        }
        match self.key.iter().find(|key| !self.one && !line.has(key)) {
            Some(key) => Err(line.wrong(format_args!("the field {key} is missing"))),
            None => Ok(()),
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Bytes as records have them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a store remembers of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The id of the file.
    pub file: Uuid,
    /// Whether all of it is here, and has been checked.
    pub done: bool,
}

/// Where a store keeps its mark.
#[async_trait]
pub trait Marks: Send + Sync {
    /// What it remembers of an import.
    async fn get(&self) -> Result<Option<Mark>, MoveError>;

    /// Remembers an import.
    async fn set(&self, mark: Mark) -> Result<(), MoveError>;

    /// Lets go of the store.
    async fn close(&self);
}

/// Why moving stopped.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A record is not good.
    #[error("line {number}: {what}")]
    Line {
        /// Where it is in its file.
        number: u64,
        /// What is wrong with it; never what it holds.
        what: String,
    },
    /// A store did not do what was asked.
    #[error("{0}")]
    Store(String),
    /// Whoever takes the records has gone.
    #[error("nobody takes the records any more")]
    Gone,
}

impl MoveError {
    /// A store's failure; the sentence must not hold what is stored.
    pub fn store(what: impl fmt::Display) -> Self {
        Self::Store(what.to_string())
    }
}

/// Where records go on their way out.
#[derive(Clone, Debug)]
pub struct Out(pub mpsc::Sender<Record>);

impl Out {
    /// Hands one on, waiting while those before it are being taken.
    ///
    /// # Errors
    /// [`MoveError::Gone`].
    pub async fn put(&self, record: Record) -> Result<(), MoveError> {
        self.0.send(record).await.map_err(|_gone| MoveError::Gone)
    }
}

/// One service's store, as moving sees it.
#[async_trait]
pub trait House: Send + Sync {
    /// The kinds of records that it holds, in the order in which they come, each with its fields.
    fn kinds(&self) -> Vec<(&'static str, Vec<&'static str>)>;

    /// Hands out all that it holds, in an order that is the same for the same content in every backend. Of what changes
    /// meanwhile, an account with its sessions is seen as of one moment, and so is a room with its log and its members.
    async fn export(&self, out: &Out) -> Result<(), MoveError>;

    /// Whether it holds nothing that a record would be made of.
    async fn is_empty(&self) -> Result<bool, MoveError>;

    /// Writes records in the order of their file. Those that are there already, because an import was cut, change nothing.
    async fn write(&self, lines: Vec<Line>) -> Result<(), MoveError>;

    /// What it remembers of imports.
    fn marks(&self) -> &dyn Marks;

    /// Lets go of the store.
    async fn close(&self);
}
