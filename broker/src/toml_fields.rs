//! Reads the fields of a TOML file one by one, and collects every fault.
//!
//! serde stops at the first fault; whoever writes a configuration wants all.

use std::fmt;
use std::ops::RangeInclusive;
use toml::{Table, Value};

/// One thing that is wrong with a file, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field's full name, as `limits.request_s`; empty for the file itself.
    pub field: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{}: {}", self.field, self.problem)
        }
    }
}

/// The fields of one table that were not read yet.
#[derive(Debug)]
pub struct Fields {
    name: String,
    table: Table,
}

impl Fields {
    /// The top table of a file.
    #[must_use]
    pub fn top(table: Table) -> Self {
        Self {
            name: String::new(),
            table,
        }
    }

    /// A table within this one; an absent one is empty.
    pub fn section(&mut self, name: &str, faults: &mut Vec<Fault>) -> Self {
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let problem = format!("is {}; write a table, [{name}]", kind(&other));
                faults.push(self.fault(name, problem));
                Table::new()
            }
        };
        Self {
            name: self.full(name),
            table,
        }
    }

    /// A text that must be there.
    pub fn text(&mut self, name: &str, wanted: &str, faults: &mut Vec<Fault>) -> Option<String> {
        match self.table.remove(name) {
            Some(value) => self.as_text(name, value, wanted, faults),
            None => {
                faults.push(self.fault(name, format!("is missing; write {wanted}")));
                None
            }
        }
    }

    /// A text that may be absent.
    pub fn optional_text(
        &mut self,
        name: &str,
        wanted: &str,
        faults: &mut Vec<Fault>,
    ) -> Option<String> {
        let value = self.table.remove(name)?;
        self.as_text(name, value, wanted, faults)
    }

    /// A text that `parse` understands.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        wanted: &str,
        faults: &mut Vec<Fault>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name, wanted, faults)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            faults.push(self.fault(name, format!("is {text:?}; write {wanted}")));
        }
        parsed
    }

    /// As [`parsed`](Self::parsed), with a default for an absent field.
    pub fn parsed_or<T>(
        &mut self,
        name: &str,
        wanted: &str,
        default: T,
        faults: &mut Vec<Fault>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        if self.table.contains_key(name) {
            self.parsed(name, wanted, faults, parse).unwrap_or(default)
        } else {
            default
        }
    }

    /// A whole number within bounds, or the default.
    pub fn number(
        &mut self,
        name: &str,
        bounds: RangeInclusive<u64>,
        default: u64,
        faults: &mut Vec<Fault>,
    ) -> u64 {
        let Some(value) = self.table.remove(name) else {
            return default;
        };
        let (low, high) = (bounds.start(), bounds.end());
        let problem = match value.as_integer() {
            Some(number) => match u64::try_from(number) {
                Ok(number) if bounds.contains(&number) => return number,
                Ok(_) | Err(_) => format!("is {number}; write a number from {low} to {high}"),
            },
            None => format!("is {}; write a number from {low} to {high}", kind(&value)),
        };
        faults.push(self.fault(name, problem));
        default
    }

    /// Ends the reading: whatever was not read is not known.
    pub fn end(self, faults: &mut Vec<Fault>) {
        for name in self.table.keys() {
            faults.push(self.fault(name, "is not known; remove it".to_owned()));
        }
    }

    /// A fault of a field of this table.
    #[must_use]
    pub fn fault(&self, name: &str, problem: String) -> Fault {
        Fault {
            field: self.full(name),
            problem,
        }
    }

    fn as_text(
        &self,
        name: &str,
        value: Value,
        wanted: &str,
        faults: &mut Vec<Fault>,
    ) -> Option<String> {
        match value {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::String(_) => {
                faults.push(self.fault(name, format!("is empty; write {wanted}")));
                None
            }
            other @ (Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_)) => {
                let problem = format!("is {}; write {wanted}", kind(&other));
                faults.push(self.fault(name, problem));
                None
            }
        }
    }

    fn full(&self, name: &str) -> String {
        if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.name)
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
