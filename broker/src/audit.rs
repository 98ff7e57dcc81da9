//! Leaves of the logs for those who may read them, and proofs with the checkpoint that they lead to.

use std::time::Duration;

use enclave::admin::{LeafReader, ReadLeaf};
use enclave::log::{LogError, LogName};
use tlog::{Hash, InclusionProof, TreeHead, leaf_hash};

use crate::log::LogReadError;
use crate::shell::Shell;

/// Streams of leaves at a time.
pub const MAX_TAILS: usize = 64;

/// Leaves that one question looks at, whether they are the caller's or not.
const MAX_SCANNED: usize = 4_096;

/// Leaves in one message of a stream.
const TAIL_LEAVES: usize = 256;

/// Bytes of leaves in one answer, if it is more than one leaf: well below what a gRPC client takes by default.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How often a stream looks for new leaves. To look costs the reading of a number.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Which leaves are read, and by whom.
#[derive(Debug)]
pub struct Scan {
    /// The log.
    pub name: LogName,
    /// What of them may be read.
    pub reader: LeafReader,
}

/// A leaf for somebody who may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedLeaf {
    /// Its place in its log.
    pub index: u64,
    /// The leaf as it was hashed.
    pub entry: Vec<u8>,
    /// What the reader may read of it.
    pub read: ReadLeaf,
}

/// Leaves that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// The leaves.
    pub leaves: Vec<PlacedLeaf>,
    /// Where to go on.
    pub next: u64,
    /// Whether the log has no more now.
    pub at_end: bool,
}

/// What follows in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Leaves; none of them may be the reader's.
    Leaves(Leaves),
    /// The log has come to its end.
    Ended,
}

/// A log, in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// Its name in checkpoints.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// Whether it may still grow.
    pub is_open: bool,
}

/// A page of logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summaries {
    /// The logs.
    pub entries: Vec<LogSummary>,
    /// Whether there are no more.
    pub is_last: bool,
}

/// A proof, the leaf that it begins at and the checkpoint that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The proof.
    pub proof: InclusionProof,
    /// The signed note.
    pub checkpoint: String,
    /// The hash of the leaf.
    pub leaf_hash: Hash,
}

impl Shell {
    /// Some of the logs: the control log first, then those of issuance from the oldest on.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn log_summaries(
        &self,
        from: usize,
        limit: usize,
    ) -> Result<Summaries, LogReadError> {
        let logs = self.enclave.logs();
        for stream in [
            LogName::Control.stream(),
            LogName::Issuance(logs.boot()).stream(),
        ] {
            self.advance_log(stream).await?;
        }
        let boots = logs.boots();
        let count = boots.len().saturating_add(1);
        let names =
            std::iter::once(LogName::Control).chain(boots.into_iter().map(LogName::Issuance));
        let summary = |name: LogName| {
            Ok(LogSummary {
                origin: logs.origin(name)?.to_string(),
                size: logs.current_head(name)?.size,
                is_open: self.is_open(name),
            })
        };
        let entries = names
            .skip(from)
            .take(limit)
            .map(summary)
            .collect::<Result<Vec<_>, LogError>>()?;
        let is_last = from.saturating_add(entries.len()) >= count;
        Ok(Summaries { entries, is_last })
    }

    /// Whether a log may still grow.
    fn is_open(&self, name: LogName) -> bool {
        match name {
            LogName::Control => true,
            LogName::Issuance(boot) => boot == self.enclave.logs().boot(),
        }
    }

    /// The proof that a leaf is in a log.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn prove_inclusion(&self, name: LogName, index: u64) -> Result<Proved, LogReadError> {
        let at_least = index.saturating_add(1);
        let (checkpoint, head) = self.public_head(name, at_least).await?;
        let proof = self.inclusion_proof(name, index, head.size).await?;
        let leaf = self.leaves_at(name, index, 1).await?;
        let leaf = leaf.first().ok_or(LogError::Leaves)?;
        Ok(Proved {
            proof,
            checkpoint,
            leaf_hash: leaf_hash(leaf),
        })
    }

    /// The public checkpoint of a log, if it has `at_least` leaves, or a newer one.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn public_head(
        &self,
        name: LogName,
        at_least: u64,
    ) -> Result<(String, TreeHead), LogReadError> {
        if let Some((note, head)) = self.cosigned_checkpoint(name)
            && head.size >= at_least
        {
            return Ok((note, head));
        }
        let signed = self.checkpoint(name, at_least).await?;
        Ok((signed.note().to_string(), signed.head()))
    }

    /// Leaves of a log from an index on.
    ///
    /// # Errors
    /// [`LogReadError`]; [`LogError::Beyond`] if the log does not reach to `from`.
    pub async fn leaves(
        &self,
        scan: &Scan,
        from: u64,
        limit: usize,
    ) -> Result<Leaves, LogReadError> {
        let size = self.current_head(scan.name).await?.size;
        if from > size {
            return Err(LogError::Beyond { size }.into());
        }
        let mut found = Leaves {
            leaves: Vec::new(),
            next: from,
            at_end: from == size,
        };
        let (mut looked_at, mut bytes) = (0_usize, 0_usize);
        while found.next < size && looked_at < MAX_SCANNED {
            let rest = usize::try_from(size.saturating_sub(found.next)).unwrap_or(usize::MAX);
            let entries = self
                .leaves_at(scan.name, found.next, rest.min(TAIL_LEAVES))
                .await?;
            for entry in entries {
                looked_at = looked_at.saturating_add(1);
                let read = self.enclave.read_leaf(&scan.reader, &entry);
                if let Some(read) = read {
                    let full = found.leaves.len() >= limit;
                    bytes = bytes.saturating_add(entry.len());
                    if full || (bytes > MAX_ANSWER_BYTES && !found.leaves.is_empty()) {
                        return Ok(found);
                    }
                    found.leaves.push(PlacedLeaf {
                        index: found.next,
                        entry,
                        read,
                    });
                }
                found.next = found.next.saturating_add(1);
            }
            found.at_end = found.next == size;
            if found.leaves.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// What follows in a log; waits for it.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn follow(&self, scan: &Scan, from: u64) -> Result<Followed, LogReadError> {
        loop {
            let is_open = self.is_open(scan.name);
            let leaves = self.leaves(scan, from, TAIL_LEAVES).await?;
            if leaves.next > from {
                return Ok(Followed::Leaves(leaves));
            }
            if !is_open {
                return Ok(Followed::Ended);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
