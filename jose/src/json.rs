//! Strict, bounded JSON objects: a text has one meaning here, or none.
//!
//! No duplicate member at any depth (names are compared after their escapes are decoded), nesting and
//! member counts bounded, valid UTF-8 only, no lone surrogate, nothing after the object. Numbers stay
//! text until someone asks for an integer, so none overflows and none is rounded. [RFC 8259; RFC 7515 §4]

use std::borrow::Cow;

mod reader;
mod writer;

pub use writer::ObjectWriter;

/// Deepest nesting that is read; the outermost object counts as one. Everything that JOSE and OAuth
/// nest for us stays below five.
pub const MAX_DEPTH: usize = 8;

/// Most members that one object may have. It keeps the search for duplicates, which is quadratic, small.
pub const MAX_MEMBERS: usize = 64;

/// Why a text is not an acceptable JSON object, or a member not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More bytes than the caller's bound.
    #[error("JSON text too large")]
    TooLarge,
    /// Not valid UTF-8.
    #[error("JSON text is not UTF-8")]
    NotUtf8,
    /// The text does not begin with an object.
    #[error("JSON text is not an object")]
    NotObject,
    /// Not JSON.
    #[error("malformed JSON")]
    Syntax,
    /// An escape names half of a surrogate pair.
    #[error("lone surrogate in JSON string")]
    LoneSurrogate,
    /// Two members of one object have the same name.
    #[error("duplicate JSON member")]
    DuplicateMember,
    /// An object has more than [`MAX_MEMBERS`] members.
    #[error("too many JSON members")]
    TooManyMembers,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("JSON nested too deeply")]
    TooDeep,
    /// Something follows the object.
    #[error("bytes after the JSON object")]
    TrailingBytes,
    /// A required member is absent.
    #[error("JSON member `{0}` is missing")]
    Missing(&'static str),
    /// A member has another type, or a number is no integer in range.
    #[error("JSON member `{0}` has the wrong type")]
    WrongType(&'static str),
}

/// A JSON number as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<'a> {
    text: &'a str,
}

impl<'a> Number<'a> {
    /// The text, which is valid by the grammar of RFC 8259 §6.
    pub fn as_text(self) -> &'a str {
        self.text
    }

    /// The value, when it is written as a plain non-negative integer below 2^64.
    pub fn as_u64(self) -> Option<u64> {
        // `from_str` would take a leading `+`, which the grammar has already refused.
        self.text.parse().ok()
    }

    /// The value, when it is written as a plain integer in the range of `i64`.
    pub fn as_i64(self) -> Option<i64> {
        self.text.parse().ok()
    }
}

/// A JSON value. Arrays and nested objects are checked as a whole but kept as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as text.
    Number(Number<'a>),
    /// A string, its escapes decoded.
    String(Cow<'a, str>),
    /// The text of an array, brackets included; read it with [`elements`].
    Array(&'a str),
    /// The text of an object, braces included; read it with [`Object::parse`].
    Object(&'a str),
}

impl Value<'_> {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }

    /// The number as a `u64`, if it is one; see [`Number::as_u64`].
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Number(number) => number.as_u64(),
            Value::Null
            | Value::Bool(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }
}

/// The members of a JSON object, in the order of the text, names unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Value<'a>)>,
}

impl<'a> Object<'a> {
    /// Reads `bytes`, at most `max_bytes` of them, as exactly one object; white space around it is
    /// allowed.
    ///
    /// # Errors
    /// Any [`JsonError`] but `Missing` and `WrongType`.
    pub fn parse(bytes: &'a [u8], max_bytes: usize) -> Result<Self, JsonError> {
        if bytes.len() > max_bytes {
            return Err(JsonError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
        Ok(Self {
            members: reader::object(text)?,
        })
    }

    /// The member `name`.
    pub fn member(&self, name: &str) -> Option<&Value<'a>> {
        self.members
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// All members, in the order of the text.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.members
            .iter()
            .map(|(name, value)| (name.as_ref(), value))
    }

    /// The string member `name`, if present.
    ///
    /// # Errors
    /// [`JsonError::WrongType`] when it is no string.
    pub fn optional_str(&self, name: &'static str) -> Result<Option<&str>, JsonError> {
        self.member(name)
            .map(|value| value.as_str().ok_or(JsonError::WrongType(name)))
            .transpose()
    }

    /// The string member `name`.
    ///
    /// # Errors
    /// [`JsonError::Missing`], or [`JsonError::WrongType`] when it is no string.
    pub fn str(&self, name: &'static str) -> Result<&str, JsonError> {
        self.optional_str(name)?.ok_or(JsonError::Missing(name))
    }

    /// The integer member `name`, if present; see [`Number::as_u64`].
    ///
    /// # Errors
    /// [`JsonError::WrongType`] when it is no integer from 0 to 2^64 - 1.
    pub fn optional_u64(&self, name: &'static str) -> Result<Option<u64>, JsonError> {
        self.member(name)
            .map(|value| value.as_u64().ok_or(JsonError::WrongType(name)))
            .transpose()
    }

    /// The integer member `name`; see [`Number::as_u64`].
    ///
    /// # Errors
    /// [`JsonError::Missing`], or [`JsonError::WrongType`] when it is no integer from 0 to 2^64 - 1.
    pub fn u64(&self, name: &'static str) -> Result<u64, JsonError> {
        self.optional_u64(name)?.ok_or(JsonError::Missing(name))
    }
}

/// The elements of an array's text, as [`Value::Array`] holds it.
///
/// # Errors
/// Any [`JsonError`] but `Missing` and `WrongType`; none for the text of a [`Value::Array`].
pub fn elements(array: &str) -> Result<Vec<Value<'_>>, JsonError> {
    reader::array(array)
}

#[cfg(test)]
mod tests;
