//! A proof that stands alone: index, inclusion proof and checkpoint in one text [C2SP tlog-proof].

use core::fmt;

use thiserror::Error;

use super::{InclusionError, InclusionProof, MAX_INCLUSION_HASHES, VerifiedInclusion};
use crate::checkpoint::{OpenError, Origin, VerifiedCheckpoint, decimal};
use crate::hash::{Hash, HashError};
use crate::note::{MAX_NOTE_BYTES, Note, NoteError, VerifierKey};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Longest text read: the longest note, and what stands before it.
pub const MAX_PROOF_BYTES: usize = MAX_NOTE_BYTES + 8 * 1024;

/// Why a text is no proof.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TlogProofError {
    /// Longer than [`MAX_PROOF_BYTES`].
    #[error("a proof of {found_bytes} bytes is too long")]
    TooLong {
        /// Its length.
        found_bytes: usize,
    },
    /// Not UTF-8.
    #[error("a proof is not UTF-8")]
    Utf8,
    /// The first line names no version that is known.
    #[error("the first line is not {HEADER}")]
    Header,
    /// Extra data, which no proof of these logs has.
    #[error("the proof has extra data, which is not read")]
    Extra,
    /// The line with the index is missing, or not ASCII decimal without leading zeros.
    #[error("the proof has no line with the index")]
    Index,
    /// A line is no hash.
    #[error("hash {line} is malformed")]
    Hash {
        /// From 0.
        line: usize,
        /// What is wrong.
        #[source]
        error: HashError,
    },
    /// More hashes than a path has.
    #[error("a proof has at most {MAX_INCLUSION_HASHES} hashes")]
    TooManyHashes,
    /// No empty line, and so no checkpoint.
    #[error("the proof has no checkpoint")]
    NoCheckpoint,
    /// The checkpoint is no note.
    #[error("the proof's checkpoint is no note")]
    Note(#[source] NoteError),
}

/// Why a proof does not hold.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TlogProofRefused {
    /// The checkpoint is not the log's.
    #[error(transparent)]
    Checkpoint(#[from] OpenError),
    /// The path does not lead from the leaf to the checkpoint's root.
    #[error(transparent)]
    Inclusion(#[from] InclusionError),
}

/// A proof as text, nothing of it verified yet. Extra data is not supported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    index: u64,
    proof: InclusionProof,
    checkpoint: Note,
}

impl TlogProof {
    /// Puts a proof together.
    #[must_use]
    pub const fn new(index: u64, proof: InclusionProof, checkpoint: Note) -> Self {
        Self {
            index,
            proof,
            checkpoint,
        }
    }

    /// Reads a proof; `Display` writes the same bytes again.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        if bytes.len() > MAX_PROOF_BYTES {
            let found_bytes = bytes.len();
            return Err(TlogProofError::TooLong { found_bytes });
        }
        let text = core::str::from_utf8(bytes).map_err(|_| TlogProofError::Utf8)?;
        let text = text.strip_prefix(HEADER).ok_or(TlogProofError::Header)?;
        let text = text.strip_prefix('\n').ok_or(TlogProofError::Header)?;
        if text.starts_with("extra ") {
            return Err(TlogProofError::Extra);
        }
        let index = text.strip_prefix("index ").ok_or(TlogProofError::Index)?;
        let (index, mut text) = index.split_once('\n').ok_or(TlogProofError::Index)?;
        let index = decimal(index).ok_or(TlogProofError::Index)?;
        let mut hashes = Vec::new();
        loop {
            let (line, after) = text.split_once('\n').ok_or(TlogProofError::NoCheckpoint)?;
            text = after;
            if line.is_empty() {
                break;
            }
            if hashes.len() >= MAX_INCLUSION_HASHES {
                return Err(TlogProofError::TooManyHashes);
            }
            let hash = Hash::from_base64(line);
            let line = hashes.len();
            hashes.push(hash.map_err(|error| TlogProofError::Hash { line, error })?);
        }
        let proof =
            InclusionProof::from_hashes(hashes).map_err(|_| TlogProofError::TooManyHashes)?;
        let checkpoint = Note::parse(text.as_bytes()).map_err(TlogProofError::Note)?;
        Ok(Self {
            index,
            proof,
            checkpoint,
        })
    }

    /// The index of the leaf.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Verifies that one of the log's keys signed the checkpoint and that the leaf is in its tree, at the proof's
    /// index.
    ///
    /// # Errors
    /// [`TlogProofRefused`].
    pub fn verify(
        &self,
        leaf: Hash,
        origin: &Origin,
        keys: &[VerifierKey],
    ) -> Result<(VerifiedInclusion, VerifiedCheckpoint), TlogProofRefused> {
        let note = self.checkpoint.to_string();
        let checkpoint = VerifiedCheckpoint::open(note.as_bytes(), origin, keys)?;
        let inclusion = self.proof.verify(leaf, self.index, checkpoint.head())?;
        Ok((inclusion, checkpoint))
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            index,
            proof,
            checkpoint,
        } = self;
        writeln!(f, "{HEADER}\nindex {index}")?;
        for hash in proof.hashes() {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{checkpoint}")
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::Ed25519KeyPair;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::hash::leaf_hash;
    use crate::note::NoteSigner;
    use crate::tree::MemoryTree;

    const ORIGIN: &str = "example.com/log";

    fn signer(seed: u8) -> NoteSigner {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
        NoteSigner::new(ORIGIN.parse().expect("a name"), pair).expect("a key")
    }

    fn made(leaves: u8, index: u64) -> TlogProof {
        let mut tree = MemoryTree::new();
        tree.extend((0..leaves).map(|leaf| leaf_hash(&[leaf])));
        let origin: Origin = ORIGIN.parse().expect("an origin");
        let checkpoint = Checkpoint::new(origin, tree.head()).expect("a checkpoint");
        let note = checkpoint.sign(&signer(1)).expect("signed");
        let proof = InclusionProof::prove(&tree, index, u64::from(leaves)).expect("in it");
        TlogProof::new(index, proof, note)
    }

    #[test]
    fn a_proof_stands_alone() {
        let origin: Origin = ORIGIN.parse().expect("an origin");
        let keys = [signer(1).verifier_key().clone()];
        for (leaves, index) in [(1, 0), (2, 1), (13, 12), (200, 77)] {
            let proof = made(leaves, index);
            let text = proof.to_string();
            assert!(text.starts_with(&format!("c2sp.org/tlog-proof@v1\nindex {index}\n")));
            let read = TlogProof::parse(text.as_bytes()).expect("a proof");
            assert_eq!(read, proof);
            let leaf = leaf_hash(&[u8::try_from(index).expect("small")]);
            let (inclusion, checkpoint) = read.verify(leaf, &origin, &keys).expect("holds");
            assert_eq!((inclusion.index(), inclusion.leaf()), (index, leaf));
            assert_eq!(inclusion.head(), checkpoint.head());

            let refused = read.verify(leaf_hash(b"other"), &origin, &keys);
            assert_eq!(refused.err(), Some(InclusionError::RootMismatch.into()));
            let others = [signer(2).verifier_key().clone()];
            let refused = read.verify(leaf, &origin, &others);
            let unsigned = OpenError::Note(NoteError::NoKnownSignature);
            assert_eq!(refused.err(), Some(unsigned.into()));
        }
    }

    #[test]
    fn malformed_proofs_are_refused() {
        let good = made(13, 5).to_string();
        let hash = good.lines().nth(2).expect("a hash").to_owned();
        let note = good.split_once("\n\n").expect("a note").1.to_owned();
        let with = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
        let many = format!(
            "{HEADER}\nindex 0\n{}\n{note}",
            format!("{hash}\n").repeat(65)
        );
        let rows = [
            (
                vec![b'x'; MAX_PROOF_BYTES + 1],
                TlogProofError::TooLong {
                    found_bytes: MAX_PROOF_BYTES + 1,
                },
            ),
            (vec![0xff], TlogProofError::Utf8),
            (Vec::new(), TlogProofError::Header),
            (with("@v1", "@v2"), TlogProofError::Header),
            (with("@v1\n", "@v1"), TlogProofError::Header),
            (
                with("index 5", "extra QQ==\nindex 5"),
                TlogProofError::Extra,
            ),
            (with("index 5\n", ""), TlogProofError::Index),
            (with("index 5", "index 05"), TlogProofError::Index),
            (with("index 5", "index +5"), TlogProofError::Index),
            (with("index 5", "Index 5"), TlogProofError::Index),
            (
                HEADER
                    .as_bytes()
                    .iter()
                    .copied()
                    .chain(*b"\nindex 5")
                    .collect(),
                TlogProofError::Index,
            ),
            (
                with(&hash, "QQ=="),
                TlogProofError::Hash {
                    line: 0,
                    error: HashError::Length { found_bytes: 1 },
                },
            ),
            (
                with(&hash, "!"),
                TlogProofError::Hash {
                    line: 0,
                    error: HashError::Base64,
                },
            ),
            (many.into_bytes(), TlogProofError::TooManyHashes),
            (
                format!("{HEADER}\nindex 5\n{hash}\n").into_bytes(),
                TlogProofError::NoCheckpoint,
            ),
            (
                format!("{HEADER}\nindex 5\n{hash}\n\nx\n").into_bytes(),
                TlogProofError::Note(NoteError::NoBlankLine),
            ),
        ];
        for (bytes, expected) in rows {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(
                TlogProof::parse(&bytes),
                Err(expected),
                "{}",
                text.get(..60.min(text.len())).unwrap_or("")
            );
        }
    }
}
