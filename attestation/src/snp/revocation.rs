//! Revocation lists of signing keys: signed by an ARK, kept by the verifier, never taken from evidence.

use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::certificate::{Certificate, is_pss_sha384};
use super::product::Line;
use crate::time::UnixTime;

/// The most a revocation list may have; AMD's name a handful of signing keys.
const MAX_LIST_BYTES: usize = 64 * 1024;

/// Why bytes are no revocation list that a root set takes in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// Larger than 64 KiB.
    #[error("the revocation list has {found_bytes} bytes, at most 65536 are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// Not one DER revocation list of version 2 with a number and an end, and nothing else.
    #[error("not a DER revocation list of version 2 with a number and a next update")]
    Der,
    /// Not signed by RSASSA-PSS with SHA-384.
    #[error("the signature algorithm is not RSASSA-PSS with SHA-384")]
    SignatureAlgorithm,
    /// A critical extension of the list or an entry has no meaning to this verifier: it may be a partial list
    /// [RFC 5280 §5.2].
    #[error("the critical extension {oid} is unknown")]
    CriticalExtension {
        /// Which.
        oid: String,
    },
    /// No root of the set has the issuer's name.
    #[error("the issuer of the revocation list is not a trusted root")]
    UnknownIssuer,
    /// The root's signature does not verify.
    #[error("the signature of the revocation list is invalid")]
    Signature,
    /// The set has a list with a higher number: this one is older.
    #[error("the revocation list has a lower number than the one already known")]
    Older,
}

/// A list that a pinned root signed.
#[derive(Debug, Clone)]
pub(crate) struct RevocationList {
    /// DER of the issuer's name.
    pub(crate) issuer: Vec<u8>,
    /// Big endian without leading zeros.
    number: Vec<u8>,
    this_update_s: i64,
    next_update_s: i64,
    /// Serial numbers, big endian without leading zeros.
    revoked: Vec<Vec<u8>>,
}

/// What a signed revocation list says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationSummary {
    /// The line whose root signed it.
    pub line: Line,
    /// Its number, hexadecimal; a later list has a higher one.
    pub number: String,
    /// From when it holds, Unix time.
    pub this_update_s: i64,
    /// Until when it holds, Unix time.
    pub next_update_s: i64,
    /// How many signing keys it names.
    pub revoked: usize,
}

/// What a list says about a certificate at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Listed. Once revoked is revoked, also by a list that has ended.
    Revoked,
    /// Not listed, and the list is current.
    Good,
    /// Not listed, but the list has not begun.
    NotYetCurrent,
    /// Not listed, but the list has ended: a newer one may list it.
    Ended,
}

impl RevocationList {
    /// Reads a list and verifies it with the root that has its issuer's name.
    ///
    /// # Errors
    /// [`RevocationError`], by what is wrong with it.
    pub(crate) fn open<'r>(
        der: &[u8],
        root: impl FnOnce(&[u8]) -> Option<&'r Certificate>,
    ) -> Result<Self, RevocationError> {
        if der.len() > MAX_LIST_BYTES {
            return Err(RevocationError::TooLarge {
                found_bytes: der.len(),
            });
        }
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|_| RevocationError::Der)?;
        let tbs = &list.tbs_cert_list;
        if !rest.is_empty()
            || list.signature_value.unused_bits != 0
            || tbs.version != Some(X509Version::V2)
        {
            return Err(RevocationError::Der);
        }
        if !is_pss_sha384(&list.signature_algorithm) || !is_pss_sha384(&tbs.signature) {
            return Err(RevocationError::SignatureAlgorithm);
        }
        let issuer = tbs.issuer.as_raw();
        let root = root(issuer).ok_or(RevocationError::UnknownIssuer)?;
        if !root
            .key
            .has_signed(tbs.as_ref(), &list.signature_value.data)
        {
            return Err(RevocationError::Signature);
        }
        let of_entries = list
            .iter_revoked_certificates()
            .flat_map(|entry| entry.extensions());
        if let Some(unknown) = list
            .extensions()
            .iter()
            .chain(of_entries)
            .find(|extension| {
                extension.critical
                    && !matches!(extension.parsed_extension(), ParsedExtension::CRLNumber(_))
            })
        {
            return Err(RevocationError::CriticalExtension {
                oid: unknown.oid.to_id_string(),
            });
        }
        Ok(Self {
            issuer: issuer.to_vec(),
            number: list.crl_number().ok_or(RevocationError::Der)?.to_bytes_be(),
            this_update_s: tbs.this_update.timestamp(),
            next_update_s: tbs.next_update.ok_or(RevocationError::Der)?.timestamp(),
            revoked: list
                .iter_revoked_certificates()
                .map(|entry| entry.serial().to_bytes_be())
                .collect(),
        })
    }

    /// Whether this list has a lower number than `other`.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        (self.number.len(), &self.number) < (other.number.len(), &other.number)
    }

    /// What the list says about a signing key. VEKs are not looked up: their serial number is always zero.
    pub(crate) fn standing(&self, signing_key: &Certificate, at: UnixTime) -> Standing {
        let at_s = i64::try_from(at.secs()).unwrap_or(i64::MAX);
        if self.revoked.contains(&signing_key.serial) {
            Standing::Revoked
        } else if at_s < self.this_update_s {
            Standing::NotYetCurrent
        } else if at_s > self.next_update_s {
            Standing::Ended
        } else {
            Standing::Good
        }
    }

    /// What it says about itself, under a root of `line`.
    pub(crate) fn summary(&self, line: Line) -> RevocationSummary {
        RevocationSummary {
            line,
            number: hex::encode(&self.number),
            this_update_s: self.this_update_s,
            next_update_s: self.next_update_s,
            revoked: self.revoked.len(),
        }
    }

    /// Last second of the list.
    pub(crate) const fn next_update_s(&self) -> i64 {
        self.next_update_s
    }
}
