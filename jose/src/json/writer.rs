//! Writes one JSON object, member by member, without white space.

use std::fmt::Write as _;

/// An object under construction. The caller gives each name once.
#[derive(Debug, Clone)]
pub struct ObjectWriter {
    text: String,
}

impl ObjectWriter {
    /// An empty object with room for `capacity_bytes` of text.
    pub fn with_capacity(capacity_bytes: usize) -> Self {
        let mut text = String::with_capacity(capacity_bytes);
        text.push('{');
        Self { text }
    }

    /// Adds a string.
    #[must_use]
    pub fn string(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        quote(&mut self.text, value);
        self
    }

    /// Adds a string, if there is one.
    #[must_use]
    pub fn optional_string(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.string(name, value),
            None => self,
        }
    }

    /// Adds an integer.
    #[must_use]
    pub fn u64(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        // Writing to a `String` cannot fail.
        write!(self.text, "{value}").unwrap_or_default();
        self
    }

    /// Adds a value that is JSON already.
    #[must_use]
    pub fn json(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.text.push_str(value);
        self
    }

    /// The finished text.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    fn name(&mut self, name: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        quote(&mut self.text, name);
        self.text.push(':');
    }
}

/// Appends `value` as a JSON string [RFC 8259 §7].
fn quote(text: &mut String, value: &str) {
    text.push('"');
    let needs_escape = |byte: u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    if value.bytes().any(needs_escape) {
        for character in value.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\0'..='\u{1f}' => {
                    // Writing to a `String` cannot fail.
                    write!(text, "\\u{:04x}", u32::from(character)).unwrap_or_default();
                }
                _ => text.push(character),
            }
        }
    } else {
        text.push_str(value);
    }
    text.push('"');
}
