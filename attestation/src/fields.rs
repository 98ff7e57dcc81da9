//! Reads a TOML document field by field and gathers every fault with its path, instead of stopping at the first.

use std::fmt;

use toml::{Table, Value};

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// Where, as in `administrators[0].name`; empty for the document.
    pub path: String,
    /// What is wrong.
    pub problem: FieldProblem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldProblem {
    /// The document is larger than it may be.
    TooLarge {
        /// The most it may have.
        max_bytes: usize,
    },
    /// The document is not TOML; with the parser's message.
    Syntax(String),
    /// There is no such field.
    Unknown,
    /// The field must be there.
    Missing,
    /// The field has another type.
    WrongType {
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The value breaks a rule.
    Invalid {
        /// The rule.
        rule: &'static str,
    },
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, problem } = self;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        match problem {
            FieldProblem::TooLarge { max_bytes } => write!(f, "larger than {max_bytes} bytes"),
            FieldProblem::Syntax(message) => write!(f, "not TOML: {message}"),
            FieldProblem::Unknown => f.write_str("unknown field"),
            FieldProblem::Missing => f.write_str("missing"),
            FieldProblem::WrongType { expected, found } => {
                write!(f, "must be {expected}, is {found}")
            }
            FieldProblem::Invalid { rule } => f.write_str(rule),
        }
    }
}

/// The faults of a document so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FieldFault>);

impl Faults {
    pub(crate) fn push(&mut self, path: impl Into<String>, problem: FieldProblem) {
        self.0.push(FieldFault {
            path: path.into(),
            problem,
        });
    }

    pub(crate) fn invalid(&mut self, path: impl Into<String>, rule: &'static str) {
        self.push(path, FieldProblem::Invalid { rule });
    }

    /// `value` if there is one and no fault; else the faults.
    pub(crate) fn settle<T>(self, value: Option<T>) -> Result<T, Vec<FieldFault>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(self.0),
        }
    }
}

/// Parses a document of at most `max_bytes` into its top table.
pub(crate) fn document(text: &[u8], max_bytes: usize, faults: &mut Faults) -> Option<Fields> {
    if text.len() > max_bytes {
        faults.push("", FieldProblem::TooLarge { max_bytes });
        return None;
    }
    let parsed = std::str::from_utf8(text)
        .map_err(|_| "not UTF-8".to_owned())
        .and_then(|text| {
            text.parse::<Table>()
                .map_err(|error| error.message().to_owned())
        });
    match parsed {
        Ok(table) => Some(Fields {
            path: String::new(),
            table,
        }),
        Err(message) => {
            faults.push("", FieldProblem::Syntax(message));
            None
        }
    }
}

/// A table that is being read: each field is taken out once, and what is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Fields {
    path: String,
    table: Table,
}

impl Fields {
    /// The path of a field of this table.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Takes a field that may be absent.
    pub(crate) fn optional<T: FromField>(&mut self, key: &str, faults: &mut Faults) -> Option<T> {
        let value = self.table.remove(key)?;
        T::read(value, &self.path(key), faults)
    }

    /// Takes a field that must be there.
    pub(crate) fn required<T: FromField>(&mut self, key: &str, faults: &mut Faults) -> Option<T> {
        match self.table.remove(key) {
            Some(value) => T::read(value, &self.path(key), faults),
            None => {
                faults.push(self.path(key), FieldProblem::Missing);
                None
            }
        }
    }

    /// Ends the reading: every field that is left is a fault.
    pub(crate) fn finish(self, faults: &mut Faults) {
        for key in self.table.keys() {
            faults.push(self.path(key), FieldProblem::Unknown);
        }
    }
}

/// What a field can be read as.
pub(crate) trait FromField: Sized {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self>;
}

fn wrong_type<T>(
    value: &Value,
    expected: &'static str,
    path: &str,
    faults: &mut Faults,
) -> Option<T> {
    faults.push(
        path,
        FieldProblem::WrongType {
            expected,
            found: value.type_str(),
        },
    );
    None
}

impl FromField for String {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        match value.as_str() {
            Some(text) => Some(text.to_owned()),
            None => wrong_type(&value, "a string", path, faults),
        }
    }
}

impl FromField for bool {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        value
            .as_bool()
            .or_else(|| wrong_type(&value, "true or false", path, faults))
    }
}

impl FromField for u64 {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        match value.as_integer() {
            Some(number) => Self::try_from(number).ok().or_else(|| {
                faults.invalid(path, "must not be negative");
                None
            }),
            None => wrong_type(&value, "a whole number", path, faults),
        }
    }
}

impl FromField for u32 {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let number = u64::read(value, path, faults)?;
        Self::try_from(number).ok().or_else(|| {
            faults.invalid(path, "must fit 32 bits");
            None
        })
    }
}

impl FromField for u8 {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let number = u64::read(value, path, faults)?;
        Self::try_from(number).ok().or_else(|| {
            faults.invalid(path, "must be at most 255");
            None
        })
    }
}

impl FromField for Fields {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::Table(table) => Some(Self {
                path: path.to_owned(),
                table,
            }),
            other @ (Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)) => wrong_type(&other, "a table", path, faults),
        }
    }
}

/// Bytes written as `2 * N` lower- or upper-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hex<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> FromField for Hex<N> {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let text = String::read(value, path, faults)?;
        let mut bytes = [0; N];
        if hex::decode_to_slice(text.as_bytes(), &mut bytes).is_ok() {
            Some(Self(bytes))
        } else {
            faults.invalid(path, hex_rule(N));
            None
        }
    }
}

/// The rule for hex of `bytes` bytes; rules are static text, so the lengths in use are listed.
const fn hex_rule(bytes: usize) -> &'static str {
    match bytes {
        8 => "must be 16 hex digits",
        16 => "must be 32 hex digits",
        32 => "must be 64 hex digits",
        48 => "must be 96 hex digits",
        64 => "must be 128 hex digits",
        _ => "must be hex digits of the right number",
    }
}

impl<T: FromField> FromField for Vec<T> {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let items = match value {
            Value::Array(items) => items,
            other @ (Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Table(_)) => return wrong_type(&other, "a list", path, faults),
        };
        // Every item is read, so that the faults of all are named.
        let read: Vec<Option<T>> = items
            .into_iter()
            .enumerate()
            .map(|(i, item)| T::read(item, &format!("{path}[{i}]"), faults))
            .collect();
        read.into_iter().collect()
    }
}
