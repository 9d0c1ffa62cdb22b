//! What fuzz targets and counted paths are fed with: good examples that an engine edits, so that most of what comes is nearly good and gets
//! deep into a parser, and JSON made of bytes. The engine is bolero's: it makes the [`Edits`]; under `cargo test` they
//! are random, under `cargo bolero test` they follow what the parser does with them. `docs/testing.md` has the commands.

use std::env;

use serde_json::{Map, Value};

/// What an engine makes: which example and how many edits, and the edits: a kind, a place, and a byte for it.
pub type Edits = (u8, Vec<(u8, u16, u8)>);

/// One more than the most edits of one example: with more of them nothing of it is left.
const EDITS_END: u8 = 7;
/// The longest that edits make an example.
const BYTES_MAX: usize = 1 << 16;

/// What has broken parsers before.
const WORDS: [&str; 28] = [
    "\0",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{202e}",
    "ß",
    "é",
    "😀",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-0",
    "1e999",
    "9007199254740993",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "NaN",
    "%00",
    "../",
    "=",
];

/// An example as it was edited.
#[must_use]
pub fn bytes<T: AsRef<[u8]>>(examples: &[T], edits: &Edits) -> Vec<u8> {
    let pick = |number: u8| examples.get(usize::from(number) % examples.len().max(1)).map_or(&[][..], AsRef::as_ref);
    let mut bytes = pick(edits.0 / EDITS_END).to_vec();
    for (kind, place, byte) in edits.1.iter().take(usize::from(edits.0 % EDITS_END)) {
        let place = usize::from(*place) % (bytes.len() + 1);
        match kind % 8 {
            0 => bytes.insert(place, *byte),
            1 => bytes.truncate(place),
            2 => drop(bytes.drain(place..(place + usize::from(*byte)).min(bytes.len()))),
            3 => splice(&mut bytes, place, WORDS[usize::from(*byte) % WORDS.len()].as_bytes()),
            4 => {
                let piece = bytes[place..(place + 16).min(bytes.len())].repeat(usize::from(*byte));
                splice(&mut bytes, place, &piece);
            }
            5 => splice(&mut bytes, place, pick(*byte)),
            6 if place < bytes.len() => bytes[place] ^= 1 << (byte % 8),
            _ if place < bytes.len() => bytes[place] = *byte,
            _ => bytes.push(*byte),
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// An example as it was edited, as text.
#[must_use]
pub fn text<T: AsRef<[u8]>>(examples: &[T], edits: &Edits) -> String {
    String::from_utf8_lossy(&bytes(examples, edits)).into_owned()
}

fn splice(bytes: &mut Vec<u8>, place: usize, piece: &[u8]) {
    drop(bytes.splice(place..place, piece.iter().copied()));
}

/// A JSON value of any shape, made of these bytes: at most 12 levels deep.
#[must_use]
pub fn json(bytes: &[u8]) -> Value {
    value(&mut bytes.iter().copied(), 12)
}

/// A JSON object of any shape.
#[must_use]
pub fn object(bytes: &[u8]) -> Map<String, Value> {
    let mut bytes = bytes.iter().copied();
    let mut object = Map::new();
    while bytes.len() > 0 && object.len() < 16 {
        object.insert(word(&mut bytes), value(&mut bytes, 11));
    }
    object
}

fn value(bytes: &mut (impl Iterator<Item = u8> + Clone), depth: usize) -> Value {
    let Some(kind) = bytes.next() else { return Value::Null };
    match kind % 8 {
        0 => Value::Null,
        1 => Value::Bool(kind > 127),
        2 => Value::from(i64::from_be_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0))) >> (kind / 4)),
        3 => {
            // A fraction of few digits: serde_json reads longer ones to within one unit of their last place.
            let number = i32::from_be_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0)));
            Value::from(f64::from(number) / 1024.0)
        }
        4 | 5 => Value::String(word(bytes)),
        6 if depth > 0 => Value::Array((0..kind / 64 + 1).map(|_| value(bytes, depth - 1)).collect()),
        7 if depth > 0 => Value::Object((0..kind / 64 + 1).map(|_| (word(bytes), value(bytes, depth - 1))).collect()),
        _ => Value::Null,
    }
}

fn word(bytes: &mut impl Iterator<Item = u8>) -> String {
    let length = usize::from(bytes.next().unwrap_or(0) % 12);
    let raw: Vec<u8> = bytes.take(length).collect();
    match raw.first() {
        Some(first) if *first > 250 => WORDS[raw.len() % WORDS.len()].to_owned(),
        _ => String::from_utf8_lossy(&raw).into_owned(),
    }
}

/// Checks that whoever is refused is told each field and what is wrong with it, in words of a bounded length.
///
/// # Panics
/// When it is not so.
pub fn check_violations<'a>(violations: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let mut named = 0;
    for (field, message) in violations {
        named += 1;
        assert!(!field.is_empty() && field.len() < 200, "{field}");
        assert!(!message.is_empty() && message.len() < 500, "{field}: {message}");
    }
    assert!(named > 0, "a refusal that names no field");
}

/// How often a path is run whose instructions are counted; `bench/instructions` says it by `SWITCHBOARD_TEST_ROUNDS`.
#[must_use]
pub fn rounds() -> usize {
    env::var("SWITCHBOARD_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}
