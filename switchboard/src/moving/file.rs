//! The file that records travel in: JSON Lines. The first line says what it is, each further one is a record, and the last
//! has the count and the SHA-256 of the records of each kind, so that a file that was cut or damaged is known as such. It
//! knows no store.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, Read as _},
};

use aws_lc_rs::digest::{Context, SHA256};
use mesh::{
    moving::{Line, hex},
    time::Millis,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The version of the file that this program writes and reads.
const FORMAT: u32 = 1;
/// What the first line is called.
const FIRST: &str = "switchboard";
/// What the last line is called.
const LAST: &str = "end";
/// Bytes of one line: a room's largest message with its metadata is some 100 KiB, so a longer line is none of ours.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It is not there, or may not be read.
    #[error("{0} cannot be read: {1}")]
    Open(String, #[source] io::Error),
    /// It cannot be read on.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It ends before its first line does.
    #[error("the file has not one whole line: it is empty, or was cut")]
    Empty,
    /// It ends too early.
    #[error("the file ends after line {0} without its last line: it was cut, or its export is not done")]
    Cut(u64),
    /// A line is not good.
    #[error("line {0}: {1}")]
    Line(u64, String),
    /// Another program's.
    #[error(
        "the file is of format {0}, and this program reads {FORMAT}: use the version that wrote it, or a newer one"
    )]
    Format(u32),
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    kind: String,
    format: u32,
    /// Names this file: an import that was cut goes on only with the same one.
    pub(crate) id: Uuid,
    made_at: String,
    version: String,
    /// The fields of each kind.
    pub(crate) fields: BTreeMap<String, Vec<String>>,
}

impl Header {
    /// Of a new file.
    pub(crate) fn new(fields: BTreeMap<String, Vec<String>>) -> Self {
        Self {
            kind: FIRST.into(),
            format: FORMAT,
            id: Uuid::new_v4(),
            made_at: Millis::now().to_rfc3339(),
            version: env!("CARGO_PKG_VERSION").into(),
            fields,
        }
    }

    /// The kinds of which the stores do not hold what was written. Records of a file from before some fields are read back
    /// with what these are by default, so they are only counted, and of a kind that is newer than the file nothing was
    /// written.
    pub(crate) fn differing<'a>(
        &self,
        written: &'a Sums,
        found: &'a Sums,
        known: &BTreeMap<String, Vec<String>>,
    ) -> Vec<&'a str> {
        let differs = |kind: &&str| match self.fields.get(*kind) {
            None => false,
            Some(fields) if Some(fields) == known.get(*kind) => true,
            Some(_) => written.count_of(kind) != found.count_of(kind),
        };
        written.differing(found).into_iter().filter(differs).collect()
    }

    /// As a line.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("invariant: text keys") + "\n"
    }
}

/// The counts and hashes of records, kind by kind.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<String, (u64, Option<Context>)>);

/// A tally that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums(pub(crate) BTreeMap<String, Sum>);

/// Of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct End {
    kind: String,
    records: Sums,
}

impl Tally {
    /// Takes in a record, without the end of its line.
    pub(crate) fn add(&mut self, kind: &str, text: &[u8]) {
        if !self.0.contains_key(kind) {
            self.0.insert(kind.to_owned(), (0, Some(Context::new(&SHA256))));
        }
        if let Some((count, Some(context))) = self.0.get_mut(kind) {
            *count += 1;
            context.update(text);
            context.update(b"\n");
        }
    }

    pub(crate) fn sums(self) -> Sums {
        let sum = |context: Option<Context>| context.map(|context| hex(context.finish().as_ref())).unwrap_or_default();
        Sums(self.0.into_iter().map(|(kind, (count, context))| (kind, Sum { count, sha256: sum(context) })).collect())
    }
}

impl Sums {
    /// As the last line.
    pub(crate) fn line(&self) -> String {
        let end = End { kind: LAST.into(), records: self.clone() };
        serde_json::to_string(&end).expect("invariant: text keys") + "\n"
    }

    /// How many records of this kind there are.
    fn count_of(&self, kind: &str) -> u64 {
        self.0.get(kind).map_or(0, |sum| sum.count)
    }

    /// How many records there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.values().map(|sum| sum.count).sum()
    }

    /// The kinds in which the other differs.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let kinds = self.0.keys().chain(other.0.keys().filter(|kind| !self.0.contains_key(*kind)));
        kinds.filter(|kind| self.0.get(*kind) != other.0.get(*kind)).map(String::as_str).collect()
    }
}

/// `3 account, 1 person`.
impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(kind, sum)| format!("{} {kind}", sum.count)).collect();
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// Reads a file line by line, and checks it at its end.
pub(crate) struct Reader<R> {
    input: R,
    number: u64,
    tally: Tally,
    /// The first line.
    pub(crate) header: Header,
    /// What the last line has, once it has been read.
    pub(crate) sums: Option<Sums>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    pub(crate) fn open(mut input: R) -> Result<Self, FileError> {
        let mut number = 0;
        let first = next_line(&mut input, &mut number)?.ok_or(FileError::Empty)?;
        let what = "this is no export of Switchboard";
        let found: Map<String, Value> =
            serde_json::from_slice(&first).map_err(|_no_json| FileError::Line(1, what.into()))?;
        if found.get("kind").and_then(Value::as_str) != Some(FIRST) {
            return Err(FileError::Line(1, what.into()));
        }
        match found.get("format").and_then(Value::as_u64).and_then(|format| u32::try_from(format).ok()) {
            Some(FORMAT) => {}
            Some(other) => return Err(FileError::Format(other)),
            None => return Err(FileError::Line(1, what.into())),
        }
        let header = serde_json::from_slice(&first).map_err(|error| FileError::Line(1, error.to_string()))?;
        Ok(Self { input, number, tally: Tally::default(), header, sums: None })
    }

    /// The next record; none after the last one, when the counts and hashes have been found right.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, FileError> {
        if self.sums.is_some() {
            return Ok(None);
        }
        let before = self.number;
        let Some(text) = next_line(&mut self.input, &mut self.number)? else { return Err(FileError::Cut(before)) };
        let number = self.number;
        let wrong = |what: String| FileError::Line(number, what);
        // serde_json's own text may quote what the line holds.
        let mut fields: Map<String, Value> = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("this is no JSON object (at byte {} of the line)", error.column())))?;
        let Some(Value::String(kind)) = fields.remove("kind") else {
            return Err(wrong("the field kind is missing".into()));
        };
        if kind == LAST {
            return self.finish(&text).map(|()| None);
        }
        if !self.header.fields.contains_key(&kind) {
            return Err(wrong("its kind is not among those that the first line names".into()));
        }
        self.tally.add(&kind, &text);
        Ok(Some(Line { number, kind, fields }))
    }

    fn finish(&mut self, text: &[u8]) -> Result<(), FileError> {
        let number = self.number;
        let end: End = serde_json::from_slice(text).map_err(|error| FileError::Line(number, error.to_string()))?;
        let found = std::mem::take(&mut self.tally).sums();
        let differing = found.differing(&end.records);
        if !differing.is_empty() {
            let what =
                format!("the file is damaged: its records of {} are not those that were written", differing.join(", "));
            return Err(FileError::Line(number, what));
        }
        if next_line(&mut self.input, &mut self.number)?.is_some() {
            return Err(FileError::Line(number + 1, "there is more after the last line".into()));
        }
        self.sums = Some(end.records);
        Ok(())
    }
}

/// The next line without its end. A line that is not ended is none: the file was cut in the middle of it.
fn next_line(input: &mut impl BufRead, number: &mut u64) -> Result<Option<Vec<u8>>, FileError> {
    let mut line = Vec::new();
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.pop() == Some(b'\n') {
        *number += 1;
        return Ok(Some(line));
    }
    if u64::try_from(read).unwrap_or(u64::MAX) >= LINE_BYTES_MAX {
        return Err(FileError::Line(*number + 1, format!("it is longer than {LINE_BYTES_MAX} bytes")));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> String {
        let fields = BTreeMap::from([("note".to_owned(), vec!["n".to_owned()])]);
        let mut tally = Tally::default();
        let notes = [r#"{"kind":"note","n":1}"#, r#"{"kind":"note","n":2}"#];
        notes.iter().for_each(|note| tally.add("note", note.as_bytes()));
        format!("{}{}\n{}\n{}", Header::new(fields).line(), notes[0], notes[1], tally.sums().line())
    }

    fn read(text: &str) -> Result<u64, String> {
        let mut reader = Reader::open(text.as_bytes()).map_err(|error| error.to_string())?;
        let mut count = 0;
        while reader.next().map_err(|error| error.to_string())?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn a_whole_file_is_read_to_its_end() {
        assert_eq!(read(&file()), Ok(2));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_known_as_such() {
        let whole = file();
        for end in 0..whole.len() {
            let error = read(&whole[..end]).expect_err("is cut");
            assert!(error.contains("was cut"), "{end}: {error}");
        }
    }

    #[test]
    fn what_was_written_is_compared_by_all_that_the_file_says_of_it() {
        let fields = |names: &[&str]| {
            let of_kind = |name: &&str| ((*name).to_owned(), vec!["n".to_owned()]);
            names.iter().map(of_kind).collect::<BTreeMap<_, _>>()
        };
        let sums = |records: &[(&str, &str)]| {
            let mut tally = Tally::default();
            records.iter().for_each(|(kind, text)| tally.add(kind, text.as_bytes()));
            tally.sums()
        };
        let (written, known) = (sums(&[("note", "1"), ("note", "2")]), fields(&["note", "newer"]));
        let header = Header::new(fields(&["note"]));
        for (found, differing) in [
            (sums(&[("note", "1"), ("note", "2"), ("newer", "by default")]), &[][..]),
            (sums(&[("note", "2"), ("note", "1")]), &["note"]),
            (sums(&[("note", "1")]), &["note"]),
            (sums(&[]), &["note"]),
        ] {
            assert_eq!(header.differing(&written, &found, &known), differing, "{found:?}");
        }
        // The same file, when notes have got another field.
        let mut known = known;
        known.entry("note".into()).or_default().push("more".into());
        for (found, differing) in
            [(sums(&[("note", "1 more"), ("note", "2 more")]), &[][..]), (sums(&[("note", "1 more")]), &["note"])]
        {
            assert_eq!(header.differing(&written, &found, &known), differing, "{found:?}");
        }
    }

    #[test]
    fn what_is_damaged_is_named_with_its_line() {
        let whole = file();
        for (from, to, words) in [
            (r#""n":2"#, r#""n":3"#, "line 4: the file is damaged: its records of note"),
            (r#"{"kind":"note","n":2}"#, r#"{"kind":"note","n":2"#, "line 3: this is no JSON"),
            (r#"{"kind":"note","n":2}"#, r#"{"kind":"other","n":2}"#, "line 3: its kind"),
            (r#"{"kind":"note","n":2}"#, r#"{"n":2}"#, "line 3: the field kind"),
            (r#""format":1"#, r#""format":2"#, "format 2"),
            (r#"{"kind":"switchboard""#, r#"{"kind":"x""#, "line 1: this is no export"),
        ] {
            let error = read(&whole.replacen(from, to, 1)).expect_err(to);
            assert!(error.contains(words), "{to}: {error}");
        }
        let error = read(&(whole + "{}\n")).expect_err("more");
        assert!(error.contains("line 5"), "{error}");
    }
}
