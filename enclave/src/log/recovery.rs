//! What the leaves of earlier boots say at start: the trees, and each tenant's
//! next sequence number.

use std::collections::HashMap;

use serde::Deserialize;
use tlog::leaf_hash;

use super::LogError;
use super::logs::Shard;
use super::name::BootId;
use super::tree::Tree;
use crate::audit::sequence::SeenNumbers;
use crate::store::Log;

/// The version of leaves that is read.
const VERSION: u8 = 1;

/// What is read of a leaf again.
#[derive(Deserialize)]
struct Seen<'a> {
    v: u8,
    boot: &'a str,
    tenant: Option<&'a str>,
    seq: u64,
}

/// What the leaves have said so far.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    pub(super) control: Tree,
    pub(super) shards: Vec<Shard>,
    issuance_leaves: u64,
    /// By the tenant's tag; the system's own under none.
    pub(crate) numbers: HashMap<Option<String>, SeenNumbers>,
}

impl Recovery {
    /// Takes in the next leaf of a log.
    pub(crate) fn take_in(&mut self, log: Log, leaf: &[u8]) -> Result<(), LogError> {
        let index = match log {
            Log::Control => self.control.size(),
            Log::Issuance => self.issuance_leaves,
        };
        let unreadable = LogError::Leaf { log, index };
        let seen: Seen<'_> = serde_json::from_slice(leaf).map_err(|_| unreadable)?;
        if seen.v != VERSION {
            return Err(unreadable);
        }
        let hash = leaf_hash(leaf);
        match log {
            Log::Control => self.control.append(hash).map_err(|_| LogError::Full)?,
            Log::Issuance => {
                let boot: BootId = seen.boot.parse().map_err(|_| unreadable)?;
                if self.shards.last().is_none_or(|shard| shard.boot != boot) {
                    self.shards.push(Shard::new(boot, index));
                }
                if let Some(shard) = self.shards.last_mut() {
                    shard.tree.append(hash).map_err(|_| LogError::Full)?;
                }
                self.issuance_leaves = index.saturating_add(1);
            }
        }
        let numbers = match self.numbers.get_mut(&seen.tenant.map(str::to_owned)) {
            Some(numbers) => numbers,
            None => self
                .numbers
                .entry(seen.tenant.map(str::to_owned))
                .or_default(),
        };
        numbers.note(seen.seq);
        Ok(())
    }

    /// Leaves of a stream so far.
    pub(crate) fn taken(&self, log: Log) -> u64 {
        match log {
            Log::Control => self.control.size(),
            Log::Issuance => self.issuance_leaves,
        }
    }
}
