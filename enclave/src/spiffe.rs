//! SPIFFE IDs and the trust domains that the manifest names [SPIFFE-ID §2].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::VendorId;

/// The longest SPIFFE ID in bytes [SPIFFE-ID §2.3].
pub const MAX_SPIFFE_ID_BYTES: usize = 2_048;

/// The longest trust domain in bytes [SPIFFE-ID §2.1].
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

const SCHEME: &str = "spiffe://";

/// Why a text is no SPIFFE ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SpiffeIdError {
    /// It does not begin with `spiffe://`, or is too long.
    #[error("must be spiffe://TRUST-DOMAIN/PATH with at most 2048 characters")]
    Form,
    /// The trust domain is empty, too long, or has another character.
    #[error("the trust domain may have a-z, 0-9, '.', '-' and '_' only, at most 255")]
    TrustDomain,
    /// The path is empty, or a segment is empty, `.`, `..` or has another character.
    #[error("the path must have segments of letters, digits, '.', '-' and '_'")]
    Path,
}

/// The SPIFFE ID of a workload: `spiffe://` trust domain, `/` path. One text a
/// workload: nothing is escaped, folded or repaired.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// Reads an ID. One without a path names a trust domain, not a workload, and is
    /// refused.
    ///
    /// # Errors
    /// [`SpiffeIdError`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_SPIFFE_ID_BYTES {
            return Err(SpiffeIdError::Form);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Form)?;
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_trust_domain(domain) {
            return Err(SpiffeIdError::TrustDomain);
        }
        let is_segment = |segment: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !matches!(segment, "" | "." | "..") && segment.bytes().all(known)
        };
        if !path.split('/').all(is_segment) {
            return Err(SpiffeIdError::Path);
        }
        Ok(Self(text.into()))
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain that it is of.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        let rest = self.0.get(SCHEME.len()..).unwrap_or_default();
        rest.split_once('/').map_or(rest, |(domain, _)| domain)
    }
}

/// Whether a text is the name of a trust domain [SPIFFE-ID §2.1].
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let known =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=MAX_TRUST_DOMAIN_BYTES).contains(&text.len()) && text.bytes().all(known)
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, SpiffeIdError> {
        Self::parse(&text)
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A trust domain of the manifest: only clients of its vendor are registered by
/// its IDs, so that no vendor takes another's workload for its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain {
    /// Its name.
    pub name: String,
    /// Whose workloads it issues identities to.
    pub vendor: VendorId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_trust_domain_and_a_path() {
        for text in [
            "spiffe://acme.example/sync",
            "spiffe://a/b",
            "spiffe://a_b-c.d/ns/Prod/sa/a.b_c-1",
        ] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!(id.as_str(), text);
            assert!(text[9..].starts_with(&format!("{}/", id.trust_domain())));
        }
    }

    #[test]
    fn each_text_that_is_no_id_is_refused() {
        let long = format!("spiffe://a/{}", "b".repeat(2_048));
        let long_domain = format!("spiffe://{}/b", "a".repeat(256));
        let rows = [
            ("", SpiffeIdError::Form),
            ("https://acme.example/sync", SpiffeIdError::Form),
            ("SPIFFE://acme.example/sync", SpiffeIdError::Form),
            ("spiffe:/acme.example/sync", SpiffeIdError::Form),
            (&long, SpiffeIdError::Form),
            ("spiffe:///sync", SpiffeIdError::TrustDomain),
            (&long_domain, SpiffeIdError::TrustDomain),
            ("spiffe://Acme.example/sync", SpiffeIdError::TrustDomain),
            ("spiffe://acme.example:1/sync", SpiffeIdError::TrustDomain),
            ("spiffe://u@acme.example/sync", SpiffeIdError::TrustDomain),
            ("spiffe://acme%2eexample/sync", SpiffeIdError::TrustDomain),
            ("spiffe://acme.example", SpiffeIdError::Path),
            ("spiffe://acme.example/", SpiffeIdError::Path),
            ("spiffe://acme.example/sync/", SpiffeIdError::Path),
            ("spiffe://acme.example//sync", SpiffeIdError::Path),
            ("spiffe://acme.example/a/../sync", SpiffeIdError::Path),
            ("spiffe://acme.example/./sync", SpiffeIdError::Path),
            ("spiffe://acme.example/a%2fb", SpiffeIdError::Path),
            ("spiffe://acme.example/sync?x", SpiffeIdError::Path),
            ("spiffe://acme.example/sync#x", SpiffeIdError::Path),
            ("spiffe://acme.example/\u{e9}", SpiffeIdError::Path),
        ];
        for (text, expected) in rows {
            assert_eq!(SpiffeId::parse(text), Err(expected), "{text:.60}");
        }
    }
}
