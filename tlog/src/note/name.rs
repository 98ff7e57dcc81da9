//! The name of a key: what a signature line begins with.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

/// Longest key name: what `cosigned_message` of [C2SP tlog-cosignature] has room for.
pub const MAX_NAME_BYTES: usize = 255;

/// Why text is no key name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyNameError {
    /// No character.
    #[error("a key name is empty")]
    Empty,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("a key name of {found_bytes} bytes is too long")]
    TooLong {
        /// Its length.
        found_bytes: usize,
    },
    /// A space in Unicode's sense, a plus or a control character.
    #[error("a key name holds {found:?}")]
    Character {
        /// The first of them.
        found: char,
    },
}

/// A key's name: 1 to 255 bytes of UTF-8 without space, plus or control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        if text.is_empty() {
            return Err(KeyNameError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(KeyNameError::TooLong {
                found_bytes: text.len(),
            });
        }
        let refused = |c: &char| c.is_whitespace() || *c == '+' || *c < ' ';
        if let Some(found) = text.chars().find(refused) {
            return Err(KeyNameError::Character { found });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_line_are_refused() {
        assert_eq!(
            "example.com/log".parse::<KeyName>().expect("good").as_str(),
            "example.com/log"
        );
        assert_eq!("a".repeat(255).parse::<KeyName>().map(|_| ()), Ok(()));
        let character = |found| KeyNameError::Character { found };
        let rows = [
            (String::new(), KeyNameError::Empty),
            ("a".repeat(256), KeyNameError::TooLong { found_bytes: 256 }),
            ("a b".to_owned(), character(' ')),
            ("a\u{a0}b".to_owned(), character('\u{a0}')),
            ("a\u{2003}b".to_owned(), character('\u{2003}')),
            ("a+b".to_owned(), character('+')),
            ("a\n".to_owned(), character('\n')),
            ("a\0".to_owned(), character('\0')),
        ];
        for (name, error) in rows {
            assert_eq!(name.parse::<KeyName>(), Err(error), "{name:?}");
        }
    }
}
