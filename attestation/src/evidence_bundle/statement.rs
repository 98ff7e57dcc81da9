//! The statement of an evidence bundle: what was asked, when, for which tenant, and each part by its digest.

use serde::{Deserialize, Serialize};

use super::{EvidenceBundleError, FORMAT, MAX_BUNDLE_PARTS, MAX_STATEMENT_BYTES};
use crate::nonces::{Nonce, NoncePath};

/// The most a part's name may have.
const MAX_NAME_BYTES: usize = 128;

/// The most a tenant's id or an administrator's name may have.
const MAX_TEXT_BYTES: usize = 256;

/// A part, as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartDigest {
    /// Its name: segments of `a-z`, `0-9`, `.` and `-`, with `/` between them.
    pub name: String,
    /// How long it is.
    pub length_bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// What the enclave signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceStatement {
    /// When it was made, Unix time in seconds: the earliest that it can be.
    pub made_at_s: u64,
    /// The caller's nonce, which the evidence is fresh for.
    pub nonce: Nonce,
    /// From the nonce to the root that the evidence binds.
    pub nonce_path: NoncePath,
    /// SHA-256 of the key bundle, which names the key that signs.
    pub key_bundle_sha256: [u8; 32],
    /// The tenant that it is about.
    pub tenant: String,
    /// The administrator who asked, by its name in the manifest.
    pub asked_by: String,
    /// The parts, in their order.
    pub parts: Vec<PartDigest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    format: String,
    made_at_s: u64,
    nonce: String,
    nonce_path: JsonPath,
    key_bundle_sha256: String,
    tenant: String,
    asked_by: String,
    parts: Vec<JsonPart>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPath {
    index: u32,
    size: u32,
    siblings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPart {
    name: String,
    length_bytes: u64,
    sha256: String,
}

fn digest(field: &'static str, text: &str) -> Result<[u8; 32], EvidenceBundleError> {
    let rule = "must be 64 lowercase hexadecimal digits";
    let mut bytes = [0; 32];
    match hex::decode_to_slice(text, &mut bytes) {
        // One value has one text.
        Ok(()) if hex::encode(bytes) == text => Ok(bytes),
        Ok(()) | Err(_) => Err(EvidenceBundleError::Field { field, rule }),
    }
}

fn bounded(field: &'static str, text: String) -> Result<String, EvidenceBundleError> {
    if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
        let rule = "must be 1 to 256 bytes without control characters";
        return Err(EvidenceBundleError::Field { field, rule });
    }
    Ok(text)
}

/// A name is a path that leads nowhere else: whoever writes parts to files writes below the folder that was meant.
fn is_name(name: &str) -> bool {
    let segment = |segment: &str| {
        let mut bytes = segment.bytes();
        bytes
            .next()
            .is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
            && bytes.all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-'
            })
    };
    name.len() <= MAX_NAME_BYTES && name.split('/').all(segment)
}

impl EvidenceStatement {
    /// The text that is signed.
    ///
    /// # Errors
    /// [`EvidenceBundleError`] if it would not be read again.
    pub fn to_json(&self) -> Result<String, EvidenceBundleError> {
        let Self {
            made_at_s,
            nonce,
            nonce_path,
            key_bundle_sha256,
            tenant,
            asked_by,
            parts,
        } = self;
        let parts = parts.iter().map(|part| {
            let PartDigest {
                name,
                length_bytes,
                sha256,
            } = part;
            JsonPart {
                name: name.clone(),
                length_bytes: *length_bytes,
                sha256: hex::encode(sha256),
            }
        });
        let json = Json {
            format: FORMAT.to_owned(),
            made_at_s: *made_at_s,
            nonce: hex::encode(nonce),
            nonce_path: JsonPath {
                index: nonce_path.index(),
                size: nonce_path.tree_size(),
                siblings: nonce_path.siblings().iter().map(hex::encode).collect(),
            },
            key_bundle_sha256: hex::encode(key_bundle_sha256),
            tenant: tenant.clone(),
            asked_by: asked_by.clone(),
            parts: parts.collect(),
        };
        let text = serde_json::to_string(&json).map_err(|error| EvidenceBundleError::Json {
            what: "statement",
            why: error.to_string(),
        })?;
        Self::from_json(&text).map(|_| text)
    }

    /// Reads the text of a statement.
    ///
    /// # Errors
    /// [`EvidenceBundleError`], by what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, EvidenceBundleError> {
        if text.len() > MAX_STATEMENT_BYTES {
            return Err(EvidenceBundleError::Statement {
                found_bytes: text.len(),
            });
        }
        let Json {
            format,
            made_at_s,
            nonce,
            nonce_path,
            key_bundle_sha256,
            tenant,
            asked_by,
            parts,
        } = serde_json::from_str(text).map_err(|error| EvidenceBundleError::Json {
            what: "statement",
            why: error.to_string(),
        })?;
        if format != FORMAT {
            return Err(EvidenceBundleError::Format {
                what: "statement",
                found: format,
            });
        }
        let siblings = nonce_path.siblings.iter();
        let siblings = siblings.map(|sibling| digest("nonce_path", sibling));
        let siblings = siblings.collect::<Result<Vec<_>, _>>()?;
        let nonce_path = NoncePath::new(nonce_path.index, nonce_path.size, siblings);
        let statement = Self {
            made_at_s,
            nonce: digest("nonce", &nonce)?,
            nonce_path: nonce_path.map_err(|_| EvidenceBundleError::Field {
                field: "nonce_path",
                rule: "must be the path of a nonce",
            })?,
            key_bundle_sha256: digest("key_bundle_sha256", &key_bundle_sha256)?,
            tenant: bounded("tenant", tenant)?,
            asked_by: bounded("asked_by", asked_by)?,
            parts: read_parts(parts)?,
        };
        Ok(statement)
    }
}

fn read_parts(parts: Vec<JsonPart>) -> Result<Vec<PartDigest>, EvidenceBundleError> {
    if parts.is_empty() || parts.len() > MAX_BUNDLE_PARTS {
        return Err(EvidenceBundleError::Parts { found: parts.len() });
    }
    let mut names = std::collections::BTreeSet::new();
    let read = parts.into_iter().map(|part| {
        let JsonPart {
            name,
            length_bytes,
            sha256,
        } = part;
        if !is_name(&name) {
            return Err(EvidenceBundleError::Name { name });
        }
        if !names.insert(name.clone()) {
            return Err(EvidenceBundleError::Duplicate { name });
        }
        let sha256 = digest("sha256", &sha256)?;
        Ok(PartDigest {
            name,
            length_bytes,
            sha256,
        })
    });
    read.collect()
}
