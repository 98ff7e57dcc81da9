//! A change of a tenant's policy, as its owner signs it.

use std::fmt::Write;

/// Which change: what a signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange<'a> {
    /// The issuer of the service that it is for.
    pub issuer: &'a str,
    /// Whose policy.
    pub tenant: &'a str,
    /// The number that the policy has after it. It rises with each change, so that a signature is good once.
    pub sequence: u64,
    /// SHA-256 of the policy before it; none if there was none.
    pub before: Option<[u8; 32]>,
    /// SHA-256 of the policy after it; none if it is removed.
    pub after: Option<[u8; 32]>,
}

impl PolicyChange<'_> {
    /// The text that is signed: one line each, so that it can be read before it is.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self {
            issuer,
            tenant,
            sequence,
            before,
            after,
        } = self;
        let (before, after) = (hex(before.as_ref()), hex(after.as_ref()));
        format!(
            "tokenkeep policy change\nissuer {issuer:?}\ntenant {tenant:?}\nsequence {sequence}\nbefore {before}\nafter {after}\n"
        )
    }
}

fn hex(sha256: Option<&[u8; 32]>) -> String {
    let Some(sha256) = sha256 else {
        return "none".to_owned();
    };
    sha256.iter().fold(String::new(), |mut text, b| {
        // Writing to a string does not fail.
        write!(text, "{b:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_covered() {
        let change = PolicyChange {
            issuer: "https://keep.example",
            tenant: "acme",
            sequence: 7,
            before: None,
            after: Some([0xab; 32]),
        };
        let ab = "ab".repeat(32);
        assert_eq!(
            change.to_text(),
            format!(
                "tokenkeep policy change\nissuer \"https://keep.example\"\ntenant \"acme\"\nsequence 7\nbefore none\nafter {ab}\n"
            )
        );
        let others = [
            PolicyChange {
                issuer: "https://keep.example\"\ntenant \"acme",
                ..change.clone()
            },
            PolicyChange {
                tenant: "other",
                ..change.clone()
            },
            PolicyChange {
                sequence: 8,
                ..change.clone()
            },
            PolicyChange {
                before: Some([0; 32]),
                ..change.clone()
            },
            PolicyChange {
                after: None,
                ..change.clone()
            },
        ];
        for other in others {
            assert_ne!(other.to_text(), change.to_text());
        }
    }
}
