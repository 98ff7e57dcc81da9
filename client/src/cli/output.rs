//! The one door to standard output and standard error.

use std::io::{self, Write};

use serde_json::Value;

use super::exit::Exit;
use super::failure::Failure;
use super::record::Record;

/// Writes for people, or JSON for programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// One line for people. What came from elsewhere cannot control the terminal.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        let text = printable(text);
        self.bytes(format!("{text}\n").as_bytes()).map(|_open| ())
    }

    /// One JSON value on one line.
    pub(crate) fn json(self, value: &Value) -> Result<(), Failure> {
        self.bytes(format!("{value}\n").as_bytes()).map(|_open| ())
    }

    /// One record: `name  value` lines, or an object.
    pub(crate) fn record(self, record: &Record) -> Result<(), Failure> {
        if self.json {
            return self.json(&record.to_json());
        }
        record.lines().iter().try_for_each(|line| self.line(line))
    }

    /// Records of one kind: a table, or an object with one array under `name`.
    pub(crate) fn records(self, name: &'static str, records: &[Record]) -> Result<(), Failure> {
        if self.json {
            let all = records.iter().map(Record::to_json).collect();
            return self.json(&Record::new([(name, Value::Array(all))]).to_json());
        }
        if records.is_empty() {
            return self.note(&format!("no {name}"));
        }
        Record::table(records)
            .iter()
            .try_for_each(|line| self.line(line))
    }

    /// Bytes as they are. False if nobody reads any more, which is no failure.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<bool, Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::new(
                Exit::Usage,
                format!("standard output cannot be written: {error}"),
                "check where the output goes",
            )),
        }
    }

    /// A remark on standard error, for people only.
    pub(crate) fn note(self, text: &str) -> Result<(), Failure> {
        if !self.json {
            complain(&printable(text));
        }
        Ok(())
    }

    /// A status on standard error: a line, or one JSON object.
    pub(crate) fn status(self, text: &str, json: &Value) {
        if self.json {
            complain(&json.to_string());
        } else {
            complain(&printable(text));
        }
    }

    /// A failure on standard error.
    pub(crate) fn failure(self, failure: &Failure) {
        self.status(&failure.for_people(), &failure.to_json());
    }
}

/// Standard error is the last resort: if it is closed, there is nobody to tell.
fn complain(text: &str) {
    writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
}

/// Text without control characters but line ends.
fn printable(text: &str) -> String {
    let safe = |character: char| match character {
        '\n' => character,
        other if other.is_control() => '\u{fffd}',
        other => other,
    };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_controls_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[31mb\r\u{9b}c\n"),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}c\n"
        );
    }
}
