//! Receipts: where the leaf of an issuance stands, and the proof that it stands there.

use proto::v1;
use serde_json::{Value, json};
use thiserror::Error;
use tlog::proof::{TlogProofError, TlogProofRefused};
use tlog::tile::{HashTile, Resource, TileSet};
use tlog::{Hash, InclusionProof, Note, TlogProof, VerifiedCheckpoint, VerifiedInclusion};

use super::name::{LogKeys, NameError};
use super::report::{Fault, missing};
use super::source::{Source, SourceError};

/// Where a leaf stands in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The log's origin.
    pub log: String,
    /// The leaf's index.
    pub index: u64,
    /// The leaf's hash.
    pub leaf_hash: Hash,
}

/// Why a text or message is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReceiptError {
    /// Not JSON.
    #[error("not JSON")]
    Json,
    /// A member is missing, or not of its kind.
    #[error("the member {member} is missing or malformed")]
    Member {
        /// Which.
        member: &'static str,
    },
}

/// Why a receipt was not proved.
#[derive(Debug, Error)]
pub enum ProveError {
    /// Something was not read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The receipt names no log of the service.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The log is not as it should be.
    #[error(transparent)]
    Log(#[from] Fault),
    /// The log has not that many leaves.
    #[error("the log has {size} leaves: leaf {index} is not among them")]
    Beyond {
        /// The receipt's index.
        index: u64,
        /// What was signed.
        size: u64,
    },
    /// The proof is none.
    #[error(transparent)]
    Malformed(#[from] TlogProofError),
    /// The proof is about another leaf.
    #[error("the proof is about leaf {found}, the receipt about leaf {expected}")]
    OtherLeaf {
        /// The receipt's index.
        expected: u64,
        /// The proof's.
        found: u64,
    },
    /// The proof does not hold.
    #[error(transparent)]
    Refused(#[from] TlogProofRefused),
}

impl Receipt {
    /// As JSON, to be kept beside a token.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self {
            log,
            index,
            leaf_hash,
        } = self;
        json!({"log": log, "index": index, "leaf_hash": leaf_hash.to_string()})
    }

    /// Reads [`to_json`](Self::to_json), alone or as the member `receipt` of an object.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn from_json(text: &[u8]) -> Result<Self, ReceiptError> {
        let value: Value = serde_json::from_slice(text).map_err(|_| ReceiptError::Json)?;
        let receipt = value.get("receipt").unwrap_or(&value);
        let wrong = |member| ReceiptError::Member { member };
        let text = |member| {
            receipt
                .get(member)
                .and_then(Value::as_str)
                .ok_or(wrong(member))
        };
        let index = receipt.get("index").and_then(Value::as_u64);
        let hash = Hash::from_base64(text("leaf_hash")?);
        Ok(Self {
            log: text("log")?.to_owned(),
            index: index.ok_or(wrong("index"))?,
            leaf_hash: hash.map_err(|_| wrong("leaf_hash"))?,
        })
    }

    /// Puts a proof together from a log's tiles, and verifies it.
    ///
    /// # Errors
    /// [`ProveError`].
    pub async fn prove(&self, keys: &LogKeys, source: &Source) -> Result<TlogProof, ProveError> {
        let name = keys.find(&self.log)?;
        let read = |resource| source.read(&name, resource);
        let bytes = read(Resource::Checkpoint).await?;
        let bytes = bytes.ok_or_else(|| missing(Resource::Checkpoint))?;
        let (origin, key) = (keys.origin(&name)?, keys.verifier_key(&name)?);
        let checkpoint = VerifiedCheckpoint::open(&bytes, &origin, &[key]);
        let checkpoint = checkpoint.map_err(Fault::Checkpoint)?;
        let (index, size) = (self.index, checkpoint.head().size);
        let beyond = ProveError::Beyond { index, size };
        let Ok(nodes) = InclusionProof::nodes(index, size) else {
            return Err(beyond);
        };
        let mut set = TileSet::new(size);
        for id in set.tiles_for(&nodes) {
            let bytes = read(Resource::Tile(id)).await?;
            let bytes = bytes.ok_or_else(|| missing(Resource::Tile(id)))?;
            let tile = HashTile::decode(id, &bytes);
            set.insert(tile.map_err(|_| Fault::Tile { path: id.path() })?);
        }
        let proof = InclusionProof::prove(&set, index, size).map_err(|_| beyond)?;
        let proof = TlogProof::new(index, proof, checkpoint.note().note().clone());
        self.verify(keys, &proof)?;
        Ok(proof)
    }

    /// The proof in an answer of the service, verified.
    ///
    /// # Errors
    /// [`ProveError`].
    pub fn proved(
        &self,
        keys: &LogKeys,
        answer: v1::ProveInclusionResponse,
    ) -> Result<TlogProof, ProveError> {
        let v1::ProveInclusionResponse {
            hashes,
            checkpoint,
            leaf_hash: _,
        } = answer;
        let hashes = hashes.iter().enumerate().map(|(line, hash)| {
            Hash::try_from(hash.as_slice()).map_err(|error| TlogProofError::Hash { line, error })
        });
        let proof = InclusionProof::from_hashes(hashes.collect::<Result<_, _>>()?);
        let proof = proof.map_err(|_| TlogProofError::TooManyHashes)?;
        let note = Note::parse(checkpoint.as_bytes()).map_err(TlogProofError::Note)?;
        let proof = TlogProof::new(self.index, proof, note);
        self.verify(keys, &proof)?;
        Ok(proof)
    }

    /// Verifies that the leaf stands in the log, by a proof alone.
    ///
    /// # Errors
    /// [`ProveError::Name`], [`ProveError::OtherLeaf`], [`ProveError::Refused`].
    pub fn verify(
        &self,
        keys: &LogKeys,
        proof: &TlogProof,
    ) -> Result<(VerifiedInclusion, VerifiedCheckpoint), ProveError> {
        let name = keys.find(&self.log)?;
        let (expected, found) = (self.index, proof.index());
        if expected != found {
            return Err(ProveError::OtherLeaf { expected, found });
        }
        let keys = (keys.origin(&name)?, keys.verifier_key(&name)?);
        Ok(proof.verify(self.leaf_hash, &keys.0, &[keys.1])?)
    }
}

impl TryFrom<v1::Receipt> for Receipt {
    type Error = ReceiptError;

    fn try_from(receipt: v1::Receipt) -> Result<Self, ReceiptError> {
        let v1::Receipt {
            log,
            index,
            leaf_hash,
        } = receipt;
        let wrong = |member| ReceiptError::Member { member };
        if log.parse::<tlog::Origin>().is_err() {
            return Err(wrong("log"));
        }
        let leaf_hash = Hash::try_from(leaf_hash.as_slice()).map_err(|_| wrong("leaf_hash"))?;
        Ok(Self {
            log,
            index,
            leaf_hash,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_again() {
        let receipt = Receipt {
            log: "keep.example/log/control".into(),
            index: 7,
            leaf_hash: tlog::leaf_hash(b"leaf"),
        };
        let json = receipt.to_json();
        assert_eq!(
            Receipt::from_json(json.to_string().as_bytes()),
            Ok(receipt.clone())
        );
        let token = json!({"access_token": "x", "receipt": json});
        assert_eq!(
            Receipt::from_json(token.to_string().as_bytes()),
            Ok(receipt)
        );
        let with = |name: &str, value: Value| {
            let mut json = json.clone();
            json[name] = value;
            json.to_string()
        };
        let member = |member| ReceiptError::Member { member };
        for (text, error) in [
            ("{".to_owned(), ReceiptError::Json),
            ("[]".to_owned(), member("leaf_hash")),
            (with("log", 1.into()), member("log")),
            (with("index", (-1).into()), member("index")),
            (with("leaf_hash", "QQ==".into()), member("leaf_hash")),
        ] {
            assert_eq!(Receipt::from_json(text.as_bytes()), Err(error), "{text}");
        }
        let message = |log: &str, leaf_hash: &[u8]| v1::Receipt {
            log: log.into(),
            index: 7,
            leaf_hash: leaf_hash.to_vec(),
        };
        assert!(Receipt::try_from(message("k/log/control", &[0; 32])).is_ok());
        assert_eq!(Receipt::try_from(message("", &[0; 32])), Err(member("log")));
        assert_eq!(
            Receipt::try_from(message("k", &[0; 31])),
            Err(member("leaf_hash"))
        );
    }
}
