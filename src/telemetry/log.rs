//! How a log line looks: one JSON object or one line for people, always with the trace's id. It keeps nothing about
//! spans, which is why it is a layer of its own: the usual one formats every span's fields in case that an event comes.

use std::{
    cell::Cell,
    fmt::{self, Write as _},
    io::Write as _,
};

use serde::Serialize;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::MakeWriter,
    layer::{Context, Layer},
};

use super::trace;
use crate::time::Millis;

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    /// One JSON object a line.
    Json,
    /// For people.
    Human { colour: bool },
}

/// Writes each event as one line.
pub(super) struct LogLayer<W> {
    writer: W,
    style: Style,
    service: Box<str>,
}

impl<W> LogLayer<W> {
    pub(super) fn new(writer: W, style: Style, service: &str) -> Self {
        Self { writer, style, service: service.into() }
    }
}

thread_local! {
    /// The last line's memory, for the next line. Taken while in use, so that a value that logs while it is printed
    /// gets an empty one.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A longer line's memory is not kept.
const LINE_BYTES_KEPT: usize = 16 * 1024;

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = LINE.take();
        line.clear();
        match self.style {
            Style::Json => json(&mut line, &self.service, event),
            Style::Human { colour } => human(&mut line, colour, event),
        }
        line.push(b'\n');
        // Nowhere is left to report to when the log itself cannot be written.
        if self.writer.make_writer_for(event.metadata()).write_all(&line).is_ok() && line.capacity() <= LINE_BYTES_KEPT
        {
            LINE.set(line);
        }
    }
}

/// The target of events that come by the `log` crate is in a field.
#[derive(Default)]
struct LogTarget(Option<String>);

impl Visit for LogTarget {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

fn with_target(event: &Event<'_>, then: impl FnOnce(&str)) {
    let target = event.metadata().target();
    if target == "log" {
        let mut real = LogTarget::default();
        event.record(&mut real);
        then(real.0.as_deref().unwrap_or(target));
    } else {
        then(target);
    }
}

fn json(line: &mut Vec<u8>, service: &str, event: &Event<'_>) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    line.extend_from_slice(Millis::now().to_rfc3339().as_bytes());
    line.extend_from_slice(b"\",\"level\":\"");
    line.extend_from_slice(event.metadata().level().as_str().as_bytes());
    line.push(b'"');
    let mut fields = JsonFields { line };
    fields.put("service.name", &service);
    with_target(event, |target| fields.put("target", &target));
    event.record(&mut fields);
    trace::current(|span| {
        fields.put("trace_id", &format_args!("{}", span.trace_id()));
        fields.put("span_id", &format_args!("{}", span.span_id()));
    });
    line.push(b'}');
}

struct JsonFields<'a> {
    line: &'a mut Vec<u8>,
}

impl JsonFields<'_> {
    fn put(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        let start = self.line.len();
        self.line.push(b',');
        let written = serde_json::to_writer(&mut *self.line, name).and_then(|()| {
            self.line.push(b':');
            serde_json::to_writer(&mut *self.line, value)
        });
        if written.is_err() {
            // A value whose `Display` fails: the line stays JSON without it.
            self.line.truncate(start);
        }
    }
}

impl Visit for JsonFields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if !field.name().starts_with("log.") {
            self.put(field.name(), value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !field.name().starts_with("log.") {
            self.put(field.name(), &format_args!("{value:?}"));
        }
    }
}

fn human(line: &mut Vec<u8>, colour: bool, event: &Event<'_>) {
    let level = *event.metadata().level();
    line.extend_from_slice(Millis::now().to_rfc3339().as_bytes());
    let (on, off) = if colour { (ansi(level), "\x1b[0m") } else { ("", "") };
    let mut text = Text(line);
    text.format(format_args!(" {on}{:<5}{off} ", level.as_str()));
    with_target(event, |target| text.format(format_args!("{target}:")));
    // The message first, wherever it stands among the fields.
    event.record(&mut HumanFields { text: &mut text, message: true });
    event.record(&mut HumanFields { text: &mut text, message: false });
    trace::current(|span| text.format(format_args!(" trace_id={}", span.trace_id())));
}

fn ansi(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Text into bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl Text<'_> {
    fn format(&mut self, text: fmt::Arguments<'_>) {
        if self.write_fmt(text).is_err() {
            self.0.extend_from_slice("(cannot be printed)".as_bytes());
        }
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Text with control characters escaped, so that nobody can forge a second line or colour the terminal.
struct Escaped<'a, 'b>(&'a mut Text<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            match part.char_indices().next_back() {
                Some((at, last)) if last.is_control() => {
                    self.0.write_str(&part[..at])?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                _ => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

struct HumanFields<'a, 'b> {
    text: &'a mut Text<'b>,
    /// Whether this pass writes the message, or all the others.
    message: bool,
}

impl HumanFields<'_, '_> {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let name = field.name();
        if (name == "message") != self.message || name.starts_with("log.") {
            return;
        }
        if self.message {
            self.text.format(format_args!(" "));
        } else {
            self.text.format(format_args!(" {name}="));
        }
        if write!(Escaped(self.text), "{value}").is_err() {
            self.text.format(format_args!("(cannot be printed)"));
        }
    }
}

impl Visit for HumanFields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.message || !value.contains([' ', '=', '"']) {
            self.put(field, format_args!("{value}"));
        } else {
            self.put(field, format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}
