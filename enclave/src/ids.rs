//! Names of tenants, vendors, clients, providers, apps, grants, targets
//! and operations.
//!
//! All share one grammar: 1 to 63 of `a-z`, `0-9` and single `-` inside, so that
//! each is one safe URL segment and part of a DNS label.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::shared::{Share, Shared};

/// The longest id in bytes.
pub const MAX_ID_BYTES: usize = 63;

/// Why a string is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It has more than [`MAX_ID_BYTES`] bytes.
    #[error("must have at most 63 characters")]
    TooLong,
    /// It has a character other than `a-z`, `0-9` and `-`.
    #[error("may have a-z, 0-9 and - only")]
    Character,
    /// It starts or ends with `-` or has two in a row.
    #[error("may have single - inside only")]
    Hyphen,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err(IdError::Character);
    }
    if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
        return Err(IdError::Hyphen);
    }
    Ok(())
}

/// Reads an id's text where it stands, without a copy between.
struct Text;

impl Visitor<'_> for Text {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Arc<str>, E> {
        check(text).map_err(E::custom)?;
        Ok(text.into())
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text).map(Self)
            }
        }

        impl $name {
            /// Reads an id.
            ///
            /// # Errors
            /// [`IdError`] if the text is outside the grammar.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Share<str> for $name {
            fn share(&mut self, kept: &mut Shared<str>) {
                kept.keep(&mut self.0);
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A tenant.
    TenantId
}
id! {
    /// A tenant's webhook.
    WebhookId
}
id! {
    /// A vendor.
    VendorId
}
id! {
    /// A client.
    ClientId
}
id! {
    /// A provider.
    ProviderId
}
id! {
    /// An app.
    AppId
}
id! {
    /// A grant.
    GrantId
}
id! {
    /// A provider's target.
    TargetName
}
id! {
    /// An operation of a target.
    OperationId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_of_the_grammar_refuses() {
        let long = "a".repeat(64);
        let rows = [
            ("a", Ok(())),
            ("acme-crm-2", Ok(())),
            (&long[..63], Ok(())),
            ("", Err(IdError::Empty)),
            (&long, Err(IdError::TooLong)),
            ("Acme", Err(IdError::Character)),
            ("a_b", Err(IdError::Character)),
            ("a/b", Err(IdError::Character)),
            ("a.b", Err(IdError::Character)),
            ("é", Err(IdError::Character)),
            ("-a", Err(IdError::Hyphen)),
            ("a-", Err(IdError::Hyphen)),
            ("a--b", Err(IdError::Hyphen)),
        ];
        for (text, expected) in rows {
            assert_eq!(TenantId::parse(text).map(|_| ()), expected, "{text:?}");
        }
    }
}
