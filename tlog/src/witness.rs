//! What a log asks a witness for, and whether a witness may cosign: `add-checkpoint` [C2SP tlog-witness].
//!
//! Nothing here is stored or sent. A witness judges a request against what it stored of the log, stores the new
//! checkpoint durably, and only then cosigns.

use core::fmt;

use thiserror::Error;

use crate::checkpoint::{CheckpointError, OpenError, Origin, VerifiedCheckpoint, decimal};
use crate::cosignature::{CosignatureError, Cosigner};
use crate::hash::{Hash, HashError};
use crate::note::{MAX_NOTE_BYTES, Note, NoteError, NoteSignature, VerifierKey};
use crate::proof::{ConsistencyError, ConsistencyProof};
use crate::tree::TreeHead;

/// Most lines of a consistency proof [C2SP tlog-witness].
pub const MAX_PROOF_LINES: usize = 63;
/// Longest request: the old size, the proof, an empty line, a checkpoint.
pub const MAX_REQUEST_BYTES: usize = 4 + 20 + 1 + MAX_PROOF_LINES * 45 + 1 + MAX_NOTE_BYTES;
/// Media type of the body of a 409.
pub const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

/// Why bytes are no `add-checkpoint` request.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("a request of {found_bytes} bytes is too long")]
    TooLong {
        /// Its length.
        found_bytes: usize,
    },
    /// No `old` line in front.
    #[error("a request begins with a line `old` and a size in decimal")]
    OldSize,
    /// More than [`MAX_PROOF_LINES`].
    #[error("a request has at most {MAX_PROOF_LINES} proof lines")]
    TooManyProofLines,
    /// A proof line is no hash.
    #[error("proof line {line} is no hash")]
    ProofLine {
        /// Its number, from 0.
        line: usize,
        /// What is wrong.
        #[source]
        error: HashError,
    },
    /// No empty line behind the proof.
    #[error("an empty line parts the proof and the checkpoint")]
    NoBlankLine,
    /// What follows is no note.
    #[error("the checkpoint is no note")]
    Note(#[source] NoteError),
    /// The note holds no checkpoint. One whose empty tree has another root is judged, not refused here.
    #[error("the note is no checkpoint")]
    Checkpoint(#[source] CheckpointError),
}

/// A request to cosign a checkpoint: well-formed, nothing verified. `Display` is its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    old_size: u64,
    proof: ConsistencyProof,
    note: Note,
    origin: Origin,
}

impl AddCheckpoint {
    /// A log's request: its new checkpoint, and the proof from what the witness saw last.
    #[must_use]
    pub fn new(old_size: u64, proof: ConsistencyProof, checkpoint: &VerifiedCheckpoint) -> Self {
        Self {
            old_size,
            proof,
            note: checkpoint.note().note().clone(),
            origin: checkpoint.checkpoint().origin().clone(),
        }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`RequestError`]: the first rule broken.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let found_bytes = body.len();
        if found_bytes > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong { found_bytes });
        }
        let (old, mut rest) = line(body).ok_or(RequestError::OldSize)?;
        let old_size = core::str::from_utf8(old)
            .ok()
            .and_then(|old| old.strip_prefix("old "))
            .and_then(decimal)
            .ok_or(RequestError::OldSize)?;
        let mut hashes = Vec::new();
        loop {
            let (text, behind) = line(rest).ok_or(RequestError::NoBlankLine)?;
            rest = behind;
            if text.is_empty() {
                break;
            }
            if hashes.len() >= MAX_PROOF_LINES {
                return Err(RequestError::TooManyProofLines);
            }
            let error = |error| RequestError::ProofLine {
                line: hashes.len(),
                error,
            };
            let text = core::str::from_utf8(text).map_err(|_| error(HashError::Base64))?;
            let hash = Hash::from_base64(text).map_err(error)?;
            hashes.push(hash);
        }
        let proof =
            ConsistencyProof::from_hashes(hashes).map_err(|_| RequestError::TooManyProofLines)?;
        let note = Note::parse(rest).map_err(RequestError::Note)?;
        let origin = note
            .unverified_text()
            .split('\n')
            .next()
            .unwrap_or_default();
        let origin = origin.parse().map_err(RequestError::Checkpoint)?;
        Ok(Self {
            old_size,
            proof,
            note,
            origin,
        })
    }

    /// The log that the checkpoint names; nobody has vouched for it yet.
    #[must_use]
    pub const fn unverified_origin(&self) -> &Origin {
        &self.origin
    }

    /// Judges the request by what a witness knows of the log: its keys, and the checkpoint it cosigned last.
    ///
    /// # Errors
    /// [`Refused`]: the first rule broken, in the order of [C2SP tlog-witness].
    pub fn judge(
        &self,
        keys: &[VerifierKey],
        latest: Option<TreeHead>,
    ) -> Result<Witnessable, Refused> {
        let note = self.note.to_string();
        let opened = VerifiedCheckpoint::open(note.as_bytes(), &self.origin, keys);
        let checkpoint = match opened {
            Ok(checkpoint) => checkpoint,
            Err(OpenError::Checkpoint(CheckpointError::EmptyTreeRoot)) => {
                return Err(Refused::EmptyTreeRoot);
            }
            Err(OpenError::Checkpoint(error)) => {
                return Err(RequestError::Checkpoint(error).into());
            }
            Err(OpenError::Note(error)) => return Err(Refused::NotSigned(error)),
            Err(OpenError::OtherOrigin { .. }) => return Err(Refused::UnknownLog),
        };
        let new = checkpoint.head();
        if self.old_size > new.size {
            let (old_size, new_size) = (self.old_size, new.size);
            return Err(Refused::OldBeyondNew { old_size, new_size });
        }
        let latest = latest.unwrap_or_else(TreeHead::empty);
        if self.old_size != latest.size {
            return Err(Refused::Conflict { size: latest.size });
        }
        self.proof
            .verify(latest, new)
            .map_err(Refused::Inconsistent)?;
        Ok(Witnessable(checkpoint))
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        for hash in self.proof.hashes() {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.note)
    }
}

/// Why a witness does not cosign.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The body is none.
    #[error("the request is malformed")]
    Malformed(#[from] RequestError),
    /// The witness does not know the log.
    #[error("the log is not known")]
    UnknownLog,
    /// None of the log's keys signed, or one did wrongly.
    #[error("the checkpoint is not signed by the log")]
    NotSigned(#[source] NoteError),
    /// The old tree is the larger one.
    #[error("the old size {old_size} is beyond the checkpoint's {new_size}")]
    OldBeyondNew {
        /// What the request begins from.
        old_size: u64,
        /// The checkpoint's.
        new_size: u64,
    },
    /// The witness cosigned another size last.
    #[error("the witness cosigned a tree of {size} leaves last")]
    Conflict {
        /// That size.
        size: u64,
    },
    /// A tree without leaves whose root is not the empty root.
    #[error("an empty tree has another root")]
    EmptyTreeRoot,
    /// The checkpoint does not follow what was cosigned.
    #[error("the checkpoint does not follow the one that was cosigned last")]
    Inconsistent(#[source] ConsistencyError),
}

impl Refused {
    /// The HTTP status that says it [C2SP tlog-witness].
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldBeyondNew { .. } => 400,
            Self::NotSigned(_) => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } => 409,
            Self::EmptyTreeRoot | Self::Inconsistent(_) => 422,
        }
    }
}

/// A checkpoint that follows all that the witness cosigned of its log. Made by [`AddCheckpoint::judge`] alone.
///
/// ```compile_fail,E0423
/// # fn forge(checkpoint: tlog::VerifiedCheckpoint) -> tlog::witness::Witnessable {
/// tlog::witness::Witnessable(checkpoint)
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessable(VerifiedCheckpoint);

impl Witnessable {
    /// The checkpoint, to be stored durably before it is cosigned.
    #[must_use]
    pub const fn checkpoint(&self) -> &VerifiedCheckpoint {
        &self.0
    }

    /// Cosigns at `timestamp_s` (POSIX seconds, not 0).
    ///
    /// # Errors
    /// [`CosignatureError::Timestamp`].
    pub fn cosign(
        &self,
        cosigner: &Cosigner,
        timestamp_s: u64,
    ) -> Result<NoteSignature, CosignatureError> {
        if timestamp_s == 0 {
            return Err(CosignatureError::Timestamp { timestamp_s });
        }
        cosigner.cosign(&self.0, timestamp_s)
    }
}

/// The first line without its newline, and what is behind it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.split_first()?.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::Ed25519KeyPair;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::hash::leaf_hash;
    use crate::note::NoteSigner;
    use crate::tree::MemoryTree;

    const ORIGIN: &str = "keep.example/control";

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("seed")
    }

    fn signer(seed: u8) -> NoteSigner {
        NoteSigner::new(ORIGIN.parse().expect("name"), pair(seed)).expect("key")
    }

    fn tree(leaves: u8) -> MemoryTree {
        let mut tree = MemoryTree::new();
        for leaf in 0..leaves {
            tree.append(leaf_hash(&[leaf]));
        }
        tree
    }

    fn checkpoint(head: TreeHead, seed: u8) -> VerifiedCheckpoint {
        let signer = signer(seed);
        let origin: Origin = ORIGIN.parse().expect("origin");
        let note = Checkpoint::new(origin.clone(), head)
            .map(|checkpoint| checkpoint.sign(&signer).expect("a note"))
            .expect("a checkpoint");
        let keys = [signer.verifier_key().clone()];
        VerifiedCheckpoint::open(note.to_string().as_bytes(), &origin, &keys).expect("it opens")
    }

    /// From 3 to 7 leaves, as it should be.
    fn request() -> AddCheckpoint {
        let tree = tree(7);
        let proof = ConsistencyProof::prove(&tree, 3, 7).expect("a proof");
        AddCheckpoint::new(3, proof, &checkpoint(tree.head(), 1))
    }

    fn judged(body: &str, latest: Option<TreeHead>) -> Result<u64, Refused> {
        let keys = [signer(1).verifier_key().clone()];
        let witnessable = AddCheckpoint::parse(body.as_bytes())?.judge(&keys, latest)?;
        Ok(witnessable.checkpoint().head().size)
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = request();
        let body = request.to_string();
        assert!(body.starts_with("old 3\n"), "{body}");
        assert_eq!(AddCheckpoint::parse(body.as_bytes()), Ok(request));
        assert_eq!(judged(&body, Some(tree(3).head())), Ok(7));
        // The same again: nothing new, and a fresh cosignature.
        let none = ConsistencyProof::from_hashes(Vec::new()).expect("a proof");
        let again = AddCheckpoint::new(7, none.clone(), &checkpoint(tree(7).head(), 1));
        assert_eq!(judged(&again.to_string(), Some(tree(7).head())), Ok(7));
        // The first of a log, and an empty log.
        let first = AddCheckpoint::new(0, none.clone(), &checkpoint(tree(7).head(), 1));
        assert_eq!(judged(&first.to_string(), None), Ok(7));
        let empty = AddCheckpoint::new(0, none, &checkpoint(TreeHead::empty(), 1));
        assert_eq!(judged(&empty.to_string(), None), Ok(0));
    }

    #[test]
    fn each_body_that_is_no_request_is_refused() {
        let body = request().to_string();
        let proof_line = body.lines().nth(1).expect("a proof").to_owned();
        let too_many = format!("{proof_line}\n").repeat(MAX_PROOF_LINES);
        let rows: Vec<(String, RequestError)> = vec![
            (String::new(), RequestError::OldSize),
            ("old 3".to_owned(), RequestError::OldSize),
            (body.replacen("old 3", "old 03", 1), RequestError::OldSize),
            (body.replacen("old 3", "old +3", 1), RequestError::OldSize),
            (body.replacen("old 3", "Old 3", 1), RequestError::OldSize),
            (body.replacen("old 3", "old  3", 1), RequestError::OldSize),
            (
                body.replacen("old 3", "old 18446744073709551616", 1),
                RequestError::OldSize,
            ),
            (
                body.replacen("old 3\n", &format!("old 3\n{too_many}"), 1),
                RequestError::TooManyProofLines,
            ),
            (
                body.replacen(&proof_line, "AAAA", 1),
                RequestError::ProofLine {
                    line: 0,
                    error: Hash::from_base64("AAAA").expect_err("no hash"),
                },
            ),
            ("old 3\n".to_owned(), RequestError::NoBlankLine),
            (format!("old 3\n{proof_line}\n"), RequestError::NoBlankLine),
            (
                "old 0\n\n".to_owned(),
                RequestError::Note(Note::parse(b"").expect_err("no note")),
            ),
            (
                "x".repeat(MAX_REQUEST_BYTES + 1),
                RequestError::TooLong {
                    found_bytes: MAX_REQUEST_BYTES + 1,
                },
            ),
        ];
        for (body, expected) in rows {
            assert_eq!(
                AddCheckpoint::parse(body.as_bytes()),
                Err(expected),
                "{body:.60}"
            );
        }
    }

    /// What is wrong, the body, what was cosigned last, the status, and the refusal where it is told whole.
    type Row<'a> = (&'a str, String, Option<TreeHead>, u16, Option<Refused>);

    #[test]
    fn each_refusal_has_its_status() {
        let good = request();
        let latest = Some(tree(3).head());
        let none = ConsistencyProof::from_hashes(Vec::new()).expect("a proof");
        let other = AddCheckpoint {
            proof: good.proof.clone(),
            ..AddCheckpoint::new(3, none.clone(), &checkpoint(tree(7).head(), 2))
        };
        let mut fork = tree(6);
        fork.append(leaf_hash(b"another"));
        let forked = AddCheckpoint::new(7, none.clone(), &checkpoint(fork.head(), 1));
        let body = good.to_string();
        let unsigned = body.replacen("\u{2014} keep.example", "\u{2014} other.example", 1);
        let tampered = body.replacen("\n7\n", "\n8\n", 1);
        let empty_root = {
            let wrong = format!("{ORIGIN}\n0\n{}\n", tree(1).head().root);
            let signature = signer(1).sign(&wrong).expect("a signature");
            format!(
                "old 0\n\n{}",
                Note::new(wrong, vec![signature]).expect("a note")
            )
        };
        let inconsistent = Refused::Inconsistent;
        let rows: Vec<Row<'_>> = vec![
            ("no body", String::new(), latest, 400, None),
            ("another key", other.to_string(), latest, 403, None),
            ("no signature of the log's key", unsigned, latest, 403, None),
            ("a changed checkpoint", tampered, latest, 403, None),
            (
                "the old tree is larger",
                AddCheckpoint::new(8, none.clone(), &checkpoint(tree(7).head(), 1)).to_string(),
                latest,
                400,
                Some(Refused::OldBeyondNew {
                    old_size: 8,
                    new_size: 7,
                }),
            ),
            (
                "older than what was cosigned",
                body.clone(),
                Some(tree(5).head()),
                409,
                Some(Refused::Conflict { size: 5 }),
            ),
            (
                "newer than what was cosigned",
                body.clone(),
                None,
                409,
                Some(Refused::Conflict { size: 0 }),
            ),
            (
                "an empty tree with a root",
                empty_root,
                None,
                422,
                Some(Refused::EmptyTreeRoot),
            ),
            (
                "no proof",
                AddCheckpoint::new(3, none.clone(), &checkpoint(tree(7).head(), 1)).to_string(),
                latest,
                422,
                Some(inconsistent(ConsistencyError::TooShort { hashes: 0 })),
            ),
            (
                "a proof where none belongs",
                AddCheckpoint::new(0, good.proof.clone(), &checkpoint(tree(7).head(), 1))
                    .to_string(),
                None,
                422,
                Some(inconsistent(ConsistencyError::TooLong {
                    hashes: good.proof.hashes().len(),
                })),
            ),
            (
                "a fork of the same size",
                forked.to_string(),
                Some(tree(7).head()),
                422,
                Some(inconsistent(ConsistencyError::NewRootMismatch)),
            ),
            (
                "a fork that grew",
                body,
                Some(TreeHead {
                    size: 3,
                    root: tree(4).head().root,
                }),
                422,
                Some(inconsistent(ConsistencyError::OldRootMismatch)),
            ),
        ];
        for (what, body, latest, status, exactly) in rows {
            let refused = judged(&body, latest).expect_err(what);
            assert_eq!(refused.status(), status, "{what}: {refused:?}");
            if let Some(exactly) = exactly {
                assert_eq!(refused, exactly, "{what}");
            }
        }
    }

    #[test]
    fn a_cosignature_has_a_time_and_verifies() {
        let cosigner = Cosigner::new("w.example/1".parse().expect("name"), pair(9)).expect("key");
        let keys = [signer(1).verifier_key().clone()];
        let witnessable = request().judge(&keys, Some(tree(3).head())).expect("good");
        assert_eq!(
            witnessable.cosign(&cosigner, 0),
            Err(CosignatureError::Timestamp { timestamp_s: 0 })
        );
        let line = witnessable.cosign(&cosigner, 7).expect("a cosignature");
        let checkpoint = witnessable.checkpoint();
        let verified = checkpoint.verify_cosignature(cosigner.key(), &line);
        assert_eq!(verified.map(|found| found.timestamp_s()), Ok(7));
    }

    proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            prop_assert!(AddCheckpoint::parse(&body).is_err());
        }
    }
}
