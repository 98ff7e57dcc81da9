//! The evidence bundle: one signed file about one tenant of one service, for auditors who ask nobody.
//!
//! It is made of parts (evidence, key bundle, manifest, checkpoints, policy, inventory, SBOM) and a statement that
//! names each by its length and SHA-256. The enclave's instance key signs the statement. That key is made at each boot
//! and kept nowhere, the key bundle names it, and the evidence, made for the caller's nonce, binds the key bundle: so
//! whoever appraises the evidence knows that this enclave vouches for each part.

mod statement;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use crate::canonical::{Writer, sha256};
use crate::p256::{BadSignature, P256PublicKey};

pub use statement::{EvidenceStatement, PartDigest};

/// The most a bundle's file may have.
pub const MAX_EVIDENCE_BUNDLE_BYTES: usize = 64 * 1024 * 1024;

/// The most parts a bundle may have.
pub const MAX_BUNDLE_PARTS: usize = 1_024;

/// The most bytes that all parts together may have.
pub const MAX_BUNDLE_PARTS_BYTES: usize = 32 * 1024 * 1024;

/// The most a statement may have.
pub const MAX_STATEMENT_BYTES: usize = 512 * 1024;

/// The name and version of the file, and of the statement in it.
const FORMAT: &str = "tokenkeep/evidence-bundle/v1";

/// The bytes of an ES256 signature.
const SIGNATURE_BYTES: usize = 64;

/// Names of the parts.
pub mod part {
    /// Evidence, as a saved evidence file.
    pub const EVIDENCE: &str = "evidence.json";
    /// The canonical encoding of the key bundle.
    pub const KEY_BUNDLE: &str = "key-bundle.bin";
    /// The manifest, byte for byte as it was signed.
    pub const MANIFEST: &str = "manifest.toml";
    /// The manifest's detached signature.
    pub const MANIFEST_SIGNATURE: &str = "manifest.toml.sig";
    /// The tenant's grants, freezes and the digest of its policy.
    pub const INVENTORY: &str = "inventory.json";
    /// The tenant's policy; absent if it has set none.
    pub const POLICY: &str = "policy.cedar";
    /// The software in the build [CycloneDX 1.6].
    pub const SBOM: &str = "sbom.cdx.json";
    /// What the name of a log's checkpoint begins with; the log's path follows.
    pub const CHECKPOINT: &str = "checkpoint/";
}

/// A part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundlePart {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl BundlePart {
    /// What a statement says of it.
    #[must_use]
    pub fn digest(&self) -> PartDigest {
        PartDigest {
            name: self.name.clone(),
            length_bytes: u64::try_from(self.bytes.len()).unwrap_or(u64::MAX),
            sha256: sha256(&self.bytes),
        }
    }
}

/// Why something is no evidence bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceBundleError {
    /// The file is larger than [`MAX_EVIDENCE_BUNDLE_BYTES`].
    #[error("the file has {found_bytes} bytes, at most {MAX_EVIDENCE_BUNDLE_BYTES} are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// It is not JSON of this form.
    #[error("the {what} is not JSON of its form: {why}")]
    Json {
        /// `file` or `statement`.
        what: &'static str,
        /// Where and why.
        why: String,
    },
    /// It is of another form or version.
    #[error("the {what} is of the format {found:?}, this program reads {FORMAT:?}")]
    Format {
        /// `file` or `statement`.
        what: &'static str,
        /// The stated format.
        found: String,
    },
    /// The statement is larger than [`MAX_STATEMENT_BYTES`].
    #[error("the statement has {found_bytes} bytes, at most {MAX_STATEMENT_BYTES} are read")]
    Statement {
        /// Its size.
        found_bytes: usize,
    },
    /// A field of the statement is not what it must be.
    #[error("{field} of the statement: {rule}")]
    Field {
        /// Which.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// The signature is not 64 bytes in base64.
    #[error("the signature is not 64 bytes in base64")]
    Signature,
    /// More parts than [`MAX_BUNDLE_PARTS`], or none.
    #[error("{found} parts, not 1 to {MAX_BUNDLE_PARTS}")]
    Parts {
        /// How many.
        found: usize,
    },
    /// All parts together have more than [`MAX_BUNDLE_PARTS_BYTES`].
    #[error("the parts have more than {MAX_BUNDLE_PARTS_BYTES} bytes")]
    PartsTooLarge,
    /// A part's name breaks the rule for names.
    #[error("{name:?} is no name of a part")]
    Name {
        /// The name.
        name: String,
    },
    /// Two parts of one name.
    #[error("there are two parts {name:?}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A part has neither text nor base64, or both, or base64 that is none.
    #[error("the part {name:?} needs either text or base64")]
    Body {
        /// The part.
        name: String,
    },
    /// The parts are not those that the statement names, in its order.
    #[error("the statement names {stated} where the file has {found}")]
    Listed {
        /// What the statement names; `nothing` at its end.
        stated: String,
        /// What the file has; `nothing` at its end.
        found: String,
    },
    /// A part is not the one that was signed.
    #[error("the part {name:?} is not the one that the statement names by its SHA-256")]
    Digest {
        /// Which.
        name: String,
    },
}

/// A bundle whose parts are those that its statement names. Who signed the statement is not known yet:
/// [`verify_signature`](Self::verify_signature) with the instance key of appraised evidence says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceBundle {
    text: String,
    statement: EvidenceStatement,
    signature: [u8; SIGNATURE_BYTES],
    parts: Vec<BundlePart>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    statement: String,
    signature: String,
    parts: Vec<FilePart>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePart {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl FilePart {
    /// Text where it is text, so that an auditor can read it in the file.
    fn new(part: &BundlePart) -> Self {
        let text = std::str::from_utf8(&part.bytes).ok();
        Self {
            name: part.name.clone(),
            text: text.map(str::to_owned),
            base64: text.is_none().then(|| Base64::encode_string(&part.bytes)),
        }
    }

    fn read(self) -> Result<BundlePart, EvidenceBundleError> {
        let Self { name, text, base64 } = self;
        let bytes = match (text, base64) {
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(base64)) => Base64::decode_vec(&base64).ok(),
            (Some(_), Some(_)) | (None, None) => None,
        };
        match bytes {
            Some(bytes) => Ok(BundlePart { name, bytes }),
            None => Err(EvidenceBundleError::Body { name }),
        }
    }
}

/// What the instance key signs: the domain, the digest of the key bundle that names it, and the digest of the
/// statement. It is of another domain than what proves a connection, so that neither passes for the other.
#[must_use]
pub fn evidence_statement_message(key_bundle_sha256: &[u8; 32], statement: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(FORMAT);
    writer.part(key_bundle_sha256).part(&sha256(statement));
    writer.finish()
}

impl EvidenceBundle {
    /// Puts a bundle together from a statement's text, its signature and the parts.
    ///
    /// # Errors
    /// [`EvidenceBundleError`] if they are not of each other.
    pub fn assemble(
        text: String,
        signature: &[u8],
        parts: Vec<BundlePart>,
    ) -> Result<Self, EvidenceBundleError> {
        let statement = EvidenceStatement::from_json(&text)?;
        let signature = signature
            .try_into()
            .map_err(|_| EvidenceBundleError::Signature)?;
        let mut all_bytes = 0_usize;
        for part in &parts {
            all_bytes = all_bytes.saturating_add(part.bytes.len());
        }
        if all_bytes > MAX_BUNDLE_PARTS_BYTES {
            return Err(EvidenceBundleError::PartsTooLarge);
        }
        let (mut stated, mut found) = (statement.parts.iter(), parts.iter());
        loop {
            match (stated.next(), found.next()) {
                (None, None) => break,
                (Some(stated), Some(part)) if stated.name == part.name => {
                    if *stated != part.digest() {
                        let name = part.name.clone();
                        return Err(EvidenceBundleError::Digest { name });
                    }
                }
                (stated, found) => {
                    let quoted = |name: Option<&String>| {
                        name.map_or_else(|| "nothing".to_owned(), |name| format!("{name:?}"))
                    };
                    return Err(EvidenceBundleError::Listed {
                        stated: quoted(stated.map(|stated| &stated.name)),
                        found: quoted(found.map(|part| &part.name)),
                    });
                }
            }
        }
        Ok(Self {
            text,
            statement,
            signature,
            parts,
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`EvidenceBundleError`], by what is wrong with it.
    pub fn from_json(file: &[u8]) -> Result<Self, EvidenceBundleError> {
        if file.len() > MAX_EVIDENCE_BUNDLE_BYTES {
            return Err(EvidenceBundleError::TooLarge {
                found_bytes: file.len(),
            });
        }
        let File {
            format,
            statement,
            signature,
            parts,
        } = serde_json::from_slice(file).map_err(|error| EvidenceBundleError::Json {
            what: "file",
            why: error.to_string(),
        })?;
        if format != FORMAT {
            return Err(EvidenceBundleError::Format {
                what: "file",
                found: format,
            });
        }
        let signature =
            Base64::decode_vec(&signature).map_err(|_| EvidenceBundleError::Signature)?;
        let parts = parts.into_iter().map(FilePart::read);
        Self::assemble(statement, &signature, parts.collect::<Result<_, _>>()?)
    }

    /// The file.
    ///
    /// # Errors
    /// [`EvidenceBundleError::Json`] if serialisation fails, which no value of this type causes.
    pub fn to_json(&self) -> Result<String, EvidenceBundleError> {
        let file = File {
            format: FORMAT.to_owned(),
            statement: self.text.clone(),
            signature: Base64::encode_string(&self.signature),
            parts: self.parts.iter().map(FilePart::new).collect(),
        };
        serde_json::to_string_pretty(&file).map_err(|error| EvidenceBundleError::Json {
            what: "file",
            why: error.to_string(),
        })
    }

    /// What was signed.
    #[must_use]
    pub const fn statement(&self) -> &EvidenceStatement {
        &self.statement
    }

    /// The parts, in the statement's order.
    #[must_use]
    pub fn parts(&self) -> &[BundlePart] {
        &self.parts
    }

    /// A part by its name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&[u8]> {
        let part = self.parts.iter().find(|part| part.name == name);
        part.map(|part| part.bytes.as_slice())
    }

    /// Whether this instance key signed the statement under this key bundle.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify_signature(
        &self,
        instance_key: &P256PublicKey,
        key_bundle_sha256: &[u8; 32],
    ) -> Result<(), BadSignature> {
        let message = evidence_statement_message(key_bundle_sha256, self.text.as_bytes());
        instance_key.verify_es256(&message, &self.signature)
    }
}

#[cfg(test)]
mod tests;
