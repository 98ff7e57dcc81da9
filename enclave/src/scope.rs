//! OAuth scopes [RFC 6749 §3.3]: sets of scope tokens.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::shared::{Share, Shared};

/// The most scopes in a set.
pub const MAX_SCOPES: usize = 64;

/// The longest scope token in bytes.
pub const MAX_SCOPE_BYTES: usize = 256;

/// Why a list of scopes was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScopeError {
    /// A scope token is empty or longer than [`MAX_SCOPE_BYTES`].
    #[error("a scope must have 1 to 256 characters")]
    Length,
    /// A scope token has a character outside `scope-token` [RFC 6749 §3.3].
    #[error("a scope may have printable ASCII without space, quote and backslash only")]
    Character,
    /// There are more than [`MAX_SCOPES`].
    #[error("at most 64 scopes")]
    TooMany,
}

/// A set of scope tokens, each once and in order. A copy shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Scopes(Arc<[Box<str>]>);

impl Scopes {
    /// Reads scope tokens; the same one twice counts once.
    ///
    /// # Errors
    /// [`ScopeError`] if one is outside the grammar or there are too many.
    pub fn parse<S: AsRef<str>>(tokens: impl IntoIterator<Item = S>) -> Result<Self, ScopeError> {
        let mut set: Vec<Box<str>> = Vec::new();
        for token in tokens {
            let token = token.as_ref();
            if token.is_empty() || token.len() > MAX_SCOPE_BYTES {
                return Err(ScopeError::Length);
            }
            if !token
                .bytes()
                .all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
            {
                return Err(ScopeError::Character);
            }
            if let Err(place) = set.binary_search_by(|known| (**known).cmp(token)) {
                set.insert(place, token.into());
            }
            if set.len() > MAX_SCOPES {
                return Err(ScopeError::TooMany);
            }
        }
        Ok(Self(set.into()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether each of these is in `other`.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.0
            .iter()
            .all(|token| other.0.binary_search(token).is_ok())
    }

    /// The scope tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|token| &**token)
    }
}

impl Share<[Box<str>]> for Scopes {
    fn share(&mut self, kept: &mut Shared<[Box<str>]>) {
        kept.keep(&mut self.0);
    }
}

/// Separated by spaces, as in the parameter `scope`.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, token) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token)?;
        }
        Ok(())
    }
}

impl TryFrom<Vec<String>> for Scopes {
    type Error = ScopeError;

    fn try_from(tokens: Vec<String>) -> Result<Self, ScopeError> {
        Self::parse(tokens)
    }
}

impl From<Scopes> for Vec<String> {
    fn from(scopes: Scopes) -> Self {
        scopes.0.iter().map(|token| (**token).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_refuses() {
        let long = "s".repeat(257);
        let many: Vec<String> = (0..65).map(|i| format!("s{i}")).collect();
        let rows: [(&[&str], Result<&str, ScopeError>); 6] = [
            (&["b", "a", "b"], Ok("a b")),
            (
                &["contacts.read", "https://x.example/y"],
                Ok("contacts.read https://x.example/y"),
            ),
            (&[""], Err(ScopeError::Length)),
            (&[&long], Err(ScopeError::Length)),
            (&["a b"], Err(ScopeError::Character)),
            (&["a\"b"], Err(ScopeError::Character)),
        ];
        for (tokens, expected) in rows {
            let found = Scopes::parse(tokens).map(|s| s.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{tokens:?}");
        }
        assert_eq!(Scopes::parse(&many), Err(ScopeError::TooMany));
    }
}
